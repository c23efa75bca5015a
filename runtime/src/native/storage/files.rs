//! What makes one driver of pools that are folders differ from another: how trees are made, limited and deleted, and what
//! the folder of the pool stands on.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::driver::{Ensured, FileSystem, StorageFeatures, VolumeId};
use super::error::StorageError;
use super::kept_trees::{AtOnce, OwnFileSystem, Subvolume};
use super::unmounting::Users;

/// The tree of a volume in its folder.
pub(super) const TREE: &str = "disk";

/// What the folder of a pool stands on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ground {
    /// What is in the folder is what the pool holds, if there is one.
    There,
    /// There is a file system for it, which is not mounted.
    Unmounted,
    /// There is nothing that could be mounted there.
    Gone,
}

/// How much a volume holds at most.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Limited {
    /// Bytes, spelled as they were asked for where that is the same.
    pub(super) size: Option<u64>,
    /// Whether its own file system is mounted; `None` for one without its own.
    pub(super) mounted: Option<bool>,
}

/// One way to keep trees in a folder. `asked` is the size that was asked of a volume when it was made or resized last.
pub(super) trait Files: fmt::Debug + Send + Sync {
    /// Its word in the marker of a pool.
    const DRIVER: &'static str;
    /// What it can do.
    fn features(&self) -> StorageFeatures;
    /// What is there.
    fn ground(&self, pool: &Path) -> Result<Ground, StorageError>;
    /// Puts the pool's folder on its ground, and lets that be as big as it is to be. Makes the ground only with `may_create`.
    fn lay(&self, pool: &Path, may_create: bool) -> Result<Ensured, StorageError>;
    /// Makes empty ground of one that holds only what is nobody's, where that is wished; answers whether it did.
    fn wipe(&self, pool: &Path) -> Result<bool, StorageError>;
    /// Takes the pool's folder off its ground.
    fn lift(&self, pool: &Path) -> Result<(), StorageError>;
    /// Fails where something of others would go with that ground.
    fn may_clear(&self) -> Result<(), StorageError> {
        Ok(())
    }
    /// Removes ground that is of no use without the pool, which is empty.
    fn clear(&self) -> Result<(), StorageError>;
    /// Bytes of the ground as they are set, where they are set.
    fn total(&self) -> Result<Option<u64>, StorageError>;
    /// Bytes in use and all bytes, where those of the pool's folder do not tell.
    fn space(&self) -> Result<Option<(u64, u64)>, StorageError> {
        Ok(None)
    }

    /// Makes the tree of a volume in its folder; `kind`: its file system, where it has one of its own on a device.
    fn make_tree(
        &self,
        volume: &Path,
        size: Option<u64>,
        kind: FileSystem,
    ) -> Result<(), StorageError>;
    /// Makes a place for the disk of a machine in the folder of a volume, and tells where it is.
    fn make_home(&self, volume: &Path, id: &VolumeId) -> Result<PathBuf, StorageError>;
    /// Makes that place usable.
    fn home(&self, volume: &Path, _id: &VolumeId) -> Result<PathBuf, StorageError> {
        Ok(volume.to_path_buf())
    }
    /// That place, if it is usable without further ado.
    fn home_at_hand(&self, volume: &Path) -> Result<Option<PathBuf>, StorageError> {
        Ok(Some(volume.to_path_buf()))
    }
    /// Whether the tree of such a volume has a file system of its own, or else a limit, without which it is not usable.
    fn has_own(&self, asked: Option<u64>) -> bool {
        asked.is_some()
    }
    /// Whether what is in the tree can be used.
    fn at_hand(&self, volume: &Path, asked: Option<u64>) -> Result<bool, StorageError>;
    /// Makes that of a volume with a size so; `options`: those of its file system, where it has one of its own on a device.
    fn mount(
        &self,
        volume: &Path,
        id: &VolumeId,
        options: Option<&str>,
    ) -> Result<(), StorageError>;
    /// Undoes that; answers whether there was something to undo.
    fn unmount(&self, volume: &Path, users: Users, id: &VolumeId) -> Result<bool, StorageError>;
    /// Unmounts what readers of snapshots have in place.
    fn put_away(&self, _volume: &Path, _id: &VolumeId) -> Result<(), StorageError> {
        Ok(())
    }
    /// The file system of its own that a volume with a size has.
    fn own_file_system(&self, volume: &Path, asked: Option<u64>) -> Option<OwnFileSystem>;
    /// How it is limited.
    fn limited(&self, volume: &Path, asked: Option<u64>) -> Result<Limited, StorageError>;
    /// Limits it otherwise.
    fn resize(
        &self,
        volume: &Path,
        id: &VolumeId,
        asked: Option<u64>,
        size: Option<u64>,
    ) -> Result<Ensured, StorageError>;
    /// Bytes that the tree occupies.
    fn used(&self, volume: &Path, asked: Option<u64>) -> Result<u64, StorageError>;
    /// Waits until all that was written is counted.
    fn count(&self) -> Result<(), StorageError> {
        Ok(())
    }
    /// The same of a folder in the trash with all that is in it; `None`: as its files tell.
    fn used_in_trash(&self, _folder: &Path) -> Result<Option<u64>, StorageError> {
        Ok(None)
    }
    /// Removes a folder and the trees in it.
    fn remove(&self, folder: &Path) -> Result<(), StorageError>;
    /// What a snapshot of a volume is made of at once, whoever writes to it; `None`: it is copied file by file.
    fn subvolume(&self, _volume: &Path, _asked: Option<u64>) -> Option<Subvolume> {
        None
    }
    /// The same where it is no folder of the pool's file system.
    fn at_once(
        &self,
        _volume: &Path,
        _id: &VolumeId,
        _asked: Option<u64>,
    ) -> Option<Arc<dyn AtOnce>> {
        None
    }
}
