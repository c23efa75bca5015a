//! Guards: what holds a step or stops a plan.
//!
//! To add one: write `gates/<name>.rs` with a `GATE`, name it in [`GATES`], and describe it in its `explanation`, which
//! `keel explain` prints.

mod allowed;
mod budget;
mod data_loss;
mod dependency;
mod empty_source;
mod forbidden;
mod foreign;
mod in_trash;
mod in_use;
mod moved_source;
mod moves;
mod policy;
mod protected;
mod resting;
mod stopped_by_hand;
mod suspended;
mod trash_quota;
mod unclear;
mod window;

pub(crate) use self::dependency::{because as waits_for, blocks_when_failed};
pub use self::resting::Resting;

use std::collections::BTreeMap;

use manifests::diagnostic::Code;
use manifests::observed::Item;

use super::order::Edges;
use super::steps::{Candidate, gates_data};
use super::{Because, Note, PlanInput, Step};
use crate::diff::Difference;

/// What a guard looks at.
pub struct Subject<'a> {
    /// The step.
    pub step: &'a Step,
    /// How its object stands.
    pub difference: &'a Difference<'a>,
}

impl Subject<'_> {
    /// Whether the object holds data of its own.
    pub fn holds_data(&self) -> bool {
        self.difference.live.is_some_and(gates_data)
    }

    /// The live object.
    pub const fn live(&self) -> Option<&Item> {
        self.difference.live
    }
}

/// Steps by their indices, each with why it is held.
pub type Findings = Vec<(usize, Because)>;

/// What a guard that weighs has found.
#[derive(Debug, Default)]
pub struct Weighed {
    /// What it holds.
    pub held: Findings,
    /// What it tells.
    pub notes: Vec<Note>,
}

/// How a guard works.
#[derive(Clone, Copy)]
pub enum Check {
    /// It holds single steps.
    Holds(fn(&Subject<'_>, &PlanInput<'_>) -> Option<Because>),
    /// It holds single steps, seeing all of them: their indices.
    Together(fn(&[Subject<'_>], &PlanInput<'_>) -> Findings),
    /// It holds single steps or tells something of them, seeing all of them.
    Weighs(fn(&[Subject<'_>], &PlanInput<'_>) -> Weighed),
    /// It stops the whole plan, seeing all steps that nothing holds.
    Stops(fn(&[Subject<'_>], &PlanInput<'_>) -> Option<Because>),
    /// It holds steps for the sake of other held steps.
    Spreads,
}

/// One guard.
#[derive(Clone, Copy)]
pub struct Gate {
    /// Its stable code.
    pub code: Code,
    /// Its name.
    pub title: &'static str,
    /// What it protects and what the way out is.
    pub explanation: &'static str,
    /// Whether `--approve` passes it.
    pub approvable: bool,
    /// How it works.
    pub check: Check,
}

/// The guard of policies.
pub(super) const POLICY: Code = policy::GATE.code;

/// All guards, by code.
pub const GATES: &[Gate] = &[
    empty_source::GATE,
    budget::GATE,
    protected::GATE,
    foreign::GATE,
    window::GATE,
    policy::GATE,
    moved_source::GATE,
    data_loss::GATE,
    dependency::GATE,
    allowed::GATE,
    unclear::GATE,
    forbidden::GATE,
    in_use::GATE,
    stopped_by_hand::GATE,
    in_trash::GATE,
    moves::GATE,
    trash_quota::GATE,
    resting::GATE,
    suspended::GATE,
];

/// Held candidates by index.
pub(super) type Holds = BTreeMap<usize, Vec<Because>>;

/// What the guards say.
pub(super) struct Verdict {
    pub(super) held: Holds,
    pub(super) stopping: Vec<Because>,
    pub(super) notes: Vec<Note>,
}

/// Asks every guard.
pub(super) fn hold(input: &PlanInput<'_>, steps: &[Candidate], edges: &Edges) -> Verdict {
    let subjects: Vec<Subject<'_>> = steps
        .iter()
        .map(|candidate| Subject {
            step: &candidate.step,
            difference: &input.diff.objects[candidate.difference],
        })
        .collect();
    let asked = |gate: &&Gate| !(gate.approvable && input.approve.contains(gate.code.0));
    let mut held = Holds::new();
    let mut notes = Vec::new();
    for gate in GATES.iter().filter(asked) {
        let found: Findings = match gate.check {
            Check::Holds(check) => subjects
                .iter()
                .enumerate()
                .filter_map(|(index, subject)| Some((index, check(subject, input)?)))
                .collect(),
            Check::Together(check) => check(&subjects, input),
            Check::Weighs(check) => {
                let weighed = check(&subjects, input);
                notes.extend(weighed.notes);
                weighed.held
            }
            Check::Stops(_) | Check::Spreads => continue,
        };
        for (index, because) in found {
            held.entry(index).or_default().push(because);
        }
    }
    dependency::spread(steps, edges, &mut held);
    let free: Vec<Subject<'_>> = subjects
        .into_iter()
        .enumerate()
        .filter(|(index, _)| !held.contains_key(index))
        .map(|(_, subject)| subject)
        .collect();
    let stopping = GATES
        .iter()
        .filter(asked)
        .filter_map(|gate| match gate.check {
            Check::Stops(check) => check(&free, input),
            Check::Holds(_) | Check::Together(_) | Check::Weighs(_) | Check::Spreads => None,
        })
        .collect();
    Verdict {
        held,
        stopping,
        notes,
    }
}
