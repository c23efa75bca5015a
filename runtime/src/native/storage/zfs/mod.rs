//! Pools of driver `zfs`: every tree is a dataset, its size the limit of what it refers to.
//!
//! ```text
//! ZPOOL or ZPOOL/…                     the pool: a dataset that is mounted at POOL, for markers, trash, records, disks
//! …/keel_…                             volumes, each named in a file of the pool:
//! POOL/instances/UID/datasets.json     … of a volume, of which one is mounted at POOL/instances/UID/disk
//!                   /snapshots/NAME/snapshot.zfs
//! ```
//! The zpool is the pool's own (in a file, without a loop device, or on a device), or somebody's, of which one dataset is the
//! pool. It bears the pool's mark in a property; what bears none is never changed. Datasets are mounted by keel alone.
//!
//! The disks of machines are files in the pool's dataset, as on other pools: QEMU keeps their layers itself.

mod arguments;
mod dataset;
mod ground;
mod module;
mod record;
mod report;
mod snapshots;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use manifests::path_io::{self, AtPath as _};

pub use self::module::trouble;

use self::dataset::{Base, is_mounted, mount, says, unmount, zpool};
use self::ground::Raised;
use self::record::Datasets;
use self::snapshots::{Tree, close};
use super::driver::{
    Backing, DatasetPlan, Ensured, FileSystem, PoolPlan, Sized, StorageFeatures, VolumeId, ZpoolOn,
};
use super::error::StorageError;
use super::files::{Files, Ground, Limited, TREE};
use super::folders::{fresh_name, is_empty_place, make_folder, make_private};
use super::kept_trees::{AtOnce, OwnFileSystem, is_read};
use super::sized;
use super::unmounting::{Users, unmount_pool};
use crate::sys::mount_table;
use crate::sys::remove_tree::{RemoveTreeError, remove_tree};

/// Trees that are datasets.
#[derive(Debug)]
pub(super) struct DatasetFiles {
    base: Arc<Base>,
}

impl DatasetFiles {
    pub(super) fn new(plan: &PoolPlan) -> Self {
        let dataset = match &plan.backing {
            Backing::Dataset(dataset) => dataset.clone(),
            // Nothing of that name is ever there.
            _ => DatasetPlan {
                name: String::new(),
                on: ZpoolOn::Somebodys,
            },
        };
        Self {
            base: Arc::new(Base::new(dataset, &plan.mark)),
        }
    }

    /// Whether the pool's dataset is mounted there.
    fn mounted(&self, pool: &Path) -> Result<bool, StorageError> {
        if is_mounted(self.base.name(), pool)? {
            return Ok(true);
        }
        let canonical = pool.canonicalize().unwrap_or_else(|_| pool.to_path_buf());
        match mount_table::read()?
            .iter()
            .any(|mount| mount.mount_point == canonical)
        {
            true => Err(RemoveTreeError::Mounted { path: canonical }.into()),
            false => Ok(false),
        }
    }

    /// Takes one that somebody made for it, if there is nothing in it.
    fn claim(&self, pool: &Path, found: &report::Found) -> Result<(), StorageError> {
        let name = self.base.name();
        let holds = match self.base.first_below()? {
            Some(other) => Some(other),
            None => {
                mount(name, pool)?;
                let first = path_io::list(pool)?.into_iter().next();
                self.lift(pool)?;
                first.map(|path| path.file_name().unwrap_or_default().display().to_string())
            }
        };
        if let Some(holds) = holds {
            return Err(StorageError::ForeignPool {
                path: name.into(),
                owner: format!("somebody, who has {holds} in it"),
            });
        }
        self.base.claim(found)
    }

    fn tree_of(&self, volume: &Path) -> Result<Option<String>, StorageError> {
        let datasets = Datasets::read(volume)?;
        Ok(datasets.map(|datasets| self.base.path(&datasets.tree)))
    }

    fn row(&self, volume: &Path) -> Result<Option<report::Row>, StorageError> {
        match Datasets::read(volume)? {
            Some(datasets) => self.base.row(&datasets.tree),
            None => Ok(None),
        }
    }
}

impl Files for DatasetFiles {
    const DRIVER: &'static str = "zfs";

    fn features(&self) -> StorageFeatures {
        StorageFeatures {
            sized: Sized::Quota,
            grow_live: true,
            shrink_stopped: true,
            limit_in_place: true,
        }
    }

    fn ground(&self, pool: &Path) -> Result<Ground, StorageError> {
        self.base.look_anew();
        if self.mounted(pool)? {
            return Ok(Ground::There);
        }
        Ok(match self.base.is_there()? {
            true => Ground::Unmounted,
            false => Ground::Gone,
        })
    }

    fn lay(&self, pool: &Path, may_create: bool) -> Result<Ensured, StorageError> {
        if self.mounted(pool)? {
            return self.base.grow();
        }
        let is_there = is_empty_place(pool)?;
        let raised = self.base.raise(may_create)?;
        if matches!(raised, Raised::Nothing) {
            return Ok(Ensured::Already);
        }
        if !is_there {
            make_private(pool)?;
        }
        if let Raised::Unclaimed(found) = &raised {
            self.claim(pool, found)?;
        }
        mount(self.base.name(), pool)?;
        make_private(pool)?;
        self.base.grow()?;
        Ok(Ensured::Done)
    }

    fn wipe(&self, _pool: &Path) -> Result<bool, StorageError> {
        // A device is wiped before it becomes a zpool.
        Ok(false)
    }

    fn lift(&self, pool: &Path) -> Result<(), StorageError> {
        unmount_pool(pool, || self.mounted(pool))?;
        Ok(())
    }

    fn clear(&self) -> Result<(), StorageError> {
        self.base.clear()
    }

    fn total(&self) -> Result<Option<u64>, StorageError> {
        match &self.base.plan.on {
            ZpoolOn::File { file, .. } => Ok(Some(file.metadata().at("look at", file)?.len())),
            ZpoolOn::Device { .. } | ZpoolOn::Somebodys => Ok(None),
        }
    }

    fn space(&self) -> Result<Option<(u64, u64)>, StorageError> {
        let row = self.base.row("")?;
        Ok(row.map(|row| (row.used, row.used + row.available)))
    }

    fn make_tree(
        &self,
        volume: &Path,
        size: Option<u64>,
        _kind: FileSystem,
    ) -> Result<(), StorageError> {
        if let Some(size) = size {
            sized::rounded(size)?;
        }
        make_folder(&volume.join(TREE))?;
        let datasets = Datasets::of(fresh_name()?);
        datasets.write(volume)?;
        let path = self.base.path(&datasets.tree);
        self.base.change(arguments::make_tree(&path, size))
    }

    fn make_home(&self, volume: &Path, _id: &VolumeId) -> Result<PathBuf, StorageError> {
        Ok(volume.to_path_buf())
    }

    fn has_own(&self, _asked: Option<u64>) -> bool {
        true
    }

    fn at_hand(&self, volume: &Path, _asked: Option<u64>) -> Result<bool, StorageError> {
        match self.tree_of(volume)? {
            Some(tree) => is_mounted(&tree, &volume.join(TREE)),
            None => Ok(false),
        }
    }

    fn mount(
        &self,
        volume: &Path,
        id: &VolumeId,
        _options: Option<&str>,
    ) -> Result<(), StorageError> {
        let tree = self.tree_of(volume)?;
        let tree = tree.ok_or_else(|| StorageError::NoVolume(id.clone()))?;
        let at = volume.join(TREE);
        if is_mounted(&tree, &at)? {
            return Ok(());
        }
        match mount(&tree, &at)? {
            true => make_private(&at),
            // Somebody has removed it.
            false => Err(StorageError::NoVolume(id.clone())),
        }
    }

    fn unmount(&self, volume: &Path, users: Users, id: &VolumeId) -> Result<bool, StorageError> {
        match self.tree_of(volume)? {
            Some(tree) => unmount(&tree, &volume.join(TREE), users, id),
            None => Ok(false),
        }
    }

    fn put_away(&self, volume: &Path, id: &VolumeId) -> Result<(), StorageError> {
        if is_read(volume) {
            return Ok(());
        }
        for folder in snapshots::folders(volume)? {
            // Who reads one still is in nobody's way.
            close(&self.base, &folder, Users::Respect, id)?;
        }
        Ok(())
    }

    fn own_file_system(&self, _volume: &Path, _asked: Option<u64>) -> Option<OwnFileSystem> {
        None
    }

    fn limited(&self, volume: &Path, asked: Option<u64>) -> Result<Limited, StorageError> {
        let size = match self.row(volume)? {
            None => Some(0),
            Some(row) => match row.limit {
                // Somebody took its limit away: it is as big as the pool, and nobody has to make it anew.
                None if asked.is_some() => Some(row.used + row.available),
                limit => limit,
            },
        };
        Ok(Limited {
            size,
            mounted: Some(self.at_hand(volume, asked)?),
        })
    }

    fn resize(
        &self,
        volume: &Path,
        id: &VolumeId,
        _asked: Option<u64>,
        size: Option<u64>,
    ) -> Result<Ensured, StorageError> {
        let gone = || StorageError::NoVolume(id.clone());
        let tree = self.tree_of(volume)?.ok_or_else(gone)?;
        if let Some(size) = size {
            sized::rounded(size)?;
        }
        let before = self.row(volume)?.ok_or_else(gone)?.limit;
        if before == size {
            return Ok(Ensured::Already);
        }
        let does_not_fit = |size| StorageError::DoesNotFit {
            volume: id.clone(),
            size,
        };
        if let Some(size) = size
            && before.is_none_or(|before| size < before)
            && self.used(volume, before)? > size
        {
            return Err(does_not_fit(size));
        }
        match self.base.change(arguments::resize(&tree, size)) {
            Err(error) if says(&error, "less than current used") => {
                Err(does_not_fit(size.unwrap_or_default()))
            }
            other => other.map(|()| Ensured::Done),
        }
    }

    fn used(&self, volume: &Path, _asked: Option<u64>) -> Result<u64, StorageError> {
        self.count()?;
        Ok(self.row(volume)?.map_or(0, |row| row.referenced))
    }

    /// What is not committed yet is not counted yet.
    fn count(&self) -> Result<(), StorageError> {
        zpool(vec!["sync".into(), self.base.zpool().into()])?;
        self.base.look_anew();
        Ok(())
    }

    fn used_in_trash(&self, folder: &Path) -> Result<Option<u64>, StorageError> {
        let Some(datasets) = Datasets::read(folder)? else {
            return Ok(None);
        };
        self.count()?;
        let mut bytes = super::usage::bytes_below(folder)?;
        for leaf in datasets.all() {
            bytes += self.base.row(leaf)?.map_or(0, |row| row.used);
        }
        Ok(Some(bytes))
    }

    fn remove(&self, folder: &Path) -> Result<(), StorageError> {
        let id = VolumeId::Root(String::new());
        for kept in snapshots::folders(folder)? {
            close(&self.base, &kept, Users::CutOff, &id)?;
        }
        if let Some(mount) = mount_table::at_or_below(folder)?.first() {
            return Err(RemoveTreeError::Mounted {
                path: mount.mount_point.clone(),
            }
            .into());
        }
        if let Some(datasets) = Datasets::read(folder)? {
            self.base.destroy_all(datasets.all().cloned().collect())?;
        }
        Ok(remove_tree(folder)?)
    }

    fn at_once(&self, volume: &Path, id: &VolumeId, asked: Option<u64>) -> Option<Arc<dyn AtOnce>> {
        Some(Arc::new(Tree {
            base: self.base.clone(),
            volume: volume.to_path_buf(),
            id: id.clone(),
            asked,
        }))
    }
}
