//! Makes a typed spec of what was read, leaving out what does not fit its type.

use manifests::kind::{Kind, Spec};
use manifests::observed::Unseen;
use manifests::pointer::Pointer;
use serde_json::Value;

/// The spec of a kind. A value that its field does not take is left out and told.
pub(super) fn typed(
    kind: Kind,
    mut value: Value,
    unseen: &mut Vec<Unseen>,
) -> Result<Spec, String> {
    match Spec::deserialize(kind, &value) {
        Ok(spec) => return Ok(spec),
        Err(error) => {
            tracing::debug!(%error, "a value of the server does not fit");
        }
    }
    let mut leaves = Vec::new();
    collect(&value, &mut Vec::new(), &mut leaves);
    for leaf in leaves {
        let mut alone = Value::Null;
        let Some(found) = find(&value, &leaf) else {
            continue;
        };
        // The type of a device says which fields it has.
        if let [devices, name, ..] = leaf.as_slice()
            && devices == "devices"
        {
            let word = vec![devices.clone(), name.clone(), "type".to_owned()];
            if let Some(word_of) = find(&value, &word) {
                place(&mut alone, &word, word_of.clone());
            }
        }
        place(&mut alone, &leaf, found.clone());
        if let Err(error) = Spec::deserialize(kind, &alone) {
            let path = leaf
                .iter()
                .fold(Pointer::new("/spec"), |at, step| at.field(step));
            unseen.push(Unseen {
                path,
                why: format!("the server has `{found}`: {error}"),
            });
            remove(&mut value, &leaf);
        }
    }
    Spec::deserialize(kind, &value).map_err(|error| error.to_string())
}

fn collect(value: &Value, at: &mut Vec<String>, out: &mut Vec<Vec<String>>) {
    match value {
        Value::Object(map) if !map.is_empty() => {
            for (key, below) in map {
                at.push(key.clone());
                collect(below, at, out);
                at.pop();
            }
        }
        _ => out.push(at.clone()),
    }
}

fn find<'a>(value: &'a Value, path: &[String]) -> Option<&'a Value> {
    path.iter().try_fold(value, |value, step| value.get(step))
}

fn place(value: &mut Value, path: &[String], leaf: Value) {
    let mut at = value;
    for step in path {
        if !at.is_object() {
            *at = Value::Object(serde_json::Map::new());
        }
        at = &mut at[step.as_str()];
    }
    *at = leaf;
}

fn remove(value: &mut Value, path: &[String]) {
    let Some((last, above)) = path.split_last() else {
        return;
    };
    let found = above
        .iter()
        .try_fold(value, |value, step| value.get_mut(step));
    if let Some(Value::Object(map)) = found {
        map.shift_remove(last);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_does_not_fit_is_left_out_and_told() {
        let value = json!({
            "limits": {"memory": "lots", "processes": 7},
            "devices": {"root": {"type": "disk", "path": "/", "pool": "fast", "size": "big"}},
        });
        let mut unseen = Vec::new();
        let spec = typed(Kind::Instance, value, &mut unseen).expect("the rest");
        let paths: Vec<&str> = unseen.iter().map(|one| one.path.as_str()).collect();
        assert_eq!(paths, ["/spec/limits/memory", "/spec/devices/root/size"]);
        let read = spec.to_value();
        assert_eq!(read["limits"]["processes"], 7);
        assert_eq!(read["devices"]["root"]["pool"], "fast");
    }
}
