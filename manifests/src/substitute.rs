//! `${var.NAME}` and `${each.…}` in scalar values; every other `${…}` is literal text.

use std::collections::BTreeMap;

use crate::diagnostic::{Code, Diagnostic, Diagnostics};
use crate::tree::{Key, Node, Value};

/// A variable that nobody declared.
pub const UNDEFINED: Code = Code("E0115");

/// What a variable can be, as `type` says.
pub const TYPES: [&str; 3] = ["string", "integer", "boolean"];

/// A variable in a key.
pub const IN_A_KEY: Code = Code("E0120");

/// What is filled in, by whole names: `var.env`, `each.index`.
pub type Known = BTreeMap<String, Value>;

/// What is filled in at once; the names of the other group are literal text meanwhile.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Group {
    /// `${var.NAME}`: before layers are put together.
    Variables,
    /// `${each.…}`: when one document becomes many.
    Each,
}

impl Group {
    const fn prefix(self) -> &'static str {
        match self {
            Self::Variables => "var.",
            Self::Each => "each.",
        }
    }
}

/// The text of a scalar as it is filled into another; none for what is no scalar.
pub fn text(value: &Value) -> Option<&str> {
    match value {
        Value::Text(text) | Value::Integer(text) | Value::Float(text) => Some(text),
        Value::Bool(true) => Some("true"),
        Value::Bool(false) => Some("false"),
        Value::Null | Value::List(_) | Value::Map(_) => None,
    }
}

/// Fills in the values of a tree. A value that is one variable and nothing else becomes what the variable is, as if it
/// had been written there.
pub fn fill(node: &mut Node, group: Group, known: &Known, out: &mut Diagnostics) {
    match &mut node.value {
        Value::Map(entries) => {
            for (key, below) in entries {
                if group == Group::Variables && key.name.contains("${") {
                    out.extend(in_a_key(key));
                }
                fill(below, group, known, out);
            }
        }
        Value::List(items) => {
            for below in items {
                fill(below, group, known, out);
            }
        }
        Value::Text(text) if text.contains("${") => {
            let whole = text
                .strip_prefix("${")
                .and_then(|rest| rest.strip_suffix('}'));
            if let Some(value) = whole.and_then(|name| known.get(name)) {
                node.value = value.clone();
                return;
            }
            let filled = filled(text, group, known, |name| {
                out.push(undefined(name, known, node.place.origin()));
            });
            node.value = Value::Text(filled.into());
        }
        _ => {}
    }
}

/// A text with what is known filled in; names of the group that are not known stay.
pub fn filled(pattern: &str, group: Group, known: &Known, mut missing: impl FnMut(&str)) -> String {
    let mut filled = String::with_capacity(pattern.len());
    let mut rest = pattern;
    while let Some(at) = rest.find("${") {
        filled.push_str(&rest[..at]);
        let name = rest[at + 2..].split_once('}').map(|(name, _)| name);
        let ours = name.filter(|name| name.starts_with(group.prefix()));
        match ours.map(|name| (name, known.get(name).and_then(text))) {
            Some((name, Some(value))) => {
                filled.push_str(value);
                rest = &rest[at + name.len() + 3..];
                continue;
            }
            Some((name, None)) => missing(name),
            None => {}
        }
        filled.push_str("${");
        rest = &rest[at + 2..];
    }
    filled.push_str(rest);
    filled
}

/// A key says what is meant; what it says is not put together from parts.
fn in_a_key(key: &Key) -> Diagnostics {
    let mut found = Diagnostics::default();
    let names = key.name.split("${").skip(1);
    for name in names.filter_map(|part| part.split_once('}').map(|(name, _)| name)) {
        if name.starts_with("var.") || name.starts_with("each.") {
            let message = format!("`${{{name}}}` in a key: variables stand in values only");
            found.push(
                Diagnostic::error(IN_A_KEY, key.place.origin(), message)
                    .hint("write the key out, or patch it in by a layer"),
            );
        }
    }
    found
}

fn undefined(name: &str, known: &Known, origin: crate::diagnostic::Origin) -> Diagnostic {
    // The part before the dot is right already, and would make everything alike.
    let (group, own) = name.split_once('.').unwrap_or(("var", name));
    let names: Vec<&str> = known
        .keys()
        .filter_map(|known| known.strip_prefix(group)?.strip_prefix('.'))
        .collect();
    let found = Diagnostic::error(UNDEFINED, origin, format!("`${{{name}}}` is not defined"));
    match crate::near_miss::nearest(own, &names) {
        Some(near) => found.hint(format!("did you mean `${{{group}.{near}}}`?")),
        None if name.starts_with("each.") => found
            .hint("`${each.value}` and `${each.index}` are known where the document has `forEach`"),
        None => found.hint("declare it under `variables` of keel.yaml"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::Place;

    #[test]
    fn values_keep_what_they_are_and_texts_are_joined() {
        let known = Known::from([
            ("var.count".to_owned(), Value::Integer("3".into())),
            ("var.yes".to_owned(), Value::Bool(true)),
            ("var.digits".to_owned(), Value::Text("007".into())),
        ]);
        let one = |text: &str| {
            let mut node = Node {
                place: Place::nowhere(),
                value: Value::Text(text.into()),
            };
            let mut out = Diagnostics::default();
            fill(&mut node, Group::Variables, &known, &mut out);
            (node.value, out.is_empty())
        };
        let text = |text: &str| Value::Text(text.into());
        assert_eq!(one("${var.count}"), (Value::Integer("3".into()), true));
        assert_eq!(one("${var.yes}"), (Value::Bool(true), true));
        assert_eq!(one("${var.digits}"), (text("007"), true));
        assert_eq!(one("a${var.count}${var.yes}"), (text("a3true"), true));
        assert_eq!(one("${HOME} ${var"), (text("${HOME} ${var"), true));
        assert_eq!(one("${var.cuont}"), (text("${var.cuont}"), false));
        assert_eq!(one("${each.value}"), (text("${each.value}"), true));
    }
}
