//! Work inside a machine: by the guest agent, which the guest may or may not run.

use std::io::{Read as _, Write as _};
use std::os::fd::BorrowedFd;
use std::path::Path;
use std::time::Duration;

use crate::error::{Class, RuntimeError};
use crate::native::chain;
use crate::native::cloud_init::result;
use crate::native::machine::agent::{Agent, AgentError, GuestCommand, GuestEnd};
use crate::native::machine::command_line::sockets;
use crate::native::machine::plain::plain;
use crate::native::shim::Running;
use crate::runtime::{ExecRequest, ExitStatus, FileInside};

/// How long the agent may take for one answer: guests are busy, the emulated ones most.
const ANSWER: Duration = Duration::from_secs(15);
/// How long it may take where somebody only looks.
const GLANCE: Duration = Duration::from_millis(500);
/// How long a command may run that a person has started.
const COMMAND: Duration = Duration::from_secs(24 * 3600);
/// What is read of a command's output, and given as its input, at most: the agent holds it in memory.
const MOST: usize = 16 << 20;
/// How long one of our own small commands may take.
const SMALL: Duration = Duration::from_secs(30);

fn failed(doing: impl Into<String>) -> impl FnOnce(AgentError) -> RuntimeError {
    let doing = doing.into();
    move |error| {
        let class = match &error {
            AgentError::Refused { .. } | AgentError::Silent { .. } => Class::NeedsOperator,
            _ => Class::Retry,
        };
        RuntimeError::new(doing, class, error)
    }
}

fn agent(running: &Running, patience: Duration) -> Result<Agent, AgentError> {
    Agent::connect(&running.run_dir().join(sockets::AGENT), patience)
}

/// The addresses of a guest, without those of its loopback and those that hold on one link only; none where nobody answers.
pub(in crate::native::instance) fn addresses(running: &Running) -> Vec<String> {
    let interfaces = agent(running, GLANCE).and_then(|mut agent| agent.interfaces());
    interfaces
        .unwrap_or_default()
        .iter()
        .flat_map(|interface| &interface.addresses)
        .map(|net| net.addr())
        .filter(|address| match address {
            std::net::IpAddr::V4(four) => !four.is_loopback(),
            std::net::IpAddr::V6(six) => !six.is_loopback() && !six.is_unicast_link_local(),
        })
        .map(|address| address.to_string())
        .collect()
}

/// Runs a command in the guest to its end. Its output comes when it has ended: the agent has no streams.
pub(in crate::native) fn exec(
    running: &Running,
    request: &ExecRequest,
    environment: Vec<(String, String)>,
    streams: [BorrowedFd<'_>; 3],
) -> Result<ExitStatus, RuntimeError> {
    const DOING: &str = "run a command in";
    if request.terminal {
        let why = "the agent of a machine has no terminals: leave `--tty` away, or work on its console (`keel console`)";
        return Err(RuntimeError::new(DOING, Class::Unsupported, why));
    }
    if request.uid != 0 || request.gid != 0 {
        let why = "the agent of a machine runs commands as root: become somebody else in the command, by `su` or `setpriv`";
        return Err(RuntimeError::new(DOING, Class::Unsupported, why));
    }
    let input =
        input(streams[0]).map_err(|error| RuntimeError::new(DOING, Class::NeedsOperator, error))?;
    let mut words = request.command.iter().cloned();
    let mut command = GuestCommand {
        program: words.next().unwrap_or_default(),
        arguments: words.collect(),
        environment: variables(environment),
        input,
        capture: true,
    };
    if let Some(folder) = &request.directory {
        // The agent has no folder to begin in; `env` of coreutils and busybox differ, the shell does not.
        let inner = std::mem::take(&mut command.program);
        let script = "cd \"$0\" && exec \"$@\"".to_owned();
        let arguments = [
            vec!["-c".to_owned(), script, folder.clone(), inner],
            command.arguments,
        ];
        command.arguments = arguments.concat();
        command.program = "/bin/sh".to_owned();
    }
    let end = agent(running, ANSWER)
        .and_then(|mut agent| agent.run(&command, MOST, COMMAND))
        .map_err(failed(DOING))?;
    let write = |stream: BorrowedFd<'_>, bytes: &[u8]| {
        let stream = stream.try_clone_to_owned()?;
        std::fs::File::from(stream).write_all(bytes)
    };
    write(streams[1], &end.output)
        .and_then(|()| write(streams[2], &end.errors))
        .map_err(|error| RuntimeError::new("pass on the output of", Class::NeedsOperator, error))?;
    Ok(status(&end))
}

fn status(end: &GuestEnd) -> ExitStatus {
    match (end.code, end.signal) {
        (_, Some(signal)) => ExitStatus::Signal(u8::try_from(signal).unwrap_or(0)),
        (code, None) => ExitStatus::Code(u8::try_from(code.unwrap_or(0)).unwrap_or(u8::MAX)),
    }
}

/// What a command gets to read: all of it at once, and nothing of a person's terminal.
fn input(stream: BorrowedFd<'_>) -> std::io::Result<Option<Vec<u8>>> {
    if rustix::termios::isatty(stream) {
        return Ok(None);
    }
    let mut bytes = Vec::new();
    let file = std::fs::File::from(stream.try_clone_to_owned()?);
    file.take(MOST as u64 + 1).read_to_end(&mut bytes)?;
    if bytes.len() > MOST {
        let why = format!(
            "its input is longer than {MOST} bytes, which is more than a guest agent takes"
        );
        return Err(std::io::Error::other(why));
    }
    Ok((!bytes.is_empty()).then_some(bytes))
}

/// Whether somebody answers in the guest; else why not.
pub(in crate::native::instance) fn agent_answers(
    running: &Running,
    patience: Duration,
) -> Result<(), String> {
    let asked = agent(running, patience).and_then(|mut agent| agent.ping());
    asked.map_err(|error| chain(&error))
}

/// Whether cloud-init in the guest has done its work, without errors; else why not.
pub(in crate::native::instance) fn cloud_init_is_done(
    running: &Running,
    patience: Duration,
) -> Result<(), String> {
    let read = agent(running, patience)
        .and_then(|mut agent| agent.read_file(result::FILE, 64 << 10, patience));
    let text = match read {
        // It is written at the end.
        Err(AgentError::Refused { .. }) => return Err("it is not through yet".to_owned()),
        other => other.map_err(|error| chain(&error))?,
    };
    match result::of(&text) {
        Some(result) => result.map_err(|error| plain(&error)),
        None => Err("it is not through yet".to_owned()),
    }
}

/// Runs a command in the guest of which only the exit code is asked for; else why it did not end.
pub(in crate::native::instance) fn run_quietly(
    running: &Running,
    command: Vec<String>,
    environment: Vec<(String, String)>,
    patience: Duration,
) -> Result<i32, String> {
    let mut words = command.into_iter();
    let command = GuestCommand {
        program: words.next().unwrap_or_default(),
        arguments: words.collect(),
        environment: variables(environment),
        input: None,
        capture: false,
    };
    let run = agent(running, patience).and_then(|mut agent| agent.run(&command, 0, patience));
    let end = run.map_err(|error| chain(&error))?;
    Ok(match status(&end) {
        ExitStatus::Code(code) => i32::from(code),
        ExitStatus::Signal(signal) => 128 + i32::from(signal),
    })
}

fn variables(environment: Vec<(String, String)>) -> Vec<String> {
    environment
        .into_iter()
        .filter(|(name, _)| name != "container")
        .map(|(name, value)| format!("{name}={value}"))
        .collect()
}

/// Runs one of our own small commands, which must succeed.
fn small(agent: &mut Agent, words: &[&str]) -> Result<String, RuntimeError> {
    let mut words = words.iter().map(|word| (*word).to_owned());
    let command = GuestCommand {
        program: words.next().unwrap_or_default(),
        arguments: words.collect(),
        environment: Vec::new(),
        input: None,
        capture: true,
    };
    let doing = format!("run {} in", command.program);
    let end = agent
        .run(&command, 64 << 10, SMALL)
        .map_err(failed(doing.clone()))?;
    if end.code != Some(0) {
        let said = String::from_utf8_lossy(&end.errors).trim().to_owned();
        return Err(RuntimeError::new(doing, Class::NeedsOperator, said));
    }
    Ok(String::from_utf8_lossy(&end.output).trim().to_owned())
}

/// What `stat` is asked for, and how its answer is read: mode, user, group.
const ABOUT: [&str; 4] = ["stat", "-L", "-c", "%a %u %g"];

fn about(text: &str) -> (u32, u32, u32) {
    let mut numbers = text.trim().split(' ');
    let mode = numbers
        .next()
        .and_then(|word| u32::from_str_radix(word, 8).ok());
    let mut id = || {
        numbers
            .next()
            .and_then(|word| word.parse().ok())
            .unwrap_or(0)
    };
    (mode.unwrap_or(0o644), id(), id())
}

/// Reads a file of the guest.
pub(in crate::native) fn read_file(
    running: &Running,
    path: &str,
    most: u64,
) -> Result<FileInside, RuntimeError> {
    let doing = || format!("read {path} in");
    let mut agent = agent(running, ANSWER).map_err(failed(doing()))?;
    let (mode, uid, gid) = about(&small(&mut agent, &[&ABOUT[..], &[path]].concat())?);
    let most = usize::try_from(most).unwrap_or(usize::MAX);
    let content = agent
        .read_file(path, most, COMMAND)
        .map_err(failed(doing()))?;
    Ok(FileInside {
        content,
        mode,
        uid,
        gid,
    })
}

/// Looks at a file of the guest; none: there is none, or it has more than `most` bytes.
pub(super) fn look_at_file(
    running: &Running,
    path: &str,
    most: usize,
    patience: Duration,
) -> Result<Option<FileInside>, AgentError> {
    let mut agent = agent(running, patience)?;
    let Some((mode, uid, gid)) = look(&mut agent, path, patience)? else {
        return Ok(None);
    };
    match agent.read_file(path, most, patience) {
        Ok(content) => Ok(Some(FileInside {
            content,
            mode,
            uid,
            gid,
        })),
        Err(AgentError::Refused { .. } | AgentError::TooLarge { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Whether there is such a file in the guest.
pub(super) fn is_there(
    running: &Running,
    path: &str,
    patience: Duration,
) -> Result<bool, AgentError> {
    let mut agent = agent(running, patience)?;
    Ok(look(&mut agent, path, patience)?.is_some())
}

fn look(
    agent: &mut Agent,
    path: &str,
    patience: Duration,
) -> Result<Option<(u32, u32, u32)>, AgentError> {
    let [program, arguments @ ..] = ABOUT;
    let command = GuestCommand {
        program: program.to_owned(),
        arguments: arguments
            .into_iter()
            .chain([path])
            .map(str::to_owned)
            .collect(),
        environment: Vec::new(),
        input: None,
        capture: true,
    };
    let end = agent.run(&command, 4 << 10, patience)?;
    Ok((end.code == Some(0)).then(|| about(&String::from_utf8_lossy(&end.output))))
}

/// Writes a file of the guest.
pub(in crate::native) fn write_file(
    running: &Running,
    path: &str,
    file: &FileInside,
    create_folders: bool,
) -> Result<(), RuntimeError> {
    let doing = format!("write {path} in");
    let mut agent = agent(running, ANSWER).map_err(failed(doing.clone()))?;
    if let (true, Some(folder)) = (create_folders, Path::new(path).parent()) {
        small(&mut agent, &["mkdir", "-p", &folder.display().to_string()])?;
    }
    // The agent makes files that all can read.
    let script = "umask 077; test -e \"$0\" || : >\"$0\"";
    small(&mut agent, &["/bin/sh", "-c", script, path])?;
    agent
        .write_file(path, &file.content, COMMAND)
        .map_err(failed(doing))?;
    small(
        &mut agent,
        &["chown", &format!("{}:{}", file.uid, file.gid), path],
    )?;
    small(&mut agent, &["chmod", &format!("{:o}", file.mode), path])?;
    Ok(())
}
