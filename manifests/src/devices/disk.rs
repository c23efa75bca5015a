//! [`Disk`]: the root file system, a volume, a folder of the host, or memory.

use crate::scalar::byte_size::ByteSize;
use crate::scalar::path::AbsolutePath;
use crate::scalar::rate::DiskRate;

crate::words! {
    /// How mounts travel between host and instance (mount_namespaces(7)).
    pub enum Propagation {
        /// Not at all.
        Private "private",
        /// Both ways.
        Shared "shared",
        /// From the host into the instance.
        Slave "slave",
        /// Not at all, and the mount cannot be bound again.
        Unbindable "unbindable",
        /// As `private`, with all mounts below.
        RecursivePrivate "rprivate",
        /// As `shared`, with all mounts below.
        RecursiveShared "rshared",
        /// As `slave`, with all mounts below.
        RecursiveSlave "rslave",
        /// As `unbindable`, with all mounts below.
        RecursiveUnbindable "runbindable",
    }
}

crate::words! {
    /// How a machine sees a disk.
    pub enum IoBus {
        /// As a SCSI disk.
        VirtioScsi "virtio-scsi",
        /// As a paravirtual block device.
        VirtioBlk "virtio-blk",
        /// As an NVMe disk.
        Nvme "nvme",
        /// As a USB disk.
        Usb "usb",
    }
}

crate::words! {
    /// How the host caches a machine's disk.
    pub enum IoCache {
        /// Not.
        None "none",
        /// Writes are told done when they are in memory.
        Writeback "writeback",
        /// As `writeback`, and flushes are ignored.
        Unsafe "unsafe",
    }
}

crate::fields! {
    /// How fast a disk may be. What the file system below cannot hold to is a diagnostic.
    pub struct DiskLimits {
        /// Reads.
        read: Option<DiskRate> = None,
        /// Writes.
        write: Option<DiskRate> = None,
        /// Both together.
        max: Option<DiskRate> = None,
    }
}

crate::fields! {
    /// A file system or block device of an instance. With `path: /` it is the root.
    pub struct Disk {
        /// The pool of the root or of the volume that `source` names.
        pool: Option<String> = None,
        /// A volume of `pool`, an absolute path of the host, or `tmpfs:`; the root has none.
        source: Option<String> = None,
        /// Where it is in the instance. A folder of the host or a volume of files is shared with a machine by virtiofs under the name
        /// of the device, from its next start: cloud-init mounts it where the machine has
        /// `cloudInit` when it runs first, others do so by `mount -t virtiofs NAME PATH`. What has none is a disk of the machine.
        path: Option<AbsolutePath> = None,
        /// How big the root or a `tmpfs:` is; absent: as big as what it is on.
        size: Option<ByteSize> = None,
        /// Whether the instance cannot write to it.
        readonly: bool = false,
        /// Whether files that belong to user 0 on the host belong to user 0 in the instance, and so on.
        shift: bool = false,
        /// Whether the instance does not start while `source` is missing.
        required: bool = true,
        /// Whether mounts below `source` come with it.
        recursive: bool = false,
        /// How mounts travel.
        propagation: Propagation = Propagation::Private,
        /// How fast it may be.
        limits: DiskLimits = DiskLimits::default(),
        /// How a machine sees it.
        io_bus: Option<IoBus> = None,
        /// How the host caches it for a machine.
        io_cache: Option<IoCache> = None,
        /// Machines boot from the disk with the highest.
        boot_priority: Option<i32> = None,
    }
}

/// What a disk is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DiskSource<'a> {
    /// The root file system, from the image.
    Root,
    /// A volume of a pool, with the folder inside it that is meant.
    Volume {
        /// The pool.
        pool: &'a str,
        /// The volume.
        volume: &'a str,
    },
    /// A path of the host.
    Host(&'a str),
    /// Memory.
    Tmpfs,
    /// Another word of Incus: `cloud-init:config`, `agent:config`, `ceph:…`.
    Other(&'a str),
}

impl Disk {
    /// What it is made of.
    pub fn made_of(&self) -> DiskSource<'_> {
        match (self.source.as_deref(), self.pool.as_deref()) {
            (None, _) => DiskSource::Root,
            (Some("tmpfs:"), _) => DiskSource::Tmpfs,
            (Some(path), _) if path.starts_with('/') => DiskSource::Host(path),
            (Some(volume), Some(pool)) => DiskSource::Volume { pool, volume },
            (Some(other), None) => DiskSource::Other(other),
        }
    }

    /// Whether it is a folder of the host or of a volume, where it is a machine's: what is no folder is a disk there,
    /// without a path.
    pub fn is_shared_folder(&self) -> bool {
        self.path.is_some()
            && matches!(
                self.made_of(),
                DiskSource::Host(_) | DiskSource::Volume { .. }
            )
    }

    /// The pool and the name of the volume that it is.
    pub fn volume(&self) -> Option<(&str, &str)> {
        match self.made_of() {
            DiskSource::Volume { pool, volume } => Some((pool, volume)),
            _ => None,
        }
    }

    /// Whether it is the root file system.
    pub fn is_root(&self) -> bool {
        self.path.as_ref().is_some_and(|path| path.as_str() == "/") && self.source.is_none()
    }
}
