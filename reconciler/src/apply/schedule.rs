//! Which step comes next: pure bookkeeping over prerequisites, settling and waiting. Threads ask it and tell it.

use std::collections::{BTreeSet, VecDeque};
use std::time::Instant;

use crate::journal::Outcome;

/// How far a step is.
#[derive(Debug, Clone, PartialEq)]
enum Stage {
    /// Prerequisites are open.
    Blocked(usize),
    /// It may begin.
    Ready,
    /// It may begin once objects are ready; looked at again at this time.
    NotYet(Instant),
    /// A thread is at it.
    Busy,
    /// It is done, and what is derived from many objects is not yet in force.
    Unsettled,
    /// It is looked at again at this time.
    Unseen(Instant),
    /// It ended.
    Ended,
}

/// What a thread does next.
#[derive(Debug, PartialEq)]
pub(super) enum Task {
    /// Begin this step.
    Begin(usize),
    /// Put in force what is derived from many objects, for these steps.
    Settle(Vec<usize>),
    /// Look whether this step is seen.
    Look(usize),
    /// Wait for other threads, at most until then.
    Wait(Option<Instant>),
    /// Nothing is left.
    Leave,
}

/// A step that must have ended before another one begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Before {
    /// Its index.
    pub(super) step: usize,
    /// Whether it must also have succeeded.
    pub(super) needed: bool,
}

/// The bookkeeping of one apply; steps are known by their index.
#[derive(Debug)]
pub(super) struct Schedule {
    stages: Vec<Stage>,
    /// For each step those that come after it, and whether they need it.
    then: Vec<Vec<(usize, bool)>>,
    ready: VecDeque<usize>,
    timed: BTreeSet<(Instant, usize)>,
    unsettled: Vec<usize>,
    settling: bool,
    busy: usize,
    open: usize,
}

impl Schedule {
    /// A schedule of steps with their prerequisites.
    pub(super) fn new(before: &[Vec<Before>]) -> Self {
        let mut then = vec![Vec::new(); before.len()];
        for (step, firsts) in before.iter().enumerate() {
            for first in firsts {
                then[first.step].push((step, first.needed));
            }
        }
        let mut schedule = Self {
            stages: before
                .iter()
                .map(|firsts| Stage::Blocked(firsts.len()))
                .collect(),
            then,
            ready: VecDeque::new(),
            timed: BTreeSet::new(),
            unsettled: Vec::new(),
            settling: false,
            busy: 0,
            open: before.len(),
        };
        for step in 0..before.len() {
            schedule.unblock(step);
        }
        schedule
    }

    fn unblock(&mut self, step: usize) {
        if self.stages[step] == Stage::Blocked(0) {
            self.stages[step] = Stage::Ready;
            self.ready.push_back(step);
        }
    }

    /// The next task. With `leaving` no step begins any more.
    pub(super) fn next(&mut self, now: Instant, leaving: bool) -> Task {
        if self.open == 0 {
            return Task::Leave;
        }
        while let Some((at, step)) = self.timed.first().copied() {
            let begins = matches!(self.stages[step], Stage::NotYet(_));
            if at > now && (!leaving || begins) {
                break;
            }
            self.timed.pop_first();
            if begins && leaving {
                self.stages[step] = Stage::Blocked(usize::MAX);
                continue;
            }
            self.stages[step] = Stage::Busy;
            self.busy += 1;
            return if begins {
                Task::Begin(step)
            } else {
                Task::Look(step)
            };
        }
        if !leaving && let Some(step) = self.ready.pop_front() {
            self.stages[step] = Stage::Busy;
            self.busy += 1;
            return Task::Begin(step);
        }
        let blocks_others = || {
            self.unsettled.iter().any(|step| {
                self.then[*step]
                    .iter()
                    .any(|(next, _)| self.is_blocked(*next))
            })
        };
        if !self.unsettled.is_empty()
            && !self.settling
            && (self.busy == 0 || (!leaving && blocks_others()))
        {
            self.settling = true;
            return Task::Settle(std::mem::take(&mut self.unsettled));
        }
        if self.busy == 0 && !self.settling && self.timed.is_empty() {
            return Task::Leave;
        }
        Task::Wait(self.timed.first().map(|(at, _)| *at))
    }

    fn is_blocked(&self, step: usize) -> bool {
        matches!(self.stages[step], Stage::Blocked(_))
    }

    /// Steps that may begin at once, at most `limit`: their beginnings share one sync.
    pub(super) fn ready(&self, limit: usize) -> Vec<usize> {
        self.ready.iter().take(limit).copied().collect()
    }

    /// The step waits for other objects; ask again then.
    pub(super) fn not_yet(&mut self, step: usize, at: Instant) {
        self.busy -= 1;
        self.stages[step] = Stage::NotYet(at);
        self.timed.insert((at, step));
    }

    /// The step is done and waits for settling.
    pub(super) fn unsettled(&mut self, step: usize) {
        self.busy -= 1;
        self.stages[step] = Stage::Unsettled;
        self.unsettled.push(step);
    }

    /// The step is not yet seen as wanted; look again then.
    pub(super) fn unseen(&mut self, step: usize, at: Instant) {
        self.busy -= 1;
        self.stages[step] = Stage::Unseen(at);
        self.timed.insert((at, step));
    }

    /// What these steps needed is in force, or could not be: look at them.
    pub(super) fn settled(&mut self, steps: &[usize], now: Instant) {
        self.settling = false;
        for step in steps {
            self.stages[*step] = Stage::Unseen(now);
            self.timed.insert((now, *step));
        }
    }

    /// The step ended. Answers the steps that can no longer begin because of it, in order.
    pub(super) fn ended(&mut self, step: usize, outcome: &Outcome) -> Vec<usize> {
        self.busy -= 1;
        self.stages[step] = Stage::Ended;
        self.open -= 1;
        let succeeded = matches!(outcome, Outcome::Succeeded { .. });
        let mut lost = BTreeSet::new();
        let mut open = vec![step];
        while let Some(first) = open.pop() {
            for (next, needs) in self.then[first].clone() {
                let Stage::Blocked(count) = &mut self.stages[next] else {
                    continue;
                };
                if needs && !succeeded {
                    self.stages[next] = Stage::Ended;
                    self.open -= 1;
                    lost.insert(next);
                    open.push(next);
                } else {
                    *count = count.saturating_sub(1);
                    self.unblock(next);
                }
            }
        }
        lost.into_iter().collect()
    }

    /// Steps that never began.
    pub(super) fn left(&self) -> Vec<usize> {
        self.stages
            .iter()
            .enumerate()
            .filter(|(_, stage)| **stage != Stage::Ended)
            .map(|(step, _)| step)
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use runtime::runtime::Effected;

    use super::*;
    use crate::clock::{Clock as _, HostClock};

    fn done() -> Outcome {
        Outcome::Succeeded {
            effected: Effected::Done,
        }
    }

    fn failed() -> Outcome {
        Outcome::Failed {
            class: runtime::error::Class::Refused,
            message: "no".to_owned(),
        }
    }

    fn needed(step: usize) -> Before {
        Before { step, needed: true }
    }

    #[test]
    fn what_only_comes_after_a_failed_step_goes_on() {
        let now = HostClock.instant();
        // 1 needs 0, 2 and 3 only come after what fails.
        let after = |step| Before {
            step,
            needed: false,
        };
        let mut schedule =
            Schedule::new(&[vec![], vec![needed(0)], vec![after(0)], vec![after(1)]]);
        assert_eq!(schedule.next(now, false), Task::Begin(0));
        assert_eq!(schedule.ended(0, &failed()), [1]);
        assert_eq!(schedule.next(now, false), Task::Begin(2));
        assert_eq!(schedule.next(now, false), Task::Begin(3));
        schedule.ended(2, &done());
        schedule.ended(3, &done());
        assert_eq!(schedule.next(now, false), Task::Leave);
    }

    #[test]
    fn independent_branches_go_on_after_a_failure() {
        let now = HostClock.instant();
        // 0 → 1 → 2, and 3 alone.
        let mut schedule = Schedule::new(&[vec![], vec![needed(0)], vec![needed(1)], vec![]]);
        assert_eq!(schedule.ready(9), [0, 3]);
        assert_eq!(schedule.next(now, false), Task::Begin(0));
        assert_eq!(schedule.ended(0, &failed()), [1, 2]);
        assert_eq!(schedule.next(now, false), Task::Begin(3));
        assert_eq!(schedule.ended(3, &done()), Vec::<usize>::new());
        assert_eq!(schedule.next(now, false), Task::Leave);
        assert!(schedule.left().is_empty());
    }

    #[test]
    fn many_steps_settle_once_unless_somebody_waits() {
        let now = HostClock.instant();
        // A network, two instances on it.
        let mut schedule = Schedule::new(&[vec![], vec![needed(0)], vec![needed(0)]]);
        assert_eq!(schedule.next(now, false), Task::Begin(0));
        schedule.unsettled(0);
        assert_eq!(schedule.next(now, false), Task::Settle(vec![0]));
        assert_eq!(schedule.next(now, false), Task::Wait(None));
        schedule.settled(&[0], now);
        assert_eq!(schedule.next(now, false), Task::Look(0));
        schedule.ended(0, &done());
        assert_eq!(schedule.next(now, false), Task::Begin(1));
        assert_eq!(schedule.next(now, false), Task::Begin(2));
        schedule.unsettled(1);
        assert_eq!(schedule.next(now, false), Task::Wait(None), "2 comes along");
        schedule.unsettled(2);
        assert_eq!(schedule.next(now, false), Task::Settle(vec![1, 2]));
    }

    #[test]
    fn leaving_begins_nothing_and_ends_what_runs() {
        let now = HostClock.instant();
        let mut schedule = Schedule::new(&[vec![], vec![], vec![needed(0)]]);
        assert_eq!(schedule.next(now, false), Task::Begin(0));
        assert_eq!(schedule.next(now, true), Task::Wait(None));
        schedule.unsettled(0);
        assert_eq!(schedule.next(now, true), Task::Settle(vec![0]));
        schedule.settled(&[0], now);
        assert_eq!(schedule.next(now, true), Task::Look(0));
        schedule.ended(0, &done());
        assert_eq!(schedule.next(now, true), Task::Leave);
        assert_eq!(schedule.left(), [1, 2]);
    }
}
