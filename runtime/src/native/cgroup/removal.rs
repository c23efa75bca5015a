//! Removing the cgroups of an instance, and with the last one what all share; never under somebody who is about to join.

use std::path::Path;
use std::sync::{
    Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard, TryLockError,
};

use manifests::path_io;

use super::instance::{CgroupError, InstanceCgroups};
use super::patience::Patience;

/// Folders that several share are removed by the last one, who must not be mistaken: somebody else may have found them
/// there and not be in them yet. Other processes are kept out by the state folder's lock.
static JOINING: RwLock<()> = RwLock::new(());
/// One after the other: who removes is in nobody's way but that of those who remove too, and each may be the last.
static REMOVING: Mutex<()> = Mutex::new(());

/// As long as this lives, what [`InstanceCgroups::ensure`] found or made stays, also where nobody is in it yet.
#[derive(Debug)]
#[must_use = "keep it until who belongs in the folders has joined them"]
pub struct Ensured {
    _joining: RwLockReadGuard<'static, ()>,
}

impl Ensured {
    pub(super) fn new() -> Self {
        Self {
            _joining: JOINING.read().unwrap_or_else(PoisonError::into_inner),
        }
    }
}

/// Nobody is about to join anything as long as this lives; `None` where somebody is, who then removes what is shared.
fn nobody_joins() -> Option<(RwLockWriteGuard<'static, ()>, MutexGuard<'static, ()>)> {
    let removing = REMOVING.lock().unwrap_or_else(PoisonError::into_inner);
    match JOINING.try_write() {
        Ok(guard) => Some((guard, removing)),
        Err(TryLockError::Poisoned(guard)) => Some((guard.into_inner(), removing)),
        Err(TryLockError::WouldBlock) => None,
    }
}

impl InstanceCgroups {
    /// Removes every folder of this instance, with what the container made below. Kill first: this waits a short
    /// while for processes that are on their way out, it ends none. What is gone already is fine.
    ///
    /// The folders shared by all instances (`keel-<state>` and its monitors) go with the last one.
    ///
    /// # Errors
    /// [`CgroupError::Busy`] when the patience is over.
    pub fn remove(&self, mut patience: Patience) -> Result<(), CgroupError> {
        for folder in self.v1.iter().chain(&self.v2) {
            remove_tree(folder, &mut patience)?;
        }
        if let Some(_nobody) = nobody_joins() {
            self.remove_shared();
        }
        Ok(())
    }

    /// As [`InstanceCgroups::remove`], for cgroups that several share: nothing is done where somebody is in them, and
    /// no more than a short while is waited for who has ended already.
    pub fn remove_unused(&self, mut patience: Patience) {
        // Who is in the way starts an instance beside this, and does not come back for these.
        let _nobody = loop {
            match nobody_joins() {
                Some(guard) => break guard,
                None if patience.wait() => {}
                None => return,
            }
        };
        loop {
            match self.processes() {
                Ok(pids) if pids.is_empty() => break,
                Ok(pids) if pids.iter().all(|&pid| is_dying(pid)) && patience.wait() => {}
                _ => return,
            }
        }
        for folder in self.v1.iter().chain(&self.v2) {
            let _ = remove_tree(folder, &mut patience);
        }
        self.remove_shared();
    }

    /// Removes what all instances share, if it is empty.
    fn remove_shared(&self) {
        for shared in self.monitors() {
            // Another instance's shim may live here, another instance beside it: then it stays.
            let _ = path_io::remove_empty_dir(shared);
        }
        for folder in self.v1.iter().chain(&self.v2) {
            if let Some(parent) = folder.parent() {
                let _ = path_io::remove_empty_dir(parent);
            }
        }
    }
}

/// Whether a process is on its way out, or gone: it has lost its memory, and with it its arguments. On a busy host one
/// that has ended is listed by its cgroups for a while.
fn is_dying(process: u32) -> bool {
    path_io::read(format!("/proc/{process}/cmdline")).map_or(true, |arguments| arguments.is_empty())
}

/// Removes a cgroup and all below it, deepest first.
pub(super) fn remove_tree(folder: &Path, patience: &mut Patience) -> Result<(), CgroupError> {
    loop {
        match path_io::remove_empty_dir(folder) {
            Ok(()) => return Ok(()),
            // It has cgroups below. Or a process: a killed one leaves its cgroups a moment after it is seen as dead.
            Err(error) if error.raw_os_error() == Some(rustix::io::Errno::BUSY.raw_os_error()) => {
                let below = path_io::list_folders(folder)?;
                for cgroup in &below {
                    remove_tree(cgroup, patience)?;
                }
                if below.is_empty() && !patience.wait() {
                    return Err(CgroupError::Busy {
                        path: error.path,
                        source: error.source,
                    });
                }
            }
            Err(error) => return Err(error.into()),
        }
    }
}
