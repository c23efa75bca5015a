//! A process held by a pidfd, and its files in `/proc`.

use std::io::{self, Read as _};
use std::os::fd::{BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::process::Pid;

/// A process by its number and a pidfd that was opened while it had that number.
///
/// A pidfd does not keep the number: once the process was reaped, another one may get it.
#[derive(Debug, Clone, Copy)]
pub struct HeldProcess<'fd> {
    /// In the caller's pid namespace.
    pub pid: Pid,
    /// Readable when the process has ended.
    pub pidfd: BorrowedFd<'fd>,
}

impl HeldProcess<'_> {
    /// Opens `/proc/PID/name`, and then looks that the process has not ended: only so the file is surely its own.
    ///
    /// # Errors
    /// `ESRCH`: it has ended. Else the kernel's answer.
    pub fn open(&self, name: &str, flags: OFlags) -> io::Result<OwnedFd> {
        let path = format!("/proc/{}/{name}", self.pid.as_raw_nonzero());
        let opened = rustix::fs::open(path, flags | OFlags::CLOEXEC, Mode::empty());
        if self.has_ended()? {
            return Err(Errno::SRCH.into());
        }
        Ok(opened?)
    }

    /// The text of `/proc/PID/name`.
    ///
    /// # Errors
    /// As [`HeldProcess::open`], and what cannot be read.
    pub fn read(&self, name: &str) -> io::Result<String> {
        // At once: the kernel makes the text anew for every piece that is asked for.
        let mut text = String::with_capacity(8192);
        let file = std::fs::File::from(self.open(name, OFlags::RDONLY)?);
        file.take(u64::MAX).read_to_string(&mut text)?;
        Ok(text)
    }

    fn has_ended(&self) -> io::Result<bool> {
        self.ends_within(Duration::ZERO)
    }

    /// Whether it has ended, or does within this time.
    ///
    /// # Errors
    /// The kernel's answer.
    pub fn ends_within(&self, patience: Duration) -> io::Result<bool> {
        let patience = Timespec::try_from(patience).ok();
        loop {
            let mut sources = [PollFd::from_borrowed_fd(self.pidfd, PollFlags::IN)];
            match rustix::event::poll(&mut sources, patience.as_ref()) {
                Err(Errno::INTR) => {}
                other => return Ok(other? > 0),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd as _;

    use rustix::process::{PidfdFlags, pidfd_open};

    use super::*;

    #[test]
    #[expect(
        clippy::disallowed_methods,
        reason = "a process that ends while somebody holds it"
    )]
    fn a_number_that_another_process_has_now_opens_nothing() {
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let ended = Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap();
        let pidfd = pidfd_open(ended, PidfdFlags::empty()).unwrap();
        child.wait().unwrap();
        // This process stands for the one that got the number.
        let pid = rustix::process::getpid();
        let stale = HeldProcess {
            pid,
            pidfd: pidfd.as_fd(),
        };
        let error = stale.open("ns/net", OFlags::RDONLY).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(Errno::SRCH.raw_os_error()));
        let own = pidfd_open(pid, PidfdFlags::empty()).unwrap();
        let held = HeldProcess {
            pid,
            pidfd: own.as_fd(),
        };
        assert!(held.read("mountinfo").unwrap().contains(" / "));
    }
}
