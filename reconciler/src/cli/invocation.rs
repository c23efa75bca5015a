//! What surrounds one command: global flags, the clock, the terminal, and whether a person asked to leave.

use std::io::{BufRead as _, IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use manifests::id::Address;
use manifests::kind::Kind;

use super::global::{Engine, GlobalOptions};
use crate::apply::Failpoint;
use crate::clock::{Clock, FixedClock, HostClock};
use crate::error::{CliError, Exit};

/// More are not kept.
const MOST_WARNINGS: usize = 200;

/// What surrounds one command.
pub(super) struct Invocation {
    /// Flags that every command takes.
    pub(super) global: GlobalOptions,
    /// Set when a person asked to leave: running steps finish, nothing new begins.
    pub(super) cancel: &'static AtomicBool,
    clock: Box<dyn Clock>,
    /// What went wrong and was said.
    warned: Mutex<Vec<String>>,
}

impl Invocation {
    /// Reads the few things of the environment that are no flags.
    pub(super) fn new(global: GlobalOptions, cancel: &'static AtomicBool) -> Self {
        Self {
            global,
            cancel,
            // Tests fix the time, so that what is printed can be compared.
            clock: match environment("KEEL_NOW").and_then(|text| text.parse().ok()) {
                Some(now) => Box::new(FixedClock(now)),
                None => Box::new(HostClock),
            },
            warned: Mutex::default(),
        }
    }

    /// The same where another engine does the work.
    pub(super) fn with_engine(&self, engine: Engine) -> Self {
        let mut global = self.global.clone();
        global.engine = engine;
        Self::new(global, self.cancel)
    }

    /// The time.
    pub(super) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// The clock, for those who measure.
    pub(super) fn clock(&self) -> &dyn Clock {
        self.clock.as_ref()
    }

    /// Where a test ends this process: at the point of this number.
    pub(super) fn failpoint(&self) -> Option<Arc<Failpoint>> {
        let number = environment("KEEL_TEST_KILL_AT")?.parse().ok()?;
        Some(Arc::new(Failpoint::at(number)))
    }

    /// Milliseconds since an earlier [`Invocation::now`]; 0 under a fixed clock.
    pub(super) fn milliseconds_since(&self, start: Timestamp) -> u64 {
        let passed = self.now().as_millisecond() - start.as_millisecond();
        u64::try_from(passed).unwrap_or(0)
    }

    /// Writes text to stdout, without colours where it wants none. A reader that went away is no error: what was asked
    /// for is done.
    ///
    /// # Errors
    /// Any other failure to write.
    pub(super) fn print(&self, text: &str) -> Result<(), CliError> {
        let mut out = anstream::stdout().lock();
        written(out.write_all(text.as_bytes()).and_then(|()| out.flush()))
    }

    /// Writes text to stdout as it is: what machines read has no colours.
    ///
    /// # Errors
    /// As [`Invocation::print`].
    pub(super) fn print_plain(&self, text: &str) -> Result<(), CliError> {
        self.print_bytes(text.as_bytes())
    }

    /// Writes bytes to stdout as they are.
    ///
    /// # Errors
    /// As [`Invocation::print`].
    pub(super) fn print_bytes(&self, bytes: &[u8]) -> Result<(), CliError> {
        let mut out = std::io::stdout().lock();
        written(out.write_all(bytes).and_then(|()| out.flush()))
    }

    /// Writes to stderr what a person should know; not with `--quiet`.
    pub(super) fn note(&self, text: &str) {
        if !self.global.quiet {
            say(text);
        }
    }

    /// Writes to stderr what went wrong, though the rest went on; with `--quiet` it is only kept for
    /// [`Invocation::warnings`].
    pub(super) fn warn(&self, line: &str) {
        self.note(&format!("{line}\n"));
        let warned = self.warned.lock();
        let mut warned = warned.unwrap_or_else(PoisonError::into_inner);
        if warned.len() < MOST_WARNINGS {
            warned.push(line.to_owned());
        }
    }

    /// What went wrong since this was last asked.
    pub(super) fn warnings(&self) -> Vec<String> {
        let warned = self.warned.lock();
        std::mem::take(&mut *warned.unwrap_or_else(PoisonError::into_inner))
    }

    /// Whether questions can be asked: stdin and stderr are terminals and `--no-input` was not said.
    pub(super) fn can_ask(&self) -> bool {
        !self.global.no_input && std::io::stdin().is_terminal() && std::io::stderr().is_terminal()
    }

    /// Asks a question on the terminal; anything but `y` or `yes` is no.
    ///
    /// # Errors
    /// The terminal could not be read.
    pub(super) fn ask(&self, question: &str) -> Result<bool, CliError> {
        say(&format!("{question} [y/N] "));
        let mut answer = String::new();
        std::io::stdin()
            .lock()
            .read_line(&mut answer)
            .map_err(|error| {
                CliError::new(Exit::Unexpected, format!("read the answer: {error}"))
            })?;
        Ok(matches!(answer.trim().to_lowercase().as_str(), "y" | "yes"))
    }

    /// Asks before something is changed. `--yes` answers; without a terminal and without `--yes` it is a usage error.
    ///
    /// # Errors
    /// Nobody can be asked, or the answer was no.
    pub(super) fn confirm(&self, yes: bool, question: &str) -> Result<(), CliError> {
        if yes {
            return Ok(());
        }
        if !self.can_ask() {
            let why = format!("nobody is there to be asked: {question}");
            return Err(CliError::usage(why).hint("say --yes"));
        }
        if self.ask(question)? {
            Ok(())
        } else {
            Err(CliError::new(
                Exit::Refused,
                "not confirmed: nothing was done",
            ))
        }
    }

    /// Whether a person asked to leave.
    pub(super) fn cancelled(&self) -> bool {
        self.cancel.load(Ordering::SeqCst)
    }

    /// The columns of the terminal, between 80 and 140; 80 where stdout is none.
    pub(super) fn columns(&self) -> usize {
        rustix::termios::tcgetwinsize(std::io::stdout())
            .map_or(80, |size| usize::from(size.ws_col).clamp(80, 140))
    }

    /// Writes the machine-readable output where `--json-into` says.
    ///
    /// # Errors
    /// The file could not be written.
    pub(super) fn json_into(&self, json: impl FnOnce() -> String) -> Result<(), CliError> {
        if let Some(path) = &self.global.json_into {
            manifests::path_io::write_durably(absolute(path)?, json())?;
        }
        Ok(())
    }

    /// The instance that a person names: `web-1`, `instance/web-1`, `instance/shop/web-1`.
    ///
    /// # Errors
    /// It names an object of another kind.
    pub(super) fn instance(&self, text: &str) -> Result<Address, CliError> {
        let address = self.object(Kind::Instance, text)?;
        if address.kind == Kind::Instance {
            Ok(address)
        } else {
            Err(CliError::usage(format!("{address} is no instance")))
        }
    }

    /// The instance that a person names, or the volume: `volume/POOL/NAME`.
    ///
    /// # Errors
    /// It names an object of another kind.
    pub(super) fn has_snapshots(&self, text: &str) -> Result<Address, CliError> {
        let address = self.object(Kind::Instance, text)?;
        if matches!(address.kind, Kind::Instance | Kind::Volume) {
            Ok(address)
        } else {
            let why = format!("{address} is no instance and no volume");
            Err(CliError::usage(why))
        }
    }

    /// The object of a kind that a person names, with or without the kind.
    ///
    /// # Errors
    /// It is no address.
    pub(super) fn object(&self, kind: Kind, text: &str) -> Result<Address, CliError> {
        if let Ok(address) = text.parse() {
            return Ok(address);
        }
        let mut address: Address = format!("{}/{text}", kind.word()).parse()?;
        if address.project.is_none() && !kind.belongs_to_host() {
            address.project = Some(self.global.project.clone()).filter(|name| name != "default");
        }
        Ok(address)
    }

    /// Waits a while, or shorter if a person asked to leave.
    pub(super) fn pause(&self, time: Duration) {
        let timeout = rustix::event::Timespec::try_from(time).ok();
        // Nothing is watched: the answer is always "nothing", or that a signal came.
        let _ = rustix::event::poll(&mut [], timeout.as_ref());
    }

    /// The state folder, absolute.
    ///
    /// # Errors
    /// There is no working folder.
    pub(super) fn state_dir(&self) -> Result<PathBuf, CliError> {
        absolute(&self.global.state_dir)
    }
}

fn written(result: std::io::Result<()>) -> Result<(), CliError> {
    match result {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(CliError::new(
            Exit::Unexpected,
            format!("write to standard output: {error}"),
        )),
        _ => Ok(()),
    }
}

/// A path that does not depend on the working folder; it need not be there.
pub(super) fn absolute(path: &Path) -> Result<PathBuf, CliError> {
    std::path::absolute(path)
        .map_err(|error| CliError::new(Exit::Unexpected, format!("{}: {error}", path.display())))
}

/// Writes to stderr, without colours where it wants none. There is nobody to tell if that fails.
pub(super) fn say(text: &str) {
    let mut out = anstream::stderr().lock();
    let _ = out.write_all(text.as_bytes());
    let _ = out.flush();
}

/// A variable of the environment that is no flag.
#[expect(
    clippy::disallowed_methods,
    reason = "the command line is where the environment comes in"
)]
pub(super) fn environment(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|text| !text.is_empty())
}
