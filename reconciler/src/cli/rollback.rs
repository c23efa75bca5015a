//! `keel rollback` and `keel unpin`: an older revision is in force, whatever its source says by now.

use super::author::author;
use super::controller::running;
use super::invocation::Invocation;
use crate::api::documents::{Accepted, RevisionDocument};
use crate::api::{RollbackRequest, UnpinRequest};
use crate::error::{CliError, Exit};
use crate::view::history;

/// Put a revision that was in force lately in force again.
///
/// It stays so, whatever the source says, until `keel unpin`. Nothing of the source is changed: to go back for good, revert
/// the commit. Without a revision those that there are are listed.
#[derive(Debug, clap::Args)]
pub(super) struct Rollback {
    /// The revision, or how it begins.
    #[arg(value_name = "REVISION", requires = "reason")]
    revision: Option<String>,
    /// Why, for whoever wonders.
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    /// Of which source, as the settings of the controller call it; absent: the only one.
    #[arg(long, value_name = "NAME")]
    source: Option<String>,
}

/// Follow a source again: what it says now is in force.
#[derive(Debug, clap::Args)]
pub(super) struct Unpin {
    /// The source, as the settings of the controller call it; absent: the only one.
    #[arg(value_name = "SOURCE")]
    source: Option<String>,
}

impl Rollback {
    pub(super) fn run(&self, invocation: &Invocation) -> Result<Exit, CliError> {
        let controller = running(invocation)?;
        let (Some(revision), Some(reason)) = (&self.revision, &self.reason) else {
            let all: Vec<RevisionDocument> = controller.get("/v1/revisions?limit=40")?;
            let meant = |one: &&RevisionDocument| {
                let source = self.source.as_ref();
                source.is_none_or(|name| *name == one.source)
            };
            let all: Vec<&RevisionDocument> = all.iter().filter(meant).collect();
            invocation.print(&history::revisions(&all))?;
            return Ok(Exit::Done);
        };
        let asked = RollbackRequest {
            source: self.source.clone(),
            revision: revision.clone(),
            reason: reason.clone(),
            by: author(),
        };
        let done: Accepted = controller.post("/v1/rollback", &asked)?;
        invocation.note(&format!("{}\n", done.message));
        Ok(Exit::Done)
    }
}

impl Unpin {
    pub(super) fn run(&self, invocation: &Invocation) -> Result<Exit, CliError> {
        let asked = UnpinRequest {
            source: self.source.clone(),
        };
        let controller = running(invocation)?;
        let done: Accepted = controller.post("/v1/unpin", &asked)?;
        invocation.note(&format!("{}\n", done.message));
        Ok(Exit::Done)
    }
}
