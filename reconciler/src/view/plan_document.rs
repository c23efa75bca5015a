//! A plan as a JSON document, `formatVersion` 1.0: for machines, and to be applied later. `schemas/plan/v1.json` is its
//! schema.

use std::collections::BTreeMap;

use manifests::diagnostic::{Diagnostics, Origin};
use serde_json::{Map, Value, json};

use super::plan::{kept_until, summary_counts};
use super::saved_plan::{MadeFrom, digest};
use crate::plan::{Because, Plan, PlannedChange, Step};

/// The version of the document; a reader takes every 1.x.
pub const FORMAT: &str = "1.0";

/// The document.
pub fn document(plan: &Plan, found: &Diagnostics, from: Option<&MadeFrom>) -> Value {
    let summary: Map<String, Value> = summary_counts(plan)
        .into_iter()
        .map(|(word, count)| (word, json!(count)))
        .collect();
    let names: BTreeMap<_, _> = plan
        .steps
        .iter()
        .map(|step| (step.id, step.address().to_string()))
        .collect();
    let changes: Vec<Value> = plan.steps.iter().map(|step| change(step, &names)).collect();
    let held: Vec<Value> = plan
        .held
        .iter()
        .map(|held| {
            let mut value = change(&held.step, &names);
            value["because"] = json!(held.because);
            value
        })
        .collect();
    let guards: Vec<Value> = plan.stopping.iter().map(guard).collect();
    let mut document = json!({
        "formatVersion": FORMAT,
        "tool": {"name": "keel", "version": env!("CARGO_PKG_VERSION")},
        "id": plan.id,
        "purpose": plan.purpose,
        "source": {
            "name": plan.source.name,
            "root": plan.source.root,
            "revision": plan.source.revision,
            "repository": plan.source.repository,
            "lastApplied": plan.source.last_applied,
            "verified": null,
        },
        "partial": plan.source.partial,
        "host": plan.host,
        "engine": plan.engine,
        "stateId": plan.state_id,
        "generation": plan.generation,
        "madeAt": plan.made_at,
        "summary": summary,
        "changes": changes,
        "held": held,
        "guards": guards,
        "waiting": plan.waiting.iter().map(|waiting| json!({
            "id": waiting.address, "since": waiting.since, "fields": fields(&waiting.changes),
        })).collect::<Vec<_>>(),
        "told": plan.told.iter().map(|told| json!({
            "id": told.address, "source": told.origin.as_ref().map(place), "fields": told.changes,
        })).collect::<Vec<_>>(),
        "notes": plan.notes,
        "secrets": plan.secrets,
        "unseen": plan.unseen,
        "diagnostics": found,
    });
    if let Some(from) = from {
        document["desiredDigest"] = json!(from.digest());
        document["desired"] = json!(from);
    }
    let digest = digest(&document);
    document["digest"] = json!(digest);
    document
}

fn change(step: &Step, names: &BTreeMap<crate::plan::StepId, String>) -> Value {
    let depends: Vec<&String> = step.after.iter().filter_map(|id| names.get(id)).collect();
    let mut change = json!({
        "id": step.address(),
        "uid": step.action.uid,
        "action": step.word(),
        "deed": step.deed(),
        "class": step.class().word(),
        "effect": step.effect,
        "reason": step.reason,
        "cause": step.cause,
        "dependsOn": depends,
        "source": step.origin.as_ref().map(place),
        "observedDigest": step.expects.digest(),
        "loss": step.loss,
        "fields": fields(&step.changes),
    });
    if let Some(until) = kept_until(step) {
        change["keptUntil"] = json!(until);
    }
    if !step.seen.is_null() {
        change["observed"] = json!({"spec": step.seen});
    }
    change
}

fn fields(changes: &[PlannedChange]) -> Vec<Value> {
    changes
        .iter()
        .map(|planned| {
            let secret = |value: &Value| {
                value
                    .as_str()
                    .is_some_and(|text| text.starts_with("(secret #"))
            };
            json!({
                "path": planned.change.path,
                "before": planned.change.before,
                "after": planned.change.after,
                "sensitive": secret(&planned.change.before) || secret(&planned.change.after),
                "effect": planned.effect,
                "cause": planned.change.cause,
                "source": planned.origin.as_ref().map(place),
            })
        })
        .collect()
}

fn guard(because: &Because) -> Value {
    json!({"code": because.code, "message": because.message, "until": because.until, "stops": true})
}

/// A place as plans and reports have it.
pub fn place(origin: &Origin) -> Value {
    json!({"path": &*origin.file, "line": origin.line, "column": origin.column})
}
