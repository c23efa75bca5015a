//! What the controller knows of its own doing. The world is not in here: that is looked at anew each time.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use manifests::id::{Address, SourceName};
use runtime::error::Class;

use super::backoff::Chance;
use super::event::{Now, Outcome};
use super::fights::Fights;
use crate::diff::suspension::{Pin, Scope, Suspension};
use crate::source::followed::Ahead;

/// How long after the start the clock is asked what is due.
const FIRST_DUE: Duration = Duration::from_secs(5);

/// How often things are done that no event asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pace {
    /// How long until all is looked at again, if nothing happens.
    pub interval: Duration,
    /// How long until what is due by the clock is looked for again.
    pub due: Duration,
    /// How long the world has to be quiet before it is looked at …
    pub quiet: Duration,
    /// … and how long it is waited for that at most.
    pub patience: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            interval: Duration::from_secs(10 * 60),
            due: Duration::from_secs(60),
            quiet: Duration::from_millis(50),
            patience: Duration::from_millis(400),
        }
    }
}

/// How a source is followed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Followed {
    /// How often it is asked for something new; none: only when an event says that there may be.
    pub poll: Option<Duration>,
    /// Sources that must be settled before.
    pub depends_on: Vec<SourceName>,
}

/// Something that went wrong, and since when.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trouble {
    /// Whether it may pass by itself.
    pub class: Class,
    /// Why.
    pub why: String,
    /// How often in a row.
    pub times: u32,
    /// When it began.
    pub since: jiff::Timestamp,
}

/// How it went last time with something that is done again and again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Chore {
    /// It was not done since the start.
    Unknown,
    /// Well.
    Well,
    /// Not all of it was done.
    Failing(Trouble),
}

/// An object that failed and is left alone for a while.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rest {
    /// What went wrong.
    pub trouble: Trouble,
    /// What was tried since it rests, each by its verb: only that is left alone. An object that moved meanwhile may need
    /// something else, and gets it; what failed once is not tried a second time by turns.
    pub tried: BTreeSet<&'static str>,
    /// When it is tried again.
    pub until: Duration,
}

/// How a source stands.
#[derive(Debug, Clone)]
pub struct SourceState {
    /// How it is followed.
    pub followed: Followed,
    /// The revision that is in force: the newest one that means something.
    pub in_force: Option<String>,
    /// A person wants this revision to be in force.
    pub pinned: Option<Pin>,
    /// How far what the source says by now is ahead of that, as far as it is known.
    pub ahead: Option<Ahead>,
    /// A newer revision with errors in it.
    pub invalid: Option<(String, String)>,
    /// Why the source cannot be looked at.
    pub fetching_failed: Option<Trouble>,
    /// When it was last looked at with success.
    pub fetched_at: Option<jiff::Timestamp>,
    /// How the last reconcile ended; none before the first.
    pub outcome: Option<Outcome>,
    /// When that was.
    pub reconciled_at: Option<jiff::Timestamp>,
    /// The revision that it was about.
    pub reconciled: Option<String>,
    /// Why nothing could be done as a whole.
    pub failed: Option<Trouble>,
    /// Objects that failed.
    pub resting: BTreeMap<Address, Rest>,
    /// Fields that somebody fights over.
    pub fights: Fights,
    /// It was looked at since the start, also in vain. What was in force before is not done before that: something newer
    /// may have been done meanwhile.
    pub(super) looked: bool,
    /// Objects that failed and are tried again by what is under way.
    pub(super) trying: BTreeMap<Address, Trouble>,
    /// A look is under way.
    pub(super) fetching: bool,
    /// One more look is wanted after that.
    pub(super) fetch_again: bool,
    /// When it is looked at next.
    pub(super) fetch_at: Option<Duration>,
    /// Why it is to be reconciled; none: it need not.
    pub(super) wanted: Option<&'static str>,
    /// Not before.
    pub(super) not_before: Duration,
    /// When it is reconciled, if nothing happens.
    pub(super) full_at: Duration,
    /// When the first of what is held may be done.
    pub(super) held_until: Option<jiff::Timestamp>,
}

impl SourceState {
    /// A source of which nothing is known yet.
    pub(super) fn new(followed: Followed, now: Now) -> Self {
        Self {
            followed,
            in_force: None,
            pinned: None,
            ahead: None,
            invalid: None,
            fetching_failed: None,
            fetched_at: None,
            outcome: None,
            reconciled_at: None,
            reconciled: None,
            failed: None,
            resting: BTreeMap::new(),
            fights: Fights::default(),
            looked: false,
            trying: BTreeMap::new(),
            fetching: false,
            fetch_again: false,
            fetch_at: Some(now.up),
            wanted: None,
            not_before: Duration::ZERO,
            full_at: now.up,
            held_until: None,
        }
    }

    /// What was in force when the last controller ended.
    pub(super) fn begins_with(&mut self, revision: String) {
        self.in_force = Some(revision);
        self.wanted = Some("the controller began");
    }

    /// Whether another revision than this one is pinned.
    pub(super) fn pinned_elsewhere(&self, revision: &str) -> bool {
        let pinned = self.pinned.as_ref();
        pinned.is_some_and(|pin| pin.digest != revision)
    }

    /// Whether it was looked at, and reconciled if there is something in force; also in vain.
    fn was_tried(&self) -> bool {
        let fetched = self.fetched_at.is_some() || self.fetching_failed.is_some();
        let done = match (&self.outcome, &self.in_force) {
            (_, None) => true,
            (Some(Outcome::Busy) | None, Some(_)) => false,
            (Some(_), Some(_)) => self.wanted.is_none() || self.failed.is_some(),
        };
        fetched && done
    }

    /// Objects that failed last, also those that are tried again just now.
    pub fn failing(&self) -> BTreeMap<&Address, &Trouble> {
        let resting = self.resting.iter().map(|(one, rest)| (one, &rest.trouble));
        self.trying.iter().chain(resting).collect()
    }

    /// Whether all that is in force was done.
    pub fn is_settled(&self) -> bool {
        self.in_force.is_some()
            && self.in_force == self.reconciled
            && self.outcome == Some(Outcome::Settled)
    }
}

/// The world moved and was not yet looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Moved {
    pub(super) first: Duration,
    pub(super) last: Duration,
}

/// What is under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum UnderWay {
    Nothing,
    /// Work that may change the world.
    Work,
}

/// All that the controller knows of its own doing.
#[derive(Debug, Clone)]
pub struct State {
    /// The sources that it follows.
    pub sources: BTreeMap<SourceName, SourceState>,
    /// What is suspended.
    pub suspensions: BTreeMap<Scope, Suspension>,
    /// Digests of plans for which somebody answered, and until when that counts.
    pub approved: BTreeMap<String, jiff::Timestamp>,
    /// How it went with snapshots and the trash.
    pub due: Chore,
    /// How it went with backups.
    pub backups: Chore,
    pub(super) pace: Pace,
    pub(super) chance: Chance,
    pub(super) under_way: UnderWay,
    pub(super) moved: Option<Moved>,
    /// For how long the world has to be quiet now: longer while looking at it finds nothing.
    pub(super) quiet: Duration,
    pub(super) booted: bool,
    pub(super) due_at: Duration,
    pub(super) back_up_at: Duration,
    pub(super) backing_up: bool,
    pub(super) leaving: bool,
    pub(super) left: bool,
}

impl State {
    /// A controller that just began. What should run is started first; then all is looked at.
    pub fn new(
        followed: BTreeMap<SourceName, Followed>,
        suspensions: BTreeMap<Scope, Suspension>,
        pace: Pace,
        seed: u64,
        now: Now,
    ) -> Self {
        let sources = followed.into_iter();
        Self {
            sources: sources
                .map(|(name, followed)| (name, SourceState::new(followed, now)))
                .collect(),
            suspensions,
            approved: BTreeMap::new(),
            due: Chore::Unknown,
            backups: Chore::Unknown,
            quiet: pace.quiet,
            pace,
            chance: Chance::of(seed),
            under_way: UnderWay::Nothing,
            moved: None,
            booted: false,
            // Not in the way of what was written: that comes first after a start.
            due_at: now.up + FIRST_DUE,
            back_up_at: now.up + FIRST_DUE,
            backing_up: false,
            leaving: false,
            left: false,
        }
    }

    /// Whether each source was brought to where it shall be, or that was tried.
    pub fn has_tried_all(&self) -> bool {
        let idle = self.booted && self.under_way == UnderWay::Nothing;
        idle && self.sources.values().all(SourceState::was_tried)
    }

    /// What suspends a source, while it lasts.
    pub fn suspends(&self, source: &SourceName, now: jiff::Timestamp) -> Option<&Suspension> {
        let scopes = [Scope::Everything, Scope::Source(source.clone())];
        let found = scopes.iter().find_map(|scope| self.suspensions.get(scope));
        found.filter(|suspension| !suspension.is_over(now))
    }

    /// The digests that count now.
    pub(super) fn approved_now(&self, now: jiff::Timestamp) -> BTreeSet<String> {
        let counts = self.approved.iter().filter(|(_, until)| **until > now);
        counts.map(|(digest, _)| digest.clone()).collect()
    }
}
