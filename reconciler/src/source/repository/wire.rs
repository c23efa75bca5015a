//! A way to a `git-upload-pack` elsewhere: bytes there and back, within a time.

use std::io::{self, Read};
use std::time::{Duration, Instant};

use crate::clock::{Clock as _, HostClock, deadline};
use crate::source::failure::SourceError;

/// A way to a server.
pub(super) trait Wire: Send {
    /// Connects anew. What the server says first is in the answer.
    ///
    /// # Errors
    /// It cannot be reached, or does not let us in.
    fn begin(&mut self) -> Result<Box<dyn Read + '_>, SourceError>;

    /// Asks something; what the server says is in the answer.
    ///
    /// # Errors
    /// As [`Self::begin`].
    fn ask(&mut self, question: &[u8]) -> Result<Box<dyn Read + '_>, SourceError>;

    /// Why an answer ended early, as far as that is known.
    fn complaint(&mut self) -> Option<SourceError>;

    /// What the time is for.
    fn limit(&self) -> Duration;
}

/// When something must be done.
#[derive(Debug, Clone, Copy)]
pub(super) struct Deadline(Instant);

impl Deadline {
    /// So long from now.
    pub(super) fn after(limit: Duration) -> Self {
        Self(deadline(HostClock.instant(), limit))
    }

    /// How much time is left.
    ///
    /// # Errors
    /// None.
    pub(super) fn left(&self) -> io::Result<Duration> {
        let left = self.0.saturating_duration_since(HostClock.instant());
        match left.is_zero() {
            true => Err(io::ErrorKind::TimedOut.into()),
            false => Ok(left),
        }
    }
}

/// An answer that must be there in time: a server that sends a byte now and then would be waited for for ever.
pub(super) struct InTime<R> {
    pub(super) from: R,
    pub(super) deadline: Deadline,
}

impl<R: Read> Read for InTime<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.deadline.left()?;
        self.from.read(buffer).map_err(|error| match error.kind() {
            io::ErrorKind::WouldBlock => io::ErrorKind::TimedOut.into(),
            _ => error,
        })
    }
}

/// What a failed read means.
pub(super) fn failed(wire: &mut dyn Wire, url: &str, error: io::Error) -> SourceError {
    let url = url.to_owned();
    match error.kind() {
        io::ErrorKind::TimedOut => SourceError::TooSlow {
            url,
            after: wire.limit(),
        },
        io::ErrorKind::InvalidData => SourceError::Server {
            url,
            why: error.to_string(),
        },
        io::ErrorKind::FileTooLarge => SourceError::TooLarge {
            what: format!("the answer of {url}"),
            limit: error.to_string(),
        },
        _ => wire.complaint().unwrap_or(SourceError::Unreachable {
            url,
            source: error.into(),
        }),
    }
}
