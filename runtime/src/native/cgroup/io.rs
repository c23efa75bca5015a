//! Disks: a weight among instances (`blkio.bfq.weight`, `io.weight`, …) and limits of single devices
//! (`blkio.throttle.*` on v1, `io.max` on v2).

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use manifests::path_io;

use super::hierarchies::{Controller, Version};
use super::limits::{BlockDevice, DeviceIo, FileWrite, IoLimits, LimitPart, Seen};
use super::part::Part;
use super::snapshot::View;

pub(super) struct Disks;

/// The files' values.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Raw {
    /// Of the weight files that this kernel has: empty without BFQ and iocost.
    weights: BTreeMap<&'static str, u64>,
    devices: BTreeMap<BlockDevice, DeviceIo>,
}

/// Which file holds which limit on v1.
const V1_FILES: [(&str, Field); 4] = [
    ("blkio.throttle.read_bps_device", Field::ReadBytes),
    ("blkio.throttle.write_bps_device", Field::WriteBytes),
    ("blkio.throttle.read_iops_device", Field::ReadOperations),
    ("blkio.throttle.write_iops_device", Field::WriteOperations),
];

/// One of the four limits of a device.
#[derive(Debug, Clone, Copy)]
enum Field {
    ReadBytes,
    WriteBytes,
    ReadOperations,
    WriteOperations,
}

impl Field {
    fn get(self, io: &DeviceIo) -> Option<u64> {
        match self {
            Self::ReadBytes => io.read_bytes,
            Self::WriteBytes => io.write_bytes,
            Self::ReadOperations => io.read_operations,
            Self::WriteOperations => io.write_operations,
        }
    }

    fn set(self, io: &mut DeviceIo, value: u64) {
        let field = match self {
            Self::ReadBytes => &mut io.read_bytes,
            Self::WriteBytes => &mut io.write_bytes,
            Self::ReadOperations => &mut io.read_operations,
            Self::WriteOperations => &mut io.write_operations,
        };
        *field = Some(value);
    }
}

/// BFQ's and iocost's files; a kernel can have both, one or neither.
fn weight_files(version: Version) -> [&'static str; 2] {
    match version {
        Version::V1 => ["blkio.bfq.weight", "blkio.weight"],
        Version::V2 => ["io.bfq.weight", "io.weight"],
    }
}

/// As Incus: 100 a step; 0 is the smallest weight that all of the files take.
fn weight(priority: u8) -> u64 {
    match priority {
        0 => 10,
        other => u64::from(other) * 100,
    }
}

fn unweight(weight: u64) -> Option<u8> {
    (0..=10).find(|priority| self::weight(*priority) == weight)
}

/// The weight of a cgroup that nobody has set.
const DEFAULT_WEIGHT: u64 = 100;

/// The disk that the kernel throttles for a block device: the device itself, or the disk of a partition.
///
/// # Errors
/// The device is not in `/sys/dev/block`.
pub fn whole_disk(device: BlockDevice) -> Result<BlockDevice, path_io::PathError> {
    let folder = Path::new("/sys/dev/block").join(device.to_string());
    if path_io::read_if_exists(folder.join("partition"))?.is_none() {
        // Also an error where there is no such device.
        path_io::read_to_string(folder.join("dev"))?;
        return Ok(device);
    }
    // `dev` of the folder above: the link leads to …/sda/sda1.
    let text = path_io::read_to_string(folder.join("../dev"))?;
    Ok(BlockDevice::try_from(text).unwrap_or(device))
}

impl Part for Disks {
    type Meaning = IoLimits;
    type Raw = Raw;

    const PART: LimitPart = LimitPart::Io;
    const CONTROLLER: Controller = Controller::Io;

    fn files(view: &View<'_>) -> Vec<PathBuf> {
        let place = view.place;
        let mut files: Vec<PathBuf> = weight_files(place.version)
            .iter()
            .map(|name| place.instance.join(name))
            .collect();
        match place.version {
            Version::V1 => files.extend(V1_FILES.iter().map(|(name, _)| place.payload.join(name))),
            Version::V2 => files.push(place.payload.join("io.max")),
        }
        files
    }

    fn read(view: &View<'_>) -> Result<Raw, String> {
        let mut weights = BTreeMap::new();
        for name in weight_files(view.place.version) {
            if let Some(text) = view.instance(name)? {
                // One number, or `default N` with lines for devices below.
                let first = text.lines().next().unwrap_or_default();
                let number = first.strip_prefix("default ").unwrap_or(first);
                weights.insert(
                    name,
                    number
                        .parse()
                        .map_err(|_| format!("{name} says {first:?}"))?,
                );
            }
        }
        let mut devices: BTreeMap<BlockDevice, DeviceIo> = BTreeMap::new();
        match view.place.version {
            Version::V1 => {
                for (name, field) in V1_FILES {
                    for line in view.payload(name)?.unwrap_or_default().lines() {
                        let (device, value) = device_line(line)?;
                        let value = value.parse().map_err(|_| format!("{name} says {line:?}"))?;
                        field.set(devices.entry(device).or_default(), value);
                    }
                }
            }
            Version::V2 => {
                for line in view.payload("io.max")?.unwrap_or_default().lines() {
                    let (device, rest) = device_line(line)?;
                    let io = devices.entry(device).or_default();
                    for word in rest.split_whitespace() {
                        let (key, value) = word.split_once('=').unwrap_or((word, ""));
                        let field = match key {
                            "rbps" => Field::ReadBytes,
                            "wbps" => Field::WriteBytes,
                            "riops" => Field::ReadOperations,
                            "wiops" => Field::WriteOperations,
                            _ => continue,
                        };
                        if value != "max" {
                            let value =
                                value.parse().map_err(|_| format!("io.max says {line:?}"))?;
                            field.set(io, value);
                        }
                    }
                }
            }
        }
        devices.retain(|_, io| !io.is_unlimited());
        Ok(Raw { weights, devices })
    }

    fn encode(view: &View<'_>, meaning: &IoLimits, now: &Raw) -> Result<Raw, String> {
        if meaning.priority > 10 {
            return Err(format!(
                "priority {} is not between 0 and 10",
                meaning.priority
            ));
        }
        if now.weights.is_empty() && meaning.priority != IoLimits::default().priority {
            return Err("this kernel has no disk weights (BFQ or iocost)".to_owned());
        }
        let devices: BTreeMap<BlockDevice, DeviceIo> = meaning
            .devices
            .iter()
            .filter(|(_, io)| !io.is_unlimited())
            .map(|(device, io)| (*device, *io))
            .collect();
        if devices
            .values()
            .any(|io| V1_FILES.iter().any(|(_, field)| field.get(io) == Some(0)))
        {
            return Err("a limit of 0 is none to the kernel".to_owned());
        }
        let limits = match view.place.version {
            Version::V1 => V1_FILES[0].0,
            Version::V2 => "io.max",
        };
        if !devices.is_empty() && view.payload(limits)?.is_none() {
            return Err(
                "this kernel does not throttle disks (CONFIG_BLK_DEV_THROTTLING)".to_owned(),
            );
        }
        Ok(Raw {
            weights: now
                .weights
                .keys()
                .map(|name| (*name, weight(meaning.priority)))
                .collect(),
            devices,
        })
    }

    fn decode(_: &View<'_>, raw: &Raw) -> Seen<IoLimits> {
        let weights: BTreeSet<u64> = raw.weights.values().copied().collect();
        let priority = match (weights.first(), weights.len()) {
            (None, _) => IoLimits::default().priority,
            (Some(weight), 1) => match unweight(*weight) {
                Some(priority) => priority,
                None => return Seen::Other(format!("disk weight {weight}")),
            },
            _ => return Seen::Other(format!("disk weights {weights:?}")),
        };
        Seen::Known(IoLimits {
            priority,
            devices: raw.devices.clone(),
        })
    }

    fn writes(view: &View<'_>, from: &Raw, to: &Raw) -> Vec<FileWrite> {
        let place = view.place;
        let mut writes = Vec::new();
        for (name, weight) in &to.weights {
            if from.weights.get(name) != Some(weight) {
                writes.push(FileWrite {
                    undo: Some(
                        from.weights
                            .get(name)
                            .unwrap_or(&DEFAULT_WEIGHT)
                            .to_string(),
                    ),
                    ..FileWrite::file(place.instance.join(name), weight.to_string())
                });
            }
        }
        let unlimited = DeviceIo::default();
        let devices: BTreeSet<&BlockDevice> =
            from.devices.keys().chain(to.devices.keys()).collect();
        for device in devices {
            let old = from.devices.get(device).unwrap_or(&unlimited);
            let new = to.devices.get(device).unwrap_or(&unlimited);
            if old == new {
                continue;
            }
            match place.version {
                Version::V1 => writes.extend(
                    V1_FILES
                        .iter()
                        .filter(|(_, field)| field.get(old) != field.get(new))
                        .map(|(name, field)| {
                            let line = |io| format!("{device} {}", field.get(io).unwrap_or(0));
                            FileWrite {
                                undo: Some(line(old)),
                                ..FileWrite::file(place.payload.join(name), line(new))
                            }
                        }),
                ),
                Version::V2 => {
                    let line = |io: &DeviceIo| {
                        let word = |value: Option<u64>| super::snapshot::or_max(value);
                        format!(
                            "{device} rbps={} wbps={} riops={} wiops={}",
                            word(io.read_bytes),
                            word(io.write_bytes),
                            word(io.read_operations),
                            word(io.write_operations)
                        )
                    };
                    writes.push(FileWrite {
                        undo: Some(line(old)),
                        ..FileWrite::file(place.payload.join("io.max"), line(new))
                    });
                }
            }
        }
        writes
    }
}

/// `8:0 rest`.
fn device_line(line: &str) -> Result<(BlockDevice, &str), String> {
    let (device, rest) = line.split_once(' ').unwrap_or((line, ""));
    Ok((BlockDevice::try_from(device.to_owned())?, rest.trim()))
}
