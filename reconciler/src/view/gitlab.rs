//! How many objects a plan makes, changes and takes away, as the widget of a GitLab merge request reads it.

use std::collections::BTreeSet;

use manifests::action::Verb;
use manifests::id::Address;
use serde_json::{Value, json};

use super::drift::DriftReport;
use crate::plan::Plan;

/// Objects by what happens to them. What is made anew in another one's place is in two of the sets.
#[derive(Default)]
struct Counts<'a> {
    create: BTreeSet<&'a Address>,
    update: BTreeSet<&'a Address>,
    delete: BTreeSet<&'a Address>,
}

impl Counts<'_> {
    fn json(&self) -> Value {
        // An object that is stopped before it is deleted is deleted.
        let update = self
            .update
            .iter()
            .filter(|one| !self.create.contains(*one) && !self.delete.contains(*one));
        json!({
            "create": self.create.len(),
            "update": update.count(),
            "delete": self.delete.len(),
        })
    }
}

/// The report of a plan.
pub fn of_plan(plan: &Plan) -> Value {
    let mut counts = Counts::default();
    for step in &plan.steps {
        let address = step.address();
        match &step.action.verb {
            Verb::Create | Verb::Restore => {
                counts.create.insert(address);
            }
            Verb::Replace | Verb::Rebuild => {
                counts.create.insert(address);
                counts.delete.insert(address);
            }
            Verb::Trash { .. } | Verb::Delete => {
                counts.delete.insert(address);
            }
            Verb::Update { .. }
            | Verb::Rename { .. }
            | Verb::Power { .. }
            | Verb::Adopt
            | Verb::Forget => {
                counts.update.insert(address);
            }
        }
    }
    counts.json()
}

/// The report of what would be put back.
pub fn of_drift(report: &DriftReport) -> Value {
    let mut counts = Counts::default();
    for field in &report.drift {
        if field.is_object() {
            counts.create.insert(&field.id);
        } else {
            counts.update.insert(&field.id);
        }
    }
    counts.json()
}
