//! The exit record: how an instance ended, written by its real parent, read by whoever asks later.

use std::fmt::Write as _;
use std::os::fd::AsFd;

use rustix::fs::{Mode, OFlags};

use super::failure::{Doing as _, Failure};

/// Its name in the run folder.
pub const FILE: &str = "exit";
/// The file that names the present init after a restart.
pub const PRESENT: &str = "init";
/// A file whose space is taken already.
const SPARE: &str = ".spare";
/// More than the longest file here.
const RESERVED: usize = 512;

/// How a process ended, as `waitid(2)` tells its parent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// It called exit.
    Code(i32),
    /// A signal killed it. The init of a pid namespace is killed by SIGINT when the container halts or powers off,
    /// and by SIGHUP when it reboots (`reboot(2)`).
    Signal(i32),
}

/// One end of one start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExitRecord {
    /// Number of the start.
    pub generation: u64,
    /// The host's boot in which it happened.
    pub boot_id: String,
    /// Pid of the init that ended, in the host's view.
    pub init: i32,
    /// Its start time, field 22 of `/proc/PID/stat`, in clock ticks since boot.
    pub start_time: u64,
    /// How it ended.
    pub end: End,
    /// When, in milliseconds since 1970.
    pub at_ms: u64,
    /// How often the companion had started it again.
    pub restarts: u32,
    /// Console output that could not be kept, in bytes.
    pub lost: u64,
    /// Of a virtual machine: why, in QEMU's words (`guest-shutdown`, `guest-panicked`, `host-qmp-quit`), where it said so.
    pub reason: Option<String>,
}

impl ExitRecord {
    /// The record as text: one `key value` a line, the format's version first.
    pub fn to_text(&self) -> String {
        let mut text = String::with_capacity(256);
        let (how, number) = match self.end {
            End::Code(code) => ("code", code),
            End::Signal(signal) => ("signal", signal),
        };
        // Writing to a String cannot fail.
        let _ = write!(
            text,
            "version 1\ngeneration {}\nboot {}\ninit {}\nstart {}\n{how} {number}\nat {}\nrestarts {}\nlost {}\n",
            self.generation,
            self.boot_id,
            self.init,
            self.start_time,
            self.at_ms,
            self.restarts,
            self.lost
        );
        if let Some(reason) = &self.reason {
            let _ = writeln!(text, "reason {reason}");
        }
        text
    }

    /// Reads what [`ExitRecord::to_text`] wrote; keys of later versions are skipped. `None`: it is no such record.
    pub fn parse(text: &str) -> Option<Self> {
        let field = |key: &str| field(text, key);
        field("version")?.parse::<u32>().ok()?;
        let end = match (field("code"), field("signal")) {
            (Some(code), None) => End::Code(code.parse().ok()?),
            (None, Some(signal)) => End::Signal(signal.parse().ok()?),
            _ => return None,
        };
        Some(Self {
            generation: field("generation")?.parse().ok()?,
            boot_id: field("boot")?.to_owned(),
            init: field("init")?.parse().ok()?,
            start_time: field("start")?.parse().ok()?,
            end,
            at_ms: field("at")?.parse().ok()?,
            restarts: field("restarts")?.parse().ok()?,
            lost: field("lost")?.parse().ok()?,
            reason: field("reason").map(str::to_owned),
        })
    }

    /// Puts the record into the run folder: there is the whole record or none.
    ///
    /// # Errors
    /// The file cannot be written, for instance on a full disk.
    pub fn write(&self, run_dir: impl AsFd) -> Result<(), Failure> {
        replace(run_dir, FILE, &self.to_text())
    }
}

/// Says which init is the present one, where the companion started it again: keel's state file names the first.
///
/// # Errors
/// The file cannot be written.
pub fn write_present(run_dir: impl AsFd, init: i32, start_time: u64) -> Result<(), Failure> {
    let mut text = String::with_capacity(64);
    // Writing to a String cannot fail.
    let _ = write!(text, "version 1\ninit {init}\nstart {start_time}\n");
    replace(run_dir, PRESENT, &text)
}

/// Reads what [`write_present`] wrote: pid and start time.
pub fn parse_present(text: &str) -> Option<(i32, u64)> {
    Some((
        field(text, "init")?.parse().ok()?,
        field(text, "start")?.parse().ok()?,
    ))
}

/// Removes the record of an earlier end, which the instance outlives by being started again.
pub fn forget(run_dir: impl AsFd) {
    let _ = rustix::fs::unlinkat(run_dir, FILE, rustix::fs::AtFlags::empty());
}

/// Takes the space for one file, so that a disk that is full later (by a guest's console, or by somebody else) does not
/// keep the end of an instance from being written down.
///
/// # Errors
/// There is no space now.
pub fn reserve(run_dir: impl AsFd) -> Result<(), Failure> {
    let flags = OFlags::CREATE | OFlags::TRUNC | OFlags::WRONLY | OFlags::CLOEXEC;
    let mode = Mode::from_raw_mode(0o600);
    let doing = "reserve the space of the exit record";
    let file = rustix::fs::openat(&run_dir, SPARE, flags, mode).named(doing)?;
    let length = rustix::io::write(&file, &[b' '; RESERVED]).named(doing)?;
    if length == RESERVED {
        Ok(())
    } else {
        Err(Failure::new(doing, libc::ENOSPC))
    }
}

/// There is the whole file or none. Written over the reserved one, so that it needs no space.
fn replace(run_dir: impl AsFd, name: &str, text: &str) -> Result<(), Failure> {
    let flags = OFlags::CREATE | OFlags::WRONLY | OFlags::CLOEXEC;
    let mode = Mode::from_raw_mode(0o600);
    let doing = || format!("write the file {name} in the run folder");
    let file = rustix::fs::openat(&run_dir, SPARE, flags, mode).doing(doing)?;
    let mut rest = text.as_bytes();
    while !rest.is_empty() {
        let written = rustix::io::write(&file, rest).doing(doing)?;
        rest = &rest[written..];
    }
    rustix::fs::ftruncate(&file, text.len() as u64).doing(doing)?;
    rustix::fs::fdatasync(&file).doing(doing)?;
    rustix::fs::renameat(&run_dir, SPARE, &run_dir, name).doing(doing)
}

fn field<'t>(text: &'t str, key: &str) -> Option<&'t str> {
    text.lines()
        .find_map(|line| line.strip_prefix(key)?.strip_prefix(' '))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_read_as_it_was_written() {
        for (end, reason) in [
            (End::Code(0), Some("guest-shutdown")),
            (End::Code(255), None),
            (End::Signal(9), None),
        ] {
            let record = ExitRecord {
                generation: 7,
                boot_id: "2d6f9c9e-5a0f-4b1e-9b0e-3f4f6e0c1a2b".to_owned(),
                init: 4711,
                start_time: 123_456,
                end,
                at_ms: 1_700_000_000_000,
                restarts: 2,
                lost: 17,
                reason: reason.map(str::to_owned),
            };
            assert_eq!(ExitRecord::parse(&record.to_text()), Some(record));
        }
    }

    #[test]
    fn half_a_record_is_no_record() {
        for text in [
            "",
            "version 1\n",
            "version 1\ngeneration 1\ncode 0\n",
            "code 0\n",
        ] {
            assert_eq!(ExitRecord::parse(text), None, "{text:?}");
        }
    }

    #[test]
    fn two_ends_are_no_record() {
        let text = "version 1\ngeneration 1\nboot b\ninit 1\nstart 1\ncode 0\nsignal 9\nat 1\nrestarts 0\nlost 0\n";
        assert_eq!(ExitRecord::parse(text), None);
    }
}
