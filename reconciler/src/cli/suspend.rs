//! `keel suspend`, `keel resume` and `keel reconcile`: a person steers the controller.

use std::time::Duration;

use super::author::author;
use super::controller::{found, running};
use super::engine;
use super::global::duration;
use super::invocation::Invocation;
use crate::api::documents::Accepted;
use crate::api::{ReconcileRequest, ResumeRequest, SuspendRequest};
use crate::diff::suspension::{Scope, Suspension};
use crate::error::{CliError, Exit};
use crate::store::{Store as _, Write};
use crate::view::history::when;
use crate::view::text::visible;

/// Change nothing for a while: of one object, of a source, or at all.
///
/// An object is left alone by the controller and by `keel apply`, whatever its manifest says; a source and everything by
/// the controller only. What is suspended is looked at, and its drift is told, all the same.
#[derive(Debug, clap::Args)]
pub(super) struct Suspend {
    /// `KIND/NAME`, `source/NAME` or `everything`.
    #[arg(value_parser = scope)]
    what: Scope,
    /// Why, for whoever wonders.
    #[arg(long, value_name = "TEXT")]
    reason: String,
    /// For how long (`2h`), or until when (`2027-01-01T08:00:00Z`); absent: until `keel resume`.
    #[arg(long, value_name = "WHEN", value_parser = moment)]
    until: Option<Moment>,
}

/// End a suspension: what is due is done at once.
#[derive(Debug, clap::Args)]
pub(super) struct Resume {
    /// `KIND/NAME`, `source/NAME` or `everything`.
    #[arg(value_parser = scope)]
    what: Scope,
}

/// Let the controller look at its sources and at the host now, and try again what failed.
#[derive(Debug, clap::Args)]
pub(super) struct Reconcile {
    /// Only this source, as the settings of the controller call it.
    #[arg(value_name = "SOURCE")]
    source: Option<String>,
}

/// A time from now, or one of the calendar.
#[derive(Debug, Clone)]
pub(super) enum Moment {
    For(Duration),
    Until(jiff::Timestamp),
}

impl Moment {
    /// The time that is meant, which is to come.
    ///
    /// # Errors
    /// It is over, or further away than any calendar.
    pub(super) fn after(
        &self,
        now: jiff::Timestamp,
        flag: &str,
    ) -> Result<jiff::Timestamp, CliError> {
        let at = match self {
            Self::Until(at) => *at,
            Self::For(time) => now
                .checked_add(*time)
                .map_err(|error| CliError::usage(format!("{flag}: {error}")))?,
        };
        match at > now {
            true => Ok(at),
            false => Err(CliError::usage(format!("{flag} is over already"))),
        }
    }
}

fn scope(text: &str) -> Result<Scope, String> {
    text.parse()
        .map_err(|error| format!("{error}; write KIND/NAME, source/NAME or everything"))
}

pub(super) fn moment(text: &str) -> Result<Moment, String> {
    match text.parse() {
        Ok(at) => Ok(Moment::Until(at)),
        Err(_) => duration(text).map(Moment::For),
    }
}

impl Suspend {
    pub(super) fn run(&self, invocation: &Invocation) -> Result<Exit, CliError> {
        let now = invocation.now();
        let until = self.until.as_ref();
        let until = until.map(|until| until.after(now, "--until")).transpose()?;
        if let Some(controller) = found(invocation)? {
            let asked = SuspendRequest {
                what: self.what.to_string(),
                reason: self.reason.clone(),
                until: until.map(|until| until.to_string()),
                by: author(),
            };
            let done: Accepted = controller.post("/v1/suspend", &asked)?;
            invocation.note(&format!("{}\n", done.message));
            return Ok(Exit::Done);
        }
        let suspension = Suspension {
            reason: self.reason.clone(),
            by: author(),
            since: now,
            until,
        };
        let words = match until {
            Some(until) => format!("until {}", when(until)),
            None => format!("until `keel resume {}`", self.what),
        };
        remember(invocation, Write::Suspend(self.what.clone(), suspension))?;
        invocation.note(&format!(
            "{} is suspended {words}\n",
            visible(&self.what.to_string())
        ));
        Ok(Exit::Done)
    }
}

impl Resume {
    pub(super) fn run(&self, invocation: &Invocation) -> Result<Exit, CliError> {
        if let Some(controller) = found(invocation)? {
            let what = self.what.to_string();
            let done: Accepted = controller.post("/v1/resume", &ResumeRequest { what })?;
            invocation.note(&format!("{}\n", done.message));
            return Ok(Exit::Done);
        }
        let known = engine::store(&engine::folder(invocation)?)?.load()?;
        if known.suspension(&self.what, invocation.now()).is_none() {
            let all: Vec<String> = known.suspensions.keys().map(ToString::to_string).collect();
            let error = CliError::new(Exit::Unexpected, format!("{} is not suspended", self.what));
            return Err(match all.is_empty() {
                true => error,
                false => error.hint(format!("suspended: {}", all.join(", "))),
            });
        }
        remember(invocation, Write::Resume(self.what.clone()))?;
        Ok(Exit::Done)
    }
}

impl Reconcile {
    pub(super) fn run(&self, invocation: &Invocation) -> Result<Exit, CliError> {
        let controller = running(invocation)?;
        let source = self.source.clone();
        let _: Accepted = controller.post("/v1/reconcile", &ReconcileRequest { source })?;
        Ok(Exit::Done)
    }
}

/// Remembers it, and tells the controller, if there is one.
fn remember(invocation: &Invocation, write: Write) -> Result<(), CliError> {
    let folder = engine::folder(invocation)?;
    engine::store(&folder)?.commit(&[write])?;
    // One that just begins has no socket yet.
    folder.nudge_controller()?;
    Ok(())
}
