//! The checks of an instance: asked of it from the host, each with an end.

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::os::fd::{AsFd as _, OwnedFd};
use std::time::Duration;

use manifests::instance::health::{Health, HttpCheck};
use manifests::kinds::instance::Instance;
use rustix::event::{PollFd, PollFlags};

use super::super::machine;
use super::record::{Check, names};
use crate::native::chain;
use crate::native::container::exec::{SessionStreams, StreamsPlan, exec};
use crate::native::container::plan::ProgramPlan;
use crate::native::deadline::Deadline;
use crate::native::host::Host;
use crate::native::operate::environment;
use crate::native::shim::Running;
use crate::runtime::ExecRequest;

/// How long a server may take to answer.
const ANSWER: Duration = Duration::from_secs(3);
/// How long a command, or the agent of an emulated guest, may take.
const COMMAND: Duration = Duration::from_secs(5);
/// The longest first line of an answer that is read: `HTTP/1.1 200 OK`.
const LINE: u64 = 256;
/// What a command says is taken off its hands in pieces of so many bytes.
const PIECE: usize = 4096;

/// An instance that is asked.
pub(super) struct Subject<'a> {
    pub host: &'a Host,
    pub instance: &'a Instance,
    pub running: &'a Running,
    /// Where it can be reached.
    pub addresses: Vec<IpAddr>,
    /// A network interface without an address.
    pub lacking: Option<String>,
}

/// Makes the checks.
pub(super) fn checks(health: &Health, subject: &Subject<'_>) -> Vec<Check> {
    let check = |name: &'static str| {
        let result = match name {
            "addresses" => match &subject.lacking {
                Some(device) => Err(format!("{device} has no address, or none that is told")),
                None => Ok(()),
            },
            "agent" => machine::agent_answers(subject.running, COMMAND),
            "cloudInit" => machine::cloud_init_is_done(subject.running, COMMAND),
            "tcp" => tcp(&subject.addresses, health.tcp.unwrap_or_default()),
            "http" => http(&subject.addresses, &health.http.clone().unwrap_or_default()),
            _ => command(subject, health.exec.as_deref().unwrap_or_default()),
        };
        Check {
            name: name.to_owned(),
            why: result.err(),
        }
    };
    names(health).map(check).collect()
}

/// Connects to a port, at the first address that answers.
fn connected(addresses: &[IpAddr], port: u16) -> Result<TcpStream, String> {
    let deadline = Deadline::after(ANSWER);
    let mut why = "it has no address".to_owned();
    for address in addresses {
        let left = deadline.left();
        if left.is_zero() {
            break;
        }
        let address = SocketAddr::new(*address, port);
        match TcpStream::connect_timeout(&address, left) {
            Ok(stream) => return Ok(stream),
            Err(error) => why = format!("{address}: {error}"),
        }
    }
    Err(why)
}

fn tcp(addresses: &[IpAddr], port: u16) -> Result<(), String> {
    connected(addresses, port).map(drop)
}

fn http(addresses: &[IpAddr], check: &HttpCheck) -> Result<(), String> {
    let mut stream = connected(addresses, check.port)?;
    let asked = || -> std::io::Result<Vec<u8>> {
        stream.set_read_timeout(Some(ANSWER))?;
        stream.set_write_timeout(Some(ANSWER))?;
        let host = stream.peer_addr()?;
        let question = format!(
            "GET {} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: keel\r\nAccept: */*\r\nConnection: close\r\n\r\n",
            check.path
        );
        stream.write_all(question.as_bytes())?;
        first_line(&mut stream)
    };
    let line = asked_of(asked)?;
    match status(&line) {
        Some(200..=399) => Ok(()),
        Some(status) => Err(format!("GET {} is answered with {status}", check.path)),
        None => Err("what answers there does not speak HTTP".to_owned()),
    }
}

fn asked_of(ask: impl FnOnce() -> std::io::Result<Vec<u8>>) -> Result<Vec<u8>, String> {
    ask().map_err(|error| match error.kind() {
        std::io::ErrorKind::WouldBlock => format!("no answer within {ANSWER:?}"),
        _ => error.to_string(),
    })
}

/// What comes before the end of a line; a server that trickles is not waited for.
fn first_line(stream: &mut TcpStream) -> std::io::Result<Vec<u8>> {
    let deadline = Deadline::after(ANSWER);
    let mut line = Vec::new();
    let mut piece = [0; 64];
    while !line.contains(&b'\n') && (line.len() as u64) < LINE && !deadline.left().is_zero() {
        match stream.read(&mut piece)? {
            0 => break,
            length => line.extend_from_slice(&piece[..length]),
        }
    }
    Ok(line)
}

/// The status in the first line of an answer (RFC 9112, section 4).
fn status(line: &[u8]) -> Option<u16> {
    let line = std::str::from_utf8(line.split(|byte| *byte == b'\n').next()?).ok()?;
    let mut words = line.trim_end().split(' ');
    words.next()?.strip_prefix("HTTP/1.")?;
    words.next()?.parse().ok()
}

/// Runs a command to its end, which must be 0.
fn command(subject: &Subject<'_>, words: &[String]) -> Result<(), String> {
    let written = subject.host.secrets.environment(subject.instance);
    let request = ExecRequest {
        command: words.to_vec(),
        environment: Vec::new(),
        directory: None,
        uid: 0,
        gid: 0,
        terminal: false,
    };
    let environment = environment(written.map_err(|error| chain(&error))?, &request);
    let code = match subject.instance.is_container() {
        true => in_container(subject, request.command, environment)?,
        false => machine::run_quietly(subject.running, request.command, environment, COMMAND)?,
    };
    match code {
        0 => Ok(()),
        code => Err(format!("the command ended with {code}")),
    }
}

fn in_container(
    subject: &Subject<'_>,
    arguments: Vec<String>,
    environment: Vec<(String, String)>,
) -> Result<i32, String> {
    let program = ProgramPlan {
        arguments,
        environment,
        directory: "/".to_owned(),
        uid: 0,
        gid: 0,
        groups: Vec::new(),
    };
    let shim = &subject.host.config.shim;
    let mut session =
        exec(subject.running, shim, &program, StreamsPlan::Pipes).map_err(|error| chain(&error))?;
    let deadline = Deadline::after(COMMAND);
    let mut pipes = match &mut session.streams {
        SessionStreams::Pipes {
            input,
            output,
            errors,
        } => {
            drop(input.take());
            let own = |end: &OwnedFd| end.try_clone().ok();
            [own(output), own(errors)]
        }
        SessionStreams::Terminal(_) => [None, None],
    };
    loop {
        let ended = session.ended();
        let mut events = vec![PollFd::new(&ended, PollFlags::IN)];
        let open = pipes.iter().flatten();
        events.extend(open.map(|pipe| PollFd::new(pipe, PollFlags::IN)));
        match deadline.wait_on(&mut events) {
            Ok(true) => {}
            Ok(false) => {
                let _ = session.signal(libc::SIGKILL);
                return Err(format!("the command still ran after {COMMAND:?}"));
            }
            Err(error) => return Err(error.to_string()),
        }
        let is_over = events
            .first()
            .is_some_and(|event| !event.revents().is_empty());
        drop(events);
        if is_over {
            return session.wait().map_err(|error| chain(&error));
        }
        for pipe in &mut pipes {
            if pipe.as_ref().is_some_and(|pipe| !drained(pipe)) {
                *pipe = None;
            }
        }
    }
}

/// Takes what was said off a pipe; `false`: nobody writes to it any more.
fn drained(pipe: &OwnedFd) -> bool {
    let mut events = [PollFd::new(pipe, PollFlags::IN)];
    let now = rustix::event::Timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    if !matches!(rustix::event::poll(&mut events, Some(&now)), Ok(1..)) {
        return true;
    }
    let mut piece = [0; PIECE];
    matches!(
        rustix::io::read(pipe.as_fd(), &mut piece),
        Ok(1..) | Err(rustix::io::Errno::INTR)
    )
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, TcpListener};

    use super::*;

    /// A server that answers each with the same.
    fn server(answer: &'static [u8]) -> u16 {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        let port = listener.local_addr().expect("an address").port();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.expect("a client");
                let mut asked = [0; 1024];
                let _ = stream.read(&mut asked);
                let _ = stream.write_all(answer);
            }
        });
        port
    }

    const HERE: [IpAddr; 1] = [IpAddr::V4(Ipv4Addr::LOCALHOST)];

    #[test]
    fn a_status_from_200_to_399_is_healthy() {
        let of = |answer: &'static [u8]| {
            let port = server(answer);
            let path = "/health".to_owned();
            http(&HERE, &HttpCheck { port, path })
        };
        assert_eq!(of(b"HTTP/1.1 204 No Content\r\n\r\n"), Ok(()));
        assert_eq!(of(b"HTTP/1.0 301 Elsewhere\r\n\r\n"), Ok(()));
        assert_eq!(
            of(b"HTTP/1.1 503 Busy\r\n\r\n"),
            Err("GET /health is answered with 503".to_owned())
        );
        for strange in [&b"SSH-2.0-x\r\n"[..], b"", b"HTTP/1.1", b"\xff\xff 200\r\n"] {
            let why = of(strange).unwrap_err();
            assert!(why.contains("does not speak HTTP"), "{why}");
        }
    }

    #[test]
    fn nobody_at_a_port_is_told_with_its_address() {
        let port = server(b"");
        assert_eq!(tcp(&HERE, port), Ok(()));
        let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        let port = free.local_addr().expect("an address").port();
        drop(free);
        let why = tcp(&HERE, port).unwrap_err();
        assert!(why.contains(&format!("127.0.0.1:{port}")), "{why}");
        assert_eq!(tcp(&[], 80), Err("it has no address".to_owned()));
    }
}
