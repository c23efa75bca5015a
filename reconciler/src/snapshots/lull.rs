//! [`Lull`]: a time in which nothing can be due, so that who waits need not look at the host each minute.

use jiff::{SignedDuration, Timestamp};

/// However long nothing is due, it is looked so often: clocks are set, and what time takes away counts the looks.
const LONGEST: SignedDuration = SignedDuration::from_mins(10);

/// Nothing is due from one moment to another, unless somebody is told something else.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lull {
    from: Timestamp,
    to: Timestamp,
    /// What was done by then: the number of times that something was changed.
    generation: u64,
}

impl Lull {
    /// After a look at `from` that found nothing to do until `next`; none: ever.
    pub fn new(from: Timestamp, next: Option<Timestamp>, generation: u64) -> Self {
        let longest = from.saturating_add(LONGEST).unwrap_or(Timestamp::MAX);
        Self {
            from,
            to: next.map_or(longest, |next| next.min(longest)),
            generation,
        }
    }

    /// Whether it still lasts. Where the clock went back nothing is known.
    pub fn lasts(&self, now: Timestamp, generation: u64) -> bool {
        self.generation == generation && (self.from..self.to).contains(&now)
    }
}

/// What a look at what is due came to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Found {
    /// Something was done, or could not be: it is looked again soon.
    #[default]
    Something,
    /// Nothing was due.
    Nothing {
        /// When something is; none: never, as things are.
        next: Option<Timestamp>,
    },
}

impl Found {
    /// Of two looks at different things.
    pub fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::Nothing { next: one }, Self::Nothing { next: other }) => Self::Nothing {
                next: earlier(one, other),
            },
            _ => Self::Something,
        }
    }
}

/// The earlier of two moments of which each may never come.
pub(super) fn earlier(one: Option<Timestamp>, other: Option<Timestamp>) -> Option<Timestamp> {
    one.into_iter().chain(other).min()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use manifests::id::Address;
    use manifests::kind::Kind;

    use super::*;
    use crate::snapshots::due::Made;
    use crate::snapshots::jobs::jobs;

    #[test]
    fn it_ends_before_a_snapshot_expires() {
        let made = |expires: Option<i64>| Made {
            name: "nightly-1".to_owned(),
            at: at(500),
            by: None,
            expires: expires.map(at),
        };
        let next = |all: Vec<Made>| {
            let object = Address::new(Kind::Instance, "web");
            let made = BTreeMap::from([(object, all)]);
            jobs(&[], &BTreeMap::new(), &made, at(1000)).next
        };
        assert_eq!(next(vec![made(None)]), None);
        assert_eq!(
            next(vec![made(Some(2000)), made(Some(1500))]),
            Some(at(1500))
        );
        // It stays beyond its time: nobody knows for how long.
        assert_eq!(next(vec![made(Some(900))]), None);
    }

    #[test]
    fn two_looks_find_nothing_together_until_the_earlier_of_both() {
        let nothing = |second: i64| Found::Nothing {
            next: Some(at(second)),
        };
        assert_eq!(nothing(7).and(nothing(5)), nothing(5));
        assert_eq!(nothing(7).and(Found::Nothing { next: None }), nothing(7));
        assert_eq!(nothing(7).and(Found::Something), Found::Something);
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).expect("a moment")
    }

    #[test]
    fn it_lasts_until_something_is_due_is_changed_or_ten_minutes_are_over() {
        let soon = Lull::new(at(1000), Some(at(1060)), 7);
        for (second, generation, lasts) in [
            (1000, 7, true),
            (1059, 7, true),
            (1060, 7, false),
            // The clock went back, or somebody did something.
            (999, 7, false),
            (1001, 8, false),
        ] {
            assert_eq!(soon.lasts(at(second), generation), lasts, "{second}");
        }
        for never in [
            Lull::new(at(1000), None, 7),
            Lull::new(at(1000), Some(at(9999)), 7),
        ] {
            assert!(never.lasts(at(1599), 7) && !never.lasts(at(1600), 7));
        }
        // What is due already leaves no time.
        assert!(!Lull::new(at(1000), Some(at(1000)), 7).lasts(at(1000), 7));
    }
}
