//! The volumes of an instance: where they are on this host, and whether it may have them.

use std::sync::Arc;

use manifests::devices::{Device, Disk};
use manifests::kinds::instance::Instance;
use manifests::kinds::volume::ContentType;

use super::picks::InstancePicks;
use super::{pool_of, spec};
use crate::error::{Class, RuntimeError};
use crate::native::definition::Definition;
use crate::native::host::Host;
use crate::native::storage::{Placed, StorageDriver, StorageError};
use crate::native::volumes::{self, User, VolumePicks};

const FIND: &str = "find a volume of";

fn failed(error: StorageError) -> RuntimeError {
    RuntimeError::new(FIND, crate::native::pools::class(&error), error)
}

/// A volume that is a disk of an instance, and its pool.
type Found = (Arc<Definition<VolumePicks>>, Box<dyn StorageDriver>);

/// Finds the volume of a disk; `None`: there is none.
fn find(
    host: &Host,
    definition: &Definition<InstancePicks>,
    disk: &Disk,
) -> Result<Option<Found>, RuntimeError> {
    let Some((pool, name)) = disk.volume() else {
        return Ok(None);
    };
    let project = definition.address.project_name();
    match volumes::named(host, project, pool, name)? {
        Some(volume) if volume.complete => Ok(Some((volume, pool_of(host, pool)?.1))),
        _ => Ok(None),
    }
}

/// The volumes that an instance uses and that there are, each once.
pub(in crate::native) fn used_volumes(
    host: &Host,
    definition: &Definition<InstancePicks>,
) -> Result<Vec<Arc<Definition<VolumePicks>>>, RuntimeError> {
    let mut all: Vec<Arc<Definition<VolumePicks>>> = Vec::new();
    let project = definition.address.project_name();
    for (_, pool, name) in volumes::uses(spec(definition)?) {
        let found = volumes::named(host, project, pool, name)?;
        if let Some(found) = found.filter(|found| found.complete)
            && !all.iter().any(|one| one.uid == found.uid)
        {
            all.push(found);
        }
    }
    Ok(all)
}

/// Puts the folder of a volume in the place of its name. Ids are shifted, unless the volume says not to.
fn put(
    disk: &mut Disk,
    folder: &std::path::Path,
    volume: &Definition<VolumePicks>,
) -> Result<(), RuntimeError> {
    let folder = folder.to_str().ok_or_else(|| {
        let why = format!("{} is no UTF-8", folder.display());
        RuntimeError::new(FIND, Class::NeedsOperator, why)
    })?;
    disk.source = Some(folder.to_owned());
    disk.shift = !volumes::spec(volume)?.unmapped;
    Ok(())
}

/// The instance as this host has it: with the folders of its volumes of files in the places of their names. They are made
/// ready for use. What need not be there and is not is left out.
pub(super) fn in_place(
    host: &Host,
    definition: &Definition<InstancePicks>,
    instance: &Instance,
) -> Result<Instance, RuntimeError> {
    let mut instance = instance.clone();
    let mut left_out = Vec::new();
    for (name, device) in &mut instance.devices {
        let Device::Disk(disk) = device else { continue };
        if disk.volume().is_none() || disk.path.is_none() {
            continue;
        }
        let found = find(host, definition, disk)?;
        let placed = match found {
            Some((volume, driver)) => Some((
                driver.place(&volumes::id(&volume.uid)).map_err(failed)?,
                volume,
            )),
            None if disk.required => return Err(missing(name, disk)),
            None => None,
        };
        match placed {
            Some((Placed::Custom { folder }, volume)) => put(disk, &folder, &volume)?,
            Some(_) => {
                let why = format!("devices.{name}: it is no volume of files");
                return Err(RuntimeError::new(FIND, Class::NeedsOperator, why));
            }
            None => left_out.push(name.clone()),
        }
    }
    for name in left_out {
        instance.devices.remove(&name);
    }
    Ok(instance)
}

fn missing(device: &str, disk: &Disk) -> RuntimeError {
    let (pool, volume) = disk.volume().unwrap_or_default();
    let why = format!("devices.{device}: there is no volume {volume} in pool {pool}");
    RuntimeError::new(FIND, Class::NeedsOperator, why)
}

/// As [`in_place`], for a look: nothing is made ready, and what is not is left as it is written.
pub(super) fn seen_in_place(
    host: &Host,
    definition: &Definition<InstancePicks>,
    instance: &Instance,
) -> Instance {
    let mut instance = instance.clone();
    for device in instance.devices.values_mut() {
        let Device::Disk(disk) = device else { continue };
        if disk.path.is_none() {
            continue;
        }
        if let Ok(Some((volume, driver))) = find(host, definition, disk)
            && let Some(tree) = driver.placed(&volumes::id(&volume.uid))
        {
            let _not_utf8 = put(disk, &tree, &volume);
        }
    }
    instance
}

/// The disk that a volume of blocks is, for a machine. Nobody else may be running with it, unless it is for several.
pub(super) fn disk(
    host: &Host,
    definition: &Definition<InstancePicks>,
    device: &str,
    disk: &Disk,
) -> Result<Option<(Placed, ContentType)>, RuntimeError> {
    let Some((volume, driver)) = find(host, definition, disk)? else {
        return match disk.required {
            true => Err(missing(device, disk)),
            false => Ok(None),
        };
    };
    let written = volumes::spec(&volume)?;
    let users = match written.shared || written.content_type == ContentType::Iso {
        true => Vec::new(),
        false => volumes::users(host, &volume)?,
    };
    let other = |user: &&User| user.now.is_some() && user.definition.uid != definition.uid;
    if let Some(other) = users.iter().find(other) {
        let why = format!(
            "devices.{device}: {} runs on it, and two machines on one disk destroy what is on it",
            other.definition.address
        );
        return Err(RuntimeError::new(FIND, Class::Refused, why));
    }
    let placed = driver.place(&volumes::id(&volume.uid)).map_err(failed)?;
    Ok(Some((placed, written.content_type)))
}

/// Unmounts the volumes of an instance that nobody who runs has any more.
pub(super) fn let_rest(
    host: &Host,
    definition: &Definition<InstancePicks>,
) -> Result<(), RuntimeError> {
    for device in spec(definition)?.devices.values() {
        let Device::Disk(disk) = device else { continue };
        if disk.path.is_none() {
            continue;
        }
        // One that is gone, or whose pool is, is not mounted.
        if let Ok(Some((volume, _))) = find(host, definition, disk) {
            volumes::let_rest(host, &volume)?;
        }
    }
    Ok(())
}
