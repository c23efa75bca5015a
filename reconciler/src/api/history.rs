//! What was done: `/v1/history`, one apply of it, and what was done with one object.

use axum::Json;
use axum::extract::{Extension, Path, Query, State};
use manifests::id::Address;
use serde::Deserialize;
use serde_json::{Value, json};

use super::who::Caller;
use super::{Api, Problem, store};
use crate::error::chain;
use crate::journal::{ApplyStatus, Journal as _, JournalError};
use crate::plan::PlanId;

/// So many are answered where nobody says how many.
const SOME: usize = 50;
/// So many at most.
const MOST: usize = 500;

/// Which of it.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Which {
    limit: Option<usize>,
    object: Option<String>,
}

pub(super) async fn list(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Query(which): Query<Which>,
) -> Result<Json<Value>, Problem> {
    let limit = which.limit.unwrap_or(SOME).clamp(1, MOST);
    let object: Option<Address> = match &which.object {
        None => None,
        Some(text) => Some(
            text.parse()
                .map_err(|error| Problem::bad(format!("{error}")))?,
        ),
    };
    let found = api.block(move |desk| {
        let store = store(desk)?;
        match object {
            Some(object) if !caller.sees(&object) => {
                Err(Problem::not_there(format!("no source has {object}")))
            }
            Some(object) => {
                let events = store.events_of(&object, limit).map_err(unreadable)?;
                Ok(json!(events))
            }
            None => {
                let applies = store.applies(limit).map_err(unreadable)?;
                let seen: Vec<ApplyStatus> = applies
                    .into_iter()
                    .filter_map(|one| seen(one, &caller))
                    .collect();
                Ok(json!(seen))
            }
        }
    });
    found.await.map(Json)
}

pub(super) async fn one(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
) -> Result<Json<Value>, Problem> {
    let plan = id.parse().map(PlanId);
    let plan = plan.map_err(|_| Problem::bad(format!("`{id}` is no name of a plan")))?;
    let found = api.block(move |desk| {
        let found = store(desk)?.apply_of(&plan).map_err(unreadable)?;
        let found = found.and_then(|one| seen(one, &caller));
        found.ok_or_else(|| Problem::not_there(format!("no plan of the name {plan} was applied")))
    });
    found.await.map(|one| Json(json!(one)))
}

/// What of it the caller may see; none: nothing.
fn seen(mut one: ApplyStatus, caller: &Caller) -> Option<ApplyStatus> {
    if caller.sees_all() {
        return Some(one);
    }
    one.steps.retain(|_, step| caller.sees(&step.address));
    // A command names what it was about.
    one.command = one.command.split(' ').take(2).collect::<Vec<_>>().join(" ");
    (!one.steps.is_empty()).then_some(one)
}

#[expect(clippy::needless_pass_by_value, reason = "it stands in map_err")]
fn unreadable(error: JournalError) -> Problem {
    let mut problem = Problem::bug();
    problem.detail = chain(&error);
    problem
}
