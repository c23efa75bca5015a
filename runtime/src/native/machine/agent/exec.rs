//! Programs in the guest.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde_json::json;

use super::{Agent, AgentError, LONGEST};
use crate::native::deadline::Deadline;

/// The pauses between questions whether it is done: short at first, for most programs are.
const FIRST_PAUSE: Duration = Duration::from_millis(10);
const LONGEST_PAUSE: Duration = Duration::from_millis(500);

/// A program to run.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct GuestCommand {
    /// Its path, or a name that the guest finds.
    pub program: String,
    /// Without the program itself.
    pub arguments: Vec<String>,
    /// `NAME=value`; empty: what the agent has.
    pub environment: Vec<String>,
    /// Its standard input.
    pub input: Option<Vec<u8>>,
    /// Whether its output is wanted.
    pub capture: bool,
}

/// How a program ended.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct GuestEnd {
    /// Its exit code, where it left by itself.
    pub code: Option<i32>,
    /// The signal that ended it; on Windows the exception.
    pub signal: Option<i64>,
    /// What it wrote, where that was wanted.
    pub output: Vec<u8>,
    /// What it wrote to its standard error, where that was wanted.
    pub errors: Vec<u8>,
    /// Whether the agent has thrown away the end of either.
    pub truncated: bool,
}

#[derive(Deserialize)]
struct Started {
    pid: i64,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct SentStatus {
    exited: bool,
    exitcode: Option<i64>,
    signal: Option<i64>,
    out_data: Option<String>,
    err_data: Option<String>,
    #[serde(default)]
    out_truncated: bool,
    #[serde(default)]
    err_truncated: bool,
}

const STATUS: &str = "guest-exec-status";

impl SentStatus {
    fn end(self) -> Result<GuestEnd, AgentError> {
        let strange = |what| AgentError::Strange {
            command: STATUS,
            what,
        };
        let bytes = |data: Option<String>| {
            let decoded = STANDARD.decode(data.unwrap_or_default());
            decoded.map_err(|_| strange("its output is no base64"))
        };
        let code = self.exitcode.map(i32::try_from).transpose();
        Ok(GuestEnd {
            code: code.map_err(|_| strange("no program has such an exit code"))?,
            signal: self.signal,
            output: bytes(self.out_data)?,
            errors: bytes(self.err_data)?,
            truncated: self.out_truncated || self.err_truncated,
        })
    }
}

impl Agent {
    /// Starts a program and answers its number in the guest.
    ///
    /// # Errors
    /// As [`AgentError`] says; refused where the guest has no such program, or allows none.
    pub fn start(&mut self, command: &GuestCommand) -> Result<i64, AgentError> {
        let mut arguments = json!({
            "path": command.program,
            "arg": command.arguments,
            "capture-output": command.capture,
        });
        if !command.environment.is_empty() {
            arguments["env"] = json!(command.environment);
        }
        if let Some(input) = &command.input {
            arguments["input-data"] = json!(STANDARD.encode(input));
        }
        let started: Started = self.ask("guest-exec", arguments)?;
        Ok(started.pid)
    }

    /// How a program ended; `None`: it runs. Once it was said that it ended, the agent forgets it. `most` is how many bytes
    /// of its output and errors together are taken.
    ///
    /// # Errors
    /// As [`AgentError`] says; [`AgentError::TooLong`]: it wrote more, and that is lost.
    pub fn ended(&mut self, pid: i64, most: usize) -> Result<Option<GuestEnd>, AgentError> {
        let deadline = Deadline::after(self.patience);
        self.ended_until(pid, most, &deadline)
    }

    fn ended_until(
        &mut self,
        pid: i64,
        most: usize,
        deadline: &Deadline,
    ) -> Result<Option<GuestEnd>, AgentError> {
        // Three bytes are four in base64.
        let limit = (most / 3).saturating_mul(4).saturating_add(LONGEST);
        let status: SentStatus = self.ask_until(STATUS, json!({"pid": pid}), limit, deadline)?;
        status.exited.then(|| status.end()).transpose()
    }

    /// Runs a program to its end, for at most `patience`. `most` as in [`Agent::ended`].
    ///
    /// # Errors
    /// As [`AgentError`] says; [`AgentError::StillRuns`]: it has not ended, and goes on.
    pub fn run(
        &mut self,
        command: &GuestCommand,
        most: usize,
        patience: Duration,
    ) -> Result<GuestEnd, AgentError> {
        let whole = Deadline::after(patience);
        let pid = self.start(command)?;
        let mut pause = FIRST_PAUSE;
        loop {
            if let Some(end) = self.ended(pid, most)? {
                return Ok(end);
            }
            if !whole.pause(pause) {
                return Err(AgentError::StillRuns {
                    pid,
                    after: patience,
                });
            }
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }
}
