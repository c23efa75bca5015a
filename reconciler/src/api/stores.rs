//! What lies where: snapshots with their next run, pools, networks with their leases, the trash.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::{Extension, State};
use manifests::id::{Address, Uid};
use manifests::kind::Kind;
use manifests::observed::Item;
use serde_json::{Value, json};

use super::who::Caller;
use super::{Api, Problem};
use crate::plan::World;
use crate::session::Session;
use crate::view::missed;

fn world(api: &Api) -> Result<std::sync::Arc<World>, Problem> {
    api.handle
        .picture()
        .world
        .clone()
        .ok_or_else(Problem::not_yet)
}

pub(super) async fn snapshots(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
) -> Result<Json<Value>, Problem> {
    let world = world(&api)?;
    let now = api.desk.session().clock.now();
    let seen = |item: &&Item| caller.sees(&item.address);
    let made = world.observed.items.iter().filter(seen).flat_map(|item| {
        let all = item.status["snapshots"].as_array();
        all.into_iter().flatten().map(|one| {
            let mut one = one.clone();
            one["object"] = json!(item.address);
            one
        })
    });
    let names: BTreeMap<Uid, &Address> = world
        .observed
        .items
        .iter()
        .filter_map(|item| Some((item.mark.as_ref()?.uid, &item.address)))
        .collect();
    let stands = Session::stands_in(&world.known, &world.observed, now);
    let schedules = stands.iter().filter_map(|(uid, stand)| {
        let address = names.get(uid)?;
        caller.sees(address).then(|| {
            json!({
                "object": address,
                "lastRun": stand.last_run,
                "nextRun": stand.next_run,
                "of": stand.selected.iter().filter(|one| caller.sees(one)).collect::<Vec<_>>(),
                "missed": stand.missed.iter().map(missed::line).collect::<Vec<_>>(),
            })
        })
    });
    Ok(Json(json!({
        "snapshots": made.collect::<Vec<_>>(),
        "schedules": schedules.collect::<Vec<_>>(),
    })))
}

pub(super) async fn pools(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
) -> Result<Json<Value>, Problem> {
    of_kind(&api, &caller, Kind::StoragePool)
}

pub(super) async fn networks(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
) -> Result<Json<Value>, Problem> {
    of_kind(&api, &caller, Kind::Network)
}

/// The live objects of a kind with their status, which has their use or their leases.
fn of_kind(api: &Api, caller: &Caller, kind: Kind) -> Result<Json<Value>, Problem> {
    let world = world(api)?;
    let meant = |item: &&Item| {
        item.address.kind == kind && item.mark.is_some() && caller.sees(&item.address)
    };
    let all = world.observed.items.iter().filter(meant);
    let all = all.map(|item| json!({"id": item.address, "status": item.status}));
    Ok(Json(all.collect()))
}

pub(super) async fn leases(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
) -> Result<Json<Value>, Problem> {
    let world = world(&api)?;
    let networks = world.observed.items.iter().filter(|item| {
        item.address.kind == Kind::Network && item.mark.is_some() && caller.sees(&item.address)
    });
    let all = networks.flat_map(|item| {
        let leases = item.status["leases"].as_array();
        leases.into_iter().flatten().map(|lease| {
            let mut lease = lease.clone();
            lease["network"] = json!(item.address);
            lease
        })
    });
    Ok(Json(all.collect()))
}

pub(super) async fn trash(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
) -> Result<Json<Value>, Problem> {
    let world = world(&api)?;
    let all = world
        .observed
        .trash
        .iter()
        .filter(|one| caller.sees(&one.address));
    let all = all.map(|one| {
        json!({
            "id": one.address,
            "uid": one.mark.uid,
            "source": one.mark.source,
            "deletedAt": one.deleted_at,
            "expiresAt": one.expires_at,
            "holds": one.holds,
            "by": one.by,
        })
    });
    Ok(Json(all.collect()))
}
