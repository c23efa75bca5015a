//! The other end: how the command line asks a controller that runs, here or elsewhere. It speaks HTTP 1.0, in which an answer
//! ends with its connection: nothing else is needed.

use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::documents::EventDocument;
use super::problem::Problem;
use super::way::{Line, Way};

/// How long an answer may take; switching an instance waits for its end.
const PATIENCE: Duration = Duration::from_secs(5 * 60 + 10);
/// How long a stream may be still: its heartbeat is more often.
const STILL: Duration = Duration::from_secs(60);
/// An answer has so many bytes at most.
const LONGEST: u64 = 256 << 20;

/// No answer came.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// There is no controller, or it cannot be reached.
    #[error("ask the controller at {place}")]
    Unreachable {
        /// Where.
        place: String,
        /// Why.
        source: io::Error,
    },
    /// It refuses.
    #[error("{}", .0.detail)]
    Refused(Box<Problem>),
    /// What it answers is not understood.
    #[error("what the controller answers is not understood: another version of keel runs there")]
    NotUnderstood(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// A controller that can be asked.
#[derive(Debug)]
pub struct Controller {
    pub(super) way: Way,
}

impl Controller {
    /// That of a run folder; none where none listens there.
    pub fn at(run: &Path) -> Option<Self> {
        let path = run.join(super::SOCKET);
        // A dead one leaves its socket behind.
        UnixStream::connect(&path).ok()?;
        Some(Self {
            way: Way::Socket(path),
        })
    }

    /// One that is reached in some way. Whether it is there is seen when it is asked.
    pub const fn by(way: Way) -> Self {
        Self { way }
    }

    /// What is answered as text.
    ///
    /// # Errors
    /// It cannot be reached, or refuses.
    pub fn text(&self, path: &str) -> Result<String, ClientError> {
        self.body(&self.way.head(&format!("GET {path}"), ""))
    }

    /// Asks for something.
    ///
    /// # Errors
    /// It cannot be reached, or refuses.
    pub fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, ClientError> {
        understood(&self.text(path)?)
    }

    /// Asks it to do something.
    ///
    /// # Errors
    /// It cannot be reached, or refuses.
    pub fn post<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &impl Serialize,
    ) -> Result<T, ClientError> {
        let body = serde_json::to_string(body);
        let body = body.map_err(|error| ClientError::NotUnderstood(error.into()))?;
        let length = body.len();
        let more = format!("Content-Type: application/json\r\nContent-Length: {length}\r\n");
        let head = self.way.head(&format!("POST {path}"), &more);
        understood(&self.body(&format!("{head}{body}"))?)
    }

    /// Hears what happens, from after a number or from now on, until it is enough or the controller leaves.
    ///
    /// # Errors
    /// It cannot be reached, or refuses.
    pub fn follow(
        &self,
        after: Option<u64>,
        heard: &mut dyn FnMut(EventDocument) -> bool,
    ) -> Result<(), ClientError> {
        let after = after.map_or_else(String::new, |after| format!("&after={after}"));
        let stream = self.ask(
            &self
                .way
                .head(&format!("GET /v1/events?follow=true{after}"), ""),
            STILL,
        )?;
        for line in stream.lines() {
            // The controller left, or is gone.
            let Ok(line) = line else { break };
            let Some(data) = line.strip_prefix("data:") else {
                continue;
            };
            if let Ok(event) = serde_json::from_str(data.trim_start())
                && !heard(event)
            {
                break;
            }
        }
        Ok(())
    }

    fn body(&self, question: &str) -> Result<String, ClientError> {
        let mut text = String::new();
        let answer = self.ask(question, PATIENCE)?;
        let read = answer.take(LONGEST).read_to_string(&mut text);
        read.map_err(|error| self.unreachable(error))?;
        Ok(text)
    }

    /// The body of an answer that is none of a problem.
    fn ask(
        &self,
        question: &str,
        patience: Duration,
    ) -> Result<BufReader<Box<dyn Line>>, ClientError> {
        let failed = |error| self.unreachable(error);
        let mut stream = self.way.connect(patience).map_err(failed)?;
        stream.write_all(question.as_bytes()).map_err(failed)?;
        stream.flush().map_err(failed)?;
        let mut answer = BufReader::new(stream);
        let mut line = String::new();
        answer.read_line(&mut line).map_err(failed)?;
        let status = line
            .split(' ')
            .nth(1)
            .and_then(|word| word.parse::<u16>().ok());
        let Some(status) = status else {
            let error = io::Error::from(io::ErrorKind::UnexpectedEof);
            return Err(ClientError::NotUnderstood(error.into()));
        };
        // What else its head says does not matter: the answer ends with the connection.
        while !line.trim_end().is_empty() {
            line.clear();
            answer.read_line(&mut line).map_err(failed)?;
        }
        if (200..300).contains(&status) {
            return Ok(answer);
        }
        let mut text = String::new();
        answer
            .take(LONGEST)
            .read_to_string(&mut text)
            .map_err(failed)?;
        Err(ClientError::Refused(Box::new(understood(&text)?)))
    }

    pub(super) fn unreachable(&self, source: io::Error) -> ClientError {
        ClientError::Unreachable {
            place: self.way.place(),
            source,
        }
    }
}

pub(super) fn understood<T: DeserializeOwned>(text: &str) -> Result<T, ClientError> {
    serde_json::from_str(text).map_err(|error| ClientError::NotUnderstood(error.into()))
}
