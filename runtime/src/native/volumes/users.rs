//! Who uses a volume, and keeping them still while it is copied.

use std::sync::Arc;

use manifests::kind::{Kind, Spec};
use manifests::kinds::instance::Instance;

use super::{VolumePicks, failed, id, named, pool};
use crate::error::{Class, RuntimeError};
use crate::native::definition::Definition;
use crate::native::host::Host;
use crate::native::instance::{self, InstancePicks};
use crate::native::pools::pool_of;
use crate::native::shim::Running;
use crate::native::storage::{StorageDriver, StorageError, VolumeId, released};

/// An instance that has a volume for a disk.
pub(in crate::native) struct User {
    /// The instance.
    pub(in crate::native) definition: Arc<Definition<InstancePicks>>,
    /// The name of the device.
    pub(in crate::native) device: String,
    /// It, where it runs.
    pub(in crate::native) now: Option<Box<Running>>,
}

/// The volumes of an instance: device, pool and name.
pub(in crate::native) fn uses(instance: &Instance) -> impl Iterator<Item = (&str, &str, &str)> {
    instance.devices.iter().filter_map(|(name, device)| {
        let (pool, volume) = device.as_disk()?.volume()?;
        Some((name.as_str(), pool, volume))
    })
}

/// The instances that have a volume for a disk, as they are defined by now.
pub(in crate::native) fn users(
    host: &Host,
    volume: &Definition<VolumePicks>,
) -> Result<Vec<User>, RuntimeError> {
    let all = host.instances().map_err(|error| {
        RuntimeError::new("find who uses", Class::NeedsOperator, error).of(&volume.address)
    })?;
    let mut users = Vec::new();
    for definition in all {
        let Spec::Instance(spec) = &definition.spec else {
            continue;
        };
        let project = definition.address.project_name();
        let mut device = None;
        for (name, pool, of) in uses(spec) {
            if pool == super::pool(&volume.address)
                && of == volume.address.name
                && named(host, project, pool, of)?.is_some_and(|found| found.uid == volume.uid)
            {
                device = Some(name.to_owned());
            }
        }
        if let Some(device) = device {
            let now = instance::running(host, &definition.uid)?;
            users.push(User {
                definition,
                device,
                now,
            });
        }
    }
    Ok(users)
}

/// Fails where an instance that runs uses the volume.
pub(super) fn idle(
    host: &Host,
    volume: &Definition<VolumePicks>,
    doing: &'static str,
) -> Result<(), RuntimeError> {
    let users = users(host, volume)?;
    match users.iter().find(|user| user.now.is_some()) {
        None => Ok(()),
        Some(user) => {
            let why = format!("{} runs with it: stop it first", user.definition.address);
            Err(RuntimeError::new(doing, Class::Refused, why))
        }
    }
}

/// Does something while nobody writes to a volume. Whoever comes after a crash inside it lets them go on ([`settle`]).
pub(super) fn still<T>(
    host: &Host,
    volume: &Definition<VolumePicks>,
    work: impl FnOnce() -> Result<T, RuntimeError>,
) -> Result<T, RuntimeError> {
    let mut to_freeze = Vec::new();
    for user in users(host, volume)? {
        if let Some(now) = &user.now
            && !instance::is_frozen(&user.definition, now)?
        {
            to_freeze.push(user);
        }
    }
    if to_freeze.is_empty() {
        return work();
    }
    let (_, driver) = pool_of(host, pool(&volume.address))?;
    let trees = driver
        .kept_trees(&id(&volume.uid))
        .map_err(failed("freeze who uses"))?;
    let whom: Vec<String> = to_freeze
        .iter()
        .map(|user| user.definition.uid.to_string())
        .collect();
    trees
        .hold(&whom.join("\n"))
        .map_err(failed("freeze who uses"))?;
    let frozen = to_freeze.iter().try_for_each(|user| {
        let Some(now) = &user.now else { return Ok(()) };
        instance::set_frozen(&user.definition, now, true)
    });
    let done = frozen.and_then(|()| work());
    let mut thawed = Ok(());
    for user in &to_freeze {
        if let Some(now) = &user.now {
            thawed = thawed.and(instance::set_frozen(&user.definition, now, false));
        }
    }
    thawed?;
    trees.let_go().map_err(failed("unfreeze who uses"))?;
    done
}

/// Lets instances go on that a keel froze for a copy of this volume before it was killed.
pub(in crate::native) fn settle(
    host: &Host,
    volume: &Definition<VolumePicks>,
) -> Result<(), RuntimeError> {
    let (_, driver) = pool_of(host, pool(&volume.address))?;
    let Ok(trees) = driver.kept_trees(&id(&volume.uid)) else {
        // Its pool is away, or it was not made yet: nobody was frozen, or nobody can tell.
        return Ok(());
    };
    let Some(whom) = trees.held().map_err(failed("unfreeze who uses"))? else {
        return Ok(());
    };
    for uid in whom.lines().filter_map(|line| line.parse().ok()) {
        let known = host
            .definitions
            .read::<InstancePicks>(Kind::Instance, &uid)
            .ok()
            .flatten();
        if let Some(definition) = known
            && let Some(now) = instance::running(host, &uid)?
        {
            instance::set_frozen(&definition, &now, false)?;
        }
    }
    trees.let_go().map_err(failed("unfreeze who uses"))
}

/// Unmounts a volume that nobody who runs uses.
pub(in crate::native) fn let_rest(
    host: &Host,
    volume: &Definition<VolumePicks>,
) -> Result<(), RuntimeError> {
    if users(host, volume)?.iter().any(|user| user.now.is_some()) {
        return Ok(());
    }
    let (_, driver) = pool_of(host, pool(&volume.address))?;
    rest(driver.as_ref(), &id(&volume.uid)).map_err(failed("unmount"))
}

/// Unmounts a volume. Where somebody looks into it for longer than a moment it stays mounted, which is in nobody's way.
pub(super) fn rest(driver: &dyn StorageDriver, id: &VolumeId) -> Result<(), StorageError> {
    match released(driver, id) {
        Ok(_) | Err(StorageError::NoVolume(_) | StorageError::InUse(_)) => Ok(()),
        Err(error) => Err(error),
    }
}
