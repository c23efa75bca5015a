//! A schedule played over two years with all changes of the clocks in them, against a model that is written in another
//! way: what is kept, and when it was made, is the same at each moment.

use std::collections::{BTreeMap, BTreeSet};

use jiff::civil::{Date, date, time};
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp, ToSpan as _};
use manifests::id::{Address, Uid};
use manifests::kind::Kind;
use manifests::kinds::snapshot_schedule::Retention;
use manifests::scalar::snapshot_pattern::SnapshotPattern;

use super::due::{Made, Turn};
use super::watch::{Keep, Rule, Watch};
use crate::diff::known::Tick;

fn berlin() -> TimeZone {
    let Ok(zone) = TimeZone::get("Europe/Berlin") else {
        panic!("this host has no time zones: install tzdata");
    };
    zone
}

/// When 02:30 is on a day in Berlin. Written down: the clocks go from 2 to 3 on the last Sunday of March, and from 3 to
/// 2 on that of October.
fn half_past_two(day: Date) -> Timestamp {
    let summer_begins = [date(2024, 3, 31), date(2025, 3, 30), date(2026, 3, 29)];
    let summer_ends = [date(2024, 10, 27), date(2025, 10, 26), date(2026, 10, 25)];
    let utc = |hour, minute| {
        let at = day
            .to_datetime(time(hour, minute, 0, 0))
            .to_zoned(TimeZone::UTC);
        at.unwrap_or_else(|error| panic!("{error}")).timestamp()
    };
    if summer_begins.contains(&day) {
        // There is no 02:30: the moment at which it would be 2 o'clock and is 3.
        return utc(1, 0);
    }
    let summer = summer_begins
        .iter()
        .zip(summer_ends)
        .any(|(begin, end)| *begin < day && day <= end);
    match summer {
        true => utc(0, 30),
        false => utc(1, 30),
    }
}

/// What is kept of all that was ever made: of each period the newest, and of those as many as wanted.
fn model(all: &BTreeSet<Timestamp>) -> BTreeSet<Timestamp> {
    let mut kept: BTreeSet<Timestamp> = all.iter().rev().take(3).copied().collect();
    let zone = berlin();
    let rules: [(usize, &str); 4] = [(7, "%F"), (4, "%G-%V"), (12, "%Y-%m"), (2, "%Y")];
    for (most, period) in rules {
        let mut newest: BTreeMap<String, Timestamp> = BTreeMap::new();
        for at in all {
            let name = at.to_zoned(zone.clone()).strftime(period).to_string();
            newest.insert(name, *at);
        }
        kept.extend(newest.into_values().rev().take(most));
    }
    kept
}

#[test]
fn two_years_and_four_changes_of_the_clocks() {
    let uid = |number| -> Uid {
        let text = uuid::Uuid::from_u128(number).to_string();
        text.parse().expect("a uid")
    };
    let schedule = uid(1);
    let watch = Watch {
        by: (Address::new(Kind::SnapshotSchedule, "nightly"), schedule),
        object: (Address::new(Kind::Instance, "web"), uid(2)),
        runs: true,
        remembers: false,
        rule: Rule {
            schedule: "30 2 * * *".parse().expect("a schedule"),
            zone: berlin(),
            pattern: SnapshotPattern::counting("nightly-"),
            memory: false,
            stopped: false,
            keep: Keep::Best(Retention {
                keep_last: Some(3),
                keep_daily: Some(7),
                keep_weekly: Some(4),
                keep_monthly: Some(12),
                keep_yearly: Some(2),
                ..Retention::default()
            }),
            files: None,
        },
    };
    let begin = date(2024, 3, 1);
    let (mut made, mut tick): (Vec<Made>, Option<Tick>) = (Vec::new(), None);
    let (mut ever, mut expected) = (BTreeSet::new(), BTreeSet::new());
    // A fortnight in which the host was off; and the night of a change.
    let off = |day: Date| {
        (date(2024, 8, 1)..date(2024, 8, 15)).contains(&day) || day == date(2025, 3, 30)
    };
    let start = begin.to_zoned(berlin()).expect("midnight").timestamp();
    let end = date(2026, 4, 15)
        .to_zoned(berlin())
        .expect("midnight")
        .timestamp();
    let (mut now, mut missed) = (start, None);
    let mut day = begin;
    while now < end {
        while half_past_two(day) <= now {
            missed = Some(half_past_two(day));
            day = day.checked_add(1.day()).expect("a day");
        }
        if !off(now.to_zoned(berlin()).date()) {
            match watch.turn(tick.as_ref(), now) {
                Turn::Later(next) => {
                    assert_eq!(missed, None, "at {now}");
                    assert_eq!(next, Some(half_past_two(day)), "at {now}");
                }
                Turn::Note(noted) => {
                    assert_eq!(tick, None, "at {now}");
                    tick = Some(noted);
                }
                Turn::Make(due) => {
                    assert_eq!(missed.take(), Some(due), "at {now}");
                    tick = Some(Tick::at(due));
                    let names = made.iter().map(|made| made.name.as_str());
                    let name = watch.rule.pattern.name(&names, &now.to_zoned(berlin()));
                    made.push(Made {
                        name,
                        at: now,
                        by: Some(schedule),
                        expires: None,
                    });
                    let gone: BTreeSet<String> = watch
                        .thinned(&made, now)
                        .into_iter()
                        .map(str::to_owned)
                        .collect();
                    made.retain(|made| !gone.contains(&made.name));
                    ever.insert(now);
                    expected = model(&ever);
                }
            }
        }
        let kept: BTreeSet<Timestamp> = made.iter().map(|made| made.at).collect();
        assert_eq!(kept, expected, "at {now}");
        now += SignedDuration::from_mins(30);
    }
    // One for each day; the fortnight in which the host was off is caught up with once.
    assert_eq!(ever.len(), 775 - 14 + 1);
}
