//! Backups: the lock is held while something stands still, and not while its file is written.

use std::time::Duration;

use manifests::id::Address;
use runtime::error::RuntimeError;

use super::{Session, SessionError};
use crate::apply::ApplyOptions;
use crate::clock::deadline;
use crate::state_folder::{Lock, StateFolderError};
use crate::store::SqliteStore;

/// How long who has written a backup waits for the lock to clear up after it.
const PATIENCE: Duration = Duration::from_mins(10);

impl Session<'_> {
    /// Makes a backup: `begin` gathers what it is made of and `end` clears up after it, both under the lock; `write` needs
    /// none, so that others go on meanwhile.
    ///
    /// # Errors
    /// Somebody else holds the lock, or one of the three fails: `end` is done in any case.
    pub fn backup<T, U>(
        &self,
        address: &Address,
        how: &ApplyOptions,
        begin: impl FnOnce() -> Result<T, RuntimeError>,
        write: impl FnOnce(&mut T) -> Result<U, RuntimeError>,
        end: impl FnOnce(T) -> Result<(), RuntimeError>,
    ) -> Result<U, SessionError> {
        let mut gathered = self.deed(address, "begin backup", how, begin)?;
        let written = write(&mut gathered);
        let store = self.store()?;
        let Some(_lock) = self.patiently(&store, &how.command)? else {
            // The next sweep finds it as if we had been killed.
            tracing::warn!(%address, "left what was copied for a backup behind: somebody else holds the lock");
            return Ok(written?);
        };
        self.recorded(&store, address, "backup", how, || {
            let ended = end(gathered);
            written.and_then(|written| ended.map(|()| written))
        })
    }

    /// Takes the lock, and waits for who has it; none: for too long.
    fn patiently(&self, store: &SqliteStore, command: &str) -> Result<Option<Lock>, SessionError> {
        let until = deadline(self.clock.instant(), PATIENCE);
        loop {
            match self.begin(store, command, None) {
                Err(SessionError::Folder(StateFolderError::Busy { .. })) => {}
                other => return other.map(Some),
            }
            if self.clock.instant() > until {
                return Ok(None);
            }
            let _ = rustix::thread::nanosleep(&rustix::thread::Timespec {
                tv_sec: 0,
                tv_nsec: 100_000_000,
            });
        }
    }
}
