//! Instances that come out of a backup.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;

use manifests::id::{Address, Mark, Uid};
use manifests::kind::{Kind, Spec};
use manifests::kinds::instance::Instance;
use manifests::lifecycle::Lifecycle;
use manifests::observed::Remembered;
use manifests::path_io;

use super::picks::InstancePicks;
use super::snapshots::disk_failed;
use super::{change, io_failed, own_mark, pick_in, pool_of, remove, root, spec, stored};
use crate::error::{Class, RuntimeError};
use crate::native::backup::{BackupError, Blob, Form, Places, Rules, Tree};
use crate::native::backups::{BackupImport, failed, streams};
use crate::native::definition::Definition;
use crate::native::host::Host;
use crate::native::image::ImageError;
use crate::native::image::carried::{DISK, INITRD, KERNEL};
use crate::native::imports::{DOING, bytes, fits, is_of, receive, refused, room, sync, unpack};
use crate::native::pools::{self, own_files_of_roots, root_volume};
use crate::native::send_stream::Command;
use crate::native::storage::{
    Initial, Kept, KeptTree, KeptTrees, LayeredDisk, Placed, PoolSeen, Receiving, StorageDriver,
    VolumePlan,
};
use crate::native::volumes::import::prepared;
use crate::native::{disk_image, image_documents};
use crate::runtime::Context;

/// An instance on its way in.
pub(in crate::native) struct Coming {
    definition: Definition<InstancePicks>,
    driver: Box<dyn StorageDriver>,
    /// Where its root goes, once it was made.
    laid: Option<Laid>,
}

/// Where a root is.
enum Laid {
    Container {
        upper: PathBuf,
        trees: KeptTrees,
        /// Where streams come.
        receiving: Option<Box<Receiving>>,
    },
    Machine(LayeredDisk),
}

impl Coming {
    /// Looks whether it may come.
    pub(in crate::native) fn new(
        host: &Host,
        import: &BackupImport<'_>,
        address: &Address,
        wanted: &Spec,
    ) -> Result<Self, RuntimeError> {
        let Spec::Instance(instance) = wanted else {
            return Err(super::super::wrong_kind(address));
        };
        let of_type = import.checked.head.r#type;
        if of_type.is_none_or(|of_type| of_type != instance.r#type) {
            return Err(refused(format!(
                "its configuration is of a {} and its data of a {}",
                instance.r#type,
                of_type.map_or("volume".to_owned(), |of_type| of_type.to_string())
            )));
        }
        if instance.ephemeral {
            let why = "it is ephemeral: what is stopped of it is gone";
            return Err(refused(why.to_owned()));
        }
        let others = host.instances_beside(address)?;
        if others.iter().any(|other| other.address == *address) {
            return Err(refused(format!(
                "there is an {address} already: give it another name with --name"
            )));
        }
        let name = instance.root().and_then(|(_, root)| root.pool.clone());
        let pool = name.ok_or_else(|| refused("its root disk names no pool".to_owned()))?;
        let (_, driver) = pool_of(host, &pool)?;
        let uid = Uid::derive(&uuid::Uuid::now_v7(), address);
        let usual = Lifecycle::default_of(Kind::Instance);
        let definition = Definition {
            address: address.clone(),
            mark: import.source.clone().map(|source| Mark { source, uid }),
            uid,
            complete: false,
            spec: wanted.clone(),
            remembered: Remembered {
                prune: usual.prune,
                protect: usual.protect,
            },
            picks: InstancePicks {
                pool,
                ..InstancePicks::default()
            },
        };
        Ok(Self {
            definition,
            driver,
            laid: None,
        })
    }

    pub(in crate::native) const fn uid(&self) -> Uid {
        self.definition.uid
    }

    pub(in crate::native) fn pool(&self) -> &str {
        &self.definition.picks.pool
    }

    fn spec(&self) -> Result<&Instance, RuntimeError> {
        spec(&self.definition)
    }

    /// What may be in its trees.
    pub(in crate::native) fn rules(&self) -> Rules {
        let Ok(instance) = self.spec() else {
            return Rules {
                ids: 0,
                devices: false,
            };
        };
        Rules {
            ids: match instance.security.privileged {
                true => u32::MAX,
                false => instance.security.idmap.size,
            },
            devices: instance.security.privileged,
        }
    }

    /// Makes it empty.
    pub(in crate::native) fn lay(
        &mut self,
        host: &Host,
        import: &BackupImport<'_>,
        context: &Context<'_>,
    ) -> Result<(), RuntimeError> {
        let failed = disk_failed(DOING);
        self.definition.picks.image = image(host, import, context)?;
        let instance = self.spec()?;
        let (content, image) = root::content(host, instance, &self.definition.picks.image)?;
        let volume = root_volume(&self.definition.uid);
        let plan = VolumePlan {
            id: volume.clone(),
            mark: own_mark(host, &self.definition),
            image,
            size: root::size(instance),
            content,
            own: own_files_of_roots(&pool_of(host, self.pool())?.0),
            initial: Initial::default(),
        };
        self.driver.ensure_volume(&plan).map_err(&failed)?;
        let placed = self.driver.place(&volume).map_err(&failed)?;
        let needed = |part: &str| !is_of(part, "image/") && !is_of(part, "volumes/");
        let needed = bytes(import.checked, needed);
        match self.driver.seen().map_err(&failed)? {
            PoolSeen::Ready { used, total, .. } => fits(needed, total.saturating_sub(used))?,
            PoolSeen::Missing | PoolSeen::Unmounted | PoolSeen::Foreign { .. } => {}
        }
        self.laid = match placed {
            Placed::Root { upper, .. } => {
                let trees = self.driver.kept_trees(&volume).map_err(&failed)?;
                let head = &import.checked.head;
                let kept = head.snapshots.iter().map(|one| one.form);
                let streams = streams(&trees, head.form, kept)?;
                Some(Laid::Container {
                    receiving: streams.map(Box::new),
                    upper,
                    trees,
                })
            }
            Placed::Disk { .. } => Some(Laid::Machine(
                self.driver.layered(&volume).map_err(&failed)?,
            )),
            Placed::Custom { .. } => None,
        };
        Ok(())
    }

    fn folder(&self) -> Result<PathBuf, RuntimeError> {
        let seen = self.driver.volume(&root_volume(&self.definition.uid));
        let seen = seen.map_err(disk_failed(DOING))?;
        Ok(seen.map(|seen| seen.folder).unwrap_or_default())
    }

    /// Gives what was unpacked its names.
    pub(in crate::native) fn finish(
        &mut self,
        import: &BackupImport<'_>,
    ) -> Result<(), RuntimeError> {
        let about = self
            .definition
            .to_json()
            .map_err(|error| RuntimeError::new(DOING, Class::Bug, error))?;
        match &mut self.laid {
            Some(Laid::Container {
                trees, receiving, ..
            }) => {
                container(import, trees, &about)?;
                if import.checked.head.form != Form::Files
                    && let Some(receiving) = receiving
                {
                    receiving.settle().map_err(disk_failed(DOING))?;
                }
            }
            Some(Laid::Machine(disk)) => machine(import, disk, &about)?,
            None => {}
        }
        // Its tree may be a file system of its own.
        if let Some(at) = self.driver.placed(&root_volume(&self.definition.uid)) {
            sync(&at)?;
        }
        sync(&self.folder()?)
    }

    /// Takes it out of place, where it is in it.
    pub(in crate::native) fn release(&self) -> Result<(), RuntimeError> {
        if self.laid.is_none() {
            return Ok(());
        }
        let released = self.driver.release(&root_volume(&self.definition.uid));
        released.map(|_| ()).map_err(disk_failed(DOING))
    }

    /// It is there from now on.
    pub(in crate::native) fn end(&mut self, host: &Host) -> Result<(), RuntimeError> {
        let definition = &mut self.definition;
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
}

impl Places for Coming {
    fn tree(&mut self, tree: &Tree) -> Result<Option<PathBuf>, BackupError> {
        Ok(match (&self.laid, tree) {
            (Some(Laid::Container { upper, .. }), Tree::Root) => Some(upper.clone()),
            (Some(Laid::Container { trees, .. }), Tree::Snapshot(name)) => {
                Some(prepared(trees, name)?)
            }
            (Some(Laid::Machine(disk)), Tree::Tpm) => Some(disk.folder().join(super::machine::TPM)),
            _ => None,
        })
    }

    fn command(&mut self, tree: &Tree, command: &Command<'_>) -> Result<(), BackupError> {
        let Some(Laid::Container { receiving, .. }) = &mut self.laid else {
            return Ok(());
        };
        match tree {
            Tree::Root => receive(receiving.as_deref_mut(), None, command),
            Tree::Snapshot(name) => receive(receiving.as_deref_mut(), Some(name), command),
            _ => Ok(()),
        }
    }

    fn blob(&mut self, blob: Blob) -> Result<Option<PathBuf>, BackupError> {
        let Some(Laid::Machine(disk)) = &self.laid else {
            return Ok(None);
        };
        Ok(match blob {
            Blob::Layer(layer) => {
                let file = disk.file(layer);
                // The empty one that a new disk has.
                path_io::remove_file(&file)?;
                Some(file)
            }
            Blob::Variables(name) => Some(disk.folder().join(name)),
            Blob::LayerVariables(layer, name) => Some(disk.beside(layer).join(name)),
            _ => None,
        })
    }
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
    let needed = bytes(import.checked, |part| part.starts_with("image/"));
    room(host.state(), needed)?;
    let head = &import.checked.head;
    let of = head.of().map(ToString::to_string).unwrap_or_default();
    let source = format!("backup of {of}");
    let rules = Rules {
        ids: 65_536,
        devices: false,
    };
    let fill = |folder: &Path| {
        let mut places = OfImage { folder };
        unpack(import, rules, &mut places, context)
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

    fn command(&mut self, _: &Tree, _: &Command<'_>) -> Result<(), BackupError> {
        Ok(())
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

fn container(
    import: &BackupImport<'_>,
    trees: &KeptTrees,
    about: &serde_json::Value,
) -> Result<(), RuntimeError> {
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

fn machine(
    import: &BackupImport<'_>,
    disk: &LayeredDisk,
    about: &serde_json::Value,
) -> Result<(), RuntimeError> {
    let head = &import.checked.head;
    let Some(layers) = &head.layers else {
        return Ok(());
    };
    for layer in layers.below.keys() {
        // What its header names as being below is nothing to go by; that it is a disk, and leads nowhere else, is.
        let seen = disk_image::inspect_overlay(&disk.file(*layer));
        let seen = seen.map_err(|error| RuntimeError::new(DOING, Class::Refused, error))?;
        if seen.format != disk_image::Format::Qcow2 {
            let why = format!("disk/{layer}.qcow2 is no qcow2 disk");
            return Err(refused(why));
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

/// Removes what there is of one that was not brought in to its end; whether it was.
pub(in crate::native) fn undo(host: &Host, uid: &Uid, pool: &str) -> Result<bool, RuntimeError> {
    let read = host
        .definitions
        .read::<InstancePicks>(Kind::Instance, uid)
        .ok()
        .flatten();
    if read.as_ref().is_some_and(|one| one.complete) {
        return Ok(true);
    }
    let (_, driver) = pool_of(host, pool)?;
    let removed = driver.remove_volume(&root_volume(uid));
    removed.map_err(|error| RuntimeError::new("clear up", pools::class(&error), error))?;
    if let Some(definition) = read {
        remove::forget(host, &definition)?;
    }
    Ok(false)
}
