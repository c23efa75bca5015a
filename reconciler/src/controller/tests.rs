//! What is decided, played with time and events that are made up.

use std::collections::BTreeMap;
use std::time::Duration;

use manifests::id::{Address, SourceName};
use manifests::pointer::Pointer;
use runtime::error::Class;

use super::event::{
    Deed, Ended, Event, Failure, Fetched, Now, Outcome, Reconcile, Reconciled, Request, Work,
};
use super::standing::Standing;
use super::state::{Followed, Pace, State};
use crate::diff::suspension::{Pin, Scope, Suspension};
use crate::source::followed::Ahead;

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);

fn day() -> jiff::Timestamp {
    "2026-11-27T12:00:00Z".parse().expect("a time")
}

fn address(name: &str) -> Address {
    format!("instance/{name}").parse().expect("an address")
}

/// A controller and what became of its deeds.
struct Played {
    state: State,
    now: Now,
    begun: Vec<(Duration, Work)>,
    fetches: Vec<(Duration, SourceName)>,
    /// Work that is under way.
    work: Option<Work>,
    has_left: bool,
}

impl Played {
    fn new(sources: &[(&str, &[&str])]) -> Self {
        let followed = sources.iter().map(|(name, depends_on)| {
            let depends_on = depends_on.iter().copied().map(SourceName::new).collect();
            let poll = Some(MINUTE);
            (SourceName::new(*name), Followed { poll, depends_on })
        });
        let now = Now {
            day: day(),
            up: Duration::ZERO,
        };
        let followed: BTreeMap<_, _> = followed.collect();
        Self {
            state: State::new(followed, BTreeMap::new(), Pace::default(), 7, now),
            now,
            begun: Vec::new(),
            fetches: Vec::new(),
            work: None,
            has_left: false,
        }
    }

    fn tell(&mut self, event: Event) {
        for deed in self.state.decide(event, self.now) {
            match deed {
                Deed::Fetch(name, _) => self.fetches.push((self.now.up, name)),
                Deed::Begin(work) => {
                    assert!(self.work.is_none(), "two at once: {work:?}");
                    self.begun.push((self.now.up, work.clone()));
                    self.work = Some(work);
                }
                Deed::BackUp => {}
                Deed::Leave => self.has_left = true,
            }
        }
    }

    fn pass(&mut self, time: Duration) {
        self.now.up += time;
        self.now.day = self.now.day.checked_add(time).expect("a time");
    }

    /// Sleeps until there is something to do.
    fn sleep(&mut self) {
        let at = self.state.wake_at(self.now).expect("something is to come");
        let time = at.saturating_sub(self.now.up);
        self.pass(time);
        self.tell(Event::Woken);
    }

    /// Ends what is under way, well unless it is said otherwise.
    fn end(&mut self, change: impl FnOnce(&mut Reconciled)) {
        let ended = match self.work.take().expect("something is under way") {
            Work::Boot => Ended::Boot,
            Work::Due => Ended::Due(None),
            Work::Reconcile(work) => {
                let revision = self.state.sources[&work.source].in_force.clone();
                let outcome = match work.only_look {
                    true => Outcome::Looked,
                    false => Outcome::Settled,
                };
                let mut ended = Reconciled {
                    source: work.source,
                    revision,
                    outcome,
                    done: Vec::new(),
                    failed: Vec::new(),
                    corrected: Vec::new(),
                    until: None,
                    left_alone: Vec::new(),
                };
                change(&mut ended);
                Ended::Reconciled(ended)
            }
        };
        self.tell(Event::Ended(ended));
    }

    fn well(&mut self) {
        self.end(|_| {});
    }

    fn moved(&mut self, source: &str, revision: &str) {
        let name = SourceName::new(source);
        self.tell(Event::Fetched(name, Fetched::Moved(revision.to_owned())));
    }

    /// Sleeps, and ends what is due by the clock, until a source is reconciled.
    fn until_reconciled(&mut self) -> Reconcile {
        for _ in 0..1000 {
            match &self.work {
                Some(Work::Reconcile(work)) => return work.clone(),
                Some(_) => self.well(),
                None => self.sleep(),
            }
        }
        panic!("nothing is reconciled any more: {:#?}", self.state);
    }

    /// One that follows `edge` and has settled it.
    fn settled() -> Self {
        let mut played = Self::new(&[("edge", &[])]);
        played.tell(Event::Woken);
        played.moved("edge", "r1");
        played.well();
        played.until_reconciled();
        played.well();
        played
    }
}

#[test]
fn what_should_run_is_started_before_anything_else_and_a_commit_is_reconciled_at_once() {
    let mut played = Played::new(&[("edge", &[])]);
    played.tell(Event::Woken);
    assert_eq!(played.work, Some(Work::Boot));
    assert_eq!(played.fetches.len(), 1);
    played.pass(SECOND);
    played.moved("edge", "r1");
    assert_eq!(played.begun.len(), 1, "not while the host is started");
    played.well();
    let work = played.until_reconciled();
    assert_eq!(work.why, "a new revision");
    assert_eq!(played.begun[1].0, SECOND, "without waiting");
}

#[test]
fn what_moves_is_looked_at_within_a_second_and_a_storm_of_events_is_one_look() {
    let mut played = Played::settled();
    let (began, looks) = (played.now.up, played.begun.len());
    for _ in 0..30 {
        played.pass(Duration::from_millis(20));
        played.tell(Event::WorldMoved);
    }
    let work = match &played.work {
        Some(Work::Reconcile(work)) => work.clone(),
        _ => played.until_reconciled(),
    };
    assert_eq!(work.why, "the world moved");
    assert_eq!(played.begun.len(), looks + 1);
    assert!(played.begun[looks].0 - began < SECOND);
}

#[test]
fn looking_in_vain_makes_it_look_less_often_but_never_later_than_a_second() {
    let mut played = Played::settled();
    let mut looks = 0;
    let until = played.now.up + MINUTE;
    while played.now.up < until {
        played.pass(Duration::from_millis(10));
        played.tell(Event::WorldMoved);
        if let Some(work) = &played.work {
            looks += usize::from(matches!(work, Work::Reconcile(_)));
            played.well();
        }
    }
    assert!((60..100).contains(&looks), "{looks} looks in a minute");
}

#[test]
fn how_far_a_pinned_revision_is_behind_is_known_while_it_is_pinned() {
    let mut played = Played::settled();
    let edge = SourceName::new("edge");
    let ahead = Ahead {
        commit: "r9".to_owned(),
        commits: Some(3),
    };
    let pin = |digest: &str| Pin {
        revision: digest.to_owned(),
        digest: digest.to_owned(),
        reason: "r9 is bad".to_owned(),
        by: None,
        since: day(),
    };
    let told = |digest: &str| Event::Ahead(edge.clone(), digest.to_owned(), ahead.clone());
    let known = |played: &Played| played.state.sources[&edge].ahead.clone();
    played.tell(told("r1"));
    assert_eq!(known(&played), None, "it is not pinned");
    played.tell(Event::Asked(Request::Pin(edge.clone(), pin("r1"))));
    played.tell(told("r0"));
    assert_eq!(known(&played), None, "that was about another one");
    played.tell(told("r1"));
    assert_eq!(known(&played), Some(ahead.clone()));
    played.tell(Event::Asked(Request::Pin(edge.clone(), pin("r0"))));
    assert_eq!(known(&played), None);
    played.tell(told("r0"));
    played.tell(Event::Asked(Request::Unpin(edge.clone())));
    assert_eq!(known(&played), None);
}

#[test]
fn nothing_happens_where_nothing_moves() {
    let mut played = Played::settled();
    let (from, looks) = (played.now.up, played.begun.len());
    while played.now.up < from + 60 * MINUTE {
        if played.work.is_some() {
            played.well();
        } else {
            played.sleep();
        }
        // Polling found nothing.
        if let Some((_, name)) = played.fetches.pop() {
            played.tell(Event::Fetched(name, Fetched::Unchanged));
        }
    }
    let count = |wanted: fn(&Work) -> bool| {
        let begun = played.begun[looks..].iter();
        begun.filter(|(_, work)| wanted(work)).count()
    };
    // Each ten minutes a look, each minute what is due.
    assert!((5..=7).contains(&count(|work| matches!(work, Work::Reconcile(_)))));
    assert!((58..=61).contains(&count(|work| *work == Work::Due)));
}

#[test]
fn what_fails_is_tried_again_later_and_later_and_the_rest_goes_on() {
    let mut played = Played::settled();
    played.moved("edge", "r2");
    let mut waits = Vec::new();
    let mut before = played.now.up;
    for _ in 0..6 {
        let work = played.until_reconciled();
        assert!(work.resting.is_empty(), "what is tried again does not rest");
        waits.push(played.now.up - before);
        before = played.now.up;
        played.end(|ended| {
            ended.outcome = Outcome::Partly;
            ended.failed = vec![Failure {
                address: address("web"),
                verb: "start",
                class: Class::Retry,
                why: "no".to_owned(),
            }];
        });
        // Something else moves meanwhile: it rests.
        played.tell(Event::WorldMoved);
        played.pass(Duration::from_millis(60));
        played.tell(Event::Woken);
        let work = played.until_reconciled();
        assert_eq!(work.resting[0].address, address("web"));
        played.end(|ended| ended.outcome = Outcome::Partly);
    }
    for pair in waits[2..].windows(2) {
        assert!(pair[1] > pair[0], "{waits:?}");
    }
    // A commit tries it at once, and counts anew.
    played.moved("edge", "r3");
    let work = played.until_reconciled();
    assert!(work.resting.is_empty());
    played.end(|ended| ended.done = vec![address("web")]);
    assert!(
        played.state.sources[&SourceName::new("edge")]
            .resting
            .is_empty()
    );
}

#[test]
fn what_a_person_has_to_mend_is_left_alone_until_they_say_so() {
    let mut played = Played::settled();
    played.moved("edge", "r2");
    played.until_reconciled();
    played.end(|ended| {
        ended.outcome = Outcome::Partly;
        ended.failed = vec![Failure {
            address: address("web"),
            verb: "update",
            class: Class::NeedsOperator,
            why: "a device is missing".to_owned(),
        }];
    });
    let from = played.now.up;
    while played.now.up < from + 30 * MINUTE {
        let work = played.until_reconciled();
        assert_eq!(work.resting.len(), 1, "at {:?}", played.now.up - from);
        assert!(work.resting[0].tried.contains("update"));
        assert!(
            !work.resting[0].tried.contains("start"),
            "it may die meanwhile"
        );
        played.end(|ended| ended.outcome = Outcome::Partly);
    }
    // It died meanwhile, and cannot be started either: neither is tried all the time.
    played.until_reconciled();
    played.end(|ended| {
        ended.outcome = Outcome::Partly;
        ended.failed = vec![Failure {
            address: address("web"),
            verb: "start",
            class: Class::NeedsOperator,
            why: "a device is missing".to_owned(),
        }];
    });
    let work = played.until_reconciled();
    assert_eq!(
        Vec::from_iter(&work.resting[0].tried),
        [&"start", &"update"]
    );
    played.end(|ended| ended.outcome = Outcome::Partly);
    played.tell(Event::Asked(Request::Reconcile(None)));
    assert!(played.until_reconciled().resting.is_empty());
}

#[test]
fn an_invalid_commit_changes_nothing_and_is_told() {
    let mut played = Played::settled();
    let begun = played.begun.len();
    let name = SourceName::new("edge");
    let invalid = Fetched::Invalid {
        revision: "r2".to_owned(),
        why: "unknown field".to_owned(),
    };
    played.tell(Event::Fetched(name.clone(), invalid));
    played.pass(SECOND);
    played.tell(Event::Woken);
    assert_eq!(played.begun.len(), begun);
    let source = &played.state.sources[&name];
    assert_eq!(source.in_force.as_deref(), Some("r1"));
    assert_eq!(source.invalid.as_ref().map(|(r, _)| r.as_str()), Some("r2"));
    played.moved("edge", "r3");
    assert_eq!(played.state.sources[&name].invalid, None);
}

#[test]
fn a_source_waits_for_those_that_it_depends_on() {
    let mut played = Played::new(&[("apps", &["base"]), ("base", &[])]);
    played.tell(Event::Woken);
    played.moved("apps", "a1");
    played.well();
    for _ in 0..20 {
        played.sleep();
        match &played.work {
            Some(Work::Reconcile(work)) => panic!("too early: {work:?}"),
            Some(_) => played.well(),
            None => {}
        }
    }
    played.moved("base", "b1");
    assert_eq!(played.until_reconciled().source, SourceName::new("base"));
    played.end(|ended| ended.outcome = Outcome::Partly);
    played.tell(Event::WorldMoved);
    assert_eq!(played.until_reconciled().source, SourceName::new("base"));
    played.well();
    assert_eq!(played.until_reconciled().source, SourceName::new("apps"));
}

#[test]
fn a_suspended_source_is_looked_at_and_not_touched_until_the_time_is_over() {
    let mut played = Played::settled();
    let suspension = Suspension {
        reason: "the disk is being replaced".to_owned(),
        by: Some("anna".to_owned()),
        since: played.now.day,
        until: Some(played.now.day.checked_add(20 * MINUTE).expect("a time")),
    };
    let scope = Scope::Source(SourceName::new("edge"));
    played.tell(Event::Asked(Request::Suspend(scope, suspension)));
    let from = played.now.up;
    played.moved("edge", "r2");
    while played.now.up < from + 19 * MINUTE {
        let work = played.until_reconciled();
        if played.now.up >= from + 20 * MINUTE {
            break;
        }
        assert!(work.only_look, "at {:?}", played.now.up - from);
        played.well();
    }
    while played.until_reconciled().only_look {
        played.well();
    }
    let late = played.now.up - from;
    assert!(late >= 20 * MINUTE && late < 21 * MINUTE, "{late:?}");
}

#[test]
fn a_plan_that_a_guard_stops_is_done_when_somebody_answers_for_it() {
    let mut played = Played::settled();
    played.moved("edge", "r2");
    played.until_reconciled();
    let stopped = Outcome::Stopped {
        digest: "abc".to_owned(),
        because: vec!["G102".to_owned()],
    };
    played.end(|ended| ended.outcome = stopped.clone());
    let until = played.now.day.checked_add(60 * MINUTE).expect("a time");
    played.tell(Event::Asked(Request::Approve("other".to_owned(), until)));
    assert!(played.work.is_none());
    played.tell(Event::Asked(Request::Approve("abc".to_owned(), until)));
    let work = played.until_reconciled();
    assert_eq!(work.why, "approved");
    assert!(work.approved.contains("abc"));
    // An hour later the answer counts no more.
    played.end(|ended| ended.outcome = stopped);
    played.pass(61 * MINUTE);
    played.tell(Event::Woken);
    assert!(played.until_reconciled().approved.is_empty());
}

/// Where somebody fights over the memory of `web`, and that was noticed.
fn fought_over() -> Played {
    let mut played = Played::settled();
    let field = (address("web"), Pointer::new("/spec/limits/memory"));
    for round in 0..3 {
        played.tell(Event::WorldMoved);
        let work = played.until_reconciled();
        assert!(work.contended.is_empty(), "round {round}");
        played.end(|ended| {
            ended.corrected = vec![field.clone()];
            ended.done = vec![address("web")];
        });
    }
    played.tell(Event::WorldMoved);
    assert_eq!(played.until_reconciled().contended, [field]);
    played.well();
    played
}

#[test]
fn a_fight_is_of_its_object_and_its_source_and_ends_when_that_is_resumed() {
    let mut played = fought_over();
    let source = |name| Scope::Source(SourceName::new(name));
    let standing = Standing::of(&played.state, played.now);
    for (scope, is_it) in [
        (Scope::Object(address("web")), true),
        (Scope::Object(address("db")), false),
        (source("edge"), true),
        (source("other"), false),
        (Scope::Everything, true),
    ] {
        assert_eq!(standing.is_fought_over(&scope), is_it, "{scope}");
    }
    played.tell(Event::Asked(Request::Resume(Scope::Object(address("web")))));
    let work = played.until_reconciled();
    assert_eq!((work.why, work.contended.len()), ("resumed", 0));
    played.well();
    let standing = Standing::of(&played.state, played.now);
    assert!(!standing.is_fought_over(&Scope::Everything));
}

#[test]
fn who_fights_over_a_field_wins_for_an_hour_or_until_the_next_commit() {
    let mut played = fought_over();
    played.moved("edge", "r2");
    assert!(played.until_reconciled().contended.is_empty());
}

#[test]
fn a_clock_that_is_set_back_delays_nothing_but_what_goes_by_the_clock() {
    let mut played = Played::settled();
    played.now.day = played
        .now
        .day
        .checked_sub(24 * 60 * MINUTE)
        .expect("a time");
    played.tell(Event::WorldMoved);
    let before = played.now.up;
    played.until_reconciled();
    assert!(played.now.up - before < SECOND);
    let window = played.now.day.checked_add(5 * MINUTE).expect("a time");
    played.end(|ended| ended.until = Some(window));
    // Set on beyond the window: seen within a minute.
    played.now.day = played
        .now
        .day
        .checked_add(24 * 60 * MINUTE)
        .expect("a time");
    let before = played.now.up;
    assert_eq!(played.until_reconciled().why, "what was held may be done");
    assert!(played.now.up - before <= MINUTE);
}

#[test]
fn it_leaves_when_what_is_under_way_has_ended_and_begins_nothing_new() {
    let mut played = Played::settled();
    played.moved("edge", "r2");
    played.until_reconciled();
    played.tell(Event::Leave);
    assert!(!played.has_left);
    played.tell(Event::WorldMoved);
    played.well();
    assert!(played.has_left);
    assert!(played.work.is_none());
}

#[test]
fn somebody_who_is_at_work_is_waited_for() {
    let mut played = Played::settled();
    played.moved("edge", "r2");
    played.until_reconciled();
    played.end(|ended| ended.outcome = Outcome::Busy);
    let before = played.now.up;
    played.until_reconciled();
    let waited = played.now.up - before;
    assert!(
        waited > Duration::from_millis(400) && waited < SECOND,
        "{waited:?}"
    );
}

#[test]
fn what_is_suspended_by_others_is_taken_over_as_a_whole() {
    let mut played = Played::settled();
    let suspension = Suspension {
        reason: "moving".to_owned(),
        by: None,
        since: played.now.day,
        until: None,
    };
    let scope = Scope::Source(SourceName::new("edge"));
    let all = BTreeMap::from([(scope, suspension)]);
    played.tell(Event::Asked(Request::Suspended(all)));
    played.tell(Event::WorldMoved);
    assert!(played.until_reconciled().only_look);
    played.well();
    played.tell(Event::Asked(Request::Suspended(BTreeMap::new())));
    let work = played.until_reconciled();
    assert_eq!((work.why, work.only_look), ("resumed", false));
}

#[test]
fn what_is_pinned_stays_in_force_until_it_is_unpinned() {
    let mut played = Played::new(&[("edge", &[])]);
    let edge = SourceName::new("edge");
    let in_force = |played: &Played| played.state.sources[&edge].in_force.clone();
    played.tell(Event::Woken);
    played.moved("edge", "old");
    played.moved("edge", "new");
    let pin = Pin {
        digest: "old".to_owned(),
        revision: "old".to_owned(),
        reason: "the new one is worse".to_owned(),
        by: None,
        since: day(),
    };
    let before = played.fetches.len();
    played.tell(Event::Asked(Request::Pin(edge.clone(), pin.clone())));
    // What was seen before the pin was known is passed over.
    played.moved("edge", "newest");
    assert_eq!(in_force(&played).as_deref(), Some("new"));
    assert_eq!(
        played.fetches.len(),
        before + 1,
        "it is looked at once more"
    );
    played.moved("edge", "old");
    assert_eq!(in_force(&played).as_deref(), Some("old"));
    let pinned = played.state.sources[&edge].pinned.clone();
    assert_eq!(pinned, Some(pin));
    played.tell(Event::Asked(Request::Unpin(edge.clone())));
    played.moved("edge", "newest");
    assert_eq!(in_force(&played).as_deref(), Some("newest"));
}
