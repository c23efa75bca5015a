//! The companion's steady state: one thread, one poll, no allocation; it keeps the console, answers keel, and is the
//! parent that learns how init ended.

use std::os::fd::{AsFd as _, OwnedFd};
use std::time::SystemTime;

use rustix::event::{PollFd, PollFlags};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags};
use rustix::process::{WaitId, WaitIdOptions};
use rustix::pty::OpenptFlags;

use super::control::{self, Reply, Request, State};
use super::failure::{Doing as _, Failure};
use super::launch::Live;
use super::record::{End, ExitRecord};
use super::ring::Ring;
use super::wire::Wire as _;

/// Clients of the control socket at one time; more are turned away.
const CLIENTS: usize = 6;

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
    live: Live,
    /// Held open, so that the terminal never hangs up: systemd closes the console while it starts.
    _slave: Option<OwnedFd>,
    clients: [Option<Client>; CLIENTS],
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
    /// Takes over a started container.
    pub fn new(
        run_dir: OwnedFd,
        listener: OwnedFd,
        ring: Ring,
        live: Live,
        generation: u64,
        boot_id: String,
    ) -> Self {
        let init = live.pid.as_raw_nonzero().get();
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        let slave = rustix::pty::ioctl_tiocgptpeer(&live.master, flags).ok();
        let _ = rustix::io::ioctl_fionbio(&live.master, true);
        Self {
            run_dir,
            listener,
            ring,
            state: State {
                version: control::VERSION,
                generation,
                boot_id,
                init,
                start_time: start_time(init).unwrap_or(0),
                shim: rustix::process::getpid().as_raw_nonzero().get(),
                restarts: 0,
                restarting: false,
                lost: 0,
            },
            live,
            _slave: slave,
            clients: [const { None }; CLIENTS],
        }
    }

    /// Supervises until init has ended, writes the exit record, and answers whether that worked.
    ///
    /// # Errors
    /// The status cannot be read or the record cannot be written.
    pub fn run(&mut self) -> Result<(), Failure> {
        while !self.turn()? {}
        let end = reap(&self.live.pidfd)?;
        // The terminal may hold output that init wrote last.
        while self.read_console() {}
        let record = ExitRecord {
            generation: self.state.generation,
            boot_id: std::mem::take(&mut self.state.boot_id),
            init: self.state.init,
            start_time: self.state.start_time,
            end,
            at_ms: now_ms(),
            restarts: self.state.restarts,
            lost: self.ring.lost(),
        };
        record.write(&self.run_dir)
    }

    /// Waits for one thing to happen and handles it; `true`: init has ended.
    fn turn(&mut self) -> Result<bool, Failure> {
        let mut sources: [PollFd<'_>; 3 + CLIENTS] =
            std::array::from_fn(|_| PollFd::new(&self.live.pidfd, PollFlags::empty()));
        sources[0] = PollFd::new(&self.live.pidfd, PollFlags::IN);
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
        sources[1] = PollFd::new(&self.live.master, PollFlags::IN | room);
        sources[2] = PollFd::new(&self.listener, PollFlags::IN);
        for (source, client) in sources[3..].iter_mut().zip(&self.clients) {
            if let Some(client) = client {
                let wanted = if client.filled > 0 {
                    PollFlags::empty()
                } else {
                    PollFlags::IN
                };
                *source = PollFd::new(&client.socket, wanted);
            }
        }
        match rustix::event::poll(&mut sources, None) {
            Err(Errno::INTR) => return Ok(false),
            other => other.named("poll")?,
        };
        let happened: [PollFlags; 3 + CLIENTS] = std::array::from_fn(|at| sources[at].revents());
        if happened[1].contains(PollFlags::OUT) {
            for at in 0..CLIENTS {
                self.feed(at);
            }
        }
        if happened[1].contains(PollFlags::IN) {
            self.read_console();
        }
        for (at, happened) in happened[3..].iter().enumerate() {
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
        let mut buffer = [0; 4096];
        let output = match rustix::io::read(&self.live.master, &mut buffer) {
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
                    let _ = rustix::termios::tcsetwinsize(&self.live.master, size);
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
        if client.filled == 0 {
            return;
        }
        match rustix::io::write(&self.live.master, &client.pending[..client.filled]) {
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
        let reply = match request {
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
        client.console = request == Ok(Request::Attach);
        let handles = [self.live.pidfd.as_fd(), self.live.master.as_fd()];
        let handles: &[_] = if request == Ok(Request::Handles) {
            &handles
        } else {
            &[]
        };
        if super::channel::send_packet(&client.socket, &reply, handles).is_err() {
            self.clients[at] = None;
        }
    }
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
