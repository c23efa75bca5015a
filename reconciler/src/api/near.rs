//! Our end of the streams of something that runs in an instance: bytes there and back, and the size of its terminal.

use std::io;
use std::num::NonZeroU16;
use std::os::fd::{AsFd as _, OwnedFd};

use rustix::net::{AddressFamily, Shutdown, SocketFlags, SocketType};
use rustix::pty::OpenptFlags;
use rustix::termios::{OptionalActions, Winsize};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// The size of a terminal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Size {
    /// Characters in a line.
    pub columns: NonZeroU16,
    /// Lines.
    pub rows: NonZeroU16,
}

/// Our end.
#[derive(Debug)]
pub(super) struct Near {
    end: AsyncFd<OwnedFd>,
    is_terminal: bool,
}

impl Near {
    /// A pair of sockets, or a terminal that passes each byte as it is: whoever holds its other end asks that for its size.
    ///
    /// # Errors
    /// The kernel gives none.
    pub(super) fn pair(is_terminal: bool) -> io::Result<(Self, OwnedFd)> {
        let (near, far) = match is_terminal {
            true => terminal()?,
            false => rustix::net::socketpair(
                AddressFamily::UNIX,
                SocketType::STREAM,
                SocketFlags::CLOEXEC,
                None,
            )?,
        };
        rustix::io::ioctl_fionbio(&near, true)?;
        #[expect(
            deprecated,
            reason = "it is unsound for what does not own its descriptor, and needs no `unsafe` for what does"
        )]
        let end = AsyncFd::new(near)?;
        Ok((Self { end, is_terminal }, far))
    }

    /// Reads what there is, once there is something. A terminal whose other end is closed answers with an error.
    pub(super) async fn read(&self, into: &mut [u8]) -> io::Result<usize> {
        self.end
            .async_io(Interest::READABLE, |end| {
                Ok(rustix::io::read(end, &mut *into)?)
            })
            .await
    }

    /// Writes all of it.
    pub(super) async fn write_all(&self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let written = self
                .end
                .async_io(Interest::WRITABLE, |end| Ok(rustix::io::write(end, bytes)?))
                .await?;
            bytes = &bytes[written..];
        }
        Ok(())
    }

    /// No more is written. A terminal has no such end: it is closed as a whole.
    pub(super) fn end_input(&self) {
        if !self.is_terminal {
            // Whoever read is gone.
            let _ = rustix::net::shutdown(self.end.get_ref(), Shutdown::Write);
        }
    }

    /// Sizes the terminal.
    ///
    /// # Errors
    /// It is none.
    pub(super) fn resize(&self, size: Size) -> io::Result<()> {
        if !self.is_terminal {
            return Err(io::Error::other("it has no terminal"));
        }
        let size = Winsize {
            ws_row: size.rows.get(),
            ws_col: size.columns.get(),
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        Ok(rustix::termios::tcsetwinsize(self.end.get_ref(), size)?)
    }
}

/// Both ends of a new terminal, which has no size yet.
fn terminal() -> io::Result<(OwnedFd, OwnedFd)> {
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let near = rustix::pty::openpt(flags)?;
    rustix::pty::unlockpt(&near)?;
    let far = rustix::pty::ioctl_tiocgptpeer(&near, flags)?;
    let mut raw = rustix::termios::tcgetattr(far.as_fd())?;
    raw.make_raw();
    rustix::termios::tcsetattr(far.as_fd(), OptionalActions::Now, &raw)?;
    Ok((near, far))
}
