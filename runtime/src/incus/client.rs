//! [`Client`]: requests of the REST API. Writes are waited for whether they are done at once or in the background, and
//! nothing is ever concluded from the text of an error: whoever wants to know looks again.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use serde::de::DeserializeOwned;
use serde_json::Value;

use super::http::{Body, Connection, HttpError, Request, Response, Stream};
use super::transport::{Caller, Endpoint, TransportError};
use crate::error::{Class, RuntimeError};

/// How long a server may take for an answer; operations are waited for otherwise.
const PATIENCE: Duration = Duration::from_secs(60);
/// One look at an operation takes so many seconds at most, so that proxies in between do not cut it.
const POLL: u64 = 10;
/// How often a write begins anew because somebody else wrote in between.
pub(super) const TRIES: usize = 5;

/// A request came to nothing.
#[derive(Debug, thiserror::Error)]
pub(super) enum ClientError {
    #[error(transparent)]
    Call(#[from] TransportError),
    #[error("{method} {path}")]
    Http {
        method: &'static str,
        path: String,
        source: HttpError,
    },
    #[error("the server answers {status}: {message}")]
    Refused { status: u16, message: String },
    #[error("the server does not know who asks: its answer says that this client is not trusted")]
    Untrusted,
    #[error("the answer to {path} is not understood")]
    NotUnderstood {
        path: String,
        source: serde_json::Error,
    },
    #[error("listen at {path}")]
    Socket {
        path: String,
        source: Box<tungstenite::Error>,
    },
    #[error("{message}")]
    Failed { message: String },
    #[error("how it ended is not known any more")]
    Vanished,
    #[error("it is not done after {0:?}")]
    TooSlow(Duration),
}

impl ClientError {
    /// Whether there is no such thing.
    pub(super) const fn is_not_found(&self) -> bool {
        matches!(self, Self::Refused { status: 404, .. })
    }

    /// Whether it was changed since it was looked at.
    pub(super) const fn is_stale(&self) -> bool {
        matches!(self, Self::Refused { status: 412, .. })
    }

    /// Whether nobody knows any more how it ended: only how it is now tells.
    pub(super) const fn is_unknown(&self) -> bool {
        matches!(self, Self::Vanished)
    }

    fn class(&self) -> Class {
        match self {
            Self::Call(TransportError::Call { .. }) | Self::Http { .. } | Self::Socket { .. } => {
                Class::Retry
            }
            Self::Call(_) | Self::Untrusted => Class::NeedsOperator,
            Self::Refused { status, .. } => match status {
                401 | 403 => Class::NeedsOperator,
                404 | 409 | 412 => Class::Conflict,
                400 => Class::Refused,
                _ => Class::Retry,
            },
            Self::NotUnderstood { .. } => Class::Bug,
            Self::Failed { .. } | Self::Vanished | Self::TooSlow(_) => Class::Retry,
        }
    }

    /// As a failed deed.
    pub(super) fn doing(self, what: &str) -> RuntimeError {
        RuntimeError::new(what, self.class(), self)
    }
}

/// The envelope of every answer.
#[derive(serde::Deserialize)]
struct Envelope<T> {
    #[serde(default = "Option::default")]
    metadata: Option<T>,
    #[serde(default)]
    operation: String,
    #[serde(default)]
    error: String,
    #[serde(default, rename = "type")]
    kind: String,
}

/// What an operation came to.
#[derive(serde::Deserialize)]
pub(super) struct Operation {
    #[serde(default)]
    status_code: u16,
    #[serde(default)]
    err: String,
    /// What it says of itself.
    #[serde(default)]
    pub(super) metadata: Option<Value>,
}

/// How long an operation is waited for, and who is told.
pub(super) struct Waiting<'a> {
    pub(super) cancel: Option<&'a AtomicBool>,
    pub(super) timeout: Duration,
    pub(super) progress: Option<&'a (dyn Fn(&str) + Sync)>,
}

impl Waiting<'_> {
    /// For what is quickly done.
    pub(super) const SHORT: Self = Self {
        cancel: None,
        timeout: Duration::from_secs(120),
        progress: None,
    };
}

/// A server, with connections that are kept.
pub(super) struct Client {
    caller: Caller,
    idle: Mutex<Vec<Connection>>,
}

impl Client {
    pub(super) fn new(endpoint: Endpoint) -> Result<Self, TransportError> {
        Ok(Self {
            caller: Caller::new(endpoint)?,
            idle: Mutex::default(),
        })
    }

    pub(super) const fn endpoint(&self) -> &Endpoint {
        self.caller.endpoint()
    }

    /// A connection of its own.
    pub(super) fn call(&self) -> Result<Box<dyn Stream>, ClientError> {
        Ok(self.caller.call()?)
    }

    fn send(
        &self,
        method: &'static str,
        path: &str,
        headers: &[(&'static str, String)],
        body: Option<&Value>,
        patience: Duration,
    ) -> Result<Response, ClientError> {
        let failed = |source| ClientError::Http {
            method,
            path: path.to_owned(),
            source,
        };
        loop {
            let kept = self.idle().pop();
            let was_kept = kept.is_some();
            let mut connection = match kept {
                Some(connection) => connection,
                None => Connection::new(self.caller.call()?),
            };
            let request = Request {
                method,
                path,
                headers: headers.to_vec(),
                body: body.map_or(Body::None, |body| Body::Json(body.to_string().into_bytes())),
            };
            tracing::trace!(method, path, "asks the server");
            match connection.ask(request, patience) {
                Ok(response) => {
                    if connection.goes_on {
                        self.idle().push(connection);
                    }
                    return Ok(response);
                }
                // The server closed it meanwhile. What changes something is not said twice.
                Err(HttpError::NoAnswer(_)) if was_kept && method == "GET" => {}
                Err(error) => return Err(failed(error)),
            }
        }
    }

    /// Sends bytes of a file; on a connection of its own.
    pub(super) fn upload(
        &self,
        path: &str,
        headers: Vec<(&'static str, String)>,
        length: u64,
        from: &mut dyn std::io::Read,
        waiting: &Waiting<'_>,
    ) -> Result<Operation, ClientError> {
        let mut connection = Connection::new(self.caller.call()?);
        let request = Request {
            method: "POST",
            path,
            headers,
            body: Body::Bytes(length, from),
        };
        let response = connection
            .ask(request, PATIENCE.max(waiting.timeout))
            .map_err(|source| ClientError::Http {
                method: "POST",
                path: path.to_owned(),
                source,
            })?;
        self.written(path, &response, waiting)
    }

    /// The bytes of an answer that is no document, with its headers; none where there is no such thing.
    pub(super) fn bytes(&self, path: &str) -> Result<Option<Response>, ClientError> {
        let response = self.send("GET", path, &[], None, PATIENCE)?;
        match response.status {
            200 => Ok(Some(response)),
            404 => Ok(None),
            status => Err(refused(status, &response)),
        }
    }

    /// A document; none where there is no such thing.
    pub(super) fn get<T: DeserializeOwned>(&self, path: &str) -> Result<Option<T>, ClientError> {
        Ok(self.get_tagged(path)?.map(|(document, _)| document))
    }

    /// A document that is there.
    pub(super) fn have<T: DeserializeOwned>(&self, path: &str) -> Result<T, ClientError> {
        self.get(path)?.ok_or_else(|| ClientError::Refused {
            status: 404,
            message: format!("there is no {path}"),
        })
    }

    /// A list; the server says `null` for an empty one.
    pub(super) fn list<T: DeserializeOwned>(&self, path: &str) -> Result<Vec<T>, ClientError> {
        let response = self.send("GET", path, &[], None, PATIENCE)?;
        let envelope: Envelope<Vec<T>> = understood_as(path, &response)?;
        Ok(envelope.metadata.unwrap_or_default())
    }

    /// A document and its ETag, by which a write says what it was made from.
    pub(super) fn get_tagged<T: DeserializeOwned>(
        &self,
        path: &str,
    ) -> Result<Option<(T, Option<String>)>, ClientError> {
        let response = self.send("GET", path, &[], None, PATIENCE)?;
        match response.status {
            200 => {}
            404 => return Ok(None),
            status => return Err(refused(status, &response)),
        }
        let etag = response.header("etag").map(str::to_owned);
        let envelope: Envelope<T> = serde_json::from_slice(&response.body).map_err(|source| {
            ClientError::NotUnderstood {
                path: path.to_owned(),
                source,
            }
        })?;
        match envelope.metadata {
            Some(document) => Ok(Some((document, etag))),
            None => Ok(None),
        }
    }

    /// Changes something, and waits until it is done.
    pub(super) fn write(
        &self,
        method: &'static str,
        path: &str,
        body: Option<&Value>,
        etag: Option<&str>,
        waiting: &Waiting<'_>,
    ) -> Result<Operation, ClientError> {
        let mut headers = Vec::new();
        if let Some(etag) = etag {
            headers.push(("If-Match", etag.to_owned()));
        }
        let response = self.send(method, path, &headers, body, PATIENCE.max(waiting.timeout))?;
        self.written(path, &response, waiting)
    }

    /// Begins something in the background; its operation.
    pub(super) fn begin(
        &self,
        path: &str,
        body: &Value,
    ) -> Result<(String, Option<Value>), ClientError> {
        let response = self.send("POST", path, &[], Some(body), PATIENCE)?;
        let envelope = understood(path, &response)?;
        Ok((envelope.operation, envelope.metadata))
    }

    fn written(
        &self,
        path: &str,
        response: &Response,
        waiting: &Waiting<'_>,
    ) -> Result<Operation, ClientError> {
        let envelope = understood(path, response)?;
        if response.status != 202 && envelope.kind != "async" {
            return Ok(Operation {
                status_code: 200,
                err: String::new(),
                metadata: envelope.metadata,
            });
        }
        self.wait(&envelope.operation, waiting)
    }

    /// Waits for an operation in polls of a few seconds. One that is gone ended, and nobody knows how.
    pub(super) fn wait(
        &self,
        operation: &str,
        waiting: &Waiting<'_>,
    ) -> Result<Operation, ClientError> {
        let (path, query) = operation.split_once('?').unwrap_or((operation, ""));
        let separator = if query.is_empty() { "" } else { "&" };
        let path = format!("{path}/wait?{query}{separator}timeout={POLL}");
        let mut left = waiting.timeout.as_secs().max(1);
        loop {
            let patience = Duration::from_secs(POLL) + PATIENCE;
            let response = self.send("GET", &path, &[], None, patience)?;
            if response.status == 404 {
                return Err(ClientError::Vanished);
            }
            let envelope: Envelope<Operation> = understood_as(&path, &response)?;
            // Of one that failed the server may say so in the place of a document, under 200 all the same.
            if envelope.kind == "error" {
                return Err(ClientError::Failed {
                    message: envelope.error,
                });
            }
            let operation = envelope.metadata.ok_or(ClientError::Vanished)?;
            match operation.status_code {
                200 => return Ok(operation),
                100..200 => {}
                _ => {
                    return Err(ClientError::Failed {
                        message: operation.err,
                    });
                }
            }
            if let (Some(tell), Some(Value::Object(facts))) =
                (waiting.progress, &operation.metadata)
            {
                let phase = facts.iter().find(|(key, _)| key.ends_with("_progress"));
                if let Some(text) = phase.and_then(|(_, value)| value.as_str()) {
                    tell(text);
                }
            }
            let leaving = waiting
                .cancel
                .is_some_and(|cancel| cancel.load(Ordering::Relaxed));
            if left <= POLL || leaving {
                return Err(ClientError::TooSlow(waiting.timeout));
            }
            left -= POLL;
        }
    }

    fn idle(&self) -> std::sync::MutexGuard<'_, Vec<Connection>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn understood_as<T: DeserializeOwned>(
    path: &str,
    response: &Response,
) -> Result<Envelope<T>, ClientError> {
    if response.status >= 400 {
        return Err(refused(response.status, response));
    }
    serde_json::from_slice(&response.body).map_err(|source| ClientError::NotUnderstood {
        path: path.to_owned(),
        source,
    })
}

fn understood(path: &str, response: &Response) -> Result<Envelope<Value>, ClientError> {
    understood_as(path, response)
}

fn refused(status: u16, response: &Response) -> ClientError {
    let envelope = serde_json::from_slice::<Envelope<Value>>(&response.body);
    let message = match envelope {
        Ok(envelope) if !envelope.error.is_empty() => envelope.error,
        _ => String::from_utf8_lossy(&response.body[..response.body.len().min(300)]).into_owned(),
    };
    ClientError::Refused { status, message }
}

/// A path of the API, with its parts escaped: `at(&["instances", "web"], &[("project", "shop")])`.
pub(super) fn at(parts: &[&str], query: &[(&str, &str)]) -> String {
    let mut path = "/1.0".to_owned();
    for part in parts {
        path.push('/');
        escape(part, &mut path);
    }
    for (index, (key, value)) in query.iter().enumerate() {
        path.push(if index == 0 { '?' } else { '&' });
        path.push_str(key);
        path.push('=');
        escape(value, &mut path);
    }
    path
}

/// Everything but the unreserved characters of RFC 3986.
fn escape(text: &str, out: &mut String) {
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                out.push(char::from(byte));
            }
            other => out.push_str(&format!("%{other:02X}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_cannot_leave_their_place_in_a_path() {
        assert_eq!(
            at(&["instances", "../a b?c"], &[("project", "x&y=ü")]),
            "/1.0/instances/..%2Fa%20b%3Fc?project=x%26y%3D%C3%BC"
        );
    }
}
