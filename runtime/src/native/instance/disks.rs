//! Limits of disks in the words of manifests and in those of block devices, both ways.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use manifests::devices::disk::{DiskLimits, DiskSource};
use manifests::devices::{Device, Disk};
use manifests::kinds::instance::Instance;
use manifests::scalar::byte_size::ByteSize;
use manifests::scalar::rate::DiskRate;

use crate::native::cgroup::io::whole_disk;
use crate::native::cgroup::limits::{BlockDevice, DeviceIo};

/// The block devices on which the disks of an instance lie, by device name; a reason where the kernel has none that it
/// could throttle.
pub(super) type Places = BTreeMap<String, Result<BlockDevice, String>>;

/// Finds the block devices. `root` is the folder in which the root's files are.
pub(super) fn places(instance: &Instance, root: Option<&Path>) -> Places {
    disks(instance)
        .filter_map(|(name, disk)| {
            let path = match disk.made_of() {
                DiskSource::Root => root?.to_path_buf(),
                DiskSource::Host(path) => PathBuf::from(path),
                DiskSource::Tmpfs | DiskSource::Volume { .. } | DiskSource::Other(_) => {
                    return None;
                }
            };
            Some((name.to_owned(), place(&path)))
        })
        .collect()
}

fn place(path: &Path) -> Result<BlockDevice, String> {
    let stat = rustix::fs::stat(path).map_err(|error| format!("{}: {error}", path.display()))?;
    let device = BlockDevice {
        major: rustix::fs::major(stat.st_dev),
        minor: rustix::fs::minor(stat.st_dev),
    };
    // Memory, network and pooled file systems have anonymous numbers.
    if device.major == 0 {
        return Err(format!(
            "{} lies on no block device of its own that the kernel could throttle",
            path.display()
        ));
    }
    whole_disk(device).map_err(|error| format!("{error}: {}", error.source))
}

fn disks(instance: &Instance) -> impl Iterator<Item = (&str, &Disk)> {
    instance
        .devices
        .iter()
        .filter_map(|(name, device)| Some((name.as_str(), device.as_disk()?)))
}

/// Whether any disk has limits.
pub(super) fn are_limited(instance: &Instance) -> bool {
    disks(instance).any(|(_, disk)| disk.limits != DiskLimits::default())
}

/// What the kernel is asked for, by block device. Of several disks on one device the tightest limit counts.
pub(super) fn wanted(instance: &Instance, places: &Places) -> BTreeMap<BlockDevice, DeviceIo> {
    let mut wanted: BTreeMap<BlockDevice, DeviceIo> = BTreeMap::new();
    for (name, disk) in disks(instance) {
        let Some(Ok(device)) = places.get(name) else {
            continue;
        };
        let io = io(&disk.limits);
        if io == DeviceIo::default() {
            continue;
        }
        let all = wanted.entry(*device).or_default();
        let tightest = |a: Option<u64>, b: Option<u64>| a.into_iter().chain(b).min();
        *all = DeviceIo {
            read_bytes: tightest(all.read_bytes, io.read_bytes),
            write_bytes: tightest(all.write_bytes, io.write_bytes),
            read_operations: tightest(all.read_operations, io.read_operations),
            write_operations: tightest(all.write_operations, io.write_operations),
        };
    }
    wanted
}

/// Why the limits of a disk cannot be put in force, by device name.
pub(super) fn impossible(instance: &Instance, places: &Places) -> Vec<String> {
    disks(instance)
        .filter(|(_, disk)| disk.limits != DiskLimits::default())
        .filter_map(|(name, _)| {
            let why = match places.get(name) {
                Some(Ok(_)) => return None,
                Some(Err(why)) => why.as_str(),
                None => "it is no disk that the kernel could throttle",
            };
            Some(format!("devices.{name}.limits: {why}"))
        })
        .collect()
}

fn io(limits: &DiskLimits) -> DeviceIo {
    // What `read` and `write` leave open, `max` says.
    let bytes = |one: &Option<DiskRate>| {
        let all = [one, &limits.max].into_iter().flatten();
        all.filter_map(|rate| rate.bytes.as_ref())
            .map(ByteSize::bytes)
            .next()
    };
    let operations = |one: &Option<DiskRate>| {
        let mut all = [one, &limits.max].into_iter().flatten();
        all.find_map(|rate| rate.operations)
    };
    DeviceIo {
        read_bytes: bytes(&limits.read),
        write_bytes: bytes(&limits.write),
        read_operations: operations(&limits.read),
        write_operations: operations(&limits.write),
    }
}

/// Puts what the kernel says over what was meant; limits that are as meant keep their spelling.
pub(super) fn overlay(
    instance: &mut Instance,
    places: &Places,
    seen: &BTreeMap<BlockDevice, DeviceIo>,
) {
    let meant = wanted(instance, places);
    let none = DeviceIo::default();
    for (name, device) in places {
        let Ok(device) = device else { continue };
        let there = seen.get(device).unwrap_or(&none);
        if meant.get(device).unwrap_or(&none) == there {
            continue;
        }
        let Some(Device::Disk(disk)) = instance.devices.get_mut(name) else {
            continue;
        };
        let rate = |bytes: Option<u64>, operations: Option<u64>| {
            (bytes.is_some() || operations.is_some()).then(|| DiskRate {
                bytes: bytes.map(ByteSize::from_bytes),
                operations,
            })
        };
        disk.limits = DiskLimits {
            read: rate(there.read_bytes, there.read_operations),
            write: rate(there.write_bytes, there.write_operations),
            max: None,
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn instance(root: &serde_json::Value, data: &serde_json::Value) -> Instance {
        serde_json::from_value(json!({"devices": {
            "root": {"type": "disk", "path": "/", "pool": "p", "limits": root},
            "data": {"type": "disk", "path": "/data", "source": "/srv", "limits": data},
        }}))
        .expect("an instance")
    }

    const SDA: BlockDevice = BlockDevice { major: 8, minor: 0 };

    fn on_one() -> Places {
        ["root", "data"]
            .map(|name| (name.to_owned(), Ok(SDA)))
            .into()
    }

    #[test]
    fn words_become_limits_of_a_device_and_the_tightest_counts() {
        let both = instance(
            &json!({"read": "10MB", "max": "500iops"}),
            &json!({"max": "5MB,800iops"}),
        );
        let io = wanted(&both, &on_one())[&SDA];
        assert_eq!(
            io,
            DeviceIo {
                read_bytes: Some(5_000_000),
                write_bytes: Some(5_000_000),
                read_operations: Some(500),
                write_operations: Some(500),
            }
        );
        assert_eq!(
            wanted(&instance(&json!({}), &json!({})), &on_one()).len(),
            0
        );
    }

    #[test]
    fn what_is_as_meant_keeps_its_words_and_the_rest_shows() {
        let meant = instance(&json!({"max": "5MB"}), &json!({}));
        let mut seen = meant.clone();
        let mut kernel = wanted(&meant, &on_one());
        overlay(&mut seen, &on_one(), &kernel);
        assert_eq!(seen, meant);
        kernel.get_mut(&SDA).expect("limited").read_bytes = None;
        overlay(&mut seen, &on_one(), &kernel);
        let root = seen.devices["root"].as_disk().expect("a disk");
        assert_eq!(root.limits.read, None);
        assert_eq!(
            root.limits.write.as_ref().map(ToString::to_string),
            Some("5MB".to_owned())
        );
    }

    #[test]
    fn what_cannot_be_throttled_is_told() {
        let one = instance(&json!({"read": "1MB"}), &json!({}));
        let places = [("root".to_owned(), Err("memory".to_owned()))].into();
        assert_eq!(impossible(&one, &places), ["devices.root.limits: memory"]);
    }
}
