//! The end of a machine, by its power button or at once, and a pause.

use std::time::Duration;

use super::super::picks::InstancePicks;
use super::super::start::after_stop;
use super::super::{shim_failed, spec};
use super::{LEAVING, control, monitor_failed, quiet, saved, snapshots};
use crate::error::{Class, RuntimeError};
use crate::native::definition::Definition;
use crate::native::host::Host;
use crate::native::machine::seen::{self, Power};
use crate::native::shim::Running;
use crate::runtime::Context;

/// A guest that boots hears no button: it is pressed again after so long.
const PRESS_AGAIN: Duration = Duration::from_secs(5);

/// How often a machine that is to end is looked at, should its companion be gone.
const GLANCE: Duration = Duration::from_millis(500);

/// Lets a process go whose guest has switched itself off while no companion was there to do so; else it is still there.
pub(in crate::native::instance) fn let_go(
    host: &Host,
    definition: &Definition<InstancePicks>,
    running: Box<Running>,
) -> Result<Option<Box<Running>>, RuntimeError> {
    let Ok(mut qmp) = control(&running) else {
        return Ok(Some(running));
    };
    snapshots::settle(host, definition, Some((&running, &mut qmp)))?;
    if saved::settle(host, definition, &running, &mut qmp)? {
        return Ok(None);
    }
    let off = qmp
        .status()
        .is_ok_and(|status| seen::power(status.state) == Power::Off);
    if !off {
        return Ok(Some(running));
    }
    qmp.quit().map_err(monitor_failed("let go of"))?;
    drop(qmp);
    running
        .gone(LEAVING)
        .map_err(|error| shim_failed("let go of", error))?;
    after_stop(host, definition)?;
    Ok(None)
}

/// Stops a running machine: by its power button, or at once.
pub(in crate::native::instance) fn stop(
    host: &Host,
    definition: &Definition<InstancePicks>,
    running: &Running,
    at_once: bool,
    context: &Context<'_>,
) -> Result<(), RuntimeError> {
    let instance = spec(definition)?;
    let patience = Duration::from_secs(instance.boot.host_shutdown_timeout.seconds());
    let patience = patience.min(context.timeout);
    if at_once || !switched_off(running, patience)? {
        running
            .kill(context.timeout.max(LEAVING))
            .map_err(|error| shim_failed("kill", error))?;
    }
    after_stop(host, definition)
}

/// Presses the power button and waits for the end; `false`: the machine goes on, or its monitor is silent.
fn switched_off(running: &Running, patience: Duration) -> Result<bool, RuntimeError> {
    let failed = |error| shim_failed("stop", error);
    running.thaw().map_err(failed)?;
    running.keep_down().map_err(failed)?;
    let Ok(mut qmp) = control(running) else {
        return Ok(false);
    };
    let mut waited = Duration::ZERO;
    let mut pressed: Option<Duration> = None;
    while waited < patience {
        let Ok(status) = qmp.status() else {
            // It may be just ending.
            break;
        };
        match seen::power(status.state) {
            Power::Off => {
                let _ = qmp.quit();
                break;
            }
            Power::Paused => qmp.resume().map_err(monitor_failed("wake"))?,
            Power::Running => {}
        }
        if pressed.is_none_or(|at| waited >= at + PRESS_AGAIN) {
            qmp.power_down().map_err(monitor_failed("switch off"))?;
            pressed = Some(waited);
        }
        let glance = GLANCE.min(patience - waited);
        if running.wait(glance).map_err(failed)? {
            break;
        }
        waited += glance;
    }
    if !running.wait(GLANCE).map_err(failed)? {
        return Ok(false);
    }
    running.gone(LEAVING).map_err(failed)?;
    Ok(true)
}

/// Stops the guest's processors where they are, or lets them go on.
pub(in crate::native::instance) fn freeze(
    running: &Running,
    frozen: bool,
) -> Result<(), RuntimeError> {
    // Somebody may have frozen the process itself.
    running
        .thaw()
        .map_err(|error| shim_failed("unfreeze", error))?;
    let mut qmp = control(running).map_err(monitor_failed("reach"))?;
    match frozen {
        true => qmp.stop().map_err(monitor_failed("freeze")),
        false => {
            qmp.resume().map_err(monitor_failed("unfreeze"))?;
            if quiet::settle(running) {
                return Ok(());
            }
            let why = "its file systems were frozen for a snapshot, and its agent does not thaw them: `fsfreeze -u` in it does, or a restart";
            Err(RuntimeError::new("unfreeze", Class::NeedsOperator, why))
        }
    }
}
