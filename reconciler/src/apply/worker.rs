//! The threads that carry out steps.

use std::collections::{HashMap, HashSet};
use std::error::Error;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::Ordering;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use manifests::desired::DesiredSet;
use manifests::id::{Address, Uid};
use manifests::kind::{Kind, Spec};
use manifests::observed::Item;
use runtime::error::{Class, RuntimeError};
use runtime::runtime::{Context, Effected};

use super::recorder::{Recorder, Ticket};
use super::remember::Memory;
use super::schedule::{Before, Schedule, Task};
use super::{ApplyObserver, ApplyOptions, StepResult, Tools, seen};
use crate::clock::{deadline, micros_since};
use crate::diff::known::Known;
use crate::journal::{Event, Outcome, What};
use crate::plan::gates::{blocks_when_failed, waits_for};
use crate::plan::{Plan, Step};
use crate::store::Write;

/// How many beginnings share one sync at most.
const TOGETHER: usize = 64;
/// How soon something that is not yet seen is looked at again, at first and at most.
const SOON: Duration = Duration::from_millis(2);
const LATE: Duration = Duration::from_millis(250);
/// What is not seen after this is done once more: somebody may have changed it just after it was done.
const AGAIN: Duration = Duration::from_secs(1);

/// What all threads share.
pub(super) struct Shared<'a> {
    schedule: Schedule,
    pub(super) memory: Memory<'a>,
    results: Vec<Option<StepResult>>,
    /// Steps of which the beginning was handed to the recorder.
    recorded: Vec<bool>,
    /// What each step came to, before it was seen.
    effected: Vec<Option<(Effected, u64)>>,
    /// When a step or its wait began to be looked at, and the next interval.
    looking: HashMap<usize, (Instant, Duration)>,
    /// Steps of which the fields were put in force once more.
    again: HashSet<usize>,
    /// Objects that a step of this apply has touched.
    touched: HashSet<Uid>,
    /// Names of objects with a step that was done.
    done: HashSet<Address>,
    unsettled: Option<String>,
    unlocked: bool,
}

/// What was left when the threads ended.
pub(super) struct End {
    pub(super) results: Vec<StepResult>,
    pub(super) writes: Vec<Write>,
    pub(super) unsettled: Option<String>,
    pub(super) cancelled: bool,
    pub(super) unlocked: bool,
}

/// The threads' common ground.
pub(super) struct Workers<'a> {
    pub(super) plan: &'a Plan,
    pub(super) desired: &'a DesiredSet,
    pub(super) known: &'a Known,
    pub(super) tools: Tools<'a>,
    options: &'a ApplyOptions,
    pub(super) observer: &'a dyn ApplyObserver,
    shared: Mutex<Shared<'a>>,
    moved: Condvar,
    /// What is told of steps is told within this.
    within: tracing::Span,
}

impl<'a> Workers<'a> {
    pub(super) fn new(
        plan: &'a Plan,
        desired: &'a DesiredSet,
        known: &'a Known,
        tools: Tools<'a>,
        options: &'a ApplyOptions,
        observer: &'a dyn ApplyObserver,
        memory: Memory<'a>,
    ) -> Self {
        let index: HashMap<_, _> = plan
            .steps
            .iter()
            .enumerate()
            .map(|(index, step)| (step.id, index))
            .collect();
        let before: Vec<Vec<Before>> = plan
            .steps
            .iter()
            .map(|step| {
                step.after
                    .iter()
                    .filter_map(|id| index.get(id).copied())
                    .map(|first| Before {
                        step: first,
                        needed: blocks_when_failed(&plan.steps[first], step),
                    })
                    .collect()
            })
            .collect();
        let count = plan.steps.len();
        Self {
            plan,
            desired,
            known,
            tools,
            options,
            observer,
            shared: Mutex::new(Shared {
                schedule: Schedule::new(&before),
                memory,
                results: vec![None; count],
                recorded: vec![false; count],
                effected: vec![None; count],
                looking: HashMap::new(),
                again: HashSet::new(),
                touched: HashSet::new(),
                done: HashSet::new(),
                unsettled: None,
                unlocked: false,
            }),
            moved: Condvar::new(),
            within: tracing::Span::current(),
        }
    }

    pub(super) fn shared(&self) -> MutexGuard<'_, Shared<'a>> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Works until nothing is left.
    pub(super) fn run(&self, recorder: &Recorder) {
        let mut shared = self.shared();
        loop {
            let leaving = self.tools.cancel.load(Ordering::Relaxed)
                || shared.unlocked
                || recorder.is_broken();
            match shared.schedule.next(self.tools.clock.instant(), leaving) {
                Task::Begin(step) => {
                    if !(self.tools.still_held)() {
                        shared.unlocked = true;
                        let outcome = skipped(None, "the lock was taken away");
                        self.end_step(&mut shared, recorder, step, outcome, None);
                        continue;
                    }
                    let waits = self.waits_of(&shared, step);
                    let ticket = self.record_beginnings(&mut shared, recorder, step);
                    drop(shared);
                    self.begin(recorder, step, &waits, ticket);
                    shared = self.shared();
                }
                Task::Look(step) => {
                    drop(shared);
                    self.look(recorder, step);
                    shared = self.shared();
                }
                Task::Settle(steps) => {
                    drop(shared);
                    let result = self.guarded(|| self.tools.runtime.settle(&self.context(&|_| {})));
                    shared = self.shared();
                    if let Err((_, message)) = result {
                        shared.unsettled = Some(message);
                    }
                    let now = self.tools.clock.instant();
                    shared.schedule.settled(&steps, now);
                    self.moved.notify_all();
                }
                Task::Wait(until) => {
                    // Also wakes now and then for a person who wants to leave.
                    let pause = until
                        .map_or(LATE, |until| {
                            until.saturating_duration_since(self.tools.clock.instant())
                        })
                        .min(LATE);
                    shared = self
                        .moved
                        .wait_timeout(shared, pause)
                        .unwrap_or_else(PoisonError::into_inner)
                        .0;
                }
                Task::Leave => {
                    self.moved.notify_all();
                    return;
                }
            }
        }
    }

    /// Hands the beginning of a step to the recorder, and of all others that may begin now.
    fn record_beginnings(
        &self,
        shared: &mut Shared<'_>,
        recorder: &Recorder,
        step: usize,
    ) -> Option<Ticket> {
        let mut writes = Vec::new();
        let mut all = vec![step];
        if !shared.recorded[step] {
            all.extend(shared.schedule.ready(TOGETHER - 1));
        }
        for index in all {
            if !std::mem::replace(&mut shared.recorded[index], true) {
                let step = &self.plan.steps[index];
                writes.push(self.event(What::Started {
                    step: step.id,
                    address: step.address().clone(),
                    uid: step.action.uid,
                    word: step.deed().to_owned(),
                }));
            }
        }
        Some(recorder.soon(writes))
    }

    /// The objects for which a step waits: those that this apply has worked on.
    fn waits_of(&self, shared: &Shared<'_>, step: usize) -> Vec<usize> {
        self.plan.steps[step]
            .waits
            .iter()
            .enumerate()
            .filter(|(_, (address, _))| shared.done.contains(address))
            .map(|(index, _)| index)
            .collect()
    }

    fn begin(&self, recorder: &Recorder, index: usize, waits: &[usize], ticket: Option<Ticket>) {
        let step = &self.plan.steps[index];
        if let Some((waits_for, how)) = self.not_ready(step, waits) {
            let mut shared = self.shared();
            let now = self.tools.clock.instant();
            let (since, pause) = *shared.looking.entry(index).or_insert((now, SOON));
            let patience = self.patience_with(waits_for);
            if now >= deadline(since, patience) {
                let message = format!("{waits_for} is not ready after {patience:?}: {how}");
                let outcome = skipped(Some("G109"), &message);
                self.end_step(&mut shared, recorder, index, outcome, None);
            } else {
                shared.looking.insert(index, (since, (pause * 2).min(LATE)));
                shared.schedule.not_yet(index, now + pause);
                self.moved.notify_all();
            }
            return;
        }
        if ticket.is_some_and(|ticket| ticket.wait().is_err()) {
            let mut shared = self.shared();
            let outcome = skipped(None, "nothing can be written to the journal");
            self.end_step(&mut shared, recorder, index, outcome, None);
            return;
        }
        self.observer.started(step);
        let first = self.shared().touched.insert(step.action.uid);
        let began = self.tools.clock.instant();
        let told = tracing::info_span!(
            parent: &self.within,
            "step",
            id = step.id.0,
            deed = step.deed(),
            object = %step.address(),
            error = tracing::field::Empty,
        );
        let result = told.in_scope(|| self.guarded(|| self.deed(step, first)));
        if let Err((_, why)) = &result {
            told.record("error", why);
        }
        drop(told);
        let micros = micros_since(self.tools.clock, began);
        match result {
            Err((class, message)) => {
                let mut shared = self.shared();
                let outcome = Outcome::Failed { class, message };
                self.end_step(&mut shared, recorder, index, outcome, Some(micros));
            }
            Ok(effected) => {
                let mut shared = self.shared();
                shared.effected[index] = Some((effected, micros));
                shared.looking.remove(&index);
                if settles(step.address().kind) {
                    shared.schedule.unsettled(index);
                    self.moved.notify_all();
                } else {
                    drop(shared);
                    self.look(recorder, index);
                }
            }
        }
    }

    /// How long is waited for an object: as its manifest says of its health, else as the caller says.
    fn patience_with(&self, address: &Address) -> Duration {
        let written = match self.desired.resources.get(address).map(|one| &one.spec) {
            Some(Spec::Instance(instance)) => instance.health.as_ref(),
            _ => None,
        };
        written.map_or(self.options.readiness_timeout, |health| {
            health.timeout.as_std()
        })
    }

    /// The first object that is not as far as the step needs it, and how it is.
    fn not_ready<'b>(&self, step: &'b Step, waits: &[usize]) -> Option<(&'b Address, String)> {
        waits.iter().find_map(|wait| {
            let (address, readiness) = step.waits.get(*wait)?;
            let how = match self.tools.runtime.look(address) {
                Ok(live) => seen::not_ready(live.as_ref(), *readiness)?,
                Err(error) => chain(&error),
            };
            Some((address, how))
        })
    }

    /// Looks whether the step is seen, and ends it then or when its time is over.
    fn look(&self, recorder: &Recorder, index: usize) {
        let step = &self.plan.steps[index];
        let (effected, micros, later) = {
            let shared = self.shared();
            let (effected, micros) = shared.effected[index].unwrap_or((Effected::Done, 0));
            (effected, micros, shared.memory.not_yet(step))
        };
        let looked = self.guarded(|| self.tools.runtime.look(step.address()));
        let missing = match &looked {
            Ok(live) => seen::missing(
                step,
                effected,
                live.as_ref().map(|item: &Item| item),
                self.desired,
                &later,
                self.plan.made_at,
            ),
            Err((_, message)) => Some(message.clone()),
        };
        let mut shared = self.shared();
        let Some(missing) = missing else {
            let outcome = Outcome::Succeeded { effected };
            self.end_step(&mut shared, recorder, index, outcome, Some(micros));
            return;
        };
        let now = self.tools.clock.instant();
        let (since, pause) = *shared.looking.entry(index).or_insert((now, SOON));
        let over = now >= deadline(since, self.options.timeout);
        let leaving = self.tools.cancel.load(Ordering::Relaxed) || shared.unsettled.is_some();
        if over || leaving {
            let message = match &shared.unsettled {
                Some(reason) => format!("{missing} ({reason})"),
                None => missing,
            };
            let outcome = Outcome::Failed {
                class: Class::Retry,
                message: format!("done, but not seen: {message}"),
            };
            self.end_step(&mut shared, recorder, index, outcome, Some(micros));
        } else {
            if now >= deadline(since, AGAIN) && shared.again.insert(index) {
                drop(shared);
                if let Ok(Some(item)) = &looked {
                    self.once_more(step, item, &later);
                }
                shared = self.shared();
            }
            shared.looking.insert(index, (since, (pause * 2).min(LATE)));
            shared.schedule.unseen(index, now + pause);
            self.moved.notify_all();
        }
    }

    /// Writes down how a step ended, and what cannot begin because of it.
    fn end_step(
        &self,
        shared: &mut Shared<'_>,
        recorder: &Recorder,
        index: usize,
        outcome: Outcome,
        micros: Option<u64>,
    ) {
        let step = &self.plan.steps[index];
        let mut writes = Vec::new();
        if let Outcome::Succeeded { effected } = &outcome {
            writes = shared.memory.done(step, *effected, self.tools.clock.now());
            shared.done.insert(step.address().clone());
        }
        let lost = shared.schedule.ended(index, &outcome);
        writes.push(self.put(shared, index, outcome, micros));
        for other in lost {
            let because = waits_for(step);
            let outcome = skipped(Some(because.code.0), &because.message);
            writes.push(self.put(shared, other, outcome, None));
        }
        recorder.later(writes);
        self.moved.notify_all();
    }

    fn put(
        &self,
        shared: &mut Shared<'_>,
        index: usize,
        outcome: Outcome,
        micros: Option<u64>,
    ) -> Write {
        let step = &self.plan.steps[index];
        let result = StepResult {
            id: step.id,
            outcome: outcome.clone(),
            took: micros.map(Duration::from_micros),
        };
        self.observer.finished(step, &result);
        shared.results[index] = Some(result);
        self.event(What::Ended {
            step: step.id,
            address: step.address().clone(),
            outcome,
            micros,
        })
    }

    /// What is left to be said once all threads are gone.
    pub(super) fn end(&self) -> End {
        let mut shared = self.shared();
        let cancelled = self.tools.cancel.load(Ordering::Relaxed);
        let message = if shared.unlocked {
            "the lock was taken away"
        } else if cancelled {
            "cancelled"
        } else {
            "nothing can be written to the journal"
        };
        let writes = shared
            .schedule
            .left()
            .into_iter()
            .map(|index| self.put(&mut shared, index, skipped(None, message), None))
            .collect();
        End {
            results: shared.results.iter_mut().filter_map(Option::take).collect(),
            writes,
            unsettled: shared.unsettled.take(),
            cancelled,
            unlocked: shared.unlocked,
        }
    }

    fn event(&self, what: What) -> Write {
        Write::Event(Event {
            plan: self.plan.id,
            at: self.tools.clock.now(),
            what,
        })
    }

    pub(super) fn context<'b>(&'b self, progress: &'b (dyn Fn(&str) + Sync)) -> Context<'b> {
        Context {
            cancel: self.tools.cancel,
            timeout: self.options.timeout,
            now: self.tools.clock.now(),
            progress,
        }
    }

    /// Runs something of the engine; a panic in it is a fault of ours and ends this step only.
    pub(super) fn guarded<T>(
        &self,
        deed: impl FnOnce() -> Result<T, RuntimeError>,
    ) -> Result<T, (Class, String)> {
        match catch_unwind(AssertUnwindSafe(deed)) {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(error)) => Err((error.class, chain(&error))),
            Err(panic) => {
                let said = panic
                    .downcast_ref::<String>()
                    .map(String::as_str)
                    .or_else(|| panic.downcast_ref::<&str>().copied())
                    .unwrap_or("without a word");
                Err((Class::Bug, format!("a fault of keel: {said}")))
            }
        }
    }
}

/// Whether things are derived from objects of this kind for many at once.
const fn settles(kind: Kind) -> bool {
    matches!(
        kind,
        Kind::Instance | Kind::Network | Kind::NetworkAcl | Kind::NetworkForward
    )
}

fn skipped(code: Option<&str>, message: &str) -> Outcome {
    Outcome::Skipped {
        code: code.map(str::to_owned),
        message: message.to_owned(),
    }
}

/// An error with all its causes: `start instance/a: write to /sys/…: no space left on device`.
fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        next = cause.source();
    }
    text
}
