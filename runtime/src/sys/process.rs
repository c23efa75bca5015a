//! What a process does to itself before it becomes another program, and signals by pidfd.
#![expect(unsafe_code, reason = "these calls have no safe wrapper")]

use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd, RawFd};
use std::ptr;

fn check(result: libc::c_long) -> io::Result<libc::c_long> {
    if result == -1 {
        return Err(io::Error::last_os_error());
    }
    Ok(result)
}

/// Becomes another program; returns only if that failed.
pub fn execute(program: &CStr, arguments: &[CString], environment: &[CString]) -> io::Error {
    let vector = |strings: &[CString]| -> Vec<*const libc::c_char> {
        strings
            .iter()
            .map(|string| string.as_ptr())
            .chain([ptr::null()])
            .collect()
    };
    let arguments = vector(arguments);
    let environment = vector(environment);
    // SAFETY: both vectors end with a null pointer and point to C strings that outlive the call.
    unsafe { libc::execve(program.as_ptr(), arguments.as_ptr(), environment.as_ptr()) };
    io::Error::last_os_error()
}

/// Moves a descriptor to number 3, close-on-exec, and closes all above it, whoever in this process owns them (kernel
/// 5.9). Only for a process that is about to become another program or to end by [`exit_now`]: no owner of a closed
/// descriptor may use or drop it any more, the given one included.
///
/// # Errors
/// The kernel's answer.
pub fn keep_only(kept: &OwnedFd) -> io::Result<OwnedFd> {
    const AT: RawFd = 3;
    let held = kept.as_raw_fd();
    if held != AT {
        // SAFETY: numbers only. What had number 3 is closed, which this function's contract tells its owner.
        check(unsafe { libc::dup3(held, AT, libc::O_CLOEXEC) }.into())?;
    }
    close_from(AT + 1)?;
    // SAFETY: it is open, and by this function's contract its owner under another type never drops it.
    Ok(unsafe { OwnedFd::from_raw_fd(AT) })
}

/// Gives descriptors the numbers from `first` on, kept open by a program that is executed, moves `report` to number 3
/// (close-on-exec), and closes all others above 2. For the callers of [`keep_only`], under the same conditions.
///
/// # Errors
/// The kernel's answer.
pub fn keep_numbered(
    kept: &[BorrowedFd<'_>],
    first: RawFd,
    report: &OwnedFd,
) -> io::Result<OwnedFd> {
    const AT: RawFd = 3;
    let count = RawFd::try_from(kept.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
    let end = first + count;
    // Above all that is wanted first: a source may have the number of another's target.
    let mut copies = Vec::with_capacity(kept.len());
    for descriptor in kept {
        copies.push(rustix::io::fcntl_dupfd_cloexec(descriptor, end)?);
    }
    let report = rustix::io::fcntl_dupfd_cloexec(report, end)?;
    for (copy, number) in copies.iter().zip(first..) {
        // SAFETY: numbers only. What had the number is closed, which this function's contract tells its owner.
        check(unsafe { libc::dup3(copy.as_raw_fd(), number, 0) }.into())?;
    }
    // SAFETY: as above.
    check(unsafe { libc::dup3(report.as_raw_fd(), AT, libc::O_CLOEXEC) }.into())?;
    let (after, before) = (
        libc::c_uint::try_from(AT + 1).map_err(|_| io::ErrorKind::InvalidInput)?,
        libc::c_uint::try_from(first - 1).map_err(|_| io::ErrorKind::InvalidInput)?,
    );
    // SAFETY: no memory is passed; by this function's contract nobody uses the descriptors any more.
    check(unsafe { libc::syscall(libc::SYS_close_range, after, before, 0) })?;
    // The copies are among those that are closed.
    std::mem::forget((copies, report));
    close_from(end)?;
    // SAFETY: it is open, and nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(AT) })
}

/// No program that this thread executes from now on gains anything by it: no setuid, no file capabilities.
///
/// # Errors
/// The kernel's answer.
pub fn forgo_new_privileges() -> io::Result<()> {
    rustix::thread::set_no_new_privs(true).map_err(Into::into)
}

/// Closes every descriptor from `first` on. Only for a process that has just started and owns none of them.
///
/// # Errors
/// The kernel's answer.
pub fn close_from(first: RawFd) -> io::Result<()> {
    let first = libc::c_uint::try_from(first).map_err(|_| io::ErrorKind::InvalidInput)?;
    // SAFETY: no memory is passed; by this function's contract nobody in this process owns the descriptors.
    check(unsafe { libc::syscall(libc::SYS_close_range, first, libc::c_uint::MAX, 0) })?;
    Ok(())
}

/// Takes descriptor 0, on which the companion is given its socket, as an owned one; 0 itself then is `/dev/null`.
///
/// # Errors
/// Nothing was passed there, or `/dev/null` cannot be opened.
pub fn take_standard_input() -> io::Result<OwnedFd> {
    let socket = rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdin(), 3)?;
    let null = rustix::fs::open(
        c"/dev/null",
        rustix::fs::OFlags::RDWR | rustix::fs::OFlags::CLOEXEC,
        rustix::fs::Mode::empty(),
    )?;
    rustix::stdio::dup2_stdin(&null)?;
    Ok(socket)
}

/// Ends this process at once, without running exit handlers twice.
pub fn exit_now(code: i32) -> ! {
    // SAFETY: ends the process; no memory is touched.
    unsafe { libc::_exit(code) }
}

/// Lets the kernel end this process by SIGALRM after so many seconds, whatever it then waits for.
pub fn end_after(seconds: u32) {
    // SAFETY: sets a timer of this process; no memory is touched.
    unsafe { libc::alarm(seconds) };
}

/// Lets this thread use files as another user than the one that it is: its real, effective or saved one.
pub fn use_files_as(user: rustix::fs::Uid) {
    // SAFETY: numbers only; the former one is returned, there are no errors.
    unsafe { libc::setfsuid(user.as_raw()) };
}

/// A cgroup namespace of its own: `/proc/self/cgroup` then shows the present cgroups as roots.
///
/// # Errors
/// The kernel's answer.
pub fn unshare_cgroup() -> io::Result<()> {
    // SAFETY: CLONE_NEWCGROUP shares no memory or descriptors.
    check(unsafe { libc::unshare(libc::CLONE_NEWCGROUP) }.into())?;
    Ok(())
}

/// A mount namespace of its own, a copy of the present one.
///
/// # Errors
/// The kernel's answer.
pub fn unshare_mounts() -> io::Result<()> {
    // SAFETY: CLONE_NEWNS shares no memory or descriptors.
    check(unsafe { libc::unshare(libc::CLONE_NEWNS) }.into())?;
    Ok(())
}

/// New children get a time namespace of their own (kernel 5.6); its offsets can be written until the first one.
///
/// # Errors
/// The kernel's answer.
pub fn unshare_time() -> io::Result<()> {
    // SAFETY: CLONE_NEWTIME shares no memory or descriptors.
    check(unsafe { libc::unshare(libc::CLONE_NEWTIME) }.into())?;
    Ok(())
}

/// Replaces the session keyring, so that nothing is inherited from the caller's session.
///
/// # Errors
/// `ENOSYS` on a kernel without keyrings, `EDQUOT` where the user's quota is used up.
pub fn join_new_session_keyring() -> io::Result<()> {
    const JOIN_SESSION_KEYRING: libc::c_int = 1;
    // SAFETY: a null name asks for an anonymous keyring.
    check(unsafe {
        libc::syscall(
            libc::SYS_keyctl,
            JOIN_SESSION_KEYRING,
            ptr::null::<libc::c_char>(),
        )
    })?;
    Ok(())
}

/// Installs a seccomp filter without `NO_NEW_PRIVS` (setuid programs keep working); needs CAP_SYS_ADMIN in the own
/// user namespace.
///
/// `program` is an array of `struct sock_filter`, eight bytes each, in the machine's byte order.
///
/// # Errors
/// `EINVAL` for a program the kernel does not accept.
pub fn install_seccomp_filter(program: &[u8]) -> io::Result<()> {
    const FILTER_SIZE: usize = size_of::<libc::sock_filter>();
    if program.is_empty() || !program.len().is_multiple_of(FILTER_SIZE) {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let mut filters: Vec<libc::sock_filter> = program
        .chunks_exact(FILTER_SIZE)
        .map(|bytes| libc::sock_filter {
            code: u16::from_ne_bytes([bytes[0], bytes[1]]),
            jt: bytes[2],
            jf: bytes[3],
            k: u32::from_ne_bytes([bytes[4], bytes[5], bytes[6], bytes[7]]),
        })
        .collect();
    let program = libc::sock_fprog {
        len: u16::try_from(filters.len()).map_err(|_| io::ErrorKind::InvalidInput)?,
        filter: filters.as_mut_ptr(),
    };
    // SAFETY: the program points to `filters`, which outlives the call; the kernel copies it.
    check(unsafe {
        libc::syscall(
            libc::SYS_seccomp,
            libc::SECCOMP_SET_MODE_FILTER,
            0,
            &raw const program,
        )
    })?;
    Ok(())
}

/// Every signal to its default action and none blocked, as a new program expects it.
pub fn reset_signals() {
    for signal in 1..=64 {
        // SAFETY: SIG_DFL is no handler of ours. The kernel refuses KILL and STOP, libc its own two: harmless.
        unsafe { libc::signal(signal, libc::SIG_DFL) };
    }
    // SAFETY: an all-zero sigset_t is filled by sigemptyset before use.
    unsafe {
        let mut none: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut none);
        libc::sigprocmask(libc::SIG_SETMASK, &raw const none, ptr::null_mut());
    }
}

/// Ignores a signal in this process.
pub fn ignore_signal(signal: i32) {
    // SAFETY: SIG_IGN is no handler of ours.
    unsafe { libc::signal(signal, libc::SIG_IGN) };
}

/// Sends any signal, also a real-time one, to the process behind a pidfd.
///
/// # Errors
/// `ESRCH`: it has ended and was reaped.
pub fn signal_by_pidfd(pidfd: impl AsFd, signal: i32) -> io::Result<()> {
    // SAFETY: a null siginfo asks for what kill(2) would send.
    check(unsafe {
        libc::syscall(
            libc::SYS_pidfd_send_signal,
            pidfd.as_fd().as_raw_fd(),
            signal,
            ptr::null::<libc::siginfo_t>(),
            0,
        )
    })?;
    Ok(())
}

/// Sets the loopback interface of the present network namespace up.
///
/// # Errors
/// The kernel's answer.
pub fn loopback_up() -> io::Result<()> {
    // SAFETY: an ifreq of zeroes is valid; the name fits and ends with a zero; the socket is owned here.
    unsafe {
        let socket = libc::socket(libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0);
        check(socket.into())?;
        let socket = OwnedFd::from_raw_fd(socket);
        let mut request: libc::ifreq = std::mem::zeroed();
        request.ifr_name[0] = b'l'.cast_signed();
        request.ifr_name[1] = b'o'.cast_signed();
        #[expect(
            clippy::cast_possible_truncation,
            reason = "IFF_UP and IFF_RUNNING are small bits"
        )]
        {
            request.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING) as libc::c_short;
        }
        check(libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS, &raw const request).into())?;
    }
    Ok(())
}
