//! [`Failpoint`]: where a test lets this process end at once, as by `kill -9`: before and after each commit of the
//! journal, and after each deed while nothing tells yet that it was done.

use std::sync::atomic::{AtomicU64, Ordering};

use manifests::action::Action;
use manifests::desired::DesiredSet;
use manifests::feature::Capabilities;
use manifests::id::{Address, Uid};
use manifests::kind::Kind;
use manifests::observed::{Item, ObservedSet};
use runtime::error::RuntimeError;
use runtime::runtime::{Context, Effected, Runtime};

use crate::diff::known::Known;
use crate::store::{Store, StoreError, Write};

/// Counts the points that a process passes, and ends it at one of them.
#[derive(Debug)]
pub struct Failpoint {
    left: AtomicU64,
}

impl Failpoint {
    /// The process ends at the `number`th point, from 1.
    pub const fn at(number: u64) -> Self {
        Self {
            left: AtomicU64::new(number),
        }
    }

    /// A point. The last one does not return: nothing is flushed, dropped or told.
    pub fn pass(&self) {
        if self.left.fetch_sub(1, Ordering::SeqCst) == 1 {
            let own = rustix::process::getpid();
            // Nobody can refuse this signal from itself.
            let _ = rustix::process::kill_process(own, rustix::process::Signal::KILL);
            loop {
                std::thread::park();
            }
        }
    }
}

/// A store or an engine with failpoints around what it does.
pub(super) struct Watched<'a, T: ?Sized> {
    inner: &'a T,
    point: &'a Failpoint,
}

impl<'a, T: ?Sized> Watched<'a, T> {
    pub(super) const fn new(inner: &'a T, point: &'a Failpoint) -> Self {
        Self { inner, point }
    }
}

impl Store for Watched<'_, dyn Store + '_> {
    fn load(&self) -> Result<Known, StoreError> {
        self.inner.load()
    }

    fn commit(&self, writes: &[Write]) -> Result<(), StoreError> {
        self.point.pass();
        let result = self.inner.commit(writes);
        self.point.pass();
        result
    }
}

impl Runtime for Watched<'_, dyn Runtime + '_> {
    fn capabilities(&self) -> Result<Capabilities, RuntimeError> {
        self.inner.capabilities()
    }

    fn observe(&self) -> Result<ObservedSet, RuntimeError> {
        self.inner.observe()
    }

    fn look(&self, address: &Address) -> Result<Option<Item>, RuntimeError> {
        self.inner.look(address)
    }

    fn measure(&self, kind: Kind, uid: &Uid) -> Result<Option<u64>, RuntimeError> {
        self.inner.measure(kind, uid)
    }

    fn knows_secret(&self, digest: &str) -> bool {
        self.inner.knows_secret(digest)
    }

    fn perform(
        &self,
        action: &Action,
        desired: &DesiredSet,
        context: &Context<'_>,
    ) -> Result<Effected, RuntimeError> {
        let result = self.inner.perform(action, desired, context);
        self.point.pass();
        result
    }

    fn settle(&self, context: &Context<'_>) -> Result<(), RuntimeError> {
        self.inner.settle(context)
    }
}
