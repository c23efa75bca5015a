//! The start of a machine: its hardware is found, its QEMU begun and waited for.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::Duration;

use manifests::path_io::{self, AtPath as _};
use rustix::fs::Mode;

use super::super::picks::InstancePicks;
use super::super::plugs::{Plug, plugs};
use super::super::start::{after_stop, cgroup_failed, set_limits};
use super::super::{io_failed, networks_of, nics, pick, pool_of, root, running, spec, stored};
use super::around::{around, planned};
use super::waiting::{cannot_go_on, goes_on, waiting};
use super::{LEAVING, files, passed, pin, quiet, record, seed, served, snapshots, usb};
use crate::error::{Class, RuntimeError};
use crate::native::container::plan::{CgroupPlan, LimitPlan};
use crate::native::container::{Coming, Restart};
use crate::native::definition::Definition;
use crate::native::host::Host;
use crate::native::machine::command_line::sockets;
use crate::native::machine::passed::locked;
use crate::native::machine::plan::{Hardware, MachinePlan, NicPlan};
use crate::native::machine::qmp::Qmp;
use crate::native::machine::{self, complaints};
use crate::native::network::port;
use crate::native::pools::root_volume;
use crate::runtime::Context;
use crate::sys::netlink::Connection;

/// How long QEMU may take until its monitor answers: longer than anything but a host that does not get on at all.
pub(super) const COMING_UP: Duration = Duration::from_secs(30);

/// Starts a machine and records with what it was started.
pub(in crate::native::instance) fn start(
    host: &Host,
    definition: &mut Definition<InstancePicks>,
    context: &Context<'_>,
) -> Result<(), RuntimeError> {
    let instance = spec(definition)?.clone();
    passed::refuse(&instance)?;
    snapshots::settle(host, definition, None)?;
    let waiting = waiting(host, definition)?;
    let companion = Coming::begin(&host.config.shim, &definition.address.name);
    if nics::nics(&instance).any(|(device, _)| !definition.picks.nics.contains_key(device)) {
        pick(host, definition)?;
    }
    if waiting.is_none() {
        let (_, driver) = pool_of(host, &definition.picks.pool)?;
        root::grow(driver.as_ref(), &root_volume(&definition.uid), &instance)
            .map_err(|error| RuntimeError::new("resize the root of", Class::Retry, error))?;
    }
    let cgroups = host.cgroups(&definition.uid);
    let joining = cgroups.ensure().map_err(cgroup_failed)?;
    set_limits(host, definition, &instance)?;
    let run_dir = host.run_folder(&definition.uid);
    path_io::create_dir_all(&run_dir).map_err(io_failed("make the run folder of"))?;
    rustix::fs::chmod(&run_dir, Mode::from_raw_mode(0o700))
        .at("close", &run_dir)
        .map_err(io_failed("make the run folder of"))?;
    let seed = match waiting {
        None => seed::prepare(host, definition, &run_dir, context)?,
        // Its guest goes on with what it has.
        Some(_) => None,
    };
    definition.picks.generation += 1;
    definition.picks.started_with = match &waiting {
        None => Some(definition.spec.to_value()),
        Some(waiting) => waiting.record().started_with.clone(),
    };
    definition.picks.running = true;
    let mut hardware =
        around(host, definition, &instance).and_then(|around| planned(&instance, around))?;
    // Behind those of the manifest, whose places in the guest it does not move.
    hardware.disks.extend(seed);
    if let Some(waiting) = &waiting {
        let root = instance.root().map(|(name, _)| name);
        let mut disks = hardware.disks.iter();
        let root = disks.find(|disk| Some(disk.device.as_str()) == root);
        hardware = waiting.hardware(root, &run_dir)?;
        let is_left = |nic: &&NicPlan| !definition.picks.nics.contains_key(&nic.device);
        if let Some(nic) = hardware.nics.iter().find(is_left) {
            return Err(cannot_go_on(&format!(
                "it has the network interface {}, which its manifest has no more",
                nic.device
            )));
        }
    }
    record::keep_hardware(&run_dir, &hardware)?;
    if waiting.is_none() {
        quiet::forget(&run_dir);
    }
    let id = definition.picks.id_base.ok_or_else(|| {
        RuntimeError::new("start", Class::Bug, "no user of the host was picked for it")
    })?;
    let ids = (id, instance.security.idmap.size);
    let payload = cgroups.payload();
    let plan = MachinePlan {
        name: definition.address.name.clone(),
        uid: definition.uid.to_string(),
        generation: definition.picks.generation,
        run_dir: run_dir.clone(),
        cgroups: CgroupPlan {
            joins: cgroups
                .payload_folders()
                .into_iter()
                .filter(|folder| Some(folder) != payload.as_ref())
                .collect(),
            payload,
            monitors: cgroups.monitors().to_vec(),
            monitor: cgroups.monitor(),
            delegate: None,
        },
        ids: (id, id),
        emulator: machine::emulator().ok_or_else(no_emulator)?,
        helpers: served::prepare(&hardware, ids, &host.config.shared_run)?,
        limits: process_limits(&hardware),
        hardware,
        // One that takes a state over does so once: after an accident it is for keel to boot it.
        restart: (instance.boot.autorestart && waiting.is_none()).then(|| Restart::usual(true)),
    };
    host.write_instance(definition).map_err(stored)?;
    let networks = networks_of(host, definition, &instance)?;
    networks
        .values()
        .try_for_each(|network| host.ensure_network(network))?;
    let taps = taps(host, definition)?;
    let begun = machine::start(&plan, companion, &taps);
    drop((joining, taps));
    let started = begun.map_err(|error| RuntimeError::new("start", Class::Retry, error));
    let answered = started.and_then(|started| {
        for warning in started.warnings {
            (context.progress)(&warning);
        }
        comes_up(&run_dir)?;
        let process = running(host, &definition.uid)?;
        if let Some(process) = &process {
            pin(process, &instance.limits)?;
            usb::with_start(&instance, process, context)?;
        }
        if let Some(waiting) = waiting {
            (context.progress)("taking over its saved state");
            return goes_on(host, definition, &waiting, &run_dir, context);
        }
        match process {
            Some(process) => files::after_start(host, definition, &process, context),
            None => Ok(()),
        }
    });
    answered.inspect_err(|_| {
        // What was begun is taken down; the definition stays and says what was meant.
        let _ = running(host, &definition.uid)
            .map(|running| running.map(|running| running.kill(LEAVING)));
        let _ = after_stop(host, definition);
    })
}

/// Limits of QEMU itself.
fn process_limits(hardware: &Hardware) -> Vec<LimitPlan> {
    let one = |name: &str, bytes: u64| LimitPlan {
        name: name.to_owned(),
        soft: Some(bytes),
        hard: Some(bytes),
    };
    let locked = locked(&hardware.passed, &hardware.memory);
    // A dump would hold the guest's memory.
    [one("core", 0)]
        .into_iter()
        .chain(locked.map(|bytes| one("memlock", bytes)))
        .collect()
}

fn no_emulator() -> RuntimeError {
    let why = "there is no qemu-system on this host: install the package qemu-system-x86";
    RuntimeError::new("start", Class::NeedsOperator, why)
}

/// Waits until QEMU answers; one that has ended has said why.
fn comes_up(run_dir: &Path) -> Result<(), RuntimeError> {
    let path = run_dir.join(sockets::CONTROL);
    match Qmp::connect(&path, COMING_UP) {
        Ok(_) => Ok(()),
        Err(error) => {
            // Its companion writes down what it said after it has ended.
            let _ = crate::native::shim::stop_restarting(run_dir, LEAVING);
            let said = complaints(run_dir);
            match said.is_empty() {
                true => Err(RuntimeError::new("start", Class::Retry, error)),
                false => Err(RuntimeError::new("start", Class::NeedsOperator, said)),
            }
        }
    }
}

/// Makes the taps of a machine, in their networks; by device.
fn taps(
    host: &Host,
    definition: &Definition<InstancePicks>,
) -> Result<BTreeMap<String, OwnedFd>, RuntimeError> {
    let mut taps = BTreeMap::new();
    for one in plugs(host, definition)? {
        let tap = tap(host, &one)?;
        taps.insert(one.device, tap);
    }
    Ok(taps)
}

/// Makes the tap of one network interface.
pub(super) fn tap(host: &Host, plug: &Plug) -> Result<OwnedFd, RuntimeError> {
    let failed = |error| RuntimeError::new("plug the network interface of", Class::Retry, error);
    match &plug.network {
        Some(network) => host.network.attach_tap(network, &plug.port).map_err(failed),
        None => {
            let mut connection = Connection::open().map_err(|error| {
                RuntimeError::new("reach the kernel's links", Class::Retry, error)
            })?;
            port::attach_tap(&mut connection, &plug.port, None, None).map_err(failed)
        }
    }
}
