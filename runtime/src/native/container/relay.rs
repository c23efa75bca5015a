//! Moving bytes between the caller's terminal or pipes and a program in a container.

use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::time::Duration;

use manifests::path_io::{AtPath as _, PathError};
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::io::Errno;
use rustix::termios::{OptionalActions, Termios};

use super::exec::{Session, SessionStreams};
use super::start::ContainerError;

/// How often the size of the caller's terminal is looked at.
const LOOK: Duration = Duration::from_millis(200);
/// Steps of one pipe before the others have their turn.
const TURNS: usize = 16;
/// Steps of one pipe after the program has ended: a pipe's 64 KiB and more, but no end for what writes for ever.
const LAST_TURNS: usize = 256;

/// One direction.
#[derive(Debug)]
struct Pipe {
    from: OwnedFd,
    /// Closed when the source has ended and everything is written: the reader then sees the end.
    to: Option<OwnedFd>,
    /// Read and not written yet.
    held: Vec<u8>,
    open: bool,
    /// Towards the program: nothing of it matters once the program has ended.
    input: bool,
}

impl Pipe {
    fn new(from: OwnedFd, to: OwnedFd, input: bool) -> Self {
        Self {
            from,
            to: Some(to),
            held: Vec::new(),
            open: true,
            input,
        }
    }

    /// What the next step waits for.
    fn source(&self) -> Option<PollFd<'_>> {
        let to = self.to.as_ref()?;
        if self.held.is_empty() {
            Some(PollFd::new(&self.from, PollFlags::IN))
        } else {
            Some(PollFd::new(to, PollFlags::OUT))
        }
    }

    /// Reads or writes once. A terminal whose program has gone answers EIO: that is its end.
    fn turn(&mut self) -> Result<(), Errno> {
        let Some(to) = &self.to else {
            return Ok(());
        };
        if self.held.is_empty() {
            let mut buffer = [0; 16 * 1024];
            match rustix::io::read(&self.from, &mut buffer) {
                Ok(0) | Err(Errno::IO) => self.open = false,
                Ok(length) => self.held.extend_from_slice(&buffer[..length]),
                Err(Errno::INTR | Errno::AGAIN) => {}
                Err(errno) => return Err(errno),
            }
        } else {
            match rustix::io::write(to, &self.held) {
                Ok(written) => {
                    self.held.drain(..written);
                }
                Err(Errno::INTR | Errno::AGAIN) => {}
                // Nobody reads any more.
                Err(Errno::PIPE | Errno::IO) => {
                    self.held.clear();
                    self.open = false;
                }
                Err(errno) => return Err(errno),
            }
        }
        if !self.open && self.held.is_empty() {
            self.to = None;
        }
        Ok(())
    }

    /// Takes steps as long as none has to wait.
    fn turns(&mut self, most: usize) -> Result<(), PathError> {
        for _ in 0..most {
            let Some(source) = self.source() else {
                return Ok(());
            };
            if poll(&mut [source], Some(Duration::ZERO))? == 0 {
                return Ok(());
            }
            self.turn().at("move the bytes of", "the program")?;
        }
        Ok(())
    }
}

/// The caller's terminal in raw mode, until this is dropped.
#[derive(Debug)]
pub struct Raw<'fd> {
    terminal: BorrowedFd<'fd>,
    before: Termios,
}

impl<'fd> Raw<'fd> {
    /// Sets raw mode.
    ///
    /// # Errors
    /// It is no terminal.
    pub fn set(terminal: BorrowedFd<'fd>) -> Result<Self, PathError> {
        let before = rustix::termios::tcgetattr(terminal).at("look at", "the terminal")?;
        let mut raw = before.clone();
        raw.make_raw();
        rustix::termios::tcsetattr(terminal, OptionalActions::Now, &raw)
            .at("set raw mode on", "the terminal")?;
        Ok(Self { terminal, before })
    }
}

impl Drop for Raw<'_> {
    fn drop(&mut self) {
        let _ = rustix::termios::tcsetattr(self.terminal, OptionalActions::Now, &self.before);
    }
}

/// The size of a terminal, rows and columns; `None` for what is no terminal, or one that nobody gave a size.
pub fn size(terminal: BorrowedFd<'_>) -> Option<(u16, u16)> {
    let size = rustix::termios::tcgetwinsize(terminal).ok()?;
    (size.ws_row > 0 && size.ws_col > 0).then_some((size.ws_row, size.ws_col))
}

/// Connects a program with the caller's three streams until it ends, and answers its status. For a terminal, set
/// [`Raw`] on `input` before.
///
/// # Errors
/// A stream of the caller fails, or the companion was killed.
pub fn relay(
    session: &mut Session,
    input: BorrowedFd<'_>,
    output: BorrowedFd<'_>,
    errors: BorrowedFd<'_>,
) -> Result<i32, ContainerError> {
    let terminal = matches!(session.streams, SessionStreams::Terminal(_));
    let mut pipes = match &mut session.streams {
        SessionStreams::Terminal(master) => {
            nonblocking(master)?;
            let master = master.as_fd();
            vec![
                Pipe::new(duplicate(input)?, duplicate(master)?, true),
                Pipe::new(duplicate(master)?, duplicate(output)?, false),
            ]
        }
        SessionStreams::Pipes {
            input: write,
            output: read,
            errors: read_errors,
        } => {
            nonblocking(read)?;
            nonblocking(read_errors)?;
            let mut pipes = vec![
                Pipe::new(duplicate(read.as_fd())?, duplicate(output)?, false),
                Pipe::new(duplicate(read_errors.as_fd())?, duplicate(errors)?, false),
            ];
            if let Some(write) = write.take() {
                nonblocking(&write)?;
                pipes.push(Pipe::new(duplicate(input)?, write, true));
            }
            pipes
        }
    };
    let mut last = size(input);
    let mut is_hung_up = false;
    loop {
        let mut sources: Vec<PollFd<'_>> =
            vec![PollFd::from_borrowed_fd(session.ended(), PollFlags::IN)];
        if !is_hung_up {
            // Nothing is waited for there but that the other end goes.
            sources.extend(
                [output, errors].map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::empty())),
            );
        }
        let ends = sources.len();
        sources.extend(pipes.iter().filter_map(Pipe::source));
        poll(&mut sources, terminal.then_some(LOOK))?;
        let over = !sources[0].revents().is_empty();
        let is_gone = |end: &PollFd<'_>| end.revents().intersects(PollFlags::HUP | PollFlags::ERR);
        let nobody_listens = ends > 1 && sources[1..ends].iter().all(is_gone);
        drop(sources);
        if nobody_listens && !over {
            is_hung_up = true;
            // As the kernel does it to what had a terminal. It may have ended by now.
            let _ = session.signal(libc::SIGHUP);
        }
        let now = size(input);
        if now != last
            && let Some((rows, columns)) = now
        {
            last = now;
            session.resize(rows, columns)?;
        }
        if over {
            // What the program wrote last is still on its way; what its own children write later is not waited for.
            for pipe in pipes.iter_mut().filter(|pipe| !pipe.input) {
                pipe.turns(LAST_TURNS)?;
            }
            return session.wait();
        }
        for pipe in &mut pipes {
            pipe.turns(TURNS)?;
        }
    }
}

fn poll(sources: &mut [PollFd<'_>], patience: Option<Duration>) -> Result<usize, PathError> {
    let patience = patience.and_then(|patience| Timespec::try_from(patience).ok());
    match rustix::event::poll(sources, patience.as_ref()) {
        Err(Errno::INTR) => Ok(0),
        other => other.at("wait for", "the program"),
    }
}

fn duplicate(fd: BorrowedFd<'_>) -> Result<OwnedFd, PathError> {
    fd.try_clone_to_owned().at("duplicate", "a stream")
}

fn nonblocking(fd: &OwnedFd) -> Result<(), PathError> {
    rustix::io::ioctl_fionbio(fd, true).at("prepare", "a stream")
}
