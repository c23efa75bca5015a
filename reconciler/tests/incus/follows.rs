//! `keel run` with a server: what somebody does there is seen by what the server tells, and put right.

use std::time::{Duration, Instant};

use manifests::path_io;

use crate::running::Running;
use crate::world::Server;

/// Nobody looks by the clock while a test lasts: only what the server tells is seen.
const NEVER: &str = "24h";
const PATIENCE: Duration = Duration::from_secs(60);

#[track_caller]
fn until(what: &str, server: &Server, mut holds: impl FnMut() -> bool) {
    let began = Instant::now();
    while !holds() {
        if began.elapsed() > PATIENCE {
            let log = path_io::read_to_string(server.path().join("run.log"));
            panic!(
                "{what}: not within {PATIENCE:?}\n{}",
                log.unwrap_or_default()
            );
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn a_controller_follows_what_a_server_tells() {
    let server = Server::furnished("follow", 76);
    server.edit(
        "two.yaml",
        "kind: Instance\n",
        "kind: Instance\nlifecycle: { drift: warn }\n",
    );
    let command = server.command(&["run", ".", "--interval", NEVER]);
    let running = Running::begin(command, &server.path().join("run.log"));
    until("all is made", &server, || {
        server.instances() == ["follow-one,RUNNING", "follow-two,STOPPED"]
    });
    server.incus("stop -f follow-one");
    until("it runs again", &server, || {
        server
            .instances()
            .first()
            .is_some_and(|one| one == "follow-one,RUNNING")
    });
    server.incus("config set follow-one limits.memory 48MiB");
    until("its limit is back", &server, || {
        server.key("one", "limits.memory") == "64MiB"
    });
    // What is only told about: by whom. What comes at once after a deed of ours may be ours.
    std::thread::sleep(Duration::from_secs(2));
    server.incus("config set follow-two limits.processes 77");
    let author = || {
        let report = server.keel(&["drift", "-o", "json"]).with(0).json();
        let field = report["drift"].as_array()?.first()?.clone();
        Some((field["path"].clone(), field["author"].clone()))
    };
    until("it is known who did it", &server, || {
        author().is_some_and(|(_, author)| !author.is_null())
    });
    let (path, author) = author().expect("it still differs");
    assert_eq!(path, "/spec/limits/processes");
    assert_eq!(author["by"], "root", "{author:#}");
    assert_eq!(author["command"], "instance-updated", "{author:#}");
    let page = server.keel(&["drift"]).with(0).stdout;
    assert!(page.contains("by root (instance-updated)"), "{page}");
    running.leave();
    server.destroy();
}
