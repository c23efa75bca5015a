//! What of the trash a plan takes: what is declared again comes back, and where a source is taken down for good, what it
//! has there goes with it.

use manifests::action::{Keep, Verb};
use manifests::change::FieldChange;
use manifests::desired::Resource;
use manifests::effect::Effect;
use manifests::id::{Address, Uid};
use manifests::kind::Kind;
use manifests::observed::Item;

use super::{Expectation, PlanInput, PlannedChange, Purpose, Step, StepId, explain};
use crate::diff::InTrash;

/// When what is put into the trash now goes for good.
pub(super) fn expiry(input: &PlanInput<'_>) -> jiff::Timestamp {
    input.desired.trash.expiry(input.now)
}

/// What becomes of what was there when an object is made anew: it goes to the trash with its snapshots. That takes neither
/// time nor room, and whatever is in the way of it, is so before anything is removed.
pub(super) fn keep(input: &PlanInput<'_>, address: &Address) -> Option<Keep> {
    (address.kind == Kind::Instance && !input.no_trash).then(|| Keep {
        uid: Uid::derive(&input.id.0, address),
        at: input.now,
        expires_at: expiry(input),
    })
}

/// What the trash holds of what is declared and not there.
pub(super) enum Found<'a> {
    /// Nothing, or nothing that is to be looked at.
    Nothing,
    /// This one: it comes back as it was, and these changes make it what is declared.
    One(&'a InTrash, Vec<PlannedChange>),
    /// Something of which keel does not decide whether it is what is declared, in words.
    Doubt(String),
}

/// Looks for what is declared among what lies under its name in the trash, the newest first.
///
/// Only what a change of the manifest could have made of it while it lived, without any loss, is the same object. Another
/// image or type, or two that could be it: whichever is taken, the data of the other are not where somebody looks for
/// them, so a person says.
pub(super) fn look_for<'a>(
    input: &PlanInput<'_>,
    resource: &Resource,
    trashed: &'a [InTrash],
) -> Found<'a> {
    if input.no_restore || trashed.is_empty() {
        return Found::Nothing;
    }
    let compared: Vec<(&InTrash, Option<Vec<PlannedChange>>)> = trashed
        .iter()
        .map(|one| (one, priced(input, resource, one)))
        .collect();
    let loses =
        |planned: &PlannedChange| planned.effect.destroys() || planned.effect == Effect::Forbidden;
    let mut fitting = compared.iter().filter_map(|(one, changes)| {
        let changes = changes.as_ref()?;
        (!changes.iter().any(loses)).then_some((*one, changes))
    });
    let doubt = |why: String| {
        Found::Doubt(format!(
            "{why} takes it out, `--no-restore` makes a new one"
        ))
    };
    let deleted = |one: &InTrash| explain::ago(one.trashed.deleted_at, input.now);
    let restore = format!("`keel trash restore {}", resource.address);
    match (fitting.next(), fitting.next()) {
        (Some((one, changes)), None) => Found::One(one, changes.clone()),
        (Some(_), Some(_)) => {
            let count = trashed.len();
            let newest = deleted(&trashed[0]);
            doubt(format!(
                "the trash holds {count} of this name, the newest deleted {newest}: {restore} --uid UID`"
            ))
        }
        (None, _) => {
            let (one, changes) = &compared[0];
            let when = deleted(one);
            let differs = match changes {
                None => "of which it cannot be told what it was".to_owned(),
                Some(changes) => {
                    let losing = changes.iter().filter(|planned| loses(planned));
                    let fields: Vec<String> =
                        losing.map(|planned| planned.change.path.dotted()).collect();
                    format!("which differs in {}", fields.join(", "))
                }
            };
            doubt(format!(
                "the trash holds one of this name, deleted {when}, {differs}: {restore}`"
            ))
        }
    }
}

/// What has to be changed of an object once it is back, while it stands still.
fn priced(input: &PlanInput<'_>, resource: &Resource, one: &InTrash) -> Option<Vec<PlannedChange>> {
    let was: &Item = one.trashed.was.as_deref()?;
    let price = |change: &FieldChange| {
        let effect = match change.path.as_str().starts_with("/lifecycle") {
            true => Effect::Live,
            false => input.effects.effect(input.host, resource, was, change),
        };
        PlannedChange {
            change: change.clone(),
            effect: if effect.interrupts() {
                Effect::Live
            } else {
                effect
            },
            origin: Some(resource.origin_of(&change.path)),
        }
    };
    Some(one.judged.as_ref()?.changes.iter().map(price).collect())
}

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
