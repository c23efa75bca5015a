//! [`Selector`]: which labels are meant, `tier=web,env!=test,owner,!legacy`.

use std::collections::BTreeMap;
use std::str::FromStr;

/// One requirement on labels.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Requirement {
    Is(String, String),
    IsNot(String, String),
    Has(String),
    HasNot(String),
}

impl Requirement {
    fn holds(&self, labels: &BTreeMap<String, String>) -> bool {
        match self {
            Self::Is(key, value) => labels.get(key) == Some(value),
            Self::IsNot(key, value) => labels.get(key) != Some(value),
            Self::Has(key) => labels.contains_key(key),
            Self::HasNot(key) => !labels.contains_key(key),
        }
    }
}

/// Requirements that all must hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Selector(Vec<Requirement>);

/// A text that selects nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` selects no labels")]
pub struct NotASelector(String);

impl FromStr for Selector {
    type Err = NotASelector;

    fn from_str(text: &str) -> Result<Self, NotASelector> {
        let mut all = Vec::new();
        for part in text.split(',').map(str::trim) {
            let one = if let Some((key, value)) = part.split_once("!=") {
                Requirement::IsNot(key.trim().to_owned(), value.trim().to_owned())
            } else if let Some((key, value)) = part.split_once('=') {
                let value = value.strip_prefix('=').unwrap_or(value);
                Requirement::Is(key.trim().to_owned(), value.trim().to_owned())
            } else if let Some(key) = part.strip_prefix('!') {
                Requirement::HasNot(key.to_owned())
            } else {
                Requirement::Has(part.to_owned())
            };
            let (Requirement::Is(key, _)
            | Requirement::IsNot(key, _)
            | Requirement::Has(key)
            | Requirement::HasNot(key)) = &one;
            if key.is_empty() {
                return Err(NotASelector(text.to_owned()));
            }
            all.push(one);
        }
        Ok(Self(all))
    }
}

impl Selector {
    /// Whether something with these labels is meant.
    pub fn selects(&self, labels: &BTreeMap<String, String>) -> bool {
        self.0.iter().all(|one| one.holds(labels))
    }
}
