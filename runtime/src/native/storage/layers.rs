//! The layers of a machine's disk: a snapshot freezes the layer that is written to, and a new one over it takes its place.
//!
//! ```text
//! VOLUME/layers.json      which layer lies on which, and which a snapshot keeps; missing: there is one, disk.qcow2
//!       /disk.qcow2       layer 0
//!       /disk-N.qcow2     layer N
//!       /snapshot-N/      what else a snapshot of layer N keeps: memory, variables of firmware
//! ```
//! The record is replaced at once and is all that counts: what a layer's header names as being below was in the hands of
//! a guest. Layers that it does not name are what a crash left.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use manifests::path_io::{self, AtPath as _};
use rustix::fs::{Gid, Mode, Uid};
use serde::{Deserialize, Serialize};

use super::block;
use super::driver::{DiskBelow, VolumeId};
use super::error::StorageError;
use super::folder_pool::VOLUME_MARKER;
use super::folders::sync_folder;
use super::marker;
use crate::native::disk_image::{self, Format};
use crate::sys::compare_tree::compare;
use crate::sys::copy_tree::{copy_file, copy_tree};
use crate::sys::remove_tree::remove_tree;

/// The record.
const RECORD: &str = "layers.json";

/// A snapshot.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Kept {
    /// The layer that it keeps.
    pub layer: u32,
    /// When it was made.
    pub created_at: jiff::Timestamp,
    /// What for.
    #[serde(default)]
    pub description: String,
    /// Whether memory is kept with it.
    pub memory: bool,
    /// The schedule that made it.
    #[serde(default)]
    pub made_by: Option<manifests::id::Uid>,
    /// When it may go.
    #[serde(default)]
    pub expires_at: Option<jiff::Timestamp>,
    /// Whatever the caller needs to know of what it is a snapshot of.
    pub about: serde_json::Value,
}

/// A snapshot that is being made.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Pending {
    /// The layer that is to be written to.
    pub layer: u32,
    /// Its name.
    pub name: String,
    /// What it will be.
    pub kept: Kept,
    /// Whether its machine's processors ran before.
    pub ran: bool,
}

/// A snapshot that the disk has gone back to, and what it keeps beside the disk not yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Returning {
    /// The layer that it keeps.
    pub layer: u32,
    /// Whether its machine goes on with the memory that it keeps.
    pub memory: bool,
}

/// The layers of a disk.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Layers {
    format_version: u32,
    /// The one that is written to.
    pub active: u32,
    next: u32,
    /// On which each lies; none: on the image, where there is one.
    below: BTreeMap<u32, Option<u32>>,
    /// By name.
    pub snapshots: BTreeMap<String, Kept>,
    /// One that was not made to its end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pending: Option<Pending>,
    /// One that was not gone back to wholly.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub returning: Option<Returning>,
}

impl Default for Layers {
    fn default() -> Self {
        Self {
            format_version: 1,
            active: 0,
            next: 1,
            below: [(0, None)].into(),
            snapshots: BTreeMap::new(),
            pending: None,
            returning: None,
        }
    }
}

impl Layers {
    /// The layer below one.
    pub fn below(&self, layer: u32) -> Option<u32> {
        self.below.get(&layer).copied().flatten()
    }

    /// The layers below the one that is written to, from the top.
    pub fn chain(&self) -> Vec<u32> {
        self.chain_from(self.below(self.active))
    }

    /// A layer and those below it, from the top.
    pub fn chain_of(&self, layer: u32) -> Vec<u32> {
        self.chain_from(Some(layer))
    }

    fn chain_from(&self, mut at: Option<u32>) -> Vec<u32> {
        let mut chain = Vec::new();
        while let Some(layer) = at.filter(|layer| !chain.contains(layer)) {
            chain.push(layer);
            at = self.below(layer);
        }
        chain
    }

    fn dependants(&self, layer: u32) -> impl Iterator<Item = u32> + '_ {
        let all = self.below.iter();
        all.filter_map(move |(above, below)| (*below == Some(layer)).then_some(*above))
    }

    fn is_kept(&self, layer: u32) -> bool {
        layer == self.active || self.snapshots.values().any(|kept| kept.layer == layer)
    }

    /// Layers that nobody keeps and that only one other lies on, with that: their data can go into it.
    pub fn mergeable(&self) -> Vec<(u32, u32)> {
        let layers = self.below.keys().filter(|layer| !self.is_kept(**layer));
        layers
            .filter_map(|layer| {
                let mut above = self.dependants(*layer);
                let first = above.next()?;
                above.next().is_none().then_some((*layer, first))
            })
            .collect()
    }

    /// Forgets the layers that nobody keeps and nothing lies on.
    fn prune(&mut self) {
        loop {
            let mut all = self.below.keys();
            let gone = all
                .find(|layer| !self.is_kept(**layer) && self.dependants(**layer).next().is_none());
            let Some(gone) = gone.copied() else { return };
            self.below.remove(&gone);
        }
    }
}

/// A disk with its layers. Callers hold the lock of the state folder for everything that changes something.
#[derive(Debug)]
pub struct LayeredDisk {
    folder: PathBuf,
    id: VolumeId,
}

impl LayeredDisk {
    pub(super) const fn new(folder: PathBuf, id: VolumeId) -> Self {
        Self { folder, id }
    }

    /// The folder of the volume.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The file of a layer.
    pub fn file(&self, layer: u32) -> PathBuf {
        self.folder.join(match layer {
            0 => block::FILE.to_owned(),
            layer => format!("disk-{layer}.qcow2"),
        })
    }

    /// The folder for what else a snapshot keeps.
    pub fn beside(&self, layer: u32) -> PathBuf {
        self.folder.join(format!("snapshot-{layer}"))
    }

    /// Its layers.
    ///
    /// # Errors
    /// The record is broken.
    pub fn layers(&self) -> Result<Layers, StorageError> {
        Ok(marker::read(&self.folder.join(RECORD))?.unwrap_or_default())
    }

    fn write(&self, layers: &Layers) -> Result<(), StorageError> {
        let path = self.folder.join(RECORD);
        Ok(path_io::write_durably(&path, marker::text(&path, layers)?)?)
    }

    /// Removes files that the record does not name.
    fn sweep(&self, layers: &Layers) -> Result<(), StorageError> {
        let pending = layers.pending.as_ref();
        let mut files: BTreeSet<PathBuf> = layers.below.keys().map(|one| self.file(*one)).collect();
        files.extend(pending.map(|pending| self.file(pending.layer)));
        let kept = layers
            .snapshots
            .values()
            .chain(pending.map(|one| &one.kept));
        let folders: BTreeSet<PathBuf> = kept.map(|kept| self.beside(kept.layer)).collect();
        for path in path_io::list(&self.folder)? {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            if name.starts_with("disk") && name.ends_with(".qcow2") && !files.contains(&path) {
                path_io::remove_file(&path)?;
            } else if name.starts_with("snapshot-") && !folders.contains(&path) {
                remove_tree(&path)?;
            }
        }
        Ok(())
    }

    fn overlay(&self, layer: u32, on: u32) -> Result<(), StorageError> {
        let path = self.file(on);
        let virtual_size = disk_image::inspect_overlay(&path)?.virtual_size;
        let below = DiskBelow {
            path,
            format: Format::Qcow2,
            virtual_size,
        };
        block::make(&self.file(layer), None, Some(&below), &self.id)
    }

    /// Makes the layer that is to be written to once `name` keeps the present one, and says so: [`Self::end`] or
    /// [`Self::drop`] follow, also after a crash.
    ///
    /// # Errors
    /// There is a snapshot of that name, or the file cannot be made.
    pub fn begin(&self, name: &str, kept: Kept, ran: bool) -> Result<Pending, StorageError> {
        let mut layers = self.layers()?;
        if layers.snapshots.contains_key(name) {
            return Err(StorageError::SnapshotExists(name.to_owned()));
        }
        self.sweep(&layers)?;
        let pending = Pending {
            layer: layers.next,
            name: name.to_owned(),
            kept: Kept {
                layer: layers.active,
                ..kept
            },
            ran,
        };
        self.overlay(pending.layer, layers.active)?;
        layers.next += 1;
        layers.pending = Some(pending.clone());
        self.write(&layers)?;
        Ok(pending)
    }

    /// The new layer is the one that is written to; `keep`: and the snapshot is made.
    ///
    /// # Errors
    /// The record cannot be written.
    pub fn end(&self, keep: bool) -> Result<(), StorageError> {
        let mut layers = self.layers()?;
        let Some(pending) = layers.pending.take() else {
            return Ok(());
        };
        layers.below.insert(pending.layer, Some(layers.active));
        layers.active = pending.layer;
        if keep {
            layers.snapshots.insert(pending.name, pending.kept);
        }
        self.write(&layers)?;
        self.sweep(&layers)
    }

    /// Nothing was ever written to the new layer, and nobody uses it: all is as before.
    ///
    /// # Errors
    /// The record cannot be written.
    pub fn drop(&self) -> Result<(), StorageError> {
        let mut layers = self.layers()?;
        layers.pending = None;
        self.write(&layers)?;
        self.sweep(&layers)
    }

    /// Goes back to a snapshot: what was written since is lost, but for what other snapshots keep. Nobody may be using it.
    /// `memory`: what it keeps of that is put back too. [`Self::returned`] follows, also after a crash.
    ///
    /// # Errors
    /// There is no such snapshot, or the new layer cannot be made.
    pub fn revert(&self, name: &str, memory: bool) -> Result<(), StorageError> {
        let mut layers = self.layers()?;
        let on = layers.snapshots.get(name).map(|kept| kept.layer);
        let on = on.ok_or_else(|| StorageError::NoSnapshot(name.to_owned()))?;
        let new = layers.next;
        self.overlay(new, on)?;
        layers.next += 1;
        layers.below.insert(new, Some(on));
        layers.active = new;
        layers.returning = Some(Returning { layer: on, memory });
        layers.prune();
        self.write(&layers)?;
        self.sweep(&layers)
    }

    /// What the snapshot keeps beside the disk is put back as well.
    ///
    /// # Errors
    /// The record cannot be written.
    pub fn returned(&self) -> Result<(), StorageError> {
        let mut layers = self.layers()?;
        layers.returning = None;
        self.write(&layers)
    }

    /// Layers that came from elsewhere, whose files are in their places, are the disk from now on.
    ///
    /// # Errors
    /// The record cannot be written.
    pub fn take_over(
        &self,
        active: u32,
        below: BTreeMap<u32, Option<u32>>,
        snapshots: BTreeMap<String, Kept>,
    ) -> Result<(), StorageError> {
        let next = below.keys().max().map_or(1, |last| last.saturating_add(1));
        let mut layers = Layers {
            active,
            next,
            below,
            snapshots,
            ..Layers::default()
        };
        layers.prune();
        self.write(&layers)?;
        self.sweep(&layers)
    }

    /// Copies all of it, with what lies beside the layers, into the folder of a disk that was just made, and compares. Nobody may be using
    /// either.
    ///
    /// # Errors
    /// It cannot be copied, or does not fit.
    pub fn carry(&self, to: &Self, go_on: &mut dyn FnMut() -> bool) -> Result<(), StorageError> {
        self.sweep(&self.layers()?)?;
        path_io::remove_file(to.file(0))?;
        for path in path_io::list(&self.folder)? {
            let name = path.file_name().unwrap_or_default();
            // Which volume it is was written when it was made there.
            if name == VOLUME_MARKER {
                continue;
            }
            let into = to.folder.join(name);
            let found = path.symlink_metadata().at("look at", &path)?;
            if found.is_dir() {
                copy_tree(&path, &into, go_on)?;
                compare(&path, &into, go_on)?;
                continue;
            }
            copy_file(&path, &into, go_on)?;
            compare(&path, &into, go_on)?;
            let (uid, gid) = (Uid::from_raw(found.uid()), Gid::from_raw(found.gid()));
            rustix::fs::chown(&into, Some(uid), Some(gid)).at("give away", &into)?;
            let mode = Mode::from_raw_mode(found.mode() & 0o7777);
            rustix::fs::chmod(&into, mode).at("set the mode of", &into)?;
        }
        sync_folder(&to.folder)
    }

    /// Gives a snapshot another name.
    ///
    /// # Errors
    /// There is none, or another has the name.
    pub fn rename(&self, from: &str, to: &str) -> Result<(), StorageError> {
        let mut layers = self.layers()?;
        if layers.snapshots.contains_key(to) {
            return Err(StorageError::SnapshotExists(to.to_owned()));
        }
        let kept = layers.snapshots.remove(from);
        let kept = kept.ok_or_else(|| StorageError::NoSnapshot(from.to_owned()))?;
        layers.snapshots.insert(to.to_owned(), kept);
        self.write(&layers)
    }

    /// Keeps a snapshot no longer. Its layer goes where nothing lies on it; else it stays until [`Self::merged`].
    ///
    /// # Errors
    /// There is none, or the record cannot be written.
    pub fn forget(&self, name: &str) -> Result<(), StorageError> {
        let mut layers = self.layers()?;
        if layers.snapshots.remove(name).is_none() {
            return Err(StorageError::NoSnapshot(name.to_owned()));
        }
        layers.prune();
        self.write(&layers)?;
        self.sweep(&layers)
    }

    /// All data of a layer are in the one that lies on it by now.
    ///
    /// # Errors
    /// The record cannot be written.
    pub fn merged(&self, layer: u32) -> Result<(), StorageError> {
        let mut layers = self.layers()?;
        let below = layers.below(layer);
        for on in layers.below.values_mut().filter(|on| **on == Some(layer)) {
            *on = below;
        }
        layers.below.remove(&layer);
        self.write(&layers)?;
        self.sweep(&layers)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept() -> Kept {
        Kept {
            layer: 0,
            created_at: jiff::Timestamp::UNIX_EPOCH,
            description: String::new(),
            memory: false,
            made_by: None,
            expires_at: None,
            about: serde_json::Value::Null,
        }
    }

    fn disk(folder: &Path) -> LayeredDisk {
        let id = VolumeId::Root("u1".to_owned());
        block::make(&folder.join(block::FILE), Some(1 << 20), None, &id).unwrap();
        LayeredDisk::new(folder.to_path_buf(), id)
    }

    fn files(folder: &Path) -> Vec<String> {
        let mut names: Vec<String> = path_io::list(folder)
            .unwrap()
            .iter()
            .map(|path| path.file_name().unwrap().to_string_lossy().into_owned())
            .filter(|name| name != RECORD)
            .collect();
        names.sort();
        names
    }

    fn make(disk: &LayeredDisk, name: &str) {
        disk.begin(name, kept(), false).unwrap();
        disk.end(true).unwrap();
    }

    #[test]
    fn a_layer_stays_as_long_as_something_lies_on_it() {
        let folder = tempfile::tempdir().unwrap();
        let disk = disk(folder.path());
        for name in ["a", "b", "c"] {
            make(&disk, name);
        }
        assert_eq!(disk.layers().unwrap().chain(), [2, 1, 0]);
        assert!(matches!(
            disk.begin("b", kept(), false),
            Err(StorageError::SnapshotExists(_))
        ));
        // The middle: its data go into the one on it.
        disk.forget("b").unwrap();
        assert_eq!(disk.layers().unwrap().mergeable(), [(1, 2)]);
        disk.merged(1).unwrap();
        assert_eq!(disk.layers().unwrap().chain(), [2, 0]);
        // Back to the first: what was written since is gone, what "c" keeps is not.
        disk.revert("a", true).unwrap();
        let layers = disk.layers().unwrap();
        let returning = Returning {
            layer: 0,
            memory: true,
        };
        assert_eq!(layers.returning, Some(returning));
        disk.returned().unwrap();
        assert_eq!(disk.layers().unwrap().returning, None);
        assert_eq!((layers.active, layers.chain()), (4, vec![0]));
        assert_eq!(
            files(folder.path()),
            ["disk-2.qcow2", "disk-4.qcow2", "disk.qcow2"]
        );
        // Two lie on the first: neither can take its data.
        disk.forget("a").unwrap();
        assert_eq!(disk.layers().unwrap().mergeable(), []);
        disk.rename("c", "d").unwrap();
        disk.forget("d").unwrap();
        assert_eq!(disk.layers().unwrap().mergeable(), [(0, 4)]);
        assert_eq!(files(folder.path()), ["disk-4.qcow2", "disk.qcow2"]);
    }

    #[test]
    fn what_a_crash_left_is_before_or_after() {
        let folder = tempfile::tempdir().unwrap();
        let disk = disk(folder.path());
        disk.begin("a", kept(), true).unwrap();
        disk.drop().unwrap();
        assert_eq!(files(folder.path()), ["disk.qcow2"]);
        disk.begin("a", kept(), true).unwrap();
        // Written to, and the snapshot is not whole: the layer below is still needed.
        disk.end(false).unwrap();
        let layers = disk.layers().unwrap();
        assert_eq!((layers.active, layers.mergeable()), (2, vec![(0, 2)]));
        assert!(layers.snapshots.is_empty());
        // A file without a record.
        path_io::write(folder.path().join("disk-9.qcow2"), "x").unwrap();
        path_io::create_dir_all(folder.path().join("snapshot-9")).unwrap();
        make(&disk, "b");
        assert_eq!(
            files(folder.path()),
            ["disk-2.qcow2", "disk-3.qcow2", "disk.qcow2"]
        );
    }
}
