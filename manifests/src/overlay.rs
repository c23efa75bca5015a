//! A spec with some fields as somebody else has them: as they live, as an instance was started with them.

use serde_json::{Map, Value};

use crate::kind::Spec;
use crate::pointer::Pointer;

/// The spec with these values at these places below `/spec`; null takes a field out, steps that are not there are made.
///
/// # Errors
/// A value does not fit the type of its field.
pub fn overlay<'a>(
    spec: &Spec,
    fields: impl IntoIterator<Item = (&'a Pointer, &'a Value)>,
) -> Result<Spec, serde_json::Error> {
    let mut fields = fields.into_iter().peekable();
    if fields.peek().is_none() {
        return Ok(spec.clone());
    }
    let mut value = spec.to_value();
    for (path, field) in fields {
        put(&mut value, path, field);
    }
    Spec::deserialize(spec.kind(), value)
}

fn put(spec: &mut Value, path: &Pointer, value: &Value) {
    let steps: Vec<String> = path.steps().skip(1).collect();
    let Some((last, above)) = steps.split_last() else {
        return;
    };
    let mut at = spec;
    for step in above {
        if at.is_null() {
            *at = Value::Object(Map::new());
        }
        let next = match at {
            Value::Object(map) => map.entry(step.clone()).or_insert(Value::Null),
            Value::Array(list) => match step.parse::<usize>().ok().and_then(|n| list.get_mut(n)) {
                Some(element) => element,
                None => return,
            },
            _ => return,
        };
        at = next;
    }
    if at.is_null() {
        *at = Value::Object(Map::new());
    }
    if let Value::Object(map) = at {
        if value.is_null() {
            map.shift_remove(last);
        } else {
            map.insert(last.clone(), value.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kind::Kind;

    #[test]
    fn values_are_put_and_taken_out() {
        let spec = Spec::deserialize(
            Kind::Instance,
            serde_json::json!({"image": "busybox", "environment": {"A": "1", "B": "2"}}),
        )
        .expect("a spec");
        let (a, b, c) = (
            Pointer::new("/spec/environment/A"),
            Pointer::new("/spec/environment/B"),
            Pointer::new("/spec/limits/memory"),
        );
        let fields = [
            (&a, &Value::from("9")),
            (&b, &Value::Null),
            (&c, &Value::from("1GiB")),
        ];
        let value = overlay(&spec, fields).expect("a spec").to_value();
        assert_eq!(value["environment"], serde_json::json!({"A": "9"}));
        assert_eq!(value["limits"]["memory"], "1GiB");
        let bad = overlay(&spec, [(&c, &Value::from("much"))]);
        assert!(bad.is_err());
    }
}
