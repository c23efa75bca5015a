//! Instances that are machines: made from a spec, started and stopped. `hardware` and `observe` are pure.

mod change;
mod hardware;
mod observe;
mod operate;
mod saved;
pub(in crate::native) mod screen;
mod seed;
mod served;
pub(in crate::native) mod snapshots;

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use manifests::instance::boot::BootMode;
use manifests::instance::limits::Limits;
use manifests::kinds::instance::Instance;
use manifests::path_io::{self, AtPath as _};
use rustix::fs::{Mode, OFlags};

pub(super) use self::change::{update, waits_for_start};
use self::hardware::{Around, DirectBoot, Found};
pub(super) use self::observe::{overlay, power};
use self::operate::addresses;
pub(in crate::native) use self::operate::{exec, read_file, write_file};
pub(super) use self::saved::{save, told as saved_state};
pub(in crate::native) use self::seed::Given;
pub(super) use self::served::unserved;
use super::picks::InstancePicks;
use super::plugs::{Plug, plugs};
use super::start::{after_stop, cgroup_failed, set_limits};
use super::{io_failed, networks_of, nics, pool_of, shim_failed, spec};
use crate::error::{Class, RuntimeError};
use crate::native::container::plan::{CgroupPlan, LimitPlan};
use crate::native::container::{Coming, Restart};
use crate::native::definition::Definition;
use crate::native::disk_image::Format;
use crate::native::host::Host;
use crate::native::image::MachineImage;
use crate::native::machine::command_line::sockets;
use crate::native::machine::firmware::{self, Firmware};
use crate::native::machine::plan::{DiskFile, DiskLayers, Hardware, MachinePlan, NicPlan};
use crate::native::machine::qmp::{Qmp, QmpError};
use crate::native::machine::seen::{MachineSeen, Power, look};
use crate::native::machine::{self, complaints, seen};
use crate::native::network::port;
use crate::native::pools::root_volume;
use crate::native::shim::Running;
use crate::native::storage::Placed;
use crate::runtime::Context;
use crate::sys::netlink::Connection;

/// How long QEMU may take until its monitor answers: longer than anything but a host that does not get on at all.
const COMING_UP: Duration = Duration::from_secs(30);
/// How long a monitor may take to answer.
const ANSWER: Duration = Duration::from_secs(5);
/// How long a process that was let go may take to end.
const LEAVING: Duration = Duration::from_secs(30);
/// A guest that boots hears no button: it is pressed again after so long.
const PRESS_AGAIN: Duration = Duration::from_secs(5);
/// How often a machine that is to end is looked at, should its companion be gone.
const GLANCE: Duration = Duration::from_millis(500);

fn monitor_failed(doing: &'static str) -> impl Fn(QmpError) -> RuntimeError {
    move |error| RuntimeError::new(doing, Class::Retry, error)
}

fn connect_failed(error: QmpError) -> RuntimeError {
    RuntimeError::new("reach", Class::Retry, error)
}

/// A connection to a running machine for changing it.
pub(super) fn control(running: &Running) -> Result<Qmp, QmpError> {
    connect(running.run_dir(), [sockets::CONTROL, sockets::RESCUE])
}

/// A machine as it was found.
pub(in crate::native) struct Look {
    /// What its monitor says.
    pub(super) seen: Result<MachineSeen, QmpError>,
    /// The addresses that its guest tells; none where nobody tells.
    pub(super) addresses: Option<Vec<String>>,
}

/// Looks at a running machine.
pub(in crate::native) fn look_at(running: &Running) -> Look {
    let monitors = [sockets::RESCUE, sockets::CONTROL];
    let seen = connect(running.run_dir(), monitors).and_then(|mut qmp| look(&mut qmp));
    // Nobody waits for a guest in which nobody listens.
    let agent = seen.as_ref().is_ok_and(|seen| seen.agent);
    Look {
        seen,
        addresses: agent.then(|| addresses(running)),
    }
}

/// Somebody may hold one of the two monitors.
fn connect(run_dir: &Path, [first, second]: [&str; 2]) -> Result<Qmp, QmpError> {
    Qmp::connect_any(&[&run_dir.join(first), &run_dir.join(second)], ANSWER)
}

/// The limits of a machine's process: its memory and its processors are hardware.
pub(super) fn process_limits(limits: &Limits) -> Limits {
    use manifests::scalar::cpu::CpuLimit;
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

/// Starts a machine and records with what it was started.
pub(super) fn start(
    host: &Host,
    definition: &mut Definition<InstancePicks>,
    context: &Context<'_>,
) -> Result<(), RuntimeError> {
    let instance = spec(definition)?.clone();
    snapshots::settle(host, definition, None)?;
    let waiting = saved::waiting(host, definition)?;
    let companion = Coming::begin(&host.config.shim, &definition.address.name);
    if nics::nics(&instance).any(|(device, _)| !definition.picks.nics.contains_key(device)) {
        super::pick(host, definition)?;
    }
    if waiting.is_none() {
        let (_, driver) = pool_of(host, &definition.picks.pool)?;
        super::root::grow(driver.as_ref(), &root_volume(&definition.uid), &instance)
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
            return Err(saved::cannot_go_on(&format!(
                "it has the network interface {}, which its manifest has no more",
                nic.device
            )));
        }
    }
    saved::keep_hardware(&run_dir, &hardware)?;
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
        hardware,
        limits: vec![LimitPlan {
            // A dump would hold the guest's memory.
            name: "core".to_owned(),
            soft: Some(0),
            hard: Some(0),
        }],
        // One that takes a state over does so once: after an accident it is for keel to boot it.
        restart: (instance.boot.autorestart && waiting.is_none()).then(|| Restart::usual(true)),
    };
    host.write_instance(definition).map_err(super::stored)?;
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
        waiting.map_or(Ok(()), |waiting| {
            (context.progress)("taking over its saved state");
            goes_on(host, definition, &waiting, &run_dir, context)
        })
    });
    answered.inspect_err(|_| {
        // What was begun is taken down; the definition stays and says what was meant.
        let _ = super::running(host, &definition.uid)
            .map(|running| running.map(|running| running.kill(LEAVING)));
        let _ = after_stop(host, definition);
    })
}

/// Lets a machine go on from its saved state, which is removed when it does.
fn goes_on(
    host: &Host,
    definition: &Definition<InstancePicks>,
    waiting: &saved::Waiting,
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
        return Err(saved::cannot_go_on(&why));
    }
    qmp.resume().map_err(monitor_failed("wake"))?;
    saved::forget(host, definition)?;
    // What its manifest says by now. It runs: what cannot be mended is drift, which the next plan tells.
    let had = waiting.devices();
    if let Err(error) = change::mend(host, definition, had, &mut qmp, context) {
        (context.progress)(&crate::native::chain(&error));
    }
    Ok(())
}

/// Gives up the saved state of a stopped machine.
pub(super) fn discard_state(
    host: &Host,
    definition: &Definition<InstancePicks>,
) -> Result<(), RuntimeError> {
    saved::forget(host, definition)
}

/// The hardware of a machine on this host.
fn planned(instance: &Instance, around: Around<'_>) -> Result<Hardware, RuntimeError> {
    hardware::hardware(instance, around)
        .map_err(|why| RuntimeError::new("start", Class::NeedsOperator, why))
}

/// Lets a process go whose guest has switched itself off while no companion was there to do so; else it is still there.
pub(super) fn let_go(
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
fn tap(host: &Host, plug: &Plug) -> Result<OwnedFd, RuntimeError> {
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

/// Finds everything on this host that a machine is made of.
fn around<'a>(
    host: &Host,
    definition: &'a Definition<InstancePicks>,
    instance: &'a Instance,
) -> Result<Around<'a>, RuntimeError> {
    // A machine without an image has an empty disk.
    let image = match definition.picks.image.as_str() {
        "" => MachineImage::default(),
        fingerprint => host
            .images
            .machine(fingerprint)
            .map_err(io_failed("read the image of"))?,
    };
    let kernel = image.kernel.clone().map(|kernel| DirectBoot {
        kernel,
        initrd: image.initrd.clone(),
        cmdline: image.cmdline.clone(),
    });
    let (_, driver) = pool_of(host, &definition.picks.pool)?;
    let volume = root_volume(&definition.uid);
    let failed = |error| RuntimeError::new("find the root of", Class::Retry, error);
    let placed = driver.place(&volume).map_err(failed)?;
    let Placed::Disk {
        file,
        layer,
        below,
        format,
        ..
    } = placed
    else {
        let why = "its root is that of a container";
        return Err(RuntimeError::new("find the root of", Class::Bug, why));
    };
    let secure = match hardware::boot_mode(instance, kernel.is_some()) {
        BootMode::UefiSecureboot => Some(true),
        BootMode::Uefi => Some(false),
        BootMode::Bios | BootMode::Direct => None,
    };
    let firmware = secure.map(|secure| uefi(&file, secure)).transpose()?;
    let backing = image.disk.map(|disk| DiskFile {
        path: disk.path,
        format: disk.format,
        device: false,
    });
    let mut disks = Vec::new();
    for (device, disk) in instance.devices.iter().filter_map(|(name, device)| {
        let disk = device.as_disk()?;
        hardware::is_block(disk).then_some((name.as_str(), disk))
    }) {
        disks.push(if disk.is_root() {
            Found {
                device,
                disk,
                can_be_direct: can_be_direct(&file),
                file: DiskFile {
                    path: file.clone(),
                    format,
                    device: false,
                },
                layers: DiskLayers {
                    active: layer,
                    below: below.clone(),
                },
                backing: backing.clone(),
                cdrom: false,
            }
        } else {
            host_disk(device, disk)?
        });
    }
    Ok(Around {
        name: &definition.address.name,
        uid: definition.uid.to_string(),
        picks: &definition.picks,
        host_memory: host.memory,
        host_processors: u32::try_from(host.cgroup.cpus.len()).unwrap_or(1),
        accelerator: machine::accelerator(host.config.accelerator, &host.config.shared_run)
            .map_err(|why| RuntimeError::new("start", Class::NeedsOperator, why))?,
        firmware,
        kernel,
        disks,
        folders: served::folders(instance),
        tpm: served::tpm(instance, &file),
    })
}

/// A disk that is a file or block device of the host.
fn host_disk<'a>(
    device: &'a str,
    disk: &'a manifests::devices::Disk,
) -> Result<Found<'a>, RuntimeError> {
    use manifests::devices::disk::DiskSource;
    use rustix::fs::FileType;
    let DiskSource::Host(path) = disk.made_of() else {
        let why = format!("devices.{device}: it is nothing that a machine takes for a disk");
        return Err(RuntimeError::new("find a disk of", Class::Unsupported, why));
    };
    let path = PathBuf::from(path);
    let stat = rustix::fs::stat(&path)
        .at("look at", &path)
        .map_err(io_failed("find a disk of"))?;
    if FileType::from_raw_mode(stat.st_mode).is_dir() {
        let why = format!(
            "devices.{device}: {} is a folder: `path` says where the guest has it",
            path.display()
        );
        return Err(RuntimeError::new(
            "find a disk of",
            Class::NeedsOperator,
            why,
        ));
    }
    let block = FileType::from_raw_mode(stat.st_mode) == FileType::BlockDevice;
    let format = match block {
        // Whatever is written at the start of a raw disk is the guest's choice: never guessed.
        true => Format::Raw,
        false => file_format(&path)?,
    };
    Ok(Found {
        device,
        disk,
        can_be_direct: block || can_be_direct(&path),
        cdrom: path
            .extension()
            .is_some_and(|end| end.eq_ignore_ascii_case("iso")),
        file: DiskFile {
            path,
            format,
            device: block,
        },
        layers: DiskLayers::default(),
        backing: None,
    })
}

/// A file is taken as its name says: what a guest wrote into a raw one must not make it another.
fn file_format(path: &Path) -> Result<Format, RuntimeError> {
    if path
        .extension()
        .is_none_or(|end| !end.eq_ignore_ascii_case("qcow2"))
    {
        return Ok(Format::Raw);
    }
    crate::native::disk_image::inspect(path)
        .map(|_| Format::Qcow2)
        .map_err(|error| RuntimeError::new("read a disk of", Class::Refused, error))
}

/// Whether a file can be read and written without the host's memory between.
fn can_be_direct(path: &Path) -> bool {
    let flags = OFlags::RDONLY | OFlags::DIRECT | OFlags::CLOEXEC;
    rustix::fs::open(path, flags, Mode::empty()).is_ok()
}

/// The firmware of this host, and the file of a machine's variables beside its disk, made where it is missing.
fn uefi(disk: &Path, secure: bool) -> Result<(Firmware, PathBuf), RuntimeError> {
    let firmware = firmware::find(secure).ok_or_else(|| {
        let kind = if secure {
            "UEFI with secure boot"
        } else {
            "UEFI"
        };
        let why = format!("this host has no firmware for {kind}: install the package ovmf");
        RuntimeError::new("start", Class::NeedsOperator, why)
    })?;
    // Variables of one firmware mean nothing to the other.
    let name = match secure {
        true => "variables-secure.fd",
        false => "variables.fd",
    };
    let variables = disk.with_file_name(name);
    if !variables.exists() {
        let template =
            path_io::read(&firmware.variables).map_err(io_failed("read the firmware for"))?;
        path_io::write_durably(&variables, template)
            .map_err(io_failed("write the variables of"))?;
    }
    Ok((firmware, variables))
}

/// Stops a running machine: by its power button, or at once.
pub(super) fn stop(
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
pub(super) fn freeze(running: &Running, frozen: bool) -> Result<(), RuntimeError> {
    // Somebody may have frozen the process itself.
    running
        .thaw()
        .map_err(|error| shim_failed("unfreeze", error))?;
    let mut qmp = control(running).map_err(monitor_failed("reach"))?;
    match frozen {
        true => qmp.stop().map_err(monitor_failed("freeze")),
        false => qmp.resume().map_err(monitor_failed("unfreeze")),
    }
}
