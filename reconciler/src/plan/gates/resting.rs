//! G118: it failed lately, and is not tried again all the time.

use std::collections::BTreeSet;

use manifests::diagnostic::Code;
use manifests::id::Address;

use super::{Check, Gate, Subject};
use crate::plan::{Because, PlanInput, Purpose};

pub(super) const GATE: Gate = Gate {
    code: Code("G118"),
    title: "it failed lately",
    explanation: "What failed is tried again by the controller after a second, then after twice as long each time, up to \
                  a quarter of an hour; what a person has to mend first, after an hour. A new commit, or `keel \
                  reconcile`, tries it at once. Where the object has moved meanwhile, so that something else is to be \
                  done to it, that is done.",
    approvable: true,
    check: Check::Holds(check),
};

/// An object that is left alone after failures.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resting {
    /// The object.
    pub address: Address,
    /// How often it failed in a row.
    pub times: u32,
    /// Why.
    pub why: String,
    /// What was tried, each by its verb.
    pub tried: BTreeSet<&'static str>,
    /// When it is tried again.
    pub until: jiff::Timestamp,
}

fn check(subject: &Subject<'_>, input: &PlanInput<'_>) -> Option<Because> {
    if input.purpose != Purpose::Apply {
        return None;
    }
    let address = subject.step.address();
    let mut resting = input.resting.iter();
    let rest = resting.find(|rest| rest.address == *address && rest.until > input.now)?;
    if !rest.tried.contains(subject.step.deed()) {
        return None;
    }
    let times = match rest.times {
        1 => "once".to_owned(),
        times => format!("{times} times"),
    };
    Some(Because {
        code: GATE.code,
        message: format!("it failed {times}: {}", rest.why),
        until: Some(rest.until),
    })
}
