//! From an instance's spec to the hardware of its machine: pure.

use std::path::PathBuf;

use manifests::devices::Disk;
use manifests::devices::disk::{DiskSource, IoBus, IoCache};
use manifests::instance::boot::BootMode;
use manifests::instance::limits::Limits;
use manifests::kinds::instance::Instance;
use manifests::scalar::byte_size::ByteSize;
use manifests::scalar::cpu::CpuLimit;
use manifests::scalar::memory::Swap;
use manifests::scalar::rate::DiskRate;
use manifests::support::MOST_PROCESSORS;

use super::super::nics;
use super::super::picks::InstancePicks;
use crate::native::machine::firmware::Firmware;
use crate::native::machine::plan::{
    Accelerator, BootPlan, Bus, Cache, DiskFile, DiskLayers, DiskLimits, DiskPlan, FolderPlan,
    Hardware, Memory, NicPlan, PassedPlan, Processors, TpmPlan,
};

/// A machine of which nothing else is said has so much memory.
pub(super) const DEFAULT_MEMORY: u64 = 1 << 30;
/// QEMU plugs memory in by whole pieces of this size, and Linux takes them by it.
pub(super) const PIECE: u64 = 128 << 20;
/// A guest without this little cannot even say that it has too little.
const LEAST_MEMORY: u64 = 32 << 20;

/// What is on this host.
pub(super) struct Around<'a> {
    /// Name of the instance.
    pub name: &'a str,
    /// Its identity, which becomes the machine's.
    pub uid: String,
    /// What was picked for it.
    pub picks: &'a InstancePicks,
    /// Bytes of memory of the host.
    pub host_memory: u64,
    /// Processors of the host.
    pub host_processors: u32,
    /// Who runs the guest's instructions.
    pub accelerator: Accelerator,
    /// UEFI, and the file of the machine's variables, where it boots so.
    pub firmware: Option<(Firmware, PathBuf)>,
    /// The kernel of the image.
    pub kernel: Option<DirectBoot>,
    /// Its disks, in the order of the devices' names.
    pub disks: Vec<Found<'a>>,
    /// Its folders of the host, in the order of the devices' names.
    pub folders: Vec<FolderPlan>,
    /// Its TPM.
    pub tpm: Option<TpmPlan>,
    /// Its PCI devices of the host.
    pub passed: Vec<PassedPlan>,
}

/// What an image carries for booting without firmware.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct DirectBoot {
    /// The kernel.
    pub kernel: PathBuf,
    /// The initial RAM file system.
    pub initrd: Option<PathBuf>,
    /// What the kernel is told.
    pub cmdline: Option<String>,
}

/// A disk, and where it is on this host.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Found<'a> {
    /// The name of the device.
    pub device: &'a str,
    /// As it is written.
    pub disk: &'a Disk,
    /// The file that it is in.
    pub file: DiskFile,
    /// Its layers.
    pub layers: DiskLayers,
    /// The image below.
    pub backing: Option<DiskFile>,
    /// Whether its file system can do without the host's memory.
    pub can_be_direct: bool,
    /// Whether it is an image of a CD.
    pub cdrom: bool,
}

/// The hardware of a machine.
///
/// # Errors
/// Its image cannot be booted in the way that is asked for.
pub(super) fn hardware(instance: &Instance, around: Around<'_>) -> Result<Hardware, String> {
    let boot = boot(instance, &around)?;
    let memory = memory(&instance.limits, around.host_memory);
    let indices = boot_indices(&around.disks);
    let disks = around
        .disks
        .iter()
        .zip(indices)
        .map(|(found, index)| disk(found, index))
        .collect();
    Ok(Hardware {
        name: around.name.to_owned(),
        uuid: around.uid,
        accelerator: around.accelerator,
        boot,
        processors: processors(&instance.limits, around.host_processors),
        memory,
        disks,
        nics: nics::nics(instance)
            .filter_map(|(device, nic)| {
                let picked = around.picks.nics.get(device)?;
                Some(NicPlan {
                    device: device.to_owned(),
                    host_interface: picked.host_interface.clone(),
                    hwaddr: picked.hwaddr.clone(),
                    mtu: nic.mtu,
                })
            })
            .collect(),
        folders: around.folders,
        tpm: around.tpm,
        passed: around.passed,
        incoming: None,
    })
}

/// How a machine boots: as it is written, and where nothing is, as its image can.
pub(in crate::native::instance) fn boot_mode(instance: &Instance, has_kernel: bool) -> BootMode {
    match instance.boot.mode {
        Some(mode) => mode,
        // It is made for that, and firmware might find nothing else in it.
        None if has_kernel => BootMode::Direct,
        None => BootMode::UefiSecureboot,
    }
}

fn boot(instance: &Instance, around: &Around<'_>) -> Result<BootPlan, String> {
    match boot_mode(instance, around.kernel.is_some()) {
        BootMode::Bios => Ok(BootPlan::Bios),
        BootMode::Direct => {
            let direct = around
                .kernel
                .as_ref()
                .ok_or("boot.mode direct needs an image with a kernel")?;
            Ok(BootPlan::Direct {
                kernel: direct.kernel.clone(),
                initrd: direct.initrd.clone(),
                cmdline: direct.cmdline.clone().unwrap_or_default(),
            })
        }
        BootMode::Uefi | BootMode::UefiSecureboot => {
            let (firmware, variables) = around.firmware.clone().ok_or("there is no firmware")?;
            Ok(BootPlan::Uefi {
                code: firmware.code,
                variables,
                secure: firmware.secure,
            })
        }
    }
}

/// Processors: a number can grow up to those of the host; a topology is as it is.
pub(super) fn processors(limits: &Limits, of_host: u32) -> Processors {
    if let Some(CpuLimit::Topology {
        sockets,
        cores,
        threads,
    }) = limits.cpu
    {
        return Processors {
            count: sockets * cores * threads,
            sockets,
            cores,
            threads,
        };
    }
    let count = count(limits);
    Processors {
        count,
        sockets: 1,
        cores: count.max(of_host.min(MOST_PROCESSORS)),
        threads: 1,
    }
}

/// How many processors a machine is to have.
pub(super) fn count(limits: &Limits) -> u32 {
    match &limits.cpu {
        None => 1,
        Some(CpuLimit::Count(count)) => (*count).max(1),
        Some(CpuLimit::Set(set)) => u32::try_from(set.numbers().count()).unwrap_or(1).max(1),
        Some(CpuLimit::Topology {
            sockets,
            cores,
            threads,
        }) => sockets * cores * threads,
    }
}

/// Bytes of memory that a machine is to have: a whole number of MiB.
pub(super) fn memory_bytes(limits: &Limits, of_host: u64) -> u64 {
    let wanted = limits
        .memory
        .as_ref()
        .map_or(DEFAULT_MEMORY, |memory| memory.bytes(of_host));
    (wanted >> 20 << 20).max(LEAST_MEMORY)
}

/// Up to which size memory can be plugged in: as it is written, else up to the memory of the host.
pub(super) fn memory_most(limits: &Limits, of_host: u64) -> u64 {
    match &limits.memory_hotplug {
        Swap::Switch(false) => 0,
        Swap::Switch(true) => of_host / PIECE * PIECE,
        Swap::Size(size) => size.bytes() / PIECE * PIECE,
    }
}

fn memory(limits: &Limits, of_host: u64) -> Memory {
    let huge_pages = limits
        .hugepages
        .keys()
        .filter_map(|size| Some(size.parse::<ByteSize>().ok()?.bytes()))
        .max();
    Memory {
        bytes: memory_bytes(limits, of_host),
        most: memory_most(limits, of_host),
        huge_pages,
    }
}

/// In which order disks are booted from: the highest priority first, and the root among equals.
fn boot_indices(disks: &[Found<'_>]) -> Vec<Option<u32>> {
    let priority = |found: &Found<'_>| match found.disk.boot_priority {
        Some(priority) => Some((priority, found.disk.is_root())),
        None => found.disk.is_root().then_some((0, true)),
    };
    let mut order: Vec<usize> = (0..disks.len())
        .filter(|index| {
            disks
                .get(*index)
                .is_some_and(|found| priority(found).is_some())
        })
        .collect();
    order.sort_by_key(|index| disks.get(*index).and_then(priority).map(std::cmp::Reverse));
    (0..disks.len())
        .map(|index| {
            let place = order.iter().position(|one| *one == index)?;
            // The first is that of a kernel that is booted directly.
            u32::try_from(place + 1).ok()
        })
        .collect()
}

/// A disk in the machine.
pub(super) fn disk(found: &Found<'_>, boot_index: Option<u32>) -> DiskPlan {
    let Found {
        device,
        disk,
        file,
        layers,
        backing,
        can_be_direct,
        cdrom,
    } = found;
    DiskPlan {
        device: (*device).to_owned(),
        file: file.clone(),
        layers: layers.clone(),
        backing: backing.clone(),
        bus: match disk.io_bus {
            // A drive for CDs there is only at the SCSI controller.
            _ if *cdrom => Bus::VirtioScsi,
            None | Some(IoBus::VirtioScsi) => Bus::VirtioScsi,
            Some(IoBus::VirtioBlk) => Bus::VirtioBlk,
            Some(IoBus::Nvme) => Bus::Nvme,
            Some(IoBus::Usb) => Bus::Usb,
        },
        cache: match disk.io_cache {
            Some(IoCache::Unsafe) => Cache::Unsafe,
            Some(IoCache::Writeback) => Cache::Writeback,
            None | Some(IoCache::None) if *can_be_direct => Cache::Direct,
            None | Some(IoCache::None) => Cache::Writeback,
        },
        read_only: disk.readonly || *cdrom,
        cdrom: *cdrom,
        boot_index,
        limits: disk_limits(disk),
    }
}

/// The limits of a disk: what `read` and `write` leave open, `max` says for both together.
pub(super) fn disk_limits(disk: &Disk) -> DiskLimits {
    let bytes = |rate: &Option<DiskRate>| rate.as_ref()?.bytes.as_ref().map(ByteSize::bytes);
    let operations = |rate: &Option<DiskRate>| rate.as_ref()?.operations;
    let written = &disk.limits;
    // QEMU takes a total or one for each direction, not both.
    let split_bytes = bytes(&written.read).is_some() || bytes(&written.write).is_some();
    let split_operations =
        operations(&written.read).is_some() || operations(&written.write).is_some();
    let most_bytes = bytes(&written.max);
    let most_operations = operations(&written.max);
    DiskLimits {
        bytes: most_bytes.filter(|_| !split_bytes),
        bytes_read: bytes(&written.read).or(most_bytes.filter(|_| split_bytes)),
        bytes_written: bytes(&written.write).or(most_bytes.filter(|_| split_bytes)),
        operations: most_operations.filter(|_| !split_operations),
        operations_read: operations(&written.read).or(most_operations.filter(|_| split_operations)),
        operations_written: operations(&written.write)
            .or(most_operations.filter(|_| split_operations)),
    }
}

/// Whether a disk device of a machine is a disk there, and no folder.
pub(super) fn is_block(disk: &Disk) -> bool {
    match disk.made_of() {
        DiskSource::Root => true,
        DiskSource::Host(_) | DiskSource::Volume { .. } => !disk.is_shared_folder(),
        DiskSource::Tmpfs | DiskSource::Other(_) => false,
    }
}
