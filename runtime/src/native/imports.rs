//! What comes out of a backup: unpacked beside everything else, named when all of it is checked and on disk.
//!
//! What is under way is written down in `imports/UID` of the state folder before anything is made: the pool of the
//! instance's root, or nothing, then a line for each volume, with its uid and its pool. What a killed keel left has no
//! complete definition, or belongs to an instance that has none: the next sweep removes it.

use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;

use manifests::id::Uid;
use manifests::path_io::{self, AtPath as _, PathError};

use super::backup::{self, BackupError, Blob, Checked, Places, Rules, Source, Tree, Unpacking};
use super::backups::{BackupImport, failed};
use super::host::Host;
use super::image::tree_writer::Written;
use super::image_documents;
use super::instance::import as instances;
use super::send_stream::Command;
use super::storage::Receiving;
use super::volumes::import as volumes;
use crate::error::{Class, RuntimeError};
use crate::runtime::Context;

pub(super) const DOING: &str = "bring in the backup of";
/// Notes of what is under way.
const IMPORTS: &str = "imports";
/// Left free in a pool and in the store of images, in bytes.
const SPARE: u64 = 16 << 20;

fn io_failed(error: PathError) -> RuntimeError {
    RuntimeError::new(DOING, Class::NeedsOperator, error)
}

pub(super) fn refused(why: String) -> RuntimeError {
    RuntimeError::new(DOING, Class::Refused, why)
}

fn note(host: &Host, uid: &Uid) -> PathBuf {
    host.state().join(IMPORTS).join(uid.to_string())
}

/// Removes it, and the folder with the last of them.
fn forget_note(host: &Host, uid: &Uid) -> Result<(), PathError> {
    path_io::remove_file(note(host, uid))?;
    match path_io::remove_empty_dir(host.state().join(IMPORTS)) {
        Err(error) if error.kind() == std::io::ErrorKind::DirectoryNotEmpty => Ok(()),
        other => other,
    }
}

/// All that one backup brings.
struct Coming {
    instance: Option<instances::Coming>,
    volumes: Vec<volumes::Coming>,
}

impl Coming {
    fn new(host: &Host, import: &BackupImport<'_>) -> Result<Self, RuntimeError> {
        let instance = import.instance.as_ref().map(|(address, spec)| {
            instances::Coming::new(host, import, address, spec).map_err(|error| error.of(address))
        });
        let volumes = import.volumes.iter().map(|one| {
            let coming = volumes::Coming::new(host, import, one);
            coming.map_err(|error| error.of(&one.address))
        });
        Ok(Self {
            instance: instance.transpose()?,
            volumes: volumes.collect::<Result<_, _>>()?,
        })
    }

    /// The one by whose definition it is known whether all of it came.
    fn uid(&self) -> Option<Uid> {
        let last = self.volumes.last().map(volumes::Coming::uid);
        self.instance.as_ref().map(instances::Coming::uid).or(last)
    }

    fn note(&self) -> String {
        let pool = self.instance.as_ref().map(instances::Coming::pool);
        let mut text = format!("{}\n", pool.unwrap_or_default());
        for volume in &self.volumes {
            text.push_str(&format!("{} {}\n", volume.uid(), volume.pool()));
        }
        text
    }

    /// All of it but the note.
    fn make(
        &mut self,
        host: &Host,
        import: &BackupImport<'_>,
        context: &Context<'_>,
    ) -> Result<(), RuntimeError> {
        let filled = self.fill(host, import, context);
        let mut released = Ok(());
        if let Some(instance) = &self.instance {
            released = released.and(instance.release());
        }
        for volume in &self.volumes {
            released = released.and(volume.release());
        }
        filled.and(released)?;
        for volume in &mut self.volumes {
            volume.end(host)?;
        }
        match &mut self.instance {
            Some(instance) => instance.end(host),
            None => Ok(()),
        }
    }

    fn fill(
        &mut self,
        host: &Host,
        import: &BackupImport<'_>,
        context: &Context<'_>,
    ) -> Result<(), RuntimeError> {
        let mut rules = Rules {
            ids: u32::MAX,
            devices: false,
        };
        if let Some(instance) = &mut self.instance {
            instance.lay(host, import, context)?;
            rules = instance.rules();
        }
        let standing_in = self.uid().map(|uid| note(host, &uid)).unwrap_or_default();
        for volume in &mut self.volumes {
            volume.lay(host, import, &standing_in)?;
        }
        (context.progress)("unpacking");
        unpack(import, rules, self, context).map_err(failed(DOING))?;
        if let Some(instance) = &mut self.instance {
            instance.finish(import)?;
        }
        self.volumes
            .iter_mut()
            .try_for_each(volumes::Coming::finish)
    }
}

impl Places for Coming {
    fn tree(&mut self, tree: &Tree) -> Result<Option<PathBuf>, BackupError> {
        match tree {
            Tree::Volume(number) | Tree::VolumeSnapshot(number, _) => {
                let mut volumes = self.volumes.iter_mut();
                match volumes.find(|volume| volume.number() == *number) {
                    Some(volume) => volume.tree(tree),
                    None => Ok(None),
                }
            }
            _ => match &mut self.instance {
                Some(instance) => instance.tree(tree),
                None => Ok(None),
            },
        }
    }

    fn command(&mut self, tree: &Tree, command: &Command<'_>) -> Result<(), BackupError> {
        match tree {
            Tree::Volume(number) | Tree::VolumeSnapshot(number, _) => {
                let mut volumes = self.volumes.iter_mut();
                match volumes.find(|volume| volume.number() == *number) {
                    Some(volume) => volume.command(tree, command),
                    None => Ok(()),
                }
            }
            _ => match &mut self.instance {
                Some(instance) => instance.command(tree, command),
                None => Ok(()),
            },
        }
    }

    fn blob(&mut self, blob: Blob) -> Result<Option<PathBuf>, BackupError> {
        match blob {
            Blob::Volume(number) | Blob::VolumeSnapshot(number, _) => {
                let mut volumes = self.volumes.iter_mut();
                match volumes.find(|volume| volume.number() == number) {
                    Some(volume) => volume.blob(blob),
                    None => Ok(None),
                }
            }
            _ => match &mut self.instance {
                Some(instance) => instance.blob(blob),
                None => Ok(None),
            },
        }
    }
}

/// Brings in what is in a backup that was checked, under names that are free. An instance is stopped.
pub(super) fn import(
    host: &Host,
    import: &BackupImport<'_>,
    context: &Context<'_>,
) -> Result<(), RuntimeError> {
    let mut coming = Coming::new(host, import)?;
    let Some(uid) = coming.uid() else {
        return Err(refused("nothing of it is wanted".to_owned()));
    };
    path_io::create_dir_all(host.state().join(IMPORTS)).map_err(io_failed)?;
    path_io::write_durably(note(host, &uid), coming.note()).map_err(io_failed)?;
    if let Err(error) = coming.make(host, import, context) {
        if let Err(left) = undo(host, &uid) {
            tracing::warn!(error = %crate::native::chain(&left), "left something of an import behind");
        }
        if coming.instance.is_some() {
            // What it brought for nobody; what stays now is swept later.
            let _ = image_documents::sweep_content(host);
        }
        return Err(error);
    }
    forget_note(host, &uid).map_err(io_failed)
}

/// Fails unless the file system of a folder has so many bytes.
pub(super) fn room(folder: &Path, needed: u64) -> Result<(), RuntimeError> {
    let space = rustix::fs::statvfs(folder).at("look at", folder);
    let space = space.map_err(io_failed)?;
    fits(needed, space.f_bavail * space.f_frsize)
}

/// Fails unless so many bytes are free as are needed, and some more.
pub(super) fn fits(needed: u64, free: u64) -> Result<(), RuntimeError> {
    if needed.saturating_add(SPARE) <= free {
        return Ok(());
    }
    Err(refused(format!(
        "it needs {needed} bytes, and there are {free} free"
    )))
}

/// Bytes of the parts of a backup that are so.
pub(super) fn bytes(checked: &Checked, is_so: impl Fn(&str) -> bool) -> u64 {
    let parts = checked.parts.iter().filter(|part| is_so(&part.name));
    parts.map(|part| part.bytes).sum()
}

/// Whether a part belongs to what is at the begin of its name, in whatever form it is.
pub(super) fn is_of(part: &str, begin: &str) -> bool {
    part.strip_prefix("streams/")
        .unwrap_or(part)
        .starts_with(begin)
}

/// Does the next command of a stream for an object that takes such.
pub(super) fn receive(
    receiving: Option<&mut Receiving>,
    snapshot: Option<&str>,
    command: &Command<'_>,
) -> Result<(), BackupError> {
    let Some(receiving) = receiving else {
        return Ok(());
    };
    let taken = receiving.take(snapshot, command);
    taken.map_err(|error| BackupError::Storage(Box::new(error)))
}

/// Waits until the file system of a folder is on disk.
pub(super) fn sync(folder: &Path) -> Result<(), RuntimeError> {
    let open = std::fs::File::open(folder).at("open", folder);
    let synced = open.and_then(|open| rustix::fs::syncfs(&open).at("sync", folder));
    synced.map_err(io_failed)
}

/// Reads the backup once more and puts what is in it into places; it must be the one that was checked.
pub(super) fn unpack(
    import: &BackupImport<'_>,
    rules: Rules,
    places: &mut dyn Places,
    context: &Context<'_>,
) -> Result<Written, BackupError> {
    let source = Source {
        path: &import.path,
        unseal: import.unseal,
    };
    let mut unpacking = Unpacking::new(places, rules);
    let mut go_on = |_: u64| !context.cancel.load(Ordering::Relaxed);
    let read: Checked = backup::read(&source, &mut go_on, &mut unpacking)?;
    let read = read.whole(&import.path)?;
    if read.sha256 != import.checked.sha256 {
        return Err(BackupError::Changes {
            path: import.path.clone(),
        });
    }
    unpacking.finish()
}

/// Removes what an import that was not ended has made. One of which the definition is complete was ended but for its note.
fn undo(host: &Host, uid: &Uid) -> Result<(), RuntimeError> {
    let path = note(host, uid);
    let Some(text) = path_io::read_if_exists(&path).map_err(io_failed)? else {
        return Ok(());
    };
    let mut lines = text.lines();
    let pool = lines.next().unwrap_or_default();
    let brought: Vec<(Uid, &str)> = lines
        .filter_map(|line| line.split_once(' '))
        .filter_map(|(uid, pool)| Some((uid.parse().ok()?, pool)))
        .collect();
    let ended = match pool {
        "" => volumes::is_complete(host, uid),
        pool => instances::undo(host, uid, pool)?,
    };
    if !ended {
        for (uid, pool) in &brought {
            volumes::undo(host, uid, pool)?;
        }
    }
    forget_note(host, uid).map_err(io_failed)
}

/// Removes what killed imports left.
pub(super) fn sweep(host: &Host) -> Result<(), RuntimeError> {
    let folder = host.state().join(IMPORTS);
    let notes = match path_io::list(&folder) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        other => other.map_err(io_failed)?,
    };
    path_io::sweep_unfinished(&folder).map_err(io_failed)?;
    for path in notes {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if let Ok(uid) = name.parse() {
            undo(host, &uid)?;
        }
    }
    Ok(())
}
