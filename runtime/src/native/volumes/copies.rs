//! A new volume as the copy of another one, of a snapshot of it, or of a file.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use manifests::id::Address;
use manifests::kinds::volume::{ContentType, Volume};
use manifests::path_io::AtPath as _;

use super::export::Reading;
use super::{VolumePicks, failed, id, named, pool, spec, users};
use crate::error::{Class, RuntimeError};
use crate::native::busy;
use crate::native::definition::Definition;
use crate::native::disk_image::{self, Format};
use crate::native::host::Host;
use crate::native::pools::pool_of;
use crate::native::storage::{self, KeptTrees, Placed, StorageDriver, VolumeId};
use crate::runtime::Context;

const DOING: &str = "copy";

/// What a volume is to be a copy of.
pub(super) enum Original {
    /// A file that nobody writes to: a snapshot, or what somebody has put on the host.
    Kept {
        /// The file, or the folder of a tree.
        path: PathBuf,
        /// Among which snapshots; none: a file of the host.
        trees: Option<KeptTrees>,
        /// Bytes of it as a disk; none for one of files.
        disk_size: Option<u64>,
        /// Whether it lies in the pool of the copy.
        within: bool,
    },
    /// Another volume as it is.
    Volume {
        /// That volume.
        volume: Arc<Definition<VolumePicks>>,
        /// Its pool.
        driver: Box<dyn StorageDriver>,
        /// Bytes of its disk; none for one of files.
        disk_size: Option<u64>,
        /// Whether that is the pool of the copy.
        within: bool,
    },
}

impl Original {
    /// Bytes of the disk; none for one of files.
    pub(super) const fn disk_size(&self) -> Option<u64> {
        match self {
            Self::Kept { disk_size, .. } | Self::Volume { disk_size, .. } => *disk_size,
        }
    }

    /// Whether it lies in the pool of the copy.
    const fn is_within(&self) -> bool {
        match self {
            Self::Kept { within, .. } | Self::Volume { within, .. } => *within,
        }
    }

    /// Where it lies.
    pub(super) fn path(&self) -> Result<PathBuf, RuntimeError> {
        match self {
            Self::Kept { path, .. } => Ok(path.clone()),
            Self::Volume { volume, driver, .. } => {
                path(driver.place(&id(&volume.uid)).map_err(failed(DOING))?)
            }
        }
    }
}

fn refused<T>(why: String) -> Result<T, RuntimeError> {
    Err(RuntimeError::new(DOING, Class::NeedsOperator, why))
}

/// Finds what a volume is to be a copy of; `None`: of nothing. Nothing is made yet.
pub(super) fn original(
    host: &Host,
    address: &Address,
    volume: &Volume,
) -> Result<Option<Original>, RuntimeError> {
    let Some(source) = &volume.source else {
        return Ok(None);
    };
    if let Some(file) = &source.file {
        return of_file(file.into(), volume.content_type).map(Some);
    }
    let of = source.pool.as_deref().unwrap_or_else(|| pool(address));
    let Some(found) = named(host, address.project_name(), of, &source.volume)? else {
        return refused(format!("there is no volume {} in pool {of}", source.volume));
    };
    if !found.complete {
        return refused(format!("{} is not made yet", found.address));
    }
    let content = spec(&found)?.content_type;
    if content != volume.content_type {
        return refused(format!("{} holds a {content}", found.address));
    }
    let (_, driver) = pool_of(host, of)?;
    let at = id(&found.uid);
    let disk_size = match content {
        ContentType::Filesystem => None,
        ContentType::Block | ContentType::Iso => {
            let seen = driver.volume(&at).map_err(failed(DOING))?;
            seen.and_then(|seen| seen.size)
        }
    };
    let within = of == pool(address);
    Ok(Some(match &source.snapshot {
        None => Original::Volume {
            volume: found,
            driver,
            disk_size,
            within,
        },
        Some(name) => {
            let trees = driver.kept_trees(&at).map_err(failed(DOING))?;
            Original::Kept {
                path: trees.kept(name).map_err(failed(DOING))?,
                trees: Some(trees),
                disk_size,
                within,
            }
        }
    }))
}

/// A file of the host. What its first bytes say decides, and a disk that others lie below is not taken.
fn of_file(path: PathBuf, content: ContentType) -> Result<Original, RuntimeError> {
    let shown = path.display();
    let size = match content {
        ContentType::Filesystem => {
            return refused(format!("{shown} is a file, and the volume is one of files"));
        }
        ContentType::Iso => {
            let found = path.metadata().at("look at", &path);
            let found =
                found.map_err(|error| RuntimeError::new(DOING, Class::NeedsOperator, error))?;
            if !found.is_file() {
                return refused(format!("{shown} is no file"));
            }
            found.len()
        }
        ContentType::Block => {
            let image = disk_image::inspect(&path)
                .map_err(|error| RuntimeError::new(DOING, Class::Refused, error))?;
            if image.format != Format::Qcow2 {
                return refused(format!(
                    "{shown} is no qcow2 disk: `qemu-img convert -O qcow2` makes one of it"
                ));
            }
            image.virtual_size
        }
    };
    Ok(Original::Kept {
        path,
        trees: None,
        disk_size: Some(size),
        within: false,
    })
}

/// Copies it into an empty volume, and compares what comes from elsewhere. Who writes to the original stands still meanwhile,
/// where its pool makes no copies at once.
pub(super) fn fill(
    host: &Host,
    original: &Original,
    driver: &dyn StorageDriver,
    to: &VolumeId,
    context: &Context<'_>,
) -> Result<(), RuntimeError> {
    let target = Target {
        path: path(driver.place(to).map_err(failed(DOING))?)?,
        trees: driver.kept_trees(to).map_err(failed(DOING))?,
        within: original.is_within(),
    };
    let (volume, source) = match original {
        Original::Kept { path, trees, .. } => return target.fill(path, trees.as_ref(), context),
        Original::Volume { volume, driver, .. } => (volume, driver),
    };
    if let Some(mut reading) = at_once(host, volume, source.as_ref())? {
        let filled = reading.copy(context).and_then(|()| {
            let (trees, from) = reading.source();
            target.fill(from, Some(trees), context)
        });
        return filled.and(reading.end(host));
    }
    let from = original.path()?;
    users::still(host, volume, || target.fill(&from, None, context))?;
    users::let_rest(host, volume)
}

/// A volume of which a copy is made at once, whoever writes to it. None: its pool makes no such copies, or a backup is being
/// written of it.
fn at_once(
    host: &Host,
    volume: &Arc<Definition<VolumePicks>>,
    driver: &dyn StorageDriver,
) -> Result<Option<Reading>, RuntimeError> {
    let trees = driver.kept_trees(&id(&volume.uid)).map_err(failed(DOING))?;
    if trees.needs_stillness() || busy::read_of(host, &volume.uid)?.is_some() {
        return Ok(None);
    }
    Reading::begin(host, Arc::clone(volume), None).map(Some)
}

/// The volume that a copy goes into.
struct Target {
    path: PathBuf,
    trees: KeptTrees,
    /// Whether it lies in the pool of the original.
    within: bool,
}

impl Target {
    /// Copies what lies at `from` and changes no more, among the snapshots of `trees`. What comes from another pool is
    /// compared; from one of btrfs into another it goes as a stream, of what differs from a copy that is there.
    fn fill(
        &self,
        from: &Path,
        trees: Option<&KeptTrees>,
        context: &Context<'_>,
    ) -> Result<(), RuntimeError> {
        let mut go_on = || !context.cancel.load(Ordering::Relaxed);
        if let (false, Some(trees)) = (self.within, trees)
            && trees
                .send(from, &self.trees, &mut go_on)
                .map_err(failed(DOING))?
                .is_some()
        {
            return Ok(());
        }
        storage::fill(from, &self.path, &mut go_on).map_err(failed(DOING))?;
        match self.within {
            true => Ok(()),
            false => storage::compare(from, &self.path, &mut go_on).map_err(failed(DOING)),
        }
    }
}

/// Where the files or the disk of a volume are.
pub(super) fn path(placed: Placed) -> Result<PathBuf, RuntimeError> {
    match placed {
        Placed::Custom { folder } => Ok(folder),
        Placed::Disk { file, .. } => Ok(file),
        Placed::Root { .. } => Err(RuntimeError::new(
            DOING,
            Class::Bug,
            "it is the root of an instance",
        )),
    }
}
