//! [`MemoryStore`]: store and journal that end with the process, for tests and for plans without a host.

use std::sync::{Mutex, MutexGuard, PoisonError};

use manifests::id::Address;

use super::{Store, StoreError, Write};
use crate::diff::known::Known;
use crate::journal::{ApplyStatus, Event, Journal, JournalError, ObjectEvent, What};
use crate::plan::PlanId;

#[derive(Debug, Default)]
struct Inner {
    known: Known,
    events: Vec<Event>,
}

/// Remembers until the process ends.
#[derive(Debug, Default)]
pub struct MemoryStore {
    inner: Mutex<Inner>,
}

impl MemoryStore {
    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What one write does to what is known.
fn put(known: &mut Known, write: &Write) {
    match write {
        Write::Own(owned) => {
            known.owned.insert(owned.uid, (**owned).clone());
        }
        Write::Found(owned) => {
            known
                .owned
                .entry(owned.uid)
                .or_insert_with(|| (**owned).clone());
        }
        Write::Disown(uid) => {
            known.owned.remove(uid);
            known.holds.remove(uid);
            known
                .ticks
                .retain(|(schedule, object), _| schedule != uid && object != uid);
        }
        Write::Tick {
            schedule,
            object,
            tick,
        } => {
            known.ticks.insert((*schedule, *object), *tick);
        }
        Write::Hold(uid, hold) => {
            known.holds.insert(*uid, hold.clone());
        }
        Write::Release(uid) => {
            known.holds.remove(uid);
        }
        Write::Suspend(scope, suspension) => {
            known.suspensions.insert(scope.clone(), suspension.clone());
        }
        Write::Resume(scope) => {
            known.suspensions.remove(scope);
        }
        Write::Pin(source, pin) => {
            known.pins.insert(source.clone(), pin.clone());
        }
        Write::Unpin(source) => {
            known.pins.remove(source);
        }
        Write::Source(source) => {
            known.sources.insert(source.name.clone(), source.clone());
        }
        Write::NextGeneration => known.generation += 1,
        Write::Drift(uid, drift) => {
            if let Some(owned) = known.owned.get_mut(uid) {
                owned.drift.clone_from(drift);
            }
        }
        Write::Event(_) => {}
    }
}

impl Store for MemoryStore {
    fn load(&self) -> Result<Known, StoreError> {
        Ok(self.inner().known.clone())
    }

    fn commit(&self, writes: &[Write]) -> Result<(), StoreError> {
        let mut inner = self.inner();
        for write in writes {
            put(&mut inner.known, write);
            if let Write::Event(event) = write {
                let told = inner.events.iter().any(|before| {
                    before.plan == event.plan && matches!(before.what, What::Finished { .. })
                });
                if !told {
                    inner.events.push(event.clone());
                }
            }
        }
        Ok(())
    }
}

impl Journal for MemoryStore {
    fn unfinished(&self) -> Result<Vec<ApplyStatus>, JournalError> {
        let mut all = self.applies(usize::MAX)?;
        all.retain(|apply| apply.finished.is_none());
        Ok(all)
    }

    fn applies(&self, limit: usize) -> Result<Vec<ApplyStatus>, JournalError> {
        let inner = self.inner();
        let mut plans: Vec<PlanId> = Vec::new();
        for event in inner.events.iter().rev() {
            if !plans.contains(&event.plan) {
                plans.push(event.plan);
            }
        }
        plans
            .into_iter()
            .take(limit)
            .map(|plan| ApplyStatus::replay(inner.events.iter().filter(|e| e.plan == plan)))
            .collect()
    }

    fn apply_of(&self, plan: &PlanId) -> Result<Option<ApplyStatus>, JournalError> {
        let inner = self.inner();
        let mut own = inner.events.iter().filter(|e| e.plan == *plan).peekable();
        own.peek()
            .is_some()
            .then(|| ApplyStatus::replay(own))
            .transpose()
    }

    fn events_of(&self, address: &Address, limit: usize) -> Result<Vec<ObjectEvent>, JournalError> {
        let inner = self.inner();
        let begun = |event: &Event| {
            let mut all = inner.events.iter().filter(|one| one.plan == event.plan);
            all.next().map(|begun| begun.what.clone())
        };
        Ok(inner
            .events
            .iter()
            .rev()
            .filter(|event| event.address() == Some(address))
            .take(limit)
            .map(|event| ObjectEvent::new(event.clone(), begun(event)))
            .collect())
    }
}
