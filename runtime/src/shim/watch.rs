//! What a virtual machine says of itself: the events of one of its monitors, and what its process complains of.
//!
//! The companion reads for the end alone. A guest that has switched itself off, or has panicked, leaves its process behind
//! in a pause (`-action shutdown=pause,panic=pause`), so that nobody misses why; the companion keeps the reason and lets
//! the process go. It also keeps what the machine tells of itself. Nothing here trusts the process: a guest may have broken
//! out into it.

use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType};
use rustix::pipe::PipeFlags;

use super::failure::{Doing as _, Failure};
use super::told::{AGENT_PORT, Telling};

/// What the process complained of, in the run folder.
pub const COMPLAINTS: &str = "qemu.log";
/// The file in the run folder that is written each time that something happens to the machine which others may want to see:
/// the name of the last such event is in it.
pub const HAPPENED: &str = "machine-event";
/// After these events a machine is otherwise than whoever looked before has seen it.
const MATTERING: [&str; 14] = [
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
    told: Telling,
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
            told: Telling::begin(),
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
            let Some((event, line)) = event(line) else {
                continue;
            };
            self.told.hear(event, served(event, line));
            if let Some(event) = mattering(event)
                && let Some(happened) = &self.happened
            {
                let _ = rustix::io::pwrite(happened, &written(event), 0);
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
fn served(event: &str, line: &str) -> Option<bool> {
    if event != "VSERPORT_CHANGE" || after(line, "\"id\": \"") != Some(AGENT_PORT) {
        return None;
    }
    let (_, open) = line.split_once("\"open\": ")?;
    Some(open.starts_with("true"))
}

/// An event after which a machine is otherwise.
fn mattering(event: &str) -> Option<&'static str> {
    MATTERING.into_iter().find(|known| *known == event)
}

/// As it is written over the one before.
fn written(event: &str) -> [u8; WORD] {
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
            let (event, line) = event(line.as_bytes()).unwrap();
            served(event, line)
        };
        assert_eq!(told(r#"{"open": true, "id": "agent-port"}"#), Some(true));
        assert_eq!(told(r#"{"id": "agent-port", "open": false}"#), Some(false));
        assert_eq!(told(r#"{"open": true, "id": "other"}"#), None);
        assert_eq!(told("{}"), None);
        let other = r#"{"event": "RESET", "data": {"open": true, "id": "agent-port"}}"#;
        assert_eq!(served("RESET", other), None);
    }

    #[test]
    fn events_after_which_a_machine_is_otherwise_are_told_and_no_others() {
        for name in MATTERING {
            let line = format!("{{\"timestamp\": {{\"seconds\": 1}}, \"event\": \"{name}\"}}\r");
            let (event, _) = event(line.as_bytes()).unwrap();
            let text = String::from_utf8(written(mattering(event).unwrap()).to_vec()).unwrap();
            assert_eq!(text.trim_end(), name);
            assert!(text.len() == WORD && text.ends_with('\n'), "{text:?}");
        }
        for name in ["RTC_CHANGE", "VNC_CONNECTED", "BLOCK_JOB_READY", "stop"] {
            assert_eq!(mattering(name), None, "{name}");
        }
        assert_eq!(event(b"{\"return\": {}}"), None);
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
