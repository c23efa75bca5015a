//! What a machine is, written down with its saved state: with what it was started, and what was plugged in and taken out since.

use std::collections::BTreeSet;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use manifests::path_io::{self, AtPath as _, PathError};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::super::picks::InstancePicks;
use super::super::{io_failed, spec};
use super::around::{around, planned};
use super::monitor_failed;
use super::saved::{files_failed, state_failed};
use crate::error::{Class, RuntimeError};
use crate::native::definition::Definition;
use crate::native::host::Host;
use crate::native::machine::command_line::command_line;
use crate::native::machine::devices::{id, nodes};
use crate::native::machine::plan::{Bus, DiskPlan, Hardware, Incoming, NicPlan};
use crate::native::machine::qmp::Qmp;
use crate::native::machine::seen::{MachineSeen, Power, look};
use crate::native::machine::state;
use crate::native::shim::Running;
use crate::runtime::Context;

/// What the machine was.
pub(super) const RECORD: &str = "machine.json";

/// With what a machine was started, in its run folder.
const STARTED: &str = "hardware.json";

/// What is known of a saved state.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Record {
    format_version: u32,
    /// When it was saved.
    pub at: jiff::Timestamp,
    /// The machine.
    pub hardware: Hardware,
    /// The spec that it was started with.
    pub started_with: Option<Value>,
    /// How its disks were left.
    pub disks: Vec<Left>,
    /// Whether its processors ran: else somebody had frozen it.
    #[serde(default = "yes")]
    pub ran: bool,
}

const fn yes() -> bool {
    true
}

/// How a disk was left: whoever writes to it changes this.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Left {
    pub path: PathBuf,
    size: u64,
    seconds: i64,
    nanoseconds: i64,
}

pub(super) fn read_json<T: serde::de::DeserializeOwned>(
    path: &Path,
) -> Result<Option<T>, RuntimeError> {
    let text = path_io::read_if_exists(path).map_err(io_failed("read the saved state of"))?;
    text.map(|text| serde_json::from_str(&text))
        .transpose()
        .map_err(|error| {
            let why = format!("{} is broken: {error}", path.display());
            RuntimeError::new("read the saved state of", Class::NeedsOperator, why)
        })
}

pub(super) fn write_json(path: &Path, value: &impl Serialize) -> Result<(), RuntimeError> {
    let text = serde_json::to_vec(value)
        .map_err(|error| RuntimeError::new("save the state of", Class::Bug, error))?;
    path_io::write_durably(path, text).map_err(files_failed)
}

/// Keeps with what a machine is started, for whoever saves its state.
pub(super) fn keep_hardware(run_dir: &Path, hardware: &Hardware) -> Result<(), RuntimeError> {
    let begun = Hardware {
        incoming: None,
        ..hardware.clone()
    };
    let text = serde_json::to_vec(&begun)
        .map_err(|error| RuntimeError::new("start", Class::Bug, error))?;
    path_io::write_atomically(run_dir.join(STARTED), text).map_err(io_failed("start"))
}

/// The driver by which QEMU knows a disk.
const fn driver(disk: &DiskPlan) -> &'static str {
    match disk.bus {
        Bus::VirtioScsi if disk.cdrom => "scsi-cd",
        Bus::VirtioScsi => "scsi-hd",
        Bus::VirtioBlk => "virtio-blk-pci",
        Bus::Nvme => "nvme",
        Bus::Usb => "usb-storage",
    }
}

/// A machine as it is: what it was started with, and what was plugged in and taken out since. Pure.
fn as_it_is(
    started: &Hardware,
    planned: &Hardware,
    seen: &MachineSeen,
    incoming: Incoming,
) -> Result<Hardware, String> {
    let mut known: BTreeSet<String> = command_line(started)
        .arguments
        .iter()
        .filter_map(|word| serde_json::from_str::<Value>(word).ok())
        .filter_map(|device| Some(device["id"].as_str()?.to_owned()))
        .collect();
    known.extend(incoming.pieces.iter().map(|piece| piece.id.clone()));
    let mut disks: Vec<DiskPlan> = Vec::new();
    for disk in planned.disks.iter().chain(&started.disks) {
        let id = nodes(&disk.device).top;
        let is_it = seen
            .devices
            .get(&id)
            .is_some_and(|kind| kind == driver(disk));
        if is_it && disks.iter().all(|other| other.device != disk.device) {
            if seen.empty.contains(&id) {
                return Err(format!("the drive {} is open", disk.device));
            }
            disks.push(disk.clone());
        }
    }
    let mut nics = Vec::new();
    for nic in planned.nics.iter().chain(&started.nics) {
        let id = id("nic", &nic.device);
        let is_new = nics
            .iter()
            .all(|other: &NicPlan| other.device != nic.device);
        if seen.devices.contains_key(&id) && is_new {
            nics.push(nic.clone());
        }
    }
    known.retain(|id| !id.starts_with("disk-") && !id.starts_with("nic-"));
    known.extend(disks.iter().map(|disk| nodes(&disk.device).top));
    known.extend(nics.iter().map(|nic| id("nic", &nic.device)));
    let stranger = seen
        .devices
        .keys()
        .find(|id| !known.contains(*id) && !id.starts_with("cpu-"));
    if let Some(stranger) = stranger {
        return Err(format!(
            "somebody plugged {stranger} in, of which keel knows nothing"
        ));
    }
    let mut hardware = started.clone();
    (hardware.disks, hardware.nics) = (disks, nics);
    hardware.incoming = Some(incoming);
    Ok(hardware)
}

/// What a running machine is, as a record.
pub(super) fn record(
    host: &Host,
    definition: &Definition<InstancePicks>,
    running: &Running,
    qmp: &mut Qmp,
    context: &Context<'_>,
) -> Result<Record, RuntimeError> {
    let started: Hardware = read_json(&running.run_dir().join(STARTED))?.ok_or_else(|| {
        let why = "it was started by a keel that did not write down its hardware: restart it once";
        RuntimeError::new("save the state of", Class::Refused, why)
    })?;
    let instance = spec(definition)?;
    let planned =
        around(host, definition, instance).and_then(|around| planned(instance, around))?;
    let seen = look(qmp).map_err(monitor_failed("look at"))?;
    let places = state::places(qmp, &seen.devices).map_err(state_failed("look at"))?;
    let hardware = as_it_is(&started, &planned, &seen, places)
        .map_err(|why| RuntimeError::new("save the state of", Class::Refused, why))?;
    Ok(Record {
        format_version: 1,
        at: context.now,
        hardware,
        started_with: definition.picks.started_with.clone(),
        disks: Vec::new(),
        ran: seen.power() == Power::Running,
    })
}

pub(super) fn left(hardware: &Hardware) -> Result<Vec<Left>, PathError> {
    let written = hardware
        .disks
        .iter()
        .filter(|disk| !disk.read_only && !disk.file.device);
    written
        .map(|disk| {
            let path = disk.file.path.clone();
            let about = path.metadata().at("look at", &path)?;
            Ok(Left {
                size: about.len(),
                seconds: about.mtime(),
                nanoseconds: about.mtime_nsec(),
                path,
            })
        })
        .collect()
}

pub(super) fn left_one(path: &Path) -> Option<Left> {
    let about = path.metadata().ok()?;
    Some(Left {
        path: path.to_path_buf(),
        size: about.len(),
        seconds: about.mtime(),
        nanoseconds: about.mtime_nsec(),
    })
}
