//! Folders of a pool: made private, listed, synced.

use std::ffi::OsStr;
use std::fs::{DirBuilder, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _, chown};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use manifests::path_io::{self, AtPath as _, PathError};

use super::driver::{Initial, VolumeId};
use super::error::StorageError;

/// The folder of what a volume holds, beside what is needed for that.
pub(super) const fn files_of(id: &VolumeId) -> &'static str {
    match id {
        VolumeId::Root(_) => "upper",
        VolumeId::Custom(_) => "data",
    }
}

/// Instances that start together may want the same volume in place. Other processes are kept out by the state folder's lock.
pub(super) fn alone(id: &VolumeId) -> Option<MutexGuard<'static, ()>> {
    static PLACING: Mutex<()> = Mutex::new(());
    matches!(id, VolumeId::Custom(_))
        .then(|| PLACING.lock().unwrap_or_else(PoisonError::into_inner))
}

/// Makes the folders in a volume that its users see; what is there is left alone.
pub(super) fn prepare(disk: &Path, id: &VolumeId, initial: Initial) -> Result<(), StorageError> {
    match id {
        VolumeId::Root(_) => {
            make_owned(&disk.join(files_of(id)), initial)?;
            make_owned(&disk.join("work"), Initial::default())
        }
        VolumeId::Custom(_) => make_owned(&disk.join(files_of(id)), initial),
    }
}

pub(super) fn make_owned(path: &Path, initial: Initial) -> Result<(), StorageError> {
    match make_folder(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(()),
        other => other?,
    }
    if (initial.uid, initial.gid) != (0, 0) {
        chown(path, Some(initial.uid), Some(initial.gid)).at("own", path)?;
    }
    let mode = std::fs::Permissions::from_mode(initial.mode & 0o7777);
    std::fs::set_permissions(path, mode).at("set the mode of", path)?;
    Ok(())
}

/// Makes a folder that only root can enter.
pub(super) fn make_folder(path: &Path) -> Result<(), PathError> {
    DirBuilder::new()
        .mode(0o700)
        .create(path)
        .at("create", path)
}

/// As [`make_folder`], and makes one that is there private.
pub(super) fn make_private(path: &Path) -> Result<(), StorageError> {
    match make_folder(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            let mode = std::fs::Permissions::from_mode(0o700);
            std::fs::set_permissions(path, mode).at("set the mode of", path)?;
        }
        other => other?,
    }
    Ok(())
}

/// The last part of a path, as text.
pub(super) fn name_of(path: &Path) -> String {
    path.file_name()
        .unwrap_or(OsStr::new(""))
        .to_string_lossy()
        .into_owned()
}

/// What is in a folder; nothing where it is not there.
pub(super) fn list_or_nothing(path: &Path) -> Result<Vec<PathBuf>, StorageError> {
    match path_io::list(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        other => Ok(other?),
    }
}

/// Whether the folder where a pool's own file system is to be mounted is there: a mount would hide what is in it.
///
/// # Errors
/// [`StorageError::ForeignPool`]: something is in it, or it is no folder.
pub(super) fn is_empty_place(pool: &Path) -> Result<bool, StorageError> {
    match path_io::list(pool) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Ok(entries) if entries.is_empty() => Ok(true),
        Err(error) if error.kind() != io::ErrorKind::NotADirectory => Err(error)?,
        _ => Err(StorageError::ForeignPool {
            path: pool.to_path_buf(),
            owner: "nobody we know".to_owned(),
        }),
    }
}

/// A name that nothing in a pool has.
///
/// # Errors
/// The kernel does not give one.
pub(super) fn fresh_name() -> Result<String, StorageError> {
    let uuid = path_io::read_to_string("/proc/sys/kernel/random/uuid")?;
    let digits: String = uuid.chars().filter(char::is_ascii_hexdigit).collect();
    Ok(format!("keel_{digits}"))
}

/// Waits until the names in a folder are on disk.
pub(super) fn sync_folder(path: &Path) -> Result<(), StorageError> {
    Ok(File::open(path)
        .and_then(|folder| folder.sync_all())
        .at("sync", path)?)
}

/// Entries of a pool's folder that do not make it somebody's: what mkfs leaves, and our own interrupted marker.
pub(super) fn means_nothing(path: &Path) -> bool {
    let name = name_of(path);
    name == "lost+found" || (name.starts_with(".pool.json.") && name.ends_with(".new"))
}
