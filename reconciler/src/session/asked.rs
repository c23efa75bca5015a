//! Single deeds that a person asks for: they go through plan, lock and journal as everything else does.

use std::collections::BTreeSet;

use manifests::action::{Power, Verb};
use manifests::desired::{DesiredSet, SourceInfo, TrashRule};
use manifests::envelope::wrong_name;
use manifests::id::{Address, Mark, SourceName, Uid};
use manifests::observed::{Item, ObservedSet, Trashed};
use runtime::error::RuntimeError;
use runtime::runtime::Effected;
use uuid::Uuid;

use super::{Session, SessionError};
use crate::apply::{ApplyObserver, ApplyOptions, ApplyReport};
use crate::clock::micros_since;
use crate::diff::known::{Hold, Known};
use crate::error::chain;
use crate::journal::{Event, Outcome, What};
use crate::plan::{Expectation, Plan, PlanId, PlanSource, Purpose, Step, StepId};
use crate::store::{SqliteStore, Store as _, Write};

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
    /// Stop an instance, also one that its manifest wants running.
    Hold {
        /// [`Power::Stop`], [`Power::Kill`] or [`Power::Save`].
        power: Power,
        /// For how long, and why.
        hold: Hold,
    },
    /// Take the newest of this name out of the trash, or the one whose identity begins so.
    Restore {
        /// The first letters of its identity.
        uid: Option<String>,
        /// What becomes of what lives under its name.
        whose_name: WhoseName,
    },
    /// Delete all of this name from the trash for good, or the one whose identity begins so.
    Purge {
        /// The first letters of its identity.
        uid: Option<String>,
    },
}

/// Which of two objects of one name keeps it, where one of them comes out of the trash.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum WhoseName {
    /// There is to be only one.
    #[default]
    Free,
    /// The one that comes out of the trash gets this one.
    Other(String),
    /// The one that lives goes to the trash for it.
    Taken,
}

/// What a person asked for, ready to be carried out.
#[derive(Debug)]
pub struct AskedPlan {
    /// What is done; the steps do not wait for one another.
    pub plan: Plan,
    /// The set that belongs to it.
    pub desired: DesiredSet,
    /// What cannot be done, one object at a time.
    pub refused: Vec<(Address, SessionError)>,
    /// Remembered before the first step.
    pub(super) before: Vec<Write>,
}

/// One look at everything, from which deeds are planned.
struct Looked<'a> {
    observed: &'a ObservedSet,
    known: &'a Known,
    id: PlanId,
    now: jiff::Timestamp,
}

impl Session<'_> {
    /// The plan of one deed on each of some objects. What cannot be done to one of them hinders none of the others.
    ///
    /// # Errors
    /// The engine is out of reach, or the database cannot be read.
    pub fn asked(&self, objects: &[Address], asked: &Asked) -> Result<AskedPlan, SessionError> {
        let (known, observed) = self.look()?;
        let looked = Looked {
            observed: &observed,
            known: &known,
            id: PlanId(Uuid::now_v7()),
            now: self.clock.now(),
        };
        let (mut steps, mut before, mut refused) = (Vec::new(), Vec::new(), Vec::new());
        for address in objects.iter().collect::<BTreeSet<_>>() {
            match looked.steps(address, asked) {
                Ok(mut own) => {
                    let before_them = u32::try_from(steps.len()).unwrap_or(u32::MAX);
                    for first in own.iter_mut().flat_map(|step| &mut step.after) {
                        first.0 = first.0.saturating_add(before_them);
                    }
                    for uid in own.iter().map(|step| step.action.uid) {
                        before.extend(looked.remember(uid, asked));
                    }
                    steps.extend(own);
                }
                Err(error) => refused.push((address.clone(), error)),
            }
        }
        let (plan, desired) = self.asked_plan(looked.id, steps, Vec::new())?;
        Ok(AskedPlan {
            plan,
            desired,
            refused,
            before,
        })
    }

    /// The plan that deletes from the trash for good: what expired, or all of it.
    ///
    /// # Errors
    /// The engine is out of reach, or the database cannot be read.
    pub fn empty_trash(&self, all: bool) -> Result<AskedPlan, SessionError> {
        let observed = self.runtime.observe()?;
        let now = self.clock.now();
        let alive: BTreeSet<Uid> = observed.items.iter().filter_map(Item::uid).collect();
        let steps = observed
            .trash
            .iter()
            .filter(|trashed| all || trashed.expires_at <= now)
            // What was cut short while it was taken out lives already; deleting it would hit the living one.
            .filter(|trashed| !alive.contains(&trashed.mark.uid))
            .map(purge)
            .collect();
        self.purging(steps)
    }

    /// The plan of these deletions from the trash.
    pub(super) fn purging(&self, steps: Vec<Step>) -> Result<AskedPlan, SessionError> {
        let (plan, desired) = self.asked_plan(PlanId(Uuid::now_v7()), steps, Vec::new())?;
        Ok(AskedPlan {
            plan,
            desired,
            refused: Vec::new(),
            before: Vec::new(),
        })
    }

    /// Does what was asked for.
    ///
    /// # Errors
    /// Somebody else holds the lock or changed something meanwhile, or nothing can be read or remembered.
    pub fn carry_out_asked(
        &self,
        asked: &AskedPlan,
        how: &ApplyOptions,
        observer: &dyn ApplyObserver,
    ) -> Result<ApplyReport, SessionError> {
        let store = self.store()?;
        let (plan, desired) = (&asked.plan, &asked.desired);
        self.carry_out(&store, plan, desired, &asked.before, how, observer)
    }

    /// Does one thing of which no plan can tell, under the lock and in the journal.
    ///
    /// # Errors
    /// What the work says; or somebody else holds the lock, or nothing can be remembered.
    pub fn deed<T>(
        &self,
        address: &Address,
        word: &str,
        how: &ApplyOptions,
        work: impl FnOnce() -> Result<T, RuntimeError>,
    ) -> Result<T, SessionError> {
        let store = self.store()?;
        let _lock = self.begin(&store, &how.command, how.failpoint.as_deref())?;
        self.recorded(&store, address, word, how, work)
    }

    /// As [`Self::deed`], for who holds the lock.
    pub(super) fn recorded<T>(
        &self,
        store: &SqliteStore,
        address: &Address,
        word: &str,
        how: &ApplyOptions,
        work: impl FnOnce() -> Result<T, RuntimeError>,
    ) -> Result<T, SessionError> {
        let plan = PlanId(Uuid::now_v7());
        let (step, began) = (StepId(1), self.clock.instant());
        let event = |what| {
            Write::Event(Event {
                plan,
                at: self.clock.now(),
                what,
            })
        };
        let pass = || how.failpoint.iter().for_each(|point| point.pass());
        pass();
        store.commit(&[
            event(What::Begun {
                source: SourceName::unnamed(),
                revision: None,
                purpose: Purpose::Asked,
                command: how.command.clone(),
                by: how.by.clone(),
                steps: 1,
                held: 0,
            }),
            event(What::Started {
                step,
                address: address.clone(),
                uid: Uid::derive(&plan.0, address),
                word: word.to_owned(),
            }),
        ])?;
        pass();
        let result = work();
        pass();
        let outcome = match &result {
            Ok(_) => Outcome::Succeeded {
                effected: Effected::Done,
            },
            Err(error) => Outcome::Failed {
                class: error.class,
                message: chain(error),
            },
        };
        let micros = micros_since(self.clock, began);
        store.commit(&[
            event(What::Ended {
                step,
                address: address.clone(),
                outcome,
                micros: Some(micros),
            }),
            event(What::Finished {
                cancelled: false,
                interrupted: false,
                micros,
            }),
        ])?;
        pass();
        Ok(result?)
    }

    /// A plan of steps that nobody declared, numbered in the order given, and the set that belongs to it.
    pub(super) fn asked_plan(
        &self,
        id: PlanId,
        mut steps: Vec<Step>,
        resources: Vec<manifests::desired::Resource>,
    ) -> Result<(Plan, DesiredSet), SessionError> {
        for (step, number) in steps.iter_mut().zip(1..) {
            step.id = StepId(number);
        }
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
        let mut desired = Self::nothing_of(SourceInfo {
            name: source.clone(),
            root: root.clone(),
            revision: None,
            repository: None,
            partial: None,
        });
        desired.resources = resources
            .into_iter()
            .map(|resource| (resource.address.clone(), resource))
            .collect();
        let names: Vec<String> = steps.iter().map(|one| one.address().to_string()).collect();
        let plan = Plan {
            secrets: Vec::new(),
            id,
            seed: id,
            purpose: Purpose::Asked,
            source: PlanSource {
                name: source,
                root,
                revision: None,
                repository: None,
                partial: Some(format!("only {}", names.join(", "))),
                last_applied: None,
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

impl Looked<'_> {
    /// The steps of one deed on one object.
    fn steps(&self, address: &Address, asked: &Asked) -> Result<Vec<Step>, SessionError> {
        let not_possible = |why: &str, hint: Option<String>| SessionError::NotPossible {
            object: address.clone(),
            why: why.to_owned(),
            hint,
        };
        let there = || {
            let mut items = self.observed.items.iter();
            items
                .find(|item| item.address == *address)
                .ok_or_else(|| SessionError::NotThere(address.clone()))
        };
        match asked {
            Asked::Restore { uid, whose_name } => {
                let trashed = self.trashed(address, uid.as_deref())?;
                let newest = trashed.iter().max_by_key(|one| one.deleted_at);
                let newest = newest.ok_or_else(|| match there() {
                    Ok(_) => not_possible("is there already, and not in the trash", None),
                    Err(_) => not_possible("is not in the trash", None),
                })?;
                self.back(address, newest, whose_name)
            }
            Asked::Purge { uid } => {
                let trashed = self.trashed(address, uid.as_deref())?;
                if trashed.is_empty() {
                    return Err(not_possible("is not in the trash", None));
                }
                Ok(trashed.into_iter().map(purge).collect())
            }
            Asked::Adopt { source } => {
                let item = there()?;
                if let Some(mark) = &item.mark {
                    return Err(not_possible(
                        &format!("belongs to source {}", mark.source),
                        Some(format!("let it go there first: keel forget {address}")),
                    ));
                }
                let mark = Mark {
                    source: source.clone(),
                    uid: item
                        .uid()
                        .unwrap_or_else(|| Uid::derive(&self.id.0, address)),
                };
                let verb = Verb::Adopt;
                Ok(vec![Step::asked(
                    verb,
                    address,
                    &mark,
                    Expectation::Anything,
                )])
            }
            Asked::Forget => {
                let mark = there()?.mark.as_ref();
                let mark = mark.ok_or_else(|| not_possible("is nobody's already", None))?;
                let verb = Verb::Forget;
                Ok(vec![Step::asked(
                    verb,
                    address,
                    mark,
                    Expectation::Anything,
                )])
            }
            Asked::Power(power) | Asked::Hold { power, .. } => {
                let mark = mark_of(there()?)
                    .ok_or_else(|| not_possible("is none that keel made", None))?;
                let stops = matches!(power, Power::Stop | Power::Kill | Power::Save);
                let unheld = matches!(asked, Asked::Power(_))
                    && self.known.hold(&mark.uid, self.now).is_none();
                if stops && unheld && self.is_to_run(&mark.uid) {
                    return Err(not_possible(
                        "runs because its manifest says so: the next apply would start it again",
                        Some(format!(
                            "say for how long and why: keel stop {} --hold 2h --reason TEXT; for good: write `state: Stopped`{}",
                            address.name,
                            self.written_at(&mark.uid),
                        )),
                    ));
                }
                let verb = Verb::Power { power: *power };
                Ok(vec![Step::asked(
                    verb,
                    address,
                    &mark,
                    Expectation::Anything,
                )])
            }
        }
    }

    /// The steps that take one out of the trash.
    fn back(
        &self,
        address: &Address,
        trashed: &Trashed,
        whose_name: &WhoseName,
    ) -> Result<Vec<Step>, SessionError> {
        let mut name = address.clone();
        if let WhoseName::Other(other) = whose_name {
            if let Some(wrong) = wrong_name(address.kind, other) {
                return Err(SessionError::NotPossible {
                    object: address.clone(),
                    why: format!("cannot be called {other}"),
                    hint: Some(wrong),
                });
            }
            name.name.clone_from(other);
        }
        let (verb, absent) = (Verb::Restore, Expectation::Absent);
        let mut restore = Step::asked(verb, &name, &trashed.mark, absent);
        let lives = self.observed.items.iter().find(|one| one.address == name);
        let Some(lives) = lives else {
            return Ok(vec![restore]);
        };
        let mark = mark_of(lives).filter(|_| *whose_name == WhoseName::Taken);
        let Some(mark) = mark else {
            let why = "is there already: the one in the trash cannot take its name";
            let hint = format!(
                "keel trash restore {address} --as NAME gives it another one, --instead puts the one that is there \
                 into the trash"
            );
            return Err(SessionError::NotPossible {
                object: name,
                why: why.to_owned(),
                hint: Some(hint),
            });
        };
        let (at, expires_at) = (self.now, TrashRule::default().expiry(self.now));
        let verb = Verb::Trash { at, expires_at };
        let mut away = Step::asked(verb, &name, &mark, Expectation::Anything);
        away.loss = Some(lives.holds);
        restore.after = vec![StepId(1)];
        restore.expects = Expectation::Anything;
        Ok(vec![away, restore])
    }

    /// What is remembered of an object before a deed on it begins.
    fn remember(&self, uid: Uid, asked: &Asked) -> Option<Write> {
        match asked {
            Asked::Hold { hold, .. } => Some(Write::Hold(uid, hold.clone())),
            Asked::Power(Power::Start | Power::StartAnew | Power::Restart | Power::Reset) => self
                .known
                .holds
                .contains_key(&uid)
                .then_some(Write::Release(uid)),
            _ => None,
        }
    }

    /// Whether the manifest, as it was last applied, says `state: Running`.
    fn is_to_run(&self, uid: &Uid) -> bool {
        let spec = self
            .known
            .owned
            .get(uid)
            .and_then(|one| one.spec.as_deref());
        spec.and_then(|text| serde_json::from_str::<serde_json::Value>(text).ok())
            .is_some_and(|spec| spec["state"] == "Running")
    }

    /// ` in web.yaml:4`, where that is known.
    fn written_at(&self, uid: &Uid) -> String {
        let owned = self.known.owned.get(uid);
        owned
            .and_then(|owned| owned.origin.as_ref())
            .filter(|origin| !origin.file.is_empty())
            .map_or_else(String::new, |origin| format!(" in {origin}"))
    }

    /// All of a name in the trash whose identity does not live; where the beginning of one is given, that one.
    fn trashed(&self, address: &Address, uid: Option<&str>) -> Result<Vec<&Trashed>, SessionError> {
        let lives = |uid| self.observed.items.iter().any(|one| one.uid() == Some(uid));
        let found: Vec<&Trashed> = self
            .observed
            .trash
            .iter()
            .filter(|trashed| trashed.address == *address && !lives(trashed.mark.uid))
            .filter(|trashed| uid.is_none_or(|uid| trashed.mark.uid.to_string().starts_with(uid)))
            .collect();
        match uid {
            Some(uid) if found.len() > 1 => Err(SessionError::NotPossible {
                object: address.clone(),
                why: format!(
                    "lies in the trash more than once with an identity that begins with {uid}"
                ),
                hint: Some("say more of it: keel trash list -o json".to_owned()),
            }),
            _ => Ok(found),
        }
    }
}

/// The mark of an object; of one that was let go of, one of nobody.
pub(super) fn mark_of(item: &Item) -> Option<Mark> {
    item.mark.clone().or_else(|| {
        Some(Mark {
            source: SourceName::unnamed(),
            uid: item.uid()?,
        })
    })
}

pub(super) fn purge(trashed: &Trashed) -> Step {
    let mut step = Step::asked(
        Verb::Delete,
        &trashed.address,
        &trashed.mark,
        Expectation::Anything,
    );
    step.loss = Some(trashed.holds);
    step
}

#[cfg(test)]
mod tests;
