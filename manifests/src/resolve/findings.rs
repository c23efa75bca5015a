//! Findings and nodes that several parts make.

use super::*;
use crate::id::NotAnAddress;

/// A map without entries.
pub(super) fn empty_map(place: &Place) -> Node {
    Node {
        place: place.clone(),
        value: Value::Map(Vec::new()),
    }
}

/// Whether a document is a map; tells if it is not.
pub(super) fn is_map(node: &Node, found: &mut Diagnostics) -> bool {
    let is_map = matches!(node.value, Value::Map(_));
    if !is_map {
        found.push(
            Diagnostic::error(
                WRONG_TYPE,
                node.place.origin(),
                format!("the document is {}, expected a map", node.value.noun()),
            )
            .hint("write `apiVersion: …`, `kind: …`, `metadata: …`, `spec: …`"),
        );
    }
    is_map
}

/// A value of the wrong type.
pub(super) fn wrong_type(field: &str, node: &Node, expected: &str) -> Diagnostic {
    Diagnostic::error(
        WRONG_TYPE,
        node.place.origin(),
        format!("{field} is {}, expected {expected}", node.value.noun()),
    )
}

/// A name against the rules; what is wrong with it in words.
pub(super) fn bad_name(name: &str, origin: Origin, wrong: impl Into<String>) -> Diagnostic {
    let mut short: String = name.chars().take(40).collect();
    if short.len() < name.len() {
        short.push('…');
    }
    let said = if name.is_empty() {
        "an empty text is no name".to_owned()
    } else {
        format!("`{}` is no name here", short.escape_debug())
    };
    Diagnostic::error(BAD_NAME, origin, said).hint(wrong)
}

/// A text in place of `KIND/NAME`. `known` are the objects that may be meant.
pub(super) fn not_an_address<'a>(
    error: &NotAnAddress,
    origin: Origin,
    mut known: impl Iterator<Item = &'a Address>,
) -> Diagnostic {
    let found = Diagnostic::error(DANGLING, origin, error.to_string());
    if let Some(address) = known.find(|address| address.name == error.text) {
        let (kind, name) = (address.kind.name(), &address.name);
        return found.hint(format!("did you mean `{kind}/{name}`?"));
    }
    let kind = error.nearest.first().and_then(|word| Kind::from_word(word));
    match (kind, error.text.split_once('/')) {
        (Some(kind), Some((_, rest))) => {
            found.hint(format!("did you mean `{}/{rest}`?", kind.name()))
        }
        _ => found,
    }
}

/// Adds the nearest right word, where there is one.
pub(super) fn hinted(found: Diagnostic, word: &str, known: &[&str]) -> Diagnostic {
    match nearest(word, known) {
        Some(near) => found.hint(format!("did you mean `{near}`?")),
        None => found.hint(near_miss::NOT_KNOWN),
    }
}
