//! The talk with one companion, while it starts a container or runs a program in one.

use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::Path;

use super::start::ContainerError;
use crate::shim::channel;
use crate::shim::messages::{Answer, Event, Order, VERSION};
use crate::sys::companion;

/// The socket to one companion; when it is dropped before the word is given, the companion undoes what it did.
#[derive(Debug)]
pub(super) struct Talk {
    socket: OwnedFd,
}

impl Talk {
    pub(super) fn begin(
        program: &Path,
        name: &str,
        order: &Order,
        descriptors: &[BorrowedFd<'_>],
    ) -> Result<Self, ContainerError> {
        let spawn = |source: io::Error| ContainerError::Spawn {
            program: program.to_path_buf(),
            source,
        };
        let (socket, theirs) = rustix::net::socketpair(
            rustix::net::AddressFamily::UNIX,
            rustix::net::SocketType::STREAM,
            rustix::net::SocketFlags::CLOEXEC,
            None,
        )
        .map_err(|errno| spawn(errno.into()))?;
        let mut child = companion::spawn(program, name, theirs).map_err(spawn)?;
        let talk = Self { socket };
        let sent = channel::send(&talk.socket, VERSION, order, descriptors);
        // Only the fork of the companion is waited for here: its parent has nothing else to do.
        child.wait().map_err(spawn)?;
        sent.map_err(ContainerError::Channel)?;
        Ok(talk)
    }

    pub(super) fn hear(&self) -> Result<(Event, Vec<OwnedFd>), ContainerError> {
        channel::receive(&self.socket, VERSION).map_err(ContainerError::Channel)
    }

    pub(super) fn out_of_turn(&self, event: Event) -> ContainerError {
        self.abandon();
        match event {
            Event::Failed { doing, errno } => ContainerError::Failed {
                doing,
                source: io::Error::from_raw_os_error(errno),
            },
            _ => ContainerError::Protocol,
        }
    }

    /// Says go and waits for the first program.
    pub(super) fn go(&self) -> Result<Vec<String>, ContainerError> {
        if let Err(error) = channel::send(&self.socket, VERSION, &Answer::Go, &[]) {
            // It may have said why before it closed.
            return Err(match self.hear() {
                Ok((event, _)) => self.out_of_turn(event),
                Err(_) => ContainerError::Channel(error),
            });
        }
        match self.hear()? {
            (Event::Started { warnings }, _) => Ok(warnings),
            (event, _) => Err(self.out_of_turn(event)),
        }
    }

    /// Ends the talk before its time and waits until the companion has killed and reaped what it started.
    pub(super) fn abandon(&self) {
        let _ = rustix::net::shutdown(&self.socket, rustix::net::Shutdown::Write);
        while channel::receive::<Event>(&self.socket, VERSION).is_ok() {}
    }
}
