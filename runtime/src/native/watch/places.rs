//! What is watched: the processes of instances and networks, their control groups, the folders of pools.

use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use manifests::path_io;
use rustix::event::epoll;
use rustix::fs::inotify::{self, WatchFlags};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use super::key;
use crate::native::cgroup::{self, InstanceCgroups};
use crate::native::host::Host;
use crate::native::network::dnsmasq::process_files;
use crate::native::shim::state::{SavedState, boot_id};
use crate::shim::watch::HAPPENED;

/// What is watched now.
#[derive(Debug, Default)]
pub(super) struct Places {
    /// Each process by the key of its event.
    processes: BTreeMap<u64, (i32, OwnedFd)>,
    next: u64,
    /// The watches that are on control groups.
    groups: BTreeSet<i32>,
    /// The watches that are on files which companions of machines write when something happens.
    machines: BTreeSet<i32>,
}

impl Places {
    /// Watches what is there by now. What cannot be watched is found by the next full look.
    pub(super) fn look_again(&mut self, host: &Host, all: &OwnedFd, files: &OwnedFd) {
        let mut folders: Vec<PathBuf> =
            vec![host.state().join("instances"), host.state().join("pools")];
        let mut processes: BTreeSet<i32> = BTreeSet::new();
        let mut groups = BTreeSet::new();
        let mut machines = BTreeSet::new();
        let boot = boot_id().unwrap_or_default();
        for name in instances(host) {
            let run = host.config.run.join("instances").join(&name);
            let Ok(Some(state)) = SavedState::read(&run) else {
                continue;
            };
            if state.boot_id != boot {
                continue;
            }
            processes.extend([state.init, state.shim]);
            // Of a machine; a container has none.
            let flags = WatchFlags::MODIFY | WatchFlags::DONT_FOLLOW;
            machines.extend(inotify::add_watch(files, run.join(HAPPENED), flags));
            folders.push(run);
            let own = InstanceCgroups::of(&host.hierarchies, &host.config.state_id, &name);
            for group in own.limit_folders() {
                let flags = WatchFlags::MODIFY | WatchFlags::DELETE_SELF | WatchFlags::ONLYDIR;
                groups.extend(inotify::add_watch(files, group, flags));
            }
        }
        for file in process_files(&host.config.run.join("network")) {
            let text = path_io::read_to_string(&file).unwrap_or_default();
            processes.extend(text.trim().parse::<i32>());
        }
        for pool in path_io::list(host.state().join("pools")).unwrap_or_default() {
            folders.extend(path_io::list(&pool).unwrap_or_default());
            folders.push(pool);
        }
        for folder in folders {
            watch_folder(files, &folder);
        }
        self.groups = groups;
        self.machines = machines;
        self.watch_processes(&processes, all);
    }

    /// A process ended; answers whether it was one of these.
    pub(super) fn ended(&mut self, key: u64) -> bool {
        self.processes.remove(&key).is_some()
    }

    /// Whether a watch of inotify is on a control group.
    pub(super) fn is_control_group(&self, watch: i32) -> bool {
        self.groups.contains(&watch)
    }

    /// Whether a watch of inotify is on what the companion of a machine writes.
    pub(super) fn is_machine(&self, watch: i32) -> bool {
        self.machines.contains(&watch)
    }

    fn watch_processes(&mut self, wanted: &BTreeSet<i32>, all: &OwnedFd) {
        self.processes.retain(|_, (pid, _)| wanted.contains(pid));
        let known: BTreeSet<i32> = self.processes.values().map(|(pid, _)| *pid).collect();
        for pid in wanted.difference(&known) {
            // One that has ended meanwhile was seen to have ended, or is by the next look: the bell is rung before it.
            let Some(process) = Pid::from_raw(*pid) else {
                continue;
            };
            let Ok(held) = pidfd_open(process, PidfdFlags::empty()) else {
                continue;
            };
            let key = key::PROCESSES + self.next;
            self.next += 1;
            let data = epoll::EventData::new_u64(key);
            if epoll::add(all, &held, data, epoll::EventFlags::IN).is_ok() {
                self.processes.insert(key, (*pid, held));
            }
        }
    }
}

/// What came, went or was exchanged in a folder.
fn watch_folder(files: &OwnedFd, folder: &Path) {
    let flags = WatchFlags::CREATE
        | WatchFlags::DELETE
        | WatchFlags::MOVE
        | WatchFlags::DELETE_SELF
        | WatchFlags::MOVE_SELF
        | WatchFlags::ONLYDIR
        | WatchFlags::DONT_FOLLOW;
    let _ = inotify::add_watch(files, folder, flags);
}

/// The names of the instances that have a run folder or control groups.
fn instances(host: &Host) -> BTreeSet<String> {
    let mut names =
        cgroup::instance::instances(&host.hierarchies, &host.config.state_id).unwrap_or_default();
    let folders = path_io::list(host.config.run.join("instances")).unwrap_or_default();
    names.extend(folders.iter().filter_map(|folder| {
        let name = folder.file_name()?.to_str()?;
        Some(name.to_owned())
    }));
    names
}
