//! Removing an instance: to the trash, from the trash, for good.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::sync::Arc;

use manifests::id::{Address, Mark, Uid};
use manifests::kind::{Kind, Spec};
use manifests::kinds::instance::PowerState;
use manifests::observed::{Holds, Item, Trashed, TrashedBy};
use serde_json::json;

use super::picks::InstancePicks;
use super::{io_failed, networks_of, owner_of_ids, pool_of, running, spec, start, stored};
use crate::error::{Class, RuntimeError};
use crate::native::definition::Definition;
use crate::native::host::Host;
use crate::native::image_documents;
use crate::native::pools::{self, PoolPicks, root_volume};
use crate::native::shim;
use crate::native::storage::{StorageDriver, StorageError, TrashEntry, VolumeId};
use crate::native::volumes::{self, VolumePicks};
use crate::runtime::{Context, Effected};

pub(super) fn disk_failed(doing: &'static str) -> impl Fn(StorageError) -> RuntimeError {
    move |error| {
        let class = pools::class(&error);
        RuntimeError::new(doing, class, error)
    }
}

/// Ends whatever runs and takes down what it ran in.
pub(super) fn end(
    host: &Host,
    definition: &Definition<InstancePicks>,
    orderly: bool,
    context: &Context<'_>,
) -> Result<(), RuntimeError> {
    match running(host, &definition.uid)? {
        Some(now) => start::stop(host, definition, &now, !orderly, context)?,
        None => start::after_stop(host, definition)?,
    }
    let run_dir = host.run_folder(&definition.uid);
    if run_dir.exists() {
        shim::state::remove(&run_dir).map_err(io_failed("remove the run folder of"))?;
        crate::sys::remove_tree::remove_tree(&run_dir)
            .map_err(|error| RuntimeError::new("remove the run folder of", Class::Retry, error))?;
    }
    Ok(())
}

/// Takes away what others know of an instance: its reservations and rules, its ids.
pub(super) fn forget(
    host: &Host,
    definition: &Definition<InstancePicks>,
) -> Result<(), RuntimeError> {
    let networks = networks_of(host, definition, spec(definition)?);
    let mut owners = vec![owner_of_ids(host, definition, true)];
    let shares = |other: &Definition<InstancePicks>| {
        spec(other).is_ok_and(|other| !other.security.idmap.isolated)
    };
    let others = host.instances().map_err(io_failed("list the instances"))?;
    let mut others = others.iter().filter(|other| other.uid != definition.uid);
    if shares(definition) && !others.any(|other| shares(other)) {
        owners.push(owner_of_ids(host, definition, false));
    }
    // Nothing runs with these ids any more. First: without its definition nobody would find the claim again.
    for owner in owners {
        host.ranges
            .release(&owner)
            .map_err(io_failed("give back the ids of"))?;
    }
    host.remove_instance(&definition.uid)
        .map_err(io_failed("forget"))?;
    // A network that is gone already holds nothing of it.
    for network in networks.unwrap_or_default().values() {
        host.ensure_network(network)?;
    }
    Ok(())
}

/// What the trash keeps of an instance, under the identity that `was` has there.
pub(super) fn entry(
    host: &Host,
    definition: &Definition<InstancePicks>,
    was: &Definition<InstancePicks>,
    at: jiff::Timestamp,
    expires_at: jiff::Timestamp,
) -> Result<TrashEntry, RuntimeError> {
    let snapshots = super::snapshots_of(host, definition).len();
    let mark = was.mark.as_ref().map(ToString::to_string);
    Ok(TrashEntry {
        format_version: 1,
        uid: was.uid.to_string(),
        volume: root_volume(&definition.uid),
        becomes: None,
        mark: mark.unwrap_or_default(),
        deleted_at: at.to_string(),
        expires_at: Some(expires_at.to_string()),
        snapshots: u32::try_from(snapshots).unwrap_or(u32::MAX),
        definition: was
            .to_json()
            .map_err(|error| RuntimeError::new("record", Class::Bug, error))?,
    })
}

/// Stops an instance and removes its root; its definition stays. For making it anew under the same identity.
pub(super) fn unmake(
    host: &Host,
    definition: &Definition<InstancePicks>,
    context: &Context<'_>,
) -> Result<(), RuntimeError> {
    end(host, definition, true, context)?;
    let (_, driver) = pool_of(host, &definition.picks.pool)?;
    let mut unmade = definition.clone();
    unmade.complete = false;
    host.write_instance(&unmade).map_err(stored)?;
    driver
        .remove_volume(&root_volume(&definition.uid))
        .map_err(disk_failed("remove the root of"))?;
    Ok(())
}

/// Deletes an instance for good. The root is only ever removed by a walk that crosses no mount.
pub(super) fn delete(
    host: &Host,
    definition: &Definition<InstancePicks>,
    context: &Context<'_>,
) -> Result<Effected, RuntimeError> {
    end(host, definition, false, context)?;
    if let Some(pool) = host
        .pool_named(&definition.picks.pool)
        .map_err(io_failed("find the pool of"))?
    {
        pools::driver(host, &pool)
            .remove_volume(&root_volume(&definition.uid))
            .map_err(disk_failed("remove the root of"))?;
    }
    forget(host, definition)?;
    Ok(Effected::Done)
}

/// Stops an instance and moves it to the trash of its pool.
pub(super) fn trash(
    host: &Host,
    definition: &Definition<InstancePicks>,
    at: jiff::Timestamp,
    expires_at: jiff::Timestamp,
    context: &Context<'_>,
) -> Result<Effected, RuntimeError> {
    end(host, definition, true, context)?;
    let (_, driver) = pool_of(host, &definition.picks.pool)?;
    let mut was = definition.clone();
    was.picks.aside = None;
    driver
        .trash(&entry(host, definition, &was, at, expires_at)?)
        .map_err(disk_failed("move to the trash"))?;
    forget(host, definition)?;
    Ok(Effected::Done)
}

/// The drivers of all pools.
fn all_pools(host: &Host) -> Result<Vec<Box<dyn StorageDriver>>, RuntimeError> {
    let pools = host
        .definitions
        .every::<PoolPicks>(Kind::StoragePool)
        .map_err(io_failed("list the pools"))?;
    Ok(pools.iter().map(|pool| pools::driver(host, pool)).collect())
}

/// Something in the trash, and the driver of its pool.
type InPool = (Box<dyn StorageDriver>, TrashEntry);

/// The pool in whose trash something lies. Pools out of reach are in nobody's way; where none of the others has it, it may
/// be there.
pub(in crate::native) fn lies_in(
    host: &Host,
    uid: &Uid,
    doing: &'static str,
) -> Result<Option<InPool>, RuntimeError> {
    let uid = uid.to_string();
    let mut out_of_reach = None;
    for driver in all_pools(host)? {
        match driver.trashed() {
            Ok(entries) => {
                if let Some(entry) = entries.into_iter().find(|entry| entry.uid == uid) {
                    return Ok(Some((driver, entry)));
                }
            }
            Err(error) => out_of_reach = Some(error),
        }
    }
    match out_of_reach {
        Some(error) => Err(disk_failed(doing)(error)),
        None => Ok(None),
    }
}

/// Bytes of something in the trash; none where it is not there, or its pool is out of reach.
pub(in crate::native) fn trash_bytes(host: &Host, uid: &Uid) -> Result<Option<u64>, RuntimeError> {
    let uid = uid.to_string();
    for driver in all_pools(host)? {
        if let Ok(Some(bytes)) = driver.used_in_trash(&uid) {
            return Ok(Some(bytes));
        }
    }
    Ok(None)
}

/// Takes an instance out of the trash under its identity, stopped, with a new owner where one is given.
///
/// Until its definition is complete it counts as lying in the trash, wherever its root is: a restore that was cut
/// short is seen as such and goes on.
pub(super) fn restore(
    host: &Host,
    uid: &Uid,
    address: &Address,
    mark: &Mark,
) -> Result<Effected, RuntimeError> {
    if let Some((driver, entry)) = lies_in(host, uid, "read the trash for")? {
        let mut definition =
            Definition::<InstancePicks>::from_json(Kind::Instance, &entry.definition)
                .map_err(stored)?;
        definition.address = address.clone();
        definition.mark = Some(mark.clone());
        definition.complete = false;
        definition.picks.running = false;
        definition.picks.started_with = None;
        definition.picks.aside = None;
        // Ids and addresses first: whatever is not to be had leaves it in the trash.
        // Networks went before or after it: its start needs them, its data do not.
        let networks = super::networks_there(host, &definition, spec(&definition)?)?;
        super::pick_in(host, &mut definition, &networks)?;
        driver
            .untrash(&entry.uid)
            .map_err(disk_failed("take out of the trash"))?;
        definition.complete = true;
        host.write_instance(&definition).map_err(stored)?;
        driver
            .end_untrash(&entry.uid)
            .map_err(disk_failed("take out of the trash"))?;
        return Ok(Effected::Done);
    }
    match host
        .definitions
        .read::<InstancePicks>(Kind::Instance, uid)
        .map_err(stored)?
    {
        Some(_) => Ok(Effected::NotNeeded),
        None => Err(RuntimeError::new(
            "restore",
            Class::NeedsOperator,
            "it is not in the trash",
        )),
    }
}

/// Takes the root of an instance back that is still defined; answers whether it was in the trash.
pub(super) fn untrash(
    host: &Host,
    definition: &Definition<InstancePicks>,
) -> Result<bool, RuntimeError> {
    let (_, driver) = pool_of(host, &definition.picks.pool)?;
    match driver.untrash(&definition.uid.to_string()) {
        Ok(_) => Ok(true),
        Err(StorageError::NotInTrash(_)) => Ok(false),
        Err(error) => Err(disk_failed("take out of the trash")(error)),
    }
}

/// Removes an instance from the trash for good; what is not there is fine.
pub(super) fn purge(host: &Host, uid: &Uid) -> Result<Effected, RuntimeError> {
    if let Some((driver, entry)) = lies_in(host, uid, "empty the trash of")? {
        driver
            .purge(&entry.uid)
            .map_err(disk_failed("empty the trash of"))?;
        if let Some(image) = entry.definition["picks"]["image"].as_str() {
            image_documents::forget_content(host, None, image)?;
        }
    }
    let owner = format!("{}/{}", host.config.state_id, uid);
    host.ranges
        .release(&owner)
        .map_err(io_failed("give back the ids of"))?;
    Ok(Effected::Done)
}

/// For how long something stays in the trash of which nothing else is said.
const KEPT: jiff::SignedDuration = jiff::SignedDuration::from_hours(7 * 24);

/// What lies in the trash of all pools that can be reached, but for what is wholly back.
pub(in crate::native) fn trashed(
    host: &Host,
    instances: &[Arc<Definition<InstancePicks>>],
    volumes: &[Arc<Definition<VolumePicks>>],
) -> Result<Vec<Trashed>, RuntimeError> {
    let back = |uid: &str| {
        instances
            .iter()
            .any(|instance| instance.complete && instance.uid.to_string() == uid)
    };
    let mut all = Vec::new();
    // A pool that cannot be understood is told as such; the trash of the others is known.
    let (pools, _) = host
        .definitions
        .all::<PoolPicks>(Kind::StoragePool)
        .map_err(io_failed("list the pools"))?;
    for pool in &pools {
        let driver = pools::driver(host, pool);
        for entry in driver.trashed().unwrap_or_default() {
            if matches!(entry.volume, VolumeId::Custom(_)) {
                all.extend(volumes::trashed(
                    &entry,
                    volumes,
                    (&pool.address.name, KEPT),
                ));
                continue;
            }
            let (Some(address), Ok(mark), Ok(deleted_at)) = (
                Definition::<InstancePicks>::address_in(Kind::Instance, &entry.definition),
                entry.mark.parse::<Mark>(),
                entry.deleted_at.parse::<jiff::Timestamp>(),
            ) else {
                continue;
            };
            if back(&entry.uid) {
                continue;
            }
            let definition =
                Definition::<InstancePicks>::from_json(Kind::Instance, &entry.definition).ok();
            let aside = definition.as_ref().and_then(|one| one.picks.aside.as_ref());
            let by = aside.map_or(TrashedBy::Delete, |aside| aside.by);
            let was = definition.and_then(|definition| was(&definition, &mark));
            let expires_at = entry.expiry();
            all.push(Trashed {
                address,
                mark,
                deleted_at,
                expires_at: expires_at.unwrap_or_else(|| deleted_at + KEPT),
                by,
                pool: Some(pool.address.name.clone()),
                holds: Holds {
                    bytes: 0,
                    snapshots: entry.snapshots,
                },
                was: was.map(Box::new),
            });
        }
    }
    Ok(all)
}

/// The addresses that instances in the trash, but for this one, had and may come back to. What cannot be read promises
/// nothing. What lives already keeps its addresses by itself.
pub(super) fn addresses_in_trash<'a>(
    host: &Host,
    but: &Uid,
    living: impl Iterator<Item = &'a Definition<InstancePicks>>,
) -> BTreeSet<Ipv4Addr> {
    let drivers = all_pools(host).unwrap_or_default();
    let living = living.filter(|one| one.complete);
    let living: BTreeSet<String> = living.map(|one| one.uid.to_string()).collect();
    let entries = drivers
        .iter()
        .flat_map(|driver| driver.trashed_but(&living).unwrap_or_default())
        .filter(|entry| entry.uid != but.to_string());
    let definitions = entries.filter_map(|entry| {
        Definition::<InstancePicks>::from_json(Kind::Instance, &entry.definition).ok()
    });
    definitions
        .flat_map(|definition| definition.picks.nics.into_values())
        .filter_map(|nic| nic.ipv4)
        .collect()
}

/// How an instance would be seen if it were back and stopped.
fn was(definition: &Definition<InstancePicks>, mark: &Mark) -> Option<Item> {
    let Spec::Instance(mut instance) = definition.spec.clone() else {
        return None;
    };
    instance.state.0 = Some(PowerState::Stopped);
    Some(Item {
        address: definition.address.clone(),
        mark: Some(mark.clone()),
        complete: true,
        spec: Spec::Instance(instance),
        last_told: None,
        unseen: Vec::new(),
        remembered: Some(definition.remembered),
        holds: Holds::default(),
        status: json!({ "uid": definition.uid, "image": definition.picks.image, "state": "Stopped" }),
    })
}

/// Whether an instance is on its way out of the trash: it is listed there and not here.
pub(in crate::native) fn is_on_its_way(
    instance: &Definition<InstancePicks>,
    trash: &[Trashed],
) -> bool {
    !instance.complete && trash.iter().any(|trashed| trashed.mark.uid == instance.uid)
}
