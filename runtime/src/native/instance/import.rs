//! Instances that come out of a backup: unpacked beside everything else, named when all of it is checked and on disk.
//!
//! What is under way is written down in `imports/UID` of the state folder before anything is made. What a killed keel left
//! has no complete definition: the next sweep removes it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;

use manifests::id::{Mark, Uid};
use manifests::kind::{Kind, Spec};
use manifests::kinds::instance::Instance;
use manifests::lifecycle::Lifecycle;
use manifests::observed::Remembered;
use manifests::path_io::{self, AtPath as _, PathError};

use super::picks::InstancePicks;
use super::snapshots::disk_failed;
use super::{change, io_failed, own_mark, pick_in, pool_of, remove, root, spec, stored};
use crate::error::{Class, RuntimeError};
use crate::native::backup::{
    self, BackupError, Blob, Checked, Places, Rules, Source, Tree, Unpacking,
};
use crate::native::backups::{BackupImport, failed};
use crate::native::definition::Definition;
use crate::native::host::Host;
use crate::native::image::ImageError;
use crate::native::image::carried::{DISK, INITRD, KERNEL};
use crate::native::pools::{self, root_volume};
use crate::native::storage::{
    Initial, Kept, KeptTree, KeptTrees, LayeredDisk, Placed, StorageDriver, VolumePlan,
};
use crate::native::{disk_image, image_documents};
use crate::runtime::Context;

const DOING: &str = "bring in the backup of";
/// Notes of what is under way.
const IMPORTS: &str = "imports";
/// Left free in a pool and in the store of images, in bytes.
const SPARE: u64 = 16 << 20;

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

/// Brings in the instance of a backup that was checked, under a name that is free. It is stopped.
pub(in crate::native) fn import(
    host: &Host,
    import: &BackupImport<'_>,
    context: &Context<'_>,
) -> Result<(), RuntimeError> {
    let address = &import.address;
    let refuse = |why: String| RuntimeError::new(DOING, Class::Refused, why);
    let Spec::Instance(instance) = &import.spec else {
        return Err(super::super::wrong_kind(address));
    };
    let head = &import.checked.head;
    if instance.r#type != head.r#type {
        let what = format!(
            "its configuration is of a {} and its data of a {}",
            instance.r#type, head.r#type
        );
        return Err(refuse(what));
    }
    if instance.ephemeral {
        return Err(refuse(
            "it is ephemeral: what is stopped of it is gone".to_owned(),
        ));
    }
    let others = host.instances_beside(address)?;
    if others.iter().any(|other| other.address == *address) {
        return Err(refuse(format!(
            "there is an {address} already: give it another name with --name"
        )));
    }
    let name = instance.root().and_then(|(_, root)| root.pool.clone());
    let pool = name.ok_or_else(|| refuse("its root disk names no pool".to_owned()))?;
    let (_, driver) = pool_of(host, &pool)?;
    let uid = Uid::derive(&uuid::Uuid::now_v7(), address);
    let usual = Lifecycle::default_of(Kind::Instance);
    let mut definition = Definition {
        address: address.clone(),
        mark: import.source.clone().map(|source| Mark { source, uid }),
        uid,
        complete: false,
        spec: import.spec.clone(),
        remembered: Remembered {
            prune: usual.prune,
            protect: usual.protect,
        },
        picks: InstancePicks {
            pool: pool.clone(),
            ..InstancePicks::default()
        },
    };
    path_io::create_dir_all(host.state().join(IMPORTS)).map_err(io_failed(DOING))?;
    path_io::write_durably(note(host, &uid), &pool).map_err(io_failed(DOING))?;
    let made = make(
        host,
        import,
        instance,
        &mut definition,
        driver.as_ref(),
        context,
    );
    if let Err(error) = made {
        if let Err(left) = undo(host, &uid) {
            tracing::warn!(error = %crate::native::chain(&left), "left something of an import behind");
        }
        if !definition.picks.image.is_empty() {
            // What it brought for nobody; what stays now is swept later.
            let _ = image_documents::sweep_content(host);
        }
        return Err(error);
    }
    forget_note(host, &uid).map_err(io_failed(DOING))
}

/// All of it but the note.
fn make(
    host: &Host,
    import: &BackupImport<'_>,
    instance: &Instance,
    definition: &mut Definition<InstancePicks>,
    driver: &dyn StorageDriver,
    context: &Context<'_>,
) -> Result<(), RuntimeError> {
    let failed_disk = disk_failed(DOING);
    let rules = Rules {
        ids: match instance.security.privileged {
            true => u32::MAX,
            false => instance.security.idmap.size,
        },
        devices: instance.security.privileged,
    };
    definition.picks.image = image(host, import, context)?;
    let (content, image) = root::content(host, instance, &definition.picks.image)?;
    let volume = root_volume(&definition.uid);
    let plan = VolumePlan {
        id: volume.clone(),
        mark: own_mark(host, definition),
        image,
        size: root::size(instance),
        content,
        initial: Initial::default(),
    };
    driver.ensure_volume(&plan).map_err(&failed_disk)?;
    (context.progress)("unpacking");
    let placed = driver.place(&volume).map_err(&failed_disk)?;
    let seen = driver.volume(&volume).map_err(&failed_disk)?;
    let folder = seen.map(|seen| seen.folder).unwrap_or_default();
    let needed = import.checked.parts.iter();
    let needed: u64 = needed
        .filter(|part| !part.name.starts_with("image/"))
        .map(|part| part.bytes)
        .sum();
    room(&folder, needed)?;
    let about = definition
        .to_json()
        .map_err(|error| RuntimeError::new(DOING, Class::Bug, error))?;
    let filled = match placed {
        Placed::Root { upper, .. } => {
            let trees = driver.kept_trees(&volume).map_err(&failed_disk)?;
            container(import, rules, &upper, &trees, &about, context)
        }
        Placed::Disk { .. } => {
            let disk = driver.layered(&volume).map_err(&failed_disk)?;
            machine(import, rules, &disk, &about, context)
        }
        Placed::Custom { .. } => Ok(()),
    };
    let synced = sync(&folder).map_err(io_failed(DOING));
    driver.release(&volume).map_err(&failed_disk)?;
    filled.and(synced)?;
    // Networks may come later: its start needs them, its data do not.
    let networks = super::networks_there(host, definition, spec(definition)?)?;
    pick_in(host, definition, &networks)?;
    if !definition.picks.image.is_empty() {
        let claimed = host.images.claim(&definition.picks.image);
        claimed.map_err(io_failed("claim the image of"))?;
    }
    definition.complete = true;
    host.write_instance(definition).map_err(stored)?;
    // Without its networks there are no reservations to make.
    if let Err(error) = change::network(host, definition) {
        tracing::debug!(error = %crate::native::chain(&error), "its networks do not know it yet");
    }
    Ok(())
}

/// Fails unless the file system of a folder has so many bytes.
fn room(folder: &Path, needed: u64) -> Result<(), RuntimeError> {
    let space = rustix::fs::statvfs(folder).at("look at", folder);
    let space = space.map_err(io_failed(DOING))?;
    let free = space.f_bavail * space.f_frsize;
    if needed.saturating_add(SPARE) <= free {
        return Ok(());
    }
    let why = format!("it needs {needed} bytes, and there are {free} free");
    Err(RuntimeError::new(DOING, Class::Refused, why))
}

fn sync(folder: &Path) -> Result<(), PathError> {
    let open = std::fs::File::open(folder).at("open", folder)?;
    rustix::fs::syncfs(&open).at("sync", folder)
}

/// Reads the backup once more and puts what is in it into places; it must be the one that was checked.
fn unpack(
    import: &BackupImport<'_>,
    rules: Rules,
    places: &mut dyn Places,
    context: &Context<'_>,
) -> Result<(), BackupError> {
    unpack_written(import, rules, places, context).map(|_| ())
}

fn unpack_written(
    import: &BackupImport<'_>,
    rules: Rules,
    places: &mut dyn Places,
    context: &Context<'_>,
) -> Result<crate::native::image::tree_writer::Written, BackupError> {
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

/// The image below its root: that of the store where it is the same, else the one in the backup.
fn image(
    host: &Host,
    import: &BackupImport<'_>,
    context: &Context<'_>,
) -> Result<String, RuntimeError> {
    let Some(image) = &import.checked.head.image else {
        return Ok(String::new());
    };
    let class = |error: &ImageError| image_documents::class(error);
    let failed_image = |error: ImageError| RuntimeError::new(DOING, class(&error), error);
    let there = host.images.alike(&image.record).map_err(failed_image)?;
    if let Some(there) = there {
        return Ok(there.fingerprint);
    }
    if !image.included {
        let why = format!(
            "its image {} is neither in the backup nor in the store: keel image import",
            image.record.fingerprint
        );
        return Err(RuntimeError::new(DOING, Class::NeedsOperator, why));
    }
    (context.progress)("unpacking its image");
    let store = host.images.for_somebody();
    let needed = import.checked.parts.iter();
    let needed: u64 = needed
        .filter(|part| part.name.starts_with("image/"))
        .map(|part| part.bytes)
        .sum();
    room(host.state(), needed)?;
    let source = format!("backup of {}", import.checked.head.instance);
    let rules = Rules {
        ids: 65_536,
        devices: false,
    };
    let fill = |folder: &Path| {
        let mut places = OfImage { folder };
        unpack_written(import, rules, &mut places, context)
    };
    let mut go_on = |_: u64| !context.cancel.load(Ordering::Relaxed);
    let carried = store.carry::<BackupError>(&image.record, &source, fill, &mut go_on);
    carried
        .map(|carried| carried.record.fingerprint)
        .map_err(failed(DOING))
}

struct OfImage<'a> {
    folder: &'a Path,
}

impl Places for OfImage<'_> {
    fn tree(&mut self, tree: &Tree) -> Result<Option<PathBuf>, BackupError> {
        Ok((*tree == Tree::Image).then(|| self.folder.join("rootfs")))
    }

    fn blob(&mut self, blob: Blob) -> Result<Option<PathBuf>, BackupError> {
        Ok(match blob {
            Blob::ImageDisk => Some(self.folder.join(DISK)),
            Blob::ImageKernel => Some(self.folder.join(KERNEL)),
            Blob::ImageInitrd => Some(self.folder.join(INITRD)),
            _ => None,
        })
    }
}

struct OfContainer<'a> {
    upper: &'a Path,
    trees: &'a KeptTrees,
}

impl Places for OfContainer<'_> {
    fn tree(&mut self, tree: &Tree) -> Result<Option<PathBuf>, BackupError> {
        let prepared = |name: &str| {
            self.trees.prepare(name).map_err(|error| {
                BackupError::Path(PathError {
                    path: self.upper.to_path_buf(),
                    doing: "prepare a snapshot beside",
                    source: std::io::Error::other(error),
                })
            })
        };
        Ok(match tree {
            Tree::Root => Some(self.upper.to_path_buf()),
            Tree::Snapshot(name) => Some(prepared(name)?),
            Tree::Image | Tree::Tpm => None,
        })
    }

    fn blob(&mut self, _: Blob) -> Result<Option<PathBuf>, BackupError> {
        Ok(None)
    }
}

fn container(
    import: &BackupImport<'_>,
    rules: Rules,
    upper: &Path,
    trees: &KeptTrees,
    about: &serde_json::Value,
    context: &Context<'_>,
) -> Result<(), RuntimeError> {
    let mut places = OfContainer { upper, trees };
    unpack(import, rules, &mut places, context).map_err(failed(DOING))?;
    for snapshot in &import.checked.head.snapshots {
        let kept = KeptTree {
            created_at: snapshot.created_at,
            description: snapshot.description.clone(),
            // No schedule made it here, so none thins it.
            made_by: None,
            expires_at: None,
            about: about.clone(),
        };
        let done = trees.complete(&snapshot.name, &kept);
        done.map_err(disk_failed(DOING))?;
    }
    Ok(())
}

struct OfMachine<'a> {
    disk: &'a LayeredDisk,
}

impl Places for OfMachine<'_> {
    fn tree(&mut self, tree: &Tree) -> Result<Option<PathBuf>, BackupError> {
        Ok((*tree == Tree::Tpm).then(|| self.disk.folder().join(super::machine::TPM)))
    }

    fn blob(&mut self, blob: Blob) -> Result<Option<PathBuf>, BackupError> {
        Ok(match blob {
            Blob::Layer(layer) => {
                let file = self.disk.file(layer);
                // The empty one that a new disk has.
                path_io::remove_file(&file)?;
                Some(file)
            }
            Blob::Variables(name) => Some(self.disk.folder().join(name)),
            Blob::LayerVariables(layer, name) => Some(self.disk.beside(layer).join(name)),
            _ => None,
        })
    }
}

fn machine(
    import: &BackupImport<'_>,
    rules: Rules,
    disk: &LayeredDisk,
    about: &serde_json::Value,
    context: &Context<'_>,
) -> Result<(), RuntimeError> {
    let head = &import.checked.head;
    let mut places = OfMachine { disk };
    unpack(import, rules, &mut places, context).map_err(failed(DOING))?;
    let Some(layers) = &head.layers else {
        return Ok(());
    };
    for layer in layers.below.keys() {
        // What its header names as being below is nothing to go by; that it is a disk, and leads nowhere else, is.
        let seen = disk_image::inspect_overlay(&disk.file(*layer));
        let seen = seen.map_err(|error| RuntimeError::new(DOING, Class::Refused, error))?;
        if seen.format != disk_image::Format::Qcow2 {
            let why = format!("disk/{layer}.qcow2 is no qcow2 disk");
            return Err(RuntimeError::new(DOING, Class::Refused, why));
        }
    }
    let snapshots: BTreeMap<String, Kept> = head
        .snapshots
        .iter()
        .filter_map(|snapshot| {
            let kept = Kept {
                layer: snapshot.layer?,
                created_at: snapshot.created_at,
                description: snapshot.description.clone(),
                memory: false,
                made_by: None,
                expires_at: None,
                about: about.clone(),
            };
            Some((snapshot.name.clone(), kept))
        })
        .collect();
    disk.take_over(layers.active, layers.below.clone(), snapshots)
        .map_err(disk_failed(DOING))
}

/// Removes what an import that was not ended has made. One of which the definition is complete was ended but for its note.
fn undo(host: &Host, uid: &Uid) -> Result<(), RuntimeError> {
    let path = note(host, uid);
    let Some(pool) = path_io::read_if_exists(&path).map_err(io_failed("clear up"))? else {
        return Ok(());
    };
    let read = host
        .definitions
        .read::<InstancePicks>(Kind::Instance, uid)
        .ok()
        .flatten();
    if read.as_ref().is_none_or(|one| !one.complete) {
        let (_, driver) = pool_of(host, &pool)?;
        let removed = driver.remove_volume(&root_volume(uid));
        removed.map_err(|error| RuntimeError::new("clear up", pools::class(&error), error))?;
        if let Some(definition) = read {
            remove::forget(host, &definition)?;
        }
    }
    forget_note(host, uid).map_err(io_failed("clear up"))
}

/// Removes what killed imports left.
pub(in crate::native) fn sweep(host: &Host) -> Result<(), RuntimeError> {
    let folder = host.state().join(IMPORTS);
    let notes = match path_io::list(&folder) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        other => other.map_err(io_failed("clear up"))?,
    };
    path_io::sweep_unfinished(&folder).map_err(io_failed("clear up"))?;
    for path in notes {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if let Ok(uid) = name.parse() {
            undo(host, &uid)?;
        }
    }
    Ok(())
}
