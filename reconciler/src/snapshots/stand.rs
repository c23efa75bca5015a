//! How schedules stand: when they ran, when they will, of what, and which of them missed their time.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use manifests::id::{Address, Uid};
use manifests::observed::{Item, ObservedSet};
use serde_json::Value;

use super::due::Turn;
use super::watch::Watch;
use crate::diff::known::{Known, Tick};

/// How long a snapshot may be due before its time counts as missed: whoever makes them looks each minute, and may be at
/// another one.
const GRACE: SignedDuration = SignedDuration::from_mins(5);

/// A snapshot that was due and was not made.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Missed {
    /// Of what.
    pub object: Address,
    /// The schedule; the object itself where the schedule stands in its own spec.
    pub schedule: Address,
    /// When it was due.
    pub due: Timestamp,
    /// How often it was tried since, in vain; 0: nobody looked.
    pub tries: u32,
}

/// How one schedule stands.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Stand {
    /// When it last made a snapshot of which something is left.
    pub last_run: Option<Timestamp>,
    /// When it makes the next one.
    pub next_run: Option<Timestamp>,
    /// Of what it makes snapshots.
    pub selected: Vec<Address>,
    /// What it should have made.
    pub missed: Vec<Missed>,
}

impl Stand {
    /// What `keel get` tells of it beside its spec.
    pub fn tell(&self, status: &mut Value) {
        status["lastRun"] = serde_json::json!(self.last_run);
        status["nextRun"] = serde_json::json!(self.next_run);
        status["selected"] = serde_json::json!(self.selected);
    }
}

/// How all schedules stand, by the identity of the schedule, or of the object in whose own spec it stands.
pub fn stands(
    watches: &[Watch],
    observed: &ObservedSet,
    known: &Known,
    now: Timestamp,
) -> BTreeMap<Uid, Stand> {
    let mut all: BTreeMap<Uid, Stand> = BTreeMap::new();
    for watch in watches {
        let stand = all.entry(watch.by.1).or_default();
        stand.selected.push(watch.object.0.clone());
        let next = watch.rule.schedule.next(now, &watch.rule.zone);
        let missed = missed(watch, known, now);
        let soonest = missed.as_ref().map(|missed| missed.due).or(next);
        stand.next_run = match (stand.next_run, soonest) {
            (Some(one), Some(other)) => Some(one.min(other)),
            (one, other) => one.or(other),
        };
        stand.missed.extend(missed);
    }
    for (by, at) in observed.items.iter().flat_map(made) {
        if let Some(stand) = all.get_mut(&by) {
            stand.last_run = stand.last_run.max(Some(at));
        }
    }
    all
}

/// The snapshots of an object that schedules made: by which, and when.
fn made(item: &Item) -> Vec<(Uid, Timestamp)> {
    let all = item.status["snapshots"].as_array();
    let one = |one: &Value| {
        let by = one["madeBy"].as_str()?.parse().ok()?;
        Some((by, one["createdAt"].as_str()?.parse().ok()?))
    };
    all.into_iter().flatten().filter_map(one).collect()
}

fn missed(watch: &Watch, known: &Known, now: Timestamp) -> Option<Missed> {
    let tick = known.ticks.get(&(watch.by.1, watch.object.1)).copied();
    // Nobody ever looked after it: since it was applied.
    let since = tick.or_else(|| {
        let owned = known.owned.get(&watch.by.1)?;
        let source = known.sources.get(&owned.source)?;
        Some(Tick::at(source.applied_at))
    })?;
    let tries = since.failed.map_or(0, |(_, times)| times);
    let due = match watch.turn(Some(&since), now) {
        Turn::Make(due) => due,
        // It is tried again later.
        Turn::Later(_) if tries > 0 => watch.rule.schedule.last(now, &watch.rule.zone)?,
        Turn::Later(_) | Turn::Note(_) => return None,
    };
    (now.duration_since(due) > GRACE).then(|| Missed {
        object: watch.object.0.clone(),
        schedule: watch.by.0.clone(),
        due,
        tries,
    })
}

#[cfg(test)]
mod tests {
    use jiff::tz::TimeZone;
    use manifests::kind::Kind;
    use manifests::scalar::snapshot_pattern::SnapshotPattern;

    use super::*;
    use crate::snapshots::watch::{Keep, Rule};

    fn at(text: &str) -> Timestamp {
        text.parse()
            .unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    fn uid(number: u128) -> Uid {
        let text = uuid::Uuid::from_u128(number).to_string();
        text.parse().expect("a uid")
    }

    fn hourly() -> Watch {
        Watch {
            by: (Address::new(Kind::SnapshotSchedule, "hourly"), uid(1)),
            object: (Address::new(Kind::Instance, "web"), uid(2)),
            runs: true,
            remembers: false,
            rule: Rule {
                schedule: "@hourly".parse().expect("a schedule"),
                zone: TimeZone::UTC,
                pattern: SnapshotPattern::counting("snap"),
                memory: false,
                stopped: false,
                keep: Keep::All,
                files: None,
            },
        }
    }

    fn stand(tick: Option<Tick>, now: &str) -> Stand {
        let mut known = Known::default();
        if let Some(tick) = tick {
            known.ticks.insert((uid(1), uid(2)), tick);
        }
        let observed = ObservedSet::default();
        let mut all = stands(&[hourly()], &observed, &known, at(now));
        all.remove(&uid(1)).expect("it is there")
    }

    #[test]
    fn a_time_is_missed_when_nobody_made_its_snapshot_for_longer_than_it_takes_to_look() {
        let looked = Some(Tick::at(at("2026-11-27T09:00:00Z")));
        for (now, expected) in [
            ("2026-11-27T09:40:00Z", None),
            ("2026-11-27T10:03:00Z", None),
            ("2026-11-27T10:06:00Z", Some("2026-11-27T10:00:00Z")),
            // After a long time without anybody it is one.
            ("2026-11-29T12:30:00Z", Some("2026-11-29T12:00:00Z")),
        ] {
            let found = stand(looked, now);
            let due: Vec<_> = found.missed.iter().map(|one| one.due).collect();
            assert_eq!(
                due,
                expected.map(at).into_iter().collect::<Vec<_>>(),
                "{now}"
            );
            let next = expected.map(at).or(match now {
                "2026-11-27T09:40:00Z" => Some(at("2026-11-27T10:00:00Z")),
                _ => Some(at("2026-11-27T11:00:00Z")),
            });
            assert_eq!(found.next_run, next, "{now}");
        }
    }

    #[test]
    fn what_is_tried_in_vain_is_missed_as_well_and_what_a_wrong_clock_said_is_not() {
        let failed = Tick {
            at: at("2026-11-27T09:00:00Z"),
            failed: Some((at("2026-11-27T10:20:00Z"), 5)),
        };
        let missed = stand(Some(failed), "2026-11-27T10:25:00Z").missed;
        assert_eq!(missed.len(), 1);
        assert_eq!(
            (missed[0].due, missed[0].tries),
            (at("2026-11-27T10:00:00Z"), 5)
        );
        // Looked after in a future that was none.
        let ahead = Some(Tick::at(at("2031-01-01T00:00:00Z")));
        assert_eq!(stand(ahead, "2026-11-27T10:25:00Z").missed, []);
        // Never looked after, and nothing is known of when it was applied.
        assert_eq!(stand(None, "2026-11-27T10:25:00Z").missed, []);
    }
}
