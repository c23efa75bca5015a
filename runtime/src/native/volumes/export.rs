//! What a backup has of a volume: its files or its disk as they are at one moment, and its snapshots.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use manifests::kinds::volume::ContentType;

use super::{VolumePicks, copies, failed, id, pool, spec, users};
use crate::error::RuntimeError;
use crate::native::backup::{
    Blob, Form, From, Head, MAGIC, Part, SnapshotHead, Tree, VolumeHead, parts_of,
};
use crate::native::backups::{BackupExport, DOING, Gathered, has_own_form};
use crate::native::busy::{self, Busy, Read};
use crate::native::definition::Definition;
use crate::native::host::Host;
use crate::native::pools::pool_of;
use crate::native::storage::{KeptTrees, Passing};
use crate::runtime::Context;

/// A volume of which a backup is made; [`Reading::end`] follows.
pub(in crate::native) struct Reading {
    volume: Arc<Definition<VolumePicks>>,
    trees: KeptTrees,
    /// Where its files or its disk are.
    at: PathBuf,
    /// Whether it is copied: somebody who runs has it, or it costs nothing.
    used: bool,
    /// The copy that was made of it then.
    copy: Option<Passing>,
    _busy: Busy,
}

impl Reading {
    /// Puts it in place. `kept`: of a snapshot of it.
    pub(in crate::native) fn begin(
        host: &Host,
        volume: Arc<Definition<VolumePicks>>,
        kept: Option<&str>,
    ) -> Result<Self, RuntimeError> {
        let (_, driver) = pool_of(host, pool(&volume.address))?;
        let of = id(&volume.uid);
        let trees = driver.kept_trees(&of).map_err(failed(DOING))?;
        let runs = users::users(host, &volume)?
            .iter()
            .any(|user| user.now.is_some());
        // A subvolume is copied at once, also where nobody writes to it: then somebody may begin to.
        let used = kept.is_none() && (runs || !trees.needs_stillness());
        let read = match used || kept.is_some() {
            true => Read::Kept,
            false => Read::Live,
        };
        let busy =
            busy::begin(host, &volume.uid, read).map_err(|error| error.of(&volume.address))?;
        users::settle(host, &volume)?;
        let placed = copies::path(driver.place(&of).map_err(failed(DOING))?)?;
        let at = match kept {
            Some(name) => trees.kept(name).map_err(failed(DOING))?,
            None => placed,
        };
        Ok(Self {
            volume,
            trees,
            at,
            used,
            copy: None,
            _busy: busy,
        })
    }

    /// Copies what others write to, who stand still for it.
    pub(super) fn copy(&mut self, context: &Context<'_>) -> Result<(), RuntimeError> {
        if self.used {
            let mut go_on = || !context.cancel.load(Ordering::Relaxed);
            let copy = self.trees.pass(&mut go_on).map_err(failed(DOING))?;
            self.at.clone_from(&copy.at);
            self.copy = Some(copy);
        }
        Ok(())
    }

    /// Where what is read lies, and among which snapshots.
    pub(super) fn source(&self) -> (&KeptTrees, &Path) {
        (&self.trees, &self.at)
    }

    /// The parts of it as the volume of this number, with its snapshots or without.
    pub(in crate::native) fn parts(
        &self,
        number: u32,
        with_snapshots: bool,
        optimized: bool,
    ) -> Result<(VolumeHead, Vec<(String, From)>), RuntimeError> {
        let mut head = VolumeHead {
            address: self.volume.address.clone(),
            content_type: spec(&self.volume)?.content_type,
            form: Form::Files,
            snapshots: Vec::new(),
        };
        let kept = match with_snapshots {
            true => self.trees.in_order().map_err(failed(DOING))?,
            false => Vec::new(),
        };
        let mut files = Vec::new();
        for (name, _) in &kept {
            files.push(self.trees.kept(name).map_err(failed(DOING))?);
        }
        // The last, since it stands on them.
        files.push(self.at.clone());
        let names = kept.iter().map(|(name, _)| Some(name.clone()));
        let of_files = head.is_of_files();
        let parts: Vec<Part> = match of_files {
            true => {
                let tree = |name: Option<String>| match name {
                    Some(name) => Tree::VolumeSnapshot(number, name),
                    None => Tree::Volume(number),
                };
                let all = names.chain([None]).map(tree).zip(files).collect();
                parts_of(&self.trees, all, optimized).map_err(failed(DOING))?
            }
            false => {
                let blobs = (0..)
                    .zip(&kept)
                    .map(|(at, _)| Blob::VolumeSnapshot(number, at));
                let blobs = blobs.chain([Blob::Volume(number)]).zip(files);
                blobs
                    .map(|(blob, file)| (Form::Files, (blob.part(), From::File(file))))
                    .collect()
            }
        };
        let mut kept = kept.into_iter();
        let mut all = Vec::new();
        for (form, part) in parts {
            all.push(part);
            match kept.next() {
                None => head.form = form,
                Some((name, kept)) => head.snapshots.push(SnapshotHead {
                    name,
                    created_at: kept.created_at,
                    description: kept.description,
                    layer: None,
                    form,
                }),
            }
        }
        Ok((head, all))
    }

    /// Removes the copy, and unmounts what nobody uses.
    pub(in crate::native) fn end(self, host: &Host) -> Result<(), RuntimeError> {
        if self.copy.is_some() {
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

/// Gathers what a backup of a volume is made of.
pub(in crate::native) fn gather(
    host: &Host,
    volume: &Arc<Definition<VolumePicks>>,
    export: &BackupExport<'_>,
    context: &Context<'_>,
) -> Result<(Gathered, Reading), RuntimeError> {
    let kept = export.snapshot.as_deref();
    let mut reading = Reading::begin(host, Arc::clone(volume), kept)?;
    let gathered = (|| {
        match reading.trees.needs_stillness() {
            true => still(
                host,
                std::slice::from_mut(&mut reading),
                context,
                &mut || Ok(()),
            )?,
            // A subvolume is copied at once, whoever writes to it.
            false => reading.copy(context)?,
        }
        let with_snapshots = export.snapshots && kept.is_none();
        if spec(volume)?.content_type == ContentType::Filesystem {
            has_own_form(&reading.trees, export.optimized)?;
        }
        let (volume, parts) = reading.parts(0, with_snapshots, export.optimized)?;
        let head = Head {
            format: MAGIC.to_owned(),
            format_version: 0,
            program: export.program.clone(),
            created_at: context.now,
            instance: None,
            r#type: None,
            of_snapshot: export.snapshot.clone(),
            form: Form::Files,
            image: None,
            snapshots: Vec::new(),
            layers: None,
            volumes: vec![volume],
        };
        Ok(Gathered {
            head: head.written(),
            parts,
            left_out: Vec::new(),
        })
    })();
    match gathered {
        Ok(gathered) => Ok((gathered, reading)),
        Err(error) => {
            let _tried = reading.end(host);
            Err(error)
        }
    }
}
