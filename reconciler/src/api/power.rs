//! Instances: the end of their console, and switching them: through plan, lock and journal, as `keel start` and `keel stop` do it.

use std::time::Duration;

use axum::Json;
use axum::extract::{Extension, Path, Query, State};
use manifests::action::Power;
use manifests::id::Address;
use manifests::kind::Kind;
use runtime::native::cgroup::Patience;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::documents::Accepted;
use super::who::Caller;
use super::{Api, Problem};
use crate::apply::{ApplyOptions, Silent};
use crate::diff::known::Hold;
use crate::journal::Outcome;
use crate::session::{Asked, Session, SessionError};
use crate::state_folder::StateFolderError;
use crate::view::console::harmless;

/// How long a start or a stop may take.
const STEP: Duration = Duration::from_secs(120);
/// For how long somebody else's lock is waited for: the controller itself works in short batches.
const BUSY: Duration = Duration::from_secs(10);

/// In which project.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct In {
    project: Option<String>,
}

/// How an instance is switched.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PowerRequest {
    /// At once, without asking the instance to end: of `stop` and `restart`.
    #[serde(default)]
    pub force: bool,
    /// With the memory of a machine: of `stop`.
    #[serde(default)]
    pub stateful: bool,
    /// Without the saved state of a machine: of `start`.
    #[serde(default)]
    pub discard_state: bool,
    /// Until when nothing starts it again: of `stop`. One that its manifest wants running needs it.
    #[serde(default)]
    pub hold_until: Option<String>,
    /// Why it is held.
    #[serde(default)]
    pub reason: Option<String>,
}

/// So much of a console is told.
const TAIL: usize = 64 * 1024;

/// The instance of this name, where a source has it and the caller may see it.
pub(super) fn managed(
    api: &Api,
    caller: &Caller,
    name: String,
    project: In,
) -> Result<Address, Problem> {
    let project = project.project.unwrap_or_else(|| "default".to_owned());
    let address = Address::in_project(Kind::Instance, &project, name);
    let picture = api.handle.picture();
    let mut sources = picture.sources.values();
    let is_managed = sources.any(|one| one.objects.contains_key(&address));
    match is_managed && caller.sees(&address) {
        true => Ok(address),
        false => Err(Problem::not_there(format!("no source has {address}"))),
    }
}

pub(super) async fn logs(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
    Query(project): Query<In>,
) -> Result<String, Problem> {
    let address = managed(&api, &caller, name, project)?;
    let told = api.block(move |desk| {
        let bytes = desk.console(&address, TAIL);
        Ok(harmless(&bytes.map_err(SessionError::from)?))
    });
    told.await
}

pub(super) async fn switch(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Path((name, verb)): Path<(String, String)>,
    Query(project): Query<In>,
    Json(asked): Json<PowerRequest>,
) -> Result<Json<Accepted>, Problem> {
    let project = project.project.unwrap_or_else(|| "default".to_owned());
    let address = Address::in_project(Kind::Instance, &project, name);
    if !caller.sees(&address) {
        return Err(Problem::not_there(format!("there is no {address}")));
    }
    let done = api.block(move |desk| {
        let session = desk.session();
        let now = session.clock.now();
        let asked = meaning(&verb, &asked, now)?;
        let how = ApplyOptions {
            timeout: STEP,
            readiness_timeout: STEP,
            command: format!("api {verb} {}", address.name),
            by: Some(caller.name.clone()),
            ..ApplyOptions::default()
        };
        carry_out(&session, &address, &asked, &how)?;
        let message = format!("{address}: {verb} is done");
        Ok(Accepted { message })
    });
    done.await.map(Json)
}

fn meaning(verb: &str, asked: &PowerRequest, now: jiff::Timestamp) -> Result<Asked, Problem> {
    let PowerRequest {
        force,
        stateful,
        discard_state,
        hold_until,
        reason,
    } = asked;
    let power = match (verb, *force, *stateful, *discard_state) {
        ("start", false, false, false) => Power::Start,
        ("start", false, false, true) => Power::StartAnew,
        ("stop", false, false, false) => Power::Stop,
        ("stop", true, false, false) => Power::Kill,
        ("stop", false, true, false) => Power::Save,
        ("restart", false, false, false) => Power::Restart,
        ("restart", true, false, false) => Power::Reset,
        ("freeze", false, false, false) => Power::Freeze,
        ("unfreeze", false, false, false) => Power::Unfreeze,
        ("start" | "stop" | "restart" | "freeze" | "unfreeze", ..) => {
            return Err(Problem::bad(format!("{verb} is not done that way")));
        }
        _ => {
            let problem = Problem::not_there(format!("`{verb}` is nothing that instances do"));
            return Err(problem.hint("start, stop, restart, freeze, unfreeze"));
        }
    };
    let (until, reason) = match (hold_until, reason) {
        (None, None) => return Ok(Asked::Power(power)),
        (Some(until), Some(reason)) if verb == "stop" => (until, reason.trim()),
        (Some(_), Some(_)) => return Err(Problem::bad(format!("{verb} holds nothing"))),
        _ => return Err(Problem::bad("a hold needs both `holdUntil` and `reason`")),
    };
    let until: jiff::Timestamp = until
        .parse()
        .map_err(|error| Problem::bad(format!("holdUntil: {error}")))?;
    if until <= now || reason.is_empty() {
        return Err(Problem::bad(
            "a hold needs a time to come and a reason that others understand",
        ));
    }
    let hold = Hold {
        until,
        reason: reason.to_owned(),
        since: now,
    };
    Ok(Asked::Hold { power, hold })
}

fn carry_out(
    session: &Session<'_>,
    address: &Address,
    asked: &Asked,
    how: &ApplyOptions,
) -> Result<(), Problem> {
    let mut patience = Patience::new(BUSY);
    let report = loop {
        let mut plan = session.asked(std::slice::from_ref(address), asked)?;
        if let Some((_, error)) = plan.refused.pop() {
            return Err(error.into());
        }
        match session.carry_out_asked(&plan, how, &Silent) {
            Err(SessionError::Folder(StateFolderError::Busy { .. }) | SessionError::Stale(_))
                if patience.wait() => {}
            other => break other?,
        }
    };
    let failed = report
        .results
        .iter()
        .find_map(|result| match &result.outcome {
            Outcome::Failed { message, .. } | Outcome::Skipped { message, .. } => Some(message),
            Outcome::Succeeded { .. } | Outcome::Interrupted { .. } => None,
        });
    match failed {
        None => Ok(()),
        Some(why) => Err(Problem::conflict(why.clone())),
    }
}
