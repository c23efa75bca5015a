//! `keel approve`: a person answers for the plan that waits at the controller.

use super::controller::running;
use super::invocation::Invocation;
use crate::api::ApproveRequest;
use crate::api::documents::Accepted;
use crate::error::{CliError, Exit};

/// Answer for the plan that waits at the controller: it does it once, if it is still the same.
#[derive(Debug, clap::Args)]
pub(super) struct Approve {
    /// The digest of the plan, as `keel status` tells it.
    digest: String,
}

impl Approve {
    pub(super) fn run(&self, invocation: &Invocation) -> Result<Exit, CliError> {
        let digest = self.digest.trim().to_ascii_lowercase();
        let asked = ApproveRequest { digest };
        let done: Accepted = running(invocation)?.post("/v1/approve", &asked)?;
        invocation.note(&format!("{}\n", done.message));
        Ok(Exit::Done)
    }
}
