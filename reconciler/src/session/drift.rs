//! What the world changed behind git's back, and since when.

use std::collections::BTreeMap;

use manifests::change::{Cause, FieldChange};
use manifests::desired::{DesiredSet, Resource};
use manifests::diagnostic::Origin;
use manifests::id::{Address, Uid};
use manifests::lifecycle::DriftMode;
use manifests::observed::{Item, ObservedSet};
use manifests::pointer::Pointer;
use serde_json::Value;

use super::{Session, SessionError};
use crate::diff::known::{DriftSeen, Hold, Known};
use crate::diff::{Difference, StaleRule, Verdict, diff, stale_rules, today};
use crate::journal::{Author, Differs, Journal as _, author_of, author_outside};
use crate::plan::NotSeen;
use crate::secrets::masks::Masks;
use crate::snapshots::stand::Stand;
use crate::store::{SqliteStore, Store as _, Write};

/// One field that the world changed.
#[derive(Debug, Clone, PartialEq)]
pub struct DriftedField {
    /// The object.
    pub address: Address,
    /// Which field; `/metadata/name` for an object that lives under another name, the root for one that is gone.
    pub path: Pointer,
    /// What git says.
    pub desired: Value,
    /// What is there; null: nothing.
    pub live: Value,
    /// What is done about it.
    pub mode: DriftMode,
    /// When it was seen first.
    pub first_seen: jiff::Timestamp,
    /// How many looks have found it, this one among them.
    pub times: u32,
    /// Whether the whole object is gone.
    pub gone: bool,
    /// The line that declares it.
    pub origin: Origin,
    /// Whether it or what git says comes from a secret: what is told here are masks.
    pub secret: bool,
    /// A person stopped it for a while: it is not started again before that is over.
    pub hold: Option<Hold>,
    /// Who did it, where it was done through keel, or where a server told it.
    pub author: Option<Author>,
    /// What the engine knows of why it is so, for people.
    pub why: Option<String>,
}

/// All that the world changed.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Drift {
    /// By object, then in the order of the fields.
    pub fields: Vec<DriftedField>,
    /// How many objects were compared.
    pub objects: usize,
    /// Objects of which git says what was not applied yet: that is no drift.
    pub edited: Vec<Address>,
    /// What could not be read.
    pub unseen: Vec<NotSeen>,
    /// Fields that differ and that a rule leaves alone, by object.
    pub ignored: BTreeMap<Address, Vec<Pointer>>,
    /// Ignore rules that leave nothing alone.
    pub stale_rules: Vec<StaleRule>,
}

impl Session<'_> {
    /// What drifted. Each look is counted with the object, so that the next one can say since when.
    ///
    /// # Errors
    /// The engine is out of reach, or the store cannot be read. That it cannot be written is worth a word in the log.
    pub fn drift(&self, desired: &DesiredSet) -> Result<Drift, SessionError> {
        let store = self.store()?;
        let stored = store.load()?;
        let observed = self.runtime.observe()?;
        let known = Self::filled(stored.clone(), &observed);
        let now = self.clock.now();
        let diff = diff(desired, &observed, &known, now);
        let mut drift = Drift {
            objects: desired.resources.len(),
            stale_rules: stale_rules(desired, &diff, today(now)),
            ..Drift::default()
        };
        let mut writes = Vec::new();
        for difference in &diff.objects {
            let Some(resource) = desired.resources.get(&difference.address) else {
                continue;
            };
            if !difference.unseen.is_empty() {
                drift.unseen.push(NotSeen {
                    address: difference.address.clone(),
                    unseen: difference.unseen.clone(),
                });
            }
            let told = |path: &Pointer| difference.told.iter().any(|told| told.path == *path);
            let kept = difference.kept.iter().map(|kept| &kept.path);
            let ignored: Vec<Pointer> = kept.filter(|path| !told(path)).cloned().collect();
            if !ignored.is_empty() {
                drift.ignored.insert(difference.address.clone(), ignored);
            }
            let found = drifted(difference, &known);
            if is_edited(difference, &found) {
                drift.edited.push(difference.address.clone());
            }
            let uid = uid_of(difference, &known);
            let before = uid
                .and_then(|uid| known.owned.get(&uid))
                .map_or(&[][..], |owned| &owned.drift[..]);
            let mut seen: Vec<DriftSeen> = Vec::new();
            for change in found {
                let entry = before
                    .iter()
                    .find(|entry| entry.path == change.path)
                    .map_or_else(
                        || DriftSeen {
                            path: change.path.clone(),
                            first: now,
                            last: now,
                            times: 1,
                        },
                        |entry| DriftSeen {
                            last: now,
                            times: entry.times.saturating_add(1),
                            ..entry.clone()
                        },
                    );
                let is_state = change.path.as_str() == "/spec/state";
                let hold = uid
                    .filter(|_| is_state)
                    .and_then(|uid| known.hold(&uid, now));
                let author = author(&store, &difference.address, &change);
                let mode = match told(&change.path) || hold.is_some() {
                    true => DriftMode::Warn,
                    false => DriftMode::Correct,
                };
                let why = difference.live.and_then(|live| why(live, &change.path));
                drift.fields.push(DriftedField {
                    author,
                    why,
                    ..field(resource, change, mode, &entry, hold)
                });
                seen.push(entry);
            }
            if let Some(uid) = uid.filter(|_| !(seen.is_empty() && before.is_empty())) {
                // Of a lost database only the mark is left: without a row there is no place for an age.
                if let Some(found) = known.owned.get(&uid)
                    && !stored.owned.contains_key(&uid)
                {
                    writes.push(Write::Found(Box::new(found.clone())));
                }
                writes.push(Write::Drift(uid, seen));
            }
        }
        drift.fields.extend(missed(desired, &known, &observed, now));
        let mut masks = Masks::default();
        for field in &mut drift.fields {
            let before = (field.live.clone(), field.desired.clone());
            masks.mask(&mut field.live);
            masks.mask(&mut field.desired);
            field.secret = before != (field.live.clone(), field.desired.clone());
        }
        if let Err(error) = store.commit(&writes) {
            tracing::warn!(%error, "it cannot be remembered since when things drift");
        }
        Ok(drift)
    }
}

/// Schedules that missed their time: told, and made good by whoever makes the snapshots that are due.
fn missed(
    desired: &DesiredSet,
    known: &Known,
    observed: &ObservedSet,
    now: jiff::Timestamp,
) -> Vec<DriftedField> {
    let path = Pointer::new("/status/lastRun");
    let field = |stand: &Stand| {
        let first = stand.missed.iter().min_by_key(|one| one.due)?;
        let resource = desired.resources.get(&first.schedule)?;
        let word = |at: Option<jiff::Timestamp>| {
            at.map_or(Value::Null, |at| Value::String(at.to_string()))
        };
        let change = FieldChange {
            path: path.clone(),
            before: word(stand.last_run),
            after: word(Some(first.due)),
            cause: Cause::Drifted,
        };
        let seen = DriftSeen {
            path: path.clone(),
            first: first.due,
            last: now,
            times: first.tries.max(1),
        };
        Some(field(resource, change, DriftMode::Warn, &seen, None))
    };
    let stands = Session::stands_in(known, observed, now);
    stands.values().filter_map(field).collect()
}

fn uid_of(difference: &Difference<'_>, known: &Known) -> Option<Uid> {
    difference.mark().map(|mark| mark.uid).or_else(|| {
        known
            .owned
            .values()
            .find(|owned| owned.address == difference.address)
            .map(|owned| owned.uid)
    })
}

/// Whether the manifest of an object is new or was edited since it was applied.
fn is_edited(difference: &Difference<'_>, drifted: &[FieldChange]) -> bool {
    match difference.verdict {
        Verdict::Missing { .. } | Verdict::Incomplete => drifted.is_empty(),
        _ => {
            let mut changes = difference.changes.iter();
            changes.any(|change| change.cause == Cause::Edited)
        }
    }
}

/// The fields of one object that the world changed.
fn drifted(difference: &Difference<'_>, known: &Known) -> Vec<FieldChange> {
    let mut found: Vec<FieldChange> = Vec::new();
    match &difference.verdict {
        Verdict::Missing { .. } | Verdict::Incomplete => {
            let owned = uid_of(difference, known).and_then(|uid| known.owned.get(&uid));
            let before = match difference.verdict {
                Verdict::Incomplete => Value::String("there in part".to_owned()),
                _ => Value::Null,
            };
            // What was never whole is being made, and has not drifted.
            if owned.is_some_and(|owned| before.is_null() || owned.spec.is_some()) {
                found.push(FieldChange {
                    path: Pointer::root(),
                    before,
                    after: Value::String("there".to_owned()),
                    cause: Cause::Drifted,
                });
            }
        }
        Verdict::Same | Verdict::Different => {
            let owned = uid_of(difference, known).and_then(|uid| known.owned.get(&uid));
            // The engine has accepted it for the next start: nobody has changed anything.
            let waits = |change: &FieldChange| {
                owned.is_some_and(|owned| {
                    let mut pending = owned.restart_pending.iter();
                    pending.any(|one| one.path == change.path && one.wanted == change.after)
                })
            };
            if let Some(live) = difference.renamed_from().filter(|live| {
                difference
                    .mark()
                    .and_then(|mark| known.owned.get(&mark.uid))
                    .is_some_and(|owned| owned.address != **live)
            }) {
                found.push(FieldChange {
                    path: Pointer::new("/metadata/name"),
                    before: Value::String(live.name.clone()),
                    after: Value::String(difference.address.name.clone()),
                    cause: Cause::Drifted,
                });
            }
            found.extend(
                difference
                    .changes
                    .iter()
                    .chain(&difference.told)
                    .filter(|change| change.cause == Cause::Drifted && !waits(change))
                    .cloned(),
            );
        }
        Verdict::Orphaned | Verdict::Foreign | Verdict::OtherSource(_) | Verdict::Unclear(_) => {}
    }
    found
}

fn field(
    resource: &Resource,
    change: FieldChange,
    mode: DriftMode,
    seen: &DriftSeen,
    hold: Option<&Hold>,
) -> DriftedField {
    DriftedField {
        address: resource.address.clone(),
        gone: change.path == Pointer::root() && change.before.is_null(),
        origin: resource.origin_of(&change.path),
        path: change.path,
        desired: change.after,
        live: change.before,
        mode,
        first_seen: seen.first,
        times: seen.times,
        secret: false,
        hold: hold.cloned(),
        author: None,
        why: None,
    }
}

/// What the engine knows of why a field is as it is: of a device with it, of others in a list by their paths.
fn why(live: &Item, path: &Pointer) -> Option<String> {
    let steps: Vec<String> = path.steps().collect();
    let steps: Vec<&str> = steps.iter().map(String::as_str).collect();
    let words = match steps.as_slice() {
        ["spec", "devices", name, ..] => &live.status["devices"][name]["reason"],
        _ => &live.status["reasons"][path.as_str()],
    };
    words.as_str().map(str::to_owned)
}

/// Who made a field differ, as far as the journal or a server tells. Not to know it is no reason to tell nothing.
fn author(store: &SqliteStore, address: &Address, change: &FieldChange) -> Option<Author> {
    /// The deed that counts is one of the newest.
    const EVENTS: usize = 100;
    let differs = match change.path.as_str() {
        "" => Differs::Gone,
        "/spec/state" => Differs::State,
        _ => Differs::Field,
    };
    let untold = |error: &dyn std::fmt::Display| {
        tracing::warn!(%error, "it cannot be told who changed {address}");
    };
    let events = store
        .events_of(address, EVENTS)
        .inspect_err(|error| untold(error))
        .ok()?;
    let state = change.before.as_str().filter(|_| differs == Differs::State);
    if let Some(author) = state.and_then(|state| author_of(state, &events)) {
        return Some(author);
    }
    let heard = store
        .heard_of(address, EVENTS)
        .inspect_err(|error| untold(error))
        .ok()?;
    author_outside(differs, &events, &heard)
}
