//! Values of secrets: [`SecretValue`], which nobody can show, and [`each_text`], which finds where they are used.

use serde_json::Value;
use zeroize::Zeroize as _;

use crate::pointer::Pointer;
use crate::resolve::TEXT_PLACES;
use crate::scalar::text::SEALED;

/// The value of a secret. It is not shown, not written down, and overwritten when it is dropped.
#[derive(Clone, PartialEq, Eq)]
pub struct SecretValue(String);

impl SecretValue {
    /// From now on nobody shows it.
    pub const fn new(value: String) -> Self {
        Self(value)
    }

    /// The value, for the very place where it is used.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl Drop for SecretValue {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl std::fmt::Debug for SecretValue {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("(secret)")
    }
}

/// Visits each text of a spec that may come from a secret, as a value of JSON, with its place in the document.
pub fn each_text(spec: &mut Value, visit: &mut dyn FnMut(&mut Value, &Pointer)) {
    for place in TEXT_PLACES {
        each_at(spec, place, &Pointer::new("/spec"), visit);
    }
}

fn each_at(
    value: &mut Value,
    place: &[&str],
    at: &Pointer,
    visit: &mut dyn FnMut(&mut Value, &Pointer),
) {
    let Some((step, rest)) = place.split_first() else {
        visit(value, at);
        return;
    };
    let Value::Object(entries) = value else {
        return;
    };
    for (key, below) in entries {
        if *step == "*" || key == step {
            each_at(below, rest, &at.field(key), visit);
        }
    }
}

/// With this a template begins to name a secret.
pub const IN_TEMPLATE: &str = "${secret.";

/// Name, key and what comes behind them, of a part of a template behind [`IN_TEMPLATE`]; none where that is literal text.
pub fn reference(part: &str) -> Option<(&str, &str, &str)> {
    let (reference, rest) = part.split_once('}')?;
    let (name, key) = reference.split_once('.')?;
    Some((name, key, rest))
}

/// The secrets that a template names, and their keys.
pub fn in_template(template: &str) -> impl Iterator<Item = (&str, &str)> {
    let parts = template.split(IN_TEMPLATE).skip(1).filter_map(reference);
    parts.map(|(name, key, _)| (name, key))
}

/// The digest of a sealed text that is written as JSON.
pub fn sealed_digest(value: &Value) -> Option<&str> {
    let sealed = value
        .as_object()
        .filter(|map| map.len() == 1)?
        .get(SEALED)?;
    sealed.get("digest")?.as_str()
}

/// Puts something in the place of each sealed text in a value of JSON: a mask, or where it comes from.
pub fn replace_sealed(value: &mut Value, instead: &mut dyn FnMut(&str, &Value) -> Value) {
    if let Some(digest) = sealed_digest(value) {
        let other = instead(digest, &value[SEALED]);
        *value = other;
        return;
    }
    match value {
        Value::Object(entries) => {
            for (_, below) in entries {
                replace_sealed(below, instead);
            }
        }
        Value::Array(items) => {
            for below in items {
                replace_sealed(below, instead);
            }
        }
        _ => {}
    }
}

/// Where a sealed text comes from, as manifests say it.
pub fn as_written(value: &mut Value) {
    replace_sealed(value, &mut |_, sealed| {
        let mut written = sealed.clone();
        if let Value::Object(map) = &mut written {
            map.remove("digest");
        }
        written
    });
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_value_is_not_shown() {
        let value = SecretValue::new("hunter2".to_owned());
        assert_eq!(
            format!("{value:?} {:#?}", Some(&value)),
            "(secret) Some(\n    (secret),\n)"
        );
        assert_eq!(value.reveal(), "hunter2");
    }

    #[test]
    fn templates_name_secrets() {
        let named = |text| in_template(text).collect::<Vec<_>>();
        assert_eq!(
            named("a ${secret.db.user}:${secret.db.pass.word}"),
            [("db", "user"), ("db", "pass.word")]
        );
        // Not ours: that is literal.
        for text in [
            "${secret.db}",
            "${secret.db.user",
            "$secret.db.user}",
            "${secret}",
        ] {
            assert_eq!(named(text), [], "{text}");
        }
        assert_eq!(named("${secret.open ${secret.db.user}"), [("db", "user")]);
    }

    #[test]
    fn texts_are_found_and_sealed_ones_replaced() {
        let sealed =
            json!({ "sealed": { "digest": "0a", "secretRef": { "name": "db", "key": "p" } } });
        let mut spec = json!({
            "environment": { "A": "plain", "B": sealed },
            "files": { "/etc/x": { "content": sealed, "mode": "0600" } },
            "devices": { "root": { "path": "/" } },
        });
        let mut found = Vec::new();
        each_text(&mut spec, &mut |value, at| {
            found.push(format!("{at} {}", sealed_digest(value).unwrap_or("-")));
        });
        assert_eq!(
            found,
            [
                "/spec/environment/A -",
                "/spec/environment/B 0a",
                "/spec/files/~1etc~1x/content 0a"
            ]
        );
        as_written(&mut spec);
        assert_eq!(
            spec["environment"]["B"],
            json!({ "secretRef": { "name": "db", "key": "p" } })
        );
        assert!(!spec.to_string().contains("digest"));
    }
}
