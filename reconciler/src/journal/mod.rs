//! The journal: what was begun and how it ended, append-only. An event is on disk before its deed begins.
//!
//! What is true of an apply is computed from its events; an event that cannot follow the ones before is refused.

mod author;
mod outside;
mod status;

use manifests::id::{Address, SourceName, Uid};
use runtime::error::Class;
use runtime::runtime::Effected;
use serde::{Deserialize, Serialize};

pub use self::author::{Author, author_of};
pub use self::outside::{Differs, Heard, author_outside};
pub use self::status::{ApplyStatus, StepStatus};
use crate::plan::{PlanId, Purpose, StepId};

/// How a step ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", tag = "outcome")]
pub enum Outcome {
    /// It was done and seen.
    Succeeded {
        /// What it came to.
        effected: Effected,
    },
    /// It was not done, or not to its end.
    Failed {
        /// What comes next about it.
        class: Class,
        /// Why, with all its causes.
        message: String,
    },
    /// It was not begun.
    Skipped {
        /// The guard, where one was the reason: `G109`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        code: Option<String>,
        /// Why.
        message: String,
    },
    /// The process ended within it; what is said was seen afterwards.
    Interrupted {
        /// Whether it was found done.
        done: bool,
    },
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", tag = "event")]
pub enum What {
    /// An apply began.
    Begun {
        /// Of which source.
        source: SourceName,
        /// At which commit.
        revision: Option<String>,
        /// What for.
        purpose: Purpose,
        /// By which command.
        command: String,
        /// By whom, where the system knows it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        by: Option<String>,
        /// With how many steps.
        steps: u32,
        /// How many were held.
        held: u32,
    },
    /// A step may have begun from here on.
    Started {
        /// Which one.
        step: StepId,
        /// The object.
        address: Address,
        /// Its identity.
        uid: Uid,
        /// What is done: `create`.
        word: String,
    },
    /// A step ended.
    Ended {
        /// Which one.
        step: StepId,
        /// The object.
        address: Address,
        /// How.
        #[serde(flatten)]
        outcome: Outcome,
        /// How long the deed itself took, in microseconds; none for what was not begun.
        micros: Option<u64>,
    },
    /// An apply ended.
    Finished {
        /// Whether a person stopped it.
        cancelled: bool,
        /// Whether the process died and a later one says this.
        interrupted: bool,
        /// How long it took, in microseconds.
        micros: u64,
    },
}

/// One line of the journal.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Event {
    /// The plan.
    pub plan: PlanId,
    /// When.
    pub at: jiff::Timestamp,
    /// What.
    #[serde(flatten)]
    pub what: What,
}

impl Event {
    /// The object that it is about.
    pub const fn address(&self) -> Option<&Address> {
        match &self.what {
            What::Started { address, .. } | What::Ended { address, .. } => Some(address),
            What::Begun { .. } | What::Finished { .. } => None,
        }
    }

    /// The step that it is about.
    pub const fn step(&self) -> Option<StepId> {
        match &self.what {
            What::Started { step, .. } | What::Ended { step, .. } => Some(*step),
            What::Begun { .. } | What::Finished { .. } => None,
        }
    }
}

/// An event about an object, and what it was a part of.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ObjectEvent {
    /// What happened.
    #[serde(flatten)]
    pub event: Event,
    /// By which command; none where the journal lacks the beginning.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub command: Option<String>,
    /// By whom, where the system knows it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
}

impl ObjectEvent {
    /// An event, and the one with which its apply began.
    pub fn new(event: Event, begun: Option<What>) -> Self {
        let (command, by) = match begun {
            Some(What::Begun { command, by, .. }) => (Some(command), by),
            _ => (None, None),
        };
        Self { event, command, by }
    }
}

/// The journal cannot be read, or tells something impossible.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// The database refused.
    #[error("read the journal")]
    Database(#[from] rusqlite::Error),
    /// A line does not hold what was written there.
    #[error("the journal holds a line that cannot be read: {line}")]
    Damaged {
        /// The line.
        line: String,
        /// Why not.
        source: serde_json::Error,
    },
    /// An event that cannot follow the ones before it.
    #[error("in plan {plan}: {event} cannot follow {before}")]
    Illegal {
        /// The plan.
        plan: PlanId,
        /// The event.
        event: String,
        /// What was true before.
        before: String,
    },
}

/// Reads the journal. Appending is [`Store::commit`](crate::store::Store::commit), so that an event and what is
/// remembered with it stand or fall together.
pub trait Journal: Send + Sync {
    /// Applies that began and did not finish, newest first.
    ///
    /// # Errors
    /// The journal cannot be read.
    fn unfinished(&self) -> Result<Vec<ApplyStatus>, JournalError>;

    /// The newest applies, newest first.
    ///
    /// # Errors
    /// The journal cannot be read.
    fn applies(&self, limit: usize) -> Result<Vec<ApplyStatus>, JournalError>;

    /// One apply; none where there was none of this name.
    ///
    /// # Errors
    /// The journal cannot be read.
    fn apply_of(&self, plan: &PlanId) -> Result<Option<ApplyStatus>, JournalError>;

    /// The newest events about one object, newest first.
    ///
    /// # Errors
    /// The journal cannot be read.
    fn events_of(&self, address: &Address, limit: usize) -> Result<Vec<ObjectEvent>, JournalError>;
}
