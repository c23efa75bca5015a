//! The single-threaded stage between keel and a new init: clone, id maps, cgroups, id-mapped trees, and the talk.

use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};

use rustix::event::{PollFd, PollFlags};
use rustix::fs::{CWD, Mode, OFlags};
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::process::Pid;

use super::channel::{ChannelError, receive, send};
use super::confine;
use super::descriptors::Descriptors;
use super::failure::{Doing as _, Failure};
use super::helper::Helpers;
use super::init;
use super::locked::{self, tree, user_namespace};
use super::messages::{Answer, Event, IdRange, Opened, Progress, Root, Start, Step, VERSION};
use super::owner::Owner;
use super::payload;
use super::watch::Watch;
use crate::sys::clone3::{Cloned, NEW_SYSTEM, NEW_USER, Namespaces, clone3};
use crate::sys::mount::{Attributes, NODEV};
use crate::sys::process;

/// How long a new init may take to tell why it ends.
const TELLING: std::time::Duration = std::time::Duration::from_secs(2);

/// A started container.
#[derive(Debug)]
pub struct Live {
    /// In the host's view.
    pub pid: Pid,
    /// Of init.
    pub pidfd: OwnedFd,
    /// The companion's end of the console.
    pub master: OwnedFd,
    /// What the host did not grant.
    pub warnings: Vec<String>,
    /// Of a virtual machine: what it says of itself.
    pub watch: Option<Watch>,
    /// Of a virtual machine: the processes beside it.
    pub helpers: Helpers,
}

/// An init that was cloned and has to be killed unless it comes to life.
pub(super) struct Newborn {
    pub(super) pid: Pid,
    pub(super) pidfd: Option<OwnedFd>,
}

impl Newborn {
    /// It has come to life.
    pub(super) fn keep(mut self) -> Result<OwnedFd, Failure> {
        self.pidfd
            .take()
            .ok_or_else(|| Failure::new("keep init", libc::EBADF))
    }
}

impl Newborn {
    /// Tells keel that it is there.
    pub(super) fn report(&self, keel: BorrowedFd<'_>) -> Result<(), Failure> {
        let pidfd: Vec<_> = self.pidfd.iter().map(|fd| fd.as_fd()).collect();
        let init = self.pid.as_raw_nonzero().get();
        let shim = rustix::process::getpid().as_raw_nonzero().get();
        send(keel, VERSION, &Event::Cloned { init, shim }, &pidfd).named("report to keel")
    }
}

impl Drop for Newborn {
    fn drop(&mut self) {
        if let Some(pidfd) = &self.pidfd {
            let _ = process::signal_by_pidfd(pidfd, libc::SIGKILL);
            let _ = super::supervise::reap(pidfd);
        }
    }
}

/// Starts the container of `start`. With `keel`, it is told the pid, and its word is awaited before `plug` is called;
/// the first program runs after that.
///
/// # Errors
/// The failing call; everything that was started is then killed and reaped.
pub fn launch(
    start: &Start,
    descriptors: &Descriptors,
    keel: Option<BorrowedFd<'_>>,
    plug: &mut dyn FnMut(Pid) -> Result<(), Failure>,
) -> Result<Live, Failure> {
    let (ours, theirs) = rustix::net::socketpair(
        rustix::net::AddressFamily::UNIX,
        rustix::net::SocketType::STREAM,
        rustix::net::SocketFlags::CLOEXEC,
        None,
    )
    .named("make a socket pair")?;
    let (pid, pidfd, ours) = clone_init(start, descriptors, ours, theirs)?;
    let newborn = Newborn {
        pid,
        pidfd: Some(pidfd),
    };
    if let Some(keel) = keel {
        newborn.report(keel)?;
    }
    if !start.privileged {
        write_map(pid, "uid_map", &start.uid_map)?;
        write_map(pid, "gid_map", &start.gid_map)?;
    }
    let trees = trees(start, descriptors, pid)?;
    let borrowed: Vec<BorrowedFd<'_>> = trees.iter().map(|tree| tree.as_fd()).collect();
    let step = |step, descriptors: &[BorrowedFd<'_>]| {
        send(&ours, VERSION, &step, descriptors).named("talk to the new init")
    };
    step(Step::Prepared, &borrowed).map_err(|_| reason(&ours, gone()))?;
    drop(trees);
    if let Some(keel) = keel {
        await_go(keel, &ours)?;
    }
    // Into one that ends nothing can be plugged, and it has said why; it may still be about to close its end.
    plug(newborn.pid).map_err(|failure| {
        let _ = set_socket_timeout(&ours, Timeout::Recv, Some(TELLING));
        reason(&ours, failure)
    })?;
    let (master, mut warnings) = await_ready(&ours)?;
    let master = master.ok_or_else(|| Failure::new("take the console from init", libc::EBADF))?;
    // Limits of a process are set by whoever may do so in its namespace: the owner, also on a host without
    // CAP_SYS_RESOURCE.
    let owner = Owner::become_of(start)?;
    confine::limit(pid, &start.confinement.limits, &mut warnings);
    owner.leave()?;
    step(Step::Go, &[]).map_err(|_| reason(&ours, gone()))?;
    await_execution(&ours)?;
    Ok(Live {
        pid,
        pidfd: newborn.keep()?,
        master,
        warnings,
        watch: None,
        helpers: Helpers::default(),
    })
}

#[expect(
    clippy::needless_pass_by_value,
    reason = "this end of the channel is closed here"
)]
fn clone_init(
    start: &Start,
    descriptors: &Descriptors,
    ours: OwnedFd,
    theirs: OwnedFd,
) -> Result<(Pid, OwnedFd, OwnedFd), Failure> {
    if let Some(offsets) = &start.time {
        process::unshare_time().named("make a time namespace")?;
        let text = format!(
            "monotonic {} 0\nboottime {} 0\n",
            offsets.monotonic_seconds, offsets.boottime_seconds
        );
        write("/proc/self/timens_offsets", &text)?;
    }
    let user = if start.privileged { 0 } else { NEW_USER };
    let cgroup = match &start.cgroup2 {
        Some(opened) => {
            let folder = descriptors.get(&opened.fd)?;
            payload::clear(folder, &opened.path)?;
            Some(folder)
        }
        None => None,
    };
    let locked = locked::prepare(start, descriptors)?;
    let owner = Owner::become_of(start)?;
    let cloned = clone3(Namespaces(NEW_SYSTEM | user), cgroup);
    if !matches!(cloned, Ok(Cloned::Child)) {
        owner.leave()?;
    }
    match cloned.doing(|| match &start.cgroup2 {
        Some(opened) => format!("clone into new namespaces and the cgroup {}", opened.path),
        None => "clone into new namespaces".to_owned(),
    })? {
        Cloned::Parent { pid, pidfd } => {
            if let Some(Err(failure)) = locked.map(|locked| locked.leave()) {
                drop(Newborn {
                    pid,
                    pidfd: Some(pidfd),
                });
                return Err(failure);
            }
            Ok((pid, pidfd, ours))
        }
        Cloned::Child => {
            // Its own copy of this end would hide from it that the companion has ended.
            drop(ours);
            init::become_init(start, descriptors, &theirs)
        }
    }
}

/// Writes a file of /proc that exists.
fn write(path: &str, text: &str) -> Result<(), Failure> {
    let file = rustix::fs::openat(CWD, path, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())
        .doing(|| format!("open {path}"))?;
    rustix::io::write(&file, text.as_bytes()).doing(|| format!("write {text:?} to {path}"))?;
    Ok(())
}

/// Writes an id map of a child.
///
/// # Errors
/// The kernel's answer.
pub fn write_map(pid: Pid, file: &str, ranges: &[IdRange]) -> Result<(), Failure> {
    use std::fmt::Write as _;
    let mut text = String::new();
    for range in ranges {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{} {} {}", range.inside, range.outside, range.length);
    }
    write(&format!("/proc/{}/{file}", pid.as_raw_nonzero()), &text)
}

/// Moves this process into cgroups by their open `tasks`.
///
/// A thread that writes itself into `tasks` needs no lock (Linux 5.5, `cgroup_procs_write_start`); whoever moves somebody
/// else, or a whole process, waits until no process of the host forks: a grace period of some milliseconds. This
/// program has one thread.
///
/// # Errors
/// The kernel's answer, with the cgroup.
pub fn join(cgroups: &[Opened], descriptors: &Descriptors) -> Result<(), Failure> {
    for cgroup in cgroups {
        rustix::io::write(descriptors.get(&cgroup.fd)?, b"0")
            .doing(|| format!("join the cgroup {}", cgroup.path))?;
    }
    Ok(())
}

/// Detached mounts of the overlay's layers and of all devices, in that order.
fn trees(start: &Start, descriptors: &Descriptors, pid: Pid) -> Result<Vec<OwnedFd>, Failure> {
    let user = if start.privileged {
        None
    } else {
        Some(user_namespace(pid)?)
    };
    let layer = Attributes {
        set: NODEV,
        map: user.as_ref().map(|fd| fd.as_fd()),
        propagation: libc::MS_PRIVATE,
        ..Attributes::default()
    };
    let mut trees = Vec::new();
    if let Root::Overlay { layers, writable } = &start.root {
        for opened in layers.iter().chain([writable]) {
            trees.push(tree(descriptors, opened, false, layer)?);
        }
    }
    for device in &start.devices {
        let attributes = Attributes {
            clear: NODEV,
            propagation: libc::MS_PRIVATE,
            ..Attributes::default()
        };
        trees.push(tree(descriptors, &device.node, false, attributes)?);
    }
    Ok(trees)
}

/// Waits for keel's word, and meanwhile hears a new init that fails.
pub(super) fn await_go(keel: BorrowedFd<'_>, init: &OwnedFd) -> Result<(), Failure> {
    // A message says that it is ready or has failed; then only its end is news: who fails tells why first, and may take
    // long to end.
    let mut news = PollFlags::IN | PollFlags::RDHUP;
    loop {
        let mut sources = [
            PollFd::from_borrowed_fd(keel, PollFlags::IN),
            PollFd::new(init, news),
        ];
        match rustix::event::poll(&mut sources, None) {
            Err(rustix::io::Errno::INTR) => continue,
            other => other.named("wait for keel")?,
        };
        if !sources[0].revents().is_empty() {
            let (Answer::Go, _) = receive::<Answer>(keel, VERSION).named("wait for keel's word")?;
            return Ok(());
        }
        // Ready is left in the socket for `await_ready`.
        if !sources[1].revents().is_empty() {
            if ended(init) {
                return Err(reason(init, gone()));
            }
            news = PollFlags::RDHUP;
        }
    }
}

/// Whether the new init has closed its end.
fn ended(init: &OwnedFd) -> bool {
    let mut sources = [PollFd::new(init, PollFlags::RDHUP)];
    let now = rustix::event::Timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    rustix::event::poll(&mut sources, Some(&now)).is_ok_and(|ready| ready > 0)
}

/// Waits until the new process is ready; answers its terminal, if it made one, and what was not granted.
///
/// # Errors
/// What it says, or that it is gone.
pub fn await_ready(init: &OwnedFd) -> Result<(Option<OwnedFd>, Vec<String>), Failure> {
    match receive::<Progress>(init, VERSION) {
        Ok((Progress::Ready { warnings }, descriptors)) => {
            Ok((descriptors.into_iter().next(), warnings))
        }
        Ok((Progress::Failed { doing, errno }, _)) => Err(Failure { doing, errno }),
        Err(ChannelError::Closed) => Err(gone()),
        Err(error) => Err(error).named("hear the new init"),
    }
}

/// Waits until execve has closed the new process's end of the socket.
///
/// # Errors
/// The failure that it says before it closes.
pub fn await_execution(init: &OwnedFd) -> Result<(), Failure> {
    match receive::<Progress>(init, VERSION) {
        Err(ChannelError::Closed) => Ok(()),
        Ok((Progress::Failed { doing, errno }, _)) => Err(Failure { doing, errno }),
        Ok((Progress::Ready { .. }, _)) => {
            Err(Failure::new("follow the new init's steps", libc::EPROTO))
        }
        Err(error) => Err(error).named("hear the new init"),
    }
}

pub(super) fn gone() -> Failure {
    // The kernel does so itself in a cgroup 2 folder whose cgroup.kill was once used (6.14 and later).
    Failure::new(
        "start init, which was killed meanwhile (was cgroup.kill used on its cgroup?)",
        libc::ECHILD,
    )
}

/// What the new init said before it closed its end, else `otherwise`.
pub(super) fn reason(init: &OwnedFd, otherwise: Failure) -> Failure {
    loop {
        match receive::<Progress>(init, VERSION) {
            Ok((Progress::Failed { doing, errno }, _)) => return Failure { doing, errno },
            Ok((Progress::Ready { .. }, _)) => {}
            Err(_) => return otherwise,
        }
    }
}
