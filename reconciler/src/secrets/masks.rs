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
    let number = |value: &Value| -> Option<String> {
        let number = value
            .as_str()?
            .strip_prefix("(secret #")?
            .strip_suffix(')')?;
        Some(number.to_owned())
    };
    Some(format!(
        "(secret #{} → #{})",
        number(before)?,
        number(after)?
    ))
}

/// Masks all that a plan shows, in its order.
pub fn plan(plan: &mut Plan) {
    let mut masks = Masks::default();
    let held = plan.held.iter_mut().map(|held| &mut held.step);
    for step in plan.steps.iter_mut().chain(held) {
        if let manifests::action::Verb::Update { changes } = &mut step.action.verb {
            changes.iter_mut().for_each(|change| masks.change(change));
        }
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
