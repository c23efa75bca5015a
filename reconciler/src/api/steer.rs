//! What people ask of the controller: look now, change nothing for a while, go on, do the plan that waits.

use std::time::Duration;

use axum::Json;
use axum::extract::{Extension, State};
use axum::http::StatusCode;
use manifests::controller::Role;
use manifests::id::SourceName;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::documents::Accepted;
use super::who::Caller;
use super::{Api, Problem, store};
use crate::controller::event::Request;
use crate::controller::revisions::{Fate, Revisions};
use crate::diff::suspension::{Scope, Suspension};
use crate::error::CliError;
use crate::store::{Store as _, Write};

/// For how long an answer for a plan counts, where nobody says.
const ANSWERED: Duration = Duration::from_secs(60 * 60);

/// What is looked at.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ReconcileRequest {
    /// The source; absent: all of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
}

/// What is left alone.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SuspendRequest {
    /// `everything`, `source/NAME` or `KIND/NAME`.
    pub what: String,
    /// Why, for whoever wonders.
    pub reason: String,
    /// Until when; absent: until somebody resumes it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<String>,
    /// Who says so, where an admin asks for somebody.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
}

/// What is taken up again.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ResumeRequest {
    /// `everything`, `source/NAME` or `KIND/NAME`.
    pub what: String,
}

/// For which plan somebody answers.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ApproveRequest {
    /// Of the plan that waits.
    pub digest: String,
}

pub(super) type Answer = Result<(StatusCode, Json<Accepted>), Problem>;

pub(super) fn accepted(message: impl Into<String>) -> Answer {
    let message = message.into();
    Ok((StatusCode::ACCEPTED, Json(Accepted { message })))
}

/// Who says so: the caller, or for whom an admin asks.
pub(super) fn by(caller: &Caller, told: Option<String>) -> Result<String, Problem> {
    let told = told.filter(|told| !told.trim().is_empty() && *told != caller.name);
    match told {
        None => Ok(caller.name.clone()),
        Some(_) if caller.role < Role::Admin => {
            Err(Problem::forbidden("only an admin asks for somebody else"))
        }
        Some(told) => Ok(told.trim().to_owned()),
    }
}

pub(super) async fn reconcile(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Json(asked): Json<ReconcileRequest>,
) -> Answer {
    let which = match asked.source {
        None => None,
        Some(name) => Some(known_source(&api, &name)?),
    };
    tracing::info!(
        by = caller.name,
        source = which.as_ref().map(SourceName::as_str),
        "asked to look"
    );
    api.handle.ask(Request::Reconcile(which));
    accepted("it looks now")
}

pub(super) async fn suspend(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Json(asked): Json<SuspendRequest>,
) -> Answer {
    let scope = scope(&api, &caller, &asked.what)?;
    if asked.reason.trim().is_empty() {
        return Err(Problem::bad(
            "a suspension needs a reason that others understand",
        ));
    }
    let now = api.desk.session().clock.now();
    let until: Option<jiff::Timestamp> = match &asked.until {
        None => None,
        Some(text) => Some(
            text.parse()
                .map_err(|error| Problem::bad(format!("until: {error}")))?,
        ),
    };
    if until.is_some_and(|until| until <= now) {
        return Err(Problem::bad("`until` is over already"));
    }
    let suspension = Suspension {
        reason: asked.reason.trim().to_owned(),
        by: Some(by(&caller, asked.by)?),
        since: now,
        until,
    };
    let message = format!("{scope} is {}", suspension.words());
    remember(&api, Write::Suspend(scope.clone(), suspension.clone())).await?;
    api.handle.ask(Request::Suspend(scope, suspension));
    accepted(message)
}

pub(super) async fn resume(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Json(asked): Json<ResumeRequest>,
) -> Answer {
    let scope = scope(&api, &caller, &asked.what)?;
    let standing = api.handle.standing();
    if !standing.suspensions.contains_key(&scope) && !standing.is_fought_over(&scope) {
        return Err(Problem::not_there(format!("{scope} is not suspended")));
    }
    remember(&api, Write::Resume(scope.clone())).await?;
    let message = format!("{scope} is resumed");
    api.handle.ask(Request::Resume(scope));
    accepted(message)
}

pub(super) async fn approve(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Json(asked): Json<ApproveRequest>,
) -> Answer {
    if !caller.sees_all() {
        return Err(Problem::forbidden(
            "plans are of whole sources, and you see some projects only",
        ));
    }
    let picture = api.handle.picture();
    let waiting = picture
        .sources
        .iter()
        .filter(|(_, looked)| !looked.plan.stopping.is_empty());
    let meant = waiting
        .clone()
        .find(|(_, looked)| looked.digest == asked.digest);
    let Some((source, looked)) = meant else {
        let problem = Problem::conflict(format!("no plan with the digest {} waits", asked.digest));
        return Err(match waiting.clone().next() {
            None => problem,
            Some((source, looked)) => {
                problem.hint(format!("of {source} the plan {} waits", looked.digest))
            }
        });
    };
    let digest = &looked.digest;
    let now = api.desk.session().clock.now();
    let until = now.checked_add(ANSWERED).map_err(|_| Problem::bug())?;
    tracing::info!(by = caller.name, %source, digest, "a plan is approved");
    let why = format!("the plan {digest} is approved by {}", caller.name);
    let approved = looked.in_force.became(Fate::Approved, why, now);
    let name = source.clone();
    api.block(move |desk| {
        let revisions = Revisions::in_folder(desk.session().folder.path());
        revisions.add(&name, approved);
        Ok(())
    })
    .await?;
    api.handle.ask(Request::Approve(digest.clone(), until));
    accepted(format!(
        "the plan {digest} of {source} is done if it is still the same"
    ))
}

/// What is meant, where the caller may mean it.
fn scope(api: &Api, caller: &Caller, what: &str) -> Result<Scope, Problem> {
    let scope: Scope = what.parse().map_err(|error| {
        Problem::bad(format!("{error}")).hint("write KIND/NAME, source/NAME or everything")
    })?;
    match &scope {
        Scope::Object(address) if caller.sees(address) => {}
        Scope::Object(address) => {
            return Err(Problem::not_there(format!("no source has {address}")));
        }
        Scope::Everything | Scope::Source(_) if !caller.sees_all() => {
            return Err(Problem::forbidden(
                "you see some projects only: name an object of them",
            ));
        }
        Scope::Source(name) => {
            known_source(api, name.as_str())?;
        }
        Scope::Everything => {}
    }
    Ok(scope)
}

pub(super) fn known_source(api: &Api, name: &str) -> Result<SourceName, Problem> {
    let standing = api.handle.standing();
    let found = standing.source(&SourceName::new(name));
    found.map(|source| source.name.clone()).ok_or_else(|| {
        let names: Vec<&str> = standing
            .sources
            .iter()
            .map(|one| one.name.as_str())
            .collect();
        Problem::not_there(format!("no source is called `{name}` here"))
            .hint(format!("sources: {}", names.join(", ")))
    })
}

/// It counts also for the next controller, and for `keel apply`.
pub(super) async fn remember(api: &Api, write: Write) -> Result<(), Problem> {
    let done = api.block(move |desk| {
        let done = store(desk)?.commit(&[write]);
        done.map_err(|error| Problem::from(CliError::from(error)))
    });
    done.await
}
