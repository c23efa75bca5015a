//! What a virtual machine says of itself: the events of one of its monitors, and what its process complains of.
//!
//! The companion reads for the end alone. A guest that has switched itself off, or has panicked, leaves its process behind
//! in a pause (`-action shutdown=pause,panic=pause`), so that nobody misses why; the companion keeps the reason and lets
//! the process go. It also keeps whether somebody in the guest serves the agent's port, so that nobody has to ask. Nothing
//! here trusts the process: a guest may have broken out into it.

use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};

use rustix::fs::{FlockOperation, Mode, OFlags, flock};
use rustix::io::Errno;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType};
use rustix::pipe::PipeFlags;

use super::failure::{Doing as _, Failure};

/// What the process complained of, in the run folder.
pub const COMPLAINTS: &str = "qemu.log";
/// The device that is the port of the guest's agent, and the file in the run folder that says whether it is served: to be
/// believed as long as its companion has it locked.
pub const AGENT_PORT: &str = "agent-port";
/// What is in it when somebody serves the port. QEMU tells a port's changes at most once a second.
pub const SERVED: &[u8] = b"1";
/// What is in it when nobody does.
pub const NOT_SERVED: &[u8] = b"0";
/// The file in the run folder that is written each time that something happens to the machine which others may want to see:
/// the name of the last such event is in it.
pub const HAPPENED: &str = "machine-event";
/// After these events a machine is otherwise than whoever looked before has seen it.
const TELLING: [&str; 14] = [
    "STOP",
    "RESUME",
    "SUSPEND",
    "WAKEUP",
    "SHUTDOWN",
    "WATCHDOG",
    "GUEST_PANICKED",
    "GUEST_CRASHLOADED",
    "BLOCK_IO_ERROR",
    "DEVICE_DELETED",
    "DEVICE_UNPLUG_GUEST_ERROR",
    "DEVICE_TRAY_MOVED",
    "BALLOON_CHANGE",
    "MEMORY_DEVICE_SIZE_CHANGE",
];
/// So many bytes of it are kept, from its start.
const LONGEST: u64 = 64 << 10;
/// A line of the monitor that is longer is none that matters here.
const LINE: usize = 4096;
/// The longest word that is taken for a reason.
const WORD: usize = 40;

/// The companion's ends.
#[derive(Debug)]
pub struct Watch {
    monitor: Option<OwnedFd>,
    complaints: Option<OwnedFd>,
    log: Option<OwnedFd>,
    kept: u64,
    line: Line,
    reason: Option<String>,
    /// What says whether the agent's port is served.
    port: Option<OwnedFd>,
    /// What is written when something happens.
    happened: Option<OwnedFd>,
}

/// The ends of the process.
#[derive(Debug)]
pub struct Watched {
    /// Connected; a monitor.
    pub monitor: OwnedFd,
    /// Its standard error. What does not fit is lost and holds up nobody.
    pub complaints: OwnedFd,
}

/// Both ends.
///
/// # Errors
/// The kernel's answer.
pub fn pair() -> Result<(Watch, Watched), Failure> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let (ours, theirs) =
        rustix::net::socketpair(AddressFamily::UNIX, SocketType::STREAM, flags, None)
            .named("make a socket pair")?;
    let (complaints, writer) =
        rustix::pipe::pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK).named("make a pipe")?;
    // The first thing that a monitor wants to hear; it is read when the monitor is there.
    rustix::net::send(
        &ours,
        b"{\"execute\":\"qmp_capabilities\"}\n",
        SendFlags::NOSIGNAL,
    )
    .named("greet the monitor")?;
    // In the working folder, which is the run folder.
    let how = OFlags::CREATE | OFlags::TRUNC | OFlags::WRONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let log = rustix::fs::open(COMPLAINTS, how, Mode::from_raw_mode(0o600)).ok();
    // One that cannot be written must not stay as it was in an earlier life.
    let _ = rustix::fs::unlink(AGENT_PORT);
    let port = rustix::fs::open(AGENT_PORT, how, Mode::from_raw_mode(0o600)).ok();
    // Locked as long as somebody keeps it true: QEMU outlives a companion that is killed.
    let port = port.filter(|port| flock(port, FlockOperation::NonBlockingLockExclusive).is_ok());
    say(port.as_ref(), NOT_SERVED);
    // It stays the same file over all starts, so that one who watches it sees the first event of each.
    let happened = rustix::fs::open(HAPPENED, how, Mode::from_raw_mode(0o600)).ok();
    Ok((
        Watch {
            monitor: Some(ours),
            complaints: Some(complaints),
            log,
            kept: 0,
            line: Line::default(),
            reason: None,
            port,
            happened,
        },
        Watched {
            monitor: theirs,
            complaints: writer,
        },
    ))
}

impl Watch {
    /// What is waited for: the monitor, while it is there, and the complaints.
    pub fn sources(&self) -> [Option<BorrowedFd<'_>>; 2] {
        [&self.monitor, &self.complaints].map(|end| end.as_ref().map(|fd| fd.as_fd()))
    }

    /// Reads what there is, at most one piece of each; `false`: there was nothing.
    pub fn turn(&mut self) -> bool {
        let heard = self.hear();
        self.keep() || heard
    }

    /// Reads all that a process which has ended left, and tells its reason.
    pub fn end(mut self) -> Option<String> {
        // At most as much as the kernel holds for a socket and a pipe.
        for _ in 0..256 {
            if !self.turn() {
                break;
            }
        }
        self.reason
    }

    fn hear(&mut self) -> bool {
        let Some(monitor) = &self.monitor else {
            return false;
        };
        let mut bytes = [0; 4096];
        let length = match rustix::net::recv(monitor, &mut bytes, RecvFlags::DONTWAIT) {
            Ok((length, _)) if length > 0 => length,
            Err(Errno::AGAIN | Errno::INTR) => return false,
            Ok(_) | Err(_) => {
                self.monitor = None;
                return false;
            }
        };
        let mut ended = false;
        for &byte in &bytes[..length] {
            let Some(line) = self.line.push(byte) else {
                continue;
            };
            if let Some(reason) = reason(line) {
                // The first is the reason; what follows is that the process is let go.
                self.reason.get_or_insert_with(|| reason.to_owned());
                ended = true;
            }
            if let Some(event) = telling(line) {
                say(self.happened.as_ref(), &told(event));
            }
            if let Some(served) = served(line) {
                say(self.port.as_ref(), if served { SERVED } else { NOT_SERVED });
            }
        }
        if ended {
            let quit = b"{\"execute\":\"quit\"}\n";
            let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
            let _ = rustix::net::send(monitor, quit, flags);
        }
        true
    }

    fn keep(&mut self) -> bool {
        let Some(complaints) = &self.complaints else {
            return false;
        };
        let mut bytes = [0; 4096];
        let length = match rustix::io::read(complaints, &mut bytes) {
            Ok(length) if length > 0 => length,
            Err(Errno::AGAIN | Errno::INTR) => return false,
            // Nobody holds the other end any more.
            Ok(_) | Err(_) => {
                self.complaints = None;
                return false;
            }
        };
        let room = usize::try_from(LONGEST.saturating_sub(self.kept)).unwrap_or(0);
        if let Some(log) = &self.log
            && room > 0
        {
            let written = rustix::io::write(log, &bytes[..length.min(room)]);
            self.kept += written.unwrap_or(0) as u64;
        }
        true
    }
}

fn say(port: Option<&OwnedFd>, word: &[u8]) {
    if let Some(port) = port {
        let _ = rustix::io::pwrite(port, word, 0);
    }
}

/// A line that comes in pieces.
#[derive(Debug)]
struct Line {
    bytes: [u8; LINE],
    length: usize,
    too_long: bool,
}

impl Default for Line {
    fn default() -> Self {
        Self {
            bytes: [0; LINE],
            length: 0,
            too_long: false,
        }
    }
}

impl Line {
    /// Takes one byte; the line, where this ends it.
    fn push(&mut self, byte: u8) -> Option<&[u8]> {
        if byte == b'\n' {
            let length = std::mem::take(&mut self.length);
            return match std::mem::take(&mut self.too_long) {
                true => None,
                false => self.bytes.get(..length),
            };
        }
        match self.bytes.get_mut(self.length) {
            Some(place) => {
                *place = byte;
                self.length += 1;
            }
            None => self.too_long = true,
        }
        None
    }
}

/// The reason in an event that ends a machine. QEMU writes its JSON in one line, with a blank after each colon
/// (`qobject/json-writer.c`).
fn reason(line: &[u8]) -> Option<&str> {
    let (event, line) = event(line)?;
    match event {
        "GUEST_PANICKED" => Some("guest-panicked"),
        "SHUTDOWN" => Some(after(line, "\"reason\": \"").unwrap_or("shutdown")),
        _ => None,
    }
}

/// Whether the agent's port is served, in an event of that port.
fn served(line: &[u8]) -> Option<bool> {
    let (event, line) = event(line)?;
    if event != "VSERPORT_CHANGE" || after(line, "\"id\": \"") != Some(AGENT_PORT) {
        return None;
    }
    let (_, open) = line.split_once("\"open\": ")?;
    Some(open.starts_with("true"))
}

/// The name of an event after which a machine is otherwise.
fn telling(line: &[u8]) -> Option<&'static str> {
    let (name, _) = event(line)?;
    TELLING.into_iter().find(|known| *known == name)
}

/// As it is written over the one before.
fn told(event: &str) -> [u8; WORD] {
    let mut text = [b' '; WORD];
    text[WORD - 1] = b'\n';
    for (place, byte) in text.iter_mut().zip(event.bytes()) {
        *place = byte;
    }
    text
}

/// The name of an event, and its line.
fn event(line: &[u8]) -> Option<(&str, &str)> {
    let line = std::str::from_utf8(line).ok()?;
    if !line.starts_with('{') {
        return None;
    }
    Some((after(line, "\"event\": \"")?, line))
}

/// The word behind a key.
fn after<'l>(line: &'l str, key: &str) -> Option<&'l str> {
    let (_, rest) = line.split_once(key)?;
    let (word, _) = rest.split_once('"')?;
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    (!word.is_empty() && word.len() <= WORD && word.bytes().all(plain)).then_some(word)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reason_of_an_end_is_read_out_of_its_event() {
        let event = |name: &str, data: &str| {
            format!(
                "{{\"timestamp\": {{\"seconds\": 1, \"microseconds\": 2}}, \"event\": \"{name}\", \"data\": {data}}}\r"
            )
        };
        let cases = [
            (
                event(
                    "SHUTDOWN",
                    "{\"guest\": true, \"reason\": \"guest-shutdown\"}",
                ),
                Some("guest-shutdown"),
            ),
            (
                event(
                    "SHUTDOWN",
                    "{\"guest\": false, \"reason\": \"host-qmp-quit\"}",
                ),
                Some("host-qmp-quit"),
            ),
            (
                event("SHUTDOWN", "{\"guest\": false, \"reason\": \"a b\\nc\"}"),
                Some("shutdown"),
            ),
            (
                event("GUEST_PANICKED", "{\"action\": \"pause\"}"),
                Some("guest-panicked"),
            ),
            (
                event("RESET", "{\"guest\": true, \"reason\": \"guest-reset\"}"),
                None,
            ),
            ("{\"return\": {}}".to_owned(), None),
            ("\"event\": \"SHUTDOWN\"".to_owned(), None),
            (String::new(), None),
        ];
        for (line, wanted) in cases {
            assert_eq!(reason(line.as_bytes()), wanted, "{line}");
        }
        assert_eq!(reason(b"{\xff\"event\": \"SHUTDOWN\""), None);
    }

    #[test]
    fn whether_the_agent_is_there_is_read_out_of_the_event_of_its_port() {
        let told = |data: &str| {
            let line = format!(
                "{{\"timestamp\": {{\"seconds\": 1}}, \"event\": \"VSERPORT_CHANGE\", \"data\": {data}}}\r"
            );
            served(line.as_bytes())
        };
        assert_eq!(told(r#"{"open": true, "id": "agent-port"}"#), Some(true));
        assert_eq!(told(r#"{"id": "agent-port", "open": false}"#), Some(false));
        assert_eq!(told(r#"{"open": true, "id": "other"}"#), None);
        assert_eq!(told("{}"), None);
        let other = br#"{"event": "RESET", "data": {"open": true, "id": "agent-port"}}"#;
        assert_eq!(served(other), None);
    }

    #[test]
    fn events_after_which_a_machine_is_otherwise_are_told_and_no_others() {
        let told = |name: &str| {
            let line = format!("{{\"timestamp\": {{\"seconds\": 1}}, \"event\": \"{name}\"}}\r");
            telling(line.as_bytes()).map(|name| {
                let text = super::told(name);
                String::from_utf8(text.to_vec()).unwrap()
            })
        };
        for name in TELLING {
            let text = told(name).unwrap();
            assert_eq!(text.trim_end(), name);
            assert!(text.len() == WORD && text.ends_with('\n'), "{text:?}");
        }
        for name in ["RTC_CHANGE", "VNC_CONNECTED", "BLOCK_JOB_READY", "stop"] {
            assert_eq!(told(name), None, "{name}");
        }
        assert_eq!(telling(b"{\"return\": {}}"), None);
    }

    #[test]
    fn lines_come_in_pieces_and_one_without_an_end_takes_no_room() {
        let mut line = Line::default();
        let mut lines = Vec::new();
        let text = [b"one\ntw".as_slice(), &[b'x'; 3 * LINE], b"\nthree\n\n"].concat();
        for byte in text {
            if let Some(line) = line.push(byte) {
                lines.push(String::from_utf8(line.to_vec()).unwrap());
            }
        }
        assert_eq!(lines, ["one", "three", ""]);
    }
}
