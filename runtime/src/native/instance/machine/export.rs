//! What a backup of a machine is made of: layers of its disk, and what is kept beside them.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use super::super::export::{After, Parts};
use super::super::picks::InstancePicks;
use super::super::running;
use super::super::snapshots::disk_failed;
use super::snapshots;
use super::{saved, served};
use crate::error::RuntimeError;
use crate::native::backup::{Blob, Form, From, LayersHead, SnapshotHead, Tree, VARIABLES};
use crate::native::backups::{BackupExport, DOING};
use crate::native::definition::Definition;
use crate::native::host::Host;
use crate::native::image::MachineImage;
use crate::native::storage::{LayeredDisk, Layers, StorageError};
use crate::runtime::{Context, NewSnapshot};

/// The snapshot of a machine that runs while a backup of it is made. One that a killed keel left goes with the next sweep.
const PASSING: &str = "backup-in-the-making";
const PASSING_FOR: &str = "a backup is being made of it";
/// How long what was written meanwhile may take to go into the layer below.
const MERGING: Duration = Duration::from_secs(600);

/// Gathers it. What runs has a snapshot until [`passed`].
pub(in crate::native::instance) fn gather(
    host: &Host,
    definition: &Definition<InstancePicks>,
    export: &BackupExport<'_>,
    out: &mut Parts,
    context: &Context<'_>,
) -> Result<(), RuntimeError> {
    let failed = disk_failed(DOING);
    let (mut disk, _) = snapshots::settled(host, definition)?;
    let mut layers = disk.layers().map_err(&failed)?;
    if is_left(&layers) {
        snapshots::delete(host, definition, PASSING, context)?;
        layers = disk.layers().map_err(&failed)?;
    }
    if let Some(name) = &export.snapshot {
        let kept = layers.snapshots.get(name);
        let kept = kept.ok_or_else(|| failed(StorageError::NoSnapshot(name.clone())))?;
        let (layer, memory) = (kept.layer, kept.memory);
        *out = all(&disk, &layers, layer, &disk.beside(layer), false);
        if memory {
            out.left_out.push("the memory of the snapshot".to_owned());
        }
        return Ok(());
    }
    if running(host, &definition.uid)?.is_none() {
        let beside = disk.folder().to_path_buf();
        *out = all(&disk, &layers, layers.active, &beside, export.snapshots);
        if saved::told(host, definition).is_some() {
            let what = "the state with which it was stopped: what is restored boots";
            out.left_out.push(what.to_owned());
        }
        return Ok(());
    }
    (context.progress)("making a snapshot of its disk");
    let new = NewSnapshot {
        name: Some(PASSING.to_owned()),
        description: PASSING_FOR.to_owned(),
        ..NewSnapshot::default()
    };
    snapshots::create(host, definition, &new, context)?;
    out.after = After::Snapshot;
    disk = snapshots::settled(host, definition)?.0;
    let mut layers = disk.layers().map_err(&failed)?;
    let kept = layers.snapshots.remove(PASSING);
    let kept = kept.ok_or_else(|| failed(StorageError::NoSnapshot(PASSING.to_owned())))?;
    let beside = disk.beside(kept.layer);
    *out = all(&disk, &layers, kept.layer, &beside, export.snapshots);
    out.after = After::Snapshot;
    Ok(())
}

/// Deletes the snapshot that was made for a backup.
pub(in crate::native::instance) fn passed(
    host: &Host,
    definition: &Definition<InstancePicks>,
    context: &Context<'_>,
) -> Result<(), RuntimeError> {
    snapshots::delete(host, definition, PASSING, context)
}

/// Deletes the snapshot of a backup whose maker was killed.
///
/// # Errors
/// The machine runs and QEMU does not answer.
pub(in crate::native::instance) fn clear_up(
    host: &Host,
    definition: &Definition<InstancePicks>,
) -> Result<(), RuntimeError> {
    let failed = disk_failed("clear up after a backup of");
    let disk = snapshots::disk(host, definition)?;
    if !is_left(&disk.layers().map_err(&failed)?) {
        return Ok(());
    }
    let context = Context {
        cancel: &AtomicBool::new(false),
        timeout: MERGING,
        // Nothing is recorded of it.
        now: jiff::Timestamp::UNIX_EPOCH,
        progress: &|_| {},
    };
    snapshots::delete(host, definition, PASSING, &context)
}

fn is_left(layers: &Layers) -> bool {
    let left = layers.snapshots.get(PASSING);
    left.is_some_and(|left| left.description == PASSING_FOR)
}

/// All that belongs to a disk of which `active` is on top.
fn all(
    disk: &LayeredDisk,
    layers: &Layers,
    active: u32,
    beside: &Path,
    with_snapshots: bool,
) -> Parts {
    let mut left_out = Vec::new();
    let mut snapshots = Vec::new();
    let mut tops = BTreeSet::from([active]);
    let mut files = Vec::new();
    if with_snapshots {
        for (name, kept) in &layers.snapshots {
            tops.insert(kept.layer);
            snapshots.push(SnapshotHead {
                name: name.clone(),
                created_at: kept.created_at,
                description: kept.description.clone(),
                layer: Some(kept.layer),
                form: Form::Files,
            });
            if kept.memory {
                left_out.push(format!("the memory of snapshot {name}"));
            }
        }
    }
    let mut below = std::collections::BTreeMap::new();
    for top in &tops {
        let mut at = Some(*top);
        while let Some(layer) = at.filter(|layer| !below.contains_key(layer)) {
            at = layers.below(layer);
            below.insert(layer, at);
        }
    }
    for layer in below.keys() {
        files.push((Blob::Layer(*layer).part(), From::File(disk.file(*layer))));
    }
    let mut variables = |blob: &dyn Fn(&'static str) -> Blob, folder: &Path| {
        for name in VARIABLES {
            let file = folder.join(name);
            if file.exists() {
                files.push((blob(name).part(), From::File(file)));
            }
        }
    };
    variables(&Blob::Variables, beside);
    let mut done = BTreeSet::new();
    for layer in snapshots.iter().filter_map(|one| one.layer) {
        if done.insert(layer) {
            variables(
                &|name| Blob::LayerVariables(layer, name),
                &disk.beside(layer),
            );
        }
    }
    let tpm = disk.folder().join(served::STATE);
    if tpm.exists() {
        files.push((Tree::Tpm.part(), From::Tree(tpm)));
    }
    Parts {
        parts: files,
        snapshots,
        layers: Some(LayersHead { active, below }),
        form: Form::Files,
        left_out,
        after: After::Nothing,
    }
}

/// The files of a machine's image.
pub(in crate::native::instance) fn image_parts(image: &MachineImage) -> Vec<(String, From)> {
    let disk = image.disk.as_ref().map(|disk| &disk.path);
    [
        (Blob::ImageDisk, disk),
        (Blob::ImageKernel, image.kernel.as_ref()),
        (Blob::ImageInitrd, image.initrd.as_ref()),
    ]
    .into_iter()
    .filter_map(|(blob, path)| Some((blob.part(), From::File(path?.clone()))))
    .collect()
}
