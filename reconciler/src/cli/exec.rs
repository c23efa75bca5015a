//! `keel exec`.

use std::error::Error;
use std::io::{ErrorKind, IsTerminal as _};
use std::os::fd::AsFd as _;

use manifests::id::Address;
use runtime::error::RuntimeError;
use runtime::native::container::relay::Raw;
use runtime::runtime::{ExecRequest, ExitStatus};

use super::elsewhere::{self, of_instance};
use super::engine;
use super::invocation::{Invocation, environment};
use crate::api::ExecStart;
use crate::api::client::Controller;
use crate::api::session::{Kind, size};
use crate::error::{CliError, Exit};

/// Run a command in an instance.
///
/// The exit code is that of the command, 128 + n if signal n ended it, and 125 (keel's own failure), 126 (it cannot be
/// executed) or 127 (there is no such command) otherwise.
#[derive(Debug, clap::Args)]
pub(super) struct Exec {
    /// The instance.
    instance: String,
    /// The command and its arguments.
    #[arg(
        trailing_var_arg = true,
        allow_hyphen_values = true,
        value_name = "COMMAND",
        default_value = "/bin/sh"
    )]
    command: Vec<String>,
    /// Give it a terminal; that is the default where stdin and stdout are terminals.
    #[arg(short, long, conflicts_with = "no_terminal")]
    terminal: bool,
    /// Give it no terminal.
    #[arg(short = 'T', long)]
    no_terminal: bool,
    /// Add a variable to its environment.
    #[arg(short, long, value_name = "NAME=VALUE")]
    env: Vec<String>,
    /// The user and group inside, as numbers.
    #[arg(short, long, value_name = "UID[:GID]", default_value = "0:0")]
    user: String,
    /// The folder in which it runs.
    #[arg(long, value_name = "DIR")]
    cwd: Option<String>,
}

impl Exec {
    pub(super) fn run(&self, invocation: &Invocation) -> Result<Exit, CliError> {
        let instance = invocation.instance(&self.instance)?;
        let (stdin, stdout, stderr) = (std::io::stdin(), std::io::stdout(), std::io::stderr());
        let terminal =
            self.terminal || (!self.no_terminal && stdin.is_terminal() && stdout.is_terminal());
        let request = self.request(terminal)?;
        if let Some(controller) = elsewhere::controller(invocation)? {
            return self.elsewhere(&controller, &instance, request);
        }
        let engine = engine::open(invocation)?;
        // Every key goes to the program, until this is dropped. Where stdin is no terminal there is nothing to set.
        let raw = terminal.then(|| Raw::set(stdin.as_fd()));
        let ended = engine.runtime.exec(
            &instance,
            &request,
            [stdin.as_fd(), stdout.as_fd(), stderr.as_fd()],
        );
        drop(raw);
        match ended {
            Ok(ExitStatus::Code(code)) => Ok(Exit::Other(code)),
            Ok(ExitStatus::Signal(signal)) => Ok(Exit::Other(signal.saturating_add(128))),
            Err(error) => Err(CliError::new(Exit::Other(code_of(&error)), error)),
        }
    }

    fn elsewhere(
        &self,
        controller: &Controller,
        instance: &Address,
        request: ExecRequest,
    ) -> Result<Exit, CliError> {
        let start = ExecStart {
            command: request.command,
            environment: request.environment.into_iter().collect(),
            directory: request.directory,
            uid: request.uid,
            gid: request.gid,
            terminal: request.terminal,
            size: size().filter(|_| request.terminal),
        };
        let stdin = std::io::stdin();
        let raw = start.terminal.then(|| Raw::set(stdin.as_fd()));
        let ended = controller.carry(&of_instance(instance, "exec"), Kind::Exec(Box::new(start)));
        drop(raw);
        let ended = ended.map_err(|error| CliError {
            exit: Exit::Other(125),
            ..CliError::from(error)
        })?;
        match (ended.code, ended.signal) {
            (Some(code), _) => Ok(Exit::Other(code)),
            (None, Some(signal)) => Ok(Exit::Other(signal.saturating_add(128))),
            (None, None) => {
                let why = ended
                    .error
                    .unwrap_or_else(|| "it ended, and nobody says how".to_owned());
                let io = ended.errno.map(std::io::Error::from_raw_os_error);
                Err(CliError::new(
                    Exit::Other(io.as_ref().map_or(125, code)),
                    why,
                ))
            }
        }
    }

    fn request(&self, terminal: bool) -> Result<ExecRequest, CliError> {
        let number = |text: &str| {
            text.parse::<u32>().map_err(|_| {
                CliError::usage(format!(
                    "`{}` is no UID[:GID], such as 1000:1000",
                    self.user
                ))
            })
        };
        let (uid, gid) = match self.user.split_once(':') {
            Some((uid, gid)) => (number(uid)?, number(gid)?),
            None => (number(&self.user)?, number(&self.user)?),
        };
        let mut variables = Vec::new();
        if terminal && let Some(kind) = environment("TERM") {
            variables.push(("TERM".to_owned(), kind));
        }
        for text in &self.env {
            let (name, value) = text
                .split_once('=')
                .filter(|(name, _)| !name.is_empty())
                .ok_or_else(|| CliError::usage(format!("`{text}` is no NAME=VALUE")))?;
            variables.push((name.to_owned(), value.to_owned()));
        }
        Ok(ExecRequest {
            command: self.command.clone(),
            environment: variables,
            directory: self.cwd.clone(),
            uid,
            gid,
            terminal,
        })
    }
}

/// 127 where the command is not there, 126 where it cannot be executed, else 125.
fn code_of(error: &RuntimeError) -> u8 {
    let mut next: Option<&(dyn Error + 'static)> = Some(error);
    while let Some(cause) = next {
        if let Some(io) = cause.downcast_ref::<std::io::Error>() {
            return code(io);
        }
        next = cause.source();
    }
    125
}

fn code(error: &std::io::Error) -> u8 {
    match error.kind() {
        ErrorKind::NotFound => 127,
        ErrorKind::PermissionDenied => 126,
        _ if error.raw_os_error() == Some(rustix::io::Errno::NOEXEC.raw_os_error()) => 126,
        _ => 125,
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;
    use runtime::error::Class;

    use super::*;

    #[derive(clap::Parser)]
    struct Line {
        #[command(flatten)]
        exec: Exec,
    }

    fn request(words: &[&str]) -> Result<ExecRequest, CliError> {
        let line = Line::try_parse_from([&["exec"], words].concat()).expect("a command line");
        line.exec.request(false)
    }

    #[test]
    fn a_command_line_becomes_a_request() {
        let asked = request(&["-u", "1000:100", "-e", "A=b=c", "web", "--", "ls", "-l"])
            .expect("it is right");
        assert_eq!(asked.command, ["ls", "-l"]);
        assert_eq!((asked.uid, asked.gid), (1000, 100));
        assert_eq!(asked.environment, [("A".to_owned(), "b=c".to_owned())]);
        let asked = request(&["-u", "5", "web"]).expect("it is right");
        assert_eq!(asked.command, ["/bin/sh"]);
        assert_eq!((asked.uid, asked.gid), (5, 5));
    }

    #[test]
    fn wrong_words_are_usage_errors() {
        for words in [
            &["-u", "root", "web"][..],
            &["-e", "=x", "web"],
            &["-e", "x", "web"],
        ] {
            let error = request(words).expect_err("it is wrong");
            assert_eq!(error.exit, Exit::Usage, "{words:?}");
        }
    }

    #[test]
    fn failures_have_the_codes_of_shells() {
        for (errno, code) in [(2, 127), (13, 126), (8, 126), (12, 125)] {
            let error = RuntimeError::new(
                "exec",
                Class::NeedsOperator,
                std::io::Error::from_raw_os_error(errno),
            );
            assert_eq!(code_of(&error), code, "errno {errno}");
        }
    }
}
