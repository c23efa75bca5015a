//! A new keel and an old companion, and the other way round: what was recorded of each version is understood for ever.

use std::os::fd::OwnedFd;
use std::path::Path;

use manifests::path_io;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketAddrUnix, SocketFlags, SocketType};

use super::running::{Found, adopt};
use super::state::{self, SavedState};
use crate::shim::control::{Reply, Request, State};
use crate::shim::messages::{Confinement, ResourceLimit};
use crate::shim::record::{self, End, ExitRecord, parse_present};
use crate::shim::wire::Wire;

const BYTES: &str = include_str!("golden/version-1.txt");
const STATE: &str = include_str!("golden/version-1.state.json");
const EXIT: &str = include_str!("golden/version-1.exit");
const PRESENT: &str = include_str!("golden/version-1.init");
const BOOT: &str = "2d6f9c9e-5a0f-4b1e-9b0e-3f4f6e0c1a2b";

/// The bytes of a recorded message.
fn recorded(name: &str) -> Vec<u8> {
    let line = BYTES
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
        .unwrap_or_else(|| panic!("{name} is recorded"));
    hex::decode(line).expect("hexadecimal digits")
}

fn the_state() -> State {
    State {
        version: 1,
        generation: 7,
        boot_id: BOOT.to_owned(),
        init: 4711,
        start_time: 123_456,
        shim: 4700,
        restarts: 2,
        restarting: true,
        lost: 17,
    }
}

/// Both ways: what an old companion says is understood, and what is said to it is what it understands.
#[track_caller]
fn same<T: Wire + PartialEq + std::fmt::Debug>(name: &str, value: &T) {
    let bytes = recorded(name);
    assert_eq!(T::from_bytes(&bytes).as_ref(), Ok(value), "{name}");
    assert_eq!(hex::encode(value.to_bytes()), hex::encode(bytes), "{name}");
}

#[test]
fn the_control_protocol_of_version_1_is_spoken() {
    same("request state", &Request::State);
    same("request handles", &Request::Handles);
    same(
        "request restarting off",
        &Request::Restarting { wanted: false },
    );
    same("request attach", &Request::Attach);
    same("reply state", &Reply::State { state: the_state() });
    same("reply refused", &Reply::Refused { errno: 95 });
}

#[test]
fn the_files_of_version_1_are_read() {
    let folder = tempfile::tempdir().expect("a folder");
    path_io::write(folder.path().join("state.json"), STATE).expect("written");
    let saved = SavedState::read(folder.path())
        .expect("read")
        .expect("there");
    assert_eq!(
        (saved.name.as_str(), saved.generation, saved.root_id),
        ("web", 7, 1_000_000)
    );
    assert_eq!(
        (saved.init, saved.start_time, saved.shim),
        (4711, 123_456, 4700)
    );

    let record = ExitRecord::parse(EXIT).expect("a record");
    assert_eq!(
        (record.end, record.generation, record.restarts),
        (End::Signal(2), 7, 2)
    );
    assert_eq!(record.to_text(), EXIT);
    assert_eq!(parse_present(PRESENT), Some((4711, 123_456)));

    path_io::write(folder.path().join("confinement"), recorded("confinement")).expect("written");
    let expected = Confinement {
        capabilities: 0x1ff,
        seccomp: (0..8).collect(),
        limits: vec![ResourceLimit {
            resource: 7,
            name: "nofile".to_owned(),
            soft: 1024,
            hard: u64::MAX,
        }],
    };
    assert_eq!(state::confinement(folder.path()).expect("read"), expected);
}

#[test]
fn what_a_later_version_adds_is_skipped_and_what_it_changes_is_said() {
    let folder = tempfile::tempdir().expect("a folder");
    let state = |text: String| {
        path_io::write(folder.path().join("state.json"), text).expect("written");
        SavedState::read(folder.path()).map_err(|error| crate::native::chain(&error))
    };
    let more = STATE.replacen('{', "{\"colour\":\"blue\",", 1);
    assert_eq!(state(more).expect("read").expect("there").name, "web");
    // Even where nothing else of it is known any more.
    let newer = state("{\"formatVersion\":2,\"who\":\"web\"}".to_owned()).expect_err("too new");
    assert!(
        newer.ends_with("format 2 is newer than this keel, which reads up to 1"),
        "{newer}"
    );

    let mut confinement = recorded("confinement");
    confinement[0] = 9;
    path_io::write(folder.path().join("confinement"), confinement).expect("written");
    let newer = state::confinement(folder.path()).expect_err("too new");
    let newer = crate::native::chain(&newer);
    assert!(
        newer.ends_with("format 9 is newer than this keel, which reads up to 1"),
        "{newer}"
    );

    let record = ExitRecord::parse(&EXIT.replace("version 1", "version 2\ncolour blue"));
    assert_eq!(record.expect("a record").end, End::Signal(2));
}

/// Answers one question after another on the control socket of a run folder, until it is asked nothing more.
fn companion(run_dir: &Path, reply: Vec<u8>) -> std::thread::JoinHandle<Vec<Vec<u8>>> {
    let socket = rustix::net::socket_with(
        AddressFamily::UNIX,
        SocketType::SEQPACKET,
        SocketFlags::CLOEXEC,
        None,
    )
    .expect("a socket");
    rustix::net::bind(
        &socket,
        &SocketAddrUnix::new(run_dir.join("control")).expect("short"),
    )
    .expect("bound");
    rustix::net::listen(&socket, 8).expect("listening");
    std::thread::spawn(move || {
        let client: OwnedFd = rustix::net::accept(&socket).expect("a client");
        let mut asked = Vec::new();
        let mut packet = [0; 512];
        while let Ok((length, _)) = rustix::net::recv(&client, &mut packet[..], RecvFlags::empty())
            && length > 0
        {
            asked.push(packet[..length].to_vec());
            rustix::net::send(&client, &reply, SendFlags::NOSIGNAL).expect("answered");
        }
        asked
    })
}

/// A run folder as a companion of version 1 left it, whose init is this process.
fn left_by_version_1() -> (tempfile::TempDir, State) {
    let folder = tempfile::tempdir().expect("a folder");
    let own = rustix::process::getpid();
    let present = State {
        boot_id: state::boot_id().expect("this boot"),
        init: own.as_raw_nonzero().get(),
        start_time: state::start_time(own).expect("this process"),
        ..the_state()
    };
    // The first init is gone; only the companion knows the one that it started since.
    let text = STATE.replace(BOOT, &present.boot_id).replace("4711", "1");
    path_io::write(folder.path().join("state.json"), text).expect("written");
    (folder, present)
}

#[test]
fn an_old_companion_is_adopted() {
    let (folder, present) = left_by_version_1();
    let reply = Reply::State {
        state: present.clone(),
    }
    .to_bytes();
    let thread = companion(folder.path(), reply);
    match adopt(folder.path()).expect("adopted") {
        Found::Running(running) => {
            assert_eq!(running.state().init, present.init);
            assert_eq!(running.state().name, "web");
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(thread.join().expect("it ends"), [recorded("request state")]);
}

#[test]
fn a_newer_companion_is_adopted_as_well() {
    let (folder, present) = left_by_version_1();
    let state = State {
        version: 2,
        ..present.clone()
    };
    let mut reply = Reply::State { state }.to_bytes();
    reply.extend_from_slice(b"what version 2 added");
    let thread = companion(folder.path(), reply);
    let found = adopt(folder.path()).expect("adopted");
    assert!(matches!(found, Found::Running(running) if running.state().init == present.init));
    thread.join().expect("it ends");
}

#[test]
fn a_companion_that_nobody_understands_keeps_its_instance_and_is_told() {
    let (folder, present) = left_by_version_1();
    let written = PRESENT
        .replace("4711", &present.init.to_string())
        .replace("123456", &present.start_time.to_string());
    path_io::write(folder.path().join(record::PRESENT), written).expect("written");
    // A kind of reply that only a later version has.
    let thread = companion(folder.path(), vec![200, 1, 2, 3]);
    let Found::Running(running) = adopt(folder.path()).expect("adopted") else {
        panic!("what runs is not taken for lost");
    };
    thread.join().expect("it ends");
    path_io::remove_file(folder.path().join("control")).expect("removed");
    let thread = companion(folder.path(), vec![200, 1, 2, 3]);
    let error = running.ask().expect_err("not understood");
    let error = crate::native::chain(&error);
    assert!(
        error.ends_with("understand the message, which another build may have sent: message has an unknown variant 200"),
        "{error}"
    );
    thread.join().expect("it ends");
}

#[test]
fn how_it_ended_is_recorded_or_not_known_and_never_guessed() {
    let (folder, _) = left_by_version_1();
    // Neither a companion nor a record: pid 1 is another process than the one that was written down.
    assert!(matches!(
        adopt(folder.path()).expect("read"),
        Found::Lost(_)
    ));
    // A record of another start says nothing about this one.
    let other = EXIT.replace("generation 7", "generation 6");
    path_io::write(folder.path().join("exit"), other).expect("written");
    assert!(matches!(
        adopt(folder.path()).expect("read"),
        Found::Lost(_)
    ));
    path_io::write(folder.path().join("exit"), EXIT).expect("written");
    let found = adopt(folder.path()).expect("read");
    assert!(matches!(found, Found::Ended(record) if record.end == End::Signal(2)));
    // Half a record is none.
    path_io::write(folder.path().join("exit"), "version 1\ngeneration 7\n").expect("written");
    assert!(adopt(folder.path()).map_or(true, |found| matches!(found, Found::Lost(_))));
}
