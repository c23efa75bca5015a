//! What to do next: a function of what is known, what happened, and the time. It waits for nothing and touches nothing;
//! whoever calls it does what it answers.
//!
//! It is level-triggered: an event only says that something is to be looked at; what is done about it follows from what
//! is seen then. So events may be lost, repeated or come late.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use manifests::id::{Address, SourceName};
use runtime::error::Class;

use super::backoff::{may_pass, wait};
use super::event::{
    Deed, Ended, Event, Failure, Fetched, Now, Outcome, Reconcile, Reconciled, Request, Work,
};
use super::state::{Chore, Moved, Rest, SourceState, State, Trouble, UnderWay};
use crate::diff::suspension::Scope;
use crate::plan::gates::Resting;

/// How soon somebody else's lock is tried again.
const BUSY: Duration = Duration::from_millis(500);
/// The longest sleep while something waits for a time of day: clocks are set.
const CLOCK: Duration = Duration::from_secs(60);
/// The longest time for which the world has to be quiet, after looking at it found nothing again and again.
const NOISY: Duration = Duration::from_millis(800);

impl State {
    /// Takes in what happened and says what is done now.
    pub fn decide(&mut self, event: Event, now: Now) -> Vec<Deed> {
        match event {
            Event::Fetched(source, fetched) => self.fetched(&source, fetched, now),
            Event::Ahead(name, digest, ahead) => {
                if let Some(source) = self.sources.get_mut(&name)
                    && source
                        .pinned
                        .as_ref()
                        .is_some_and(|pin| pin.digest == digest)
                {
                    source.ahead = Some(ahead);
                }
            }
            Event::WorldMoved => {
                let first = self.moved.map_or(now.up, |moved| moved.first);
                let last = now.up;
                self.moved = Some(Moved { first, last });
            }
            Event::Ended(ended) => self.ended(ended, now),
            Event::BackedUp(wrong) => {
                self.backups.ended(wrong, now);
                self.backing_up = false;
                self.back_up_at = now.up + self.pace.due;
            }
            Event::Asked(request) => self.asked(request, now),
            Event::Woken => {}
            Event::Leave => self.leaving = true,
        }
        self.deeds(now)
    }

    /// When there is something to do without an event; none: never.
    pub fn wake_at(&self, now: Now) -> Option<Duration> {
        if self.leaving {
            return None;
        }
        let mut times: Vec<Duration> = Vec::new();
        times.extend(
            self.sources
                .values()
                .filter_map(|source| source.fetch_at.filter(|_| !source.fetching)),
        );
        let day = |at: jiff::Timestamp| {
            let left = Duration::try_from(at.duration_since(now.day)).unwrap_or_default();
            now.up + left.min(CLOCK)
        };
        if !self.backing_up {
            times.push(self.back_up_at);
        }
        if self.under_way == UnderWay::Nothing {
            times.push(self.due_at);
            times.extend(self.moved.map(|moved| self.ripe_at(moved)));
            for source in self.sources.values() {
                // What waits for another source is woken by the end of that one.
                let waits = source.wanted.is_some() && !self.is_free(source);
                if source.in_force.is_none() || !source.looked || waits {
                    continue;
                }
                let wanted = source.wanted.map(|_| source.not_before);
                let rests = source.resting.values().map(|rest| rest.until).min();
                let truce = source.fights.next(now.up);
                times.push(source.full_at.max(source.not_before));
                times.extend(wanted.into_iter().chain(rests).chain(truce));
                times.extend(source.held_until.map(day));
            }
        }
        times.extend(
            self.suspensions
                .values()
                .filter_map(|suspension| suspension.until)
                .map(day),
        );
        times.into_iter().min()
    }

    /// Whether the controller has left.
    pub const fn has_left(&self) -> bool {
        self.left
    }

    fn ripe_at(&self, moved: Moved) -> Duration {
        let quiet = moved.last + self.quiet;
        quiet.min(moved.first + self.pace.patience.max(self.quiet))
    }

    fn fetched(&mut self, name: &SourceName, fetched: Fetched, now: Now) {
        let Some(source) = self.sources.get_mut(name) else {
            return;
        };
        source.fetching = false;
        source.looked = true;
        let poll = source.followed.poll;
        let next = poll.map(|poll| now.up + self.chance.around(poll));
        source.fetch_at = match std::mem::take(&mut source.fetch_again) {
            true => Some(now.up),
            false => next,
        };
        if !matches!(fetched, Fetched::Failed { .. }) {
            source.fetching_failed = None;
            source.fetched_at = Some(now.day);
        }
        match fetched {
            Fetched::Unchanged => {}
            // It was looked at before the pin; the next look puts that in force.
            Fetched::Moved(revision) if source.pinned_elsewhere(&revision) => {}
            Fetched::Moved(revision) => {
                source.invalid = None;
                source.in_force = Some(revision);
                // What failed, failed because of what was written, or may have.
                source.resting.clear();
                source.failed = None;
                source.fights.end(|_| true);
                source.not_before = now.up;
                source.wanted = Some("a new revision");
            }
            Fetched::Invalid { revision, why } => source.invalid = Some((revision, why)),
            Fetched::Failed { class, why } => {
                let trouble = again(source.fetching_failed.take(), class, why, now);
                let later = now.up + wait(class, trouble.times, &mut self.chance);
                // A source that is asked often anyway is asked as often.
                source.fetch_at = Some(next.map_or(later, |next| match may_pass(class) {
                    true => later.min(next),
                    false => next,
                }));
                source.fetching_failed = Some(trouble);
            }
        }
    }

    fn ended(&mut self, ended: Ended, now: Now) {
        self.under_way = UnderWay::Nothing;
        match ended {
            Ended::Boot => self.booted = true,
            Ended::Due(wrong) => {
                self.due.ended(wrong, now);
                self.due_at = now.up + self.pace.due;
            }
            Ended::Reconciled(reconciled) => self.reconciled(reconciled, now),
        }
    }

    fn reconciled(&mut self, ended: Reconciled, now: Now) {
        // Looking finds nothing: what moves there is not ours. It is looked at less often until it is.
        let nothing = ended.done.is_empty() && ended.failed.is_empty();
        self.quiet = match nothing {
            true => (self.quiet * 2).min(NOISY),
            false => self.pace.quiet,
        };
        for (address, suspension) in ended.left_alone {
            self.suspensions.insert(Scope::Object(address), suspension);
        }
        let Some(source) = self.sources.get_mut(&ended.source) else {
            return;
        };
        let mut trying = std::mem::take(&mut source.trying);
        source.full_at = now.up + self.chance.around(self.pace.interval);
        source.held_until = ended.until.filter(|until| *until > now.day);
        source.reconciled_at = Some(now.day);
        for address in &ended.done {
            source.resting.remove(address);
        }
        for Failure {
            address,
            verb,
            class,
            why,
        } in ended.failed
        {
            let (rested, mut tried) = match source.resting.remove(&address) {
                Some(rest) => (Some(rest.trouble), rest.tried),
                None => (None, BTreeSet::new()),
            };
            tried.insert(verb);
            let before = trying.remove(&address).or(rested);
            let trouble = again(before, class, why, now);
            let until = now.up + wait(class, trouble.times, &mut self.chance);
            let rest = Rest {
                trouble,
                tried,
                until,
            };
            source.resting.insert(address, rest);
        }
        let begun = source.fights.corrected(&ended.corrected, now.up);
        if !begun.is_empty() {
            source.wanted.get_or_insert("a fight");
        }
        let before = source.failed.take();
        match &ended.outcome {
            Outcome::Settled | Outcome::Partly | Outcome::Looked | Outcome::Stopped { .. } => {
                source.not_before = now.up;
                source.reconciled.clone_from(&ended.revision);
            }
            Outcome::Busy => {
                source.put_back(trying, now);
                source.wanted.get_or_insert("somebody else was at work");
                source.not_before = now.up + self.chance.around(BUSY);
            }
            Outcome::Failed { class, why } => {
                source.put_back(trying, now);
                let trouble = again(before, *class, why.clone(), now);
                source.not_before = now.up + wait(*class, trouble.times, &mut self.chance);
                source.wanted.get_or_insert("it failed");
                source.failed = Some(trouble);
            }
        }
        source.outcome = Some(ended.outcome);
    }

    fn asked(&mut self, request: Request, now: Now) {
        match request {
            Request::Fetch(name) => self.fetch_soon(&name, now),
            Request::Reconcile(which) => {
                let names: Vec<SourceName> = self.sources.keys().cloned().collect();
                for name in names {
                    if which.as_ref().is_some_and(|which| *which != name) {
                        continue;
                    }
                    self.fetch_soon(&name, now);
                    if let Some(source) = self.sources.get_mut(&name) {
                        source.resting.clear();
                        source.failed = None;
                        source.not_before = now.up;
                        source.wanted = Some("asked for");
                    }
                }
            }
            Request::Suspend(scope, suspension) => {
                self.suspensions.insert(scope, suspension);
            }
            Request::Suspended(all) => {
                let before: Vec<Scope> = self.suspensions.keys().cloned().collect();
                self.suspensions = all;
                for scope in before {
                    if !self.suspensions.contains_key(&scope) {
                        self.asked(Request::Resume(scope), now);
                    }
                }
            }
            Request::Resume(scope) => {
                self.suspensions.remove(&scope);
                for (name, source) in &mut self.sources {
                    match &scope {
                        Scope::Source(which) if which != name => continue,
                        Scope::Object(address) => source.fights.end(|one| one == address),
                        Scope::Source(_) | Scope::Everything => source.fights.end(|_| true),
                    }
                    // Who says so may have mended what failed.
                    source.not_before = now.up;
                    source.wanted = Some("resumed");
                }
            }
            Request::Pin(name, pin) => {
                if let Some(source) = self.sources.get_mut(&name) {
                    source.pinned = Some(pin);
                    source.ahead = None;
                }
                self.fetch_soon(&name, now);
            }
            Request::Unpin(name) => {
                if let Some(source) = self.sources.get_mut(&name) {
                    source.pinned = None;
                    source.ahead = None;
                }
                self.fetch_soon(&name, now);
            }
            Request::Approve(digest, until) => {
                self.approved.insert(digest.clone(), until);
                for source in self.sources.values_mut() {
                    let waits = |outcome: &Outcome| matches!(outcome, Outcome::Stopped { digest: one, .. } if *one == digest);
                    if source.outcome.as_ref().is_some_and(waits) {
                        source.not_before = now.up;
                        source.wanted = Some("approved");
                    }
                }
            }
        }
    }

    fn fetch_soon(&mut self, name: &SourceName, now: Now) {
        if let Some(source) = self.sources.get_mut(name) {
            source.fetch_again = source.fetching;
            source.fetch_at = Some(now.up);
        }
    }

    /// All that is to be done now.
    fn deeds(&mut self, now: Now) -> Vec<Deed> {
        let mut deeds = Vec::new();
        if self.leaving {
            let quiet = self.under_way == UnderWay::Nothing && !self.backing_up;
            if quiet && !self.left {
                self.left = true;
                deeds.push(Deed::Leave);
            }
            return deeds;
        }
        self.forget_what_is_over(now);
        for (name, source) in &mut self.sources {
            if !source.fetching && source.fetch_at.is_some_and(|at| at <= now.up) {
                source.fetching = true;
                source.fetch_at = None;
                deeds.push(Deed::Fetch(name.clone(), source.pinned.clone()));
            }
        }
        if !self.backing_up && self.booted && self.back_up_at <= now.up {
            self.backing_up = true;
            deeds.push(Deed::BackUp);
        }
        if self.under_way == UnderWay::Nothing {
            self.mark_what_is_wanted(now);
            if let Some(work) = self.next_work(now) {
                self.under_way = UnderWay::Work;
                deeds.push(Deed::Begin(work));
            }
        }
        deeds
    }

    fn forget_what_is_over(&mut self, now: Now) {
        self.approved.retain(|_, until| *until > now.day);
        let before = self.suspensions.len();
        self.suspensions
            .retain(|_, suspension| !suspension.is_over(now.day));
        if self.suspensions.len() < before {
            for source in self.sources.values_mut() {
                source.wanted.get_or_insert("resumed");
            }
        }
    }

    fn mark_what_is_wanted(&mut self, now: Now) {
        let moved = self.moved.filter(|moved| self.ripe_at(*moved) <= now.up);
        if moved.is_some() {
            self.moved = None;
        }
        for source in self.sources.values_mut() {
            let rested = source.resting.values().any(|rest| rest.until <= now.up);
            let why = if moved.is_some() {
                "the world moved"
            } else if rested {
                "what failed is tried again"
            } else if source.held_until.is_some_and(|at| at <= now.day) {
                source.held_until = None;
                "what was held may be done"
            } else if source.full_at <= now.up {
                "its time has come"
            } else {
                continue;
            };
            source.wanted.get_or_insert(why);
        }
    }

    /// Whether no source that it depends on is open.
    fn is_free(&self, source: &SourceState) -> bool {
        source.followed.depends_on.iter().all(|name| {
            let other = self.sources.get(name);
            other.is_none_or(SourceState::is_settled)
        })
    }

    fn next_work(&mut self, now: Now) -> Option<Work> {
        if !self.booted {
            return Some(Work::Boot);
        }
        // What is due by the clock comes first: a source that is never done must not keep it from its turn.
        if self.due_at <= now.up {
            return Some(Work::Due);
        }
        let ripe = |source: &&SourceState| {
            source.in_force.is_some()
                && source.looked
                && source.wanted.is_some()
                && source.not_before <= now.up
                && self.is_free(source)
        };
        // Who waited longest comes first.
        let name = self
            .sources
            .iter()
            .filter(|(_, source)| ripe(source))
            .min_by_key(|(_, source)| source.reconciled_at)
            .map(|(name, _)| name.clone())?;
        let only_look = self.suspends(&name, now.day).is_some();
        let approved = self.approved_now(now.day);
        let source = self.sources.get_mut(&name)?;
        let resting = source
            .resting
            .iter()
            .filter(|(_, rest)| rest.until > now.up)
            .map(|(address, rest)| Resting {
                address: address.clone(),
                times: rest.trouble.times,
                why: rest.trouble.why.clone(),
                tried: rest.tried.clone(),
                until: now.later(rest.until),
            })
            .collect();
        // What is tried again is no longer left alone, but its next failure counts on.
        let over = source
            .resting
            .extract_if(.., |_, rest| rest.until <= now.up);
        source.trying = over
            .map(|(address, rest)| (address, rest.trouble))
            .collect();
        Some(Work::Reconcile(Reconcile {
            why: source.wanted.take().unwrap_or_default(),
            only_look,
            resting,
            contended: source.fights.contended(now.up),
            approved,
            source: name,
        }))
    }
}

impl SourceState {
    /// Nothing was tried after all: it is due as before.
    fn put_back(&mut self, trying: BTreeMap<Address, Trouble>, now: Now) {
        for (address, trouble) in trying {
            let rest = Rest {
                trouble,
                tried: BTreeSet::new(),
                until: now.up,
            };
            self.resting.insert(address, rest);
        }
    }
}

impl Chore {
    fn ended(&mut self, wrong: Option<String>, now: Now) {
        let before = std::mem::replace(self, Self::Well);
        if let Some(why) = wrong {
            let before = match before {
                Self::Failing(trouble) => Some(trouble),
                Self::Unknown | Self::Well => None,
            };
            *self = Self::Failing(again(before, Class::Retry, why, now));
        }
    }
}

fn again(before: Option<Trouble>, class: Class, why: String, now: Now) -> Trouble {
    match before {
        Some(before) => Trouble {
            class,
            why,
            times: before.times.saturating_add(1),
            since: before.since,
        },
        None => Trouble {
            class,
            why,
            times: 1,
            since: now.day,
        },
    }
}
