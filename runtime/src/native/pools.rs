//! Storage pools in the words of manifests and in those of drivers.

use std::path::PathBuf;

use manifests::action::{Action, Verb};
use manifests::desired::Resource;
use manifests::kind::{Kind, Spec};
use manifests::kinds::storage_pool::{PoolDriver, StoragePool};
use manifests::observed::{Holds, Item, ObservedSet, Unclear};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::definition::Definition;
use super::disk_image::DiskError;
use super::host::Host;
use super::storage::{self, DriverKind, PoolPlan, PoolSeen, StorageDriver, StorageError, VolumeId};
use crate::error::{Class, RuntimeError};
use crate::runtime::Effected;

/// What was picked once for a pool.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct PoolPicks {
    /// Its folder.
    pub folder: PathBuf,
}

/// The class of a failure of a driver.
pub(super) fn class(error: &StorageError) -> Class {
    match error {
        StorageError::ForeignPool { .. } => Class::Conflict,
        StorageError::PoolMissing { .. } | StorageError::NotEmpty { .. } => Class::NeedsOperator,
        StorageError::NoProgram(_) | StorageError::BadName(_) => Class::NeedsOperator,
        StorageError::InUse { .. }
        | StorageError::DoesNotFit { .. }
        | StorageError::NeedsRebuild(_)
        | StorageError::TooSmall { .. }
        | StorageError::Shrinks { .. }
        | StorageError::SmallerThanImage { .. }
        | StorageError::NoFiles { .. } => Class::Refused,
        StorageError::NoSize(_) => Class::NeedsOperator,
        StorageError::Disk(DiskError::Path(_)) => Class::Retry,
        StorageError::Disk(DiskError::Size { .. }) => Class::Refused,
        StorageError::Disk(_) => Class::NeedsOperator,
        _ => Class::Retry,
    }
}

/// The driver of a defined pool.
pub(super) fn driver(host: &Host, pool: &Definition<PoolPicks>) -> Box<dyn StorageDriver> {
    let mark = pool
        .mark
        .as_ref()
        .map_or_else(|| pool.uid.to_string(), |mark| mark.uid.to_string());
    // The marker in the pool names the pool and not its owner: adopting and forgetting do not touch what it holds.
    let mark = format!("keel:{}:{mark}", host.config.state_id);
    storage::open(
        DriverKind::Dir,
        PoolPlan {
            folder: pool.picks.folder.clone(),
            mark,
        },
    )
}

fn folder_of(host: &Host, name: &str, pool: &StoragePool) -> PathBuf {
    match &pool.source {
        Some(source) => PathBuf::from(source),
        None => host.state().join("pools").join(name),
    }
}

/// Does one deed on a pool.
pub(super) fn perform(
    host: &Host,
    action: &Action,
    resource: Option<&Resource>,
) -> Result<Effected, RuntimeError> {
    let fail = |doing: &str, error: StorageError| {
        let class = class(&error);
        RuntimeError::new(doing, class, error).of(&action.address)
    };
    let stored =
        |error| RuntimeError::new("record", Class::NeedsOperator, error).of(&action.address);
    let before = host
        .definitions
        .read::<PoolPicks>(Kind::StoragePool, &action.uid)
        .map_err(stored)?;
    match (&action.verb, resource, before) {
        (Verb::Create | Verb::Update { .. } | Verb::Adopt, Some(resource), before) => {
            let Spec::StoragePool(spec) = &resource.spec else {
                return Err(super::wrong_kind(&action.address));
            };
            if spec.driver != PoolDriver::Dir {
                return Err(RuntimeError::new(
                    "make",
                    Class::Unsupported,
                    format!("the driver {} is not one of this engine yet", spec.driver),
                )
                .of(&action.address));
            }
            // A pool that held something and is gone is not made again in silence.
            let may_create = before.as_ref().is_none_or(|before| !before.complete);
            let mut definition = Definition {
                address: action.address.clone(),
                mark: Some(action.mark.clone()),
                uid: action.uid,
                complete: before.as_ref().is_some_and(|before| before.complete),
                spec: resource.spec.clone(),
                remembered: super::remember(resource),
                picks: before.map_or_else(
                    || PoolPicks {
                        folder: folder_of(host, &action.address.name, spec),
                    },
                    |before| before.picks,
                ),
            };
            host.definitions.write(&definition).map_err(stored)?;
            if spec.source.is_none() {
                manifests::path_io::create_dir_all(host.state().join("pools")).map_err(
                    |error| {
                        RuntimeError::new("make", Class::NeedsOperator, error).of(&action.address)
                    },
                )?;
            }
            driver(host, &definition)
                .ensure_pool(may_create)
                .map_err(|error| fail("make", error))?;
            definition.complete = true;
            host.definitions.write(&definition).map_err(stored)?;
            Ok(Effected::Done)
        }
        (Verb::Rename { .. }, Some(resource), Some(mut before)) => {
            before.address = action.address.clone();
            before.spec = resource.spec.clone();
            host.definitions.write(&before).map_err(stored)?;
            Ok(Effected::Done)
        }
        (Verb::Adopt | Verb::Forget, _, Some(mut before)) => {
            before.mark = matches!(action.verb, Verb::Adopt).then(|| action.mark.clone());
            host.definitions.write(&before).map_err(stored)?;
            Ok(Effected::Done)
        }
        (Verb::Delete | Verb::Trash { .. }, _, Some(mut before)) => {
            // Said first: a folder that is gone is then a removal that was cut short and not a disk that is away.
            let complete = std::mem::replace(&mut before.complete, false);
            host.definitions.write(&before).map_err(stored)?;
            if let Err(error) = driver(host, &before).remove_pool() {
                before.complete = complete;
                host.definitions.write(&before).map_err(stored)?;
                return Err(fail("delete", error));
            }
            // Below the state folder it is ours also where the removal was cut short before its last step.
            if before.picks.folder.starts_with(host.state().join("pools")) {
                let _still_used = manifests::path_io::remove_empty_dir(&before.picks.folder);
            }
            host.definitions
                .remove(Kind::StoragePool, &action.uid)
                .map_err(|error| {
                    RuntimeError::new("delete", Class::NeedsOperator, error).of(&action.address)
                })?;
            Ok(Effected::Done)
        }
        (Verb::Delete | Verb::Trash { .. } | Verb::Forget, _, None) => Ok(Effected::NotNeeded),
        (Verb::Adopt, None, None) => Err(super::not_made_here(&action.address)),
        (verb, ..) => Err(super::cannot(verb, &action.address)),
    }
}

/// What a pool is.
pub(super) fn observe(host: &Host, pool: &Definition<PoolPicks>, out: &mut ObservedSet) {
    let driver = driver(host, pool);
    let unclear = |why: String| Unclear {
        address: pool.address.clone(),
        nameless: None,
        why,
    };
    let (used, total) = match driver.seen() {
        Ok(PoolSeen::Ready { used, total }) => (used, total),
        Ok(PoolSeen::Missing) if !pool.complete => (0, 0),
        Ok(PoolSeen::Missing) => {
            let folder = pool.picks.folder.display();
            out.unclear
                .push(unclear(format!("its folder {folder} is gone or empty")));
            return;
        }
        Ok(PoolSeen::Foreign { owner }) => {
            let folder = pool.picks.folder.display();
            let owner = owner.unwrap_or_else(|| "nobody that keel knows".to_owned());
            out.unclear
                .push(unclear(format!("its folder {folder} belongs to {owner}")));
            return;
        }
        Err(error) => {
            out.unclear.push(unclear(super::chain(&error)));
            return;
        }
    };
    out.items.push(Item {
        address: pool.address.clone(),
        mark: pool.mark.clone(),
        complete: pool.complete,
        spec: pool.spec.clone(),
        last_told: Some(pool.spec.clone()),
        unseen: Vec::new(),
        remembered: Some(pool.remembered),
        // What lies in a pool belongs to the instances and volumes that are in it.
        holds: Holds::default(),
        status: json!({
            "uid": pool.uid,
            "driver": "dir",
            "path": pool.picks.folder,
            "used": used,
            "total": total,
        }),
    });
}

/// Where the root of an instance lies: the identity of its volume.
pub(super) fn root_volume(uid: &manifests::id::Uid) -> VolumeId {
    VolumeId::Root(uid.to_string())
}
