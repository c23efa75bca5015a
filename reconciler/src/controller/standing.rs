//! How the controller stands: a picture that is made after each decision.

use std::collections::BTreeMap;

use jiff::Timestamp;
use manifests::id::{Address, SourceName};

use super::event::{Now, Outcome};
use super::fights::Field;
use super::state::{State, Trouble, UnderWay};
use crate::diff::suspension::{Pin, Scope, Suspension};
use crate::source::followed::Ahead;

/// An object that failed and is left alone for a while.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resting {
    /// Which one.
    pub address: Address,
    /// What went wrong.
    pub trouble: Trouble,
    /// When it is tried again.
    pub until: Timestamp,
}

/// How a source stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceStanding {
    /// Which one.
    pub name: SourceName,
    /// The sources that must be settled before.
    pub depends_on: Vec<SourceName>,
    /// The digest of what is in force.
    pub in_force: Option<String>,
    /// A person wants this revision to be in force.
    pub pinned: Option<Pin>,
    /// How far what the source says by now is ahead of that, as far as it is known.
    pub ahead: Option<Ahead>,
    /// A newer revision than the one in force with errors in it, and what is wrong.
    pub invalid: Option<(String, String)>,
    /// Why the source cannot be looked at.
    pub unreachable: Option<Trouble>,
    /// When it was last looked at with success.
    pub fetched_at: Option<Timestamp>,
    /// How the last reconcile ended; none before the first.
    pub outcome: Option<Outcome>,
    /// When that was.
    pub reconciled_at: Option<Timestamp>,
    /// The digest of what it was about.
    pub reconciled: Option<String>,
    /// Why nothing could be done as a whole.
    pub failed: Option<Trouble>,
    /// Objects that are left alone after failures.
    pub resting: Vec<Resting>,
    /// Fields that somebody fights over.
    pub contended: Vec<Field>,
    /// When the first of what is held may be done.
    pub held_until: Option<Timestamp>,
    /// Whether all that is in force was done.
    pub settled: bool,
}

/// How the controller stands.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Standing {
    /// Whether what should run after a start of the host was started.
    pub booted: bool,
    /// Whether something is under way.
    pub at_work: bool,
    /// Its sources by name.
    pub sources: Vec<SourceStanding>,
    /// What is suspended.
    pub suspensions: BTreeMap<Scope, Suspension>,
    /// Digests of plans for which somebody answered, and until when that counts.
    pub approved: BTreeMap<String, Timestamp>,
}

impl Standing {
    /// Whether somebody fights over a field of what is meant.
    pub fn is_fought_over(&self, scope: &Scope) -> bool {
        let fights = |source: &SourceStanding| match scope {
            Scope::Everything => !source.contended.is_empty(),
            Scope::Source(name) => *name == source.name && !source.contended.is_empty(),
            Scope::Object(object) => source.contended.iter().any(|(one, _)| one == object),
        };
        self.sources.iter().any(fights)
    }

    /// The picture of a moment.
    pub(super) fn of(state: &State, now: Now) -> Self {
        let sources = state.sources.iter().map(|(name, source)| SourceStanding {
            name: name.clone(),
            depends_on: source.followed.depends_on.clone(),
            in_force: source.in_force.clone(),
            pinned: source.pinned.clone(),
            ahead: source.ahead.clone(),
            invalid: source.invalid.clone(),
            unreachable: source.fetching_failed.clone(),
            fetched_at: source.fetched_at,
            outcome: source.outcome.clone(),
            reconciled_at: source.reconciled_at,
            reconciled: source.reconciled.clone(),
            failed: source.failed.clone(),
            resting: source
                .resting
                .iter()
                .map(|(address, rest)| Resting {
                    address: address.clone(),
                    trouble: rest.trouble.clone(),
                    until: now.later(rest.until),
                })
                .collect(),
            contended: source.fights.contended(now.up),
            held_until: source.held_until,
            settled: source.is_settled(),
        });
        Self {
            booted: state.booted,
            at_work: state.under_way != UnderWay::Nothing,
            sources: sources.collect(),
            suspensions: state.suspensions.clone(),
            approved: state.approved.clone(),
        }
    }

    /// How one source stands.
    pub fn source(&self, name: &SourceName) -> Option<&SourceStanding> {
        self.sources.iter().find(|source| source.name == *name)
    }

    /// What suspends an object of a source, while it lasts.
    pub fn suspends(
        &self,
        source: &SourceName,
        object: Option<&Address>,
        now: Timestamp,
    ) -> Option<(&Scope, &Suspension)> {
        let scopes = [
            Some(Scope::Everything),
            Some(Scope::Source(source.clone())),
            object.cloned().map(Scope::Object),
        ];
        let found = scopes.into_iter().flatten();
        found
            .filter_map(|scope| self.suspensions.get_key_value(&scope))
            .find(|(_, suspension)| !suspension.is_over(now))
    }
}
