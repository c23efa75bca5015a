//! `keel apply`.

use std::path::{Path, PathBuf};
use std::time::Duration;

use manifests::desired::DesiredSet;
use manifests::diagnostic::Diagnostics;
use serde_json::{Value, json};

use super::HumanOrJson;
use super::author::author;
use super::controller::not_followed;
use super::decide::{Decisions, apply_command, command, on_this_host, session, wanted};
use super::engine::{self, Opened};
use super::invocation::{Invocation, say};
use super::progress::Progress;
use super::saved::{self, Saved};
use crate::apply::{ApplyOptions, ApplyReport};
use crate::error::{CliError, Exit};
use crate::plan::{Plan, PlanOptions, Purpose};
use crate::view::plan::{Around, Detail, Documents, page, summary};
use crate::view::plan_document::document;

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
        match self.path.as_deref().filter(|path| saved::is_one(path)) {
            Some(file) => self.saved(invocation, file),
            None => {
                let mut wanted = wanted(invocation, self.path.as_deref())?;
                let opened = engine::open(invocation)?;
                not_followed(&opened.folder, wanted.desired.source.name.as_str())?;
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
        let Decisions {
            approve: _,
            allow,
            no_trash,
            no_restore,
        } = &self.decisions;
        if !allow.is_empty() || *no_trash || *no_restore {
            return Err(CliError::usage(
                "a saved plan is applied as it is: no other choices than --approve can be made",
            ));
        }
        let mut saved = Saved::read(invocation, file, &self.decisions.approve)?;
        let opened = engine::open(invocation)?;
        not_followed(&opened.folder, saved.desired.source.name.as_str())?;
        let mut host = opened.runtime.capabilities()?;
        opened.folder.id().clone_into(&mut host.state_id);
        saved.belongs_to(&host)?;
        let texts = saved.plan.from.texts();
        on_this_host(&mut saved.desired, &texts, &opened)?;
        let run = Run {
            path: Some(file),
            yes: true,
            output: self.output,
            decisions: &saved.decisions,
            desired: &saved.desired,
            found: &saved.found,
            files: &saved.plan.from.files,
            options: saved.options(),
            saved: Some(&saved),
        };
        run.carry_out(invocation, &opened)
    }
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
    pub(super) saved: Option<&'a Saved>,
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
        let mut agree = |plan: &mut Plan| match self.agree(invocation, plan, began) {
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
        let again = command(&invocation.global, plan.purpose, self.path, self.decisions);
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
            invocation.print_plain(&json())?;
        }
        if let Some(report) = &report {
            tell_end(invocation, &plan, report, &progress, &again);
        }
        Ok(exit)
    }

    /// Shows the plan and asks. An empty plan needs no answer, and one that a guard stops gets none.
    fn agree(
        &self,
        invocation: &Invocation,
        plan: &mut Plan,
        began: jiff::Timestamp,
    ) -> Result<(), CliError> {
        if let Some(saved) = self.saved {
            saved.still_true(invocation, plan, self.found)?;
        }
        if !plan.stopping.is_empty() {
            return Ok(());
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
            apply_command(&invocation.global, plan, self.path, self.decisions)
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
        by: author(),
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
