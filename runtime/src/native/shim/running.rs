//! A running container, found again by what was written down and proved by the kernel.

use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use manifests::path_io::{self, AtPath as _, PathError};
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::process::{Pid, PidfdFlags};

use super::state::{self, SavedState};
use crate::shim::channel::{self, ChannelError};
use crate::shim::control::{self, Reply, Request, State};
use crate::shim::record::{self, ExitRecord};
use crate::sys::process;

/// Why a running container could not be asked or changed.
#[derive(Debug, thiserror::Error)]
pub enum ShimError {
    /// A file of the run folder or of a cgroup.
    #[error(transparent)]
    Path(#[from] PathError),
    /// A call on the container's init.
    #[error("{doing}")]
    Call {
        /// A verb phrase.
        doing: &'static str,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The companion does not answer as it should.
    #[error("talk to keel-shim over {}", path.display())]
    Channel {
        /// Its control socket.
        path: PathBuf,
        /// What went wrong.
        source: ChannelError,
    },
    /// It did not happen in the time given.
    #[error("{what} did not happen within {} ms", after.as_millis())]
    TimedOut {
        /// What was waited for.
        what: &'static str,
        /// How long.
        after: Duration,
    },
}

/// What the kernel and the run folder say about an instance.
#[derive(Debug)]
pub enum Found {
    /// Its init runs.
    Running(Box<Running>),
    /// It has ended, and its companion wrote down how.
    Ended(ExitRecord),
    /// It was started in an earlier boot of the host, or its companion was killed before it could write: how it ended
    /// is not known.
    Lost(SavedState),
    /// It was never started, or its run folder is gone.
    Absent,
}

/// A running container.
#[derive(Debug)]
pub struct Running {
    run_dir: PathBuf,
    state: SavedState,
    pidfd: OwnedFd,
}

fn call(doing: &'static str) -> impl FnOnce(rustix::io::Errno) -> ShimError {
    move |errno| ShimError::Call {
        doing,
        source: errno.into(),
    }
}

/// Looks an instance up by its run folder. Init is recognised by boot, pid and start time, never by its pid alone.
///
/// # Errors
/// A file cannot be read.
pub fn adopt(run_dir: &Path) -> Result<Found, ShimError> {
    let Some(state) = SavedState::read(run_dir)? else {
        return Ok(exit_record(run_dir)?.map_or(Found::Absent, Found::Ended));
    };
    if state.boot_id != state::boot_id()? {
        return Ok(Found::Lost(state));
    }
    // The companion may have started init again since the state was written: it knows the present one.
    let present = ask(run_dir, &Request::State).ok().map(|(state, _)| state);
    let (pid, start_time) = present
        .filter(|present| present.generation == state.generation && present.init > 0)
        .map_or((state.init, state.start_time), |present| {
            (present.init, present.start_time)
        });
    if let Some(pidfd) = open_same(pid, start_time)? {
        let state = SavedState {
            init: pid,
            start_time,
            ..state
        };
        return Ok(Found::Running(Box::new(Running {
            run_dir: run_dir.to_path_buf(),
            state,
            pidfd,
        })));
    }
    Ok(match exit_record(run_dir)? {
        Some(record) if record.generation == state.generation => Found::Ended(record),
        _ => Found::Lost(state),
    })
}

/// The record that the companion wrote when init ended.
///
/// # Errors
/// The file cannot be read.
pub fn exit_record(run_dir: &Path) -> Result<Option<ExitRecord>, ShimError> {
    let text = path_io::read_if_exists(run_dir.join(record::FILE))?;
    Ok(text.as_deref().and_then(ExitRecord::parse))
}

/// A pidfd of the process that has this pid *and* this start time, if it still runs.
fn open_same(pid: i32, start_time: u64) -> Result<Option<OwnedFd>, ShimError> {
    let Some(pid) = Pid::from_raw(pid) else {
        return Ok(None);
    };
    let pidfd = match rustix::process::pidfd_open(pid, PidfdFlags::empty()) {
        Err(rustix::io::Errno::SRCH) => return Ok(None),
        other => other.map_err(call("open init by its pid"))?,
    };
    // Read after the pidfd was opened: if it still fits, the pidfd is of this very process.
    let same = state::start_time(pid).is_ok_and(|found| found == start_time);
    Ok((same && !has_ended(&pidfd)?).then_some(pidfd))
}

fn has_ended(pidfd: &OwnedFd) -> Result<bool, ShimError> {
    wait(pidfd, Some(Duration::ZERO))
}

/// Waits until the process has ended; `false`: it has not in that time.
fn wait(pidfd: &OwnedFd, patience: Option<Duration>) -> Result<bool, ShimError> {
    let patience = patience.and_then(|patience| Timespec::try_from(patience).ok());
    loop {
        let mut sources = [PollFd::new(pidfd, PollFlags::IN)];
        match rustix::event::poll(&mut sources, patience.as_ref()) {
            Err(rustix::io::Errno::INTR) => {}
            other => return Ok(other.map_err(call("wait for init"))? > 0),
        }
    }
}

/// Asks the companion of a run folder.
fn ask(run_dir: &Path, request: &Request) -> Result<(State, Vec<OwnedFd>), ShimError> {
    let (socket, path) = connect(run_dir)?;
    let channel = |source| ShimError::Channel {
        path: path.clone(),
        source,
    };
    channel::send_packet(&socket, request, &[]).map_err(channel)?;
    let (reply, descriptors) = channel::receive_packet::<Reply>(&socket).map_err(channel)?;
    match reply {
        Reply::State { state } => Ok((state, descriptors)),
        Reply::Refused { errno } => Err(channel(ChannelError::Io(io::Error::from_raw_os_error(
            errno,
        )))),
    }
}

/// A connection to the control socket. The path may be longer than a socket address (108 bytes): the folder is opened
/// and named by its descriptor.
fn connect(run_dir: &Path) -> Result<(OwnedFd, PathBuf), ShimError> {
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
        let timeout = Some(Duration::from_secs(5));
        rustix::net::sockopt::set_socket_timeout(
            &socket,
            rustix::net::sockopt::Timeout::Recv,
            timeout,
        )?;
        let number = std::os::fd::AsRawFd::as_raw_fd(&folder.as_fd());
        let name = format!("/proc/self/fd/{number}/{}", control::FILE);
        rustix::net::connect(&socket, &SocketAddrUnix::new(name)?)?;
        Ok::<_, rustix::io::Errno>(socket)
    };
    let socket = connected().at("connect to", &path)?;
    Ok((socket, path))
}

impl Running {
    /// What was written down at its start.
    pub fn state(&self) -> &SavedState {
        &self.state
    }

    /// Init, in the host's view.
    pub fn init(&self) -> Option<Pid> {
        Pid::from_raw(self.state.init)
    }

    /// Asks the companion.
    ///
    /// # Errors
    /// It does not answer; then it was killed, and the instance runs on without it.
    pub fn ask(&self) -> Result<State, ShimError> {
        ask(&self.run_dir, &Request::State).map(|(state, _)| state)
    }

    /// Sends a signal to init.
    ///
    /// # Errors
    /// `ESRCH`: it has ended.
    pub fn signal(&self, signal: i32) -> Result<(), ShimError> {
        process::signal_by_pidfd(&self.pidfd, signal).map_err(|source| ShimError::Call {
            doing: "send a signal to init",
            source,
        })
    }

    /// Waits until init has ended; `false`: it has not in that time.
    ///
    /// # Errors
    /// The kernel's answer.
    pub fn wait(&self, patience: Duration) -> Result<bool, ShimError> {
        wait(&self.pidfd, Some(patience))
    }

    /// Kills everything in the container at once and waits until it is gone and its end is written down.
    ///
    /// # Errors
    /// The kernel's answer, or it is still there after `patience`.
    pub fn kill(&self, patience: Duration) -> Result<Option<ExitRecord>, ShimError> {
        // The companion must not start it again; if it does not answer, nobody will.
        let _ = ask(&self.run_dir, &Request::Restarting { wanted: false });
        let by_cgroup = self
            .state
            .payload
            .as_ref()
            .map(|payload| path_io::write_kernel_file(payload.join("cgroup.kill"), "1"));
        if !matches!(by_cgroup, Some(Ok(()))) {
            // Without cgroup.kill (5.14): the kernel kills a pid namespace with its init.
            match self.signal(libc::SIGKILL) {
                Err(ShimError::Call { source, .. })
                    if source.raw_os_error() == Some(libc::ESRCH) => {}
                other => other?,
            }
        }
        self.gone(patience)
    }

    /// Waits until init has ended and the companion has written its record and left.
    ///
    /// # Errors
    /// It is still there after `patience`.
    pub fn gone(&self, patience: Duration) -> Result<Option<ExitRecord>, ShimError> {
        if !wait(&self.pidfd, Some(patience))? {
            return Err(ShimError::TimedOut {
                what: "the end of the container",
                after: patience,
            });
        }
        // The companion writes within microseconds; its own end proves that it has.
        if let Some(shim) = Pid::from_raw(self.state.shim)
            && let Ok(shim) = rustix::process::pidfd_open(shim, PidfdFlags::empty())
            && self.ask().is_ok()
        {
            wait(&shim, Some(patience))?;
        }
        exit_record(&self.run_dir)
    }
}
