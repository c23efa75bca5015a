//! The processes beside a running machine: what was written down of them, proved by the kernel.

use manifests::path_io;

use super::companion::open_same;
use super::running::{Running, ShimError};
use crate::shim::helper::{self, Written};

/// A process beside a machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HelperSeen {
    /// As it was started.
    pub written: Written,
    /// Whether it still runs.
    pub runs: bool,
}

impl Running {
    /// The processes beside it. Each is recognised by pid and start time, never by its pid alone.
    ///
    /// # Errors
    /// What was written down cannot be read, or the kernel's answer.
    pub fn helpers(&self) -> Result<Vec<HelperSeen>, ShimError> {
        let text = path_io::read_if_exists(self.run_dir().join(helper::FILE))?;
        helper::parse(text.as_deref().unwrap_or_default())
            .into_iter()
            .map(|written| {
                let found = open_same(written.pid, written.start_time)?;
                Ok(HelperSeen {
                    written,
                    runs: found.is_some(),
                })
            })
            .collect()
    }
}
