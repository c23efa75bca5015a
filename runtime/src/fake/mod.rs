//! [`FakeRuntime`]: an engine whose world is in memory, with faults on demand, for tests of what decides and applies.
//!
//! It is strict where a real engine is: what is made must find what it needs, what is used cannot be deleted, and a
//! name is taken once. So an order that is wrong fails.

mod deeds;

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};

use manifests::action::Action;
use manifests::change::FieldChange;
use manifests::desired::DesiredSet;
use manifests::feature::Capabilities;
use manifests::id::{Address, Uid};
use manifests::kind::Kind;
use manifests::observed::{Item, ObservedSet, Trashed, Unclear};

use crate::error::{Class, RuntimeError};
use crate::runtime::{Context, Effected, Runtime};

/// What goes wrong with one deed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// It fails and nothing was done.
    FailsBefore,
    /// It fails although it was done.
    FailsAfter,
    /// The process dies before it: from here on nothing answers until [`FakeRuntime::revive`].
    DiesBefore,
    /// The process dies in the middle: what it makes stays incomplete.
    DiesWithin,
    /// The process dies after it.
    DiesAfter,
}

/// Everything that lives in memory.
#[derive(Debug, Clone, Default)]
pub struct World {
    /// What lives, by name.
    pub items: BTreeMap<Address, Item>,
    /// What is in the trash.
    pub trash: Vec<(Trashed, Item)>,
    /// What cannot be told.
    pub unclear: Vec<Unclear>,
    /// Changes that a running instance takes over at its next start.
    pub pending: HashMap<Uid, Vec<FieldChange>>,
}

#[derive(Debug, Default)]
struct Inner {
    world: World,
    faults: BTreeMap<usize, Fault>,
    deeds: Vec<Action>,
    dead: bool,
}

/// An engine in memory.
#[derive(Debug, Default)]
pub struct FakeRuntime {
    inner: Mutex<Inner>,
}

impl FakeRuntime {
    /// An engine of this world.
    pub fn new(world: World) -> Self {
        Self {
            inner: Mutex::new(Inner {
                world,
                ..Inner::default()
            }),
        }
    }

    /// The deed of this number, from 0, goes wrong.
    #[must_use]
    pub fn with_fault(self, deed: usize, fault: Fault) -> Self {
        self.inner().faults.insert(deed, fault);
        self
    }

    /// The world as it is now.
    pub fn world(&self) -> World {
        self.inner().world.clone()
    }

    /// Changes the world by hand.
    pub fn by_hand(&self, change: impl FnOnce(&mut World)) {
        change(&mut self.inner().world);
    }

    /// Everything that was performed or tried, in order.
    pub fn deeds(&self) -> Vec<Action> {
        self.inner().deeds.clone()
    }

    /// Whether the process died.
    pub fn is_dead(&self) -> bool {
        self.inner().dead
    }

    /// The next process, on the same world, without faults.
    #[must_use]
    pub fn revive(&self) -> Self {
        Self::new(self.world())
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn dead() -> RuntimeError {
    RuntimeError::new("go on", Class::Retry, "the process died")
}

fn fault(action: &Action) -> RuntimeError {
    RuntimeError::new(action.verb.word(), Class::Retry, "a fault was asked for").of(&action.address)
}

impl Runtime for FakeRuntime {
    fn capabilities(&self) -> Result<Capabilities, RuntimeError> {
        Ok(Capabilities {
            engine: "fake".to_owned(),
            host: "nowhere".to_owned(),
            machine_id: None,
            state_id: "00000000".to_owned(),
            architecture: "x86_64".to_owned(),
            memory: 1 << 30,
            processors: 2,
            ceilings: BTreeMap::new(),
            missing: Vec::new(),
            machines: None,
            config_keys: BTreeMap::new(),
        })
    }

    fn observe(&self) -> Result<ObservedSet, RuntimeError> {
        let inner = self.inner();
        if inner.dead {
            return Err(dead());
        }
        Ok(ObservedSet {
            items: inner.world.items.values().cloned().collect(),
            unclear: inner.world.unclear.clone(),
            trash: inner
                .world
                .trash
                .iter()
                .map(|(trashed, _)| trashed.clone())
                .collect(),
        })
    }

    fn look(&self, address: &Address) -> Result<Option<Item>, RuntimeError> {
        let inner = self.inner();
        if inner.dead {
            return Err(dead());
        }
        let mut doubts = inner.world.unclear.iter();
        if let Some(unclear) = doubts.find(|unclear| unclear.address == *address) {
            let error = RuntimeError::new("look at", Class::Retry, unclear.why.clone());
            return Err(error.of(address));
        }
        Ok(inner.world.items.get(address).cloned())
    }

    /// It has no place where secrets are put.
    fn knows_secret(&self, _: &str) -> bool {
        true
    }

    /// Its world tells all at once.
    fn measure(&self, _: Kind, _: &Uid) -> Result<Option<u64>, RuntimeError> {
        Ok(None)
    }

    fn perform(
        &self,
        action: &Action,
        desired: &DesiredSet,
        _: &Context<'_>,
    ) -> Result<Effected, RuntimeError> {
        let mut inner = self.inner();
        if inner.dead {
            return Err(dead());
        }
        let number = inner.deeds.len();
        inner.deeds.push(action.clone());
        match inner.faults.remove(&number) {
            None => inner.world.perform(action, desired),
            Some(Fault::FailsBefore) => Err(fault(action)),
            Some(Fault::FailsAfter) => {
                inner.world.perform(action, desired)?;
                Err(fault(action))
            }
            Some(Fault::DiesBefore) => {
                inner.dead = true;
                Err(dead())
            }
            Some(Fault::DiesWithin) => {
                inner.dead = true;
                inner.world.begin(action, desired);
                Err(dead())
            }
            Some(Fault::DiesAfter) => {
                inner.dead = true;
                inner.world.perform(action, desired)?;
                Err(dead())
            }
        }
    }

    fn settle(&self, _: &Context<'_>) -> Result<(), RuntimeError> {
        if self.inner().dead {
            return Err(dead());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::FakeRuntime;

    #[test]
    fn it_does_what_every_engine_must() {
        let engine = FakeRuntime::default();
        crate::testing::conformance::conforms(&engine, "/".as_ref(), "conf", 77);
    }
}
