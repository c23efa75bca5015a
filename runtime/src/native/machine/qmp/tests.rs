//! The client against hostile peers, and against the QEMU that is installed.
#![expect(
    clippy::disallowed_methods,
    reason = "tests measure time and start the real QEMU"
)]

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::fd::AsFd as _;
use std::os::unix::net::{UnixListener, UnixStream};
use std::thread::JoinHandle;
use std::time::Instant;

use proptest::prelude::*;

use super::*;

const GREETING: &str = "{\"QMP\": {\"version\": {\"qemu\": {\"micro\": 22, \"minor\": 2, \"major\": 7}}, \"capabilities\": []}}\r\n";
const READY: &str = "{\"return\": {}, \"id\": 1}\r\n";

/// What a peer that was hung up on gets is none of its business.
fn say(socket: &mut UnixStream, text: impl AsRef<[u8]>) -> bool {
    socket.write_all(text.as_ref()).is_ok()
}

/// A client of a peer that greets properly and then does as it likes.
fn client(
    patience: Duration,
    then: impl FnOnce(UnixStream) + Send + 'static,
) -> (Qmp, JoinHandle<()>) {
    let (ours, mut theirs) = UnixStream::pair().unwrap();
    let peer = std::thread::spawn(move || {
        say(&mut theirs, GREETING);
        say(&mut theirs, READY);
        then(theirs);
    });
    (Qmp::over(ours.into(), patience).unwrap(), peer)
}

/// Runs it and demands that it ends in time.
#[track_caller]
fn within<T>(most: Duration, run: impl FnOnce() -> T) -> T {
    let begin = Instant::now();
    let result = run();
    let took = begin.elapsed();
    assert!(took < most, "it took {took:?}");
    result
}

const SHORT: Duration = Duration::from_millis(150);
/// On a busy machine; far below what any peer here goes on for.
const SOON: Duration = Duration::from_secs(10);

#[test]
fn answers_are_matched_and_events_kept() {
    let (mut qmp, peer) = client(SOON, |theirs| {
        let mut writer = theirs.try_clone().unwrap();
        let mut reader = BufReader::new(theirs);
        let mut line = String::new();
        reader.read_line(&mut line).unwrap();
        assert_eq!(line, "{\"execute\":\"qmp_capabilities\",\"id\":1}\n",);
        line.clear();
        reader.read_line(&mut line).unwrap();
        assert_eq!(
            line,
            "{\"execute\":\"device_add\",\"id\":2,\"arguments\":{\"driver\":\"x\"}}\n"
        );
        say(
            &mut writer,
            "{\"event\": \"STOP\"}\n{\"event\": \"RESUME\"}\n",
        );
        say(
            &mut writer,
            "{\"return\": 7, \"id\": 2}\n{\"event\": \"RESET\"}\n",
        );
        line.clear();
        reader.read_line(&mut line).unwrap();
        say(
            &mut writer,
            "{\"error\": {\"class\": \"GenericError\", \"desc\": \"no\\u001b[2J\"}, \"id\": 3}\n",
        );
    });
    assert_eq!(qmp.version(), "7.2.22");
    let answer = qmp.execute("device_add", json!({"driver": "x"})).unwrap();
    assert_eq!(answer, json!(7));
    let resumed = qmp.wait_event(Duration::ZERO, &mut |event| event.name == "RESUME");
    assert_eq!(resumed.unwrap().unwrap().name, "RESUME");
    let reset = qmp.wait_event(SOON, &mut |event| event.name == "RESET");
    assert_eq!(reset.unwrap().unwrap().name, "RESET");
    assert_eq!(
        qmp.wait_event(Duration::ZERO, &mut |event| event.name == "RESET")
            .unwrap(),
        None
    );
    let error = qmp.execute("cont", Value::Null).unwrap_err();
    assert_eq!(error.to_string(), "QEMU refused cont: no[2J (GenericError)");
    let kept: Vec<String> = qmp.events().map(|event| event.name).collect();
    assert_eq!(kept, ["STOP"]);
    peer.join().unwrap();
    assert!(matches!(qmp.status(), Err(QmpError::Closed)));
}

/// A peer that listens at a socket of its own, and what it was sent before it said anything.
fn asked(answers: &'static str) -> Result<(Qmp, Answers, String), QmpError> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("monitor");
    let listener = UnixListener::bind(&path).unwrap();
    let list = json!({"path": "/machine"});
    let questions = [("query-status", Value::Null), ("qom-list", list)];
    let inquiry = Inquiry::ask(&path, &questions, SOON, SHORT)?;
    let (mut theirs, _) = listener.accept().unwrap();
    let mut sent = [0; 1024];
    let length = theirs.read(&mut sent).unwrap();
    assert!(!within(SOON, || inquiry.speaks()));
    say(&mut theirs, answers);
    assert!(inquiry.speaks());
    drop(theirs);
    let (qmp, answers) = within(SOON, || inquiry.answers())?;
    let sent = String::from_utf8_lossy(&sent[..length]).into_owned();
    Ok((qmp, answers, sent))
}

#[test]
fn questions_are_asked_at_once_and_answered_in_their_order() {
    let (mut qmp, answers, sent) = asked(
        "{\"QMP\": {\"version\": {\"qemu\": {\"micro\": 22, \"minor\": 2, \"major\": 7}}}}\r\n\
         {\"return\": {}}\r\n{\"event\": \"STOP\"}\r\n\
         {\"error\": {\"class\": \"GenericError\", \"desc\": \"no\"}}\r\n{\"return\": [7]}\r\n",
    )
    .unwrap();
    assert_eq!(
        sent,
        "{\"execute\":\"qmp_capabilities\",\"arguments\":{\"enable\":[\"oob\"]}}{\"execute\":\"query-status\"}\
         {\"execute\":\"qom-list\",\"arguments\":{\"path\":\"/machine\"}}"
    );
    let refused = answers[0].as_ref().unwrap_err().to_string();
    assert_eq!(refused, "QEMU refused query-status: no (GenericError)");
    assert_eq!(*answers[1].as_ref().unwrap(), json!([7]));
    assert_eq!(
        qmp.events().map(|one| one.name).collect::<Vec<_>>(),
        ["STOP"]
    );
}

#[test]
fn what_was_said_in_time_is_heard_however_late_somebody_listens() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("monitor");
    let listener = UnixListener::bind(&path).unwrap();
    let ask = || Inquiry::ask(&path, &[("query-status", Value::Null)], SHORT, SHORT).unwrap();
    let (said, silent) = (ask(), ask());
    let (mut theirs, _) = listener.accept().unwrap();
    say(
        &mut theirs,
        "{\"QMP\": {}}\n{\"return\": {}}\n{\"return\": 7}\n",
    );
    std::thread::sleep(3 * SHORT);
    assert!(said.speaks() && !silent.speaks());
    let (_, answers) = said.answers().unwrap();
    assert_eq!(*answers[0].as_ref().unwrap(), json!(7));
    let error = within(SOON, || silent.answers().unwrap_err());
    assert!(
        matches!(error, QmpError::NoGreeting { after } if after == SHORT),
        "{error:?}"
    );
}

#[test]
fn an_answer_to_what_was_not_asked_is_none() {
    for answers in [
        "{\"return\": {}}\n",
        "{\"QMP\": {}}\n{\"return\": {}, \"id\": 1}\n",
        "{\"QMP\": {}}\n{\"QMP\": {}}\n",
    ] {
        let error = asked(answers).unwrap_err();
        assert!(matches!(error, QmpError::Strange { .. }), "{error:?}");
    }
    let error = asked("{\"QMP\": {}}\n{\"return\": {}}\n").unwrap_err();
    assert!(matches!(error, QmpError::Closed), "{error:?}");
    let refused = "{\"QMP\": {}}\n{\"error\": {\"class\": \"x\", \"desc\": \"y\"}}\n";
    let error = asked(refused).unwrap_err();
    assert!(matches!(error, QmpError::Refused { .. }), "{error:?}");
}

#[test]
fn a_late_answer_is_not_taken_for_the_next() {
    let (send, receive) = std::sync::mpsc::channel();
    let (mut qmp, peer) = client(SHORT, move |mut theirs| {
        receive.recv().unwrap();
        say(
            &mut theirs,
            "{\"return\": \"late\", \"id\": 2}\n{\"return\": \"now\", \"id\": 3}\n",
        );
        receive.recv().unwrap();
    });
    let late = qmp.execute("first", Value::Null).unwrap_err();
    assert_eq!(late.to_string(), "QEMU did not answer first within 150ms");
    send.send(()).unwrap();
    qmp.set_patience(SOON);
    assert_eq!(qmp.execute("second", Value::Null).unwrap(), json!("now"));
    send.send(()).unwrap();
    peer.join().unwrap();
}

#[test]
fn the_monitor_that_greets_first_is_taken() {
    let folder = tempfile::tempdir().unwrap();
    let [taken, free, absent] = ["taken", "free", "absent"].map(|name| folder.path().join(name));
    let silent = UnixListener::bind(&taken).unwrap();
    let greets = UnixListener::bind(&free).unwrap();
    let peer = std::thread::spawn(move || {
        for _ in 0..2 {
            let (mut theirs, _) = greets.accept().unwrap();
            say(&mut theirs, GREETING);
            say(&mut theirs, READY);
            let _ = theirs.read_to_end(&mut Vec::new());
        }
    });
    for first in [&taken, &absent] {
        let qmp = within(SOON, || Qmp::connect_any(&[first, &free], SOON).unwrap());
        assert_eq!(qmp.version(), "7.2.22");
    }
    peer.join().unwrap();
    let error = within(SOON, || {
        Qmp::connect_any(&[&taken, &absent], SHORT).unwrap_err()
    });
    assert!(matches!(error, QmpError::NoGreeting { .. }), "{error:?}");
    drop(silent);
}

#[test]
fn a_monitor_that_is_taken_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let deep = folder.path().join("x".repeat(120));
    manifests::path_io::create_dir_all(&deep).unwrap();
    // Longer than an address of a socket; bound by a short way there.
    std::os::unix::fs::symlink(&deep, folder.path().join("short")).unwrap();
    let listener = UnixListener::bind(folder.path().join("short/q")).unwrap();
    let path = deep.join("q");
    let error = within(SOON, || Qmp::connect(&path, SHORT).unwrap_err());
    assert!(matches!(error, QmpError::NoGreeting { .. }), "{error:?}");
    assert!(error.to_string().contains("somebody else is connected"));
    // Those who wait to be accepted fill the queue.
    rustix::net::listen(&listener, 0).unwrap();
    let error = within(SOON, || Qmp::connect(&path, SHORT).unwrap_err());
    assert!(matches!(error, QmpError::NoGreeting { .. }), "{error:?}");
    drop(listener);
    let error = Qmp::connect(&path, SHORT).unwrap_err();
    assert!(matches!(error, QmpError::Connect { .. }), "{error:?}");
    let error = Qmp::connect(&deep.join("absent"), SHORT).unwrap_err();
    let QmpError::Connect { source, .. } = error else {
        panic!("{error:?}");
    };
    assert_eq!(source.kind(), std::io::ErrorKind::NotFound);
}

#[test]
fn a_line_without_end_is_cut_off() {
    let (mut qmp, peer) = client(SOON, |mut theirs| {
        let piece = [b'x'; 64 << 10];
        let mut sent = 0_usize;
        while sent < 1 << 30 && say(&mut theirs, piece) {
            sent += piece.len();
        }
        assert!(sent < 4 << 20, "{sent} bytes were taken");
    });
    let error = within(SOON, || {
        qmp.execute("query-status", Value::Null).unwrap_err()
    });
    assert!(matches!(error, QmpError::TooLong { .. }), "{error:?}");
    assert!(matches!(qmp.status(), Err(QmpError::Closed)));
    drop(qmp);
    peer.join().unwrap();
}

#[test]
fn a_flood_of_events_has_an_end() {
    let (mut qmp, peer) = client(SOON, |mut theirs| {
        let event = "{\"event\": \"RTC_CHANGE\", \"data\": {\"offset\": 1}}\n".repeat(1000);
        while say(&mut theirs, &event) {}
    });
    let error = within(SOON, || {
        qmp.execute("query-status", Value::Null).unwrap_err()
    });
    assert!(
        matches!(error, QmpError::Flooded | QmpError::Silent { .. }),
        "{error:?}"
    );
    assert!(qmp.lost_events() > 0);
    assert!(qmp.events().count() <= KEPT);
    drop(qmp);
    peer.join().unwrap();
    // Few, and big: bytes are counted too.
    let (mut qmp, peer) = client(SOON, |mut theirs| {
        let event = format!(
            "{{\"event\": \"X\", \"data\": \"{}\"}}\n",
            "x".repeat(700 << 10)
        );
        while say(&mut theirs, &event) {}
    });
    let error = within(SOON, || qmp.wait_event(SOON, &mut |_| false).unwrap_err());
    assert!(matches!(error, QmpError::Flooded), "{error:?}");
    assert!(qmp.events_bytes <= KEPT_BYTES && qmp.events().count() <= 1);
    drop(qmp);
    peer.join().unwrap();
}

#[test]
fn what_trickles_does_not_prolong_the_wait() {
    let (mut qmp, peer) = client(SHORT, |mut theirs| {
        for _ in 0..5000 {
            if !say(&mut theirs, " ") {
                return;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    });
    let error = within(SOON, || {
        qmp.execute("query-status", Value::Null).unwrap_err()
    });
    assert!(matches!(error, QmpError::Silent { .. }), "{error:?}");
    drop(qmp);
    peer.join().unwrap();
}

#[test]
fn one_that_does_not_read_is_not_waited_for() {
    let (send, receive) = std::sync::mpsc::channel::<()>();
    let (mut qmp, peer) = client(SHORT, move |_theirs| {
        let _ = receive.recv();
    });
    let much = json!({"text": "x".repeat(4 << 20)});
    let error = within(SOON, || qmp.execute("x", much).unwrap_err());
    assert!(matches!(error, QmpError::Silent { .. }), "{error:?}");
    // Half of a message was sent: nothing can follow it.
    assert!(matches!(qmp.status(), Err(QmpError::Closed)));
    drop(send);
    peer.join().unwrap();
}

#[test]
fn nonsense_is_an_error() {
    let said = |text: &'static [u8]| {
        let (mut qmp, peer) = client(SOON, move |mut theirs| {
            say(&mut theirs, text);
            let _ = theirs.read_to_end(&mut Vec::new());
        });
        let error = within(SOON, || qmp.status().unwrap_err());
        drop(qmp);
        peer.join().unwrap();
        error
    };
    for text in [
        &b"\0\0\0\0\n"[..],
        b"{\"return\": \"\xff\"}\n",
        b"hello\n",
        b"\n",
    ] {
        let error = said(text);
        assert!(matches!(error, QmpError::NotJson { .. }), "{error:?}");
    }
    for text in [
        &b"{\"return\": {}, \"id\": 77}\n"[..],
        b"{\"return\": {}, \"id\": 0}\n",
        b"{\"return\": {}}\n",
        b"{\"QMP\": {}}\n",
    ] {
        let error = said(text);
        assert!(matches!(error, QmpError::Strange { .. }), "{error:?}");
    }
    let error = said(b"{\"return\": {\"running\": 1}, \"id\": 2}\n");
    assert!(matches!(error, QmpError::Unexpected { .. }), "{error:?}");
    let error =
        said(b"{\"error\": {\"class\": \"GenericError\", \"desc\": \"JSON parse error\"}}\n");
    assert!(matches!(error, QmpError::Refused { .. }), "{error:?}");
}

/// Pieces of the protocol and plain noise.
fn noise() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        Just(GREETING.as_bytes().to_vec()),
        Just(READY.as_bytes().to_vec()),
        Just(b"{\"return\": {\"running\": true, \"status\": \"running\"}, \"id\": 2}\n".to_vec()),
        Just(b"{\"event\": \"STOP\", \"data\": [[[\n".to_vec()),
        Just(b"{\"event\": \"STOP\"}\n".to_vec()),
        Just(b"\n".to_vec()),
        Just(b"\xff\0".to_vec()),
        proptest::collection::vec(any::<u8>(), 0..40),
    ];
    proptest::collection::vec(piece, 0..8).prop_map(|pieces| pieces.concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    #[test]
    fn no_peer_makes_it_panic_or_hang(bytes in noise(), stays in any::<bool>()) {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        say(&mut theirs, &bytes);
        let kept = stays.then_some(theirs);
        let patience = Duration::from_millis(10);
        within(SOON, || {
            let Ok(mut qmp) = Qmp::over(ours.into(), patience) else { return };
            let _ = qmp.status();
            let _ = qmp.wait_event(patience, &mut |event| event.name == "RESUME");
            let _ = qmp.jobs();
        });
        drop(kept);
    }
}

/// A QEMU that is killed at the end.
struct Qemu(std::process::Child);

impl Drop for Qemu {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Qemu {
    fn start(monitor: &Path) -> Self {
        let socket = format!("unix:{},server=on,wait=off", monitor.display());
        let child = std::process::Command::new("qemu-system-x86_64")
            .args(["-nodefaults", "-no-user-config", "-machine", "q35"])
            .args(["-accel", "tcg,tb-size=16", "-S", "-display", "none"])
            .args(["-qmp", &socket])
            .spawn()
            .expect("qemu-system-x86_64 is installed (qemu-system-x86)");
        Self(child)
    }
}

crate::own_processes_test! {
    fn a_real_qemu_is_asked_told_and_ended() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("monitor");
        let mut qemu = Qemu::start(&path);
        let begin = Instant::now();
        let mut qmp = loop {
            match Qmp::connect(&path, SOON) {
                Err(QmpError::Connect { .. }) if begin.elapsed() < SOON => std::thread::sleep(Duration::from_millis(20)),
                other => break other.unwrap(),
            }
        };
        assert!(qmp.version().split('.').count() == 3, "{}", qmp.version());
        let before = Status { running: false, state: RunState::PreLaunch };
        assert_eq!(qmp.status().unwrap(), before);
        // It serves one client.
        let second = within(SOON, || Qmp::connect(&path, SHORT).unwrap_err());
        assert!(matches!(second, QmpError::NoGreeting { .. }), "{second:?}");
        qmp.resume().unwrap();
        let resumed = qmp.wait_event(SOON, &mut |event| event.name == "RESUME").unwrap().unwrap();
        assert!(resumed.at.is_some());
        assert_eq!(qmp.status().unwrap().state, RunState::Running);
        qmp.stop().unwrap();
        assert_eq!(qmp.status().unwrap().state, RunState::Paused);
        qmp.power_down().unwrap();
        assert_eq!(qmp.jobs().unwrap(), []);
        let refused = qmp.dismiss_job("none").unwrap_err();
        assert!(matches!(&refused, QmpError::Refused { command, .. } if command == "job-dismiss"), "{refused:?}");
        let unknown = qmp.execute("no-such-command", Value::Null).unwrap_err();
        assert!(matches!(&unknown, QmpError::Refused { class, .. } if class == "CommandNotFound"), "{unknown:?}");
        // Both are refused where no descriptor came with them.
        let file = tempfile::tempfile().unwrap();
        qmp.execute_with("getfd", json!({"fdname": "state"}), file.as_fd()).unwrap();
        qmp.execute("closefd", json!({"fdname": "state"})).unwrap();
        let set = qmp.execute_with("add-fd", json!({"fdset-id": 7}), file.as_fd()).unwrap();
        assert_eq!(set["fdset-id"], json!(7));
        let schema = qmp.execute("query-qmp-schema", Value::Null).unwrap();
        assert!(schema.as_array().unwrap().len() > 500);
        // One that stands still is only late.
        let own = rustix::process::Pid::from_child(&qemu.0);
        rustix::process::kill_process(own, rustix::process::Signal::STOP).unwrap();
        qmp.set_patience(SHORT);
        let silent = within(SOON, || qmp.status().unwrap_err());
        assert!(matches!(silent, QmpError::Silent { .. }), "{silent:?}");
        rustix::process::kill_process(own, rustix::process::Signal::CONT).unwrap();
        qmp.set_patience(SOON);
        assert_eq!(qmp.status().unwrap().state, RunState::Paused);
        // Who asks ahead is served when this one has left, and by the QEMU that is installed as well.
        let questions = [("query-status", Value::Null), ("no-such-command", Value::Null), ("query-balloon", Value::Null)];
        let inquiry = Inquiry::ask(&path, &questions, SOON, SHORT).unwrap();
        assert!(!inquiry.speaks());
        drop(qmp);
        let (mut qmp, answers) = inquiry.answers().unwrap();
        assert_eq!(answers[0].as_ref().unwrap()["status"], json!("paused"));
        for refused in &answers[1..] {
            assert!(matches!(refused, Err(QmpError::Refused { .. })), "{refused:?}");
        }
        assert_eq!(qmp.status().unwrap().state, RunState::Paused);
        // The next client is served when this one has left.
        drop(qmp);
        let mut qmp = Qmp::connect(&path, SOON).unwrap();
        qmp.quit().unwrap();
        assert!(qemu.0.wait().unwrap().success());
        assert!(matches!(qmp.status(), Err(QmpError::Closed)));
    }
}
