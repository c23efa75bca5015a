//! The root of an instance: what it is made of, the pool that it is in, and its size, which is changed while it runs where the kernel lets it,
//! else before it is mounted again.

use manifests::desired::DesiredSet;
use manifests::devices::{Device, Disk};
use manifests::kind::Spec;
use manifests::kinds::instance::{Instance, InstanceType};
use manifests::scalar::byte_size::ByteSize;

use super::picks::InstancePicks;
use super::{pool_of, spec, stored};
use crate::error::{Class, RuntimeError};
use crate::native::definition::Definition;
use crate::native::host::Host;
use crate::native::image_documents;
use crate::native::moving;
use crate::native::pools::{self, root_volume};
use crate::native::storage::{DiskBelow, StorageDriver, StorageError, VolumeContent, VolumeId};
use crate::runtime::{Context, Effected};

/// The fingerprint of the image that an instance starts from; empty for a machine that starts from none.
pub(super) fn image(
    host: &Host,
    instance: &Instance,
    desired: &DesiredSet,
    context: &Context<'_>,
) -> Result<String, RuntimeError> {
    let made_for = instance.r#type;
    match &instance.image {
        None if made_for == InstanceType::VirtualMachine => Ok(String::new()),
        image => image_documents::resolve(host, image.as_ref(), made_for, desired, context)
            .map(|record| record.fingerprint),
    }
}

/// What the root of an instance is made of, and the image below it. Nothing is made yet: a disk that would not hold its
/// image is refused here.
pub(super) fn content(
    host: &Host,
    instance: &Instance,
    fingerprint: &str,
) -> Result<(VolumeContent, Option<String>), RuntimeError> {
    let image = (!fingerprint.is_empty()).then(|| fingerprint.to_owned());
    let content = match (instance.r#type, &image) {
        (InstanceType::Container, _) => VolumeContent::Filesystem,
        (InstanceType::VirtualMachine, None) => VolumeContent::Block { below: None },
        (InstanceType::VirtualMachine, Some(image)) => {
            let machine = host.images.machine(image).map_err(|error| {
                RuntimeError::new("make the root of", Class::NeedsOperator, error)
            })?;
            VolumeContent::Block {
                below: machine.disk.map(|disk| DiskBelow {
                    path: disk.path,
                    format: disk.format,
                    virtual_size: disk.virtual_size,
                }),
            }
        }
    };
    if let (VolumeContent::Block { below: Some(below) }, Some(size)) = (&content, size(instance))
        && size < below.virtual_size
    {
        let image = below.virtual_size;
        let error = StorageError::SmallerThanImage { size, image };
        return Err(RuntimeError::new(
            "make the root of",
            pools::class(&error),
            error,
        ));
    }
    Ok((content, image))
}

/// Bytes that the root of an instance is to have.
pub(super) fn size(instance: &Instance) -> Option<u64> {
    let (_, root) = instance.root()?;
    root.size.as_ref().map(ByteSize::bytes)
}

/// Gives a root its size, or accepts it for the next start.
pub(super) fn resize(
    host: &Host,
    definition: &Definition<InstancePicks>,
    instance: &Instance,
    runs: bool,
) -> Result<Effected, RuntimeError> {
    let failed = |error: StorageError| {
        let class = pools::class(&error);
        RuntimeError::new("resize the root of", class, error)
    };
    let (_, driver) = pool_of(host, &definition.picks.pool)?;
    let volume = root_volume(&definition.uid);
    if !runs {
        // One that ended by itself has left it mounted.
        driver.release(&volume).map_err(failed)?;
    }
    let wanted = size(instance);
    let before = driver.volume(&volume).map_err(failed)?;
    let grows = before.and_then(|volume| volume.size) < wanted;
    match driver.resize(&volume, wanted) {
        Ok(_) => Ok(Effected::Done),
        Err(StorageError::InUse(_)) if runs && grows && !driver.features().grow_live => {
            Ok(Effected::NextStart)
        }
        Err(error) => Err(failed(error)),
    }
}

/// Brings the root into the pool that the instance asks for, with its snapshots. It must not run.
pub(super) fn bring(
    host: &Host,
    definition: &mut Definition<InstancePicks>,
    before: &Definition<InstancePicks>,
    runs: bool,
    context: &Context<'_>,
) -> Result<(), RuntimeError> {
    let wanted = spec(definition)?
        .root()
        .and_then(|(_, root)| root.pool.clone());
    let Some(to) = wanted.filter(|pool| *pool != before.picks.pool) else {
        return Ok(());
    };
    let done = match runs {
        true => Err(RuntimeError::new(
            "move the root of",
            Class::Refused,
            "it runs: stop it first",
        )),
        false => {
            let mut moved = before.clone();
            moved.picks.pool.clone_from(&to);
            set_root(&mut moved, |root| root.pool = Some(to.clone()));
            let from = before.picks.pool.as_str();
            let id = root_volume(&definition.uid);
            moving::carry(host, &id, (from, &to), context, || {
                host.write_instance(&moved).map_err(stored)
            })
        }
    };
    match done {
        Ok(()) => definition.picks.pool = to,
        // The definition says what is.
        Err(_) => set_root(definition, |root| {
            root.pool = Some(before.picks.pool.clone());
        }),
    }
    done
}

fn set_root(definition: &mut Definition<InstancePicks>, set: impl Fn(&mut Disk)) {
    if let Spec::Instance(meant) = &mut definition.spec {
        for device in meant.devices.values_mut() {
            match device {
                Device::Disk(disk) if disk.is_root() => set(disk),
                _ => {}
            }
        }
    }
}

/// Grows a root that could not be grown while it was mounted.
pub(super) fn grow(
    driver: &dyn StorageDriver,
    volume: &VolumeId,
    instance: &Instance,
) -> Result<(), StorageError> {
    let Some(wanted) = size(instance) else {
        return Ok(());
    };
    let seen = match driver.volume(volume) {
        // After a start of the host nobody has mounted its pool yet.
        Err(StorageError::PoolUnmounted { .. }) => {
            driver.place(volume)?;
            driver.volume(volume)?
        }
        other => other?,
    };
    match seen.and_then(|volume| volume.size) {
        Some(size) if size < wanted => {
            driver.release(volume)?;
            driver.resize(volume, Some(wanted)).map(|_| ())
        }
        _ => Ok(()),
    }
}

/// Gives the root disk of the definition the size that it had.
pub(super) fn leave_size(definition: &mut Definition<InstancePicks>, before: &Instance) {
    let size = before.root().and_then(|(_, root)| root.size.clone());
    set_root(definition, |root| root.size.clone_from(&size));
}
