//! What crashes leave in pools that are folders.

use manifests::path_io;

use super::block;
use super::driver::{ContentType, VolumeId};
use super::error::StorageError;
use super::files::Files;
use super::folder_pool::{FolderPool, GONE, INSTANCES, NEW, TRASH, VOLUME_MARKER, VOLUMES};
use super::folders::{list_or_nothing, name_of};
use super::marker::{self, VolumeMarker};
use super::unmounting::Users;

impl<F: Files> FolderPool<F> {
    /// Removes what crashes left in it.
    pub(super) fn clear_up(&self) -> Result<(), StorageError> {
        path_io::sweep_unfinished(self.pool())?;
        for kind in [INSTANCES, VOLUMES, TRASH] {
            for path in list_or_nothing(&self.pool().join(kind))? {
                let name = name_of(&path);
                let id = match kind {
                    VOLUMES => VolumeId::Custom(name.clone()),
                    _ => VolumeId::Root(name.clone()),
                };
                if name.starts_with(NEW) || name.starts_with(GONE) {
                    self.clear_mounts(&path, Users::CutOff, &id)?;
                    self.files.remove(&path)?;
                    continue;
                }
                self.files.put_away(&path, &id)?;
                let marker = marker::read::<VolumeMarker>(&path.join(VOLUME_MARKER))?;
                let file = match marker.map(|marker| marker.content) {
                    None => continue,
                    Some(ContentType::Filesystem) => {
                        self.trees(path, id, Some(0)).sweep()?;
                        continue;
                    }
                    Some(ContentType::Block) => block::FILE,
                    Some(ContentType::Iso) => block::ISO,
                };
                if let Some(home) = self.files.home_at_hand(&path)? {
                    Self::disks(home, id, file).sweep()?;
                }
            }
        }
        Ok(())
    }
}
