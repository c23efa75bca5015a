//! What a plan would do, as one short text: two plans that would do the same have the same digest, whenever they are made.

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::{Plan, PlannedChange, Step};

/// So many characters of the digest are enough to tell plans apart, and few enough to type.
const LENGTH: usize = 16;

/// The digest of what a plan would do: deeds, objects, changes and what each costs; not its name, its time, and the
/// identities of what is new.
pub fn digest(plan: &Plan) -> String {
    let change = |planned: &PlannedChange| {
        let change = &planned.change;
        json!([change.path, change.before, change.after, planned.effect])
    };
    let step = |step: &Step| {
        let changes: Vec<Value> = step.changes.iter().map(change).collect();
        json!([step.deed(), step.address().to_string(), changes, step.loss])
    };
    let mut steps: Vec<String> = plan.steps.iter().map(|one| step(one).to_string()).collect();
    // Which of two independent steps comes first is nobody's choice.
    steps.sort();
    let what = json!([plan.source.name, plan.purpose, plan.host, steps]);
    let mut text = hex::encode(Sha256::digest(what.to_string()));
    text.truncate(LENGTH);
    text
}
