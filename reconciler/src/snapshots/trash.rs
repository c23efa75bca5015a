//! When what lies in the trash goes for good: by the time that was seen to pass, and not by what a clock says.
//!
//! A clock that jumps ahead by a year makes everything look expired. So a clock of our own goes on beside it: with each
//! look by what passed since the one before, and never by more than a step. Something goes when its day is over by both.

use jiff::{SignedDuration, Timestamp};
use manifests::id::Uid;
use manifests::observed::Trashed;

use crate::diff::known::{Known, Tick};

/// The most that one look lets pass.
const STEP: SignedDuration = SignedDuration::from_hours(6);
/// How often it is worth writing down that time passed.
const OFTEN: SignedDuration = SignedDuration::from_hours(1);

/// What is remembered of the trash is remembered as of a schedule that no object is.
fn trash() -> Uid {
    Uid::nobody(0)
}

/// Our own clock.
fn passed() -> Uid {
    Uid::nobody(1)
}

/// When somebody looked last.
fn looked() -> Uid {
    Uid::nobody(2)
}

/// What one look comes to.
#[derive(Debug, Default, PartialEq)]
pub struct Look<'a> {
    /// To be remembered, by object.
    pub ticks: Vec<(Uid, Tick)>,
    /// What goes for good.
    pub gone: Vec<&'a Trashed>,
    /// When the time of something else is over by the clock; none: never.
    pub next: Option<Timestamp>,
}

impl Look<'_> {
    /// Under whose name it is remembered.
    pub fn schedule() -> Uid {
        trash()
    }
}

/// Looks at the trash.
pub fn look<'a>(all: &'a [Trashed], known: &Known, now: Timestamp) -> Look<'a> {
    if all.is_empty() {
        return Look::default();
    }
    let tick = |object: Uid| known.ticks.get(&(trash(), object)).map(|tick| tick.at);
    let since = tick(looked()).map(|before| now.duration_since(before));
    let step = since.unwrap_or_default().clamp(SignedDuration::ZERO, STEP);
    let clock = tick(passed()).unwrap_or(now);
    let clock = clock.saturating_add(step).unwrap_or(clock);
    let times = all.iter().map(|one| one.expires_at);
    let mut out = Look {
        next: times.filter(|at| *at > now).min(),
        ..Look::default()
    };
    for one in all {
        let uid = one.mark.uid;
        let Some(began) = tick(uid) else {
            out.ticks.push((uid, Tick::at(clock)));
            continue;
        };
        let kept = one.expires_at.duration_since(one.deleted_at);
        if one.expires_at <= now && clock.duration_since(began) >= kept {
            out.gone.push(one);
        }
    }
    let write = !out.ticks.is_empty()
        || since.is_none_or(|since| since < SignedDuration::ZERO || since >= OFTEN);
    if write {
        out.ticks.push((passed(), Tick::at(clock)));
        out.ticks.push((looked(), Tick::at(now)));
    }
    out
}

#[cfg(test)]
mod tests {
    use manifests::id::{Address, Mark, SourceName};
    use manifests::kind::Kind;
    use manifests::observed::{Holds, TrashedBy};

    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse()
            .unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    fn hours(hours: i64) -> SignedDuration {
        SignedDuration::from_hours(hours)
    }

    /// Something that was deleted at the beginning and is kept for two days.
    fn one() -> Trashed {
        let address = Address::new(Kind::Instance, "web");
        Trashed {
            mark: Mark {
                source: SourceName::new("edge"),
                uid: Uid::derive(&uuid::Uuid::nil(), &address),
            },
            address,
            deleted_at: begin(),
            expires_at: begin() + hours(48),
            holds: Holds::default(),
            by: TrashedBy::Delete,
            pool: None,
            was: None,
        }
    }

    fn begin() -> Timestamp {
        at("2026-11-27T08:00:00Z")
    }

    /// Looks at these times; the time at which it goes.
    fn goes(times: impl IntoIterator<Item = Timestamp>) -> Option<Timestamp> {
        let (all, mut known) = ([one()], Known::default());
        times.into_iter().find(|now| {
            let seen = look(&all, &known, *now);
            let gone = !seen.gone.is_empty();
            for (object, tick) in seen.ticks {
                known.ticks.insert((Look::schedule(), object), tick);
            }
            gone
        })
    }

    fn each(minutes: i64, from: Timestamp) -> impl Iterator<Item = Timestamp> {
        (0..20_000).map(move |count| from + SignedDuration::from_mins(minutes * count))
    }

    #[test]
    fn what_is_kept_for_two_days_goes_after_them() {
        let gone = goes(each(1, begin())).expect("it goes");
        assert!(
            gone >= begin() + hours(48) && gone < begin() + hours(50),
            "{gone}"
        );
        // Who looks twice a day sees a fourth of it pass each time.
        let gone = goes(each(12 * 60, begin())).expect("it goes");
        assert_eq!(gone, begin() + hours(96));
    }

    #[test]
    fn a_clock_that_jumps_makes_nothing_go() {
        let ahead = begin() + hours(24 * 365);
        // There, and back, and there for good.
        let jumps = [
            begin(),
            begin() + hours(1),
            ahead,
            begin() + hours(2),
            ahead,
        ];
        assert_eq!(goes(jumps), None);
        let gone = goes(jumps.into_iter().chain(each(1, ahead))).expect("it goes");
        assert!(gone > ahead + hours(30), "{gone}");
        // Back by a year: it is as old as it was.
        let back = begin() - hours(24 * 365);
        let week = each(1, back).take(7 * 24 * 60);
        assert_eq!(goes(std::iter::once(begin()).chain(week)), None);
    }

    #[test]
    fn a_host_that_was_off_keeps_what_it_has_for_longer() {
        let later = begin() + hours(24 * 30);
        let gone = goes(std::iter::once(begin()).chain(each(1, later))).expect("it goes");
        assert!(gone > later + hours(40), "{gone}");
    }

    #[test]
    fn a_minute_is_not_worth_a_word() {
        let (all, mut known) = ([one()], Known::default());
        for (object, tick) in look(&all, &known, begin()).ticks {
            known.ticks.insert((Look::schedule(), object), tick);
        }
        let nothing = Look {
            next: Some(one().expires_at),
            ..Look::default()
        };
        assert_eq!(
            look(&all, &known, begin() + SignedDuration::from_mins(1)),
            nothing
        );
        assert_eq!(look(&[], &Known::default(), begin()), Look::default());
    }
}
