//! What commands use: [`Session`] brings engine, store and state folder together for one run.
//!
//! Looking takes no lock. Changing takes it for the batch, ends what a dead process began, and refuses a stale plan.

mod asked;
mod boot;
mod drift;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::AtomicBool;

use manifests::change::{Cause, FieldChange};
use manifests::desired::{Budget, DesiredSet, Resource, SourceInfo, Windows};
use manifests::effect::Effect;
use manifests::feature::Capabilities;
use manifests::id::{Address, SourceName};
use manifests::observed::{Item, ObservedSet};
use runtime::error::RuntimeError;
use runtime::runtime::Runtime;

pub use self::asked::{Asked, AskedPlan};
pub use self::boot::Booting;
pub use self::drift::{Drift, DriftedField};
use crate::apply::{
    ApplyObserver, ApplyOptions, ApplyReport, Failpoint, Tools, apply, recover, seen,
};
use crate::clock::Clock;
use crate::diff::diff;
use crate::diff::known::Known;
use crate::journal::{ApplyStatus, Event, Journal as _, JournalError};
use crate::plan::{Allow, Because, Plan, PlanId, PlanInput, Purpose, Step, plan};
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

/// Why a plan is stale.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Stale {
    /// Something was applied since.
    #[error("the plan is stale: it was made for generation {planned}, the state is at {now}")]
    Generation {
        /// The generation of the plan.
        planned: u64,
        /// That of the store.
        now: u64,
    },
    /// It was made for another state folder.
    #[error("the plan was made for the state folder {planned}, and this is {here}")]
    OtherState {
        /// The state folder for which it was made.
        planned: String,
        /// This one.
        here: String,
    },
    /// The object of a step was changed since.
    #[error("the plan is stale: {object}: {how}")]
    Moved {
        /// Which one.
        object: Address,
        /// How.
        how: String,
    },
}

/// What a person said about a plan.
#[derive(Debug, Clone)]
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

impl Default for PlanOptions {
    fn default() -> Self {
        Self {
            approve: BTreeSet::new(),
            allow: Allow::ALL.into_iter().collect(),
            no_trash: false,
            purpose: Purpose::Apply,
        }
    }
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
fn cost(host: &Capabilities, resource: &Resource, _: &Item, change: &FieldChange) -> Effect {
    manifests::effect_table::effect_of(&resource.spec, change, host)
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
        let (known, observed) = self.look_with(store)?;
        let mut host = self.runtime.capabilities()?;
        self.folder.id().clone_into(&mut host.state_id);
        let now = self.clock.now();
        let diff = diff(desired, &observed, &known, now);
        let mut plan = plan(&PlanInput {
            id: PlanId(uuid::Uuid::now_v7()),
            purpose: options.purpose,
            diff: &diff,
            desired,
            observed: &observed,
            known: &known,
            host: &host,
            effects: &cost,
            rules: &Policies::of(&desired.policies),
            approve: &options.approve,
            allow: &options.allow,
            no_trash: options.no_trash,
            now,
        });
        self.measure(&mut plan)?;
        masks::plan(&mut plan);
        Ok(plan)
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
        let store = self.store()?;
        let first = self.plan_with(&store, desired, options)?;
        if !first.stopping.is_empty() || !agree(&first) {
            return Ok((first, None));
        }
        let report = self.carry_out(&store, &first, desired, &[], how, observer)?;
        Ok((first, Some(report)))
    }

    /// Applies a plan that was made before, with the set for which it was made: every object is looked at first.
    ///
    /// # Errors
    /// A guard stops it, it is stale, somebody else holds the lock, or nothing can be read or remembered. What failed
    /// of it is in the report and no error.
    pub fn apply_saved(
        &self,
        plan: &Plan,
        desired: &DesiredSet,
        how: &ApplyOptions,
        observer: &dyn ApplyObserver,
    ) -> Result<ApplyReport, SessionError> {
        if !plan.stopping.is_empty() {
            return Err(SessionError::Stopped {
                because: plan.stopping.clone(),
            });
        }
        self.check(plan, desired)?;
        self.carry_out(&self.store()?, plan, desired, &[], how, observer)
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
        if !unfinished.is_empty() {
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
        self.check_generation(plan, &known)?;
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

    /// Whether a saved plan is still true, object by object.
    ///
    /// # Errors
    /// [`SessionError::Stale`] with the first object that moved.
    pub fn check(&self, plan: &Plan, desired: &DesiredSet) -> Result<(), SessionError> {
        let known = self.store()?.load()?;
        let observed = self.runtime.observe()?;
        let known = Self::filled(known, &observed);
        self.check_generation(plan, &known)?;
        let live: BTreeMap<&Address, &Item> = observed
            .items
            .iter()
            .map(|item| (&item.address, item))
            .collect();
        let mut met = BTreeSet::new();
        for step in &plan.steps {
            if !met.insert(step.action.uid) {
                continue;
            }
            let item = live.get(seen::address_before(step)).copied();
            if let Some(how) = seen::moved(step, item, desired, &known, plan.made_at, None) {
                return Err(Stale::Moved {
                    object: step.address().clone(),
                    how: how.to_owned(),
                }
                .into());
            }
        }
        Ok(())
    }

    fn check_generation(&self, plan: &Plan, known: &Known) -> Result<(), Stale> {
        let here = self.folder.id();
        if here != plan.state_id {
            return Err(Stale::OtherState {
                planned: plan.state_id.clone(),
                here: here.to_owned(),
            });
        }
        if plan.generation != known.generation {
            return Err(Stale::Generation {
                planned: plan.generation,
                now: known.generation,
            });
        }
        Ok(())
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
    pub fn history_of(&self, address: &Address, limit: usize) -> Result<Vec<Event>, SessionError> {
        Ok(self.store()?.events_of(address, limit)?)
    }

    /// The set that wants nothing of a source: what a destroy is planned from.
    pub fn nothing_of(source: SourceInfo) -> DesiredSet {
        DesiredSet {
            source,
            resources: BTreeMap::new(),
            external: Vec::new(),
            policies: Vec::new(),
            secrets: BTreeMap::new(),
            others: BTreeMap::new(),
            budget: Budget {
                data: u32::MAX,
                percent: 100,
            },
            windows: Windows::default(),
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
