//! What a machine is, put over what was meant: pure.

use manifests::devices::disk::{IoBus, IoCache};
use manifests::devices::{Device, Disk};
use manifests::kinds::instance::{Instance, PowerState};
use manifests::scalar::byte_size::ByteSize;
use manifests::scalar::cpu::CpuLimit;
use manifests::scalar::memory::MemoryLimit;
use manifests::scalar::rate::DiskRate;

use super::{hardware, passed};
use crate::native::machine::devices::{id, nodes};
use crate::native::machine::plan::DiskLimits;
use crate::native::machine::seen::{MachineSeen, Power};

/// How the machine is, in the words of manifests.
pub(in crate::native::instance) fn power(seen: &MachineSeen) -> PowerState {
    match seen.power() {
        Power::Running => PowerState::Running,
        Power::Paused => PowerState::Frozen,
        Power::Off => PowerState::Stopped,
    }
}

/// Puts what QEMU says over what was meant. What is as meant keeps its spelling. Answers the devices that are not there.
pub(in crate::native::instance) fn overlay(
    instance: &mut Instance,
    host_memory: u64,
    seen: &MachineSeen,
) -> Vec<(String, Device)> {
    if hardware::count(&instance.limits) != seen.processors {
        instance.limits.cpu = Some(CpuLimit::Count(seen.processors));
    }
    if let Some(memory) = seen.balloon.or(seen.memory)
        && hardware::memory_bytes(&instance.limits, host_memory) != memory
    {
        instance.limits.memory = Some(MemoryLimit::Size(ByteSize::from_bytes(memory)));
    }
    let gone = |name: &String, device: &mut Device| match device {
        Device::Disk(disk) if hardware::is_block(disk) => {
            let id = id("disk", name);
            !seen.devices.contains_key(&id) || seen.empty.contains(&id)
        }
        Device::Nic(_) => !seen.devices.contains_key(&id("nic", name)),
        Device::Pci(_) | Device::Gpu(_) => passed::is_missing(name, seen),
        _ => false,
    };
    let gone: Vec<(String, Device)> = instance.devices.extract_if(.., gone).collect();
    for (name, device) in &mut instance.devices {
        if let Device::Disk(disk) = device
            && hardware::is_block(disk)
        {
            overlay_disk(name, disk, seen);
        }
    }
    gone
}

fn overlay_disk(name: &str, disk: &mut Disk, seen: &MachineSeen) {
    let names = nodes(name);
    let driver = seen.devices.get(&names.top).map(String::as_str);
    let bus = match driver {
        Some("virtio-blk-pci") => Some(IoBus::VirtioBlk),
        Some("nvme") => Some(IoBus::Nvme),
        Some("usb-storage") => Some(IoBus::Usb),
        Some("scsi-hd") => Some(IoBus::VirtioScsi),
        // A drive for CDs is at the SCSI controller whatever is written.
        _ => None,
    };
    if let Some(bus) = bus
        && disk.io_bus.unwrap_or(IoBus::VirtioScsi) != bus
    {
        disk.io_bus = Some(bus);
    }
    if let Some(node) = seen.nodes.get(&names.top) {
        if let Some(size) = &disk.size
            && size.bytes() != node.size
        {
            disk.size = Some(ByteSize::from_bytes(node.size));
        }
        if driver != Some("scsi-cd") {
            disk.readonly = node.read_only;
        }
        let unsafely = disk.io_cache == Some(IoCache::Unsafe);
        if node.no_flush != unsafely {
            disk.io_cache = match (node.no_flush, node.direct) {
                (true, _) => Some(IoCache::Unsafe),
                (false, true) => Some(IoCache::None),
                (false, false) => Some(IoCache::Writeback),
            };
        }
    }
    let found = seen.limits.get(&names.group).copied().unwrap_or_default();
    if found != hardware::disk_limits(disk) {
        disk.limits = limits(&found);
    }
}

/// Limits in the words of manifests.
fn limits(found: &DiskLimits) -> manifests::devices::disk::DiskLimits {
    let rate = |bytes: Option<u64>, operations: Option<u64>| {
        (bytes.is_some() || operations.is_some()).then(|| DiskRate {
            bytes: bytes.map(ByteSize::from_bytes),
            operations,
        })
    };
    manifests::devices::disk::DiskLimits {
        read: rate(found.bytes_read, found.operations_read),
        write: rate(found.bytes_written, found.operations_written),
        max: rate(found.bytes, found.operations),
    }
}
