//! What the native engine cannot do yet of devices.

use crate::devices::disk::{DiskLimits, DiskSource, Propagation};
use crate::devices::gpu::GpuType;
use crate::devices::nic::{Nic, NicType};
use crate::devices::{Device, Disk, Gpu, Tpm, Usb};
use crate::kinds::instance::Instance;
use crate::scalar::address::{NicAddress4, NicAddress6};

/// Says what is not done of each device of an instance.
pub(super) fn of(instance: &Instance, say: &mut dyn FnMut(&str, String)) {
    for (name, device) in &instance.devices {
        let at = format!("/spec/devices/{name}");
        match device {
            Device::Disk(disk) if instance.is_container() => one_disk(disk, &at, say),
            Device::Disk(disk) => one_disk_of_a_machine(disk, &at, say),
            Device::Nic(nic) => {
                one_nic(nic, instance.is_container(), &at, say);
                if !instance.is_container() {
                    one_nic_of_a_machine(nic, &at, say);
                }
            }
            Device::UnixChar(_) | Device::UnixBlock(_) if instance.is_container() => {}
            Device::UnixChar(_) | Device::UnixBlock(_) => say(
                &at,
                "devices of the host's kernel are for containers; a disk takes a block device as its `source`"
                    .to_owned(),
            ),
            Device::None(_) => {}
            Device::Tpm(tpm) if !instance.is_container() => one_tpm_of_a_machine(tpm, &at, say),
            Device::Usb(usb) if !instance.is_container() => one_usb_of_a_machine(usb, &at, say),
            Device::Gpu(gpu) if !instance.is_container() => one_gpu_of_a_machine(gpu, &at, say),
            Device::Pci(_) if !instance.is_container() => {}
            Device::Pci(_) => say(
                &at,
                "PCI devices are for machines; a container has `unix-char` and `unix-block` devices".to_owned(),
            ),
            other => say(
                &at,
                format!(
                    "devices of type {} are not plugged by this engine yet",
                    other.word()
                ),
            ),
        }
    }
}

fn one_nic(nic: &Nic, of_container: bool, at: &str, say: &mut dyn FnMut(&str, String)) {
    let mut one = |field: &str, what: &str| say(&format!("{at}/{field}"), what.to_owned());
    let alone = nic.nic_type == Some(NicType::P2p);
    let macvtap = nic.nic_type == Some(NicType::Macvlan) && !of_container;
    if !macvtap && !matches!(nic.nic_type, None | Some(NicType::Bridged | NicType::P2p)) {
        one(
            "nicType",
            match of_container {
                true => "this engine makes bridged and p2p interfaces only",
                false => "this engine makes bridged, p2p and macvlan interfaces of machines only",
            },
        );
    } else if nic.network.is_none() && !alone && !macvtap {
        say(at, "an interface of this engine joins a network".to_owned());
        return;
    }
    for (field, written, what) in [
        ("vlan", nic.vlan.is_some(), "VLANs are not put in force yet"),
        (
            "acls",
            !nic.acls.is_empty(),
            "NetworkAcls are not put in force yet",
        ),
        (
            "limits/priority",
            nic.limits.priority.is_some(),
            "the priority of packets is not put in force yet",
        ),
        (
            "parent",
            alone && nic.parent.is_some(),
            "a p2p interface has no parent",
        ),
        (
            "isolated",
            alone && nic.isolated,
            "a p2p interface has no neighbours",
        ),
        (
            "routes",
            alone && !nic.routes.is_empty(),
            "the host's end of a p2p interface is left alone",
        ),
        (
            "ipv4/routes",
            alone && !nic.ipv4.routes.is_empty(),
            "the host's end of a p2p interface is left alone",
        ),
        (
            "ipv6/routes",
            alone && !nic.ipv6.routes.is_empty(),
            "the host's end of a p2p interface is left alone",
        ),
        (
            "ipv4/hostAddress",
            nic.ipv4.host_address.is_some(),
            HOST_END,
        ),
        (
            "ipv6/hostAddress",
            nic.ipv6.host_address.is_some(),
            HOST_END,
        ),
        (
            "ipv4/hostTables",
            !nic.ipv4.host_tables.is_empty(),
            HOST_END,
        ),
        (
            "ipv6/hostTables",
            !nic.ipv6.host_tables.is_empty(),
            HOST_END,
        ),
        (
            "ipv4/gateway",
            nic.ipv4.gateway.is_some() && !matches!(nic.ipv4.address, NicAddress4::Static(_)),
            GATEWAY,
        ),
        (
            "ipv6/gateway",
            nic.ipv6.gateway.is_some() && !matches!(nic.ipv6.address, NicAddress6::Static(_)),
            GATEWAY,
        ),
    ] {
        if written {
            one(field, what);
        }
    }
}

const HOST_END: &str = "this counts for routed interfaces, which this engine does not make yet";
const GATEWAY: &str =
    "DHCP tells the gateway of the network; one of its own needs an address that is written";

const OF_CONTAINERS: &str =
    "this counts for containers; a machine's guest names its devices itself";

/// What is set at the guest's end is the guest's own in a machine.
fn one_nic_of_a_machine(nic: &Nic, at: &str, say: &mut dyn FnMut(&str, String)) {
    for (field, written) in [
        ("ipv4/gateway", nic.ipv4.gateway.is_some()),
        ("ipv6/gateway", nic.ipv6.gateway.is_some()),
        ("name", nic.name.is_some()),
    ] {
        if written {
            say(
                &format!("{at}/{field}"),
                "a machine's guest sets its interfaces up itself".to_owned(),
            );
        }
    }
}

const OTHER: &str =
    "this engine has no such disk: name a path of the host, `tmpfs:`, or a volume with its `pool`";

/// A volume of a pool.
fn of_volume(disk: &Disk, volume: &str, one: &mut dyn FnMut(&str, &str)) {
    if volume.contains('/') {
        one(
            "source",
            "folders in volumes are not attached by this engine yet; the whole volume is",
        );
    }
    if disk.size.is_some() {
        one("size", "a volume is as big as the Volume says");
    }
    if disk.shift {
        one(
            "shift",
            "the ids of volumes are shifted by themselves; `unmapped` of the Volume says not to",
        );
    }
}

/// A disk of a machine.
fn one_disk_of_a_machine(disk: &Disk, at: &str, say: &mut dyn FnMut(&str, String)) {
    let mut one = |field: &str, what: &str| say(&format!("{at}/{field}"), what.to_owned());
    match disk.made_of() {
        DiskSource::Other(_) => one("source", OTHER),
        DiskSource::Volume { volume, .. } => of_volume(disk, volume, &mut one),
        DiskSource::Tmpfs => one("source", "a machine has memory of its own"),
        DiskSource::Root => {}
        DiskSource::Host(_) => {
            if disk.pool.is_some() {
                one("pool", "what is on the host is in no pool");
            }
            if disk.size.is_some() {
                one("size", "a disk of the host is as big as the host has it");
            }
        }
    }
    if disk.is_shared_folder() {
        for (field, written) in [
            ("limits", disk.limits != DiskLimits::default()),
            ("ioBus", disk.io_bus.is_some()),
            ("ioCache", disk.io_cache.is_some()),
            ("bootPriority", disk.boot_priority.is_some()),
        ] {
            if written {
                one(
                    field,
                    "this counts for disks, and with a `path` it is a folder",
                );
            }
        }
    } else {
        for (field, written) in [("shift", disk.shift), ("recursive", disk.recursive)] {
            if written {
                one(field, "this counts for folders");
            }
        }
    }
    if disk.propagation != Propagation::Private {
        one("propagation", "this counts for containers");
    }
}

/// A TPM of a machine.
fn one_tpm_of_a_machine(tpm: &Tpm, at: &str, say: &mut dyn FnMut(&str, String)) {
    for (field, written) in [
        ("path", tpm.path.is_some()),
        ("pathrm", tpm.pathrm.is_some()),
    ] {
        if written {
            say(&format!("{at}/{field}"), OF_CONTAINERS.to_owned());
        }
    }
}

/// A USB device of a machine.
fn one_usb_of_a_machine(usb: &Usb, at: &str, say: &mut dyn FnMut(&str, String)) {
    if !usb.names_some() {
        say(
            at,
            "it says nothing of which device of the host it is: name `vendorId` and `productId`, or `serial`"
                .to_owned(),
        );
    }
    let plain = Usb::default();
    for (field, written) in [
        ("uid", usb.uid != plain.uid),
        ("gid", usb.gid != plain.gid),
        ("mode", usb.mode != plain.mode),
    ] {
        if written {
            say(&format!("{at}/{field}"), OF_CONTAINERS.to_owned());
        }
    }
}

/// A graphics card of a machine.
fn one_gpu_of_a_machine(gpu: &Gpu, at: &str, say: &mut dyn FnMut(&str, String)) {
    if gpu.gpu_type != GpuType::Physical {
        say(
            &format!("{at}/gpuType"),
            "this engine gives whole cards only; of one that is split the host has parts with addresses of their own, \
             which are devices of type pci"
                .to_owned(),
        );
    }
    let plain = Gpu::default();
    for (field, written, what) in [
        (
            "mdev",
            gpu.mdev.is_some(),
            "this engine gives whole cards only",
        ),
        ("uid", gpu.uid != plain.uid, OF_CONTAINERS),
        ("gid", gpu.gid != plain.gid, OF_CONTAINERS),
        ("mode", gpu.mode != plain.mode, OF_CONTAINERS),
    ] {
        if written {
            say(&format!("{at}/{field}"), what.to_owned());
        }
    }
}

/// A disk of a container.
fn one_disk(disk: &Disk, at: &str, say: &mut dyn FnMut(&str, String)) {
    let mut one = |field: &str, what: &str| say(&format!("{at}/{field}"), what.to_owned());
    if disk.pool.is_some() && matches!(disk.made_of(), DiskSource::Host(_) | DiskSource::Tmpfs) {
        one("pool", "what is on the host or in memory is in no pool");
    }
    match disk.made_of() {
        DiskSource::Other(_) => one("source", OTHER),
        DiskSource::Volume { volume, .. } => {
            of_volume(disk, volume, &mut one);
            for (field, written) in [
                ("recursive", disk.recursive),
                ("propagation", disk.propagation != Propagation::Private),
            ] {
                if written {
                    one(field, "nothing is mounted in a volume");
                }
            }
        }
        DiskSource::Root => {
            for (field, written) in [
                ("readonly", disk.readonly),
                ("shift", disk.shift),
                ("recursive", disk.recursive),
                ("propagation", disk.propagation != Propagation::Private),
            ] {
                if written {
                    one(field, "this does not count for the root of a container");
                }
            }
        }
        DiskSource::Host(_) if disk.size.is_some() => {
            one("size", "a folder of the host is as big as the host has it");
        }
        DiskSource::Tmpfs if disk.limits != DiskLimits::default() => {
            one("limits", "memory is not throttled");
        }
        DiskSource::Tmpfs if disk.shift || disk.recursive => {
            one("source", "`shift` and `recursive` do not count for memory");
        }
        _ => {}
    }
    if matches!(
        disk.propagation,
        Propagation::Unbindable | Propagation::RecursiveUnbindable
    ) {
        one("propagation", "this engine makes no unbindable mounts yet");
    }
    for (field, written) in [
        ("ioBus", disk.io_bus.is_some()),
        ("ioCache", disk.io_cache.is_some()),
        ("bootPriority", disk.boot_priority.is_some()),
    ] {
        if written {
            one(field, "this counts for the disks of machines");
        }
    }
}
