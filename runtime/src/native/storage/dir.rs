//! Pools of driver `dir`: a folder of any file system. A volume with a size has a file system of its own in a file.

use std::io;
use std::path::{Path, PathBuf};

use manifests::path_io::AtPath as _;

use super::driver::{Ensured, FileSystem, Sized, StorageFeatures, VolumeId};
use super::error::StorageError;
use super::files::{Files, Ground, Limited, TREE};
use super::folders::make_folder;
use super::kept_trees::OwnFileSystem;
use super::sized;
use super::unmounting::Users;
use crate::sys::loop_device;
use crate::sys::remove_tree::remove_tree;

/// Trees that are folders.
#[derive(Debug)]
pub(super) struct Plain;

fn file_of(volume: &Path) -> PathBuf {
    volume.join("disk.ext4")
}

impl Files for Plain {
    const DRIVER: &'static str = "dir";

    fn features(&self) -> StorageFeatures {
        StorageFeatures {
            sized: if Path::new("/dev/loop-control").exists() {
                Sized::LoopExt4
            } else {
                Sized::No("this host has no loop devices")
            },
            grow_live: sized::can_grow_live(),
            shrink_stopped: true,
            limit_in_place: false,
        }
    }

    fn ground(&self, _pool: &Path) -> Result<Ground, StorageError> {
        Ok(Ground::There)
    }

    fn lay(&self, _pool: &Path, _may_create: bool) -> Result<Ensured, StorageError> {
        Ok(Ensured::Already)
    }

    fn wipe(&self, _pool: &Path) -> Result<bool, StorageError> {
        Ok(false)
    }

    fn lift(&self, _pool: &Path) -> Result<(), StorageError> {
        Ok(())
    }

    fn clear(&self) -> Result<(), StorageError> {
        Ok(())
    }

    fn total(&self) -> Result<Option<u64>, StorageError> {
        Ok(None)
    }

    fn make_tree(
        &self,
        volume: &Path,
        size: Option<u64>,
        _kind: FileSystem,
    ) -> Result<(), StorageError> {
        make_folder(&volume.join(TREE))?;
        match size {
            None => Ok(()),
            Some(size) => sized::make(&file_of(volume), size),
        }
    }

    fn make_home(&self, volume: &Path, _id: &VolumeId) -> Result<PathBuf, StorageError> {
        Ok(volume.to_path_buf())
    }

    fn at_hand(&self, volume: &Path, asked: Option<u64>) -> Result<bool, StorageError> {
        Ok(asked.is_none()
            || sized::mounted_device(&file_of(volume), &volume.join(TREE))?.is_some())
    }

    fn mount(
        &self,
        volume: &Path,
        id: &VolumeId,
        _options: Option<&str>,
    ) -> Result<(), StorageError> {
        sized::mount(&file_of(volume), &volume.join(TREE), id)
    }

    fn unmount(&self, volume: &Path, users: Users, id: &VolumeId) -> Result<bool, StorageError> {
        sized::unmount(&file_of(volume), &volume.join(TREE), users, id)
    }

    fn own_file_system(&self, volume: &Path, asked: Option<u64>) -> Option<OwnFileSystem> {
        asked.map(|_| OwnFileSystem {
            file: file_of(volume),
            at: volume.join(TREE),
        })
    }

    fn limited(&self, volume: &Path, asked: Option<u64>) -> Result<Limited, StorageError> {
        let Some(asked) = asked else {
            return Ok(Limited::default());
        };
        let file = file_of(volume);
        // The file is the truth; what was asked for is only how its size is spelled.
        let length = match file.metadata().at("look at", &file) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => 0,
            other => other?.len(),
        };
        let as_asked = sized::rounded(asked).is_ok_and(|rounded| rounded == length);
        Ok(Limited {
            size: Some(if as_asked { asked } else { length }),
            mounted: Some(sized::mounted_device(&file, &volume.join(TREE))?.is_some()),
        })
    }

    fn resize(
        &self,
        volume: &Path,
        id: &VolumeId,
        asked: Option<u64>,
        size: Option<u64>,
    ) -> Result<Ensured, StorageError> {
        let (file, disk) = (file_of(volume), volume.join(TREE));
        let (before, after) = match (asked, size) {
            (None, None) => return Ok(Ensured::Already),
            (Some(_), Some(after)) => {
                let before = file.metadata().at("look at", &file)?.len();
                (before, sized::rounded(after)?)
            }
            _ => return Err(StorageError::NeedsRebuild(id.clone())),
        };
        if before == after && asked == size {
            return Ok(Ensured::Already);
        }
        let mounted = sized::mounted_device(&file, &disk)?.is_some();
        let used = mounted || !loop_device::showing(&file)?.is_empty();
        if !used {
            sized::resize_unused(&file, after, id)?;
        } else if mounted && after >= before && sized::can_grow_live() {
            sized::grow_live(&file, &disk, after)?;
        } else {
            return Err(StorageError::InUse(id.clone()));
        }
        Ok(Ensured::Done)
    }

    fn used(&self, volume: &Path, asked: Option<u64>) -> Result<u64, StorageError> {
        Ok(match asked {
            Some(_) => sized::occupied(&file_of(volume))?,
            None => super::usage::bytes_below(&volume.join(TREE))?,
        })
    }

    fn remove(&self, folder: &Path) -> Result<(), StorageError> {
        Ok(remove_tree(folder)?)
    }
}
