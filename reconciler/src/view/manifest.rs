//! A live object as a manifest that somebody could have written: only what is not as by default.

use std::collections::{BTreeMap, BTreeSet};

use manifests::envelope::API_VERSION;
use manifests::id::Address;
use manifests::kind::{Kind, Spec};
use manifests::lifecycle::Lifecycle;
use manifests::observed::Item;
use manifests::secret::as_written;
use runtime::incus::WrittenProfile;
use serde_json::{Map, Value, json};

/// The document of an object, with what is remembered of how it is treated. One that nobody owns asks to be taken over.
pub fn document(item: &Item) -> Value {
    finished(item, least(item.address.kind, &item.spec))
}

/// The document of an instance that lies over profiles: `own` is what it says beyond them. What neither says, and is not as
/// it is where nothing is said, is said here.
pub fn under_profiles(
    item: &Item,
    own: &Value,
    profiles: &BTreeMap<Address, WrittenProfile>,
) -> Value {
    let mut spec = json!({});
    let whole = least(item.address.kind, &item.spec);
    for field in BEYOND_PROFILES {
        if let Some(value) = whole.get(*field) {
            spec[*field] = value.clone();
        }
    }
    lay_over(&mut spec, own);
    let mut together = json!({});
    for name in own["profiles"].as_array().into_iter().flatten() {
        let name = name.as_str().unwrap_or_default();
        let project = item.address.project.as_ref();
        let of_its_own = project.and_then(|project| {
            profiles.get(&Address::in_project(Kind::Profile, project.as_str(), name))
        });
        let profile = of_its_own.or_else(|| profiles.get(&Address::new(Kind::Profile, name)));
        if let Some(profile) = profile {
            lay_over(&mut together, &profile.spec);
        }
    }
    lay_over(&mut together, &spec);
    let masked = |device: &Value| device["type"] == "none";
    if let Some(devices) = together.get_mut("devices").and_then(Value::as_object_mut) {
        devices.retain(|_, device| !masked(device));
    }
    if let Ok(meant) = Spec::deserialize(item.address.kind, together) {
        let mut live = item.spec.to_value();
        as_written(&mut live);
        let mut meant = meant.to_value();
        as_written(&mut meant);
        say_rest(&mut spec, &meant, &live, true);
    }
    finished(item, spec)
}

/// Lays the fields of a part over those of others, as profiles lie over one another: maps by key, all else whole, and each
/// device whole.
fn lay_over(under: &mut Value, part: &Value) {
    for (field, value) in part.as_object().into_iter().flatten() {
        match (under.get_mut(field), value) {
            (Some(Value::Object(devices)), Value::Object(new)) if field == "devices" => {
                devices.extend(new.clone());
            }
            (Some(below @ Value::Object(_)), Value::Object(_)) => lay_over(below, value),
            _ => under[field] = value.clone(),
        }
    }
}

/// Says in `spec` what is live and not meant.
fn say_rest(spec: &mut Value, meant: &Value, live: &Value, is_top: bool) {
    let keys = |value: &Value| -> BTreeSet<String> {
        value
            .as_object()
            .into_iter()
            .flatten()
            .map(|(key, _)| key.clone())
            .collect()
    };
    for key in keys(meant).union(&keys(live)) {
        let (meant, live) = (&meant[key], &live[key]);
        if meant == live || is_top && key == "profiles" {
            continue;
        }
        // A device is said whole.
        let is_device = live.get("type").is_some() && !is_top;
        match (meant, live) {
            (Value::Object(_), Value::Object(_)) if !is_device => {
                if !spec[key].is_object() {
                    spec[key] = json!({});
                }
                say_rest(&mut spec[key], meant, live, false);
            }
            _ => spec[key] = live.clone(),
        }
    }
}

/// The document of a profile. What describes it is an annotation: in a spec it would describe its instances.
pub fn of_profile(address: &Address, profile: &WrittenProfile) -> Value {
    let mut document = with_spec(address, profile.spec.clone());
    if !profile.description.is_empty() {
        document["metadata"]["annotations"] = json!({ "description": profile.description });
    }
    document
}

/// Fields of an instance that no profile of a server says.
const BEYOND_PROFILES: &[&str] = &[
    "type",
    "description",
    "architecture",
    "ephemeral",
    "image",
    "state",
];

fn with_spec(address: &Address, spec: Value) -> Value {
    let mut metadata = Map::new();
    metadata.insert("name".to_owned(), json!(address.name));
    if let Some(project) = &address.project {
        metadata.insert("project".to_owned(), json!(project));
    }
    let mut document = json!({
        "apiVersion": API_VERSION,
        "kind": address.kind.name(),
        "metadata": metadata,
    });
    if spec.as_object().is_none_or(|fields| !fields.is_empty()) {
        document["spec"] = spec;
    }
    document
}

fn finished(item: &Item, spec: Value) -> Value {
    let mut document = with_spec(&item.address, spec);
    let usual = Lifecycle::default_of(item.address.kind);
    let mut lifecycle = Map::new();
    if let Some(remembered) = item.remembered {
        if remembered.prune != usual.prune {
            lifecycle.insert("prune".to_owned(), json!(remembered.prune));
        }
        if remembered.protect != usual.protect {
            lifecycle.insert("protect".to_owned(), json!(remembered.protect));
        }
    }
    if item.mark.is_none() {
        lifecycle.insert("adopt".to_owned(), json!(true));
    }
    if !lifecycle.is_empty() {
        document["lifecycle"] = Value::Object(lifecycle);
    }
    document
}

/// The least that says the same: each value that may be left out is.
fn least(kind: Kind, spec: &Spec) -> Value {
    let mut value = spec.to_value();
    as_written(&mut value);
    // Texts from secrets are others now than they were.
    let Ok(meant) = Spec::deserialize(kind, value.clone()) else {
        return value;
    };
    let same =
        |value: &Value| Spec::deserialize(kind, value.clone()).is_ok_and(|spec| spec == meant);
    shrink(&mut value, &mut Vec::new(), &same);
    value
}

/// A step from a value to one below it.
#[derive(Clone)]
enum Step {
    Key(String),
    Index(usize),
}

fn at<'a>(mut value: &'a mut Value, path: &[Step]) -> Option<&'a mut Value> {
    for step in path {
        value = match step {
            Step::Key(key) => value.get_mut(key)?,
            Step::Index(index) => value.get_mut(index)?,
        };
    }
    Some(value)
}

/// Takes out what changes nothing, the largest parts first.
fn shrink(root: &mut Value, path: &mut Vec<Step>, same: &dyn Fn(&Value) -> bool) {
    let below: Vec<Step> = match at(root, path) {
        Some(Value::Object(fields)) => fields.keys().cloned().map(Step::Key).collect(),
        Some(Value::Array(items)) => (0..items.len()).map(Step::Index).collect(),
        _ => return,
    };
    for step in below {
        if let Step::Key(key) = &step {
            let mut without = root.clone();
            if let Some(Value::Object(fields)) = at(&mut without, path) {
                fields.shift_remove(key);
            }
            if same(&without) {
                *root = without;
                continue;
            }
        }
        path.push(step);
        shrink(root, path, same);
        path.pop();
    }
}

#[cfg(test)]
mod tests {
    use manifests::id::{Mark, SourceName, Uid};
    use manifests::lifecycle::Prune;
    use manifests::observed::{Holds, Remembered};

    use super::*;

    #[test]
    fn an_instance_under_profiles_says_only_what_they_do_not() {
        let live = json!({
            "image": "tiny",
            "profiles": ["default", "web"],
            "limits": { "memory": "64MiB", "cpu": 2 },
            "security": { "idmap": { "isolated": false } },
            "devices": { "root": { "type": "disk", "path": "/", "pool": "fast" } },
        });
        let spec = Spec::deserialize(Kind::Instance, live).expect("a spec");
        let profile = |name: &str, spec: Value| {
            let description = "what it is for".to_owned();
            (
                Address::new(Kind::Profile, name),
                WrittenProfile { description, spec },
            )
        };
        let root = json!({ "type": "disk", "path": "/", "pool": "fast" });
        let lan = json!({ "type": "nic", "network": "lan" });
        let profiles = BTreeMap::from([
            profile(
                "default",
                json!({ "devices": { "root": root, "eth0": lan } }),
            ),
            profile("web", json!({ "limits": { "memory": "1GiB", "cpu": 2 } })),
        ]);
        let own = json!({
            "profiles": ["default", "web"],
            "limits": { "memory": "64MiB" },
            "devices": { "eth0": { "type": "none" } },
        });
        let document = under_profiles(&item("instance/web", spec), &own, &profiles);
        let mut wanted = own;
        wanted["image"] = json!("tiny");
        // Another default than that of a server.
        wanted["security"] = json!({ "idmap": { "isolated": false } });
        assert_eq!(document["spec"], wanted);
        let (address, web) = profile("web", json!({}));
        let document = of_profile(&address, &web);
        assert_eq!(
            document["metadata"]["annotations"]["description"],
            "what it is for"
        );
        assert_eq!(document.get("spec"), None);
    }

    fn item(address: &str, spec: Spec) -> Item {
        Item {
            address: address.parse().expect("an address"),
            mark: None,
            complete: true,
            spec,
            last_told: None,
            unseen: Vec::new(),
            remembered: None,
            holds: Holds::default(),
            status: Value::Null,
        }
    }

    #[test]
    fn only_what_is_not_as_by_default_is_written() {
        let written = json!({
            "image": "busybox",
            "limits": { "memory": "64MiB", "cpu": 2 },
            "environment": {
                "A": "b",
                "WORD": { "secretRef": { "name": "db", "key": "password" } },
            },
            "devices": {
                "root": { "type": "disk", "path": "/", "pool": "fast" },
                "eth0": { "type": "nic", "network": "lan", "ipv4": "10.0.0.2" },
            },
        });
        let spec = Spec::deserialize(Kind::Instance, written.clone()).expect("a spec");
        let document = document(&item("instance/web", spec));
        assert_eq!(document["spec"], written);
        assert_eq!(document["lifecycle"], json!({ "adopt": true }));
        let pool = Item {
            mark: Some(Mark {
                source: SourceName::new("edge"),
                uid: Uid::derive(
                    &uuid::Uuid::nil(),
                    &"storage-pool/fast".parse().expect("one"),
                ),
            }),
            remembered: Some(Remembered {
                prune: Prune::Delete,
                protect: false,
            }),
            ..item("storage-pool/fast", Spec::default_of(Kind::StoragePool))
        };
        assert_eq!(
            super::document(&pool),
            json!({
                "apiVersion": API_VERSION,
                "kind": "StoragePool",
                "metadata": { "name": "fast" },
                "lifecycle": { "prune": "delete" },
            })
        );
    }
}
