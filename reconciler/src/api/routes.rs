//! The one list of what can be asked. Router and OpenAPI document are made from it.

use std::time::Duration;

use axum::extract::{DefaultBodyLimit, Request};
use axum::http::{HeaderMap, HeaderValue, Method, header};
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, get, post};
use axum::{Extension, Router};
use manifests::controller::Role;
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde_json::Value;

use super::documents::{
    Accepted, EventDocument, ObjectDocument, ObjectRow, PlanDocument, RevisionDocument,
    StatusDocument,
};
use super::power::PowerRequest;
use super::revisions::{RollbackRequest, UnpinRequest};
use super::steer::{ApproveRequest, ReconcileRequest, ResumeRequest, SuspendRequest};
use super::who::Caller;
use super::{
    Api, Problem, events, history, hooks, hurry, metrics, objects, openapi, page, plans, power,
    revisions, sockets, status, steer, stores,
};

/// A question has so many bytes at most.
const BODY: usize = 64 * 1024;
/// How long an answer may take.
const LOOK: Duration = Duration::from_secs(20);
/// How long switching an instance may take.
const SWITCH: Duration = Duration::from_secs(5 * 60);

/// Where a forge says that there is something new.
const WEBHOOK: &str = "/v1/webhooks/{source}";

/// The schema of something that travels.
pub(super) type SchemaOf = fn(&mut SchemaGenerator) -> Schema;

/// One thing that can be asked.
pub(super) struct Route {
    pub(super) method: Method,
    /// As axum has it: `/v1/objects/{kind}/{*name}`.
    pub(super) path: &'static str,
    /// The least that somebody must be; none: anybody who came in.
    pub(super) role: Option<Role>,
    /// What it is for.
    pub(super) what: &'static str,
    /// What may stand behind the `?`, and what it means.
    pub(super) query: &'static [(&'static str, &'static str)],
    /// What is sent with it.
    pub(super) body: Option<SchemaOf>,
    /// What is answered; none: plain text.
    pub(super) answer: Option<SchemaOf>,
    patience: Duration,
    handler: fn() -> MethodRouter<Api>,
}

fn of<T: JsonSchema>(generator: &mut SchemaGenerator) -> Schema {
    generator.subschema_for::<T>()
}

fn look(
    path: &'static str,
    what: &'static str,
    query: &'static [(&'static str, &'static str)],
    answer: SchemaOf,
    handler: fn() -> MethodRouter<Api>,
) -> Route {
    Route {
        method: Method::GET,
        path,
        role: Some(Role::Viewer),
        what,
        query,
        body: None,
        answer: Some(answer),
        patience: LOOK,
        handler,
    }
}

fn ask(
    path: &'static str,
    what: &'static str,
    body: SchemaOf,
    handler: fn() -> MethodRouter<Api>,
) -> Route {
    Route {
        method: Method::POST,
        path,
        role: Some(Role::Operator),
        what,
        query: &[],
        body: Some(body),
        answer: Some(of::<Accepted>),
        patience: LOOK,
        handler,
    }
}

fn open(path: &'static str, what: &'static str, handler: fn() -> MethodRouter<Api>) -> Route {
    Route {
        role: None,
        answer: None,
        ..look(path, what, &[], of::<Value>, handler)
    }
}

/// All that can be asked.
pub(super) fn all() -> Vec<Route> {
    vec![
        open("/healthz", "The process answers.", || get(status::healthy)),
        open(
            "/readyz",
            "It has looked at its sources and at the host; 503 before.",
            || get(status::ready),
        ),
        Route {
            answer: Some(of::<Value>),
            ..open("/openapi.json", "This document.", || get(openapi::answer))
        },
        open("/", "The page for browsers.", || get(page::index)),
        open("/page/{file}", "What belongs to it.", || get(page::file)),
        Route {
            answer: None,
            ..look(
                "/v1/instances/{name}/logs",
                "The end of what an instance wrote to its console.",
                &[("project", "its project; absent: the default one")],
                of::<Value>,
                || get(power::logs),
            )
        },
        Route {
            answer: None,
            ..look(
                "/metrics",
                "Numbers in the text format of Prometheus.",
                &[],
                of::<Value>,
                || get(metrics::metrics),
            )
        },
        look(
            "/v1/status",
            "How the controller and its sources stand.",
            &[],
            of::<StatusDocument>,
            || get(status::status),
        ),
        look(
            "/v1/objects",
            "What is managed, as it was when the controller last looked.",
            &[
                ("kind", "only of this kind"),
                ("project", "only of this project"),
                ("source", "only of this source"),
                ("sync", "only what stands so to its manifest"),
                ("health", "only what is so"),
                ("selector", "only with these labels: `tier=web,env!=test`"),
                ("search", "only where this is a part of the name"),
            ],
            of::<Vec<ObjectRow>>,
            || get(objects::list),
        ),
        look(
            "/v1/objects/{kind}/{*name}",
            "One object: what is wanted beside what is there. The name may have a project and a pool before it: `shop/web`.",
            &[],
            of::<ObjectDocument>,
            || get(objects::one),
        ),
        look(
            "/v1/plan",
            "The plans that wait, and why.",
            &[("source", "only of this source")],
            of::<Vec<PlanDocument>>,
            || get(plans::waiting),
        ),
        look(
            "/v1/history",
            "What was done, the newest first; with `object` what was done with it.",
            &[("limit", "how many"), ("object", "`KIND/NAME`")],
            of::<Vec<Value>>,
            || get(history::list),
        ),
        look(
            "/v1/history/{id}",
            "One apply with its steps.",
            &[],
            of::<Value>,
            || get(history::one),
        ),
        look(
            "/v1/revisions",
            "What sources said and what became of it, the newest first.",
            &[("limit", "how many"), ("source", "only of this source")],
            of::<Vec<RevisionDocument>>,
            || get(revisions::list),
        ),
        look(
            "/v1/snapshots",
            "Snapshots, and the schedules that make them with their next run.",
            &[],
            of::<Value>,
            || get(stores::snapshots),
        ),
        look(
            "/v1/pools",
            "Pools with what they hold.",
            &[],
            of::<Vec<Value>>,
            || get(stores::pools),
        ),
        look(
            "/v1/networks",
            "Networks with their ports and leases.",
            &[],
            of::<Vec<Value>>,
            || get(stores::networks),
        ),
        look(
            "/v1/networks/leases",
            "The leases of all networks.",
            &[],
            of::<Vec<Value>>,
            || get(stores::leases),
        ),
        look(
            "/v1/trash",
            "What lies in the trash.",
            &[],
            of::<Vec<Value>>,
            || get(stores::trash),
        ),
        look(
            "/v1/events",
            "What happened lately; a stream of server-sent events where it is followed.",
            &[
                ("after", "only after this number"),
                (
                    "follow",
                    "`true`: a stream, as with `Accept: text/event-stream`",
                ),
            ],
            of::<Vec<EventDocument>>,
            || get(events::events),
        ),
        ask(
            "/v1/reconcile",
            "Look at the sources and at the host now, and try again what failed.",
            of::<ReconcileRequest>,
            || post(steer::reconcile),
        ),
        ask(
            "/v1/suspend",
            "Change nothing for a while.",
            of::<SuspendRequest>,
            || post(steer::suspend),
        ),
        ask("/v1/resume", "Go on.", of::<ResumeRequest>, || {
            post(steer::resume)
        }),
        ask(
            "/v1/approve",
            "Answer for the plan that waits: it is done, if it is still the same.",
            of::<ApproveRequest>,
            || post(steer::approve),
        ),
        ask(
            "/v1/rollback",
            "Put a revision that was in force lately in force again, whatever its source says, until it is unpinned.",
            of::<RollbackRequest>,
            || post(revisions::rollback),
        ),
        ask(
            "/v1/unpin",
            "Follow a source again.",
            of::<UnpinRequest>,
            || post(revisions::unpin),
        ),
        socket(
            "/v1/instances/{name}/logs/follow",
            Role::Viewer,
            "A web socket: what an instance wrote to its console, and writes from now on.",
            || get(sockets::follow),
        ),
        socket(
            "/v1/instances/{name}/console",
            Role::Admin,
            "A web socket: the console of an instance. Messages of bytes are what is typed and shown; a `Said` as text, \
             `{\"resize\": {\"columns\": 80, \"rows\": 24}}`, tells the size of the terminal; the last message is an `ExecEnd` as text.",
            || get(sockets::console),
        ),
        socket(
            "/v1/instances/{name}/exec",
            Role::Admin,
            "A web socket: a command in an instance. The first message is text, an `ExecStart`: `{\"command\": [\"ls\", \"-l\"]}`; bytes \
             to the client begin with 1 (output) or 2 (errors); a `Said` as text ends the input, `{\"end\": true}`, or sizes the \
             terminal, `{\"resize\": {\"columns\": 80, \"rows\": 24}}`; the last message is text, an `ExecEnd` with `code`, `signal` \
             or `error`.",
            || get(sockets::exec),
        ),
        Route {
            role: None,
            ..ask(
                WEBHOOK,
                "What a forge sends: it is looked whether there is something new at the source. It comes in at `webhooks.listen` of the settings, and is signed.",
                of::<Value>,
                || post(hooks::take).layer(DefaultBodyLimit::max(hooks::BODY)),
            )
        },
        Route {
            query: &[("project", "its project; absent: the default one")],
            patience: SWITCH,
            ..ask(
                "/v1/instances/{name}/{verb}",
                "Switch an instance: `start`, `stop`, `restart`, `freeze`, `unfreeze`. The answer comes when it is done.",
                of::<PowerRequest>,
                || post(power::switch),
            )
        },
    ]
}

/// A web socket.
fn socket(
    path: &'static str,
    role: Role,
    what: &'static str,
    handler: fn() -> MethodRouter<Api>,
) -> Route {
    Route {
        role: Some(role),
        query: &[("project", "its project; absent: the default one")],
        answer: None,
        ..look(path, what, &[], of::<Value>, handler)
    }
}

/// Answers all of it.
pub(super) fn router(api: Api) -> Router {
    of_routes(all(), api)
}

/// Answers webhooks, and nothing else.
pub(super) fn webhooks(api: Api) -> Router {
    let mut routes = all();
    routes.retain(|route| route.path == WEBHOOK);
    of_routes(routes, api)
}

fn of_routes(routes: Vec<Route>, api: Api) -> Router {
    let mut router = Router::new();
    for route in routes {
        let Route {
            role,
            patience,
            path,
            ..
        } = route;
        let counts = api.clone();
        let handler = (route.handler)()
            .layer(from_fn(move |request, next| {
                in_time(patience, request, next)
            }))
            .layer(from_fn(move |request, next| allowed(role, request, next)))
            .layer(from_fn(move |request, next| {
                counted(counts.clone(), path, request, next)
            }));
        router = router.route(route.path, handler);
    }
    router
        .fallback(|| async { Problem::not_there("nothing is there: see /openapi.json") })
        .method_not_allowed_fallback(|| async {
            Problem::bad("it is not asked that way: see /openapi.json")
        })
        .layer(DefaultBodyLimit::max(BODY))
        .with_state(api)
}

/// What every answer has, also a refusal of what stands before the routes.
pub(super) fn dress(router: Router) -> Router {
    router
        .layer(from_fn(hurry::soon))
        .layer(from_fn(of_own_page))
        .layer(from_fn(dressed))
}

/// A page of somebody else may not ask by the browser of somebody who may: browsers keep it from reading answers, but open
/// web sockets for it, and say only where it comes from.
async fn of_own_page(request: Request, next: Next) -> Result<Response, Problem> {
    match is_of_another_page(request.headers()) {
        true => Err(Problem::forbidden("a page of another server asks")),
        false => Ok(next.run(request).await),
    }
}

fn is_of_another_page(headers: &HeaderMap) -> bool {
    let text = |name| {
        let value: Option<&HeaderValue> = headers.get(name);
        value.map(|value| value.to_str().unwrap_or_default())
    };
    let host = text(header::HOST).unwrap_or_default();
    text(header::ORIGIN).is_some_and(|origin| !is_of(origin, host))
}

/// Whether a page comes from this server.
fn is_of(origin: &str, host: &str) -> bool {
    let server = origin.split_once("://").map(|(_, server)| server);
    server.is_some_and(|server| !server.is_empty() && server.eq_ignore_ascii_case(host))
}

/// Whoever asks must be somebody, and may do it.
async fn allowed(role: Option<Role>, request: Request, next: Next) -> Result<Response, Problem> {
    if let Some(role) = role {
        let Some(caller) = request.extensions().get::<Caller>() else {
            return Err(Problem::nobody());
        };
        if caller.role < role {
            return Err(Problem::forbidden(format!(
                "{} is {}, and this is for {role}",
                caller.name, caller.role
            )));
        }
    }
    Ok(next.run(request).await)
}

async fn in_time(patience: Duration, request: Request, next: Next) -> Response {
    match tokio::time::timeout(patience, next.run(request)).await {
        Ok(response) => response,
        Err(_) => Problem::too_slow().into_response(),
    }
}

/// Counts questions and how long answers took.
async fn counted(api: Api, path: &'static str, request: Request, next: Next) -> Response {
    let clock = api.desk.session().clock;
    let (method, began) = (request.method().clone(), clock.instant());
    let response = next.run(request).await;
    let took = clock.instant().saturating_duration_since(began);
    let status = response.status().as_u16();
    api.handle
        .metrics()
        .answered(method.as_str(), path, status, took);
    response
}

/// What every answer has; and refusals of axum in our form.
async fn dressed(request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    let status = response.status();
    let is_plain = response
        .headers()
        .get(header::CONTENT_TYPE)
        .is_some_and(|kind| kind.as_bytes().starts_with(b"text/plain"));
    if status.is_client_error() && is_plain {
        let body = axum::body::to_bytes(response.into_body(), BODY)
            .await
            .unwrap_or_default();
        let mut problem = Problem::bad(String::from_utf8_lossy(&body).into_owned());
        problem.status = status.as_u16();
        response = problem.into_response();
    }
    let headers = response.headers_mut();
    let fixed = [
        (header::CACHE_CONTROL, "no-store"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ];
    for (name, value) in fixed {
        headers
            .entry(name)
            .or_insert(HeaderValue::from_static(value));
    }
    response
}

/// The router for somebody who came in.
pub(super) fn for_caller(router: &Router, caller: Option<Caller>) -> Router {
    match caller {
        Some(caller) => router.clone().layer(Extension(caller)),
        None => router.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_our_own_page_asks_by_a_browser() {
        for (origin, host, own) in [
            ("http://localhost:8080", "localhost:8080", true),
            ("https://Edge.example.org", "edge.example.org", true),
            ("http://localhost:8081", "localhost:8080", false),
            ("http://evil.example.org", "localhost", false),
            ("http://localhost.evil.example.org", "localhost", false),
            ("null", "localhost", false),
            ("://", "", false),
            ("", "", false),
        ] {
            assert_eq!(is_of(origin, host), own, "{origin} at {host}");
        }
    }
}
