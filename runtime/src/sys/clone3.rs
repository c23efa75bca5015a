//! clone3: a child in new namespaces, held by a pidfd from its first moment.
#![expect(unsafe_code, reason = "clone3 has no safe wrapper")]

use std::io;
use std::os::fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd};

use rustix::process::Pid;

/// Namespaces of a new process, as `CLONE_NEW…` bits of `<linux/sched.h>`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Namespaces(pub u64);

/// A new user namespace.
pub const NEW_USER: u64 = libc::CLONE_NEWUSER as u64;
/// New mount, UTS, IPC, PID and network namespaces.
pub const NEW_SYSTEM: u64 = (libc::CLONE_NEWNS
    | libc::CLONE_NEWUTS
    | libc::CLONE_NEWIPC
    | libc::CLONE_NEWPID
    | libc::CLONE_NEWNET) as u64;

/// From `<linux/sched.h>`; libc's constant does not fit its own type.
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

/// What clone3 returned, once in each process.
#[derive(Debug)]
pub enum Cloned {
    /// The caller: the child's pid in the caller's pid namespace, and its pidfd (close-on-exec).
    Parent {
        /// As seen by the caller.
        pid: Pid,
        /// Refers to the child even after its pid is used again.
        pidfd: OwnedFd,
    },
    /// The new process.
    Child,
}

/// Starts a copy of the caller in new namespaces and, if given, inside a cgroup 2 directory (kernel 5.7).
///
/// The memory is copied (no `CLONE_VM`), so the child may go on as any forked process does.
///
/// # Errors
/// The kernel's answer; `EINVAL` also for a process with several threads, which this refuses itself: other threads'
/// locks would stay locked in the child for ever.
pub fn clone3(namespaces: Namespaces, cgroup: Option<BorrowedFd<'_>>) -> io::Result<Cloned> {
    let mut pidfd: libc::c_int = -1;
    // SAFETY: clone_args is a plain struct of integers, for which all zeroes is a valid value.
    let mut arguments: libc::clone_args = unsafe { std::mem::zeroed() };
    arguments.flags = namespaces.0 | libc::CLONE_PIDFD as u64;
    arguments.pidfd = (&raw mut pidfd) as u64;
    arguments.exit_signal = libc::SIGCHLD as u64;
    if let Some(cgroup) = cgroup {
        arguments.flags |= CLONE_INTO_CGROUP;
        arguments.cgroup = u64::try_from(cgroup.as_raw_fd()).unwrap_or(u64::MAX);
    }
    // SAFETY: the arguments outlive the call; without CLONE_VM the child has its own copy of the stack. glibc's fork
    // handlers do not run, which is sound in a process that never had a second thread: the shim has none.
    let result = unsafe {
        libc::syscall(
            libc::SYS_clone3,
            &raw const arguments,
            size_of::<libc::clone_args>(),
        )
    };
    match result {
        -1 => Err(io::Error::last_os_error()),
        0 => Ok(Cloned::Child),
        pid => {
            // SAFETY: the kernel stored a new descriptor there that nobody else owns.
            let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
            let pid = i32::try_from(pid)
                .ok()
                .and_then(Pid::from_raw)
                .ok_or(io::ErrorKind::InvalidData)?;
            Ok(Cloned::Parent { pid, pidfd })
        }
    }
}
