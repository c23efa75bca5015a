//! What happens: `/v1/events`, as a list of what is remembered or as a stream of server-sent events.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::time::Duration;

use axum::Json;
use axum::extract::{Extension, Query, State};
use axum::http::HeaderMap;
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::stream::{self, Stream};
use serde::Deserialize;
use tokio::sync::watch;

use super::documents::{EventDocument, time};
use super::who::Caller;
use super::{Api, Problem};
use crate::controller::news::{News, Since};

/// So many are taken for a listener at once: what it has not read yet stays with the feed, which is bounded.
const AT_ONCE: usize = 32;
/// How often a listener that hears nothing is told that there is nothing.
const HEARTBEAT: Duration = Duration::from_secs(15);

/// From where, and how.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct From {
    /// After this number; absent: a list from the oldest that is remembered, a stream from now.
    after: Option<u64>,
    /// A stream that goes on.
    #[serde(default)]
    follow: bool,
}

pub(super) async fn events(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Query(from): Query<From>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let wants_stream = headers
        .get("accept")
        .and_then(|accept| accept.to_str().ok())
        .is_some_and(|accept| accept.contains("text/event-stream"));
    let feed = api.handle.feed();
    if !from.follow && !wants_stream {
        let since = feed.since(from.after.unwrap_or(0), usize::MAX);
        let all: Vec<EventDocument> = since
            .news
            .iter()
            .filter(|news| sees(&caller, news))
            .map(|news| document(news))
            .collect();
        return Ok(Json(all).into_response());
    }
    // A browser that comes again says what it heard last.
    let heard = headers
        .get("last-event-id")
        .and_then(|id| id.to_str().ok()?.parse().ok());
    let at = heard.or(from.after).unwrap_or_else(|| feed.last());
    let stream = listen(api, caller, at);
    let alive = KeepAlive::new().interval(HEARTBEAT);
    Ok(Sse::new(stream).keep_alive(alive).into_response())
}

/// Where a listener is.
struct Listening {
    api: Api,
    caller: Caller,
    /// The number of what they were told last.
    at: u64,
    /// To be told next.
    next: VecDeque<Event>,
    news: watch::Receiver<u64>,
}

/// What comes after a number. Who does not read fast enough is told that they missed something, and goes on from the
/// oldest that is remembered.
fn listen(
    api: Api,
    caller: Caller,
    at: u64,
) -> impl Stream<Item = Result<Event, Infallible>> + Send {
    let begin = Listening {
        news: api.news.clone(),
        api,
        caller,
        at,
        next: VecDeque::new(),
    };
    stream::unfold(begin, |mut listening| async move {
        let event = listening.next().await?;
        Some((Ok(event), listening))
    })
}

impl Listening {
    /// Waits for what comes next; none: the controller leaves.
    async fn next(&mut self) -> Option<Event> {
        loop {
            if let Some(event) = self.next.pop_front() {
                return Some(event);
            }
            // What comes from here on wakes it.
            self.news.mark_unchanged();
            let Since { news, missed } = self.api.handle.feed().since(self.at, AT_ONCE);
            if missed {
                self.next
                    .push_back(Event::default().event("missed").data("{}"));
            }
            for one in &news {
                self.at = one.number;
                if !sees(&self.caller, one) {
                    continue;
                }
                let data = serde_json::to_string(&document(one)).unwrap_or_default();
                let event = Event::default()
                    .id(one.number.to_string())
                    .event(one.what.topic.word())
                    .data(data);
                self.next.push_back(event);
            }
            if news.is_empty() && self.next.is_empty() {
                self.news.changed().await.ok()?;
            }
        }
    }
}

fn sees(caller: &Caller, news: &News) -> bool {
    match &news.what.object {
        Some(object) => caller.sees(object),
        None => caller.sees_all(),
    }
}

fn document(news: &News) -> EventDocument {
    EventDocument {
        number: news.number,
        at: time(news.at),
        topic: news.what.topic.word().to_owned(),
        source: news.what.source.as_ref().map(ToString::to_string),
        object: news.what.object.as_ref().map(ToString::to_string),
        message: news.what.message.clone(),
    }
}
