//! Carries out single deeds that a person asked for, and tells how they ended.

use manifests::diagnostic::Diagnostics;
use serde_json::{Value, json};

use super::HumanOrJson;
use super::apply::{how, report_json};
use super::decide::session;
use super::engine::Opened;
use super::invocation::{Invocation, say};
use super::progress::Progress;
use crate::apply::ApplyReport;
use crate::error::{CliError, Exit, chain, exit_of};
use crate::journal::Outcome;
use crate::session::AskedPlan;
use crate::view::plan_document::document;

/// Does it. What cannot be done to one object hinders none of the others, and each failure is told.
///
/// # Errors
/// Somebody else holds the lock, or nothing can be read or remembered.
pub(super) fn carry_out(
    invocation: &Invocation,
    opened: &Opened,
    asked: AskedPlan,
    output: HumanOrJson,
) -> Result<Exit, CliError> {
    let progress = Progress::new(invocation);
    catch_signals(invocation)?;
    let report = if asked.plan.steps.is_empty() {
        None
    } else {
        let session = session(invocation, opened);
        let how = how(invocation);
        Some(progress.around(|| session.carry_out_asked(&asked, &how, &progress))?)
    };
    let refused: Vec<Value> = asked
        .refused
        .iter()
        .map(|(object, error)| json!({"object": object, "message": chain(error)}))
        .collect();
    let json = || {
        let mut value = document(&asked.plan, &Diagnostics::default(), None);
        value["report"] = report.as_ref().map_or(Value::Null, report_json);
        value["refused"] = json!(refused);
        format!("{value:#}\n")
    };
    invocation.json_into(json)?;
    if output == HumanOrJson::Json {
        invocation.print_plain(&json())?;
    }
    let done = report.as_ref().map_or(0, ApplyReport::applied);
    let mut worst = None;
    for error in failures(report.as_ref()) {
        say(&error.report());
        worst = worst.max(Some(error.exit));
    }
    for (_, error) in asked.refused {
        let error = CliError::from(error);
        say(&error.report());
        worst = worst.max(Some(error.exit));
    }
    Ok(match worst {
        None => Exit::Done,
        Some(exit) if done == 0 => exit,
        Some(_) => Exit::Partly,
    })
}

/// From here on Ctrl-C means that no new work begins.
///
/// # Errors
/// The kernel refuses.
pub(super) fn catch_signals(invocation: &Invocation) -> Result<(), CliError> {
    runtime::sys::interrupt::ask_to_leave(invocation.cancel)
        .map_err(|error| CliError::new(Exit::Unexpected, format!("catch signals: {error}")))
}

/// What was tried and not done; while it ran, its line told only that.
pub(super) fn failures(report: Option<&ApplyReport>) -> Vec<CliError> {
    let Some(report) = report else {
        return Vec::new();
    };
    let mut all = Vec::new();
    for result in &report.results {
        let exit = match &result.outcome {
            Outcome::Failed { class, .. } => exit_of(*class),
            _ => Exit::Unexpected,
        };
        match &result.outcome {
            Outcome::Failed { message, .. } => all.push(CliError::new(exit, message.clone())),
            Outcome::Skipped { message, .. } => {
                all.push(CliError::new(exit, format!("not begun: {message}")));
            }
            Outcome::Succeeded { .. } | Outcome::Interrupted { .. } => {}
        }
    }
    if let Some(why) = &report.unsettled {
        let message = format!("not all is in force: {why}");
        all.push(CliError::new(Exit::Unexpected, message));
    }
    all
}
