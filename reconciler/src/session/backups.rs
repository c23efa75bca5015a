//! Backups: the lock is held while something stands still, and not while its file is written.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::path::Path;
use std::time::Duration;

use manifests::id::{Address, Uid};
use manifests::path_io::AtPath as _;
use runtime::error::RuntimeError;
use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use super::snapshots::{tick_after, watched};
use super::{Session, SessionError};
use crate::apply::ApplyOptions;
use crate::clock::deadline;
use crate::diff::known::Tick;
use crate::snapshots::due::Made;
use crate::snapshots::exports::{Export, Exports, exports};
use crate::snapshots::watch::Trouble;
use crate::state_folder::{Lock, StateFolderError};
use crate::store::{SqliteStore, Store as _, Write};

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

    /// Makes sure that nobody else makes the backups that are due, until what it answers is dropped.
    ///
    /// # Errors
    /// Somebody does.
    pub fn alone(&self) -> Result<File, SessionError> {
        // The folder itself: a file of its own would stay behind.
        let path = self.folder.path().join("instances");
        let open = File::open(&path)
            .at("open", &path)
            .map_err(StateFolderError::from)?;
        match flock(&open, FlockOperation::NonBlockingLockExclusive) {
            Err(Errno::WOULDBLOCK) => Err(StateFolderError::Busy { owner: None }.into()),
            other => {
                other.at("lock", &path).map_err(StateFolderError::from)?;
                Ok(open)
            }
        }
    }

    /// The backups that are due. `kept` tells of a folder what is in it and whole, each with the identity of its object.
    ///
    /// # Errors
    /// The engine is out of reach, or the database cannot be read.
    pub fn due_backups(
        &self,
        kept: &dyn Fn(&Path) -> Vec<(Uid, Made)>,
    ) -> Result<(Exports, Vec<Trouble>), SessionError> {
        let (known, observed) = self.look()?;
        let (watches, troubles) = watched(&known, &observed);
        let files = watches.iter().filter_map(|watch| watch.rule.files.as_ref());
        let folders: BTreeSet<&Path> = files.map(|files| files.folder.as_path()).collect();
        let mut made: BTreeMap<(Uid, Uid), Vec<Made>> = BTreeMap::new();
        for folder in folders {
            for (object, one) in kept(folder) {
                if let Some(by) = one.by {
                    made.entry((by, object)).or_default().push(one);
                }
            }
        }
        let due = exports(&watches, &known.ticks, &made, self.clock.now());
        Ok((due, troubles))
    }

    /// Remembers when schedules were looked after.
    ///
    /// # Errors
    /// Somebody else holds the lock for too long, or it cannot be remembered.
    pub fn remember_ticks(
        &self,
        ticks: &[((Uid, Uid), Tick)],
        how: &ApplyOptions,
    ) -> Result<(), SessionError> {
        if ticks.is_empty() {
            return Ok(());
        }
        let store = self.store()?;
        let _lock = self.patiently(&store, &how.command)?.ok_or_else(busy)?;
        let write = |((schedule, object), tick): &((Uid, Uid), Tick)| Write::Tick {
            schedule: *schedule,
            object: *object,
            tick: *tick,
        };
        let writes: Vec<Write> = ticks.iter().map(write).collect();
        Ok(store.commit(&writes)?)
    }

    /// Remembers how a backup that was due went, and deletes those before it that are to go; `delete` says whether it did.
    /// Answers those that went.
    ///
    /// # Errors
    /// Somebody else holds the lock for too long, or one cannot be deleted.
    pub fn backup_ended(
        &self,
        export: &Export,
        made: bool,
        how: &ApplyOptions,
        delete: &dyn Fn(&str) -> Result<bool, RuntimeError>,
    ) -> Result<Vec<String>, SessionError> {
        let store = self.store()?;
        let _lock = self.patiently(&store, &how.command)?.ok_or_else(busy)?;
        let key = (export.by.1, export.object.1);
        let known = store.load()?;
        let tick = tick_after(key, export.due, made, &known, self.clock.now());
        store.commit(&[tick])?;
        let mut gone = Vec::new();
        // Without a new one none of those before goes.
        for name in export.gone.iter().filter(|_| made) {
            let object = &export.object.0;
            if self.recorded(&store, object, "delete backup", how, || delete(name))? {
                gone.push(name.clone());
            }
        }
        Ok(gone)
    }
}

fn busy() -> SessionError {
    StateFolderError::Busy { owner: None }.into()
}
