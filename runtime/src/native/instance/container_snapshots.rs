//! Snapshots of containers: copies of the files that an instance has beyond its image, made while its processes stand
//! still.

use std::sync::atomic::Ordering;

use super::picks::InstancePicks;
use super::snapshots::{checked, disk_failed, kept_tree, name_for, of_trees};
use super::start::{self, after_stop};
use super::{pool_of, running, shim_failed, spec, stored};
use crate::error::{Class, RuntimeError};
use crate::native::definition::Definition;
use crate::native::host::Host;
use crate::native::pools::root_volume;
use crate::native::shim::Running;
use crate::native::storage::{KeptTrees, StorageError, released};
use crate::runtime::{Context, NewSnapshot, Snapshot};

pub(in crate::native) fn trees(
    host: &Host,
    definition: &Definition<InstancePicks>,
) -> Result<KeptTrees, RuntimeError> {
    let (_, driver) = pool_of(host, &definition.picks.pool)?;
    driver
        .kept_trees(&root_volume(&definition.uid))
        .map_err(disk_failed("find the root of"))
}

/// The snapshots of a container, oldest first.
pub(in crate::native) fn told(
    host: &Host,
    definition: &Definition<InstancePicks>,
) -> Result<Vec<Snapshot>, RuntimeError> {
    let all = trees(host, definition)?.all();
    let all = all.map_err(disk_failed("read the snapshots of"))?;
    Ok(of_trees(all))
}

/// Makes a snapshot; its name.
pub(in crate::native) fn create(
    host: &Host,
    definition: &Definition<InstancePicks>,
    new: &NewSnapshot,
    context: &Context<'_>,
) -> Result<String, RuntimeError> {
    const DOING: &str = "make a snapshot of";
    if new.memory {
        let why =
            "the memory of a container is not kept: this engine has no checkpoints of processes";
        return Err(RuntimeError::new(DOING, Class::Unsupported, why));
    }
    let failed = disk_failed(DOING);
    let trees = trees(host, definition)?;
    let all = trees.all().map_err(&failed)?;
    let name = name_for(new, |name| all.contains_key(name))?;
    let kept = kept_tree(definition, new, context)?;
    let mut go_on = || !context.cancel.load(Ordering::Relaxed);
    standing_still(host, definition, &trees, DOING, || {
        trees.create(&name, &kept, &mut go_on)
    })?;
    Ok(name)
}

/// Does something with the files of a container while nobody writes to them.
pub(super) fn standing_still<T>(
    host: &Host,
    definition: &Definition<InstancePicks>,
    trees: &KeptTrees,
    doing: &'static str,
    work: impl FnOnce() -> Result<T, StorageError>,
) -> Result<T, RuntimeError> {
    let failed = disk_failed(doing);
    thaw_after_crash(host, definition, trees)?;
    let Some(now) = running(host, &definition.uid)? else {
        let (_, driver) = pool_of(host, &definition.picks.pool)?;
        let root = root_volume(&definition.uid);
        driver.place(&root).map_err(&failed)?;
        let done = work();
        let released = released(driver.as_ref(), &root);
        return done
            .and_then(|done| released.map(|_| done))
            .map_err(&failed);
    };
    // One that somebody froze stays so.
    let frozen = now.frozen().map_err(|error| shim_failed(doing, error))?;
    if frozen || !trees.needs_stillness() {
        return work().map_err(&failed);
    }
    trees.hold("").map_err(&failed)?;
    let done = match now.freeze() {
        Ok(()) => work().map_err(&failed),
        Err(error) => Err(shim_failed("freeze", error)),
    };
    thaw(&now, trees)?;
    done
}

fn thaw(now: &Running, trees: &KeptTrees) -> Result<(), RuntimeError> {
    now.thaw().map_err(|error| shim_failed("unfreeze", error))?;
    trees.let_go().map_err(disk_failed("unfreeze"))
}

fn thaw_after_crash(
    host: &Host,
    definition: &Definition<InstancePicks>,
    trees: &KeptTrees,
) -> Result<(), RuntimeError> {
    if trees.held().map_err(disk_failed("unfreeze"))?.is_none() {
        return Ok(());
    }
    match running(host, &definition.uid)? {
        Some(now) => thaw(&now, trees),
        None => trees.let_go().map_err(disk_failed("unfreeze")),
    }
}

/// Lets a container go on that a keel froze for a snapshot before it was killed.
pub(in crate::native) fn settle(
    host: &Host,
    definition: &Definition<InstancePicks>,
) -> Result<(), RuntimeError> {
    match spec(definition)?.is_container() && super::has_root(host, definition) {
        true => thaw_after_crash(host, definition, &trees(host, definition)?),
        false => Ok(()),
    }
}

/// Goes back to a snapshot. What ran runs again.
pub(in crate::native) fn restore(
    host: &Host,
    definition: &Definition<InstancePicks>,
    name: &str,
    context: &Context<'_>,
) -> Result<(), RuntimeError> {
    let failed = disk_failed("restore");
    let trees = trees(host, definition)?;
    if !trees.all().map_err(&failed)?.contains_key(name) {
        return Err(failed(StorageError::NoSnapshot(name.to_owned())));
    }
    let mut definition = definition.clone();
    let now = running(host, &definition.uid)?;
    // Also where a keel was killed after it had stopped it: then it is not as it was meant to be.
    let runs = now.is_some() || definition.picks.running;
    if let Some(now) = &now {
        (context.progress)("stopping");
        start::stop(host, &definition, now, false, context)?;
    }
    after_stop(host, &definition)?;
    let mut go_on = || !context.cancel.load(Ordering::Relaxed);
    let reverted = trees.revert(name, &mut go_on).map_err(&failed);
    if runs {
        start::start(host, &mut definition, context)?;
        host.write_instance(&definition).map_err(stored)?;
    }
    reverted
}

/// Gives a snapshot another name.
pub(in crate::native) fn rename(
    host: &Host,
    definition: &Definition<InstancePicks>,
    from: &str,
    to: &str,
) -> Result<(), RuntimeError> {
    checked(to)?;
    let renamed = trees(host, definition)?.rename(from, to);
    renamed.map_err(disk_failed("rename the snapshot of"))
}

/// Deletes a snapshot.
pub(in crate::native) fn delete(
    host: &Host,
    definition: &Definition<InstancePicks>,
    name: &str,
) -> Result<(), RuntimeError> {
    let deleted = trees(host, definition)?.delete(name);
    deleted.map_err(disk_failed("delete the snapshot of"))
}
