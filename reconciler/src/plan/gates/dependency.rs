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
        message: format!("waits for {} of {}", first.deed(), first.address()),
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
            if !held.contains_key(next) && blocks(&steps[first].step, &steps[*next].step) {
                held.insert(*next, vec![because(&steps[first].step)]);
                open.push_back(*next);
            }
        }
    }
}

/// Whether a step that is not done blocks one that comes after it. An object that stays as it is still serves those that
/// use it; only what it is not yet, or is still in the way of, blocks others.
fn blocks(first: &Step, next: &Step) -> bool {
    if next.removes() || matches!(next.action.verb, Verb::Forget) {
        return true;
    }
    let same = first.action.uid == next.action.uid;
    match &first.action.verb {
        Verb::Power { .. } => same,
        Verb::Update { .. } | Verb::Rebuild | Verb::Replace => {
            same && matches!(
                next.action.verb,
                Verb::Power {
                    power: manifests::action::Power::Restart
                }
            )
        }
        _ => true,
    }
}

/// Whether a step that failed blocks one that comes after it: as one that was held, but that what was to be made anew
/// may be half gone.
pub(crate) fn blocks_when_failed(first: &Step, next: &Step) -> bool {
    matches!(first.action.verb, Verb::Rebuild | Verb::Replace) || blocks(first, next)
}
