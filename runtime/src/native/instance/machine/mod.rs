//! Instances that are machines: made from a spec, started and stopped. `hardware` and `observe` are pure.

mod again;
mod around;
mod beside;
mod change;
pub(super) mod export;
mod extras;
mod files;
mod hardware;
mod looking;
mod observe;
mod operate;
mod passed;
mod quiet;
mod record;
mod saved;
pub(in crate::native) mod screen;
mod seed;
mod served;
pub(in crate::native) mod snapshots;
mod start;
mod stop;
mod usb;
mod waiting;
mod whole;

use std::collections::BTreeMap;
use std::time::Duration;

use manifests::instance::limits::Limits;
use manifests::scalar::cpu::{CpuLimit, CpuSet};

pub(super) use self::again::{UNPINNED, started_again};
pub(in crate::native) use self::change::grow_volume;
pub(super) use self::change::{update, waits_for_start};
pub(super) use self::extras::extras;
pub(in crate::native) use self::files::PutFiles;
pub(super) use self::files::overlay_files;
use self::looking::control;
pub(in crate::native) use self::looking::{Asking, Look, Machine, look_at};
pub(super) use self::observe::{overlay, power};
use self::operate::addresses;
pub(super) use self::operate::{agent_answers, cloud_init_is_done, run_quietly};
pub(in crate::native) use self::operate::{exec, read_file, write_file};
pub(super) use self::saved::{save, told as saved_state};
pub(in crate::native) use self::seed::Given;
pub(super) use self::served::{STATE as TPM, unserved};
pub(super) use self::start::start;
pub(super) use self::stop::{freeze, let_go, stop};
pub(super) use self::usb::{Lacking, lacking_usb};
pub(in crate::native) use self::whole::layers;
use super::picks::InstancePicks;
use crate::error::{Class, RuntimeError};
use crate::native::definition::Definition;
use crate::native::host::Host;
use crate::native::machine::pinning;
use crate::native::machine::qmp::QmpError;
use crate::native::machine::seen::{self, Power};
use crate::native::shim::Running;

/// How long a process that was let go may take to end.
const LEAVING: Duration = Duration::from_secs(30);

fn monitor_failed(doing: &'static str) -> impl Fn(QmpError) -> RuntimeError {
    move |error| RuntimeError::new(doing, Class::Retry, error)
}

fn connect_failed(error: QmpError) -> RuntimeError {
    RuntimeError::new("reach", Class::Retry, error)
}

/// Whether the guest of a machine stands still.
pub(super) fn is_paused(running: &Running) -> Result<bool, RuntimeError> {
    let mut qmp = control(running).map_err(connect_failed)?;
    let status = qmp.status().map_err(monitor_failed("look at"))?;
    Ok(seen::power(status.state) == Power::Paused)
}

/// The limits of a machine's process: its memory and its processors are hardware.
pub(super) fn process_limits(limits: &Limits) -> Limits {
    Limits {
        memory: None,
        processes: None,
        hugepages: BTreeMap::new(),
        cpu: limits
            .cpu
            .clone()
            .filter(|cpu| matches!(cpu, CpuLimit::Set(_))),
        ..limits.clone()
    }
}

/// Whether the file systems of a guest were frozen for a snapshot, and nobody thaws them.
pub(super) fn is_left_frozen(running: &Running) -> bool {
    quiet::is_left(running.run_dir())
}

/// The processors of the host that those of a machine have one by one.
const fn own_processors(limits: &Limits) -> Option<&CpuSet> {
    match &limits.cpu {
        Some(CpuLimit::Set(set)) => Some(set),
        _ => None,
    }
}

/// Brings each processor of a machine to where its manifest says.
fn pin(running: &Running, limits: &Limits) -> Result<(), RuntimeError> {
    pinning::pin(running, own_processors(limits))
        .map_err(|error| RuntimeError::new("pin the processors of", Class::NeedsOperator, error))
}

/// Puts where the processors of a machine run over what was meant: those that are not one by one where they should be are
/// so many as there are, wherever they are.
pub(super) fn overlay_pins(limits: &mut Limits, running: &Running, processors: u32) {
    if let Some(set) = own_processors(limits)
        // One that has ended since has no processors.
        && pinning::is_pinned(running, set).is_ok_and(|pinned| !pinned)
    {
        limits.cpu = Some(CpuLimit::Count(processors));
    }
}

/// Puts what the kernel says of a machine's process over its limits; `before` is what was asked of the kernel.
pub(super) fn put_back(limits: &mut Limits, before: &Limits, seen: Limits) {
    let own = Limits {
        memory: limits.memory.clone(),
        processes: limits.processes,
        hugepages: std::mem::take(&mut limits.hugepages),
        // Which processors of the host it runs on is the kernel's; how many it has is hardware.
        cpu: match seen.cpu == before.cpu {
            true => limits.cpu.clone(),
            false => seen.cpu.clone(),
        },
        ..seen
    };
    *limits = own;
}

/// Gives up the saved state of a stopped machine.
pub(super) fn discard_state(
    host: &Host,
    definition: &Definition<InstancePicks>,
) -> Result<(), RuntimeError> {
    // Also what is still to be put back of a snapshot.
    snapshots::settle(host, definition, None)?;
    saved::forget(host, definition)
}
