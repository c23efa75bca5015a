//! `keel apply` and `keel destroy`.

use std::path::PathBuf;

use manifests::desired::{DesiredSet, SourceInfo};
use manifests::id::SourceName;

use super::engine;
use super::invocation::Invocation;
use super::manifests::{desired, load};
use super::plan::{Answers, show};
use super::progress::Progress;
use crate::apply::ApplyOptions;
use crate::error::{CliError, Exit};
use crate::plan::Purpose;
use crate::session::Session;

/// Bring the host to what the manifests say, in parallel where the order allows.
#[derive(Debug, clap::Args)]
pub(super) struct Apply {
    /// A folder or file; the working folder where none is given.
    #[arg(value_name = "PATH")]
    path: Option<PathBuf>,
    /// Do it without asking.
    #[arg(short, long)]
    yes: bool,
    #[command(flatten)]
    answers: Answers,
}

/// Take down everything that a source owns, by its marks and not by its files, in reverse order.
#[derive(Debug, clap::Args)]
pub(super) struct Destroy {
    /// A folder of the source; the working folder where neither it nor --source is given.
    #[arg(value_name = "PATH")]
    path: Option<PathBuf>,
    /// The name of the source; its files are not needed.
    #[arg(long, value_name = "NAME", conflicts_with = "path")]
    source: Option<String>,
    /// Do it without asking.
    #[arg(short, long)]
    yes: bool,
    #[command(flatten)]
    answers: Answers,
}

impl Apply {
    pub(super) fn run(&self, invocation: &Invocation) -> Result<Exit, CliError> {
        let desired = desired(invocation, self.path.as_ref())?;
        let path = self
            .path
            .as_ref()
            .map(|path| format!(" {}", path.display()));
        let again = format!("keel apply{}", path.unwrap_or_default());
        carry_out(
            invocation,
            &desired,
            &self.answers,
            Purpose::Apply,
            self.yes,
            &again,
        )
    }
}

impl Destroy {
    pub(super) fn run(&self, invocation: &Invocation) -> Result<Exit, CliError> {
        let source = match &self.source {
            Some(name) => SourceInfo {
                name: SourceName::new(name.clone()),
                root: PathBuf::new(),
                revision: None,
                partial: None,
            },
            None => {
                let loaded = load(self.path.as_ref())?;
                match loaded.desired {
                    Some(desired) => SourceInfo {
                        partial: None,
                        ..desired.source
                    },
                    None => {
                        return Err(CliError::new(
                            Exit::Invalid,
                            "the manifests are invalid, so the name of their source is not sure",
                        )
                        .hint("name it: keel destroy --source NAME"));
                    }
                }
            }
        };
        let again = format!("keel destroy --source {}", source.name);
        let nothing = Session::nothing_of(source);
        carry_out(
            invocation,
            &nothing,
            &self.answers,
            Purpose::Destroy,
            self.yes,
            &again,
        )
    }
}

fn carry_out(
    invocation: &Invocation,
    desired: &DesiredSet,
    answers: &Answers,
    purpose: Purpose,
    yes: bool,
    again: &str,
) -> Result<Exit, CliError> {
    let began = invocation.now();
    let opened = engine::open(invocation)?;
    let session = Session {
        folder: &opened.folder,
        runtime: &opened.runtime,
        clock: invocation.clock(),
        cancel: invocation.cancel,
    };
    let progress = Progress::new(invocation);
    let how = ApplyOptions {
        parallelism: invocation.global.parallelism.map(usize::from),
        timeout: invocation.global.timeout,
        command: match purpose {
            Purpose::Destroy => "keel destroy".to_owned(),
            _ => "keel apply".to_owned(),
        },
        ..ApplyOptions::default()
    };
    let mut refused = None;
    let mut agree = |plan: &crate::plan::Plan| {
        let took = invocation.milliseconds_since(began);
        if let Err(error) = invocation.print(&show(invocation, plan, None, false, took)) {
            refused = Some(error);
            return false;
        }
        if plan.steps.is_empty() {
            return true;
        }
        let question = match purpose {
            Purpose::Destroy => "Take all this down?",
            _ => "Do this?",
        };
        match invocation.confirm(yes, question) {
            Ok(()) => true,
            Err(error) => {
                refused = Some(error);
                false
            }
        }
    };
    let options = answers.options(purpose);
    let (plan, report) =
        progress.around(|| session.apply(desired, &options, &how, &progress, &mut agree))?;
    if let Some(error) = refused {
        return Err(error);
    }
    let Some(report) = report else {
        let took = invocation.milliseconds_since(began);
        invocation.print(&show(invocation, &plan, None, false, took))?;
        return Ok(Exit::Refused);
    };
    if !report.results.is_empty() {
        invocation.note(&progress.summary(report.held, again));
    }
    if let Some(why) = &report.unsettled {
        invocation.note(&format!("not in force yet: {why}\n"));
    }
    Ok(if report.is_complete() {
        Exit::Done
    } else {
        Exit::Partly
    })
}
