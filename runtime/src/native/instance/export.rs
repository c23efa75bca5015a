//! Backups of instances: what they are is gathered, and stands still while it is read.

use std::path::PathBuf;
use std::sync::atomic::Ordering;

use manifests::devices::disk::DiskSource;
use manifests::kinds::instance::Instance;
use manifests::path_io::AtPath as _;

use super::container_snapshots::{standing_still, trees};
use super::machine::export as machine;
use super::picks::InstancePicks;
use super::snapshots::disk_failed;
use super::{io_failed, pool_of, running, spec};
use crate::error::{Class, RuntimeError};
use crate::native::backup::{
    BackupError, BackupWriter, FORMAT_VERSION, Head, ImageHead, LayersHead, MAGIC, Packer,
    SnapshotHead, Target, Tree, write_file, write_tree,
};
use crate::native::backups::{BackupExport, Exported, failed};
use crate::native::definition::Definition;
use crate::native::host::Host;
use crate::native::pools::root_volume;
use crate::runtime::Context;

pub(super) const DOING: &str = "make a backup of";

/// A tree or a file of this host, and the part that it becomes.
pub(super) enum From {
    Tree(PathBuf),
    File(PathBuf),
}

/// What a backup is made of, besides the image.
pub(super) struct Parts {
    pub(super) parts: Vec<(String, From)>,
    pub(super) snapshots: Vec<SnapshotHead>,
    pub(super) layers: Option<LayersHead>,
    pub(super) left_out: Vec<String>,
}

/// Writes the backup of an instance.
pub(in crate::native) fn export(
    host: &Host,
    definition: &Definition<InstancePicks>,
    export: &BackupExport<'_>,
    context: &Context<'_>,
) -> Result<Exported, RuntimeError> {
    // Before anything stands still for it.
    let target = Target::begin(&export.path, export.replace).map_err(failed(DOING))?;
    match spec(definition)?.is_container() {
        true => container(host, definition, export, target, context),
        false => machine::export(host, definition, export, context, |parts| {
            write(host, definition, export, target, parts, context)
        }),
    }
}

fn container(
    host: &Host,
    definition: &Definition<InstancePicks>,
    export: &BackupExport<'_>,
    target: Target,
    context: &Context<'_>,
) -> Result<Exported, RuntimeError> {
    let disk = disk_failed(DOING);
    let trees = trees(host, definition)?;
    let all = trees.all().map_err(&disk)?;
    let root = Tree::Root.part();
    let mut parts = Parts {
        parts: Vec::new(),
        snapshots: Vec::new(),
        layers: None,
        left_out: Vec::new(),
    };
    if let Some(name) = &export.snapshot {
        let tree = trees.kept(name).map_err(&disk)?;
        parts.parts.push((root, From::Tree(tree)));
        return write(host, definition, export, target, parts, context);
    }
    if export.snapshots {
        for (name, kept) in all {
            let part = Tree::Snapshot(name.clone()).part();
            let tree = trees.kept(&name).map_err(&disk)?;
            parts.parts.push((part, From::Tree(tree)));
            parts.snapshots.push(SnapshotHead {
                name,
                created_at: kept.created_at,
                description: kept.description,
                layer: None,
            });
        }
    }
    if running(host, &definition.uid)?.is_none() {
        let (_, driver) = pool_of(host, &definition.picks.pool)?;
        let volume = root_volume(&definition.uid);
        driver.place(&volume).map_err(&disk)?;
        parts
            .parts
            .insert(0, (root, From::Tree(trees.tree().to_path_buf())));
        let written = write(host, definition, export, target, parts, context);
        let released = driver.release(&volume).map_err(&disk);
        return written.and_then(|written| released.map(|_| written));
    }
    // It stands still for the time of a copy, and not of a backup.
    (context.progress)("copying its files");
    let mut go_on = || !context.cancel.load(Ordering::Relaxed);
    let copy = standing_still(host, definition, &trees, DOING, || trees.pass(&mut go_on))?;
    parts.parts.insert(0, (root, From::Tree(copy)));
    let written = write(host, definition, export, target, parts, context);
    let passed = trees.passed().map_err(&disk);
    written.and_then(|written| passed.map(|()| written))
}

/// Writes all of it and gives the file its name.
fn write(
    host: &Host,
    definition: &Definition<InstancePicks>,
    export: &BackupExport<'_>,
    target: Target,
    parts: Parts,
    context: &Context<'_>,
) -> Result<Exported, RuntimeError> {
    (context.progress)("writing");
    let image = match definition.picks.image.as_str() {
        "" => None,
        fingerprint => {
            let found = host.images.get(fingerprint);
            let found = found.map_err(io_failed("find the image of"))?;
            let record = found.ok_or_else(|| {
                let why = format!("its image {fingerprint} is not in the store");
                RuntimeError::new(DOING, Class::NeedsOperator, why)
            })?;
            Some(ImageHead {
                included: export.image,
                record,
            })
        }
    };
    let mut all = match image.as_ref().filter(|image| image.included) {
        Some(image) => image_parts(host, image)?,
        None => Vec::new(),
    };
    all.extend(parts.parts);
    let head = Head {
        format: MAGIC.to_owned(),
        format_version: FORMAT_VERSION,
        program: export.program.clone(),
        created_at: context.now,
        instance: definition.address.clone(),
        r#type: spec(definition)?.r#type,
        of_snapshot: export.snapshot.clone(),
        image,
        snapshots: parts.snapshots,
        layers: parts.layers,
    };
    let go_on = || !context.cancel.load(Ordering::Relaxed);
    let written = (|| {
        let io = |result: std::io::Result<_>| result.at("write", &export.path);
        let file = target.writer()?;
        let sink = match export.seal {
            None => Box::new(file),
            Some(seal) => seal(file).at("encrypt", &export.path)?,
        };
        let text = io(serde_json::to_vec_pretty(&head).map_err(Into::into))?;
        let made = BackupWriter::new(Packer::new(sink), &text, &export.manifest);
        let mut out = made.at("write", &export.path)?;
        for (part, from) in &all {
            match from {
                From::Tree(root) => write_tree(&mut out, part, root, &go_on)?,
                From::File(file) => write_file(&mut out, part, file, &go_on)?,
            }
        }
        let (packer, index) = out.finish().at("write", &export.path)?;
        packer.finish().at("write", &export.path)?;
        Ok((target.finish()?, index))
    })();
    let (bytes, index) = written.map_err(|error: BackupError| failed(DOING)(error))?;
    let mut left_out = parts.left_out;
    left_out.extend(elsewhere(spec(definition)?));
    Ok(Exported {
        bytes,
        parts: index.parts,
        left_out,
    })
}

/// What an instance uses that lies elsewhere.
fn elsewhere(instance: &Instance) -> impl Iterator<Item = String> {
    let devices = instance.devices.iter();
    devices.filter_map(|(name, device)| match device.as_disk()?.made_of() {
        DiskSource::Volume { pool, volume } => Some(format!("{name}: the volume {pool}/{volume}")),
        DiskSource::Host(path) => Some(format!("{name}: {path} of the host")),
        DiskSource::Root | DiskSource::Tmpfs | DiskSource::Other(_) => None,
    })
}

fn image_parts(host: &Host, image: &ImageHead) -> Result<Vec<(String, From)>, RuntimeError> {
    let fingerprint = &image.record.fingerprint;
    if image.record.machine.is_none() {
        let rootfs = host.images.rootfs(fingerprint);
        let rootfs = rootfs.map_err(io_failed("find the image of"))?;
        return Ok(vec![(Tree::Image.part(), From::Tree(rootfs))]);
    }
    let image = host.images.machine(fingerprint);
    let image = image.map_err(io_failed("find the image of"))?;
    Ok(machine::image_parts(&image))
}
