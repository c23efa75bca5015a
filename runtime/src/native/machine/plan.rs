//! Everything that a virtual machine consists of, as plain data. Nothing here knows manifests; paths are the host's.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::helpers::HelperPlan;
use crate::native::container::plan::{CgroupPlan, LimitPlan};
use crate::native::disk_image::Format;
use crate::shim::messages::Restart;

/// One start of one machine.
#[derive(Debug, Clone)]
pub struct MachinePlan {
    /// Shown by `ps` and in errors.
    pub name: String,
    /// Written into the state file, so that the instance is found again; also the machine's own UUID.
    pub uid: String,
    /// Number of this start; the exit record carries it.
    pub generation: u64,
    /// The instance's run folder: exists, 0700, on a tmpfs.
    pub run_dir: PathBuf,
    /// Where its process is counted.
    pub cgroups: CgroupPlan,
    /// The host's user and group that the process runs as.
    pub ids: (u32, u32),
    /// QEMU.
    pub emulator: PathBuf,
    /// What it emulates.
    pub hardware: Hardware,
    /// The processes beside it, as [`super::helpers::helpers`] says.
    pub helpers: Vec<HelperPlan>,
    /// Limits of the process.
    pub limits: Vec<LimitPlan>,
    /// The companion starts it again after an accident; absent: never.
    pub restart: Option<Restart>,
}

/// The machine that is emulated.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Hardware {
    /// Its name.
    pub name: String,
    /// Its UUID.
    pub uuid: String,
    /// Who runs the guest's instructions.
    pub accelerator: Accelerator,
    /// How it begins.
    pub boot: BootPlan,
    /// Its processors.
    pub processors: Processors,
    /// Its memory.
    pub memory: Memory,
    /// Its disks, in the order of the devices' names.
    pub disks: Vec<DiskPlan>,
    /// Its network interfaces, in the order of the devices' names.
    pub nics: Vec<NicPlan>,
    /// Folders of the host that it sees, in the order of the devices' names.
    #[serde(default)]
    pub folders: Vec<FolderPlan>,
    /// Its TPM.
    #[serde(default)]
    pub tpm: Option<TpmPlan>,
    /// PCI devices of the host that it has for itself, in the order of the devices' names.
    #[serde(default)]
    pub passed: Vec<PassedPlan>,
    /// It begins in a pause and takes over a saved state; absent: it boots.
    pub incoming: Option<Incoming>,
}

/// What a machine that takes over a saved state needs to be the same: where everything is in it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Incoming {
    /// The board with its version: `pc-q35-7.2`.
    pub board: String,
    /// The port that each part is in, by QEMU's name of the part; of a SCSI disk its number at the controller.
    pub places: BTreeMap<String, String>,
    /// Memory that was plugged in.
    pub pieces: Vec<Piece>,
    /// Processors that were plugged in, as devices: how many queues others have is by those that it began with.
    pub processors: Vec<serde_json::Value>,
}

/// A piece of memory that was plugged in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Piece {
    /// The name of the part.
    pub id: String,
    /// The name of its memory.
    pub memory: String,
    /// The slot that it is in.
    pub slot: u64,
    /// Where the guest sees it.
    pub address: u64,
    /// How much it is.
    pub bytes: u64,
}

/// Who runs the guest's instructions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Accelerator {
    /// The processor, by KVM.
    Kvm,
    /// QEMU translates them.
    Tcg,
}

/// How a machine begins.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum BootPlan {
    /// By UEFI.
    Uefi {
        /// The firmware; read-only, in a folder that the process sees.
        code: PathBuf,
        /// The machine's own variables.
        variables: PathBuf,
        /// Whether only signed programs are started.
        secure: bool,
    },
    /// By a PC BIOS.
    Bios,
    /// With a kernel, without firmware of its own.
    Direct {
        /// The kernel; readable by all.
        kernel: PathBuf,
        /// The initial RAM file system; readable by all.
        initrd: Option<PathBuf>,
        /// What the kernel is told.
        cmdline: String,
    },
}

/// Processors of a machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Processors {
    /// Those that it begins with.
    pub count: u32,
    /// Sockets; each has as many cores.
    pub sockets: u32,
    /// Cores of a socket.
    pub cores: u32,
    /// Threads of a core.
    pub threads: u32,
}

impl Processors {
    /// Those that can be plugged in at most.
    pub const fn most(&self) -> u32 {
        self.sockets * self.cores * self.threads
    }
}

/// Memory of a machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Memory {
    /// Bytes that it begins with; a whole number of MiB.
    pub bytes: u64,
    /// Bytes that it can grow to by plugging in; not above `bytes`: it cannot.
    pub most: u64,
    /// Size of the host's pages in bytes, where they are huge ones.
    pub huge_pages: Option<u64>,
}

/// How the host's memory is used for a disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Cache {
    /// Not: reads and writes go to the disk.
    Direct,
    /// Writes are told done when they are in memory, and flushed when the guest asks.
    Writeback,
    /// As that, and never flushed.
    Unsafe,
}

/// What the machine sees of a disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Bus {
    /// A SCSI disk at the one virtio-scsi controller.
    VirtioScsi,
    /// A paravirtual block device.
    VirtioBlk,
    /// An NVMe disk.
    Nvme,
    /// A disk at the USB.
    Usb,
}

/// A file (or block device) of the host that a disk is in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DiskFile {
    /// Where.
    pub path: PathBuf,
    /// How.
    pub format: Format,
    /// Whether it is a block device.
    pub device: bool,
}

/// The layers of a disk of our own: a snapshot keeps one, and another over it is written to.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DiskLayers {
    /// The number of the one that is written to.
    pub active: u32,
    /// Those below it, from the top, with their files.
    pub below: Vec<(u32, PathBuf)>,
}

/// A disk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DiskPlan {
    /// The name of the device.
    pub device: String,
    /// The file that it is in.
    pub file: DiskFile,
    /// Its layers.
    #[serde(default)]
    pub layers: DiskLayers,
    /// The image that it was made from: below it, read-only.
    pub backing: Option<DiskFile>,
    /// What the machine sees.
    pub bus: Bus,
    /// How the host's memory is used.
    pub cache: Cache,
    /// Whether the guest cannot write.
    pub read_only: bool,
    /// Whether it is a CD in a drive.
    pub cdrom: bool,
    /// Lower boots first; absent: never.
    pub boot_index: Option<u32>,
    /// How fast it may be.
    pub limits: DiskLimits,
}

/// How fast a disk may be, in bytes and operations a second.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DiskLimits {
    /// Bytes read and written.
    pub bytes: Option<u64>,
    /// Bytes read.
    pub bytes_read: Option<u64>,
    /// Bytes written.
    pub bytes_written: Option<u64>,
    /// Reads and writes.
    pub operations: Option<u64>,
    /// Reads.
    pub operations_read: Option<u64>,
    /// Writes.
    pub operations_written: Option<u64>,
}

/// A network interface.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NicPlan {
    /// The name of the device.
    pub device: String,
    /// The link of the host that leads there.
    pub host_interface: String,
    /// Its hardware address.
    pub hwaddr: String,
    /// Largest packet; absent: the guest's choice.
    pub mtu: Option<u32>,
}

/// A folder of the host that the guest sees by virtiofs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FolderPlan {
    /// The name of the device, by which the guest mounts it.
    pub device: String,
    /// Where it is on the host.
    pub path: PathBuf,
    /// Whether the guest cannot write.
    pub read_only: bool,
    /// With what is mounted below it.
    pub recursive: bool,
    /// Whether user 0 of the host is user 0 of the guest there, and so on.
    pub shift: bool,
}

/// A TPM in software.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TpmPlan {
    /// The name of the device.
    pub device: String,
    /// The folder of what it keeps.
    pub state: PathBuf,
}

/// A PCI device of the host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PassedPlan {
    /// The name of the device; a graphics card is several of one name.
    pub device: String,
    /// Its address on the host, in full.
    pub address: String,
    /// Its IOMMU group.
    pub group: u32,
}
