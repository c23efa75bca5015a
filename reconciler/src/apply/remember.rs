//! What is to be remembered of an object after each of its steps: what was last applied, what waits for a restart.

use std::collections::HashMap;

use manifests::action::{Power, Verb};
use manifests::change::FieldChange;
use manifests::desired::{DesiredSet, Resource};
use manifests::id::{Mark, Uid};
use manifests::observed::Remembered;
use runtime::runtime::Effected;

use crate::diff::known::{Known, KnownSource, Owned, RestartPending};
use crate::diff::{Kept, overlay};
use crate::plan::{Plan, Purpose, Step};
use crate::store::Write;

/// Follows the objects of one apply.
pub(super) struct Memory<'a> {
    desired: &'a DesiredSet,
    purpose: Purpose,
    objects: HashMap<Uid, Object>,
}

/// One object on its way.
#[derive(Default)]
struct Object {
    owned: Option<Owned>,
    /// Fields that some step or held step is to change, and that are not changed yet.
    open: Vec<FieldChange>,
}

impl<'a> Memory<'a> {
    pub(super) fn new(plan: &Plan, desired: &'a DesiredSet, known: &Known) -> Self {
        let mut objects: HashMap<Uid, Object> = HashMap::new();
        let waiting = plan
            .waiting
            .iter()
            .filter(|waiting| waiting.since.is_none())
            .flat_map(|waiting| {
                let uid = known
                    .owned
                    .values()
                    .find(|owned| owned.address == waiting.address)
                    .map(|owned| owned.uid);
                waiting
                    .changes
                    .iter()
                    .filter_map(move |change| Some((uid?, change)))
            });
        let planned = plan
            .steps
            .iter()
            .chain(plan.held.iter().map(|held| &held.step))
            .flat_map(|step| step.changes.iter().map(|change| (step.action.uid, change)));
        for (uid, change) in planned.chain(waiting) {
            objects
                .entry(uid)
                .or_default()
                .open
                .push(change.change.clone());
        }
        for step in &plan.steps {
            let uid = step.action.uid;
            objects.entry(uid).or_default().owned = known.owned.get(&uid).cloned();
        }
        Self {
            desired,
            purpose: plan.purpose,
            objects,
        }
    }

    /// The fields of a step's object that other steps are to change, or that are held, as they are now. Whoever does
    /// this step must leave them: what is told to the engine is taken for done.
    pub(super) fn not_yet(&self, step: &Step) -> Vec<Kept> {
        let open = self
            .objects
            .get(&step.action.uid)
            .map(|object| &object.open);
        open.into_iter()
            .flatten()
            .filter(|open| !changes(step, open) && open.path.as_str().starts_with("/spec"))
            .map(Kept::of)
            .collect()
    }

    /// Says that these fields of an object are not changed by this apply.
    pub(super) fn left(&mut self, uid: Uid, changes: Vec<FieldChange>) {
        self.objects.entry(uid).or_default().open.extend(changes);
    }

    /// What to remember after a step was done and seen.
    pub(super) fn done(
        &mut self,
        step: &Step,
        effected: Effected,
        now: jiff::Timestamp,
    ) -> Vec<Write> {
        let uid = step.action.uid;
        if step.removes() || matches!(step.action.verb, Verb::Forget) {
            return vec![Write::Disown(uid)];
        }
        if self.purpose == Purpose::Asked {
            return self.asked(step);
        }
        let Some(resource) = self.desired.resources.get(step.address()) else {
            return Vec::new();
        };
        let unapplied = self.not_yet(step);
        let object = self.objects.entry(uid).or_default();
        object.open.retain(|open| !changes(step, open));
        let mut owned = owned_of(resource, &step.action.mark);
        if !unapplied.is_empty() {
            // What was not applied must look like an edit the next time, not like drift.
            if let Ok(spec) = overlay(&resource.spec, &unapplied) {
                owned.spec = Some(spec.to_value().to_string());
            }
        }
        if let Some(before) = object.owned.take() {
            owned.restart_pending = before.restart_pending;
            owned.drift = before.drift;
        }
        let starts = starts(step);
        if starts {
            owned.restart_pending.clear();
        }
        for planned in &step.changes {
            let path = &planned.change.path;
            owned.drift.retain(|seen| seen.path != *path);
            owned
                .restart_pending
                .retain(|pending| pending.path != *path);
            if effected == Effected::NextStart && !starts {
                owned.restart_pending.push(RestartPending {
                    path: path.clone(),
                    before: planned.change.before.clone(),
                    wanted: planned.change.after.clone(),
                    since: now,
                });
            }
        }
        object.owned = Some(owned.clone());
        vec![Write::Own(Box::new(owned))]
    }

    /// What a person asked for says nothing about what an object should be: that is said by the next apply.
    fn asked(&mut self, step: &Step) -> Vec<Write> {
        if matches!(step.action.verb, Verb::Adopt | Verb::Restore) {
            return vec![Write::Own(Box::new(bare(step)))];
        }
        let owned = self
            .objects
            .get_mut(&step.action.uid)
            .and_then(|object| object.owned.as_mut())
            .filter(|owned| starts(step) && !owned.restart_pending.is_empty());
        let Some(owned) = owned else {
            return Vec::new();
        };
        owned.restart_pending.clear();
        vec![Write::Own(Box::new(owned.clone()))]
    }
}

/// Whether what waited for a restart is in force after a step, or at the next start.
fn starts(step: &Step) -> bool {
    match &step.action.verb {
        Verb::Create | Verb::Restore | Verb::Rebuild | Verb::Replace => true,
        Verb::Power { power } => matches!(
            power,
            Power::Start
                | Power::StartAnew
                | Power::Stop
                | Power::Kill
                | Power::Save
                | Power::HostDown
                | Power::Restart
                | Power::Reset
        ),
        _ => false,
    }
}

/// Whether a step changes this field.
fn changes(step: &Step, field: &FieldChange) -> bool {
    step.changes
        .iter()
        .any(|planned| planned.change.path == field.path)
}

/// What is remembered of an object of which only the mark is known.
fn bare(step: &Step) -> Owned {
    Owned {
        uid: step.action.uid,
        source: step.action.mark.source.clone(),
        address: step.address().clone(),
        spec: None,
        origin: None,
        needs: Vec::new(),
        labels: None,
        remembered: None,
        restart_pending: Vec::new(),
        drift: Vec::new(),
    }
}

/// What is remembered of an object that is as wanted.
fn owned_of(resource: &Resource, mark: &Mark) -> Owned {
    Owned {
        uid: mark.uid,
        source: mark.source.clone(),
        address: resource.address.clone(),
        spec: Some(resource.spec.to_value().to_string()),
        origin: Some(resource.origin.clone()),
        needs: resource
            .needs
            .iter()
            .map(|(address, _)| address.clone())
            .collect(),
        labels: Some(resource.labels.clone()),
        remembered: Some(Remembered {
            prune: resource.lifecycle.prune,
            protect: resource.lifecycle.protect,
        }),
        restart_pending: Vec::new(),
        drift: Vec::new(),
    }
}

/// What to remember apart from steps: objects that are as wanted without our doing, records of what is gone, and where
/// the source came from. Empty if all of it is remembered already.
pub(super) fn aside(
    plan: &Plan,
    desired: &DesiredSet,
    known: &Known,
    now: jiff::Timestamp,
) -> Vec<Write> {
    let mut writes: Vec<Write> = plan.gone.iter().map(|uid| Write::Disown(*uid)).collect();
    for unchanged in &plan.settled {
        let Some(resource) = desired.resources.get(&unchanged.address) else {
            continue;
        };
        let mark = Mark {
            source: plan.source.name.clone(),
            uid: unchanged.uid,
        };
        let owned = owned_of(resource, &mark);
        if known.owned.get(&unchanged.uid) != Some(&owned) {
            writes.push(Write::Own(Box::new(owned)));
        }
    }
    let source = KnownSource {
        name: plan.source.name.clone(),
        root: plan.source.root.clone(),
        revision: plan.source.revision.clone(),
        repository: plan.source.repository.clone(),
        applied_at: now,
    };
    let same = known.sources.get(&source.name).is_some_and(|before| {
        let now = KnownSource {
            applied_at: before.applied_at,
            ..source.clone()
        };
        *before == now
    });
    let whole = plan.purpose == Purpose::Apply && plan.source.partial.is_none();
    if whole && (!same || !plan.steps.is_empty()) {
        writes.push(Write::Source(source));
    }
    writes
}
