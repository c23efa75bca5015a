//! What commands use: [`Session`] brings engine, store and state folder together for one run.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::AtomicBool;

use manifests::change::{Cause, FieldChange};
use manifests::desired::{Budget, DesiredSet, Resource, SourceInfo, Windows};
use manifests::effect::Effect;
use manifests::feature::Capabilities;
use manifests::id::{SourceName, Uid};
use manifests::observed::{Item, ObservedSet};
use runtime::error::RuntimeError;
use runtime::runtime::Runtime;

use crate::apply::{ApplyObserver, ApplyOptions, ApplyReport, Tools, apply, recover};
use crate::clock::Clock;
use crate::diff::diff;
use crate::diff::known::Known;
use crate::journal::{Journal as _, JournalError};
use crate::plan::{Allow, Plan, PlanId, PlanInput, Purpose, plan};
use crate::state_folder::{StateFolder, StateFolderError};
use crate::store::{SqliteStore, Store as _, StoreError, rebuild};

/// A run could not be carried out.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    /// The engine.
    #[error(transparent)]
    Runtime(#[from] RuntimeError),
    /// The database.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The journal.
    #[error("read the journal")]
    Journal(#[from] JournalError),
    /// The state folder or its lock.
    #[error(transparent)]
    Folder(#[from] StateFolderError),
    /// Something was applied since the plan was made.
    #[error("the plan is stale: it was made for generation {made}, the state is at {now}")]
    Stale {
        /// The generation of the plan.
        made: u64,
        /// That of the store.
        now: u64,
    },
}

/// What a person said about a plan.
#[derive(Debug, Clone, Default)]
pub struct PlanOptions {
    /// Guards that they answer for.
    pub approve: BTreeSet<String>,
    /// The classes of steps that may be done.
    pub allow: BTreeSet<Allow>,
    /// What is deleted is not kept.
    pub no_trash: bool,
    /// What it is for.
    pub purpose: Purpose,
}

/// One run on one state folder.
pub struct Session<'a> {
    /// The state folder.
    pub folder: &'a StateFolder,
    /// The engine.
    pub runtime: &'a dyn Runtime,
    /// The time.
    pub clock: &'a dyn Clock,
    /// Set by a person who wants to leave.
    pub cancel: &'a AtomicBool,
}

/// What a change costs on this engine.
fn cost(_: &Capabilities, resource: &Resource, _: &Item, change: &FieldChange) -> Effect {
    manifests::effect_table::effect(resource.address.kind, &change.path)
}

impl Session<'_> {
    fn store(&self) -> Result<SqliteStore, StoreError> {
        SqliteStore::open(&self.folder.database())
    }

    /// What is remembered. A database that was lost is made again from the marks on what lives.
    fn known(&self, store: &SqliteStore, observed: &ObservedSet) -> Result<Known, StoreError> {
        let known = store.load()?;
        let marked = observed.items.iter().any(|item| item.mark.is_some());
        if known.owned.is_empty() && known.generation == 0 && marked {
            store.commit(&rebuild(observed))?;
            return store.load();
        }
        Ok(known)
    }

    /// Looks at the world and decides what to do.
    ///
    /// # Errors
    /// The world or the database cannot be read.
    pub fn plan(&self, desired: &DesiredSet, options: &PlanOptions) -> Result<Plan, SessionError> {
        let store = self.store()?;
        let observed = self.runtime.observe()?;
        let known = self.known(&store, &observed)?;
        let host = self.runtime.capabilities()?;
        let now = self.clock.now();
        let diff = diff(desired, &observed, &known, now);
        Ok(plan(&PlanInput {
            id: PlanId(uuid::Uuid::now_v7()),
            purpose: options.purpose,
            diff: &diff,
            desired,
            observed: &observed,
            known: &known,
            host: &host,
            effects: &cost,
            approve: &options.approve,
            allow: &options.allow,
            no_trash: options.no_trash,
            now,
        }))
    }

    /// Plans and applies under the lock: nobody else changes anything in between. `agree` is shown the plan and says
    /// whether it is done; what it answers otherwise comes back without a report.
    ///
    /// # Errors
    /// Somebody else holds the lock, or nothing can be read or remembered.
    pub fn apply(
        &self,
        desired: &DesiredSet,
        options: &PlanOptions,
        how: &ApplyOptions,
        observer: &dyn ApplyObserver,
        agree: &mut dyn FnMut(&Plan) -> bool,
    ) -> Result<(Plan, Option<ApplyReport>), SessionError> {
        let first = self.plan(desired, options)?;
        if !first.stopping.is_empty() || !agree(&first) {
            return Ok((first, None));
        }
        let lock = self.folder.lock(&how.command, self.clock.now())?;
        let store = self.store()?;
        let ended = recover(&store.unfinished()?, self.runtime, self.clock.now())?;
        store.commit(&ended)?;
        let known = store.load()?;
        if known.generation != first.generation {
            return Err(SessionError::Stale {
                made: first.generation,
                now: known.generation,
            });
        }
        let still_held = || lock.still_held();
        let when_full = || self.folder.free_reserve();
        let tools = Tools {
            runtime: self.runtime,
            store: &store,
            clock: self.clock,
            cancel: self.cancel,
            still_held: &still_held,
            when_full: &when_full,
        };
        let report = apply(&first, desired, &known, tools, how, observer)?;
        Ok((first, Some(report)))
    }

    /// The set that wants nothing of a source: what a destroy is planned from.
    pub fn nothing_of(source: SourceInfo) -> DesiredSet {
        DesiredSet {
            source,
            resources: BTreeMap::new(),
            external: Vec::new(),
            budget: Budget {
                data: u32::MAX,
                percent: 100,
            },
            windows: Windows::default(),
            host: None,
        }
    }

    /// The folder that a source was applied from last, where it is known.
    ///
    /// # Errors
    /// The database cannot be read.
    pub fn last_root(&self, name: &SourceName) -> Result<Option<std::path::PathBuf>, SessionError> {
        Ok(self
            .store()?
            .load()?
            .sources
            .get(name)
            .map(|source| source.root.clone()))
    }

    /// Since when and how often each drifted field was seen.
    ///
    /// # Errors
    /// The database cannot be read.
    pub fn drift_seen(
        &self,
    ) -> Result<BTreeMap<Uid, Vec<crate::diff::known::DriftSeen>>, SessionError> {
        let known = self.store()?.load()?;
        Ok(known
            .owned
            .into_iter()
            .map(|(uid, owned)| (uid, owned.drift))
            .collect())
    }
}

/// Whether the world and not a person is behind a change.
pub fn is_drift(change: &FieldChange) -> bool {
    change.cause == Cause::Drifted
}
