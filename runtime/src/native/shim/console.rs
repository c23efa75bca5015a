//! A connection to a container's console, and the caller's terminal connected with it.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use manifests::path_io::{AtPath as _, PathError};
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags};

use crate::native::container::relay::size;
use crate::shim::control::{INPUT, WINDOW};

/// The longest piece of input that the companion takes at once.
const PIECE: usize = 256;
/// How often the size of the caller's terminal is looked at.
const LOOK: Duration = Duration::from_millis(200);
/// Ctrl-a, then q, detaches, as in LXC; Ctrl-a twice sends one.
const PREFIX: u8 = 0x01;
const DETACH: u8 = b'q';

/// A connection to a container's console. Dropping it detaches.
#[derive(Debug)]
pub struct Console {
    socket: OwnedFd,
}

/// Why a console was left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Left {
    /// The person detached, or their input ended.
    Detached,
    /// The container ended.
    Ended,
}

impl Console {
    pub(super) fn new(socket: OwnedFd) -> Self {
        // The timeout that was set for the first answer does not hold for output.
        let _ = rustix::net::sockopt::set_socket_timeout(
            &socket,
            rustix::net::sockopt::Timeout::Recv,
            None,
        );
        Self { socket }
    }

    /// Waits for output; `None`: the container has ended.
    ///
    /// # Errors
    /// The kernel's answer.
    pub fn read(&self, buffer: &mut [u8]) -> Result<Option<usize>, io::Error> {
        loop {
            match rustix::net::recv(&self.socket, &mut *buffer, RecvFlags::empty()) {
                Err(Errno::INTR) => {}
                Ok((0, _)) | Err(Errno::CONNRESET) => return Ok(None),
                Ok((length, _)) => return Ok(Some(length)),
                Err(errno) => return Err(errno.into()),
            }
        }
    }

    /// Types into the console.
    ///
    /// # Errors
    /// The container has ended.
    pub fn write(&self, input: &[u8]) -> Result<(), io::Error> {
        for piece in input.chunks(PIECE) {
            let mut packet = Vec::with_capacity(piece.len() + 1);
            packet.push(INPUT);
            packet.extend_from_slice(piece);
            self.send(&packet)?;
        }
        Ok(())
    }

    /// Tells the console its size.
    ///
    /// # Errors
    /// The container has ended.
    pub fn resize(&self, rows: u16, columns: u16) -> Result<(), io::Error> {
        let (rows, columns) = (rows.to_le_bytes(), columns.to_le_bytes());
        self.send(&[WINDOW, rows[0], rows[1], columns[0], columns[1]])
    }

    fn send(&self, packet: &[u8]) -> Result<(), io::Error> {
        loop {
            match rustix::net::send(&self.socket, packet, SendFlags::NOSIGNAL) {
                Err(Errno::INTR) => {}
                other => return Ok(other.map(drop)?),
            }
        }
    }

    /// Connects the caller's terminal until the person detaches or the container ends. Set
    /// [`Raw`](crate::native::container::relay::Raw) before, where `input` is a terminal.
    ///
    /// # Errors
    /// A stream of the caller fails.
    pub fn relay(&self, input: BorrowedFd<'_>, output: BorrowedFd<'_>) -> Result<Left, PathError> {
        let mut keys = Keys::default();
        let mut last = None;
        let mut buffer = [0; 4096];
        loop {
            let now = size(input);
            if now != last
                && let Some((rows, columns)) = now
            {
                last = now;
                self.resize(rows, columns).at("size", "the console")?;
            }
            let mut sources = [
                PollFd::new(&self.socket, PollFlags::IN),
                PollFd::from_borrowed_fd(input, PollFlags::IN),
            ];
            let look = Timespec::try_from(LOOK).ok();
            match rustix::event::poll(&mut sources, look.as_ref()) {
                Err(Errno::INTR) => continue,
                other => other.at("wait for", "the console")?,
            };
            let (from_console, from_person) = (sources[0].revents(), sources[1].revents());
            if !from_console.is_empty() {
                match self.read(&mut buffer).at("read", "the console")? {
                    None => return Ok(Left::Ended),
                    Some(length) => write_all(output, &buffer[..length])?,
                }
            }
            if !from_person.is_empty() {
                let length = rustix::io::read(input, &mut buffer).at("read", "the terminal")?;
                let (typed, detach) = keys.filter(&buffer[..length]);
                self.write(&typed).at("write to", "the console")?;
                if detach || length == 0 {
                    return Ok(Left::Detached);
                }
            }
        }
    }
}

fn write_all(output: BorrowedFd<'_>, mut bytes: &[u8]) -> Result<(), PathError> {
    while !bytes.is_empty() {
        match rustix::io::write(output.as_fd(), bytes) {
            Err(Errno::INTR) => {}
            other => bytes = &bytes[other.at("write to", "the terminal")?..],
        }
    }
    Ok(())
}

/// Finds the keys that detach, also when they come in two pieces.
#[derive(Debug, Default)]
struct Keys {
    prefixed: bool,
}

impl Keys {
    /// What is meant for the console, and whether the person wants to leave.
    fn filter(&mut self, typed: &[u8]) -> (Vec<u8>, bool) {
        let mut passed = Vec::with_capacity(typed.len());
        for &key in typed {
            if !std::mem::take(&mut self.prefixed) {
                if key == PREFIX {
                    self.prefixed = true;
                } else {
                    passed.push(key);
                }
            } else if key == DETACH {
                return (passed, true);
            } else {
                passed.push(PREFIX);
                if key != PREFIX {
                    passed.push(key);
                }
            }
        }
        (passed, false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(pieces: &[&[u8]], passed: &[u8], detach: bool) {
        let mut keys = Keys::default();
        let mut all = Vec::new();
        let mut left = false;
        for piece in pieces {
            let (bytes, now) = keys.filter(piece);
            all.extend(bytes);
            left = now;
        }
        assert_eq!((all.as_slice(), left), (passed, detach), "{pieces:?}");
    }

    #[test]
    fn ctrl_a_q_detaches() {
        check(&[b"ls\x01q"], b"ls", true);
        check(&[b"\x01", b"q"], b"", true);
        check(&[b"\x01\x01q"], b"\x01q", false);
        check(&[b"\x01x"], b"\x01x", false);
        check(&[b"q"], b"q", false);
    }
}
