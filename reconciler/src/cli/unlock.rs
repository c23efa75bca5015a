//! `keel unlock`.

use super::engine;
use super::invocation::Invocation;
use crate::error::{CliError, Exit};
use crate::state_folder::Unlocked;
use crate::view::text;

/// End a command that hangs and holds the lock.
#[derive(Debug, clap::Args)]
pub(super) struct Unlock {
    /// The id of the lock, as the refused command named it.
    id: String,
}

impl Unlock {
    pub(super) fn run(&self, invocation: &Invocation) -> Result<Exit, CliError> {
        let folder = engine::folder(invocation)?;
        match folder.unlock(&self.id)? {
            Unlocked::Ended(owner) => invocation.note(&format!(
                "`{}` (process {}) was ended; the next apply goes on with what it began\n",
                text::visible(&owner.command),
                owner.pid
            )),
            Unlocked::TakenAway(owner) => invocation.note(&format!(
                "the lock of `{}` is taken away; process {} could not be ended: the step that it is at may still be done\n",
                text::visible(&owner.command),
                owner.pid
            )),
            Unlocked::Nobody => invocation.note("nobody holds the lock\n"),
        }
        Ok(Exit::Done)
    }
}
