//! What this host can and cannot do, and what would mend it: the answers of `keel doctor`.
//!
//! [`Facts::read`] reads, [`checks`] judges (pure). To add a check: a field in `facts.rs`, a function and a line in `checks.rs`.

mod checks;
mod facts;
mod granted;
mod links;
mod machines;
#[cfg(test)]
mod tests;

use serde::Serialize;

pub use checks::checks;
pub use facts::Facts;
pub use granted::{ceilings, missing};
pub use links::link_facts;
pub use machines::{MachineHost, huge_pages, missing_for_machines};

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Verdict {
    /// As it should be.
    Ok,
    /// Works, with a limit or a risk that one should know.
    Warning,
    /// Something does not work without it.
    Missing,
}

/// One answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Check {
    /// What was looked at, in a few words.
    pub name: &'static str,
    /// How bad it is.
    pub verdict: Verdict,
    /// What was found.
    pub found: String,
    /// Why it matters.
    pub why: &'static str,
    /// A command (or a deed) that would mend it, where it is not as it should be.
    pub mend: Option<String>,
}

/// A check that found everything in order, unless told otherwise.
fn check(name: &'static str, found: impl Into<String>, why: &'static str) -> Check {
    Check {
        name,
        verdict: Verdict::Ok,
        found: found.into(),
        why,
        mend: None,
    }
}

impl Check {
    /// The verdict and the remedy if something is wrong.
    fn unless(mut self, fine: bool, verdict: Verdict, mend: impl Into<String>) -> Self {
        if !fine {
            self.verdict = verdict;
            let mend = mend.into();
            self.mend = (!mend.is_empty()).then_some(mend);
        }
        self
    }
}
