//! Watching the world: what moves is told at once, so that nobody has to look at all of it all the time.
//!
//! Watching only says that something moved, never what is so now: that is seen by looking. So what it misses is late,
//! not wrong, and what it tells in vain costs one look. `places` says what is watched, this file waits.

mod places;

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustix::event::{EventfdFlags, epoll, eventfd};
use rustix::fs::inotify::{self, ReadFlags};

use self::places::Places;
use super::NativeRuntime;
use crate::error::{Class, RuntimeError};
use crate::sys::netlink::Connection;

/// What moved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
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
        self.ending.load(Ordering::SeqCst)
    }

    fn heard(&self) {
        let _ = rustix::io::read(&self.event, &mut [0; 8]);
    }
}

/// What an event of epoll is about.
mod key {
    pub(super) const BELL: u64 = 0;
    pub(super) const MOUNTS: u64 = 1;
    pub(super) const FILES: u64 = 2;
    pub(super) const NETWORK: u64 = 3;
    pub(super) const FIREWALL: u64 = 4;
    /// From here on: processes.
    pub(super) const PROCESSES: u64 = 16;
}

/// Files of a control group that say nothing about its limits, and that are written all the time.
const NO_LIMITS: [&str; 6] = [
    "cgroup.procs",
    "cgroup.threads",
    "tasks",
    "cgroup.events",
    "memory.events",
    "memory.events.local",
];

impl NativeRuntime {
    /// Watches until the bell says that it is enough, and tells what moves. Some of it comes from the caller's own deeds.
    ///
    /// # Errors
    /// The kernel gives no descriptor for one of the things that are watched.
    pub fn watch(&self, bell: &Bell, moved: &dyn Fn(Moved)) -> Result<(), RuntimeError> {
        self.watch_until(bell, moved)
            .map_err(|error| RuntimeError::new("watch the host", Class::Retry, error))
    }

    fn watch_until(&self, bell: &Bell, moved: &dyn Fn(Moved)) -> io::Result<()> {
        let mut links = Connection::open_monitor_of_all().map_err(io::Error::other)?;
        let mut tables = Connection::open_monitor_of_tables().map_err(io::Error::other)?;
        let mounts = std::fs::File::from(rustix::fs::open(
            "/proc/self/mountinfo",
            rustix::fs::OFlags::RDONLY | rustix::fs::OFlags::CLOEXEC,
            rustix::fs::Mode::empty(),
        )?);
        let files = inotify::init(inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK)?;
        let all = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let data = epoll::EventData::new_u64;
        let readable = epoll::EventFlags::IN;
        epoll::add(&all, &bell.event, data(key::BELL), readable)?;
        // mountinfo tells of a change as an error and urgent data (proc_pid_mounts(5)).
        let changed = epoll::EventFlags::PRI | epoll::EventFlags::ERR;
        epoll::add(&all, &mounts, data(key::MOUNTS), changed)?;
        epoll::add(&all, &files, data(key::FILES), readable)?;
        epoll::add(&all, links.as_fd(), data(key::NETWORK), readable)?;
        epoll::add(&all, tables.as_fd(), data(key::FIREWALL), readable)?;
        let mut places = Places::default();
        places.look_again(&self.host, &all, &files);
        let mut events: Vec<epoll::Event> = Vec::with_capacity(64);
        loop {
            events.clear();
            let room = rustix::buffer::spare_capacity(&mut events);
            match epoll::wait(&all, room, None) {
                Err(rustix::io::Errno::INTR) => continue,
                other => other?,
            };
            for event in &events {
                let what = match event.data.u64() {
                    key::BELL => {
                        bell.heard();
                        if bell.ending.load(Ordering::SeqCst) {
                            return Ok(());
                        }
                        places.look_again(&self.host, &all, &files);
                        continue;
                    }
                    key::MOUNTS => Some(Moved::Mount),
                    key::FILES => moved_files(&files, &places),
                    key::NETWORK => heard(&mut links)?.then_some(Moved::Network),
                    key::FIREWALL => heard(&mut tables)?.then_some(Moved::Firewall),
                    process => places.ended(process).then_some(Moved::Process),
                };
                if let Some(what) = what {
                    moved(what);
                }
            }
        }
    }
}

fn heard(connection: &mut Connection) -> io::Result<bool> {
    connection.wait(Duration::ZERO).map_err(io::Error::other)
}

/// Takes all that inotify has to tell; none: nothing that matters.
fn moved_files(files: &OwnedFd, places: &Places) -> Option<Moved> {
    let mut room = [MaybeUninit::uninit(); 16 * 1024];
    let mut reader = inotify::Reader::new(files, &mut room);
    let mut what = None;
    // It ends with EAGAIN when all was read.
    while let Ok(event) = reader.next() {
        if event.events().contains(ReadFlags::QUEUE_OVERFLOW) {
            what = Some(Moved::Folder);
            continue;
        }
        let name = event.file_name().map(|name| name.to_string_lossy());
        if places.is_machine(event.wd()) {
            // Its end is seen by its process.
            if event.events().contains(ReadFlags::MODIFY) {
                what = Some(Moved::Machine);
            }
            continue;
        }
        let of_group = places.is_control_group(event.wd());
        let matters = match &name {
            Some(name) if of_group => !NO_LIMITS.contains(&name.as_ref()),
            // Temporary files of ours begin so.
            Some(name) => !name.starts_with('.'),
            None => true,
        };
        if matters {
            what = Some(match of_group {
                true => Moved::ControlGroup,
                false => Moved::Folder,
            });
        }
    }
    what
}
