//! [`Metrics`]: what is counted while the controller works. What can be seen of how it stands is not counted here: that is
//! read when somebody asks.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use manifests::id::SourceName;
use manifests::kind::Kind;

use super::event::{Fetched, Outcome, Reconciled};

/// How long something took, in seconds: how often at most so long.
#[derive(Debug, Clone, PartialEq)]
pub struct Histogram {
    /// Upper bounds, and how often it took no longer than each, and longer than the one before.
    pub buckets: Vec<(f64, u64)>,
    /// How often at all.
    pub count: u64,
    /// All together.
    pub sum: f64,
}

impl Default for Histogram {
    fn default() -> Self {
        // From a millisecond to ten minutes.
        let bounds = [
            0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0,
            300.0, 600.0,
        ];
        Self {
            buckets: bounds.map(|bound| (bound, 0)).to_vec(),
            count: 0,
            sum: 0.0,
        }
    }
}

impl Histogram {
    fn add(&mut self, took: Duration) {
        let seconds = took.as_secs_f64();
        self.count += 1;
        self.sum += seconds;
        if let Some((_, count)) = self.buckets.iter_mut().find(|(bound, _)| seconds <= *bound) {
            *count += 1;
        }
    }
}

/// All that was counted.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Counted {
    /// Reconciles by source and how they ended.
    pub reconciles: BTreeMap<(SourceName, &'static str), u64>,
    /// How long they took.
    pub took: BTreeMap<SourceName, Histogram>,
    /// Objects with which something was done, by source, kind, and whether that succeeded.
    pub steps: BTreeMap<(SourceName, Kind, bool), u64>,
    /// Fields that drifted and were put back.
    pub corrections: BTreeMap<(SourceName, Kind), u64>,
    /// Looks at sources, by how they ended.
    pub fetches: BTreeMap<(SourceName, &'static str), u64>,
    /// When all was as it should be the last time.
    pub succeeded_at: BTreeMap<SourceName, jiff::Timestamp>,
    /// Questions, by method, what was asked, and the status of the answer.
    pub requests: BTreeMap<(&'static str, &'static str, u16), u64>,
    /// How long answers took.
    pub answered: BTreeMap<&'static str, Histogram>,
}

/// What is counted while the controller works.
#[derive(Debug, Default)]
pub struct Metrics(Mutex<Counted>);

impl Metrics {
    /// All that was counted so far.
    pub fn counted(&self) -> Counted {
        self.all().clone()
    }

    fn all(&self) -> MutexGuard<'_, Counted> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A source was reconciled.
    pub(super) fn reconciled(&self, ended: &Reconciled, took: Duration, now: jiff::Timestamp) {
        let mut all = self.all();
        let source = &ended.source;
        let result = ended.outcome.word();
        *all.reconciles.entry((source.clone(), result)).or_default() += 1;
        all.took.entry(source.clone()).or_default().add(took);
        if ended.outcome == Outcome::Settled {
            all.succeeded_at.insert(source.clone(), now);
        }
        let done = ended.done.iter().map(|one| (one.kind, true));
        let failed = ended.failed.iter().map(|one| (one.address.kind, false));
        for (kind, succeeded) in done.chain(failed) {
            let key = (source.clone(), kind, succeeded);
            *all.steps.entry(key).or_default() += 1;
        }
        for (address, _) in &ended.corrected {
            let key = (source.clone(), address.kind);
            *all.corrections.entry(key).or_default() += 1;
        }
    }

    /// A source was looked at.
    pub(super) fn fetched(&self, source: &SourceName, fetched: &Fetched) {
        let result = match fetched {
            Fetched::Unchanged => "unchanged",
            Fetched::Moved(_) => "moved",
            Fetched::Invalid { .. } => "invalid",
            Fetched::Failed { .. } => "failed",
        };
        *self
            .all()
            .fetches
            .entry((source.clone(), result))
            .or_default() += 1;
    }

    /// A question was answered.
    pub fn answered(&self, method: &str, route: &'static str, status: u16, took: Duration) {
        // Whoever asks chooses the word: only those that are known are told apart.
        let method = match method {
            "GET" => "GET",
            "POST" => "POST",
            _ => "other",
        };
        let mut all = self.all();
        let key = (method, route, status);
        *all.requests.entry(key).or_default() += 1;
        all.answered.entry(route).or_default().add(took);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_time_is_in_the_bucket_that_it_fits_in() {
        let mut histogram = Histogram::default();
        for milliseconds in [1, 2, 700, 3_600_000] {
            histogram.add(Duration::from_millis(milliseconds));
        }
        let filled: Vec<(f64, u64)> = histogram
            .buckets
            .iter()
            .copied()
            .filter(|(_, count)| *count > 0)
            .collect();
        assert_eq!(filled, [(0.001, 1), (0.005, 1), (1.0, 1)]);
        assert_eq!(histogram.count, 4, "the longest is in none");
        assert!((histogram.sum - 3600.703).abs() < 1e-6);
    }
}
