//! Ending the process that holds a lock. Two processes that work on one state folder at once spoil each other's work;
//! what a dead one began is gone on with.

use std::fs::File;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::fs::MetadataExt as _;

use manifests::path_io;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::Timespec;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

/// How long a killed process may take; one that waits for a dead disk or network takes for ever.
const PATIENCE: Timespec = Timespec {
    tv_sec: 5,
    tv_nsec: 0,
};

/// Kills a process that has this file open; answers whether it is gone. A process of that number that does not have it
/// open is another one and is left alone: the number may be of another namespace, or given out again.
pub(super) fn end(pid: u32, lock: &File) -> bool {
    let Some(process) = hold(pid) else {
        return false;
    };
    if pid == std::process::id() {
        return false;
    }
    // The number stands for this process from here on, as long as it is seen to have the file open.
    if !holds(pid, lock) || pidfd_send_signal(&process, Signal::KILL).is_err() {
        return false;
    }
    let mut waiting = [PollFd::from_borrowed_fd(process.as_fd(), PollFlags::IN)];
    poll(&mut waiting, Some(&PATIENCE)).is_ok_and(|ended| ended > 0)
}

/// Sends SIGHUP to a process that has this file open; answers whether it has.
///
/// # Errors
/// The kernel refuses.
pub(super) fn tell_to_look(pid: u32, lock: &File) -> std::io::Result<bool> {
    let Some(process) = hold(pid).filter(|_| pid != std::process::id()) else {
        return Ok(false);
    };
    if !holds(pid, lock) {
        return Ok(false);
    }
    match pidfd_send_signal(&process, Signal::HUP) {
        Err(rustix::io::Errno::SRCH) => Ok(false),
        other => Ok(other.map(|()| true)?),
    }
}

fn hold(pid: u32) -> Option<OwnedFd> {
    let pid = Pid::from_raw(i32::try_from(pid).ok()?)?;
    pidfd_open(pid, PidfdFlags::empty()).ok()
}

/// Whether a process has this file open.
pub(super) fn holds(pid: u32, file: &File) -> bool {
    let Ok(own) = file.metadata() else {
        return false;
    };
    let open = path_io::list(format!("/proc/{pid}/fd")).unwrap_or_default();
    open.iter().any(|link| {
        link.metadata()
            .is_ok_and(|found| (found.dev(), found.ino()) == (own.dev(), own.ino()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[expect(clippy::disallowed_methods, reason = "the test needs processes to end")]
    fn only_who_has_the_file_open_is_ended() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("lock");
        let lock = File::create(&path).expect("a file");
        let start = |script: &str| {
            let mut command = std::process::Command::new("sh");
            let command = command.args(["-c", script]).arg(&path);
            command.spawn().expect("it starts")
        };
        let mut other = start("exec sleep 1000");
        assert!(!end(other.id(), &lock));
        assert!(other.try_wait().expect("its status").is_none());
        other.kill().expect("killed");
        other.wait().expect("its end");
        assert!(!end(other.id(), &lock), "there is no such process");

        let mut holder = start("exec 9<\"$0\"; exec sleep 1000");
        while !holds(holder.id(), &lock) {
            std::thread::yield_now();
        }
        assert!(end(holder.id(), &lock));
        holder.wait().expect("its end");
    }
}
