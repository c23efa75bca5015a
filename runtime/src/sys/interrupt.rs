//! SIGINT and SIGTERM as a wish to leave: the first asks, the second insists.
#![expect(
    unsafe_code,
    reason = "installing a signal handler is a system call of C shape"
)]

use std::io;
use std::sync::atomic::{AtomicBool, AtomicPtr, Ordering};

/// The flag of [`ask_to_leave`]; null until then.
static ASKED: AtomicPtr<AtomicBool> = AtomicPtr::new(std::ptr::null_mut());

/// From now on the first SIGINT or SIGTERM sets `asked`; the next one ends the process with 128 + its number. System
/// calls that were begun go on (`SA_RESTART`): what is under way comes to its end.
///
/// # Errors
/// The kernel refused the handler (sigaction(2)).
pub fn ask_to_leave(asked: &'static AtomicBool) -> io::Result<()> {
    ASKED.store(std::ptr::from_ref(asked).cast_mut(), Ordering::SeqCst);
    for signal in [libc::SIGINT, libc::SIGTERM] {
        // SAFETY: an all-zero sigaction is a valid value of the C struct; `on_signal` has the signature that a handler
        // without SA_SIGINFO needs and calls only async-signal-safe functions (signal-safety(7)).
        let done = unsafe {
            let mut action: libc::sigaction = std::mem::zeroed();
            action.sa_sigaction = on_signal as extern "C" fn(libc::c_int) as usize;
            action.sa_flags = libc::SA_RESTART;
            libc::sigaction(signal, &raw const action, std::ptr::null_mut())
        };
        if done != 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(())
}

extern "C" fn on_signal(signal: libc::c_int) {
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
