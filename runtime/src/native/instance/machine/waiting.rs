//! A saved state that waits for the next start of its machine, which takes it over and goes on from there.

use std::fs::File;
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};

use manifests::path_io::{self, AtPath as _};

use super::super::picks::InstancePicks;
use super::super::{io_failed, running};
use super::record::{RECORD, Record, left_one, read_json};
use super::saved::{self, MEMORY, NEW, SAVED, SEED_FILE, remove, state_failed, volume};
use super::start::COMING_UP;
use super::{LEAVING, change, connect_failed, monitor_failed};
use crate::error::{Class, RuntimeError};
use crate::native::definition::Definition;
use crate::native::host::Host;
use crate::native::machine::command_line::sockets;
use crate::native::machine::complaints;
use crate::native::machine::devices::SEED;
use crate::native::machine::plan::{DiskPlan, Hardware};
use crate::native::machine::qmp::Qmp;
use crate::native::machine::state;
use crate::runtime::Context;

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

/// Lets a machine go on from its saved state, which is removed when it does.
pub(super) fn goes_on(
    host: &Host,
    definition: &Definition<InstancePicks>,
    waiting: &Waiting,
    run_dir: &Path,
    context: &Context<'_>,
) -> Result<(), RuntimeError> {
    let mut qmp =
        Qmp::connect(&run_dir.join(sockets::CONTROL), COMING_UP).map_err(connect_failed)?;
    if let Err(error) = waiting.take_over(&mut qmp) {
        drop(qmp);
        // Its companion writes down what it said after it has ended.
        let _ = crate::native::shim::stop_restarting(run_dir, LEAVING);
        let said = complaints(run_dir);
        let why = match said.is_empty() {
            true => crate::native::chain(&error),
            false => said,
        };
        return Err(cannot_go_on(&why));
    }
    qmp.resume().map_err(monitor_failed("wake"))?;
    saved::forget(host, definition)?;
    // What its manifest says by now. It runs: what cannot be mended is drift, which the next plan tells.
    let had = waiting.devices();
    let mended = match running(host, &definition.uid)? {
        Some(running) => change::mend(host, definition, had, (&running, &mut qmp), context),
        None => Ok(()),
    };
    if let Err(error) = mended {
        (context.progress)(&crate::native::chain(&error));
    }
    Ok(())
}
