//! Webhooks of forges: a listener of its own, of which nothing else can be asked. It speaks plain HTTP, for a proxy.

use std::net::{SocketAddr, TcpListener as StdListener};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use axum::Json;
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use manifests::id::SourceName;
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, oneshot};

use super::documents::Accepted;
use super::routes::{dress, webhooks};
use super::server::{ApiError, answer};
use super::{Api, Desk, Problem};
use crate::controller::event::Request;
use crate::controller::run::Handle;
use crate::webhook::doors::{Doors, Refused, Taken};

/// A delivery has so many bytes at most.
pub(super) const BODY: usize = 1 << 20;
/// So many connections at once; who comes then waits until one ends.
const CONNECTIONS: usize = 64;

/// The listener, while it is there.
#[derive(Debug)]
pub struct Listening {
    leave: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
    /// Where it is reached.
    pub address: SocketAddr,
}

impl Drop for Listening {
    fn drop(&mut self) {
        drop(self.leave.take());
        if let Some(thread) = self.thread.take() {
            // It says so itself if it broke down.
            let _ = thread.join();
        }
    }
}

/// Takes webhooks in, at an address or by a socket that systemd opened there.
///
/// # Errors
/// Somebody else has the port, or the kernel gives no thread.
pub fn take_webhooks(
    listen: SocketAddr,
    opened: Option<OwnedFd>,
    doors: Doors,
    desk: Arc<dyn Desk>,
    handle: Handle,
) -> Result<Listening, ApiError> {
    let wrong = |source| ApiError::Listen { listen, source };
    let listener = match opened {
        Some(opened) => StdListener::from(opened),
        None => StdListener::bind(listen).map_err(wrong)?,
    };
    listener.set_nonblocking(true).map_err(wrong)?;
    let address = listener.local_addr().map_err(wrong)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(2)
        .build()
        .map_err(ApiError::Begin)?;
    let (leave, left) = oneshot::channel();
    let thread = std::thread::Builder::new()
        .name("keel-webhooks".to_owned())
        .spawn(move || {
            runtime.block_on(async {
                let api = Api::new(desk, handle).with_doors(doors);
                tokio::select! {
                    () = accept(listener, api) => {}
                    // An error is as good: whoever would tell is gone.
                    _ = left => {}
                }
            });
            runtime.shutdown_background();
        })
        .map_err(ApiError::Begin)?;
    Ok(Listening {
        leave: Some(leave),
        thread: Some(thread),
        address,
    })
}

async fn accept(listener: StdListener, api: Api) {
    let listener = match TcpListener::from_std(listener) {
        Ok(listener) => listener,
        Err(error) => {
            tracing::error!(%error, "webhooks cannot be taken in");
            return;
        }
    };
    let router = dress(webhooks(api));
    let room = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let Ok(permit) = Arc::clone(&room).acquire_owned().await else {
            return;
        };
        match listener.accept().await {
            Ok((stream, _)) => {
                let router = router.clone();
                tokio::spawn(async move {
                    let _permit = permit;
                    if let Err(error) = answer(stream, router).await {
                        tracing::trace!("a connection ended: {}", crate::error::chain(&error));
                    }
                });
            }
            Err(error) => {
                // No descriptors are left, mostly: some come back when others end.
                tracing::warn!(%error, "no webhook can come in");
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
        }
    }
}

pub(super) async fn take(
    State(api): State<Api>,
    Path(source): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<(StatusCode, Json<Accepted>), Problem> {
    let source = SourceName::new(source);
    let (doors, name) = (Arc::clone(&api.doors), source.clone());
    let taken = api
        .block(move |desk| {
            let clock = desk.session().clock;
            let header = |name: &str| {
                let value = headers.get(name)?.to_str().ok()?;
                Some(value.to_owned())
            };
            let now = (clock.now(), clock.instant());
            Ok(doors.take(&name, &header, &body, now)?)
        })
        .await?;
    let message = match taken {
        Taken::Looks => {
            tracing::info!(%source, "a webhook came: it is looked at");
            api.handle.ask(Request::Fetch(source));
            "it is looked whether there is something new"
        }
        Taken::Ping => "it is heard",
        Taken::Again => "it came before: nothing is done",
    };
    let message = message.to_owned();
    Ok((StatusCode::ACCEPTED, Json(Accepted { message })))
}

impl From<Refused> for Problem {
    fn from(refused: Refused) -> Self {
        let why = crate::error::chain(&refused);
        tracing::debug!(why, "a webhook is refused");
        match refused {
            Refused::NoDoor => Self::not_there(why),
            Refused::Unsigned(_) => Self::unsigned(why),
            Refused::Twice => Self::conflict(why),
            Refused::TooMany(_) => Self::too_many(why),
            Refused::NoSecret(error) => {
                let why = crate::error::chain(&error);
                tracing::error!(why, "webhooks cannot be checked");
                // Where the secret lies is nobody's business out there.
                Self::bug()
            }
        }
    }
}
