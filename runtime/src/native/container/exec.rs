//! Running a program in a running container, and writing files there.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use manifests::path_io::{self, AtPath as _};
use rustix::fs::{Mode, OFlags};
use rustix::pipe::PipeFlags;
use rustix::termios::Winsize;

use super::order;
use super::plan::{FilePlan, ProgramPlan};
use super::start::ContainerError;
use super::talk::Talk;
use crate::native::shim::{Running, stands_still, state};
use crate::shim::enter::BEGINNING_SECONDS;
use crate::shim::messages::{Enter, Event, Fd, Opened, Order, Streams, Work};
use crate::sys::process;

/// The companion gives up before, once while the new process gets ready and once while it begins.
const ENTERING: Duration = Duration::from_secs(2 * BEGINNING_SECONDS as u64 + 5);

/// What the program reads from and writes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StreamsPlan {
    /// A new terminal in the container.
    Terminal {
        /// Height in characters.
        rows: u16,
        /// Width in characters.
        columns: u16,
    },
    /// Three pipes.
    Pipes,
}

/// A program that runs in a container. Dropping it does not end the program, but closes its terminal or pipes.
#[derive(Debug)]
pub struct Session {
    talk: Talk,
    pidfd: OwnedFd,
    /// The program's streams on this side.
    pub streams: SessionStreams,
}

/// This side of a program's streams.
#[derive(Debug)]
pub enum SessionStreams {
    /// The master of its terminal: read output, write input.
    Terminal(OwnedFd),
    /// The other ends of its pipes.
    Pipes {
        /// Write its input here; drop it for the end of input.
        input: Option<OwnedFd>,
        /// Read its output here.
        output: OwnedFd,
        /// Read its errors here.
        errors: OwnedFd,
    },
}

/// Descriptors that go with an order.
#[derive(Default)]
struct Descriptors(Vec<OwnedFd>);

impl Descriptors {
    fn add(&mut self, fd: OwnedFd) -> Fd {
        let index = u32::try_from(self.0.len()).unwrap_or(u32::MAX);
        self.0.push(fd);
        Fd { index }
    }
}

/// Sends a companion into a container, and waits until the work there has begun: the handles are those of
/// [`Event::Entered`].
fn enter(
    running: &Running,
    shim: &Path,
    mut descriptors: Descriptors,
    work: Work,
) -> Result<(Talk, Vec<OwnedFd>), ContainerError> {
    if running.frozen().map_err(ContainerError::Shim)? {
        // A process that joins a frozen cgroup stops there, and its caller would wait for ever.
        return Err(ContainerError::Frozen);
    }
    let state = running.state();
    let pidfd = running.pidfd().try_clone_to_owned();
    let init = descriptors.add(pidfd.at("duplicate the pidfd of", "init")?);
    let cgroup2 = match &state.payload {
        None => None,
        Some(payload) => {
            let (fd, path) = open_cgroup(payload, state.init)?;
            // The container's root may freeze the folders that it made itself, and init in one of them.
            if stands_still(&path).map_err(ContainerError::Shim)? {
                return Err(ContainerError::Frozen);
            }
            Some(Opened {
                fd: descriptors.add(fd),
                path: path.display().to_string(),
            })
        }
    };
    let mut joins = Vec::new();
    for folder in &state.joins {
        let path = folder.join("tasks");
        let flags = OFlags::WRONLY | OFlags::CLOEXEC;
        let fd = rustix::fs::open(&path, flags, Mode::empty()).at("open", &path)?;
        joins.push(Opened {
            fd: descriptors.add(fd),
            path: path.display().to_string(),
        });
    }
    let order = Order::Enter {
        enter: Box::new(Enter {
            init,
            privileged: state.privileged,
            time: state.time_namespace,
            cgroup2,
            joins,
            confinement: state::confinement(running.run_dir())?,
            work,
        }),
    };
    let borrowed: Vec<BorrowedFd<'_>> = descriptors.0.iter().map(|fd| fd.as_fd()).collect();
    let mut talk = Talk::begin(shim, &state.name)?;
    talk.order(&order, &borrowed)?;
    drop(borrowed);
    // Held longer, these would keep a pipe open whose other users have left.
    drop(descriptors);
    talk.be_patient(Some(ENTERING))?;
    let (event, handles) = talk.hear()?;
    if !matches!(event, Event::Entered { .. }) {
        return Err(talk.out_of_turn(event));
    }
    Ok((talk, handles))
}

/// Writes files into a container as its own root, in all its cgroups and namespaces: the companion's own code does it,
/// nothing of the image is executed.
///
/// # Errors
/// The container is frozen or gone, a path is none, or a file cannot be written.
pub fn write_files(
    running: &Running,
    shim: &Path,
    files: &[FilePlan],
) -> Result<(), ContainerError> {
    let files = files.iter().map(order::file).collect::<Result<_, _>>()?;
    let (talk, _) = enter(running, shim, Descriptors::default(), Work::Files { files })?;
    match talk.hear()? {
        (Event::Ended { status: 0 }, _) => Ok(()),
        (Event::Ended { status }, _) if status == 128 + libc::SIGALRM => {
            Err(ContainerError::TooSlow)
        }
        (event, _) => Err(talk.out_of_turn(event)),
    }
}

/// Runs a program in a container, in all its cgroups and namespaces and as confined as its init. `shim` is the path of
/// `keel-shim`.
///
/// # Errors
/// The container is frozen or gone, or the program cannot be executed.
pub fn exec(
    running: &Running,
    shim: &Path,
    program: &ProgramPlan,
    streams: StreamsPlan,
) -> Result<Session, ContainerError> {
    let mut descriptors = Descriptors::default();
    let mut ours = None;
    let streams = match streams {
        StreamsPlan::Terminal { rows, columns } => Streams::Terminal { rows, columns },
        StreamsPlan::Pipes => {
            let pipe = || rustix::pipe::pipe_with(PipeFlags::CLOEXEC).at("make", "a pipe");
            let ((input, write), (read, output), (read_errors, errors)) =
                (pipe()?, pipe()?, pipe()?);
            // The container's user must be able to open /dev/stdout again by its name in /proc.
            for end in [&input, &output, &errors] {
                let owner = Some(rustix::fs::Uid::from_raw(running.state().root_id));
                rustix::fs::fchown(end, owner, None).at("give the program", "its pipes")?;
            }
            ours = Some(SessionStreams::Pipes {
                input: Some(write),
                output: read,
                errors: read_errors,
            });
            Streams::Pipes {
                input: descriptors.add(input),
                output: descriptors.add(output),
                errors: descriptors.add(errors),
            }
        }
    };
    let program = order::program(program)?;
    let work = Work::Program { program, streams };
    let (talk, handles) = enter(running, shim, descriptors, work)?;
    // It runs as long as it likes.
    talk.be_patient(None)?;
    let mut handles = handles.into_iter();
    let pidfd = handles.next().ok_or(ContainerError::Protocol)?;
    let streams = match ours {
        Some(pipes) => pipes,
        None => SessionStreams::Terminal(handles.next().ok_or(ContainerError::Protocol)?),
    };
    Ok(Session {
        talk,
        pidfd,
        streams,
    })
}

/// The cgroup 2 folder to be born in: where init is now (systemd moves itself into a folder of its own, and the one it
/// came from then takes no processes), else the one it was started in.
fn open_cgroup(payload: &Path, init: i32) -> Result<(OwnedFd, PathBuf), ContainerError> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let open = |path: &Path| rustix::fs::open(path, flags, Mode::empty());
    let text = path_io::read_to_string(format!("/proc/{init}/cgroup"))?;
    let present = present_cgroup(&text, payload);
    if let Some(path) = present
        && let Ok(fd) = open(&path)
    {
        return Ok((fd, path));
    }
    Ok((open(payload).at("open", payload)?, payload.to_path_buf()))
}

/// Where a process is below `payload`, by its `/proc/PID/cgroup`. The longest end of `payload` that the kernel's path
/// begins with is the part that both name alike.
fn present_cgroup(text: &str, payload: &Path) -> Option<PathBuf> {
    let path = Path::new(text.lines().find_map(|line| line.strip_prefix("0::"))?);
    let relative = path.strip_prefix("/").ok()?;
    let names: Vec<_> = payload.components().collect();
    (0..names.len()).find_map(|from| {
        let end: PathBuf = names.get(from..)?.iter().collect();
        let rest = relative.strip_prefix(&end).ok()?;
        Some(payload.join(rest))
    })
}

impl Session {
    /// Tells the program that its terminal has another size.
    ///
    /// # Errors
    /// It has no terminal.
    pub fn resize(&self, rows: u16, columns: u16) -> Result<(), ContainerError> {
        let SessionStreams::Terminal(master) = &self.streams else {
            return Ok(());
        };
        let size = Winsize {
            ws_row: rows,
            ws_col: columns,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        Ok(rustix::termios::tcsetwinsize(master, size).at("size", "the terminal")?)
    }

    /// Sends a signal to the program.
    ///
    /// # Errors
    /// It has ended.
    pub fn signal(&self, signal: i32) -> Result<(), ContainerError> {
        Ok(process::signal_by_pidfd(&self.pidfd, signal).at("send a signal to", "the program")?)
    }

    /// Becomes readable when the program has ended.
    pub fn ended(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }

    /// Waits for the end: the exit code, or 128 plus the signal.
    ///
    /// # Errors
    /// The companion was killed: how the program ended is not known.
    pub fn wait(&self) -> Result<i32, ContainerError> {
        match self.talk.hear()? {
            (Event::Ended { status }, _) => Ok(status),
            (event, _) => Err(self.talk.out_of_turn(event)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn init_is_found_where_it_moved_itself() {
        let payload = Path::new("/sys/fs/cgroup/unified/keel/web/payload");
        let find = |path: &str| present_cgroup(&format!("4:pids:/x\n0::{path}\n"), payload);
        let below = |rest: &str| Some(payload.join(rest));
        assert_eq!(find("/keel/web/payload"), below(""));
        assert_eq!(find("/keel/web/payload/init.scope"), below("init.scope"));
        assert_eq!(find("/payload/a/b"), below("a/b"));
        assert_eq!(find("/other"), None);
        assert_eq!(present_cgroup("4:pids:/x\n", payload), None);
    }
}
