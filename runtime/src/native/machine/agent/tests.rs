//! The client against hostile guests, and against the real agent.
#![expect(
    clippy::disallowed_methods,
    reason = "tests measure time and start the real agent"
)]

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::thread::JoinHandle;
use std::time::Instant;

use proptest::prelude::*;

use super::*;

const SHORT: Duration = Duration::from_millis(150);
/// On a busy machine; far below what any peer here goes on for.
const SOON: Duration = Duration::from_secs(10);

/// Runs it and demands that it ends in time.
#[track_caller]
fn within<T>(most: Duration, run: impl FnOnce() -> T) -> T {
    let begin = Instant::now();
    let result = run();
    let took = begin.elapsed();
    assert!(took < most, "it took {took:?}");
    result
}

/// The guest's side: what it was asked, and what it says.
struct Guest {
    reader: BufReader<UnixStream>,
    writer: UnixStream,
}

impl Guest {
    /// The next question; none where the client has left.
    fn asked(&mut self) -> Option<Value> {
        let mut line = Vec::new();
        self.reader.read_until(b'\n', &mut line).ok()?;
        let json = line.strip_prefix(&[DELIMITER]).unwrap_or(&line);
        (!line.is_empty()).then(|| serde_json::from_slice(json).unwrap())
    }

    fn say(&mut self, bytes: impl AsRef<[u8]>) -> bool {
        self.writer.write_all(bytes.as_ref()).is_ok()
    }

    /// Answers an agreement, after some noise as real agents make it.
    fn agree(&mut self) {
        let question = self.asked().unwrap();
        assert_eq!(question["execute"], "guest-sync-delimited");
        let number = &question["arguments"]["id"];
        self.say("{\"error\": {\"class\": \"GenericError\", \"desc\": \"JSON parse error\"}}\n");
        self.say(b"\xff{\"return\": 1}\n\xff\xff\0noise\n");
        self.say(
            [
                &b"\xff"[..],
                format!("{{\"return\": {number}}}\n").as_bytes(),
            ]
            .concat(),
        );
    }
}

fn guest(then: impl FnOnce(Guest) + Send + 'static) -> (UnixStream, JoinHandle<()>) {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let writer = theirs.try_clone().unwrap();
    let reader = BufReader::new(theirs);
    let run = move || then(Guest { reader, writer });
    (ours, std::thread::spawn(run))
}

/// A client of a guest that agrees and then does as it likes.
fn client(
    patience: Duration,
    then: impl FnOnce(Guest) + Send + 'static,
) -> (Agent, JoinHandle<()>) {
    let (ours, peer) = guest(move |mut guest| {
        guest.agree();
        then(guest);
    });
    (Agent::over(ours.into(), patience).unwrap(), peer)
}

/// A guest that gives these answers, one for each question.
fn answering(answers: &[&'static str]) -> (Agent, JoinHandle<()>) {
    let answers = answers.to_vec();
    client(SOON, move |mut guest| {
        for answer in answers {
            guest.asked().unwrap();
            guest.say(format!("{answer}\n"));
        }
        // It stays until the client leaves.
        let _ = guest.reader.read_to_end(&mut Vec::new());
    })
}

#[test]
fn a_guest_without_agent_is_silent() {
    let (ours, _theirs) = UnixStream::pair().unwrap();
    let error = within(SOON, || Agent::over(ours.into(), SHORT).unwrap_err());
    assert!(matches!(error, AgentError::Silent { .. }), "{error:?}");
    assert!(error.to_string().contains("qemu-guest-agent does not run"));
    let folder = tempfile::tempdir().unwrap();
    let error = Agent::connect(&folder.path().join("absent"), SHORT).unwrap_err();
    assert!(matches!(error, AgentError::Connect { .. }), "{error:?}");
}

#[test]
fn after_silence_comes_a_new_agreement() {
    let (send, receive) = std::sync::mpsc::channel();
    let (mut agent, peer) = client(SHORT, move |mut guest| {
        assert_eq!(guest.asked().unwrap()["execute"], "guest-get-osinfo");
        receive.recv().unwrap();
        // The late answer comes before the agreement.
        guest.say("{\"return\": {\"id\": \"late\"}}\n");
        guest.agree();
        guest.asked().unwrap();
        guest.say(
            "{\"return\": {\"id\": \"debian\\u001b[2J\", \"machine\": \"x86_64\", \"new\": 1}}\n",
        );
    });
    let error = agent.os_info().unwrap_err();
    assert!(matches!(error, AgentError::Silent { .. }), "{error:?}");
    send.send(()).unwrap();
    agent.set_patience(SOON);
    let info = agent.os_info().unwrap();
    assert_eq!(info.id.as_deref(), Some("debian[2J"));
    assert_eq!(info.machine.as_deref(), Some("x86_64"));
    peer.join().unwrap();
}

#[test]
fn addresses_are_read_and_nonsense_left_out() {
    let (mut agent, peer) = answering(&[
        r#"{"return": [
            {"name": "lo", "ip-addresses": [{"ip-address-type": "ipv4", "ip-address": "127.0.0.1", "prefix": 8}]},
            {"name": "enp1s0\u0007", "hardware-address": "52:54:00:AB:cd:EF", "statistics": {"tx-errs": 0}, "ip-addresses": [
                {"ip-address-type": "ipv4", "ip-address": "10.0.0.2", "prefix": 24},
                {"ip-address-type": "ipv6", "ip-address": "fe80::1", "prefix": 64},
                {"ip-address-type": "ipv4", "ip-address": "10.0.0.3", "prefix": 33},
                {"ip-address-type": "ipv4", "ip-address": "10.0.0.3", "prefix": -1},
                {"ip-address-type": "ipv4", "ip-address": "$(reboot)", "prefix": 24}]},
            {"name": "tun0", "hardware-address": "<script>:::::"}]}"#
            .replace('\n', " ")
            .leak(),
    ]);
    let found = agent.interfaces().unwrap();
    assert_eq!(found.len(), 3);
    assert_eq!(found[0].addresses, ["127.0.0.1/8".parse().unwrap()]);
    assert_eq!(
        found[1],
        GuestInterface {
            name: "enp1s0".to_owned(),
            hardware_address: Some("52:54:00:ab:cd:ef".to_owned()),
            addresses: vec![
                "10.0.0.2/24".parse().unwrap(),
                "fe80::1/64".parse().unwrap()
            ],
        }
    );
    assert_eq!(found[2].hardware_address, None);
    drop(agent);
    peer.join().unwrap();
}

#[test]
fn a_program_is_asked_after_until_it_has_ended() {
    let (mut agent, peer) = answering(&[
        r#"{"return": {"pid": 7}}"#,
        r#"{"return": {"exited": false}}"#,
        r#"{"return": {"exited": true, "exitcode": 3, "out-data": "aGVsbG8K", "err-data": "", "out-truncated": true}}"#,
        r#"{"return": {"pid": 8}}"#,
        r#"{"return": {"exited": true, "signal": 9, "out-data": "not base64!"}}"#,
    ]);
    let command = GuestCommand {
        program: "echo".to_owned(),
        capture: true,
        ..GuestCommand::default()
    };
    let end = agent.run(&command, 1000, SOON).unwrap();
    let expected = GuestEnd {
        code: Some(3),
        output: b"hello\n".to_vec(),
        truncated: true,
        ..GuestEnd::default()
    };
    assert_eq!(end, expected);
    let error = agent.run(&command, 1000, SOON).unwrap_err();
    assert!(matches!(error, AgentError::Strange { .. }), "{error:?}");
    drop(agent);
    peer.join().unwrap();
    // One that never ends.
    let (mut agent, peer) = client(SOON, |mut guest| {
        while let Some(question) = guest.asked() {
            let said = match question["execute"].as_str().unwrap() {
                "guest-exec" => "{\"return\": {\"pid\": 9}}\n",
                _ => "{\"return\": {\"exited\": false}}\n",
            };
            guest.say(said);
        }
    });
    let error = within(SOON, || agent.run(&command, 1000, SHORT).unwrap_err());
    assert!(
        matches!(error, AgentError::StillRuns { pid: 9, .. }),
        "{error:?}"
    );
    drop(agent);
    peer.join().unwrap();
}

/// Whose file has no end, and who writes more than there is. It answers how many files stayed open.
fn endless_file(mut guest: Guest) -> i32 {
    let mut open = 0;
    while let Some(question) = guest.asked() {
        let said = match question["execute"].as_str().unwrap() {
            "guest-file-open" => {
                open += 1;
                "{\"return\": 1000}\n"
            }
            "guest-file-close" => {
                open -= 1;
                "{\"return\": {}}\n"
            }
            "guest-file-read" => {
                "{\"return\": {\"count\": 3, \"buf-b64\": \"YWJj\", \"eof\": false}}\n"
            }
            "guest-file-write" => "{\"return\": {\"count\": 99, \"eof\": false}}\n",
            other => panic!("{other}"),
        };
        guest.say(said);
    }
    open
}

#[test]
fn a_file_is_read_up_to_the_cap_and_closed() {
    let (mut agent, peer) = client(SOON, |guest| assert_eq!(endless_file(guest), 0));
    let error = within(SOON, || agent.read_file("/dev/zero", 30, SOON).unwrap_err());
    assert_eq!(error.to_string(), "the file has more than 30 bytes");
    let error = agent.write_file("/x", b"four", SOON).unwrap_err();
    assert!(
        error.to_string().contains("it is more than was sent"),
        "{error}"
    );
    drop(agent);
    peer.join().unwrap();
}

#[test]
fn a_file_without_end_is_not_read_for_ever() {
    let (mut agent, peer) = client(SOON, |guest| {
        endless_file(guest);
    });
    let error = within(SOON, || {
        let read = agent.read_file("/dev/zero", usize::MAX, SHORT);
        read.unwrap_err()
    });
    assert!(matches!(error, AgentError::Silent { .. }), "{error:?}");
    drop(agent);
    peer.join().unwrap();
}

#[test]
fn shutting_down_takes_silence_for_consent_and_a_refusal_for_one() {
    let (mut agent, peer) = client(SHORT, |mut guest| {
        guest.asked().unwrap();
        guest.say("{\"return\": {}}\n");
        assert_eq!(guest.asked().unwrap()["arguments"]["mode"], "powerdown");
        let _ = guest.reader.read_to_end(&mut Vec::new());
    });
    agent.shut_down(Shutdown::PowerDown).unwrap();
    drop(agent);
    peer.join().unwrap();
    let (mut agent, peer) = answering(&[
        r#"{"return": {}}"#,
        r#"{"error": {"class": "CommandNotFound", "desc": "it is blocked"}}"#,
    ]);
    let error = agent.shut_down(Shutdown::Reboot).unwrap_err();
    assert_eq!(
        error.to_string(),
        "the agent refused guest-shutdown: it is blocked (CommandNotFound)"
    );
    drop(agent);
    peer.join().unwrap();
}

#[test]
fn endless_and_senseless_answers_are_cut_off() {
    let flood = |begin: &'static [u8], piece: &'static [u8]| {
        let (ours, peer) = guest(move |mut guest| {
            guest.agree();
            guest.asked();
            guest.say(begin);
            let piece = piece.repeat((64 << 10) / piece.len());
            let mut sent = 0_usize;
            while sent < 1 << 30 && guest.say(&piece) {
                sent += piece.len();
            }
            assert!(sent < 64 << 20, "{sent} bytes were taken");
        });
        let mut agent = Agent::over(ours.into(), SOON).unwrap();
        let error = within(SOON, || agent.ping().unwrap_err());
        drop(agent);
        peer.join().unwrap();
        error
    };
    // A line without end.
    let error = flood(b"{\"return\": \"", b"x");
    assert!(matches!(error, AgentError::TooLong { .. }), "{error:?}");
    let error = flood(b"", b"\0");
    assert!(matches!(error, AgentError::TooLong { .. }), "{error:?}");
    // Lines without sense: not one of them is waited for.
    let error = flood(b"", b"\xff\n");
    assert!(
        matches!(error, AgentError::NotUnderstood { .. }),
        "{error:?}"
    );
    // Never an agreement.
    let (ours, peer) = guest(|mut guest| {
        let piece = b"\xff{\"return\": 5}\n".repeat(4096);
        while guest.say(&piece) {}
    });
    let error = within(SOON, || Agent::over(ours.into(), SOON).unwrap_err());
    assert!(
        matches!(error, AgentError::Flooded | AgentError::Silent { .. }),
        "{error:?}"
    );
    peer.join().unwrap();
    let (mut agent, peer) = answering(&["{\"neither\": 1}", "{\"return\": {\"pid\": \"x\"}}"]);
    let error = agent.ping().unwrap_err();
    assert!(matches!(error, AgentError::Strange { .. }), "{error:?}");
    let error = agent.start(&GuestCommand::default()).unwrap_err();
    assert!(
        matches!(error, AgentError::NotUnderstood { .. }),
        "{error:?}"
    );
    drop(agent);
    peer.join().unwrap();
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    #[test]
    fn no_guest_makes_it_panic_or_hang(
        pieces in proptest::collection::vec(prop_oneof![
            Just(b"{\"return\": {}}\n".to_vec()),
            Just(b"{\"return\": [{\"name\": 1}]}\n".to_vec()),
            Just(b"\xff".to_vec()),
            Just(b"\n".to_vec()),
            proptest::collection::vec(any::<u8>(), 0..40),
        ], 0..8),
        agrees in any::<bool>(),
    ) {
        let (ours, peer) = guest(move |mut guest| {
            if agrees {
                guest.agree();
            }
            guest.say(pieces.concat());
        });
        let patience = Duration::from_millis(10);
        within(SOON, || {
            let Ok(mut agent) = Agent::over(ours.into(), patience) else { return };
            let _ = agent.interfaces();
            let _ = agent.read_file("/etc/hostname", 100, patience);
            let _ = agent.run(&GuestCommand::default(), 100, patience);
        });
        let _ = peer.join();
    }
}

/// A real agent that is killed at the end.
struct Real(std::process::Child);

impl Drop for Real {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Real {
    fn start(folder: &Path) -> Self {
        let port = folder.join("port");
        let child = std::process::Command::new("qemu-ga")
            .args(["--method", "unix-listen", "--path"])
            .arg(&port)
            .arg("--statedir")
            .arg(folder)
            // What would reach the whole host.
            .args([
                "-b",
                "guest-shutdown,guest-fsfreeze-freeze,guest-suspend-disk,guest-suspend-ram",
            ])
            .spawn()
            .expect("qemu-ga is installed (qemu-guest-agent)");
        Self(child)
    }
}

crate::own_processes_test! {
    fn a_real_guest_agent_runs_programs_and_moves_files() {
        let folder = tempfile::tempdir().unwrap();
        let _real = Real::start(folder.path());
        let begin = Instant::now();
        let mut agent = loop {
            match Agent::connect(&folder.path().join("port"), SOON) {
                Err(AgentError::Connect { .. }) if begin.elapsed() < SOON => std::thread::sleep(Duration::from_millis(20)),
                other => break other.unwrap(),
            }
        };
        agent.ping().unwrap();
        let interfaces = agent.interfaces().unwrap();
        assert_eq!(interfaces[0].name, "lo");
        assert!(interfaces[0].addresses.contains(&"127.0.0.1/8".parse().unwrap()));
        let info = agent.os_info().unwrap();
        assert!(info.kernel_release.is_some_and(|release| release.starts_with(|c: char| c.is_ascii_digit())));
        assert_eq!(agent.freeze_status().unwrap(), FreezeStatus::Thawed);
        let refused = agent.freeze().unwrap_err();
        assert!(matches!(&refused, AgentError::Refused { class, .. } if class == "CommandNotFound"), "{refused:?}");
        let command = GuestCommand {
            program: "/bin/sh".to_owned(),
            arguments: vec!["-c".to_owned(), "cat; echo $A; echo wrong >&2; exit 7".to_owned()],
            environment: vec!["A=b c".to_owned()],
            input: Some(b"in\0put\n".to_vec()),
            capture: true,
        };
        let end = agent.run(&command, 1 << 20, SOON).unwrap();
        assert_eq!(end, GuestEnd {
            code: Some(7),
            output: b"in\0put\nb c\n".to_vec(),
            errors: b"wrong\n".to_vec(),
            ..GuestEnd::default()
        });
        let killed = GuestCommand { arguments: vec!["-c".to_owned(), "kill -9 $$".to_owned()], ..command.clone() };
        assert_eq!(agent.run(&killed, 1 << 20, SOON).unwrap().signal, Some(9));
        let slow = GuestCommand { arguments: vec!["-c".to_owned(), "sleep 100".to_owned()], ..command };
        assert!(matches!(agent.run(&slow, 1 << 20, SHORT), Err(AgentError::StillRuns { .. })));
        // More than a piece, and not a whole number of them.
        let bytes: Vec<u8> = (0..1_000_003_u32).map(|n| n.to_le_bytes()[0] ^ n.to_le_bytes()[1]).collect();
        let path = folder.path().join("file");
        let path = path.to_str().unwrap();
        agent.write_file(path, &bytes, SOON).unwrap();
        assert_eq!(manifests::path_io::read(path).unwrap(), bytes);
        assert_eq!(agent.read_file(path, bytes.len(), SOON).unwrap(), bytes);
        assert!(matches!(agent.read_file(path, bytes.len() - 1, SOON), Err(AgentError::TooLarge { .. })));
        let file = agent.open_file(path, "r+").unwrap();
        assert_eq!(agent.seek(file, -3, Whence::End).unwrap(), 1_000_000);
        assert_eq!(agent.read_piece(file).unwrap(), bytes[1_000_000..]);
        assert_eq!(agent.seek(file, 1, Whence::Begin).unwrap(), 1);
        assert_eq!(agent.seek(file, 1, Whence::Here).unwrap(), 2);
        agent.write(file, b"!!").unwrap();
        agent.close_file(file).unwrap();
        assert_eq!(manifests::path_io::read(path).unwrap()[..5], [bytes[0], bytes[1], b'!', b'!', bytes[4]]);
        assert!(matches!(agent.close_file(file), Err(AgentError::Refused { .. })));
        assert!(matches!(agent.read_file("/absent", 10, SOON), Err(AgentError::Refused { .. })));
    }
}
