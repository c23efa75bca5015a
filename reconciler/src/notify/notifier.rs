//! The threads: one that looks what is to be told, and one for each target, which may hang as long as it likes. Nobody waits
//! for them but who ends them, and that one not for long.

use std::path::{Path, PathBuf};
use std::sync::mpsc::{
    Receiver, RecvTimeoutError, Sender, SyncSender, TrySendError, channel, sync_channel,
};
use std::time::{Duration, Instant};

use manifests::controller::Notification;
use manifests::path_io::{self, PathError};

use super::concerns::{Concerns, Drift, concerns, drift};
use super::message::Message;
use super::target::Target;
use super::teller::{Ledger, Teller};
use crate::clock::{Clock as _, HostClock};
use crate::controller::event::{Event, Now};
use crate::controller::in_force::InForces;
use crate::controller::run::Witness;
use crate::controller::state::State;
use crate::error::chain;
use crate::web::access::{AccessError, Variable};

/// While something is not over it is looked whether somebody is to be told again.
const LOOK: Duration = Duration::from_secs(5);
/// Messages that wait for one target. More are lost, and that is told in the log.
const WAITING: usize = 100;
/// How long it is waited before the second try, the third …
const TRIES: [Duration; 4] = [
    Duration::from_secs(1),
    Duration::from_secs(5),
    Duration::from_secs(30),
    Duration::from_secs(120),
];
/// Longer than this no server is left alone.
const LONGEST: Duration = Duration::from_secs(300);

/// Nobody can be told.
#[derive(Debug, thiserror::Error)]
pub enum NotifyError {
    /// A token is not where it should be.
    #[error("tell {target}")]
    Target {
        /// Which target.
        target: String,
        /// Why not.
        source: AccessError,
    },
    /// The kernel gives no thread.
    #[error("begin to tell")]
    Begin(#[source] std::io::Error),
}

/// What the controller tells.
struct Seen {
    concerns: Concerns,
    drift: Option<Drift>,
    at: jiff::Timestamp,
}

/// Tells people. Dropping it is as [`Notifier::end`] without waiting.
pub struct Notifier {
    seen: Sender<Seen>,
    last: Concerns,
    drift: Option<Drift>,
    /// Hears nothing but the end: of the threads of all targets.
    ended: Receiver<()>,
}

/// One target with its thread.
struct Mouth {
    teller: Teller,
    messages: SyncSender<Message>,
    ledger: PathBuf,
}

impl Notifier {
    /// Begins. What was told is kept in the state folder.
    ///
    /// # Errors
    /// A token is not where it should be, or there are no threads.
    pub fn begin(
        settings: &[Notification],
        host: &str,
        state: &Path,
        variable: Variable<'_>,
    ) -> Result<Self, NotifyError> {
        let folder = state.join("controller").join("told");
        let (alive, ended) = channel::<()>();
        let mut mouths = Vec::new();
        for one in settings {
            let target = Target::of(one, variable).map_err(|source| NotifyError::Target {
                target: one.name.clone(),
                source,
            })?;
            let (messages, orders) = sync_channel(WAITING);
            let ledger = folder.join(format!("{}.json", one.name));
            let name = one.name.clone();
            let alive = alive.clone();
            begin("keel-tell", move || {
                deliver(&name, &target, &orders);
                drop(alive);
            })?;
            let teller = Teller {
                wanted: one.clone(),
                host: host.to_owned(),
                ledger: remembered(&ledger),
            };
            mouths.push(Mouth {
                teller,
                messages,
                ledger,
            });
        }
        let (seen, orders) = channel();
        begin("keel-notify", move || watch(&orders, mouths))?;
        Ok(Self {
            seen,
            last: Concerns::default(),
            drift: None,
            ended,
        })
    }

    /// Lets what is to be told be told, but waits no longer than this.
    pub fn end(self, limit: Duration) {
        let Self { seen, ended, .. } = self;
        drop(seen);
        // It hears nothing: it is cut off when the last thread has ended.
        let _ = ended.recv_timeout(limit);
    }
}

fn begin(name: &str, what: impl FnOnce() + Send + 'static) -> Result<(), NotifyError> {
    let begun = std::thread::Builder::new()
        .name(name.to_owned())
        .spawn(what);
    begun.map(drop).map_err(NotifyError::Begin)
}

impl Witness for Notifier {
    fn heard(&mut self, event: &Event) {
        self.drift = drift(event);
    }

    fn stood(&mut self, state: &State, in_force: &InForces, now: Now) {
        let drift = self.drift.take();
        let concerns = concerns(state, in_force, now);
        if drift.is_none() && concerns == self.last {
            return;
        }
        self.last = concerns.clone();
        let at = now.day;
        // Who broke down was heard of by its panic.
        let _ = self.seen.send(Seen {
            concerns,
            drift,
            at,
        });
    }
}

/// The thread that says what is told.
fn watch(orders: &Receiver<Seen>, mut mouths: Vec<Mouth>) {
    let mut last: Option<Concerns> = None;
    loop {
        let waits = last.as_ref();
        let waits = waits.filter(|concerns| mouths.iter().any(|one| one.teller.waits(concerns)));
        let heard = match waits {
            Some(_) => orders.recv_timeout(LOOK),
            None => orders.recv().map_err(|_| RecvTimeoutError::Disconnected),
        };
        let (drift, at) = match heard {
            Ok(seen) => {
                last = Some(seen.concerns);
                (seen.drift, seen.at)
            }
            Err(RecvTimeoutError::Timeout) => (None, HostClock.now()),
            Err(RecvTimeoutError::Disconnected) => return,
        };
        let Some(concerns) = &last else { continue };
        for mouth in &mut mouths {
            mouth.tell(concerns, drift.as_ref(), at);
        }
    }
}

impl Mouth {
    fn tell(&mut self, concerns: &Concerns, drift: Option<&Drift>, at: jiff::Timestamp) {
        let before = self.teller.ledger.clone();
        let messages = self.teller.tell(concerns, drift, at);
        let target = &self.teller.wanted.name;
        for message in messages {
            match self.messages.try_send(message) {
                Ok(()) | Err(TrySendError::Disconnected(_)) => {}
                Err(TrySendError::Full(message)) => {
                    let what = message.headline();
                    tracing::error!(target, what, "not told: too much waits for this target");
                }
            }
        }
        if before != self.teller.ledger
            && let Err(error) = self.remember()
        {
            let why = chain(&error);
            tracing::error!(
                target,
                why,
                "what was told cannot be kept: it may be told again"
            );
        }
    }

    fn remember(&self) -> Result<(), PathError> {
        if let Some(folder) = self.ledger.parent() {
            path_io::create_dir_all(folder)?;
        }
        // Maps of texts always have a form in JSON.
        let text = serde_json::to_string(&self.teller.ledger).unwrap_or_default();
        path_io::write_durably(&self.ledger, text)
    }
}

/// What a target was told before. Where that cannot be read it is told again.
fn remembered(file: &Path) -> Ledger {
    let text = path_io::read_if_exists(file).ok().flatten();
    let ledger = text.and_then(|text| serde_json::from_str(&text).ok());
    ledger.unwrap_or_default()
}

/// The thread of one target.
fn deliver(name: &str, target: &Target, orders: &Receiver<Message>) {
    for message in orders {
        let what = message.headline();
        let mut tries = TRIES.iter();
        loop {
            let error = match target.send(&message) {
                Ok(()) => {
                    tracing::debug!(target = name, what, "told");
                    break;
                }
                Err(error) => error,
            };
            let why = chain(&error);
            let Some(pause) = tries.next().filter(|_| error.may_pass()) else {
                tracing::error!(target = name, what, why, "not told");
                break;
            };
            tracing::warn!(target = name, what, why, "not told yet");
            pass(error.after().unwrap_or_default().max(*pause).min(LONGEST));
        }
    }
}

/// Waits. This thread does nothing else, and nobody waits for it.
fn pass(time: Duration) {
    let until: Instant = HostClock.instant() + time;
    loop {
        let left = until.saturating_duration_since(HostClock.instant());
        if left.is_zero() {
            return;
        }
        std::thread::park_timeout(left);
    }
}
