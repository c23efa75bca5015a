//! Running host programs: the argument vector is logged and named in the error, output is captured.
#![expect(
    unsafe_code,
    reason = "what a child does between fork and exec has no safe wrapper"
)]

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::process::{Pid, PidfdFlags, Signal};

/// How often who waits for a long program is asked whether to go on.
const LOOK: Duration = Duration::from_millis(100);

/// A host program that could not be run or did not succeed.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// It could not be started or waited for.
    #[error("run {program}")]
    Start {
        /// The program as it was called.
        program: String,
        /// The kernel's answer.
        source: std::io::Error,
    },
    /// The caller does not want it any more; it was killed.
    #[error("{program} was interrupted")]
    Interrupted {
        /// The program as it was called.
        program: String,
    },
    /// It took too long and was killed.
    #[error("{program} was not done within {} s", after.as_secs())]
    TooSlow {
        /// The program as it was called.
        program: String,
        /// How long it was let.
        after: Duration,
    },
    /// It ended with a failure.
    #[error("{command} ended with {status}: {}", stderr.trim())]
    Failed {
        /// The whole command, for people.
        command: String,
        /// Exit code or signal.
        status: std::process::ExitStatus,
        /// What it said, at most 64 KiB.
        stderr: String,
    },
}

/// What a program finds at its standard input.
enum Stdin<'a> {
    Nothing,
    Bytes(&'a [u8]),
    File(File),
}

/// For how long a program is let run.
struct Leash<'go> {
    go_on: &'go mut dyn FnMut() -> bool,
    limit: Duration,
}

/// Runs a program to its end and returns its standard output.
///
/// `input` is written to its standard input. The environment is reduced to `PATH` and `LC_ALL=C`, so that messages
/// and number formats do not depend on who called.
///
/// # Errors
/// It could not be started, or its exit status was not zero.
pub fn run<I, A>(program: &str, arguments: I, input: Option<&[u8]>) -> Result<Vec<u8>, CommandError>
where
    I: IntoIterator<Item = A>,
    A: AsRef<OsStr>,
{
    let stdin = input.map_or(Stdin::Nothing, Stdin::Bytes);
    run_on(program, arguments, stdin, None)
}

/// As [`run`], for a program that goes on to its end when this process is killed: it holds a file open for as long, and with
/// it whatever lock that bears. It reads nothing.
///
/// # Errors
/// As [`run`].
pub fn run_holding<I, A>(program: &str, arguments: I, held: File) -> Result<Vec<u8>, CommandError>
where
    I: IntoIterator<Item = A>,
    A: AsRef<OsStr>,
{
    run_on(program, arguments, Stdin::File(held), None)
}

/// As [`run`], for a program that works long: it is killed when `go_on` says so, when `limit` is over, and when this
/// process ends, however that happens.
///
/// # Errors
/// As [`run`], and that it was killed.
pub fn run_while<I, A>(
    program: &str,
    arguments: I,
    go_on: &mut dyn FnMut() -> bool,
    limit: Duration,
) -> Result<Vec<u8>, CommandError>
where
    I: IntoIterator<Item = A>,
    A: AsRef<OsStr>,
{
    run_on(
        program,
        arguments,
        Stdin::Nothing,
        Some(Leash { go_on, limit }),
    )
}

/// As [`run`], for a program that may take too long: it is killed when `limit` is over, and when this process ends,
/// however that happens.
///
/// # Errors
/// As [`run`], and that it was killed.
pub fn run_within<I, A>(
    program: &str,
    arguments: I,
    input: Option<&[u8]>,
    limit: Duration,
) -> Result<Vec<u8>, CommandError>
where
    I: IntoIterator<Item = A>,
    A: AsRef<OsStr>,
{
    let go_on = &mut || true;
    let stdin = input.map_or(Stdin::Nothing, Stdin::Bytes);
    run_on(program, arguments, stdin, Some(Leash { go_on, limit }))
}

/// What is waited for.
enum Ended {
    With(ExitStatus),
    Interrupted,
    TooSlow,
}

/// Waits for the end of a program as long as its leash goes; kills it then.
fn wait(child: &mut Child, leash: Option<&mut Leash<'_>>) -> std::io::Result<Ended> {
    let Some(leash) = leash else {
        return child.wait().map(Ended::With);
    };
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    let pid = pid.ok_or(std::io::ErrorKind::InvalidData)?;
    let pidfd = rustix::process::pidfd_open(pid, PidfdFlags::empty())?;
    let mut waited = Duration::ZERO;
    loop {
        let mut sources = [PollFd::new(&pidfd, PollFlags::IN)];
        let look = Timespec::try_from(LOOK).ok();
        match rustix::event::poll(&mut sources, look.as_ref()) {
            Ok(0) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
            Ok(_) => return child.wait().map(Ended::With),
        }
        waited += LOOK;
        let why = match (leash.go_on)() {
            false => Ended::Interrupted,
            true if waited >= leash.limit => Ended::TooSlow,
            true => continue,
        };
        child.kill()?;
        child.wait()?;
        return Ok(why);
    }
}

/// Lets the kernel kill a child when the thread that started it ends; that thread waits for the child.
fn end_with_us(command: &mut Command) {
    let parent = rustix::process::getpid();
    let bind = move || {
        rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
        // It may have ended before that.
        match rustix::process::getppid() == Some(parent) {
            true => Ok(()),
            false => Err(std::io::Error::from(rustix::io::Errno::SRCH)),
        }
    };
    // SAFETY: the closure makes two system calls; it takes no lock and allocates nothing.
    unsafe { command.pre_exec(bind) };
}

/// A program that does not depend on who called.
fn cleared(program: &str, arguments: &[OsString]) -> Command {
    tracing::debug!(program, ?arguments, "run");
    #[expect(clippy::disallowed_methods, reason = "this is the lawful place")]
    let mut command = Command::new(program);
    command
        .args(arguments)
        .env_clear()
        .env(
            "PATH",
            "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        )
        .env("LC_ALL", "C")
        .current_dir("/");
    command
}

fn run_on<I, A>(
    program: &str,
    arguments: I,
    stdin: Stdin<'_>,
    mut leash: Option<Leash<'_>>,
) -> Result<Vec<u8>, CommandError>
where
    I: IntoIterator<Item = A>,
    A: AsRef<OsStr>,
{
    let arguments: Vec<OsString> = arguments
        .into_iter()
        .map(|a| a.as_ref().to_os_string())
        .collect();
    let start = |source| CommandError::Start {
        program: program.to_owned(),
        source,
    };
    let mut command = cleared(program, &arguments);
    let (stdin, input) = match stdin {
        Stdin::Nothing => (Stdio::null(), None),
        Stdin::Bytes(bytes) => (Stdio::piped(), Some(bytes)),
        Stdin::File(held) => (Stdio::from(held), None),
    };
    command
        .stdin(stdin)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    if leash.is_some() {
        end_with_us(&mut command);
    }
    let mut child = command.spawn().map_err(start)?;
    // Both pipes are drained while the input is fed: a program that fills one of them must not hang us.
    let stdin = child.stdin.take();
    let mut stderr = child.stderr.take();
    let mut stdout = child.stdout.take();
    let (output, errors, ended) = std::thread::scope(|scope| {
        if let (Some(mut stdin), Some(input)) = (stdin, input) {
            scope.spawn(move || stdin.write_all(input));
        }
        let errors = scope.spawn(move || {
            let mut text = Vec::new();
            if let Some(stderr) = stderr.as_mut() {
                let _ = stderr.take(64 * 1024).read_to_end(&mut text);
                let _ = std::io::copy(stderr, &mut std::io::sink());
            }
            text
        });
        let output = scope.spawn(move || {
            let mut output = Vec::new();
            if let Some(stdout) = stdout.as_mut() {
                let _ = stdout.read_to_end(&mut output);
            }
            output
        });
        let ended = wait(&mut child, leash.as_mut());
        (
            output.join().unwrap_or_default(),
            errors.join().unwrap_or_default(),
            ended,
        )
    });
    let program = || program.to_owned();
    let status = match ended.map_err(start)? {
        Ended::With(status) => status,
        Ended::Interrupted => return Err(CommandError::Interrupted { program: program() }),
        Ended::TooSlow => {
            let after = leash.map_or(Duration::ZERO, |leash| leash.limit);
            return Err(CommandError::TooSlow {
                program: program(),
                after,
            });
        }
    };
    if status.success() {
        return Ok(output);
    }
    let command = std::iter::once(program())
        .chain(arguments.iter().map(|a| a.to_string_lossy().into_owned()))
        .collect::<Vec<_>>()
        .join(" ");
    Err(CommandError::Failed {
        command,
        status,
        stderr: String::from_utf8_lossy(&errors).into_owned(),
    })
}

/// A program that is talked with over a socket, which is its standard input.
#[derive(Debug)]
pub struct Conversation(Child);

/// What is kept of the complaints of a program that is talked with.
const COMPLAINT: usize = 4096;

impl Conversation {
    /// Starts it; the answer is our end of the socket. It is killed when the thread that started it ends.
    ///
    /// # Errors
    /// It could not be started.
    pub fn begin<I, A>(program: &str, arguments: I) -> Result<(Self, OwnedFd), CommandError>
    where
        I: IntoIterator<Item = A>,
        A: AsRef<OsStr>,
    {
        Self::start(program, arguments, None, false)
    }

    /// As [`Self::begin`]; the socket is its standard output as well.
    ///
    /// # Errors
    /// It could not be started.
    pub fn begin_both<I, A>(program: &str, arguments: I) -> Result<(Self, OwnedFd), CommandError>
    where
        I: IntoIterator<Item = A>,
        A: AsRef<OsStr>,
    {
        Self::start(program, arguments, None, true)
    }

    /// As [`Self::begin`], as another user and group, without other groups and without capabilities.
    ///
    /// # Errors
    /// It could not be started.
    pub fn begin_as<I, A>(
        program: &str,
        arguments: I,
        user: Option<(u32, u32)>,
    ) -> Result<(Self, OwnedFd), CommandError>
    where
        I: IntoIterator<Item = A>,
        A: AsRef<OsStr>,
    {
        Self::start(program, arguments, user, false)
    }

    fn start<I, A>(
        program: &str,
        arguments: I,
        user: Option<(u32, u32)>,
        both: bool,
    ) -> Result<(Self, OwnedFd), CommandError>
    where
        I: IntoIterator<Item = A>,
        A: AsRef<OsStr>,
    {
        let start = |source| CommandError::Start {
            program: program.to_owned(),
            source,
        };
        let (ours, its) = rustix::net::socketpair(
            rustix::net::AddressFamily::UNIX,
            rustix::net::SocketType::STREAM,
            rustix::net::SocketFlags::CLOEXEC,
            None,
        )
        .map_err(|error| start(error.into()))?;
        let arguments: Vec<OsString> = arguments
            .into_iter()
            .map(|a| a.as_ref().to_os_string())
            .collect();
        let mut command = cleared(program, &arguments);
        let stdout = match both {
            true => Stdio::from(its.try_clone().map_err(start)?),
            false => Stdio::null(),
        };
        command
            .stdin(Stdio::from(its))
            .stdout(stdout)
            .stderr(Stdio::piped());
        if let Some((uid, gid)) = user {
            // Before what follows: with another user a process loses whom it ends with.
            command.uid(uid).gid(gid);
        }
        end_with_us(&mut command);
        let child = command.spawn().map_err(start)?;
        Ok((Self(child), ours))
    }

    /// Waits for its end, at most so long: then it is killed. Answers the beginning of what it said on its standard error.
    pub fn end(mut self, limit: Duration) -> String {
        let go_on = &mut || true;
        let ended = wait(&mut self.0, Some(&mut Leash { go_on, limit }));
        if ended.is_err() {
            let _ = self.0.kill();
            let _ = self.0.wait();
        }
        let mut text = vec![0; COMPLAINT];
        let mut length = 0;
        // Who it started may hold the pipe open: only what is there by now is read.
        if let Some(stderr) = self.0.stderr.take()
            && rustix::io::ioctl_fionbio(&stderr, true).is_ok()
        {
            length = rustix::io::read(&stderr, &mut text).unwrap_or(0);
        }
        text.truncate(length);
        String::from_utf8_lossy(&text).trim().to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_program_is_ended_when_nobody_wants_it_or_it_takes_too_long() {
        let hour = Duration::from_secs(3600);
        let interrupted = run_while("sleep", ["1000"], &mut || false, hour);
        assert!(matches!(interrupted, Err(CommandError::Interrupted { .. })));
        let slow = run_while("sleep", ["1000"], &mut || true, Duration::from_millis(150));
        assert!(matches!(slow, Err(CommandError::TooSlow { .. })));
        let done = run_while("echo", ["done"], &mut || true, hour).unwrap();
        assert_eq!(done, b"done\n");
    }

    #[test]
    fn a_long_program_ends_with_us() {
        // PR_GET_PDEATHSIG, `<linux/prctl.h>`.
        let asked = "import ctypes\nseen = ctypes.c_int()\nctypes.CDLL(None).prctl(2, ctypes.byref(seen))\nprint(seen.value)";
        let said = run_while(
            "python3",
            ["-c", asked],
            &mut || true,
            Duration::from_secs(60),
        );
        assert_eq!(said.unwrap(), b"9\n");
    }
}
