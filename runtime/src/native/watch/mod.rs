//! Watching this host: `places` says what is watched, this file waits.

mod places;

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::event::epoll;
use rustix::fs::inotify::{self, ReadFlags};

use self::places::Places;
use super::NativeRuntime;
use crate::error::{Class, RuntimeError};
use crate::sys::netlink::Connection;
use crate::watch::{Bell, Moved};

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
        epoll::add(&all, bell, data(key::BELL), readable)?;
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
                        if bell.is_ending() {
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
