//! Why QEMU could not be asked, or did not do as it was told.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::wire::Refusal;
use crate::native::machine::line_socket::{FLOOD, Failure};

/// An error of a monitor.
#[derive(Debug, thiserror::Error)]
pub enum QmpError {
    /// There is no monitor.
    #[error("connect to the monitor {}", path.display())]
    Connect {
        /// Its socket.
        path: PathBuf,
        /// The kernel's answer.
        source: io::Error,
    },
    /// Somebody accepts connections and says nothing.
    #[error(
        "the monitor did not greet within {after:?}: QEMU hangs, or somebody else is connected to it, and it serves one at a time"
    )]
    NoGreeting {
        /// How long that was waited for.
        after: Duration,
    },
    /// No answer came.
    #[error("QEMU did not answer {command} within {after:?}")]
    Silent {
        /// What it was asked.
        command: String,
        /// How long that was waited for.
        after: Duration,
    },
    /// A message is too long to be one.
    #[error("QEMU sent a message of more than {limit} bytes")]
    TooLong {
        /// The most that is read.
        limit: usize,
    },
    /// There is no end of messages that nobody asked for.
    #[error("QEMU sent more than {FLOOD} bytes of other things than what was waited for")]
    Flooded,
    /// A line is no message.
    #[error("QEMU sent what is no JSON")]
    NotJson {
        /// Where it is wrong.
        source: serde_json::Error,
    },
    /// A message against the protocol.
    #[error("QEMU sent what no monitor says: {what}")]
    Strange {
        /// What is wrong with it.
        what: &'static str,
    },
    /// The connection has ended, most often QEMU with it.
    #[error("QEMU has closed the monitor")]
    Closed,
    /// QEMU did not do it.
    #[error("QEMU refused {command}: {text} ({class})")]
    Refused {
        /// What it was told.
        command: String,
        /// `GenericError`, `CommandNotFound`, `DeviceNotFound`, …
        class: String,
        /// Its reason.
        text: String,
    },
    /// The answer is none to this question.
    #[error("QEMU answered {command} with something else")]
    Unexpected {
        /// What it was asked.
        command: String,
        /// What is wrong with it.
        source: serde_json::Error,
    },
    /// The connection is of no use.
    #[error("use the connection to the monitor")]
    Io {
        /// The kernel's answer.
        source: io::Error,
    },
}

impl QmpError {
    /// Nobody could be connected to.
    pub(super) fn no_monitor(path: &Path, failure: Failure) -> Self {
        let source = match failure {
            Failure::Silent { after } => return Self::NoGreeting { after },
            Failure::Io(source) => source,
            _ => std::io::ErrorKind::ConnectionReset.into(),
        };
        Self::Connect {
            path: path.to_owned(),
            source,
        }
    }

    /// What happened while `command` was waited for.
    pub(super) fn of(command: &str, failure: Failure) -> Self {
        match failure {
            Failure::Silent { after } => Self::Silent {
                command: command.to_owned(),
                after,
            },
            Failure::TooLong { limit } => Self::TooLong { limit },
            Failure::Flooded => Self::Flooded,
            Failure::Closed => Self::Closed,
            Failure::Io(source) => Self::Io { source },
        }
    }

    pub(super) fn refused(command: &str, refusal: Refusal) -> Self {
        Self::Refused {
            command: command.to_owned(),
            class: refusal.class,
            text: refusal.text,
        }
    }
}
