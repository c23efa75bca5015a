//! [`Exporter`]: the thread that brings spans to a collector. Nobody waits for it but who ends it, and that one not for long.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{
    Receiver, RecvTimeoutError, SyncSender, TrySendError, channel, sync_channel,
};
use std::time::{Duration, Instant};

use manifests::controller::TracesSettings;
use manifests::visible::visible;
use reqwest::Method;

use super::span::{Ended, Origin, request};
use crate::clock::{Clock as _, HostClock};
use crate::error::chain;
use crate::web::access::{AccessError, Hidden, TokenPlace, Variable};
use crate::web::client::{Question, Reach, ask, server};

/// Spans that wait. More are lost, and that is told.
const WAITING: usize = 4096;
/// So many are sent together …
const TOGETHER: usize = 512;
/// … and none waits longer for others.
const SOON: Duration = Duration::from_secs(2);
/// How long the collector may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long it is left alone after a failure, at first and at most.
const AGAIN: (Duration, Duration) = (Duration::from_secs(5), Duration::from_secs(120));
/// Where a collector takes traces, where the address names the server alone (OTLP/HTTP).
const PATH: &str = "/v1/traces";
/// Characters of a refusal that are told.
const ANSWER: usize = 200;

/// No traces can be sent.
#[derive(Debug, thiserror::Error)]
pub enum TracesError {
    /// A token is not where it should be.
    #[error("send traces")]
    Settings(#[from] AccessError),
    /// The kernel gives no thread.
    #[error("begin to send traces")]
    Begin(#[source] std::io::Error),
}

enum Order {
    Send(Box<Ended>),
    Leave,
}

/// Where spans wait.
#[derive(Clone)]
pub(super) struct Queue {
    orders: SyncSender<Order>,
    lost: Arc<AtomicU64>,
}

impl Queue {
    /// Lets it be sent. It waits for nobody.
    pub(super) fn put(&self, ended: Ended) {
        match self.orders.try_send(Order::Send(Box::new(ended))) {
            // Who has left sends nothing any more.
            Ok(()) | Err(TrySendError::Disconnected(_)) => {}
            Err(TrySendError::Full(_)) => {
                self.lost.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
}

/// Sends spans while it is there.
pub struct Exporter {
    queue: Queue,
    leaving: Arc<AtomicBool>,
    /// Hears nothing but the end of the thread.
    ended: Receiver<()>,
}

/// A collector.
struct Collector {
    url: String,
    token: Option<TokenPlace>,
    reach: Reach,
    origin: Origin,
    lost: Arc<AtomicU64>,
}

impl Exporter {
    /// Begins.
    ///
    /// # Errors
    /// A token is not where it should be, or there is no thread.
    pub fn begin(
        settings: &TracesSettings,
        host: &str,
        variable: Variable<'_>,
    ) -> Result<Self, TracesError> {
        let TracesSettings {
            endpoint,
            token,
            authority,
            proxy,
        } = settings;
        let endpoint = endpoint.as_ref();
        let endpoint =
            endpoint.ok_or_else(|| AccessError::new("send traces", "it says nowhere"))?;
        let url = match endpoint.as_str().strip_prefix(endpoint.server()) {
            Some("" | "/") => format!("{}{PATH}", endpoint.server()),
            _ => endpoint.to_string(),
        };
        let token = token.as_ref();
        let token = token.map(|token| TokenPlace::of(token, variable));
        let (orders, queue) = sync_channel(WAITING);
        let lost = Arc::new(AtomicU64::new(0));
        let leaving = Arc::new(AtomicBool::new(false));
        let collector = Collector {
            url,
            token: token.transpose()?,
            reach: Reach {
                authority: authority.as_ref().map(|path| path.as_path().to_owned()),
                proxy: proxy.clone(),
            },
            origin: Origin {
                host: host.to_owned(),
                version: env!("CARGO_PKG_VERSION"),
            },
            lost: Arc::clone(&lost),
        };
        let (alive, ended) = channel::<()>();
        let leaves = Arc::clone(&leaving);
        std::thread::Builder::new()
            .name("keel-traces".to_owned())
            .spawn(move || {
                collector.run(&queue, &leaves);
                drop(alive);
            })
            .map_err(TracesError::Begin)?;
        let queue = Queue { orders, lost };
        Ok(Self {
            queue,
            leaving,
            ended,
        })
    }

    /// Where spans are put.
    pub(super) fn queue(&self) -> Queue {
        self.queue.clone()
    }

    /// Lets what waits be sent, but waits no longer than this.
    pub fn end(self, limit: Duration) {
        self.leaving.store(true, Ordering::SeqCst);
        // A full queue wakes it as well.
        let _ = self.queue.orders.try_send(Order::Leave);
        // It hears nothing: it is cut off when the thread has ended.
        let _ = self.ended.recv_timeout(limit);
    }
}

impl Collector {
    fn run(&self, orders: &Receiver<Order>, leaving: &AtomicBool) {
        let mut batch: Vec<Ended> = Vec::new();
        let mut failures: u32 = 0;
        let mut due: Option<Instant> = None;
        loop {
            let now = HostClock.instant();
            let pause = due.map_or(SOON, |due| due.saturating_duration_since(now));
            match orders.recv_timeout(pause) {
                Ok(Order::Send(ended)) => {
                    batch.push(*ended);
                    due.get_or_insert_with(|| HostClock.instant() + SOON);
                }
                Ok(Order::Leave) | Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => leaving.store(true, Ordering::SeqCst),
            }
            let last = leaving.load(Ordering::SeqCst);
            if last {
                let rest = orders.try_iter().filter_map(|order| match order {
                    Order::Send(ended) => Some(*ended),
                    Order::Leave => None,
                });
                batch.extend(rest.take(WAITING));
            }
            let full = failures == 0 && batch.len() >= TOGETHER;
            let ripe = due.is_some_and(|due| due <= HostClock.instant());
            if !batch.is_empty() && (full || ripe || last) {
                due = match self.send(&batch, failures == 0) {
                    true => {
                        batch.clear();
                        failures = 0;
                        None
                    }
                    false => {
                        failures = failures.saturating_add(1);
                        let over = batch.len().saturating_sub(WAITING);
                        batch.drain(..over);
                        self.lost.fetch_add(over as u64, Ordering::Relaxed);
                        let (first, longest) = AGAIN;
                        let pause = first.saturating_mul(1 << failures.min(5));
                        Some(HostClock.instant() + pause.min(longest))
                    }
                };
            }
            if last {
                return;
            }
        }
    }

    /// Whether these are done with: sent, or refused for good.
    fn send(&self, batch: &[Ended], is_first_try: bool) -> bool {
        let server = server(&self.url);
        let tried = self.post(batch);
        let (why, may_pass) = match tried {
            Ok(()) => {
                let lost = self.lost.swap(0, Ordering::Relaxed);
                if lost > 0 {
                    tracing::warn!(server, lost, "some traces were lost: too much waited");
                }
                return true;
            }
            Err(wrong) => wrong,
        };
        match may_pass {
            true if is_first_try => tracing::warn!(server, why, "traces are not sent yet"),
            true => {}
            false => tracing::error!(server, why, lost = batch.len(), "traces are not taken"),
        }
        !may_pass
    }

    fn post(&self, batch: &[Ended]) -> Result<(), (String, bool)> {
        let token = self.token.as_ref().map(TokenPlace::read).transpose();
        let question = Question {
            method: Method::POST,
            url: Hidden(self.url.clone()),
            bearer: token.map_err(|error| (chain(&error), true))?,
            headers: vec![("content-type", Hidden("application/json".to_owned()))],
            body: request(batch, &self.origin).to_string().into_bytes(),
        };
        let answer = ask(question, &self.reach, PATIENCE);
        let answer = answer.map_err(|error| (chain(&error), true))?;
        if answer.is_good() {
            return Ok(());
        }
        let text = String::from_utf8_lossy(&answer.body);
        let text: String = text.chars().take(ANSWER).collect();
        let why = format!("it answers {}: {}", answer.status, visible(&text));
        Err((why, answer.may_pass()))
    }
}
