//! `keel completion`.

use super::invocation::Invocation;
use crate::error::{CliError, Exit};

/// Print a completion script for a shell.
///
/// Bash: `keel completion bash > /etc/bash_completion.d/keel`. Zsh: `keel completion zsh > "${fpath[1]}/_keel"`.
#[derive(Debug, clap::Args)]
pub(super) struct Completion {
    /// The shell.
    shell: clap_complete::Shell,
}

impl Completion {
    pub(super) fn run(&self, invocation: &Invocation) -> Result<Exit, CliError> {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut super::command(), "keel", &mut script);
        invocation.print_bytes(&script)?;
        Ok(Exit::Done)
    }
}
