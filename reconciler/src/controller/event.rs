//! What the controller is told, and what it decides to do.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use manifests::id::{Address, SourceName};
use runtime::error::Class;

use super::fights::Field;
use crate::diff::suspension::{Pin, Scope, Suspension};
use crate::plan::gates::Resting;
use crate::source::followed::Ahead;

/// A moment: by the time of day, for windows and expiry, and by the time since the start of the controller, which never
/// goes back, for everything else.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Now {
    /// The time of day.
    pub day: jiff::Timestamp,
    /// The time since the start.
    pub up: Duration,
}

impl Now {
    /// The time of day of a time since the start; now where that is over.
    pub(super) fn later(self, up: Duration) -> jiff::Timestamp {
        let left = up.saturating_sub(self.up);
        self.day.checked_add(left).unwrap_or(jiff::Timestamp::MAX)
    }
}

/// What happened.
#[derive(Debug, Clone)]
pub enum Event {
    /// A look at a source ended.
    Fetched(SourceName, Fetched),
    /// How far a source is ahead of the revision of this digest, which is pinned.
    Ahead(SourceName, String, Ahead),
    /// Something moved in the world, or may have.
    WorldMoved,
    /// What was begun last ended.
    Ended(Ended),
    /// Backups that were due are made, or could not be: why.
    BackedUp(Option<String>),
    /// Somebody asks for something.
    Asked(Request),
    /// A time came.
    Woken,
    /// A person wants the controller to leave: what is under way comes to its end.
    Leave,
}

/// How a look at a source ended.
#[derive(Debug, Clone)]
pub enum Fetched {
    /// There is nothing new.
    Unchanged,
    /// There is something new, and it means something.
    Moved(String),
    /// There is something new with errors in it: what was in force stays in force.
    Invalid {
        /// Which revision.
        revision: String,
        /// What is wrong, in one line.
        why: String,
    },
    /// It could not be looked at, or must not be followed.
    Failed {
        /// Whether that may pass by itself.
        class: Class,
        /// Why.
        why: String,
    },
}

/// What is done, one after the other: each takes the lock of the state folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Work {
    /// What should run after a start of the host is started.
    Boot,
    /// A source is brought to where it shall be.
    Reconcile(Reconcile),
    /// Snapshots and the trash: what is due by the clock.
    Due,
}

/// How a source is reconciled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reconcile {
    /// Which one.
    pub source: SourceName,
    /// Why, in a word or two, for records.
    pub why: &'static str,
    /// It is only looked at: somebody suspended it.
    pub only_look: bool,
    /// Objects that are left alone after failures.
    pub resting: Vec<Resting>,
    /// Fields that somebody fights over.
    pub contended: Vec<Field>,
    /// Digests of plans for which a person answered.
    pub approved: BTreeSet<String>,
}

/// How work ended.
#[derive(Debug, Clone)]
pub enum Ended {
    /// The start of the host.
    Boot,
    /// A source.
    Reconciled(Reconciled),
    /// What was due, and why not all of it was done.
    Due(Option<String>),
}

/// How a source stands after it was reconciled.
#[derive(Debug, Clone)]
pub struct Reconciled {
    /// Which one.
    pub source: SourceName,
    /// The revision that it was about.
    pub revision: Option<String>,
    /// How it went.
    pub outcome: Outcome,
    /// Steps that were done.
    pub done: Vec<Address>,
    /// Steps that failed.
    pub failed: Vec<Failure>,
    /// Fields that drifted and were put back.
    pub corrected: Vec<Field>,
    /// When the first of what is held may be done, by the time of day.
    pub until: Option<jiff::Timestamp>,
    /// Objects that went back to what they were and are left alone from now on.
    pub left_alone: Vec<(Address, Suspension)>,
}

/// How it went with a source as a whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// All is as it should be.
    Settled,
    /// Something failed, is held or was not begun.
    Partly,
    /// It was only looked at.
    Looked,
    /// Guards stop all of it until somebody answers for this plan.
    Stopped {
        /// By which the plan is approved.
        digest: String,
        /// The guards and why.
        because: Vec<String>,
    },
    /// Somebody else was at work.
    Busy,
    /// Nothing could be done.
    Failed {
        /// Whether that may pass by itself.
        class: Class,
        /// Why.
        why: String,
    },
}

impl Outcome {
    /// In a word.
    pub const fn word(&self) -> &'static str {
        match self {
            Self::Settled => "settled",
            Self::Partly => "partly",
            Self::Looked => "looked",
            Self::Stopped { .. } => "stopped",
            Self::Busy => "busy",
            Self::Failed { .. } => "failed",
        }
    }

    /// In one line, for people.
    pub fn words(&self) -> String {
        match self {
            Self::Settled => "all is as it should be".to_owned(),
            Self::Partly => "partly done: something failed, is held or was not begun".to_owned(),
            Self::Looked => "only looked at: it is suspended".to_owned(),
            Self::Stopped { digest, because } => {
                format!(
                    "stopped until plan {digest} is approved: {}",
                    because.join("; ")
                )
            }
            Self::Busy => "somebody else is at work".to_owned(),
            Self::Failed { why, .. } => why.clone(),
        }
    }
}

/// A step that failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// The object.
    pub address: Address,
    /// What was tried, by its verb.
    pub verb: &'static str,
    /// Whether that may pass by itself.
    pub class: Class,
    /// Why.
    pub why: String,
}

/// What somebody asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request {
    /// Look at the source, or at all of them, for something new, and at the world.
    Reconcile(Option<SourceName>),
    /// There may be something new at a source: a webhook.
    Fetch(SourceName),
    /// Change nothing for a while.
    Suspend(Scope, Suspension),
    /// Go on.
    Resume(Scope),
    /// This is all that is suspended.
    Suspended(BTreeMap<Scope, Suspension>),
    /// The plan of this digest may be done, until then.
    Approve(String, jiff::Timestamp),
    /// A revision of a source stays in force, whatever it says by now.
    Pin(SourceName, Pin),
    /// The source is followed again.
    Unpin(SourceName),
}

/// What is to be done now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Deed {
    /// Look whether there is something new at a source; where a revision is pinned, only that is in force.
    Fetch(SourceName, Option<Pin>),
    /// Begin this; nothing else is begun before its end is told.
    Begin(Work),
    /// Make the backups that are due. That may take hours, and other things go on meanwhile.
    BackUp,
    /// Nothing is under way any more: leave.
    Leave,
}
