//! What people see in the place of a sealed text: `(secret #1)`, the same number for the same value within one document.

use indexmap::IndexSet;
use manifests::change::FieldChange;
use manifests::secret::replace_sealed;
use serde_json::{Value, json};

use crate::plan::Plan;

/// Numbers by digests.
#[derive(Debug, Default)]
pub struct Masks(IndexSet<String>);

impl Masks {
    /// Puts masks in the place of all sealed texts in a value.
    pub fn mask(&mut self, value: &mut Value) {
        replace_sealed(value, &mut |digest, _| {
            let (index, _) = self.0.insert_full(digest.to_owned());
            json!(format!("(secret #{})", index + 1))
        });
    }

    fn change(&mut self, change: &mut FieldChange) {
        self.mask(&mut change.before);
        self.mask(&mut change.after);
    }
}

/// `(secret #1 → #2)` for two masks.
pub fn together(before: &Value, after: &Value) -> Option<String> {
    let (before, after) = (number(before.as_str()?)?, number(after.as_str()?)?);
    Some(format!("(secret #{before} → #{after})"))
}

/// A mask by the digest in the place of its number.
const DIGEST: &str = "(secret of ";

/// A plan's document in which masks tell digests instead of numbers: so they can be compared with those of another.
pub fn by_digest(document: &Value) -> Value {
    let digests = document["secrets"].clone();
    let mut all = document.clone();
    if digests
        .as_array()
        .is_some_and(|digests| !digests.is_empty())
    {
        walk(&mut all, &mut |text| {
            let number: usize = number(text)?.parse().ok()?;
            let digest = digests.get(number.checked_sub(1)?)?.as_str()?;
            Some(format!("{DIGEST}{digest})"))
        });
    }
    all
}

/// Puts numbers in the place of digests in what moved: of two values, and of the words about them.
pub fn by_number(was: &mut Value, is: &mut Value, words: &mut String) {
    let mut numbers: IndexSet<String> = IndexSet::new();
    let mut mask = |text: &str| {
        let digest = text.strip_prefix(DIGEST)?.strip_suffix(')')?;
        let (index, _) = numbers.insert_full(digest.to_owned());
        Some(format!("(secret #{})", index + 1))
    };
    walk(was, &mut mask);
    walk(is, &mut mask);
    for (index, digest) in numbers.iter().enumerate() {
        let mask = format!("(secret #{})", index + 1);
        *words = words.replace(&format!("{DIGEST}{digest})"), &mask);
    }
}

/// Visits every text in a value.
fn walk(value: &mut Value, change: &mut dyn FnMut(&str) -> Option<String>) {
    match value {
        Value::String(text) => {
            if let Some(other) = change(text) {
                *text = other;
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|below| walk(below, change)),
        Value::Object(entries) => entries.values_mut().for_each(|below| walk(below, change)),
        _ => {}
    }
}

/// The number of a mask.
fn number(text: &str) -> Option<&str> {
    text.strip_prefix("(secret #")?.strip_suffix(')')
}

/// Masks all that a plan shows, in its order.
pub fn plan(plan: &mut Plan) {
    let mut masks = Masks::default();
    let held = plan.held.iter_mut().map(|held| &mut held.step);
    for step in plan.steps.iter_mut().chain(held) {
        if let manifests::action::Verb::Update { changes } = &mut step.action.verb {
            changes.iter_mut().for_each(|change| masks.change(change));
        }
        masks.mask(&mut step.seen);
        for planned in &mut step.changes {
            masks.change(&mut planned.change);
        }
    }
    for waiting in &mut plan.waiting {
        for planned in &mut waiting.changes {
            masks.change(&mut planned.change);
        }
    }
    for told in &mut plan.told {
        told.changes
            .iter_mut()
            .for_each(|change| masks.change(change));
    }
    plan.secrets = masks.0.into_iter().collect();
}
