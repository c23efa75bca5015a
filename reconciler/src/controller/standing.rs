//! How the controller stands: a picture that is made after each decision.

use manifests::id::SourceName;

use super::event::Outcome;
use super::state::State;

/// How a source stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceStanding {
    /// Which one.
    pub name: SourceName,
    /// Whether a newer revision than the one in force has errors in it.
    pub invalid: bool,
    /// Whether the last look at the source failed.
    pub unreachable: bool,
    /// How the last reconcile ended; none before the first.
    pub outcome: Option<Outcome>,
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
    pub(super) fn of(state: &State) -> Self {
        let sources = state.sources.iter().map(|(name, source)| SourceStanding {
            name: name.clone(),
            invalid: source.invalid.is_some(),
            unreachable: source.fetching_failed.is_some(),
            outcome: source.outcome.clone(),
        });
        Self {
            booted: state.booted,
            sources: sources.collect(),
        }
    }
}
