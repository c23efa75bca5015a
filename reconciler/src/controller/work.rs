//! Doing what was decided: one thing after the other, each under the lock of the state folder.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use manifests::action::Power;
use manifests::change::Cause;
use manifests::desired::DesiredSet;
use manifests::id::{Address, SourceName};
use manifests::kind::Kind;
use manifests::lifecycle::DriftMode;
use runtime::error::Class;

use super::event::{Ended, Failure, Outcome, Reconcile, Reconciled, Work};
use super::fights::Field;
use super::ground::Ground;
use super::in_force::{InForce, InForces};
use super::metrics::Metrics;
use super::news::{self, Feed, Herald};
use super::picture::{Looked, Pictures};
use super::revisions::Fate;
use super::trials::{self, LOOK, Trial, Trials, Verdict};
use crate::apply::{ApplyOptions, ApplyReport};
use crate::diff::suspension::{CONTROLLER, Scope, Suspension};
use crate::error::chain;
use crate::journal;
use crate::plan::{Plan, PlanOptions, World, digest};
use crate::session::{Asked, SessionError, WhoseName};
use crate::state_folder::StateFolderError;
use crate::store::{SqliteStore, Store as _, Write};

/// How long one step may take to start, stop or be seen as wanted.
const STEP: Duration = Duration::from_secs(120);

/// Does the work of the controller.
pub(super) struct Worker<'a> {
    /// The engine.
    pub ground: &'a dyn Ground,
    /// What is in force.
    pub in_force: &'a InForces,
    /// What was seen, for those who look.
    pub pictures: &'a Pictures,
    /// Told of each step, and of what moved.
    pub feed: &'a Feed,
    /// Counts what is done.
    pub metrics: &'a Metrics,
    /// How many steps at once; absent: as apply chooses.
    pub parallelism: Option<usize>,
    /// How each source was told to have ended last.
    pub told: BTreeMap<SourceName, Outcome>,
    /// Fields that somebody fights over, by source, as they were told.
    pub contended: BTreeMap<SourceName, BTreeSet<Field>>,
    /// Instances that were made anew because their image moved.
    pub trials: Trials,
}

impl Worker<'_> {
    /// Does it to its end.
    pub(super) fn work(&mut self, work: &Work) -> Ended {
        match work {
            Work::Boot => {
                if let Err(why) = self.ground.boot() {
                    tracing::error!(%why, "not all that should run was started");
                }
                Ended::Boot
            }
            Work::Due => {
                let wrong = self.ground.due().err();
                if let Some(why) = &wrong {
                    tracing::error!(%why, "not all that is due was done");
                }
                Ended::Due(wrong)
            }
            Work::Reconcile(order) => {
                let in_force = self.in_force.of(&order.source);
                let _within = span(order, in_force.as_deref()).entered();
                let clock = self.ground.session().clock;
                let began = clock.instant();
                let ended = self.reconcile(order);
                let took = clock.instant().saturating_duration_since(began);
                self.metrics.reconciled(&ended, took, clock.now());
                let source = ended.source.clone();
                let before = self.told.insert(source, ended.outcome.clone());
                log(&ended, before.as_ref());
                if let (Outcome::Stopped { digest, because }, Some(in_force)) =
                    (&ended.outcome, &in_force)
                    && before.as_ref() != Some(&ended.outcome)
                {
                    let why = format!(
                        "the plan {digest} waits for an answer, `keel approve {digest}` gives it: {}",
                        because.join("; ")
                    );
                    let waits = in_force.became(Fate::Waits, why, clock.now());
                    self.in_force.revisions().add(&order.source, waits);
                }
                if let (Outcome::Settled, Some(in_force)) = (&ended.outcome, &in_force)
                    && ended.revision.as_ref() == Some(&in_force.digest)
                {
                    in_force.rollout.is_done();
                }
                Ended::Reconciled(ended)
            }
        }
    }

    fn reconcile(&mut self, order: &Reconcile) -> Reconciled {
        let failed = |class, why: String| Reconciled {
            source: order.source.clone(),
            revision: None,
            outcome: Outcome::Failed { class, why },
            done: Vec::new(),
            failed: Vec::new(),
            corrected: Vec::new(),
            until: None,
            left_alone: Vec::new(),
        };
        self.tell_of_fights(order);
        let Some(in_force) = self.in_force.of(&order.source) else {
            return failed(Class::Bug, "nothing is in force".to_owned());
        };
        let mut desired = in_force.desired.clone();
        leave_alone(&mut desired, &order.contended);
        if let Err(why) = self.ground.fit(&mut desired, &in_force.texts) {
            return failed(Class::NeedsOperator, why);
        }
        match self.bring(order, &in_force, &desired) {
            Ok(ended) => Reconciled {
                revision: Some(in_force.digest.clone()),
                ..ended
            },
            Err(SessionError::Folder(StateFolderError::Busy { .. }) | SessionError::Stale(_)) => {
                Reconciled {
                    outcome: Outcome::Busy,
                    ..failed(Class::Retry, String::new())
                }
            }
            Err(SessionError::Runtime(error)) => failed(error.class, chain(&error)),
            Err(error) => failed(Class::Retry, chain(&error)),
        }
    }

    /// Each fight is told once, when it begins.
    fn tell_of_fights(&mut self, order: &Reconcile) {
        let now: BTreeSet<Field> = order.contended.iter().cloned().collect();
        let before = self.contended.insert(order.source.clone(), now.clone());
        for (object, path) in now.difference(&before.unwrap_or_default()) {
            tracing::warn!(
                %object,
                field = path.dotted(),
                "somebody else changes it back each time: it is left alone for an hour, or until keel resume"
            );
        }
    }

    /// Brings the world to where a source wants it, or looks what that would take.
    fn bring(
        &mut self,
        order: &Reconcile,
        in_force: &Arc<InForce>,
        desired: &DesiredSet,
    ) -> Result<Reconciled, SessionError> {
        let session = self.ground.session();
        let mut options = PlanOptions {
            resting: order.resting.clone(),
            ..PlanOptions::default()
        };
        if order.only_look {
            let world = session.world()?;
            let plan = session.plan_of(&world, desired, &options)?;
            let ended = ended(order, &plan, None, Outcome::Looked);
            self.show(order, in_force, desired, world, plan);
            return Ok(ended);
        }
        let how = ApplyOptions {
            parallelism: self.parallelism,
            timeout: STEP,
            readiness_timeout: STEP,
            command: "keel run".to_owned(),
            ..ApplyOptions::default()
        };
        let herald = Herald {
            feed: self.feed,
            clock: session.clock,
            source: &order.source,
        };
        let (left_alone, waits) = self.judge_trials(&order.source, &how, &herald)?;
        let unanswered = options.clone();
        let applied = session.apply_to(desired, &options, &how, &herald, &mut |_| true)?;
        let (plan, report, world) = applied;
        let (plan, report, world) = match report {
            None if order.approved.contains(&digest(&plan)) => {
                // Somebody answers for this very plan.
                let codes = plan.stopping.iter();
                options
                    .approve
                    .extend(codes.map(|because| because.code.0.to_owned()));
                let approved = digest(&plan);
                session.apply_to(desired, &options, &how, &herald, &mut |plan| {
                    digest(plan) == approved
                })?
            }
            report => (plan, report, world),
        };
        let outcome = match &report {
            None => Outcome::Stopped {
                digest: digest(&plan),
                because: plan
                    .stopping
                    .iter()
                    .map(|because| format!("{}: {}", because.code, because.message))
                    .collect(),
            },
            Some(report) if report.is_complete() => Outcome::Settled,
            Some(_) => Outcome::Partly,
        };
        let mut ended = ended(order, &plan, report.as_ref(), outcome);
        let begun = self.begin_trials(order, &plan, &ended, desired)?;
        ended.left_alone = left_alone;
        // What is made from an image that moved is looked at next.
        let moved = ended.done.iter().any(|address| address.kind == Kind::Image);
        if waits || begun || moved {
            // It is looked at again soon, whatever else is held.
            let soon = session.clock.now().checked_add(LOOK).ok();
            ended.until = ended.until.min(soon).or(soon);
        }
        let nothing_done = report.is_none_or(|report| report.results.is_empty());
        match nothing_done {
            true => self.show(order, in_force, desired, world, plan),
            // What was done is seen: whoever looks sees the world as it is now.
            false => match session.world().and_then(|world| {
                let plan = session.plan_of(&world, desired, &unanswered)?;
                Ok((world, plan))
            }) {
                Ok((world, plan)) => self.show(order, in_force, desired, world, plan),
                Err(error) => {
                    tracing::warn!("what was done cannot be looked at: {}", chain(&error));
                }
            },
        }
        Ok(ended)
    }

    /// Instances that were made anew because their image moved are on trial from now on. Answers whether there are some.
    fn begin_trials(
        &mut self,
        order: &Reconcile,
        plan: &Plan,
        ended: &Reconciled,
        desired: &DesiredSet,
    ) -> Result<bool, SessionError> {
        let session = self.ground.session();
        let mut any = false;
        for step in plan.steps.iter().filter(|step| trials::begins(step)) {
            let address = step.address();
            let instance = trials::meant(desired, address);
            let (Some(instance), true) = (instance, ended.done.contains(address)) else {
                continue;
            };
            let Some(live) = session.runtime.look(address)? else {
                continue;
            };
            let now = session.clock.now();
            let Some(trial) = Trial::of(&order.source, instance, &live, now) else {
                continue;
            };
            tracing::info!(object = %address, image = trial.image(), "made anew: its image moved");
            any = true;
            if let Err(error) = self.trials.begin(address, trial) {
                tracing::warn!(object = %address, "its trial is not kept: {}", chain(&error));
            }
        }
        Ok(any)
    }

    /// Looks at instances on trial. Those that are not well go back to what they were. Answers which are left alone from now
    /// on, and whether others must be looked at again.
    fn judge_trials(
        &mut self,
        source: &SourceName,
        how: &ApplyOptions,
        herald: &Herald<'_>,
    ) -> Result<(Vec<(Address, Suspension)>, bool), SessionError> {
        let session = self.ground.session();
        let (mut left_alone, mut waits) = (Vec::new(), false);
        for (address, trial) in self.trials.of(source) {
            let now = session.clock.now();
            let live = session.runtime.look(&address)?;
            let over = match trial.judge(live.as_ref(), now) {
                Verdict::Waits => {
                    waits = true;
                    continue;
                }
                Verdict::Over => {
                    tracing::debug!(object = %address, image = trial.image(), "its trial is over");
                    self.trials.end(&address)
                }
                Verdict::Fails(why) => {
                    let image = trial.image();
                    tracing::error!(object = %address, image, why, "not well with its new image: it goes back to what it was");
                    let suspension = Suspension {
                        reason: format!(
                            "with the image sha256:{image} {why}: what it was before is back"
                        ),
                        by: Some(CONTROLLER.to_owned()),
                        since: now,
                        until: None,
                    };
                    if let Err(error) = self.trials.goes_back(&address, &why) {
                        tracing::warn!(object = %address, "its way back is not kept: {}", chain(&error));
                    }
                    let is_new = trial.is_new(live.as_ref());
                    self.go_back(&address, is_new, &suspension, how, herald)?;
                    left_alone.push((address.clone(), suspension));
                    self.trials.end(&address)
                }
            };
            if let Err(error) = over {
                tracing::warn!(object = %address, "the end of its trial is not kept: {}", chain(&error));
            }
        }
        Ok((left_alone, waits))
    }

    /// Puts an instance back to what it was before it was made anew. First it is left alone: nothing makes it anew again
    /// in between, also where this controller is killed.
    fn go_back(
        &self,
        address: &Address,
        is_new: bool,
        suspension: &Suspension,
        how: &ApplyOptions,
        herald: &Herald<'_>,
    ) -> Result<(), SessionError> {
        let session = self.ground.session();
        let store = SqliteStore::open(&session.folder.database())?;
        let scope = Scope::Object(address.clone());
        store.commit(&[Write::Suspend(scope, suspension.clone())])?;
        let back = Asked::Restore {
            uid: None,
            whose_name: WhoseName::Taken,
        };
        let deeds = [is_new.then_some(back), Some(Asked::Power(Power::Start))];
        for asked in deeds.into_iter().flatten() {
            let plan = session.asked(std::slice::from_ref(address), &asked)?;
            for (_, error) in &plan.refused {
                tracing::error!(object = %address, why = chain(error), "it cannot go back");
            }
            if !plan.plan.steps.is_empty() {
                session.carry_out_asked(&plan, how, herald)?;
            }
        }
        Ok(())
    }

    /// Shows what was seen to those who look, and tells what moved since.
    fn show(
        &self,
        order: &Reconcile,
        in_force: &Arc<InForce>,
        desired: &DesiredSet,
        world: World,
        plan: Plan,
    ) {
        let now = self.ground.session().clock.now();
        let looked = Looked::new(&world, Arc::clone(in_force), desired, plan, now);
        self.pictures
            .put(&order.source, world, looked, |before, after| {
                for one in news::moved(&order.source, before, after) {
                    self.feed.tell(now, one);
                }
            });
    }
}

/// Fields that somebody fights over are told and not touched.
fn leave_alone(desired: &mut DesiredSet, contended: &[Field]) {
    for (address, path) in contended {
        if let Some(resource) = desired.resources.get_mut(address) {
            let rules = &mut resource.lifecycle.drift_by_field;
            rules.insert(path.clone(), DriftMode::Warn);
        }
    }
}

fn ended(
    order: &Reconcile,
    plan: &Plan,
    report: Option<&ApplyReport>,
    outcome: Outcome,
) -> Reconciled {
    let mut ended = Reconciled {
        source: order.source.clone(),
        revision: None,
        outcome,
        done: Vec::new(),
        failed: Vec::new(),
        corrected: Vec::new(),
        until: plan
            .held
            .iter()
            // All that holds a step has to let go of it.
            .filter_map(|held| held.because.iter().map(|because| because.until).max()?)
            .min(),
        left_alone: Vec::new(),
    };
    for result in report.iter().flat_map(|report| &report.results) {
        let Some(step) = plan.steps.iter().find(|step| step.id == result.id) else {
            continue;
        };
        let address = step.address().clone();
        match &result.outcome {
            journal::Outcome::Succeeded { .. } => {
                let changes = step.changes.iter();
                let drifted = changes.filter(|planned| planned.change.cause == Cause::Drifted);
                ended
                    .corrected
                    .extend(drifted.map(|planned| (address.clone(), planned.change.path.clone())));
                ended.done.push(address);
            }
            journal::Outcome::Failed { class, message } => ended.failed.push(Failure {
                address,
                verb: step.deed(),
                class: *class,
                why: message.clone(),
            }),
            journal::Outcome::Skipped { .. } | journal::Outcome::Interrupted { .. } => {}
        }
    }
    // An object with two steps of which one failed has failed.
    let failed: Vec<_> = ended.failed.iter().map(|one| one.address.clone()).collect();
    ended.done.retain(|address| !failed.contains(address));
    ended
}

/// What is told of a reconcile is told within this.
fn span(order: &Reconcile, in_force: Option<&InForce>) -> tracing::Span {
    let why = order.why;
    match in_force.and_then(|in_force| in_force.rollout.span()) {
        // Source and revision are told by that one.
        Some(revision) => tracing::info_span!(parent: &revision, "reconcile", why),
        None => {
            let (source, revision) = (order.source.as_str(), in_force.map(InForce::label));
            tracing::info_span!("reconcile", source, revision, why)
        }
    }
}

/// One line about a reconcile. One that found nothing to do is no news, nor one that ended as the one before.
fn log(ended: &Reconciled, before: Option<&Outcome>) {
    let nothing = ended.done.is_empty() && ended.failed.is_empty();
    if nothing && before == Some(&ended.outcome) {
        tracing::debug!("as before");
        return;
    }
    for failure in &ended.failed {
        let (object, why) = (&failure.address, &failure.why);
        tracing::error!(%object, why, "failed");
    }
    let (done, failed) = (ended.done.len(), ended.failed.len());
    match &ended.outcome {
        Outcome::Settled if done == 0 => tracing::debug!("as it should be"),
        Outcome::Settled => tracing::info!(done, "settled"),
        Outcome::Partly => tracing::warn!(done, failed, "partly done"),
        Outcome::Looked => tracing::debug!("looked at, suspended"),
        Outcome::Stopped { digest, because } => {
            let because = because.join("; ");
            tracing::warn!(
                digest,
                because,
                "stopped: keel approve, with the digest, does it once"
            );
        }
        Outcome::Busy => tracing::debug!("somebody else is at work"),
        Outcome::Failed { why, .. } => tracing::error!(why, "failed"),
    }
}
