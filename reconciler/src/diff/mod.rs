//! What differs: [`diff`] compares what is wanted, what was seen and what was last applied, and does nothing.
//!
//! `pair_up` finds the live object of each manifest, `judge` compares the two field by field, `cause` tells an edit
//! from drift, `known` is what is remembered, `suspension` what a person
//! wants left alone, `stale_rules` finds the ignore rules that leave nothing alone.

mod cause;
mod in_trash;
mod judge;
pub mod known;
mod pair_up;
mod stale_rules;
pub mod suspension;

use manifests::change::FieldChange;
use manifests::desired::DesiredSet;
use manifests::id::{Address, Mark, SourceName};
use manifests::observed::{Item, ObservedSet, Unseen};
use manifests::pointer::Pointer;
use serde_json::Value;

pub use self::in_trash::InTrash;
pub use self::judge::{
    Judged, fingerprint, fingerprint_of_orphan, is_entry, judge, overlay, today, whole,
};
use self::known::Known;
use self::pair_up::{Pair, Pairing};
pub use self::stale_rules::{StaleRule, WhyStale, stale_rules};

/// How an object stands.
#[derive(Debug, Clone, PartialEq)]
pub enum Verdict {
    /// It is wanted and not there.
    Missing {
        /// What lies under its name in our trash, the newest first.
        trashed: Vec<InTrash>,
    },
    /// Its making was cut short.
    Incomplete,
    /// It is as wanted.
    Same,
    /// These fields differ, or its name.
    Different,
    /// It is ours and no longer wanted.
    Orphaned,
    /// It is there and nobody's.
    Foreign,
    /// It is there and another source's.
    OtherSource(SourceName),
    /// It could not be told whether it is there, or which one it is.
    Unclear(String),
}

/// A field that is left as it lives.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Kept {
    /// Which field.
    pub path: Pointer,
    /// What is there; null: nothing.
    pub live: Value,
}

impl Kept {
    /// The field of a change, left as it was found.
    pub fn of(change: &manifests::change::FieldChange) -> Self {
        Self {
            path: change.path.clone(),
            live: change.before.clone(),
        }
    }
}

/// One object, wanted or ours, and how it stands.
#[derive(Debug, Clone, PartialEq)]
pub struct Difference<'a> {
    /// Its name as wanted; the name under which it lives where it is no longer wanted.
    pub address: Address,
    /// How it stands.
    pub verdict: Verdict,
    /// The live object.
    pub live: Option<&'a Item>,
    /// Fields to change; also of a foreign object, should it be adopted.
    pub changes: Vec<FieldChange>,
    /// Differences that are told and not touched (drift mode `warn`, `extras: warn`).
    pub told: Vec<FieldChange>,
    /// Fields that are left as they live, by a rule or a mode.
    pub kept: Vec<Kept>,
    /// Fields that could not be read and were not compared.
    pub unseen: Vec<Unseen>,
}

impl Difference<'_> {
    /// The mark on the live object.
    pub fn mark(&self) -> Option<&Mark> {
        self.live.and_then(|item| item.mark.as_ref())
    }

    /// The name under which it lives, where that is another one than the wanted one.
    pub fn renamed_from(&self) -> Option<&Address> {
        self.live
            .map(|item| &item.address)
            .filter(|live| **live != self.address)
    }
}

/// How all objects stand: the wanted ones by address, then those that are no longer wanted.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Diff<'a> {
    /// One by one.
    pub objects: Vec<Difference<'a>>,
}

/// Compares. `now` decides which ignore rules still count. Linear in the number of objects.
///
/// A partial set says nothing about objects that it does not name: none is orphaned.
pub fn diff<'a>(
    desired: &DesiredSet,
    observed: &'a ObservedSet,
    known: &Known,
    now: jiff::Timestamp,
) -> Diff<'a> {
    let pairing = Pairing::new(desired, observed, known);
    let mut objects: Vec<Difference<'a>> = desired
        .resources
        .values()
        .map(|resource| {
            let (verdict, live) = match pairing.of(&resource.address) {
                Pair::Nothing => {
                    let trashed = Vec::new();
                    (Verdict::Missing { trashed }, None)
                }
                Pair::Trashed(all) => {
                    let compared = |one| InTrash::compare(resource, one, now);
                    let trashed = all.into_iter().map(compared).collect();
                    (Verdict::Missing { trashed }, None)
                }
                Pair::Unclear(why) => (Verdict::Unclear(why), None),
                Pair::Foreign(item) => (Verdict::Foreign, Some(item)),
                Pair::OtherSource(item, owner) => (Verdict::OtherSource(owner), Some(item)),
                Pair::Ours(item) if !item.complete => (Verdict::Incomplete, Some(item)),
                Pair::Ours(item) => (Verdict::Same, Some(item)),
            };
            let owned = live
                .and_then(|item| item.mark.as_ref())
                .and_then(|mark| known.owned.get(&mark.uid));
            let judged = match (&verdict, live) {
                (Verdict::Incomplete, _) | (_, None) => Judged::default(),
                (_, Some(item)) => judge(resource, item, owned, now),
            };
            let renamed = live.is_some_and(|item| item.address != resource.address);
            let verdict = match verdict {
                Verdict::Same if renamed || !judged.changes.is_empty() => Verdict::Different,
                other => other,
            };
            Difference {
                address: resource.address.clone(),
                verdict,
                live,
                changes: judged.changes,
                told: judged.told,
                kept: judged.kept,
                unseen: judged.unseen,
            }
        })
        .collect();
    if desired.source.partial.is_none() {
        objects.extend(pairing.orphans().map(|(item, doubt)| Difference {
            address: item.address.clone(),
            verdict: doubt.map_or(Verdict::Orphaned, Verdict::Unclear),
            live: Some(item),
            changes: Vec::new(),
            told: Vec::new(),
            kept: Vec::new(),
            unseen: Vec::new(),
        }));
    }
    Diff { objects }
}
