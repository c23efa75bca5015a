//! Who sent a delivery: checked over the bytes as they came, in constant time.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use manifests::controller::Forge;
use ring::hmac::{HMAC_SHA256, HMAC_SHA512, Key, sign, verify};

/// How far the clocks of sender and host may be apart, where the time is signed.
const APART: Duration = Duration::from_secs(5 * 60);
/// What the secrets of Standard Webhooks begin with; the rest is base64.
const STANDARD_SECRET: &str = "whsec_";

/// A delivery as it came.
pub(super) struct Delivery<'a> {
    /// A header by its name in small letters.
    pub(super) header: &'a dyn Fn(&str) -> Option<String>,
    /// The body.
    pub(super) body: &'a [u8],
}

/// Why nobody knows who sent it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unsigned {
    /// It has no signature.
    #[error("the header {0} is missing")]
    Missing(&'static str),
    /// The signature is somebody else's, or over something else.
    #[error("the signature does not fit")]
    Wrong,
    /// It was signed at another time.
    #[error("it was signed too long ago, or a clock is wrong")]
    Old,
    /// The secret of the settings is none.
    #[error("its secret is empty or malformed")]
    NoSecret,
}

/// A delivery of which it is known who sent it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Signed {
    /// Tells it from every other; nobody can make another one for the same bytes without the secret.
    pub(super) id: Vec<u8>,
    /// It only asks whether anybody listens.
    pub(super) is_ping: bool,
}

/// Checks a delivery.
///
/// # Errors
/// Nobody knows who sent it.
pub(super) fn check(
    forge: Forge,
    secret: &str,
    delivery: &Delivery<'_>,
    now: Timestamp,
) -> Result<Signed, Unsigned> {
    if secret.is_empty() {
        return Err(Unsigned::NoSecret);
    }
    let header = delivery.header;
    let key = || Key::new(HMAC_SHA256, secret.as_bytes());
    match forge {
        Forge::Github => {
            let given = header("x-hub-signature-256");
            let given = given.ok_or(Unsigned::Missing("X-Hub-Signature-256"))?;
            let given = given.strip_prefix("sha256=").ok_or(Unsigned::Wrong)?;
            Ok(Signed {
                id: of_body(&key(), given, delivery.body)?,
                is_ping: header("x-github-event").as_deref() == Some("ping"),
            })
        }
        Forge::Gitea | Forge::Forgejo => {
            // Where both are there the first counts: a wrong one is not made good by the other.
            let given = header("x-forgejo-signature").or_else(|| header("x-gitea-signature"));
            let given = given.ok_or(Unsigned::Missing("X-Gitea-Signature"))?;
            let id = of_body(&key(), &given, delivery.body)?;
            Ok(Signed { id, is_ping: false })
        }
        Forge::Gitlab => match header("webhook-signature") {
            Some(given) => standard(secret, &given, delivery, now),
            None => {
                let given = header("x-gitlab-token");
                let given =
                    given.ok_or(Unsigned::Missing("webhook-signature or X-Gitlab-Token"))?;
                // The time that it takes to compare two signatures says nothing about the texts.
                let expected = sign(&key(), secret.as_bytes());
                verify(&key(), given.as_bytes(), expected.as_ref()).map_err(|_| Unsigned::Wrong)?;
                let one = header("x-gitlab-event-uuid").unwrap_or_default();
                let mut id = sign(&key(), delivery.body).as_ref().to_vec();
                id.extend_from_slice(one.as_bytes());
                Ok(Signed { id, is_ping: false })
            }
        },
        Forge::Generic => {
            if let Some(given) = header("webhook-signature") {
                return standard(secret, &given, delivery, now);
            }
            let given = header("x-signature").ok_or(Unsigned::Missing("X-Signature"))?;
            let id = match given.split_once('=') {
                Some(("sha256", given)) => of_body(&key(), given, delivery.body)?,
                Some(("sha512", given)) => {
                    let key = Key::new(HMAC_SHA512, secret.as_bytes());
                    of_body(&key, given, delivery.body)?
                }
                // SHA-1 is not one of them.
                _ => return Err(Unsigned::Wrong),
            };
            Ok(Signed { id, is_ping: false })
        }
    }
}

fn of_body(key: &Key, given: &str, body: &[u8]) -> Result<Vec<u8>, Unsigned> {
    let given = hex::decode(given).map_err(|_| Unsigned::Wrong)?;
    verify(key, body, &given).map_err(|_| Unsigned::Wrong)?;
    Ok(given)
}

/// As standardwebhooks.com has it, and GitLab with a signing token.
fn standard(
    secret: &str,
    given: &str,
    delivery: &Delivery<'_>,
    now: Timestamp,
) -> Result<Signed, Unsigned> {
    let header = delivery.header;
    let id = header("webhook-id").ok_or(Unsigned::Missing("webhook-id"))?;
    let at = header("webhook-timestamp").ok_or(Unsigned::Missing("webhook-timestamp"))?;
    let secret = match secret.strip_prefix(STANDARD_SECRET) {
        Some(encoded) => STANDARD.decode(encoded).map_err(|_| Unsigned::NoSecret)?,
        None => secret.as_bytes().to_vec(),
    };
    let key = Key::new(HMAC_SHA256, &secret);
    let signed = [id.as_bytes(), b".", at.as_bytes(), b".", delivery.body].concat();
    let is_right = |one: &str| {
        let given = one.strip_prefix("v1,").map(|given| STANDARD.decode(given));
        matches!(given, Some(Ok(given)) if verify(&key, &signed, &given).is_ok())
    };
    // There are two while a secret is exchanged.
    if !given.split(' ').take(8).any(is_right) {
        return Err(Unsigned::Wrong);
    }
    let at = at
        .parse()
        .ok()
        .and_then(|at| Timestamp::from_second(at).ok());
    let at = at.ok_or(Unsigned::Old)?;
    if now.duration_since(at).unsigned_abs() > APART {
        return Err(Unsigned::Old);
    }
    let id = id.into_bytes();
    Ok(Signed { id, is_ping: false })
}
