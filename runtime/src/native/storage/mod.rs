//! Storage pools and volumes behind one driver trait.
//!
//! To add a driver: a file here that implements [`StorageDriver`] (or `Files`, where its pools are folders), a word in [`DriverKind`] with its arm in [`open`], and
//! a line in `conformance.rs`, which runs every suite on it.

mod block;
mod btrfs;
#[cfg(test)]
mod conformance;
#[cfg(test)]
mod conformance_block;
#[cfg(test)]
mod conformance_btrfs;
#[cfg(test)]
mod conformance_lvm;
#[cfg(test)]
mod conformance_tools;
#[cfg(test)]
mod conformance_zfs;
mod copied;
mod dir;
mod driver;
mod error;
mod file_system;
mod files;
mod folder_pool;
mod folder_sweep;
mod folder_trash;
mod folders;
mod kept_trees;
mod layers;
mod lvm;
mod marker;
mod receiving;
mod released;
mod root_view;
mod sending;
mod sized;
mod unmounting;
mod usage;
mod zfs;

use std::path::Path;

use crate::sys::compare_tree;

pub use driver::{
    Backing, Becomes, ContentType, DatasetPlan, DiskBelow, Ensured, FileSystem, GroupOn, Initial,
    OwnFiles, Placed, PoolPlan, PoolSeen, Sized, StorageDriver, StorageFeatures, ThinPoolPlan,
    TrashEntry, VolumeContent, VolumeId, VolumePlan, VolumeSeen, ZpoolOn,
};
pub use error::StorageError;
pub use kept_trees::{KeptTree, KeptTrees, Passing, fill};
pub use layers::{Kept, LayeredDisk, Layers, Pending};
pub use receiving::Receiving;
pub use released::released;
pub use root_view::{open_merged, open_stopped_root};
pub use sending::{Sending, Sent};
pub use zfs::trouble as zfs_trouble;

/// Compares files or a disk with what was copied of them.
///
/// # Errors
/// They differ, or cannot be read.
pub fn compare(
    original: &Path,
    copy: &Path,
    go_on: &mut dyn FnMut() -> bool,
) -> Result<(), StorageError> {
    Ok(compare_tree::compare(original, copy, go_on)?)
}

/// The drivers that this engine has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DriverKind {
    /// A folder.
    Dir,
    /// A folder of a btrfs.
    Btrfs,
    /// A thin pool of LVM.
    Lvm,
    /// A dataset of ZFS.
    Zfs,
}

/// The driver for a pool. Nothing is read or made yet.
pub fn open(kind: DriverKind, plan: PoolPlan) -> Box<dyn StorageDriver> {
    match kind {
        DriverKind::Dir => Box::new(folder_pool::FolderPool::new(plan, dir::Plain)),
        DriverKind::Btrfs => {
            let files = btrfs::Subvolumes::new(&plan);
            Box::new(folder_pool::FolderPool::new(plan, files))
        }
        DriverKind::Lvm => {
            let files = lvm::ThinVolumes::new(&plan);
            Box::new(folder_pool::FolderPool::new(plan, files))
        }
        DriverKind::Zfs => {
            let files = zfs::DatasetFiles::new(&plan);
            Box::new(folder_pool::FolderPool::new(plan, files))
        }
    }
}
