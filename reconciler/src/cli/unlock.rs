//! `keel unlock`.

use super::engine;
use super::invocation::Invocation;
use crate::error::{CliError, Exit};

/// Take the lock away from a command that hangs: it begins no further step.
#[derive(Debug, clap::Args)]
pub(super) struct Unlock {
    /// The id of the lock, as the refused command named it.
    id: String,
}

impl Unlock {
    pub(super) fn run(&self, invocation: &Invocation) -> Result<Exit, CliError> {
        let folder = engine::folder(invocation)?;
        match folder.unlock(&self.id)? {
            Some(owner) => invocation.note(&format!(
                "the lock of `{}` (process {}) is taken away\n",
                owner.command, owner.pid
            )),
            None => invocation.note("nobody holds the lock\n"),
        }
        Ok(Exit::Done)
    }
}
