//! Which snapshots of a schedule are kept: the newest of each of so many hours, days, weeks, months and years.

use jiff::Timestamp;
use jiff::civil::ISOWeekDate;
use jiff::tz::TimeZone;
use manifests::kinds::snapshot_schedule::Retention;

/// Whether each of these moments is kept. A period in which nothing was made does not count: after a month in which
/// the host was off, a week of daily snapshots is still there.
///
/// Periods are those of the calendar of `zone`; an hour that its clocks go through twice is two. Where nothing keeps
/// the newest, it is kept all the same.
pub fn kept(retention: &Retention, made: &[Timestamp], zone: &TimeZone) -> Vec<bool> {
    let mut newest_first: Vec<usize> = (0..made.len()).collect();
    newest_first.sort_by_key(|index| std::cmp::Reverse(made[*index]));
    let mut kept = vec![false; made.len()];
    if let Some(index) = newest_first.first() {
        kept[*index] = true;
    }
    for index in newest_first.iter().take(count(retention.keep_last)) {
        kept[*index] = true;
    }
    for (most, period) in periods(retention) {
        let mut left = count(most);
        let mut before = None;
        for index in &newest_first {
            let this = period(made[*index], zone);
            if before == Some(this) {
                continue;
            }
            if left == 0 {
                break;
            }
            left -= 1;
            before = Some(this);
            kept[*index] = true;
        }
    }
    kept
}

fn count(most: Option<u32>) -> usize {
    most.map_or(0, |most| usize::try_from(most).unwrap_or(usize::MAX))
}

/// In which period of its kind a moment is: a number, and one more for what a number does not tell.
type Period = fn(Timestamp, &TimeZone) -> (i32, i64);

fn periods(retention: &Retention) -> [(Option<u32>, Period); 5] {
    [
        (retention.keep_hourly, |at, zone| {
            // The hour as the clock shows it, in an offset of its own: where that moves by less than an hour, hours of
            // the time line would not be those of the clock.
            let offset = zone.to_offset(at).seconds();
            let shown = at.as_second().saturating_add(i64::from(offset));
            (offset, shown.div_euclid(3600))
        }),
        (retention.keep_daily, |at, zone| {
            let day = at.to_zoned(zone.clone()).date();
            (i32::from(day.year()), i64::from(day.day_of_year()))
        }),
        (retention.keep_weekly, |at, zone| {
            let week = ISOWeekDate::from(at.to_zoned(zone.clone()).date());
            (i32::from(week.year()), i64::from(week.week()))
        }),
        (retention.keep_monthly, |at, zone| {
            let day = at.to_zoned(zone.clone()).date();
            (i32::from(day.year()), i64::from(day.month()))
        }),
        (retention.keep_yearly, |at, zone| {
            let day = at.to_zoned(zone.clone()).date();
            (i32::from(day.year()), 0)
        }),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn times(all: &[&str]) -> Vec<Timestamp> {
        let parse = |text: &&str| {
            text.parse()
                .unwrap_or_else(|error| panic!("{text}: {error}"))
        };
        all.iter().map(parse).collect()
    }

    #[test]
    fn each_rule_keeps_the_newest_of_its_periods() {
        let made = times(&[
            "2025-12-31T23:30:00Z",
            "2026-01-01T00:30:00Z",
            "2026-01-01T10:05:00Z",
            "2026-01-01T10:55:00Z",
            "2026-01-02T09:00:00Z",
        ]);
        let zone = TimeZone::UTC;
        let of = |retention: Retention| kept(&retention, &made, &zone);
        let none = Retention::default();
        // The newest stays whatever is written.
        assert_eq!(of(none.clone()), [false, false, false, false, true]);
        let last = Retention {
            keep_last: Some(2),
            ..none.clone()
        };
        assert_eq!(of(last), [false, false, false, true, true]);
        let hourly = Retention {
            keep_hourly: Some(3),
            ..none.clone()
        };
        assert_eq!(of(hourly), [false, true, false, true, true]);
        let daily = Retention {
            keep_daily: Some(9),
            ..none.clone()
        };
        assert_eq!(of(daily), [true, false, false, true, true]);
        // The week of the new year began in December.
        let weekly = Retention {
            keep_weekly: Some(9),
            ..none.clone()
        };
        assert_eq!(of(weekly), [false, false, false, false, true]);
        let monthly = Retention {
            keep_monthly: Some(9),
            ..none.clone()
        };
        assert_eq!(of(monthly), [true, false, false, false, true]);
        let yearly = Retention {
            keep_yearly: Some(1),
            ..none
        };
        assert_eq!(of(yearly), [false, false, false, false, true]);
        assert_eq!(kept(&Retention::default(), &[], &TimeZone::UTC), [false; 0]);
    }

    #[test]
    fn days_are_those_of_the_time_zone_and_an_hour_that_comes_twice_is_two() {
        let made = times(&[
            "2026-10-25T00:30:00Z",
            "2026-10-25T01:30:00Z",
            "2026-10-25T23:30:00Z",
        ]);
        let Ok(zone) = TimeZone::get("Europe/Berlin") else {
            panic!("this host has no time zones: install tzdata");
        };
        let hourly = Retention {
            keep_hourly: Some(9),
            ..Retention::default()
        };
        assert_eq!(kept(&hourly, &made, &zone), [true; 3]);
        let daily = Retention {
            keep_daily: Some(9),
            ..Retention::default()
        };
        assert_eq!(kept(&daily, &made, &zone), [false, true, true]);
        assert_eq!(kept(&daily, &made, &TimeZone::UTC), [false, false, true]);
    }
}
