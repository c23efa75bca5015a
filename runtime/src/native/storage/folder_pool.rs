//! Pools that are folders, whatever their trees are made of.
//!
//! ```text
//! POOL/pool.json                       whose pool this is
//! POOL/instances/UID/volume.json       what this volume is
//!                   /disk/             its files (upper/, work/): a folder, a mount point or a subvolume
//!                   /disk.ext4         its file system, if it has its own
//!                   /disk.qcow2        or, of a machine, its disk; a CD is /disk.iso
//! POOL/volumes/UID/…                   the same, with disk/data/
//! POOL/trash/UID/trash.json            an instance's or volume's folder as it was, and what it was
//! ```
//! A folder gets its name when it is complete, and loses it before anything in it is removed; names that start with
//! `.new-` or `.gone-` are what a crash left.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use manifests::path_io::{self, AtPath as _, PathError};

use super::block;
use super::driver::{
    ContentType, Ensured, Placed, PoolPlan, PoolSeen, StorageDriver, StorageFeatures, TrashEntry,
    VolumeContent, VolumeId, VolumePlan, VolumeSeen,
};
use super::error::StorageError;
use super::files::{Files, Ground, Limited, TREE};
use super::folders::{
    alone, files_of, list_or_nothing, make_folder, make_private, means_nothing, name_of, prepare,
    sync_folder,
};
use super::kept_trees::{KeptTree, KeptTrees};
use super::layers::LayeredDisk;
use super::marker::{self, PoolMarker, VolumeMarker};
use super::unmounting::Users;
use crate::sys::copy_tree::copy_file;
use crate::sys::mount_table;
use crate::sys::remove_tree::RemoveTreeError;

pub(super) const INSTANCES: &str = "instances";
pub(super) const VOLUMES: &str = "volumes";
pub(super) const TRASH: &str = "trash";
const POOL_MARKER: &str = "pool.json";
pub(super) const VOLUME_MARKER: &str = "volume.json";
pub(super) const NEW: &str = ".new-";
pub(super) const GONE: &str = ".gone-";

/// A pool that is a folder.
#[derive(Debug)]
pub(super) struct FolderPool<F> {
    plan: PoolPlan,
    pub(super) files: F,
}

impl<F: Files> FolderPool<F> {
    pub(super) fn new(plan: PoolPlan, files: F) -> Self {
        Self { plan, files }
    }

    pub(super) fn pool(&self) -> &Path {
        &self.plan.folder
    }

    fn missing(&self) -> StorageError {
        StorageError::PoolMissing {
            path: self.pool().to_path_buf(),
        }
    }

    fn unmounted(&self) -> StorageError {
        StorageError::PoolUnmounted {
            path: self.pool().to_path_buf(),
        }
    }

    /// Fails unless the pool is there and ours: nothing is ever written below a mount point whose file system is away.
    pub(super) fn check(&self) -> Result<(), StorageError> {
        match self.state()? {
            State::Ours => Ok(()),
            State::Missing | State::Empty => Err(self.missing()),
            State::Unmounted => Err(self.unmounted()),
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
        match self.files.ground(self.pool())? {
            Ground::There => {}
            away => {
                return match path_io::list(self.pool()) {
                    Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(away.into()),
                    Ok(entries) if entries.is_empty() => Ok(away.into()),
                    Err(error) if error.kind() != io::ErrorKind::NotADirectory => {
                        Err(unreachable(error))
                    }
                    _ => Ok(State::Foreign(None)),
                };
            }
        }
        let marker = self.pool().join(POOL_MARKER);
        match marker::read::<PoolMarker>(&marker) {
            Ok(Some(found)) if found.mark == self.plan.mark && found.driver == F::DRIVER => {
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

    pub(super) fn folder_of(&self, id: &VolumeId) -> Result<PathBuf, StorageError> {
        let (kind, name) = match id {
            VolumeId::Root(uid) => (INSTANCES, uid),
            VolumeId::Custom(name) => (VOLUMES, name),
        };
        Ok(self.pool().join(kind).join(checked_name(name)?))
    }

    fn marker_of(&self, id: &VolumeId) -> Result<VolumeMarker, StorageError> {
        self.check()?;
        marker::read(&self.folder_of(id)?.join(VOLUME_MARKER))?
            .ok_or_else(|| StorageError::NoVolume(id.clone()))
    }

    /// Unmounts what is ours in a volume's folder, and fails if anything else is mounted there.
    pub(super) fn clear_mounts(
        &self,
        folder: &Path,
        users: Users,
        id: &VolumeId,
    ) -> Result<Ensured, StorageError> {
        self.files.put_away(folder, id)?;
        let disk = folder.join(TREE);
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
        let was = self.files.unmount(folder, users, id)?;
        // After: what lies on the same folder and is not ours.
        if let Some(error) = foreign(&mount_table::at_or_below(folder)?, Path::new("")) {
            return Err(error.into());
        }
        Ok(if was { Ensured::Done } else { Ensured::Already })
    }

    /// Takes a folder its name and removes it. What a crash leaves of it is swept.
    pub(super) fn remove_folder(&self, folder: &Path) -> Result<Ensured, StorageError> {
        let above = folder.parent().unwrap_or(self.pool());
        let mut name = std::ffi::OsString::from(GONE);
        name.push(folder.file_name().unwrap_or_default());
        let gone = above.join(name);
        // Left by a crash after the same name was used again.
        self.files.remove(&gone)?;
        match path_io::rename(folder, &gone) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Ensured::Already),
            other => other?,
        }
        self.files.remove(&gone)?;
        Ok(Ensured::Done)
    }

    /// The snapshots of a volume.
    pub(super) fn trees(&self, folder: PathBuf, id: VolumeId, asked: Option<u64>) -> KeptTrees {
        KeptTrees {
            tree: folder.join(TREE).join(files_of(&id)),
            own: self.files.own_file_system(&folder, asked),
            subvolume: self.files.subvolume(&folder, asked),
            at_once: self.files.at_once(&folder, &id, asked),
            volume: folder,
            id,
        }
    }

    /// The snapshots of a disk, which lie beside it.
    pub(super) fn disks(home: PathBuf, id: VolumeId, file: &str) -> KeptTrees {
        KeptTrees {
            tree: home.join(file),
            own: None,
            subvolume: None,
            at_once: None,
            volume: home,
            id,
        }
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

    fn seen_volume(&self, path: &Path, id: VolumeId) -> Result<Option<VolumeSeen>, StorageError> {
        let Some(found) = marker::read::<VolumeMarker>(&path.join(VOLUME_MARKER))? else {
            // Removed since it was listed.
            return Ok(None);
        };
        let limited = if found.content == ContentType::Iso {
            let file = path.join(block::ISO);
            Limited {
                size: Some(file.metadata().at("look at", &file)?.len()),
                mounted: None,
            }
        } else if found.content == ContentType::Block {
            let size = match self.files.home_at_hand(path)? {
                None => found.size,
                Some(home) => {
                    let disk = LayeredDisk::new(home, id.clone());
                    block::size(&disk.file(disk.layers()?.active), found.size)?
                }
            };
            Limited {
                size,
                mounted: None,
            }
        } else {
            self.files.limited(path, found.size)?
        };
        Ok(Some(VolumeSeen {
            id,
            mark: found.mark,
            image: found.image,
            content: found.content,
            own: found.own,
            size: limited.size,
            mounted: limited.mounted,
            folder: path.to_path_buf(),
        }))
    }
}

enum State {
    Ours,
    Missing,
    Unmounted,
    Empty,
    Foreign(Option<String>),
}

impl From<Ground> for State {
    fn from(away: Ground) -> Self {
        match away {
            Ground::Unmounted => Self::Unmounted,
            Ground::There | Ground::Gone => Self::Missing,
        }
    }
}

impl<F: Files> StorageDriver for FolderPool<F> {
    fn features(&self) -> StorageFeatures {
        self.files.features()
    }

    fn seen(&self) -> Result<PoolSeen, StorageError> {
        match self.state()? {
            State::Missing | State::Empty => return Ok(PoolSeen::Missing),
            State::Unmounted => return Ok(PoolSeen::Unmounted),
            State::Foreign(owner) => return Ok(PoolSeen::Foreign { owner }),
            State::Ours => {}
        }
        let (used, total) = match self.files.space()? {
            Some(space) => space,
            None => {
                let space = rustix::fs::statvfs(self.pool()).at("look at", self.pool())?;
                let used = space.f_blocks.saturating_sub(space.f_bfree);
                (used * space.f_frsize, space.f_blocks * space.f_frsize)
            }
        };
        Ok(PoolSeen::Ready {
            used,
            total,
            set: self.files.total()?,
        })
    }

    fn ensure_pool(&self, may_create: bool) -> Result<Ensured, StorageError> {
        let mut done = self.files.lay(self.pool(), may_create)?;
        let mut state = self.state()?;
        if may_create && matches!(state, State::Foreign(None)) && self.files.wipe(self.pool())? {
            state = self.state()?;
        }
        match state {
            State::Ours => {}
            State::Foreign(owner) => {
                self.files.lift(self.pool())?;
                return Err(self.foreign(owner));
            }
            State::Unmounted => return Err(self.unmounted()),
            State::Missing | State::Empty if !may_create => {
                self.files.lift(self.pool())?;
                return Err(self.missing());
            }
            State::Missing | State::Empty => {
                make_private(self.pool())?;
                let path = self.pool().join(POOL_MARKER);
                let marker = PoolMarker {
                    format_version: 1,
                    driver: F::DRIVER.to_owned(),
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
        if matches!(self.state()?, State::Unmounted) {
            self.files.lay(self.pool(), false)?;
        }
        match self.state()? {
            State::Missing => {
                self.files.clear()?;
                return Ok(Ensured::Already);
            }
            State::Unmounted => return Err(self.unmounted()),
            State::Empty => {
                // Making or removing it was cut short. A folder that we have left no file in may be somebody's mount
                // point.
                let before = path_io::list(self.pool())?.len();
                path_io::sweep_unfinished(self.pool())?;
                let had_ours = path_io::list(self.pool())?.len() < before;
                self.files.lift(self.pool())?;
                self.files.clear()?;
                if had_ours {
                    self.remove_own_folder()?;
                }
                return Ok(Ensured::Already);
            }
            State::Foreign(owner) => return Err(self.foreign(owner)),
            State::Ours => {}
        }
        self.files.may_clear()?;
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
        self.files.lift(self.pool())?;
        self.files.clear()?;
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
                self.clear_mounts(&new, Users::CutOff, &plan.id)?;
                self.files.remove(&new)?;
                make_folder(&new)?;
            }
            other => other?,
        }
        let marker = VolumeMarker::of(plan);
        let made = (|| {
            match &plan.content {
                VolumeContent::Filesystem => {
                    self.files.make_tree(&new, plan.size, plan.own.kind)?;
                    // A file system of its own is made ready when it is mounted.
                    if self.files.at_hand(&new, plan.size)? {
                        prepare(&new.join(TREE), &plan.id, marker.initial())?;
                    }
                }
                VolumeContent::Block { below } => {
                    let home = self.files.make_home(&new, &plan.id)?;
                    block::make(&home.join(block::FILE), plan.size, below.as_ref(), &plan.id)?;
                }
                VolumeContent::Iso { from } => {
                    let home = self.files.make_home(&new, &plan.id)?;
                    copy_file(from, &home.join(block::ISO), &mut || true)?;
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
            let unmounted = self.clear_mounts(&new, Users::CutOff, &plan.id);
            if let Err(leftover) = unmounted.and_then(|_| self.files.remove(&new)) {
                tracing::warn!(path = %new.display(), error = %leftover, "left an unfinished volume behind");
            }
            return Err(error);
        }
        Ok(Ensured::Done)
    }

    fn resize(&self, id: &VolumeId, size: Option<u64>) -> Result<Ensured, StorageError> {
        let mut marker = self.marker_of(id)?;
        let folder = self.folder_of(id)?;
        if marker.content == ContentType::Iso {
            return Ok(Ensured::Already);
        }
        if marker.content == ContentType::Block {
            let Some(wanted) = size else {
                return Ok(Ensured::Already);
            };
            let disk = LayeredDisk::new(self.files.home(&folder, id)?, id.clone());
            let done = block::grow(&disk.file(disk.layers()?.active), wanted, id)?;
            if marker.size != size {
                marker.size = size;
                write_marker(&folder, &marker)?;
            }
            return Ok(done);
        }
        let done = self.files.resize(&folder, id, marker.size, size)?;
        if done == Ensured::Already && marker.size == size {
            return Ok(done);
        }
        marker.size = size;
        write_marker(&folder, &marker)?;
        Ok(Ensured::Done)
    }

    fn set_mount_options(
        &self,
        id: &VolumeId,
        options: Option<&str>,
    ) -> Result<Ensured, StorageError> {
        let mut marker = self.marker_of(id)?;
        if marker.own.mount_options.as_deref() == options {
            return Ok(Ensured::Already);
        }
        marker.own.mount_options = options.map(str::to_owned);
        write_marker(&self.folder_of(id)?, &marker)?;
        Ok(Ensured::Done)
    }

    fn used(&self, id: &VolumeId) -> Result<u64, StorageError> {
        let marker = self.marker_of(id)?;
        let folder = self.folder_of(id)?;
        if marker.content != ContentType::Filesystem {
            // With all layers, and what else is kept of its machine.
            self.files.count()?;
            return match self.files.home_at_hand(&folder)? {
                Some(home) => Ok(super::usage::bytes_below(&home)?),
                None => self.files.used(&folder, marker.size),
            };
        }
        self.files.used(&folder, marker.size)
    }

    fn layered(&self, id: &VolumeId) -> Result<LayeredDisk, StorageError> {
        match self.marker_of(id)?.content {
            ContentType::Block => {
                let home = self.files.home(&self.folder_of(id)?, id)?;
                Ok(LayeredDisk::new(home, id.clone()))
            }
            ContentType::Filesystem | ContentType::Iso => Err(StorageError::NoVolume(id.clone())),
        }
    }

    fn kept_trees(&self, id: &VolumeId) -> Result<KeptTrees, StorageError> {
        let marker = self.marker_of(id)?;
        let folder = self.folder_of(id)?;
        let file = match (marker.content, id) {
            (ContentType::Block, VolumeId::Root(_)) => {
                return Err(StorageError::NoVolume(id.clone()));
            }
            (ContentType::Filesystem, _) => {
                return Ok(self.trees(folder, id.clone(), marker.size));
            }
            (ContentType::Block, VolumeId::Custom(_)) => block::FILE,
            (ContentType::Iso, _) => block::ISO,
        };
        Ok(Self::disks(self.files.home(&folder, id)?, id.clone(), file))
    }

    fn kept_of(&self, seen: &VolumeSeen) -> Result<BTreeMap<String, KeptTree>, StorageError> {
        match seen.content {
            // For their names it does not matter what their volume is limited to.
            ContentType::Filesystem => self
                .trees(seen.folder.clone(), seen.id.clone(), seen.size)
                .all(),
            ContentType::Block | ContentType::Iso => self.kept_trees(&seen.id)?.all(),
        }
    }

    fn volume(&self, id: &VolumeId) -> Result<Option<VolumeSeen>, StorageError> {
        self.check()?;
        self.seen_volume(&self.folder_of(id)?, id.clone())
    }

    fn placed(&self, id: &VolumeId) -> Option<PathBuf> {
        let marker = self.marker_of(id).ok()?;
        let folder = self.folder_of(id).ok()?;
        if marker.content != ContentType::Filesystem {
            return self.files.home_at_hand(&folder).ok().flatten();
        }
        let at_hand = self.files.at_hand(&folder, marker.size).ok()?;
        let tree = folder.join(TREE);
        at_hand.then(|| match id {
            VolumeId::Root(_) => tree,
            VolumeId::Custom(_) => tree.join(files_of(id)),
        })
    }

    fn place(&self, id: &VolumeId) -> Result<Placed, StorageError> {
        let _alone = alone(id);
        // After a start of the host nobody has mounted it yet.
        if matches!(self.state()?, State::Unmounted) {
            // Of those that start together the first mounts it.
            static LAYING: Mutex<()> = Mutex::new(());
            let _first = LAYING.lock().unwrap_or_else(PoisonError::into_inner);
            if matches!(self.state()?, State::Unmounted) {
                self.files.lay(self.pool(), false)?;
            }
        }
        let marker = self.marker_of(id)?;
        let folder = self.folder_of(id)?;
        match marker.content {
            ContentType::Block => {
                let home = self.files.home(&folder, id)?;
                return block::place(&LayeredDisk::new(home, id.clone()));
            }
            ContentType::Iso => return block::place_iso(&self.files.home(&folder, id)?),
            ContentType::Filesystem => {}
        }
        let disk = folder.join(TREE);
        if self.files.has_own(marker.size) {
            let options = marker.own.mount_options.as_deref();
            self.files.mount(&folder, id, options)?;
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
        let _alone = alone(id);
        let folder = self.folder_of(id)?;
        self.files.put_away(&folder, id)?;
        let was = self.files.unmount(&folder, Users::Respect, id)?;
        Ok(if was { Ensured::Done } else { Ensured::Already })
    }

    fn remove_volume(&self, id: &VolumeId) -> Result<Ensured, StorageError> {
        self.check()?;
        let folder = self.folder_of(id)?;
        self.clear_mounts(&folder, Users::CutOff, id)?;
        self.remove_folder(&folder)
    }

    fn trash(&self, entry: &TrashEntry) -> Result<Ensured, StorageError> {
        self.put_into_trash(entry)
    }

    fn trashed_but(&self, settled: &BTreeSet<String>) -> Result<Vec<TrashEntry>, StorageError> {
        self.in_trash(settled)
    }

    fn untrash(&self, uid: &str) -> Result<TrashEntry, StorageError> {
        self.take_out_of_trash(uid)
    }

    fn end_untrash(&self, uid: &str) -> Result<(), StorageError> {
        self.settle_untrashed(uid)
    }

    fn used_in_trash(&self, uid: &str) -> Result<Option<u64>, StorageError> {
        self.count_in_trash(uid)
    }

    fn purge(&self, uid: &str) -> Result<Ensured, StorageError> {
        self.purge_trash(uid)
    }
}

fn write_marker(folder: &Path, marker: &VolumeMarker) -> Result<(), StorageError> {
    let path = folder.join(VOLUME_MARKER);
    Ok(path_io::write_durably(&path, marker::text(&path, marker)?)?)
}

/// Names of volumes: letters, digits, `.`, `_`, `-`, not starting with a dot, 1 to 128 long.
pub(super) fn checked_name(name: &str) -> Result<&str, StorageError> {
    let lawful = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    if name.is_empty() || name.len() > 128 || name.starts_with('.') || !name.bytes().all(lawful) {
        return Err(StorageError::BadName(name.to_owned()));
    }
    Ok(name)
}
