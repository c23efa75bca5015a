//! The listeners: one thread with a small runtime of its own, and limits for everybody who comes.

use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixListener as StdListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use axum::Router;
use axum::extract::Request;
use axum::http::header;
use axum::middleware::{Next, from_fn};
use axum::response::Response;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use manifests::path_io::{self, AtPath as _, PathError};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::sync::{Semaphore, oneshot};
use tokio_rustls::TlsAcceptor;

use super::remote::{Remote, by_token};
use super::routes::{dress, for_caller, router};
use super::stall::Stall;
use super::who::{Accounts, LocalDoor};
use super::{Api, Desk, Problem};
use crate::controller::run::Handle;

/// So many connections at once; who comes then waits until one ends.
const CONNECTIONS: usize = 256;
/// How long it may take until somebody has shown who they are.
const GREETING: Duration = Duration::from_secs(10);
/// How long the head of a question may take, also that of the next one on a connection.
const HEAD: Duration = Duration::from_secs(15);
/// How long nobody may read what is written.
const UNREAD: Duration = Duration::from_secs(30);
/// The head of a question has so many bytes at most, …
const HEAD_BYTES: usize = 16 * 1024;
/// … and so many lines.
const HEAD_LINES: usize = 64;
/// So many threads wait for disks at most.
const THREADS: usize = 16;
/// How long answers under way may take when the controller leaves.
const LEAVING: Duration = Duration::from_millis(500);

/// The API cannot be offered.
#[derive(Debug, thiserror::Error)]
pub enum ApiError {
    /// The socket cannot be made.
    #[error("make the socket of the API")]
    Socket(#[from] PathError),
    /// The kernel gives no thread or no descriptor.
    #[error("begin to answer")]
    Begin(#[source] io::Error),
    /// Somebody else has the port, or it is none of this host.
    #[error("listen at {listen}")]
    Listen {
        /// Where.
        listen: std::net::SocketAddr,
        /// Why not.
        source: io::Error,
    },
    /// The settings name a group that this host does not have.
    #[error("`api.socket.group` names the group {0}, which this host does not have")]
    NoGroup(String),
}

/// The API, while it is offered.
#[derive(Debug)]
pub struct Serving {
    path: PathBuf,
    leave: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Drop for Serving {
    fn drop(&mut self) {
        drop(self.leave.take());
        if let Some(thread) = self.thread.take() {
            // It says so itself if it broke down.
            let _ = thread.join();
        }
        if let Err(error) = path_io::remove_file(&self.path) {
            tracing::debug!(%error, "the socket stays");
        }
    }
}

/// Offers it at a path, and over the network where that is wanted. There is no other controller: what lies there was left by
/// a dead one.
///
/// # Errors
/// The socket cannot be made, or the kernel gives no thread.
pub fn serve(
    path: &Path,
    door: LocalDoor,
    remote: Option<Remote>,
    desk: Arc<dyn Desk>,
    handle: Handle,
) -> Result<Serving, ApiError> {
    let listener = listen(path, &door)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(THREADS)
        .build()
        .map_err(ApiError::Begin)?;
    let (leave, left) = oneshot::channel();
    let thread = std::thread::Builder::new()
        .name("keel-api".to_owned())
        .spawn(move || {
            runtime.block_on(async {
                let api = Api::new(desk, handle);
                let router = router(api.clone());
                let near = Near {
                    door,
                    router: dress(router.clone().layer(from_fn(meant_for_us))),
                };
                let far = remote.map(|remote| Far {
                    router: dress(router.layer(from_fn(move |request, next| {
                        by_token(api.clone(), request, next)
                    }))),
                    remote,
                });
                tokio::select! {
                    () = near.accept(listener) => {}
                    () = Far::accept(far) => {}
                    // An error is as good: whoever would tell is gone.
                    _ = left => {}
                }
            });
            runtime.shutdown_timeout(LEAVING);
        })
        .map_err(ApiError::Begin)?;
    Ok(Serving {
        path: path.to_owned(),
        leave: Some(leave),
        thread: Some(thread),
    })
}

/// A socket that only those can open who may: it gets its name when it is closed to all others.
fn listen(path: &Path, door: &LocalDoor) -> Result<StdListener, ApiError> {
    let unborn = path.with_extension("new");
    for old in [&unborn, path] {
        if old.symlink_metadata().is_ok() {
            path_io::remove_file(old)?;
        }
    }
    let group = match &door.settings.group {
        None => None,
        Some(group) => {
            let found = Accounts::read().group(group);
            Some(found.ok_or_else(|| ApiError::NoGroup(group.clone()))?)
        }
    };
    let listener = StdListener::bind(&unborn).at("make", &unborn)?;
    listener.set_nonblocking(true).map_err(ApiError::Begin)?;
    if let Some(group) = group {
        let group = rustix::fs::Gid::from_raw(group);
        let given = rustix::fs::chown(&unborn, None, Some(group));
        given
            .map_err(io::Error::from)
            .at("give to a group", &unborn)?;
    }
    std::fs::set_permissions(&unborn, std::fs::Permissions::from_mode(0o660))
        .at("change the mode of", &unborn)?;
    path_io::rename(&unborn, path)?;
    Ok(listener)
}

/// Whoever comes by the socket.
struct Near {
    door: LocalDoor,
    router: Router,
}

impl Near {
    async fn accept(self, listener: StdListener) {
        let listener = match UnixListener::from_std(listener) {
            Ok(listener) => listener,
            Err(error) => {
                tracing::error!(%error, "the API cannot be offered");
                return;
            }
        };
        let this = Arc::new(self);
        let next = async || listener.accept().await.map(|(stream, _)| stream);
        accept(next, |stream| {
            let this = Arc::clone(&this);
            async move { this.connection(stream).await }
        })
        .await;
    }

    async fn connection(&self, stream: UnixStream) -> Result<(), hyper::Error> {
        let caller = match stream.peer_cred() {
            Ok(peer) => self.door.admits(&Accounts::read(), peer.uid(), peer.gid()),
            Err(_) => None,
        };
        answer(stream, for_caller(&self.router, caller)).await
    }
}

/// Whoever comes over the network.
struct Far {
    remote: Remote,
    router: Router,
}

impl Far {
    /// Never ends where there is no network to come over.
    async fn accept(this: Option<Self>) {
        let Some(this) = this else {
            return std::future::pending().await;
        };
        let listener = this.remote.listener.try_clone();
        let listener = match listener.and_then(TcpListener::from_std) {
            Ok(listener) => listener,
            Err(error) => {
                tracing::error!(%error, "the API cannot be offered over the network");
                return std::future::pending().await;
            }
        };
        let this = Arc::new(this);
        let next = async || listener.accept().await.map(|(stream, _)| stream);
        accept(next, |stream| {
            let this = Arc::clone(&this);
            async move { this.connection(stream).await }
        })
        .await;
    }

    async fn connection(&self, stream: TcpStream) -> Result<(), hyper::Error> {
        let acceptor = TlsAcceptor::from(self.remote.identity.config());
        let Ok(greeted) = tokio::time::timeout(GREETING, acceptor.accept(stream)).await else {
            return Ok(());
        };
        let stream = match greeted {
            Ok(stream) => stream,
            Err(error) => {
                tracing::debug!(%error, "somebody did not show who they are");
                return Ok(());
            }
        };
        let shown = stream.get_ref().1.peer_certificates();
        let caller = shown
            .and_then(|all| all.first())
            .and_then(|one| self.remote.admits(one));
        answer(stream, for_caller(&self.router, caller)).await
    }
}

/// Answers everybody who comes, so many at once.
async fn accept<S, C>(next: impl AsyncFn() -> io::Result<S>, connection: impl Fn(S) -> C)
where
    C: Future<Output = Result<(), hyper::Error>> + Send + 'static,
{
    let room = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let Ok(permit) = Arc::clone(&room).acquire_owned().await else {
            return;
        };
        match next().await {
            Ok(stream) => {
                let connection = connection(stream);
                tokio::spawn(async move {
                    let _permit = permit;
                    if let Err(error) = connection.await {
                        tracing::trace!("a connection ended: {}", crate::error::chain(&error));
                    }
                });
            }
            Err(error) => {
                // No descriptors are left, mostly: some come back when others end.
                tracing::warn!(%error, "nobody can connect");
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
        }
    }
}

/// Answers on one connection until it ends.
pub(super) async fn answer<S>(stream: S, router: Router) -> Result<(), hyper::Error>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let service = TowerToHyperService::new(router);
    http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD)
        .max_buf_size(HEAD_BYTES)
        .max_headers(HEAD_LINES)
        .serve_connection(TokioIo::new(Stall::new(stream, UNREAD)), service)
        .with_upgrades()
        .await
}

/// A browser that came by a forwarded port says which server it means: a page of somebody else whose name leads here is
/// told nothing.
async fn meant_for_us(request: Request, next: Next) -> Result<Response, Problem> {
    let host = request.headers().get(header::HOST);
    let named = host.map(|host| host.to_str().unwrap_or_default());
    match named.is_none_or(is_local) {
        true => Ok(next.run(request).await),
        false => Err(Problem::other_host()),
    }
}

fn is_local(host: &str) -> bool {
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => host.split(':').next().unwrap_or_default(),
    };
    matches!(name, "localhost" | "127.0.0.1" | "::1" | "")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_names_are_not_ours() {
        for (host, ours) in [
            ("localhost", true),
            ("localhost:8080", true),
            ("127.0.0.1:1", true),
            ("[::1]:9", true),
            ("evil.example.org", false),
            ("localhost.example.org", false),
            ("127.0.0.1.example.org:80", false),
        ] {
            assert_eq!(is_local(host), ours, "{host}");
        }
    }
}
