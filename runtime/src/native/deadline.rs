//! The end of a wait that is made of many: what trickles in does not prolong it.

use std::time::{Duration, Instant};

use rustix::event::{PollFd, Timespec};

/// A moment after which nobody waits.
#[derive(Debug, Clone, Copy)]
pub(in crate::native) struct Deadline {
    end: Option<Instant>,
    /// How long that was when it began, for messages.
    pub(in crate::native) after: Duration,
}

#[expect(
    clippy::disallowed_methods,
    reason = "one bounded wait over many reads needs a clock; nothing is decided by it"
)]
fn now() -> Instant {
    Instant::now()
}

impl Deadline {
    /// From now on.
    pub(in crate::native) fn after(after: Duration) -> Self {
        Self {
            end: now().checked_add(after),
            after,
        }
    }

    /// The same, but not before so much time has passed from now on.
    pub(in crate::native) fn at_least(self, moment: Duration) -> Self {
        let soonest = now().checked_add(moment);
        Self {
            end: self.end.zip(soonest).map(|(end, soonest)| end.max(soonest)),
            ..self
        }
    }

    /// What is left of it; a time that no clock can show is never over.
    pub(in crate::native) fn left(&self) -> Duration {
        let left = |end: Instant| end.saturating_duration_since(now());
        self.end.map_or(Duration::MAX, left)
    }

    /// Waits for one of the events; `false`: it is over.
    pub(in crate::native) fn wait_on(&self, events: &mut [PollFd<'_>]) -> rustix::io::Result<bool> {
        loop {
            let left = self.left();
            if left.is_zero() {
                return Ok(false);
            }
            let timeout = Timespec::try_from(left).ok();
            match rustix::event::poll(events, timeout.as_ref()) {
                Ok(0) | Err(rustix::io::Errno::INTR) => {}
                other => return other.map(|_| true),
            }
        }
    }

    /// Lets some time pass; `false`: it is over.
    pub(in crate::native) fn pause(&self, pause: Duration) -> bool {
        let pause = Self::after(pause.min(self.left()));
        let _ = pause.wait_on(&mut []);
        !self.left().is_zero()
    }
}
