//! `keel apply`.

use std::path::{Path, PathBuf};
use std::time::Duration;

use manifests::desired::DesiredSet;
use manifests::diagnostic::Diagnostics;
use manifests::resolve::resolve;
use manifests::support::settle;
use serde_json::{Value, json};

use super::HumanOrJson;
use super::decide::{Decisions, apply_command, command, on_this_host, session, wanted};
use super::engine::{self, Opened};
use super::invocation::{Invocation, absolute, say};
use super::narrow::narrow;
use super::progress::Progress;
use crate::apply::{ApplyOptions, ApplyReport};
use crate::error::{CliError, Exit};
use crate::plan::{Plan, Purpose};
use crate::session::PlanOptions;
use crate::view::plan::{Around, Detail, Documents, page, summary};
use crate::view::plan_document::{self, document, essence};

/// Make it so.
///
/// Asks on a terminal and needs --yes without one. A saved plan asks nothing and is refused when it is stale.
#[derive(Debug, clap::Args)]
pub(super) struct Apply {
    /// The source, or a plan saved by `keel plan --save plan.json`; absent: this folder.
    path: Option<PathBuf>,
    /// Do not ask.
    #[arg(short, long)]
    yes: bool,
    /// How it is written.
    #[arg(short, long, value_name = "FORMAT", default_value = "human")]
    output: HumanOrJson,
    #[command(flatten)]
    decisions: Decisions,
}

impl Apply {
    pub(super) fn run(&self, invocation: &Invocation) -> Result<Exit, CliError> {
        match self.path.as_deref().filter(|path| is_saved_plan(path)) {
            Some(file) => self.saved(invocation, file),
            None => {
                let mut wanted = wanted(invocation, self.path.as_deref())?;
                let opened = engine::open(invocation)?;
                on_this_host(&mut wanted.desired, &wanted.texts, &opened)?;
                let run = Run {
                    path: self.path.as_deref(),
                    yes: self.yes,
                    output: self.output,
                    decisions: &self.decisions,
                    desired: &wanted.desired,
                    found: &wanted.found,
                    files: &wanted.texts.files,
                    options: self.decisions.options(Purpose::Apply),
                    saved: None,
                };
                run.carry_out(invocation, &opened)
            }
        }
    }

    /// Applies a saved plan: makes it again from what it carries, and refuses where that is not the same plan.
    fn saved(&self, invocation: &Invocation, file: &Path) -> Result<Exit, CliError> {
        let global = &invocation.global;
        let narrowed =
            !global.only.is_empty() || !global.exclude.is_empty() || global.selector.is_some();
        if narrowed || !self.decisions.words().is_empty() {
            return Err(CliError::usage(
                "a saved plan is applied as it is: no other choices can be made",
            ));
        }
        let text = manifests::path_io::read_to_string(absolute(file)?)?;
        let (saved, from) = plan_document::read(&text).map_err(|error| {
            let message = format!("{}: {error}", file.display());
            CliError::new(Exit::Refused, message).hint("make it again: keel plan --save FILE")
        })?;
        let mut allow = Vec::new();
        for word in &from.allow {
            let class = word.parse();
            allow.push(class.map_err(|error| CliError::new(Exit::Refused, error))?);
        }
        let decisions = Decisions {
            approve: from.approve.clone(),
            allow,
            no_trash: from.no_trash,
        };
        let texts = from.texts();
        let resolved = resolve(&texts, from.revision.clone());
        let found = resolved.found;
        let Some(mut desired) = resolved.desired else {
            let message = "this version of keel does not understand the manifests of the plan";
            return Err(
                CliError::new(Exit::Stale, message).hint("make it again: keel plan --save FILE")
            );
        };
        settle(&mut desired);
        let mut selection = global.clone();
        selection.only.clone_from(&from.only);
        selection.exclude.clone_from(&from.exclude);
        selection.selector.clone_from(&from.selector);
        narrow(&mut desired, &selection)?;
        let opened = engine::open(invocation)?;
        on_this_host(&mut desired, &texts, &opened)?;
        if saved["stateId"] != json!(opened.folder.id()) {
            let message = "the plan was made for another state folder or host";
            return Err(CliError::new(Exit::Stale, message));
        }
        let run = Run {
            path: Some(file),
            yes: true,
            output: self.output,
            decisions: &decisions,
            desired: &desired,
            found: &found,
            files: &from.files,
            options: decisions.options(Purpose::Apply),
            saved: Some(&saved),
        };
        run.carry_out(invocation, &opened)
    }
}

fn is_saved_plan(path: &Path) -> bool {
    path.extension().is_some_and(|end| end == "json") && path.is_file()
}

/// One plan to be made, agreed on and carried out.
pub(super) struct Run<'a> {
    pub(super) path: Option<&'a Path>,
    pub(super) yes: bool,
    pub(super) output: HumanOrJson,
    pub(super) decisions: &'a Decisions,
    pub(super) desired: &'a DesiredSet,
    pub(super) found: &'a Diagnostics,
    /// The texts of the manifests by name.
    pub(super) files: &'a [(String, String)],
    pub(super) options: PlanOptions,
    /// The plan that it must be.
    pub(super) saved: Option<&'a Value>,
}

impl Run<'_> {
    pub(super) fn carry_out(
        &self,
        invocation: &Invocation,
        opened: &Opened,
    ) -> Result<Exit, CliError> {
        let began = invocation.now();
        let session = session(invocation, opened);
        let progress = Progress::new(invocation);
        let mut refusal = None;
        let mut agree = |plan: &Plan| match self.agree(invocation, plan, began) {
            Ok(()) => true,
            Err(error) => {
                refusal = Some(error);
                false
            }
        };
        let ended = progress.around(|| {
            session.apply(
                self.desired,
                &self.options,
                &how(invocation),
                &progress,
                &mut agree,
            )
        });
        let (plan, report) = ended?;
        if let Some(refusal) = refusal {
            return Err(refusal);
        }
        let again = command(plan.purpose, self.path, self.decisions);
        if report.is_none() {
            // Guards stop it: nobody was asked.
            self.show(invocation, &plan, began)?;
        }
        let exit = exit(&plan, report.as_ref());
        let json = || {
            let mut value = document(&plan, self.found, None);
            value["report"] = report.as_ref().map_or(Value::Null, report_json);
            format!("{value:#}\n")
        };
        invocation.json_into(json)?;
        if self.output == HumanOrJson::Json {
            invocation.print(&json())?;
        }
        if let Some(report) = &report {
            tell_end(invocation, &plan, report, &progress, &again);
        }
        Ok(exit)
    }

    /// Shows the plan and asks. An empty plan needs no answer.
    fn agree(
        &self,
        invocation: &Invocation,
        plan: &Plan,
        began: jiff::Timestamp,
    ) -> Result<(), CliError> {
        if let Some(saved) = self.saved
            && essence(saved) != essence(&document(plan, self.found, None))
        {
            return Err(CliError::new(
                Exit::Stale,
                "the plan is stale: the host is no longer as it was when it was made",
            )
            .hint("make it again: keel plan --save FILE"));
        }
        self.show(invocation, plan, began)?;
        if !plan.steps.is_empty() {
            let question = format!(
                "Do this on host {}: {}?",
                crate::view::text::visible(&plan.host),
                summary(plan)
            );
            invocation.confirm(self.yes, &question).map_err(|error| {
                if plan.purpose == Purpose::Apply && error.exit == Exit::Usage {
                    error.hint("or apply a plan that was saved by `keel plan --save plan.json`")
                } else {
                    error
                }
            })?;
            runtime::sys::interrupt::ask_to_leave(invocation.cancel).map_err(|error| {
                CliError::new(Exit::Unexpected, format!("catch signals: {error}"))
            })?;
        }
        Ok(())
    }

    fn show(
        &self,
        invocation: &Invocation,
        plan: &Plan,
        began: jiff::Timestamp,
    ) -> Result<(), CliError> {
        if self.output != HumanOrJson::Human {
            return Ok(());
        }
        let next = if plan.stopping.is_empty() && !plan.steps.is_empty() {
            None
        } else {
            apply_command(plan, self.path, self.decisions)
        };
        invocation.print(&page(
            plan,
            &Around {
                milliseconds: invocation.milliseconds_since(began),
                columns: invocation.columns(),
                next: next.as_deref(),
                detail: Detail::Changes,
                documents: &Documents::of(self.files),
                desired: None,
            },
        ))
    }
}

/// How the flags want it done.
pub(super) fn how(invocation: &Invocation) -> ApplyOptions {
    let timeout = invocation.global.timeout;
    let words: Vec<String> = std::env::args().skip(1).collect();
    ApplyOptions {
        parallelism: invocation.global.parallelism.map(usize::from),
        timeout,
        readiness_timeout: timeout.max(Duration::from_secs(120)),
        command: format!("keel {}", words.join(" ")),
        failpoint: invocation.failpoint(),
    }
}

/// 4 where a guard stops it, 7 where something is left, else 0.
fn exit(plan: &Plan, report: Option<&ApplyReport>) -> Exit {
    match report {
        None if !plan.stopping.is_empty() => Exit::Refused,
        None => Exit::Done,
        Some(report) if report.is_complete() => Exit::Done,
        Some(_) => Exit::Partly,
    }
}

/// The last lines.
pub(super) fn tell_end(
    invocation: &Invocation,
    plan: &Plan,
    report: &ApplyReport,
    progress: &Progress<'_>,
    again: &str,
) {
    if !report.results.is_empty() || !report.is_complete() {
        let text = progress.summary(plan.held.len(), again);
        if report.is_complete() {
            invocation.note(&text);
        } else {
            say(&text);
        }
    }
    if let Some(why) = &report.unsettled {
        let why = crate::view::text::visible(why);
        say(&format!("error: not all is in force: {why}\n"));
    }
    if report.unlocked {
        say("error: somebody took the lock away: no further step was begun\n");
    }
    if report.cancelled {
        say("stopped by a person: what was not begun is left for the next apply\n");
    }
}

pub(super) fn report_json(report: &ApplyReport) -> Value {
    let results: Vec<Value> = report
        .results
        .iter()
        .map(|result| {
            let mut value = json!(result.outcome);
            value["step"] = json!(result.id);
            value["micros"] = json!(result.took.map(|took| took.as_micros()));
            value
        })
        .collect();
    json!({
        "applied": report.applied(),
        "failed": report.failed(),
        "skipped": report.skipped(),
        "held": report.held,
        "complete": report.is_complete(),
        "cancelled": report.cancelled,
        "unsettled": report.unsettled,
        "micros": report.took.as_micros(),
        "results": results,
    })
}
