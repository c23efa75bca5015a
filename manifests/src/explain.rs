//! What a field is, from the declarations of the fields: type, default, words, what a change costs, an example.

mod shape;

use std::collections::BTreeMap;
use std::sync::LazyLock;

use serde_json::Value;

use shape::{child, properties, settled, text, type_of, variants, words};

use crate::effect::Effect;
use crate::effect_table;
use crate::kind::Kind;
use crate::near_miss::nearest;
use crate::pointer::Pointer;
use crate::schema;

/// A field, a part or a kind.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Field {
    /// As people write it: `instance.spec.limits.memory`.
    pub path: String,
    /// What it is called in sentences of types: `a text`, `a list of texts`, `true or false`.
    pub r#type: String,
    /// What it means.
    pub description: String,
    /// What it is where nobody says; none: absent, or told in the description.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub default: Option<Value>,
    /// The words that are possible, with what they mean.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub words: Vec<(String, String)>,
    /// What a change of it costs while the object runs; none for what is no part of a spec.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub change: Option<Effect>,
    /// YAML that shows it.
    pub example: String,
    /// The fields in it: name, type, description.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub fields: Vec<(String, String, String)>,
}

/// A word that names no field.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("there is no field `{step}` in {inside}")]
pub struct NoField {
    /// The step that is wrong.
    pub step: String,
    /// What it was looked for in.
    pub inside: String,
    /// The nearest right path, where one is near.
    pub nearest: Option<String>,
    /// The fields that are there.
    pub known: Vec<String>,
}

/// Explains a field by its path: `instance.spec.limits.memory`, `instance.limits.memory`, `limits.memory`, `Network`,
/// `source.budget`. Without a kind it is one of Instance.
///
/// # Errors
/// There is no such field.
pub fn field(path: &str) -> Result<Field, NoField> {
    let steps: Vec<&str> = path
        .split(['.', '/'])
        .filter(|step| !step.is_empty())
        .collect();
    let (first, rest) = match steps.split_first() {
        Some((first, rest)) => (*first, rest),
        None => ("", &[][..]),
    };
    if first.eq_ignore_ascii_case("source") || first == "keel" {
        return walk("source", None, &schema::of_source_plain(), rest);
    }
    if let Some(kind) = Kind::from_word(first) {
        return walk(kind.word(), Some(kind), &schema::of_kind_plain(kind), rest);
    }
    let of_instance = walk(
        Kind::Instance.word(),
        Some(Kind::Instance),
        &schema::of_kind_plain(Kind::Instance),
        &steps,
    );
    of_instance.map_err(|wrong| {
        if wrong.step != first {
            return wrong;
        }
        let kinds: Vec<&str> = Kind::ALL.iter().map(|kind| kind.word()).collect();
        match (nearest(first, &kinds), &wrong.nearest) {
            (Some(kind), None) => NoField {
                nearest: Some(kind.to_owned()),
                ..wrong
            },
            _ => wrong,
        }
    })
}

/// Where the documents of a kind have a field of this name: the shortest path of it. Maps by name, such as devices, are
/// not looked into.
pub fn place_of(kind: Kind, name: &str) -> Option<&'static [String]> {
    type Places = BTreeMap<String, Vec<String>>;
    // One mistake in a profile shows in each of its instances.
    static PLACES: LazyLock<BTreeMap<Kind, Places>> = LazyLock::new(|| {
        Kind::ALL
            .iter()
            .map(|kind| (*kind, places(*kind)))
            .collect()
    });
    Some(PLACES.get(&kind)?.get(&name.to_lowercase())?.as_slice())
}

/// Where each field of a kind is, by its name in small letters.
fn places(kind: Kind) -> BTreeMap<String, Vec<String>> {
    /// No field lies deeper.
    const DEEPEST: usize = 5;
    let root = schema::of_kind_plain(kind);
    let mut places = BTreeMap::new();
    let mut level = vec![(Vec::new(), root.clone())];
    for _ in 0..DEEPEST {
        let mut below = Vec::new();
        for (path, node) in &level {
            let node = settled(node, &root);
            // What stands in an element of a list stands nowhere for sure.
            if node.get("items").is_some() {
                continue;
            }
            for (field, node) in properties(&node, &root) {
                let path: Vec<String> = path.iter().chain([&field]).cloned().collect();
                places
                    .entry(field.to_lowercase())
                    .or_insert_with(|| path.clone());
                below.push((path, node));
            }
        }
        level = below;
    }
    places
}

/// Parts of the envelope: a path that begins with none of them is one of the spec.
const ENVELOPE: [&str; 6] = [
    "metadata",
    "spec",
    "lifecycle",
    "forEach",
    "dependsOn",
    "apiVersion",
];

fn walk(word: &str, kind: Option<Kind>, root: &Value, steps: &[&str]) -> Result<Field, NoField> {
    let mut shown = word.to_owned();
    let mut pointer = Pointer::root();
    let mut node = root.clone();
    let mut steps: Vec<&str> = steps.to_vec();
    if kind.is_some()
        && steps
            .first()
            .is_some_and(|step| !ENVELOPE.contains(step) && *step != "kind")
    {
        steps.insert(0, "spec");
    }
    for step in steps {
        let node_here = settled(&node, root);
        let Some(next) = child(&node_here, root, step) else {
            let known: Vec<String> = properties(&node_here, root)
                .into_iter()
                .map(|(name, _)| name)
                .collect();
            let words: Vec<&str> = known.iter().map(String::as_str).collect();
            return Err(NoField {
                step: step.to_owned(),
                nearest: nearest(step, &words).map(|near| format!("{shown}.{near}")),
                inside: shown,
                known,
            });
        };
        shown.push('.');
        shown.push_str(step);
        pointer = pointer.field(step);
        node = next;
    }
    Ok(described(shown, kind, &pointer, &node, root))
}

fn described(
    path: String,
    kind: Option<Kind>,
    pointer: &Pointer,
    node: &Value,
    root: &Value,
) -> Field {
    let description =
        text(node, "description").or_else(|| text(&settled(node, root), "description"));
    let whole = settled(node, root);
    let words = words(&whole, root);
    let of_spec = pointer.as_str().starts_with("/spec/");
    let mut below = properties(&whole, root);
    if below.is_empty()
        && let Some(element) = whole.get("additionalProperties")
    {
        // The devices, by the word of their type.
        below = variants(&settled(element, root));
    }
    let fields = below
        .into_iter()
        .filter(|(name, _)| name != "$schema")
        .map(|(name, below)| {
            let description =
                text(&below, "description").or_else(|| text(&settled(&below, root), "description"));
            let first = description.unwrap_or_default();
            let sentence = first
                .split_once(". ")
                .map_or(first.as_str(), |(sentence, _)| sentence);
            (
                name,
                type_of(&below, root),
                sentence.trim_end_matches('.').to_owned(),
            )
        })
        .collect();
    Field {
        r#type: type_of(node, root),
        description: description.unwrap_or_default(),
        default: node
            .get("default")
            .filter(|default| says_something(default))
            .cloned(),
        change: kind
            .filter(|_| of_spec)
            .map(|kind| effect_table::effect(kind, pointer)),
        example: example(kind, pointer, &whole, root, node, &words),
        words,
        fields,
        path,
    }
}

fn says_something(default: &Value) -> bool {
    match default {
        Value::Null | Value::Object(_) => false,
        Value::Array(items) => !items.is_empty(),
        Value::String(text) => !text.is_empty(),
        _ => true,
    }
}

fn example(
    kind: Option<Kind>,
    pointer: &Pointer,
    whole: &Value,
    root: &Value,
    node: &Value,
    words: &[(String, String)],
) -> String {
    let value = whole
        .get("examples")
        .and_then(Value::as_array)
        .and_then(|examples| examples.first())
        .or_else(|| {
            node.get("default")
                .filter(|default| says_something(default))
        })
        .map(|value| serde_json::to_string(value).unwrap_or_default());
    let value = value.unwrap_or_else(|| match words.first() {
        Some((word, _)) => word.clone(),
        None => match type_of(node, root).as_str() {
            "true or false" => "true".to_owned(),
            "a whole number" | "a number" => "1".to_owned(),
            kind if kind.starts_with("a list") => "[…]".to_owned(),
            kind if kind.starts_with("a map") => "{ … }".to_owned(),
            _ => "…".to_owned(),
        },
    });
    // A plain word needs no quotes.
    let simple = value
        .strip_prefix('"')
        .and_then(|rest| rest.strip_suffix('"'))
        .filter(|inner| {
            !inner.is_empty()
                && inner.starts_with(|c: char| c.is_ascii_alphanumeric())
                && !inner
                    .bytes()
                    .all(|b| b.is_ascii_digit() || b"-,.".contains(&b))
                && inner
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || b"-./%".contains(&b))
        });
    let value = simple.unwrap_or(&value);
    let mut out = String::new();
    let steps: Vec<String> = pointer.steps().collect();
    if let (Some(kind), true) = (kind, steps.is_empty()) {
        return format!(
            "apiVersion: evenkeel/v1\nkind: {}\nmetadata: {{ name: … }}\nspec: {{ … }}\n",
            kind.name()
        );
    }
    for (depth, step) in steps.iter().enumerate() {
        out.push_str(&"  ".repeat(depth));
        out.push_str(step);
        out.push(':');
        if depth + 1 == steps.len() {
            out.push(' ');
            out.push_str(value);
        }
        out.push('\n');
    }
    out
}

#[cfg(test)]
mod tests;
