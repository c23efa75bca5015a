//! Snapshots by schedule: what is due, and doing it.

use std::collections::{BTreeMap, BTreeSet};

use manifests::id::{Address, SourceName, Uid};
use manifests::observed::{Item, ObservedSet};
use runtime::error::RuntimeError;
use runtime::runtime::{Context, Effected, NewSnapshot, Snapshots};
use uuid::Uuid;

use super::asked::purge;
use super::{AskedPlan, Session, SessionError};
use crate::apply::ApplyOptions;
use crate::clock::micros_since;
use crate::diff::known::{Known, Tick};
use crate::error::chain;
use crate::journal::{Event, Journal as _, Outcome, What};
use crate::plan::{PlanId, Purpose, StepId};
use crate::snapshots::due::{Made, Turn};
use crate::snapshots::jobs::{Deed, Job, Jobs, jobs};
use crate::snapshots::lull::Found;
use crate::snapshots::stand::{Stand, stands};
use crate::snapshots::trash::{Look, look};
use crate::snapshots::watch::{Trouble, Watch, watches};
use crate::store::{Store as _, Write};

/// A schedule and one of its objects as they are now.
#[derive(Debug)]
pub struct Scheduled {
    /// Both of them, and what is asked for.
    pub watch: Watch,
    /// What is remembered of them; none: they were not seen together yet.
    pub tick: Option<Tick>,
    /// Whose turn it is.
    pub turn: Turn,
}

impl Scheduled {
    /// When it is due next, or has been since; `None`: never.
    pub fn next(&self) -> Option<jiff::Timestamp> {
        let rule = &self.watch.rule;
        match self.turn {
            Turn::Later(next) => next,
            Turn::Make(due) => Some(due),
            Turn::Note(tick) => rule.schedule.next(tick.at, &rule.zone),
        }
    }
}

/// What was done of all that was due.
#[derive(Debug, Default)]
pub struct DueReport {
    /// What went well.
    pub done: usize,
    /// What did not.
    pub failed: Vec<(Job, RuntimeError)>,
    /// What stands in the way of schedules.
    pub troubles: Vec<Trouble>,
    /// A person asked to leave before all was done.
    pub cancelled: bool,
    /// What was found; something also where it was only to be remembered.
    pub found: Found,
}

/// What of the trash goes for good.
#[derive(Debug)]
pub struct Expired {
    /// By these steps.
    pub plan: AskedPlan,
    /// When the time of something else is over; none: never.
    pub next: Option<jiff::Timestamp>,
}

/// What one look finds.
struct Looked {
    known: Known,
    watches: Vec<Watch>,
    troubles: Vec<Trouble>,
    made: BTreeMap<Address, Vec<Made>>,
}

impl Session<'_> {
    /// All schedules with each of their objects, and what stands in the way of some.
    ///
    /// # Errors
    /// The engine is out of reach, or the database cannot be read.
    pub fn scheduled(&self) -> Result<(Vec<Scheduled>, Vec<Trouble>), SessionError> {
        let (known, observed) = self.look()?;
        let (watches, troubles) = watched(&known, &observed);
        let now = self.clock.now();
        let scheduled = watches.into_iter().map(|watch| {
            let tick = known.ticks.get(&(watch.by.1, watch.object.1)).copied();
            let turn = watch.turn(tick.as_ref(), now);
            Scheduled { watch, tick, turn }
        });
        Ok((scheduled.collect(), troubles))
    }

    /// How all schedules stand, by their identity.
    ///
    /// # Errors
    /// The engine is out of reach, or the database cannot be read.
    pub fn stands(&self) -> Result<BTreeMap<Uid, Stand>, SessionError> {
        let (known, observed) = self.look()?;
        Ok(Self::stands_in(&known, &observed, self.clock.now()))
    }

    /// As [`Self::stands`], of what was looked at.
    pub(crate) fn stands_in(
        known: &Known,
        observed: &ObservedSet,
        now: jiff::Timestamp,
    ) -> BTreeMap<Uid, Stand> {
        let (watches, _) = watched(known, observed);
        stands(&watches, observed, known, now)
    }

    /// The plan that deletes for good what lay in the trash for as long as it should, by the time that was seen to pass:
    /// each look is remembered.
    ///
    /// # Errors
    /// The engine is out of reach, or the database cannot be read or written.
    pub fn expire_trash(&self) -> Result<Expired, SessionError> {
        let (known, observed) = self.look()?;
        let now = self.clock.now();
        let alive: BTreeSet<Uid> = observed.items.iter().filter_map(Item::uid).collect();
        let looked = look(&observed.trash, &known, now);
        let schedule = Look::schedule();
        let write = |(object, tick): &(Uid, Tick)| Write::Tick {
            schedule,
            object: *object,
            tick: *tick,
        };
        let writes: Vec<Write> = looked.ticks.iter().map(write).collect();
        if !writes.is_empty() {
            self.store()?.commit(&writes)?;
        }
        let next = looked.next;
        let gone = looked.gone.into_iter();
        // What was cut short while it was taken out lives already.
        let gone = gone.filter(|one| !alive.contains(&one.mark.uid));
        let plan = self.purging(gone.map(purge).collect())?;
        Ok(Expired { plan, next })
    }

    /// How often something was changed here; none: something was cut short, and is to be cleared up.
    ///
    /// # Errors
    /// The database cannot be read.
    pub fn at_rest(&self) -> Result<Option<u64>, SessionError> {
        let store = self.store()?;
        if !store.unfinished()?.is_empty() || self.runtime.is_littered() {
            return Ok(None);
        }
        Ok(Some(store.generation()?))
    }

    /// Makes the snapshots that are due and deletes those that are to go. Where nothing is, no lock is taken. `tell` is
    /// told of each deed that went well.
    ///
    /// # Errors
    /// Somebody else holds the lock, or nothing can be read or remembered. What one object refuses is in the report.
    pub fn run_due(
        &self,
        snapshots: &dyn Snapshots,
        how: &ApplyOptions,
        tell: &dyn Fn(&Job),
    ) -> Result<DueReport, SessionError> {
        let store = self.store()?;
        // What a keel left that was killed is ended first: it may hold something frozen.
        if !store.unfinished()?.is_empty() || self.runtime.is_littered() {
            drop(self.begin(&store, &how.command, None)?);
        }
        let looked = self.look_for_due(snapshots)?;
        let due = self.due(&looked);
        if due.is_empty() {
            return Ok(DueReport {
                troubles: looked.troubles,
                found: Found::Nothing { next: due.next },
                ..DueReport::default()
            });
        }
        let _lock = self.begin(&store, &how.command, None)?;
        // Somebody else may have done it meanwhile.
        let looked = self.look_for_due(snapshots)?;
        let due = self.due(&looked);
        let notes = due.notes.iter().map(|((schedule, object), tick)| {
            let (schedule, object, tick) = (*schedule, *object, *tick);
            Write::Tick {
                schedule,
                object,
                tick,
            }
        });
        let mut writes: Vec<Write> = notes.collect();
        let mut report = DueReport {
            troubles: looked.troubles,
            ..DueReport::default()
        };
        if due.jobs.is_empty() {
            store.commit(&writes)?;
            return Ok(report);
        }
        let plan = PlanId(Uuid::now_v7());
        let event = |what| {
            Write::Event(Event {
                plan,
                at: self.clock.now(),
                what,
            })
        };
        let began = self.clock.instant();
        writes.push(event(What::Begun {
            source: SourceName::unnamed(),
            revision: None,
            purpose: Purpose::Asked,
            command: how.command.clone(),
            by: how.by.clone(),
            steps: u32::try_from(due.jobs.len()).unwrap_or(u32::MAX),
            held: 0,
        }));
        let mut not_made: Vec<(Address, String)> = Vec::new();
        for (job, number) in due.jobs.into_iter().zip(1..) {
            if self.cancel.load(std::sync::atomic::Ordering::Relaxed) {
                report.cancelled = true;
                break;
            }
            let (step, address) = (StepId(number), job.object.clone());
            let needs = match &job.deed {
                Deed::Drop { after, .. } => after.clone(),
                Deed::Make { .. } => None,
            };
            if needs.is_some_and(|needs| not_made.contains(&(address.clone(), needs))) {
                continue;
            }
            let word = match &job.deed {
                Deed::Make { .. } => "snapshot",
                Deed::Drop { .. } => "delete snapshot",
            };
            writes.push(event(What::Started {
                step,
                address: address.clone(),
                uid: Uid::derive(&plan.0, &address),
                word: word.to_owned(),
            }));
            // With the end of the one before: one sync for both.
            store.commit(&writes)?;
            writes.clear();
            let started = self.clock.instant();
            let result = self.one(snapshots, &job, how);
            let outcome = match &result {
                Ok(()) => Outcome::Succeeded {
                    effected: Effected::Done,
                },
                Err(error) => Outcome::Failed {
                    class: error.class,
                    message: chain(error),
                },
            };
            let micros = Some(micros_since(self.clock, started));
            writes.push(event(What::Ended {
                step,
                address,
                outcome,
                micros,
            }));
            writes.extend(ticked(
                &job,
                result.is_ok(),
                &looked.known,
                self.clock.now(),
            ));
            match result {
                Ok(()) => {
                    report.done += 1;
                    tell(&job);
                }
                Err(error) => {
                    if let Deed::Make { name, .. } = &job.deed {
                        not_made.push((job.object.clone(), name.clone()));
                    }
                    report.failed.push((job, error));
                }
            }
        }
        writes.push(event(What::Finished {
            cancelled: report.cancelled,
            interrupted: false,
            micros: micros_since(self.clock, began),
        }));
        store.commit(&writes)?;
        Ok(report)
    }

    fn look_for_due(&self, snapshots: &dyn Snapshots) -> Result<Looked, SessionError> {
        let (known, observed) = self.look()?;
        let (watches, mut troubles) = watched(&known, &observed);
        let mut made = BTreeMap::new();
        let watched = |item: &Item| watches.iter().any(|one| one.object.0 == item.address);
        let may_be_ours = |item: &&Item| match item.is_kept_by_server() {
            // Of those that a schedule made it is known, also where that watches it no more.
            true => watched(item) || item.status["snapshots"].is_array(),
            false => item.holds.snapshots > 0,
        };
        for item in observed.items.iter().filter(may_be_ours) {
            match snapshots.snapshots(&item.address) {
                Ok(all) => {
                    let all = all.into_iter().map(|one| Made {
                        name: one.name,
                        at: one.created_at,
                        by: one.made_by,
                        // Of its own the engine lets go by itself.
                        expires: one
                            .expires_at
                            .filter(|_| one.made_by.is_some() || !item.is_kept_by_server()),
                    });
                    made.insert(item.address.clone(), all.collect());
                }
                Err(error) => troubles.push(Trouble::Unseen {
                    object: item.address.clone(),
                    why: chain(&error),
                }),
            }
        }
        Ok(Looked {
            known,
            watches,
            troubles,
            made,
        })
    }

    fn due(&self, looked: &Looked) -> Jobs {
        // Of what cannot be seen nothing is concluded.
        let seen = |watch: &&Watch| {
            let unseen = looked.troubles.iter().any(
                |trouble| matches!(trouble, Trouble::Unseen { object, .. } if *object == watch.object.0),
            );
            !unseen
        };
        let watches: Vec<Watch> = looked.watches.iter().filter(seen).cloned().collect();
        jobs(
            &watches,
            &looked.known.ticks,
            &looked.made,
            self.clock.now(),
        )
    }

    fn one(
        &self,
        snapshots: &dyn Snapshots,
        job: &Job,
        how: &ApplyOptions,
    ) -> Result<(), RuntimeError> {
        let context = Context {
            cancel: self.cancel,
            timeout: how.timeout,
            now: self.clock.now(),
            progress: &|_| {},
        };
        match &job.deed {
            Deed::Make {
                by,
                name,
                memory,
                expires,
                ..
            } => {
                let new = NewSnapshot {
                    name: Some(name.clone()),
                    description: match by.0 == job.object {
                        true => "by its own schedule".to_owned(),
                        false => format!("by {}", by.0),
                    },
                    memory: *memory,
                    made_by: Some(by.1),
                    expires_at: *expires,
                };
                snapshots.create_snapshot(&job.object, &new, &context)?;
            }
            Deed::Drop { name, .. } => {
                snapshots.delete_snapshot(&job.object, name, &context)?;
            }
        }
        Ok(())
    }
}

pub(super) fn watched(known: &Known, observed: &ObservedSet) -> (Vec<Watch>, Vec<Trouble>) {
    watches(observed, &|uid| known.owned.get(uid)?.labels.as_ref())
}

/// What is remembered of a schedule after a job of it.
fn ticked(job: &Job, made: bool, known: &Known, now: jiff::Timestamp) -> Option<Write> {
    let Deed::Make { by, uid, due, .. } = &job.deed else {
        return None;
    };
    Some(tick_after((by.1, *uid), *due, made, known, now))
}

/// What is remembered of a schedule and an object for which something was due.
pub(super) fn tick_after(
    key: (Uid, Uid),
    due: jiff::Timestamp,
    made: bool,
    known: &Known,
    now: jiff::Timestamp,
) -> Write {
    let tick = match (made, known.ticks.get(&key)) {
        (false, Some(before)) => Tick {
            at: before.at,
            failed: Some((
                now,
                before
                    .failed
                    .map_or(1, |(_, times)| times.saturating_add(1)),
            )),
        },
        _ => Tick::at(due),
    };
    Write::Tick {
        schedule: key.0,
        object: key.1,
        tick,
    }
}
