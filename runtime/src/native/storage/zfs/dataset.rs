//! The datasets of a pool: asked for, changed, mounted.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use manifests::path_io::AtPath as _;
use rustix::io::Errno;
use rustix::mount::MountFlags;

use super::arguments;
use super::report::{self, Found, Row};
use crate::native::cgroup::Patience;
use crate::native::storage::driver::{DatasetPlan, VolumeId};
use crate::native::storage::error::StorageError;
use crate::native::storage::unmounting::{Users, unmount_ours};
use crate::sys::command::{self, CommandError};
use crate::sys::mount_table;
use crate::sys::remove_tree::RemoveTreeError;

/// How long the kernel may take to let go of a dataset that nobody has mounted any more.
const LETTING_GO: Duration = Duration::from_secs(5);

/// The dataset that is a pool.
#[derive(Debug)]
pub(super) struct Base {
    pub(super) plan: DatasetPlan,
    pub(super) mark: String,
    /// What was listed, until something is changed.
    rows: Mutex<Option<BTreeMap<String, Row>>>,
}

impl Base {
    pub(super) fn new(plan: DatasetPlan, mark: &str) -> Self {
        Self {
            plan,
            mark: mark.to_owned(),
            rows: Mutex::new(None),
        }
    }

    /// Its name.
    pub(super) fn name(&self) -> &str {
        &self.plan.name
    }

    /// The zpool that it lies in.
    pub(super) fn zpool(&self) -> &str {
        self.name().split('/').next().unwrap_or_default()
    }

    /// The whole name of a dataset in it.
    pub(super) fn path(&self, leaf: &str) -> String {
        format!("{}/{leaf}", self.name())
    }

    fn listed(&self) -> MutexGuard<'_, Option<BTreeMap<String, Row>>> {
        self.rows.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Forgets what was seen.
    pub(super) fn look_anew(&self) {
        *self.listed() = None;
    }

    /// A dataset in it; `""`: itself.
    pub(super) fn row(&self, leaf: &str) -> Result<Option<Row>, StorageError> {
        let mut listed = self.listed();
        let rows = match listed.take() {
            Some(rows) => rows,
            None => report::rows(&zfs(arguments::list(self.name()))?, self.name()),
        };
        Ok(listed.insert(rows).get(leaf).copied())
    }

    /// Changes a dataset of it.
    pub(super) fn change(&self, arguments: Vec<OsString>) -> Result<(), StorageError> {
        self.look_anew();
        zfs(arguments).map(|_| ())
    }

    /// Removes a dataset of it with its snapshots; what is not there is fine.
    pub(super) fn destroy(&self, leaf: &str) -> Result<(), StorageError> {
        self.look_anew();
        let path = self.path(leaf);
        let mut patience = Patience::new(LETTING_GO);
        loop {
            match zfs(arguments::destroy(&path)) {
                Err(error) if is_gone(&error) => return Ok(()),
                Err(error) if says(&error, "busy") && patience.wait() => {}
                other => return other.map(|_| ()),
            }
        }
    }

    /// Removes datasets of it that may be clones of each other.
    pub(super) fn destroy_all(&self, mut leaves: Vec<String>) -> Result<(), StorageError> {
        while !leaves.is_empty() {
            let before = leaves.len();
            let mut first = None;
            leaves.retain(|leaf| match self.destroy(leaf) {
                Ok(()) => false,
                Err(error) => {
                    first.get_or_insert(error);
                    true
                }
            });
            if let Some(error) = first
                && leaves.len() == before
            {
                return Err(error);
            }
        }
        Ok(())
    }

    /// Removes a snapshot of it, at the latest when nobody needs it.
    pub(super) fn let_go(&self, snapshot: &str) -> Result<(), StorageError> {
        self.look_anew();
        let path = self.path(snapshot);
        let mut patience = Patience::new(LETTING_GO);
        loop {
            match zfs(arguments::let_go(&path)) {
                Err(error) if is_gone(&error) => return Ok(()),
                Err(error) if says(&error, "busy") && patience.wait() => {}
                other => return other.map(|_| ()),
            }
        }
    }
}

/// What a dataset is as a pool; `None`: there is none, or its zpool is not imported.
pub(super) fn look(name: &str) -> Result<Option<Found>, StorageError> {
    match zfs(arguments::look(name)) {
        Ok(text) => Ok(Some(report::found(&text))),
        Err(error) if is_gone(&error) => Ok(None),
        Err(error) => Err(error),
    }
}

pub(super) fn zfs(arguments: Vec<OsString>) -> Result<String, StorageError> {
    run("zfs", arguments)
}

pub(super) fn zpool(arguments: Vec<OsString>) -> Result<String, StorageError> {
    run("zpool", arguments)
}

fn run(program: &'static str, arguments: Vec<OsString>) -> Result<String, StorageError> {
    match command::run(program, arguments, None) {
        Ok(text) => Ok(String::from_utf8_lossy(&text).into_owned()),
        Err(CommandError::Start { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
            Err(StorageError::NoProgram {
                program,
                package: "zfsutils-linux",
            })
        }
        Err(error) => Err(error.into()),
    }
}

/// Whether a program said such a thing.
pub(super) fn says(error: &StorageError, what: &str) -> bool {
    matches!(error, StorageError::Command(CommandError::Failed { stderr, .. }) if stderr.contains(what))
}

/// Whether it said that there is no such dataset, snapshot or zpool.
pub(super) fn is_gone(error: &StorageError) -> bool {
    says(error, "does not exist")
        || says(error, "could not find any snapshots")
        || says(error, "no such pool")
}

/// Whether a dataset or snapshot is what is mounted at a folder.
pub(super) fn is_mounted(name: &str, at: &Path) -> Result<bool, StorageError> {
    let canonical = at.canonicalize().unwrap_or_else(|_| at.to_path_buf());
    let table = mount_table::read()?;
    // The last one lies on top.
    let mount = table.iter().rev().find(|m| m.mount_point == canonical);
    Ok(mount.is_some_and(|mount| {
        mount.filesystem == "zfs" && mount.source == Path::new(name) && mount.root == Path::new("/")
    }))
}

/// Mounts a dataset or snapshot at a folder of ours; one that is mounted already stays. Answers whether there is one.
///
/// Not for containers: they have clones of these mounts with flags of their own.
pub(super) fn mount(name: &str, at: &Path) -> Result<bool, StorageError> {
    if is_mounted(name, at)? {
        return Ok(true);
    }
    if let Some(foreign) = mount_table::at_or_below(at)?.first() {
        return Err(RemoveTreeError::Mounted {
            path: foreign.mount_point.clone(),
        }
        .into());
    }
    let flags = MountFlags::NOSUID | MountFlags::NODEV;
    let flags = match name.contains('@') {
        true => flags | MountFlags::RDONLY,
        false => flags,
    };
    match rustix::mount::mount(name, at, "zfs", flags, None) {
        Err(Errno::NOENT) if at.exists() => Ok(false),
        Err(Errno::ACCESS) if look(name)?.is_some_and(|found| found.locked) => {
            Err(StorageError::KeyNotLoaded {
                dataset: name.to_owned(),
            })
        }
        other => {
            other.at("mount a dataset on", at)?;
            Ok(true)
        }
    }
}

/// Unmounts it from there; answers whether it was mounted.
pub(super) fn unmount(
    name: &str,
    at: &Path,
    users: Users,
    id: &VolumeId,
) -> Result<bool, StorageError> {
    unmount_ours(at, users, id, || is_mounted(name, at))
}
