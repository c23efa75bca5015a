//! G116: a volume goes into another pool while nobody uses it.

use manifests::diagnostic::Code;
use serde_json::Value;

use super::{Check, Gate, Subject};
use crate::plan::{Because, PlanInput};

pub(super) const GATE: Gate = Gate {
    code: Code("G116"),
    title: "a volume is used that is to go into another pool",
    explanation: "The volume is copied into the other pool, with its snapshots, and removed from the one that it leaves. What \
                  an instance wrote meanwhile would be lost, so nothing is done while one runs that uses it: stop it, apply, \
                  and start it again.",
    approvable: false,
    check: Check::Holds(check),
};

fn check(subject: &Subject<'_>, _: &PlanInput<'_>) -> Option<Because> {
    if !subject.step.changes_pool() {
        return None;
    }
    let status = &subject.live()?.status;
    if status.get("inUse") != Some(&Value::Bool(true)) {
        return None;
    }
    let by = status.get("attachedTo").and_then(Value::as_array);
    let by: Vec<&str> = by.into_iter().flatten().filter_map(Value::as_str).collect();
    Some(Because {
        code: GATE.code,
        message: format!("it is used: stop {} first", by.join(", ")),
        until: None,
    })
}
