//! By https: TLS by rustls, nothing of the environment, redirects to the same server alone.

use std::io::{self, Read};
use std::time::Duration;

use manifests::controller::HttpsAccess;
use reqwest::blocking::{Client, RequestBuilder, Response};
use reqwest::header::{ACCEPT, CONTENT_TYPE};
use reqwest::redirect::Policy;
use reqwest::{Proxy, StatusCode};

use super::wire::{Deadline, InTime, Wire};
use crate::source::failure::{Cause, SourceError};
use crate::web::access::{Hidden, TokenPlace, authority};

/// More redirects are a loop.
const REDIRECTS: usize = 5;
/// How long a server may take until it is connected to.
const CONNECT: Duration = Duration::from_secs(20);

/// The way by https.
pub(super) struct Https {
    client: Client,
    user: Option<String>,
    token: Option<Hidden>,
    /// What is asked: after a redirect what that names.
    base: String,
    url: String,
    limit: Duration,
    deadline: Deadline,
    answer: Option<Response>,
}

impl Https {
    /// A way to a server.
    ///
    /// # Errors
    /// The token or the authority cannot be read, or the proxy is none.
    pub(super) fn new(
        access: &HttpsAccess,
        token: Option<&TokenPlace>,
        url: &str,
        limit: Duration,
    ) -> Result<Self, SourceError> {
        let token = match token {
            None => None,
            Some(token) => Some(token.read()?),
        };
        Ok(Self {
            client: client(access)?,
            user: access.user.clone(),
            token,
            base: url.to_owned(),
            url: url.to_owned(),
            limit,
            deadline: Deadline::after(limit),
            answer: None,
        })
    }

    fn unreachable(&self, error: reqwest::Error) -> SourceError {
        if error.is_timeout() {
            return SourceError::TooSlow {
                url: self.url.clone(),
                after: self.limit,
            };
        }
        SourceError::Unreachable {
            url: self.url.clone(),
            source: error.without_url().into(),
        }
    }

    /// Sends a question and looks at the head of the answer.
    fn send(&mut self, question: RequestBuilder, wanted: &str) -> Result<(), SourceError> {
        let left = self.deadline.left().unwrap_or(Duration::from_millis(1));
        let question = question.header("Git-Protocol", "version=2").timeout(left);
        let question = match (&self.user, &self.token) {
            (Some(user), Some(Hidden(token))) => question.basic_auth(user, Some(token)),
            (None, Some(Hidden(token))) => question.bearer_auth(token),
            (_, None) => question,
        };
        let answer = question.send().map_err(|error| self.unreachable(error))?;
        let url = self.url.clone();
        let status = answer.status();
        let why = status.to_string();
        match status {
            StatusCode::OK => {}
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                let why = match &self.token {
                    Some(_) => format!("{why}; it does not take the token"),
                    None => format!("{why}; it wants a token: `https: {{ token: … }}`"),
                };
                return Err(SourceError::Denied { url, why });
            }
            StatusCode::PROXY_AUTHENTICATION_REQUIRED => {
                return Err(SourceError::Denied {
                    url,
                    why: format!("{why} says the proxy"),
                });
            }
            StatusCode::NOT_FOUND | StatusCode::GONE => {
                return Err(SourceError::NoRepository { url, why });
            }
            _ => return Err(SourceError::Server { url, why }),
        }
        let found = answer.headers().get(CONTENT_TYPE);
        let found = found
            .and_then(|found| found.to_str().ok())
            .unwrap_or_default();
        let kind = found.split(';').next().unwrap_or_default().trim();
        if !kind.eq_ignore_ascii_case(wanted) {
            let why = format!("its answer is of the type `{}`", found.escape_debug());
            return Err(SourceError::Server { url, why });
        }
        self.answer = Some(answer);
        Ok(())
    }

    fn body(&mut self) -> Box<dyn Read + '_> {
        let deadline = self.deadline;
        match self.answer.as_mut() {
            Some(answer) => Box::new(InTime {
                from: Body(answer),
                deadline,
            }),
            None => Box::new(io::empty()),
        }
    }
}

/// The body of an answer, with failures as they are told elsewhere.
struct Body<'a>(&'a mut Response);

impl Read for Body<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer).map_err(|error| {
            let of_client = error
                .get_ref()
                .and_then(|inner| inner.downcast_ref::<reqwest::Error>());
            match of_client.is_some_and(reqwest::Error::is_timeout) {
                true => io::ErrorKind::TimedOut.into(),
                false => error,
            }
        })
    }
}

const SERVICE: &str = "/info/refs?service=git-upload-pack";

impl Wire for Https {
    fn begin(&mut self) -> Result<Box<dyn Read + '_>, SourceError> {
        self.deadline = Deadline::after(self.limit);
        let question = self.client.get(format!("{}{SERVICE}", self.url));
        self.send(question, "application/x-git-upload-pack-advertisement")?;
        // As git does: a redirect of this question is one of the whole repository.
        let found = self.answer.as_ref().map(|answer| answer.url().as_str());
        if let Some(base) = found.and_then(|url| url.strip_suffix(SERVICE)) {
            base.clone_into(&mut self.base);
        }
        Ok(self.body())
    }

    fn ask(&mut self, question: &[u8]) -> Result<Box<dyn Read + '_>, SourceError> {
        self.deadline = Deadline::after(self.limit);
        let question = self
            .client
            .post(format!("{}/git-upload-pack", self.base))
            .header(CONTENT_TYPE, "application/x-git-upload-pack-request")
            .header(ACCEPT, "application/x-git-upload-pack-result")
            .body(question.to_vec());
        self.send(question, "application/x-git-upload-pack-result")?;
        Ok(self.body())
    }

    fn complaint(&mut self) -> Option<SourceError> {
        None
    }

    fn limit(&self) -> Duration {
        self.limit
    }
}

fn client(access: &HttpsAccess) -> Result<Client, SourceError> {
    // Whoever was first has set the same; there is one provider in this program.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let same_server = Policy::custom(|attempt| {
        let first = attempt.previous().first();
        let same = first.is_some_and(|first| first.origin() == attempt.url().origin());
        match same && attempt.previous().len() <= REDIRECTS {
            true => attempt.follow(),
            false => {
                let host = attempt.url().host_str().unwrap_or_default().to_owned();
                attempt.error(format!(
                    "it sends elsewhere, to {host}, which is not followed"
                ))
            }
        }
    });
    let mut builder = Client::builder()
        .https_only(true)
        .redirect(same_server)
        .referer(false)
        .connect_timeout(CONNECT)
        // Servers know clients of git by this.
        .user_agent(concat!(
            "git/2.40 (evenkeel ",
            env!("CARGO_PKG_VERSION"),
            ")"
        ));
    builder = match &access.proxy {
        None => builder.no_proxy(),
        Some(proxy) => builder.proxy(
            Proxy::all(proxy).map_err(|error| settings(format!("use the proxy {proxy}"), error))?,
        ),
    };
    if let Some(path) = &access.authority {
        builder = builder.tls_certs_merge(authority(path.as_path())?);
    }
    builder
        .build()
        .map_err(|error| settings("set up https".to_owned(), error))
}

fn settings(what: String, source: impl Into<Cause>) -> SourceError {
    SourceError::Settings {
        what,
        source: source.into(),
    }
}
