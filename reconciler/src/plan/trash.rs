//! What a source has in the trash goes with it, when it is taken down and nothing is to be kept.

use manifests::action::Verb;

use super::{Expectation, PlanInput, Purpose, Step, StepId};

/// Puts the deletion of what lies in the trash before all other steps; what may hold it waits for that.
pub(super) fn take_down(input: &PlanInput<'_>, steps: &mut Vec<Step>) {
    if input.purpose != Purpose::Destroy || !input.no_trash {
        return;
    }
    let alive = |uid| {
        input
            .observed
            .items
            .iter()
            .any(|item| item.uid() == Some(uid))
    };
    let mut all: Vec<Step> = input
        .observed
        .trash
        .iter()
        .filter(|trashed| trashed.mark.source == input.desired.source.name)
        .filter(|trashed| !alive(trashed.mark.uid))
        .map(|trashed| {
            let (address, mark) = (&trashed.address, &trashed.mark);
            let mut step = Step::asked(Verb::Delete, address, mark, Expectation::Anything);
            "asked for, it lies in the trash".clone_into(&mut step.reason);
            step.loss = Some(trashed.holds);
            step
        })
        .collect();
    let before = u32::try_from(all.len()).unwrap_or(u32::MAX);
    for (step, number) in all.iter_mut().zip(1..) {
        step.id = StepId(number);
    }
    for step in steps.iter_mut() {
        for id in step.after.iter_mut().chain([&mut step.id]) {
            id.0 = id.0.saturating_add(before);
        }
        if step.removes() {
            step.after.splice(0..0, (1..=before).map(StepId));
        }
    }
    all.append(steps);
    *steps = all;
}
