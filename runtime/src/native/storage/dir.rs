//! Pools of driver `dir`: a folder of any file system.
//!
//! ```text
//! POOL/pool.json                       whose pool this is
//! POOL/instances/UID/volume.json       what this volume is
//!                   /disk/             its files (upper/, work/); the mount point of …
//!                   /disk.ext4         … its file system, if it has a size
//!                   /disk.qcow2        or, of a machine, its disk
//! POOL/volumes/NAME/…                  the same, with disk/data/
//! POOL/trash/UID/trash.json            an instance's or volume's folder as it was, and what it was
//! ```
//! A folder gets its name when it is complete, and loses it before anything in it is removed; names that start with
//! `.new-` or `.gone-` are what a crash left.

use std::fs::File;
use std::io;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use manifests::path_io::{self, AtPath as _, PathError};

use super::block;
use super::driver::{
    ContentType, Ensured, Placed, PoolPlan, PoolSeen, Sized, StorageDriver, StorageFeatures,
    TrashEntry, VolumeContent, VolumeId, VolumePlan, VolumeSeen,
};
use super::error::StorageError;
use super::folders::{
    files_of, list_or_nothing, make_folder, make_private, name_of, prepare, sync_folder,
};
use super::kept_trees::{KeptTrees, OwnFileSystem};
use super::layers::LayeredDisk;
use super::marker::{self, PoolMarker, VolumeMarker};
use super::sized::{self, Users};
use crate::sys::mount_table;
use crate::sys::remove_tree::{RemoveTreeError, remove_tree};

const INSTANCES: &str = "instances";
const VOLUMES: &str = "volumes";
const TRASH: &str = "trash";
const POOL_MARKER: &str = "pool.json";
const VOLUME_MARKER: &str = "volume.json";
const TRASH_MARKER: &str = "trash.json";
const DISK: &str = "disk";
const DISK_FILE: &str = "disk.ext4";
const NEW: &str = ".new-";
const GONE: &str = ".gone-";

/// A pool that is a folder.
#[derive(Debug)]
pub(super) struct DirPool {
    plan: PoolPlan,
}

impl DirPool {
    pub(super) fn new(plan: PoolPlan) -> Self {
        Self { plan }
    }

    fn pool(&self) -> &Path {
        &self.plan.folder
    }

    fn missing(&self) -> StorageError {
        StorageError::PoolMissing {
            path: self.pool().to_path_buf(),
        }
    }

    /// Fails unless the pool is there and ours: nothing is ever written below a mount point whose file system is away.
    fn check(&self) -> Result<(), StorageError> {
        match self.state()? {
            State::Ours => Ok(()),
            State::Missing | State::Empty => Err(self.missing()),
            State::Foreign(owner) => Err(self.foreign(owner)),
        }
    }

    fn foreign(&self, owner: Option<String>) -> StorageError {
        StorageError::ForeignPool {
            path: self.pool().to_path_buf(),
            owner: owner.unwrap_or_else(|| "nobody we know".to_owned()),
        }
    }

    fn state(&self) -> Result<State, StorageError> {
        let unreachable = |source: PathError| StorageError::PoolUnreachable {
            path: self.pool().to_path_buf(),
            source,
        };
        let marker = self.pool().join(POOL_MARKER);
        match marker::read::<PoolMarker>(&marker) {
            Ok(Some(found)) if found.mark == self.plan.mark && found.driver == "dir" => {
                return Ok(State::Ours);
            }
            Ok(Some(found)) => return Ok(State::Foreign(Some(found.mark))),
            Ok(None) => {}
            Err(StorageError::Path(error)) if error.kind() == io::ErrorKind::NotADirectory => {
                return Ok(State::Foreign(None));
            }
            Err(StorageError::Path(error)) => return Err(unreachable(error)),
            Err(other) => return Err(other),
        }
        match path_io::list(self.pool()) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(State::Missing),
            Err(error) if error.kind() == io::ErrorKind::NotADirectory => Ok(State::Foreign(None)),
            Err(error) => Err(unreachable(error)),
            Ok(entries) if entries.iter().all(|entry| means_nothing(entry)) => Ok(State::Empty),
            Ok(_) => Ok(State::Foreign(None)),
        }
    }

    fn folder_of(&self, id: &VolumeId) -> Result<PathBuf, StorageError> {
        let (kind, name) = match id {
            VolumeId::Root(uid) => (INSTANCES, uid),
            VolumeId::Custom(name) => (VOLUMES, name),
        };
        Ok(self.pool().join(kind).join(checked_name(name)?))
    }

    fn trash_of(&self, uid: &str) -> Result<PathBuf, StorageError> {
        Ok(self.pool().join(TRASH).join(checked_name(uid)?))
    }

    fn marker_of(&self, id: &VolumeId) -> Result<VolumeMarker, StorageError> {
        self.check()?;
        marker::read(&self.folder_of(id)?.join(VOLUME_MARKER))?
            .ok_or_else(|| StorageError::NoVolume(id.clone()))
    }

    /// Unmounts what is ours in a volume's folder, and fails if anything else is mounted there.
    fn clear_mounts(folder: &Path, users: Users, id: &VolumeId) -> Result<Ensured, StorageError> {
        let disk = folder.join(DISK);
        let ours = disk.canonicalize().unwrap_or_else(|_| disk.clone());
        let foreign = |left: &[mount_table::MountEntry], ours: &Path| {
            left.iter()
                .find(|mount| mount.mount_point != ours)
                .map(|mount| RemoveTreeError::Mounted {
                    path: mount.mount_point.clone(),
                })
        };
        // Before: an unmount that cuts off users would take what others mounted inside with it.
        if let Some(error) = foreign(&mount_table::at_or_below(folder)?, &ours) {
            return Err(error.into());
        }
        let was = sized::unmount(&folder.join(DISK_FILE), &disk, users, id)?;
        // After: what lies on the same folder and is not ours.
        if let Some(error) = foreign(&mount_table::at_or_below(folder)?, Path::new("")) {
            return Err(error.into());
        }
        Ok(if was { Ensured::Done } else { Ensured::Already })
    }

    /// Takes a folder its name and removes it. What a crash leaves of it is swept.
    fn remove_folder(&self, folder: &Path) -> Result<Ensured, StorageError> {
        let above = folder.parent().unwrap_or(self.pool());
        let mut name = std::ffi::OsString::from(GONE);
        name.push(folder.file_name().unwrap_or_default());
        let gone = above.join(name);
        // Left by a crash after the same name was used again.
        remove_tree(&gone)?;
        match path_io::rename(folder, &gone) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Ensured::Already),
            other => other?,
        }
        remove_tree(&gone)?;
        Ok(Ensured::Done)
    }

    fn clear_up(&self) -> Result<(), StorageError> {
        path_io::sweep_unfinished(self.pool())?;
        for kind in [INSTANCES, VOLUMES, TRASH] {
            for path in list_or_nothing(&self.pool().join(kind))? {
                let name = name_of(&path);
                if name.starts_with(NEW) || name.starts_with(GONE) {
                    let id = VolumeId::Root(name);
                    Self::clear_mounts(&path, Users::CutOff, &id)?;
                    remove_tree(&path)?;
                } else if path.join(DISK).exists() {
                    trees(path, VolumeId::Root(name), true).sweep()?;
                }
            }
        }
        Ok(())
    }

    /// Removes the pool's folder; a mount point, or a folder with things of others, stays.
    fn remove_own_folder(&self) -> Result<(), StorageError> {
        match path_io::remove_empty_dir(self.pool()) {
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::DirectoryNotEmpty | io::ErrorKind::ResourceBusy
                ) =>
            {
                Ok(())
            }
            other => Ok(other?),
        }
    }

    /// What was taken out of the trash and is not settled: the folders in which what was told still lies. It stays beside
    /// the volume, so that a caller who was killed before keeping it can ask again.
    fn untrashed(&self) -> Result<Vec<(PathBuf, TrashEntry)>, StorageError> {
        let mut found = Vec::new();
        for kind in [INSTANCES, VOLUMES] {
            for path in list_or_nothing(&self.pool().join(kind))? {
                if let Some(entry) = marker::read::<TrashEntry>(&path.join(TRASH_MARKER))? {
                    found.push((path, entry));
                }
            }
        }
        Ok(found)
    }

    fn seen_volume(&self, path: &Path, id: VolumeId) -> Result<Option<VolumeSeen>, StorageError> {
        let Some(found) = marker::read::<VolumeMarker>(&path.join(VOLUME_MARKER))? else {
            // Removed since it was listed.
            return Ok(None);
        };
        let file = path.join(DISK_FILE);
        let (mut size, mut mounted) = (None, None);
        if found.content == ContentType::Block {
            let disk = LayeredDisk::new(path.to_path_buf(), id.clone());
            size = block::size(&disk.file(disk.layers()?.active), found.size)?;
        } else if let Some(asked) = found.size {
            // The file is the truth; what was asked for is only how its size is spelled.
            let length = match file.metadata().at("look at", &file) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => 0,
                other => other?.len(),
            };
            let as_asked = sized::rounded(asked).is_ok_and(|rounded| rounded == length);
            size = Some(if as_asked { asked } else { length });
            mounted = Some(sized::mounted_device(&file, &path.join(DISK))?.is_some());
        }
        Ok(Some(VolumeSeen {
            id,
            mark: found.mark,
            image: found.image,
            content: found.content,
            size,
            mounted,
            folder: path.to_path_buf(),
        }))
    }
}

enum State {
    Ours,
    Missing,
    Empty,
    Foreign(Option<String>),
}

impl StorageDriver for DirPool {
    fn features(&self) -> StorageFeatures {
        StorageFeatures {
            sized: if Path::new("/dev/loop-control").exists() {
                Sized::LoopExt4
            } else {
                Sized::No("this host has no loop devices")
            },
            grow_live: sized::can_grow_live(),
            shrink_stopped: true,
        }
    }

    fn seen(&self) -> Result<PoolSeen, StorageError> {
        match self.state()? {
            State::Missing | State::Empty => return Ok(PoolSeen::Missing),
            State::Foreign(owner) => return Ok(PoolSeen::Foreign { owner }),
            State::Ours => {}
        }
        let space = rustix::fs::statvfs(self.pool()).at("look at", self.pool())?;
        Ok(PoolSeen::Ready {
            used: space.f_blocks.saturating_sub(space.f_bfree) * space.f_frsize,
            total: space.f_blocks * space.f_frsize,
        })
    }

    fn ensure_pool(&self, may_create: bool) -> Result<Ensured, StorageError> {
        let mut done = Ensured::Already;
        match self.state()? {
            State::Ours => {}
            State::Foreign(owner) => return Err(self.foreign(owner)),
            State::Missing | State::Empty if !may_create => return Err(self.missing()),
            State::Missing | State::Empty => {
                make_private(self.pool())?;
                let path = self.pool().join(POOL_MARKER);
                let marker = PoolMarker {
                    format_version: 1,
                    driver: "dir".to_owned(),
                    mark: self.plan.mark.clone(),
                };
                path_io::write_durably(&path, marker::text(&path, &marker)?)?;
                if let Some(above) = self.pool().parent() {
                    sync_folder(above)?;
                }
                done = Ensured::Done;
            }
        }
        for kind in [INSTANCES, VOLUMES, TRASH] {
            make_private(&self.pool().join(kind))?;
        }
        self.clear_up()?;
        Ok(done)
    }

    fn sweep(&self) -> Result<(), StorageError> {
        self.check()?;
        self.clear_up()
    }

    fn remove_pool(&self) -> Result<Ensured, StorageError> {
        match self.state()? {
            State::Missing => return Ok(Ensured::Already),
            State::Empty => {
                // Making or removing it was cut short. A folder that we have left no file in may be somebody's mount
                // point.
                let before = path_io::list(self.pool())?.len();
                path_io::sweep_unfinished(self.pool())?;
                if path_io::list(self.pool())?.len() < before {
                    self.remove_own_folder()?;
                }
                return Ok(Ensured::Already);
            }
            State::Foreign(owner) => return Err(self.foreign(owner)),
            State::Ours => {}
        }
        self.clear_up()?;
        for (kind, what) in [
            (INSTANCES, "the root of instance"),
            (VOLUMES, "the volume"),
            (TRASH, "in its trash"),
        ] {
            if let Some(first) = list_or_nothing(&self.pool().join(kind))?.first() {
                return Err(StorageError::NotEmpty {
                    path: self.pool().to_path_buf(),
                    what: format!("{what} {}", name_of(first)),
                });
            }
        }
        for kind in [INSTANCES, VOLUMES, TRASH] {
            path_io::remove_empty_dir(self.pool().join(kind))?;
        }
        path_io::remove_file(self.pool().join(POOL_MARKER))?;
        self.remove_own_folder()?;
        Ok(Ensured::Done)
    }

    fn volumes(&self) -> Result<Vec<VolumeSeen>, StorageError> {
        self.check()?;
        let mut found = Vec::new();
        #[expect(clippy::type_complexity, reason = "a table of two")]
        let kinds: [(&str, fn(String) -> VolumeId); 2] =
            [(INSTANCES, VolumeId::Root), (VOLUMES, VolumeId::Custom)];
        for (kind, id) in kinds {
            for path in list_or_nothing(&self.pool().join(kind))? {
                let name = name_of(&path);
                if !name.starts_with('.')
                    && let Some(seen) = self.seen_volume(&path, id(name))?
                {
                    found.push(seen);
                }
            }
        }
        Ok(found)
    }

    fn ensure_volume(&self, plan: &VolumePlan) -> Result<Ensured, StorageError> {
        self.check()?;
        let folder = self.folder_of(&plan.id)?;
        if let Some(marker) = marker::read::<VolumeMarker>(&folder.join(VOLUME_MARKER))? {
            if marker.image == plan.image {
                return Ok(Ensured::Already);
            }
            // A rebuild that was cut short: what is there was made from the image before.
            self.remove_volume(&plan.id)?;
        }
        let above = folder.parent().unwrap_or(self.pool());
        let new = above.join(format!("{NEW}{}", name_of(&folder)));
        match make_folder(&new) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                remove_tree(&new)?;
                make_folder(&new)?;
            }
            other => other?,
        }
        let marker = VolumeMarker::of(plan);
        let made = (|| {
            match &plan.content {
                VolumeContent::Filesystem => {
                    make_folder(&new.join(DISK))?;
                    match plan.size {
                        None => prepare(&new.join(DISK), &plan.id, marker.initial())?,
                        Some(size) => sized::make(&new.join(DISK_FILE), size)?,
                    }
                }
                VolumeContent::Block { below } => {
                    block::make(&new.join(block::FILE), plan.size, below.as_ref(), &plan.id)?;
                }
            }
            let path = new.join(VOLUME_MARKER);
            // One fsync: on a journalled file system it carries the folders made before it.
            let mut file = File::create(&path).at("create", &path)?;
            file.write_all(marker::text(&path, &marker)?.as_bytes())
                .at("write to", &path)?;
            file.sync_all().at("sync", &path)?;
            // The rename itself may be lost by a power cut: then the volume is not there and is made again.
            Ok(path_io::rename(&new, &folder)?)
        })();
        if let Err(error) = made {
            if let Err(leftover) = remove_tree(&new) {
                tracing::warn!(path = %new.display(), error = %leftover, "left an unfinished volume behind");
            }
            return Err(error);
        }
        Ok(Ensured::Done)
    }

    fn resize(&self, id: &VolumeId, size: Option<u64>) -> Result<Ensured, StorageError> {
        let mut marker = self.marker_of(id)?;
        let folder = self.folder_of(id)?;
        if marker.content == ContentType::Block {
            let Some(wanted) = size else {
                return Ok(Ensured::Already);
            };
            let disk = LayeredDisk::new(folder.clone(), id.clone());
            let done = block::grow(&disk.file(disk.layers()?.active), wanted, id)?;
            if marker.size != size {
                marker.size = size;
                write_marker(&folder, &marker)?;
            }
            return Ok(done);
        }
        let (file, disk) = (folder.join(DISK_FILE), folder.join(DISK));
        let (before, after) = match (marker.size, size) {
            (None, None) => return Ok(Ensured::Already),
            (Some(_), Some(after)) => {
                let before = file.metadata().at("look at", &file)?.len();
                (before, sized::rounded(after)?)
            }
            _ => return Err(StorageError::NeedsRebuild(id.clone())),
        };
        if before == after && marker.size == size {
            return Ok(Ensured::Already);
        }
        let mounted = sized::mounted_device(&file, &disk)?.is_some();
        let used = mounted || !crate::sys::loop_device::showing(&file)?.is_empty();
        if !used {
            sized::resize_unused(&file, after, id)?;
        } else if mounted && after >= before && sized::can_grow_live() {
            sized::grow_live(&file, &disk, after)?;
        } else {
            return Err(StorageError::InUse(id.clone()));
        }
        marker.size = size;
        write_marker(&folder, &marker)?;
        Ok(Ensured::Done)
    }

    fn used(&self, id: &VolumeId) -> Result<u64, StorageError> {
        let marker = self.marker_of(id)?;
        let folder = self.folder_of(id)?;
        if marker.content == ContentType::Block {
            // With all layers, and what else is kept of its machine.
            return Ok(super::usage::bytes_below(&folder)?);
        }
        if marker.size.is_some() {
            return Ok(sized::occupied(&folder.join(DISK_FILE))?);
        }
        Ok(super::usage::bytes_below(&folder.join(DISK))?)
    }

    fn layered(&self, id: &VolumeId) -> Result<LayeredDisk, StorageError> {
        match self.marker_of(id)?.content {
            ContentType::Block => Ok(LayeredDisk::new(self.folder_of(id)?, id.clone())),
            ContentType::Filesystem => Err(StorageError::NoVolume(id.clone())),
        }
    }

    fn kept_trees(&self, id: &VolumeId) -> Result<KeptTrees, StorageError> {
        let marker = self.marker_of(id)?;
        match marker.content {
            ContentType::Block => Err(StorageError::NoVolume(id.clone())),
            ContentType::Filesystem => Ok(trees(
                self.folder_of(id)?,
                id.clone(),
                marker.size.is_some(),
            )),
        }
    }

    fn volume(&self, id: &VolumeId) -> Result<Option<VolumeSeen>, StorageError> {
        self.check()?;
        self.seen_volume(&self.folder_of(id)?, id.clone())
    }

    fn placed(&self, id: &VolumeId) -> Option<PathBuf> {
        let marker = self.marker_of(id).ok()?;
        let folder = self.folder_of(id).ok()?;
        if marker.content == ContentType::Block {
            return Some(folder);
        }
        let disk = folder.join(DISK);
        if marker.size.is_some() {
            sized::mounted_device(&folder.join(DISK_FILE), &disk).ok()??;
        }
        Some(disk)
    }

    fn place(&self, id: &VolumeId) -> Result<Placed, StorageError> {
        let marker = self.marker_of(id)?;
        let folder = self.folder_of(id)?;
        if marker.content == ContentType::Block {
            return block::place(&LayeredDisk::new(folder, id.clone()));
        }
        let disk = folder.join(DISK);
        if marker.size.is_some() {
            sized::mount(&folder.join(DISK_FILE), &disk, id)?;
            // A new file system has none of these yet.
            prepare(&disk, id, marker.initial())?;
        }
        Ok(match id {
            VolumeId::Root(_) => Placed::Root {
                upper: disk.join("upper"),
                work: disk.join("work"),
                folder: disk,
            },
            VolumeId::Custom(_) => Placed::Custom {
                folder: disk.join("data"),
            },
        })
    }

    fn release(&self, id: &VolumeId) -> Result<Ensured, StorageError> {
        let folder = self.folder_of(id)?;
        let was = sized::unmount(
            &folder.join(DISK_FILE),
            &folder.join(DISK),
            Users::Respect,
            id,
        )?;
        Ok(if was { Ensured::Done } else { Ensured::Already })
    }

    fn remove_volume(&self, id: &VolumeId) -> Result<Ensured, StorageError> {
        self.check()?;
        let folder = self.folder_of(id)?;
        Self::clear_mounts(&folder, Users::CutOff, id)?;
        self.remove_folder(&folder)
    }

    fn trash(&self, entry: &TrashEntry) -> Result<Ensured, StorageError> {
        self.check()?;
        let folder = self.folder_of(&entry.volume)?;
        let place = self.trash_of(&entry.uid)?;
        if place.join(TRASH_MARKER).exists() {
            return Ok(Ensured::Already);
        }
        Self::clear_mounts(&folder, Users::CutOff, &entry.volume)?;
        if !folder.exists() {
            make_private(&folder)?;
        }
        let path = folder.join(TRASH_MARKER);
        path_io::write_durably(&path, marker::text(&path, entry)?)?;
        path_io::rename(&folder, &place)?;
        sync_folder(&self.pool().join(TRASH))?;
        Ok(Ensured::Done)
    }

    fn trashed(&self) -> Result<Vec<TrashEntry>, StorageError> {
        self.check()?;
        let mut found = Vec::new();
        for path in list_or_nothing(&self.pool().join(TRASH))? {
            if !name_of(&path).starts_with('.')
                && let Some(entry) = marker::read(&path.join(TRASH_MARKER))?
            {
                found.push(entry);
            }
        }
        found.extend(self.untrashed()?.into_iter().map(|(_, entry)| entry));
        Ok(found)
    }

    fn untrash(&self, uid: &str) -> Result<TrashEntry, StorageError> {
        self.check()?;
        let place = self.trash_of(uid)?;
        let Some(entry) = marker::read::<TrashEntry>(&place.join(TRASH_MARKER))? else {
            return self
                .untrashed()?
                .into_iter()
                .find_map(|(_, entry)| (entry.uid == uid).then_some(entry))
                .ok_or_else(|| StorageError::NotInTrash(uid.to_owned()));
        };
        let folder = self.folder_of(&entry.volume)?;
        if folder.exists() {
            return Err(StorageError::VolumeExists(entry.volume));
        }
        path_io::rename(&place, &folder)?;
        sync_folder(folder.parent().unwrap_or(self.pool()))?;
        Ok(entry)
    }

    fn end_untrash(&self, uid: &str) -> Result<(), StorageError> {
        for (folder, entry) in self.untrashed()? {
            if entry.uid == uid {
                path_io::remove_file(folder.join(TRASH_MARKER))?;
            }
        }
        Ok(())
    }

    fn purge(&self, uid: &str) -> Result<Ensured, StorageError> {
        self.check()?;
        let place = self.trash_of(uid)?;
        let id = VolumeId::Root(uid.to_owned());
        Self::clear_mounts(&place, Users::CutOff, &id)?;
        self.remove_folder(&place)
    }
}

/// The snapshots of a volume.
fn trees(folder: PathBuf, id: VolumeId, sized: bool) -> KeptTrees {
    let at = folder.join(DISK);
    KeptTrees {
        tree: at.join(files_of(&id)),
        own: sized.then(|| OwnFileSystem {
            file: folder.join(DISK_FILE),
            at,
        }),
        volume: folder,
        id,
    }
}

fn write_marker(folder: &Path, marker: &VolumeMarker) -> Result<(), StorageError> {
    let path = folder.join(VOLUME_MARKER);
    Ok(path_io::write_durably(&path, marker::text(&path, marker)?)?)
}

/// Entries of a folder that do not make it somebody's: what mkfs leaves, and our own interrupted marker.
fn means_nothing(path: &Path) -> bool {
    let name = name_of(path);
    name == "lost+found" || (name.starts_with(".pool.json.") && name.ends_with(".new"))
}

/// Names of volumes: letters, digits, `.`, `_`, `-`, not starting with a dot, 1 to 128 long.
fn checked_name(name: &str) -> Result<&str, StorageError> {
    let lawful = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    if name.is_empty() || name.len() > 128 || name.starts_with('.') || !name.bytes().all(lawful) {
        return Err(StorageError::BadName(name.to_owned()));
    }
    Ok(name)
}
