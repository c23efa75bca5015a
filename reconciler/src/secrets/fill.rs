//! From a text that comes from a secret to a sealed text.

use manifests::scalar::text::SEALED;
use manifests::secret::{IN_TEMPLATE, SecretValue, reference};
use serde_json::{Value, json};

/// Looks up a value by the name of a secret and a key in it.
pub(super) type LookUp<'a> = &'a mut dyn FnMut(&str, &str) -> Option<SecretValue>;

/// Makes the digest of a value; none where that failed, which is told elsewhere.
pub(super) type SealOne<'a> = &'a mut dyn FnMut(SecretValue) -> Option<String>;

/// Seals a text if it comes from a secret, and says whether it does. What cannot be had was told and stays as it is.
pub(super) fn one(text: &mut Value, look_up: LookUp<'_>, seal: SealOne<'_>) -> bool {
    let Some(map) = text.as_object().filter(|map| map.len() == 1) else {
        return false;
    };
    let value = if let Some(reference) = map.get("secretRef") {
        let word = |key: &str| reference[key].as_str().unwrap_or_default();
        look_up(word("name"), word("key"))
    } else if let Some(template) = map.get("template").and_then(Value::as_str) {
        fill(template, look_up)
    } else {
        return false;
    };
    let Some(digest) = value.and_then(seal) else {
        return false;
    };
    let mut sealed = map.clone();
    sealed.insert("digest".to_owned(), json!(digest));
    *text = json!({ SEALED: sealed });
    true
}

/// A template with all its secrets; none if one of them cannot be had.
fn fill(template: &str, look_up: LookUp<'_>) -> Option<SecretValue> {
    let mut parts = template.split(IN_TEMPLATE);
    let mut filled = parts.next().unwrap_or_default().to_owned();
    let mut whole = true;
    for part in parts {
        let Some((name, key, rest)) = reference(part) else {
            filled.push_str(IN_TEMPLATE);
            filled.push_str(part);
            continue;
        };
        match look_up(name, key) {
            Some(value) => filled.push_str(value.reveal()),
            None => whole = false,
        }
        filled.push_str(rest);
    }
    whole.then(|| SecretValue::new(filled))
}
