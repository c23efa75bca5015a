//! Ten thousand controllers, each with a life of its own: sources that move, vanish and say nonsense, work that fails, hangs
//! and is disturbed, suspensions, approvals and clocks that are set, in an order that a seed chooses. Whatever happens,
//! what must never be is not; and when the world comes to rest, all is settled.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use manifests::id::{Address, SourceName};
use manifests::pointer::Pointer;
use runtime::error::Class;

use super::backoff::Chance;
use super::event::{Deed, Ended, Event, Failure, Fetched, Now, Outcome, Reconciled, Request, Work};
use super::state::{Followed, Pace, State};
use crate::diff::suspension::{Scope, Suspension};

const SEEDS: u64 = 10_000;
const EVENTS: usize = 60;

struct Life {
    seed: u64,
    chance: Chance,
    state: State,
    now: Now,
    work: Option<Work>,
    fetching: BTreeSet<SourceName>,
    /// Of which a look has ended.
    answered: BTreeSet<SourceName>,
    backing_up: bool,
    revision: u32,
    left: bool,
    leaving: bool,
}

impl Life {
    fn new(seed: u64) -> Self {
        let source = |name: &str, depends_on: &[&str]| {
            let depends_on = depends_on.iter().copied().map(SourceName::new).collect();
            let poll = Some(Duration::from_secs(60));
            (SourceName::new(name), Followed { poll, depends_on })
        };
        let followed: BTreeMap<_, _> = [source("base", &[]), source("apps", &["base"])].into();
        let now = Now {
            day: "2026-11-27T12:00:00Z".parse().expect("a time"),
            up: Duration::ZERO,
        };
        let mut state = State::new(followed, BTreeMap::new(), Pace::default(), seed, now);
        if seed.is_multiple_of(2) {
            // It is not the first controller.
            for source in state.sources.values_mut() {
                source.begins_with("r0".to_owned());
            }
        }
        Self {
            seed,
            chance: Chance::of(seed),
            state,
            now,
            answered: BTreeSet::new(),
            work: None,
            fetching: BTreeSet::new(),
            backing_up: false,
            revision: 0,
            left: false,
            leaving: false,
        }
    }

    fn below(&mut self, limit: u32) -> u32 {
        self.chance.permille() % limit
    }

    fn name(&mut self) -> SourceName {
        SourceName::new(["base", "apps"][usize::from(self.below(2) == 1)])
    }

    fn tell(&mut self, event: Event) {
        let seed = self.seed;
        for deed in self.state.decide(event, self.now) {
            assert!(!self.left, "{seed}: {deed:?} after it left");
            match deed {
                Deed::Fetch(name, _) => {
                    assert!(
                        !self.leaving,
                        "{seed}: a look at {name} is begun on leaving"
                    );
                    assert!(self.fetching.insert(name), "{seed}: two looks at once");
                }
                Deed::Begin(work) => {
                    assert!(!self.leaving, "{seed}: {work:?} is begun on leaving");
                    assert!(self.work.is_none(), "{seed}: two works at once");
                    self.may_begin(&work);
                    self.work = Some(work);
                }
                Deed::BackUp => {
                    assert!(!self.backing_up, "{seed}: two backups at once");
                    self.backing_up = true;
                }
                Deed::Leave => {
                    assert!(
                        self.work.is_none() && !self.backing_up,
                        "{seed}: it leaves work behind"
                    );
                    self.left = true;
                }
            }
        }
    }

    fn may_begin(&self, work: &Work) {
        let seed = self.seed;
        let Work::Reconcile(order) = work else { return };
        let source = &self.state.sources[&order.source];
        assert!(source.in_force.is_some(), "{seed}: nothing is in force");
        let answered = self.answered.contains(&order.source);
        assert!(answered, "{seed}: what was in force is done before a look");
        let suspended = self.state.suspends(&order.source, self.now.day).is_some();
        assert_eq!(order.only_look, suspended, "{seed}: {order:?}");
        for digest in &order.approved {
            let until = self.state.approved.get(digest);
            assert!(
                until.is_some_and(|until| *until > self.now.day),
                "{seed}: {digest} counts no more"
            );
        }
        for needed in &source.followed.depends_on {
            assert!(
                self.state.sources[needed].is_settled(),
                "{seed}: {needed} is not settled"
            );
        }
        for rest in &order.resting {
            assert!(rest.until > self.now.day, "{seed}: {rest:?} is over");
        }
    }

    fn pass(&mut self, time: Duration) {
        self.now.up += time;
        self.now.day = self.now.day.checked_add(time).expect("a time");
    }

    fn fetched(&mut self, name: SourceName, well: bool) {
        if !self.fetching.remove(&name) {
            return;
        }
        self.answered.insert(name.clone());
        let fetched = match if well { self.below(2) } else { self.below(5) } {
            0 => Fetched::Unchanged,
            1 => {
                self.revision += 1;
                Fetched::Moved(format!("r{}", self.revision))
            }
            2 => Fetched::Invalid {
                revision: "bad".to_owned(),
                why: "nonsense".to_owned(),
            },
            3 => Fetched::Failed {
                class: Class::Retry,
                why: "no answer".to_owned(),
            },
            _ => Fetched::Failed {
                class: Class::Refused,
                why: "not signed".to_owned(),
            },
        };
        self.tell(Event::Fetched(name, fetched));
    }

    fn end(&mut self, well: bool) {
        let Some(work) = self.work.take() else { return };
        let ended = match work {
            Work::Boot => Ended::Boot,
            Work::Due => Ended::Due(None),
            Work::Reconcile(order) => {
                let address = |name: u32| -> Address {
                    format!("instance/i{name}").parse().expect("an address")
                };
                let class = [Class::Retry, Class::Conflict, Class::NeedsOperator];
                let class = class[usize::try_from(self.below(3)).expect("small")];
                let mut ended = Reconciled {
                    source: order.source.clone(),
                    // What was in force when it began; something newer may have come meanwhile.
                    revision: self.state.sources[&order.source].in_force.clone(),
                    outcome: Outcome::Settled,
                    done: Vec::new(),
                    failed: Vec::new(),
                    corrected: Vec::new(),
                    until: None,
                    left_alone: Vec::new(),
                };
                match if well { 0 } else { self.below(6) } {
                    _ if order.only_look => ended.outcome = Outcome::Looked,
                    0 => {}
                    1 => {
                        ended.outcome = Outcome::Partly;
                        let address = address(self.below(3));
                        ended.failed.push(Failure {
                            address,
                            verb: "start",
                            class,
                            why: "no".to_owned(),
                        });
                    }
                    2 => ended.outcome = Outcome::Busy,
                    3 => {
                        ended.outcome = Outcome::Failed {
                            class,
                            why: "the engine is away".to_owned(),
                        }
                    }
                    4 => {
                        ended.outcome = Outcome::Stopped {
                            digest: format!("d{}", self.below(3)),
                            because: vec!["G102".to_owned()],
                        }
                    }
                    _ => {
                        let address = address(self.below(3));
                        ended
                            .corrected
                            .push((address.clone(), Pointer::new("/spec/limits/memory")));
                        ended.done.push(address);
                    }
                }
                Ended::Reconciled(ended)
            }
        };
        self.tell(Event::Ended(ended));
    }

    /// Something happens.
    fn happen(&mut self) {
        let wait = Duration::from_millis(u64::from(self.below(2000)).pow(2));
        let wait = match self.below(3) {
            0 => wait,
            1 => Duration::from_millis(u64::from(self.below(100))),
            _ => Duration::ZERO,
        };
        self.pass(wait);
        match self.below(14) {
            0 | 1 => self.tell(Event::WorldMoved),
            2 | 3 => {
                let name = self.name();
                self.fetched(name, false);
            }
            4..=6 => self.end(false),
            7 => {
                if std::mem::take(&mut self.backing_up) {
                    self.tell(Event::BackedUp(None));
                }
            }
            8 => {
                let name = self.name();
                self.tell(Event::Asked(Request::Fetch(name)));
            }
            9 => {
                let scope = self.scope();
                let until = Duration::from_secs(u64::from(self.below(3000)));
                let suspension = Suspension {
                    reason: "work".to_owned(),
                    by: None,
                    since: self.now.day,
                    until: self.now.day.checked_add(until).ok(),
                };
                self.tell(Event::Asked(Request::Suspend(scope, suspension)));
            }
            10 => {
                let scope = self.scope();
                self.tell(Event::Asked(Request::Resume(scope)));
            }
            11 => {
                let digest = format!("d{}", self.below(3));
                let until = self
                    .now
                    .day
                    .checked_add(Duration::from_secs(600))
                    .expect("a time");
                self.tell(Event::Asked(Request::Approve(digest, until)));
            }
            12 => {
                let hours = i64::from(self.below(48)) - 24;
                let day = self
                    .now
                    .day
                    .checked_add(jiff::SignedDuration::from_hours(hours));
                self.now.day = day.expect("a time");
                self.tell(Event::Woken);
            }
            _ => self.tell(Event::Asked(Request::Reconcile(None))),
        }
    }

    fn scope(&mut self) -> Scope {
        match self.below(2) {
            0 => Scope::Everything,
            _ => Scope::Source(self.name()),
        }
    }

    /// From here on all goes well; answers whether all came to rest.
    fn comes_to_rest(&mut self) -> bool {
        self.tell(Event::Asked(Request::Resume(Scope::Everything)));
        for name in ["base", "apps"] {
            self.tell(Event::Asked(Request::Resume(Scope::Source(
                SourceName::new(name),
            ))));
        }
        for _ in 0..2000 {
            let settled = self.state.sources.values().all(|source| {
                let none = source.in_force.is_none();
                none || (source.is_settled() && source.resting.is_empty())
            });
            if settled && self.work.is_none() {
                return true;
            }
            if self.work.is_some() {
                self.end(true);
                continue;
            }
            for name in std::mem::take(&mut self.fetching) {
                self.answered.insert(name.clone());
                self.tell(Event::Fetched(name, Fetched::Unchanged));
            }
            if std::mem::take(&mut self.backing_up) {
                self.tell(Event::BackedUp(None));
            }
            if self.work.is_some() {
                continue;
            }
            let at = self.state.wake_at(self.now).expect("it sleeps for ever");
            self.pass(at.saturating_sub(self.now.up));
            self.tell(Event::Woken);
        }
        false
    }
}

#[test]
fn whatever_happens_what_must_not_be_is_not_and_in_the_end_all_is_settled() {
    for seed in 0..SEEDS {
        let mut life = Life::new(seed);
        life.tell(Event::Woken);
        for _ in 0..EVENTS {
            life.happen();
        }
        if seed % 4 == 0 {
            life.leaving = true;
            life.tell(Event::Leave);
            for _ in 0..10 {
                life.happen();
            }
            life.end(true);
            if std::mem::take(&mut life.backing_up) {
                life.tell(Event::BackedUp(None));
            }
            assert!(life.left, "{seed}: it does not leave");
            continue;
        }
        // A source whose dependency is never in force waits for it.
        let base = &life.state.sources[&SourceName::new("base")];
        if base.in_force.is_none() {
            continue;
        }
        assert!(life.comes_to_rest(), "{seed}: {:#?}", life.state);
    }
}
