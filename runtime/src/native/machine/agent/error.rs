//! Why the agent could not be asked, or did not do as it was told.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use crate::native::machine::line_socket::{FLOOD, Failure};

/// An error of the agent.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// There is no socket: QEMU does not run, or the machine has no such port.
    #[error("connect to the agent's port {}", path.display())]
    Connect {
        /// The socket of the port.
        path: PathBuf,
        /// The kernel's answer.
        source: io::Error,
    },
    /// Nobody answers in the guest.
    #[error(
        "no answer from the agent within {after:?}: qemu-guest-agent does not run in the guest, or hangs, or somebody else is connected to its port"
    )]
    Silent {
        /// How long that was waited for.
        after: Duration,
    },
    /// An answer is too long to be one.
    #[error("the agent sent an answer of more than {limit} bytes")]
    TooLong {
        /// The most that was read.
        limit: usize,
    },
    /// There is no end of what nobody asked for.
    #[error("the agent sent more than {FLOOD} bytes before its answer")]
    Flooded,
    /// An answer is none.
    #[error("the agent sent what is no answer to {command}")]
    NotUnderstood {
        /// What it was asked.
        command: &'static str,
        /// What is wrong with it.
        source: serde_json::Error,
    },
    /// What it sent contradicts itself or the question.
    #[error("the agent's answer to {command} cannot be: {what}")]
    Strange {
        /// What it was asked.
        command: &'static str,
        /// What is wrong with it.
        what: &'static str,
    },
    /// The connection has ended, most often QEMU with it.
    #[error("QEMU has closed the agent's port")]
    Closed,
    /// The agent did not do it.
    #[error("the agent refused {command}: {text} ({class})")]
    Refused {
        /// What it was told.
        command: &'static str,
        /// `GenericError`, `CommandNotFound`, …
        class: String,
        /// Its reason.
        text: String,
    },
    /// A program in the guest is not done.
    #[error("the program still runs in the guest as process {pid} after {after:?}")]
    StillRuns {
        /// Its number in the guest, to ask again.
        pid: i64,
        /// How long it was let.
        after: Duration,
    },
    /// A file is larger than the caller takes.
    #[error("the file has more than {limit} bytes")]
    TooLarge {
        /// The most that was to be read.
        limit: usize,
    },
    /// The connection is of no use.
    #[error("use the connection to the agent")]
    Io {
        /// The kernel's answer.
        source: io::Error,
    },
}

impl From<Failure> for AgentError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Silent { after } => Self::Silent { after },
            Failure::TooLong { limit } => Self::TooLong { limit },
            Failure::Flooded => Self::Flooded,
            Failure::Closed => Self::Closed,
            Failure::Io(source) => Self::Io { source },
        }
    }
}
