//! What is to be done for one [`Watch`] now: nothing, a snapshot, or a tick that is only noted; and what goes then.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};
use manifests::id::Uid;

use super::leaps::Leaps;
use super::lull::earlier;
use super::retention;
use super::watch::{Keep, Rule, Watch};
use crate::diff::known::Tick;

/// A snapshot as far as schedules care.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Made {
    /// Its name.
    pub name: String,
    /// When it was made.
    pub at: Timestamp,
    /// The schedule that made it; none: a person did.
    pub by: Option<Uid>,
    /// When it may go.
    pub expires: Option<Timestamp>,
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Turn {
    /// Nothing until then; none: never again.
    Later(Option<Timestamp>),
    /// Only this is to be remembered: it was seen for the first time, it is stopped, or the clock went back.
    Note(Tick),
    /// A snapshot, for the time when it was due.
    Make(Timestamp),
}

/// The longest time after which a snapshot that could not be made is tried again.
const PATIENCE: SignedDuration = SignedDuration::from_hours(1);

impl Watch {
    /// Whose turn it is. After a time in which nobody looked, however long, it is due once.
    pub fn turn(&self, tick: Option<&Tick>, now: Timestamp) -> Turn {
        let (schedule, zone) = (&self.rule.schedule, &self.rule.zone);
        let Some(tick) = tick else {
            return Turn::Note(Tick::at(now));
        };
        let next = schedule.next(now, zone);
        // What was remembered lies ahead by more than a turn: the clock was wrong then, or is now.
        if tick.at > now && next.is_none_or(|next| tick.at > next) {
            return Turn::Note(Tick::at(now));
        }
        let Some(due) = schedule.last(now, zone).filter(|due| *due > tick.at) else {
            return Turn::Later(schedule.next(now.max(tick.at), zone));
        };
        if !self.runs && !self.rule.stopped {
            return Turn::Note(Tick::at(due));
        }
        if let Some((failed, times)) = tick.failed {
            let wait = SignedDuration::from_mins(1_i64 << times.min(6)).min(PATIENCE);
            let again = failed.saturating_add(wait).unwrap_or(Timestamp::MAX);
            if failed <= now && now < again {
                return Turn::Later(Some(again));
            }
        }
        Turn::Make(due)
    }

    /// What of its object's snapshots goes after it has made one at `now`, which is among `all`. What bears a later time
    /// was made while the clock was wrong: it neither goes nor takes the place of another.
    pub fn thinned<'a>(&self, all: &'a [Made], now: Timestamp) -> Vec<&'a str> {
        let Keep::Best(rules) = &self.rule.keep else {
            return Vec::new();
        };
        let own: Vec<&Made> = all
            .iter()
            .filter(|made| made.by == Some(self.by.1) && made.at <= now)
            .collect();
        let times: Vec<Timestamp> = own.iter().map(|made| made.at).collect();
        let kept = retention::kept(rules, &times, &self.rule.zone);
        let gone = own.into_iter().zip(kept).filter(|(_, kept)| !kept);
        gone.map(|(made, _)| made.name.as_str()).collect()
    }
}

/// What is to be done for many of them.
#[derive(Debug)]
pub(super) struct Turns<'a> {
    /// Schedules, objects, and what is to be remembered of them without a deed.
    pub(super) notes: Vec<((Uid, Uid), Tick)>,
    /// Those whose turn it is, and for when it was due.
    pub(super) due: Vec<(&'a Watch, Timestamp)>,
    /// When it is the turn of one of the others; none: never.
    pub(super) next: Option<Timestamp>,
}

impl<'a> Turns<'a> {
    pub(super) fn of(
        watches: impl Iterator<Item = &'a Watch>,
        ticks: &BTreeMap<(Uid, Uid), Tick>,
        now: Timestamp,
    ) -> Self {
        let (mut notes, mut due, mut next) = (Vec::new(), Vec::new(), None);
        for watch in watches {
            let key = (watch.by.1, watch.object.1);
            match watch.turn(ticks.get(&key), now) {
                Turn::Later(later) => next = earlier(next, later),
                Turn::Note(tick) => notes.push((key, tick)),
                Turn::Make(at) => due.push((watch, at)),
            }
        }
        Self { notes, due, next }
    }
}

impl Rule {
    /// When what is made at `now` may go.
    pub fn expiry(&self, now: Timestamp) -> Option<Timestamp> {
        match &self.keep {
            Keep::For(expiry) => expiry.end(&now.to_zoned(self.zone.clone())),
            Keep::All | Keep::Best(_) => None,
        }
    }
}

/// Snapshots of one object of which the time is over. The newest that a schedule made stays also then: where it makes
/// no more, the last good one is what people need.
pub fn expired<'a>(all: &'a [Made], leaps: &Leaps, now: Timestamp) -> Vec<&'a str> {
    let mut newest_first: Vec<&Made> = all.iter().collect();
    newest_first.sort_by_key(|made| std::cmp::Reverse((made.at, &made.name)));
    let mut seen = BTreeSet::new();
    let over = newest_first.into_iter().filter(|made| {
        let newest = seen.insert(made.by);
        made.by.is_some() && !newest && leaps.is_over(made, now)
    });
    over.map(|made| made.name.as_str()).collect()
}

#[cfg(test)]
mod tests {
    use jiff::tz::TimeZone;
    use manifests::id::Address;
    use manifests::kind::Kind;
    use manifests::kinds::snapshot_schedule::Retention;
    use manifests::scalar::snapshot_pattern::SnapshotPattern;

    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse()
            .unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    fn uid(number: u128) -> Uid {
        let text = uuid::Uuid::from_u128(number).to_string();
        text.parse().expect("a uid")
    }

    fn watch(schedule: &str, keep: Keep) -> Watch {
        Watch {
            by: (Address::new(Kind::SnapshotSchedule, "nightly"), uid(1)),
            object: (Address::new(Kind::Instance, "web"), uid(2)),
            runs: true,
            remembers: false,
            rule: Rule {
                schedule: schedule.parse().expect("a schedule"),
                zone: TimeZone::UTC,
                pattern: SnapshotPattern::counting("snap"),
                memory: false,
                stopped: false,
                keep,
                files: None,
            },
        }
    }

    #[test]
    fn after_a_time_in_which_nobody_looked_it_is_due_once() {
        let watch = watch("0 3 * * *", Keep::All);
        let now = at("2026-06-10T12:00:00Z");
        // Seen for the first time: what was due before it was there is not missed.
        assert_eq!(watch.turn(None, now), Turn::Note(Tick::at(now)));
        let seen = Tick::at(at("2026-06-01T12:00:00Z"));
        let due = at("2026-06-10T03:00:00Z");
        assert_eq!(watch.turn(Some(&seen), now), Turn::Make(due));
        let tomorrow = Turn::Later(Some(at("2026-06-11T03:00:00Z")));
        assert_eq!(watch.turn(Some(&Tick::at(due)), now), tomorrow);
        let stopped = Watch {
            runs: false,
            ..watch.clone()
        };
        assert_eq!(stopped.turn(Some(&seen), now), Turn::Note(Tick::at(due)));
        let mut also = stopped;
        also.rule.stopped = true;
        assert_eq!(also.turn(Some(&seen), now), Turn::Make(due));
    }

    #[test]
    fn what_failed_is_tried_again_less_and_less_often() {
        let watch = watch("@daily", Keep::All);
        let mut tick = Tick::at(at("2026-06-09T12:00:00Z"));
        let failed = at("2026-06-10T00:00:10Z");
        for (times, minutes) in [(1, 2), (2, 4), (5, 32), (6, 60), (60, 60)] {
            tick.failed = Some((failed, times));
            let again = failed + SignedDuration::from_mins(minutes);
            let before = again - SignedDuration::from_secs(1);
            assert_eq!(
                watch.turn(Some(&tick), before),
                Turn::Later(Some(again)),
                "{times}"
            );
            assert_eq!(
                watch.turn(Some(&tick), again),
                Turn::Make(at("2026-06-10T00:00:00Z")),
                "{times}"
            );
        }
    }

    #[test]
    fn a_clock_that_was_wrong_neither_stops_a_schedule_nor_makes_a_storm() {
        let watch = watch("@daily", Keep::All);
        let now = at("2026-06-10T12:00:00Z");
        let ahead = Tick::at(at("2035-01-01T00:00:00Z"));
        assert_eq!(watch.turn(Some(&ahead), now), Turn::Note(Tick::at(now)));
        // Put back by a little: the day has its snapshot.
        let just = Tick::at(at("2026-06-10T00:00:00Z"));
        let before = at("2026-06-09T23:59:58Z");
        let next = Turn::Later(Some(at("2026-06-11T00:00:00Z")));
        assert_eq!(watch.turn(Some(&just), before), next);
    }

    fn made(name: &str, time: &str, by: Option<u128>, expires: Option<&str>) -> Made {
        Made {
            name: name.to_owned(),
            at: at(time),
            by: by.map(uid),
            expires: expires.map(at),
        }
    }

    #[test]
    fn only_what_the_schedule_made_goes() {
        let rules = Retention {
            keep_last: Some(1),
            ..Retention::default()
        };
        let all = [
            made("a", "2026-06-01T00:00:00Z", Some(1), None),
            made("mine", "2026-06-02T00:00:00Z", None, None),
            made("b", "2026-06-03T00:00:00Z", Some(1), None),
            made("other", "2026-06-04T00:00:00Z", Some(3), None),
        ];
        let now = at("2026-06-03T00:00:00Z");
        assert_eq!(watch("@daily", Keep::Best(rules)).thinned(&all, now), ["a"]);
        assert_eq!(watch("@daily", Keep::All).thinned(&all, now), [""; 0]);
    }

    #[test]
    fn what_was_made_while_the_clock_was_ahead_takes_nobodys_place() {
        let rules = Retention {
            keep_last: Some(2),
            ..Retention::default()
        };
        let watch = watch("@daily", Keep::Best(rules));
        let all = [
            made("a", "2026-06-01T00:00:00Z", Some(1), None),
            made("ahead", "2027-06-01T00:00:00Z", Some(1), None),
            made("more", "2027-06-02T00:00:00Z", Some(1), None),
            made("b", "2026-06-02T00:00:00Z", Some(1), None),
            made("now", "2026-06-03T00:00:00Z", Some(1), None),
        ];
        assert_eq!(watch.thinned(&all, at("2026-06-03T00:00:00Z")), ["a"]);
        // Set back by a day, with nothing but what is from tomorrow.
        assert_eq!(
            watch.thinned(&all[1..3], at("2026-06-01T00:00:00Z")),
            [""; 0]
        );
        // When their time has come they are as the others.
        assert_eq!(
            watch.thinned(&all, at("2027-06-03T00:00:00Z")),
            ["a", "b", "now"]
        );
    }

    #[test]
    fn the_last_good_one_does_not_expire() {
        let over = Some("2026-06-05T00:00:00Z");
        let all = [
            made("a", "2026-06-01T00:00:00Z", Some(1), over),
            made("b", "2026-06-02T00:00:00Z", Some(1), over),
            made("c", "2026-06-01T00:00:00Z", Some(3), over),
            made("mine", "2026-06-01T00:00:00Z", None, over),
            made(
                "d",
                "2026-05-01T00:00:00Z",
                Some(3),
                Some("2027-01-01T00:00:00Z"),
            ),
        ];
        let none = Leaps::default();
        assert_eq!(expired(&all, &none, at("2026-06-04T23:59:59Z")), [""; 0]);
        assert_eq!(expired(&all, &none, at("2026-06-05T00:00:00Z")), ["a"]);
        let expiry = Keep::For("1mo".parse().expect("a month"));
        let end = watch("@daily", expiry)
            .rule
            .expiry(at("2026-01-31T08:00:00Z"));
        assert_eq!(end, Some(at("2026-02-28T08:00:00Z")));
    }
}
