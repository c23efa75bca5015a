//! What comes twice or too often is refused.

use std::collections::{HashSet, VecDeque};
use std::time::{Duration, Instant};

use ring::digest::{SHA256, digest};

/// Deliveries of one source that are remembered.
const REMEMBERED: usize = 4096;

/// So many at once, and then one each so often.
#[derive(Debug)]
pub(super) struct Bucket {
    most: u32,
    each: Duration,
    left: u32,
    at: Instant,
}

impl Bucket {
    /// A full one.
    pub(super) const fn new(most: u32, each: Duration, now: Instant) -> Self {
        Self {
            most,
            each,
            left: most,
            at: now,
        }
    }

    fn fill(&mut self, now: Instant) {
        while self.left < self.most && now.saturating_duration_since(self.at) >= self.each {
            self.left += 1;
            self.at += self.each;
        }
        if self.left == self.most {
            self.at = now;
        }
    }

    /// Takes one; how long until there is one where there is none.
    pub(super) fn take(&mut self, now: Instant) -> Result<(), Duration> {
        self.fill(now);
        match self.left {
            0 => Err(self
                .each
                .saturating_sub(now.saturating_duration_since(self.at))),
            _ => {
                self.left -= 1;
                Ok(())
            }
        }
    }

    /// Whether there is one.
    pub(super) fn is_open(&mut self, now: Instant) -> bool {
        self.fill(now);
        self.left > 0
    }
}

/// The newest deliveries, by their digests.
#[derive(Debug, Default)]
pub(super) struct Known {
    all: HashSet<[u8; 32]>,
    order: VecDeque<[u8; 32]>,
}

impl Known {
    /// Whether it came before.
    pub(super) fn knows(&self, id: &[u8]) -> bool {
        self.all.contains(&short(id))
    }

    /// Remembers one, and forgets the oldest where there are too many.
    pub(super) fn remember(&mut self, id: &[u8]) {
        let one = short(id);
        if !self.all.insert(one) {
            return;
        }
        self.order.push_back(one);
        if self.order.len() > REMEMBERED
            && let Some(oldest) = self.order.pop_front()
        {
            self.all.remove(&oldest);
        }
    }
}

fn short(id: &[u8]) -> [u8; 32] {
    let mut one = [0; 32];
    one.copy_from_slice(digest(&SHA256, id).as_ref());
    one
}
