//! What commands use: [`Session`] brings engine, store and state folder together for one run.
//!
//! Looking takes no lock. Changing takes it for the batch, ends what a dead process began, and refuses a stale plan.

mod asked;
mod backups;
mod boot;
mod drift;
mod snapshots;

use std::collections::BTreeMap;
use std::sync::atomic::AtomicBool;

use manifests::change::{Cause, FieldChange};
use manifests::desired::{Budget, DesiredSet, SourceInfo, TrashRule, Windows};
use manifests::id::{Address, SourceName};
use manifests::kind::Kind;
use manifests::observed::ObservedSet;
use runtime::error::RuntimeError;
use runtime::runtime::Runtime;

pub use self::asked::{Asked, AskedPlan, WhoseName};
pub use self::boot::{Booting, Ending};
pub use self::drift::{Drift, DriftedField};
pub use self::snapshots::{DueReport, Scheduled};
use crate::apply::{ApplyObserver, ApplyOptions, ApplyReport, Failpoint, Tools, apply, recover};
use crate::clock::Clock;
use crate::diff::known::Known;
use crate::journal::{ApplyStatus, Journal as _, JournalError, ObjectEvent};
use crate::plan::{Because, Note, Plan, PlanId, PlanOptions, Step, World};
use crate::policy::Policies;
use crate::secrets::masks;
use crate::state_folder::{Lock, StateFolder, StateFolderError};
use crate::store::{SqliteStore, Store as _, StoreError, Write, rebuild};

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
    /// Guards stop the plan.
    #[error("{}", words_of(because))]
    Stopped {
        /// Which ones.
        because: Vec<Because>,
    },
    /// The world is not what the plan was made for.
    #[error(transparent)]
    Stale(#[from] Stale),
    /// There is no such object.
    #[error("there is no {0}")]
    NotThere(Address),
    /// What was asked for cannot be done to this object.
    #[error("{object} {why}")]
    NotPossible {
        /// The object.
        object: Address,
        /// Why: `is not there`.
        why: String,
        /// What would help.
        hint: Option<String>,
    },
}

fn words_of(because: &[Because]) -> String {
    let words: Vec<String> = because
        .iter()
        .map(|because| format!("{}: {}", because.code, because.message))
        .collect();
    words.join("; ")
}

/// A plan is stale: something was applied since.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the plan is stale: it was made for generation {planned}, the state is at {now}")]
pub struct Stale {
    /// The generation of the plan.
    pub planned: u64,
    /// That of the store.
    pub now: u64,
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

impl Session<'_> {
    fn store(&self) -> Result<SqliteStore, StoreError> {
        SqliteStore::open(&self.folder.database())
    }

    /// What is remembered, and what is there. What is remembered first: what another apply makes in between is seen
    /// and not missed.
    ///
    /// # Errors
    /// The engine is out of reach, or the database cannot be read.
    pub fn look(&self) -> Result<(Known, ObservedSet), SessionError> {
        self.look_with(&self.store()?)
    }

    fn look_with(&self, store: &SqliteStore) -> Result<(Known, ObservedSet), SessionError> {
        let known = store.load()?;
        let observed = self.runtime.observe()?;
        Ok((Self::filled(known, &observed), observed))
    }

    /// What is remembered; what the database lost is filled up from the marks on what lives.
    fn filled(mut known: Known, observed: &ObservedSet) -> Known {
        for write in rebuild(observed) {
            let Write::Own(owned) = write else { continue };
            // Of a source that was applied here, what is missing was given up.
            if !known.sources.contains_key(&owned.source) {
                known.owned.entry(owned.uid).or_insert(*owned);
            }
        }
        known
    }

    /// Looks at the world and decides what to do.
    ///
    /// # Errors
    /// The world or the database cannot be read.
    pub fn plan(&self, desired: &DesiredSet, options: &PlanOptions) -> Result<Plan, SessionError> {
        self.plan_with(&self.store()?, desired, options)
    }

    fn plan_with(
        &self,
        store: &SqliteStore,
        desired: &DesiredSet,
        options: &PlanOptions,
    ) -> Result<Plan, SessionError> {
        self.plan_of(&self.world_with(store)?, desired, options)
    }

    /// Decides what to do about a world that was looked at.
    ///
    /// # Errors
    /// What would be lost cannot be measured.
    pub fn plan_of(
        &self,
        world: &World,
        desired: &DesiredSet,
        options: &PlanOptions,
    ) -> Result<Plan, SessionError> {
        let id = PlanId(uuid::Uuid::now_v7());
        let rules = Policies::of(&desired.policies);
        let mut plan = world.plan(id, desired, options, &rules, self.clock.now());
        self.measure(&mut plan)?;
        plan.notes
            .extend(self.full_trash(&world.observed, desired)?);
        masks::plan(&mut plan);
        Ok(plan)
    }

    /// All that a plan is made from besides what is wanted.
    ///
    /// # Errors
    /// The world or the database cannot be read.
    pub fn world(&self) -> Result<World, SessionError> {
        self.world_with(&self.store()?)
    }

    fn world_with(&self, store: &SqliteStore) -> Result<World, SessionError> {
        let (known, observed) = self.look_with(store)?;
        let mut host = self.runtime.capabilities()?;
        self.folder.id().clone_into(&mut host.state_id);
        Ok(World {
            known,
            observed,
            host,
        })
    }

    /// Counts the data of what a plan takes away, and of nothing else.
    fn measure(&self, plan: &mut Plan) -> Result<(), RuntimeError> {
        let held = plan.held.iter_mut().map(|held| &mut held.step);
        for step in plan.steps.iter_mut().chain(held) {
            let Some(mut loss) = step.loss else { continue };
            let action = &step.action;
            if let Some(bytes) = self.runtime.measure(action.address.kind, &action.uid)? {
                loss.bytes = bytes;
            }
            step.loss = Some(loss);
        }
        Ok(())
    }

    /// The pools whose trash holds more than the source wants.
    fn full_trash(
        &self,
        observed: &ObservedSet,
        desired: &DesiredSet,
    ) -> Result<Vec<Note>, RuntimeError> {
        let Some(size) = desired.trash.size else {
            return Ok(Vec::new());
        };
        let mut pools: BTreeMap<&String, u64> = BTreeMap::new();
        for one in &observed.trash {
            if let Some(pool) = &one.pool {
                let bytes = self.runtime.measure(one.address.kind, &one.mark.uid)?;
                *pools.entry(pool).or_default() += bytes.unwrap_or(0);
            }
        }
        let over = pools.into_iter().filter(|(_, bytes)| *bytes > size);
        let note = |(pool, bytes): (&String, u64)| Note {
            address: Address::new(Kind::StoragePool, pool.clone()),
            text: format!(
                "its trash holds {} MiB, more than the {} MiB of `trash.size` in keel.yaml: keel trash list",
                bytes.div_ceil(1 << 20),
                size >> 20
            ),
        };
        Ok(over.map(note).collect())
    }

    /// Plans and applies under the lock: nobody else changes anything in between. `agree` is shown the plan, may take
    /// something out of it, and says whether it is done; what it answers otherwise comes back without a report, as does
    /// a plan that a guard stops.
    ///
    /// # Errors
    /// Somebody else holds the lock, or nothing can be read or remembered.
    pub fn apply(
        &self,
        desired: &DesiredSet,
        options: &PlanOptions,
        how: &ApplyOptions,
        observer: &dyn ApplyObserver,
        agree: &mut dyn FnMut(&mut Plan) -> bool,
    ) -> Result<(Plan, Option<ApplyReport>), SessionError> {
        let (plan, report, _) = self.apply_to(desired, options, how, observer, agree)?;
        Ok((plan, report))
    }

    /// As [`Self::apply`]; answers also the world for which the plan was made.
    ///
    /// # Errors
    /// As [`Self::apply`].
    pub fn apply_to(
        &self,
        desired: &DesiredSet,
        options: &PlanOptions,
        how: &ApplyOptions,
        observer: &dyn ApplyObserver,
        agree: &mut dyn FnMut(&mut Plan) -> bool,
    ) -> Result<(Plan, Option<ApplyReport>, World), SessionError> {
        let store = self.store()?;
        let world = self.world_with(&store)?;
        let mut plan = self.plan_of(&world, desired, options)?;
        if !agree(&mut plan) || !plan.stopping.is_empty() {
            return Ok((plan, None, world));
        }
        let report = self.carry_out(&store, &plan, desired, &[], how, observer)?;
        Ok((plan, Some(report), world))
    }

    /// Takes the lock and ends in the journal what a dead process began.
    fn begin(
        &self,
        store: &SqliteStore,
        command: &str,
        failpoint: Option<&Failpoint>,
    ) -> Result<Lock, SessionError> {
        let lock = self.folder.lock(command, self.clock.now())?;
        let unfinished = store.unfinished()?;
        if !unfinished.is_empty() || self.runtime.is_littered() {
            // What cannot be cleared up now is tried again after the next death, and harms nobody meanwhile.
            if let Err(error) = self.runtime.sweep() {
                tracing::warn!(%error, "something half made was left behind");
            }
            store.commit(&recover(&unfinished, self.runtime, self.clock.now()))?;
            if let Some(point) = failpoint {
                point.pass();
            }
        }
        Ok(lock)
    }

    /// Under the lock; `before` is remembered before the first step begins.
    fn carry_out(
        &self,
        store: &SqliteStore,
        plan: &Plan,
        desired: &DesiredSet,
        before: &[Write],
        how: &ApplyOptions,
        observer: &dyn ApplyObserver,
    ) -> Result<ApplyReport, SessionError> {
        let lock = self.begin(store, &how.command, how.failpoint.as_deref())?;
        let mut known = store.load()?;
        if plan.generation != known.generation {
            return Err(Stale {
                planned: plan.generation,
                now: known.generation,
            }
            .into());
        }
        // What a lost database does not tell is told by the marks, as it was when the plan was made.
        let unknown = |step: &Step| {
            step.expects.digest().is_some() && !known.owned.contains_key(&step.action.uid)
        };
        if plan.steps.iter().any(unknown) {
            known = Self::filled(known, &self.runtime.observe()?);
        }
        let now = self.clock.now();
        let over = known.holds.iter().filter(|(_, hold)| hold.is_over(now));
        let mut writes: Vec<Write> = over.map(|(uid, _)| Write::Release(*uid)).collect();
        writes.extend_from_slice(before);
        store.commit(&writes)?;
        let still_held = || lock.still_held();
        let when_full = || self.folder.free_reserve();
        let tools = Tools {
            runtime: self.runtime,
            store,
            clock: self.clock,
            cancel: self.cancel,
            still_held: &still_held,
            when_full: &when_full,
        };
        Ok(apply(plan, desired, &known, tools, how, observer)?)
    }

    /// The newest applies, newest first.
    ///
    /// # Errors
    /// The journal cannot be read.
    pub fn history(&self, limit: usize) -> Result<Vec<ApplyStatus>, SessionError> {
        Ok(self.store()?.applies(limit)?)
    }

    /// The newest events about one object, newest first.
    ///
    /// # Errors
    /// The journal cannot be read.
    pub fn history_of(
        &self,
        address: &Address,
        limit: usize,
    ) -> Result<Vec<ObjectEvent>, SessionError> {
        Ok(self.store()?.events_of(address, limit)?)
    }

    /// The set that wants nothing of a source: what a destroy is planned from.
    pub fn nothing_of(source: SourceInfo) -> DesiredSet {
        DesiredSet {
            source,
            resources: BTreeMap::new(),
            external: Vec::new(),
            policies: Vec::new(),
            projects: Vec::new(),
            secrets: BTreeMap::new(),
            others: BTreeMap::new(),
            budget: Budget {
                data: u32::MAX,
                percent: 100,
            },
            windows: Windows::default(),
            trash: TrashRule::default(),
            host: None,
        }
    }

    /// A source that was applied here, or of which something lives here: by its name, without its files.
    ///
    /// # Errors
    /// The engine is out of reach, or the database cannot be read.
    pub fn source_named(&self, name: &SourceName) -> Result<Option<SourceInfo>, SessionError> {
        let (known, observed) = self.look()?;
        let lives = known.owned.values().any(|owned| owned.source == *name)
            || observed.trash.iter().any(|one| one.mark.source == *name);
        let root = known.sources.get(name).map(|source| source.root.clone());
        Ok((lives || root.is_some()).then(|| SourceInfo {
            name: name.clone(),
            root: root.unwrap_or_default(),
            revision: None,
            repository: None,
            partial: None,
        }))
    }
}

/// Whether the world and not a person is behind a change.
pub fn is_drift(change: &FieldChange) -> bool {
    change.cause == Cause::Drifted
}
