//! G115: where the trash holds something of a declared name that may or may not be it, a person says which it is.

use manifests::action::Verb;
use manifests::diagnostic::Code;

use super::{Check, Gate, Subject};
use crate::diff::Verdict;
use crate::plan::trash::{Found, look_for};
use crate::plan::{Because, PlanInput};

pub(super) const GATE: Gate = Gate {
    code: Code("G115"),
    title: "the trash holds something else of this name",
    explanation: "The object is declared and not there, and under its name the trash holds one that keel does not take \
                  for it: of another image or type, or more than one that could be it. Neither is an empty one \
                  made in its place. `keel trash restore` takes one out as it was, `--no-restore` leaves the trash \
                  alone and makes a new one, `keel trash empty KIND/NAME` deletes what lies there for good.",
    approvable: false,
    check: Check::Holds(check),
};

fn check(subject: &Subject<'_>, input: &PlanInput<'_>) -> Option<Because> {
    let Verdict::Missing { trashed } = &subject.difference.verdict else {
        return None;
    };
    let resource = input.desired.resources.get(subject.step.address())?;
    if subject.step.action.verb != Verb::Create {
        return None;
    }
    match look_for(input, resource, trashed) {
        Found::Doubt(message) => Some(Because {
            code: GATE.code,
            message,
            until: None,
        }),
        Found::Nothing | Found::One(..) => None,
    }
}
