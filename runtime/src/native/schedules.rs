//! Schedules of snapshots and of backups: what was told of them is kept here, so that `keel snapshot run-due` and `keel
//! backup run-due` do their work where no manifests are at hand.

use manifests::action::{Action, Verb};
use manifests::desired::Resource;
use manifests::kind::Spec;
use manifests::observed::{Holds, Item, ObservedSet};
use serde_json::json;

use super::definition::{Definition, Definitions};
use crate::error::{Class, RuntimeError};
use crate::runtime::Effected;

/// Nothing is picked for a schedule.
pub(crate) type SchedulePicks = ();

/// Does one deed on a schedule. What it made stays whatever happens to it.
pub(crate) fn perform(
    definitions: &Definitions,
    action: &Action,
    resource: Option<&Resource>,
) -> Result<Effected, RuntimeError> {
    let stored =
        |error| RuntimeError::new("record", Class::NeedsOperator, error).of(&action.address);
    let before = definitions
        .read::<SchedulePicks>(action.address.kind, &action.uid)
        .map_err(stored)?;
    match (&action.verb, resource, before) {
        (
            Verb::Create | Verb::Update { .. } | Verb::Rename { .. } | Verb::Adopt,
            Some(resource),
            _,
        ) => {
            if !matches!(resource.spec, Spec::SnapshotSchedule(_) | Spec::Backup(_)) {
                return Err(super::wrong_kind(&action.address));
            }
            definitions
                .write(&Definition {
                    address: action.address.clone(),
                    mark: Some(action.mark.clone()),
                    uid: action.uid,
                    complete: true,
                    spec: resource.spec.clone(),
                    remembered: super::remember(resource),
                    picks: (),
                })
                .map_err(stored)?;
            Ok(Effected::Done)
        }
        (Verb::Adopt | Verb::Forget, _, Some(mut before)) => {
            before.mark = matches!(action.verb, Verb::Adopt).then(|| action.mark.clone());
            definitions.write(&before).map_err(stored)?;
            Ok(Effected::Done)
        }
        (Verb::Delete | Verb::Trash { .. }, _, Some(_)) => {
            definitions
                .remove(action.address.kind, &action.uid)
                .map_err(|error| {
                    RuntimeError::new("delete", Class::NeedsOperator, error).of(&action.address)
                })?;
            Ok(Effected::Done)
        }
        (Verb::Delete | Verb::Trash { .. } | Verb::Forget, _, None) => Ok(Effected::NotNeeded),
        (Verb::Adopt, None, None) => Err(super::not_made_here(&action.address)),
        (verb, ..) => Err(super::cannot(verb, &action.address)),
    }
}

/// What a schedule is.
pub(crate) fn observe(schedule: &Definition<SchedulePicks>, out: &mut ObservedSet) {
    out.items.push(Item {
        address: schedule.address.clone(),
        mark: schedule.mark.clone(),
        complete: schedule.complete,
        spec: schedule.spec.clone(),
        last_told: Some(schedule.spec.clone()),
        unseen: Vec::new(),
        remembered: Some(schedule.remembered),
        holds: Holds::default(),
        status: json!({ "uid": schedule.uid }),
    });
}
