//! Snapshots of volumes: copies that are made while those who use them stand still.

use std::sync::atomic::Ordering;

use super::{VolumePicks, failed, id, pool, users};
use crate::error::{Class, RuntimeError};
use crate::native::definition::Definition;
use crate::native::host::Host;
use crate::native::instance::snapshots::{checked, kept_tree, name_for, of_trees};
use crate::native::pools::pool_of;
use crate::native::storage::{KeptTrees, StorageDriver, StorageError, VolumeSeen, released};
use crate::runtime::{Context, NewSnapshot, Snapshot};

fn of(
    host: &Host,
    definition: &Definition<VolumePicks>,
) -> Result<(Box<dyn StorageDriver>, KeptTrees), RuntimeError> {
    let (_, driver) = pool_of(host, pool(&definition.address))?;
    let trees = driver
        .kept_trees(&id(&definition.uid))
        .map_err(failed("find"))?;
    Ok((driver, trees))
}

/// Those of a volume that was just seen, oldest first.
pub(super) fn all(
    driver: &dyn StorageDriver,
    seen: &VolumeSeen,
) -> Result<Vec<Snapshot>, StorageError> {
    Ok(of_trees(driver.kept_of(seen)?))
}

/// The snapshots of a volume, oldest first.
pub(in crate::native) fn told(
    host: &Host,
    definition: &Definition<VolumePicks>,
) -> Result<Vec<Snapshot>, RuntimeError> {
    let (_, trees) = of(host, definition)?;
    let all = trees.all().map_err(failed("read the snapshots of"))?;
    Ok(of_trees(all))
}

/// Makes a snapshot; its name.
pub(in crate::native) fn create(
    host: &Host,
    definition: &Definition<VolumePicks>,
    new: &NewSnapshot,
    context: &Context<'_>,
) -> Result<String, RuntimeError> {
    const DOING: &str = "make a snapshot of";
    if new.memory {
        let why = "a volume has no memory";
        return Err(RuntimeError::new(DOING, Class::Unsupported, why));
    }
    users::settle(host, definition)?;
    let (driver, trees) = of(host, definition)?;
    let all = trees.all().map_err(failed(DOING))?;
    let name = name_for(new, |name| all.contains_key(name))?;
    let kept = kept_tree(definition, new, context)?;
    driver.place(&id(&definition.uid)).map_err(failed(DOING))?;
    let mut go_on = || !context.cancel.load(Ordering::Relaxed);
    let mut create = || {
        trees
            .create(&name, &kept, &mut go_on)
            .map_err(failed(DOING))
    };
    let made = match trees.needs_stillness() {
        true => users::still(host, definition, create),
        false => create(),
    };
    let rests = users::let_rest(host, definition);
    made.and(rests).map(|()| name)
}

/// Goes back to a snapshot. Nobody may be using the volume.
pub(in crate::native) fn restore(
    host: &Host,
    definition: &Definition<VolumePicks>,
    name: &str,
    context: &Context<'_>,
) -> Result<(), RuntimeError> {
    let (driver, trees) = of(host, definition)?;
    let is_there = trees.all().map_err(failed("restore"))?.contains_key(name);
    if !is_there {
        return Err(failed("restore")(StorageError::NoSnapshot(name.to_owned())));
    }
    users::idle(host, definition, "restore")?;
    released(driver.as_ref(), &id(&definition.uid)).map_err(failed("restore"))?;
    let mut go_on = || !context.cancel.load(Ordering::Relaxed);
    trees.revert(name, &mut go_on).map_err(failed("restore"))
}

/// Gives a snapshot another name.
pub(in crate::native) fn rename(
    host: &Host,
    definition: &Definition<VolumePicks>,
    from: &str,
    to: &str,
) -> Result<(), RuntimeError> {
    checked(to)?;
    let (_, trees) = of(host, definition)?;
    trees
        .rename(from, to)
        .map_err(failed("rename the snapshot of"))
}

/// Deletes a snapshot.
pub(in crate::native) fn delete(
    host: &Host,
    definition: &Definition<VolumePicks>,
    name: &str,
) -> Result<(), RuntimeError> {
    let (_, trees) = of(host, definition)?;
    trees.delete(name).map_err(failed("delete the snapshot of"))
}
