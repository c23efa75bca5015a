//! What the checks of an instance came to, from look to look: pure.

use std::time::Duration;

use manifests::instance::health::Health;
use serde::{Deserialize, Serialize};

/// How often one is looked at that was not healthy yet: whoever waits for it wants to know soon.
const SOON: Duration = Duration::from_secs(1);

/// One check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Check {
    /// The field of `health` that asks for it.
    pub name: String,
    /// Why it failed; none: it passed.
    pub why: Option<String>,
}

/// What is kept between two looks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Record {
    /// When its first process was started, in ticks of the kernel: what is known of another start counts for nothing.
    started: u64,
    /// When the checks were made, from the start of the host.
    at: Duration,
    /// When a failure was counted last.
    counted: Option<Duration>,
    /// So many in a row failed.
    pub failures: u32,
    /// It was healthy since its start.
    was_healthy: bool,
    /// What they said.
    checks: Vec<Check>,
}

impl Record {
    /// Whether it is of this start.
    pub(super) const fn is_of(&self, started: u64) -> bool {
        self.started == started
    }

    /// Whether the checks are to be made again.
    pub(super) fn is_due(&self, health: &Health, now: Duration) -> bool {
        let interval = health.interval.as_std();
        let pause = match self.was_healthy {
            true => interval,
            false => interval.min(SOON),
        };
        // Other checks are asked for by now.
        let is_other = !self
            .checks
            .iter()
            .map(|check| check.name.as_str())
            .eq(names(health));
        is_other || now >= self.at + pause
    }

    /// After checks were made. `running_for`: how long it has been up.
    pub(super) fn next(
        before: Option<Self>,
        health: &Health,
        started: u64,
        (now, running_for): (Duration, Duration),
        checks: Vec<Check>,
    ) -> Self {
        let passed = checks.iter().all(|check| check.why.is_none());
        let (failures, counted, was_healthy) = before.map_or((0, None, false), |before| {
            (before.failures, before.counted, before.was_healthy)
        });
        // A look comes whenever somebody has one: it counts once in an interval.
        let counts = running_for >= health.start_period.as_std()
            && counted.is_none_or(|at| now >= at + health.interval.as_std());
        let (failures, counted) = match (passed, counts) {
            (true, _) => (0, None),
            (false, true) => (failures.saturating_add(1), Some(now)),
            (false, false) => (failures, counted),
        };
        Self {
            started,
            at: now,
            counted,
            failures,
            was_healthy: was_healthy || passed,
            checks,
        }
    }

    /// In one word.
    pub(super) fn word(&self, health: &Health) -> &'static str {
        match (self.failed().next(), self.failures >= health.retries.max(1)) {
            (None, _) => "healthy",
            (Some(_), true) => "unhealthy",
            (Some(_), false) if self.was_healthy => "healthy",
            (Some(_), false) => "starting",
        }
    }

    /// The checks that failed.
    pub(super) fn failed(&self) -> impl Iterator<Item = &Check> {
        self.checks.iter().filter(|check| check.why.is_some())
    }
}

/// The checks that are asked for, in the order in which they are made: what costs least comes first.
pub(super) fn names(health: &Health) -> impl Iterator<Item = &'static str> {
    [
        ("addresses", health.addresses),
        ("agent", health.agent),
        ("cloudInit", health.cloud_init),
        ("tcp", health.tcp.is_some()),
        ("http", health.http.is_some()),
        ("exec", health.exec.is_some()),
    ]
    .into_iter()
    .filter_map(|(name, asked)| asked.then_some(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn health(text: &str) -> Health {
        serde_json::from_str(text).expect(text)
    }

    fn check(passed: bool) -> Vec<Check> {
        vec![Check {
            name: "tcp".to_owned(),
            why: (!passed).then(|| "nobody listens".to_owned()),
        }]
    }

    /// What is told after looks, each a second and whether the checks passed then.
    fn told(health: &Health, looks: &[(u64, bool)]) -> Vec<&'static str> {
        let mut record = None;
        looks
            .iter()
            .map(|(second, passed)| {
                let now = Duration::from_secs(*second);
                let next = Record::next(record.take(), health, 7, (now, now), check(*passed));
                record.insert(next).word(health)
            })
            .collect()
    }

    #[test]
    fn so_many_failures_in_a_row_are_needed() {
        let health = health(r#"{"tcp": 80, "retries": 2, "interval": "10s"}"#);
        assert_eq!(
            told(
                &health,
                &[
                    (1, false),
                    (11, false),
                    (12, true),
                    (22, false),
                    (32, false)
                ]
            ),
            ["starting", "unhealthy", "healthy", "healthy", "unhealthy"]
        );
        // Looks within the interval of one that was counted are none.
        assert_eq!(
            told(&health, &[(1, false), (2, false), (3, false), (11, false)]),
            ["starting", "starting", "starting", "unhealthy"]
        );
    }

    #[test]
    fn failures_soon_after_the_start_do_not_count() {
        let health = health(r#"{"tcp": 80, "retries": 1, "startPeriod": "30s"}"#);
        assert_eq!(
            told(&health, &[(1, false), (29, false), (30, false), (31, true)]),
            ["starting", "starting", "unhealthy", "healthy"]
        );
    }

    #[test]
    fn checks_are_due_after_their_interval_and_sooner_where_somebody_waits() {
        let written = health(r#"{"tcp": 80, "interval": "10s"}"#);
        let at = |seconds| Duration::from_secs(seconds);
        let record = |passed| Record::next(None, &written, 7, (at(100), at(1)), check(passed));
        assert!(!record(true).is_due(&written, at(109)) && record(true).is_due(&written, at(110)));
        assert!(
            !record(false).is_due(&written, at(100)) && record(false).is_due(&written, at(101))
        );
        let other = health(r#"{"tcp": 80, "exec": ["true"], "interval": "10s"}"#);
        assert!(record(true).is_due(&other, at(101)));
        assert!(record(true).is_of(7) && !record(true).is_of(8));
    }
}
