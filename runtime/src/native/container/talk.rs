//! The talk with one companion, while it starts a container or runs a program in one.

use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::Child;
use std::time::Duration;

use rustix::fs::OFlags;
use rustix::net::sockopt::{Timeout, set_socket_timeout};

use super::start::ContainerError;
use crate::shim::channel::{self, ChannelError};
use crate::shim::messages::{Answer, Event, Order, VERSION};
use crate::sys::companion;
use crate::sys::held_process::HeldProcess;

/// So long after it has let go of its namespaces a process that ends may still seem to live.
const ENDING: Duration = Duration::from_millis(100);
/// How long a companion may take to tell why its init has ended.
const TELLING: Duration = Duration::from_secs(5);

/// The socket to one companion; when it is dropped before the word is given, the companion undoes what it did.
#[derive(Debug)]
pub(super) struct Talk {
    socket: OwnedFd,
    program: PathBuf,
    /// What was executed: it forks the companion and ends.
    child: Option<Child>,
}

impl Drop for Talk {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            // It ends when it cannot hear an order any more.
            let _ = rustix::net::shutdown(&self.socket, rustix::net::Shutdown::Both);
            let _ = child.wait();
        }
    }
}

fn spawn_failed(program: &Path) -> impl Fn(io::Error) -> ContainerError {
    move |source| ContainerError::Spawn {
        program: program.to_path_buf(),
        source,
    }
}

/// A companion that comes up while its caller prepares what it needs: executing it takes a while.
#[derive(Debug)]
pub struct Coming(std::thread::JoinHandle<Result<Talk, ContainerError>>);

impl Coming {
    /// Begins to execute a companion; it ends if there comes no order.
    pub fn begin(program: &Path, name: &str) -> Self {
        let (program, name) = (program.to_path_buf(), name.to_owned());
        Self(std::thread::spawn(move || Talk::begin(&program, &name)))
    }

    /// The talk with it.
    pub(super) fn talk(self) -> Result<Talk, ContainerError> {
        self.0.join().unwrap_or(Err(ContainerError::Protocol))
    }
}

impl Talk {
    /// Executes a companion; it waits for its order, and ends if there comes none.
    pub(super) fn begin(program: &Path, name: &str) -> Result<Self, ContainerError> {
        let spawn = spawn_failed(program);
        let (socket, theirs) = rustix::net::socketpair(
            rustix::net::AddressFamily::UNIX,
            rustix::net::SocketType::STREAM,
            rustix::net::SocketFlags::CLOEXEC,
            None,
        )
        .map_err(|errno| spawn(errno.into()))?;
        let child = companion::spawn(program, name, theirs).map_err(&spawn)?;
        Ok(Self {
            socket,
            program: program.to_path_buf(),
            child: Some(child),
        })
    }

    /// Gives the companion its order.
    pub(super) fn order(
        &mut self,
        order: &Order,
        descriptors: &[BorrowedFd<'_>],
    ) -> Result<(), ContainerError> {
        let sent = channel::send(&self.socket, VERSION, order, descriptors);
        // Only the fork of the companion is waited for here: its parent has nothing else to do.
        if let Some(mut child) = self.child.take() {
            child.wait().map_err(spawn_failed(&self.program))?;
        }
        match sent {
            // Of another version, it hangs up in the middle of a long order; it has said why.
            Err(ChannelError::Closed) => Err(match self.hear() {
                Ok((event, _)) => self.out_of_turn(event),
                Err(error) => error,
            }),
            other => other.map_err(ContainerError::Channel),
        }
    }

    /// From here on the companion is heard for so long at a time: what a container does must not hold up keel.
    pub(super) fn be_patient(&self, patience: Option<Duration>) -> Result<(), ContainerError> {
        set_socket_timeout(&self.socket, Timeout::Recv, patience)
            .map_err(|errno| ContainerError::Channel(errno.into()))
    }

    pub(super) fn hear(&self) -> Result<(Event, Vec<OwnedFd>), ContainerError> {
        channel::receive(&self.socket, VERSION).map_err(|error| match error {
            ChannelError::Io(error) if error.kind() == io::ErrorKind::WouldBlock => {
                ContainerError::TooSlow
            }
            error => ContainerError::Channel(error),
        })
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

    /// Why init, which waits to be plugged in, has ended; none: it lives, or nobody says why.
    pub(super) fn why_ended(&self, init: HeldProcess<'_>) -> Option<ContainerError> {
        // One whose namespaces are gone ends surely, but not before all that it started has (`zap_pid_ns_processes`): that
        // may wait for a disk.
        let ending = match init.open("ns/net", OFlags::PATH) {
            Ok(_) => ENDING,
            Err(_) => TELLING,
        };
        if !init.ends_within(ending).unwrap_or(false) {
            return None;
        }
        self.be_patient(Some(TELLING)).ok()?;
        let heard = self.hear();
        // What is undone then takes the time that it takes.
        self.be_patient(None).ok()?;
        match heard {
            Ok((event @ Event::Failed { .. }, _)) => Some(self.out_of_turn(event)),
            _ => None,
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

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd as _;

    use super::*;
    use crate::shim::messages::Fd;

    /// A talk, and the companion's end of it.
    fn talk() -> (Talk, OwnedFd) {
        use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
        let (socket, theirs) = socketpair(
            AddressFamily::UNIX,
            SocketType::STREAM,
            SocketFlags::CLOEXEC,
            None,
        )
        .unwrap();
        let talk = Talk {
            socket,
            program: PathBuf::new(),
            child: None,
        };
        (talk, theirs)
    }

    /// An order to write one file of so many bytes.
    fn order(length: usize) -> Order {
        use crate::shim::messages::{Confinement, Enter, File, Work};
        let file = File {
            target: "/file".to_owned(),
            content: vec![0; length],
            mode: 0o644,
            uid: 0,
            gid: 0,
            create_parents: false,
            only_if_absent: false,
            ours: Vec::new(),
        };
        let confinement = Confinement {
            capabilities: 0,
            seccomp: Vec::new(),
            limits: Vec::new(),
        };
        let enter = Enter {
            init: Fd { index: 0 },
            privileged: false,
            time: false,
            cgroup2: None,
            joins: Vec::new(),
            confinement,
            work: Work::Files { files: vec![file] },
        };
        Order::Enter {
            enter: Box::new(enter),
        }
    }

    #[test]
    fn a_companion_of_another_build_is_told_by_its_version_however_long_the_order_is() {
        for theirs in [VERSION - 1, VERSION + 1, u32::MAX] {
            for length in [1, 4 << 20] {
                let (mut talk, socket) = talk();
                // As every build of the companion does: it reads the head, says what it makes of it, and ends.
                let companion = std::thread::spawn(move || {
                    let error = channel::receive::<Order>(&socket, theirs).unwrap_err();
                    let event = Event::Failed {
                        doing: format!("hear keel's order: {error}"),
                        errno: libc::EPROTONOSUPPORT,
                    };
                    channel::send(&socket, theirs, &event, &[]).unwrap();
                });
                let failed = match talk.order(&order(length), &[]) {
                    Err(error) => error,
                    Ok(()) => talk.hear().unwrap_err(),
                };
                companion.join().unwrap();
                assert_eq!(
                    crate::native::chain(&failed),
                    format!(
                        "talk to keel-shim: the other side speaks version {theirs} of the protocol, this build speaks \
                         {VERSION}: keel and keel-shim of one build belong together"
                    ),
                    "{length} bytes"
                );
            }
        }
    }

    #[test]
    fn a_companion_that_says_nothing_is_not_heard_for_ever() {
        let (talk, _theirs) = talk();
        talk.be_patient(Some(Duration::from_millis(20))).unwrap();
        assert!(matches!(talk.hear(), Err(ContainerError::TooSlow)));
    }

    #[test]
    fn why_init_has_ended_is_what_the_companion_tells_and_of_one_that_lives_nothing_is_awaited() {
        use rustix::event::{EventfdFlags, eventfd};
        use rustix::fs::Mode;
        let pair = talk;
        let pid = rustix::process::getpid();
        let held = |pidfd: &OwnedFd, talk: &Talk| {
            let init = HeldProcess {
                pid,
                pidfd: pidfd.as_fd(),
            };
            talk.why_ended(init)
                .map(|error| crate::native::chain(&error))
        };
        // As the pidfd of a process that has ended it is readable.
        let ended = rustix::fs::open("/dev/null", OFlags::RDONLY, Mode::empty()).unwrap();
        let lives = eventfd(0, EventfdFlags::CLOEXEC).unwrap();
        let failed = Event::Failed {
            doing: "mount an overlay".to_owned(),
            errno: libc::ENOSPC,
        };
        let (talk, theirs) = pair();
        // It is told a while after init has ended, and only then is the talk ended.
        let companion = std::thread::spawn(move || {
            let later = rustix::event::Timespec::try_from(Duration::from_millis(50)).unwrap();
            rustix::event::poll(&mut [], Some(&later)).unwrap();
            channel::send(&theirs, VERSION, &failed, &[]).unwrap();
        });
        assert_eq!(
            held(&ended, &talk).as_deref(),
            Some("mount an overlay: No space left on device (os error 28)")
        );
        companion.join().unwrap();
        // It has hung up without a word, or init lives.
        assert_eq!(held(&ended, &talk), None);
        let (talk, theirs) = pair();
        assert_eq!(held(&lives, &talk), None);
        drop(theirs);
    }
}
