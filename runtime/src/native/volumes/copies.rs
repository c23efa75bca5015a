//! A new volume as the copy of another one, or of a snapshot of it.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use manifests::id::Address;
use manifests::kinds::volume::{ContentType, Volume};

use super::{VolumePicks, failed, id, named, pool, spec, users};
use crate::error::{Class, RuntimeError};
use crate::native::definition::Definition;
use crate::native::host::Host;
use crate::native::pools::pool_of;
use crate::native::storage::{self, Placed, StorageDriver, VolumeId};
use crate::runtime::Context;

const DOING: &str = "copy";

/// What a volume is to be a copy of.
pub(super) struct Original {
    volume: Arc<Definition<VolumePicks>>,
    driver: Box<dyn StorageDriver>,
    /// The copy of it that is meant; none: as it is.
    snapshot: Option<PathBuf>,
    /// Bytes of its disk; none for one of files.
    pub(super) disk_size: Option<u64>,
}

/// Finds what a volume is to be a copy of; `None`: of nothing. Nothing is made yet.
pub(super) fn original(
    host: &Host,
    address: &Address,
    volume: &Volume,
) -> Result<Option<Original>, RuntimeError> {
    let Some(source) = &volume.source else {
        return Ok(None);
    };
    let refused = |why: String| Err(RuntimeError::new(DOING, Class::NeedsOperator, why));
    let of = source.pool.as_deref().unwrap_or_else(|| pool(address));
    let Some(found) = named(host, address.project_name(), of, &source.volume)? else {
        return refused(format!("there is no volume {} in pool {of}", source.volume));
    };
    if !found.complete {
        return refused(format!("{} is not made yet", found.address));
    }
    let content = spec(&found)?.content_type;
    if content != volume.content_type {
        return refused(format!("{} holds a {content}", found.address));
    }
    let (_, driver) = pool_of(host, of)?;
    let at = id(&found.uid);
    let snapshot = match &source.snapshot {
        None => None,
        Some(name) => Some(
            driver
                .kept_trees(&at)
                .and_then(|trees| trees.kept(name))
                .map_err(failed(DOING))?,
        ),
    };
    let disk_size = match content {
        ContentType::Filesystem => None,
        ContentType::Block | ContentType::Iso => {
            let seen = driver.volume(&at).map_err(failed(DOING))?;
            seen.and_then(|seen| seen.size)
        }
    };
    Ok(Some(Original {
        volume: found,
        driver,
        snapshot,
        disk_size,
    }))
}

/// Copies it into an empty volume. Who writes to the original stands still meanwhile.
pub(super) fn fill(
    host: &Host,
    original: &Original,
    driver: &dyn StorageDriver,
    to: &VolumeId,
    context: &Context<'_>,
) -> Result<(), RuntimeError> {
    let mut go_on = || !context.cancel.load(Ordering::Relaxed);
    let to = path(driver.place(to).map_err(failed(DOING))?)?;
    if let Some(snapshot) = &original.snapshot {
        return storage::fill(snapshot, &to, &mut go_on).map_err(failed(DOING));
    }
    let at = id(&original.volume.uid);
    let from = path(original.driver.place(&at).map_err(failed(DOING))?)?;
    users::still(host, &original.volume, || {
        storage::fill(&from, &to, &mut go_on).map_err(failed(DOING))
    })?;
    users::let_rest(host, &original.volume)
}

/// Where the files or the disk of a volume are.
fn path(placed: Placed) -> Result<PathBuf, RuntimeError> {
    match placed {
        Placed::Custom { folder } => Ok(folder),
        Placed::Disk { file, .. } => Ok(file),
        Placed::Root { .. } => Err(RuntimeError::new(
            DOING,
            Class::Bug,
            "it is the root of an instance",
        )),
    }
}
