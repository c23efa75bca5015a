//! G111: of what it could not be told whether it is there, nothing is made.

use manifests::diagnostic::Code;

use super::{Check, Gate, Subject};
use crate::diff::Verdict;
use crate::plan::{Because, PlanInput};

pub(super) const GATE: Gate = Gate {
    code: Code("G111"),
    title: "it could not be told whether the object is there",
    explanation: "The engine could not say whether the object exists, or which of several it is. Making it again could \
                  destroy it. Mend what the message names, then plan again.",
    approvable: false,
    check: Check::Holds(check),
};

fn check(subject: &Subject<'_>, _: &PlanInput<'_>) -> Option<Because> {
    match &subject.difference.verdict {
        Verdict::Unclear(why) => Some(Because {
            code: GATE.code,
            message: format!("it could not be told whether it is there: {why}"),
            until: None,
        }),
        _ => None,
    }
}
