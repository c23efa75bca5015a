//! What must be written is written.

use super::{Rule, devices, wrong};
use crate::decode::MISSING_FIELD;
use crate::desired::{DesiredSet, Resource};
use crate::devices::nic::NicType;
use crate::devices::{Device, Disk, Nic};
use crate::diagnostic::Diagnostics;
use crate::kind::Spec;
use crate::kinds::network::NetworkType;
use crate::kinds::volume::ContentType;
use crate::pointer::Pointer;

/// Fields without a default that makes sense are written.
pub(super) struct Complete;

/// Tells that a field is missing, and what to write.
struct Teller<'a> {
    resource: &'a Resource,
    found: &'a mut Diagnostics,
}

impl Teller<'_> {
    /// The `field` is missing in the part at `at`.
    fn missing(&mut self, at: &Pointer, field: &str, hint: &str) {
        let part = at.dotted();
        let message = format!("field `{field}` is missing in {part}");
        let found = wrong(MISSING_FIELD, self.resource, at.clone(), message);
        self.found.push(found.hint(format!("write {hint}")));
    }
}

impl Rule for Complete {
    fn check(&self, desired: &DesiredSet, found: &mut Diagnostics) {
        for resource in desired.resources.values() {
            one(&mut Teller { resource, found });
        }
    }
}

fn one(tell: &mut Teller<'_>) {
    let spec = Pointer::new("/spec");
    match &tell.resource.spec {
        Spec::Instance(instance) => {
            if instance.image.is_none() && instance.is_container() {
                tell.missing(
                    &spec,
                    "image",
                    "what it starts from, such as `image: debian/12`",
                );
            }
            for (_, device, at) in devices(instance) {
                match device {
                    // Where a machine's disks are mounted is the guest's business.
                    Device::Disk(disk) if !instance.is_container() && disk.source.is_some() => {}
                    _ => one_device(device, &at, tell),
                }
            }
        }
        Spec::Image(image) if image.kernel.is_none() => {
            if image.source.is_none() {
                tell.missing(
                    &spec,
                    "source",
                    "where it comes from, such as `source: { file: … }`",
                );
            }
            let goes_with_it = [
                ("initrd", image.initrd.is_some()),
                ("cmdline", image.cmdline.is_some()),
            ];
            if let Some((field, _)) = goes_with_it.iter().find(|(_, written)| *written) {
                let hint = format!("the kernel that `{field}` is for, such as `kernel: ./vmlinuz`");
                tell.missing(&spec, "kernel", &hint);
            }
        }
        Spec::Volume(volume) => {
            if volume.pool.is_empty() {
                tell.missing(&spec, "pool", "the StoragePool that it is in");
            }
            if volume
                .source
                .as_ref()
                .is_some_and(|source| source.volume.is_empty() && source.file.is_none())
            {
                tell.missing(
                    &spec.field("source"),
                    "volume",
                    "the volume that it is a copy of, or `file`",
                );
            }
            if volume.content_type == ContentType::Iso && volume.source.is_none() {
                tell.missing(
                    &spec,
                    "source",
                    "the image of the CD, such as `source: { file: /srv/debian.iso }`",
                );
            }
        }
        Spec::Network(network) => {
            let needs_parent = !matches!(network.r#type, NetworkType::Bridge | NetworkType::Ovn);
            if needs_parent && network.parent.is_none() && network.members.is_empty() {
                tell.missing(&spec, "parent", "the interface of the host that it is on");
            }
            let four = network
                .ipv4
                .dhcp
                .reservations
                .iter()
                .map(|one| (one.hwaddr.is_some(), one.address.is_some()));
            let six = network
                .ipv6
                .dhcp
                .reservations
                .iter()
                .map(|one| (one.hwaddr.is_some(), one.address.is_some()));
            let all = spec.clone();
            let four = four.enumerate().map(|(index, has)| {
                (
                    all.field("ipv4")
                        .field("dhcp")
                        .field("reservations")
                        .index(index),
                    has,
                )
            });
            let six = six.enumerate().map(|(index, has)| {
                (
                    spec.field("ipv6")
                        .field("dhcp")
                        .field("reservations")
                        .index(index),
                    has,
                )
            });
            for (at, (hwaddr, address)) in four.chain(six) {
                if !hwaddr {
                    tell.missing(&at, "hwaddr", "the hardware address that it is for");
                }
                if !address {
                    tell.missing(&at, "address", "the address that is kept");
                }
            }
        }
        Spec::NetworkForward(forward) => {
            if forward.network.is_empty() {
                tell.missing(&spec, "network", "the network in which the targets are");
            }
            if forward.listen_address.is_none() {
                tell.missing(&spec, "listenAddress", "the outer address");
            }
            for (index, port) in forward.ports.iter().enumerate() {
                let at = spec.field("ports").index(index);
                if port.listen_port.count() == 0 {
                    tell.missing(&at, "listenPort", "the ports that are called");
                }
                if port.target_address.is_none() && forward.target_address.is_none() {
                    tell.missing(&at, "targetAddress", "the address that they are led to");
                }
            }
        }
        Spec::SnapshotSchedule(schedule) if schedule.schedule.is_none() => {
            tell.missing(
                &spec,
                "schedule",
                "when they are made, such as `schedule: \"@daily\"`",
            );
        }
        Spec::Backup(backup) if backup.destination.path.is_none() => {
            tell.missing(
                &spec,
                "destination",
                "a folder of the host: `destination: { path: /srv/backups }`",
            );
        }
        Spec::Policy(policy) => {
            if policy.expression.trim().is_empty() {
                tell.missing(&spec, "expression", "what must hold of each change");
            }
            if policy.message.trim().is_empty() {
                tell.missing(&spec, "message", "what is said where it does not hold");
            }
        }
        Spec::Secret(secret) => {
            let source = &secret.source;
            let given = source.sops.is_some()
                || !source.age.is_empty()
                || !source.environment.is_empty()
                || !source.files.is_empty()
                || !source.credentials.is_empty();
            if !given {
                tell.missing(
                    &spec,
                    "source",
                    "where its values are: `sops`, `age`, `environment`, `files` or `credentials`",
                );
            }
        }
        _ => {}
    }
}

fn one_device(device: &Device, at: &Pointer, tell: &mut Teller<'_>) {
    match device {
        Device::Disk(disk) => one_disk(disk, at, tell),
        Device::Nic(nic) => one_nic(nic, at, tell),
        Device::Proxy(proxy) => {
            if proxy.listen.is_none() {
                tell.missing(
                    at,
                    "listen",
                    "where it listens, such as `listen: \"tcp:0.0.0.0:80\"`",
                );
            }
            if proxy.connect.is_none() {
                tell.missing(
                    at,
                    "connect",
                    "where it leads, such as `connect: \"tcp:127.0.0.1:80\"`",
                );
            }
        }
        Device::UnixChar(device) | Device::UnixBlock(device) => {
            let numbered = device.major.is_some() && device.minor.is_some();
            if device.source.is_none()
                && (device.path.is_none() || device.major.is_some() != device.minor.is_some())
            {
                tell.missing(
                    at,
                    "source",
                    "the device node of the host, such as `source: /dev/ttyUSB0`",
                );
            } else if device.in_instance().is_none() && numbered {
                tell.missing(at, "path", "where it is in the instance");
            }
        }
        Device::Pci(device) if device.address.is_none() => {
            tell.missing(
                at,
                "address",
                "its address on the host, such as `address: \"0000:01:00.0\"`",
            );
        }
        _ => {}
    }
}

fn one_disk(disk: &Disk, at: &Pointer, tell: &mut Teller<'_>) {
    match (&disk.source, &disk.path) {
        (None, None) => {
            tell.missing(
                at,
                "source",
                "`path: /` for the root, or what it is made of and `path`",
            );
        }
        (None, Some(path)) if path.as_str() != "/" => {
            tell.missing(
                at,
                "source",
                "a volume of a pool, a path of the host, or `tmpfs:`",
            );
        }
        (Some(source), None) if source.starts_with('/') || source == "tmpfs:" => {
            tell.missing(at, "path", "where it is in the instance");
        }
        _ => {}
    }
}

fn one_nic(nic: &Nic, at: &Pointer, tell: &mut Teller<'_>) {
    match (&nic.network, nic.nic_type) {
        (None, None) => tell.missing(
            at,
            "network",
            "the Network that it joins, or `nicType` and `parent`",
        ),
        (None, Some(NicType::P2p | NicType::Routed)) => {}
        (None, Some(kind)) if nic.parent.is_none() => {
            tell.missing(
                at,
                "parent",
                &format!("the interface of the host that `nicType: {kind}` is on"),
            );
        }
        _ => {}
    }
}
