//! `keel shutdown`.

use std::time::Duration;

use serde_json::{Value, json};

use super::HumanOrJson;
use super::apply::{how, report_json};
use super::asked::{catch_signals, failures};
use super::boot::carry_out;
use super::decide::session;
use super::engine;
use super::invocation::{Invocation, say};
use super::progress::Progress;
use crate::apply::{ApplyOptions, ApplyReport};
use crate::error::{CliError, Exit};
use crate::view::text::{counted, visible};

/// What a stop takes beside the time that its instance has: the end of those that did not use it, and taking down.
const BESIDE: Duration = Duration::from_secs(60);

/// Stop what runs before the host goes down, each as its `boot.hostShutdownAction` says.
///
/// Those of the highest `boot.stopPriority` come first, and what others need after them. It is still meant to run: `keel
/// boot` starts it again, and a machine that was stopped with its state goes on from there.
#[derive(Debug, clap::Args)]
pub(super) struct Shutdown {
    /// How it is written.
    #[arg(short, long, value_name = "FORMAT", default_value = "human")]
    output: HumanOrJson,
}

impl Shutdown {
    pub(super) fn run(&self, invocation: &Invocation) -> Result<Exit, CliError> {
        let opened = engine::open(invocation)?;
        let session = session(invocation, &opened);
        catch_signals(invocation)?;
        let ending = session.ending()?;
        let timeout = invocation.global.timeout;
        let how = ApplyOptions {
            timeout: timeout.max(ending.shutdown.patience + BESIDE),
            ..how(invocation)
        };
        let mut reports = Vec::new();
        for batch in &ending.shutdown.batches {
            if invocation.cancelled() {
                break;
            }
            let progress = Progress::new(invocation);
            reports
                .push(progress.around(|| carry_out(invocation, &session, batch, &how, &progress))?);
        }
        let failures: Vec<CliError> = reports.iter().flat_map(|one| failures(Some(one))).collect();
        let json = || {
            let value = json!({
                "unclear": ending.unclear,
                "batches": reports.iter().map(report_json).collect::<Vec<Value>>(),
            });
            format!("{value:#}\n")
        };
        invocation.json_into(json)?;
        if self.output == HumanOrJson::Json {
            invocation.print_plain(&json())?;
        }
        for one in &ending.unclear {
            let why = visible(&one.why);
            say(&format!("error: {} cannot be seen: {why}\n", one.address));
        }
        for failure in &failures {
            say(&failure.report());
        }
        let done: usize = reports.iter().map(ApplyReport::applied).sum();
        invocation.note(&format!("{} stopped\n", counted(done, "instance")));
        let whole = failures.is_empty()
            && ending.unclear.is_empty()
            && reports.len() == ending.shutdown.batches.len();
        Ok(if whole { Exit::Done } else { Exit::Partly })
    }
}
