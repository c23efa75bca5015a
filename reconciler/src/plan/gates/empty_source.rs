//! G101: an empty source never deletes.

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
    let gone = steps
        .iter()
        .filter(|subject| subject.step.removes())
        .count();
    (input.purpose == Purpose::Apply && input.desired.resources.is_empty() && gone > 0).then(|| {
        Because {
            code: GATE.code,
            message: format!(
                "the source is empty and {gone} objects would be deleted; `keel destroy --source {}` does that",
                input.desired.source.name
            ),
            until: None,
        }
    })
}
