//! The command line: one file a command. To add one: write `cli/<name>.rs` with a `clap::Args` struct and its `run`,
//! add a variant to [`Command`] and an arm to [`Command::run`]. The doc comments are the help.

mod accept;
mod adopt;
mod apply;
mod approve;
mod asked;
mod author;
mod backup;
mod boot;
mod chores;
mod completion;
mod console;
mod controller;
mod decide;
mod destroy;
mod diff;
mod doctor;
mod drift;
mod elsewhere;
mod engine;
mod events;
mod exec;
mod explain;
mod file;
mod format;
mod get;
mod global;
mod history;
mod image;
mod import;
mod init;
mod invocation;
mod logs;
mod man;
mod narrow;
mod observe;
mod plan;
mod plan_check;
mod power;
mod progress;
mod read;
mod remotes;
mod render;
mod rollback;
mod run;
mod saved;
mod schema;
mod shutdown;
mod snapshot;
mod status;
mod suspend;
mod token;
mod top;
mod trash;
mod unlock;
mod validate;
mod version;
mod wait;

use std::process::ExitCode;
use std::sync::atomic::AtomicBool;

use clap::error::ErrorKind;
use clap::{CommandFactory as _, FromArgMatches as _};

use crate::error::{CliError, Exit};
use crate::telemetry::{self, LogFormat};
use invocation::{Invocation, say};

/// Keep containers, networks and pools as the manifests in git say they are.
#[derive(Debug, clap::Parser)]
#[command(
    name = "keel",
    bin_name = "keel",
    version,
    infer_subcommands = false,
    subcommand_required = true,
    disable_help_subcommand = true,
    max_term_width = 100,
    after_help = "Each flag has an environment variable: --state-dir is KEEL_STATE_DIR.\n\
        Exit codes: 0 done, 1 unexpected, 2 differences (only with --detailed-exitcode), 3 invalid manifests,\n\
        4 refused by a guard, 5 stale plan, 6 locked, 7 partly done, 64 wrong command line."
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
    #[command(flatten)]
    global: global::GlobalOptions,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    Init(init::Init),
    Validate(validate::Validate),
    Render(render::Render),
    Plan(plan::Plan),
    Diff(diff::Diff),
    Apply(apply::Apply),
    Destroy(destroy::Destroy),
    Drift(drift::Drift),
    Run(run::Run),
    Suspend(suspend::Suspend),
    Resume(suspend::Resume),
    Reconcile(suspend::Reconcile),
    Approve(approve::Approve),
    Rollback(rollback::Rollback),
    Unpin(rollback::Unpin),
    Token(token::Token),
    Events(events::Events),
    Observe(observe::Observe),
    Status(status::Status),
    Get(get::Get),
    Describe(get::Describe),
    History(history::History),
    Explain(explain::Explain),
    Wait(wait::Wait),
    Start(power::Start),
    Stop(power::Stop),
    Restart(power::Restart),
    Freeze(power::Freeze),
    Unfreeze(power::Unfreeze),
    Boot(boot::Boot),
    Shutdown(shutdown::Shutdown),
    Exec(exec::Exec),
    Console(console::Console),
    Logs(logs::Logs),
    Top(top::Top),
    File(file::File),
    Import(import::Import),
    Adopt(adopt::Adopt),
    Forget(adopt::Forget),
    Snapshot(snapshot::Snapshot),
    Backup(backup::Backup),
    Trash(trash::Trash),
    Image(image::Image),
    Unlock(unlock::Unlock),
    Schema(schema::Schema),
    Doctor(doctor::Doctor),
    Completion(completion::Completion),
    Man(man::Man),
    Version(version::Version),
}

impl Command {
    fn run(&self, invocation: &Invocation) -> Result<Exit, CliError> {
        self.is_meant_here(invocation)?;
        match self {
            Self::Init(command) => command.run(invocation),
            Self::Validate(command) => command.run(invocation),
            Self::Render(command) => command.run(invocation),
            Self::Plan(command) => command.run(invocation),
            Self::Diff(command) => command.run(invocation),
            Self::Apply(command) => command.run(invocation),
            Self::Destroy(command) => command.run(invocation),
            Self::Drift(command) => command.run(invocation),
            Self::Run(command) => command.run(invocation),
            Self::Suspend(command) => command.run(invocation),
            Self::Resume(command) => command.run(invocation),
            Self::Reconcile(command) => command.run(invocation),
            Self::Approve(command) => command.run(invocation),
            Self::Rollback(command) => command.run(invocation),
            Self::Unpin(command) => command.run(invocation),
            Self::Token(command) => command.run(invocation),
            Self::Events(command) => command.run(invocation),
            Self::Observe(command) => command.run(invocation),
            Self::Status(command) => command.run(invocation),
            Self::Get(command) => command.run(invocation),
            Self::Describe(command) => command.run(invocation),
            Self::History(command) => command.run(invocation),
            Self::Import(command) => command.run(invocation),
            Self::Adopt(command) => command.run(invocation),
            Self::Forget(command) => command.run(invocation),
            Self::Snapshot(command) => command.run(invocation),
            Self::Backup(command) => command.run(invocation),
            Self::Trash(command) => command.run(invocation),
            Self::Image(command) => command.run(invocation),
            Self::Explain(command) => command.run(invocation),
            Self::Unlock(command) => command.run(invocation),
            Self::Wait(command) => command.run(invocation),
            Self::Start(command) => command.run(invocation),
            Self::Stop(command) => command.run(invocation),
            Self::Restart(command) => command.run(invocation),
            Self::Freeze(command) => command.run(invocation),
            Self::Unfreeze(command) => command.run(invocation),
            Self::Boot(command) => command.run(invocation),
            Self::Shutdown(command) => command.run(invocation),
            Self::Exec(command) => command.run(invocation),
            Self::Console(command) => command.run(invocation),
            Self::Logs(command) => command.run(invocation),
            Self::Top(command) => command.run(invocation),
            Self::File(command) => command.run(invocation),
            Self::Schema(command) => command.run(invocation),
            Self::Doctor(command) => command.run(invocation),
            Self::Completion(command) => command.run(invocation),
            Self::Man(command) => command.run(invocation),
            Self::Version(command) => command.run(invocation),
        }
    }
}

/// Text for people, or JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum HumanOrJson {
    /// Text for people.
    Human,
    /// One JSON document.
    Json,
}

/// The whole tree of commands and flags.
fn command() -> clap::Command {
    global::with_environment(Cli::command())
}

/// Set when a person asked to leave.
static CANCEL: AtomicBool = AtomicBool::new(false);

/// Runs the command line of this process; the answer is its exit code.
pub fn main() -> ExitCode {
    std::panic::set_hook(Box::new(|panic| {
        let place = panic
            .location()
            .map_or_else(String::new, |at| format!(" at {}:{}", at.file(), at.line()));
        let what = panic.payload_as_str().unwrap_or("no message");
        say(&format!(
            "error: keel stopped on a fault of its own{place}: {what}\n  \
             = what was begun is finished or undone by the next `keel apply`; please report this\n"
        ));
    }));
    let cli = match command()
        .try_get_matches()
        .and_then(|matches| Cli::from_arg_matches(&matches))
    {
        Ok(cli) => cli,
        Err(error) => return usage(&error),
    };
    cli.global.color.apply();
    log(cli.global.verbose, &cli.command);
    let exit = cli.run().unwrap_or_else(|error| {
        say(&error.report());
        error.exit
    });
    ExitCode::from(exit.code())
}

impl Cli {
    fn run(self) -> Result<Exit, CliError> {
        if let Some(folder) = &self.global.directory {
            std::env::set_current_dir(folder).map_err(|error| {
                CliError::new(
                    Exit::Unexpected,
                    format!("go to {}: {error}", folder.display()),
                )
            })?;
        }
        crate::meaning::work_with(self.global.engine.weighed());
        let invocation = Invocation::new(self.global, &CANCEL);
        self.command.run(&invocation)
    }
}

/// Says what is wrong with the command line, or prints the help that was asked for.
fn usage(error: &clap::Error) -> ExitCode {
    let asked = matches!(
        error.kind(),
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion
    );
    // A reader of the help that went away is no error.
    let _ = error.print();
    if asked {
        return ExitCode::from(Exit::Done.code());
    }
    let words: Vec<String> = std::env::args().skip(1).collect();
    if let Some(hint) = foreign_word(&words) {
        say(&format!("\n  = {hint}\n"));
    }
    ExitCode::from(Exit::Usage.code())
}

/// What a person who types the words of another tool is looking for.
fn foreign_word(words: &[String]) -> Option<&'static str> {
    if words
        .iter()
        .any(|word| word == "--target" || word.starts_with("--target="))
    {
        return Some("to narrow a run: --only KIND/NAME");
    }
    let mut plain = words
        .iter()
        .map(String::as_str)
        .filter(|word| !word.starts_with('-'));
    Some(match (plain.next()?, plain.next()) {
        ("list" | "ls" | "ps", _) => "to list what lives here: keel get instances",
        ("info" | "show" | "inspect", _) => "to see one object: keel describe KIND NAME",
        ("launch" | "create" | "copy", _) => "write it into a manifest, then: keel apply",
        ("config", Some("set" | "unset" | "edit" | "device")) | ("set" | "edit" | "update", _) => {
            "change the manifest, then: keel apply"
        }
        ("config", _) => "to see one object: keel describe KIND NAME",
        ("up" | "sync" | "refresh" | "converge", _) => {
            "to make it so: keel apply; to only look: keel plan"
        }
        ("down" | "rm" | "delete" | "remove" | "prune", _) => {
            "take it out of the manifests, then: keel apply; for all of a source: keel destroy"
        }
        ("check" | "preview", _) => {
            "to see what would be done: keel plan; what the world changed: keel drift"
        }
        ("pause" | "unpause", _) => "to freeze an instance: keel freeze, keel unfreeze",
        ("shell" | "attach" | "enter" | "ssh", _) => {
            "to run a command in an instance: keel exec NAME -- sh; its console: keel console NAME"
        }
        ("kill", _) => "to stop by force: keel stop --force NAME",
        ("help", _) => "for help: keel --help, keel COMMAND --help",
        _ => return None,
    })
}

/// Writes what is done to stderr, and how long what has a beginning and an end took: nothing is set up unless it was asked for.
fn log(verbose: u8, command: &Command) {
    let level = match verbose {
        0 => return,
        // It has a form of its own.
        _ if matches!(command, Command::Run(_)) => return,
        1 => tracing::Level::DEBUG,
        _ => tracing::Level::TRACE,
    };
    telemetry::begin(LogFormat::Text, level, None);
}
