//! Web sockets, as a client of a few lines speaks them.

use std::os::fd::BorrowedFd;

use super::*;

/// What comes in goes out, until it ends.
pub(super) fn echo(input: BorrowedFd<'_>, output: BorrowedFd<'_>) {
    let mut buffer = [0; 4096];
    loop {
        match rustix::io::read(input, &mut buffer) {
            Ok(0) | Err(_) => return,
            Ok(length) => {
                if rustix::io::write(output, &buffer[..length]).is_err() {
                    return;
                }
            }
        }
    }
}

/// Tells each size that its terminal gets, until that has two lines.
pub(super) fn tell_size(input: BorrowedFd<'_>, output: BorrowedFd<'_>) {
    let mut last = None;
    while last != Some((2, 300)) {
        let now = runtime::native::container::relay::size(input);
        if now != last {
            rustix::io::write(output, format!("{now:?}\n").as_bytes()).expect("written");
            last = now;
        }
        std::thread::yield_now();
    }
}

struct Socket(UnixStream);

impl Socket {
    fn open(bench: &Bench, path: &str) -> Result<Self, u16> {
        let socket = bench.place.path().join(SOCKET);
        let mut stream = UnixStream::connect(socket).expect("it listens");
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        let question = format!(
            "GET {path} HTTP/1.1\r\nHost: localhost\r\nOrigin: http://localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        );
        stream.write_all(question.as_bytes()).expect("asked");
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte).expect("a head");
            head.extend(byte);
        }
        let head = String::from_utf8_lossy(&head).into_owned();
        let status: u16 = head[9..12].parse().expect("a status");
        match status {
            101 => Ok(Self(stream)),
            other => Err(other),
        }
    }

    fn send(&mut self, kind: u8, bytes: &[u8]) {
        // Each byte of a client is masked; a mask of zeros is one.
        let length = u8::try_from(bytes.len()).expect("short");
        assert!(length < 126);
        let mut frame = vec![0x80 | kind, 0x80 | length, 0, 0, 0, 0];
        frame.extend(bytes);
        self.0.write_all(&frame).expect("sent");
    }

    fn text(&mut self, text: &str) {
        self.send(1, text.as_bytes());
    }

    /// The next message that is no heartbeat.
    fn next(&mut self) -> (u8, Vec<u8>) {
        loop {
            let mut head = [0; 2];
            self.0.read_exact(&mut head).expect("a message");
            let mut length = u64::from(head[1]);
            if length == 126 {
                let mut long = [0; 2];
                self.0.read_exact(&mut long).expect("a length");
                length = u64::from(u16::from_be_bytes(long));
            }
            let mut bytes = Vec::new();
            let part = std::io::Read::by_ref(&mut self.0).take(length);
            { part }.read_to_end(&mut bytes).expect("a message");
            match head[0] & 0x0f {
                9 | 10 => {}
                kind => return (kind, bytes),
            }
        }
    }

    /// All that comes until the last message, by streams, and that message.
    fn rest(&mut self) -> ([Vec<u8>; 3], Value) {
        let mut streams = [Vec::new(), Vec::new(), Vec::new()];
        loop {
            let (kind, bytes) = self.next();
            match kind {
                1 => {
                    let end = serde_json::from_slice(&bytes).expect("JSON");
                    return (streams, end);
                }
                2 => streams[usize::from(bytes[0])].extend(&bytes[1..]),
                other => panic!("{other}: {bytes:?}"),
            }
        }
    }
}

#[test]
fn a_command_a_console_and_its_end_are_heard_over_web_sockets() {
    let bench = Bench::new(&[("one.yaml", &instance("one", "64MiB"))]);
    let path = "/v1/instances/one/exec";
    let mut socket = Socket::open(&bench, path).expect("it is open");
    socket.text(r#"{"command": ["cat", "-"]}"#);
    socket.send(2, b"some ");
    socket.send(2, b"words");
    socket.text(r#"{"end": true}"#);
    let ([_, output, errors], end) = socket.rest();
    assert_eq!(output, b"some words");
    assert_eq!(errors, b"cat -\n");
    assert_eq!(end, json!({"code": 7}));

    for (first, says) in [
        ("{}", "command"),
        (r#"{"command": []}"#, "no command"),
        (r#"{"comand": ["x"]}"#, "comand"),
        (
            r#"{"command": ["x"], "size": {"columns": 1, "rows": 1}}"#,
            "`terminal`",
        ),
    ] {
        let mut socket = Socket::open(&bench, path).expect("it is open");
        socket.text(first);
        let (_, end) = socket.rest();
        let why = end["error"].as_str().expect("why");
        assert!(why.contains(says), "{first}: {why}");
    }

    let mut socket = Socket::open(&bench, "/v1/instances/one/console").expect("it is open");
    socket.send(2, b"root\n");
    assert_eq!(socket.next(), (2, b"root\n".to_vec()));
    drop(socket);
    let mut socket = Socket::open(&bench, "/v1/instances/one/logs/follow").expect("it is open");
    assert_eq!(socket.next(), (2, b"\x1b[32mup\x1b[0m\r\n".to_vec()));
    drop(socket);

    let none = Socket::open(&bench, "/v1/instances/none/exec");
    assert_eq!(none.err(), Some(404));
    let (status, _) = bench.raw(&format!(
        "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    ));
    assert_eq!(status, 400, "no web socket was asked for");
}

#[test]
fn a_terminal_has_the_size_that_is_told_and_what_is_not_understood_ends_it() {
    let bench = Bench::new(&[("one.yaml", &instance("one", "64MiB"))]);
    let path = "/v1/instances/one/exec";
    let mut socket = Socket::open(&bench, path).expect("it is open");
    let size = |columns: u32, rows: u32| json!({"columns": columns, "rows": rows});
    let start = json!({"command": ["size"], "terminal": true, "size": size(80, 24)});
    socket.text(&start.to_string());
    assert_eq!(socket.next(), (2, b"\x01Some((24, 80))\n".to_vec()));
    socket.text(&json!({"resize": size(132, 50)}).to_string());
    assert_eq!(socket.next(), (2, b"\x01Some((50, 132))\n".to_vec()));
    socket.text(&json!({"resize": size(300, 2)}).to_string());
    let ([_, output, _], end) = socket.rest();
    assert_eq!(output, b"Some((2, 300))\n");
    assert_eq!(end, json!({"code": 0}));

    // Each byte goes through it as it is.
    let bytes: Vec<u8> = (0..=124).collect();
    let mut socket = Socket::open(&bench, "/v1/instances/one/console").expect("it is open");
    socket.text(&json!({"resize": size(80, 24)}).to_string());
    socket.send(2, &bytes);
    let mut heard = Vec::new();
    while heard.len() < bytes.len() {
        heard.extend(socket.next().1);
    }
    assert_eq!(heard, bytes);

    // A console that nobody types into any more is left.
    socket.text(r#"{"end": true}"#);
    assert_eq!(socket.rest().1, json!({"code": 0}));

    let terminal = json!({"command": ["cat"], "terminal": true}).to_string();
    for (start, wrong, says) in [
        (terminal.as_str(), "nonsense", "expected"),
        (
            &terminal,
            r#"{"resize": {"columns": 0, "rows": 1}}"#,
            "nonzero",
        ),
        (
            &terminal,
            r#"{"resize": {"columns": 70000, "rows": 1}}"#,
            "70000",
        ),
        (&terminal, r#"{"rezise": 1}"#, "rezise"),
        (
            r#"{"command": ["cat"]}"#,
            r#"{"resize": {"columns": 1, "rows": 1}}"#,
            "no terminal",
        ),
    ] {
        let mut socket = Socket::open(&bench, path).expect("it is open");
        socket.text(start);
        socket.text(wrong);
        let (_, end) = socket.rest();
        let why = end["error"].as_str().expect("why");
        assert!(why.contains(says), "{wrong}: {why}");
    }
}

#[test]
fn so_many_sessions_are_open_at_once_and_who_leaves_makes_room() {
    let bench = Bench::new(&[("one.yaml", &instance("one", "64MiB"))]);
    let path = "/v1/instances/one/console";
    let mut open: Vec<Socket> = (0..crate::api::sockets::SESSIONS)
        .map(|_| Socket::open(&bench, path).expect("it is open"))
        .collect();
    assert_eq!(Socket::open(&bench, path).err(), Some(409));
    open.pop();
    let began = HostClock.instant();
    while Socket::open(&bench, path).is_err() {
        let late = HostClock.instant().saturating_duration_since(began) > PATIENCE;
        assert!(!late, "nobody made room");
        std::thread::yield_now();
    }
}
