//! `keel boot`.

use std::time::Duration;

use manifests::support::settle;
use serde_json::{Value, json};

use super::HumanOrJson;
use super::apply::{how, report_json};
use super::asked::{catch_signals, failures};
use super::decide::{look_up_secrets, session};
use super::engine::{self, Opened};
use super::invocation::{Invocation, say};
use super::progress::Progress;
use super::read::Source;
use crate::apply::{ApplyOptions, ApplyReport};
use crate::clock::deadline;
use crate::error::{CliError, Exit};
use crate::plan::boot::Batch;
use crate::session::{Session, SessionError};
use crate::state_folder::StateFolderError;
use crate::store::Store as _;
use crate::view::text::{counted, visible};

/// How soon somebody else's lock is tried again.
const PERIOD: Duration = Duration::from_millis(200);

/// Start what should run after a start of the host, and adopt what runs.
///
/// Networks come back first, then instances by `boot.autostart`, `priority` and `delay`. Manifests are read only for the
/// values of secrets, which are not kept over a start of the host. Where all is as it should be nothing is done.
#[derive(Debug, clap::Args)]
pub(super) struct Boot {
    /// How it is written.
    #[arg(short, long, value_name = "FORMAT", default_value = "human")]
    pub(super) output: HumanOrJson,
}

impl Boot {
    pub(super) fn run(&self, invocation: &Invocation) -> Result<Exit, CliError> {
        let opened = engine::open(invocation)?;
        give_secrets(&opened)?;
        let session = session(invocation, &opened);
        catch_signals(invocation)?;
        let booting = session.booting()?;
        let how = how(invocation);
        let mut reports = Vec::new();
        let mut batches = booting.boot.batches.into_iter().peekable();
        while let Some(batch) = batches.next() {
            let pause = batch.pause;
            let progress = Progress::new(invocation);
            reports.push(
                progress.around(|| carry_out(invocation, &session, &batch, &how, &progress))?,
            );
            if invocation.cancelled() {
                break;
            }
            if batches.peek().is_some() && !pause.is_zero() {
                invocation.pause(pause);
            }
        }
        let unclear = booting.unclear;
        let failures: Vec<CliError> = reports.iter().flat_map(|one| failures(Some(one))).collect();
        let json = || {
            let left = booting.boot.left.iter();
            let value = json!({
                "ran": booting.boot.runs,
                "left": left
                    .map(|(object, why)| json!({"object": object, "why": why}))
                    .collect::<Vec<Value>>(),
                "unclear": unclear,
                "batches": reports.iter().map(report_json).collect::<Vec<Value>>(),
            });
            format!("{value:#}\n")
        };
        invocation.json_into(json)?;
        if self.output == HumanOrJson::Json {
            invocation.print_plain(&json())?;
        }
        for (object, why) in &booting.boot.left {
            invocation.warn(&format!("{object} is left stopped: {}", visible(why)));
        }
        for one in &unclear {
            let why = visible(&one.why);
            say(&format!("error: {} cannot be seen: {why}\n", one.address));
        }
        for failure in &failures {
            say(&failure.report());
        }
        let done: usize = reports.iter().map(ApplyReport::applied).sum();
        let (steps, ran) = (counted(done, "step"), booting.boot.runs.len());
        invocation.note(&format!("{steps} done, {ran} running already\n"));
        let whole = failures.is_empty() && unclear.is_empty() && batches.peek().is_none();
        Ok(if whole { Exit::Done } else { Exit::Partly })
    }
}

/// Looks up the secrets of all sources that were applied here, where they still are. What cannot be had is told by the
/// start that needs it.
fn give_secrets(opened: &Opened) -> Result<(), CliError> {
    if !opened.runtime.secrets().is_used() {
        return Ok(());
    }
    for source in engine::store(&opened.folder)?.load()?.sources.into_values() {
        let Ok(Source { texts, resolved }) = Source::read(Some(&source.root)) else {
            continue;
        };
        if let Some(mut desired) = resolved.desired {
            settle(&mut desired);
            let _ = look_up_secrets(&mut desired, &texts, opened);
        }
    }
    Ok(())
}

/// One batch. While the host starts or ends others may be at work: their lock is waited for.
pub(super) fn carry_out(
    invocation: &Invocation,
    session: &Session<'_>,
    batch: &Batch,
    how: &ApplyOptions,
    progress: &Progress<'_>,
) -> Result<ApplyReport, CliError> {
    let clock = invocation.clock();
    let until = deadline(clock.instant(), invocation.global.timeout);
    loop {
        let asked = session.boot_batch(batch.clone())?;
        match session.carry_out_asked(&asked, how, progress) {
            Err(SessionError::Folder(StateFolderError::Busy { .. }) | SessionError::Stale(_))
                if clock.instant() < until && !invocation.cancelled() =>
            {
                invocation.pause(PERIOD);
            }
            other => return Ok(other?),
        }
    }
}
