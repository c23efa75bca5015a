//! What the controller answers to those who ask it: over its socket, for people's tools and the page.
//!
//! `routes` is the one list of what can be asked, by whom, and what is answered; router and OpenAPI document are made from
//! it. `server` has the listeners and their limits, `who` and `remote` say who asks and what they may, `problem` what they are told where
//! it is refused, `documents` what is answered. `status`, `objects`, `plans`, `history`, `revisions`, `stores` and `events` look:
//! they answer from what the controller last saw and cause no look at the host. `steer`, `revisions` and `power` ask for
//! something, through the same doors as the command line, `sockets` has commands and consoles, `near` our end
//! of their streams. `page` is for browsers, `metrics`
//! for Prometheus, `hooks` takes in webhooks by a listener of its own, `client` is the other end for the command line, here or elsewhere (`way`), `session` that of
//! commands and consoles.
//!
//! To add one: a handler in the room of its subject, and its line in `routes`.

pub mod client;
pub mod documents;
mod events;
mod history;
mod hooks;
mod hurry;
mod metrics;
mod near;
mod objects;
mod openapi;
mod page;
mod plans;
mod power;
mod problem;
pub mod remote;
mod revisions;
mod routes;
mod server;
pub mod session;
mod sockets;
mod stall;
mod status;
mod steer;
mod stores;
mod subject;
pub mod way;
mod who;

#[cfg(test)]
mod tests;

use std::os::fd::BorrowedFd;
use std::sync::Arc;

use manifests::id::Address;
use runtime::error::RuntimeError;
use runtime::runtime::{ExecRequest, ExitStatus};
use tokio::sync::{Semaphore, watch};

use crate::controller::run::Handle;
use crate::error::CliError;
use crate::session::Session;
use crate::store::{SqliteStore, StoreError};
use crate::webhook::doors::Doors;

pub use hooks::{Listening, take_webhooks};
pub use near::Size;
pub use openapi::document as openapi;
pub use power::PowerRequest;
pub use problem::Problem;
pub use revisions::{RollbackRequest, UnpinRequest};
pub use server::{ApiError, Serving, serve};
pub use sockets::{ExecEnd, ExecStart, Said};
pub use steer::{ApproveRequest, ReconcileRequest, ResumeRequest, SuspendRequest};
pub use who::{Caller, LocalDoor};

/// The name of the socket in the run folder.
pub const SOCKET: &str = "api.sock";
/// So many questions that look at the disk or change something are answered at once; the others wait.
const AT_ONCE: usize = 8;

/// What questions are answered from.
pub trait Desk: Send + Sync + 'static {
    /// The engine with its state folder.
    fn session(&self) -> Session<'_>;

    /// The newest bytes that an instance wrote to its console.
    ///
    /// # Errors
    /// There is no such instance.
    fn console(&self, instance: &Address, limit: usize) -> Result<Vec<u8>, RuntimeError>;

    /// Connects these to the console of an instance until the input ends.
    ///
    /// # Errors
    /// It does not run.
    fn attach(&self, instance: &Address, streams: [BorrowedFd<'_>; 2]) -> Result<(), RuntimeError>;

    /// Runs a command in an instance to its end; its streams are these.
    ///
    /// # Errors
    /// The instance does not run, or the command could not be started in it.
    fn exec(
        &self,
        instance: &Address,
        request: &ExecRequest,
        streams: [BorrowedFd<'_>; 3],
    ) -> Result<ExitStatus, RuntimeError>;
}

/// What each handler has.
#[derive(Clone)]
pub(crate) struct Api {
    pub(crate) desk: Arc<dyn Desk>,
    pub(crate) handle: Handle,
    /// Sees each piece of news.
    pub(crate) news: watch::Receiver<u64>,
    busy: Arc<Semaphore>,
    /// A place for each command and console that is open.
    pub(crate) sessions: Arc<Semaphore>,
    /// Who may send webhooks: nobody, but where those come in.
    pub(crate) doors: Arc<Doors>,
}

impl Api {
    /// On what the controller tells.
    pub(crate) fn new(desk: Arc<dyn Desk>, handle: Handle) -> Self {
        let (tell, news) = watch::channel(handle.feed().last());
        let feed = Arc::downgrade(handle.feed());
        handle.feed().ring(move |number| {
            if feed.strong_count() > 0 {
                // Nobody may listen.
                let _ = tell.send(number);
            }
        });
        Self {
            desk,
            handle,
            news,
            busy: Arc::new(Semaphore::new(AT_ONCE)),
            sessions: Arc::new(Semaphore::new(sockets::SESSIONS)),
            doors: Arc::default(),
        }
    }

    /// The same where webhooks come in.
    pub(crate) fn with_doors(mut self, doors: Doors) -> Self {
        self.doors = Arc::new(doors);
        self
    }

    /// Does what may wait for disks and the kernel, beside the thread that speaks with everybody.
    pub(crate) async fn block<T: Send + 'static>(
        &self,
        work: impl FnOnce(&dyn Desk) -> Result<T, Problem> + Send + 'static,
    ) -> Result<T, Problem> {
        let permit = Arc::clone(&self.busy).acquire_owned().await;
        let desk = Arc::clone(&self.desk);
        let done = tokio::task::spawn_blocking(move || {
            let _permit = permit;
            work(desk.as_ref())
        });
        match done.await {
            Ok(done) => done,
            Err(_) => Err(Problem::bug()),
        }
    }
}

/// The database of store and journal.
pub(crate) fn store(desk: &dyn Desk) -> Result<SqliteStore, Problem> {
    let store = SqliteStore::open(&desk.session().folder.database());
    store.map_err(|error: StoreError| Problem::from(CliError::from(error)))
}
