//! A client of qemu-guest-agent, over the unix socket of its virtio-serial port.
//!
//! The guest is hostile: every wait has an end, every answer a size, and what is shown of it is plain text. Nothing that
//! it says is more than its own word. The agent answers in order and without numbers, so whatever goes wrong is followed
//! by a new agreement (`guest-sync-delimited`) before the next question: a late answer is never taken for another one.

mod error;
mod exec;
mod files;
mod guest;
#[cfg(test)]
mod tests;

use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::Duration;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::line_socket::{FLOOD, Failure, LineSocket};
use super::plain;
use crate::native::deadline::Deadline;

pub use self::error::AgentError;
pub use self::exec::{GuestCommand, GuestEnd};
pub use self::files::{FileHandle, Whence};
pub use self::guest::{FreezeStatus, GuestInterface, OsInfo, Shutdown};

/// The longest answer to a question whose answer is short.
const LONGEST: usize = 1 << 20;

/// What begins the answer of an agreement, and what makes the agent forget half a question: no byte of UTF-8.
const DELIMITER: u8 = 0xFF;

/// A connection to the agent. The port serves one client; who comes later hears nothing until this one is dropped.
#[derive(Debug)]
pub struct Agent {
    lines: LineSocket,
    patience: Duration,
    /// Whether the next line is the answer to the next question.
    agreed: bool,
}

/// An answer as it is sent.
#[derive(Deserialize)]
struct Answer<T> {
    #[serde(rename = "return")]
    value: Option<T>,
    error: Option<Refusal>,
}

#[derive(Deserialize)]
struct Refusal {
    #[serde(default, deserialize_with = "plain::text")]
    class: String,
    #[serde(default, deserialize_with = "plain::text")]
    desc: String,
}

/// An answer without content: an empty object, whatever is in it.
#[derive(Deserialize)]
struct Done {}

impl Agent {
    /// Connects to the agent's port, which may have a path of any length, and agrees with the agent. `patience` is for
    /// this, and then for each answer.
    ///
    /// # Errors
    /// There is no port; [`AgentError::Silent`]: there is no agent.
    pub fn connect(path: &Path, patience: Duration) -> Result<Self, AgentError> {
        let deadline = Deadline::after(patience);
        let lines = LineSocket::connect(path, &deadline).map_err(|failure| {
            let source = match failure {
                Failure::Silent { after } => return AgentError::Silent { after },
                Failure::Io(source) => source,
                _ => std::io::ErrorKind::ConnectionReset.into(),
            };
            AgentError::Connect {
                path: path.to_owned(),
                source,
            }
        })?;
        Self::agreed(lines, patience, &deadline)
    }

    /// Over a socket that is connected to the agent's port.
    ///
    /// # Errors
    /// As [`Agent::connect`].
    pub fn over(socket: OwnedFd, patience: Duration) -> Result<Self, AgentError> {
        let deadline = Deadline::after(patience);
        Self::agreed(LineSocket::over(socket), patience, &deadline)
    }

    fn agreed(
        lines: LineSocket,
        patience: Duration,
        deadline: &Deadline,
    ) -> Result<Self, AgentError> {
        let mut agent = Self {
            lines,
            patience,
            agreed: false,
        };
        agent.agree(deadline)?;
        Ok(agent)
    }

    /// From now on each answer may take that long.
    pub const fn set_patience(&mut self, patience: Duration) {
        self.patience = patience;
    }

    /// Whether it answers.
    ///
    /// # Errors
    /// As [`AgentError`] says.
    pub fn ping(&mut self) -> Result<(), AgentError> {
        self.ask("guest-ping", Value::Null).map(|Done {}| ())
    }

    /// Lets it answer a number that nobody can guess, and forgets all that comes before that.
    fn agree(&mut self, deadline: &Deadline) -> Result<(), AgentError> {
        const COMMAND: &str = "guest-sync-delimited";
        let mut random = [0; 8];
        ring::rand::SecureRandom::fill(&ring::rand::SystemRandom::new(), &mut random).map_err(
            |_| AgentError::Io {
                source: std::io::Error::other("no random numbers"),
            },
        )?;
        // What every reader of JSON holds exactly.
        let number = u64::from_ne_bytes(random) >> 11;
        let question = json!({"execute": COMMAND, "arguments": {"id": number}});
        let mut bytes = vec![DELIMITER];
        bytes.extend_from_slice(format!("{question}\n").as_bytes());
        self.lines.send(&bytes, None, deadline)?;
        let mut budget = FLOOD;
        loop {
            self.lines.skip_past(DELIMITER, &mut budget, deadline)?;
            // An earlier agreement may be answered only now, and noise may look like one: neither has the number.
            let line = self.lines.line(LONGEST, &mut budget, deadline)?;
            let answer = serde_json::from_slice::<Answer<u64>>(&line);
            if answer.is_ok_and(|answer| answer.value == Some(number)) {
                self.agreed = true;
                return Ok(());
            }
        }
    }

    /// A question with a short answer.
    fn ask<T: DeserializeOwned>(
        &mut self,
        command: &'static str,
        arguments: Value,
    ) -> Result<T, AgentError> {
        let deadline = Deadline::after(self.patience);
        self.ask_until(command, arguments, LONGEST, &deadline)
    }

    /// A question whose answer has at most `limit` bytes.
    fn ask_until<T: DeserializeOwned>(
        &mut self,
        command: &'static str,
        arguments: Value,
        limit: usize,
        deadline: &Deadline,
    ) -> Result<T, AgentError> {
        if !self.agreed {
            self.agree(deadline)?;
        }
        self.agreed = false;
        let mut question = json!({"execute": command});
        if !arguments.is_null() {
            question["arguments"] = arguments;
        }
        self.lines
            .send(format!("{question}\n").as_bytes(), None, deadline)?;
        let mut budget = limit.saturating_add(1);
        let line = self.lines.line(limit, &mut budget, deadline)?;
        let answer: Answer<T> = serde_json::from_slice(&line)
            .map_err(|source| AgentError::NotUnderstood { command, source })?;
        // It was understood, so it was the answer; else the next question begins with an agreement.
        self.agreed = true;
        match answer {
            Answer {
                value: Some(value),
                error: None,
            } => Ok(value),
            Answer {
                error: Some(refusal),
                ..
            } => Err(AgentError::Refused {
                command,
                class: refusal.class,
                text: refusal.desc,
            }),
            Answer { .. } => Err(AgentError::Strange {
                command,
                what: "it has neither a result nor an error",
            }),
        }
    }
}
