//! [`Leaps`]: times that nobody saw pass, of which no snapshot gets older.
//!
//! A clock that jumps ahead by a year makes every snapshot look expired, and after a year in which the host was off they
//! are what people look for. So the time between two looks that lie further apart than a day does not count for what was
//! made before it.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use manifests::id::Uid;

use super::due::Made;
use crate::diff::known::Tick;

/// Longer than this between two looks is a leap.
const LEAP: SignedDuration = SignedDuration::from_hours(24);
/// How often it is worth writing down that somebody looked.
const OFTEN: SignedDuration = SignedDuration::from_hours(1);
/// As many are remembered: the longest.
const MOST: usize = 16;

/// Leaps are remembered as of a schedule that no object is.
fn leaps() -> Uid {
    Uid::nobody(3)
}

/// When somebody looked last.
fn looked() -> (Uid, Uid) {
    (leaps(), Uid::nobody(0))
}

/// Where the beginning and the end of each leap are remembered.
fn places() -> impl Iterator<Item = [(Uid, Uid); 2]> {
    let numbers = (1_u8..).step_by(2).take(MOST);
    numbers.map(|number| [number, number + 1].map(|object| (leaps(), Uid::nobody(object))))
}

/// From the last look before it to the first one after it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Leap {
    from: Timestamp,
    to: Timestamp,
}

impl Leap {
    fn length(self) -> SignedDuration {
        self.to.duration_since(self.from)
    }
}

/// All leaps that are known at one look.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Leaps {
    all: Vec<Leap>,
    /// Whether that is to be written down.
    news: bool,
}

impl Leaps {
    /// What is remembered of them, and the one that ends with this look.
    pub fn at(ticks: &BTreeMap<(Uid, Uid), Tick>, now: Timestamp) -> Self {
        let at = |key: &(Uid, Uid)| ticks.get(key).map(|tick| tick.at);
        let remembered = places().filter_map(|[from, to]| {
            let (from, to) = (at(&from)?, at(&to)?);
            (from < to).then_some(Leap { from, to })
        });
        let mut all: Vec<Leap> = remembered.collect();
        let before = all.clone();
        // Where the clock went back, less was leapt over than it seemed.
        for leap in &mut all {
            leap.to = leap.to.min(now);
        }
        all.retain(|leap| leap.from < leap.to);
        let last = at(&looked());
        let since = last.map(|last| now.duration_since(last));
        if let (Some(from), Some(true)) = (last, since.map(|since| since > LEAP)) {
            all.push(Leap { from, to: now });
        }
        all.sort_by_key(|leap| std::cmp::Reverse(leap.length()));
        all.truncate(MOST);
        let looked_lately = |since| (SignedDuration::ZERO..OFTEN).contains(&since);
        let news = all != before || !since.is_some_and(looked_lately);
        Self { all, news }
    }

    /// What is to be remembered of the look at `now`; nothing where that is as good as known, unless something was made
    /// then: what was made before a leap must not be younger than the last look before it.
    pub fn notes(&self, now: Timestamp, made: bool) -> Vec<((Uid, Uid), Tick)> {
        let mut notes = Vec::new();
        if self.news || made {
            notes.push((looked(), Tick::at(now)));
        }
        if self.news {
            let none = Leap { from: now, to: now };
            let all = self.all.iter().copied().chain(std::iter::repeat(none));
            for ([from, to], leap) in places().zip(all) {
                notes.extend([(from, Tick::at(leap.from)), (to, Tick::at(leap.to))]);
            }
        }
        notes
    }

    /// Whether the time of a snapshot is over.
    pub fn is_over(&self, made: &Made, now: Timestamp) -> bool {
        let older = self.all.iter().filter(|leap| made.at <= leap.from);
        let end = older.fold(made.expires, |end, leap| {
            end?.checked_add(leap.length()).ok()
        });
        end.is_some_and(|end| end <= now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse()
            .unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    fn hours(hours: i64) -> SignedDuration {
        SignedDuration::from_hours(hours)
    }

    fn begin() -> Timestamp {
        at("2026-11-27T08:00:00Z")
    }

    /// Made at a time and kept for two days.
    fn made(at: Timestamp) -> Made {
        Made {
            name: "one".to_owned(),
            at,
            by: None,
            expires: Some(at + hours(48)),
        }
    }

    /// Looks at these times, in the first of which it is made; the time at which it is over.
    fn over(times: impl IntoIterator<Item = Timestamp>) -> Option<Timestamp> {
        let mut ticks = BTreeMap::new();
        let mut times = times.into_iter();
        let first = times.next().expect("a time");
        let one = made(first);
        ticks.extend(Leaps::at(&ticks, first).notes(first, true));
        times.find(|now| {
            let leaps = Leaps::at(&ticks, *now);
            ticks.extend(leaps.notes(*now, false));
            leaps.is_over(&one, *now)
        })
    }

    fn each(minutes: i64, from: Timestamp) -> impl Iterator<Item = Timestamp> {
        (0..10_000).map(move |count| from + SignedDuration::from_mins(minutes * count))
    }

    #[test]
    fn what_somebody_looks_after_is_over_on_time() {
        assert_eq!(over(each(1, begin())), Some(begin() + hours(48)));
        assert_eq!(over(each(24 * 60, begin())), Some(begin() + hours(48)));
    }

    #[test]
    fn a_year_that_nobody_saw_pass_makes_nothing_older() {
        let ahead = begin() + hours(24 * 365);
        let there_for_good = [begin(), begin() + hours(1)]
            .into_iter()
            .chain(each(1, ahead));
        assert_eq!(over(there_for_good), Some(ahead + hours(47)));
        // There, and back, and on as ever: it is as old as it is.
        let back = [begin(), begin() + hours(1), ahead, ahead + hours(1)];
        let back = back.into_iter().chain(each(1, begin() + hours(2)));
        assert_eq!(over(back), Some(begin() + hours(49)));
        // There, back, and there again, with a host that is off for a weekend after that.
        let twice = [begin(), ahead, begin() + hours(1), ahead, ahead + hours(60)];
        assert_eq!(over(twice), None);
        let twice = twice.into_iter().chain(each(1, ahead + hours(60)));
        assert_eq!(over(twice), Some(ahead + hours(60 + 48)));
    }

    #[test]
    fn back_by_a_day_it_stays_a_day_longer_and_no_more() {
        let back = std::iter::once(begin()).chain(each(1, begin() - hours(24)));
        assert_eq!(over(back), Some(begin() + hours(48)));
    }

    #[test]
    fn what_is_made_after_a_leap_is_not_held_by_it() {
        let ahead = begin() + hours(24 * 365);
        let mut ticks = BTreeMap::new();
        for now in [begin(), ahead, ahead + hours(24)] {
            ticks.extend(Leaps::at(&ticks, now).notes(now, true));
        }
        let now = ahead + hours(48);
        assert!(Leaps::at(&ticks, now).is_over(&made(ahead), now));
        let now = ahead + hours(24);
        let leaps = Leaps::at(&ticks, now);
        assert!(!leaps.is_over(&made(begin()), now));
        // Nor is what was made while the clock was another one.
        assert!(leaps.is_over(&made(begin() + hours(1)), now));
    }

    #[test]
    fn the_longest_are_remembered_and_a_minute_is_not_worth_a_word() {
        let mut ticks = BTreeMap::new();
        let mut now = begin();
        for days in (2..40).chain([400]).chain(2..40) {
            ticks.extend(Leaps::at(&ticks, now).notes(now, false));
            now += hours(24 * days);
        }
        let leaps = Leaps::at(&ticks, now);
        ticks.extend(leaps.notes(now, false));
        assert_eq!(leaps.all.len(), MOST);
        assert_eq!(leaps.all[0].length(), hours(24 * 400));
        assert_eq!(Leaps::at(&ticks, now).all, leaps.all);
        let next = now + SignedDuration::from_mins(1);
        assert_eq!(Leaps::at(&ticks, next).notes(next, false), []);
        assert_eq!(Leaps::at(&ticks, next).notes(next, true).len(), 1);
        assert_eq!(ticks.len(), 1 + 2 * MOST);
    }
}
