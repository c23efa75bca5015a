//! What a backup has of a volume: its files or its disk as they are at one moment, and its snapshots.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::{VolumePicks, copies, failed, id, pool, spec, users};
use crate::error::RuntimeError;
use crate::native::backup::{
    Blob, FORMAT_VERSION, From, Head, MAGIC, Making, SnapshotHead, Target, Tree, VolumeHead,
};
use crate::native::backups::{BackupExport, DOING, Exported, failed as backup_failed};
use crate::native::definition::Definition;
use crate::native::host::Host;
use crate::native::pools::pool_of;
use crate::native::storage::KeptTrees;
use crate::runtime::Context;

/// A volume of which a backup is made; [`Reading::end`] follows.
pub(in crate::native) struct Reading {
    volume: Arc<Definition<VolumePicks>>,
    trees: KeptTrees,
    /// Where its files or its disk are.
    at: PathBuf,
    /// Whether somebody who runs has it.
    used: bool,
}

impl Reading {
    /// Puts it in place.
    pub(in crate::native) fn begin(
        host: &Host,
        volume: Arc<Definition<VolumePicks>>,
    ) -> Result<Self, RuntimeError> {
        users::settle(host, &volume)?;
        let (_, driver) = pool_of(host, pool(&volume.address))?;
        let of = id(&volume.uid);
        let at = copies::path(driver.place(&of).map_err(failed(DOING))?)?;
        let trees = driver.kept_trees(&of).map_err(failed(DOING))?;
        let used = users::users(host, &volume)?
            .iter()
            .any(|user| user.now.is_some());
        Ok(Self {
            volume,
            trees,
            at,
            used,
        })
    }

    /// Copies what others write to, who stand still for it.
    fn copy(&mut self, context: &Context<'_>) -> Result<(), RuntimeError> {
        if self.used {
            let mut go_on = || !context.cancel.load(Ordering::Relaxed);
            self.at = self.trees.pass(&mut go_on).map_err(failed(DOING))?;
        }
        Ok(())
    }

    /// The parts of it as the volume of this number, with its snapshots or without.
    pub(in crate::native) fn parts(
        &self,
        number: u32,
        with_snapshots: bool,
    ) -> Result<(VolumeHead, Vec<(String, From)>), RuntimeError> {
        let mut head = VolumeHead {
            address: self.volume.address.clone(),
            content_type: spec(&self.volume)?.content_type,
            snapshots: Vec::new(),
        };
        let of_files = head.is_of_files();
        let part = |tree: Tree, blob: Blob, from: PathBuf| match of_files {
            true => (tree.part(), From::Tree(from)),
            false => (blob.part(), From::File(from)),
        };
        let (tree, blob) = (Tree::Volume(number), Blob::Volume(number));
        let mut parts = vec![part(tree, blob, self.at.clone())];
        if !with_snapshots {
            return Ok((head, parts));
        }
        let all = self.trees.all().map_err(failed(DOING))?;
        for ((name, kept), at) in all.into_iter().zip(0..) {
            let from = self.trees.kept(&name).map_err(failed(DOING))?;
            let tree = Tree::VolumeSnapshot(number, name.clone());
            parts.push(part(tree, Blob::VolumeSnapshot(number, at), from));
            head.snapshots.push(SnapshotHead {
                name,
                created_at: kept.created_at,
                description: kept.description,
                layer: None,
            });
        }
        Ok((head, parts))
    }

    /// Removes the copy, and unmounts what nobody uses.
    pub(in crate::native) fn end(self, host: &Host) -> Result<(), RuntimeError> {
        if self.used {
            self.trees.passed().map_err(failed(DOING))?;
        }
        users::let_rest(host, &self.volume)
    }
}

/// Does something while nobody writes to any of these volumes, which are copied first.
pub(in crate::native) fn still<T>(
    host: &Host,
    readings: &mut [Reading],
    context: &Context<'_>,
    work: &mut dyn FnMut() -> Result<T, RuntimeError>,
) -> Result<T, RuntimeError> {
    let volumes: Vec<_> = readings
        .iter()
        .filter(|reading| reading.used)
        .map(|reading| Arc::clone(&reading.volume))
        .collect();
    all_still(host, &volumes, &mut || {
        readings
            .iter_mut()
            .try_for_each(|reading| reading.copy(context))?;
        work()
    })
}

fn all_still<T>(
    host: &Host,
    volumes: &[Arc<Definition<VolumePicks>>],
    work: &mut dyn FnMut() -> Result<T, RuntimeError>,
) -> Result<T, RuntimeError> {
    match volumes.split_first() {
        None => work(),
        // Whom the first has frozen the others find so, and leave so.
        Some((first, rest)) => users::still(host, first, || all_still(host, rest, work)),
    }
}

/// Writes the backup of a volume.
pub(in crate::native) fn export(
    host: &Host,
    volume: &Arc<Definition<VolumePicks>>,
    export: &BackupExport<'_>,
    context: &Context<'_>,
) -> Result<Exported, RuntimeError> {
    // Before anybody stands still for it.
    let target = Target::begin(&export.path, export.replace).map_err(backup_failed(DOING))?;
    let mut reading = Reading::begin(host, Arc::clone(volume))?;
    let written = (|| {
        match &export.snapshot {
            Some(name) => {
                reading.at = reading.trees.kept(name).map_err(failed(DOING))?;
                reading.used = false;
            }
            // A subvolume is copied at once, whoever writes to it.
            None if !reading.trees.needs_stillness() => reading.copy(context)?,
            None => {
                let readings = std::slice::from_mut(&mut reading);
                still(host, readings, context, &mut || Ok(()))?;
            }
        }
        let with_snapshots = export.snapshots && export.snapshot.is_none();
        let (volume, parts) = reading.parts(0, with_snapshots)?;
        let head = Head {
            format: MAGIC.to_owned(),
            format_version: FORMAT_VERSION,
            program: export.program.clone(),
            created_at: context.now,
            instance: None,
            r#type: None,
            of_snapshot: export.snapshot.clone(),
            image: None,
            snapshots: Vec::new(),
            layers: None,
            volumes: vec![volume],
        };
        (context.progress)("writing");
        let making = Making {
            path: &export.path,
            head: &head,
            manifest: &export.manifest,
            parts: &parts,
            seal: export.seal,
        };
        let go_on = || !context.cancel.load(Ordering::Relaxed);
        making.write(target, &go_on).map_err(backup_failed(DOING))
    })();
    let ended = reading.end(host);
    let (bytes, index) = written.and_then(|written| ended.map(|()| written))?;
    Ok(Exported {
        bytes,
        parts: index.parts,
        left_out: Vec::new(),
    })
}
