//! One object: which fields differ, which of them are left alone, and a digest of the finding.

use manifests::change::{Cause, FieldChange};
use manifests::desired::Resource;
use manifests::kind::Spec;
use manifests::lifecycle::{DriftMode, Extras, OnImageChange};
use manifests::observed::{Item, Unseen};
use manifests::pointer::Pointer;
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use uuid::Uuid;

use super::Kept;
use super::cause::LastApplied;
use super::known::Owned;

/// Maps whose entries a person may add by hand; `lifecycle.extras` says what is done about those.
const EXTRAS: &[&str] = &[
    "/spec/devices/*",
    "/spec/config/*",
    "/spec/user/*",
    "/spec/environment/*",
    "/spec/sysctl/*",
    "/spec/credentials/*",
];

/// The fields of one object, sorted by what is done about them.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Judged {
    /// To be changed.
    pub changes: Vec<FieldChange>,
    /// Told and not touched.
    pub told: Vec<FieldChange>,
    /// Left as they live.
    pub kept: Vec<Kept>,
    /// Not compared, since they could not be read.
    pub unseen: Vec<Unseen>,
}

/// The day by which ignore rules end.
pub fn today(now: jiff::Timestamp) -> jiff::civil::Date {
    now.to_zoned(jiff::tz::TimeZone::UTC).date()
}

/// Compares one manifest with its live object.
pub fn judge(
    resource: &Resource,
    item: &Item,
    owned: Option<&Owned>,
    now: jiff::Timestamp,
) -> Judged {
    let mut judged = Judged {
        unseen: item.unseen.clone(),
        ..Judged::default()
    };
    let found = resource.spec.compare(&item.spec);
    let last = if found.is_empty() {
        LastApplied::Unknown
    } else {
        LastApplied::of(resource, owned)
    };
    let today = today(now);
    let lifecycle = &resource.lifecycle;
    for mut change in found {
        let hidden = item
            .unseen
            .iter()
            .any(|unseen| unseen.path.covers(&change.path) || change.path.covers(&unseen.path));
        if hidden {
            continue;
        }
        change.cause = last.cause(&change);
        let kept = Kept::of(&change);
        if lifecycle.ignores(&change.path, today) {
            judged.kept.push(kept);
        } else if is_extra(&change, &last) {
            change.cause = Cause::Drifted;
            match lifecycle.extras {
                Extras::Remove => judged.changes.push(change),
                Extras::Warn => {
                    judged.kept.push(kept);
                    judged.told.push(change);
                }
                Extras::Ignore => judged.kept.push(kept),
            }
        } else if is_image(&change) && (change.cause == Cause::Drifted || was_told(item, &change)) {
            // The manifest names the same alias as before; what it stands for moved.
            change.cause = Cause::Image;
            match lifecycle.on_image_change {
                OnImageChange::Ignore => judged.kept.push(kept),
                OnImageChange::Rebuild | OnImageChange::Recreate => judged.changes.push(change),
            }
        } else if change.cause == Cause::Drifted {
            match lifecycle.drift_of(&change.path) {
                DriftMode::Correct => judged.changes.push(change),
                DriftMode::Warn => {
                    judged.kept.push(kept);
                    judged.told.push(change);
                }
                DriftMode::Ignore => judged.kept.push(kept),
            }
        } else {
            judged.changes.push(change);
        }
    }
    for pending in owned
        .into_iter()
        .flat_map(|owned| owned.waits_for_start(item))
    {
        let mut others = judged.changes.iter().chain(&judged.told);
        if !others.any(|change| change.path == pending.path) {
            judged.changes.push(FieldChange {
                path: pending.path.clone(),
                before: pending.before.clone(),
                after: pending.wanted.clone(),
                cause: Cause::Drifted,
            });
        }
    }
    judged
        .changes
        .extend(remembered_changes(resource, item, owned));
    judged
}

/// `prune` and `protect` count after the manifest is gone, so a change of them is a change of the object.
fn remembered_changes(
    resource: &Resource,
    item: &Item,
    owned: Option<&Owned>,
) -> impl Iterator<Item = FieldChange> {
    let before = item.mark.as_ref().and(
        item.remembered
            .or_else(|| owned.and_then(|owned| owned.remembered)),
    );
    let lifecycle = &resource.lifecycle;
    let prune = before
        .filter(|before| before.prune != lifecycle.prune)
        .map(|before| {
            (
                "/lifecycle/prune",
                manifests::change::shown(&before.prune),
                manifests::change::shown(&lifecycle.prune),
            )
        });
    let protect = before
        .filter(|before| before.protect != lifecycle.protect)
        .map(|before| {
            (
                "/lifecycle/protect",
                Value::Bool(before.protect),
                Value::Bool(lifecycle.protect),
            )
        });
    [prune, protect]
        .into_iter()
        .flatten()
        .map(|(path, before, after)| FieldChange {
            path: Pointer::new(path),
            before,
            after,
            cause: Cause::Edited,
        })
}

/// An entry that is there, that the manifest does not have, and that we did not put there. Where nothing is known of
/// the last apply it counts as added by hand: leaving is safer than removing.
fn is_extra(change: &FieldChange, last: &LastApplied) -> bool {
    change.after.is_null()
        && (!last.is_known() || last.cause(change) == Cause::Drifted)
        && is_entry(&change.path)
}

/// Whether a field is an entry of a map to which a person may add by hand.
pub fn is_entry(path: &Pointer) -> bool {
    EXTRAS.iter().any(|pattern| {
        let pattern = Pointer::new(pattern);
        pattern.matches(path) && pattern.steps().count() == path.steps().count()
    })
}

/// Whether the engine was told the very value that is wanted, whatever it says of it now.
fn was_told(item: &Item, change: &FieldChange) -> bool {
    let told = item.last_told.as_ref().map(Spec::to_value);
    let below = change.path.as_str().strip_prefix("/spec");
    told.zip(below)
        .and_then(|(told, below)| told.pointer(below).cloned())
        .is_some_and(|told| told == change.after)
}

fn is_image(change: &FieldChange) -> bool {
    Pointer::new("/spec/image").covers(&change.path)
}

/// The digest of what was found about an object that is wanted: its identity and the managed fields that differ. The
/// same digest later means that nothing that matters to a plan has moved. `salt` is another one for each plan: values
/// that are guessed cannot be looked up.
pub fn fingerprint(salt: Uuid, item: &Item, changes: &[FieldChange]) -> String {
    let mut hash = begin(salt, item);
    for change in changes {
        hash.update(change.path.as_str());
        hash.update([0]);
        hash.update(change.before.to_string());
        hash.update([0]);
    }
    hex::encode(&hash.finalize()[..16])
}

/// The digest of an object that is to go: its identity and [`whole`] of it.
pub fn fingerprint_of_orphan(salt: Uuid, item: &Item) -> String {
    let mut hash = begin(salt, item);
    hash.update(whole(item).to_string());
    hex::encode(&hash.finalize()[..16])
}

/// All of a spec but whether it runs.
pub fn whole(item: &Item) -> Value {
    let mut spec = item.spec.to_value();
    if let Some(fields) = spec.as_object_mut() {
        fields.shift_remove("state");
    }
    spec
}

fn begin(salt: Uuid, item: &Item) -> Sha256 {
    let mut hash = Sha256::new();
    hash.update(salt.as_bytes());
    hash.update(item.address.to_string());
    hash.update([0, u8::from(item.complete)]);
    if let Some(mark) = &item.mark {
        hash.update(mark.to_string());
    }
    hash.update([0]);
    hash
}

/// The spec with the kept fields as they live, so that applying leaves them alone as well.
///
/// # Errors
/// A live value does not fit the type of its field.
pub fn overlay(spec: &Spec, kept: &[Kept]) -> Result<Spec, serde_json::Error> {
    manifests::overlay::overlay(spec, kept.iter().map(|field| (&field.path, &field.live)))
}
