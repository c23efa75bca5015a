//! The plans that wait, and why: `/v1/plan`.

use axum::Json;
use axum::extract::{Extension, Query, State};
use manifests::diagnostic::Diagnostics;
use manifests::id::SourceName;
use serde::Deserialize;

use super::documents::{PlanDocument, time};
use super::who::Caller;
use super::{Api, Problem};
use crate::view::plan_document::document;

/// Of which source.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Of {
    source: Option<String>,
}

pub(super) async fn waiting(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Query(of): Query<Of>,
) -> Result<Json<Vec<PlanDocument>>, Problem> {
    if !caller.sees_all() {
        return Err(Problem::forbidden(
            "plans are of whole sources, and you see some projects only",
        ));
    }
    let (standing, picture) = (api.handle.standing(), api.handle.picture());
    let all = picture.sources.iter().filter(|(name, looked)| {
        let meant = of.source.as_ref().is_none_or(|one| one == name.as_str());
        meant && !looked.plan.is_empty()
    });
    let plans = all.map(|(name, looked)| {
        let digest = looked.digest.clone();
        PlanDocument {
            source: name.to_string(),
            stopped: !looked.plan.stopping.is_empty(),
            approved_until: standing.approved.get(&digest).copied().map(time),
            plan: document(&looked.plan, &Diagnostics::default(), None),
            digest,
        }
    });
    let plans: Vec<PlanDocument> = plans.collect();
    let unknown = |name: &String| standing.source(&SourceName::new(name.as_str())).is_none();
    match &of.source {
        Some(name) if unknown(name) => Err(Problem::not_there(format!(
            "no source is called `{name}` here"
        ))),
        _ => Ok(Json(plans)),
    }
}
