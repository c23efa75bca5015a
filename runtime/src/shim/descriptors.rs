//! The descriptors that came with a message.

use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};

use super::failure::Failure;
use super::messages::Fd;

/// Descriptors by their place in the message; closed when dropped.
#[derive(Debug)]
pub struct Descriptors(Vec<OwnedFd>);

impl Descriptors {
    /// Takes what was received.
    pub fn new(descriptors: Vec<OwnedFd>) -> Self {
        Self(descriptors)
    }

    /// The descriptor that a message names.
    ///
    /// # Errors
    /// The sender named one that it did not send.
    pub fn get(&self, fd: &Fd) -> Result<BorrowedFd<'_>, Failure> {
        self.0
            .get(fd.index as usize)
            .map(|fd| fd.as_fd())
            .ok_or_else(|| Failure::new("find a descriptor of the message", libc::EBADF))
    }
}
