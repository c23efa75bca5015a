//! Kinds and keys that nobody knows, with the nearest right word.

use super::*;

pub(super) fn unknown_kind(word: &str, origin: Origin) -> Diagnostic {
    let known: Vec<&str> = Kind::ALL.iter().map(|kind| kind.name()).collect();
    let found = Diagnostic::error(UNKNOWN_WORD, origin, format!("there is no kind `{word}`"));
    match nearest(word, &known) {
        Some(near) => found.hint(format!("did you mean `{near}`?")),
        None => found.hint("not known here"),
    }
    .note(format!("kinds: {}", known.join(", ")))
}

pub(super) fn unknown_keys(node: &Node, known: &[&'static str], found: &mut Diagnostics) {
    let Value::Map(entries) = &node.value else {
        return;
    };
    for (key, _) in entries
        .iter()
        .filter(|(key, _)| !known.contains(&key.name.as_str()))
    {
        let one = Diagnostic::error(
            UNKNOWN_FIELD,
            key.place.origin(),
            format!("unknown field `{}`", key.name),
        );
        found.push(match nearest(&key.name, known) {
            Some(near) => one.hint(format!("did you mean `{near}`?")),
            None => one.hint("not known here"),
        });
    }
}
