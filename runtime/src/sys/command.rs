//! Running host programs: the argument vector is logged and named in the error, output is captured.

use std::ffi::{OsStr, OsString};
use std::io::{Read as _, Write as _};
use std::process::{Command, Stdio};

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
    let arguments: Vec<OsString> = arguments
        .into_iter()
        .map(|a| a.as_ref().to_os_string())
        .collect();
    tracing::debug!(program, ?arguments, "run");
    let start = |source| CommandError::Start {
        program: program.to_owned(),
        source,
    };
    #[expect(clippy::disallowed_methods, reason = "this is the lawful place")]
    let mut child = Command::new(program)
        .args(&arguments)
        .env_clear()
        .env(
            "PATH",
            "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        )
        .env("LC_ALL", "C")
        .current_dir("/")
        .stdin(if input.is_some() {
            Stdio::piped()
        } else {
            Stdio::null()
        })
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(start)?;
    // Both pipes are drained while the input is fed: a program that fills one of them must not hang us.
    let stdin = child.stdin.take();
    let mut stderr = child.stderr.take();
    let mut stdout = child.stdout.take();
    let (output, errors) = std::thread::scope(|scope| {
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
        let mut output = Vec::new();
        if let Some(stdout) = stdout.as_mut() {
            let _ = stdout.read_to_end(&mut output);
        }
        (output, errors.join().unwrap_or_default())
    });
    let status = child.wait().map_err(start)?;
    if status.success() {
        return Ok(output);
    }
    let command = std::iter::once(program.to_owned())
        .chain(arguments.iter().map(|a| a.to_string_lossy().into_owned()))
        .collect::<Vec<_>>()
        .join(" ");
    Err(CommandError::Failed {
        command,
        status,
        stderr: String::from_utf8_lossy(&errors).into_owned(),
    })
}
