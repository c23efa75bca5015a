//! Sockets that systemd opened before this process began (sd_listen_fds(3)).
#![expect(
    unsafe_code,
    reason = "a descriptor that is passed by its number becomes an owned one"
)]

use std::os::fd::{FromRawFd as _, OwnedFd, RawFd};
use std::sync::atomic::{AtomicBool, Ordering};

/// The number of the first one.
const FIRST: RawFd = 3;
/// More are not taken.
const MOST: RawFd = 64;

/// They are taken once.
static TAKEN: AtomicBool = AtomicBool::new(false);

/// The sockets with their names, by the variables of the environment; none where they were taken before, or are meant for
/// another process.
pub fn take(variable: &dyn Fn(&str) -> Option<String>) -> Vec<(String, OwnedFd)> {
    let own = std::process::id();
    let numbers = numbers(own, variable);
    if numbers.is_empty() || TAKEN.swap(true, Ordering::SeqCst) {
        return Vec::new();
    }
    let mut taken = Vec::new();
    for (name, number) in numbers {
        // SAFETY: fcntl(2) with F_GETFD takes any number, also one that is not open, and changes nothing.
        if unsafe { libc::fcntl(number, libc::F_GETFD) } < 0 {
            continue;
        }
        // SAFETY: it is open, and was since before this process began: systemd says so to this very process. So nobody
        // here opened it, and `TAKEN` lets one caller come as far as this.
        let socket = unsafe { OwnedFd::from_raw_fd(number) };
        // What is started from here has no business with it.
        if rustix::io::fcntl_setfd(&socket, rustix::io::FdFlags::CLOEXEC).is_ok() {
            taken.push((name, socket));
        }
    }
    taken
}

/// The names and numbers, as the environment has them.
fn numbers(own: u32, variable: &dyn Fn(&str) -> Option<String>) -> Vec<(String, RawFd)> {
    let meant: Option<u32> = variable("LISTEN_PID").and_then(|pid| pid.parse().ok());
    let count: Option<RawFd> = variable("LISTEN_FDS").and_then(|count| count.parse().ok());
    let (Some(meant), Some(count)) = (meant, count) else {
        return Vec::new();
    };
    if meant != own {
        return Vec::new();
    }
    let names = variable("LISTEN_FDNAMES").unwrap_or_default();
    let mut names = names.split(':');
    let numbers = FIRST..FIRST + count.clamp(0, MOST);
    numbers
        .map(|number| (names.next().unwrap_or_default().to_owned(), number))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_meant_for_this_process_is_taken() {
        let environment = |pid: &'static str, count: &'static str, names: &'static str| {
            move |name: &str| match name {
                "LISTEN_PID" => Some(pid.to_owned()),
                "LISTEN_FDS" => Some(count.to_owned()),
                "LISTEN_FDNAMES" => Some(names.to_owned()),
                _ => None,
            }
        };
        let two = numbers(7, &environment("7", "2", "webhooks"));
        assert_eq!(two, [("webhooks".to_owned(), 3), (String::new(), 4)]);
        for (pid, count) in [("8", "2"), ("x", "2"), ("7", "-1"), ("7", "x"), ("7", "0")] {
            assert!(
                numbers(7, &environment(pid, count, "")).is_empty(),
                "{pid} {count}"
            );
        }
        assert_eq!(numbers(7, &environment("7", "9999", "")).len(), 64);
        assert!(numbers(7, &|_| None).is_empty());
    }
}
