//! What every storage driver does: the seam between the engine and one kind of pool.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::error::StorageError;
use super::kept_trees::{KeptTree, KeptTrees};
use super::layers::LayeredDisk;
use crate::native::disk_image::Format;

/// Which pool a driver is opened for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PoolPlan {
    /// The pool's folder, absolute: `STATE/pools/NAME` or the `source` of its manifest. The folder above must exist.
    pub folder: PathBuf,
    /// Written into the pool when it is made; a pool with another one is foreign.
    pub mark: String,
    /// What its folder stands on.
    pub backing: Backing,
    /// The options with which that is mounted, where the driver mounts it with any, with commas between them.
    pub mount_options: Option<String>,
}

/// What the folder of a pool stands on.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Backing {
    /// Whatever file system it lies in.
    #[default]
    Folder,
    /// A file with a file system, which is mounted there. It is made with the pool, and removed with it.
    LoopFile {
        /// The file, absolute.
        file: PathBuf,
        /// Its size in bytes. It grows, and never gets smaller.
        size: u64,
    },
    /// A block device with a file system, which is mounted there.
    Device {
        /// The device, absolute.
        device: PathBuf,
        /// When the pool is made, what is on the device goes, unless it is a pool.
        wipe: bool,
    },
    /// A volume group of LVM with a thin pool.
    ThinPool(ThinPoolPlan),
    /// A dataset of ZFS, which is mounted there.
    Dataset(DatasetPlan),
}

/// A dataset of ZFS that is a pool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DatasetPlan {
    /// Its name: that of a zpool, or of a dataset in one.
    pub name: String,
    /// What the zpool stands on.
    pub on: ZpoolOn,
}

/// What a zpool stands on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ZpoolOn {
    /// A file. The zpool is made with the pool, and removed with it.
    File {
        /// The file, absolute.
        file: PathBuf,
        /// Its size in bytes. It grows, and never gets smaller.
        size: u64,
    },
    /// A block device. The zpool is made with the pool, and removed with it.
    Device {
        /// The device, absolute.
        device: PathBuf,
        /// When the pool is made, what is on the device goes, unless it is a pool.
        wipe: bool,
    },
    /// What somebody has made: only the dataset is the pool's.
    Somebodys,
}

/// A thin pool of LVM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ThinPoolPlan {
    /// The volume group.
    pub group: String,
    /// The thin pool in it.
    pub thin_pool: String,
    /// Bytes for its metadata when it is made; `None`: as many as LVM thinks.
    pub metadata: Option<u64>,
    /// What the group lies on.
    pub on: GroupOn,
}

/// What a volume group lies on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GroupOn {
    /// A file. The group is made with the pool, and removed with it.
    LoopFile {
        /// The file, absolute.
        file: PathBuf,
        /// Its size in bytes. It grows, and never gets smaller.
        size: u64,
    },
    /// A block device. The group is made with the pool, and removed with it.
    Device {
        /// The device, absolute.
        device: PathBuf,
        /// When the pool is made, what is on the device goes, unless it is a pool.
        wipe: bool,
    },
    /// What somebody has made: only what the pool makes in the group is the pool's.
    Somebodys {
        /// Bytes of the thin pool, which is the pool's own; `None`: that is somebody's, too.
        thin_pool: Option<u64>,
    },
}

/// What a driver can do on the file system where its pool lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StorageFeatures {
    /// A volume may have a size.
    pub sized: Sized,
    /// A volume with a size can grow while it is used.
    pub grow_live: bool,
    /// A volume with a size can shrink while nobody uses it.
    pub shrink_stopped: bool,
    /// A volume can get a size, have a smaller one and lose it again, used or not.
    pub limit_in_place: bool,
}

/// How sizes are enforced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sized {
    /// By a file with its own ext4 on a loop device.
    LoopExt4,
    /// By a logical volume with its own ext4.
    LogicalVolume,
    /// By the file system of the pool.
    Quota,
    /// Not at all, and why.
    No(&'static str),
}

/// One volume of a pool.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", tag = "kind", content = "name")]
pub enum VolumeId {
    /// The writable layer of an instance's root, named by the instance's uid.
    Root(String),
    /// A volume of its own, named by its uid: so it keeps its place when people call it something else.
    Custom(String),
}

impl fmt::Display for VolumeId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Root(uid) => write!(formatter, "instance/{uid}"),
            Self::Custom(name) => write!(formatter, "custom/{name}"),
        }
    }
}

/// What a volume shall be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VolumePlan {
    /// Which.
    pub id: VolumeId,
    /// Whose it is; written onto it.
    pub mark: String,
    /// The image below an instance's root; written onto it.
    pub image: Option<String>,
    /// Bytes; `None`: no limit of its own, and of a disk as many as the one below it has.
    pub size: Option<u64>,
    /// What is in it.
    pub content: VolumeContent,
    /// Its own file system, where its driver gives it one on a device.
    pub own: OwnFiles,
    /// Owner and mode of the volume's own root folder when it is made; a disk has none.
    pub initial: Initial,
}

/// The file system that a volume of files has, where its driver gives each its own on a device.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct OwnFiles {
    /// Which. It stays.
    pub kind: FileSystem,
    /// The options with which it is mounted, with commas between them.
    pub mount_options: Option<String>,
}

/// A file system on a device.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum FileSystem {
    /// ext4.
    #[default]
    Ext4,
    /// XFS, which never gets smaller.
    Xfs,
}

/// What a new volume is made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum VolumeContent {
    /// Files that the host sees too.
    Filesystem,
    /// The disk of a machine.
    Block {
        /// What it is a copy of, that writes nothing to it and keeps what differs. None: it is empty.
        below: Option<DiskBelow>,
    },
    /// The image of a CD.
    Iso {
        /// The file that it is a copy of.
        from: PathBuf,
    },
}

/// A disk of which others are copies. It is never written to, and outlives them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DiskBelow {
    /// Where it lies, absolute.
    pub path: PathBuf,
    /// How its bytes lie.
    pub format: Format,
    /// Its size.
    pub virtual_size: u64,
}

/// What is in a volume that there is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum ContentType {
    /// Files that the host sees too.
    #[default]
    Filesystem,
    /// The disk of a machine.
    Block,
    /// The image of a CD, for machines.
    Iso,
}

/// Owner and mode of a new volume's root folder, as seen in the container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Initial {
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Permission bits.
    pub mode: u32,
}

impl Default for Initial {
    fn default() -> Self {
        Self {
            uid: 0,
            gid: 0,
            mode: 0o755,
        }
    }
}

/// What a pool looks like.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PoolSeen {
    /// Its folder is not there, or is there and empty. What it held is unknown.
    Missing,
    /// Somebody else's.
    Foreign {
        /// The mark found; `None`: there are things without a mark.
        owner: Option<String>,
    },
    /// What it stands on is there and not mounted.
    Unmounted,
    /// Ours.
    Ready {
        /// Bytes used on its file system.
        used: u64,
        /// Bytes of its file system.
        total: u64,
        /// Bytes of the loop file that it stands on; `None`: it stands on none.
        set: Option<u64>,
    },
}

/// What a volume looks like on disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VolumeSeen {
    /// Which.
    pub id: VolumeId,
    /// Whose it is.
    pub mark: String,
    /// The image below an instance's root.
    pub image: Option<String>,
    /// What is in it.
    pub content: ContentType,
    /// Its own file system, as it was asked for.
    pub own: OwnFiles,
    /// Bytes; of a disk those that its machine sees. `None`: no limit of its own, or a disk whose header is spoiled.
    pub size: Option<u64>,
    /// Whether its own file system is mounted in this mount namespace; `None` for one without its own.
    pub mounted: Option<bool>,
    /// Where it lies.
    pub folder: PathBuf,
}

/// Where a volume can be used: id-map these folders into the container, never the folders above.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Placed {
    /// The layers of an instance's root: one mount, so that both may be id-mapped by one clone of it.
    Root {
        /// The folder that holds both; mode 0700.
        folder: PathBuf,
        /// `upperdir` of the overlay.
        upper: PathBuf,
        /// `workdir` of the overlay.
        work: PathBuf,
    },
    /// A volume of its own.
    Custom {
        /// Its root folder.
        folder: PathBuf,
    },
    /// The disk of a machine. Its header has been looked at; what that names as being below is nothing to go by.
    Disk {
        /// The file of the layer that is written to, which only root can open.
        file: PathBuf,
        /// The number of that layer.
        layer: u32,
        /// The layers below it, from the top, with their files.
        below: Vec<(u32, PathBuf)>,
        /// How its bytes lie.
        format: Format,
        /// Its size.
        virtual_size: u64,
    },
}

/// Whether something had to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ensured {
    /// It was so already.
    Already,
    /// It was changed.
    Done,
}

/// A volume under another identity, since another one is made under its own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Becomes {
    /// Which it is then.
    pub volume: VolumeId,
    /// Whose it is then; written onto it.
    pub mark: String,
}

/// Something that waits in the trash.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TrashEntry {
    /// Version of the file's form: 1.
    pub format_version: u32,
    /// Of the deleted instance or volume.
    pub uid: String,
    /// Where it was.
    pub volume: VolumeId,
    /// What it comes back as; `None`: as what it was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub becomes: Option<Becomes>,
    /// Whose it was.
    pub mark: String,
    /// As the caller gave it (RFC 3339).
    pub deleted_at: String,
    /// When it may go, in the same form; `None`: as long after that as it always was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<String>,
    /// How many snapshots it has.
    #[serde(default)]
    pub snapshots: u32,
    /// Whatever the caller needs to make it again.
    pub definition: serde_json::Value,
}

impl TrashEntry {
    /// When it may go, where that is said.
    pub fn expiry(&self) -> Option<jiff::Timestamp> {
        self.expires_at.as_ref()?.parse().ok()
    }
}

/// One pool. Every method may be called again after a crash at any point inside it, and does nothing that is done already.
///
/// Callers hold the lock of the state folder for everything that changes something.
pub trait StorageDriver: Send + Sync {
    /// What it can do.
    fn features(&self) -> StorageFeatures;
    /// What is there.
    ///
    /// # Errors
    /// [`StorageError::PoolUnreachable`].
    fn seen(&self) -> Result<PoolSeen, StorageError>;
    /// Makes the pool, or mounts it, repairs its own folders, lets it be as big as it is to be and removes what crashes left.
    ///
    /// `may_create`: the caller knows that this pool never held anything. Otherwise a missing one is an error.
    ///
    /// # Errors
    /// [`StorageError::PoolMissing`], [`StorageError::ForeignPool`], or what failed.
    fn ensure_pool(&self, may_create: bool) -> Result<Ensured, StorageError>;
    /// Removes what crashes left in it.
    ///
    /// # Errors
    /// [`StorageError::PoolMissing`], [`StorageError::ForeignPool`], or what failed.
    fn sweep(&self) -> Result<(), StorageError>;
    /// Removes an empty pool: our folders and our marker, and the folder itself if it is empty then.
    ///
    /// # Errors
    /// [`StorageError::NotEmpty`], [`StorageError::ForeignPool`], or what failed.
    fn remove_pool(&self) -> Result<Ensured, StorageError>;
    /// The volumes of the pool, without those in the trash.
    ///
    /// # Errors
    /// The pool is missing, foreign or unreachable.
    fn volumes(&self) -> Result<Vec<VolumeSeen>, StorageError>;
    /// Makes a volume if it is not there. One that is there is not compared and not changed.
    ///
    /// # Errors
    /// As [`Self::volumes`], or what failed.
    fn ensure_volume(&self, plan: &VolumePlan) -> Result<Ensured, StorageError>;
    /// Gives a volume another size. Disks only grow, and one for which no size is asked stays as it is.
    ///
    /// # Errors
    /// [`StorageError::InUse`] (when shrinking, or without [`StorageFeatures::grow_live`]), [`StorageError::DoesNotFit`],
    /// [`StorageError::NeedsRebuild`], [`StorageError::Shrinks`], …
    fn resize(&self, id: &VolumeId, size: Option<u64>) -> Result<Ensured, StorageError>;
    /// Says with which options its own file system is mounted from now on, where it has one. What is mounted stays as it is.
    ///
    /// # Errors
    /// [`StorageError::NoVolume`], or what failed.
    fn set_mount_options(
        &self,
        id: &VolumeId,
        options: Option<&str>,
    ) -> Result<Ensured, StorageError>;
    /// Bytes that a volume occupies. Walks the tree of one without its own file system.
    ///
    /// # Errors
    /// [`StorageError::NoVolume`], or what failed.
    fn used(&self, id: &VolumeId) -> Result<u64, StorageError>;
    /// The folder where a volume's files, or the file of its disk, are at the moment; nothing is mounted for it. `None`: its own file system is
    /// not mounted, or there is no such volume.
    fn placed(&self, id: &VolumeId) -> Option<PathBuf>;
    /// The layers of a disk, for snapshots of it.
    ///
    /// # Errors
    /// [`StorageError::NoVolume`], or it is no disk.
    fn layered(&self, id: &VolumeId) -> Result<LayeredDisk, StorageError>;
    /// The snapshots of a volume that are copies of it.
    ///
    /// # Errors
    /// [`StorageError::NoVolume`], or it is the root disk of a machine, which has layers.
    fn kept_trees(&self, id: &VolumeId) -> Result<KeptTrees, StorageError>;
    /// The snapshots of a volume that was just seen, by name: as [`Self::kept_trees`] has them, without another look at the
    /// pool.
    ///
    /// # Errors
    /// As [`Self::kept_trees`].
    fn kept_of(&self, seen: &VolumeSeen) -> Result<BTreeMap<String, KeptTree>, StorageError>;
    /// One volume as it is; `None`: there is none.
    ///
    /// # Errors
    /// As [`Self::volumes`].
    fn volume(&self, id: &VolumeId) -> Result<Option<VolumeSeen>, StorageError>;

    /// Makes a volume usable (mounts it and its pool if they need that) and tells where.
    ///
    /// # Errors
    /// [`StorageError::NoVolume`], or what failed.
    fn place(&self, id: &VolumeId) -> Result<Placed, StorageError>;
    /// Undoes [`Self::place`].
    ///
    /// # Errors
    /// [`StorageError::InUse`].
    fn release(&self, id: &VolumeId) -> Result<Ensured, StorageError>;
    /// Removes a volume and everything in it for good. Nobody may be using it.
    ///
    /// # Errors
    /// Something that is not ours is mounted in it; then nothing is removed.
    fn remove_volume(&self, id: &VolumeId) -> Result<Ensured, StorageError>;
    /// Moves a volume to the trash. If it is not there, what is told about it is kept nevertheless.
    ///
    /// # Errors
    /// As [`Self::remove_volume`].
    fn trash(&self, entry: &TrashEntry) -> Result<Ensured, StorageError>;
    /// What is in the trash, and what was taken out of it and not settled with [`Self::end_untrash`].
    ///
    /// # Errors
    /// As [`Self::volumes`].
    fn trashed(&self) -> Result<Vec<TrashEntry>, StorageError> {
        self.trashed_but(&BTreeSet::new())
    }
    /// As [`Self::trashed`], for who knows that these instances are settled: to look at each takes long where there are many.
    ///
    /// # Errors
    /// As [`Self::volumes`].
    fn trashed_but(&self, settled: &BTreeSet<String>) -> Result<Vec<TrashEntry>, StorageError>;
    /// Moves something back to where it was and returns what was told about it; also when it is back already.
    ///
    /// # Errors
    /// [`StorageError::NotInTrash`], [`StorageError::VolumeExists`].
    fn untrash(&self, uid: &str) -> Result<TrashEntry, StorageError>;
    /// Says that whoever took something out of the trash knows it now: it is listed there no longer.
    ///
    /// # Errors
    /// What was told about it could not be removed.
    fn end_untrash(&self, uid: &str) -> Result<(), StorageError>;
    /// Bytes that something in the trash occupies, with its snapshots; `None`: it is not there.
    ///
    /// # Errors
    /// It cannot be counted.
    fn used_in_trash(&self, uid: &str) -> Result<Option<u64>, StorageError>;
    /// Removes something from the trash for good; what is not there is fine.
    ///
    /// # Errors
    /// It could not be removed.
    fn purge(&self, uid: &str) -> Result<Ensured, StorageError>;
}
