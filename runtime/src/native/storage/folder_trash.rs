//! The trash of pools that are folders: `POOL/trash/UID/` is the folder of a volume as it was, with `trash.json`, what was
//! told about it.

use std::collections::BTreeSet;
use std::path::PathBuf;

use manifests::path_io;

use super::driver::{Ensured, TrashEntry, VolumeId};
use super::error::StorageError;
use super::files::Files;
use super::folder_pool::{FolderPool, INSTANCES, TRASH, VOLUME_MARKER, VOLUMES, checked_name};
use super::folders::{list_or_nothing, make_private, name_of, sync_folder};
use super::marker::{self, VolumeMarker};
use super::unmounting::Users;

const TRASH_MARKER: &str = "trash.json";

impl<F: Files> FolderPool<F> {
    fn trash_of(&self, uid: &str) -> Result<PathBuf, StorageError> {
        Ok(self.pool().join(TRASH).join(checked_name(uid)?))
    }

    /// What was taken out of the trash and is not settled; of instances that are `settled` nobody looks. What was told about
    /// it stays beside the volume, so that a caller who was killed before keeping it can ask again.
    fn untrashed(
        &self,
        settled: &BTreeSet<String>,
    ) -> Result<Vec<(PathBuf, TrashEntry)>, StorageError> {
        let mut found = Vec::new();
        for kind in [INSTANCES, VOLUMES] {
            for path in list_or_nothing(&self.pool().join(kind))? {
                if kind == INSTANCES && settled.contains(&*name_of(&path)) {
                    continue;
                }
                if let Some(entry) = marker::read::<TrashEntry>(&path.join(TRASH_MARKER))? {
                    found.push((path, entry));
                }
            }
        }
        Ok(found)
    }

    /// Moves a volume there.
    pub(super) fn put_into_trash(&self, entry: &TrashEntry) -> Result<Ensured, StorageError> {
        self.check()?;
        let folder = self.folder_of(&entry.volume)?;
        let place = self.trash_of(&entry.uid)?;
        if place.join(TRASH_MARKER).exists() {
            return Ok(Ensured::Already);
        }
        self.clear_mounts(&folder, Users::CutOff, &entry.volume)?;
        if !folder.exists() {
            make_private(&folder)?;
        }
        if let Some(becomes) = &entry.becomes {
            let path = folder.join(VOLUME_MARKER);
            if let Some(mut marker) = marker::read::<VolumeMarker>(&path)? {
                marker.volume = becomes.volume.clone();
                marker.mark.clone_from(&becomes.mark);
                path_io::write_durably(&path, marker::text(&path, &marker)?)?;
            }
        }
        let path = folder.join(TRASH_MARKER);
        path_io::write_durably(&path, marker::text(&path, entry)?)?;
        path_io::rename(&folder, &place)?;
        sync_folder(&self.pool().join(TRASH))?;
        Ok(Ensured::Done)
    }

    /// What is there, and what was taken out and is not settled.
    pub(super) fn in_trash(
        &self,
        settled: &BTreeSet<String>,
    ) -> Result<Vec<TrashEntry>, StorageError> {
        self.check()?;
        let mut found = Vec::new();
        for path in list_or_nothing(&self.pool().join(TRASH))? {
            if !name_of(&path).starts_with('.')
                && let Some(entry) = marker::read(&path.join(TRASH_MARKER))?
            {
                found.push(entry);
            }
        }
        found.extend(self.untrashed(settled)?.into_iter().map(|(_, entry)| entry));
        Ok(found)
    }

    /// Moves something back to where it was.
    pub(super) fn take_out_of_trash(&self, uid: &str) -> Result<TrashEntry, StorageError> {
        self.check()?;
        let place = self.trash_of(uid)?;
        let Some(entry) = marker::read::<TrashEntry>(&place.join(TRASH_MARKER))? else {
            return self
                .untrashed(&BTreeSet::new())?
                .into_iter()
                .find_map(|(_, entry)| (entry.uid == uid).then_some(entry))
                .ok_or_else(|| StorageError::NotInTrash(uid.to_owned()));
        };
        let back = entry
            .becomes
            .as_ref()
            .map_or(&entry.volume, |becomes| &becomes.volume);
        let folder = self.folder_of(back)?;
        if folder.exists() {
            return Err(StorageError::VolumeExists(back.clone()));
        }
        path_io::rename(&place, &folder)?;
        sync_folder(folder.parent().unwrap_or(self.pool()))?;
        Ok(entry)
    }

    /// Whoever took something out knows it now.
    pub(super) fn settle_untrashed(&self, uid: &str) -> Result<(), StorageError> {
        for (folder, entry) in self.untrashed(&BTreeSet::new())? {
            if entry.uid == uid {
                path_io::remove_file(folder.join(TRASH_MARKER))?;
            }
        }
        Ok(())
    }

    /// Bytes of something there, all that is in its folder.
    pub(super) fn count_in_trash(&self, uid: &str) -> Result<Option<u64>, StorageError> {
        self.check()?;
        let place = self.trash_of(uid)?;
        match place.join(TRASH_MARKER).exists() {
            true => match self.files.used_in_trash(&place)? {
                Some(bytes) => Ok(Some(bytes)),
                None => Ok(Some(super::usage::bytes_below(&place)?)),
            },
            false => Ok(None),
        }
    }

    /// Removes something for good.
    pub(super) fn purge_trash(&self, uid: &str) -> Result<Ensured, StorageError> {
        self.check()?;
        let place = self.trash_of(uid)?;
        let id = VolumeId::Root(uid.to_owned());
        self.clear_mounts(&place, Users::CutOff, &id)?;
        self.remove_folder(&place)
    }
}
