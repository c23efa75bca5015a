//! What can be wrong with a pool or a volume.

use std::path::PathBuf;

use manifests::path_io::PathError;
use manifests::scalar::byte_size::ByteSize;

use super::driver::VolumeId;
use crate::native::disk_image::DiskError;
use crate::native::send_stream::{ReceiveError, StreamError};
use crate::sys::command::CommandError;
use crate::sys::compare_tree::CompareError;
use crate::sys::copy_tree::CopyTreeError;
use crate::sys::remove_tree::RemoveTreeError;

/// Why a pool or volume could not be made, read, changed or removed.
#[derive(Debug, thiserror::Error)]
pub enum StorageError {
    /// A file operation of ours failed; a full disk shows as `ENOSPC` in here.
    #[error(transparent)]
    Path(#[from] PathError),
    /// A tree could not be removed, or something is mounted in it.
    #[error(transparent)]
    Remove(#[from] RemoveTreeError),
    /// A tree could not be copied.
    #[error(transparent)]
    Copy(#[from] CopyTreeError),
    /// A copy is not as the original is, or cannot be read.
    #[error(transparent)]
    Compare(#[from] CompareError),
    /// What came as a stream could not be taken.
    #[error(transparent)]
    Receive(#[from] ReceiveError),
    /// A stream cannot be read.
    #[error("what was sent {0}")]
    Stream(#[from] StreamError),
    /// A helper program failed.
    #[error(transparent)]
    Command(#[from] CommandError),
    /// The disk of a machine could not be made, read or grown.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// The pool is not where it was: its folder is gone, or the file system under it is not mounted. Nothing is known
    /// about its volumes.
    #[error("the pool at {} is not there", path.display())]
    PoolMissing {
        /// Where it should be.
        path: PathBuf,
    },
    /// What the pool stands on is there and not mounted. Nothing is known about its volumes.
    #[error("the pool at {} is not mounted", path.display())]
    PoolUnmounted {
        /// Where it should be.
        path: PathBuf,
    },
    /// A folder that is to be a pool of btrfs is on another file system.
    #[error("{} is not on a btrfs", path.display())]
    NotBtrfs {
        /// The folder.
        path: PathBuf,
    },
    /// A device that is to be a pool holds something.
    #[error("{} holds something already, and `wipe` is not set: {found}", path.display())]
    DeviceHolds {
        /// The device.
        path: PathBuf,
        /// What was found on it.
        found: String,
    },
    /// There is no volume group of that name.
    #[error("there is no volume group {group}")]
    NoGroup {
        /// The group.
        group: String,
    },
    /// A volume group of the name that a pool was to make is somebody's.
    #[error("there is a volume group {group} already, which is not this pool's")]
    GroupTaken {
        /// The group.
        group: String,
    },
    /// The same of a logical volume.
    #[error("volume group {group} has a logical volume {volume} already, which is not this pool's")]
    VolumeTaken {
        /// The group.
        group: String,
        /// The volume.
        volume: String,
    },
    /// There is no such thin pool.
    #[error("volume group {group} has no thin pool {thin_pool}")]
    NoThinPool {
        /// The group.
        group: String,
        /// The thin pool.
        thin_pool: String,
    },
    /// A volume group is too full for a pool.
    #[error("volume group {group} has {free} bytes free, and the pool needs {needed}")]
    NoRoom {
        /// The group.
        group: String,
        /// Free bytes.
        free: u64,
        /// Bytes for the pool's own records, and its thin pool where it has one of its own.
        needed: u64,
    },
    /// What is made in a thin pool now could not be written to its end.
    #[error("thin pool {group}/{thin_pool} is full: {percent} % of its {what} are in use")]
    PoolFull {
        /// The group.
        group: String,
        /// The thin pool.
        thin_pool: String,
        /// `data` or `metadata`.
        what: &'static str,
        /// Whole percents.
        percent: u64,
    },
    /// The pool's folder is there and cannot be read (I/O error, stale handle, no permission).
    #[error("the pool at {} cannot be reached", path.display())]
    PoolUnreachable {
        /// Where it is.
        path: PathBuf,
        /// The kernel's answer.
        source: PathError,
    },
    /// The folder belongs to somebody else: another mark, or things without any mark.
    #[error("{} belongs to {owner}", path.display())]
    ForeignPool {
        /// The folder.
        path: PathBuf,
        /// The mark found, or `nobody we know`.
        owner: String,
    },
    /// A file of ours cannot be understood.
    #[error("{}: {problem}", path.display())]
    Broken {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// There is no such snapshot.
    #[error("there is no snapshot {0}")]
    NoSnapshot(String),
    /// There is a snapshot of that name.
    #[error("there is a snapshot {0} already")]
    SnapshotExists(String),
    /// There is no such volume.
    #[error("there is no volume {0}")]
    NoVolume(VolumeId),
    /// There is one already.
    #[error("there is already a volume {0}")]
    VolumeExists(VolumeId),
    /// Nothing of that uid is in the trash.
    #[error("nothing with uid {0} is in the trash")]
    NotInTrash(String),
    /// A name with characters that no volume has.
    #[error("{0:?} cannot be the name of a volume")]
    BadName(String),
    /// The pool still has volumes or a trash.
    #[error("the pool at {} still has {what}", path.display())]
    NotEmpty {
        /// The pool.
        path: PathBuf,
        /// `the volume instance/…`, `something in its trash`, …
        what: String,
    },
    /// Not possible while the volume is in use.
    #[error("volume {0} is in use")]
    InUse(VolumeId),
    /// A size that no file system can have.
    #[error("{size} bytes are too few, the least is {least}")]
    TooSmall {
        /// As asked.
        size: u64,
        /// The least that works.
        least: u64,
    },
    /// What is stored does not fit the new size.
    #[error("what is in volume {volume} does not fit into {}", ByteSize::from_bytes(*size))]
    DoesNotFit {
        /// The volume.
        volume: VolumeId,
        /// As asked.
        size: u64,
    },
    /// The disk of a machine would lose its end.
    #[error("volume {volume} has {has} bytes and cannot shrink to {size}")]
    Shrinks {
        /// The volume.
        volume: VolumeId,
        /// Its size.
        has: u64,
        /// As asked.
        size: u64,
    },
    /// The disk of a machine would not hold its image.
    #[error("{size} bytes are fewer than the {image} bytes of the disk in its image")]
    SmallerThanImage {
        /// As asked.
        size: u64,
        /// The size of the disk in the image.
        image: u64,
    },
    /// Nothing says how big a disk is to be.
    #[error("volume {0} is a disk with no other below it and needs a size")]
    NoSize(VolumeId),
    /// Files are asked for where a machine has its own file system.
    #[error("{} is a disk, and only its machine sees the files in it", path.display())]
    NoFiles {
        /// The file of the disk.
        path: PathBuf,
    },
    /// A volume cannot get or lose a size limit in place.
    #[error("volume {0} cannot get or lose its size limit in place; it has to be made anew")]
    NeedsRebuild(VolumeId),
    /// This kernel has no ZFS that pools can lie on.
    #[error("{0}")]
    NoZfs(String),
    /// Somebody has a zpool of that name.
    #[error("there is a zpool {zpool} already, which is not this pool's")]
    ZpoolTaken {
        /// Its name.
        zpool: String,
    },
    /// There is nothing in which a dataset could be made.
    #[error("{dataset} cannot be made: there is nothing above it, or its zpool is not imported")]
    NoZpool {
        /// The dataset.
        dataset: String,
    },
    /// A dataset is encrypted.
    #[error("the key of {dataset} is not there: zfs load-key {dataset}")]
    KeyNotLoaded {
        /// The dataset.
        dataset: String,
    },
    /// A program that makes file systems is missing.
    #[error("{program} (package {package}) is needed and is not installed")]
    NoProgram {
        /// Its name.
        program: &'static str,
        /// The package that has it.
        package: &'static str,
    },
}
