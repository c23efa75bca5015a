//! The listener: one thread with a small runtime of its own, and limits for everybody who comes.

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
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Semaphore, oneshot};

use super::routes::{dress, for_caller, router};
use super::stall::Stall;
use super::who::{Accounts, LocalDoor};
use super::{Api, Desk, Problem};
use crate::controller::run::Handle;

/// So many connections at once; who comes then waits until one ends.
const CONNECTIONS: usize = 256;
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

/// Offers it at a path. There is no other controller: what lies there was left by a dead one.
///
/// # Errors
/// The socket cannot be made, or the kernel gives no thread.
pub fn serve(
    path: &Path,
    door: LocalDoor,
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
                let router = router(Api::new(desk, handle));
                let router = dress(router.layer(from_fn(meant_for_us)));
                let listener = match UnixListener::from_std(listener) {
                    Ok(listener) => listener,
                    Err(error) => {
                        tracing::error!(%error, "the API cannot be offered");
                        return;
                    }
                };
                let door = Arc::new(door);
                tokio::select! {
                    () = accept(&listener, &router, &door) => {}
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

async fn accept(listener: &UnixListener, router: &Router, door: &Arc<LocalDoor>) {
    let room = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let Ok(permit) = Arc::clone(&room).acquire_owned().await else {
            return;
        };
        match listener.accept().await {
            Ok((stream, _)) => {
                let (router, door) = (router.clone(), Arc::clone(door));
                tokio::spawn(async move {
                    let _permit = permit;
                    if let Err(error) = connection(stream, &router, &door).await {
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

async fn connection(
    stream: UnixStream,
    router: &Router,
    door: &LocalDoor,
) -> Result<(), hyper::Error> {
    let caller = match stream.peer_cred() {
        Ok(peer) => door.admits(&Accounts::read(), peer.uid(), peer.gid()),
        Err(_) => None,
    };
    answer(stream, for_caller(router, caller)).await
}

/// Answers on one connection until it ends.
pub(super) async fn answer(stream: UnixStream, router: Router) -> Result<(), hyper::Error> {
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
