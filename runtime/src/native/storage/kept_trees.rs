//! [`KeptTrees`]: the snapshots of a volume, each a copy of its tree, or of the one file that is a disk.
//!
//! ```text
//! VOLUME/snapshots/NAME/snapshot.json   when, by whom, what for
//!                      /tree            the files as they were, or the disk
//! VOLUME/snapshots/.held                those who use it are frozen until a copy of its files is made
//! ```
//! A snapshot gets its name when it is complete, and loses it before anything in it is removed. Blocks are shared with
//! the original where the file system can; elsewhere a snapshot costs as much as it holds. Where trees are subvolumes the
//! kernel makes it at once, with all that it is needed for beside the files (`/tree/upper`, `/tree/data`); there a snapshot
//! has its name before, and is none until it has its tree: so that one commit of the file system is enough.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use manifests::id::Uid;
use manifests::path_io::{self, AtPath as _};
use rustix::fs::FlockOperation;
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use super::btrfs;
use super::driver::VolumeId;
use super::error::StorageError;
use super::folders::{files_of, make_private, sync_folder};
use super::marker;
use super::sized;
use super::unmounting::Users;
use crate::sys::compare_tree::compare;
use crate::sys::copy_tree::{CopyTreeError, copy_file, copy_tree, exchange};
use crate::sys::remove_tree::remove_tree;

pub(super) const SNAPSHOTS: &str = "snapshots";
const RECORD: &str = "snapshot.json";
const TREE: &str = "tree";
const HELD: &str = ".held";
const NEW: &str = ".new-";
/// A copy that is no snapshot: who makes a backup reads it and removes it. Its folder is locked as long as he lives.
const PASSING: &str = ".new-.passing";
const GONE: &str = ".gone-";
/// What is to become the file system or the folder of a volume that goes back to a snapshot.
const NEXT: &str = ".next";

/// A snapshot.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct KeptTree {
    /// When it was made.
    pub created_at: jiff::Timestamp,
    /// What for.
    #[serde(default)]
    pub description: String,
    /// The schedule that made it.
    #[serde(default)]
    pub made_by: Option<Uid>,
    /// When it may go.
    #[serde(default)]
    pub expires_at: Option<jiff::Timestamp>,
    /// Whatever the caller needs to know of what it is a snapshot of.
    pub about: serde_json::Value,
}

/// A copy that is read: nobody sweeps it away.
#[derive(Debug)]
pub struct Passing {
    /// The copy of the tree, or of the disk.
    pub at: PathBuf,
    _held: File,
}

/// The snapshots of one volume.
#[derive(Debug, Clone)]
pub struct KeptTrees {
    /// The volume's own folder.
    pub(super) volume: PathBuf,
    /// Which volume it is.
    pub(super) id: VolumeId,
    /// The folder with its files, in `place`; or the file that is its disk.
    pub(super) tree: PathBuf,
    /// Its own file system where it has a size, and where that is mounted.
    pub(super) own: Option<OwnFileSystem>,
    /// Its subvolume, where it is one.
    pub(super) subvolume: Option<Subvolume>,
    /// What makes copies of it at once, where it is a volume of its own below its file system.
    pub(super) at_once: Option<Arc<dyn AtOnce>>,
}

/// Copies of a volume that are made at once, whoever writes to it, below its file system. `folder` is that of a snapshot,
/// which belongs to the copy.
pub(super) trait AtOnce: fmt::Debug + Send + Sync {
    /// Keeps the volume as it is now.
    fn keep(&self, folder: &Path) -> Result<(), StorageError>;
    /// Makes what is kept readable, and tells where.
    fn kept(&self, folder: &Path) -> Result<PathBuf, StorageError>;
    /// Makes an empty one, for files that come from elsewhere, and tells where they go.
    fn empty(&self, folder: &Path) -> Result<PathBuf, StorageError>;
    /// These are all there.
    fn seal(&self, folder: &Path) -> Result<(), StorageError>;
    /// Puts what is kept in the place of the volume, which nobody uses.
    fn revert(&self, folder: &Path) -> Result<(), StorageError>;
    /// Removes a folder, and what is kept with it or was begun.
    fn discard(&self, folder: &Path) -> Result<(), StorageError>;
    /// Removes what a [`Self::revert`] that was cut short left.
    fn clear_next(&self) -> Result<(), StorageError>;
}

/// The subvolume of a volume.
#[derive(Debug, Clone)]
pub(super) struct Subvolume {
    /// Its root folder.
    pub(super) path: PathBuf,
    /// The bytes that it may hold.
    pub(super) size: Option<u64>,
}

/// The file system of a volume with a size.
#[derive(Debug, Clone)]
pub(super) struct OwnFileSystem {
    /// Its file.
    pub(super) file: PathBuf,
    /// Where it is mounted.
    pub(super) at: PathBuf,
}

impl KeptTrees {
    fn folder(&self) -> PathBuf {
        self.volume.join(SNAPSHOTS)
    }

    /// All of them by name.
    ///
    /// # Errors
    /// They cannot be listed, or a record is damaged.
    pub fn all(&self) -> Result<BTreeMap<String, KeptTree>, StorageError> {
        let mut all = BTreeMap::new();
        for (name, folder) in self.entries()? {
            if !name.starts_with('.')
                && (self.subvolume.is_none() || folder.join(TREE).exists())
                && let Some(kept) = marker::read(&folder.join(RECORD))?
            {
                all.insert(name, kept);
            }
        }
        Ok(all)
    }

    /// Everything in the folder of snapshots, with its name.
    fn entries(&self) -> Result<Vec<(String, PathBuf)>, StorageError> {
        let entries = match path_io::list(self.folder()) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            other => other?,
        };
        let named = entries.into_iter().map(|path| {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            (name.into_owned(), path)
        });
        Ok(named.collect())
    }

    /// Where one is: the copy of the tree, or of the disk.
    ///
    /// # Errors
    /// There is none.
    pub fn kept(&self, name: &str) -> Result<PathBuf, StorageError> {
        if !self.all()?.contains_key(name) {
            return Err(StorageError::NoSnapshot(name.to_owned()));
        }
        if let Some(at_once) = &self.at_once {
            return Ok(at_once
                .kept(&self.folder().join(name))?
                .join(files_of(&self.id)));
        }
        let tree = self.folder().join(name).join(TREE);
        Ok(match self.subvolume.is_some() && btrfs::is_one(&tree) {
            true => tree.join(files_of(&self.id)),
            false => tree,
        })
    }

    /// Whether nobody may write to the files while a snapshot is made of them.
    pub const fn needs_stillness(&self) -> bool {
        self.subvolume.is_none() && self.at_once.is_none()
    }

    /// Copies the files as they are now; they must be in place, and nobody may write to them.
    ///
    /// # Errors
    /// There is one of that name, or the copy cannot be made (a full disk, an interruption): then there is no snapshot.
    pub fn create(
        &self,
        name: &str,
        kept: &KeptTree,
        go_on: &mut dyn FnMut() -> bool,
    ) -> Result<(), StorageError> {
        let folder = self.folder().join(name);
        if self.all()?.contains_key(name) {
            return Err(StorageError::SnapshotExists(name.to_owned()));
        }
        if let Some(subvolume) = &self.subvolume {
            return self.keep(subvolume, &folder, kept);
        }
        let new = self.folder().join(format!("{NEW}{name}"));
        self.discard(&new)?;
        make_private(&self.folder())?;
        make_private(&new)?;
        let made = (|| {
            match &self.at_once {
                Some(at_once) => at_once.keep(&new)?,
                None => {
                    copy(&self.tree, &new.join(TREE), go_on)?;
                }
            }
            self.complete(name, kept)
        })();
        if made.is_err()
            && let Err(error) = self.discard(&new)
        {
            tracing::warn!(path = %new.display(), %error, "left an unfinished snapshot behind");
        }
        made
    }

    /// The folder with the files of the volume, where it is in place.
    pub fn tree(&self) -> &Path {
        &self.tree
    }

    /// Copies the files as they are now, for somebody who only reads them once; [`Self::passed`] follows. As for a snapshot,
    /// they must be in place, and nobody may write to them.
    ///
    /// # Errors
    /// The copy cannot be made.
    pub fn pass(&self, go_on: &mut dyn FnMut() -> bool) -> Result<Passing, StorageError> {
        self.passed()?;
        make_private(&self.folder())?;
        let folder = self.folder().join(PASSING);
        make_private(&folder)?;
        let held = File::open(&folder).at("open", &folder)?;
        rustix::fs::flock(&held, FlockOperation::NonBlockingLockExclusive).at("lock", &folder)?;
        let tree = folder.join(TREE);
        let files = files_of(&self.id);
        let made = match (&self.subvolume, &self.at_once) {
            (Some(subvolume), _) => {
                btrfs::keep(&subvolume.path, &folder, TREE).map(|()| tree.join(files))
            }
            (None, Some(at_once)) => at_once
                .keep(&folder)
                .and_then(|()| Ok(at_once.kept(&folder)?.join(files))),
            (None, None) => match copy(&self.tree, &tree, go_on) {
                Ok(_) => Ok(tree),
                Err(error) => Err(error.into()),
            },
        };
        match made {
            Ok(at) => Ok(Passing { at, _held: held }),
            Err(error) => {
                self.passed()?;
                Err(error)
            }
        }
    }

    /// Removes the copy.
    ///
    /// # Errors
    /// Something of it cannot be removed.
    pub fn passed(&self) -> Result<(), StorageError> {
        self.discard(&self.folder().join(PASSING))
    }

    /// Where the tree of a snapshot goes that comes from elsewhere; [`Self::complete`] follows.
    ///
    /// # Errors
    /// There is one of that name, or the folder cannot be made.
    pub fn prepare(&self, name: &str) -> Result<PathBuf, StorageError> {
        if self.all()?.contains_key(name) {
            return Err(StorageError::SnapshotExists(name.to_owned()));
        }
        let new = self.folder().join(format!("{NEW}{name}"));
        self.discard(&new)?;
        make_private(&self.folder())?;
        make_private(&new)?;
        match &self.at_once {
            Some(at_once) => Ok(at_once.empty(&new)?.join(files_of(&self.id))),
            None => Ok(new.join(TREE)),
        }
    }

    /// Where that is.
    pub fn prepared(&self, name: &str) -> PathBuf {
        let tree = self.folder().join(format!("{NEW}{name}")).join(TREE);
        match self.at_once.is_some() {
            true => tree.join(files_of(&self.id)),
            false => tree,
        }
    }

    /// Gives a snapshot its name whose tree was put where [`Self::prepare`] said.
    ///
    /// # Errors
    /// The record cannot be written.
    pub fn complete(&self, name: &str, kept: &KeptTree) -> Result<(), StorageError> {
        let new = self.folder().join(format!("{NEW}{name}"));
        if let Some(at_once) = &self.at_once {
            at_once.seal(&new)?;
        }
        let path = new.join(RECORD);
        path_io::write_durably(&path, marker::text(&path, kept)?)?;
        path_io::rename(&new, self.folder().join(name))?;
        sync_folder(&self.folder())
    }

    /// Copies all of them to another volume, which has none yet, and compares the copies.
    ///
    /// # Errors
    /// One cannot be copied, or does not fit.
    pub fn carry(&self, to: &Self, go_on: &mut dyn FnMut() -> bool) -> Result<(), StorageError> {
        for (name, kept) in self.all()? {
            let tree = to.prepare(&name)?;
            let from = self.kept(&name)?;
            copy(&from, &tree, go_on)?;
            compare(&from, &tree, go_on)?;
            to.complete(&name, &kept)?;
        }
        Ok(())
    }

    fn keep(
        &self,
        subvolume: &Subvolume,
        folder: &Path,
        kept: &KeptTree,
    ) -> Result<(), StorageError> {
        make_private(&self.folder())?;
        // What a crash left there has no tree.
        btrfs::discard(folder)?;
        make_private(folder)?;
        let made = (|| {
            let path = folder.join(RECORD);
            let mut file = File::create(&path).at("create", &path)?;
            file.write_all(marker::text(&path, kept)?.as_bytes())
                .at("write to", &path)?;
            file.sync_all().at("sync", &path)?;
            btrfs::keep(&subvolume.path, folder, TREE)
        })();
        if made.is_err()
            && let Err(error) = remove_tree(folder)
        {
            tracing::warn!(path = %folder.display(), %error, "left an unfinished snapshot behind");
        }
        made
    }

    /// As [`Self::revert`], to a kept subvolume: the one that is there becomes it at once.
    fn unkeep(&self, subvolume: &Subvolume, kept: &Path) -> Result<(), StorageError> {
        let next = next_to(&subvolume.path);
        let name = next.file_name().unwrap_or_default();
        btrfs::unkeep(kept, &self.volume, name, subvolume.size)?;
        if !subvolume.path.exists() {
            // Somebody deleted it.
            path_io::rename(&next, &subvolume.path)?;
            return sync_folder(&self.volume);
        }
        exchange(&next, &subvolume.path)?;
        sync_folder(&self.volume)?;
        btrfs::discard(&next)
    }

    /// Puts the files of a snapshot in the place of those that are there; nobody may be using the volume. What was
    /// written since is gone. Nothing is changed before all of it is copied.
    ///
    /// # Errors
    /// There is no such snapshot, it does not fit any more, or the volume is in use.
    pub fn revert(&self, name: &str, go_on: &mut dyn FnMut() -> bool) -> Result<(), StorageError> {
        if let Some(at_once) = &self.at_once {
            if !self.all()?.contains_key(name) {
                return Err(StorageError::NoSnapshot(name.to_owned()));
            }
            at_once.clear_next()?;
            return at_once.revert(&self.folder().join(name));
        }
        let from = self.kept(name)?;
        self.clear_next()?;
        if let Some(subvolume) = &self.subvolume
            && let Some(kept) = from.parent().filter(|kept| btrfs::is_one(kept))
        {
            return self.unkeep(subvolume, kept);
        }
        let Some(own) = &self.own else {
            let next = next_to(&self.tree);
            let done = copy(&from, &next, go_on)
                .map_err(StorageError::from)
                .and_then(|_| {
                    exchange(&next, &self.tree)?;
                    // Before what was there is removed: a power cut must not bring half of it back.
                    sync_folder(self.tree.parent().unwrap_or(&self.volume))
                });
            remove_tree(&next)?;
            return done;
        };
        sized::unmount(&own.file, &own.at, Users::Respect, &self.id)?;
        let size = own.file.metadata().at("look at", &own.file)?.len();
        let (file, at) = (next_to(&own.file), next_to(&own.at));
        let name_of_tree = self.tree.file_name().unwrap_or_default();
        let done = (|| {
            sized::make(&file, size)?;
            make_private(&at)?;
            sized::mount(&file, &at, &self.id)?;
            match copy_tree(&from, &at.join(name_of_tree), go_on) {
                Err(error) if error.is_full() => {
                    return Err(StorageError::DoesNotFit {
                        volume: self.id.clone(),
                        size,
                    });
                }
                other => other?,
            };
            sized::unmount(&file, &at, Users::Respect, &self.id)?;
            exchange(&file, &own.file)?;
            sync_folder(&self.volume)
        })();
        self.clear_next()?;
        done
    }

    /// Gives one another name.
    ///
    /// # Errors
    /// There is none, or another has the name.
    pub fn rename(&self, from: &str, to: &str) -> Result<(), StorageError> {
        let (before, after) = (self.folder().join(from), self.folder().join(to));
        if after.exists() {
            return Err(StorageError::SnapshotExists(to.to_owned()));
        }
        match path_io::rename(before, after) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(StorageError::NoSnapshot(from.to_owned()));
            }
            other => other?,
        }
        sync_folder(&self.folder())
    }

    /// Removes one.
    ///
    /// # Errors
    /// There is none, or something of it cannot be removed: then it has no name any more.
    pub fn delete(&self, name: &str) -> Result<(), StorageError> {
        let gone = self.folder().join(format!("{GONE}{name}"));
        self.discard(&gone)?;
        match path_io::rename(self.folder().join(name), &gone) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(StorageError::NoSnapshot(name.to_owned()));
            }
            other => other?,
        }
        self.discard(&gone)
    }

    /// Removes a tree that is a snapshot or what is left of one.
    fn discard(&self, path: &Path) -> Result<(), StorageError> {
        if let Some(at_once) = &self.at_once {
            return at_once.discard(path);
        }
        match self.subvolume {
            Some(_) => btrfs::discard(path),
            None => Ok(remove_tree(path)?),
        }
    }

    /// Says that instances are about to be frozen for a copy, for those who come after a crash.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn hold(&self, whom: &str) -> Result<(), StorageError> {
        make_private(&self.folder())?;
        Ok(path_io::write_durably(self.folder().join(HELD), whom)?)
    }

    /// Who was frozen for a copy and was not let go yet, as [`Self::hold`] was told.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn held(&self) -> Result<Option<String>, StorageError> {
        Ok(path_io::read_if_exists(self.folder().join(HELD))?)
    }

    /// Says that it goes on.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn let_go(&self) -> Result<(), StorageError> {
        Ok(path_io::remove_file(self.folder().join(HELD))?)
    }

    /// Removes what a crash left half made.
    pub(super) fn sweep(&self) -> Result<(), StorageError> {
        for (name, path) in self.entries()? {
            let cut_short =
                self.subvolume.is_some() && !name.starts_with('.') && !path.join(TREE).exists();
            if name == PASSING && is_held(&path) {
                continue;
            }
            if name.starts_with(NEW) || name.starts_with(GONE) || cut_short {
                self.discard(&path)?;
            }
        }
        self.clear_next()
    }

    fn clear_next(&self) -> Result<(), StorageError> {
        if let Some(at_once) = &self.at_once {
            return at_once.clear_next();
        }
        if let Some(own) = &self.own {
            let (file, at) = (next_to(&own.file), next_to(&own.at));
            if file.exists() || at.exists() {
                sized::unmount(&file, &at, Users::CutOff, &self.id)?;
                remove_tree(&at)?;
                remove_tree(&file)?;
            }
        }
        if let Some(subvolume) = &self.subvolume {
            btrfs::discard(&next_to(&subvolume.path))?;
        }
        Ok(remove_tree(&next_to(&self.tree))?)
    }
}

/// Whether somebody reads a copy of a volume, for a backup: what is in place for him stays so until he has ended.
pub(super) fn is_read(volume: &Path) -> bool {
    is_held(&volume.join(SNAPSHOTS).join(PASSING))
}

/// Whether somebody who lives has locked a folder.
fn is_held(folder: &Path) -> bool {
    let locked = File::open(folder)
        .map(|open| rustix::fs::flock(&open, FlockOperation::NonBlockingLockExclusive));
    matches!(locked, Ok(Err(Errno::WOULDBLOCK)))
}

/// Copies a tree or a file.
pub(super) fn copy(
    from: &Path,
    to: &Path,
    go_on: &mut dyn FnMut() -> bool,
) -> Result<u64, CopyTreeError> {
    match from.symlink_metadata().is_ok_and(|found| found.is_file()) {
        true => copy_file(from, to, go_on),
        false => copy_tree(from, to, go_on),
    }
}

/// Puts a copy of another tree or disk in the place of what an empty volume holds. `to` is what it is placed as. Nothing of
/// it is seen before all of it is copied.
///
/// # Errors
/// It cannot be copied, or does not fit: the volume is as empty as before.
pub fn fill(from: &Path, to: &Path, go_on: &mut dyn FnMut() -> bool) -> Result<(), StorageError> {
    let next = next_to(to);
    remove_tree(&next)?;
    let done = copy(from, &next, go_on)
        .map_err(StorageError::from)
        .and_then(|_| {
            exchange(&next, to)?;
            sync_folder(to.parent().unwrap_or(to))
        });
    remove_tree(&next)?;
    done
}

pub(super) fn next_to(path: &Path) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(NEXT);
    path.with_file_name(name)
}
