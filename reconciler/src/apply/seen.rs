//! Whether an object looks as its step expects: before the step, after it, and for those that wait for it.

use manifests::action::{Power, Verb};
use manifests::change::FieldChange;
use manifests::desired::{DesiredSet, Readiness};
use manifests::id::Address;
use manifests::observed::Item;
use runtime::runtime::Effected;

use crate::diff::known::Known;
use crate::diff::{Kept, fingerprint, fingerprint_of_orphan, judge};
use crate::plan::{Expectation, Plan, Step, health_of, state_of};

/// The name under which the object lives before the step.
pub(crate) const fn address_before(step: &Step) -> &Address {
    match &step.action.verb {
        Verb::Rename { from } => from,
        _ => &step.action.address,
    }
}

/// How the object differs from what the plan saw, in words; none if it does not. The same ignore rules count as when it
/// was made.
///
/// What is derived of many objects for one moves with them: where other steps of the plan came before (`follows`), the
/// object may look less different than it did, and one that is to go need only be the same one.
pub(crate) fn moved(
    plan: &Plan,
    step: &Step,
    live: Option<&Item>,
    desired: &DesiredSet,
    known: &Known,
    follows: bool,
) -> Option<&'static str> {
    let salt = plan.seed.0;
    match (&step.expects, live) {
        (Expectation::Anything, _) | (Expectation::Absent, None) => None,
        (Expectation::Absent, Some(_)) => Some("it is there by now"),
        (Expectation::Managed(_) | Expectation::Whole(_), None) => Some("it is gone"),
        (Expectation::Whole(digest), Some(item)) => {
            let same = item.mark.as_ref() == Some(&step.action.mark);
            (fingerprint_of_orphan(salt, item) != *digest && !(follows && same))
                .then_some("it was changed since the plan was made")
        }
        (Expectation::Managed(digest), Some(item)) => {
            let changes = match desired.resources.get(step.address()) {
                Some(resource) if item.complete => {
                    let owned = item
                        .mark
                        .as_ref()
                        .and_then(|mark| known.owned.get(&mark.uid));
                    judge(resource, item, owned, plan.made_at).changes
                }
                _ => Vec::new(),
            };
            let mended = || {
                item.mark.as_ref() == Some(&step.action.mark)
                    && changes.iter().all(|change| was_planned(plan, step, change))
            };
            (fingerprint(salt, item, &changes) != *digest && !(follows && mended()))
                .then_some("it was changed since the plan was made")
        }
    }
}

/// Whether a plan knew this very difference of the object of a step.
fn was_planned(plan: &Plan, step: &Step, change: &FieldChange) -> bool {
    plan.steps
        .iter()
        .chain(plan.held.iter().map(|held| &held.step))
        .filter(|other| other.action.uid == step.action.uid)
        .flat_map(|other| &other.changes)
        .any(|known| known.change.path == change.path && known.change.before == change.before)
}

/// What is still missing after a step, in words; none if it is seen. Fields that are left for `later` are not.
pub(crate) fn missing(
    step: &Step,
    effected: Effected,
    live: Option<&Item>,
    desired: &DesiredSet,
    later: &[Kept],
    now: jiff::Timestamp,
) -> Option<String> {
    let own = live.filter(|item| item.uid() == Some(step.action.uid));
    let item = match (&step.action.verb, own) {
        (Verb::Trash { .. } | Verb::Delete, Some(_)) => {
            return Some("it is still there".to_owned());
        }
        (Verb::Forget, Some(item)) => {
            return item
                .mark
                .is_some()
                .then(|| "it still bears our mark".to_owned());
        }
        (Verb::Adopt, Some(item)) if item.mark.as_ref() != Some(&step.action.mark) => {
            return Some("it does not bear our mark".to_owned());
        }
        (Verb::Trash { .. } | Verb::Delete | Verb::Forget, None) => return None,
        // An ephemeral instance is gone when it is stopped.
        (
            Verb::Power {
                power: Power::Stop | Power::Kill | Power::Save | Power::HostDown,
            },
            None,
        ) => return None,
        (_, None) => return Some("it is not there".to_owned()),
        (_, Some(item)) if !item.complete => return Some("it is not complete".to_owned()),
        (_, Some(item)) => item,
    };
    if let Verb::Power { power } = &step.action.verb {
        let state = state_of(item).unwrap_or_default();
        let wanted: &[&str] = match power {
            Power::Start | Power::StartAnew | Power::Restart | Power::Reset | Power::Unfreeze => {
                &["Running", "Frozen"]
            }
            Power::Stop | Power::Kill | Power::Save | Power::HostDown => &["Stopped"],
            Power::Freeze => &["Frozen"],
        };
        return (!wanted.contains(&state.as_str()))
            .then(|| format!("its state is {state}, not {}", wanted[0]));
    }
    if effected == Effected::NextStart || matches!(step.action.verb, Verb::Adopt) {
        return None;
    }
    let left = left(step, item, desired, later, now);
    let left: Vec<String> = left
        .iter()
        .map(|change| {
            format!(
                "{} is {}, not {}",
                change.path.dotted(),
                change.before,
                change.after
            )
        })
        .collect();
    (!left.is_empty()).then(|| left.join("; "))
}

/// The fields that a step brings and that are otherwise. Those that are left for `later` are not among them.
pub(crate) fn left(
    step: &Step,
    item: &Item,
    desired: &DesiredSet,
    later: &[Kept],
    now: jiff::Timestamp,
) -> Vec<FieldChange> {
    let Some(resource) = desired.resources.get(step.address()) else {
        return Vec::new();
    };
    let whole = matches!(step.action.verb, Verb::Create | Verb::Restore);
    let is_planned = |change: &FieldChange| {
        let mut planned = step.changes.iter();
        whole || planned.any(|planned| planned.change.path == change.path)
    };
    let mut changes = judge(resource, item, None, now).changes;
    changes
        .retain(|change| is_planned(change) && later.iter().all(|kept| kept.path != change.path));
    changes
}

/// Why an object is not as far as those that need it ask, in words; none if it is.
pub(crate) fn not_ready(live: Option<&Item>, readiness: Readiness) -> Option<String> {
    let Some(item) = live else {
        return Some("it is not there".to_owned());
    };
    if !item.complete {
        return Some("it is not complete".to_owned());
    }
    let state = state_of(item)?;
    if readiness == Readiness::Started {
        let told = |field: &str| item.status.get(field).is_some_and(|value| !value.is_null());
        let started = state != "Stopped" || told("startedAt") || told("lastExit");
        return (!started).then(|| "it was never started".to_owned());
    }
    if state != "Running" {
        return Some(format!("its state is {state}"));
    }
    match health_of(item) {
        Some(health) if readiness == Readiness::Healthy && health != "healthy" => {
            Some(match failing(item) {
                Some(why) => format!("it is {health}: {why}"),
                None => format!("it is {health}"),
            })
        }
        _ => None,
    }
}

/// The first of its health checks that fails, and why.
fn failing(item: &Item) -> Option<String> {
    let first = item.status.pointer("/health/failing/0")?;
    let word = |key: &str| first.get(key)?.as_str();
    Some(format!("{}: {}", word("check")?, word("why")?))
}
