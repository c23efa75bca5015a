//! Whether a saved plan is still true: what of it moved since, object by object and field by field, in words.
//!
//! A plan is bound to what was seen of the objects that it touches and to what was last applied of its source. What else
//! differs by now was nobody's decision when it was made: that is left alone.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use manifests::desired::{DesiredSet, Resource};
use manifests::id::Address;
use manifests::pointer::Pointer;
use serde::Serialize;
use serde_json::Value;

use super::saved_plan::SavedPlan;
use super::text;
use crate::secrets::masks;

/// One thing that is no longer as a plan saw it.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Moved {
    /// Which object; `source edge` for what was last applied of the source.
    pub object: String,
    /// Which field; none: the object itself.
    pub path: Option<Pointer>,
    /// What the plan saw; null where it saw nothing.
    pub was: Value,
    /// What is there; null where nothing is.
    pub is: Value,
    /// The same in words that go on after the object: `limits.memory was 64MiB and is 128MiB`.
    pub how: String,
}

impl fmt::Display for Moved {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}: {}", self.object, self.how)
    }
}

/// What became of a saved plan.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct PlanCheck {
    /// What moved; the plan is stale where this is not empty.
    pub moved: Vec<Moved>,
    /// Objects that the plan does not touch, and that differ by now.
    pub beyond: BTreeSet<Address>,
}

/// What is planned for one object.
#[derive(Default)]
struct Planned<'a> {
    /// What is done, and what is held.
    steps: Vec<&'a Value>,
    /// The guards that hold some of it.
    held_by: BTreeSet<&'a str>,
}

/// Compares a saved plan with the document of the one that the same manifests lead to now, made with the same seed.
/// `approved` are the guards that a person answers for beyond what the plan says.
pub fn check(saved: &SavedPlan, now: &Value, approved: &BTreeSet<String>) -> PlanCheck {
    // Numbers of masks depend on what else is in a plan.
    let (before, now) = (masks::by_digest(&saved.document), masks::by_digest(now));
    let mut found = compare(&before, &now, approved);
    for moved in &mut found.moved {
        masks::by_number(&mut moved.was, &mut moved.is, &mut moved.how);
    }
    found
}

fn compare(saved: &Value, now: &Value, approved: &BTreeSet<String>) -> PlanCheck {
    let was = by_object(saved);
    let is = by_object(now);
    let mut found = PlanCheck::default();
    found.moved.extend(source(saved, now));
    for (object, was) in &was {
        let nothing = Planned::default();
        let is = is.get(object).unwrap_or(&nothing);
        let moved = one(object, was, is, now);
        let free =
            is.held_by.is_empty() && was.held_by.iter().any(|code| !approved.contains(*code));
        if moved.is_empty() && free {
            let codes: Vec<&str> = was.held_by.iter().copied().collect();
            let how = format!("it was held by {} and no longer is", codes.join(", "));
            found
                .moved
                .push(whole(object, Value::Null, Value::Null, how));
        }
        found.moved.extend(moved);
    }
    found.beyond = is
        .keys()
        .filter(|object| !was.contains_key(*object))
        .filter_map(|object| object.parse().ok())
        .collect();
    // What the plan needs must be there without its doing.
    let mut needed: BTreeSet<&str> = BTreeSet::new();
    for step in was
        .keys()
        .filter_map(|object| is.get(object))
        .flat_map(|planned| &planned.steps)
    {
        let names = step["dependsOn"].as_array().into_iter().flatten();
        needed.extend(
            names
                .filter_map(Value::as_str)
                .filter(|name| !was.contains_key(name)),
        );
    }
    for object in needed {
        if let Some(is) = is.get(object) {
            found
                .moved
                .extend(one(object, &Planned::default(), is, now));
        }
    }
    found
}

fn by_object(document: &Value) -> BTreeMap<&str, Planned<'_>> {
    let mut all: BTreeMap<&str, Planned<'_>> = BTreeMap::new();
    for list in ["changes", "held"] {
        for step in document[list].as_array().into_iter().flatten() {
            let planned = all
                .entry(step["id"].as_str().unwrap_or_default())
                .or_default();
            planned.steps.push(step);
            let codes = step["because"].as_array().into_iter().flatten();
            planned
                .held_by
                .extend(codes.filter_map(|because| because["code"].as_str()));
        }
    }
    all
}

/// What was applied of the source since.
fn source(saved: &Value, now: &Value) -> Option<Moved> {
    let applied = |document: &Value| document["source"]["lastApplied"]["revision"].clone();
    let (was, is) = (applied(saved), applied(now));
    // The plan itself may have been applied in part.
    if was == is || is == saved["source"]["revision"] {
        return None;
    }
    let words = |value: &Value| {
        value
            .as_str()
            .map_or_else(|| "nothing".to_owned(), text::visible)
    };
    Some(Moved {
        object: format!(
            "source {}",
            now["source"]["name"].as_str().unwrap_or_default()
        ),
        path: None,
        how: format!(
            "{} was last applied and {} is by now",
            words(&was),
            words(&is)
        ),
        was,
        is,
    })
}

/// What moved of one object.
fn one(object: &str, was: &Planned<'_>, is: &Planned<'_>, now: &Value) -> Vec<Moved> {
    if deeds(was) == deeds(is) {
        return Vec::new();
    }
    let mut moved: Vec<Moved> = Vec::new();
    let (before, after) = if unwanted(was) && is.steps.is_empty() {
        // An object that is gone has no fields.
        Default::default()
    } else {
        (seen(was), seen(is))
    };
    for (path, field) in &before {
        let (value, how) = match after.get(path) {
            Some(other) if other.live == field.live => continue,
            Some(other) => (other.live.clone(), None),
            None => match unseen(now, object, path) {
                Some(why) => (Value::Null, Some(format!("cannot be read any more: {why}"))),
                // What no longer differs is as it is wanted.
                None => (field.wanted.clone(), None),
            },
        };
        if !is_new(is) && value != field.live {
            moved.push(changed(object, path, &field.live, value, how));
        }
    }
    // A plan carries what is wanted but for the values of secrets.
    for (path, field) in &before {
        if let Some(other) = after.get(path).filter(|other| other.wanted != field.wanted) {
            let (was, is) = (text::shown(&field.wanted), text::shown(&other.wanted));
            let how = format!("{} was to be {was} and would be {is} now", path.dotted());
            moved.push(Moved {
                object: object.to_owned(),
                path: Some(path.clone()),
                was: field.wanted.clone(),
                is: other.wanted.clone(),
                how,
            });
        }
    }
    for (path, field) in after.iter().filter(|(path, _)| !before.contains_key(*path)) {
        if !is_new(was) && field.wanted != field.live {
            moved.push(changed(
                object,
                path,
                &field.wanted,
                field.live.clone(),
                None,
            ));
        }
    }
    if moved.is_empty() {
        let (how, was, is) = existence(was, is);
        moved.push(whole(object, was, is, how));
    }
    moved
}

/// What is done to an object and what was seen of it, without what is another one each time (the identity of what is
/// new, how much its data grew) or only words.
fn deeds<'a>(planned: &Planned<'a>) -> Vec<(Vec<&'a Value>, Vec<[&'a Value; 3]>)> {
    let mut deeds: Vec<_> = planned
        .steps
        .iter()
        .map(|step| {
            let fields = step["fields"].as_array().into_iter().flatten();
            (
                vec![
                    &step["action"],
                    &step["deed"],
                    &step["effect"],
                    &step["observedDigest"],
                ],
                fields
                    .map(|field| [&field["path"], &field["before"], &field["after"]])
                    .collect(),
            )
        })
        .collect();
    // Which of them are held is not what was seen.
    deeds.sort_by_cached_key(|deed: &(Vec<&Value>, Vec<[&Value; 3]>)| format!("{deed:?}"));
    deeds
}

/// What was seen of one field, and what is wanted of it.
struct Field {
    live: Value,
    wanted: Value,
}

/// The fields of an object of which a plan tells.
fn seen(planned: &Planned<'_>) -> BTreeMap<Pointer, Field> {
    let mut all = BTreeMap::new();
    for step in &planned.steps {
        for field in step["fields"].as_array().into_iter().flatten() {
            let path = Pointer::new(field["path"].as_str().unwrap_or_default());
            let field = Field {
                live: field["before"].clone(),
                wanted: field["after"].clone(),
            };
            all.entry(path).or_insert(field);
        }
        leaves(&step["observed"]["spec"], &Pointer::new("/spec"), &mut all);
    }
    all
}

/// The values of an object that is to go: nothing is wanted of them.
fn leaves(value: &Value, at: &Pointer, out: &mut BTreeMap<Pointer, Field>) {
    match value {
        Value::Object(fields) if !fields.is_empty() => {
            for (key, value) in fields {
                leaves(value, &at.field(key), out);
            }
        }
        Value::Null => {}
        value => {
            let field = Field {
                live: value.clone(),
                wanted: Value::Null,
            };
            out.insert(at.clone(), field);
        }
    }
}

/// Whether nothing was there.
fn is_new(planned: &Planned<'_>) -> bool {
    planned.steps.first().is_some_and(|step| {
        matches!(
            step["action"].as_str(),
            Some("create" | "fetch" | "restore")
        ) && step["observedDigest"].is_null()
    })
}

/// Whether it was there and nobody wanted it.
fn unwanted(planned: &Planned<'_>) -> bool {
    planned.steps.iter().any(|step| !step["observed"].is_null())
}

/// What is to be said where no field tells.
fn existence(was: &Planned<'_>, is: &Planned<'_>) -> (String, Value, Value) {
    let there = || Value::String("there".to_owned());
    match (is_new(was), is_new(is)) {
        (true, false) => (
            "it was not there and is there now".to_owned(),
            Value::Null,
            there(),
        ),
        (false, true) => ("it was there and is gone".to_owned(), there(), Value::Null),
        _ if unwanted(was) && is.steps.is_empty() => {
            ("it was there and is gone".to_owned(), there(), Value::Null)
        }
        _ => {
            let (before, after) = (words(was), words(is));
            let how = if before == after {
                "it is no longer the object that was seen".to_owned()
            } else {
                format!("it needed {before} and needs {after} now")
            };
            (how, Value::String(before), Value::String(after))
        }
    }
}

/// What is done to an object, in words.
fn words(planned: &Planned<'_>) -> String {
    let mut deeds: Vec<&str> = planned
        .steps
        .iter()
        .filter_map(|step| step["deed"].as_str())
        .collect();
    deeds.dedup();
    if deeds.is_empty() {
        "nothing".to_owned()
    } else {
        deeds.join(", ")
    }
}

fn unseen(now: &Value, object: &str, path: &Pointer) -> Option<String> {
    let all = now["unseen"].as_array().into_iter().flatten();
    let own = all.filter(|one| one["address"] == object);
    own.flat_map(|one| one["unseen"].as_array().into_iter().flatten())
        .find(|unseen| Pointer::new(unseen["path"].as_str().unwrap_or_default()).covers(path))
        .map(|unseen| unseen["why"].as_str().unwrap_or_default().to_owned())
}

fn changed(object: &str, path: &Pointer, was: &Value, is: Value, how: Option<String>) -> Moved {
    let rest =
        how.unwrap_or_else(|| format!("was {} and is {}", text::shown(was), text::shown(&is)));
    Moved {
        object: object.to_owned(),
        path: Some(path.clone()),
        how: format!("{} {rest}", path.dotted()),
        was: was.clone(),
        is,
    }
}

fn whole(object: &str, was: Value, is: Value, how: String) -> Moved {
    Moved {
        object: object.to_owned(),
        path: None,
        was,
        is,
        how,
    }
}

/// What manifests want otherwise than those that a plan was made from.
pub fn edited(planned: &DesiredSet, now: &DesiredSet) -> Vec<Moved> {
    let mut moved = Vec::new();
    let there = || Value::String("declared".to_owned());
    for (address, was) in &planned.resources {
        let object = address.to_string();
        let Some(is) = now.resources.get(address) else {
            let how = "it was declared and no longer is".to_owned();
            moved.push(whole(&object, there(), Value::Null, how));
            continue;
        };
        let fields = is.spec.compare(&was.spec).into_iter();
        let lifecycle = (was.lifecycle != is.lifecycle).then(|| {
            let shown = |of: &Resource| manifests::change::shown(&of.lifecycle);
            (Pointer::new("/lifecycle"), shown(was), shown(is))
        });
        for (path, was, is) in fields
            .map(|change| (change.path, change.before, change.after))
            .chain(lifecycle)
        {
            moved.push(changed(&object, &path, &was, is, None));
        }
    }
    for address in now
        .resources
        .keys()
        .filter(|address| !planned.resources.contains_key(*address))
    {
        let how = "it was not declared and is now".to_owned();
        moved.push(whole(&address.to_string(), Value::Null, there(), how));
    }
    moved
}
