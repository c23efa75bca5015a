//! G110: `--allow` leaves classes of steps out.

use manifests::diagnostic::Code;

use super::{Check, Gate, Subject};
use crate::plan::{Because, PlanInput};

pub(super) const GATE: Gate = Gate {
    code: Code("G110"),
    title: "not among the allowed classes",
    explanation: "`--allow create,live,interrupting,destructive` narrows what may be done at all; the step is of a \
                  class that was left out.",
    approvable: false,
    check: Check::Holds(check),
};

fn check(subject: &Subject<'_>, input: &PlanInput<'_>) -> Option<Because> {
    let class = subject.step.class();
    (!input.allow.contains(&class)).then(|| Because {
        code: GATE.code,
        message: format!("{} is not in --allow", class.word()),
        until: None,
    })
}
