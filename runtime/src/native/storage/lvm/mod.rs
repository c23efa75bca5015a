//! Pools of driver `lvm`: every tree is a thin volume with a file system of its own, an ext4 or an XFS.
//!
//! ```text
//! GROUP/THIN-POOL                      where all volumes have their blocks
//! GROUP/keel_…  (tag keel-files)       an ext4 that is mounted at POOL: markers, trash, records of snapshots
//! GROUP/keel_…                         volumes and snapshots, each named in a file, with its file system if that is no ext4:
//! POOL/instances/UID/volume.lv         … of a volume, which is mounted at POOL/instances/UID/disk
//!                   /snapshots/NAME/volume.lv
//! ```
//! A volume is named before it is made and until it is gone, so that none is ever forgotten; folders move as those of all
//! pools do, and LVM knows nothing of it. All that is ours bears a tag with the pool's mark, and nothing without it is removed.
//!
//! The disks of machines are files, as on other pools, in an ext4 of their own that is mounted at `disk`, too: QEMU keeps their
//! layers itself.

mod arguments;
mod ground;
mod group;
mod report;
mod snapshots;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use manifests::path_io::{self, AtPath as _};
use rustix::mount::MountFlags;

use self::group::Group;
use self::snapshots::Thin;
use super::driver::{
    Backing, Ensured, FileSystem, GroupOn, PoolPlan, Sized, StorageFeatures, ThinPoolPlan, VolumeId,
};
use super::error::StorageError;
use super::file_system;
use super::files::{Files, Ground, Limited, TREE};
use super::folders::{fresh_name, is_empty_place, list_or_nothing, make_folder, make_private};
use super::kept_trees::{AtOnce, OwnFileSystem, SNAPSHOTS, is_read};
use super::sized;
use super::unmounting::{Users, unmount_ours, unmount_pool};
use crate::sys::device_mapper::{self, Mapped};
use crate::sys::mount_table;
use crate::sys::remove_tree::{RemoveTreeError, remove_tree};

/// The file in the folder of a volume that names its logical volume.
const NAMED: &str = "volume.lv";
/// The same of one that is to take its place, or has lost it.
const NEXT: &str = "volume.lv.next";

/// Trees that are logical volumes.
#[derive(Debug)]
pub(super) struct ThinVolumes {
    group: Arc<Group>,
}

impl ThinVolumes {
    pub(super) fn new(plan: &PoolPlan) -> Self {
        let thin_pool = match &plan.backing {
            Backing::ThinPool(thin_pool) => thin_pool.clone(),
            // Nothing of that name is ever there.
            _ => ThinPoolPlan {
                group: String::new(),
                thin_pool: String::new(),
                metadata: None,
                on: GroupOn::Somebodys { thin_pool: None },
            },
        };
        Self {
            group: Arc::new(Group::new(thin_pool, &plan.mark)),
        }
    }

    /// Whether the pool's own files are mounted there.
    fn mounted(&self, pool: &Path) -> Result<bool, StorageError> {
        let canonical = pool.canonicalize().unwrap_or_else(|_| pool.to_path_buf());
        let table = mount_table::read()?;
        // The last one lies on top.
        let Some(mount) = table.iter().rev().find(|m| m.mount_point == canonical) else {
            return Ok(false);
        };
        let name = device_mapper::kernel_name(&mount.device)?.unwrap_or_default();
        let of_group = device_mapper::name_of(self.group.name(), "");
        if !name.starts_with(&of_group) || mount.root != Path::new("/") {
            return Err(RemoveTreeError::Mounted { path: canonical }.into());
        }
        Ok(true)
    }

    /// The logical volume that a folder names.
    fn named(&self, folder: &Path) -> Result<Option<Named>, StorageError> {
        named_in(&folder.join(NAMED))
    }

    fn name_of(&self, volume: &Path, id: &VolumeId) -> Result<Named, StorageError> {
        let name = self.named(volume)?;
        name.ok_or_else(|| StorageError::NoVolume(id.clone()))
    }

    /// The device that is mounted at a volume's folder, if it is that of its volume.
    fn mounted_volume(&self, volume: &Path) -> Result<Option<Mapped>, StorageError> {
        match self.named(volume)? {
            None => Ok(None),
            Some(named) => mounted_at(&self.group, &named.name, &volume.join(TREE)),
        }
    }

    /// The bytes that a volume gets. One without a size ends where the pool does.
    fn bytes(&self, size: Option<u64>) -> Result<u64, StorageError> {
        match size {
            Some(size) => self.group.rounded(sized::rounded(size)?),
            None => Ok(self.group.thin_pool()?.size),
        }
    }
}

/// A logical volume as a file names it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Named {
    name: String,
    /// The file system on it.
    kind: FileSystem,
}

impl Named {
    /// What the file says.
    fn text(&self) -> String {
        match self.kind {
            FileSystem::Ext4 => format!("{}\n", self.name),
            FileSystem::Xfs => format!("{} xfs\n", self.name),
        }
    }

    /// What a file says.
    fn of(text: &str) -> Option<Self> {
        let (name, kind) = match text.trim_end().split_once(' ') {
            None => (text.trim_end(), FileSystem::Ext4),
            Some((name, "xfs")) => (name, FileSystem::Xfs),
            Some(_) => return None,
        };
        let digits = name.strip_prefix("keel_")?;
        let is_name = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
        is_name.then(|| Self {
            name: name.to_owned(),
            kind,
        })
    }
}

fn named_in(path: &Path) -> Result<Option<Named>, StorageError> {
    let text = match path_io::read_if_exists(path) {
        // What is beside snapshots and none of them.
        Err(error) if error.kind() == io::ErrorKind::NotADirectory => None,
        other => other?,
    };
    let Some(text) = text else {
        return Ok(None);
    };
    match Named::of(&text) {
        Some(named) => Ok(Some(named)),
        None => Err(StorageError::Broken {
            path: path.to_path_buf(),
            problem: format!("{:?} is no logical volume of a pool", text.trim_end()),
        }),
    }
}

/// The device of a volume, if that is what is mounted at a folder.
fn mounted_at(group: &Group, name: &str, at: &Path) -> Result<Option<Mapped>, StorageError> {
    let canonical = at.canonicalize().unwrap_or_else(|_| at.to_path_buf());
    let table = mount_table::read()?;
    let Some(mount) = table.iter().rev().find(|m| m.mount_point == canonical) else {
        return Ok(None);
    };
    let ours = device_mapper::of_volume(group.name(), name)?;
    Ok(ours.filter(|ours| ours.number == mount.device && mount.root == Path::new("/")))
}

/// Makes a volume that a file names from before it is there, with an empty file system; answers its name.
fn make(group: &Group, file: &Path, size: u64, kind: FileSystem) -> Result<Named, StorageError> {
    group.room()?;
    let name = fresh_name()?;
    let named = Named { name, kind };
    path_io::write_durably(file, named.text())?;
    let (plan, name) = (&group.plan, &named.name);
    let arguments = arguments::make_volume(&plan.group, &plan.thin_pool, name, size, &group.tag);
    group.change("lvcreate", arguments)?;
    file_system::make(&group.device(name)?.path, kind, size)?;
    Ok(named)
}

/// Mounts a volume's file system at a folder of ours; one that is mounted already stays.
fn mount(
    group: &Group,
    named: &Named,
    at: &Path,
    writable: bool,
    options: Option<&str>,
) -> Result<(), StorageError> {
    if mounted_at(group, &named.name, at)?.is_some() {
        return Ok(());
    }
    if let Some(foreign) = mount_table::at_or_below(at)?.first() {
        return Err(RemoveTreeError::Mounted {
            path: foreign.mount_point.clone(),
        }
        .into());
    }
    let device = group.device(&named.name)?.path;
    file_system::mount(&device, at, named.kind, writable, options)
}

/// Unmounts a volume's file system from a folder; answers whether it was mounted.
fn unmount(
    group: &Group,
    name: &str,
    at: &Path,
    users: Users,
    id: &VolumeId,
) -> Result<bool, StorageError> {
    unmount_ours(at, users, id, || Ok(mounted_at(group, name, at)?.is_some()))
}

/// Removes a folder, and the volumes that are named in it and in its folders one step below. Where somebody still has one of
/// these, a folder that has lost its name stays until the next sweep.
fn discard(group: &Group, folder: &Path) -> Result<(), StorageError> {
    let mut names = Vec::new();
    let mut folders = vec![folder.to_path_buf()];
    folders.extend(list_or_nothing(&folder.join(SNAPSHOTS)).unwrap_or_default());
    for one in &folders {
        for file in [NAMED, NEXT] {
            names.extend(named_in(&one.join(file))?.map(|named| named.name));
        }
    }
    if !group.remove(&names)? {
        let name = folder.file_name().unwrap_or_default();
        if name.as_encoded_bytes().starts_with(b".gone-") {
            tracing::warn!(path = %folder.display(), "somebody has files open that are in it: it goes later");
            return Ok(());
        }
        let path = folder.to_path_buf();
        let problem = "somebody still has files open that are in it".to_owned();
        return Err(StorageError::Broken { path, problem });
    }
    Ok(remove_tree(folder)?)
}

impl Files for ThinVolumes {
    const DRIVER: &'static str = "lvm";

    fn features(&self) -> StorageFeatures {
        StorageFeatures {
            sized: Sized::LogicalVolume,
            grow_live: sized::can_grow_live(),
            shrink_stopped: true,
            limit_in_place: false,
        }
    }

    fn ground(&self, pool: &Path) -> Result<Ground, StorageError> {
        self.group.look_anew();
        if self.mounted(pool)? {
            return Ok(Ground::There);
        }
        Ok(match self.group.is_there()? {
            true => Ground::Unmounted,
            false => Ground::Gone,
        })
    }

    fn lay(&self, pool: &Path, may_create: bool) -> Result<Ensured, StorageError> {
        if self.mounted(pool)? {
            return self.group.grow();
        }
        let is_there = is_empty_place(pool)?;
        let Some(raised) = self.group.raise(may_create)? else {
            return Ok(Ensured::Already);
        };
        if !is_there {
            make_private(pool)?;
        }
        let flags = MountFlags::NOSUID | MountFlags::NODEV;
        rustix::mount::mount(&raised.files.path, pool, "ext4", flags, None)
            .at("mount an ext4 on", pool)?;
        make_private(pool)?;
        self.group.grow()?;
        Ok(Ensured::Done)
    }

    fn wipe(&self, _pool: &Path) -> Result<bool, StorageError> {
        // A device is wiped before it becomes a group.
        Ok(false)
    }

    fn lift(&self, pool: &Path) -> Result<(), StorageError> {
        match unmount_pool(pool, || self.mounted(pool))? {
            true => self.group.rest(),
            false => Ok(()),
        }
    }

    fn may_clear(&self) -> Result<(), StorageError> {
        self.group.look_anew();
        self.group.only_ours()
    }

    fn clear(&self) -> Result<(), StorageError> {
        self.group.clear()
    }

    fn total(&self) -> Result<Option<u64>, StorageError> {
        self.group.file_size()
    }

    fn space(&self) -> Result<Option<(u64, u64)>, StorageError> {
        self.group.space().map(Some)
    }

    fn make_tree(
        &self,
        volume: &Path,
        size: Option<u64>,
        kind: FileSystem,
    ) -> Result<(), StorageError> {
        let bytes = self.bytes(size)?;
        make_folder(&volume.join(TREE))?;
        make(&self.group, &volume.join(NAMED), bytes, kind)?;
        Ok(())
    }

    fn make_home(&self, volume: &Path, id: &VolumeId) -> Result<PathBuf, StorageError> {
        self.make_tree(volume, None, FileSystem::Ext4)?;
        self.home(volume, id)
    }

    fn home(&self, volume: &Path, id: &VolumeId) -> Result<PathBuf, StorageError> {
        self.mount(volume, id, None)?;
        let home = volume.join(TREE);
        make_private(&home)?;
        Ok(home)
    }

    fn home_at_hand(&self, volume: &Path) -> Result<Option<PathBuf>, StorageError> {
        let mounted = self.mounted_volume(volume)?;
        Ok(mounted.map(|_| volume.join(TREE)))
    }

    fn has_own(&self, _asked: Option<u64>) -> bool {
        true
    }

    fn at_hand(&self, volume: &Path, _asked: Option<u64>) -> Result<bool, StorageError> {
        Ok(self.mounted_volume(volume)?.is_some())
    }

    fn mount(
        &self,
        volume: &Path,
        id: &VolumeId,
        options: Option<&str>,
    ) -> Result<(), StorageError> {
        let named = self.name_of(volume, id)?;
        mount(&self.group, &named, &volume.join(TREE), true, options)
    }

    fn unmount(&self, volume: &Path, users: Users, id: &VolumeId) -> Result<bool, StorageError> {
        match self.named(volume)? {
            None => Ok(false),
            Some(named) => unmount(&self.group, &named.name, &volume.join(TREE), users, id),
        }
    }

    fn put_away(&self, volume: &Path, id: &VolumeId) -> Result<(), StorageError> {
        if is_read(volume) {
            return Ok(());
        }
        for kept in list_or_nothing(&volume.join(SNAPSHOTS))? {
            if let Some(named) = self.named(&kept)? {
                let at = snapshots::tree_of(&kept);
                unmount(&self.group, &named.name, &at, Users::CutOff, id)?;
            }
        }
        Ok(())
    }

    fn own_file_system(&self, _volume: &Path, _asked: Option<u64>) -> Option<OwnFileSystem> {
        None
    }

    fn limited(&self, volume: &Path, asked: Option<u64>) -> Result<Limited, StorageError> {
        let found = match self.named(volume)? {
            None => None,
            Some(named) => self.group.volume(&named.name)?,
        };
        let size = match (found, asked) {
            // Somebody removed it.
            (None, _) => Some(0),
            (Some(_), None) => None,
            (Some(found), Some(asked)) => match self.bytes(Some(asked))? == found.size {
                true => Some(asked),
                false => Some(found.size),
            },
        };
        Ok(Limited {
            size,
            mounted: Some(self.mounted_volume(volume)?.is_some()),
        })
    }

    fn resize(
        &self,
        volume: &Path,
        id: &VolumeId,
        asked: Option<u64>,
        size: Option<u64>,
    ) -> Result<Ensured, StorageError> {
        let after = match (asked, size) {
            (None, None) => return Ok(Ensured::Already),
            (Some(_), Some(after)) => self.bytes(Some(after))?,
            _ => return Err(StorageError::NeedsRebuild(id.clone())),
        };
        let named = self.name_of(volume, id)?;
        let (name, kind) = (&named.name, named.kind);
        let found = self.group.volume(name)?;
        let before = found
            .ok_or_else(|| StorageError::NoVolume(id.clone()))?
            .size;
        if before == after && asked == size {
            return Ok(Ensured::Already);
        }
        let device = self.group.device(name)?.path;
        let mounted = self.mounted_volume(volume)?.is_some();
        if !mounted && !device_mapper::is_held(&device)? {
            snapshots::fit(&self.group, &named, &volume.join(TREE), before, after, id)?;
        } else if mounted && after >= before && file_system::can_grow_live(kind) {
            snapshots::extend(&self.group, name, before, after)?;
            file_system::fill_live(&volume.join(TREE), kind, after)?;
        } else {
            return Err(StorageError::InUse(id.clone()));
        }
        Ok(Ensured::Done)
    }

    fn used(&self, volume: &Path, _asked: Option<u64>) -> Result<u64, StorageError> {
        let Some(named) = self.named(volume)? else {
            return Ok(0);
        };
        if let Some(mounted) = self.mounted_volume(volume)? {
            // What is not written yet has no blocks yet.
            drop(mounted);
            let at = volume.join(TREE);
            let folder = std::fs::File::open(&at).at("open", &at)?;
            rustix::fs::syncfs(&folder).at("sync", &at)?;
        }
        let found = self.group.volume(&named.name)?;
        Ok(found.map_or(0, |found| found.used()))
    }

    fn used_in_trash(&self, folder: &Path) -> Result<Option<u64>, StorageError> {
        let mut sum = 0;
        let mut folders = vec![folder.to_path_buf()];
        folders.extend(list_or_nothing(&folder.join(SNAPSHOTS))?);
        for folder in folders {
            if let Some(named) = self.named(&folder)? {
                sum += self
                    .group
                    .volume(&named.name)?
                    .map_or(0, |found| found.used());
            }
        }
        Ok(Some(sum))
    }

    fn remove(&self, folder: &Path) -> Result<(), StorageError> {
        if let Some(mount) = mount_table::at_or_below(folder)?.first() {
            return Err(RemoveTreeError::Mounted {
                path: mount.mount_point.clone(),
            }
            .into());
        }
        discard(&self.group, folder)
    }

    fn at_once(&self, volume: &Path, id: &VolumeId, asked: Option<u64>) -> Option<Arc<dyn AtOnce>> {
        Some(Arc::new(Thin {
            group: Arc::clone(&self.group),
            volume: volume.to_path_buf(),
            id: id.clone(),
            asked,
        }))
    }
}
