//! Starting a machine: keel's side of the talk with the companion.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use manifests::path_io::{self, AtPath as _, PathError};
use rustix::fs::{FileType, Mode, OFlags};

use super::command_line::{CommandLine, Handed, command_line};
use super::ordered_helper::helper;
use super::passed;
use super::plan::{Accelerator, MachinePlan};
use crate::native::container::capabilities::UnknownCapability;
use crate::native::container::plan::ProgramPlan;
use crate::native::container::{
    Coming, ContainerError, Started, begin, make_node, make_way, order,
};
use crate::native::shim::state::{self, SavedState};
use crate::shim::messages::{Confinement, Device, Fd, Kept, Link, Machine, Opened, Order, Visible};
use crate::shim::watch;
use crate::sys::held_process::HeldProcess;

/// Why a machine was not started; nothing of it is left then.
#[derive(Debug, thiserror::Error)]
pub enum MachineError {
    /// The companion, or the process before it became QEMU.
    #[error(transparent)]
    Start(#[from] ContainerError),
    /// A file of the host.
    #[error(transparent)]
    Path(#[from] PathError),
    /// A tap that the plan names was not given.
    #[error("the network interface {0} has no tap")]
    NoTap(String),
    /// What a helper may do.
    #[error(transparent)]
    Capability(#[from] UnknownCapability),
}

/// Where libraries and data of programs are, from `/`.
const PROGRAMS: [&str; 4] = ["usr", "lib", "lib32", "lib64"];

/// Where the kernel's virtual machines are made: a part of QEMU alone.
const KVM: &str = "/dev/kvm";

/// Starts a machine; `taps` are the guest's ends of its network interfaces, by device. It runs when this returns, which
/// does not say that QEMU likes its command line: ask its monitor.
///
/// # Errors
/// As [`MachineError`] says; every process that was started has then ended.
pub fn start(
    plan: &MachinePlan,
    companion: Coming,
    taps: &BTreeMap<String, OwnedFd>,
) -> Result<Started, MachineError> {
    let boot_id = state::boot_id()?;
    make_way(&plan.run_dir)?;
    state::remove(&plan.run_dir)?;
    let line = command_line(&plan.hardware);
    let mut opened = Descriptors::default();
    let machine = ordered(plan, &boot_id, &line, taps, &mut opened)?;
    let borrowed = opened.borrowed(taps);
    let order = Order::Machine {
        machine: Box::new(machine),
    };
    let nothing = Confinement {
        capabilities: 0,
        seccomp: Vec::new(),
        limits: Vec::new(),
    };
    let saved = SavedState::of_machine(plan, &boot_id);
    let started = begin(
        companion,
        &order,
        &borrowed,
        &plan.run_dir,
        (saved, &nothing),
        &mut |_: HeldProcess<'_>| Ok(()),
    )?;
    Ok(started)
}

/// What QEMU complained of since its start; empty where it did not.
pub fn complaints(run_dir: &Path) -> String {
    let text = path_io::read(run_dir.join(watch::COMPLAINTS)).unwrap_or_default();
    String::from_utf8_lossy(&text).trim().to_owned()
}

/// A descriptor that goes with the order.
#[derive(Debug)]
pub(super) enum Given {
    Own(OwnedFd),
    Tap(String),
}

#[derive(Debug, Default)]
pub(super) struct Descriptors(Vec<Given>);

impl Descriptors {
    fn give(&mut self, given: Given) -> Fd {
        let index = u32::try_from(self.0.len()).unwrap_or(u32::MAX);
        self.0.push(given);
        Fd { index }
    }

    fn own(&mut self, descriptor: OwnedFd) -> Fd {
        self.give(Given::Own(descriptor))
    }

    pub(super) fn opened(&mut self, path: &Path, flags: OFlags) -> Result<Opened, PathError> {
        Ok(Opened {
            fd: self.own(open(path, flags)?),
            path: path.display().to_string(),
        })
    }

    fn borrowed<'fd>(&'fd self, taps: &'fd BTreeMap<String, OwnedFd>) -> Vec<BorrowedFd<'fd>> {
        self.0
            .iter()
            .filter_map(|given| match given {
                Given::Own(descriptor) => Some(descriptor.as_fd()),
                Given::Tap(device) => taps.get(device).map(|tap| tap.as_fd()),
            })
            .collect()
    }
}

fn open(path: &Path, flags: OFlags) -> Result<OwnedFd, PathError> {
    rustix::fs::open(path, flags | OFlags::CLOEXEC, Mode::empty()).at("open", path)
}

fn ordered(
    plan: &MachinePlan,
    boot_id: &str,
    line: &CommandLine,
    taps: &BTreeMap<String, OwnedFd>,
    opened: &mut Descriptors,
) -> Result<Machine, MachineError> {
    let folder = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW;
    let cgroups = &plan.cgroups;
    let run_dir = opened.opened(&plan.run_dir, folder)?.fd;
    let cgroup = |path: Option<&PathBuf>, opened: &mut Descriptors| {
        path.map(|path| opened.opened(path, folder)).transpose()
    };
    let cgroup2 = cgroup(cgroups.payload.as_ref(), opened)?;
    let monitor = cgroup(cgroups.monitor.as_ref(), opened)?;
    let tasks = |folders: &[PathBuf], opened: &mut Descriptors| {
        let open = |folder: &PathBuf| opened.opened(&folder.join("tasks"), OFlags::WRONLY);
        folders.iter().map(open).collect::<Result<Vec<_>, _>>()
    };
    let joins = tasks(&cgroups.joins, opened)?;
    let monitors = tasks(&cgroups.monitors, opened)?;
    let (mut visible, links) = programs(&plan.emulator, opened)?;
    for (path, target) in &line.visible {
        visible.push(Visible {
            source: opened.opened(path, OFlags::PATH)?,
            target: target.clone(),
        });
    }
    let devices = devices(plan, opened)?;
    let is_common =
        |device: &&Device| device.target != KVM && !device.target.starts_with(passed::NODES);
    let common: Vec<Device> = devices.iter().filter(is_common).cloned().collect();
    let helpers = plan
        .helpers
        .iter()
        .map(|one| helper(one, &common, opened))
        .collect::<Result<_, _>>()?;
    let mut arguments = vec![plan.emulator.display().to_string()];
    arguments.extend(line.arguments.iter().cloned());
    let program = order::program(&ProgramPlan {
        arguments,
        environment: vec![("LC_ALL".to_owned(), "C".to_owned())],
        directory: "/".to_owned(),
        uid: plan.ids.0,
        gid: plan.ids.1,
        groups: Vec::new(),
    })?;
    let kept = line
        .handed
        .iter()
        .map(|handed| hand(plan, handed, taps, opened))
        .collect::<Result<_, _>>()?;
    Ok(Machine {
        name: plan.name.clone(),
        generation: plan.generation,
        boot_id: boot_id.to_owned(),
        run_dir,
        cgroup2,
        joins,
        monitors,
        monitor,
        visible,
        links,
        devices,
        limits: plan
            .limits
            .iter()
            .map(order::limit)
            .collect::<Result<_, _>>()?,
        program,
        kept,
        helpers,
        restart: plan.restart.clone(),
    })
}

/// The folders of programs that the process sees, and the links to them.
pub(super) fn programs(
    emulator: &Path,
    opened: &mut Descriptors,
) -> Result<(Vec<Visible>, Vec<Link>), PathError> {
    let own = emulator
        .components()
        .nth(1)
        .and_then(|one| one.as_os_str().to_str());
    let names = PROGRAMS
        .into_iter()
        .chain(own.filter(|own| !PROGRAMS.contains(own)));
    let (mut visible, mut links) = (Vec::new(), Vec::new());
    for name in names {
        let target = format!("/{name}");
        let path = Path::new(&target);
        match rustix::fs::lstat(path).map(|stat| FileType::from_raw_mode(stat.st_mode)) {
            Ok(FileType::Symlink) => {
                let link = rustix::fs::readlink(path, Vec::new()).at("read the link", path)?;
                let to = link.to_string_lossy().into_owned();
                links.push(Link {
                    path: target,
                    target: to,
                });
            }
            Ok(FileType::Directory) => visible.push(Visible {
                source: opened.opened(path, OFlags::PATH | OFlags::DIRECTORY)?,
                target,
            }),
            _ => {}
        }
    }
    // Where the linker of programs looks first.
    let cache = Path::new("/etc/ld.so.cache");
    if cache.exists() {
        visible.push(Visible {
            source: opened.opened(cache, OFlags::PATH)?,
            target: cache.display().to_string(),
        });
    }
    Ok((visible, links))
}

/// Nodes that QEMU opens by name; all else is handed to it.
fn devices(plan: &MachinePlan, opened: &mut Descriptors) -> Result<Vec<Device>, PathError> {
    // Numbers by Documentation/admin-guide/devices.txt.
    let common = [
        ("/dev/null", (1, 3)),
        ("/dev/zero", (1, 5)),
        ("/dev/random", (1, 8)),
        ("/dev/urandom", (1, 9)),
    ];
    let mut nodes: Vec<_> = common
        .into_iter()
        .map(|(path, numbers)| (path.to_owned(), numbers, (0, 0), 0o666))
        .collect();
    let mut own = passed::nodes(&plan.hardware.passed);
    if plan.hardware.accelerator == Accelerator::Kvm {
        own.push(KVM.to_owned());
    }
    for path in own {
        let stat = rustix::fs::stat(&path).at("look at", &path)?;
        let numbers = (
            rustix::fs::major(stat.st_rdev),
            rustix::fs::minor(stat.st_rdev),
        );
        nodes.push((path, numbers, plan.ids, 0o600));
    }
    let kind = libc::S_IFCHR;
    nodes
        .into_iter()
        .map(|(path, (major, minor), owner, mode)| {
            let node = make_node(&plan.run_dir, kind, (major, minor), owner, mode)?;
            Ok(Device {
                node: Opened {
                    fd: opened.own(node),
                    path: path.clone(),
                },
                target: path,
                kind,
                major,
                minor,
            })
        })
        .collect()
}

fn hand(
    plan: &MachinePlan,
    handed: &Handed,
    taps: &BTreeMap<String, OwnedFd>,
    opened: &mut Descriptors,
) -> Result<Kept, MachineError> {
    let fd = match handed {
        Handed::File { path, writable } => {
            let flags = match writable {
                true => OFlags::RDWR,
                false => OFlags::RDONLY,
            };
            opened.opened(path, flags)?.fd
        }
        Handed::Listener(name) => {
            let path = plan.run_dir.join(name);
            opened.own(listen(&plan.run_dir, name).at("listen at", path)?)
        }
        Handed::Tap(device) if taps.contains_key(device) => opened.give(Given::Tap(device.clone())),
        Handed::Tap(device) => return Err(MachineError::NoTap(device.clone())),
        // The companion makes it.
        Handed::Helper(index) => return Ok(Kept::Helper { index: *index }),
    };
    Ok(Kept::Given { fd })
}

/// A listening socket in the run folder, which only root may enter. Its path may be longer than a socket's address is: the
/// folder is named by its descriptor.
fn listen(run_dir: &Path, name: &str) -> io::Result<OwnedFd> {
    use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let folder = rustix::fs::open(run_dir, flags, Mode::empty())?;
    match rustix::fs::unlinkat(&folder, name, rustix::fs::AtFlags::empty()) {
        Err(rustix::io::Errno::NOENT) => {}
        other => other?,
    }
    let socket = rustix::net::socket_with(
        AddressFamily::UNIX,
        SocketType::STREAM,
        SocketFlags::CLOEXEC,
        None,
    )?;
    let number = std::os::fd::AsRawFd::as_raw_fd(&folder);
    let address = SocketAddrUnix::new(format!("/proc/self/fd/{number}/{name}"))?;
    rustix::net::bind(&socket, &address)?;
    rustix::net::listen(&socket, 4)?;
    Ok(socket)
}
