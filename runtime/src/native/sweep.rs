//! Removing what a process that was killed left half made: it has no name by which anything else would find it.

use std::collections::BTreeSet;

use manifests::kind::{Kind, Spec};
use manifests::path_io;

use super::busy;
use super::host::Host;
use super::image_documents::sweep_content;
use super::imports;
use super::instance::{InstancePicks, container_snapshots, export};
use super::pools::{self, PoolPicks};
use super::secrets::{cloud_init_digests, digests};
use super::storage::StorageError;
use super::volumes::{self, VolumePicks};
use crate::error::{Class, RuntimeError};

/// Removes temporary files, folders of objects that got no definition, unpacked images and volumes without a name. What was frozen for a
/// snapshot goes on.
/// What belongs to a process that lives stays.
///
/// # Errors
/// Something could not be removed; the rest is.
pub(super) fn sweep(host: &Host) -> Result<(), RuntimeError> {
    let failed = |error: path_io::PathError| {
        RuntimeError::new("clear up after a process that died", Class::Retry, error)
    };
    let mut result = host.definitions.sweep().map_err(failed);
    result = result.and(host.ranges.sweep().map_err(failed));
    for folder in [
        &host.config.state,
        &host.filters(),
        &host.config.run,
        &host.config.shared_run,
    ] {
        result = result.and(path_io::sweep_unfinished(folder).map_err(failed));
    }
    // Before what they brought for nobody.
    result = result.and(imports::sweep(host));
    result = result.and(sweep_content(host));
    result = result.and(secrets(host).map_err(failed));
    let (instances, _) = host
        .definitions
        .all::<InstancePicks>(Kind::Instance)
        .map_err(failed)?;
    let unread = busy::left(host).map_err(failed)?;
    for one in instances {
        let mut settled = container_snapshots::settle(host, &one);
        if unread.contains(&one.uid) {
            settled = settled.and(export::clear_up(host, &one));
        }
        result = result.and(settled.map_err(|error| error.of(&one.address)));
    }
    let (volumes, _) = host
        .definitions
        .all::<VolumePicks>(Kind::Volume)
        .map_err(failed)?;
    for one in volumes {
        result = result.and(volumes::settle(host, &one).map_err(|error| error.of(&one.address)));
    }
    result = result.and(super::moving::sweep(host));
    let (all, _) = host
        .definitions
        .all::<PoolPicks>(Kind::StoragePool)
        .map_err(failed)?;
    for pool in all {
        match pools::driver(host, &pool).sweep() {
            // Nothing can be told of a pool that is away.
            Ok(())
            | Err(
                StorageError::PoolMissing { .. }
                | StorageError::PoolUnmounted { .. }
                | StorageError::ForeignPool { .. },
            ) => {}
            Err(error) => {
                let class = pools::class(&error);
                let error = RuntimeError::new("clear up in", class, error).of(&pool.address);
                result = result.and(Err(error));
            }
        }
    }
    if result.is_ok() {
        result = busy::sweep(host).map_err(failed);
    }
    result
}

/// Forgets the values of secrets that no instance uses any more. One whose definition cannot be read may use any.
pub(super) fn secrets(host: &Host) -> Result<(), path_io::PathError> {
    if host.secrets.kept()?.is_empty() {
        return Ok(());
    }
    let (all, unreadable) = host.definitions.all::<InstancePicks>(Kind::Instance)?;
    if !unreadable.is_empty() {
        return Ok(());
    }
    let mut used = BTreeSet::new();
    for one in all {
        if let Spec::Instance(instance) = &one.spec {
            used.extend(digests(instance));
        }
        if let Some(given) = &one.picks.cloud_init {
            used.extend(cloud_init_digests(&given.data));
        }
    }
    host.secrets.sweep(&used)
}
