//! G112: a field that cannot be changed.

use manifests::diagnostic::Code;
use manifests::effect::Effect;

use super::{Check, Gate, Subject};
use crate::plan::{Because, PlanInput};

pub(super) const GATE: Gate = Gate {
    code: Code("G112"),
    title: "the field cannot be changed",
    explanation: "The engine cannot change this field of an object that exists. Put the old value back, or delete the \
                  object and declare it anew.",
    approvable: false,
    check: Check::Holds(check),
};

fn check(subject: &Subject<'_>, _: &PlanInput<'_>) -> Option<Because> {
    (subject.step.effect == Some(Effect::Forbidden)).then(|| Because {
        code: GATE.code,
        message: "cannot be changed on an object that exists".to_owned(),
        until: None,
    })
}
