//! SIGINT and SIGTERM as a wish to leave: the first asks, the second insists. SIGHUP as a wish to look again.
#![expect(
    unsafe_code,
    reason = "installing a signal handler is a system call of C shape"
)]

use std::io;
use std::os::fd::{IntoRawFd as _, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicPtr, Ordering};

/// The number of SIGHUP.
pub const HANG_UP: i32 = libc::SIGHUP;

/// Where [`hear`] is told of signals; -1 until then.
static TELL: AtomicI32 = AtomicI32::new(-1);
/// The flag of [`ask_to_leave`]; null until then.
static ASKED: AtomicPtr<AtomicBool> = AtomicPtr::new(std::ptr::null_mut());

/// From now on the first SIGINT or SIGTERM sets `asked`; the next one ends the process with 128 + its number. System
/// calls that were begun go on (`SA_RESTART`): what is under way comes to its end.
///
/// # Errors
/// The kernel refused the handler (sigaction(2)).
pub fn ask_to_leave(asked: &'static AtomicBool) -> io::Result<()> {
    ASKED.store(std::ptr::from_ref(asked).cast_mut(), Ordering::SeqCst);
    handle(libc::SIGINT, on_signal)?;
    handle(libc::SIGTERM, on_signal)
}

/// As [`ask_to_leave`]; besides, each of these signals and SIGHUP is told by a byte, its number, on the pipe that is
/// answered. SIGHUP asks for nothing else.
///
/// # Errors
/// The kernel refused the pipe or the handlers.
pub fn hear(asked: &'static AtomicBool) -> io::Result<OwnedFd> {
    let flags = rustix::pipe::PipeFlags::CLOEXEC;
    let (told, tell) = rustix::pipe::pipe_with(flags)?;
    // A pipe that nobody reads must not hold up a handler.
    let nonblocking = rustix::fs::fcntl_getfl(&tell)? | rustix::fs::OFlags::NONBLOCK;
    rustix::fs::fcntl_setfl(&tell, nonblocking)?;
    // The handlers have it until the process ends.
    TELL.store(tell.into_raw_fd(), Ordering::SeqCst);
    ask_to_leave(asked)?;
    handle(libc::SIGHUP, on_other_signal)?;
    Ok(told)
}

fn handle(signal: libc::c_int, handler: extern "C" fn(libc::c_int)) -> io::Result<()> {
    // SAFETY: an all-zero sigaction is a valid value of the C struct; `handler` has the signature that a handler without
    // SA_SIGINFO needs, and both that are given here call only async-signal-safe functions (signal-safety(7)).
    let done = unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = handler as usize;
        action.sa_flags = libc::SA_RESTART;
        libc::sigaction(signal, &raw const action, std::ptr::null_mut())
    };
    match done {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Writes the number of a signal where [`hear`] reads it.
extern "C" fn on_other_signal(signal: libc::c_int) {
    let tell = TELL.load(Ordering::SeqCst);
    let byte = signal.to_le_bytes()[0];
    if tell >= 0 {
        // SAFETY: write(2) is async-signal-safe, `byte` lives until it returns, and the descriptor is never closed. A
        // full pipe tells enough. The error number of whom it interrupts stays as it is.
        unsafe {
            let before = *libc::__errno_location();
            libc::write(tell, (&raw const byte).cast(), 1);
            *libc::__errno_location() = before;
        }
    }
}

extern "C" fn on_signal(signal: libc::c_int) {
    on_other_signal(signal);
    let asked = ASKED.load(Ordering::SeqCst);
    // SAFETY: the pointer is null or came from a `&'static AtomicBool`; `_exit` is async-signal-safe.
    unsafe {
        if asked.is_null() || (*asked).swap(true, Ordering::SeqCst) {
            libc::_exit(128 + signal);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    static ASKED_HERE: AtomicBool = AtomicBool::new(false);

    #[test]
    fn the_first_signal_only_asks() {
        ask_to_leave(&ASKED_HERE).expect("a handler");
        let own = rustix::process::getpid();
        rustix::process::kill_process(own, rustix::process::Signal::TERM).expect("own process");
        // A signal to oneself is delivered before kill(2) returns, but to any thread of the process.
        for _ in 0..10_000 {
            if ASKED_HERE.load(Ordering::SeqCst) {
                return;
            }
            // A busy machine takes its time to run that thread.
            let _ = rustix::thread::nanosleep(&rustix::thread::Timespec {
                tv_sec: 0,
                tv_nsec: 1_000_000,
            });
        }
        panic!("the flag was not set");
    }
}
