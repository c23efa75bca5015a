//! Kinds, keys and versions that nobody knows, with the nearest right word.

use super::*;

pub(super) fn unknown_kind(word: &str, origin: Origin) -> Diagnostic {
    let known: Vec<&str> = Kind::ALL.iter().map(|kind| kind.name()).collect();
    let short: String = word.chars().take(60).collect();
    let found = Diagnostic::error(UNKNOWN_WORD, origin, format!("there is no kind `{short}`"));
    hinted(found, word, &known).note(format!("kinds: {}", known.join(", ")))
}

pub(super) fn unknown_keys(node: &Node, known: &[&'static str], found: &mut Diagnostics) {
    let Value::Map(entries) = &node.value else {
        return;
    };
    for (key, _) in entries
        .iter()
        .filter(|(key, _)| !known.contains(&key.name.as_str()))
    {
        let short: String = key.name.chars().take(60).collect();
        let one = Diagnostic::error(
            UNKNOWN_FIELD,
            key.place.origin(),
            format!("unknown field `{short}`"),
        )
        .at(Pointer::root().field(&short));
        let known: Vec<&str> = known
            .iter()
            .copied()
            .filter(|key| !key.starts_with('$'))
            .collect();
        found.push(
            one.hint(near_miss::key(&key.name, &known))
                .note(format!("known fields: {}", known.join(", "))),
        );
    }
}

/// Says of keys that are not known where they stand in which part of the kind they belong.
pub(super) fn misplaced(kind: Kind, mut found: Diagnostics) -> Diagnostics {
    found.each(|one| {
        if one.code != UNKNOWN_FIELD || one.hint.as_deref() != Some(near_miss::NOT_KNOWN) {
            return;
        }
        let (map, key) = (one.path.parent(), one.path.steps().last());
        if let (Some(map), Some(key)) = (map, key)
            && let Some(hint) = near_miss::elsewhere(kind, &key, &map)
        {
            one.hint = Some(hint);
        }
    });
    found
}

/// Checks that a document is of this language.
pub(crate) fn api_version(node: &Node, found: &mut Diagnostics) {
    let hint = format!("write `apiVersion: {API_VERSION}`");
    match node.get("apiVersion") {
        Some(version) if version.text() == Some(API_VERSION) => {}
        Some(version) => found.push(
            Diagnostic::error(
                UNKNOWN_WORD,
                version.place.origin(),
                match version.text() {
                    Some(text) if text.len() < 60 => {
                        format!("`{text}` is no version of this language")
                    }
                    _ => "this is no version of this language".to_owned(),
                },
            )
            .hint(hint)
            .at(Pointer::new("/apiVersion")),
        ),
        None => found.push(
            Diagnostic::error(
                MISSING_FIELD,
                node.place.origin(),
                "field `apiVersion` is missing",
            )
            .hint(hint),
        ),
    }
}
