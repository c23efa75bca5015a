//! One question to a server and its answer: no redirects, nothing of the environment, bounded in bytes and time. Addresses
//! may let somebody in, so errors name the server alone.

use std::io::Read;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use reqwest::blocking::Client;
use reqwest::redirect::Policy;
use reqwest::{Method, Proxy};

use super::access::{AccessError, Cause, Hidden, authority};
use crate::clock::{Clock as _, HostClock};

/// More of an answer is not read.
const MOST: u64 = 4 << 20;

/// How a server is reached.
#[derive(Debug, Clone, Default)]
pub struct Reach {
    /// A file with certificates that are trusted besides those of the host.
    pub authority: Option<PathBuf>,
    /// The proxy on the way.
    pub proxy: Option<String>,
}

/// A question.
#[derive(Debug, Clone)]
pub struct Question {
    /// `POST`.
    pub method: Method,
    /// The whole address.
    pub url: Hidden,
    /// A token that is sent as `Bearer`.
    pub bearer: Option<Hidden>,
    /// Other headers.
    pub headers: Vec<(&'static str, Hidden)>,
    /// What is sent; JSON where it is not empty and no header says otherwise.
    pub body: Vec<u8>,
}

/// An answer.
#[derive(Debug, Clone)]
pub struct Answer {
    /// `200`.
    pub status: u16,
    /// How long the server wants to be left alone.
    pub retry_after: Option<Duration>,
    /// What it said, as far as it is read.
    pub body: Vec<u8>,
}

impl Answer {
    /// Whether it did what was asked.
    pub const fn is_good(&self) -> bool {
        matches!(self.status, 200..=299)
    }

    /// Whether the same question may have a better answer later.
    pub const fn may_pass(&self) -> bool {
        matches!(self.status, 408 | 425 | 429 | 500..=599)
    }
}

/// No answer.
#[derive(Debug, thiserror::Error)]
pub enum WebError {
    /// The settings name something that cannot be used.
    #[error(transparent)]
    Access(#[from] AccessError),
    /// The server cannot be reached.
    #[error("ask {server}")]
    Unreachable {
        /// Which one.
        server: String,
        /// Why not.
        source: Cause,
    },
    /// It took too long.
    #[error("{server} was not done within {} s", after.as_secs())]
    TooSlow {
        /// Which one.
        server: String,
        /// How long it was let.
        after: Duration,
    },
}

/// `https://host:port` of an address.
pub fn server(url: &str) -> &str {
    let start = url.find("://").map_or(0, |at| at + 3);
    let rest = url.get(start..).unwrap_or_default();
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    url.get(..start + end).unwrap_or_default()
}

/// Asks once.
///
/// # Errors
/// There is no answer within the time.
pub fn ask(question: Question, reach: &Reach, limit: Duration) -> Result<Answer, WebError> {
    let began = HostClock.instant();
    let server = server(&question.url.0).to_owned();
    let failed = |error: reqwest::Error| match error.is_timeout() {
        true => WebError::TooSlow {
            server: server.clone(),
            after: limit,
        },
        false => WebError::Unreachable {
            server: server.clone(),
            source: error.without_url().into(),
        },
    };
    let mut asked = client(reach, limit)?
        .request(question.method, &question.url.0)
        .body(question.body);
    if let Some(Hidden(token)) = &question.bearer {
        asked = asked.bearer_auth(token);
    }
    for (name, Hidden(value)) in &question.headers {
        asked = asked.header(*name, value);
    }
    let answer = asked.send().map_err(&failed)?;
    let retry_after = answer.headers().get("retry-after");
    let retry_after = retry_after
        .and_then(|value| value.to_str().ok()?.trim().parse().ok())
        .map(Duration::from_secs);
    let status = answer.status().as_u16();
    let body = body(answer.take(MOST), began + limit);
    Ok(Answer {
        status,
        retry_after,
        body,
    })
}

/// What comes until the answer ends, or the time. A server that hangs up in the middle has answered all the same.
fn body(mut from: impl Read, until: Instant) -> Vec<u8> {
    let mut body = Vec::new();
    let mut buffer = [0; 16 << 10];
    while HostClock.instant() < until {
        match from.read(&mut buffer) {
            Ok(0) | Err(_) => break,
            Ok(count) => body.extend_from_slice(&buffer[..count]),
        }
    }
    body
}

fn client(reach: &Reach, limit: Duration) -> Result<Client, AccessError> {
    // Whoever was first has set the same; there is one provider in this program.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let mut builder = Client::builder()
        .redirect(Policy::none())
        .referer(false)
        .timeout(limit)
        .user_agent(concat!("evenkeel/", env!("CARGO_PKG_VERSION")));
    builder = match &reach.proxy {
        None => builder.no_proxy(),
        Some(proxy) => {
            let proxy = Proxy::all(proxy).map_err(|error| AccessError::new("use the proxy", error));
            builder.proxy(proxy?)
        }
    };
    if let Some(path) = &reach.authority {
        builder = builder.tls_certs_merge(authority(path)?);
    }
    builder
        .build()
        .map_err(|error| AccessError::new("set up https", error))
}
