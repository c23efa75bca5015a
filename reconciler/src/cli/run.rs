//! `keel run`.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read as _;
use std::os::fd::BorrowedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use manifests::controller::{
    self, ApiSettings, ListenAddress, Notification, SourceSettings, TracesSettings,
};
use manifests::desired::DesiredSet;
use manifests::diagnostic::Diagnostics;
use manifests::id::{Address, SourceName};
use manifests::path_io;
use manifests::read::{Texts, read_source};
use manifests::resolve::source_of;
use runtime::error::RuntimeError;
use runtime::runtime::{ExecRequest, ExitStatus};
use runtime::sys::heap;
use runtime::sys::{interrupt, passed_sockets};
use runtime::watch::{Bell, Deed, Moved};

use super::HumanOrJson;
use super::boot::Boot;
use super::chores::{Chore, ended};
use super::decide::{host_for, look_up_secrets, other_host, session};
use super::engine::{self, Opened};
use super::global::duration;
use super::invocation::{Invocation, absolute, environment, say};
use super::{backup, snapshot};
use crate::api::remote::Remote;
use crate::api::{self, Desk, LocalDoor};
use crate::clock::{Clock as _, HostClock};
use crate::controller::event::{Outcome, Request};
use crate::controller::ground::Ground;
use crate::controller::run::{Controller, Handle, Settings, Source};
use crate::controller::standing::{SourceStanding, Standing};
use crate::controller::state::Pace;
use crate::diff::suspension::{Scope, Suspension};
use crate::error::{CliError, Exit, chain, exit_of};
use crate::notify::notifier::Notifier;
use crate::pull_requests::{Watching, watch};
use crate::session::Session;
use crate::source::directory::Directory;
use crate::source::open::open;
use crate::source::repository::Around;
use crate::state_folder::StateFolder;
use crate::store::Store as _;
use crate::telemetry::{self, Exporter, LAST_TRACES, LogFormat};
use crate::view::diagnostics;
use crate::webhook::doors::Doors;

/// Follow sources and keep the host as they say.
///
/// Stays until it is asked to leave (Ctrl-C, SIGTERM); SIGHUP makes it look at once. What the world changes is seen
/// within a second and put back.
#[derive(Debug, clap::Args)]
pub(super) struct Run {
    /// A folder of manifests that is followed; absent: what the settings name.
    #[arg(conflicts_with = "config")]
    path: Option<PathBuf>,
    /// The settings: the repositories and folders that are followed.
    #[arg(long, value_name = "FILE", default_value = controller::FILE)]
    config: PathBuf,
    /// Bring all to where it shall be once, and leave.
    #[arg(long)]
    once: bool,
    /// How often all is looked at, though nothing happens; absent: as the settings say, each ten minutes where there are none.
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    interval: Option<Duration>,
    /// How a line of the log looks.
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    log_format: Format,
}

/// How a line of the log looks.
#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum Format {
    /// For people.
    Text,
    /// One JSON document a line.
    Json,
    /// With its priority before it, as journald reads it.
    Journald,
}

impl From<Format> for LogFormat {
    fn from(format: Format) -> Self {
        match format {
            Format::Text => Self::Text,
            Format::Json => Self::Json,
            Format::Journald => Self::Journald,
        }
    }
}

/// What the socket is called in `keel-webhooks.socket`.
const WEBHOOKS: &str = "webhooks";
/// How long who leaves waits until people are told what they are to know.
const LAST_WORDS: Duration = Duration::from_secs(5);

/// What is followed, and how.
struct Wanted {
    sources: Vec<Source>,
    interval: Duration,
    suspensions: BTreeMap<Scope, Suspension>,
    api: ApiSettings,
    notifications: Vec<Notification>,
    traces: Option<TracesSettings>,
    listen: Option<ListenAddress>,
    doors: Doors,
    /// The sources of which pull requests are answered.
    proposals: Vec<SourceSettings>,
}

/// How often a folder is read that was named by hand, though nothing was heard of it.
const READ_AGAIN: Duration = Duration::from_secs(300);

/// What the controller does, whatever the engine.
struct Works<'a> {
    invocation: &'a Invocation,
    /// For what has words of its own for people, which nobody reads here.
    silent: &'a Invocation,
    /// The same for backups, which are made beside everything else.
    backing_up: &'a Invocation,
    opened: &'a Opened,
    /// Snapshots and what lies in the trash.
    snapshots: Chore,
    backups: Chore,
}

fn words(found: &Diagnostics) -> String {
    let words: Vec<String> = found
        .sorted()
        .iter()
        .map(|one| format!("{}: {} [{}]", one.origin, one.message, one.code))
        .collect();
    words.join("; ")
}

/// What the API answers from: the same engine, and whoever asks waits for nobody.
struct Counter {
    invocation: Invocation,
    opened: Arc<Opened>,
}

impl Desk for Counter {
    fn session(&self) -> Session<'_> {
        session(&self.invocation, &self.opened)
    }

    fn console(&self, instance: &Address, limit: usize) -> Result<Vec<u8>, RuntimeError> {
        self.opened.runtime.console_log(instance, limit)
    }

    fn attach(&self, instance: &Address, streams: [BorrowedFd<'_>; 2]) -> Result<(), RuntimeError> {
        self.opened.runtime.console(instance, streams)
    }

    fn exec(
        &self,
        instance: &Address,
        request: &ExecRequest,
        streams: [BorrowedFd<'_>; 3],
    ) -> Result<ExitStatus, RuntimeError> {
        self.opened.runtime.exec(instance, request, streams)
    }
}

impl Works<'_> {
    /// Who did what is for reports of drift: not to be able to keep it is no reason to stop.
    fn remember(&self, deeds: &[Deed]) {
        let now = self.invocation.now();
        let kept = engine::store(&self.opened.folder)
            .map_err(|error| error.report())
            .and_then(|store| store.heard(deeds, now).map_err(|error| chain(&error)));
        if let Err(why) = kept {
            tracing::warn!(why, "it is not kept who did what");
        }
    }
}

impl Ground for Works<'_> {
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
        // A server starts by itself what ran.
        if self.opened.runtime.native().is_none() {
            return Ok(());
        }
        let boot = Boot {
            output: HumanOrJson::Human,
        };
        ended(boot.run(self.silent), self.silent)
    }

    fn due(&self) -> Result<(), String> {
        self.snapshots
            .unless_lull(&self.session(), self.silent, || {
                snapshot::run_due(self.silent, self.opened)
            })
    }

    fn back_up(&self) -> Result<(), String> {
        // No other engine has backups of ours.
        if self.opened.runtime.native().is_none() {
            return Ok(());
        }
        self.backups
            .unless_lull(&self.session(), self.backing_up, || {
                backup::run_due(self.backing_up)
            })
    }

    fn watch(&self, bell: &Bell, moved: &dyn Fn(Moved)) -> Result<(), RuntimeError> {
        self.opened.runtime.watch(bell, &|what| {
            if let Moved::Deeds(deeds) = &what {
                self.remember(deeds);
            }
            moved(what);
        })
    }
}

impl Run {
    pub(super) fn run(&self, invocation: &Invocation) -> Result<Exit, CliError> {
        heap::share();
        let wanted = match &self.path {
            Some(path) => folder(&absolute(path)?)?,
            None => settings(invocation, &self.config)?,
        };
        let exporter = wanted.traces.as_ref();
        let exporter = exporter
            .map(|traces| Exporter::begin(traces, &host(), &environment))
            .transpose()
            .map_err(|error| CliError::new(Exit::Invalid, error))?;
        let level = match invocation.global.verbose {
            // What the controller does is told by nobody else.
            0 => tracing::Level::INFO,
            1 => tracing::Level::DEBUG,
            _ => tracing::Level::TRACE,
        };
        telemetry::begin(self.log_format.into(), level, exporter.as_ref());
        let interval = self.interval.unwrap_or(wanted.interval);
        let opened = Arc::new(engine::open(invocation)?);
        let _alone = opened.folder.only_controller(invocation.now())?;
        path_io::create_dir_all(opened.folder.run())
            .map_err(|error| CliError::new(Exit::Unexpected, error))?;
        let mut quiet = invocation.global.clone();
        quiet.quiet = true;
        let silent = Invocation::new(quiet.clone(), invocation.cancel);
        let backing_up = Invocation::new(quiet.clone(), invocation.cancel);
        let settings = Settings {
            pace: Pace {
                interval,
                ..Pace::default()
            },
            seed: u64::from(std::process::id()),
            once: self.once,
            parallelism: invocation.global.parallelism.map(usize::from),
            suspensions: suspended(&opened.folder, &wanted.suspensions)?,
            pins: engine::store(&opened.folder)?.load()?.pins,
        };
        let controller = Controller::default();
        let folder = opened.folder.clone();
        listen(invocation, controller.handle(), folder, wanted.suspensions)?;
        let counter = Arc::new(Counter {
            invocation: Invocation::new(quiet, invocation.cancel),
            opened: Arc::clone(&opened),
        });
        let door = LocalDoor {
            own: rustix::process::geteuid().as_raw(),
            settings: wanted.api.socket,
        };
        let remote = wanted.api.tls.as_ref().filter(|_| !self.once);
        let remote = remote.map(Remote::open).transpose();
        let remote = remote.map_err(|error| CliError::new(Exit::Invalid, error))?;
        let _serving = match self.once {
            true => None,
            false => Some(
                api::serve(
                    &opened.folder.run().join(api::SOCKET),
                    door,
                    remote,
                    counter.clone(),
                    controller.handle(),
                )
                .map_err(|error| CliError::new(Exit::Unexpected, error))?,
            ),
        };
        let _webhooks = match (wanted.listen, self.once) {
            (Some(ListenAddress(listen)), false) => {
                let desk = Arc::clone(&counter) as Arc<dyn Desk>;
                let mut passed = passed_sockets::take(&environment).into_iter();
                let opened = passed.find(|(name, _)| name == WEBHOOKS);
                let opened = opened.map(|(_, socket)| socket);
                let (doors, handle) = (wanted.doors, controller.handle());
                let taking = api::take_webhooks(listen, opened, doors, desk, handle);
                Some(taking.map_err(|error| CliError::new(Exit::Unexpected, error))?)
            }
            _ => None,
        };
        let _watching = match self.once {
            true => Vec::new(),
            false => answer_proposals(&wanted.proposals, &opened.folder, &controller.handle())?,
        };
        let ground = Works {
            invocation,
            silent: &silent,
            backing_up: &backing_up,
            opened: &opened,
            snapshots: Chore::default(),
            backups: Chore::default(),
        };
        let state = opened.folder.path();
        let mut notifier = Notifier::begin(&wanted.notifications, &host(), state, &environment)
            .map_err(|error| CliError::new(Exit::Invalid, error))?;
        let watched = watch_over(controller.handle())?;
        let mut seen = HostClock.instant();
        let mut told = false;
        let mut stood = |standing: &Standing| {
            let now = HostClock.instant();
            if watched.is_some_and(|often| now.saturating_duration_since(seen) >= often) {
                seen = now;
                let _ = sd_notify::notify(&[sd_notify::NotifyState::Watchdog]);
            }
            // Whoever waits for the unit waits until what should run was started.
            if standing.booted && !told {
                told = true;
                // Where nobody listens nobody waits.
                let _ = sd_notify::notify(&[sd_notify::NotifyState::Ready]);
            }
        };
        let standing = controller
            .run(
                &ground,
                wanted.sources,
                &settings,
                &mut stood,
                &mut notifier,
            )
            .map_err(|error| CliError::new(Exit::Unexpected, error))?;
        notifier.end(LAST_WORDS);
        if let Some(exporter) = exporter {
            exporter.end(LAST_TRACES);
        }
        let _ = sd_notify::notify(&[sd_notify::NotifyState::Stopping]);
        Ok(match self.once {
            true => exit(&standing),
            false => Exit::Done,
        })
    }
}

/// What the settings name. What is wrong with them was said.
fn settings(invocation: &Invocation, file: &Path) -> Result<Wanted, CliError> {
    let text = path_io::read_to_string(file).map_err(|error| {
        CliError::new(Exit::Invalid, error).hint("or name a folder of manifests: keel run PATH")
    })?;
    let name = file.display().to_string();
    let (settings, found) = controller::read(&name, &text);
    say(&diagnostics::page(&found, &[(name, text)]));
    let Some(settings) = settings else {
        return Err(CliError::said(Exit::Invalid));
    };
    let folder = engine::folder(invocation)?;
    let around = Around {
        sources: &folder.path().join("sources"),
        variable: &environment,
        ssh: "ssh",
    };
    let mut wanted = Wanted {
        sources: Vec::new(),
        interval: settings.interval.as_std(),
        suspensions: BTreeMap::new(),
        api: settings.api,
        notifications: settings.notifications.clone(),
        traces: settings.traces.clone(),
        listen: settings.webhooks.listen,
        doors: Doors::of(&settings.sources, &environment, HostClock.instant())
            .map_err(|error| CliError::new(Exit::Invalid, error))?,
        proposals: Vec::new(),
    };
    for source in &settings.sources {
        if source.pull_requests.is_some() {
            wanted.proposals.push(source.clone());
        }
        let name = SourceName::new(source.name.as_str());
        if let Some(suspend) = &source.suspend {
            let suspension = Suspension {
                reason: suspend.reason.clone(),
                by: Some(file.display().to_string()),
                since: invocation.now(),
                until: None,
            };
            wanted
                .suspensions
                .insert(Scope::Source(name.clone()), suspension);
        }
        let depends_on = source.depends_on.iter();
        wanted.sources.push(Source {
            followed: open(source, &around).map_err(|error| CliError::new(Exit::Invalid, error))?,
            projects: source.projects.iter().cloned().collect(),
            depends_on: depends_on.map(SourceName::new).collect(),
            name,
        });
    }
    Ok(wanted)
}

/// A folder as a source, called as its `keel.yaml` says.
fn folder(path: &Path) -> Result<Wanted, CliError> {
    let texts = read_source(path)
        .map_err(|error| CliError::new(Exit::Invalid, error).hint("name a folder of manifests"))?;
    let name = source_of(&texts).map_or_else(SourceName::unnamed, |source| source.name);
    let followed = Directory::new(name.as_str(), path, READ_AGAIN);
    let source = Source {
        name,
        followed: Box::new(followed),
        projects: BTreeSet::new(),
        depends_on: Vec::new(),
    };
    Ok(Wanted {
        sources: vec![source],
        interval: Pace::default().interval,
        suspensions: BTreeMap::new(),
        api: ApiSettings::default(),
        notifications: Vec::new(),
        traces: None,
        listen: None,
        doors: Doors::default(),
        proposals: Vec::new(),
    })
}

/// What this host is called.
fn host() -> String {
    let name = rustix::system::uname();
    name.nodename().to_string_lossy().into_owned()
}

/// What people and the settings suspend.
fn suspended(
    folder: &StateFolder,
    settings: &BTreeMap<Scope, Suspension>,
) -> Result<BTreeMap<Scope, Suspension>, CliError> {
    let mut all = engine::store(folder)?.load()?.suspensions;
    all.extend(settings.clone());
    Ok(all)
}

/// Signals are told to the controller.
fn listen(
    invocation: &Invocation,
    handle: Handle,
    folder: StateFolder,
    settings: BTreeMap<Scope, Suspension>,
) -> Result<(), CliError> {
    let failed = |error| CliError::new(Exit::Unexpected, format!("catch signals: {error}"));
    let told = interrupt::hear(invocation.cancel).map_err(failed)?;
    let mut told = std::fs::File::from(told);
    std::thread::Builder::new()
        .name("keel-signals".to_owned())
        .spawn(move || {
            let mut signal = [0];
            while told.read_exact(&mut signal).is_ok() {
                if i32::from(signal[0]) != interrupt::HANG_UP {
                    handle.leave();
                    continue;
                }
                match suspended(&folder, &settings) {
                    Ok(all) => handle.ask(Request::Suspended(all)),
                    Err(error) => tracing::error!("{}", error.report()),
                }
                handle.ask(Request::Reconcile(None));
            }
        })
        .map_err(failed)?;
    Ok(())
}

/// Pull requests are answered while these are there.
fn answer_proposals(
    sources: &[SourceSettings],
    folder: &StateFolder,
    handle: &Handle,
) -> Result<Vec<Watching>, CliError> {
    let around = Around {
        sources: &folder.path().join("sources"),
        variable: &environment,
        ssh: "ssh",
    };
    let mut all = Vec::new();
    for source in sources {
        let watching = watch(source, &around, folder.path(), &host(), handle.clone());
        all.extend(watching.map_err(|error| CliError::new(Exit::Invalid, error))?);
    }
    Ok(all)
}

/// Where systemd watches whether it is stuck, something is decided often enough that it sees that it is not. Answers
/// how often that is told.
fn watch_over(handle: Handle) -> Result<Option<Duration>, CliError> {
    let Some(limit) = sd_notify::watchdog_enabled() else {
        return Ok(None);
    };
    let began = std::thread::Builder::new()
        .name("keel-watchdog".to_owned())
        .spawn(move || {
            loop {
                std::thread::park_timeout(limit / 4);
                handle.wake();
            }
        });
    let failed = |error| CliError::new(Exit::Unexpected, format!("wake the controller: {error}"));
    began.map(|_| Some(limit / 8)).map_err(failed)
}

/// How a run that ends after one try went.
fn exit(standing: &Standing) -> Exit {
    let of = |source: &SourceStanding| {
        if source.invalid.is_some() {
            return Exit::Invalid;
        }
        match &source.outcome {
            _ if source.unreachable.is_some() => Exit::Unexpected,
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
