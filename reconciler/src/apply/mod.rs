//! Doing: [`apply`] carries out a plan against a runtime, in parallel where the order allows.
//!
//! `schedule` says which step comes next (pure), `worker` takes it, `deed` does it, `seen` judges what is there before and after,
//! `recorder` puts the journal on disk, `remember` says what is kept, `recover` ends what a dead process began, and
//! `failpoint` is where tests kill it.

mod deed;
mod failpoint;
mod recorder;
mod recover;
mod remember;
mod schedule;
pub(crate) mod seen;
mod worker;

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use manifests::desired::DesiredSet;
use runtime::runtime::Runtime;

pub use self::failpoint::Failpoint;
use self::failpoint::Watched;
pub use self::recover::recover;
use crate::clock::{Clock, micros_since};
use crate::diff::known::Known;
use crate::journal::{Event, Outcome, What};
use crate::plan::{Plan, PlanId, Step, StepId};
use crate::store::{Store, StoreError, Write};

/// How a plan is applied.
#[derive(Debug, Clone)]
pub struct ApplyOptions {
    /// How many steps at once; absent: twice the processors, at least four.
    pub parallelism: Option<usize>,
    /// How long one step may take to start, stop or be seen as wanted.
    pub timeout: Duration,
    /// How long a step waits for the health of what it depends on.
    pub readiness_timeout: Duration,
    /// For the journal: `keel apply`.
    pub command: String,
    /// For the journal: who does it, where the system knows that.
    pub by: Option<String>,
    /// Where a test ends this process.
    pub failpoint: Option<Arc<Failpoint>>,
}

impl Default for ApplyOptions {
    fn default() -> Self {
        Self {
            parallelism: None,
            timeout: Duration::from_secs(30),
            readiness_timeout: Duration::from_secs(120),
            command: "keel apply".to_owned(),
            by: None,
            failpoint: None,
        }
    }
}

/// Told what happens; from several threads at once.
pub trait ApplyObserver: Sync {
    /// A step begins.
    fn started(&self, step: &Step) {
        let _ = step;
    }

    /// It is at this: `unpacking`.
    fn phase(&self, step: &Step, phase: &str) {
        let _ = (step, phase);
    }

    /// A step ended, or will not begin.
    fn finished(&self, step: &Step, result: &StepResult) {
        let _ = (step, result);
    }
}

/// An observer that takes no notice.
#[derive(Debug, Clone, Copy, Default)]
pub struct Silent;

impl ApplyObserver for Silent {}

/// How one step ended.
#[derive(Debug, Clone, PartialEq)]
pub struct StepResult {
    /// Which one.
    pub id: StepId,
    /// How.
    pub outcome: Outcome,
    /// How long the deed itself took; none for what was not begun.
    pub took: Option<Duration>,
}

/// How an apply ended.
#[derive(Debug, Clone, PartialEq)]
pub struct ApplyReport {
    /// The plan.
    pub plan: PlanId,
    /// How each step ended, in the order of the plan.
    pub results: Vec<StepResult>,
    /// How many steps were held from the beginning.
    pub held: usize,
    /// What is derived from many objects and could not be put in force.
    pub unsettled: Option<String>,
    /// A person asked to leave.
    pub cancelled: bool,
    /// Somebody took the lock away.
    pub unlocked: bool,
    /// How long it all took.
    pub took: Duration,
}

impl ApplyReport {
    /// How many steps were done.
    pub fn applied(&self) -> usize {
        self.count(|outcome| matches!(outcome, Outcome::Succeeded { .. }))
    }

    /// How many failed.
    pub fn failed(&self) -> usize {
        self.count(|outcome| matches!(outcome, Outcome::Failed { .. }))
    }

    /// How many were not begun.
    pub fn skipped(&self) -> usize {
        self.count(|outcome| matches!(outcome, Outcome::Skipped { .. }))
    }

    fn count(&self, which: impl Fn(&Outcome) -> bool) -> usize {
        self.results
            .iter()
            .filter(|result| which(&result.outcome))
            .count()
    }

    /// Whether all was done that the plan was about.
    pub fn is_complete(&self) -> bool {
        self.held == 0 && self.unsettled.is_none() && self.applied() == self.results.len()
    }
}

/// What an apply works with.
#[derive(Clone, Copy)]
pub struct Tools<'a> {
    /// The engine.
    pub runtime: &'a dyn Runtime,
    /// What is remembered, and the journal.
    pub store: &'a dyn Store,
    /// The time.
    pub clock: &'a dyn Clock,
    /// Set by a person who wants to leave.
    pub cancel: &'a AtomicBool,
    /// Whether we still hold the lock.
    pub still_held: &'a (dyn Fn() -> bool + Sync),
    /// Called once when the disk is full, to make room.
    pub when_full: &'a (dyn Fn() + Sync),
}

/// Carries out a plan. The caller holds the lock and has checked that the plan is not stale and nothing stops it.
///
/// # Errors
/// Nothing can be remembered any more: running steps ended, no further one began, the journal lacks their ends, and
/// the next apply finds out by looking.
pub fn apply(
    plan: &Plan,
    desired: &DesiredSet,
    known: &Known,
    tools: Tools<'_>,
    options: &ApplyOptions,
    observer: &dyn ApplyObserver,
) -> Result<ApplyReport, StoreError> {
    let Some(point) = options.failpoint.as_deref() else {
        return carry_out(plan, desired, known, tools, options, observer);
    };
    let tools = Tools {
        store: &Watched::new(tools.store, point),
        runtime: &Watched::new(tools.runtime, point),
        ..tools
    };
    carry_out(plan, desired, known, tools, options, observer)
}

fn carry_out(
    plan: &Plan,
    desired: &DesiredSet,
    known: &Known,
    tools: Tools<'_>,
    options: &ApplyOptions,
    observer: &dyn ApplyObserver,
) -> Result<ApplyReport, StoreError> {
    let began = tools.clock.instant();
    let aside = remember::aside(plan, desired, known, tools.clock.now());
    if plan.steps.is_empty() {
        tools.store.commit(&aside)?;
        return Ok(ApplyReport {
            plan: plan.id,
            results: Vec::new(),
            held: plan.held.len(),
            unsettled: None,
            cancelled: false,
            unlocked: false,
            took: Duration::from_micros(micros_since(tools.clock, began)),
        });
    }
    let begun = vec![
        Write::NextGeneration,
        Write::Event(Event {
            plan: plan.id,
            at: tools.clock.now(),
            what: What::Begun {
                source: plan.source.name.clone(),
                revision: plan.source.revision.clone(),
                purpose: plan.purpose,
                command: options.command.clone(),
                by: options.by.clone(),
                steps: u32::try_from(plan.steps.len()).unwrap_or(u32::MAX),
                held: u32::try_from(plan.held.len()).unwrap_or(u32::MAX),
            },
        }),
    ];
    let (recorder, recording) = recorder::recorder();
    recorder.later(begun);
    let memory = remember::Memory::new(plan, desired, known);
    let workers = worker::Workers::new(plan, desired, known, tools, options, observer, memory);
    let threads = options
        .parallelism
        .unwrap_or_else(default_parallelism)
        .clamp(1, plan.steps.len());
    std::thread::scope(|scope| {
        scope.spawn(|| recording.run(tools.store, tools.when_full));
        std::thread::scope(|inner| {
            for _ in 1..threads {
                inner.spawn(|| workers.run(&recorder));
            }
            workers.run(&recorder);
        });
        let ended = workers.end();
        let mut writes = ended.writes;
        writes.extend(aside);
        // A plan that was made while this one was being applied saw only a part of it.
        writes.push(Write::NextGeneration);
        writes.push(Write::Event(Event {
            plan: plan.id,
            at: tools.clock.now(),
            what: What::Finished {
                cancelled: ended.cancelled,
                interrupted: false,
                micros: micros_since(tools.clock, began),
            },
        }));
        let recorded = recorder.now(writes);
        let failure = recorder.take_failure();
        drop(recorder);
        match (recorded, failure) {
            (Err(_), Some(error)) => Err(error),
            _ => Ok(ApplyReport {
                plan: plan.id,
                results: ended.results,
                held: plan.held.len(),
                unsettled: ended.unsettled,
                cancelled: ended.cancelled,
                unlocked: ended.unlocked,
                took: Duration::from_micros(micros_since(tools.clock, began)),
            }),
        }
    })
}

/// Twice the processors, at least four: steps wait for the disk and the kernel more than they compute.
fn default_parallelism() -> usize {
    std::thread::available_parallelism().map_or(4, |n| (n.get() * 2).max(4))
}
