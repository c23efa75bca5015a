//! Processes beside a virtual machine that serve a part of it: virtiofsd for a folder of the host, swtpm for a TPM.
//!
//! Each runs before QEMU does, in namespaces and a root of its own with nothing in it but programs and the one folder that
//! it works on. It meets QEMU over a socket that nobody else can reach. The companion hears when one ends, and ends them
//! all with QEMU; they outlive a companion that is killed, and are found again by what is written down of them.

use std::fmt::Write as _;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::fs::{AtFlags, CWD, Mode, OFlags};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use rustix::pipe::PipeFlags;
use rustix::process::Pid;

use super::channel::send;
use super::confine;
use super::descriptors::Descriptors;
use super::failure::{Doing as _, Failure, fail};
use super::filesystems::{attach, change, detached};
use super::init::wait;
use super::launch::{Newborn, await_execution, await_ready, gone, join, reason, write_map};
use super::locked::{tree, user_namespace};
use super::machine::{furnish, seen_trees};
use super::messages::{
    Confinement, Helper, Machine, Meets, Opened, Progress, SERVED, Step, VERSION,
};
use super::place::{Kind, mount_point};
use super::record::End;
use super::ring::Ring;
use super::rootfs;
use super::supervise::{reap, start_time};
use crate::sys::clone3::{Cloned, NEW_SYSTEM, NEW_USER, Namespaces, clone3};
use crate::sys::mount::{Attributes, NODEV, NOEXEC, NOSUID, READ_ONLY};
use crate::sys::process;

/// What is written down of them, in the run folder.
pub const FILE: &str = "helpers";
/// The most that a machine has: one in each of its ports, and a TPM.
pub const MOST: usize = 17;
/// The socket of one that is about to start, in the run folder; it has no name by the time it runs.
const SOCKET: &str = ".helper";
/// How long one may take to end by itself when QEMU is gone: it has what it keeps to write.
const LEAVING_MS: i64 = 2000;
/// So many pieces of its last words are heard: as much as the kernel holds for a pipe.
const LAST_WORDS: usize = 16;

/// A helper that was started.
#[derive(Debug)]
struct One {
    name: String,
    device: String,
    pid: Pid,
    pidfd: OwnedFd,
    complaints: Option<OwnedFd>,
    ended: bool,
}

/// The helpers of a machine. Dropped, they end.
#[derive(Debug, Default)]
pub struct Helpers(Vec<One>);

/// Starts the helpers of a machine, and writes down which they are. Answers QEMU's ends of their sockets, in their order.
///
/// # Errors
/// The failing call, with the helper; those that were started have ended then.
pub fn launch(
    machine: &Machine,
    descriptors: &Descriptors,
    cgroup: Option<BorrowedFd<'_>>,
) -> Result<(Helpers, Vec<OwnedFd>), Failure> {
    let (mut helpers, mut ends) = (Helpers::default(), Vec::new());
    if machine.helpers.len() > MOST {
        return Err(Failure::new(
            "start as many helpers of a machine",
            libc::E2BIG,
        ));
    }
    for helper in &machine.helpers {
        let (one, end) = start(helper, &machine.joins, descriptors, cgroup).map_err(|failure| {
            let Failure { doing, errno } = failure;
            let doing = format!("start {} of {}: {doing}", helper.name, helper.device);
            Failure { doing, errno }
        })?;
        helpers.0.push(one);
        ends.push(end);
    }
    helpers.write_down()?;
    Ok((helpers, ends))
}

fn start(
    helper: &Helper,
    joins: &[Opened],
    descriptors: &Descriptors,
    cgroup: Option<BorrowedFd<'_>>,
) -> Result<(One, OwnedFd), Failure> {
    let (ours, theirs) = pair()?;
    let (served, end) = meet(&helper.meets)?;
    let (complaints, writer) =
        rustix::pipe::pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK).named("make a pipe")?;
    let user = match helper.ids.is_empty() {
        true => 0,
        false => NEW_USER,
    };
    let cloned =
        clone3(Namespaces(NEW_SYSTEM | user), cgroup).named("clone into new namespaces")?;
    let (pid, pidfd) = match cloned {
        Cloned::Parent { pid, pidfd } => (pid, pidfd),
        Cloned::Child => {
            // Its own copy of this end would hide from it that the companion has ended.
            drop(ours);
            become_helper(
                helper,
                joins,
                descriptors,
                &Ends {
                    served,
                    errors: writer,
                },
                &theirs,
            )
        }
    };
    let newborn = Newborn {
        pid,
        pidfd: Some(pidfd),
    };
    drop((theirs, served, writer));
    if user != 0 {
        write_map(pid, "uid_map", &helper.ids)?;
        write_map(pid, "gid_map", &helper.ids)?;
    }
    let trees = trees(helper, descriptors, pid)?;
    let borrowed: Vec<BorrowedFd<'_>> = trees.iter().map(|tree| tree.as_fd()).collect();
    let step = |step, descriptors: &[BorrowedFd<'_>]| {
        send(&ours, VERSION, &step, descriptors)
            .named("talk to the new process")
            .map_err(|_| reason(&ours, gone()))
    };
    step(Step::Prepared, &borrowed)?;
    drop(trees);
    let (_, mut warnings) = await_ready(&ours)?;
    // What the host does not grant is less to it, and tells itself when it is too little.
    confine::limit(pid, &helper.limits, &mut warnings);
    step(Step::Go, &[])?;
    await_execution(&ours)?;
    let one = One {
        name: helper.name.clone(),
        device: helper.device.clone(),
        pid,
        pidfd: newborn.keep()?,
        complaints: Some(complaints),
        ended: false,
    };
    Ok((one, end))
}

fn pair() -> Result<(OwnedFd, OwnedFd), Failure> {
    rustix::net::socketpair(
        AddressFamily::UNIX,
        SocketType::STREAM,
        SocketFlags::CLOEXEC,
        None,
    )
    .named("make a socket pair")
}

/// The helper's end of its socket, and QEMU's.
fn meet(how: &Meets) -> Result<(OwnedFd, OwnedFd), Failure> {
    if *how == Meets::Connected {
        return pair();
    }
    let socket = || {
        rustix::net::socket_with(
            AddressFamily::UNIX,
            SocketType::STREAM,
            SocketFlags::CLOEXEC,
            None,
        )
        .named("make a socket")
    };
    let remove = || rustix::fs::unlinkat(CWD, SOCKET, AtFlags::empty());
    // In the working folder, which is the run folder: a name that others can reach there is none.
    let address = SocketAddrUnix::new(SOCKET).named("name a socket")?;
    let _ = remove();
    let listener = socket()?;
    rustix::net::bind(&listener, &address).named("bind a socket")?;
    rustix::net::listen(&listener, 1).named("listen on a socket")?;
    let end = socket()?;
    // It waits there until it is accepted.
    rustix::net::connect(&end, &address).named("connect to a socket")?;
    remove().named("take the name of a socket away")?;
    Ok((listener, end))
}

/// Detached mounts of all that the process sees, of its devices, and of what it works on, in that order.
fn trees(helper: &Helper, descriptors: &Descriptors, pid: Pid) -> Result<Vec<OwnedFd>, Failure> {
    let mut trees = seen_trees(&helper.visible, &helper.devices, descriptors)?;
    let folder = &helper.folder;
    let user = folder.shift.then(|| user_namespace(pid)).transpose()?;
    let attributes = Attributes {
        set: folder.attributes,
        propagation: libc::MS_PRIVATE,
        map: user.as_ref().map(|fd| fd.as_fd()),
        ..Attributes::default()
    };
    trees.push(tree(
        descriptors,
        &folder.source,
        folder.recursive,
        attributes,
    )?);
    Ok(trees)
}

/// What the process is given.
struct Ends {
    served: OwnedFd,
    errors: OwnedFd,
}

/// Runs in the cloned process and never returns: it becomes the helper, or says what failed and ends.
fn become_helper(
    helper: &Helper,
    joins: &[Opened],
    descriptors: &Descriptors,
    ends: &Ends,
    socket: &OwnedFd,
) -> ! {
    // Never dropped: by then it is closed.
    let null = match prepare(helper, joins, descriptors, socket) {
        Err(failure) => fail(socket, failure),
        Ok(null) => null,
    };
    let failure = match alone(&null, ends, socket) {
        Err(failure) => failure,
        Ok(report) => fail(&report, execute(helper)),
    };
    fail(socket, failure)
}

fn prepare(
    helper: &Helper,
    joins: &[Opened],
    descriptors: &Descriptors,
    socket: &OwnedFd,
) -> Result<OwnedFd, Failure> {
    // It still holds the host's descriptors, and may have the ids of somebody who runs already.
    rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable)
        .named("become undumpable")?;
    rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))
        .named("end with the companion")?;
    join(joins, descriptors)?;
    rustix::process::umask(Mode::from_raw_mode(0o022));
    let mut trees = wait(socket, &Step::Prepared)?.into_iter();
    if !helper.ids.is_empty() {
        confine::become_root()?;
    }
    let staging = rootfs::stage()?;
    staging.mount_empty_root()?;
    // While the host's is still in sight: a user namespace gets no other (mount_too_revealing, fs/namespace.c).
    let proc = helper
        .proc
        .then(|| detached("proc", &[], NOSUID | NODEV | NOEXEC))
        .transpose()?;
    process::unshare_cgroup().named("make a cgroup namespace")?;
    let root = staging.pivot()?;
    let (visible, links) = (&helper.visible, &helper.links);
    furnish(&root, visible, links, &helper.devices, &mut trees)?;
    if let Some(proc) = proc {
        attach(proc, mount_point(&root, "/proc", Kind::Folder)?, "/proc")?;
    }
    let folder = &helper.folder;
    let tree = trees
        .next()
        .ok_or_else(|| Failure::new("find the mount of a helper", libc::EBADF))?;
    let place = mount_point(&root, &folder.target, Kind::Folder)?;
    attach(tree, place, &folder.source.path)?;
    let read_only = Attributes {
        set: READ_ONLY,
        ..Attributes::default()
    };
    change(&root, false, read_only, || "close the root".to_owned())?;
    let ready = Progress::Ready {
        warnings: Vec::new(),
    };
    send(socket, VERSION, &ready, &[]).named("report to the companion")?;
    wait(socket, &Step::Go)?;
    let flags = OFlags::RDWR | OFlags::CLOEXEC;
    rustix::fs::open("/dev/null", flags, Mode::empty()).named("open /dev/null")
}

/// Has its socket and the returned descriptor for failures, and no other.
fn alone(null: &OwnedFd, ends: &Ends, report: &OwnedFd) -> Result<OwnedFd, Failure> {
    rustix::process::setsid().named("begin a session")?;
    let errors = ends.errors.as_fd();
    confine::redirect([null.as_fd(), errors, errors])?;
    process::keep_numbered(&[ends.served.as_fd()], SERVED, report).named("keep the helper's socket")
}

fn execute(helper: &Helper) -> Failure {
    let confined = || {
        confine::hold(&Confinement {
            capabilities: helper.capabilities,
            seccomp: Vec::new(),
            limits: Vec::new(),
        })?;
        process::forgo_new_privileges().named("forgo new privileges")?;
        confine::set_ids(&helper.program)?;
        process::reset_signals();
        rustix::process::umask(Mode::from_raw_mode(0o077));
        rustix::process::set_parent_process_death_signal(None).named("outlive the companion")?;
        confine::command(&helper.program)
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

impl Helpers {
    /// What is waited for: the end of each, and what it complains of.
    pub fn sources(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.0.iter().flat_map(|one| {
            let end = (!one.ended).then(|| one.pidfd.as_fd());
            let complaints = one.complaints.as_ref().map(|fd| fd.as_fd());
            [end, complaints].into_iter().flatten()
        })
    }

    /// Takes note of what happened to them since.
    pub fn turn(&mut self, ring: &mut Ring) {
        for one in &mut self.0 {
            one.keep(ring);
            if !one.ended && ended(&one.pidfd, 0) {
                one.take_status(ring);
            }
        }
    }

    /// Ends them: those that do not by themselves when their machine is gone are killed.
    pub fn end(&mut self, ring: &mut Ring) {
        for one in &mut self.0 {
            one.end();
            for _ in 0..LAST_WORDS {
                if !one.keep(ring) {
                    break;
                }
            }
        }
        self.0.clear();
        let _ = rustix::fs::unlinkat(CWD, FILE, AtFlags::empty());
    }

    /// There is the whole file or none; without helpers there is none.
    fn write_down(&self) -> Result<(), Failure> {
        const NEW: &str = ".helpers";
        let remove = |name| match rustix::fs::unlinkat(CWD, name, AtFlags::empty()) {
            Err(rustix::io::Errno::NOENT) => Ok(()),
            other => other.doing(|| format!("remove the file {name} in the run folder")),
        };
        remove(FILE)?;
        if self.0.is_empty() {
            return Ok(());
        }
        remove(NEW)?;
        let written: Vec<Written> = self
            .0
            .iter()
            .map(|one| {
                let pid = one.pid.as_raw_nonzero().get();
                Written {
                    pid,
                    start_time: start_time(pid).unwrap_or(0),
                    name: one.name.clone(),
                    device: one.device.clone(),
                }
            })
            .collect();
        let text = to_text(&written);
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
        let doing = "write down the helpers in the run folder";
        let file = rustix::fs::open(NEW, flags, Mode::from_raw_mode(0o600)).named(doing)?;
        let mut rest = text.as_bytes();
        while !rest.is_empty() {
            let written = rustix::io::write(&file, rest).named(doing)?;
            rest = &rest[written..];
        }
        rustix::fs::renameat(CWD, NEW, CWD, FILE).named(doing)
    }
}

impl Drop for Helpers {
    fn drop(&mut self) {
        for one in &mut self.0 {
            let _ = process::signal_by_pidfd(&one.pidfd, libc::SIGKILL);
            one.end();
        }
    }
}

/// Whether the process of a pidfd ends within this time.
fn ended(pidfd: &OwnedFd, patience_ms: i64) -> bool {
    let mut source = [PollFd::new(pidfd, PollFlags::IN)];
    let patience = Timespec {
        tv_sec: patience_ms / 1000,
        tv_nsec: patience_ms % 1000 * 1_000_000,
    };
    rustix::event::poll(&mut source, Some(&patience)).is_ok_and(|ready| ready > 0)
}

impl One {
    /// Moves a piece of what it complains of to the log; `false`: there is none.
    fn keep(&mut self, ring: &mut Ring) -> bool {
        let Some(complaints) = &self.complaints else {
            return false;
        };
        let mut bytes = [0; 4096];
        let length = match rustix::io::read(complaints, &mut bytes) {
            Ok(length) if length > 0 => length,
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => return false,
            // Nobody holds the other end any more.
            Ok(_) | Err(_) => {
                self.complaints = None;
                return false;
            }
        };
        for line in bytes[..length].split(|byte| *byte == b'\n') {
            if !line.is_empty() {
                self.tell(ring, line);
            }
        }
        true
    }

    fn tell(&self, ring: &mut Ring, line: &[u8]) {
        ring.append(format!("{} of {}: ", self.name, self.device).as_bytes());
        ring.append(line);
        ring.append(b"\r\n");
    }

    fn take_status(&mut self, ring: &mut Ring) {
        self.ended = true;
        let how = match reap(&self.pidfd) {
            Ok(End::Code(code)) => format!("it has ended with code {code}"),
            Ok(End::Signal(signal)) => format!("it was killed by signal {signal}"),
            Err(_) => "it has ended".to_owned(),
        };
        self.tell(ring, how.as_bytes());
    }

    fn end(&mut self) {
        if std::mem::replace(&mut self.ended, true) {
            return;
        }
        if !ended(&self.pidfd, LEAVING_MS) {
            let _ = process::signal_by_pidfd(&self.pidfd, libc::SIGKILL);
        }
        let _ = reap(&self.pidfd);
    }
}

/// What is written down of a helper.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Written {
    /// In the host's view.
    pub pid: i32,
    /// Field 22 of its `/proc/PID/stat`.
    pub start_time: u64,
    /// For people: `virtiofsd`.
    pub name: String,
    /// The device that it serves.
    pub device: String,
}

/// One a line, the format's version first.
fn to_text(helpers: &[Written]) -> String {
    let mut text = "version 1\n".to_owned();
    for one in helpers {
        // Writing to a String cannot fail.
        let _ = writeln!(
            text,
            "helper {} {} {} {}",
            one.pid, one.start_time, one.name, one.device
        );
    }
    text
}

/// Reads what was written down; lines of later versions are skipped.
pub fn parse(text: &str) -> Vec<Written> {
    let line = |line: &str| {
        let mut words = line.strip_prefix("helper ")?.splitn(4, ' ');
        Some(Written {
            pid: words.next()?.parse().ok()?,
            start_time: words.next()?.parse().ok()?,
            name: words.next()?.to_owned(),
            device: words.next()?.to_owned(),
        })
    };
    text.lines().filter_map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn helpers_are_read_as_they_are_written_down() {
        let one = |pid, name: &str, device: &str| Written {
            pid,
            start_time: 4711,
            name: name.to_owned(),
            device: device.to_owned(),
        };
        let all = vec![one(7, "virtiofsd", "data"), one(8, "swtpm", "a b")];
        assert_eq!(parse(&to_text(&all)), all);
        assert_eq!(
            parse("version 2\nhelper x 1 a b\nother 1\nhelper 1 2\n"),
            []
        );
    }
}
