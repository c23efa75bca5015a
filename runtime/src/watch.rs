//! Watching an engine: what moves is told at once, so that nobody has to look at all of it all the time.
//!
//! Watching only says that something moved, never what is so now: that is seen by looking. So what it misses is late,
//! not wrong, and what it tells in vain costs one look.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use manifests::id::Address;
use rustix::event::{EventfdFlags, eventfd};

/// What moved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Moved {
    /// A process that was started here ended.
    Process,
    /// Somebody wrote to a limit of an instance, or its control group is gone.
    ControlGroup,
    /// Something was mounted or unmounted.
    Mount,
    /// A link, an address or a route.
    Network,
    /// A table of the firewall.
    Firewall,
    /// Something in a folder of ours came or went.
    Folder,
    /// QEMU told of something that happened to a machine.
    Machine,
    /// A server told of something; or it is listened to from now on, and nobody told what happened before.
    Server,
    /// A server told who did what.
    Deeds(Vec<Deed>),
}

/// What was done to an object, as its server told it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Deed {
    /// The object.
    pub address: Address,
    /// What was done, in the words of the server: `instance-updated`.
    pub what: String,
    /// Who asked for it: `root`, or the fingerprint of a certificate.
    pub by: String,
}

/// By which a watch is told to look again what there is to be watched, or to end.
#[derive(Debug)]
pub struct Bell {
    event: OwnedFd,
    ending: AtomicBool,
}

impl Bell {
    /// One that nobody listens to yet.
    ///
    /// # Errors
    /// The kernel gives no descriptor.
    pub fn new() -> io::Result<Self> {
        Ok(Self {
            event: eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?,
            ending: AtomicBool::new(false),
        })
    }

    /// What is to be watched may be something else now.
    pub fn look_again(&self) {
        // It fails only where it was rung 2^64 times without anybody listening.
        let _ = rustix::io::write(&self.event, &1u64.to_ne_bytes());
    }

    /// The watch is to end.
    pub fn end(&self) {
        self.ending.store(true, Ordering::SeqCst);
        self.look_again();
    }

    /// Waits whether the watch is to end, at most so long.
    pub fn ends_within(&self, patience: Duration) -> bool {
        let timeout = rustix::event::Timespec::try_from(patience).ok();
        let mut waiting = [rustix::event::PollFd::new(
            &self.event,
            rustix::event::PollFlags::IN,
        )];
        let _ = rustix::event::poll(&mut waiting, timeout.as_ref());
        self.heard();
        self.is_ending()
    }

    /// Whether the watch is to end.
    pub(crate) fn is_ending(&self) -> bool {
        self.ending.load(Ordering::SeqCst)
    }

    /// It was heard, and waits to be rung again.
    pub(crate) fn heard(&self) {
        let _ = rustix::io::read(&self.event, &mut [0; 8]);
    }
}

impl AsFd for Bell {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.event.as_fd()
    }
}
