//! What the edited manifests mean, compared with what they meant: the object says what lives and nothing else; all others
//! that change are told.

use std::collections::{BTreeMap, BTreeSet};

use manifests::change;
use manifests::desired::{DesiredSet, Resource};
use manifests::diagnostic::{Diagnostics, Severity};
use manifests::id::Address;
use manifests::kind::Spec;
use manifests::pointer::Pointer;
use serde_json::Value;

use crate::view::accept::{Also, Change, Refused};
use crate::view::text::shown;

/// Refuses what the manifests would mean besides what was wanted of the object.
pub(super) fn of_the_object(
    before: &DesiredSet,
    after: &DesiredSet,
    object: &Resource,
    changes: &[Change],
    refused: &mut Vec<Refused>,
) {
    let mut refuse = |path: Pointer, why: String| {
        let source = match path == Pointer::root() {
            true => object.origin.clone(),
            false => object.origin_of(&path),
        };
        refused.push(Refused { path, why, source });
    };
    for part in parts_that_differ(before, after) {
        refuse(
            Pointer::root(),
            format!("`{part}` of the source would change as well"),
        );
    }
    let Some(now) = after.resources.get(&object.address) else {
        let why = "the manifests would not declare it any more";
        return refuse(Pointer::root(), why.to_owned());
    };
    let mut wanted = object.spec.to_value();
    for change in changes {
        let steps: Vec<String> = change.path.steps().skip(1).collect();
        put(&mut wanted, &steps, &change.is);
    }
    match Spec::deserialize(object.address.kind, wanted) {
        Err(error) => refuse(
            Pointer::root(),
            format!("what lives cannot be said: {error}"),
        ),
        Ok(wanted) => {
            let differing = now.spec.compare(&wanted);
            if differing.is_empty() && now.spec != wanted {
                let why = "other fields of it would change as well";
                refuse(Pointer::root(), why.to_owned());
            }
            for found in differing {
                let is_meant = |change: &Change| {
                    change.path.covers(&found.path) || found.path.covers(&change.path)
                };
                let why = match changes.iter().any(is_meant) {
                    true => format!(
                        "what is written there is not all that counts: it would mean {} then and not {}",
                        shown(&found.after),
                        shown(&found.before)
                    ),
                    false => {
                        "it would change as well: the line counts for several fields".to_owned()
                    }
                };
                refuse(found.path, why);
            }
        }
    }
    let paths: Vec<&Pointer> = changes.iter().map(|change| &change.path).collect();
    for part in beside_the_spec(object, now) {
        if part != NEEDS || !needs_follow(object, now, &paths) {
            refuse(Pointer::root(), format!("its {part} would change as well"));
        }
    }
}

/// The other objects that change.
pub(super) fn others(
    before: &DesiredSet,
    after: &DesiredSet,
    object: Option<&Address>,
) -> Vec<Also> {
    let (old, new) = (all_of(before), all_of(after));
    let addresses: BTreeSet<&Address> = old.keys().chain(new.keys()).copied().collect();
    let mut found = Vec::new();
    for address in addresses {
        if object == Some(address) {
            continue;
        }
        let fields = match (old.get(address), new.get(address)) {
            (Some(old), Some(new)) => {
                let changes = new.spec.compare(&old.spec).into_iter();
                let mut fields: Vec<String> = changes.map(|change| change.path.dotted()).collect();
                if fields.is_empty() && new.spec != old.spec {
                    fields.push("spec".to_owned());
                }
                fields.extend(beside_the_spec(old, new).map(str::to_owned));
                fields
            }
            (Some(_), None) => vec!["is not declared any more".to_owned()],
            _ => vec!["is declared then".to_owned()],
        };
        if !fields.is_empty() {
            found.push(Also {
                id: address.clone(),
                fields,
            });
        }
    }
    found
}

/// What is wrong with the edited manifests, as refusals.
pub(super) fn wrong(found: &Diagnostics, refused: &mut Vec<Refused>) {
    let errors = found.sorted().into_iter();
    let errors = errors.filter(|one| one.severity == Severity::Error);
    refused.extend(errors.map(|one| Refused {
        path: Pointer::root(),
        why: format!(
            "the manifests would be wrong then: [{}] {}",
            one.code, one.message
        ),
        source: one.origin.clone(),
    }));
}

/// All that a source declares: objects, policies and secrets.
fn all_of(set: &DesiredSet) -> BTreeMap<&Address, &Resource> {
    let all = set
        .declared()
        .chain(&set.policies)
        .chain(set.secrets.values());
    all.map(|one| (&one.address, one)).collect()
}

/// What is said of the source itself.
fn parts_that_differ(before: &DesiredSet, after: &DesiredSet) -> Vec<&'static str> {
    let externals = |set: &DesiredSet| set.external.iter().cloned().collect::<BTreeSet<_>>();
    let parts = [
        ("name", before.source.name == after.source.name),
        ("host", before.host == after.host),
        ("budget", before.budget == after.budget),
        ("windows", before.windows == after.windows),
        ("trash", before.trash == after.trash),
        ("external", externals(before) == externals(after)),
    ];
    let differing = parts.into_iter().filter(|(_, same)| !same);
    differing.map(|(part, _)| part).collect()
}

const NEEDS: &str = "order after others";

/// What differs of an object that is no field of its spec.
fn beside_the_spec(old: &Resource, new: &Resource) -> impl Iterator<Item = &'static str> {
    let parts = [
        ("labels", old.labels == new.labels),
        ("annotations", old.annotations == new.annotations),
        ("lifecycle", old.lifecycle == new.lifecycle),
        ("previous names", old.previous == new.previous),
        (NEEDS, old.needs == new.needs),
    ];
    let differing = parts.into_iter().filter(|(_, same)| !same);
    differing.map(|(part, _)| part)
}

/// Whether an object needs others than before for no other reason than that the changed fields name others.
fn needs_follow(old: &Resource, new: &Resource, changed: &[&Pointer]) -> bool {
    let named = |of: &Resource| {
        let references = of.spec.references().into_iter();
        let is_changed = |at: &Pointer| {
            changed
                .iter()
                .any(|path| path.covers(at) || at.covers(path))
        };
        references
            .filter(|reference| is_changed(&reference.at))
            .map(|reference| (reference.kind, reference.name))
            .collect::<Vec<_>>()
    };
    let (mut names, theirs) = (named(old), named(new));
    names.extend(theirs);
    let differing = |ones: &Resource, others: &Resource| {
        let mut alone = ones
            .needs
            .iter()
            .filter(|need| !others.needs.contains(need));
        alone.all(|(need, _)| names.contains(&(need.kind, need.name.clone())))
    };
    differing(old, new) && differing(new, old)
}

/// Puts a value into another; null takes it away.
fn put(value: &mut Value, steps: &[String], is: &Value) {
    let Some((step, rest)) = steps.split_first() else {
        *value = is.clone();
        return;
    };
    if let Value::Array(items) = value {
        let item = step.parse::<usize>().ok().and_then(|at| items.get_mut(at));
        if let Some(item) = item {
            put(item, rest, is);
        }
        return;
    }
    if value.is_null() {
        *value = change::shown(&BTreeMap::<String, Value>::new());
    }
    let Value::Object(map) = value else { return };
    if rest.is_empty() && is.is_null() {
        map.shift_remove(step);
    } else {
        put(map.entry(step.clone()).or_insert(Value::Null), rest, is);
    }
}
