//! `keel console`.

use std::os::fd::AsFd as _;

use runtime::native::container::relay::Raw;
use runtime::runtime::Operate;

use super::engine;
use super::invocation::Invocation;
use crate::error::{CliError, Exit};

/// Connect to the console of an instance; Ctrl-A q leaves it.
#[derive(Debug, clap::Args)]
pub(super) struct Console {
    /// The instance.
    instance: String,
}

impl Console {
    pub(super) fn run(&self, invocation: &Invocation) -> Result<Exit, CliError> {
        let instance = invocation.instance(&self.instance)?;
        let engine = engine::open(invocation)?;
        invocation.note("Ctrl-A q leaves the console\n");
        let (stdin, stdout) = (std::io::stdin(), std::io::stdout());
        let raw = Raw::set(stdin.as_fd());
        let ended = engine
            .runtime
            .console(&instance, [stdin.as_fd(), stdout.as_fd()]);
        drop(raw);
        invocation.note("\n");
        ended?;
        Ok(Exit::Done)
    }
}
