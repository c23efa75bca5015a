//! What a virtual machine has told of itself so far, in a file in its run folder, so that nobody has to ask: QEMU 7.2 takes
//! a quarter of a millisecond for each question. To be believed as long as the companion, which keeps it true, has it
//! locked: QEMU outlives a companion that is killed.

use std::os::fd::OwnedFd;

use rustix::fs::{FlockOperation, Mode, OFlags, flock};

/// The file in the run folder.
pub const FILE: &str = "machine-told";
/// The device that is the port of the guest's agent.
pub const AGENT_PORT: &str = "agent-port";
/// How many bytes are in it. Each says one thing and is written by itself, so that none is ever read in two halves.
pub const LENGTH: usize = 3;

/// How its processors are, as far as its events tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Processors {
    /// Nothing was heard yet.
    Unheard,
    /// They run.
    Run,
    /// Somebody has stopped them, and nothing that happened before was the reason.
    Stopped,
    /// Something else happened: who wants to know how they are has to ask.
    Otherwise,
}

/// What was told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Told {
    /// Whether somebody in the guest serves the agent's port. QEMU tells its changes at most once a second.
    pub agent: bool,
    /// How its processors are.
    pub processors: Processors,
    /// Whether the balloon has changed since QEMU began.
    pub balloon: bool,
}

impl Told {
    /// Of a machine that has told nothing.
    const NOTHING: Self = Self {
        agent: false,
        processors: Processors::Unheard,
        balloon: false,
    };

    /// What the file says; none: it was written by another build.
    pub fn parse(bytes: [u8; LENGTH]) -> Option<Self> {
        let is = |byte: u8| match byte {
            b'0' => Some(false),
            b'1' => Some(true),
            _ => None,
        };
        Some(Self {
            agent: is(bytes[0])?,
            processors: match bytes[1] {
                b'?' => Processors::Unheard,
                b'r' => Processors::Run,
                b's' => Processors::Stopped,
                b'!' => Processors::Otherwise,
                _ => return None,
            },
            balloon: is(bytes[2])?,
        })
    }

    fn bytes(self) -> [u8; LENGTH] {
        let is = |is| if is { b'1' } else { b'0' };
        let processors = match self.processors {
            Processors::Unheard => b'?',
            Processors::Run => b'r',
            Processors::Stopped => b's',
            Processors::Otherwise => b'!',
        };
        [is(self.agent), processors, is(self.balloon)]
    }

    /// After an event; `open`: of one of the agent's port, whether it is served.
    fn after(self, event: &str, open: Option<bool>) -> Self {
        let processors = match event {
            "RESUME" => Processors::Run,
            // QEMU tells a reason before it tells that it has stopped.
            "STOP" if self.processors != Processors::Otherwise => Processors::Stopped,
            "SUSPEND" | "WAKEUP" | "SHUTDOWN" | "WATCHDOG" | "GUEST_PANICKED"
            | "GUEST_CRASHLOADED" | "BLOCK_IO_ERROR" => Processors::Otherwise,
            _ => self.processors,
        };
        Self {
            agent: open.unwrap_or(self.agent),
            processors,
            balloon: self.balloon || event == "BALLOON_CHANGE",
        }
    }
}

/// The companion's side.
#[derive(Debug)]
pub(super) struct Telling {
    file: Option<OwnedFd>,
    told: Told,
}

impl Telling {
    /// A new file in the working folder, locked as long as this is there.
    pub(super) fn begin() -> Self {
        let how = OFlags::CREATE | OFlags::WRONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        // One that cannot be written must not stay as it was in an earlier life.
        let _ = rustix::fs::unlink(FILE);
        let file = rustix::fs::open(FILE, how, Mode::from_raw_mode(0o600)).ok();
        let file =
            file.filter(|file| flock(file, FlockOperation::NonBlockingLockExclusive).is_ok());
        if let Some(file) = &file {
            let _ = rustix::io::pwrite(file, &Told::NOTHING.bytes(), 0);
        }
        Self {
            file,
            told: Told::NOTHING,
        }
    }

    /// Something has happened.
    pub(super) fn hear(&mut self, event: &str, open: Option<bool>) {
        let before = self.told.bytes();
        self.told = self.told.after(event, open);
        let Some(file) = &self.file else {
            return;
        };
        let changed = self.told.bytes();
        for (at, (byte, before)) in (0..).zip(changed.iter().zip(before)) {
            if *byte != before {
                let _ = rustix::io::pwrite(file, &[*byte], at);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(events: &[&str]) -> Told {
        let told = |told: Told, event: &&str| told.after(event, None);
        events.iter().fold(Told::NOTHING, told)
    }

    #[test]
    fn how_processors_are_is_told_only_where_events_leave_no_doubt() {
        let cases: [(&[&str], Processors); 11] = [
            (&[], Processors::Unheard),
            (&["RESUME"], Processors::Run),
            (&["STOP"], Processors::Stopped),
            (&["RESUME", "STOP", "RESUME"], Processors::Run),
            (&["RESUME", "RTC_CHANGE", "STOP"], Processors::Stopped),
            (&["RESUME", "BLOCK_IO_ERROR", "STOP"], Processors::Otherwise),
            (&["GUEST_PANICKED", "STOP"], Processors::Otherwise),
            (&["SHUTDOWN", "STOP"], Processors::Otherwise),
            (&["SUSPEND"], Processors::Otherwise),
            (&["SUSPEND", "WAKEUP"], Processors::Otherwise),
            (&["WATCHDOG", "STOP", "RESUME"], Processors::Run),
        ];
        for (events, wanted) in cases {
            assert_eq!(after(events).processors, wanted, "{events:?}");
        }
        assert!(after(&["BALLOON_CHANGE", "STOP"]).balloon && !after(&["STOP"]).balloon);
        let served = after(&["STOP"]).after("VSERPORT_CHANGE", Some(true));
        assert!(served.agent && served.after("RESUME", None).agent);
        assert!(!served.after("VSERPORT_CHANGE", Some(false)).agent);
    }

    #[test]
    fn what_is_written_is_read_and_what_others_wrote_is_not_believed() {
        for events in [
            &["RESUME", "BALLOON_CHANGE"][..],
            &["STOP"],
            &["SUSPEND"],
            &[],
        ] {
            let told = after(events).after("", Some(events.len() == 1));
            assert_eq!(Told::parse(told.bytes()), Some(told));
        }
        for bytes in [*b"\0\0\0", *b"0 0", *b"2?0", *b"0?x"] {
            assert_eq!(Told::parse(bytes), None);
        }
    }
}
