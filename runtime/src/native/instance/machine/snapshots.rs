//! Snapshots of machines: a layer of the disk is kept and another one over it written to, at once and while the machine
//! runs; with memory where that is asked for.
//!
//! What is begun is written down first. A keel that was killed leaves a snapshot that is made or not: the next one asks
//! QEMU which, or where the machine is gone takes what is whole.

use manifests::path_io::{self, AtPath as _};

use super::super::picks::InstancePicks;
use super::super::snapshots::{checked, disk_failed, name_for, oldest_first};
use super::super::start::{self, after_stop};
use super::super::{io_failed, pool_of, running, shim_failed, spec, stored};
use super::around::{around, planned};
use super::{LEAVING, beside, connect_failed, control, monitor_failed, quiet, record, saved};
use crate::error::{Class, RuntimeError};
use crate::native::definition::Definition;
use crate::native::disk_image::{self, Format};
use crate::native::host::Host;
use crate::native::machine::devices::nodes;
use crate::native::machine::layer::{self, LayerError, Merge};
use crate::native::machine::layer_at_rest::{self, Files, Merger};
use crate::native::machine::plan::{DiskFile, DiskPlan};
use crate::native::machine::qmp::Qmp;
use crate::native::machine::{self, state};
use crate::native::pools::root_volume;
use crate::native::shim::Running;
use crate::native::storage::{Kept, LayeredDisk, Layers, Pending, StorageError};
use crate::runtime::{Context, NewSnapshot, Snapshot};

/// The user of nobody's files (`nobody` of Debian).
const NOBODY: u32 = 65_534;

fn layer_failed(doing: &'static str) -> impl Fn(LayerError) -> RuntimeError {
    move |error| {
        let class = match &error {
            LayerError::Failed(_) => Class::NeedsOperator,
            _ => Class::Retry,
        };
        RuntimeError::new(doing, class, error)
    }
}

/// The disk of a machine with its layers.
pub(super) fn disk(
    host: &Host,
    definition: &Definition<InstancePicks>,
) -> Result<LayeredDisk, RuntimeError> {
    let (_, driver) = pool_of(host, &definition.picks.pool)?;
    driver
        .layered(&root_volume(&definition.uid))
        .map_err(disk_failed("find the disk of"))
}

/// The snapshots of an instance, oldest first; none where they cannot be told.
pub(in crate::native) fn told(
    host: &Host,
    definition: &Definition<InstancePicks>,
) -> Result<Vec<Snapshot>, RuntimeError> {
    let layers = disk(host, definition)?
        .layers()
        .map_err(disk_failed("read the snapshots of"))?;
    let all = layers.snapshots.into_iter().map(|(name, kept)| Snapshot {
        name,
        created_at: kept.created_at,
        description: kept.description,
        memory: kept.memory,
        made_by: kept.made_by,
        expires_at: kept.expires_at,
    });
    Ok(oldest_first(all))
}

/// The root disk of a machine as it would be started, and the name of its topmost node.
fn root(
    host: &Host,
    definition: &Definition<InstancePicks>,
) -> Result<(DiskPlan, String), RuntimeError> {
    let instance = spec(definition)?;
    let hardware =
        around(host, definition, instance).and_then(|around| planned(instance, around))?;
    let name = instance.root().map(|(name, _)| name);
    let mut disks = hardware.disks.into_iter();
    let disk = disks.find(|disk| Some(disk.device.as_str()) == name);
    let disk = disk.ok_or_else(|| {
        RuntimeError::new(
            "find the root of",
            Class::NeedsOperator,
            "it has no root disk",
        )
    })?;
    let top = nodes(&disk.device).top;
    Ok((disk, top))
}

/// Ends what a keel that was killed began. `qmp` is the monitor of a machine that runs.
pub(super) fn settle(
    host: &Host,
    definition: &Definition<InstancePicks>,
    now: Option<(&Running, &mut Qmp)>,
) -> Result<(), RuntimeError> {
    if let Some((running, _)) = &now {
        // One that cannot be thawed is told as frozen.
        quiet::settle(running);
    }
    let Ok(disk) = disk(host, definition) else {
        return Ok(());
    };
    let failed = disk_failed("read the snapshots of");
    let layers = disk.layers().map_err(&failed)?;
    let Some((_, qmp)) = now else {
        if let Some(pending) = &layers.pending {
            // Nothing was written to the new layer, or all that was: either way the one below is whole. Memory may be not.
            end(&disk, pending)?;
        }
        return put_back(&disk, definition);
    };
    if layers.pending.is_none() && layers.mergeable().is_empty() {
        return Ok(());
    }
    let (root, top) = root(host, definition)?;
    if let Some(pending) = &layers.pending {
        unfinished(&disk, &top, pending, qmp)?;
    }
    for merge in merges(&disk, &layers, &root) {
        let result = layer::result(qmp, &top, &merge).map_err(monitor_failed("look at"))?;
        if let Some(Ok(())) = result {
            layer::flush(qmp, &top, merge.into).map_err(monitor_failed("look at"))?;
            // Where it is not whole yet, the next deletion goes on with it.
            if is_whole(&disk, &merge)? {
                disk.merged(merge.from).map_err(&failed)?;
            }
        }
    }
    Ok(())
}

/// Takes the result of a snapshot from QEMU, and lets the machine go on.
fn unfinished(
    disk: &LayeredDisk,
    top: &str,
    pending: &Pending,
    qmp: &mut Qmp,
) -> Result<(), RuntimeError> {
    let ask = monitor_failed("look at");
    let used = layer::is_used(qmp, top, pending.layer).map_err(&ask)?;
    let status = qmp.status().map_err(&ask)?;
    if pending.ran && !status.running {
        if let Ok(state::Progress::Active(_)) = state::progress(qmp) {
            let _ = qmp.execute("migrate_cancel", serde_json::Value::Null);
            let _ = state::finished(qmp);
        }
        qmp.resume().map_err(monitor_failed("wake"))?;
    }
    if used {
        return end(disk, pending);
    }
    layer::remove(qmp, top, pending.layer).map_err(&ask)?;
    disk.drop().map_err(disk_failed("record the snapshot of"))
}

/// The new layer of a snapshot is the one that is written to; it is kept where all of it is there.
fn end(disk: &LayeredDisk, pending: &Pending) -> Result<(), RuntimeError> {
    let beside = disk.beside(pending.kept.layer);
    let keep = !pending.kept.memory || beside.exists();
    if keep {
        beside::keep(disk, &beside, "record the snapshot of")?;
    }
    disk.end(keep)
        .map_err(disk_failed("record the snapshot of"))
}

/// A machine that runs, with its monitor.
pub(super) type Reached = (Box<Running>, Qmp);

/// The disk of a machine, on which nothing is half done any more, and the machine where it runs, with its monitor.
pub(super) fn settled(
    host: &Host,
    definition: &Definition<InstancePicks>,
) -> Result<(LayeredDisk, Option<Reached>), RuntimeError> {
    let mut now = None;
    if let Some(running) = running(host, &definition.uid)? {
        let qmp = control(&running).map_err(connect_failed)?;
        now = Some((running, qmp));
    }
    let reached = now.as_mut().map(|(running, qmp)| (&**running, qmp));
    settle(host, definition, reached)?;
    Ok((disk(host, definition)?, now))
}

/// Makes a snapshot; its name.
pub(in crate::native) fn create(
    host: &Host,
    definition: &Definition<InstancePicks>,
    new: &NewSnapshot,
    context: &Context<'_>,
) -> Result<String, RuntimeError> {
    let (disk, mut now) = settled(host, definition)?;
    let layers = disk
        .layers()
        .map_err(disk_failed("read the snapshots of"))?;
    let name = name_for(new, |name| layers.snapshots.contains_key(name))?;
    let kept = Kept {
        layer: layers.active,
        created_at: context.now,
        description: new.description.clone(),
        memory: new.memory,
        made_by: new.made_by,
        expires_at: new.expires_at,
        about: definition
            .to_json()
            .map_err(|error| RuntimeError::new("record the snapshot of", Class::Bug, error))?,
    };
    let failed = disk_failed("make a snapshot of");
    match now.as_mut() {
        Some((now, qmp)) => {
            if new.memory {
                saved::refuse_unsavable(definition)?;
            }
            let ran = qmp.status().map_err(monitor_failed("look at"))?.running;
            let pending = disk.begin(&name, kept, ran).map_err(&failed)?;
            match live(host, definition, &disk, &pending, (now, qmp), context) {
                Ok(()) => disk.end(true).map_err(&failed)?,
                Err(error) => {
                    // Where QEMU does not even answer, the next deed asks it again.
                    let _ = settle(host, definition, Some((now, qmp)));
                    return Err(error);
                }
            }
        }
        _ if new.memory => {
            let why = "it does not run: there is no memory to keep";
            return Err(RuntimeError::new(
                "make a snapshot of",
                Class::Conflict,
                why,
            ));
        }
        _ => {
            disk.begin(&name, kept, false).map_err(&failed)?;
            beside::keep(&disk, &disk.beside(layers.active), "make a snapshot of")?;
            disk.end(true).map_err(&failed)?;
        }
    }
    Ok(name)
}

/// Switches a running machine to its new layer.
fn live(
    host: &Host,
    definition: &Definition<InstancePicks>,
    disk: &LayeredDisk,
    pending: &Pending,
    (now, qmp): (&Running, &mut Qmp),
    context: &Context<'_>,
) -> Result<(), RuntimeError> {
    const DOING: &str = "make a snapshot of";
    let (root, top) = root(host, definition)?;
    let record = match pending.kept.memory {
        true => Some(record::record(host, definition, now, qmp, context)?),
        false => None,
    };
    let others = record.iter().flat_map(|record| &record.hardware.disks);
    let others = others.filter(|other| !other.read_only && other.device != root.device);
    if let Some(other) = others.into_iter().next() {
        let why = format!(
            "its disk {} is no disk of a pool: it would not be as the memory of the snapshot has it",
            other.device
        );
        return Err(RuntimeError::new(DOING, Class::Refused, why));
    }
    let file = disk.file(pending.layer);
    layer::add(qmp, &top, pending.layer, &file, root.cache).map_err(layer_failed(DOING))?;
    let (active, over) = (pending.kept.layer, pending.layer);
    let switched = match &record {
        Some(_) => {
            qmp.stop().map_err(monitor_failed("stop"))?;
            layer::switch(qmp, &top, active, over)
        }
        None => {
            // Before the switch, which makes the snapshot.
            beside::keep(disk, &disk.beside(active), DOING)?;
            // The agent of one that stands still does not answer.
            let frozen = pending.ran && quiet::freeze(now, qmp);
            let switched = layer::switch(qmp, &top, active, over);
            if frozen && !quiet::thaw(now) {
                (context.progress)(
                    "its agent was asked to freeze its file systems, and does not say that they can be written again",
                );
            }
            switched
        }
    };
    switched.map_err(monitor_failed(DOING))?;
    if let Some(record) = record {
        (context.progress)("saving its memory");
        let folder = disk.beside(active);
        let new = folder.with_extension("new");
        saved::write(&new, &record, qmp)?;
        // All that it keeps gets its name at once.
        beside::keep(disk, &new, DOING)?;
        path_io::rename(&new, &folder).map_err(io_failed(DOING))?;
        if pending.ran {
            qmp.resume().map_err(monitor_failed("wake"))?;
        }
    }
    Ok(())
}

/// Puts back what a snapshot keeps beside the disk, which has gone back to it.
fn put_back(
    disk: &LayeredDisk,
    definition: &Definition<InstancePicks>,
) -> Result<(), RuntimeError> {
    let failed = disk_failed("restore");
    let layers = disk.layers().map_err(&failed)?;
    let Some(returning) = layers.returning else {
        return Ok(());
    };
    let beside = disk.beside(returning.layer);
    beside::put(disk, &beside, "restore")?;
    if returning.memory {
        let file = disk.file(layers.active);
        saved::of_snapshot(disk.folder(), &beside, &file, spec(definition)?)?;
    }
    disk.returned().map_err(failed)
}

/// Goes back to a snapshot. What ran runs again; with memory it goes on from there.
pub(in crate::native) fn restore(
    host: &Host,
    definition: &Definition<InstancePicks>,
    name: &str,
    disk_only: bool,
    context: &Context<'_>,
) -> Result<(), RuntimeError> {
    let disk = disk(host, definition)?;
    let failed = disk_failed("restore");
    let now = running(host, &definition.uid)?;
    let ran = now.is_some();
    if let Some(now) = &now {
        if let Ok(mut qmp) = control(now) {
            settle(host, definition, Some((now, &mut qmp)))?;
        }
        known(&disk, name)?;
        (context.progress)("stopping");
        now.kill(LEAVING)
            .map_err(|error| shim_failed("stop", error))?;
        after_stop(host, definition)?;
    }
    settle(host, definition, None)?;
    let kept = known(&disk, name)?;
    saved::forget(host, definition)?;
    let goes_on = kept.memory && !disk_only;
    // From here on it is gone back to: whoever comes next puts back the rest.
    disk.revert(name, goes_on).map_err(&failed)?;
    put_back(&disk, definition)?;
    if ran || goes_on {
        let mut definition = definition.clone();
        start::start(host, &mut definition, context)?;
        host.write_instance(&definition).map_err(stored)?;
    }
    Ok(())
}

fn known(disk: &LayeredDisk, name: &str) -> Result<Kept, RuntimeError> {
    let failed = disk_failed("find the snapshot of");
    let mut layers = disk.layers().map_err(&failed)?;
    let kept = layers.snapshots.remove(name);
    kept.ok_or_else(|| failed(StorageError::NoSnapshot(name.to_owned())))
}

/// Gives a snapshot another name.
pub(in crate::native) fn rename(
    host: &Host,
    definition: &Definition<InstancePicks>,
    from: &str,
    to: &str,
) -> Result<(), RuntimeError> {
    checked(to)?;
    disk(host, definition)?
        .rename(from, to)
        .map_err(disk_failed("rename the snapshot of"))
}

/// The merges that a running machine can do: of layers that it runs on. Those that only other snapshots lie on, as after
/// a restore, it has not opened: they wait until it runs on them, or until it stops.
fn merges(disk: &LayeredDisk, layers: &Layers, root: &DiskPlan) -> Vec<Merge> {
    let open = [vec![layers.active], layers.chain()].concat();
    let mut all = all_merges(disk, layers, root);
    all.retain(|merge| open.contains(&merge.from) && open.contains(&merge.into));
    all
}

/// All merges that there are.
fn all_merges(disk: &LayeredDisk, layers: &Layers, root: &DiskPlan) -> Vec<Merge> {
    let image = root.backing.as_ref().map(|image| &image.path);
    let all = layers.mergeable().into_iter();
    all.map(|(from, into)| Merge {
        from,
        into,
        base: layers.below(from),
        base_file: match layers.below(from) {
            Some(base) => Some(disk.file(base)),
            None => image.cloned(),
        },
    })
    .collect()
}

/// Whether all of a layer is in the file of the one on it, and on the disk of the host: only then it may go.
fn is_whole(disk: &LayeredDisk, merge: &Merge) -> Result<bool, RuntimeError> {
    let (from, into) = (disk.file(merge.from), disk.file(merge.into));
    let failed = |error| RuntimeError::new("merge a layer of", Class::NeedsOperator, error);
    let whole = disk_image::has_all_of(&into, &from).map_err(failed)?;
    if whole {
        std::fs::File::open(&into)
            .and_then(|file| file.sync_all())
            .at("sync", &into)
            .map_err(io_failed("merge a layer of"))?;
    }
    Ok(whole)
}

/// Records that a layer has gone into the one on it.
fn taken(disk: &LayeredDisk, merge: &Merge) -> Result<(), RuntimeError> {
    if !is_whole(disk, merge)? {
        let why = "QEMU says that it is done, and its file has not all of it: the disk of the host may be full. All is as \
                   it was, and the next deletion of a snapshot tries again";
        return Err(RuntimeError::new(
            "merge a layer of",
            Class::NeedsOperator,
            why,
        ));
    }
    disk.merged(merge.from)
        .map_err(disk_failed("delete the snapshot of"))
}

/// Merges what nobody needs any more of the disk of a machine that does not run.
fn merge_at_rest(
    host: &Host,
    definition: &Definition<InstancePicks>,
    disk: &LayeredDisk,
    context: &Context<'_>,
) -> Result<(), RuntimeError> {
    let failed = disk_failed("delete the snapshot of");
    if disk.layers().map_err(&failed)?.mergeable().is_empty() {
        return Ok(());
    }
    if saved::told(host, definition).is_some() {
        // It goes on with a disk that nobody has written to since.
        (context.progress)(
            "what later layers need of it is merged with the next deletion of a snapshot after its machine has gone on",
        );
        return Ok(());
    }
    let Some(emulator) = machine::emulator() else {
        (context.progress)(
            "what later layers need of it is merged with the next deletion of a snapshot on a host with QEMU",
        );
        return Ok(());
    };
    // Any unprivileged user will do: it works on descriptors.
    let id = definition.picks.id_base.unwrap_or(NOBODY);
    let merger = Merger {
        emulator: &emulator,
        user: (id, id),
    };
    let (root, _) = root(host, definition)?;
    loop {
        let layers = disk.layers().map_err(&failed)?;
        let Some(merge) = all_merges(disk, &layers, &root).into_iter().next() else {
            return Ok(());
        };
        (context.progress)("merging what later layers need of it");
        let (from, into) = (disk.file(merge.from), disk.file(merge.into));
        let base = match merge.base {
            Some(base) => Some(DiskFile {
                path: disk.file(base),
                format: Format::Qcow2,
                device: false,
            }),
            None => root.backing.clone(),
        };
        let files = Files {
            from: &from,
            into: &into,
            base: base.as_ref(),
        };
        layer_at_rest::merge_at_rest(merger, &merge, &files, context.timeout)
            .map_err(layer_failed("merge a layer of"))?;
        taken(disk, &merge)?;
    }
}

/// Deletes a snapshot; the data of its layer go into what lies on it, whether its machine runs or not.
pub(in crate::native) fn delete(
    host: &Host,
    definition: &Definition<InstancePicks>,
    name: &str,
    context: &Context<'_>,
) -> Result<(), RuntimeError> {
    let (disk, now) = settled(host, definition)?;
    let failed = disk_failed("delete the snapshot of");
    disk.forget(name).map_err(&failed)?;
    let Some((_, mut qmp)) = now else {
        return merge_at_rest(host, definition, &disk, context);
    };
    let (root, top) = root(host, definition)?;
    loop {
        let layers = disk.layers().map_err(&failed)?;
        // A layer that is above another is what the other goes into.
        let Some(merge) = merges(&disk, &layers, &root).into_iter().next() else {
            return Ok(());
        };
        (context.progress)("merging what later layers need of it");
        layer::merge(
            &mut qmp,
            &top,
            &merge,
            &disk.file(merge.into),
            context.timeout,
        )
        .map_err(layer_failed("merge a layer of"))?;
        layer::flush(&mut qmp, &top, merge.into).map_err(monitor_failed("merge a layer of"))?;
        taken(&disk, &merge)?;
    }
}
