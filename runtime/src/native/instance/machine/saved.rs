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

use std::fs::File;
use std::os::fd::AsFd as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use manifests::instance::savable::unsavable;
use manifests::kinds::instance::Instance;
use manifests::path_io::{self, AtPath as _, PathError};
use serde_json::Value;

use super::super::picks::InstancePicks;
use super::super::start::after_stop;
use super::super::{io_failed, pool_of, shim_failed, spec};
use super::record::{RECORD, Record, left, read_json, record, write_json};
use super::{LEAVING, connect_failed, control, monitor_failed};
use crate::error::{Class, RuntimeError};
use crate::native::definition::Definition;
use crate::native::host::Host;
use crate::native::machine::devices::SEED;
use crate::native::machine::qmp::{Qmp, RunState};
use crate::native::machine::seen::{Power, power};
use crate::native::machine::state::{self, Progress, StateError};
use crate::native::pools::root_volume;
use crate::native::shim::Running;
use crate::runtime::Context;
use crate::sys::remove_tree::remove_tree;

/// A whole one.
pub(super) const SAVED: &str = "saved";
/// One that is being written.
pub(super) const NEW: &str = "saved.new";
/// Its state.
pub(super) const MEMORY: &str = "memory";
/// The disk for cloud-init.
pub(super) const SEED_FILE: &str = "cloud-init.img";

pub(super) fn state_failed(doing: &'static str) -> impl Fn(StateError) -> RuntimeError {
    move |error| {
        let class = match &error {
            StateError::Monitor(_) | StateError::Stalled(_) => Class::Retry,
            StateError::Failed(_) | StateError::NoPlace(_) => Class::NeedsOperator,
        };
        RuntimeError::new(doing, class, error)
    }
}

pub(super) fn files_failed(error: PathError) -> RuntimeError {
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
pub(super) fn volume(host: &Host, definition: &Definition<InstancePicks>) -> Option<PathBuf> {
    let (_, driver) = pool_of(host, &definition.picks.pool).ok()?;
    driver.placed(&root_volume(&definition.uid))
}

pub(super) fn remove(folder: &Path) -> Result<(), RuntimeError> {
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

/// Whether QEMU was told to write the state in a folder: until then what it tells is of one that it wrote before.
fn is_begun(folder: &Path) -> bool {
    let memory = folder.join(MEMORY).metadata();
    memory.is_ok_and(|memory| memory.len() > 0)
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
    if status.running || power(status.state) == Power::Off {
        // It has run since: what lies there is of before.
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
    // One that somebody had frozen stays so; where it is not known, a person looks.
    let ran = record.as_ref().is_some_and(|record| record.ran);
    let done = match (progress, record) {
        (Progress::Completed, None) => saved.exists(),
        (Progress::Completed, Some(record)) => is_begun(&new) && whole(&volume, record).is_ok(),
        (Progress::Active(_), Some(record)) => {
            state::finished(qmp).is_ok() && whole(&volume, record).is_ok()
        }
        _ => false,
    };
    if !done {
        forget(host, definition)?;
        let _ = qmp.execute("migrate_cancel", Value::Null);
        if ran {
            qmp.resume().map_err(monitor_failed("wake"))?;
        }
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
