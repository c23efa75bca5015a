//! The companion as keel sees it: asked over its control socket, and ended where it does not answer.

use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use manifests::path_io::{self, AtPath as _};
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::net::sockopt::Timeout;
use rustix::process::{Pid, PidfdFlags};

use super::freezer;
use super::running::ShimError;
use super::state::{self, SavedState};
use crate::native::cgroup::Patience;
use crate::shim::channel::{self, ChannelError};
use crate::shim::control::{self, Reply, Request, State};
use crate::sys::process;

/// How long a companion may take to answer: it does nothing that waits.
const ANSWER: Duration = Duration::from_secs(5);

/// The companion of a start.
#[derive(Debug, Clone, Copy)]
pub(super) struct Companion<'of> {
    pub(super) run_dir: &'of Path,
    pub(super) state: &'of SavedState,
}

fn call(doing: &'static str) -> impl FnOnce(rustix::io::Errno) -> ShimError {
    move |errno| ShimError::Call {
        doing,
        source: errno.into(),
    }
}

impl Companion<'_> {
    /// Asks it. One that was stopped or frozen by hand is not waited for.
    ///
    /// # Errors
    /// It does not answer.
    pub(super) fn ask(&self, request: &Request) -> Result<(State, Vec<OwnedFd>), ShimError> {
        let path = || self.run_dir.join(control::FILE);
        let channel = |source| ShimError::Channel {
            path: path(),
            source,
        };
        let mut patience = Patience::new(ANSWER);
        let silent = || {
            let silent = io::Error::new(io::ErrorKind::TimedOut, "it does not answer");
            channel(ChannelError::Io(silent))
        };
        let mut go_on = |sources: &mut [PollFd<'_>]| match self.stands_still() {
            false if patience.wait_on(sources) => Ok(()),
            _ => Err(silent()),
        };
        // Nobody fills up the queue of one that stands still.
        if self.stands_still() {
            return Err(silent());
        }
        let socket = loop {
            match connect(self.run_dir) {
                Err(ShimError::Path(error)) if error.kind() == io::ErrorKind::WouldBlock => {
                    go_on(&mut [])?;
                }
                other => break other?.0,
            }
        };
        channel::send_packet(&socket, request, &[]).map_err(channel)?;
        while !is_readable(&socket)? {
            go_on(&mut [PollFd::new(&socket, PollFlags::IN)])?;
        }
        let (reply, descriptors) = channel::receive_packet::<Reply>(&socket).map_err(channel)?;
        match reply {
            Reply::State { state } => Ok((state, descriptors)),
            Reply::Refused { errno } => Err(channel(ChannelError::Io(
                io::Error::from_raw_os_error(errno),
            ))),
        }
    }

    /// Whether somebody keeps it from running: by a signal, or by freezing the whole instance.
    fn stands_still(&self) -> bool {
        let stat = path_io::read_to_string(format!("/proc/{}/stat", self.state.shim));
        let stopped = |stat: &String| {
            let after = stat.rsplit_once(") ").map_or("", |(_, after)| after);
            after.starts_with(['T', 't'])
        };
        stat.is_ok_and(|stat| stopped(&stat)) || freezer::is_frozen_above(&self.state.payload)
    }

    /// The companion itself, if it is alive.
    pub(super) fn process(&self) -> Result<Option<OwnedFd>, ShimError> {
        if self.state.shim_start_time != 0 {
            return open_same(self.state.shim, self.state.shim_start_time);
        }
        // Written by an older keel. An answer proves that a pidfd that was opened before is of the companion.
        let opened = Pid::from_raw(self.state.shim)
            .and_then(|shim| rustix::process::pidfd_open(shim, PidfdFlags::empty()).ok());
        Ok(opened.filter(|_| self.ask(&Request::State).is_ok()))
    }

    /// Keeps it from starting the instance again, for certain: one that does not answer is killed.
    pub(super) fn stop_restarting(&self) -> Result<(), ShimError> {
        let Some(shim) = self.process()? else {
            return Ok(());
        };
        if self.ask(&Request::Restarting { wanted: false }).is_ok() {
            return Ok(());
        }
        match process::signal_by_pidfd(&shim, libc::SIGKILL) {
            Err(source) if source.raw_os_error() != Some(libc::ESRCH) => {
                return Err(ShimError::Call {
                    doing: "kill a companion that does not answer",
                    source,
                });
            }
            _ => {}
        }
        ended(&shim, ANSWER)
    }
}

/// Waits for the end of the companion.
pub(super) fn ended(shim: &OwnedFd, patience: Duration) -> Result<(), ShimError> {
    if wait(shim, Some(patience))? {
        return Ok(());
    }
    Err(ShimError::TimedOut {
        what: "the end of the companion",
        after: patience,
    })
}

/// Keeps the companion from starting an instance again, and waits until it has left; one that does not answer is killed.
///
/// # Errors
/// It is still there after `patience`.
pub fn stop_restarting(run_dir: &Path, patience: Duration) -> Result<(), ShimError> {
    let Some(state) = SavedState::read(run_dir)? else {
        return Ok(());
    };
    if state.boot_id != state::boot_id()? {
        return Ok(());
    }
    let companion = Companion {
        run_dir,
        state: &state,
    };
    let Some(shim) = companion.process()? else {
        return Ok(());
    };
    companion.stop_restarting()?;
    ended(&shim, patience)
}

/// A pidfd of the process that has this pid *and* this start time, if it still runs.
pub(super) fn open_same(pid: i32, start_time: u64) -> Result<Option<OwnedFd>, ShimError> {
    let Some(pid) = Pid::from_raw(pid) else {
        return Ok(None);
    };
    let pidfd = match rustix::process::pidfd_open(pid, PidfdFlags::empty()) {
        Err(rustix::io::Errno::SRCH) => return Ok(None),
        other => other.map_err(call("open a process by its pid"))?,
    };
    // Read after the pidfd was opened: if it still fits, the pidfd is of this very process.
    let same = state::start_time(pid).is_ok_and(|found| found == start_time);
    Ok((same && !is_readable(&pidfd)?).then_some(pidfd))
}

pub(super) fn is_readable(fd: &OwnedFd) -> Result<bool, ShimError> {
    wait(fd, Some(Duration::ZERO))
}

/// Waits until the process has ended; `false`: it has not in that time.
pub(super) fn wait(pidfd: &OwnedFd, patience: Option<Duration>) -> Result<bool, ShimError> {
    let patience = patience.and_then(|patience| Timespec::try_from(patience).ok());
    loop {
        let mut sources = [PollFd::new(pidfd, PollFlags::IN)];
        match rustix::event::poll(&mut sources, patience.as_ref()) {
            Err(rustix::io::Errno::INTR) => {}
            other => return Ok(other.map_err(call("wait for a process"))? > 0),
        }
    }
}

/// A connection to the control socket. The path may be longer than a socket address (108 bytes): the folder is opened
/// and named by its descriptor.
pub(super) fn connect(run_dir: &Path) -> Result<(OwnedFd, PathBuf), ShimError> {
    use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
    let path = run_dir.join(control::FILE);
    let connected = || {
        let flags =
            rustix::fs::OFlags::PATH | rustix::fs::OFlags::DIRECTORY | rustix::fs::OFlags::CLOEXEC;
        let folder = rustix::fs::open(run_dir, flags, rustix::fs::Mode::empty())?;
        let socket = rustix::net::socket_with(
            AddressFamily::UNIX,
            SocketType::SEQPACKET,
            SocketFlags::CLOEXEC,
            None,
        )?;
        for direction in [Timeout::Recv, Timeout::Send] {
            rustix::net::sockopt::set_socket_timeout(&socket, direction, Some(ANSWER))?;
        }
        let number = std::os::fd::AsRawFd::as_raw_fd(&folder.as_fd());
        let name = format!("/proc/self/fd/{number}/{}", control::FILE);
        // The queue of one that does not accept fills up: nobody waits in it.
        rustix::io::ioctl_fionbio(&socket, true)?;
        rustix::net::connect(&socket, &SocketAddrUnix::new(name)?)?;
        rustix::io::ioctl_fionbio(&socket, false)?;
        Ok::<_, rustix::io::Errno>(socket)
    };
    let socket = connected().at("connect to", &path)?;
    Ok((socket, path))
}
