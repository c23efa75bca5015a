//! [`StateFolder`]: where everything that lasts is kept, who may change it now, and a reserve for a full disk.
//!
//! `keel.db`, `id`, `lock`, `reserve`, `images/`, `pools/`, `instances/UID/`, `trash/`; mode 0700.

mod holder;

use std::fs::{File, OpenOptions};
use std::io::{Read as _, Seek as _, Write as _};
use std::os::unix::fs::{
    DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _,
};
use std::path::{Path, PathBuf};
use std::time::Duration;

use manifests::path_io::{self, AtPath as _, PathError};
use runtime::native::cgroup::Patience;
use rustix::fs::{FallocateFlags, FlockOperation, fallocate, flock};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// Bytes kept in reserve, so that what was begun can be settled on a full disk.
pub const RESERVE: u64 = 16 << 20;

/// For how long a lock may outlive who took it: a program that was just started has it until it is executed.
const INHERITED: Duration = Duration::from_secs(2);

/// Who holds the lock.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LockOwner {
    /// For `keel unlock ID`.
    pub id: String,
    /// The process.
    pub pid: u32,
    /// What it does: `keel apply`.
    pub command: String,
    /// Since when.
    pub since: jiff::Timestamp,
}

/// What `keel unlock` came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unlocked {
    /// Nobody held the lock.
    Nobody,
    /// Its holder was ended: the next command goes on with what it began.
    Ended(LockOwner),
    /// Its holder cannot be ended, as one that waits for a dead disk, or was not found.
    TakenAway(LockOwner),
}

/// The state folder cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StateFolderError {
    /// A file operation failed.
    #[error("cannot use the state folder")]
    Path(#[from] PathError),
    /// The folder belongs to somebody else or others may write to it.
    #[error("{} is not safe: {why}", path.display())]
    NotSafe {
        /// The folder.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// Its `id` file does not hold what was written there.
    #[error("{} does not hold an identity of eight hexadecimal digits", path.display())]
    NotAnId {
        /// The file.
        path: PathBuf,
    },
    /// Somebody else changes things now.
    #[error("{}", busy(owner.as_ref()))]
    Busy {
        /// Who; none if it has not said so yet.
        owner: Option<LockOwner>,
    },
    /// `keel unlock` named another lock than the one that is held.
    #[error("the lock has the id {held}, not {asked}")]
    OtherLock {
        /// The id of the lock.
        held: String,
        /// The id that was named.
        asked: String,
    },
}

fn busy(owner: Option<&LockOwner>) -> String {
    owner.map_or_else(
        || "somebody else changes things now".to_owned(),
        |owner| {
            format!(
                "`{}` (process {}) changes things since {}; its lock has the id {}",
                owner.command, owner.pid, owner.since, owner.id
            )
        },
    )
}

/// An open state folder.
#[derive(Debug, Clone)]
pub struct StateFolder {
    path: PathBuf,
    id: String,
}

impl StateFolder {
    /// Opens a state folder; makes it where there is none, with an identity of its own.
    ///
    /// # Errors
    /// It cannot be made or read, or somebody else may write to it.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, StateFolderError> {
        let path = path.as_ref();
        if !path.exists() {
            std::fs::DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(path)
                .at("create", path)?;
        }
        let path = path.canonicalize().at("open", path)?;
        let facts = path.metadata().at("look at", &path)?;
        let own = rustix::process::geteuid().as_raw();
        if facts.uid() != own {
            return Err(StateFolderError::NotSafe {
                why: format!("it belongs to user {}, not {own}", facts.uid()),
                path,
            });
        }
        if facts.mode() & 0o777 != 0o700 {
            let mut mode = facts.permissions();
            mode.set_mode(0o700);
            path_set_permissions(&path, mode)?;
        }
        for folder in ["images", "pools", "instances", "trash"] {
            let folder = path.join(folder);
            if !folder.is_dir() {
                path_io::ensure_dir(&folder)?;
            }
        }
        let id = identity(&path.join("id"))?;
        let folder = Self { path, id };
        folder.fill_reserve();
        Ok(folder)
    }

    /// Its path, absolute, without symbolic links.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Its identity: eight hexadecimal digits, the same for its whole life.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The database of store and journal.
    pub fn database(&self) -> PathBuf {
        self.path.join("keel.db")
    }

    /// Image layers and metadata.
    pub fn images(&self) -> PathBuf {
        self.path.join("images")
    }

    /// Pools without a `source` of their own.
    pub fn pools(&self) -> PathBuf {
        self.path.join("pools")
    }

    /// Definitions of instances, by identity.
    pub fn instances(&self) -> PathBuf {
        self.path.join("instances")
    }

    /// What was deleted and is kept for some days.
    pub fn trash(&self) -> PathBuf {
        self.path.join("trash")
    }

    /// What runs; gone after a host start. Who is not root, and only speaks with a server, has a place of their own for it.
    pub fn run(&self) -> PathBuf {
        match rustix::process::geteuid().is_root() {
            true => Path::new("/run/keel").join(&self.id),
            // Not below /run/user, which comes and goes with the sessions of a person.
            false => self.path.join("run"),
        }
    }

    /// Takes the lock, for one batch of changes. It ends with the guard and with the process.
    ///
    /// # Errors
    /// [`StateFolderError::Busy`] at once if somebody else holds it, and after a moment if nobody who is known does.
    pub fn lock(&self, command: &str, now: jiff::Timestamp) -> Result<Lock, StateFolderError> {
        self.take("lock", command, now)
    }

    /// Makes sure that there is no other controller, until what it answers is dropped.
    ///
    /// # Errors
    /// [`StateFolderError::Busy`]: there is one.
    pub fn only_controller(&self, now: jiff::Timestamp) -> Result<Lock, StateFolderError> {
        self.take("controller.lock", "keel run", now)
    }

    /// Tells the controller of this folder to look again; answers whether there is one.
    ///
    /// # Errors
    /// Its lock cannot be read, or the kernel refuses.
    pub fn nudge_controller(&self) -> Result<bool, StateFolderError> {
        let path = self.path.join("controller.lock");
        if !path.exists() {
            return Ok(false);
        }
        let mut file = open_lock(&path)?;
        let Some(owner) = read_owner(&mut file) else {
            return Ok(false);
        };
        let told = holder::tell_to_look(owner.pid, &file).at("signal who holds", &path);
        Ok(told?)
    }

    fn take(
        &self,
        file: &str,
        command: &str,
        now: jiff::Timestamp,
    ) -> Result<Lock, StateFolderError> {
        let path = self.path.join(file);
        let mut patience = Patience::new(INHERITED);
        loop {
            let mut file = open_lock(&path)?;
            match flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => {}
                Err(rustix::io::Errno::WOULDBLOCK) => {
                    let owner = read_owner(&mut file);
                    let held = owner.as_ref().is_some_and(|o| holder::holds(o.pid, &file));
                    if !held && patience.wait() {
                        continue;
                    }
                    return Err(StateFolderError::Busy { owner });
                }
                Err(errno) => {
                    return Err(manifests::path_io::PathError {
                        path,
                        doing: "lock",
                        source: errno.into(),
                    }
                    .into());
                }
            }
            // `unlock` may have put another file in its place between open and flock.
            if !same_file(&file, &path) {
                continue;
            }
            let owner = LockOwner {
                id: eight_digits(),
                pid: std::process::id(),
                command: command.to_owned(),
                since: now,
            };
            write_owner(&mut file, Some(&owner)).at("write to", &path)?;
            return Ok(Lock { file, path, owner });
        }
    }

    /// Who holds the lock now.
    ///
    /// # Errors
    /// The lock file cannot be opened.
    pub fn lock_owner(&self) -> Result<Option<LockOwner>, StateFolderError> {
        let path = self.path.join("lock");
        let mut file = open_lock(&path)?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(None),
            Err(_) => Ok(read_owner(&mut file)),
        }
    }

    /// Ends the process that holds the lock. One that cannot be ended loses the lock: it begins no further step.
    ///
    /// # Errors
    /// Another lock is held than the one named.
    pub fn unlock(&self, id: &str) -> Result<Unlocked, StateFolderError> {
        let path = self.path.join("lock");
        let Some(owner) = self.lock_owner()? else {
            return Ok(Unlocked::Nobody);
        };
        if owner.id != id {
            return Err(StateFolderError::OtherLock {
                held: owner.id,
                asked: id.to_owned(),
            });
        }
        if holder::end(owner.pid, &open_lock(&path)?) {
            return Ok(Unlocked::Ended(owner));
        }
        // The holder keeps its lock on a file that no longer has a name, and finds that out before its next step.
        path_io::remove_file(&path)?;
        Ok(Unlocked::TakenAway(owner))
    }

    /// Gives the reserve back to the file system.
    pub fn free_reserve(&self) {
        let path = self.path.join("reserve");
        if let Err(error) = path_io::remove_file(&path) {
            tracing::warn!(%error, "the reserve could not be freed");
        }
    }

    /// Keeps bytes in reserve again. That it cannot is worth a word in the log and nothing else.
    fn fill_reserve(&self) {
        let path = self.path.join("reserve");
        if path.metadata().is_ok_and(|facts| facts.len() == RESERVE) {
            return;
        }
        let filled = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path)
            .and_then(|file| Ok(fallocate(&file, FallocateFlags::empty(), 0, RESERVE)?));
        if let Err(error) = filled {
            tracing::warn!(%error, path = %path.display(), "no reserve is kept");
            self.free_reserve();
        }
    }
}

fn path_set_permissions(path: &Path, mode: std::fs::Permissions) -> Result<(), PathError> {
    std::fs::set_permissions(path, mode).at("change the mode of", path)
}

/// Eight random hexadecimal digits: the tail of a version 7 UUID, whose head is the time.
fn eight_digits() -> String {
    Uuid::now_v7().simple().to_string().split_off(24)
}

fn identity(path: &Path) -> Result<String, StateFolderError> {
    if let Some(text) = path_io::read_if_exists(path)? {
        let id = text.trim();
        if id.len() == 8 && id.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Ok(id.to_owned());
        }
        return Err(StateFolderError::NotAnId {
            path: path.to_path_buf(),
        });
    }
    let id = eight_digits();
    // Two that open a new folder at once must agree: whoever links first wins.
    let temporary = path.with_extension(&id);
    path_io::write_durably(&temporary, format!("{id}\n"))?;
    let linked = std::fs::hard_link(&temporary, path);
    path_io::remove_file(&temporary)?;
    match linked {
        Ok(()) => Ok(id),
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => identity(path),
        Err(source) => {
            let path = path.to_path_buf();
            Err(manifests::path_io::PathError {
                path,
                doing: "create",
                source,
            }
            .into())
        }
    }
}

fn open_lock(path: &Path) -> Result<File, PathError> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)
        .at("open", path)
}

fn read_owner(file: &mut File) -> Option<LockOwner> {
    let mut text = String::new();
    file.rewind().ok()?;
    file.read_to_string(&mut text).ok()?;
    serde_json::from_str(&text).ok()
}

fn write_owner(file: &mut File, owner: Option<&LockOwner>) -> std::io::Result<()> {
    file.set_len(0)?;
    file.rewind()?;
    if let Some(owner) = owner {
        file.write_all(serde_json::to_string(owner)?.as_bytes())?;
    }
    Ok(())
}

fn same_file(file: &File, path: &Path) -> bool {
    match (file.metadata(), path.metadata()) {
        (Ok(a), Ok(b)) => (a.dev(), a.ino()) == (b.dev(), b.ino()),
        _ => false,
    }
}

/// The right to change things, until it is dropped.
#[derive(Debug)]
pub struct Lock {
    file: File,
    path: PathBuf,
    owner: LockOwner,
}

impl Lock {
    /// Who holds it.
    pub const fn owner(&self) -> &LockOwner {
        &self.owner
    }

    /// Whether `keel unlock` has not taken it away.
    pub fn still_held(&self) -> bool {
        same_file(&self.file, &self.path)
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // Closing the file releases the lock; clearing it first keeps the name of a past owner out of later errors.
        if let Err(error) = write_owner(&mut self.file, None) {
            tracing::debug!(%error, "the lock file could not be cleared");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now() -> jiff::Timestamp {
        "2026-07-05T01:00:00Z".parse().expect("a time")
    }

    #[test]
    fn a_folder_keeps_its_identity_and_is_private() {
        let place = tempfile::tempdir().expect("a folder");
        let path = place.path().join("state");
        let first = StateFolder::open(&path).expect("a new one");
        let again = StateFolder::open(&path).expect("the same");
        assert_eq!(first.id(), again.id());
        let mode = path.metadata().expect("it is there").mode();
        assert_eq!(mode & 0o777, 0o700);
        let reserve = path.join("reserve").metadata().expect("a reserve");
        assert_eq!(reserve.len(), RESERVE);
        assert!(reserve.blocks() * 512 >= RESERVE, "really allocated");
        first.free_reserve();
        assert!(!path.join("reserve").exists());
    }

    #[test]
    fn a_busy_lock_names_its_owner_and_ends_with_its_guard() {
        let place = tempfile::tempdir().expect("a folder");
        let folder = StateFolder::open(place.path()).expect("a new one");
        let lock = folder.lock("keel apply", now()).expect("free");
        match folder.lock("keel apply", now()) {
            Err(StateFolderError::Busy { owner: Some(owner) }) => assert_eq!(&owner, lock.owner()),
            other => panic!("{other:?}"),
        }
        drop(lock);
        assert_eq!(folder.lock_owner().expect("readable"), None);
        drop(folder.lock("keel apply", now()).expect("free again"));
    }

    #[test]
    fn an_unlocked_owner_finds_out() {
        let place = tempfile::tempdir().expect("a folder");
        let folder = StateFolder::open(place.path()).expect("a new one");
        let first = folder.lock("keel apply", now()).expect("free");
        assert!(matches!(
            folder.unlock("ffffffff"),
            Err(StateFolderError::OtherLock { .. })
        ));
        let id = first.owner().id.clone();
        assert_eq!(
            folder.unlock(&id).expect("its id"),
            // Nobody ends itself.
            Unlocked::TakenAway(first.owner().clone())
        );
        assert!(!first.still_held());
        let second = folder.lock("keel apply", now()).expect("free");
        assert!(second.still_held());
        drop(first);
        assert!(second.still_held());
        assert_eq!(
            folder.lock_owner().expect("readable").as_ref(),
            Some(second.owner())
        );
    }
}
