//! Devices of a machine in QEMU's words: the same for its command line and for plugging them in while it runs. Pure.

use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};

use super::plan::{Bus, Cache, DiskFile, DiskLimits, DiskPlan, NicPlan};
use crate::native::disk_image::Format;

/// The machine's virtio-scsi controller.
pub const SCSI: &str = "scsi";
/// The machine's USB controller.
pub const USB: &str = "usb";
/// How many devices can be plugged in beside each other.
pub const PORTS: u32 = 16;
/// The name of the disk for cloud-init: no device of a manifest has one like it.
pub const SEED: &str = "cloud-init seed";
/// Longest name of a node is 31 bytes; seven are taken by what tells its nodes apart.
const LONGEST_ID: usize = 24;

/// The name of a port that devices are plugged into.
pub fn port(number: u32) -> String {
    format!("port{number}")
}

/// What QEMU calls a device of ours: `disk-data`, `nic-eth0`. The digest stands for a name that is too long or has letters
/// that QEMU does not take.
pub fn id(kind: &str, device: &str) -> String {
    let plain = format!("{kind}-{device}");
    let is_taken = |letter: u8| letter.is_ascii_alphanumeric() || b"-._".contains(&letter);
    if plain.len() <= LONGEST_ID && device.bytes().all(is_taken) {
        return plain;
    }
    let digest = Sha256::digest(device.as_bytes());
    let mut short = format!("{kind}--");
    for byte in digest.iter().take(8) {
        short.push_str(&format!("{byte:02x}"));
    }
    short
}

/// The names of the nodes of a disk, the one that the device uses first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Nodes {
    /// Where the limits hold.
    pub top: String,
    /// The format.
    pub format: String,
    /// The file.
    pub file: String,
    /// The format of the image below.
    pub backing: String,
    /// The file of the image below.
    pub backing_file: String,
    /// The group of the limits.
    pub group: String,
}

/// Those of a device.
pub fn nodes(device: &str) -> Nodes {
    nodes_of(id("disk", device))
}

/// Those of a disk that QEMU has under this name.
pub fn nodes_of(top: String) -> Nodes {
    Nodes {
        format: format!("{top}.q"),
        file: format!("{top}.f"),
        backing: format!("{top}.b"),
        backing_file: format!("{top}.bf"),
        group: format!("{top}.l"),
        top,
    }
}

fn file_node(name: &str, disk: &DiskFile, set: u32, cache: Cache, read_only: bool) -> Value {
    let mut node = json!({
        "driver": if disk.device { "host_device" } else { "file" },
        "node-name": name,
        "filename": format!("/dev/fdset/{set}"),
        "read-only": read_only,
        "auto-read-only": false,
        "discard": "unmap",
        "aio": "threads",
    });
    cached(&mut node, cache);
    node
}

fn cached(node: &mut Value, cache: Cache) {
    node["cache"] = json!({
        "direct": cache == Cache::Direct,
        "no-flush": cache == Cache::Unsafe,
    });
}

fn format_node(name: &str, format: Format, file: &str, read_only: bool) -> Value {
    json!({
        "driver": format.word(),
        "node-name": name,
        "file": file,
        "read-only": read_only,
        "discard": "unmap",
    })
}

/// The node of a layer of a disk.
pub fn layer_node(top: &str, layer: u32) -> String {
    match layer {
        0 => format!("{top}.q"),
        layer => format!("{top}.s{layer}"),
    }
}

/// A layer that a machine gets while it runs, or one below what it writes to: its file has no name of its own.
pub fn layer(top: &str, number: u32, set: u32, cache: Cache, read_only: bool) -> Value {
    let mut file = json!({
        "driver": "file",
        "filename": format!("/dev/fdset/{set}"),
        "discard": "unmap",
        "aio": "threads",
    });
    if read_only {
        // It may be written to once more, by another descriptor: with the locks of the first that would be another's.
        file["locking"] = json!("off");
    }
    cached(&mut file, cache);
    let mut node = json!({
        "driver": Format::Qcow2.word(),
        "node-name": layer_node(top, number),
        "file": file,
        "read-only": read_only,
        "auto-read-only": false,
        "discard": "unmap",
        // Whatever the file says.
        "backing": Value::Null,
    });
    cached(&mut node, cache);
    node
}

/// The sets in which QEMU finds the descriptors of a disk.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DiskSets {
    /// Of what is written to.
    pub active: u32,
    /// Of the layers below it, in their order.
    pub below: Vec<u32>,
    /// Of the image.
    pub image: Option<u32>,
}

/// The nodes of a disk, those below first.
pub fn disk_nodes(disk: &DiskPlan, sets: &DiskSets) -> Vec<Value> {
    let names = nodes(&disk.device);
    let mut all = Vec::new();
    let own = layer_node(&names.top, disk.layers.active);
    let mut format = format_node(&own, disk.file.format, &names.file, disk.read_only);
    cached(&mut format, disk.cache);
    let (set, backing_set) = (sets.active, sets.image);
    let mut below = None;
    if let (Some(backing), Some(set)) = (&disk.backing, backing_set) {
        // Shared by all machines that were made from it: worth keeping in the host's memory.
        let cache = Cache::Writeback;
        all.push(file_node(&names.backing_file, backing, set, cache, true));
        all.push(format_node(
            &names.backing,
            backing.format,
            &names.backing_file,
            true,
        ));
        below = Some(names.backing.clone());
    }
    for ((number, _), set) in disk.layers.below.iter().zip(&sets.below).rev() {
        let mut node = layer(&names.top, *number, *set, disk.cache, true);
        node["backing"] = json!(below);
        below = Some(layer_node(&names.top, *number));
        all.push(node);
    }
    if below.is_some() || disk.file.format == Format::Qcow2 {
        // Whatever the file says.
        format["backing"] = json!(below);
    }
    all.push(file_node(
        &names.file,
        &disk.file,
        set,
        disk.cache,
        disk.read_only,
    ));
    all.push(format);
    let mut top = json!({
        "driver": "throttle",
        "node-name": names.top,
        "throttle-group": names.group,
        "file": own,
        "read-only": disk.read_only,
        "discard": "unmap",
    });
    cached(&mut top, disk.cache);
    all.push(top);
    all
}

/// The limits of a throttle group in QEMU's words (`ThrottleLimits` of `qapi/block-core.json`); 0 is none.
pub fn throttle_limits(limits: &DiskLimits) -> Map<String, Value> {
    let all = [
        ("bps-total", limits.bytes),
        ("bps-read", limits.bytes_read),
        ("bps-write", limits.bytes_written),
        ("iops-total", limits.operations),
        ("iops-read", limits.operations_read),
        ("iops-write", limits.operations_written),
    ];
    all.into_iter()
        .map(|(key, value)| (key.to_owned(), json!(value.unwrap_or(0))))
        .collect()
}

/// Reads what [`throttle_limits`] wrote and QEMU tells.
pub fn limits_of(limits: &Value) -> DiskLimits {
    let one = |key: &str| limits[key].as_u64().filter(|value| *value > 0);
    DiskLimits {
        bytes: one("bps-total"),
        bytes_read: one("bps-read"),
        bytes_written: one("bps-write"),
        operations: one("iops-total"),
        operations_read: one("iops-read"),
        operations_written: one("iops-write"),
    }
}

/// The group of a disk's limits, as an object.
pub fn throttle_group(disk: &DiskPlan) -> Value {
    json!({
        "qom-type": "throttle-group",
        "id": nodes(&disk.device).group,
        "limits": throttle_limits(&disk.limits),
    })
}

/// The device itself. `port` is where it is plugged in, unless it is at a controller.
pub fn disk_device(disk: &DiskPlan, port: Option<&str>) -> Value {
    let names = nodes(&disk.device);
    let mut device = json!({
        "id": names.top,
        "drive": names.top,
    });
    // What the guest sees in /dev/disk/by-id: the name of the device, as long as it may be.
    let serial: String = disk.device.chars().take(20).collect();
    match disk.bus {
        Bus::VirtioScsi => {
            device["driver"] = json!(if disk.cdrom { "scsi-cd" } else { "scsi-hd" });
            device["bus"] = json!(format!("{SCSI}.0"));
            device["serial"] = json!(serial);
        }
        Bus::VirtioBlk => {
            device["driver"] = json!("virtio-blk-pci");
            device["serial"] = json!(serial);
        }
        Bus::Nvme => {
            device["driver"] = json!("nvme");
            device["serial"] = json!(serial);
        }
        Bus::Usb => {
            device["driver"] = json!("usb-storage");
            device["bus"] = json!(format!("{USB}.0"));
            device["removable"] = json!(true);
            device["serial"] = json!(serial);
        }
    }
    if let (Bus::VirtioBlk | Bus::Nvme, Some(port)) = (disk.bus, port) {
        device["bus"] = json!(port);
    }
    if let Some(index) = disk.boot_index {
        device["bootindex"] = json!(index);
    }
    device
}

/// Whether a disk takes a port for itself.
pub const fn takes_port(bus: Bus) -> bool {
    matches!(bus, Bus::VirtioBlk | Bus::Nvme)
}

/// The host's side of a network interface; `descriptor` is the number or name of the tap's.
pub fn nic_backend(nic: &NicPlan, descriptor: &str) -> Value {
    json!({
        "type": "tap",
        "id": id("net", &nic.device),
        "fd": descriptor,
        "vhost": false,
    })
}

/// The guest's side of a network interface.
pub fn nic_device(nic: &NicPlan, port: &str) -> Value {
    let mut device = json!({
        "driver": "virtio-net-pci",
        "id": id("nic", &nic.device),
        "netdev": id("net", &nic.device),
        "mac": nic.hwaddr,
        "bus": port,
        // No program for booting from the network.
        "romfile": "",
    });
    if let Some(mtu) = nic.mtu {
        device["host_mtu"] = json!(mtu);
    }
    device
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_fit_and_differ() {
        assert_eq!(id("disk", "root"), "disk-root");
        let long = "a".repeat(64);
        let other = format!("{}b", "a".repeat(63));
        assert_ne!(id("disk", &long), id("disk", &other));
        for name in [long.as_str(), "a", "x.y_z-1", &"q".repeat(23), SEED] {
            let names = nodes(name);
            for name in [
                names.top,
                names.format,
                names.file,
                names.backing,
                names.backing_file,
            ] {
                assert!(name.len() <= 31, "{name}");
                assert!(name.starts_with(|letter: char| letter.is_ascii_alphabetic()));
                assert!(
                    name.chars()
                        .all(|c| c.is_ascii_alphanumeric() || "-._".contains(c))
                );
            }
        }
    }

    #[test]
    fn limits_are_read_as_they_are_written() {
        let limits = DiskLimits {
            bytes: Some(100),
            operations_read: Some(7),
            ..DiskLimits::default()
        };
        assert_eq!(limits_of(&Value::Object(throttle_limits(&limits))), limits);
    }
}
