//! `keel run`.

use std::collections::BTreeSet;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use manifests::desired::DesiredSet;
use manifests::diagnostic::Diagnostics;
use manifests::id::SourceName;
use manifests::read::{Texts, read_source};
use manifests::resolve::source_of;
use runtime::error::RuntimeError;
use runtime::native::watch::{Bell, Moved};
use runtime::sys::interrupt;

use super::HumanOrJson;
use super::boot::Boot;
use super::decide::{host_for, look_up_secrets, other_host, session};
use super::engine::{self, Opened};
use super::global::duration;
use super::invocation::{Invocation, absolute};
use super::{backup, snapshot};
use crate::controller::event::{Outcome, Request};
use crate::controller::ground::Ground;
use crate::controller::run::{Controller, Handle, Settings, Source};
use crate::controller::standing::{SourceStanding, Standing};
use crate::controller::state::Pace;
use crate::error::{CliError, Exit, chain, exit_of};
use crate::session::Session;
use crate::source::directory::Directory;
use crate::store::Store as _;

/// Follow a source and keep the host as it says.
///
/// Stays until it is asked to leave (Ctrl-C, SIGTERM); SIGHUP makes it look at once. What the world changes is seen
/// within a second and put back.
#[derive(Debug, clap::Args)]
pub(super) struct Run {
    /// The folder of the source; absent: this folder.
    path: Option<PathBuf>,
    /// Bring it to where it shall be once, and leave.
    #[arg(long)]
    once: bool,
    /// How often all is looked at, though nothing happens.
    #[arg(long, value_name = "DURATION", default_value = "10m", value_parser = duration)]
    interval: Duration,
}

/// What the controller does on this host.
struct Native<'a> {
    invocation: &'a Invocation,
    /// For what has words of its own for people, which nobody reads here.
    silent: &'a Invocation,
    opened: &'a Opened,
}

fn ended(exit: Result<Exit, CliError>) -> Result<(), String> {
    match exit {
        Ok(Exit::Done) => Ok(()),
        Ok(_) => Err("some of it failed".to_owned()),
        Err(error) => Err(error
            .source
            .map_or_else(String::new, |source| chain(source.as_ref()))),
    }
}

fn words(found: &Diagnostics) -> String {
    let words: Vec<String> = found
        .sorted()
        .iter()
        .map(|one| format!("{}: {} [{}]", one.origin, one.message, one.code))
        .collect();
    words.join("; ")
}

impl Ground for Native<'_> {
    fn session(&self) -> Session<'_> {
        session(self.invocation, self.opened)
    }

    fn fit(&self, desired: &mut DesiredSet, texts: &Texts) -> Result<(), String> {
        let host = host_for(desired, self.opened).map_err(|error| chain(&error))?;
        let beyond = manifests::support::beyond(desired, &host);
        if beyond.has_errors() {
            return Err(words(&beyond));
        }
        if let Some(why) = other_host(desired, &host) {
            return Err(why);
        }
        let found = look_up_secrets(desired, texts, self.opened);
        match found.is_empty() {
            true => Ok(()),
            false => Err(words(&found)),
        }
    }

    fn boot(&self) -> Result<(), String> {
        let boot = Boot {
            output: HumanOrJson::Human,
        };
        ended(boot.run(self.silent))
    }

    fn due(&self) -> Result<(), String> {
        ended(snapshot::run_due(self.silent, self.opened))
    }

    fn back_up(&self) -> Result<(), String> {
        ended(backup::run_due(self.silent))
    }

    fn watch(&self, bell: &Bell, moved: &dyn Fn(Moved)) -> Result<(), RuntimeError> {
        self.opened.runtime.watch(bell, moved)
    }
}

impl Run {
    pub(super) fn run(&self, invocation: &Invocation) -> Result<Exit, CliError> {
        let path = absolute(self.path.as_deref().unwrap_or(Path::new(".")))?;
        let source = source_in(&path, self.interval)?;
        let opened = engine::open(invocation)?;
        let _alone = opened.folder.only_controller(invocation.now())?;
        let mut quiet = invocation.global.clone();
        quiet.quiet = true;
        let silent = Invocation::new(quiet, invocation.cancel);
        let settings = Settings {
            pace: Pace {
                interval: self.interval,
                ..Pace::default()
            },
            seed: u64::from(std::process::id()),
            once: self.once,
            parallelism: invocation.global.parallelism.map(usize::from),
            suspensions: engine::store(&opened.folder)?.load()?.suspensions,
        };
        let controller = Controller::default();
        listen(invocation, controller.handle())?;
        let ground = Native {
            invocation,
            silent: &silent,
            opened: &opened,
        };
        let mut told = false;
        let mut stood = |standing: &Standing| {
            // Whoever waits for the unit waits until what should run was started.
            if standing.booted && !told {
                told = true;
                // Where nobody listens nobody waits.
                let _ = sd_notify::notify(&[sd_notify::NotifyState::Ready]);
            }
        };
        let standing = controller
            .run(&ground, vec![source], settings, &mut stood)
            .map_err(|error| CliError::new(Exit::Unexpected, error))?;
        let _ = sd_notify::notify(&[sd_notify::NotifyState::Stopping]);
        Ok(match self.once {
            true => exit(&standing),
            false => Exit::Done,
        })
    }
}

/// A folder as a source, called as its `keel.yaml` says.
fn source_in(path: &Path, interval: Duration) -> Result<Source, CliError> {
    let texts = read_source(path)
        .map_err(|error| CliError::new(Exit::Invalid, error).hint("name a folder of manifests"))?;
    let name = source_of(&texts).map_or_else(SourceName::unnamed, |source| source.name);
    let followed = Directory::new(name.as_str(), path, interval);
    Ok(Source {
        name,
        followed: Box::new(followed),
        projects: BTreeSet::new(),
        depends_on: Vec::new(),
    })
}

/// Signals are told to the controller.
fn listen(invocation: &Invocation, handle: Handle) -> Result<(), CliError> {
    let failed = |error| CliError::new(Exit::Unexpected, format!("catch signals: {error}"));
    let told = interrupt::hear(invocation.cancel).map_err(failed)?;
    let mut told = std::fs::File::from(told);
    std::thread::Builder::new()
        .name("keel-signals".to_owned())
        .spawn(move || {
            let mut signal = [0];
            while told.read_exact(&mut signal).is_ok() {
                match i32::from(signal[0]) == interrupt::HANG_UP {
                    true => handle.ask(Request::Reconcile(None)),
                    false => handle.leave(),
                }
            }
        })
        .map_err(failed)?;
    Ok(())
}

/// How a run that ends after one try went.
fn exit(standing: &Standing) -> Exit {
    let of = |source: &SourceStanding| {
        if source.invalid.is_some() {
            return Exit::Invalid;
        }
        match &source.outcome {
            _ if source.fetching_failed.is_some() => Exit::Unexpected,
            None => Exit::Done,
            Some(Outcome::Settled | Outcome::Looked) => Exit::Done,
            Some(Outcome::Partly) => Exit::Partly,
            Some(Outcome::Stopped { .. }) => Exit::Refused,
            Some(Outcome::Busy) => Exit::Locked,
            Some(Outcome::Failed { class, .. }) => exit_of(*class),
        }
    };
    standing.sources.iter().map(of).max().unwrap_or(Exit::Done)
}
