//! G104: what another source owns, or nobody, is not touched.

use manifests::diagnostic::Code;
use manifests::lifecycle::AdoptRule;

use super::{Check, Gate, Subject};
use crate::diff::Verdict;
use crate::plan::{Because, PlanInput};

pub(super) const GATE: Gate = Gate {
    code: Code("G104"),
    title: "the object belongs to somebody else",
    explanation: "An object of this name is there already and bears another source's mark or none. Nothing is done to \
                  it. `lifecycle.adopt: true` takes over what nobody owns, `adopt: { from: NAME }` what source NAME \
                  gave up, `external` in keel.yaml refers to it without owning it.",
    approvable: false,
    check: Check::Holds(check),
};

fn check(subject: &Subject<'_>, input: &PlanInput<'_>) -> Option<Because> {
    let rule = input
        .desired
        .resources
        .get(&subject.difference.address)
        .map(|resource| &resource.lifecycle.adopt);
    let message = match (&subject.difference.verdict, rule) {
        (Verdict::Foreign, Some(AdoptRule::Unowned | AdoptRule::From { .. })) => return None,
        (Verdict::Foreign, _) if is_of_others(subject) => {
            "it is there and something else made it: give yours another name".to_owned()
        }
        (Verdict::Foreign, _) => {
            "it is there and nobody's: `lifecycle.adopt: true` takes it over".to_owned()
        }
        (Verdict::OtherSource(owner), Some(AdoptRule::From { from }))
            if owner.as_str() == from && given_up(subject, input) =>
        {
            return None;
        }
        (Verdict::OtherSource(owner), _) => {
            format!("it belongs to source {owner}, which has not given it up")
        }
        _ => return None,
    };
    Some(Because {
        code: GATE.code,
        message,
        until: None,
    })
}

/// Whether keel can tell nothing of it: a bridge of another program, or of another state folder.
fn is_of_others(subject: &Subject<'_>) -> bool {
    let live = subject.difference.live;
    live.is_some_and(|item| {
        item.unseen
            .iter()
            .any(|unseen| unseen.path.as_str() == "/spec")
    })
}

/// Whether its owner was applied here and no longer counts it among its own.
fn given_up(subject: &Subject<'_>, input: &PlanInput<'_>) -> bool {
    subject.difference.mark().is_some_and(|mark| {
        input.known.sources.contains_key(&mark.source) && !input.known.owned.contains_key(&mark.uid)
    })
}
