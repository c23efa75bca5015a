//! `${var.NAME}` and `${each.…}` in scalar values; every other `${…}` is literal text.

use std::collections::BTreeMap;

use crate::diagnostic::{Code, Diagnostic, Diagnostics};
use crate::tree::{Node, Value};

/// A variable that nobody declared.
pub const UNDEFINED: Code = Code("E0115");

/// Fills in the values of a tree. `known` holds whole names: `var.env`, `each.index`.
pub fn fill(node: &mut Node, known: &BTreeMap<String, String>, out: &mut Diagnostics) {
    match &mut node.value {
        Value::Map(entries) => {
            for (_, below) in entries {
                fill(below, known, out);
            }
        }
        Value::List(items) => {
            for below in items {
                fill(below, known, out);
            }
        }
        Value::Text(text) if text.contains("${") => {
            let mut filled = String::with_capacity(text.len());
            let mut rest: &str = text;
            while let Some(at) = rest.find("${") {
                filled.push_str(&rest[..at]);
                let name = rest[at + 2..].split_once('}').map(|(name, _)| name);
                let ours =
                    name.filter(|name| name.starts_with("var.") || name.starts_with("each."));
                match ours.map(|name| (name, known.get(name))) {
                    Some((name, Some(value))) => {
                        filled.push_str(value);
                        rest = &rest[at + name.len() + 3..];
                        continue;
                    }
                    Some((name, None)) => {
                        let names: Vec<&str> = known.keys().map(String::as_str).collect();
                        let found = Diagnostic::error(
                            UNDEFINED,
                            node.place.origin(),
                            format!("`${{{name}}}` is not defined"),
                        );
                        out.push(match crate::decode::nearest(name, &names) {
                            Some(near) => found.hint(format!("did you mean `${{{near}}}`?")),
                            None => found.hint("declare it under `variables` of keel.yaml"),
                        });
                    }
                    None => {}
                }
                filled.push_str("${");
                rest = &rest[at + 2..];
            }
            filled.push_str(rest);
            // What was a number as a variable is one in its place, as if it had been written there.
            let number = filled.bytes().all(|b| b.is_ascii_digit()) && !filled.is_empty();
            node.value = if number {
                Value::Integer(filled.into())
            } else {
                Value::Text(filled.into())
            };
        }
        _ => {}
    }
}
