//! A live object as a manifest that somebody could have written: only what is not as by default.

use manifests::envelope::API_VERSION;
use manifests::kind::{Kind, Spec};
use manifests::lifecycle::Lifecycle;
use manifests::observed::Item;
use manifests::secret::as_written;
use serde_json::{Map, Value, json};

/// The document of an object, with what is remembered of how it is treated. One that nobody owns asks to be taken over.
pub fn document(item: &Item) -> Value {
    let address = &item.address;
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
    let spec = least(address.kind, &item.spec);
    if spec.as_object().is_none_or(|fields| !fields.is_empty()) {
        document["spec"] = spec;
    }
    let usual = Lifecycle::default_of(address.kind);
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
