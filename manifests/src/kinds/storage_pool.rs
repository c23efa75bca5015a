//! [`StoragePool`]: where volumes and root file systems live.

use std::collections::BTreeMap;

use crate::desired::Reference;
use crate::instance::snapshots::Snapshots;
use crate::kind::ResourceKind;
use crate::kinds::volume::FileSystem;
use crate::scalar::byte_size::ByteSize;
use crate::scalar::text::Text;

crate::words! {
    /// How a pool stores things.
    pub enum PoolDriver {
        /// Folders.
        Dir "dir",
        /// Subvolumes.
        Btrfs "btrfs",
        /// Datasets.
        Zfs "zfs",
        /// Logical volumes.
        Lvm "lvm",
        /// Logical volumes shared by a cluster (Incus).
        Lvmcluster "lvmcluster",
        /// RADOS block devices (Incus).
        Ceph "ceph",
        /// CephFS (Incus).
        Cephfs "cephfs",
        /// CephFS by its object gateway (Incus).
        Cephobject "cephobject",
        /// LINSTOR (Incus).
        Linstor "linstor",
        /// TrueNAS (Incus).
        Truenas "truenas",
    }
}

crate::fields! {
    /// What volumes of a pool have where they do not say.
    pub struct VolumeDefaults {
        /// How big they are, and roots of instances.
        size: Option<ByteSize> = None,
        /// Their file system, and that of roots that are made from now on (pools of LVM).
        filesystem: Option<FileSystem> = None,
        /// The options with which that is mounted.
        mount_options: Option<String> = None,
        /// The engine's own snapshots of them.
        snapshots: Option<Snapshots> = None,
    }
}

crate::fields! {
    /// What only btrfs has.
    pub struct Btrfs {
        /// The options with which the pool is mounted, with commas between them. Where the pool is a folder, whoever
        /// mounts what it lies in says them.
        mount_options: Option<String> = None,
    }
}

crate::words! {
    /// How ZFS copies.
    pub enum CloneCopy {
        /// As clones of snapshots.
        True "true",
        /// In full.
        False "false",
        /// As clones of the image.
        Rebase "rebase",
    }
}

crate::fields! {
    /// What only ZFS has.
    pub struct Zfs {
        /// How it copies.
        clone_copy: CloneCopy = CloneCopy::True,
    }
}

crate::fields! {
    /// What only LVM has.
    pub struct Lvm {
        /// The name of the volume group that is made; absent: one from the pool's uid. One that is there already is the `source`.
        volume_group: Option<String> = None,
        /// The thin pool: of a group that is made its name, of one that is there already the one to use; absent: one of the
        /// pool's own, of its `size`.
        thin_pool: Option<String> = None,
        /// How big the metadata of the thin pool are.
        thin_pool_metadata_size: Option<ByteSize> = None,
    }
}

crate::fields! {
    /// What a pool has on one member of a cluster.
    pub struct PoolMember {
        /// The path, device, dataset or volume group there.
        source: Option<String> = None,
        /// How big it is there.
        size: Option<ByteSize> = None,
    }
}

crate::fields! {
    /// Where volumes and root file systems live.
    pub struct StoragePool {
        /// Free text.
        description: String = String::new(),
        /// How it stores things.
        driver: PoolDriver = PoolDriver::Dir,
        /// A path, device, dataset or volume group; absent: a folder or loop file of its own.
        source: Option<String> = None,
        /// How big a loop file of its own is, or a thin pool in a volume group that is there; absent: a fifth of what is free.
        size: Option<ByteSize> = None,
        /// Whether what is on `source` is wiped when the pool is made.
        wipe: bool = false,
        /// What volumes have where they do not say.
        volume_defaults: VolumeDefaults = VolumeDefaults::default(),
        /// What only btrfs has.
        btrfs: Option<Btrfs> = None,
        /// What only ZFS has.
        zfs: Option<Zfs> = None,
        /// What only LVM has.
        lvm: Option<Lvm> = None,
        /// What it has on members of a cluster, by their names.
        members: BTreeMap<String, PoolMember> = BTreeMap::new(),
        /// Keys of Incus that are newer than this language; refused by the native engine.
        config: BTreeMap<String, Text> = BTreeMap::new(),
    }
}

impl ResourceKind for StoragePool {
    fn references(&self, _out: &mut Vec<Reference>) {}
}
