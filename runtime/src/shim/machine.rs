//! Starting the process of a virtual machine: namespaces of its own, a root with nothing in it but programs, an unprivileged
//! user, and all that it works on as descriptors.

use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};

use rustix::fs::CWD;
use rustix::process::Pid;

use super::channel::send;
use super::confine;
use super::descriptors::Descriptors;
use super::failure::{Doing as _, Failure, fail};
use super::filesystems::{attach, change, detached};
use super::helper;
use super::init::wait;
use super::interior::{Console, attach_device, open_terminal};
use super::launch::{Live, Newborn, await_execution, await_go, await_ready, gone, join, reason};
use super::locked::tree;
use super::messages::{
    Confinement, Device, KEPT, Kept, Link, Machine, Progress, Step, VERSION, Visible, WATCHED,
};
use super::payload;
use super::place::{Kind, mount_point};
use super::rootfs;
use super::watch::{self, Watched};
use crate::sys::clone3::{Cloned, NEW_SYSTEM, Namespaces, clone3};
use crate::sys::mount::{Attributes, NODEV, NOEXEC, NOSUID, READ_ONLY};
use crate::sys::process;

/// Starts the process of `machine`. With `keel`, it is told the pid, and its word is awaited before `begun` is called.
///
/// # Errors
/// The failing call; everything that was started is then killed and reaped.
pub fn launch(
    machine: &Machine,
    descriptors: &Descriptors,
    keel: Option<BorrowedFd<'_>>,
    begun: &mut dyn FnMut(Pid) -> Result<(), Failure>,
) -> Result<Live, Failure> {
    let (ours, theirs) = rustix::net::socketpair(
        rustix::net::AddressFamily::UNIX,
        rustix::net::SocketType::STREAM,
        rustix::net::SocketFlags::CLOEXEC,
        None,
    )
    .named("make a socket pair")?;
    let (watch, watched) = watch::pair()?;
    // Of no devpts that anybody else sees.
    let options = [("mode", "0600"), ("ptmxmode", "0000")];
    let Console { master, slave } = open_terminal(detached("devpts", &options, NOSUID | NOEXEC)?)?;
    let trees = seen_trees(&machine.visible, &machine.devices, descriptors)?;
    let cgroup = match &machine.cgroup2 {
        Some(opened) => {
            let folder = descriptors.get(&opened.fd)?;
            payload::clear(folder, &opened.path)?;
            Some(folder)
        }
        None => None,
    };
    let (helpers, ends) = helper::launch(machine, descriptors, cgroup)?;
    let cloned = clone3(Namespaces(NEW_SYSTEM), cgroup).named("clone into new namespaces")?;
    let (pid, pidfd) = match cloned {
        Cloned::Parent { pid, pidfd } => (pid, pidfd),
        Cloned::Child => {
            // Its own copy of this end would hide from it that the companion has ended.
            drop(ours);
            become_machine(machine, descriptors, (&slave, &watched, &ends), &theirs)
        }
    };
    let newborn = Newborn {
        pid,
        pidfd: Some(pidfd),
    };
    drop((theirs, watched, slave, ends));
    if let Some(keel) = keel {
        newborn.report(keel)?;
    }
    let step = |step, descriptors: &[BorrowedFd<'_>]| {
        send(&ours, VERSION, &step, descriptors)
            .named("talk to the new process")
            .map_err(|_| reason(&ours, gone()))
    };
    let borrowed: Vec<BorrowedFd<'_>> = trees.iter().map(|tree| tree.as_fd()).collect();
    step(Step::Prepared, &borrowed)?;
    drop(trees);
    if let Some(keel) = keel {
        await_go(keel, &ours)?;
    }
    begun(pid)?;
    let (_, mut warnings) = await_ready(&ours)?;
    confine::limit(pid, &machine.limits, &mut warnings);
    step(Step::Go, &[])?;
    await_execution(&ours)?;
    Ok(Live {
        pid,
        pidfd: newborn.keep()?,
        master,
        warnings,
        watch: Some(watch),
        helpers,
    })
}

/// Detached mounts of all that a process sees, and of its devices, in that order.
pub(super) fn seen_trees(
    visible: &[Visible],
    devices: &[Device],
    descriptors: &Descriptors,
) -> Result<Vec<OwnedFd>, Failure> {
    let seen = Attributes {
        set: READ_ONLY | NOSUID | NODEV,
        propagation: libc::MS_PRIVATE,
        ..Attributes::default()
    };
    let device = Attributes {
        set: NOSUID | NOEXEC,
        clear: NODEV,
        propagation: libc::MS_PRIVATE,
        ..Attributes::default()
    };
    let visible = visible
        .iter()
        .map(|one| tree(descriptors, &one.source, false, seen));
    let devices = devices
        .iter()
        .map(|one| tree(descriptors, &one.node, false, device));
    visible.chain(devices).collect()
}

/// Runs in the cloned process and never returns: it becomes the emulator, or says what failed and ends.
fn become_machine(
    machine: &Machine,
    descriptors: &Descriptors,
    given: (&OwnedFd, &Watched, &[OwnedFd]),
    socket: &OwnedFd,
) -> ! {
    if let Err(failure) = prepare(machine, descriptors, socket) {
        fail(socket, failure);
    }
    let failure = match alone(machine, descriptors, given, socket) {
        Err(failure) => failure,
        Ok(report) => fail(&report, execute(machine)),
    };
    fail(socket, failure)
}

fn prepare(machine: &Machine, descriptors: &Descriptors, socket: &OwnedFd) -> Result<(), Failure> {
    rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))
        .named("end with the companion")?;
    join(&machine.joins, descriptors)?;
    // The folders of its root are for an unprivileged user.
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o022));
    let mut trees = wait(socket, &Step::Prepared)?.into_iter();
    let staging = rootfs::stage()?;
    staging.mount_empty_root()?;
    process::unshare_cgroup().named("make a cgroup namespace")?;
    let root = staging.pivot()?;
    let (visible, links) = (&machine.visible, &machine.links);
    furnish(&root, visible, links, &machine.devices, &mut trees)?;
    let read_only = Attributes {
        set: READ_ONLY,
        ..Attributes::default()
    };
    change(&root, false, read_only, || "close the root".to_owned())?;
    rustix::system::sethostname(machine.name.as_bytes())
        .doing(|| format!("set the host name {}", machine.name))?;
    let ready = Progress::Ready {
        warnings: Vec::new(),
    };
    send(socket, VERSION, &ready, &[]).named("report to the companion")?;
    wait(socket, &Step::Go)?;
    Ok(())
}

/// Puts into an empty root what a process sees, and its devices; `trees` are as [`seen_trees`] made them.
pub(super) fn furnish(
    root: &OwnedFd,
    visible: &[Visible],
    links: &[Link],
    devices: &[Device],
    trees: &mut impl Iterator<Item = OwnedFd>,
) -> Result<(), Failure> {
    let mut next = || {
        trees
            .next()
            .ok_or_else(|| Failure::new("find a mount of the process", libc::EBADF))
    };
    for Visible { source, target } in visible {
        let tree = next()?;
        let stat = rustix::fs::fstat(&tree).doing(|| format!("look at {}", source.path))?;
        let kind = match rustix::fs::FileType::from_raw_mode(stat.st_mode) {
            rustix::fs::FileType::Directory => Kind::Folder,
            _ => Kind::File,
        };
        attach(tree, mount_point(root, target, kind)?, target)?;
    }
    for link in links {
        rustix::fs::symlinkat(link.target.as_str(), CWD, link.path.as_str())
            .doing(|| format!("make the link {}", link.path))?;
    }
    for device in devices {
        attach_device(root, device, &next()?)?;
    }
    Ok(())
}

/// Has the machine's descriptors and the returned one for failures, and no other.
fn alone(
    machine: &Machine,
    descriptors: &Descriptors,
    (terminal, watched, ends): (&OwnedFd, &Watched, &[OwnedFd]),
    report: &OwnedFd,
) -> Result<OwnedFd, Failure> {
    // The terminal is not its controlling one: what is typed there is the guest's, and no signal for the process.
    rustix::process::setsid().named("begin a session")?;
    confine::redirect([
        terminal.as_fd(),
        terminal.as_fd(),
        watched.complaints.as_fd(),
    ])?;
    let mut kept = vec![watched.monitor.as_fd()];
    for one in &machine.kept {
        kept.push(match one {
            Kept::Given { fd } => descriptors.get(fd)?,
            Kept::Helper { index } => ends
                .get(*index as usize)
                .map(|end| end.as_fd())
                .ok_or_else(|| Failure::new("find the socket of a helper", libc::EBADF))?,
        });
    }
    debug_assert_eq!(WATCHED + 1, KEPT);
    process::keep_numbered(&kept, WATCHED, report).named("keep the machine's descriptors")
}

fn execute(machine: &Machine) -> Failure {
    let confined = || {
        confine::hold(&Confinement {
            capabilities: 0,
            seccomp: Vec::new(),
            limits: Vec::new(),
        })?;
        process::forgo_new_privileges().named("forgo new privileges")?;
        confine::set_ids(&machine.program)?;
        process::reset_signals();
        rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o077));
        rustix::process::set_parent_process_death_signal(None).named("outlive the companion")?;
        confine::command(&machine.program)
    };
    match confined() {
        Err(failure) => failure,
        Ok((path, arguments, environment)) => {
            let error = process::execute(&path, &arguments, &environment);
            let name = path.to_string_lossy();
            Failure::new(
                format!("execute {name}"),
                error.raw_os_error().unwrap_or(libc::EPROTO),
            )
        }
    }
}
