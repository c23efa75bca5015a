//! [`Doors`]: the sources that may be told of by a webhook, and what is known of what came.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use manifests::controller::{Forge, SourceSettings};
use manifests::id::SourceName;

use super::guard::{Bucket, Known};
use super::signature::{Delivery, Unsigned, check};
use crate::web::access::{AccessError, TokenPlace, Variable};

/// Deliveries of one source: a person pushes some, a script many, and one look sees them all.
const DELIVERIES: (u32, Duration) = (30, Duration::from_secs(1));
/// Deliveries of one source that nobody signed: checking them costs time.
const UNSIGNED: (u32, Duration) = (60, Duration::from_millis(500));

/// What is said to who sent a delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Taken {
    /// It is looked whether there is something new.
    Looks,
    /// It was a question whether anybody listens.
    Ping,
    /// It came before.
    Again,
}

/// Why a delivery is not taken.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    /// There is no such source, or it has no webhook.
    #[error("no source of this name has a webhook")]
    NoDoor,
    /// Nobody knows who sent it.
    #[error(transparent)]
    Unsigned(#[from] Unsigned),
    /// A generic delivery came before, byte for byte.
    #[error("the same bytes came before: sign something that differs each time, such as the time")]
    Twice,
    /// Too many came.
    #[error("too many deliveries came")]
    TooMany(Duration),
    /// The secret cannot be read.
    #[error("its secret cannot be read")]
    NoSecret(#[from] AccessError),
}

#[derive(Debug)]
struct Door {
    forge: Forge,
    secret: TokenPlace,
    known: Mutex<Seen>,
}

#[derive(Debug)]
struct Seen {
    known: Known,
    deliveries: Bucket,
    unsigned: Bucket,
}

/// The sources that have a webhook.
#[derive(Debug, Default)]
pub struct Doors(BTreeMap<SourceName, Door>);

impl Doors {
    /// Of settings that were checked.
    ///
    /// # Errors
    /// A secret is not where it should be.
    pub fn of(
        sources: &[SourceSettings],
        variable: Variable<'_>,
        now: Instant,
    ) -> Result<Self, AccessError> {
        let mut doors = BTreeMap::new();
        for source in sources {
            let Some(webhook) = &source.webhook else {
                continue;
            };
            let secret = webhook.secret.as_ref().ok_or_else(|| {
                let what = format!("take webhooks of {}", source.name);
                AccessError::new(what, "it has no secret")
            })?;
            let bucket = |(most, each)| Bucket::new(most, each, now);
            let door = Door {
                forge: webhook.forge,
                secret: TokenPlace::of(secret, variable)?,
                known: Mutex::new(Seen {
                    known: Known::default(),
                    deliveries: bucket(DELIVERIES),
                    unsigned: bucket(UNSIGNED),
                }),
            };
            doors.insert(SourceName::new(source.name.as_str()), door);
        }
        Ok(Self(doors))
    }

    /// Whether nobody may come.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Checks a delivery.
    ///
    /// # Errors
    /// It is not taken.
    pub fn take(
        &self,
        source: &SourceName,
        header: &dyn Fn(&str) -> Option<String>,
        body: &[u8],
        (day, now): (Timestamp, Instant),
    ) -> Result<Taken, Refused> {
        let door = self.0.get(source).ok_or(Refused::NoDoor)?;
        if !door.seen().unsigned.is_open(now) {
            return Err(Refused::TooMany(UNSIGNED.1));
        }
        let secret = door.secret.read()?;
        let delivery = Delivery { header, body };
        let signed = match check(door.forge, &secret.0, &delivery, day) {
            Ok(signed) => signed,
            Err(why) => {
                // Who signs is not kept out by who does not, until there is no end of them.
                let _ = door.seen().unsigned.take(now);
                return Err(why.into());
            }
        };
        let mut seen = door.seen();
        if signed.is_ping {
            return Ok(Taken::Ping);
        }
        if seen.known.knows(&signed.id) {
            return match door.forge {
                Forge::Generic => Err(Refused::Twice),
                Forge::Github | Forge::Gitlab | Forge::Gitea | Forge::Forgejo => Ok(Taken::Again),
            };
        }
        // One that comes too soon may come again.
        seen.deliveries.take(now).map_err(Refused::TooMany)?;
        seen.known.remember(&signed.id);
        Ok(Taken::Looks)
    }
}

impl Door {
    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
