//! What sources said and what became of it: `/v1/revisions`; and an older revision that is put in force again.

use axum::Json;
use axum::extract::{Extension, Query, State};
use axum::http::StatusCode;
use manifests::id::SourceName;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::documents::{Accepted, RevisionDocument, time};
use super::steer::{Answer, accepted, by, known_source, remember};
use super::who::Caller;
use super::{Api, Problem};
use crate::controller::event::Request;
use crate::controller::revisions::{NoRevision, Revision, Revisions};
use crate::diff::suspension::Pin;
use crate::store::Write;

/// So many are answered where nobody says how many.
const SOME: usize = 50;

/// Which of them.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Which {
    limit: Option<usize>,
    source: Option<String>,
}

/// Which revision is put in force again.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RollbackRequest {
    /// The source; absent: the only one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// The revision, or how it begins.
    pub revision: String,
    /// Why, for whoever wonders.
    pub reason: String,
    /// Who says so, where an admin asks for somebody.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
}

/// Which source is followed again.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct UnpinRequest {
    /// The source; absent: the only one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
}

/// Revisions are of whole sources.
fn sees_sources(caller: &Caller) -> Result<(), Problem> {
    match caller.sees_all() {
        true => Ok(()),
        false => Err(Problem::forbidden(
            "revisions are of whole sources, and you see some projects only",
        )),
    }
}

pub(super) async fn list(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Query(which): Query<Which>,
) -> Result<Json<Vec<RevisionDocument>>, Problem> {
    sees_sources(&caller)?;
    let sources: Vec<SourceName> = match &which.source {
        Some(name) => vec![known_source(&api, name)?],
        None => {
            let standing = api.handle.standing();
            let names = standing.sources.iter().map(|one| one.name.clone());
            names.collect()
        }
    };
    let found = api.block(move |desk| {
        let revisions = Revisions::in_folder(desk.session().folder.path());
        let mut all: Vec<(SourceName, Revision)> = Vec::new();
        for source in sources {
            let of_one = revisions.all(&source).into_iter();
            all.extend(of_one.map(|one| (source.clone(), one)));
        }
        all.sort_by_key(|(_, one)| std::cmp::Reverse(one.at));
        all.truncate(which.limit.unwrap_or(SOME).max(1));
        Ok(all.iter().map(document).collect())
    });
    found.await.map(Json)
}

fn document((source, one): &(SourceName, Revision)) -> RevisionDocument {
    RevisionDocument {
        source: source.to_string(),
        at: time(one.at),
        fate: one.fate.word().to_owned(),
        revision: one.revision.clone(),
        commit: one.commit.clone(),
        author: one.about.author.clone(),
        subject: one.about.subject.clone(),
        committed_at: one.about.committed_at.map(time),
        signed_by: one.signed_by.clone(),
        why: one.why.clone(),
    }
}

/// The source that is meant, where it need not be named if there is but one.
fn meant(api: &Api, named: Option<&str>) -> Result<SourceName, Problem> {
    if let Some(name) = named {
        return known_source(api, name);
    }
    let standing = api.handle.standing();
    match standing.sources.as_slice() {
        [one] => Ok(one.name.clone()),
        all => {
            let names: Vec<&str> = all.iter().map(|one| one.name.as_str()).collect();
            let problem = Problem::bad("there are several sources: say which one");
            Err(problem.hint(format!("sources: {}", names.join(", "))))
        }
    }
}

pub(super) async fn rollback(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Json(asked): Json<RollbackRequest>,
) -> Answer {
    sees_sources(&caller)?;
    let source = meant(&api, asked.source.as_deref())?;
    let by = by(&caller, asked.by)?;
    if asked.reason.trim().is_empty() {
        return Err(Problem::bad("a pin needs a reason that others understand"));
    }
    let (name, wanted) = (source.clone(), asked.revision.trim().to_owned());
    let found = api.block(move |desk| {
        let revisions = Revisions::in_folder(desk.session().folder.path());
        revisions.find(&name, &wanted).map_err(|error| {
            let problem = match &error {
                NoRevision::Unknown { .. } => Problem::not_there(error.to_string()),
                NoRevision::Several { .. } => Problem::conflict(error.to_string()),
            };
            match error {
                NoRevision::Unknown { known, .. } if !known.is_empty() => {
                    problem.hint(format!("there are: {}", known.join(", ")))
                }
                _ => problem,
            }
        })
    });
    let found = found.await?;
    let digest = found.digest.unwrap_or_default();
    let pin = Pin {
        revision: found
            .revision
            .unwrap_or_else(|| digest.chars().take(7).collect()),
        digest,
        reason: asked.reason.trim().to_owned(),
        by: Some(by),
        since: api.desk.session().clock.now(),
    };
    remember(&api, Write::Pin(source.clone(), pin.clone())).await?;
    let message = format!("{source} is {}", pin.words());
    api.handle.ask(Request::Pin(source, pin));
    accepted(message)
}

pub(super) async fn unpin(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Json(asked): Json<UnpinRequest>,
) -> Result<(StatusCode, Json<Accepted>), Problem> {
    sees_sources(&caller)?;
    let source = meant(&api, asked.source.as_deref())?;
    let standing = api.handle.standing();
    if standing
        .source(&source)
        .is_none_or(|one| one.pinned.is_none())
    {
        return Err(Problem::not_there(format!("{source} is not pinned")));
    }
    remember(&api, Write::Unpin(source.clone())).await?;
    let message = format!("{source} is followed again");
    tracing::info!(by = caller.name, %source, "it is followed again");
    api.handle.ask(Request::Unpin(source));
    accepted(message)
}
