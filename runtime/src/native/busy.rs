//! Instances and volumes of which a backup is being written: whoever writes it holds no lock of the state folder, and what
//! would disturb him is refused meanwhile.
//!
//! `reading/UID` of the state folder is locked by who reads, and says in a word what. It is made under the lock of the state
//! folder. Where nobody holds it any more, its reader was killed: the next sweep removes it, and what he had copied.

use std::fs::File;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::PathBuf;

use manifests::action::Verb;
use manifests::id::Uid;
use manifests::path_io::{self, AtPath as _, PathError};
use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use super::host::Host;
use crate::error::{Class, RuntimeError};

/// The folder of those that are read.
const READING: &str = "reading";

/// What is read of an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Read {
    /// Its very files: nobody may write to them.
    Live,
    /// Copies and snapshots of them: they may not go.
    Kept,
}

impl Read {
    const fn word(self) -> &'static str {
        match self {
            Self::Live => "live",
            Self::Kept => "kept",
        }
    }

    /// Whether a deed would disturb who reads.
    pub(super) const fn is_disturbed_by(self, verb: &Verb) -> bool {
        match verb {
            Verb::Trash { .. } | Verb::Delete | Verb::Rebuild | Verb::Replace | Verb::Restore => {
                true
            }
            Verb::Create | Verb::Update { .. } | Verb::Power { .. } => matches!(self, Self::Live),
            // It is only called otherwise, or owned by another one.
            Verb::Rename { .. } | Verb::Adopt | Verb::Forget => false,
        }
    }
}

/// An object that we read.
#[derive(Debug)]
pub(super) struct Busy {
    path: PathBuf,
    _held: File,
}

impl Drop for Busy {
    fn drop(&mut self) {
        // One that stays is found to be nobody's, and the folder stays with what is in it.
        let _ = path_io::remove_file(&self.path);
        let _ = self.path.parent().map(path_io::remove_empty_dir);
    }
}

fn folder(host: &Host) -> PathBuf {
    host.state().join(READING)
}

fn failed(error: PathError) -> RuntimeError {
    RuntimeError::new("look who reads", Class::NeedsOperator, error)
}

fn open(path: &PathBuf, make: bool) -> Result<Option<File>, PathError> {
    let file = File::options()
        .read(true)
        .write(true)
        .create(make)
        .truncate(false)
        .mode(0o600)
        .open(path);
    match file {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound && !make => Ok(None),
        other => Ok(Some(other.at("open", path)?)),
    }
}

/// Locks it; false: somebody else has.
fn lock(file: &File, path: &PathBuf) -> Result<bool, PathError> {
    match flock(file, FlockOperation::NonBlockingLockExclusive) {
        Err(Errno::WOULDBLOCK) => Ok(false),
        other => other.at("lock", path).map(|()| true),
    }
}

fn conflict() -> RuntimeError {
    let why = "a backup of it is being written: try again when that is done";
    RuntimeError::new("change", Class::Conflict, why)
}

/// Says that an object is read from now on.
///
/// # Errors
/// Somebody else reads it.
pub(super) fn begin(host: &Host, uid: &Uid, read: Read) -> Result<Busy, RuntimeError> {
    path_io::create_dir_all(folder(host)).map_err(failed)?;
    let path = folder(host).join(uid.to_string());
    let file = open(&path, true).map_err(failed)?;
    let file = file.ok_or_else(conflict)?;
    if !lock(&file, &path).map_err(failed)? {
        return Err(conflict());
    }
    let mark = Busy { path, _held: file };
    // In its place: who looks finds the very file that is locked.
    std::os::unix::fs::FileExt::write_all_at(&mark._held, read.word().as_bytes(), 0)
        .at("write", &mark.path)
        .map_err(failed)?;
    Ok(mark)
}

/// What somebody else reads of an object now.
pub(super) fn read_of(host: &Host, uid: &Uid) -> Result<Option<Read>, RuntimeError> {
    let path = folder(host).join(uid.to_string());
    let Some(file) = open(&path, false).map_err(failed)? else {
        return Ok(None);
    };
    if lock(&file, &path).map_err(failed)? {
        return Ok(None);
    }
    let word = path_io::read_to_string(&path).map_err(failed)?;
    Ok(Some(match word == Read::Kept.word() {
        true => Read::Kept,
        false => Read::Live,
    }))
}

/// Refuses a deed on an object that would disturb who reads it.
///
/// # Errors
/// It would.
pub(super) fn refuse(
    host: &Host,
    uid: &Uid,
    disturbed: impl Fn(Read) -> bool,
) -> Result<(), RuntimeError> {
    match read_of(host, uid)? {
        Some(read) if disturbed(read) => Err(conflict()),
        _ => Ok(()),
    }
}

/// Readers that were killed.
fn dead(host: &Host) -> Result<Vec<PathBuf>, PathError> {
    let all = match path_io::list(folder(host)) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Vec::new(),
        other => other?,
    };
    let mut dead = Vec::new();
    for path in all {
        if let Some(file) = open(&path, false)?
            && lock(&file, &path)?
        {
            dead.push(path);
        }
    }
    Ok(dead)
}

/// The objects whose readers were killed.
///
/// # Errors
/// The folder cannot be read.
pub(super) fn left(host: &Host) -> Result<Vec<Uid>, PathError> {
    let dead = dead(host)?;
    let names = dead.iter().filter_map(|path| path.file_name()?.to_str());
    Ok(names.filter_map(|name| name.parse().ok()).collect())
}

/// Whether a reader was killed, and left a copy.
pub(super) fn is_littered(host: &Host) -> bool {
    dead(host).is_ok_and(|dead| !dead.is_empty())
}

/// Forgets readers that were killed: what they copied is removed by now.
pub(super) fn sweep(host: &Host) -> Result<(), PathError> {
    for path in dead(host)? {
        path_io::remove_file(path)?;
    }
    match path_io::remove_empty_dir(folder(host)) {
        Err(error) if error.kind() == std::io::ErrorKind::DirectoryNotEmpty => Ok(()),
        other => other,
    }
}
