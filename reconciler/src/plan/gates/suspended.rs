//! G119: a person wants the object left alone for a while.

use manifests::diagnostic::Code;

use super::{Check, Gate, Subject};
use crate::diff::suspension::Scope;
use crate::plan::{Because, PlanInput, Purpose};

pub(super) const GATE: Gate = Gate {
    code: Code("G119"),
    title: "a person suspended the object",
    explanation: "`keel suspend KIND/NAME --reason …` says that nothing is to be done to an object, until when and why. \
                  It is looked at and its drift is told all the same. `keel resume KIND/NAME` ends it, `--approve G119` \
                  does what is planned this time.",
    approvable: true,
    check: Check::Holds(check),
};

fn check(subject: &Subject<'_>, input: &PlanInput<'_>) -> Option<Because> {
    if input.purpose != Purpose::Apply {
        return None;
    }
    let scope = Scope::Object(subject.step.address().clone());
    let suspension = input.known.suspension(&scope, input.now)?;
    Some(Because {
        code: GATE.code,
        message: suspension.words(),
        until: suspension.until,
    })
}
