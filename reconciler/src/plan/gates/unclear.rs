//! G111: of what it could not be told whether it is there, nothing is made.

use manifests::action::Verb;
use manifests::diagnostic::Code;
use manifests::id::Address;
use manifests::kind::Kind;

use super::{Check, Gate, Subject};
use crate::diff::Verdict;
use crate::plan::order::places;
use crate::plan::{Because, PlanInput};

pub(super) const GATE: Gate = Gate {
    code: Code("G111"),
    title: "it could not be told whether the object is there",
    explanation: "The engine could not say whether the object exists, or which of several it is, or how the pool is on \
                  which it lies. Making it again or taking it away could destroy it. Mend what the message names, \
                  then plan again.",
    approvable: false,
    check: Check::Holds(check),
};

fn check(subject: &Subject<'_>, input: &PlanInput<'_>) -> Option<Because> {
    let message = match &subject.difference.verdict {
        Verdict::Unclear(why) => format!("it could not be told whether it is there: {why}"),
        _ => {
            let (pool, why) = lies_on_unclear(subject, input)?;
            format!("it lies on {pool}, of which it could not be told whether it is there: {why}")
        }
    };
    Some(Because {
        code: GATE.code,
        message,
        until: None,
    })
}

/// The pool of an object that a step makes anew or takes away, where it could not be told how that is.
fn lies_on_unclear<'a>(
    subject: &Subject<'_>,
    input: &PlanInput<'a>,
) -> Option<(&'a Address, &'a str)> {
    let item = subject.live()?;
    let verb = &subject.step.action.verb;
    let made = matches!(verb, Verb::Create | Verb::Rebuild | Verb::Replace);
    if !made && !subject.step.removes() {
        return None;
    }
    let used = item.spec.references();
    let mut used = used.iter().flat_map(|one| places(&item.address, one));
    used.find_map(|used| {
        let mut unclear = input.observed.unclear.iter();
        let pool =
            unclear.find(|unclear| unclear.address == used && used.kind == Kind::StoragePool)?;
        Some((&pool.address, pool.why.as_str()))
    })
}
