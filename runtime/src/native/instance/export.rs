//! Backups of instances: what they are is gathered, and stands still while it is read.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use manifests::devices::disk::DiskSource;
use manifests::id::Address;
use manifests::kinds::instance::Instance;

use super::container_snapshots::{standing_still, trees};
use super::machine::export as machine;
use super::picks::InstancePicks;
use super::snapshots::disk_failed;
use super::{io_failed, pool_of, running, spec};
use crate::error::{Class, RuntimeError};
use crate::native::backup::{
    Form, From, Head, ImageHead, LayersHead, MAGIC, SnapshotHead, Tree, parts_of,
};
use crate::native::backups::{BackupExport, DOING, Gathered, has_own_form};
use crate::native::busy::{self, Busy, Read};
use crate::native::definition::Definition;
use crate::native::host::Host;
use crate::native::pools::root_volume;
use crate::native::storage::Passing;
use crate::native::volumes::{self, VolumePicks};
use crate::runtime::Context;

/// What a backup is made of, besides the image and volumes.
#[derive(Default)]
pub(super) struct Parts {
    pub(super) parts: Vec<(String, From)>,
    pub(super) snapshots: Vec<SnapshotHead>,
    pub(super) layers: Option<LayersHead>,
    pub(super) form: Form,
    pub(super) left_out: Vec<String>,
    pub(super) after: After,
}

/// What has to be undone when all of it is read.
#[derive(Default)]
pub(super) enum After {
    #[default]
    Nothing,
    /// The root of a container was put in place.
    Release,
    /// A copy was made of it.
    Passed { _copy: Passing },
    /// A snapshot was made of a machine.
    Snapshot,
}

/// An instance of which a backup is made; [`Reading::end`] follows.
pub(in crate::native) struct Reading {
    definition: Arc<Definition<InstancePicks>>,
    after: After,
    _busy: Busy,
}

/// Removes what was made of a machine for a backup whose maker was killed; copies of containers go with those of their pool.
///
/// # Errors
/// The machine runs and QEMU does not answer.
pub(in crate::native) fn clear_up(
    host: &Host,
    definition: &Definition<InstancePicks>,
) -> Result<(), RuntimeError> {
    match !spec(definition)?.is_container() && super::has_root(host, definition) {
        true => machine::clear_up(host, definition),
        false => Ok(()),
    }
}

impl Reading {
    /// Removes what was made for it.
    pub(in crate::native) fn end(
        self,
        host: &Host,
        context: &Context<'_>,
    ) -> Result<(), RuntimeError> {
        match &self.after {
            After::Nothing => Ok(()),
            After::Release => release(host, &self.definition),
            After::Passed { .. } => trees(host, &self.definition)
                .and_then(|trees| trees.passed().map_err(disk_failed(DOING))),
            After::Snapshot => machine::passed(host, &self.definition, context),
        }
        .map_err(|error: RuntimeError| error.of(&self.definition.address))
    }
}

/// Gathers what the backup of an instance is made of, with these of its volumes.
pub(in crate::native) fn gather(
    host: &Host,
    definition: &Arc<Definition<InstancePicks>>,
    volumes: Vec<Arc<Definition<VolumePicks>>>,
    export: &BackupExport<'_>,
    context: &Context<'_>,
) -> Result<(Gathered, Reading, Vec<volumes::export::Reading>), RuntimeError> {
    let costs = match spec(definition)?.is_container() {
        true => trees(host, definition)?.needs_stillness(),
        false => true,
    };
    let runs = running(host, &definition.uid)?.is_some();
    let live = export.snapshot.is_none() && costs && !runs;
    let read = match live {
        true => Read::Live,
        false => Read::Kept,
    };
    let busy = busy::begin(host, &definition.uid, read)?;
    let mut readings = Vec::new();
    let mut parts = Parts::default();
    let gathered = (|| {
        for volume in volumes {
            readings.push(volumes::export::Reading::begin(host, volume, None)?);
        }
        let mut gather = || match spec(definition)?.is_container() {
            true => container(host, definition, export, &mut parts, context),
            false => machine::gather(host, definition, export, &mut parts, context),
        };
        volumes::export::still(host, &mut readings, context, &mut gather)?;
        all_of_it(host, definition, export, &mut parts, &readings, context)
    })();
    let reading = Reading {
        definition: Arc::clone(definition),
        after: parts.after,
        _busy: busy,
    };
    match gathered {
        Ok(gathered) => Ok((gathered, reading, readings)),
        Err(error) => {
            let _tried = reading.end(host, context);
            for reading in readings {
                let _tried = reading.end(host);
            }
            Err(error)
        }
    }
}

fn release(host: &Host, definition: &Definition<InstancePicks>) -> Result<(), RuntimeError> {
    let (_, driver) = pool_of(host, &definition.picks.pool)?;
    let released = driver.release(&root_volume(&definition.uid));
    released.map(|_| ()).map_err(disk_failed(DOING))
}

fn container(
    host: &Host,
    definition: &Definition<InstancePicks>,
    export: &BackupExport<'_>,
    out: &mut Parts,
    context: &Context<'_>,
) -> Result<(), RuntimeError> {
    let disk = disk_failed(DOING);
    let trees = trees(host, definition)?;
    has_own_form(&trees, export.optimized)?;
    if let Some(name) = &export.snapshot {
        let all = vec![(Tree::Root, trees.kept(name).map_err(&disk)?)];
        for (form, part) in parts_of(&trees, all, export.optimized).map_err(&disk)? {
            out.form = form;
            out.parts.push(part);
        }
        return Ok(());
    }
    let tree = match running(host, &definition.uid)? {
        None if trees.needs_stillness() => {
            let (_, driver) = pool_of(host, &definition.picks.pool)?;
            out.after = After::Release;
            driver.place(&root_volume(&definition.uid)).map_err(&disk)?;
            trees.tree().to_path_buf()
        }
        _ => {
            // It stands still for the time of a copy, and not of a backup.
            (context.progress)("copying its files");
            let mut go_on = || !context.cancel.load(Ordering::Relaxed);
            let pass = || trees.pass(&mut go_on);
            let copy = standing_still(host, definition, &trees, DOING, pass)?;
            let at = copy.at.clone();
            out.after = After::Passed { _copy: copy };
            at
        }
    };
    let kept = match export.snapshots {
        true => trees.in_order().map_err(&disk)?,
        false => Vec::new(),
    };
    let mut all = Vec::new();
    for (name, _) in &kept {
        let files = trees.kept(name).map_err(&disk)?;
        all.push((Tree::Snapshot(name.clone()), files));
    }
    // The last, since it stands on them.
    all.push((Tree::Root, tree));
    let parts = parts_of(&trees, all, export.optimized).map_err(&disk)?;
    let mut kept = kept.into_iter();
    for (form, part) in parts {
        out.parts.push(part);
        match kept.next() {
            None => out.form = form,
            Some((name, kept)) => out.snapshots.push(SnapshotHead {
                name,
                created_at: kept.created_at,
                description: kept.description,
                layer: None,
                form,
            }),
        }
    }
    Ok(())
}

/// Puts what was gathered together with what is beside it: the image, and volumes.
fn all_of_it(
    host: &Host,
    definition: &Definition<InstancePicks>,
    export: &BackupExport<'_>,
    own: &mut Parts,
    readings: &[volumes::export::Reading],
    context: &Context<'_>,
) -> Result<Gathered, RuntimeError> {
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
    let mut parts = match image.as_ref().filter(|image| image.included) {
        Some(image) => image_parts(host, image)?,
        None => Vec::new(),
    };
    parts.append(&mut own.parts);
    let mut with = Vec::new();
    for (number, reading) in (0..).zip(readings) {
        let (volume, of_it) = reading.parts(number, export.snapshots, export.optimized)?;
        with.push(volume);
        parts.extend(of_it);
    }
    let head = Head {
        format: MAGIC.to_owned(),
        format_version: 0,
        program: export.program.clone(),
        created_at: context.now,
        instance: Some(definition.address.clone()),
        r#type: Some(spec(definition)?.r#type),
        of_snapshot: export.snapshot.clone(),
        form: own.form,
        image,
        snapshots: std::mem::take(&mut own.snapshots),
        layers: own.layers.take(),
        volumes: with,
    };
    let mut left_out = std::mem::take(&mut own.left_out);
    left_out.extend(elsewhere(spec(definition)?, &export.volumes));
    Ok(Gathered {
        head: head.written(),
        parts,
        left_out,
    })
}

/// What an instance uses that lies elsewhere, but for these volumes.
fn elsewhere(instance: &Instance, within: &[Address]) -> impl Iterator<Item = String> {
    let devices = instance.devices.iter();
    devices.filter_map(|(name, device)| match device.as_disk()?.made_of() {
        DiskSource::Volume { pool, volume } => {
            let is_it = |one: &Address| one.name == volume && one.pool.as_deref() == Some(pool);
            let told = format!("{name}: the volume {pool}/{volume}");
            (!within.iter().any(is_it)).then_some(told)
        }
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
