//! G102: one apply deletes, replaces or rebuilds only so much.

use std::collections::BTreeMap;

use manifests::action::{Power, Verb};
use manifests::change::Cause;
use manifests::diagnostic::Code;
use manifests::effect::Effect;

use super::{Check, Gate, Subject};
use crate::plan::{Because, PlanInput, Purpose};

pub(super) const GATE: Gate = Gate {
    code: Code("G102"),
    title: "more would be deleted than the budget allows",
    explanation: "More than one object that holds data, or more than 10 % of all objects (at least one), would be \
                  deleted, replaced or rebuilt by one apply. An instance that is stopped because its manifest is gone \
                  counts as well, without its data. `--approve G102` lets this plan do it; `budget` in \
                  keel.yaml sets other numbers.",
    approvable: true,
    check: Check::Stops(check),
};

fn check(steps: &[Subject<'_>], input: &PlanInput<'_>) -> Option<Because> {
    if input.purpose != Purpose::Apply {
        return None;
    }
    let source = &input.desired.source.name;
    let all = input
        .observed
        .items
        .iter()
        .filter(|item| {
            item.mark
                .as_ref()
                .is_some_and(|mark| mark.source == *source)
        })
        .count();
    let mut taken: BTreeMap<_, bool> = BTreeMap::new();
    for subject in steps {
        let destroys = subject.step.removes()
            || matches!(subject.step.action.verb, Verb::Rebuild | Verb::Replace)
            || subject.step.effect == Some(Effect::DataLoss);
        let stops = subject.step.cause == Cause::Orphaned
            && subject.step.action.verb == (Verb::Power { power: Power::Stop });
        if (destroys || stops) && subject.live().is_some_and(|item| item.complete) {
            *taken.entry(subject.step.action.uid).or_default() |= destroys && subject.holds_data();
        }
    }
    let data = taken.values().filter(|holds| **holds).count();
    let percent = usize::try_from(input.desired.budget.percent).unwrap_or(usize::MAX);
    let share = match percent {
        0 => 0,
        percent => (all.saturating_mul(percent) / 100).max(1),
    };
    let budget = usize::try_from(input.desired.budget.data).unwrap_or(usize::MAX);
    let message = if data > budget {
        format!(
            "{data} objects that hold data would be deleted, replaced or rebuilt, and {budget} may be; \
             `--approve G102` lets this plan do it"
        )
    } else if taken.len() > share {
        format!(
            "{} of {all} objects would be deleted, stopped, replaced or rebuilt, and {share} may be ({percent} %); \
             `--approve G102` lets this plan do it",
            taken.len()
        )
    } else {
        return None;
    };
    Some(Because {
        code: GATE.code,
        message,
        until: None,
    })
}
