//! The documents in a backup: what is in it, said before it comes, and how much it was, said at its end.

use std::collections::{BTreeMap, BTreeSet};

use manifests::id::Address;
use manifests::kind::Kind;
use manifests::kinds::instance::InstanceType;
use manifests::kinds::volume::ContentType;
use serde::{Deserialize, Serialize};

use super::judge::{Blob, Tree};
use crate::native::image::ImageRecord;

/// What a backup says that it is.
pub(in crate::native) const MAGIC: &str = "keel-backup";
/// The newest version; a reader takes it and those before. 2: volumes. 3: streams.
pub(in crate::native) const FORMAT_VERSION: u32 = 3;
/// The version of what has no streams: whoever reads no newer one can read it.
const WITHOUT_STREAMS: u32 = 2;

/// The first member.
pub(super) const HEAD: &str = "backup.json";
/// The second.
pub(super) const MANIFEST: &str = "manifest.yaml";
/// The last.
pub(super) const INDEX: &str = "index.json";
/// The folder of streams.
pub(super) const STREAMS: &str = "streams";
/// The folder of sums.
pub(super) const SUMS: &str = "sums";
/// After so many members there are sums.
pub(super) const STRETCH: usize = 1024;
/// Numbers of layers end long before those of the machine do: each new one gets the next.
const MOST_LAYERS: u32 = 1 << 30;
/// The longest of these documents.
pub(super) const LONGEST: u64 = 4 << 20;

/// What a backup is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Head {
    /// `keel-backup`.
    pub format: String,
    /// Of which version.
    pub format_version: u32,
    /// Which program made it.
    pub program: String,
    /// When.
    pub created_at: jiff::Timestamp,
    /// Of which instance; none: of a volume.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance: Option<Address>,
    /// Whether that is a container or a machine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub r#type: Option<InstanceType>,
    /// The snapshot that it is a backup of; none: of all as it was then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub of_snapshot: Option<String>,
    /// How the files of its root are in it.
    #[serde(default, skip_serializing_if = "Form::is_files")]
    pub form: Form,
    /// The image below its root; none: it has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<ImageHead>,
    /// The snapshots in it.
    #[serde(default)]
    pub snapshots: Vec<SnapshotHead>,
    /// The layers of a machine's disk.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub layers: Option<LayersHead>,
    /// The volumes in it, by their numbers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub volumes: Vec<VolumeHead>,
}

/// How a tree is in a backup.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Form {
    /// File by file: for pools of every driver.
    #[default]
    Files,
    /// As a stream of `btrfs send`: for pools of that driver alone.
    Btrfs,
}

impl Form {
    /// Whether it fits every driver.
    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde wants it so")]
    fn is_files(&self) -> bool {
        *self == Self::Files
    }
}

/// A volume.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct VolumeHead {
    /// Which.
    pub address: Address,
    /// What is on it.
    pub content_type: ContentType,
    /// How its files are in it.
    #[serde(default, skip_serializing_if = "Form::is_files")]
    pub form: Form,
    /// Its snapshots that are in the backup.
    #[serde(default)]
    pub snapshots: Vec<SnapshotHead>,
}

/// The image below a root.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ImageHead {
    /// Whether it is in the backup.
    pub included: bool,
    /// What the store knew of it.
    pub record: ImageRecord,
}

/// A snapshot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SnapshotHead {
    /// Its name.
    pub name: String,
    /// When it was made.
    pub created_at: jiff::Timestamp,
    /// What for.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub description: String,
    /// The layer of a machine's disk that it keeps.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub layer: Option<u32>,
    /// How its files are in it.
    #[serde(default, skip_serializing_if = "Form::is_files")]
    pub form: Form,
}

/// Which layer of a disk lies on which.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LayersHead {
    /// The one that the machine goes on with.
    pub active: u32,
    /// On which each lies; none: on the image, where there is one.
    pub below: BTreeMap<u32, Option<u32>>,
}

/// What was written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Index {
    /// Members with sums, of all parts.
    pub members: u64,
    /// SHA-256 of all sums after each other.
    pub sums: String,
    /// The parts in their order.
    pub parts: Vec<SectionCount>,
}

/// How much of a part there is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SectionCount {
    /// Its name: `root`, `snapshots/first`, `disk/0.qcow2`.
    pub name: String,
    /// Files, folders, links.
    pub members: u64,
    /// Bytes of content, without holes.
    pub bytes: u64,
}

impl Head {
    /// Itself, of the lowest version that has what is in it.
    pub(in crate::native) fn written(mut self) -> Self {
        self.format_version = self.version();
        self
    }

    /// The version that has what is in it.
    pub(super) fn version(&self) -> u32 {
        let in_volumes = self.volumes.iter().flat_map(|volume| {
            volume
                .snapshots
                .iter()
                .map(|one| one.form)
                .chain([volume.form])
        });
        let own = self.snapshots.iter().map(|one| one.form);
        match in_volumes
            .chain(own)
            .chain([self.form])
            .all(|form| form.is_files())
        {
            true => WITHOUT_STREAMS,
            false => FORMAT_VERSION,
        }
    }

    /// What it is a backup of.
    pub fn of(&self) -> Option<&Address> {
        let volume = self.volumes.first().map(|volume| &volume.address);
        self.instance.as_ref().or(volume)
    }

    /// The parts that there have to be.
    pub(super) fn parts(&self) -> BTreeSet<String> {
        let mut parts = BTreeSet::new();
        for (number, volume) in (0..).zip(&self.volumes) {
            parts.extend(volume.parts(number));
        }
        if self.instance.is_none() {
            return parts;
        }
        if let Some(image) = self.image.as_ref().filter(|image| image.included) {
            let mut add = |name: &str, there: bool| {
                if there {
                    parts.insert(name.to_owned());
                }
            };
            match &image.record.machine {
                None => add("image/rootfs", true),
                Some(machine) => {
                    add("image/disk", machine.disk.is_some());
                    add("image/kernel", machine.kernel.is_some());
                    add("image/initrd", machine.initrd.is_some());
                }
            }
        }
        match &self.layers {
            Some(layers) => {
                parts.extend(layers.below.keys().map(|one| format!("disk/{one}.qcow2")));
            }
            None => {
                parts.insert(Tree::Root.part_in(self.form));
                let kept = self.snapshots.iter();
                let kept = kept.map(|one| Tree::Snapshot(one.name.clone()).part_in(one.form));
                parts.extend(kept);
            }
        }
        parts
    }

    /// What contradicts itself in it.
    pub(super) fn faults(&self) -> Vec<String> {
        let known = |layer| {
            let layers = self.layers.as_ref();
            layers.is_some_and(|layers| layers.below.contains_key(&layer))
        };
        let mut faults = faults_of(&self.snapshots, |snapshot| {
            snapshot.layer.is_some() == self.layers.is_some() && snapshot.layer.is_none_or(known)
        });
        let mut addresses = BTreeSet::new();
        for volume in &self.volumes {
            let address = &volume.address;
            if address.kind != Kind::Volume || address.pool.is_none() {
                faults.push(format!("{address} is no volume"));
            } else if !addresses.insert(address) {
                faults.push(format!("it has {address} twice"));
            }
            faults.extend(faults_of(&volume.snapshots, |one| one.layer.is_none()));
            let forms = volume.snapshots.iter().map(|one| one.form);
            if !volume.is_of_files() && !forms.chain([volume.form]).all(|form| form.is_files()) {
                faults.push(format!("{address} is a disk, and has a stream"));
            }
        }
        if self.instance.is_none() {
            let nothing_of_one = self.r#type.is_none()
                && self.image.is_none()
                && self.layers.is_none()
                && self.snapshots.is_empty();
            if !nothing_of_one {
                faults.push("it has something of an instance, and no instance".to_owned());
            }
            if self.volumes.len() != 1 {
                faults.push("without an instance it is of one volume".to_owned());
            }
            return faults;
        }
        let is_machine = match self.r#type {
            Some(of_type) => of_type == InstanceType::VirtualMachine,
            None => {
                faults.push("its instance is of no type".to_owned());
                return faults;
            }
        };
        if self.layers.is_some() != is_machine {
            faults.push("a machine has a disk of layers, and a container has none".to_owned());
        }
        if let Some(image) = &self.image
            && image.record.machine.is_some() != is_machine
        {
            faults.push("its image is for the other kind of instances".to_owned());
        }
        let forms = self.snapshots.iter().map(|one| one.form);
        if is_machine && !forms.chain([self.form]).all(|form| form.is_files()) {
            faults.push("a machine has no stream".to_owned());
        }
        if self.image.is_none() && !is_machine {
            faults.push("a container without an image".to_owned());
        }
        if let Some(layers) = &self.layers
            && let Some(fault) = layers.fault()
        {
            faults.push(fault);
        }
        faults
    }
}

/// What is wrong with snapshots; `keeps`: whether one has what a snapshot there has.
fn faults_of(snapshots: &[SnapshotHead], keeps: impl Fn(&SnapshotHead) -> bool) -> Vec<String> {
    let mut faults = Vec::new();
    let mut names = BTreeSet::new();
    for snapshot in snapshots {
        if !is_a_name(&snapshot.name) {
            faults.push(format!("{:?} is no name of a snapshot", snapshot.name));
        } else if !names.insert(&snapshot.name) {
            faults.push(format!("it has two snapshots {}", snapshot.name));
        }
        if !keeps(snapshot) {
            faults.push(format!("snapshot {} keeps no layer of it", snapshot.name));
        }
    }
    faults
}

impl VolumeHead {
    /// Whether it is files, and no disk.
    pub(in crate::native) fn is_of_files(&self) -> bool {
        self.content_type == ContentType::Filesystem
    }

    fn parts(&self, number: u32) -> Vec<String> {
        if self.is_of_files() {
            let kept = self.snapshots.iter();
            let kept =
                kept.map(|one| Tree::VolumeSnapshot(number, one.name.clone()).part_in(one.form));
            return std::iter::once(Tree::Volume(number).part_in(self.form))
                .chain(kept)
                .collect();
        }
        let kept = (0..).zip(&self.snapshots);
        let kept = kept.map(|(at, _)| Blob::VolumeSnapshot(number, at).part());
        std::iter::once(Blob::Volume(number).part())
            .chain(kept)
            .collect()
    }
}

impl LayersHead {
    fn fault(&self) -> Option<String> {
        if !self.below.contains_key(&self.active) {
            return Some("it lacks the layer that its machine goes on with".to_owned());
        }
        if let Some(layer) = self.below.keys().find(|layer| **layer > MOST_LAYERS) {
            return Some(format!("no disk has a layer {layer}"));
        }
        for layer in self.below.keys() {
            let mut at = *layer;
            for _ in 0..=self.below.len() {
                match self.below.get(&at) {
                    Some(None) => break,
                    Some(Some(below)) if self.below.contains_key(below) => at = *below,
                    _ => return Some(format!("layer {at} lies on none")),
                }
            }
            if self.below.get(&at).copied().flatten().is_some() {
                return Some(format!("layer {layer} lies on itself"));
            }
        }
        None
    }
}

/// As snapshots are named everywhere: nothing else ever becomes part of a path.
fn is_a_name(name: &str) -> bool {
    let lawful = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    (1..=63).contains(&name.len()) && !name.starts_with(['.', '-']) && name.bytes().all(lawful)
}
