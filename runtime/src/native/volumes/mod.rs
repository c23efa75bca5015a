//! Volumes: disks with a life of their own, made, filled, resized and removed.
//!
//! In its pool a volume has its uid for a name, so that a rename moves nothing and two projects may use the same name.

mod copies;
pub(super) mod export;
pub(super) mod import;
mod observe;
mod remove;
pub(super) mod snapshots;
mod users;

use std::sync::Arc;

use manifests::action::{Action, Verb};
use manifests::change::FieldChange;
use manifests::desired::Resource;
use manifests::id::{Address, Uid};
use manifests::kind::{Kind, Spec};
use manifests::kinds::volume::{ContentType, Volume};
use manifests::pointer::Pointer;
use manifests::scalar::byte_size::ByteSize;

use super::definition::{Definition, DefinitionError};
use super::host::Host;
use super::instance;
use super::moving;
use super::pools::{self, pool_of};
use super::storage::{Initial, OwnFiles, StorageError, VolumeContent, VolumeId, VolumePlan};
use crate::error::{Class, RuntimeError};
use crate::runtime::{Context, Effected};

pub(super) use self::observe::{look, observe};
pub(super) use self::remove::trashed;
pub(super) use self::users::{User, let_rest, settle, users, uses};

/// Nothing is picked for a volume.
pub(super) type VolumePicks = ();

/// Its identity in its pool.
pub(super) fn id(uid: &Uid) -> VolumeId {
    VolumeId::Custom(uid.to_string())
}

fn failed(doing: &'static str) -> impl Fn(StorageError) -> RuntimeError {
    move |error| {
        let class = match &error {
            StorageError::NoSnapshot(_) | StorageError::SnapshotExists(_) => Class::NeedsOperator,
            other => pools::class(other),
        };
        RuntimeError::new(doing, class, error)
    }
}

fn stored(error: DefinitionError) -> RuntimeError {
    RuntimeError::new("record", Class::NeedsOperator, error)
}

/// A definition with its spec as a volume.
pub(super) fn spec(definition: &Definition<VolumePicks>) -> Result<&Volume, RuntimeError> {
    match &definition.spec {
        Spec::Volume(volume) => Ok(volume),
        _ => Err(super::wrong_kind(&definition.address)),
    }
}

/// The volume of a name in a pool: that of the project, else of the default one.
pub(super) fn named(
    host: &Host,
    project: &str,
    pool: &str,
    name: &str,
) -> Result<Option<Arc<Definition<VolumePicks>>>, RuntimeError> {
    let all = host
        .definitions
        .every::<VolumePicks>(Kind::Volume)
        .map_err(|error| RuntimeError::new("find the volume of", Class::NeedsOperator, error))?;
    let in_project = |wanted: &str| {
        all.iter().find(|one| {
            let Address {
                name: of, pool: at, ..
            } = &one.address;
            of == name && at.as_deref() == Some(pool) && one.address.project_name() == wanted
        })
    };
    Ok(in_project(project)
        .or_else(|| in_project("default"))
        .cloned())
}

/// The text that marks what belongs to a volume: kept when its owner changes, so it names nobody.
fn own_mark(host: &Host, uid: &Uid) -> String {
    format!("keel:{}:volume:{uid}", host.config.state_id)
}

/// Its pool, as its address has it.
fn pool(address: &Address) -> &str {
    address.pool.as_deref().unwrap_or_default()
}

/// Its own file system, where its pool gives it one.
fn own_files(volume: &Volume) -> OwnFiles {
    pools::own_files(volume.filesystem, volume.mount_options.as_ref())
}

fn size(volume: &Volume) -> Option<u64> {
    volume.size.as_ref().map(ByteSize::bytes)
}

/// Does one deed on a volume.
pub(super) fn perform(
    host: &Host,
    action: &Action,
    resource: Option<&Resource>,
    context: &Context<'_>,
) -> Result<Effected, RuntimeError> {
    let before = || {
        host.definitions
            .read::<VolumePicks>(Kind::Volume, &action.uid)
            .map_err(stored)
    };
    match (&action.verb, resource) {
        (Verb::Create, Some(resource)) => create(host, action, resource, context),
        (Verb::Update { changes }, Some(resource)) => match before()? {
            Some(definition) if definition.complete => {
                update(host, &definition, action, resource, changes)
            }
            _ => create(host, action, resource, context),
        },
        (Verb::Rename { .. }, Some(resource)) => match before()? {
            Some(definition) => rename(host, &definition, action, resource, context),
            None => Ok(Effected::NotNeeded),
        },
        (Verb::Adopt | Verb::Forget, _) => match before()? {
            Some(mut definition) => {
                definition.mark = matches!(action.verb, Verb::Adopt).then(|| action.mark.clone());
                if let Some(resource) = resource {
                    definition.remembered = super::remember(resource);
                }
                host.definitions.write(&definition).map_err(stored)?;
                Ok(Effected::Done)
            }
            None if matches!(action.verb, Verb::Adopt) => {
                Err(super::not_made_here(&action.address))
            }
            None => Ok(Effected::NotNeeded),
        },
        (Verb::Trash { at, expires_at }, _) => match before()? {
            Some(definition) => remove::trash(host, &definition, *at, *expires_at),
            None => Ok(Effected::NotNeeded),
        },
        (Verb::Restore, _) => remove::restore(host, &action.uid, &action.address, &action.mark),
        (Verb::Delete, _) => match before()? {
            Some(definition) => {
                let done = remove::delete(host, &definition);
                // What was on its way out of the trash may still lie there.
                if !definition.complete {
                    remove::purge(host, &action.uid)?;
                }
                done
            }
            None => remove::purge(host, &action.uid),
        },
        (verb, _) => Err(super::cannot(verb, &action.address)),
    }
    .map_err(|error: RuntimeError| error.of(&action.address))
}

/// Gives a volume another name, and brings it into another pool where that is a part of the name.
fn rename(
    host: &Host,
    before: &Definition<VolumePicks>,
    action: &Action,
    resource: &Resource,
    context: &Context<'_>,
) -> Result<Effected, RuntimeError> {
    let mut definition = Definition {
        address: action.address.clone(),
        remembered: super::remember(resource),
        ..before.clone()
    };
    let (from, to) = (pool(&before.address), pool(&action.address));
    if let Spec::Volume(volume) = &mut definition.spec {
        to.clone_into(&mut volume.pool);
    }
    let settled = || host.definitions.write(&definition).map_err(stored);
    if from == to {
        settled()?;
    } else {
        users::idle(host, before, "move to another pool")?;
        moving::carry(host, &id(&action.uid), (from, to), context, settled)?;
    }
    Ok(Effected::Done)
}

/// Bytes that a volume holds; `None`: there is none. One always holds something: at least its having been there.
pub(super) fn bytes(host: &Host, uid: &Uid) -> Result<Option<u64>, RuntimeError> {
    let Some(definition) = host
        .definitions
        .read::<VolumePicks>(Kind::Volume, uid)
        .map_err(stored)?
    else {
        return Ok(None);
    };
    let used = pool_of(host, pool(&definition.address))
        .ok()
        .and_then(|(_, driver)| driver.used(&id(uid)).ok());
    Ok(Some(used.unwrap_or(0).max(1)))
}

/// Makes a volume, empty or as a copy.
fn create(
    host: &Host,
    action: &Action,
    resource: &Resource,
    context: &Context<'_>,
) -> Result<Effected, RuntimeError> {
    const DOING: &str = "make";
    let Spec::Volume(volume) = &resource.spec else {
        return Err(super::wrong_kind(&action.address));
    };
    let before = host
        .definitions
        .read::<VolumePicks>(Kind::Volume, &action.uid)
        // A definition of something in the making that a power cut spoiled is made again.
        .ok()
        .flatten();
    let id = id(&action.uid);
    let (_, driver) = pool_of(host, pool(&action.address))?;
    let seen = driver.volume(&id).map_err(failed(DOING))?;
    let mut finished = before.is_some_and(|before| before.complete) && seen.is_some();
    if seen.is_none() {
        // One that a deletion had already put into the trash when it was cut short is taken back.
        match driver.untrash(&action.uid.to_string()) {
            Ok(_) => finished = true,
            Err(StorageError::NotInTrash(_)) => {}
            Err(error) => return Err(failed("take out of the trash")(error)),
        }
    }
    let mut definition = Definition {
        address: action.address.clone(),
        mark: Some(action.mark.clone()),
        uid: action.uid,
        complete: finished,
        spec: resource.spec.clone(),
        remembered: super::remember(resource),
        picks: (),
    };
    host.definitions.write(&definition).map_err(stored)?;
    if !finished {
        let original = copies::original(host, &action.address, volume)?;
        if original.is_some() {
            // A copy that was cut short is none.
            driver.remove_volume(&id).map_err(failed(DOING))?;
        }
        let initial = volume.initial.clone().unwrap_or_default();
        let disk = original.as_ref().and_then(copies::Original::disk_size);
        driver
            .ensure_volume(&VolumePlan {
                id: id.clone(),
                mark: own_mark(host, &action.uid),
                image: None,
                size: size(volume).or(disk),
                content: match (volume.content_type, &original) {
                    (ContentType::Filesystem, _) => VolumeContent::Filesystem,
                    (ContentType::Iso, Some(original)) => VolumeContent::Iso {
                        from: original.path()?,
                    },
                    (ContentType::Block | ContentType::Iso, _) => {
                        VolumeContent::Block { below: None }
                    }
                },
                own: own_files(volume),
                initial: Initial {
                    uid: initial.uid,
                    gid: initial.gid,
                    mode: initial.mode.0,
                },
            })
            .map_err(failed(DOING))?;
        // That of a CD is made whole.
        if let Some(original) = original.filter(|_| volume.content_type != ContentType::Iso) {
            (context.progress)("copying");
            let copied = copies::fill(host, &original, driver.as_ref(), &id, context);
            if copied.is_err() {
                // Whoever tries again begins anew; nothing half copied takes up room until then.
                let _tried = driver.remove_volume(&id);
            }
            copied?;
            if let (Some(wanted), Some(_)) = (size(volume), disk) {
                driver.resize(&id, Some(wanted)).map_err(failed("resize"))?;
            }
        }
        users::rest(driver.as_ref(), &id).map_err(failed(DOING))?;
        definition.complete = true;
    }
    host.definitions.write(&definition).map_err(stored)?;
    Ok(Effected::Done)
}

/// Changes a volume. All but its size is only known here.
fn update(
    host: &Host,
    before: &Definition<VolumePicks>,
    action: &Action,
    resource: &Resource,
    changes: &[FieldChange],
) -> Result<Effected, RuntimeError> {
    let Spec::Volume(after) = &resource.spec else {
        return Err(super::wrong_kind(&action.address));
    };
    let mut definition = Definition {
        mark: Some(action.mark.clone()),
        spec: resource.spec.clone(),
        remembered: super::remember(resource),
        ..before.clone()
    };
    let at = Pointer::new("/spec/size");
    let mut done = Ok(Effected::Done);
    if changes.iter().any(|change| change.path == at) {
        done = resize(host, &definition, after);
        if done.is_err()
            && let (Spec::Volume(meant), Spec::Volume(old)) = (&mut definition.spec, &before.spec)
        {
            meant.size.clone_from(&old.size);
        }
    }
    let at = Pointer::new("/spec/mountOptions");
    if done.is_ok() && changes.iter().any(|change| change.path == at) {
        done = mount_otherwise(host, &definition, after);
    }
    host.definitions.write(&definition).map_err(stored)?;
    done
}

/// Lets a volume that nobody uses be mounted with other options.
fn mount_otherwise(
    host: &Host,
    definition: &Definition<VolumePicks>,
    volume: &Volume,
) -> Result<Effected, RuntimeError> {
    const DOING: &str = "mount";
    let (_, driver) = pool_of(host, pool(&definition.address))?;
    let id = id(&definition.uid);
    users::idle(host, definition, "mount with other options")?;
    users::rest(driver.as_ref(), &id).map_err(failed(DOING))?;
    driver
        .set_mount_options(&id, volume.mount_options.as_deref())
        .map_err(failed(DOING))?;
    Ok(Effected::Done)
}

/// Gives a volume its size.
fn resize(
    host: &Host,
    definition: &Definition<VolumePicks>,
    volume: &Volume,
) -> Result<Effected, RuntimeError> {
    let (_, driver) = pool_of(host, pool(&definition.address))?;
    let id = id(&definition.uid);
    let wanted = size(volume);
    let users = users(host, definition)?;
    let running = users.iter().filter(|user| user.now.is_some());
    if volume.content_type != ContentType::Filesystem
        && let Some(wanted) = wanted
    {
        for user in running {
            instance::grow_volume(host, &user.definition, &user.device, wanted)?;
        }
        return match driver.resize(&id, Some(wanted)) {
            Ok(_) => Ok(Effected::Done),
            Err(error) => Err(failed("resize")(error)),
        };
    }
    if running.count() == 0 {
        users::rest(driver.as_ref(), &id).map_err(failed("resize"))?;
    }
    driver.resize(&id, wanted).map_err(failed("resize"))?;
    Ok(Effected::Done)
}
