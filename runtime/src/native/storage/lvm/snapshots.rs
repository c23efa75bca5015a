//! Snapshots of thin volumes, and the sizes of volumes: what changes them in place.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use manifests::path_io;

use super::group::Group;
use super::{NAMED, NEXT, Named, arguments, discard, make, mount, mounted_at, named_in, unmount};
use crate::native::storage::driver::{FileSystem, VolumeId};
use crate::native::storage::error::StorageError;
use crate::native::storage::file_system;
use crate::native::storage::files::TREE;
use crate::native::storage::folders::fresh_name;
use crate::native::storage::folders::{make_private, sync_folder};
use crate::native::storage::kept_trees::AtOnce;
use crate::native::storage::sized;
use crate::native::storage::unmounting::Users;
use crate::sys::copy_tree::exchange;

/// Where the files of a snapshot are for who reads them.
pub(super) fn tree_of(kept: &Path) -> PathBuf {
    kept.join("tree")
}

/// A volume of which snapshots are made.
#[derive(Debug)]
pub(super) struct Thin {
    pub(super) group: Arc<Group>,
    /// Its folder.
    pub(super) volume: PathBuf,
    pub(super) id: VolumeId,
    /// The size that was asked for.
    pub(super) asked: Option<u64>,
}

impl Thin {
    fn name(&self) -> Result<Named, StorageError> {
        let name = named_in(&self.volume.join(NAMED))?;
        name.ok_or_else(|| StorageError::NoVolume(self.id.clone()))
    }

    fn size_of(&self, name: &str) -> Result<u64, StorageError> {
        let found = self.group.volume(name)?;
        Ok(found
            .ok_or_else(|| StorageError::NoVolume(self.id.clone()))?
            .size)
    }

    fn name_in(&self, kept: &Path) -> Result<Named, StorageError> {
        named_in(&kept.join(NAMED))?.ok_or_else(|| StorageError::Broken {
            path: kept.to_path_buf(),
            problem: "no logical volume belongs to this snapshot".to_owned(),
        })
    }
}

impl AtOnce for Thin {
    fn keep(&self, folder: &Path) -> Result<(), StorageError> {
        self.group.room()?;
        let origin = self.name()?;
        let (name, kind) = (fresh_name()?, origin.kind);
        let named = Named { name, kind };
        path_io::write_durably(folder.join(NAMED), named.text())?;
        let (group, tag) = (self.group.name(), &self.group.tag);
        let arguments = arguments::keep(group, &origin.name, &named.name, tag);
        self.group.change("lvcreate", arguments)
    }

    fn kept(&self, folder: &Path) -> Result<PathBuf, StorageError> {
        let at = tree_of(folder);
        let named = self.name_in(folder)?;
        make_private_unless_mounted(&self.group, &named.name, &at)?;
        mount(&self.group, &named, &at, false, None)?;
        Ok(at)
    }

    fn empty(&self, folder: &Path) -> Result<PathBuf, StorageError> {
        let size = match self.asked {
            Some(_) => self.size_of(&self.name()?.name)?,
            None => self.group.thin_pool()?.size,
        };
        let kind = self.name()?.kind;
        let named = make(&self.group, &folder.join(NAMED), size, kind)?;
        let at = tree_of(folder);
        make_private(&at)?;
        mount(&self.group, &named, &at, true, None)?;
        Ok(at)
    }

    fn seal(&self, folder: &Path) -> Result<(), StorageError> {
        let (name, at) = (self.name_in(folder)?.name, tree_of(folder));
        if mounted_at(&self.group, &name, &at)?.is_none() {
            return Ok(());
        }
        unmount(&self.group, &name, &at, Users::Respect, &self.id)?;
        self.group
            .change("lvchange", arguments::seal(self.group.name(), &name))
    }

    fn revert(&self, folder: &Path) -> Result<(), StorageError> {
        let (now, kept) = (self.name()?, self.name_in(folder)?);
        self.group.room()?;
        unmount(
            &self.group,
            &now.name,
            &self.volume.join(TREE),
            Users::Respect,
            &self.id,
        )?;
        // Somebody may have removed it.
        let has = self.group.volume(&now.name)?.map(|found| found.size);
        let was = self.size_of(&kept.name)?;
        let (name, next) = (fresh_name()?, self.volume.join(NEXT));
        let kind = kept.kind;
        let named = Named { name, kind };
        path_io::write_durably(&next, named.text())?;
        let (group, tag) = (self.group.name(), &self.group.tag);
        let arguments = arguments::unkeep(group, &kept.name, &named.name, tag);
        self.group.change("lvcreate", arguments)?;
        if let Some(has) = has.filter(|has| *has != was) {
            let at = self.volume.join(TREE);
            fit(&self.group, &named, &at, was, has, &self.id)?;
        }
        exchange(&next, &self.volume.join(NAMED))?;
        sync_folder(&self.volume)?;
        self.clear_next()
    }

    fn discard(&self, folder: &Path) -> Result<(), StorageError> {
        if let Some(Named { name, .. }) = named_in(&folder.join(NAMED))? {
            unmount(
                &self.group,
                &name,
                &tree_of(folder),
                Users::CutOff,
                &self.id,
            )?;
        }
        discard(&self.group, folder)
    }

    fn clear_next(&self) -> Result<(), StorageError> {
        let next = self.volume.join(NEXT);
        let Some(Named { name, .. }) = named_in(&next)? else {
            return Ok(());
        };
        if !self.group.remove(&[name])? {
            return Err(StorageError::InUse(self.id.clone()));
        }
        Ok(path_io::remove_file(next)?)
    }
}

/// What is mounted is read-only, and has an owner of its own.
fn make_private_unless_mounted(group: &Group, name: &str, at: &Path) -> Result<(), StorageError> {
    match mounted_at(group, name, at)? {
        Some(_) => Ok(()),
        None => make_private(at),
    }
}

/// Makes a volume bigger, if it is not.
pub(super) fn extend(
    group: &Group,
    name: &str,
    before: u64,
    after: u64,
) -> Result<(), StorageError> {
    if after <= before {
        return Ok(());
    }
    group.change("lvextend", arguments::extend(group.name(), name, after))
}

/// Lets a volume that nobody uses, and its file system, have another size. `at`: where an XFS is mounted for that, since it
/// grows nowhere else. May be repeated after a crash.
pub(super) fn fit(
    group: &Group,
    named: &Named,
    at: &Path,
    before: u64,
    after: u64,
    id: &VolumeId,
) -> Result<(), StorageError> {
    let name = &named.name;
    if named.kind == FileSystem::Xfs {
        if after < before {
            return Err(StorageError::Shrinks {
                volume: id.clone(),
                has: before,
                size: after,
            });
        }
        extend(group, name, before, after)?;
        mount(group, named, at, true, None)?;
        file_system::fill_live(at, named.kind, after)?;
        unmount(group, name, at, Users::Respect, id)?;
        return Ok(());
    }
    extend(group, name, before, after)?;
    sized::fit_unused(&group.device(name)?.path, after, id)?;
    if after < before {
        group.change("lvreduce", arguments::reduce(group.name(), name, after))?;
    }
    Ok(())
}
