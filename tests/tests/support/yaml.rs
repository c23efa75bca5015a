//! YAML of tests as JSON, by the parser of the language.

use manifests::tree::{Node, Value as Tree};
use serde_json::Value;

/// The documents of a text; one that is no YAML is left out.
pub(crate) fn documents(text: &str) -> Vec<Value> {
    let (nodes, _) = manifests::parse::parse("test.yaml", text);
    nodes.iter().map(json).collect()
}

/// A tree as JSON; a number that JSON does not have is a text.
fn json(node: &Node) -> Value {
    match &node.value {
        Tree::Null => Value::Null,
        Tree::Bool(yes) => Value::Bool(*yes),
        Tree::Integer(text) => text
            .parse::<i64>()
            .map_or_else(|_| Value::String(text.to_string()), Value::from),
        Tree::Float(text) => text
            .parse::<f64>()
            .map_or_else(|_| Value::String(text.to_string()), Value::from),
        Tree::Text(text) => Value::String(text.to_string()),
        Tree::List(items) => items.iter().map(json).collect(),
        Tree::Map(entries) => Value::Object(
            entries
                .iter()
                .map(|(key, node)| (key.name.clone(), json(node)))
                .collect(),
        ),
    }
}
