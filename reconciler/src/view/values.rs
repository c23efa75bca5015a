//! Values in reports that others read: never what is in a file or handed to cloud-init.

use manifests::pointer::Pointer;
use serde_json::Value;

use super::text;

/// What stands for a text that is not shown.
const BODY: &str = "(a text, not shown)";

/// Fields that hold bodies: files, user data, credentials. A step `*` is any name.
const BODIES: &[&str] = &[
    "/spec/files/*/content",
    "/spec/cloudInit/userData",
    "/spec/cloudInit/vendorData",
    "/spec/cloudInit/networkConfig",
    "/spec/cloudInit/parts/*",
    "/spec/credentials/*",
];

/// A value as [`text::shown`] shows it, at most so many columns, and without bodies.
pub fn reported(path: &Pointer, value: &Value, columns: usize) -> String {
    text::cut(&text::shown(&without_bodies(path, value)), columns)
}

/// Two values of a field as [`reported`] shows them, both from where they differ if that would be cut off, and whether
/// something of them was.
pub fn reported_both(path: &Pointer, values: [&Value; 2], columns: usize) -> ([String; 2], bool) {
    let [first, second] = values.map(|value| text::shown(&without_bodies(path, value)));
    if text::width(&first).max(text::width(&second)) <= columns {
        return ([first, second], false);
    }
    let (first, second) = text::differing(&first, &second, columns);
    (
        [first, second].map(|value| text::cut(&value, columns)),
        true,
    )
}

/// Whether something of a value is a body.
pub fn has_bodies(path: &Pointer, value: &Value) -> bool {
    without_bodies(path, value) != *value
}

/// The value without the bodies in it, whether the path leads to one or above one.
fn without_bodies(path: &Pointer, value: &Value) -> Value {
    let is_body = BODIES
        .iter()
        .any(|pattern| Pointer::new(pattern).matches(path));
    match value {
        Value::Null => Value::Null,
        _ if is_body => Value::String(BODY.to_owned()),
        Value::Object(fields) => Value::Object(
            fields
                .iter()
                .map(|(key, value)| (key.clone(), without_bodies(&path.field(key), value)))
                .collect(),
        ),
        Value::Array(items) => Value::Array(
            items
                .iter()
                .enumerate()
                .map(|(index, value)| without_bodies(&path.index(index), value))
                .collect(),
        ),
        other => other.clone(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn bodies_are_never_shown() {
        let canary = "canary-7f3a";
        for (path, value) in [
            ("/spec/files/~1etc~1motd/content", json!(canary)),
            (
                "/spec/files/~1etc~1motd",
                json!({"content": canary, "mode": "0644"}),
            ),
            ("/spec/files", json!({"/etc/motd": {"content": canary}})),
            ("/spec/cloudInit/userData", json!({"users": [canary]})),
            ("/spec/cloudInit/userData/users", json!([canary])),
            ("/spec/cloudInit", json!({"parts": {"a": canary}})),
            ("/spec", json!({"credentials": {"key": canary}})),
        ] {
            let shown = reported(&Pointer::new(path), &value, 500);
            assert!(!shown.contains(canary), "{path}: {shown}");
            assert!(shown.contains("not shown"), "{path}: {shown}");
        }
        let memory = Pointer::new("/spec/limits/memory");
        assert_eq!(reported(&memory, &json!("512MiB"), 500), "512MiB");
        assert_eq!(reported(&memory, &json!("x".repeat(9)), 4), "xxx…");
        let long = |end: &str| json!("x".repeat(90) + end);
        let (both, cut) = reported_both(&memory, [&long("old"), &long("new")], 50);
        assert_eq!(both, ["…xxxxxxxxold", "…xxxxxxxxnew"]);
        assert!(cut);
        let ([was, is], cut) = reported_both(&memory, [&json!(null), &json!("1GiB")], 9);
        assert_eq!((was.as_str(), is.as_str(), cut), ("(unset)", "1GiB", false));
        let motd = Pointer::new("/spec/files/~1etc~1motd/content");
        assert_eq!(reported(&motd, &json!(null), 500), "(unset)");
    }
}
