//! The saved state of a machine: written when it is stopped with its state, and taken over by its next start.
//!
//! ```text
//! VOLUME/saved/machine.json   what the machine was, and how its disks were left
//!             /memory         its state, as QEMU wrote it
//!             /cloud-init.img the disk for cloud-init that it saw, where there was one
//! VOLUME/saved.new/…          one that is being written
//! ```
//! The folder gets its name when QEMU has said that the state is whole and all of it is on disk: a half one is never
//! taken for one. A state counts as long as its disks are as they were left; it is removed when the guest runs.

use std::collections::BTreeSet;
use std::fs::File;
use std::os::fd::AsFd as _;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use manifests::instance::savable::unsavable;
use manifests::kinds::instance::Instance;
use manifests::path_io::{self, AtPath as _, PathError};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::super::picks::InstancePicks;
use super::super::start::after_stop;
use super::super::{io_failed, pool_of, shim_failed, spec};
use super::{LEAVING, around, connect_failed, control, monitor_failed, planned};
use crate::error::{Class, RuntimeError};
use crate::native::definition::Definition;
use crate::native::host::Host;
use crate::native::machine::command_line::command_line;
use crate::native::machine::devices::{SEED, id, nodes};
use crate::native::machine::plan::{Bus, DiskPlan, Hardware, Incoming};
use crate::native::machine::qmp::{Qmp, RunState};
use crate::native::machine::seen::{MachineSeen, look};
use crate::native::machine::state::{self, Progress, StateError};
use crate::native::pools::root_volume;
use crate::native::shim::Running;
use crate::runtime::Context;
use crate::sys::remove_tree::remove_tree;

/// A whole one.
const SAVED: &str = "saved";
/// One that is being written.
const NEW: &str = "saved.new";
/// What the machine was.
const RECORD: &str = "machine.json";
/// Its state.
const MEMORY: &str = "memory";
/// The disk for cloud-init.
const SEED_FILE: &str = "cloud-init.img";
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
    disks: Vec<Left>,
}

/// How a disk was left: whoever writes to it changes this.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Left {
    path: PathBuf,
    size: u64,
    seconds: i64,
    nanoseconds: i64,
}

fn state_failed(doing: &'static str) -> impl Fn(StateError) -> RuntimeError {
    move |error| {
        let class = match &error {
            StateError::Monitor(_) | StateError::Stalled(_) => Class::Retry,
            StateError::Failed(_) | StateError::NoPlace(_) => Class::NeedsOperator,
        };
        RuntimeError::new(doing, class, error)
    }
}

fn files_failed(error: PathError) -> RuntimeError {
    RuntimeError::new("save the state of", Class::NeedsOperator, error)
}

/// Makes the memory of a snapshot the saved state of its machine, whose disk is as it was then.
pub(super) fn of_snapshot(
    volume: &Path,
    snapshot: &Path,
    disk: &Path,
    instance: &Instance,
) -> Result<(), RuntimeError> {
    const DOING: &str = "restore the memory of";
    let failed = io_failed::<PathError>;
    let new = volume.join(NEW);
    remove(&new)?;
    path_io::create_dir_all(&new).map_err(failed(DOING))?;
    // It is only read, and stays with the snapshot.
    let (from, to) = (snapshot.join(MEMORY), new.join(MEMORY));
    std::fs::hard_link(&from, &to)
        .at("link to", &to)
        .map_err(failed(DOING))?;
    let seed = snapshot.join(SEED_FILE);
    if seed.exists() {
        let bytes = path_io::read(&seed).map_err(failed(DOING))?;
        path_io::write_durably(new.join(SEED_FILE), bytes).map_err(failed(DOING))?;
    }
    let record: Option<Record> = read_json(&snapshot.join(RECORD))?;
    let mut record = record.ok_or_else(|| {
        RuntimeError::new(
            DOING,
            Class::NeedsOperator,
            "its snapshot has no record of its hardware",
        )
    })?;
    let root = instance.root().map(|(name, _)| name);
    for one in &mut record.hardware.disks {
        if Some(one.device.as_str()) == root {
            one.file.path = disk.to_path_buf();
        }
    }
    whole(volume, record)
}

/// The folder of a machine's volume; none where it has no disk of ours.
fn volume(host: &Host, definition: &Definition<InstancePicks>) -> Option<PathBuf> {
    let (_, driver) = pool_of(host, &definition.picks.pool).ok()?;
    driver.placed(&root_volume(&definition.uid))
}

fn remove(folder: &Path) -> Result<(), RuntimeError> {
    match folder.exists() {
        true => remove_tree(folder)
            .map_err(|error| RuntimeError::new("remove the saved state of", Class::Retry, error)),
        false => Ok(()),
    }
}

/// Gives up a saved state, and one that is being written.
pub(super) fn forget(
    host: &Host,
    definition: &Definition<InstancePicks>,
) -> Result<(), RuntimeError> {
    let Some(volume) = volume(host, definition) else {
        return Ok(());
    };
    // First loses its name what could be taken for a whole one.
    let (whole, new) = (volume.join(SAVED), volume.join(NEW));
    remove(&new)?;
    if whole.exists() {
        path_io::rename(&whole, &new).map_err(io_failed("remove the saved state of"))?;
    }
    remove(&new)
}

/// When a state was saved and how many bytes it has; none: there is none.
pub(in crate::native::instance) fn told(
    host: &Host,
    definition: &Definition<InstancePicks>,
) -> Option<(jiff::Timestamp, u64)> {
    let folder = volume(host, definition)?.join(SAVED);
    let record: Record = read_json(&folder.join(RECORD)).ok()??;
    let bytes = folder.join(MEMORY).metadata().ok()?.len();
    Some((record.at, bytes))
}

fn read_json<T: serde::de::DeserializeOwned>(path: &Path) -> Result<Option<T>, RuntimeError> {
    let text = path_io::read_if_exists(path).map_err(io_failed("read the saved state of"))?;
    text.map(|text| serde_json::from_str(&text))
        .transpose()
        .map_err(|error| {
            let why = format!("{} is broken: {error}", path.display());
            RuntimeError::new("read the saved state of", Class::NeedsOperator, why)
        })
}

fn write_json(path: &Path, value: &impl Serialize) -> Result<(), RuntimeError> {
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
            .all(|other: &super::NicPlan| other.device != nic.device);
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

/// Why the state of a machine cannot be saved at all.
pub(super) fn refuse_unsavable(definition: &Definition<InstancePicks>) -> Result<(), RuntimeError> {
    let refused = |why: String| RuntimeError::new("save the state of", Class::Refused, why);
    let instance = spec(definition)?;
    if instance.is_container() {
        let why = "it is a container, and only machines can be saved with their memory yet";
        return Err(RuntimeError::new(
            "save the state of",
            Class::Unsupported,
            why,
        ));
    }
    if instance.ephemeral {
        return Err(refused(
            "it is ephemeral: nothing of it outlives its stop".to_owned(),
        ));
    }
    match unsavable(instance).next() {
        Some(one) => Err(refused(format!(
            "devices.{} is {}, whose state cannot be saved: {}",
            one.device, one.what, one.hint
        ))),
        None => Ok(()),
    }
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
    })
}

/// Writes the state of a machine whose processors are stopped into a new folder, all of it onto the disk.
pub(super) fn write(folder: &Path, record: &Record, qmp: &mut Qmp) -> Result<(), RuntimeError> {
    remove(folder)?;
    path_io::create_dir_all(folder).map_err(files_failed)?;
    let seed = record
        .hardware
        .disks
        .iter()
        .find(|disk| disk.device == SEED);
    if let Some(seed) = seed {
        let bytes = path_io::read(&seed.file.path).map_err(files_failed)?;
        path_io::write_durably(folder.join(SEED_FILE), bytes).map_err(files_failed)?;
    }
    write_json(&folder.join(RECORD), record)?;
    let path = folder.join(MEMORY);
    let file = File::options()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&path)
        .at("create", &path)
        .map_err(files_failed)?;
    state::save(qmp, file.as_fd()).map_err(state_failed("save the state of"))?;
    synced(folder).map_err(files_failed)
}

fn synced(folder: &Path) -> Result<(), PathError> {
    for path in [folder.join(MEMORY), folder.to_path_buf()] {
        File::open(&path)
            .and_then(|file| file.sync_all())
            .at("sync", &path)?;
    }
    Ok(())
}

fn left(hardware: &Hardware) -> Result<Vec<Left>, PathError> {
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

/// Gives a state its name: from then on the next start takes it over.
fn whole(volume: &Path, mut record: Record) -> Result<(), RuntimeError> {
    let (new, saved) = (volume.join(NEW), volume.join(SAVED));
    record.disks = left(&record.hardware).map_err(files_failed)?;
    write_json(&new.join(RECORD), &record)?;
    synced(&new).map_err(files_failed)?;
    remove(&saved)?;
    path_io::rename(&new, &saved).map_err(files_failed)?;
    sync_folder(volume)
}

fn sync_folder(folder: &Path) -> Result<(), RuntimeError> {
    File::open(folder)
        .and_then(|file| file.sync_all())
        .at("sync", folder)
        .map_err(files_failed)
}

/// Saves the state of a machine and ends it.
pub(in crate::native::instance) fn save(
    host: &Host,
    definition: &Definition<InstancePicks>,
    running: &Running,
    context: &Context<'_>,
) -> Result<(), RuntimeError> {
    refuse_unsavable(definition)?;
    let volume = volume(host, definition).ok_or_else(no_volume)?;
    running
        .thaw()
        .map_err(|error| shim_failed("save the state of", error))?;
    let mut qmp = control(running).map_err(connect_failed)?;
    let status = qmp.status().map_err(monitor_failed("look at"))?;
    (context.progress)("saving its state");
    forget(host, definition)?;
    let record = record(host, definition, running, &mut qmp, context)?;
    qmp.stop().map_err(monitor_failed("stop"))?;
    let written = write(&volume.join(NEW), &record, &mut qmp).and_then(|()| whole(&volume, record));
    if let Err(error) = written {
        // It goes on as before; what is half there is nothing to go by.
        let _ = forget(host, definition);
        if status.running {
            let _ = qmp.resume();
        }
        return Err(error);
    }
    end(host, definition, running, qmp)
}

fn no_volume() -> RuntimeError {
    RuntimeError::new(
        "save the state of",
        Class::NeedsOperator,
        "its root is not there",
    )
}

/// Ends a machine whose state is saved.
fn end(
    host: &Host,
    definition: &Definition<InstancePicks>,
    running: &Running,
    mut qmp: Qmp,
) -> Result<(), RuntimeError> {
    let failed = |error| shim_failed("stop", error);
    running.keep_down().map_err(failed)?;
    qmp.quit().map_err(monitor_failed("let go of"))?;
    drop(qmp);
    running.gone(LEAVING).map_err(failed)?;
    after_stop(host, definition)
}

/// Goes on with what a keel that was killed began: a machine whose state it saved is ended when QEMU says that the state
/// is whole, and goes on where it is not. Answers whether it was ended.
pub(super) fn settle(
    host: &Host,
    definition: &Definition<InstancePicks>,
    running: &Running,
    qmp: &mut Qmp,
) -> Result<bool, RuntimeError> {
    let Some(volume) = volume(host, definition) else {
        return Ok(false);
    };
    let (new, saved) = (volume.join(NEW), volume.join(SAVED));
    if !new.exists() && !saved.exists() {
        return Ok(false);
    }
    let status = qmp.status().map_err(monitor_failed("look at"))?;
    if status.running {
        // What lies there is of before.
        return forget(host, definition).map(|()| false);
    }
    let record: Option<Record> = match saved.exists() {
        // Its start was cut short before it had taken its state over: the next one begins anew.
        true if status.state == RunState::InMigrate => {
            running
                .kill(LEAVING)
                .map_err(|error| shim_failed("end", error))?;
            return after_stop(host, definition).map(|()| true);
        }
        // It had taken it over, and was about to go on.
        true if status.state != RunState::PostMigrate => {
            qmp.resume().map_err(monitor_failed("wake"))?;
            return forget(host, definition).map(|()| false);
        }
        true => None,
        false => read_json(&new.join(RECORD)).ok().flatten(),
    };
    let progress = state::progress(qmp).map_err(monitor_failed("look at"))?;
    let done = match (progress, record) {
        (Progress::Completed, None) => saved.exists(),
        (Progress::Completed, Some(record)) => whole(&volume, record).is_ok(),
        (Progress::Active(_), Some(record)) => {
            state::finished(qmp).is_ok() && whole(&volume, record).is_ok()
        }
        _ => false,
    };
    if !done {
        forget(host, definition)?;
        let _ = qmp.execute("migrate_cancel", Value::Null);
        qmp.resume().map_err(monitor_failed("wake"))?;
        return Ok(false);
    }
    running
        .keep_down()
        .map_err(|error| shim_failed("stop", error))?;
    qmp.quit().map_err(monitor_failed("let go of"))?;
    running
        .gone(LEAVING)
        .map_err(|error| shim_failed("stop", error))?;
    after_stop(host, definition)?;
    Ok(true)
}

/// A state that is taken over.
pub(super) struct Waiting {
    folder: PathBuf,
    record: Record,
}

/// The saved state of a stopped machine; none: it boots.
pub(super) fn waiting(
    host: &Host,
    definition: &Definition<InstancePicks>,
) -> Result<Option<Waiting>, RuntimeError> {
    let Some(volume) = volume(host, definition) else {
        return Ok(None);
    };
    // Of a keel that was killed with its machine.
    remove(&volume.join(NEW))?;
    let folder = volume.join(SAVED);
    let Some(record) = read_json::<Record>(&folder.join(RECORD))? else {
        return Ok(None);
    };
    for disk in &record.disks {
        let now = left_one(&disk.path);
        if now.as_ref() != Some(disk) {
            return Err(cannot_go_on(&format!(
                "{} was changed after its state was saved",
                disk.path.display()
            )));
        }
    }
    Ok(Some(Waiting { folder, record }))
}

fn left_one(path: &Path) -> Option<Left> {
    let about = path.metadata().ok()?;
    Some(Left {
        path: path.to_path_buf(),
        size: about.len(),
        seconds: about.mtime(),
        nanoseconds: about.mtime_nsec(),
    })
}

/// The state stays where it is.
pub(super) fn cannot_go_on(why: &str) -> RuntimeError {
    let why = format!(
        "its saved state cannot be taken over, and is kept: {why}; `keel start --discard-state` gives it up and boots anew"
    );
    RuntimeError::new("start", Class::NeedsOperator, why)
}

impl Waiting {
    /// What the machine was.
    pub(super) const fn record(&self) -> &Record {
        &self.record
    }

    /// The machine that takes it over. `root` is its root disk as it is now.
    pub(super) fn hardware(
        &self,
        root: Option<&DiskPlan>,
        run_dir: &Path,
    ) -> Result<Hardware, RuntimeError> {
        let mut hardware = self.record.hardware.clone();
        for disk in &mut hardware.disks {
            if disk.device == SEED {
                let path = run_dir.join(SEED_FILE);
                let bytes = path_io::read(self.folder.join(SEED_FILE))
                    .map_err(io_failed("read the saved state of"))?;
                path_io::write_atomically(&path, bytes)
                    .map_err(io_failed("read the saved state of"))?;
                rustix::fs::chmod(&path, rustix::fs::Mode::from_raw_mode(0o600))
                    .at("close", &path)
                    .map_err(io_failed("read the saved state of"))?;
                disk.file.path = path;
            } else if let Some(root) = root.filter(|root| root.device == disk.device) {
                disk.file = root.file.clone();
                disk.layers.clone_from(&root.layers);
                disk.backing.clone_from(&root.backing);
            }
        }
        Ok(hardware)
    }

    /// The devices that it had.
    pub(super) fn devices(&self) -> impl Iterator<Item = String> + '_ {
        let hardware = &self.record.hardware;
        let disks = hardware.disks.iter().map(|disk| &disk.device);
        let devices = disks.chain(hardware.nics.iter().map(|nic| &nic.device));
        devices.filter(|device| *device != SEED).cloned()
    }

    /// Lets the machine take it over.
    pub(super) fn take_over(&self, qmp: &mut Qmp) -> Result<(), RuntimeError> {
        let path = self.folder.join(MEMORY);
        let file = File::open(&path)
            .at("open", &path)
            .map_err(io_failed("read the saved state of"))?;
        state::take_over(qmp, file.as_fd()).map_err(state_failed("start"))
    }
}
