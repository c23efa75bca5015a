//! What volumes are: their definitions, overlaid with what their pools say.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use manifests::id::Uid;
use manifests::kind::Spec;
use manifests::kinds::volume::ContentType;
use manifests::observed::{Holds, Item, ObservedSet, Trashed, Unclear};
use manifests::scalar::byte_size::ByteSize;
use serde_json::json;

use super::{VolumePicks, id, pool, snapshots, uses};
use crate::error::RuntimeError;
use crate::native::chain;
use crate::native::definition::Definition;
use crate::native::host::Host;
use crate::native::instance::InstancePicks;
use crate::native::pools::pool_of;
use crate::native::storage::{StorageDriver, VolumeId, VolumeSeen};

/// What all volumes are. Each pool is asked once.
pub(in crate::native) fn observe(
    host: &Host,
    volumes: &[Arc<Definition<VolumePicks>>],
    instances: &[Arc<Definition<InstancePicks>>],
    running: &BTreeSet<Uid>,
    trash: &[Trashed],
    out: &mut ObservedSet,
) {
    let mut pools: BTreeMap<&str, Result<Asked, String>> = BTreeMap::new();
    let attached = attached(instances);
    for volume in volumes {
        // It is on its way out of the trash: listed there and not here.
        if !volume.complete && trash.iter().any(|trashed| trashed.mark.uid == volume.uid) {
            continue;
        }
        let of = pool(&volume.address);
        let asked = pools.entry(of).or_insert_with(|| ask(host, of));
        match asked {
            Ok(asked) => {
                let seen = asked.there.get(&id(&volume.uid));
                let driver = asked.driver.as_ref();
                out.items
                    .extend(item(driver, seen, volume, &attached, running));
            }
            Err(why) => out.unclear.push(unclear(volume, why.clone())),
        }
    }
}

/// What one volume is, as [`observe`] has it.
pub(in crate::native) fn look(
    host: &Host,
    volume: &Definition<VolumePicks>,
    instances: &[Arc<Definition<InstancePicks>>],
    out: &mut ObservedSet,
) -> Result<(), RuntimeError> {
    let mut running = BTreeSet::new();
    for user in super::users(host, volume)? {
        running.extend(user.now.is_some().then_some(user.definition.uid));
    }
    let found = pool_of(host, pool(&volume.address))
        .map_err(|error| chain(&error))
        .and_then(|(_, driver)| {
            let seen = driver.volume(&id(&volume.uid));
            let seen = seen.map_err(|error| chain(&error))?;
            Ok((driver, seen))
        });
    match found {
        Ok((driver, seen)) => {
            let (driver, seen) = (driver.as_ref(), seen.as_ref());
            out.items
                .extend(item(driver, seen, volume, &attached(instances), &running));
        }
        Err(why) => out.unclear.push(unclear(volume, why)),
    }
    Ok(())
}

fn unclear(volume: &Definition<VolumePicks>, why: String) -> Unclear {
    Unclear {
        address: volume.address.clone(),
        nameless: None,
        why,
    }
}

/// A pool and what is in it.
struct Asked {
    driver: Box<dyn StorageDriver>,
    there: BTreeMap<VolumeId, VolumeSeen>,
}

fn ask(host: &Host, pool: &str) -> Result<Asked, String> {
    let (_, driver) = pool_of(host, pool).map_err(|error| chain(&error))?;
    let there = driver.volumes().map_err(|error| chain(&error))?;
    let there = there.into_iter().map(|one| (one.id.clone(), one)).collect();
    Ok(Asked { driver, there })
}

/// Who has which volume, by what they call it: pool and name.
type Attached<'a> = BTreeMap<(&'a str, &'a str), Vec<&'a Definition<InstancePicks>>>;

fn attached(instances: &[Arc<Definition<InstancePicks>>]) -> Attached<'_> {
    let mut attached = Attached::new();
    for definition in instances {
        if let Spec::Instance(instance) = &definition.spec {
            for (_, pool, name) in uses(instance) {
                attached.entry((pool, name)).or_default().push(definition);
            }
        }
    }
    attached
}

fn item(
    driver: &dyn StorageDriver,
    seen: Option<&VolumeSeen>,
    definition: &Definition<VolumePicks>,
    attached: &Attached<'_>,
    running: &BTreeSet<Uid>,
) -> Option<Item> {
    let Spec::Volume(meant) = &definition.spec else {
        return None;
    };
    let mut volume = meant.clone();
    let mut status = json!({ "uid": definition.uid });
    let mut kept = Vec::new();
    if let Some(seen) = seen {
        let has = seen.size;
        // One of blocks that asks for no size has that of what it is a copy of.
        let of_original = volume.content_type != ContentType::Filesystem && volume.size.is_none();
        if volume.size.as_ref().map(ByteSize::bytes) != has && !of_original {
            volume.size = has.map(ByteSize::from_bytes);
        }
        status["path"] = json!(seen.folder);
        kept = snapshots::all(driver, seen).unwrap_or_default();
        if !kept.is_empty() {
            status["snapshots"] = json!(kept);
        }
    }
    let address = &definition.address;
    let key = (pool(address), address.name.as_str());
    let by: Vec<_> = attached.get(&key).into_iter().flatten().collect();
    let by = by.into_iter().filter(|one| {
        let of = one.address.project_name();
        of == address.project_name() || address.project_name() == "default"
    });
    let by: BTreeMap<String, Uid> = by.map(|one| (one.address.to_string(), one.uid)).collect();
    status["attachedTo"] = json!(by.keys().collect::<Vec<_>>());
    status["inUse"] = json!(by.values().any(|uid| running.contains(uid)));
    Some(Item {
        address: address.clone(),
        mark: definition.mark.clone(),
        complete: definition.complete && seen.is_some(),
        spec: Spec::Volume(volume),
        last_told: Some(definition.spec.clone()),
        unseen: Vec::new(),
        remembered: Some(definition.remembered),
        holds: Holds {
            bytes: 0,
            snapshots: u32::try_from(kept.len()).unwrap_or(u32::MAX),
        },
        status,
    })
}
