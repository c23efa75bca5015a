//! [`Clock`]: the only place that asks for the time; everything else is given it.

use std::time::{Duration, Instant};

/// What time it is.
pub trait Clock: Send + Sync {
    /// The time of day, for records, windows and expiry.
    fn now(&self) -> jiff::Timestamp;

    /// A time that only goes forward, for durations and deadlines.
    fn instant(&self) -> Instant;
}

/// The host's clock.
#[derive(Debug, Clone, Copy, Default)]
pub struct HostClock;

#[expect(
    clippy::disallowed_methods,
    reason = "this is the lawful place of the clock"
)]
impl Clock for HostClock {
    fn now(&self) -> jiff::Timestamp {
        jiff::Timestamp::now()
    }

    fn instant(&self) -> Instant {
        Instant::now()
    }
}

/// A time of day that stands still, for tests; durations are real.
#[derive(Debug, Clone, Copy)]
pub struct FixedClock(pub jiff::Timestamp);

impl Clock for FixedClock {
    fn now(&self) -> jiff::Timestamp {
        self.0
    }

    fn instant(&self) -> Instant {
        HostClock.instant()
    }
}

/// Microseconds since `began`; saturates after 584 000 years.
pub fn micros_since(clock: &dyn Clock, began: Instant) -> u64 {
    u64::try_from(clock.instant().saturating_duration_since(began).as_micros()).unwrap_or(u64::MAX)
}

/// The deadline `after` a moment; far away where it cannot be expressed.
pub fn deadline(from: Instant, after: Duration) -> Instant {
    from.checked_add(after)
        .unwrap_or_else(|| from + Duration::from_secs(86_400))
}
