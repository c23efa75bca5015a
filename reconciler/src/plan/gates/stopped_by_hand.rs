//! G113: a person stopped the instance for a while.

use manifests::action::{Power, Verb};
use manifests::diagnostic::Code;

use super::{Check, Gate, Subject};
use crate::plan::{Because, PlanInput, Purpose};

pub(super) const GATE: Gate = Gate {
    code: Code("G113"),
    title: "a person stopped the instance for a while",
    explanation: "`keel stop --hold` stopped an instance that its manifest wants running, and said for how long and \
                  why. Until then nothing starts it. `keel start` ends the hold, `--approve G113` starts it this time.",
    approvable: true,
    check: Check::Holds(check),
};

fn check(subject: &Subject<'_>, input: &PlanInput<'_>) -> Option<Because> {
    let starts = matches!(
        subject.step.action.verb,
        Verb::Power {
            power: Power::Start | Power::Restart | Power::Reset
        } | Verb::Rebuild
            | Verb::Replace
    );
    if !starts || input.purpose != Purpose::Apply {
        return None;
    }
    let hold = input.known.hold(&subject.step.action.uid, input.now)?;
    Some(Because {
        code: GATE.code,
        message: format!("stopped by hand: {}", hold.reason),
        until: Some(hold.until),
    })
}
