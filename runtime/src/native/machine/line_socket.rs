//! Lines over a unix stream socket, to and from somebody who is not trusted: every wait has an end, every line a size.

use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd as _, BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, Shutdown,
    SocketAddrUnix, SocketFlags, SocketType,
};

use crate::native::deadline::Deadline;

/// How much is read at once.
const PIECE: usize = 64 << 10;

/// How much may come besides what is waited for.
pub(super) const FLOOD: usize = 32 << 20;

/// How often a socket with a full queue is tried.
const AGAIN: Duration = Duration::from_millis(10);

/// Why nothing could be sent or received.
#[derive(Debug)]
pub(super) enum Failure {
    /// The deadline is over.
    Silent { after: Duration },
    /// A line has no end within this many bytes.
    TooLong { limit: usize },
    /// More than [`FLOOD`] bytes came, and what was waited for was not among them.
    Flooded,
    /// The other side has closed the socket, or ended.
    Closed,
    /// The kernel's answer.
    Io(io::Error),
}

impl From<Errno> for Failure {
    fn from(errno: Errno) -> Self {
        match errno {
            Errno::PIPE | Errno::CONNRESET => Self::Closed,
            other => Self::Io(other.into()),
        }
    }
}

/// A connected socket and what was read of it too early.
#[derive(Debug)]
pub(super) struct LineSocket {
    socket: OwnedFd,
    read: Vec<u8>,
    /// How much of `read` was taken.
    taken: usize,
    /// The other side broke the rules; what else it may have sent is not heard.
    given_up: bool,
}

impl LineSocket {
    /// Connects to a socket of any path: its folder is opened and named by its descriptor, for an address holds 108 bytes.
    pub(super) fn connect(path: &Path, deadline: &Deadline) -> Result<Self, Failure> {
        let name = path.file_name().ok_or(Errno::INVAL)?;
        let folder = path.parent().filter(|folder| *folder != Path::new(""));
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let folder = rustix::fs::open(folder.unwrap_or(Path::new(".")), flags, Mode::empty())?;
        let mut address = format!("/proc/self/fd/{}/", folder.as_raw_fd()).into_bytes();
        address.extend_from_slice(name.as_encoded_bytes());
        let address = SocketAddrUnix::new(&*address)?;
        let kind = SocketType::STREAM;
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = rustix::net::socket_with(AddressFamily::UNIX, kind, flags, None)?;
        loop {
            match rustix::net::connect(&socket, &address) {
                // Others wait there to be accepted.
                Err(Errno::AGAIN) if deadline.pause(AGAIN) => {}
                Err(Errno::AGAIN) => {
                    return Err(Failure::Silent {
                        after: deadline.after,
                    });
                }
                Err(Errno::INTR) => {}
                other => break other?,
            }
        }
        Ok(Self::over(socket))
    }

    /// Over a socket that is connected.
    pub(super) fn over(socket: OwnedFd) -> Self {
        Self {
            socket,
            read: Vec::new(),
            taken: 0,
            given_up: false,
        }
    }

    /// The place of the first that has something to read, or has ended; none: the deadline is over.
    pub(super) fn first_that_speaks(
        sockets: &[Self],
        deadline: &Deadline,
    ) -> Result<Option<usize>, Failure> {
        let mut events = Vec::with_capacity(sockets.len());
        for each in sockets {
            events.push(PollFd::new(&each.socket, PollFlags::IN));
        }
        if events.is_empty() || !deadline.wait_on(&mut events)? {
            return Ok(None);
        }
        Ok(events.iter().position(|event| !event.revents().is_empty()))
    }

    /// Whether it has something to read, or has ended: now, or before the deadline, which may be over.
    pub(super) fn speaks(&self, deadline: &Deadline) -> bool {
        let mut events = [PollFd::new(&self.socket, PollFlags::IN)];
        let now = Timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        rustix::event::poll(&mut events, Some(&now)).is_ok_and(|spoken| spoken > 0)
            || deadline.wait_on(&mut events).unwrap_or(false)
    }

    /// Sends all of it, the descriptor with its first byte. What could not be sent to its end ends the connection: nobody
    /// would understand what comes after it.
    pub(super) fn send(
        &mut self,
        bytes: &[u8],
        descriptor: Option<BorrowedFd<'_>>,
        deadline: &Deadline,
    ) -> Result<(), Failure> {
        if self.given_up {
            return Err(Failure::Closed);
        }
        let mut sent = 0;
        while sent < bytes.len() {
            let descriptor = descriptor.filter(|_| sent == 0);
            match self.send_some(&bytes[sent..], descriptor) {
                Ok(more) => sent += more,
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => {
                    if let Err(failure) = self.wait(PollFlags::OUT, deadline) {
                        if sent > 0 {
                            self.hang_up();
                        }
                        return Err(failure);
                    }
                }
                Err(errno) => return Err(errno.into()),
            }
        }
        Ok(())
    }

    fn send_some(
        &self,
        bytes: &[u8],
        descriptor: Option<BorrowedFd<'_>>,
    ) -> rustix::io::Result<usize> {
        let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
        let Some(descriptor) = descriptor else {
            return rustix::net::send(&self.socket, bytes, flags);
        };
        let descriptors = [descriptor];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        control.push(SendAncillaryMessage::ScmRights(&descriptors));
        rustix::net::sendmsg(&self.socket, &[IoSlice::new(bytes)], &mut control, flags)
    }

    /// The next line of at most `limit` bytes, without its end. `budget` is what may come at all; the line is taken off.
    pub(super) fn line(
        &mut self,
        limit: usize,
        budget: &mut usize,
        deadline: &Deadline,
    ) -> Result<Vec<u8>, Failure> {
        let line = self.up_to(b'\n', limit, deadline)?;
        *budget = match budget.checked_sub(line.len() + 1) {
            Some(left) => left,
            None => return Err(self.given_up(Failure::Flooded)),
        };
        Ok(line)
    }

    /// What comes before the next `end`, of at most `limit` bytes; the end is taken too.
    fn up_to(&mut self, end: u8, limit: usize, deadline: &Deadline) -> Result<Vec<u8>, Failure> {
        let mut seen = 0;
        loop {
            let waiting = &self.read[self.taken..];
            if let Some(at) = waiting[seen..].iter().position(|byte| *byte == end) {
                let length = seen + at;
                let line = waiting[..length].to_vec();
                self.taken += length + 1;
                if length > limit {
                    return Err(self.given_up(Failure::TooLong { limit }));
                }
                return Ok(line);
            }
            seen = waiting.len();
            if seen > limit {
                return Err(self.given_up(Failure::TooLong { limit }));
            }
            self.receive(deadline)?;
        }
    }

    /// Forgets what comes up to and with the next `end`, of at most `budget` bytes.
    pub(super) fn skip_past(
        &mut self,
        end: u8,
        budget: &mut usize,
        deadline: &Deadline,
    ) -> Result<(), Failure> {
        loop {
            let waiting = &self.read[self.taken..];
            let found = waiting.iter().position(|byte| *byte == end);
            let skipped = found.map_or(waiting.len(), |at| at + 1);
            self.taken += skipped;
            *budget = match budget.checked_sub(skipped) {
                Some(left) => left,
                None => return Err(self.given_up(Failure::Flooded)),
            };
            if found.is_some() {
                return Ok(());
            }
            self.receive(deadline)?;
        }
    }

    /// Reads what has come, or waits for some. A deadline that is over stops even one that never pauses.
    fn receive(&mut self, deadline: &Deadline) -> Result<(), Failure> {
        if self.given_up {
            return Err(Failure::Closed);
        }
        self.read.drain(..self.taken);
        self.taken = 0;
        if self.read.is_empty() {
            // A long line is no reason to keep so much for ever.
            self.read.shrink_to(2 * PIECE);
        }
        loop {
            self.read.reserve(PIECE);
            let room = rustix::buffer::spare_capacity(&mut self.read);
            let received = rustix::net::recv(&self.socket, room, RecvFlags::DONTWAIT);
            match received {
                Ok((0, _)) => return Err(Failure::Closed),
                Ok(_) if deadline.left().is_zero() && deadline.after > Duration::ZERO => {
                    return Err(Failure::Silent {
                        after: deadline.after,
                    });
                }
                Ok(_) => return Ok(()),
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => self.wait(PollFlags::IN, deadline)?,
                Err(errno) => return Err(errno.into()),
            }
        }
    }

    fn wait(&self, event: PollFlags, deadline: &Deadline) -> Result<(), Failure> {
        match deadline.wait_on(&mut [PollFd::new(&self.socket, event)])? {
            true => Ok(()),
            false => Err(Failure::Silent {
                after: deadline.after,
            }),
        }
    }

    fn given_up(&mut self, failure: Failure) -> Failure {
        self.hang_up();
        failure
    }

    /// Ends the connection: whatever is asked of it then says that it is closed.
    pub(super) fn hang_up(&mut self) {
        let _ = rustix::net::shutdown(&self.socket, Shutdown::Both);
        self.read = Vec::new();
        self.taken = 0;
        self.given_up = true;
    }
}
