//! Roots and volumes on their way into another pool, with their snapshots.
//!
//! `moves/KIND-UID` of the state folder names both pools before anything is made in the other one. Where the definition says
//! that it lies is what counts: what is in the other pool is removed, by who moves it or by who comes after a crash.

use std::path::PathBuf;
use std::sync::atomic::Ordering;

use manifests::kind::Kind;
use manifests::path_io;

use super::definition::Definition;
use super::host::Host;
use super::instance::InstancePicks;
use super::pools::{self, pool_of};
use super::storage::{
    self, ContentType, Initial, Placed, StorageDriver, StorageError, VolumeContent, VolumeId,
    VolumePlan, VolumeSeen,
};
use super::volumes::VolumePicks;
use crate::error::{Class, RuntimeError};
use crate::runtime::Context;

const DOING: &str = "move to another pool";
const MOVES: &str = "moves";
/// Left free in the pool that it moves to, in bytes.
const SPARE: u64 = 16 << 20;

fn failed(error: StorageError) -> RuntimeError {
    RuntimeError::new(DOING, pools::class(&error), error)
}

fn on_disk(error: path_io::PathError) -> RuntimeError {
    RuntimeError::new(DOING, Class::NeedsOperator, error)
}

fn note(host: &Host, id: &VolumeId) -> PathBuf {
    let name = match id {
        VolumeId::Root(uid) => format!("instance-{uid}"),
        VolumeId::Custom(uid) => format!("volume-{uid}"),
    };
    host.state().join(MOVES).join(name)
}

/// Brings a volume that nobody uses from one pool into another. `settled` writes down that it is there now: until then the
/// original is what counts, and is left as it is.
///
/// # Errors
/// It does not fit, is damaged, or one of the pools is away: then it is where it was.
pub(super) fn carry(
    host: &Host,
    id: &VolumeId,
    (from, to): (&str, &str),
    context: &Context<'_>,
    settled: impl FnOnce() -> Result<(), RuntimeError>,
) -> Result<(), RuntimeError> {
    let (_, source) = pool_of(host, from)?;
    let (_, target) = pool_of(host, to)?;
    // One that ended by itself has left it mounted; a mount of ours is in the way of its removal.
    source.release(id).map_err(failed)?;
    source.place(id).map_err(failed)?;
    let seen = source.volume(id).map_err(failed)?;
    let seen = seen.ok_or_else(|| failed(StorageError::NoVolume(id.clone())))?;
    path_io::create_dir_all(host.state().join(MOVES)).map_err(on_disk)?;
    path_io::write_durably(note(host, id), format!("{from}\n{to}\n")).map_err(on_disk)?;
    (context.progress)("copying");
    let copied = copy(source.as_ref(), target.as_ref(), &seen, context);
    let released = source.release(id).map(drop).map_err(failed);
    if let Err(error) = copied.and(released) {
        tidy(host, id, to);
        return Err(error);
    }
    // Where this fails nobody knows what was written: both are whole then, and the next sweep reads which one counts.
    settled()?;
    (context.progress)("removing it from the pool that it leaves");
    tidy(host, id, from);
    Ok(())
}

/// As [`settle`]. What cannot be removed now goes with the next sweep: that is no failure of what was asked for, and nobody may
/// take it for one, since the definition counts.
fn tidy(host: &Host, id: &VolumeId, pool: &str) {
    if let Err(error) = settle(host, id) {
        tracing::warn!(error = %super::chain(&error), "left {id} in the pool {pool} for later");
    }
}

/// Makes the copy, whole and on disk, and compares it with the original.
fn copy(
    source: &dyn StorageDriver,
    target: &dyn StorageDriver,
    seen: &VolumeSeen,
    context: &Context<'_>,
) -> Result<(), RuntimeError> {
    let id = &seen.id;
    let mut go_on = || !context.cancel.load(Ordering::Relaxed);
    target.remove_volume(id).map_err(failed)?;
    let from = source.place(id).map_err(failed)?;
    let plan = VolumePlan {
        id: id.clone(),
        mark: seen.mark.clone(),
        image: seen.image.clone(),
        size: seen.size,
        content: match (seen.content, &from) {
            (ContentType::Filesystem, _) => VolumeContent::Filesystem,
            (ContentType::Iso, Placed::Disk { file, .. }) => {
                VolumeContent::Iso { from: file.clone() }
            }
            // Its layers come with it.
            (ContentType::Block | ContentType::Iso, _) => VolumeContent::Block { below: None },
        },
        // As the original is.
        own: seen.own.clone(),
        initial: Initial::default(),
    };
    let filled = |error: StorageError| match (&error, seen.size) {
        (StorageError::Copy(cause), Some(size)) if cause.is_full() => {
            failed(StorageError::DoesNotFit {
                volume: id.clone(),
                size,
            })
        }
        _ => failed(error),
    };
    room(source, target, id)?;
    target.ensure_volume(&plan).map_err(failed)?;
    let to = target.place(id).map_err(failed)?;
    let has_layers = matches!((id, &from), (VolumeId::Root(_), Placed::Disk { .. }));
    if !has_layers {
        let (kept, into) = (source.kept_trees(id), target.kept_trees(id));
        let (kept, into) = (kept.map_err(failed)?, into.map_err(failed)?);
        // Of subvolumes only what differs between snapshots is copied.
        if kept.stream_to(&into, &mut go_on).map_err(failed)? {
            target.release(id).map_err(failed)?;
            return Ok(());
        }
    }
    match (id, &from, &to) {
        (_, Placed::Root { upper: from, .. }, Placed::Root { upper: to, .. })
        | (_, Placed::Custom { folder: from }, Placed::Custom { folder: to }) => {
            storage::fill(from, to, &mut go_on).map_err(filled)?;
            storage::compare(from, to, &mut go_on).map_err(failed)?;
        }
        (VolumeId::Root(_), Placed::Disk { .. }, Placed::Disk { .. }) => {
            let layers = source.layered(id).map_err(failed)?;
            let into = target.layered(id).map_err(failed)?;
            layers.carry(&into, &mut go_on).map_err(failed)?;
        }
        (VolumeId::Custom(_), Placed::Disk { file: from, .. }, Placed::Disk { file: to, .. }) => {
            if seen.content == ContentType::Block {
                storage::fill(from, to, &mut go_on).map_err(filled)?;
            }
            storage::compare(from, to, &mut go_on).map_err(failed)?;
        }
        _ => {
            let why = "it is of another kind in the other pool";
            return Err(RuntimeError::new(DOING, Class::Bug, why));
        }
    }
    if !has_layers {
        let (kept, into) = (source.kept_trees(id), target.kept_trees(id));
        let kept = kept.map_err(failed)?;
        let carried = kept.carry(&into.map_err(failed)?, &mut go_on);
        carried.map_err(failed)?;
    }
    target.release(id).map_err(failed)?;
    Ok(())
}

/// Fails unless what a volume occupies is free in the other pool; its snapshots may need more.
fn room(
    source: &dyn StorageDriver,
    target: &dyn StorageDriver,
    id: &VolumeId,
) -> Result<(), RuntimeError> {
    let needed = source.used(id).map_err(failed)?.saturating_add(SPARE);
    let storage::PoolSeen::Ready { used, total, .. } = target.seen().map_err(failed)? else {
        // Whoever makes the volume there says what is wrong with it.
        return Ok(());
    };
    let free = total.saturating_sub(used);
    if needed <= free {
        return Ok(());
    }
    let why = format!("it needs {needed} bytes, and the pool has {free} free");
    Err(RuntimeError::new(DOING, Class::Refused, why))
}

/// Removes what lies in the pool that a volume is not in, and the note.
fn settle(host: &Host, id: &VolumeId) -> Result<(), RuntimeError> {
    let path = note(host, id);
    let Some(pools) = path_io::read_if_exists(&path).map_err(on_disk)? else {
        return Ok(());
    };
    let at = lies_in(host, id)?;
    for pool in pools.lines().filter(|pool| Some(*pool) != at.as_deref()) {
        // A pool that is gone from the definitions holds nothing of ours any more.
        let found = host
            .pool_named(pool)
            .map_err(|error| RuntimeError::new(DOING, Class::NeedsOperator, error))?;
        if let Some(found) = found {
            pools::driver(host, &found)
                .remove_volume(id)
                .map_err(failed)?;
        }
    }
    path_io::remove_file(&path).map_err(on_disk)?;
    match path_io::remove_empty_dir(host.state().join(MOVES)) {
        Err(error) if error.kind() == std::io::ErrorKind::DirectoryNotEmpty => Ok(()),
        other => other.map_err(on_disk),
    }
}

/// The pool in which a volume is; `None`: it is no more.
fn lies_in(host: &Host, id: &VolumeId) -> Result<Option<String>, RuntimeError> {
    let unreadable = |error| RuntimeError::new(DOING, Class::NeedsOperator, error);
    let uid = match id {
        VolumeId::Root(uid) | VolumeId::Custom(uid) => uid.parse().ok(),
    };
    let Some(uid) = uid else { return Ok(None) };
    Ok(match id {
        VolumeId::Root(_) => {
            let read = host.definitions.read::<InstancePicks>(Kind::Instance, &uid);
            let read: Option<Definition<InstancePicks>> = read.map_err(unreadable)?;
            read.map(|definition| definition.picks.pool)
        }
        VolumeId::Custom(_) => {
            let read = host.definitions.read::<VolumePicks>(Kind::Volume, &uid);
            let read: Option<Definition<VolumePicks>> = read.map_err(unreadable)?;
            read.and_then(|definition| definition.address.pool)
        }
    })
}

/// Whether there are notes: of a move that was killed, or that could not remove what it left. The caller holds the lock.
pub(super) fn is_unsettled(host: &Host) -> bool {
    host.state().join(MOVES).exists()
}

/// Removes what killed moves left.
pub(super) fn sweep(host: &Host) -> Result<(), RuntimeError> {
    let folder = host.state().join(MOVES);
    let notes = match path_io::list(&folder) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        other => other.map_err(on_disk)?,
    };
    path_io::sweep_unfinished(&folder).map_err(on_disk)?;
    let mut result = Ok(());
    for path in notes {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let id = match name.split_once('-') {
            Some(("instance", uid)) => VolumeId::Root(uid.to_owned()),
            Some(("volume", uid)) => VolumeId::Custom(uid.to_owned()),
            _ => continue,
        };
        // One whose pool is away waits until it is back.
        let done = settle(host, &id);
        result = result.and(done);
    }
    result
}
