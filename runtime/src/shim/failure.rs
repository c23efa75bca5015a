//! What went wrong in the companion: the call with its path, and errno, small enough to be sent to keel.

use std::io;
use std::os::fd::OwnedFd;

use super::channel::send;
use super::messages::{Progress, VERSION};
use crate::sys::process;

/// A failed call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// A verb phrase: `mount overlay on the new root`.
    pub doing: String,
    /// The kernel's answer; `EPROTO` for what is no call.
    pub errno: i32,
}

impl Failure {
    /// A failure that no call reported.
    pub fn new(doing: impl Into<String>, errno: i32) -> Self {
        Self {
            doing: doing.into(),
            errno,
        }
    }
}

/// Tells what failed and ends this process; when even that is impossible, the closed socket does.
pub fn fail(socket: &OwnedFd, failure: Failure) -> ! {
    let progress = Progress::Failed {
        doing: failure.doing,
        errno: failure.errno,
    };
    let _ = send(socket, VERSION, &progress, &[]);
    process::exit_now(125)
}

/// Adds to an error what was being done.
pub trait Doing<T> {
    /// The words are made only where they are needed.
    ///
    /// # Errors
    /// The same error, named.
    fn doing(self, words: impl FnOnce() -> String) -> Result<T, Failure>;

    /// As [`Doing::doing`], for constant words.
    ///
    /// # Errors
    /// The same error, named.
    fn named(self, words: &str) -> Result<T, Failure>;
}

impl<T, E: Into<io::Error>> Doing<T> for Result<T, E> {
    fn doing(self, words: impl FnOnce() -> String) -> Result<T, Failure> {
        self.map_err(|error| Failure {
            doing: words(),
            errno: error.into().raw_os_error().unwrap_or(libc::EPROTO),
        })
    }

    fn named(self, words: &str) -> Result<T, Failure> {
        self.doing(|| words.to_owned())
    }
}
