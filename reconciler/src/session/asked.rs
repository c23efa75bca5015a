//! Single deeds that a person asks for: they go through plan, lock and journal as everything else does.

use manifests::action::{Action, Power, Verb};
use manifests::change::Cause;
use manifests::desired::{DesiredSet, SourceInfo};
use manifests::id::{Address, Mark, SourceName, Uid};
use manifests::observed::{Item, ObservedSet, Trashed};
use uuid::Uuid;

use super::{Session, SessionError};
use crate::plan::{Expectation, Plan, PlanId, PlanSource, Purpose, Step, StepId};
use crate::store::Store as _;

/// What a person asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Asked {
    /// Take over an object that nobody owns.
    Adopt {
        /// For which source.
        source: SourceName,
    },
    /// Let go of an object and leave it as it is.
    Forget,
    /// Switch an instance.
    Power(Power),
    /// Take the newest of this name out of the trash.
    Restore,
    /// Delete from the trash for good.
    Purge,
}

impl Session<'_> {
    /// The plan of one deed on one object, and the set that belongs to it.
    ///
    /// # Errors
    /// The object is not there, or is not one to which this can be done.
    pub fn asked(
        &self,
        address: &Address,
        asked: &Asked,
    ) -> Result<(Plan, DesiredSet), SessionError> {
        let observed = self.runtime.observe()?;
        let id = PlanId(Uuid::now_v7());
        let not_possible = |why: &str, hint: Option<String>| SessionError::NotPossible {
            object: address.clone(),
            why: why.to_owned(),
            hint,
        };
        let live = observed.items.iter().find(|item| item.address == *address);
        let step = match asked {
            Asked::Restore | Asked::Purge => {
                let trashed = newest(&observed, address)
                    .ok_or_else(|| not_possible("is not in the trash", None))?;
                match (asked, live) {
                    (Asked::Restore, Some(_)) => {
                        return Err(not_possible(
                            "is there already: the one in the trash cannot take its name",
                            None,
                        ));
                    }
                    (Asked::Restore, None) => {
                        step(Verb::Restore, address, &trashed.mark, Expectation::Absent)
                    }
                    _ => step(Verb::Delete, address, &trashed.mark, Expectation::Anything),
                }
            }
            Asked::Adopt { source } => {
                let item = live.ok_or_else(|| not_possible("is not there", None))?;
                if let Some(mark) = &item.mark {
                    return Err(not_possible(
                        &format!("belongs to source {}", mark.source),
                        Some(format!("let it go there first: keel forget {address}")),
                    ));
                }
                let mark = Mark {
                    source: source.clone(),
                    uid: Uid::derive(&id.0, address),
                };
                step(Verb::Adopt, address, &mark, Expectation::Anything)
            }
            Asked::Forget => {
                let mark = owner(address, live)?;
                step(Verb::Forget, address, mark, Expectation::Anything)
            }
            Asked::Power(power) => {
                let mark = owner(address, live)?;
                step(
                    Verb::Power { power: *power },
                    address,
                    mark,
                    Expectation::Anything,
                )
            }
        };
        self.asked_plan(id, vec![step], address)
    }

    /// The plan that deletes from the trash for good: what expired, or all of it.
    ///
    /// # Errors
    /// The engine is out of reach.
    pub fn empty_trash(&self, all: bool) -> Result<(Plan, DesiredSet), SessionError> {
        let observed = self.runtime.observe()?;
        let now = self.clock.now();
        let mut steps: Vec<Step> = observed
            .trash
            .iter()
            .filter(|trashed| all || trashed.expires_at <= now)
            .map(|trashed| {
                let mut step = step(
                    Verb::Delete,
                    &trashed.address,
                    &trashed.mark,
                    Expectation::Anything,
                );
                step.loss = Some(trashed.holds);
                step
            })
            .collect();
        for (step, number) in steps.iter_mut().zip(1..) {
            step.id = StepId(number);
        }
        let name = Address::new(manifests::kind::Kind::Instance, "trash");
        self.asked_plan(PlanId(Uuid::now_v7()), steps, &name)
    }

    fn asked_plan(
        &self,
        id: PlanId,
        steps: Vec<Step>,
        address: &Address,
    ) -> Result<(Plan, DesiredSet), SessionError> {
        let host = self.runtime.capabilities()?;
        let known = self.store()?.load()?;
        let source = steps
            .first()
            .map_or_else(SourceName::unnamed, |step| step.action.mark.source.clone());
        let root = known
            .sources
            .get(&source)
            .map(|known| known.root.clone())
            .unwrap_or_default();
        let desired = Self::nothing_of(SourceInfo {
            name: source.clone(),
            root: root.clone(),
            revision: None,
            partial: None,
        });
        let plan = Plan {
            id,
            purpose: Purpose::Asked,
            source: PlanSource {
                name: source,
                root,
                revision: None,
                partial: Some(format!("only {address}")),
            },
            engine: host.engine.to_owned(),
            host: host.host,
            state_id: self.folder.id().to_owned(),
            generation: known.generation,
            made_at: self.clock.now(),
            steps,
            held: Vec::new(),
            waiting: Vec::new(),
            stopping: Vec::new(),
            told: Vec::new(),
            notes: Vec::new(),
            unseen: Vec::new(),
            unchanged: 0,
            settled: Vec::new(),
            gone: Vec::new(),
        };
        Ok((plan, desired))
    }
}

fn newest<'a>(observed: &'a ObservedSet, address: &Address) -> Option<&'a Trashed> {
    observed
        .trash
        .iter()
        .filter(|trashed| trashed.address == *address)
        .max_by_key(|trashed| trashed.deleted_at)
}

fn owner<'a>(address: &Address, live: Option<&'a Item>) -> Result<&'a Mark, SessionError> {
    let not_possible = |why: &str| SessionError::NotPossible {
        object: address.clone(),
        why: why.to_owned(),
        hint: None,
    };
    live.ok_or_else(|| not_possible("is not there"))?
        .mark
        .as_ref()
        .ok_or_else(|| not_possible("is nobody's: keel does not touch it"))
}

fn step(verb: Verb, address: &Address, mark: &Mark, expects: Expectation) -> Step {
    Step {
        id: StepId(1),
        action: Action {
            verb,
            address: address.clone(),
            uid: mark.uid,
            mark: mark.clone(),
        },
        after: Vec::new(),
        waits: Vec::new(),
        changes: Vec::new(),
        effect: None,
        reason: "asked for".to_owned(),
        origin: None,
        cause: Cause::Asked,
        loss: None,
        expects,
        kept: Vec::new(),
    }
}
