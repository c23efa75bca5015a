//! Volumes that come out of a backup.

use std::path::{Path, PathBuf};

use manifests::id::{Mark, Uid};
use manifests::kind::{Kind, Spec};
use manifests::kinds::volume::{ContentType, Volume};
use manifests::lifecycle::Lifecycle;
use manifests::observed::Remembered;
use manifests::path_io::{self, PathError};

use super::{VolumePicks, copies, failed, id, own_files, own_mark, size, spec, stored};
use crate::error::{Class, RuntimeError};
use crate::native::backup::{BackupError, Blob, Form, Places, Tree, VolumeHead};
use crate::native::backups::{BackupImport, VolumeImport, streams};
use crate::native::definition::Definition;
use crate::native::disk_image;
use crate::native::host::Host;
use crate::native::imports::{DOING, bytes, is_of, receive, refused, room, sync};
use crate::native::pools::pool_of;
use crate::native::send_stream::Command;
use crate::native::storage::{
    Initial, KeptTree, KeptTrees, Receiving, StorageDriver, VolumeContent, VolumePlan,
};

/// The size of a disk until its own one takes its place, in bytes.
const STANDING_IN: u64 = 1 << 20;

/// A volume on its way in.
pub(in crate::native) struct Coming {
    number: u32,
    head: VolumeHead,
    definition: Definition<VolumePicks>,
    driver: Box<dyn StorageDriver>,
    /// Where it goes, once it was made.
    laid: Option<(PathBuf, KeptTrees)>,
    /// Where streams come.
    receiving: Option<Receiving>,
}

impl Coming {
    /// Looks whether it may come.
    pub(in crate::native) fn new(
        host: &Host,
        import: &BackupImport<'_>,
        volume: &VolumeImport,
    ) -> Result<Self, RuntimeError> {
        let address = &volume.address;
        let head = usize::try_from(volume.number)
            .ok()
            .and_then(|number| import.checked.head.volumes.get(number));
        let head = head.ok_or_else(|| refused("it is not in the backup".to_owned()))?;
        let Spec::Volume(wanted) = &volume.spec else {
            return Err(crate::native::wrong_kind(address));
        };
        if wanted.content_type != head.content_type {
            return Err(refused(format!(
                "its configuration is of a {} and its data of a {}",
                wanted.content_type, head.content_type
            )));
        }
        let others = host.definitions.every::<VolumePicks>(Kind::Volume);
        let others =
            others.map_err(|error| RuntimeError::new(DOING, Class::NeedsOperator, error))?;
        if others.iter().any(|other| other.address == *address) {
            return Err(refused(format!("there is a {address} already")));
        }
        let (_, driver) = pool_of(host, super::pool(address))?;
        let uid = Uid::derive(&uuid::Uuid::now_v7(), address);
        let usual = Lifecycle::default_of(Kind::Volume);
        Ok(Self {
            number: volume.number,
            head: head.clone(),
            definition: Definition {
                address: address.clone(),
                mark: import.source.clone().map(|source| Mark { source, uid }),
                uid,
                complete: false,
                spec: volume.spec.clone(),
                remembered: Remembered {
                    prune: usual.prune,
                    protect: usual.protect,
                },
                picks: (),
            },
            driver,
            laid: None,
            receiving: None,
        })
    }

    pub(in crate::native) const fn uid(&self) -> Uid {
        self.definition.uid
    }

    pub(in crate::native) fn pool(&self) -> &str {
        super::pool(&self.definition.address)
    }

    pub(in crate::native) const fn number(&self) -> u32 {
        self.number
    }

    fn spec(&self) -> Result<&Volume, RuntimeError> {
        spec(&self.definition)
    }

    /// Makes it empty. `standing_in` is some file, of which that of a CD is a copy until its own one is there.
    pub(in crate::native) fn lay(
        &mut self,
        host: &Host,
        import: &BackupImport<'_>,
        standing_in: &Path,
    ) -> Result<(), RuntimeError> {
        let volume = self.spec()?;
        let initial = volume.initial.clone().unwrap_or_default();
        let of = id(&self.definition.uid);
        let (content, size) = match volume.content_type {
            ContentType::Filesystem => (VolumeContent::Filesystem, size(volume)),
            ContentType::Block => {
                let size = size(volume).unwrap_or(STANDING_IN);
                (VolumeContent::Block { below: None }, Some(size))
            }
            ContentType::Iso => {
                let from = standing_in.to_path_buf();
                (VolumeContent::Iso { from }, size(volume))
            }
        };
        let plan = VolumePlan {
            id: of.clone(),
            mark: own_mark(host, &self.definition.uid),
            image: None,
            size,
            content,
            own: own_files(volume),
            initial: Initial {
                uid: initial.uid,
                gid: initial.gid,
                mode: initial.mode.0,
            },
        };
        self.driver.ensure_volume(&plan).map_err(failed(DOING))?;
        let at = copies::path(self.driver.place(&of).map_err(failed(DOING))?)?;
        let trees = self.driver.kept_trees(&of).map_err(failed(DOING))?;
        let folder = at.parent().unwrap_or(&at);
        let own = format!("volumes/{}/", self.number);
        room(folder, bytes(import.checked, |part| is_of(part, &own)))?;
        let kept = self.head.snapshots.iter().map(|one| one.form);
        self.receiving = streams(&trees, self.head.form, kept)?;
        self.laid = Some((at, trees));
        Ok(())
    }

    /// Gives what was unpacked its names.
    pub(in crate::native) fn finish(&mut self) -> Result<(), RuntimeError> {
        let Some((at, trees)) = &self.laid else {
            return Ok(());
        };
        let volume = self.spec()?;
        let about = self
            .definition
            .to_json()
            .map_err(|error| RuntimeError::new(DOING, Class::Bug, error))?;
        if volume.content_type == ContentType::Block {
            is_disk(at)?;
        }
        for snapshot in &self.head.snapshots {
            if volume.content_type == ContentType::Block {
                is_disk(&trees.prepared(&snapshot.name))?;
            }
            let kept = KeptTree {
                created_at: snapshot.created_at,
                description: snapshot.description.clone(),
                // No schedule made it here, so none thins it.
                made_by: None,
                expires_at: None,
                about: about.clone(),
            };
            trees
                .complete(&snapshot.name, &kept)
                .map_err(failed(DOING))?;
        }
        if self.head.form != Form::Files
            && let Some(receiving) = &mut self.receiving
        {
            receiving.settle().map_err(failed(DOING))?;
        }
        sync(at.parent().unwrap_or(at))
    }

    /// Takes it out of place, where it is in it.
    pub(in crate::native) fn release(&self) -> Result<(), RuntimeError> {
        if self.laid.is_none() {
            return Ok(());
        }
        let released = self.driver.release(&id(&self.definition.uid));
        released.map(|_| ()).map_err(failed(DOING))
    }

    /// It is there from now on.
    pub(in crate::native) fn end(&mut self, host: &Host) -> Result<(), RuntimeError> {
        self.definition.complete = true;
        host.definitions.write(&self.definition).map_err(stored)
    }
}

/// Refuses what is no disk, or leads elsewhere.
fn is_disk(path: &Path) -> Result<(), RuntimeError> {
    let image = disk_image::inspect(path)
        .map_err(|error| RuntimeError::new(DOING, Class::Refused, error))?;
    match image.format {
        disk_image::Format::Qcow2 => Ok(()),
        _ => Err(refused("its disk is no qcow2 disk".to_owned())),
    }
}

impl Places for Coming {
    fn tree(&mut self, tree: &Tree) -> Result<Option<PathBuf>, BackupError> {
        let Some((at, trees)) = self.laid.as_ref().filter(|_| self.head.is_of_files()) else {
            return Ok(None);
        };
        Ok(match tree {
            Tree::Volume(_) => Some(at.clone()),
            Tree::VolumeSnapshot(_, name) => Some(prepared(trees, name)?),
            _ => None,
        })
    }

    fn command(&mut self, tree: &Tree, command: &Command<'_>) -> Result<(), BackupError> {
        match tree {
            Tree::Volume(_) => receive(self.receiving.as_mut(), None, command),
            Tree::VolumeSnapshot(_, name) => receive(self.receiving.as_mut(), Some(name), command),
            _ => Ok(()),
        }
    }

    fn blob(&mut self, blob: Blob) -> Result<Option<PathBuf>, BackupError> {
        let Some((at, trees)) = self.laid.as_ref().filter(|_| !self.head.is_of_files()) else {
            return Ok(None);
        };
        Ok(match blob {
            Blob::Volume(_) => {
                // What stands in for it.
                path_io::remove_file(at)?;
                Some(at.clone())
            }
            Blob::VolumeSnapshot(_, number) => {
                let snapshots = &self.head.snapshots;
                let number = usize::try_from(number).ok();
                match number.and_then(|number| snapshots.get(number)) {
                    Some(snapshot) => Some(prepared(trees, &snapshot.name)?),
                    None => None,
                }
            }
            _ => None,
        })
    }
}

/// Where the files or the disk of a snapshot go.
pub(in crate::native) fn prepared(trees: &KeptTrees, name: &str) -> Result<PathBuf, BackupError> {
    trees.prepare(name).map_err(|error| {
        BackupError::Path(PathError {
            path: trees.tree().to_path_buf(),
            doing: "prepare a snapshot beside",
            source: std::io::Error::other(error),
        })
    })
}

/// Whether one was brought in to its end.
pub(in crate::native) fn is_complete(host: &Host, uid: &Uid) -> bool {
    let read = host.definitions.read::<VolumePicks>(Kind::Volume, uid);
    read.ok().flatten().is_some_and(|one| one.complete)
}

/// Removes one that came with something that was not brought in to its end.
pub(in crate::native) fn undo(host: &Host, uid: &Uid, pool: &str) -> Result<(), RuntimeError> {
    let (_, driver) = pool_of(host, pool)?;
    driver.remove_volume(&id(uid)).map_err(failed("clear up"))?;
    host.definitions
        .remove(Kind::Volume, uid)
        .map_err(|error| RuntimeError::new("clear up", Class::NeedsOperator, error))
}
