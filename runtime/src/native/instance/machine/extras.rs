//! Parts of a machine that no manifest names: somebody plugged them in by a monitor, or a guest did not let go of them when
//! they were taken out of git. They are told as devices, so that a plan takes them out.

use std::collections::{BTreeMap, BTreeSet};

use manifests::devices::Device;
use manifests::kinds::instance::Instance;

use super::usb;
use crate::native::machine::devices::{SEED, id};
use crate::native::machine::helpers::{FOLDER, TPM};
use crate::native::machine::seen::MachineSeen;
use crate::native::shim::Running;

/// What QEMU's names of parts begin with that keel plugs in while a machine runs.
const PLUGGED: [&str; 2] = ["disk", "nic"];

/// A part that no manifest names.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::native::instance) struct Extra {
    /// QEMU's name of it; a path where it has none.
    pub id: String,
    /// What QEMU calls its kind: `usb-tablet`.
    pub driver: String,
    /// The same in the words of manifests, as far as those go.
    pub device: Device,
}

/// The parts of a running machine that `instance` does not name, by the names under which they are told.
pub(in crate::native::instance) fn extras(
    instance: &Instance,
    seen: &MachineSeen,
    running: &Running,
) -> BTreeMap<String, Extra> {
    match running.read("cmdline") {
        Ok(line) => among(instance, seen, &parts_of(&line)),
        // It has ended since.
        Err(_) => BTreeMap::new(),
    }
}

/// The names of the parts that a machine was begun with.
pub(super) fn began_with(running: &Running) -> BTreeSet<String> {
    running
        .read("cmdline")
        .map_or_else(|_| BTreeSet::new(), |line| parts_of(&line))
}

impl Extra {
    /// A sentence for people.
    pub(in crate::native::instance) fn why(&self) -> String {
        let driver = &self.driver;
        match PLUGGED.into_iter().any(|kind| is_of(kind, &self.id)) {
            true => format!(
                "no manifest has this {driver} any more, and its guest has not let go of it yet: the next apply asks it \
                 again, and a restart takes it out"
            ),
            false => format!("no manifest has this {driver}: it was plugged in by hand"),
        }
    }
}

/// Whether a part has a name that keel gives to parts of this kind.
fn is_of(kind: &str, part: &str) -> bool {
    part.strip_prefix(kind)
        .is_some_and(|rest| rest.starts_with('-'))
}

/// The names of the parts on a command line, as the kernel has it: what a machine was started with was asked for.
fn parts_of(line: &str) -> BTreeSet<String> {
    let words: Vec<&str> = line.split('\0').collect();
    let part = |pair: &[&str]| {
        let &["-device", what] = pair else {
            return None;
        };
        let what: serde_json::Value = serde_json::from_str(what).ok()?;
        Some(what["id"].as_str()?.to_owned())
    };
    words.windows(2).filter_map(part).collect()
}

/// As [`extras`]: pure.
fn among(
    instance: &Instance,
    seen: &MachineSeen,
    began_with: &BTreeSet<String>,
) -> BTreeMap<String, Extra> {
    let named: BTreeSet<String> = instance
        .devices
        .keys()
        .flat_map(|name| PLUGGED.map(|kind| id(kind, name)))
        .chain([id("disk", SEED)])
        .collect();
    let is_extra = |(part, driver): &(&String, &String)| {
        // Memory and processors are told by how much and how many there are.
        if *driver == "pc-dimm" || driver.ends_with("-cpu") {
            return false;
        }
        let is_of = |kind: &str| is_of(kind, part);
        // It may have been started with what was taken out of git since.
        match PLUGGED.into_iter().any(is_of) {
            true => !named.contains(*part),
            // What is served goes with the next start; of USB devices of the host more is told elsewhere.
            false => {
                !began_with.contains(*part)
                    && ![FOLDER, TPM].into_iter().any(is_of)
                    && !usb::is_named(instance, part)
            }
        }
    };
    let mut extras: BTreeMap<String, Extra> = BTreeMap::new();
    for (part, driver) in seen.devices.iter().filter(is_extra) {
        let name = name_of(part);
        let is_taken =
            |name: &String| instance.devices.contains_key(name) || extras.contains_key(name);
        let name = match is_taken(&name) {
            false => Some(name),
            true => (2_u32..)
                .map(|number| format!("{name}-{number}"))
                .find(|name| !is_taken(name)),
        };
        let extra = Extra {
            id: part.clone(),
            driver: driver.clone(),
            device: device_of(driver),
        };
        extras.extend(name.map(|name| (name, extra)));
    }
    extras
}

/// The name under which a part is told: that of its device where it was one of git's, else QEMU's own, in letters that
/// names of devices have.
fn name_of(part: &str) -> String {
    for kind in PLUGGED {
        if let Some(name) = part
            .strip_prefix(kind)
            .and_then(|rest| rest.strip_prefix('-'))
            && id(kind, name) == part
        {
            return name.to_owned();
        }
    }
    // One without a name has a path: `/machine/peripheral-anon/device[0]`.
    let last = part.rsplit('/').next().unwrap_or(part);
    let plain = |letter: char| match letter {
        _ if letter.is_ascii_alphanumeric() || "-._".contains(letter) => letter,
        _ => '-',
    };
    let plain: String = last.chars().map(plain).collect();
    plain.trim_matches('-').to_owned()
}

/// A kind of QEMU's in the words of manifests: as near as they come.
fn device_of(driver: &str) -> Device {
    let begins = |with: &[&str]| with.iter().any(|word| driver.starts_with(word));
    if begins(&[
        "scsi-",
        "virtio-blk",
        "nvme",
        "ide-",
        "usb-storage",
        "usb-uas",
    ]) {
        Device::Disk(Box::default())
    } else if begins(&[
        "virtio-net",
        "e1000",
        "igb",
        "rtl8139",
        "vmxnet3",
        "usb-net",
    ]) {
        Device::Nic(Box::default())
    } else if begins(&["usb-"]) {
        Device::Usb(Box::default())
    } else {
        Device::Pci(Box::default())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::native::machine::qmp::RunState;

    fn seen(parts: &[(&str, &str)]) -> MachineSeen {
        MachineSeen {
            state: RunState::Running,
            processors: 1,
            memory: None,
            balloon: None,
            devices: parts
                .iter()
                .map(|(id, driver)| ((*id).to_owned(), (*driver).to_owned()))
                .collect(),
            nodes: BTreeMap::new(),
            empty: Vec::new(),
            limits: BTreeMap::new(),
            agent: false,
        }
    }

    #[test]
    fn what_nobody_asked_for_is_told_and_nothing_else() {
        let long = "a".repeat(64);
        let written = serde_json::json!({"type": "virtual-machine", "devices": {
            "root": {"type": "disk", "path": "/"},
            "eth0": {"type": "nic"},
            "tablet": {"type": "nic"},
            long.as_str(): {"type": "disk", "source": "/srv/x"},
        }});
        let instance: Instance = serde_json::from_value(written).expect("an instance");
        let line = "qemu\0-device\0{\"driver\":\"qemu-xhci\",\"id\":\"usb\"}\0-device\0{\"id\":\"disk-kept\"}\0-name\0-device\0";
        let ours = [
            ("usb", "qemu-xhci"),
            ("disk-root", "scsi-hd"),
            ("nic-eth0", "virtio-net-pci"),
            ("folder-data", "vhost-user-fs-pci"),
            ("tpm-tpm", "tpm-crb"),
            ("dimm-0", "pc-dimm"),
            ("cpu-1", "max-x86_64-cpu"),
        ];
        let (seed, of_long) = (id("disk", SEED), id("disk", &long));
        let more = [
            (seed.as_str(), "scsi-cd"),
            (of_long.as_str(), "scsi-hd"),
            // Once of git, and one of them since the start.
            ("disk-gone", "usb-storage"),
            ("disk-kept", "scsi-hd"),
            ("tablet", "usb-tablet"),
            ("/machine/peripheral-anon/device[0]", "e1000e"),
            ("random2", "virtio-rng-pci"),
        ];
        let all: Vec<_> = ours.into_iter().chain(more).collect();
        let found = among(&instance, &seen(&all), &parts_of(line));
        let found: Vec<_> = found
            .iter()
            .map(|(name, one)| (name.as_str(), one.id.as_str(), one.device.word()))
            .collect();
        assert_eq!(
            found,
            [
                ("device-0", "/machine/peripheral-anon/device[0]", "nic"),
                ("gone", "disk-gone", "disk"),
                ("kept", "disk-kept", "disk"),
                ("random2", "random2", "pci"),
                ("tablet-2", "tablet", "usb"),
            ]
        );
    }
}
