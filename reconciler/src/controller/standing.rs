//! How the controller stands, for those who ask: a picture that is made after each decision.

use manifests::id::SourceName;

use super::event::{Now, Outcome};
use super::in_force::InForces;
use super::state::{State, Trouble};

/// An object that failed and is tried again later.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RestingNow {
    /// The object.
    pub object: String,
    /// What went wrong.
    pub trouble: Trouble,
}

/// How a source stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceStanding {
    /// Which one.
    pub name: SourceName,
    /// The revision that is in force, as people see it; none: nothing yet.
    pub revision: Option<String>,
    /// Who signed it.
    pub signed_by: Option<String>,
    /// A newer revision with errors in it, and what they are.
    pub invalid: Option<(String, String)>,
    /// Why the source cannot be looked at.
    pub fetching_failed: Option<Trouble>,
    /// When it was last looked at with success.
    pub fetched_at: Option<jiff::Timestamp>,
    /// How the last reconcile ended.
    pub outcome: Option<Outcome>,
    /// When that was.
    pub reconciled_at: Option<jiff::Timestamp>,
    /// Whether all that is in force was done.
    pub settled: bool,
    /// What failed as a whole.
    pub failed: Option<Trouble>,
    /// Objects that failed.
    pub resting: Vec<RestingNow>,
    /// Fields that somebody fights over: `instance/web /spec/limits/memory`.
    pub contended: Vec<String>,
    /// Why it is only looked at.
    pub suspended: Option<String>,
}

/// How the controller stands.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Standing {
    /// Whether what should run after a start of the host was started.
    pub booted: bool,
    /// Its sources by name.
    pub sources: Vec<SourceStanding>,
}

impl Standing {
    /// The picture of a moment.
    pub(super) fn of(state: &State, in_force: &InForces, now: Now) -> Self {
        let sources = state.sources.iter().map(|(name, source)| {
            let present = in_force.of(name);
            let contended = source.fights.contended(now.up).into_iter();
            let resting = source.resting.iter().map(|(object, rest)| RestingNow {
                object: object.to_string(),
                trouble: rest.trouble.clone(),
            });
            let suspended = state.suspends(name, now.day);
            SourceStanding {
                name: name.clone(),
                revision: present.as_ref().map(|one| one.label()),
                signed_by: present.and_then(|one| one.signed_by.clone()),
                invalid: source.invalid.clone(),
                fetching_failed: source.fetching_failed.clone(),
                fetched_at: source.fetched_at,
                outcome: source.outcome.clone(),
                reconciled_at: source.reconciled_at,
                settled: source.is_settled(),
                failed: source.failed.clone(),
                resting: resting.collect(),
                contended: contended
                    .map(|(address, path)| format!("{address} {path}"))
                    .collect(),
                suspended: suspended.map(crate::diff::suspension::Suspension::words),
            }
        });
        Self {
            booted: state.booted,
            sources: sources.collect(),
        }
    }
}
