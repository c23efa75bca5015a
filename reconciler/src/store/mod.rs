//! [`Store`]: remembers what is ours and what was last meant; one transaction holds what belongs together, and the
//! journal's events with it.

mod deeds;
mod memory;
mod migrations;
mod sqlite;
mod tokens;

use std::path::PathBuf;

use manifests::id::{SourceName, Uid};
use manifests::observed::ObservedSet;

pub use self::memory::MemoryStore;
pub use self::sqlite::SqliteStore;
pub use self::tokens::Token;
use crate::diff::known::{DriftSeen, Hold, Known, KnownSource, Owned, Tick};
use crate::diff::suspension::{Pin, Scope, Suspension};
use crate::journal::Event;

/// The store cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The database refused.
    #[error("{doing} the database")]
    Database {
        /// What was being done: `open`, `read`, `write to`.
        doing: &'static str,
        /// Its answer.
        source: rusqlite::Error,
    },
    /// A newer keel wrote it.
    #[error(
        "{} was written by a newer keel (format {found}; this one knows {known}): install that version again",
        path.display()
    )]
    Newer {
        /// The database.
        path: PathBuf,
        /// Its format.
        found: i64,
        /// The newest format that this program knows.
        known: i64,
    },
    /// A row does not hold what was written there.
    #[error("the database holds a {what} that cannot be read: {value}")]
    Damaged {
        /// What it should be.
        what: &'static str,
        /// What it is.
        value: String,
    },
    /// A journal would tell something impossible.
    #[error("the journal does not take it")]
    Journal(#[from] crate::journal::JournalError),
}

impl StoreError {
    /// Whether the disk is full.
    pub fn is_full(&self) -> bool {
        matches!(
            self,
            Self::Database { source, .. }
                if source.sqlite_error_code() == Some(rusqlite::ErrorCode::DiskFull)
        )
    }
}

/// One thing to remember.
#[derive(Debug, Clone, PartialEq)]
pub enum Write {
    /// An object is ours, as given.
    Own(Box<Owned>),
    /// An object bears our mark; what is remembered of it already counts more.
    Found(Box<Owned>),
    /// An object is no longer ours.
    Disown(Uid),
    /// A source was applied.
    Source(KnownSource),
    /// Plans made before are stale.
    NextGeneration,
    /// What drifted of an object that is known.
    Drift(Uid, Vec<DriftSeen>),
    /// A person stopped an instance for a while.
    Hold(Uid, Hold),
    /// That is over.
    Release(Uid),
    /// A person wants nothing to be changed for a while.
    Suspend(Scope, Suspension),
    /// That is over.
    Resume(Scope),
    /// A person wants a revision of a source to stay in force.
    Pin(SourceName, Pin),
    /// That is over.
    Unpin(SourceName),
    /// A schedule looked after one of its objects.
    Tick {
        /// The schedule.
        schedule: Uid,
        /// The object.
        object: Uid,
        /// When, and what failed since.
        tick: Tick,
    },
    /// Something happened.
    Event(Event),
}

/// Remembers.
pub trait Store: Send + Sync {
    /// All that is remembered but the journal.
    ///
    /// # Errors
    /// It cannot be read.
    fn load(&self) -> Result<Known, StoreError>;

    /// Remembers all of it, durably, or none.
    ///
    /// # Errors
    /// Nothing was remembered.
    fn commit(&self, writes: &[Write]) -> Result<(), StoreError>;
}

/// What a lost database held, as far as the marks on live objects and the engine's own files tell. Where the engine
/// keeps nothing of what it was told, every difference counts as edited until the next apply.
pub fn rebuild(observed: &ObservedSet) -> Vec<Write> {
    observed
        .items
        .iter()
        .filter_map(|item| {
            let mark = item.mark.as_ref()?;
            Some(Write::Own(Box::new(Owned {
                uid: mark.uid,
                source: mark.source.clone(),
                address: item.address.clone(),
                spec: item
                    .last_told
                    .as_ref()
                    .map(|spec| spec.to_value().to_string()),
                origin: None,
                needs: Vec::new(),
                labels: None,
                remembered: item.remembered,
                restart_pending: Vec::new(),
                drift: Vec::new(),
            })))
        })
        .collect()
}
