//! G101: an empty source never deletes.

use std::collections::BTreeSet;

use manifests::change::Cause;
use manifests::diagnostic::Code;

use super::{Check, Gate, Subject};
use crate::plan::{Because, PlanInput, Purpose};

pub(super) const GATE: Gate = Gate {
    code: Code("G101"),
    title: "an empty source never deletes",
    explanation: "The source has no manifests at all and owns live objects. More often than not that is a wrong folder \
                  or a failed checkout. To take everything down, say so: `keel destroy --source NAME`.",
    approvable: false,
    check: Check::Stops(check),
};

fn check(steps: &[Subject<'_>], input: &PlanInput<'_>) -> Option<Because> {
    // Also what `lifecycle.prune` would only stop or let go: with the manifests back, it would be another's (G104).
    let gone: BTreeSet<_> = steps
        .iter()
        .filter(|subject| subject.step.removes() || subject.step.cause == Cause::Orphaned)
        .map(|subject| subject.step.address())
        .collect();
    let gone = gone.len();
    (matches!(input.purpose, Purpose::Apply | Purpose::Compare) && input.desired.resources.is_empty() && gone > 0).then(|| {
        Because {
            code: GATE.code,
            message: format!(
                "the source is empty and all that it owns ({gone}) would be deleted, stopped or let go; `keel destroy --source {}` does that",
                input.desired.source.name
            ),
            until: None,
        }
    })
}
