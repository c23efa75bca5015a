//! What a worker does for one step: the object is looked at, and the engine told what to do.

use manifests::action::{Action, Power, Verb};
use manifests::change::{Cause, FieldChange};
use manifests::desired::DesiredSet;
use manifests::effect::Effect;
use manifests::observed::Item;
use manifests::secret;
use runtime::error::{Class, RuntimeError};
use runtime::runtime::{Context, Effected};

use super::seen;
use super::worker::Workers;
use crate::diff::{Kept, judge, overlay};
use crate::plan::{Step, state_of};

impl Workers<'_> {
    /// The deed itself.
    pub(super) fn deed(&self, step: &Step, first: bool) -> Result<Effected, RuntimeError> {
        let runtime = self.tools.runtime;
        let before = seen::address_before(step);
        let mut live = None;
        let stops = step.effect == Some(Effect::StopNeeded);
        if first || stops {
            live = runtime.look(before)?;
        }
        if first {
            let moved = seen::moved(
                self.plan,
                step,
                live.as_ref(),
                self.desired,
                self.known,
                !step.after.is_empty(),
            );
            if let Some(how) = moved {
                return Err(RuntimeError::new(step.deed(), Class::Conflict, how).of(step.address()));
            }
        }
        let mut kept = step.kept.clone();
        // A step that makes the object anew makes all of it, whatever else was planned for it.
        if !matches!(step.action.verb, Verb::Create | Verb::Replace) {
            kept.extend(self.shared().memory.not_yet(step));
        }
        let own;
        let desired = if kept.is_empty() {
            self.desired
        } else {
            own = self.leaving_alone(step, &kept)?;
            &own
        };
        let progress = |phase: &str| self.observer.phase(step, phase);
        let context = self.context(&progress);
        let power = |power| Action {
            verb: Verb::Power { power },
            address: before.clone(),
            ..step.action.clone()
        };
        let ran = live
            .as_ref()
            .and_then(state_of)
            .is_some_and(|state| state != "Stopped");
        if stops && ran {
            runtime.perform(&power(Power::Stop), desired, &context)?;
        }
        if let Some(update) = self.what_nobody_knows(step, &kept) {
            runtime.perform(&update, desired, &context)?;
        }
        let mut effected = runtime.perform(&step.action, desired, &context);
        if stops && ran {
            let start = Action {
                address: step.address().clone(),
                ..power(Power::Start)
            };
            // Also where it was refused: it was stopped for nothing else.
            let started = runtime.perform(&start, desired, &context);
            match (&effected, started) {
                (Ok(_), Err(error)) => effected = Err(error),
                (Err(_), Err(error)) => {
                    tracing::warn!(%error, "{} does not run again", step.address());
                }
                (_, Ok(_)) => {}
            }
        }
        let effected = effected?;
        if matches!(step.action.verb, Verb::Restore) {
            self.bring_up_to_date(step, desired, &context)?;
        }
        Ok(effected)
    }

    /// Puts those fields of a step in force that are not so. Whether that helped is seen by the next look.
    pub(super) fn once_more(&self, step: &Step, item: &Item, later: &[Kept]) {
        if !matches!(step.action.verb, Verb::Create | Verb::Update { .. }) || !item.complete {
            return;
        }
        let mut changes = seen::left(step, item, self.desired, later, self.plan.made_at);
        // Whether it runs is another matter, which takes its time.
        changes.retain(|change| change.path.as_str() != "/spec/state");
        if changes.is_empty() {
            return;
        }
        let update = Action {
            verb: Verb::Update { changes },
            ..step.action.clone()
        };
        let done = self.guarded(|| {
            let own = match later {
                [] => None,
                later => Some(self.leaving_alone(step, later)?),
            };
            let desired = own.as_ref().unwrap_or(self.desired);
            let context = self.context(&|_| {});
            self.tools.runtime.perform(&update, desired, &context)
        });
        if let Err((_, why)) = done {
            tracing::debug!(why, object = %step.address(), "not done once more");
        }
    }

    /// What comes out of the trash is as it was; the manifest may say something else by now.
    fn bring_up_to_date(
        &self,
        step: &Step,
        desired: &DesiredSet,
        context: &Context<'_>,
    ) -> Result<(), RuntimeError> {
        let address = step.address();
        let live = self.tools.runtime.look(address)?;
        let (Some(resource), Some(item)) = (desired.resources.get(address), live) else {
            return Ok(());
        };
        let (power, changes): (Vec<_>, Vec<_>) = judge(resource, &item, None, self.plan.made_at)
            .changes
            .into_iter()
            .partition(|change| change.path.as_str() == "/spec/state");
        // Of what is otherwise than it lay in the trash nobody was told: the next plan tells it.
        let now: Vec<FieldChange> = step.changes.iter().map(|p| p.change.clone()).collect();
        let is_planned = |change: &FieldChange| now.iter().any(|one| one.path == change.path);
        let later: Vec<_> = changes.into_iter().filter(|one| !is_planned(one)).collect();
        if !now.is_empty() {
            let own;
            let desired = if later.is_empty() {
                desired
            } else {
                let kept: Vec<Kept> = later.iter().map(Kept::of).collect();
                own = self.leaving_alone(step, &kept)?;
                &own
            };
            let update = Action {
                verb: Verb::Update { changes: now },
                ..step.action.clone()
            };
            self.tools.runtime.perform(&update, desired, context)?;
        }
        self.shared().memory.left(step.action.uid, later);
        for change in power {
            let powers: &[Power] = match change.after.as_str() {
                Some("Running") => &[Power::Start],
                Some("Frozen") => &[Power::Start, Power::Freeze],
                _ => &[],
            };
            for power in powers {
                let action = Action {
                    verb: Verb::Power { power: *power },
                    ..step.action.clone()
                };
                self.tools.runtime.perform(&action, desired, context)?;
            }
        }
        Ok(())
    }

    /// Whether all of a value can be put in its place once more. Of a secret that the guest made and nobody knows since the
    /// host started, git's counts: an instance must be able to start.
    fn can_be_put(&self, kept: &Kept) -> bool {
        let mut is_known = true;
        secret::replace_sealed(&mut kept.live.clone(), &mut |digest, value| {
            is_known &= self.tools.runtime.knows_secret(digest);
            value.clone()
        });
        is_known
    }

    /// What must be as git says before an instance can start: fields that are left alone and cannot be put.
    fn what_nobody_knows(&self, step: &Step, kept: &[Kept]) -> Option<Action> {
        let starts = Verb::Power {
            power: Power::Start,
        };
        if step.action.verb != starts {
            return None;
        }
        let spec = self.desired.resources.get(step.address())?.spec.to_value();
        let lost = kept.iter().filter(|kept| !self.can_be_put(kept));
        let changes: Vec<FieldChange> = lost
            .map(|kept| {
                let below = kept.path.as_str().strip_prefix("/spec");
                let wanted = below.and_then(|below| spec.pointer(below));
                FieldChange {
                    path: kept.path.clone(),
                    before: kept.live.clone(),
                    after: wanted.cloned().unwrap_or_default(),
                    cause: Cause::Drifted,
                }
            })
            .collect();
        (!changes.is_empty()).then(|| Action {
            verb: Verb::Update { changes },
            ..step.action.clone()
        })
    }

    /// The object and all that it needs, with the fields that are left alone as they live.
    fn leaving_alone(&self, step: &Step, kept: &[Kept]) -> Result<DesiredSet, RuntimeError> {
        let mut set = DesiredSet {
            source: self.desired.source.clone(),
            resources: std::collections::BTreeMap::new(),
            others: std::collections::BTreeMap::new(),
            external: self.desired.external.clone(),
            policies: Vec::new(),
            projects: Vec::new(),
            secrets: std::collections::BTreeMap::new(),
            budget: self.desired.budget,
            windows: self.desired.windows.clone(),
            trash: self.desired.trash,
            host: self.desired.host.clone(),
        };
        let mut open = vec![step.address().clone()];
        while let Some(address) = open.pop() {
            let Some(resource) = self.desired.resources.get(&address) else {
                continue;
            };
            if set.resources.contains_key(&address) {
                continue;
            }
            open.extend(resource.needs.iter().map(|(need, _)| need.clone()));
            let mut resource = resource.clone();
            if address == *step.address() {
                let kept = kept.iter().filter(|kept| self.can_be_put(kept));
                let kept: Vec<Kept> = kept.cloned().collect();
                resource.spec = overlay(&resource.spec, &kept).map_err(|error| {
                    RuntimeError::new("leave fields alone", Class::Bug, error).of(&address)
                })?;
            }
            set.resources.insert(address, resource);
        }
        Ok(set)
    }
}
