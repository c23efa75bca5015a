//! Freezing, thawing and killing an instance as a whole: by cgroup2 where it is mounted, else by the v1 freezer.

use std::collections::BTreeSet;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use manifests::path_io::{self, AtPath as _};
use rustix::event::{PollFd, PollFlags};
use rustix::fs::{Mode, OFlags};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use super::hierarchies::Controller;
use super::instance::{CgroupError, InstanceCgroups};
use super::patience::Patience;

/// Whether an instance runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Frozen {
    /// It runs.
    Thawed,
    /// Some of its processes do not stop yet.
    Freezing,
    /// No process of it runs.
    Frozen,
}

impl InstanceCgroups {
    /// Whether the instance is frozen, by whomever and in whichever generation.
    ///
    /// # Errors
    /// A state file that is there and cannot be read or understood.
    pub fn frozen(&self) -> Result<Frozen, CgroupError> {
        let mut found = Frozen::Thawed;
        if let Some(payload) = self.payload()
            && let Some(events) = path_io::read_if_exists(payload.join("cgroup.events"))?
        {
            // `cgroup.freeze` is only the wish, and one set above counts as well.
            let wish = path_io::read_if_exists(payload.join("cgroup.freeze"))?;
            if event(&events, "frozen") == Some(1) {
                return Ok(Frozen::Frozen);
            } else if wish.is_some_and(|wish| wish.trim() == "1") {
                found = Frozen::Freezing;
            }
        }
        if let Some(file) = self.v1_freezer()
            && let Some(text) = path_io::read_if_exists(&file)?
        {
            match text.trim() {
                "THAWED" => {}
                "FREEZING" => found = Frozen::Freezing,
                "FROZEN" => return Ok(Frozen::Frozen),
                text => {
                    return Err(CgroupError::Strange {
                        path: file,
                        text: text.to_owned(),
                    });
                }
            }
        }
        Ok(found)
    }

    /// Stops every process of the container, not the shim.
    ///
    /// # Errors
    /// [`CgroupError::NotFrozen`] when the patience is over (a process sleeps where it cannot be stopped); it is then
    /// thawed again.
    pub fn freeze(&self, mut patience: Patience) -> Result<(), CgroupError> {
        let file = self.freeze_with(true)?;
        let events = self.payload().map(|payload| payload.join("cgroup.events"));
        let watched = events.as_deref().and_then(|path| watch(path).ok());
        loop {
            if self.frozen()? == Frozen::Frozen {
                return Ok(());
            }
            if !wait(&mut patience, watched.as_ref()) {
                self.thaw()?;
                return Err(CgroupError::NotFrozen { path: file });
            }
        }
    }

    /// Lets every process run again, in whichever generation it was stopped.
    ///
    /// # Errors
    /// A state file that cannot be written.
    pub fn thaw(&self) -> Result<(), CgroupError> {
        let mut wishes = Vec::new();
        if let Some(v2) = &self.v2 {
            // Somebody may have frozen the instance's folder and so its shim.
            wishes = vec![v2.join("cgroup.freeze"), v2.join("payload/cgroup.freeze")];
        }
        for wish in wishes {
            if path_io::read_if_exists(&wish)?.is_some_and(|text| text.trim() == "1") {
                path_io::write_kernel_file(&wish, "0")?;
            }
        }
        if let Some(file) = self.v1_freezer()
            && path_io::read_if_exists(&file)?.is_some_and(|text| text.trim() != "THAWED")
        {
            path_io::write_kernel_file(&file, "THAWED")?;
        }
        Ok(())
    }

    /// Kills every process of the container, those that forked meanwhile and those that are frozen too, and waits until
    /// none is left. The shim lives on and reaps. Nothing to do is fine.
    ///
    /// # Errors
    /// [`CgroupError::Busy`] when something is left after the patience is over.
    pub fn kill(&self, mut patience: Patience) -> Result<(), CgroupError> {
        if let Some(payload) = self.payload() {
            match path_io::write_kernel_file(payload.join("cgroup.kill"), "1") {
                Ok(()) => {
                    // cgroup2 kills what it froze itself; a task frozen by v1 only dies once it runs again.
                    self.thaw()?;
                    self.wait_until_empty(&payload, &mut patience);
                }
                // No cgroup, or Linux before 5.14: the loop below.
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                Err(error) => return Err(error.into()),
            }
        }
        // Whoever is only in a v1 hierarchy (it left cgroup2, or there is none) is killed one by one, stopped first so
        // that none forks away meanwhile.
        loop {
            let left = self.processes()?;
            if left.is_empty() {
                return Ok(());
            }
            let frozen = self.freeze_with(true).is_ok();
            for pid in left {
                self.kill_one(pid);
            }
            if frozen {
                self.thaw()?;
            }
            if !patience.wait() {
                return Err(CgroupError::Busy {
                    path: self.home().map(Path::to_path_buf).unwrap_or_default(),
                    source: std::io::Error::from(rustix::io::Errno::BUSY),
                });
            }
        }
    }

    /// Every process of the container, in any hierarchy, in the host's numbers.
    ///
    /// # Errors
    /// A folder that is there and cannot be read.
    pub fn processes(&self) -> Result<BTreeSet<u32>, CgroupError> {
        let mut pids = BTreeSet::new();
        for folder in self.payload_folders() {
            collect(&folder, &mut pids)?;
        }
        Ok(pids)
    }

    /// `freezer.state`, where the v1 freezer is mounted.
    fn v1_freezer(&self) -> Option<PathBuf> {
        Some(
            self.place(Controller::Freezer)?
                .payload
                .join("freezer.state"),
        )
    }

    /// Says the wish to freeze to the generation that is used here; the file it was said to.
    fn freeze_with(&self, frozen: bool) -> Result<PathBuf, CgroupError> {
        if let Some(payload) = self.payload() {
            let file = payload.join("cgroup.freeze");
            path_io::write_kernel_file(&file, if frozen { "1" } else { "0" })?;
            return Ok(file);
        }
        let file = self.v1_freezer().ok_or(CgroupError::NoHierarchy)?;
        path_io::write_kernel_file(&file, if frozen { "FROZEN" } else { "THAWED" })?;
        Ok(file)
    }

    /// Waits for `populated 0`; being over the patience is found out by who looks next.
    fn wait_until_empty(&self, payload: &Path, patience: &mut Patience) {
        let events = payload.join("cgroup.events");
        let watched = watch(&events).ok();
        while let Ok(text) = path_io::read_to_string(&events) {
            if event(&text, "populated") != Some(1) || !wait(patience, watched.as_ref()) {
                return;
            }
        }
    }

    /// Kills one process if it is still the one that is in our folders.
    fn kill_one(&self, pid: u32) {
        let Some(number) = i32::try_from(pid).ok().and_then(Pid::from_raw) else {
            return;
        };
        let Ok(pidfd) = pidfd_open(number, PidfdFlags::empty()) else {
            return;
        };
        // The number may have been reused before the pidfd pinned it.
        if self.processes().is_ok_and(|pids| pids.contains(&pid)) {
            let _ = pidfd_send_signal(pidfd, Signal::KILL);
        }
    }
}

/// The value of one line of `cgroup.events` and its like.
pub(super) fn event(text: &str, name: &str) -> Option<u64> {
    text.lines().find_map(|line| {
        line.strip_prefix(name)?
            .strip_prefix(' ')?
            .trim()
            .parse()
            .ok()
    })
}

/// The processes of a folder and all below.
fn collect(folder: &Path, pids: &mut BTreeSet<u32>) -> Result<(), CgroupError> {
    // Both vanish when the last process of a child has gone and its maker removes it.
    let Some(text) = gone_is_none(path_io::read_to_string(folder.join("cgroup.procs")))? else {
        return Ok(());
    };
    // A process of a pid namespace that we do not see is shown as 0.
    pids.extend(
        text.lines()
            .filter_map(|line| line.parse::<u32>().ok())
            .filter(|pid| *pid != 0),
    );
    for below in gone_is_none(path_io::list_folders(folder))?.unwrap_or_default() {
        collect(&below, pids)?;
    }
    Ok(())
}

/// A cgroup that is removed meanwhile: no such file, or no such device from an open one.
fn gone_is_none<T>(result: Result<T, path_io::PathError>) -> Result<Option<T>, CgroupError> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error)
            if error.kind() == std::io::ErrorKind::NotFound
                || error.raw_os_error() == Some(rustix::io::Errno::NODEV.raw_os_error()) =>
        {
            Ok(None)
        }
        // A threaded cgroup lists threads only; its processes are listed in the domain above.
        Err(error) if error.raw_os_error() == Some(rustix::io::Errno::OPNOTSUPP.raw_os_error()) => {
            Ok(None)
        }
        Err(error) => Err(error.into()),
    }
}

/// Opens a file whose changes the kernel tells by `POLLPRI`.
fn watch(path: &Path) -> Result<OwnedFd, path_io::PathError> {
    rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).at("open", path)
}

/// Waits for a change of a watched file, or a while.
fn wait(patience: &mut Patience, watched: Option<&OwnedFd>) -> bool {
    let Some(watched) = watched else {
        return patience.wait();
    };
    // kernfs tells a change only to who has read before, and the readings are done through another descriptor.
    let _ = rustix::io::pread(watched, &mut [0u8; 64], 0);
    patience.wait_on(&mut [PollFd::new(watched, PollFlags::PRI)])
}
