//! How the controller stands: `/v1/status`, `/healthz`, `/readyz`.

use std::collections::BTreeMap;

use axum::extract::{Extension, State};
use axum::http::StatusCode;
use axum::{Json, response::IntoResponse};
use jiff::Timestamp;

use super::documents::{
    BecauseDocument, CallerDocument, FightDocument, InvalidDocument, PinDocument, SourceDocument,
    StatusDocument, SuspensionDocument, TroubleDocument, WaitingDocument, time,
};
use super::who::Caller;
use super::{Api, Problem};
use crate::controller::event::Outcome;
use crate::controller::picture::{Looked, Picture};
use crate::controller::standing::{SourceStanding, Standing};
use crate::controller::state::Trouble;
use crate::diff::suspension::Scope;

pub(super) async fn status(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
) -> Json<StatusDocument> {
    let (standing, picture) = (api.handle.standing(), api.handle.picture());
    let now = api.desk.session().clock.now();
    Json(document(&standing, &picture, &caller, now))
}

/// The process answers.
pub(super) async fn healthy() -> &'static str {
    "ok\n"
}

/// It has looked at the host and at its sources.
pub(super) async fn ready(State(api): State<Api>) -> Result<impl IntoResponse, Problem> {
    let standing = api.handle.standing();
    match is_ready(&standing) {
        true => Ok((StatusCode::OK, "ready\n")),
        false => Err(Problem::not_yet()),
    }
}

fn is_ready(standing: &Standing) -> bool {
    let tried = |source: &SourceStanding| {
        let looked = source.fetched_at.is_some() || source.unreachable.is_some();
        looked && (source.in_force.is_none() || source.outcome.is_some())
    };
    standing.booted && standing.sources.iter().all(tried)
}

/// How it stands, as far as the caller may see it.
pub(super) fn document(
    standing: &Standing,
    picture: &Picture,
    caller: &Caller,
    now: Timestamp,
) -> StatusDocument {
    let sees = |scope: &Scope| match scope {
        Scope::Everything | Scope::Source(_) => true,
        Scope::Object(address) => caller.sees(address),
    };
    let suspended = standing.suspensions.iter();
    let unclear = picture
        .world
        .iter()
        .flat_map(|world| &world.observed.unclear);
    StatusDocument {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        host: picture.world.as_ref().map(|world| world.host.host.clone()),
        now: time(now),
        booted: standing.booted,
        at_work: standing.at_work,
        looked_at: picture.at.map(time),
        sources: standing
            .sources
            .iter()
            .filter_map(|source| {
                let looked = picture.sources.get(&source.name).map(AsRef::as_ref);
                of_source(standing, source, looked, caller, now)
            })
            .collect(),
        suspended: suspended
            .filter(|(scope, suspension)| sees(scope) && !suspension.is_over(now))
            .map(|(scope, suspension)| SuspensionDocument::new(scope, suspension))
            .collect(),
        unclear: unclear
            .filter(|one| caller.sees(&one.address))
            .map(|one| format!("{}: {}", one.address, one.why))
            .collect(),
        you: CallerDocument {
            name: caller.name.clone(),
            role: caller.role,
            projects: caller.projects.iter().cloned().collect(),
        },
    }
}

/// None where the caller sees nothing of it.
fn of_source(
    standing: &Standing,
    source: &SourceStanding,
    looked: Option<&Looked>,
    caller: &Caller,
    now: Timestamp,
) -> Option<SourceDocument> {
    let mut objects: BTreeMap<String, usize> = BTreeMap::new();
    for (address, stands) in looked.iter().flat_map(|looked| &looked.objects) {
        if caller.sees(address) {
            *objects.entry(stands.accord.word().to_owned()).or_default() += 1;
        }
    }
    if objects.is_empty() && !caller.sees_all() {
        return None;
    }
    // What is told of a source as a whole names objects of all its projects.
    let words = |text: &str| match caller.sees_all() {
        true => text.to_owned(),
        false => "told to those who see all projects".to_owned(),
    };
    let in_force = looked.map(|looked| &looked.in_force);
    let resting = source
        .resting
        .iter()
        .filter(|one| caller.sees(&one.address));
    let contended = source
        .contended
        .iter()
        .filter(|(object, _)| caller.sees(object));
    Some(SourceDocument {
        name: source.name.to_string(),
        owner: in_force.map(|one| one.desired.source.name.to_string()),
        depends_on: source.depends_on.iter().map(ToString::to_string).collect(),
        revision: in_force.map(|one| one.label()),
        commit: in_force.and_then(|one| one.commit.clone()),
        signed_by: in_force.and_then(|one| one.signed_by.clone()),
        author: in_force.and_then(|one| one.about.author.clone()),
        subject: in_force.and_then(|one| one.about.subject.clone()),
        committed_at: in_force.and_then(|one| one.about.committed_at.map(time)),
        pinned: source
            .pinned
            .as_ref()
            .map(|pin| PinDocument::new(pin, source.ahead.as_ref())),
        settled: source.settled,
        outcome: source.outcome.as_ref().map(|one| one.word().to_owned()),
        words: source.outcome.as_ref().map(|one| match one {
            Outcome::Stopped { .. } | Outcome::Failed { .. } => words(&one.words()),
            other => other.words(),
        }),
        reconciled_at: source.reconciled_at.map(time),
        fetched_at: source.fetched_at.map(time),
        invalid: source
            .invalid
            .as_ref()
            .map(|(revision, why)| InvalidDocument {
                revision: revision.clone(),
                why: words(why),
            }),
        unreachable: source
            .unreachable
            .as_ref()
            .map(|one| trouble(one, &words(&one.why))),
        failed: source
            .failed
            .as_ref()
            .map(|one| trouble(one, &words(&one.why))),
        resting: resting
            .map(|one| TroubleDocument {
                object: Some(one.address.to_string()),
                until: Some(time(one.until)),
                ..trouble(&one.trouble, &one.trouble.why)
            })
            .collect(),
        fights: contended
            .map(|(object, path)| FightDocument {
                object: object.to_string(),
                field: path.dotted(),
            })
            .collect(),
        held_until: source.held_until.map(time),
        waits: looked
            .filter(|looked| caller.sees_all() && !looked.plan.is_empty())
            .map(|looked| waiting(looked, standing)),
        suspended: standing
            .suspends(&source.name, None, now)
            .map(|(scope, suspension)| SuspensionDocument::new(scope, suspension)),
        objects,
    })
}

fn waiting(looked: &Looked, standing: &Standing) -> WaitingDocument {
    let digest = looked.digest.clone();
    WaitingDocument {
        steps: looked.plan.steps.len(),
        held: looked.plan.held.len(),
        stopping: looked
            .plan
            .stopping
            .iter()
            .map(BecauseDocument::from)
            .collect(),
        approved_until: standing.approved.get(&digest).copied().map(time),
        digest,
    }
}

fn trouble(trouble: &Trouble, why: &str) -> TroubleDocument {
    TroubleDocument {
        why: why.to_owned(),
        times: trouble.times,
        since: time(trouble.since),
        until: None,
        object: None,
    }
}
