//! Waiting a bounded while for the kernel to finish something that has no event to wait for.

use std::time::Duration;

use rustix::event::{PollFd, Timespec, poll};

/// How long one is willing to wait in all. Counted in waits, so no clock is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Patience {
    left: Duration,
    next: Duration,
}

impl Patience {
    /// The first pause: a killed process is mostly gone within it.
    const FIRST: Duration = Duration::from_micros(200);
    /// The longest pause.
    const LONGEST: Duration = Duration::from_millis(10);

    /// Waits at most `total`.
    pub fn new(total: Duration) -> Self {
        Self {
            left: total,
            next: Self::FIRST,
        }
    }

    /// Waits a little, longer each time; `false` (at once) when the patience is over.
    pub fn wait(&mut self) -> bool {
        self.wait_on(&mut [])
    }

    /// As [`Patience::wait`], but returns as soon as one of these has something to tell.
    pub fn wait_on(&mut self, events: &mut [PollFd<'_>]) -> bool {
        if self.left.is_zero() {
            return false;
        }
        let pause = self.next.min(self.left);
        self.left -= pause;
        self.next = (self.next * 2).min(Self::LONGEST);
        let timeout = Timespec {
            tv_sec: 0,
            tv_nsec: i64::from(pause.subsec_nanos()),
        };
        // An interrupted wait is a short one.
        let _ = poll(events, Some(&timeout));
        true
    }
}

impl Default for Patience {
    fn default() -> Self {
        Self::new(Duration::from_secs(5))
    }
}
