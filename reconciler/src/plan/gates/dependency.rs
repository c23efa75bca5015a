//! G109: what waits for a held or failed step.

use std::collections::VecDeque;

use manifests::action::Verb;
use manifests::diagnostic::Code;

use super::{Check, Gate, Holds};
use crate::plan::order::Edges;
use crate::plan::steps::Candidate;
use crate::plan::{Because, Step};

pub(super) const GATE: Gate = Gate {
    code: Code("G109"),
    title: "waits for something that is held or has failed",
    explanation: "The step needs another one that is held, or that failed in this apply. Mend that one and apply again.",
    approvable: false,
    check: Check::Spreads,
};

/// Why a step does not go on without another one.
pub(crate) fn because(first: &Step) -> Because {
    Because {
        code: GATE.code,
        message: format!("waits for {} of {}", first.word(), first.address()),
        until: None,
    }
}

/// Holds what cannot go on without held steps, and what cannot go on without that.
pub(super) fn spread(steps: &[Candidate], edges: &Edges, held: &mut Holds) {
    let mut then: Vec<Vec<usize>> = vec![Vec::new(); steps.len()];
    for (index, before) in edges.before.iter().enumerate() {
        for first in before {
            then[*first].push(index);
        }
    }
    let mut open: VecDeque<usize> = held.keys().copied().collect();
    while let Some(first) = open.pop_front() {
        for next in &then[first] {
            if !held.contains_key(next) && blocks(&steps[first], &steps[*next]) {
                held.insert(*next, vec![because(&steps[first].step)]);
                open.push_back(*next);
            }
        }
    }
}

/// An object that stays as it is still serves those that use it; only what it is not yet, or is still in the way of,
/// blocks others.
fn blocks(first: &Candidate, next: &Candidate) -> bool {
    if next.step.removes() || matches!(next.step.action.verb, Verb::Forget) {
        return true;
    }
    let same = first.difference == next.difference;
    match &first.step.action.verb {
        Verb::Power { .. } => same,
        Verb::Update { .. } | Verb::Rebuild | Verb::Replace => {
            same && matches!(
                next.step.action.verb,
                Verb::Power {
                    power: manifests::action::Power::Restart
                }
            )
        }
        _ => true,
    }
}
