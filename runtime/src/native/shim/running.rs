//! A running container, found again by what was written down and proved by the kernel.

use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use manifests::path_io::{self, PathError};
use rustix::fs::OFlags;
use rustix::process::Pid;

use super::companion::{self, Companion, connect, open_same, wait};
use super::console::Console;
use super::freezer;
use super::state::{self, SavedState};
use crate::shim::channel::{self, ChannelError};
use crate::shim::control::{self, Reply, Request, State};
use crate::shim::record::{self, ExitRecord};
use crate::sys::held_process::HeldProcess;
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
    /// It has ended, and its companion wrote down how. The companion may be about to start it again, as its plan says:
    /// [`stop_restarting`] ends that.
    Ended(ExitRecord),
    /// It was started in an earlier boot of the host, or its companion was killed before it could write: how it ended
    /// is not known.
    Lost(SavedState),
    /// It was never started, or its run folder is gone.
    Absent,
}

/// What somebody else than the companion holds, for the case that it is killed.
#[derive(Debug)]
pub struct Witness {
    /// Of init.
    pub pidfd: OwnedFd,
    /// Of the console.
    pub master: OwnedFd,
}

/// How a container was stopped.
#[derive(Debug)]
pub struct Stopped {
    /// Init ended before it had to be killed.
    pub by_itself: bool,
    /// How it ended; absent where the companion was killed before.
    pub record: Option<ExitRecord>,
}

/// How long an init that was killed and its companion may take to leave.
const LEAVING: Duration = Duration::from_secs(30);

/// The signal by which an init program halts, from its name: systemd's `SIGRTMIN+3` (systemd(1)), `SIGUSR1` for
/// busybox's and `SIGPWR` for the others that LXC stops so, else `SIGTERM`.
pub fn stop_signal(init: &str) -> i32 {
    // The kernel's number 34 is glibc's SIGRTMIN.
    const HALT: i32 = 34 + 3;
    match init.rsplit('/').next().unwrap_or(init) {
        "systemd" => HALT,
        "busybox" => libc::SIGUSR1,
        "init" | "openrc-init" => libc::SIGPWR,
        _ => libc::SIGTERM,
    }
}

/// A running container.
#[derive(Debug)]
pub struct Running {
    run_dir: PathBuf,
    state: SavedState,
    restarts: u32,
    pidfd: OwnedFd,
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
    let found = |state: SavedState, (restarts, pidfd)| {
        Found::Running(Box::new(Running {
            run_dir: run_dir.to_path_buf(),
            state,
            restarts,
            pidfd,
        }))
    };
    // As long as the init lives that was started first, there was no other: nobody needs to be asked.
    if let Some(pidfd) = open_same(state.init, state.start_time)? {
        return Ok(found(state, (0, pidfd)));
    }
    // The companion may have started init again since the state was written: it knows the present one.
    let companion = Companion {
        run_dir,
        state: &state,
    };
    let present = companion
        .ask(&Request::State)
        .ok()
        .map(|(state, _)| state)
        .filter(|present| present.generation == state.generation);
    let written = path_io::read_if_exists(run_dir.join(record::PRESENT))?;
    let restarts = present.as_ref().map_or(0, |present| present.restarts);
    let (pid, start_time) = present
        .map(|present| (present.init, present.start_time))
        .or_else(|| record::parse_present(written.as_deref()?))
        .unwrap_or((state.init, state.start_time));
    if let Some(pidfd) = open_same(pid, start_time)? {
        let state = SavedState {
            init: pid,
            start_time,
            ..state
        };
        return Ok(found(state, (restarts, pidfd)));
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

/// Whether any process is in a cgroup 2 folder or below it.
fn populated(payload: &Path) -> Result<bool, ShimError> {
    let events = path_io::read_to_string(payload.join("cgroup.events"))?;
    Ok(events.lines().any(|line| line == "populated 1"))
}

impl Running {
    /// What was written down at its start.
    pub fn state(&self) -> &SavedState {
        &self.state
    }

    /// How often its companion had started it again when it was found; 0 where the companion is gone.
    pub fn restarts(&self) -> u32 {
        self.restarts
    }

    /// The instance's run folder.
    pub fn run_dir(&self) -> &Path {
        &self.run_dir
    }

    /// Of init; readable when it has ended.
    pub fn pidfd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }

    /// Init, in the host's view.
    pub fn init(&self) -> Option<Pid> {
        Pid::from_raw(self.state.init)
    }

    /// Whether init ends within this time.
    pub fn ends_within(&self, patience: Duration) -> bool {
        wait(&self.pidfd, Some(patience)).unwrap_or(false)
    }

    /// Opens a file of init's folder in `/proc`, for instance `ns/net`; it is surely init's own.
    ///
    /// # Errors
    /// `ESRCH`: init has ended. Else the kernel's answer.
    pub fn open(&self, name: &str, flags: OFlags) -> io::Result<OwnedFd> {
        self.held()?.open(name, flags)
    }

    /// The text of a file of init's folder in `/proc`.
    ///
    /// # Errors
    /// As [`Running::open`].
    pub fn read(&self, name: &str) -> io::Result<String> {
        self.held()?.read(name)
    }

    fn companion(&self) -> Companion<'_> {
        Companion {
            run_dir: &self.run_dir,
            state: &self.state,
        }
    }

    fn held(&self) -> io::Result<HeldProcess<'_>> {
        let pid = self.init().ok_or(rustix::io::Errno::SRCH)?;
        Ok(HeldProcess {
            pid,
            pidfd: self.pidfd(),
        })
    }

    /// Asks the companion.
    ///
    /// # Errors
    /// It does not answer; then it was killed, and the instance runs on without it.
    pub fn ask(&self) -> Result<State, ShimError> {
        self.companion()
            .ask(&Request::State)
            .map(|(state, _)| state)
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

    /// Keeps the companion from starting it again when it ends.
    ///
    /// # Errors
    /// The companion does not answer and cannot be killed.
    pub fn keep_down(&self) -> Result<(), ShimError> {
        self.companion().stop_restarting()
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
        self.thaw()?;
        self.companion().stop_restarting()?;
        // The kernel kills a pid namespace with its init, however fast it forks. cgroup.kill comes only after that, for
        // what is in the cgroup but not in the namespace: since 6.14 a cgroup that was once killed this way kills
        // everything that is cloned into it later (kill_seq, kernel/cgroup/cgroup.c), the next start among it.
        match self.signal(libc::SIGKILL) {
            Err(ShimError::Call { source, .. }) if source.raw_os_error() == Some(libc::ESRCH) => {}
            other => other?,
        }
        let record = self.gone(patience)?;
        if let Some(payload) = &self.state.payload
            && populated(payload)?
        {
            path_io::write_kernel_file(payload.join("cgroup.kill"), "1")?;
        }
        Ok(record)
    }

    /// Duplicates of init's pidfd and of the console's master. Held by somebody else than the companion, they keep the
    /// console alive, and (kernel 6.15) the exit status readable, when the companion is killed.
    ///
    /// # Errors
    /// The companion does not answer.
    pub fn second_witness(&self) -> Result<Witness, ShimError> {
        let (_, descriptors) = self.companion().ask(&Request::Handles)?;
        let mut descriptors = descriptors.into_iter();
        match (descriptors.next(), descriptors.next()) {
            (Some(pidfd), Some(master)) => Ok(Witness { pidfd, master }),
            _ => Err(ShimError::Channel {
                path: self.run_dir.join(control::FILE),
                source: ChannelError::Closed,
            }),
        }
    }

    /// A connection to the console.
    ///
    /// # Errors
    /// The companion does not answer, or has as many clients as it takes.
    pub fn attach_console(&self) -> Result<Console, ShimError> {
        let (socket, path) = connect(&self.run_dir)?;
        let channel = |source| ShimError::Channel {
            path: path.clone(),
            source,
        };
        channel::send_packet(&socket, &Request::Attach, &[]).map_err(channel)?;
        match channel::receive_packet::<Reply>(&socket).map_err(channel)? {
            (Reply::State { .. }, _) => Ok(Console::new(socket)),
            (Reply::Refused { errno }, _) => Err(channel(ChannelError::Io(
                io::Error::from_raw_os_error(errno),
            ))),
        }
    }

    /// Asks init to end, and kills everything after `patience`. The signal that an init understands as "halt" differs:
    /// see [`stop_signal`].
    ///
    /// # Errors
    /// The kernel's answer, or it is still there after it was killed.
    pub fn stop(&self, signal: i32, patience: Duration) -> Result<Stopped, ShimError> {
        // A frozen init would hear the signal only when somebody thaws it, and a frozen companion answers nothing.
        self.thaw()?;
        self.companion().stop_restarting()?;
        match self.signal(signal) {
            Err(ShimError::Call { source, .. }) if source.raw_os_error() == Some(libc::ESRCH) => {}
            other => other?,
        }
        if self.wait(patience)? {
            return Ok(Stopped {
                by_itself: true,
                record: self.gone(patience.max(LEAVING))?,
            });
        }
        Ok(Stopped {
            by_itself: false,
            record: self.kill(LEAVING)?,
        })
    }

    /// Stops all its processes where they are, until [`Running::thaw`].
    ///
    /// # Errors
    /// A cgroup file cannot be written, or a process does not stop.
    pub fn freeze(&self) -> Result<(), ShimError> {
        freezer::freeze(&self.state.payload, &self.state.joins)
    }

    /// Lets frozen processes go on.
    ///
    /// # Errors
    /// A cgroup file cannot be written.
    pub fn thaw(&self) -> Result<(), ShimError> {
        freezer::thaw(&self.state.payload, &self.state.joins)
    }

    /// Whether its processes are frozen, by us or by hand.
    ///
    /// # Errors
    /// A cgroup file cannot be read.
    pub fn frozen(&self) -> Result<bool, ShimError> {
        freezer::frozen(&self.state.payload, &self.state.joins)
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
        if let Some(shim) = self.companion().process()? {
            companion::ended(&shim, patience)?;
        }
        exit_record(&self.run_dir)
    }
}
