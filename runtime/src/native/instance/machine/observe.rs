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

#[cfg(test)]
mod tests {
    use manifests::kind::Spec;

    use super::*;
    use crate::native::machine::qmp::RunState;
    use crate::native::machine::seen::NodeSeen;

    fn meant() -> Instance {
        serde_json::from_value(serde_json::json!({
            "type": "virtual-machine", "image": "tiny",
            "limits": {"cpu": 2, "memory": "512MiB"},
            "devices": {
                "root": {"type": "disk", "path": "/", "pool": "fast", "size": "64MiB"},
                "data": {"type": "disk", "source": "/srv/data.img", "ioBus": "virtio-blk", "readonly": true,
                    "ioCache": "unsafe", "limits": {"read": "10MiB", "write": "200iops"}},
                "cd": {"type": "disk", "source": "/srv/a.iso"},
                "eth0": {"type": "nic", "network": "lan"},
            },
        }))
        .expect("an instance")
    }

    /// What QEMU says where all is as it is meant.
    fn as_meant() -> MachineSeen {
        let device = |id: &str, kind: &str| (id.to_owned(), kind.to_owned());
        let node = |size: u64, read_only: bool, no_flush: bool| NodeSeen {
            size,
            read_only,
            direct: !no_flush,
            no_flush,
        };
        let of_data = DiskLimits {
            bytes_read: Some(10 << 20),
            operations_written: Some(200),
            ..DiskLimits::default()
        };
        MachineSeen {
            state: RunState::Running,
            processors: 2,
            memory: None,
            balloon: Some(512 << 20),
            devices: [
                device("disk-root", "scsi-hd"),
                device("disk-data", "virtio-blk-pci"),
                device("disk-cd", "scsi-cd"),
                device("nic-eth0", "virtio-net-pci"),
            ]
            .into(),
            nodes: [
                ("disk-root".to_owned(), node(64 << 20, false, false)),
                ("disk-data".to_owned(), node(1 << 20, true, true)),
                ("disk-cd".to_owned(), node(1 << 20, true, false)),
            ]
            .into(),
            empty: Vec::new(),
            limits: [("disk-data.l".to_owned(), of_data)].into(),
            agent: false,
        }
    }

    fn node<'s>(seen: &'s mut MachineSeen, name: &str) -> &'s mut NodeSeen {
        seen.nodes.get_mut(name).expect("a node")
    }

    /// The fields that differ after something was changed behind git's back.
    fn differs(change: impl FnOnce(&mut MachineSeen)) -> Vec<String> {
        let mut seen = as_meant();
        change(&mut seen);
        let (wanted, mut found) = (meant(), meant());
        let gone = overlay(&mut found, 1 << 40, &seen);
        let found = Spec::Instance(Box::new(found));
        let changes = Spec::Instance(Box::new(wanted)).compare(&found);
        let mut paths: Vec<String> = changes.iter().map(|change| change.path.dotted()).collect();
        for (name, _) in gone {
            assert!(paths.iter().any(|path| path.contains(&name)), "{paths:?}");
        }
        paths.dedup();
        paths
    }

    #[test]
    fn what_is_as_meant_differs_in_nothing() {
        assert_eq!(differs(|_| {}), Vec::<String>::new());
        // Where no balloon is, what is plugged in counts.
        let without = differs(|seen| (seen.balloon, seen.memory) = (None, Some(512 << 20)));
        assert_eq!(without, Vec::<String>::new());
    }

    #[test]
    fn what_somebody_changed_by_a_monitor_is_told_by_its_field() {
        type Change = fn(&mut MachineSeen);
        let table: [(&str, Change); 12] = [
            ("limits.cpu", |seen| seen.processors = 1),
            ("limits.memory", |seen| seen.balloon = Some(256 << 20)),
            ("limits.memory", |seen| {
                (seen.balloon, seen.memory) = (None, Some(640 << 20));
            }),
            ("devices.root.size", |seen| {
                node(seen, "disk-root").size = 96 << 20;
            }),
            ("devices.root.readonly", |seen| {
                node(seen, "disk-root").read_only = true;
            }),
            ("devices.root.ioBus", |seen| {
                seen.devices
                    .insert("disk-root".to_owned(), "nvme".to_owned());
            }),
            ("devices.data.ioCache", |seen| {
                node(seen, "disk-data").no_flush = false;
            }),
            ("devices.data.limits", |seen| {
                seen.limits
                    .get_mut("disk-data.l")
                    .expect("limits")
                    .operations_written = Some(7);
            }),
            ("devices.data.limits", |seen| seen.limits.clear()),
            ("devices.data", |seen| {
                drop(seen.devices.remove("disk-data"));
            }),
            // Somebody has opened the drive.
            ("devices.cd", |seen| seen.empty.push("disk-cd".to_owned())),
            ("devices.eth0", |seen| drop(seen.devices.remove("nic-eth0"))),
        ];
        for (number, (field, change)) in table.into_iter().enumerate() {
            let paths = differs(change);
            assert!(
                !paths.is_empty() && paths.iter().all(|path| path.starts_with(field)),
                "{number}: {field} is told as {paths:?}"
            );
        }
    }

    #[test]
    fn how_it_is_has_a_word_of_manifests() {
        for (state, wanted) in [
            (RunState::Running, PowerState::Running),
            (RunState::Paused, PowerState::Frozen),
            (RunState::IoError, PowerState::Frozen),
            (RunState::Shutdown, PowerState::Stopped),
        ] {
            let seen = MachineSeen {
                state,
                ..as_meant()
            };
            assert_eq!(power(&seen), wanted, "{state:?}");
        }
    }
}
