//! G103: a protected object is not deleted, replaced, rebuilt or robbed of data.

use manifests::diagnostic::Code;
use manifests::effect::Effect;

use super::{Check, Gate, Subject};
use crate::plan::{Because, PlanInput};

pub(super) const GATE: Gate = Gate {
    code: Code("G103"),
    title: "the object is protected",
    explanation: "`lifecycle.protect: true` was applied to the object. It is not deleted, replaced or rebuilt until \
                  `protect: false` has been applied.",
    approvable: false,
    check: Check::Holds(check),
};

fn check(subject: &Subject<'_>, input: &PlanInput<'_>) -> Option<Because> {
    let destroys = subject.step.removes() || subject.step.effect.is_some_and(Effect::destroys);
    let item = subject.live()?;
    let mark = item.mark.as_ref();
    let owned = mark.and_then(|mark| input.known.owned.get(&mark.uid));
    let remembered = item
        .remembered
        .or_else(|| owned.and_then(|owned| owned.remembered));
    let was_whole = item.complete || owned.is_some_and(|owned| owned.spec.is_some());
    let protected = remembered.is_some_and(|remembered| remembered.protect)
        || input
            .desired
            .resources
            .get(subject.step.address())
            .is_some_and(|resource| resource.lifecycle.protect);
    // What was never finished holds nothing worth protecting.
    (destroys && protected && was_whole).then(|| Because {
        code: GATE.code,
        message: "protected: apply `lifecycle.protect: false` first".to_owned(),
        until: None,
    })
}
