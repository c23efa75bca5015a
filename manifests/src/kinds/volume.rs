//! [`Volume`]: a disk with a life of its own.

use std::collections::BTreeMap;

use crate::desired::Reference;
use crate::instance::snapshots::Snapshots;
use crate::kind::{Kind, ResourceKind};
use crate::pointer::Pointer;
use crate::scalar::byte_size::ByteSize;
use crate::scalar::file_mode::FileMode;
use crate::scalar::text::Text;

crate::words! {
    /// What is on a volume.
    pub enum ContentType {
        /// A file system.
        Filesystem "filesystem",
        /// Blocks.
        Block "block",
        /// An image of a CD.
        Iso "iso",
    }
}

crate::words! {
    /// The file system of a volume that has one of its own.
    pub enum FileSystem {
        /// What Linux has for everything.
        Ext4 "ext4",
        /// For big files; it grows, and never gets smaller.
        Xfs "xfs",
        /// Subvolumes in a volume.
        Btrfs "btrfs",
    }
}

crate::fields! {
    /// Who owns the top folder of a volume when it is made.
    pub struct Initial {
        /// Its user.
        uid: u32 = 0,
        /// Its group.
        gid: u32 = 0,
        /// Its mode.
        mode: FileMode = FileMode(0o711),
    }
}

crate::fields! {
    /// What a volume is a copy of, when it is made: another one, or a file of the host.
    pub struct VolumeSource {
        /// The pool; absent: the volume's own.
        pool: Option<String> = None,
        /// The volume.
        volume: String = String::new(),
        /// The snapshot of it; absent: the volume as it is.
        snapshot: Option<String> = None,
        /// Instead of a volume, a file of the host: the image of a CD, or a qcow2 disk. Absolute.
        file: Option<String> = None,
    }
}

crate::fields! {
    /// A disk with a life of its own.
    pub struct Volume {
        /// Free text.
        description: String = String::new(),
        /// The pool that it is in.
        pool: String = String::new(),
        /// What is on it.
        content_type: ContentType = ContentType::Filesystem,
        /// How big it is; absent: as the pool gives.
        size: Option<ByteSize> = None,
        /// Whether a block volume may be used by several instances at once.
        shared: bool = false,
        /// Whether ids are shifted for each instance, so that several can share it.
        shifted: bool = false,
        /// Whether ids are not mapped at all.
        unmapped: bool = false,
        /// Its file system, where it has one of its own (pools of LVM); absent: ext4.
        filesystem: Option<FileSystem> = None,
        /// The options with which that is mounted, with commas between them.
        mount_options: Option<String> = None,
        /// Who owns its top folder when it is made.
        initial: Option<Initial> = None,
        /// What it is a copy of.
        source: Option<VolumeSource> = None,
        /// The engine's own snapshots.
        snapshots: Snapshots = Snapshots::default(),
        /// Keys of Incus that are newer than this language; refused by the native engine.
        config: BTreeMap<String, Text> = BTreeMap::new(),
    }
}

impl ResourceKind for Volume {
    fn references(&self, out: &mut Vec<Reference>) {
        if !self.pool.is_empty() {
            out.push(Reference {
                kind: Kind::StoragePool,
                pool: None,
                name: self.pool.clone(),
                at: Pointer::new("/spec/pool"),
            });
        }
        if let Some(source) = self.source.as_ref().filter(|source| source.file.is_none()) {
            out.push(Reference {
                kind: Kind::Volume,
                pool: Some(source.pool.clone().unwrap_or_else(|| self.pool.clone())),
                name: source.volume.clone(),
                at: Pointer::new("/spec/source/volume"),
            });
        }
    }
}
