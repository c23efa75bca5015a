//! What must be done before what: needs first, users away before what they use, a name free before it is taken.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap, HashMap};

use manifests::action::Verb;
use manifests::desired::Reference;
use manifests::id::{Address, Uid};
use manifests::kind::Kind;
use manifests::observed::Item;

use super::gates::Holds;
use super::steps::Candidate;
use super::{Held, PlanInput, Step, StepId};

/// For each candidate the candidates that must be done before it, ascending.
#[derive(Debug, Default)]
pub(super) struct Edges {
    pub(super) before: Vec<BTreeSet<usize>>,
}

/// Finds all prerequisites.
pub(super) fn edges(input: &PlanInput<'_>, steps: &[Candidate]) -> Edges {
    let mut before: Vec<BTreeSet<usize>> = vec![BTreeSet::new(); steps.len()];
    let mut making: HashMap<&Address, Vec<usize>> = HashMap::new();
    let mut removing: HashMap<&Address, usize> = HashMap::new();
    let mut freeing: HashMap<&Address, usize> = HashMap::new();
    for (index, candidate) in steps.iter().enumerate() {
        let step = &candidate.step;
        if index > 0 && steps[index - 1].difference == candidate.difference {
            before[index].insert(index - 1);
        }
        let live = input.diff.objects[candidate.difference]
            .live
            .map(|item| &item.address);
        if step.removes() || matches!(step.action.verb, Verb::Forget) {
            if let Some(live) = live {
                removing.insert(live, index);
                freeing.insert(live, index);
            }
        } else {
            making.entry(step.address()).or_default().push(index);
            if let Verb::Rename { from } = &step.action.verb {
                freeing.insert(from, index);
            }
        }
    }
    for (index, candidate) in steps.iter().enumerate() {
        let step = &candidate.step;
        let gone = step.removes() || matches!(step.action.verb, Verb::Forget);
        if !gone {
            let needs = input
                .desired
                .resources
                .get(step.address())
                .map_or(&[][..], |resource| &resource.needs[..]);
            for (need, _) in needs {
                before[index].extend(making.get(need).into_iter().flatten());
            }
            if let Some(first) = freeing.get(step.address()).filter(|first| **first != index)
                && steps[*first].difference != candidate.difference
            {
                before[index].insert(*first);
            }
        }
        // What uses a thing lets go of it before the thing goes.
        let difference = &input.diff.objects[candidate.difference];
        if let (Some(item), false) = (difference.live, removing.is_empty()) {
            for used in uses(input, item) {
                if let Some(removal) = removing.get(&used).filter(|removal| **removal != index) {
                    before[*removal].insert(index);
                }
            }
        }
        before[index].remove(&index);
    }
    Edges { before }
}

/// What a live object uses: what its spec refers to and what it was last applied with.
fn uses(input: &PlanInput<'_>, item: &Item) -> Vec<Address> {
    let mut used: Vec<Address> = item
        .spec
        .references()
        .iter()
        .flat_map(|reference| places(&item.address, reference))
        .collect();
    let uid: Option<Uid> = item.mark.as_ref().map(|mark| mark.uid);
    if let Some(owned) = uid.and_then(|uid| input.known.owned.get(&uid)) {
        used.extend(owned.needs.iter().cloned());
    }
    used
}

/// Where the object of a reference may live: in the project of the one that refers to it, else in `default`.
pub(super) fn places(from: &Address, reference: &Reference) -> Vec<Address> {
    let own = Address {
        kind: reference.kind,
        project: from
            .project
            .clone()
            .filter(|_| !reference.kind.belongs_to_host()),
        pool: reference.pool.clone(),
        name: reference.name.clone(),
    };
    let default = Address {
        project: None,
        ..own.clone()
    };
    if own == default {
        vec![own]
    } else {
        vec![own, default]
    }
}

/// By what ties are broken: renames, then removals from the top of the house down, then making from the ground up.
fn rank(step: &Step) -> (u8, u8, Address, Uid) {
    let kind = Kind::ALL
        .iter()
        .position(|kind| *kind == step.address().kind)
        .and_then(|position| u8::try_from(position).ok())
        .unwrap_or(u8::MAX);
    let (phase, kind) = match &step.action.verb {
        Verb::Rename { .. } => (0, kind),
        Verb::Trash { .. } | Verb::Delete | Verb::Forget => (2, u8::MAX - kind),
        _ => (1, kind),
    };
    (phase, kind, step.address().clone(), step.action.uid)
}

/// Sorts what is not held and numbers it; prerequisites that are held no longer count, since what they block is held
/// as well. A circle, which no valid set of manifests makes, is broken at its first step.
pub(super) fn arrange(
    candidates: Vec<Candidate>,
    edges: &Edges,
    mut held: Holds,
) -> (Vec<Step>, Vec<Held>) {
    let count = candidates.len();
    let goes: Vec<bool> = (0..count).map(|i| !held.contains_key(&i)).collect();
    let mut open: Vec<usize> = vec![0; count];
    let mut then: Vec<Vec<usize>> = vec![Vec::new(); count];
    for (index, before) in edges.before.iter().enumerate() {
        for first in before.iter().filter(|first| goes[**first] && goes[index]) {
            open[index] += 1;
            then[*first].push(index);
        }
    }
    let ranks: Vec<_> = candidates
        .iter()
        .enumerate()
        .map(|(index, candidate)| (rank(&candidate.step), index))
        .collect();
    let mut waiting: BTreeMap<_, usize> = (0..count)
        .filter(|index| goes[*index])
        .map(|index| (&ranks[index], index))
        .collect();
    let mut ready: BinaryHeap<Reverse<(&_, usize)>> = waiting
        .iter()
        .filter(|(_, index)| open[**index] == 0)
        .map(|(rank, index)| Reverse((*rank, *index)))
        .collect();
    let mut ids: Vec<Option<StepId>> = vec![None; count];
    let mut sorted = Vec::with_capacity(count);
    loop {
        let index = match ready.pop() {
            Some(Reverse((_, index))) => index,
            None => match waiting.first_key_value() {
                Some((_, index)) => *index,
                None => break,
            },
        };
        if waiting.remove(&ranks[index]).is_none() {
            continue;
        }
        let number = u32::try_from(sorted.len() + 1).unwrap_or(u32::MAX);
        ids[index] = Some(StepId(number));
        sorted.push(index);
        for next in &then[index] {
            open[*next] = open[*next].saturating_sub(1);
            if open[*next] == 0 && waiting.contains_key(&ranks[*next]) {
                ready.push(Reverse((&ranks[*next], *next)));
            }
        }
    }
    let mut steps: Vec<Option<Step>> = Vec::with_capacity(count);
    let mut kept: Vec<Held> = Vec::new();
    for (index, candidate) in candidates.into_iter().enumerate() {
        let mut step = candidate.step;
        match (ids[index], held.remove(&index)) {
            (Some(id), _) => {
                step.id = id;
                step.after = edges.before[index]
                    .iter()
                    .filter_map(|first| ids[*first])
                    .filter(|first| *first < id)
                    .collect();
                step.after.sort_unstable();
                steps.push(Some(step));
            }
            (None, because) => {
                steps.push(None);
                kept.push(Held {
                    step,
                    because: because.unwrap_or_default(),
                });
            }
        }
    }
    let steps = sorted
        .into_iter()
        .filter_map(|index| steps[index].take())
        .collect();
    kept.sort_by_key(|held| rank(&held.step));
    (steps, kept)
}
