//! The companion's steady state: one thread, one poll, no allocation; it keeps the console, answers keel, and is the
//! parent that learns how init ended.

use std::os::fd::{AsFd as _, OwnedFd};
use std::time::{Duration, Instant, SystemTime};

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags};
use rustix::process::{WaitId, WaitIdOptions};
use rustix::pty::OpenptFlags;

use super::again::Again;
use super::channel::send_packet;
use super::control::{self, Reply, Request, State};
use super::failure::{Doing as _, Failure};
use super::helper;
use super::launch::Live;
use super::record::{self, End, ExitRecord};
use super::restart::{self, Next, next};
use super::ring::Ring;
use super::watch::Watch;
use super::wire::Wire as _;

/// Clients of the control socket at one time; more are turned away.
const CLIENTS: usize = 6;
/// Consoles at one time: keel must always be able to ask.
const CONSOLES: usize = CLIENTS - 2;
/// Before the clients are polled: init, its console, the listener, a machine's monitor and its complaints.
const FIRST: usize = 5;
/// Behind the clients: of each helper its end and its complaints.
const HELPERS: usize = 2 * helper::MOST;

/// One connection to the control socket.
#[derive(Debug)]
struct Client {
    socket: OwnedFd,
    console: bool,
    /// Input that the terminal did not take yet.
    pending: [u8; 512],
    filled: usize,
}

/// What the companion watches over.
#[derive(Debug)]
pub struct Supervisor {
    run_dir: OwnedFd,
    listener: OwnedFd,
    ring: Ring,
    state: State,
    /// Absent while it waits to start again.
    live: Option<Live>,
    /// Held open, so that the terminal never hangs up: systemd closes the console while it starts.
    slave: Option<OwnedFd>,
    clients: [Option<Client>; CLIENTS],
    again: Option<Again>,
}

/// Waits until the process of a pidfd has ended and takes its status.
///
/// # Errors
/// It is no child of this process.
pub fn reap(pidfd: &OwnedFd) -> Result<End, Failure> {
    let status = loop {
        match rustix::process::waitid(WaitId::PidFd(pidfd.as_fd()), WaitIdOptions::EXITED) {
            Err(Errno::INTR) => {}
            other => break other.named("wait for a child")?,
        }
    };
    let Some(status) = status else {
        return Err(Failure::new("wait for a child", libc::ECHILD));
    };
    match (status.exit_status(), status.terminating_signal()) {
        (Some(code), _) => Ok(End::Code(code)),
        (None, Some(signal)) => Ok(End::Signal(signal)),
        (None, None) => Err(Failure::new("read the status of a child", libc::EPROTO)),
    }
}

/// Field 22 of `/proc/PID/stat`: with the pid, it names a process of this boot for ever (`proc_pid_stat(5)`).
pub fn start_time(pid: i32) -> Option<u64> {
    let path = format!("/proc/{pid}/stat");
    let flags = rustix::fs::OFlags::RDONLY | rustix::fs::OFlags::CLOEXEC;
    let file = rustix::fs::open(path, flags, rustix::fs::Mode::empty()).ok()?;
    let mut bytes = [0; 1024];
    let length = rustix::io::read(file, &mut bytes).ok()?;
    parse_start_time(bytes.get(..length)?)
}

/// The command in the second field may hold spaces and parentheses; nothing after its last one does.
fn parse_start_time(stat: &[u8]) -> Option<u64> {
    let after = stat.iter().rposition(|&byte| byte == b')')? + 2;
    let fields = std::str::from_utf8(stat.get(after..)?).ok()?;
    fields.split(' ').nth(19)?.parse().ok()
}

impl Supervisor {
    /// Takes over a started container. With `again`, it is started again as its policy says.
    pub fn new(
        run_dir: OwnedFd,
        listener: OwnedFd,
        ring: Ring,
        live: Live,
        about: (u64, String),
        again: Option<Again>,
    ) -> Self {
        let (generation, boot_id) = about;
        let mut supervisor = Self {
            run_dir,
            listener,
            ring,
            state: State {
                version: control::VERSION,
                generation,
                boot_id,
                init: 0,
                start_time: 0,
                shim: rustix::process::getpid().as_raw_nonzero().get(),
                restarts: 0,
                restarting: again.is_some(),
                lost: 0,
            },
            live: None,
            slave: None,
            clients: [const { None }; CLIENTS],
            again,
        };
        supervisor.begin(live);
        supervisor
    }

    fn begin(&mut self, live: Live) {
        self.state.init = live.pid.as_raw_nonzero().get();
        self.state.start_time = start_time(self.state.init).unwrap_or(0);
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        self.slave = rustix::pty::ioctl_tiocgptpeer(&live.master, flags).ok();
        let _ = rustix::io::ioctl_fionbio(&live.master, true);
        self.live = Some(live);
    }

    /// Supervises until init has ended for good. The record of each end is on the disk before anything else happens.
    ///
    /// # Errors
    /// The status cannot be read or the record cannot be written.
    pub fn run(&mut self) -> Result<(), Failure> {
        let mut pause_ms = 0;
        loop {
            let began = now();
            while !self.turn(None)? {}
            let end = self.end()?;
            let policy = match &self.again {
                Some(again) if self.state.restarting => again.what.restart(),
                _ => None,
            };
            let Next::Again { pause_ms: pause } = next(policy, end, ms_since(began), pause_ms)
            else {
                return Ok(());
            };
            pause_ms = pause;
            while !self.start_again(pause_ms)? {
                let policy = self.again.as_ref().and_then(|again| again.what.restart());
                match policy {
                    Some(policy) if self.state.restarting => {
                        pause_ms = restart::pause(policy, false, pause_ms);
                    }
                    _ => return Ok(()),
                }
            }
        }
    }

    /// Takes the status of an init that has ended, and writes it down. The answer is what that means for a restart.
    fn end(&mut self) -> Result<End, Failure> {
        // The terminal may hold output that init wrote last.
        while self.read_console() {}
        self.slave = None;
        let Some(live) = self.live.take() else {
            return Err(Failure::new("wait for init", libc::ECHILD));
        };
        let end = reap(&live.pidfd)?;
        let Live {
            watch, mut helpers, ..
        } = live;
        let reason = watch.and_then(Watch::end);
        let meaning = restart::meaning(end, reason.as_deref());
        let record = ExitRecord {
            generation: self.state.generation,
            boot_id: self.state.boot_id.clone(),
            init: self.state.init,
            start_time: self.state.start_time,
            end,
            at_ms: now_ms(),
            restarts: self.state.restarts,
            lost: self.ring.lost(),
            reason,
        };
        self.state.init = 0;
        record.write(&self.run_dir)?;
        helpers.end(&mut self.ring);
        if self.again.is_some() {
            // A full disk is no reason not to start again; the next record is then tried without.
            let _ = record::reserve(&self.run_dir);
        }
        Ok(meaning)
    }

    /// Pauses, and starts the instance again; `false`: that failed, or somebody has asked for its stop.
    fn start_again(&mut self, pause_ms: u64) -> Result<bool, Failure> {
        let began = now();
        loop {
            if !self.state.restarting {
                return Ok(false);
            }
            let left = pause_ms.saturating_sub(ms_since(began));
            if left == 0 {
                break;
            }
            self.turn(Some(left))?;
        }
        let Some(again) = &mut self.again else {
            return Ok(false);
        };
        let run_dir = &self.run_dir;
        let mut begun = |pid: rustix::process::Pid| {
            record::forget(run_dir);
            let init = pid.as_raw_nonzero().get();
            record::write_present(run_dir, init, start_time(init).unwrap_or(0))?;
            let _ = record::reserve(run_dir);
            Ok(())
        };
        match again.launch(None, &mut begun) {
            Ok(live) => {
                self.state.restarts += 1;
                self.begin(live);
                Ok(true)
            }
            Err(failure) => {
                let error = std::io::Error::from_raw_os_error(failure.errno);
                let text = format!("keel-shim: start again: {}: {error}\r\n", failure.doing);
                self.ring.append(text.as_bytes());
                Ok(false)
            }
        }
    }

    /// Waits for one thing to happen and handles it; `true`: init has ended.
    fn turn(&mut self, patience_ms: Option<u64>) -> Result<bool, Failure> {
        let mut sources: [PollFd<'_>; FIRST + CLIENTS + HELPERS] =
            std::array::from_fn(|_| PollFd::new(&self.listener, PollFlags::empty()));
        if let Some(live) = &self.live {
            let blocked = self
                .clients
                .iter()
                .flatten()
                .any(|client| client.filled > 0);
            let room = if blocked {
                PollFlags::OUT
            } else {
                PollFlags::empty()
            };
            sources[0] = PollFd::new(&live.pidfd, PollFlags::IN);
            sources[1] = PollFd::new(&live.master, PollFlags::IN | room);
            let watched = live.watch.as_ref().map(Watch::sources).unwrap_or_default();
            for (source, watched) in sources[3..FIRST].iter_mut().zip(watched) {
                if let Some(watched) = watched {
                    *source = PollFd::from_borrowed_fd(watched, PollFlags::IN);
                }
            }
            let places = sources[FIRST + CLIENTS..].iter_mut();
            for (source, helper) in places.zip(live.helpers.sources()) {
                *source = PollFd::from_borrowed_fd(helper, PollFlags::IN);
            }
        }
        sources[2] = PollFd::new(&self.listener, PollFlags::IN);
        for (source, client) in sources[FIRST..].iter_mut().zip(&self.clients) {
            if let Some(client) = client {
                let wanted = if client.filled > 0 {
                    PollFlags::empty()
                } else {
                    PollFlags::IN
                };
                *source = PollFd::new(&client.socket, wanted);
            }
        }
        let patience =
            patience_ms.and_then(|ms| Timespec::try_from(Duration::from_millis(ms)).ok());
        match rustix::event::poll(&mut sources, patience.as_ref()) {
            Err(Errno::INTR) => return Ok(false),
            other => other.named("poll")?,
        };
        let happened: [PollFlags; FIRST + CLIENTS] =
            std::array::from_fn(|at| sources[at].revents());
        let of_helpers = sources[FIRST + CLIENTS..].iter();
        let of_helpers = of_helpers.fold(PollFlags::empty(), |all, one| all | one.revents());
        if !of_helpers.is_empty()
            && let Some(live) = &mut self.live
        {
            live.helpers.turn(&mut self.ring);
        }
        if happened[1].contains(PollFlags::OUT) {
            for at in 0..CLIENTS {
                self.feed(at);
            }
        }
        if happened[1].contains(PollFlags::IN) {
            self.read_console();
        }
        if happened[3..FIRST].iter().any(|one| !one.is_empty())
            && let Some(watch) = self.live.as_mut().and_then(|live| live.watch.as_mut())
        {
            watch.turn();
        }
        for (at, happened) in happened[FIRST..].iter().enumerate() {
            if !happened.is_empty() && self.clients[at].is_some() {
                self.serve(at, *happened);
            }
        }
        if !happened[2].is_empty() {
            self.accept();
        }
        Ok(!happened[0].is_empty())
    }

    /// Moves one piece of output to the log and the attached clients; `false`: there is none.
    fn read_console(&mut self) -> bool {
        let Some(live) = &self.live else {
            return false;
        };
        let mut buffer = [0; 4096];
        let output = match rustix::io::read(&live.master, &mut buffer) {
            Err(Errno::INTR) => return true,
            Err(_) | Ok(0) => return false,
            Ok(length) => &buffer[..length],
        };
        self.ring.append(output);
        for client in self
            .clients
            .iter()
            .flatten()
            .filter(|client| client.console)
        {
            // A client that does not read misses output; the log has it.
            let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
            let _ = rustix::net::send(&client.socket, output, flags);
        }
        true
    }

    fn accept(&mut self) {
        let flags = rustix::net::SocketFlags::CLOEXEC | rustix::net::SocketFlags::NONBLOCK;
        let Ok(socket) = rustix::net::accept_with(&self.listener, flags) else {
            return;
        };
        // The folder is 0700 already; this holds also where somebody opened it.
        let root = rustix::net::sockopt::socket_peercred(&socket)
            .is_ok_and(|credentials| credentials.uid.is_root());
        if let (true, Some(place)) = (root, self.clients.iter_mut().find(|place| place.is_none())) {
            *place = Some(Client {
                socket,
                console: false,
                pending: [0; 512],
                filled: 0,
            });
        }
    }

    fn serve(&mut self, at: usize, happened: PollFlags) {
        let Some(client) = &mut self.clients[at] else {
            return;
        };
        if !happened.contains(PollFlags::IN) {
            if happened.intersects(PollFlags::HUP | PollFlags::ERR | PollFlags::NVAL) {
                self.clients[at] = None;
            }
            return;
        }
        let mut packet = [0; 512];
        let length = match rustix::net::recv(&client.socket, &mut packet, RecvFlags::TRUNC) {
            Err(Errno::INTR | Errno::AGAIN) => return,
            Ok((length, real)) if length > 0 && real == length => length,
            // End of the connection, or a packet longer than any that keel sends.
            Err(_) | Ok(_) => {
                self.clients[at] = None;
                return;
            }
        };
        let packet = &packet[..length];
        if client.console {
            match packet {
                [control::INPUT, input @ ..] => {
                    client.pending[..input.len()].copy_from_slice(input);
                    client.filled = input.len();
                    self.feed(at);
                }
                [control::WINDOW, a, b, c, d] => {
                    let size = rustix::termios::Winsize {
                        ws_row: u16::from_le_bytes([*a, *b]),
                        ws_col: u16::from_le_bytes([*c, *d]),
                        ws_xpixel: 0,
                        ws_ypixel: 0,
                    };
                    if let Some(live) = &self.live {
                        let _ = rustix::termios::tcsetwinsize(&live.master, size);
                    }
                }
                _ => self.clients[at] = None,
            }
        } else {
            self.answer(at, packet);
        }
    }

    fn feed(&mut self, at: usize) {
        let Some(client) = &mut self.clients[at] else {
            return;
        };
        let Some(live) = &self.live else {
            client.filled = 0;
            return;
        };
        if client.filled == 0 {
            return;
        }
        match rustix::io::write(&live.master, &client.pending[..client.filled]) {
            Ok(written) => {
                client.pending.copy_within(written..client.filled, 0);
                client.filled -= written;
            }
            Err(Errno::AGAIN | Errno::INTR) => {}
            Err(_) => client.filled = 0,
        }
    }

    fn answer(&mut self, at: usize, mut packet: &[u8]) {
        let request = Request::take(&mut packet);
        if let Ok(Request::Restarting { wanted }) = request {
            self.state.restarting = wanted;
        }
        self.state.lost = self.ring.lost();
        let consoles = self.clients.iter().flatten().filter(|other| other.console);
        let full = request == Ok(Request::Attach) && consoles.count() >= CONSOLES;
        let reply = match request {
            Ok(_) if full => Reply::Refused { errno: libc::EBUSY },
            Ok(_) => Reply::State {
                state: self.state.clone(),
            },
            Err(_) => Reply::Refused {
                errno: libc::EOPNOTSUPP,
            },
        };
        let Some(client) = &mut self.clients[at] else {
            return;
        };
        client.console = request == Ok(Request::Attach) && !full;
        let sent = match &self.live {
            Some(live) if request == Ok(Request::Handles) => {
                let handles = [live.pidfd.as_fd(), live.master.as_fd()];
                send_packet(&client.socket, &reply, &handles)
            }
            _ => send_packet(&client.socket, &reply, &[]),
        };
        if sent.is_err() {
            self.clients[at] = None;
        }
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "how long an instance ran is measured by its parent alone"
)]
fn now() -> Instant {
    Instant::now()
}

fn ms_since(began: Instant) -> u64 {
    u64::try_from(now().saturating_duration_since(began).as_millis()).unwrap_or(u64::MAX)
}

fn now_ms() -> u64 {
    #[expect(
        clippy::disallowed_methods,
        reason = "the moment of an exit is only known here, to the parent of init"
    )]
    let now = SystemTime::now();
    now.duration_since(SystemTime::UNIX_EPOCH)
        .ok()
        .and_then(|since| u64::try_from(since.as_millis()).ok())
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_start_time_is_found_behind_any_command_name() {
        let rest = "S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 4242 20 21";
        for command in ["(init)", "(a b)", "(a) b)", "())"] {
            let stat = format!("17 {command} {rest}");
            assert_eq!(parse_start_time(stat.as_bytes()), Some(4242), "{stat}");
        }
        assert_eq!(parse_start_time(b"17 (short) S 1"), None);
    }
}
