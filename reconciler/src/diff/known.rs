//! [`Known`]: what we remember of earlier applies: what is ours, and what we last meant.
//!
//! It is an index, not the truth: who owns what stands on the live objects, and a lost database is rebuilt from there.

use std::collections::BTreeMap;
use std::path::PathBuf;

use manifests::diagnostic::Origin;
use manifests::id::{Address, SourceName, Uid};
use manifests::observed::{Item, Remembered};
use manifests::pointer::Pointer;
use manifests::repository::Repository;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::suspension::{Pin, Scope, Suspension};

/// A change that was accepted and is in force after a restart.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RestartPending {
    /// Which field.
    pub path: Pointer,
    /// What it was; null where that is not known.
    #[serde(default)]
    pub before: Value,
    /// What it will be.
    pub wanted: Value,
    /// Since when it waits.
    pub since: jiff::Timestamp,
}

/// Drift of one field that was seen and not yet mended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DriftSeen {
    /// Which field.
    pub path: Pointer,
    /// When it was seen first.
    pub first: jiff::Timestamp,
    /// When it was seen last.
    pub last: jiff::Timestamp,
    /// How many times it was found.
    pub times: u32,
}

/// One object of ours as last applied.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Owned {
    /// Its identity.
    pub uid: Uid,
    /// Whose it is.
    pub source: SourceName,
    /// Its name.
    pub address: Address,
    /// The spec that was last applied, as JSON text; none after the database was rebuilt from marks.
    pub spec: Option<String>,
    /// Where it was declared.
    pub origin: Option<Origin>,
    /// What it needed.
    pub needs: Vec<Address>,
    /// Its labels, by which schedules select; none after the database was rebuilt from marks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub labels: Option<BTreeMap<String, String>>,
    /// What happens to it when its manifest is gone.
    pub remembered: Option<Remembered>,
    /// What waits for a restart.
    pub restart_pending: Vec<RestartPending>,
    /// What drifted and since when.
    pub drift: Vec<DriftSeen>,
}

impl Owned {
    /// What a server was told and tells again, though the instance runs as it was started before. Only we know of it.
    pub fn waits_for_start(&self, live: &Item) -> impl Iterator<Item = &RestartPending> {
        let started = live.started_at().filter(|_| live.is_kept_by_server());
        let pending = self.restart_pending.iter();
        pending.filter(move |one| started.is_some_and(|started| started < one.since))
    }
}

/// One source as last applied.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct KnownSource {
    /// Its name.
    pub name: SourceName,
    /// The folder that it came from.
    pub root: PathBuf,
    /// The commit.
    pub revision: Option<String>,
    /// Where in which repository that folder was; none outside git.
    pub repository: Option<Repository>,
    /// When it was last applied.
    pub applied_at: jiff::Timestamp,
}

/// A person stopped an instance that its manifest wants running: it stays so until this is over.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Hold {
    /// When it is over.
    pub until: jiff::Timestamp,
    /// Why, in the person's words.
    pub reason: String,
    /// Since when.
    pub since: jiff::Timestamp,
}

impl Hold {
    /// Whether it is over.
    pub fn is_over(&self, now: jiff::Timestamp) -> bool {
        self.until <= now
    }
}

/// What is remembered of a schedule and one of its objects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tick {
    /// The last time that it was due and looked after; in the beginning, when it was seen first.
    pub at: jiff::Timestamp,
    /// When a snapshot could not be made since, and how many times.
    pub failed: Option<(jiff::Timestamp, u32)>,
}

impl Tick {
    /// Looked after, without a failure since.
    pub const fn at(at: jiff::Timestamp) -> Self {
        Self { at, failed: None }
    }
}

/// All that is remembered.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Known {
    /// Grows with every apply that may have changed something: a plan made for an older one is stale.
    pub generation: u64,
    /// Our objects.
    pub owned: BTreeMap<Uid, Owned>,
    /// The sources.
    pub sources: BTreeMap<SourceName, KnownSource>,
    /// Instances that a person stopped for a while; also those of which the while is over.
    pub holds: BTreeMap<Uid, Hold>,
    /// What is suspended; also what is so no longer.
    pub suspensions: BTreeMap<Scope, Suspension>,
    /// Sources of which a revision stays in force, by their names in the settings of the controller.
    pub pins: BTreeMap<SourceName, Pin>,
    /// Schedules (first) and the objects that they looked after.
    pub ticks: BTreeMap<(Uid, Uid), Tick>,
}

impl Known {
    /// The hold on an object, while it lasts.
    pub fn hold(&self, uid: &Uid, now: jiff::Timestamp) -> Option<&Hold> {
        self.holds.get(uid).filter(|hold| !hold.is_over(now))
    }

    /// What suspends this, while it lasts.
    pub fn suspension(&self, scope: &Scope, now: jiff::Timestamp) -> Option<&Suspension> {
        let found = self.suspensions.get(scope);
        found.filter(|suspension| !suspension.is_over(now))
    }
}
