//! What machines of the native engine cannot be, on any host and on this one.

use super::host::error;
use crate::desired::{DesiredSet, Resource};
use crate::devices::disk::IoBus;
use crate::devices::{Device, Disk};
use crate::diagnostic::Diagnostics;
use crate::feature::{
    ACCELERATOR, Capabilities, FOLDERS, MACHINES, MachineImageFacts, PCI, TAPS, TPM, UEFI,
    UEFI_SECUREBOOT,
};
use crate::id::Address;
use crate::instance::boot::BootMode;
use crate::instance::served::{is_passed, is_served};
use crate::kind::{Kind, Spec};
use crate::kinds::instance::Instance;
use crate::pointer::Pointer;
use crate::scalar::byte_size::ByteSize;
use crate::scalar::cpu::CpuLimit;
use crate::scalar::image_ref::ImageRef;
use crate::scalar::memory::{MemoryLimit, Swap};

/// QEMU's q35 takes as many processors without another interrupt controller.
pub const MOST_PROCESSORS: u32 = 255;
/// A guest without this little cannot even say that it has too little.
const LEAST_MEMORY: u64 = 32 << 20;
/// A machine of which nothing else is said has so much memory.
const DEFAULT_MEMORY: u64 = 1 << 30;
/// So many devices are plugged in beside each other.
const PORTS: usize = 16;
/// The longest name of a file system that virtio has, in bytes.
const LONGEST_TAG: usize = 36;

/// Says what no machine can have.
pub(super) fn of(instance: &Instance, say: &mut dyn FnMut(&str, String)) {
    let wanted = match &instance.limits.cpu {
        Some(CpuLimit::Count(count)) => u64::from(*count),
        Some(CpuLimit::Set(set)) => set.numbers().count() as u64,
        Some(CpuLimit::Topology {
            sockets,
            cores,
            threads,
        }) => u64::from(*sockets)
            .saturating_mul(u64::from(*cores))
            .saturating_mul(u64::from(*threads)),
        None => 1,
    };
    if wanted > u64::from(MOST_PROCESSORS) {
        say(
            "/spec/limits/cpu",
            format!("these are {wanted} processors, and a machine has at most {MOST_PROCESSORS}"),
        );
    }
    if let Some(MemoryLimit::Size(size)) = &instance.limits.memory
        && size.bytes() < LEAST_MEMORY
    {
        say(
            "/spec/limits/memory",
            "a machine has at least 32MiB of memory".to_owned(),
        );
    }
    if let (Swap::Size(most), Some(MemoryLimit::Size(memory))) =
        (&instance.limits.memory_hotplug, &instance.limits.memory)
        && most.bytes() < memory.bytes()
    {
        say(
            "/spec/limits/memoryHotplug",
            format!("it begins with {memory} already: the ceiling of its memory is lower"),
        );
    }
    let takes_port = |device: &Device| match device {
        Device::Nic(_) => true,
        Device::Disk(disk) => {
            disk.is_shared_folder() || matches!(disk.io_bus, Some(IoBus::VirtioBlk | IoBus::Nvme))
        }
        _ => is_passed(device),
    };
    let with_port = instance
        .devices
        .iter()
        .filter(|(_, device)| takes_port(device));
    for (name, _) in with_port.skip(PORTS) {
        say(
            &format!("/spec/devices/{name}"),
            format!(
                "a machine has {PORTS} slots for network interfaces, for folders, for PCI devices, and for disks at virtio-blk or nvme; disks at virtio-scsi take none"
            ),
        );
    }
    served(instance, say);
}

/// The same of folders and TPMs.
fn served(instance: &Instance, say: &mut dyn FnMut(&str, String)) {
    let mut has_tpm = false;
    for (name, device) in &instance.devices {
        let at = format!("/spec/devices/{name}");
        if matches!(device, Device::Tpm(_)) && std::mem::replace(&mut has_tpm, true) {
            say(&at, "a machine has one TPM".to_owned());
        }
        if is_served(device) && matches!(device, Device::Disk(_)) && name.len() > LONGEST_TAG {
            say(
                &at,
                format!(
                    "a guest mounts a folder by the name of its device, which has at most {LONGEST_TAG} bytes"
                ),
            );
        }
    }
}

/// What a machine asks for beyond what this host has.
pub(super) fn beyond(
    resource: &Resource,
    instance: &Instance,
    desired: &DesiredSet,
    host: &Capabilities,
    found: &mut Diagnostics,
) {
    let spec = Pointer::new("/spec");
    let limits = spec.field("limits");
    let mut say = |at: Pointer, message: String| found.push(error(resource, at, message));
    for feature in [MACHINES, ACCELERATOR] {
        if let Some(why) = host.trouble(feature) {
            say(spec.field("type"), why.to_owned());
        }
    }
    let first_nic = instance
        .devices
        .iter()
        .find(|(_, device)| matches!(device, Device::Nic(_)));
    if let (Some((name, _)), Some(why)) = (first_nic, host.trouble(TAPS)) {
        say(spec.field("devices").field(name), why.to_owned());
    }
    for (name, device) in &instance.devices {
        let feature = match device {
            Device::Tpm(_) => TPM,
            other if is_passed(other) => PCI,
            other if is_served(other) => FOLDERS,
            _ => continue,
        };
        if let Some(why) = host.trouble(feature) {
            say(spec.field("devices").field(name), why.to_owned());
        }
    }
    let memory = instance
        .limits
        .memory
        .as_ref()
        .map_or(DEFAULT_MEMORY, |limit| limit.bytes(host.memory));
    // Zero: the host is not known.
    if memory > host.memory && host.memory > 0 {
        let has = ByteSize::from_bytes(host.memory >> 20 << 20);
        let wants = ByteSize::from_bytes(memory);
        let message =
            format!("its memory is {wants}, and this host has {has} for all that runs on it");
        say(limits.field("memory"), message);
    }
    let image = image(resource, instance, desired, host);
    // Where nothing is said the image decides, which may not be known yet.
    let mode = instance.boot.mode.or_else(|| {
        image.map(|image| match image.kernel {
            true => BootMode::Direct,
            false => BootMode::UefiSecureboot,
        })
    });
    let firmware = match mode {
        Some(BootMode::Uefi) => host.trouble(UEFI),
        Some(BootMode::UefiSecureboot) => host.trouble(UEFI_SECUREBOOT),
        Some(BootMode::Bios | BootMode::Direct) | None => None,
    };
    if let Some(why) = firmware {
        say(spec.field("boot").field("mode"), why.to_owned());
    }
    if mode == Some(BootMode::Direct) && image.is_some_and(|image| !image.kernel) {
        say(
            spec.field("boot").field("mode"),
            "its image has no kernel, which is what `direct` boots".to_owned(),
        );
    }
    if let Some(disk) = image.and_then(|image| image.disk)
        && let Some((
            name,
            Disk {
                size: Some(size), ..
            },
        )) = instance.root()
        && size.bytes() < disk
    {
        let needs = ByteSize::from_bytes(disk);
        say(
            spec.field("devices").field(name).field("size"),
            format!("the disk is {size}, and that of its image is {needs}: it cannot be smaller"),
        );
    }
    let Some(machines) = &host.machines else {
        return;
    };
    if let Some(usb) = &machines.usb {
        for (name, device) in &instance.devices {
            if let Device::Usb(wanted) = device
                && wanted.required
                && !usb.iter().any(|one| wanted.matches(one))
            {
                let there: Vec<String> = usb.iter().map(ToString::to_string).collect();
                let there = match there.is_empty() {
                    true => "it has none".to_owned(),
                    false => format!("there are {}", there.join(", ")),
                };
                let message = format!("no USB device of this host is such a one: {there}");
                say(spec.field("devices").field(name), message);
            }
        }
    }
    for size in instance.limits.hugepages.keys() {
        let Some(bytes) = size.parse::<ByteSize>().ok().map(|size| size.bytes()) else {
            continue;
        };
        let at = limits.field("hugepages").field(size);
        match machines.huge_pages.get(&bytes) {
            None => {
                let sizes = machines.huge_pages.keys();
                let sizes: Vec<String> = sizes
                    .map(|size| ByteSize::from_bytes(*size).to_string())
                    .collect();
                let there = match sizes.is_empty() {
                    true => "it has none".to_owned(),
                    false => format!("there are pages of {}", sizes.join(" and ")),
                };
                say(at, format!("this host has no pages of {size}: {there}"));
            }
            Some(_) if bytes > 0 && !memory.is_multiple_of(bytes) => say(
                at,
                format!(
                    "its memory of {} is no whole number of pages of {size}",
                    ByteSize::from_bytes(memory)
                ),
            ),
            Some(kept) if *kept < memory => say(
                at,
                format!(
                    "its memory of {} shall be in pages of {size}, and this host keeps {} in such: \
                     sysctl -w vm.nr_hugepages=… (for 2MiB), or hugepages=… on the kernel's command line",
                    ByteSize::from_bytes(memory),
                    ByteSize::from_bytes(*kept)
                ),
            ),
            Some(_) => {}
        }
    }
}

/// What is known of the image of a machine: by its document, and where that does not tell, by the store.
fn image(
    resource: &Resource,
    instance: &Instance,
    desired: &DesiredSet,
    host: &Capabilities,
) -> Option<MachineImageFacts> {
    let Some(ImageRef::Alias {
        remote: None,
        alias,
    }) = &instance.image
    else {
        // A machine without an image begins with an empty disk.
        return instance.image.is_none().then(MachineImageFacts::default);
    };
    let known = host.machines.as_ref();
    if let Some(facts) = known.and_then(|facts| facts.images.get(alias)) {
        return Some(*facts);
    }
    let own = Address::in_project(Kind::Image, resource.address.project_name(), alias);
    let declared = desired.resources.get(&own);
    let declared = declared.or_else(|| desired.resources.get(&Address::new(Kind::Image, alias)))?;
    match &declared.spec {
        Spec::Image(image) => Some(MachineImageFacts {
            disk: None,
            kernel: image.kernel.is_some(),
        }),
        _ => None,
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::feature::{MachineFacts, Missing};
    use crate::read::Texts;
    use crate::resolve::resolve;

    pub(in super::super) fn host() -> Capabilities {
        Capabilities {
            config_keys: BTreeMap::new(),
            engine: "native".to_owned(),
            host: String::new(),
            machine_id: None,
            state_id: String::new(),
            architecture: "x86_64".to_owned(),
            memory: 4 << 30,
            processors: 2,
            ceilings: BTreeMap::new(),
            missing: Vec::new(),
            machines: Some(MachineFacts {
                huge_pages: BTreeMap::from([(2 << 20, 64 << 20), (1 << 30, 0)]),
                images: BTreeMap::from([(
                    "stored".to_owned(),
                    MachineImageFacts {
                        disk: Some(3 << 30),
                        kernel: false,
                    },
                )]),
                ..MachineFacts::default()
            }),
        }
    }

    const WORLD: &str = "\
apiVersion: evenkeel/v1
kind: StoragePool
metadata: { name: fast }
---
apiVersion: evenkeel/v1
kind: Network
metadata: { name: lan }
spec: { ipv4: { address: 10.9.0.1/24 } }
---
apiVersion: evenkeel/v1
kind: Image
metadata: { name: tiny }
spec: { kernel: /boot/vmlinuz }
---
apiVersion: evenkeel/v1
kind: Image
metadata: { name: stored }
spec: { source: { file: /srv/disk.qcow2 } }
---
apiVersion: evenkeel/v1
kind: Instance
metadata: { name: one }
spec:
";

    /// What is beyond a host, as places and messages.
    pub(in super::super) fn found(spec: &str, host: &Capabilities) -> Vec<String> {
        let texts = Texts {
            root: "/".into(),
            files: vec![("a.yaml".to_owned(), format!("{WORLD}{spec}"))],
            ..Texts::default()
        };
        let resolved = resolve(&texts, None);
        let desired = resolved
            .desired
            .unwrap_or_else(|| panic!("{:?}", resolved.found));
        super::super::beyond(&desired, host)
            .sorted()
            .iter()
            .map(|one| format!("{} {} {}", one.origin, one.path, one.message))
            .collect()
    }

    #[test]
    fn what_fits_is_told_nothing() {
        for spec in [
            "  type: virtual-machine\n  image: tiny\n  limits: { memory: 4GiB }\n",
            "  type: virtual-machine\n  image: stored\n  devices: { root: { type: disk, path: /, pool: fast, size: 3GiB } }\n",
            "  type: virtual-machine\n  image: tiny\n  limits: { memory: 64MiB, hugepages: { 2MiB: 64MiB } }\n",
            // A container's limit is none that it must be able to reach.
            "  image: stored\n  limits: { memory: 64GiB }\n",
        ] {
            assert_eq!(found(spec, &host()), Vec::<String>::new(), "{spec}");
        }
        let unknown = Capabilities {
            memory: 0,
            machines: None,
            ..host()
        };
        let spec = "  type: virtual-machine\n  image: stored\n  limits: { memory: 64GiB, hugepages: { 2MiB: 64GiB } }\n";
        assert_eq!(found(spec, &unknown), Vec::<String>::new());
    }

    #[test]
    fn what_the_host_has_not_is_told_with_both_numbers() {
        let spec = "  type: virtual-machine\n  image: stored\n  \
                    limits: { memory: 8GiB, hugepages: { 2MiB: 64MiB, 1GiB: 1GiB, 4MiB: 1GiB } }\n  \
                    devices: { root: { type: disk, path: /, pool: fast, size: 1GiB } }\n";

        assert_eq!(
            found(spec, &host()),
            [
                "a.yaml:26 /spec/limits/memory its memory is 8GiB, and this host has 4GiB for all that runs on it",
                "a.yaml:26 /spec/limits/hugepages/2MiB its memory of 8GiB shall be in pages of 2MiB, and this host keeps 64MiB in such: sysctl -w vm.nr_hugepages=… (for 2MiB), or hugepages=… on the kernel's command line",
                "a.yaml:26 /spec/limits/hugepages/1GiB its memory of 8GiB shall be in pages of 1GiB, and this host keeps 0B in such: sysctl -w vm.nr_hugepages=… (for 2MiB), or hugepages=… on the kernel's command line",
                "a.yaml:26 /spec/limits/hugepages/4MiB this host has no pages of 4MiB: there are pages of 2MiB and 1GiB",
                "a.yaml:27 /spec/devices/root/size the disk is 1GiB, and that of its image is 3GiB: it cannot be smaller",
            ]
        );
    }

    #[test]
    fn what_is_missing_is_told_where_it_is_asked_for() {
        let lacks = |feature: &str| Capabilities {
            missing: vec![Missing {
                feature: feature.to_owned(),
                why: "absent".to_owned(),
            }],
            ..host()
        };
        let tiny = "  type: virtual-machine\n  image: tiny\n  devices: { eth0: { type: nic, network: lan } }\n";
        let stored = "  type: virtual-machine\n  image: stored\n";
        let served = "  type: virtual-machine\n  image: tiny\n  devices:\n    \
                      data: { type: disk, source: /srv, path: /srv }\n    tpm: { type: tpm }\n";
        let uefi = "  type: virtual-machine\n  image: stored\n  boot: { mode: uefi }\n";
        let cases = [
            (MACHINES, tiny, "a.yaml:24 /spec/type absent"),
            (ACCELERATOR, tiny, "a.yaml:24 /spec/type absent"),
            (TAPS, tiny, "a.yaml:26 /spec/devices/eth0 absent"),
            (FOLDERS, served, "a.yaml:27 /spec/devices/data absent"),
            (TPM, served, "a.yaml:28 /spec/devices/tpm absent"),
            (UEFI_SECUREBOOT, stored, "/spec/boot/mode absent"),
            (UEFI, uefi, "a.yaml:26 /spec/boot/mode absent"),
        ];
        for (feature, spec, wanted) in cases {
            let told = found(spec, &lacks(feature));
            assert!(
                matches!(told.as_slice(), [one] if one.ends_with(wanted)),
                "{feature}: {told:?}"
            );
        }
        for (feature, spec) in [(UEFI, stored), (UEFI_SECUREBOOT, tiny), (TAPS, stored)] {
            assert_eq!(
                found(spec, &lacks(feature)),
                Vec::<String>::new(),
                "{feature}"
            );
        }
    }
}
