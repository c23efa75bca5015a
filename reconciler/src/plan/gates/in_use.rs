//! G114: what others use is not taken away.

use std::collections::{HashMap, HashSet};

use manifests::diagnostic::Code;
use manifests::id::{Address, Uid};
use manifests::kind::Spec;
use manifests::observed::Item;

use super::{Check, Findings, Gate, Subject};
use crate::diff::{Difference, Verdict, overlay};
use crate::plan::order::places;
use crate::plan::{Because, PlanInput};

pub(super) const GATE: Gate = Gate {
    code: Code("G114"),
    title: "something else uses the object",
    explanation: "The object is no longer declared, and something uses it that this plan neither deletes nor takes off \
                  it: an object of another source, one that is let go, or one that could not be read. Let that one go \
                  first. What several sources need belongs to one of them and stands under `external` in the others.",
    approvable: false,
    check: Check::Together(check),
};

fn check(subjects: &[Subject<'_>], input: &PlanInput<'_>) -> Findings {
    let goes = |uid: Option<Uid>| {
        let mut steps = subjects.iter().map(|subject| subject.step);
        steps.any(|step| step.removes() && Some(step.action.uid) == uid)
    };
    // Who uses a name goes on with the other one of that name.
    let has_a_twin = |address: &Address| {
        let mut items = input.observed.items.iter();
        items.any(|item| item.address == *address && !goes(item.uid()))
    };
    let removed: HashMap<&Address, usize> = subjects
        .iter()
        .enumerate()
        .filter(|(_, subject)| subject.step.removes())
        .filter_map(|(index, subject)| Some((&subject.live()?.address, index)))
        .filter(|(address, _)| !has_a_twin(address))
        .collect();
    if removed.is_empty() {
        return Vec::new();
    }
    let differences: HashMap<&Address, &Difference<'_>> = input
        .diff
        .objects
        .iter()
        .filter_map(|difference| Some((&difference.live?.address, difference)))
        .collect();
    let mut users: HashMap<usize, String> = HashMap::new();
    for user in input
        .observed
        .items
        .iter()
        .filter(|user| !removed.contains_key(&user.address))
    {
        let stays = differences
            .get(&user.address)
            .and_then(|difference| used_afterwards(input, user, difference));
        for used in used(user, &user.spec) {
            let Some(index) = removed.get(&used) else {
                continue;
            };
            if stays.as_ref().is_none_or(|stays| stays.contains(&used)) {
                users.entry(*index).or_insert_with(|| match &user.mark {
                    Some(mark) if mark.source != input.desired.source.name => {
                        format!("{} of source {} uses it", user.address, mark.source)
                    }
                    _ => format!("{} uses it", user.address),
                });
            }
        }
    }
    // Of what cannot be read, what it was last applied with counts.
    let unreadable = input.observed.unclear.iter().filter_map(|unclear| {
        let remembered = &input.known.owned;
        match unclear.nameless {
            Some(uid) => remembered.get(&uid),
            None => remembered
                .values()
                .find(|owned| owned.address == unclear.address),
        }
    });
    for owned in unreadable {
        for index in owned.needs.iter().filter_map(|need| removed.get(need)) {
            users
                .entry(*index)
                .or_insert_with(|| format!("{}, which cannot be read, used it", owned.address));
        }
    }
    users
        .into_iter()
        .map(|(index, message)| {
            let because = Because {
                code: GATE.code,
                message,
                until: None,
            };
            (index, because)
        })
        .collect()
}

/// What a live object refers to.
fn used(user: &Item, spec: &Spec) -> HashSet<Address> {
    spec.references()
        .iter()
        .flat_map(|reference| places(&user.address, reference))
        .collect()
}

/// What one of our objects still uses once it is as wanted; none where this plan does not make it so.
fn used_afterwards(
    input: &PlanInput<'_>,
    user: &Item,
    difference: &Difference<'_>,
) -> Option<HashSet<Address>> {
    let ours = matches!(
        difference.verdict,
        Verdict::Same | Verdict::Different | Verdict::Incomplete
    );
    let resource = input.desired.resources.get(&difference.address)?;
    let spec = overlay(&resource.spec, &difference.kept).ok()?;
    ours.then(|| used(user, &spec))
}
