//! Changing one written value in a text and nothing else: comments, order, quotes and ends of lines stay.

use crate::parse::parse;
use crate::tree::{Node, Value};

/// Why a value is not changed where it is written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EditError {
    /// The place is not in the text: it was changed since.
    #[error("the file is not as it was read")]
    Changed,
    /// It comes from a variable or a loop.
    #[error("it is written as `{0}`: change what that stands for")]
    Filled(String),
    /// It is shared by an anchor, bears a tag, or is a block of several lines.
    #[error("it is written as `{0}`, which is not changed by a machine")]
    Shared(String),
    /// Another value stands there: a name without its prefix, or what a patch copied.
    #[error("`{0}` is written there, and not what counts")]
    Other(String),
    /// What lives would be read as a variable or a loop.
    #[error("`{0}` lives, which a manifest cannot say: it would stand for a variable")]
    Variable(String),
    /// The new value is no text, number or truth value.
    #[error("only texts, numbers and truth values are written by this")]
    Form,
}

/// A text in which the scalar at these bytes, which says `was`, says `is`.
///
/// # Errors
/// Something else is written there.
pub fn scalar(
    text: &str,
    bytes: (u32, u32),
    was: &serde_json::Value,
    is: &serde_json::Value,
) -> Result<String, EditError> {
    let range = bytes.0 as usize..bytes.1 as usize;
    let written = text.get(range.clone()).ok_or(EditError::Changed)?;
    let shown = || written.chars().take(60).collect::<String>();
    if has_variable(written) {
        return Err(EditError::Filled(shown()));
    }
    if written.starts_with(['*', '&', '!', '|', '>', '{', '[']) || written.contains('\n') {
        return Err(EditError::Shared(shown()));
    }
    // A value with an anchor stands wherever its alias does.
    let before = text[..range.start]
        .trim_end()
        .rsplit([' ', '\n', ',', '[', '{']);
    if let Some(anchor) = before.take(1).find(|word| word.starts_with(['&', '!'])) {
        return Err(EditError::Shared(format!("{anchor} {}", shown())));
    }
    let is = spelling(is).ok_or(EditError::Form)?;
    if has_variable(&is) {
        return Err(EditError::Variable(is));
    }
    if read(written).is_none() || read(written) != spelling(was) {
        return Err(EditError::Other(shown()));
    }
    let mut changed = String::with_capacity(text.len() + is.len());
    changed.push_str(&text[..range.start]);
    changed.push_str(&as_written(&is, written));
    changed.push_str(&text[range.end..]);
    Ok(changed)
}

/// Whether something is filled in; every other `${…}` is literal text.
fn has_variable(text: &str) -> bool {
    ["${var.", "${each."]
        .iter()
        .any(|begin| text.contains(begin))
}

/// A scalar of JSON as people spell it.
fn spelling(value: &serde_json::Value) -> Option<String> {
    match value {
        serde_json::Value::String(text) => Some(text.clone()),
        serde_json::Value::Number(number) => Some(number.to_string()),
        serde_json::Value::Bool(truth) => Some(truth.to_string()),
        _ => None,
    }
}

/// What a scalar of YAML says.
fn read(written: &str) -> Option<String> {
    let (documents, found) = parse("", &format!("a: {written}\n"));
    let [document] = documents.as_slice() else {
        return None;
    };
    if found.has_errors() {
        return None;
    }
    match &document.get("a")?.value {
        Value::Text(text) | Value::Integer(text) | Value::Float(text) => Some(text.to_string()),
        Value::Bool(truth) => Some(truth.to_string()),
        Value::Null | Value::List(_) | Value::Map(_) => None,
    }
}

/// The new value in the quotes of the old one, or in those that it needs.
fn as_written(value: &str, old: &str) -> String {
    let quoted = format!("'{}'", value.replace('\'', "''"));
    let double = serde_json::Value::from(value).to_string();
    if old.starts_with('\'') && !value.contains(['\n', '\r']) {
        return quoted;
    }
    // In braces a comma ends a plain value, also where it would be one elsewhere.
    let is_plain = |node: &Node| matches!(&node.value, Value::Text(text) if **text == *value);
    let in_braces = parse("", &format!("[{value}]\n"));
    let as_text = in_braces.1.is_empty()
        && matches!(
            in_braces.0.first().map(|node| &node.value),
            Some(Value::List(items)) if matches!(items.as_slice(), [one] if is_plain(one))
        );
    let same_kind = !old.starts_with('"') && read(value).as_deref() == Some(value);
    if same_kind && (as_text || value.parse::<f64>().is_ok() || ["true", "false"].contains(&value))
    {
        return value.to_owned();
    }
    double
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    /// Changes the value of `a`.
    fn changed(
        text: &str,
        was: &serde_json::Value,
        is: &serde_json::Value,
    ) -> Result<String, EditError> {
        let (documents, _) = parse("x", text);
        let node = documents
            .iter()
            .find_map(|document| document.get("a"))
            .expect("a");
        scalar(text, node.place.bytes, was, is)
    }

    #[test]
    fn one_value_changes_and_nothing_else() {
        for (text, was, is, expected) in [
            (
                "# one\na: 64MiB   # why\nb: 2\n",
                json!("64MiB"),
                json!("128MiB"),
                "# one\na: 128MiB   # why\nb: 2\n",
            ),
            ("a: 2\r\nb: 2\r\n", json!(2), json!(4), "a: 4\r\nb: 2\r\n"),
            (
                "\u{feff}a: true\n",
                json!(true),
                json!(false),
                "\u{feff}a: false\n",
            ),
            (
                "{ b: 1, a: 'x', c: 2 }\n",
                json!("x"),
                json!("it's"),
                "{ b: 1, a: 'it''s', c: 2 }\n",
            ),
            ("a: \"x\"\n", json!("x"), json!("y"), "a: \"y\"\n"),
            (
                "{a: x, b: 1}\n",
                json!("x"),
                json!("y, z"),
                "{a: \"y, z\", b: 1}\n",
            ),
            (
                "a: x\n",
                json!("x"),
                json!("y: z # no"),
                "a: \"y: z # no\"\n",
            ),
            (
                "b: 1\n---\nc: 2\na: x\n",
                json!("x"),
                json!("- y"),
                "b: 1\n---\nc: 2\na: \"- y\"\n",
            ),
            ("ü: 1\na: x\n", json!("x"), json!("ü"), "ü: 1\na: ü\n"),
            (
                "a: ${HOME}/x $${PATH\n",
                json!("${HOME}/x $${PATH"),
                json!("${HOME}/y"),
                "a: \"${HOME}/y\"\n",
            ),
        ] {
            assert_eq!(changed(text, &was, &is).as_deref(), Ok(expected), "{text}");
        }
    }

    #[test]
    fn what_stands_for_something_else_is_left() {
        for (text, was) in [
            ("a: ${var.size}\n", json!("64MiB")),
            ("a: web-${each.index}\n", json!("web-0")),
            ("b: &x 1\na: *x\n", json!(1)),
            ("a: |\n  x\n", json!("x\n")),
            ("a: web\n", json!("prod-web")),
            ("a: { b: 1 }\n", json!({ "b": 1 })),
            ("a: x\n", json!(null)),
        ] {
            assert!(changed(text, &was, &json!("y")).is_err(), "{text}");
        }
        assert_eq!(
            changed("a: x\n", &json!("x"), &json!([1])),
            Err(EditError::Form)
        );
        assert_eq!(
            changed("a: x\n", &json!("x"), &json!("${var.y}")),
            Err(EditError::Variable("${var.y}".to_owned()))
        );
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(value in "\\PC{0,20}", quote in 0..3_usize) {
            let text = ["{a: x, b: 1}\n", "{a: 'x', b: 1}\n", "{a: \"x\", b: 1}\n"][quote];
            let after = changed(text, &json!("x"), &json!(value)).expect("changed");
            let (documents, found) = parse("x", &after);
            prop_assert!(!found.has_errors(), "{after}");
            let says = documents[0].get("a").expect("a");
            let said = match &says.value {
                Value::Text(text) | Value::Integer(text) | Value::Float(text) => text.to_string(),
                Value::Bool(truth) => truth.to_string(),
                other => panic!("{other:?} in {after}"),
            };
            prop_assert_eq!(said, value);
            prop_assert!(documents[0].get("b").is_some());
        }
    }
}
