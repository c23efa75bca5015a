//! Removing a volume: to the trash, from the trash, for good.

use std::sync::Arc;

use manifests::id::{Address, Mark, Uid};
use manifests::kind::Kind;
use manifests::observed::{Holds, Item, Trashed, TrashedBy};
use serde_json::json;

use super::{VolumePicks, failed, id, pool, snapshots, stored, users};
use crate::error::{Class, RuntimeError};
use crate::native::definition::Definition;
use crate::native::host::Host;
use crate::native::instance;
use crate::native::pools::{self, pool_of};
use crate::native::storage::{TrashEntry, VolumeId};
use crate::runtime::Effected;

/// Deletes a volume for good.
pub(super) fn delete(
    host: &Host,
    definition: &Definition<VolumePicks>,
) -> Result<Effected, RuntimeError> {
    users::idle(host, definition, "delete")?;
    let there = host.pool_named(pool(&definition.address)).map_err(stored)?;
    if let Some(there) = there {
        pools::driver(host, &there)
            .remove_volume(&id(&definition.uid))
            .map_err(failed("delete"))?;
    }
    forget(host, definition)
}

fn forget(host: &Host, definition: &Definition<VolumePicks>) -> Result<Effected, RuntimeError> {
    host.definitions
        .remove(Kind::Volume, &definition.uid)
        .map_err(|error| RuntimeError::new("forget", Class::NeedsOperator, error))?;
    Ok(Effected::Done)
}

/// Moves a volume to the trash of its pool.
pub(super) fn trash(
    host: &Host,
    definition: &Definition<VolumePicks>,
    at: jiff::Timestamp,
    expires_at: jiff::Timestamp,
) -> Result<Effected, RuntimeError> {
    const DOING: &str = "move to the trash";
    users::idle(host, definition, DOING)?;
    let (_, driver) = pool_of(host, pool(&definition.address))?;
    let mark = definition.mark.as_ref().map(Mark::to_string);
    driver
        .trash(&TrashEntry {
            format_version: 1,
            uid: definition.uid.to_string(),
            volume: id(&definition.uid),
            becomes: None,
            mark: mark.unwrap_or_default(),
            deleted_at: at.to_string(),
            expires_at: Some(expires_at.to_string()),
            snapshots: snapshots::told(host, definition)
                .map_or(0, |kept| u32::try_from(kept.len()).unwrap_or(u32::MAX)),
            definition: definition
                .to_json()
                .map_err(|error| RuntimeError::new("record", Class::Bug, error))?,
        })
        .map_err(failed(DOING))?;
    forget(host, definition)
}

/// Takes a volume out of the trash under its identity. Until its definition is complete it counts as lying there.
pub(super) fn restore(
    host: &Host,
    uid: &Uid,
    address: &Address,
    mark: &Mark,
) -> Result<Effected, RuntimeError> {
    const DOING: &str = "take out of the trash";
    if let Some((driver, entry)) = instance::lies_in(host, uid, "read the trash for")? {
        let mut definition = Definition::<VolumePicks>::from_json(Kind::Volume, &entry.definition)
            .map_err(stored)?;
        definition.address = address.clone();
        definition.mark = Some(mark.clone());
        definition.complete = false;
        host.definitions.write(&definition).map_err(stored)?;
        driver.untrash(&entry.uid).map_err(failed(DOING))?;
        definition.complete = true;
        host.definitions.write(&definition).map_err(stored)?;
        driver.end_untrash(&entry.uid).map_err(failed(DOING))?;
        return Ok(Effected::Done);
    }
    let known = host
        .definitions
        .read::<VolumePicks>(Kind::Volume, uid)
        .map_err(stored)?;
    match known {
        Some(_) => Ok(Effected::NotNeeded),
        None => Err(RuntimeError::new(
            "restore",
            Class::NeedsOperator,
            "it is not in the trash",
        )),
    }
}

/// Removes a volume from the trash for good; what is not there is fine.
pub(super) fn purge(host: &Host, uid: &Uid) -> Result<Effected, RuntimeError> {
    if let Some((driver, entry)) = instance::lies_in(host, uid, "empty the trash of")? {
        driver
            .purge(&entry.uid)
            .map_err(failed("empty the trash of"))?;
    }
    Ok(Effected::Done)
}

/// A volume in the trash, from what was told about it; `None`: it is none, or wholly back.
pub(in crate::native) fn trashed(
    entry: &TrashEntry,
    volumes: &[Arc<Definition<VolumePicks>>],
    (pool, kept): (&str, jiff::SignedDuration),
) -> Option<Trashed> {
    if !matches!(entry.volume, VolumeId::Custom(_)) {
        return None;
    }
    let definition = Definition::<VolumePicks>::from_json(Kind::Volume, &entry.definition).ok()?;
    if volumes
        .iter()
        .any(|one| one.complete && one.uid.to_string() == entry.uid)
    {
        return None;
    }
    let deleted_at: jiff::Timestamp = entry.deleted_at.parse().ok()?;
    let mark: Mark = entry.mark.parse().ok()?;
    let holds = Holds {
        bytes: 0,
        snapshots: entry.snapshots,
    };
    let was = Item {
        address: definition.address.clone(),
        mark: Some(mark.clone()),
        complete: true,
        spec: definition.spec,
        last_told: None,
        unseen: Vec::new(),
        remembered: Some(definition.remembered),
        holds,
        status: json!({ "uid": definition.uid, "inUse": false }),
    };
    Some(Trashed {
        address: definition.address,
        mark,
        deleted_at,
        expires_at: entry.expiry().unwrap_or_else(|| deleted_at + kept),
        holds,
        by: TrashedBy::Delete,
        pool: Some(pool.to_owned()),
        was: Some(Box::new(was)),
    })
}
