//! Make, see, change, mend, look into, kill, take down.

use std::os::unix::process::ExitStatusExt as _;

use manifests::path_io;

use crate::ended::of_output;
use crate::world::Server;

#[test]
fn the_quickstart_is_put_in_force_unchanged() {
    let server = Server::new("quick");
    path_io::create_dir_all("/srv/keel-quickstart").expect("the folder that it shows");
    path_io::write("/srv/keel-quickstart/index.html", "hello\n").expect("a page");
    let here = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/quickstart");
    for file in path_io::list(here).expect("the folder") {
        let name = file
            .file_name()
            .expect("a name")
            .to_string_lossy()
            .into_owned();
        server.write(&name, &path_io::read_to_string(&file).expect("a manifest"));
    }
    server.converge();
    server
        .keel(&["exec", "client", "--", "ping", "-c1", "-W5", "10.87.0.10"])
        .with(0);
    let page = server
        .keel(&["exec", "web", "--", "cat", "/srv/www/index.html"])
        .with(0);
    assert_eq!(page.stdout, "hello\n");
    server
        .keel(&["exec", "web", "--", "sh", "-c", "exit 7"])
        .with(7);
    assert!(!server.keel(&["logs", "web"]).with(0).stdout.is_empty());
    server.incus("config set web limits.memory 128MiB");
    server.incus("config device set client eth0 ipv4.address 10.87.0.99");
    assert_eq!(
        server.drifted(),
        [
            "instance/client /spec/devices/eth0/ipv4",
            "instance/web /spec/limits/memory"
        ]
    );
    server.converge();
    assert_eq!(server.incus("config get web limits.memory"), "64MiB\n");
    server.incus("stop -f web");
    assert_eq!(server.drifted(), ["instance/web /spec/state"]);
    server.converge();
    server.destroy();
    assert_eq!(server.incus("list -f csv -c n web client"), "");
}

#[test]
fn what_a_killed_keel_began_is_finished_by_the_next() {
    let server = Server::furnished("kill", 71);
    // From one point of the journal to a later one; another way each day.
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let first = u32::try_from(now.expect("after 1970").as_secs() / 86_400 % 4).expect("small");
    let killed_at = |arguments: &[&str], point: u32| {
        let mut command = server.command(arguments);
        let output = command
            .env("KEEL_TEST_KILL_AT", point.to_string())
            .output()
            .expect("keel starts");
        if output.status.signal() == Some(9) {
            return true;
        }
        of_output(&output).with(0);
        false
    };
    let mut kills = 0;
    for point in [2, 7, 11, 15].map(|point| point + first) {
        kills += u32::from(killed_at(&["apply", "--yes"], point));
    }
    server.converge();
    server.unwrite("two.yaml");
    server.edit("one.yaml", "64MiB", "96MiB");
    for point in [1, 4].map(|point| point + first) {
        kills += u32::from(killed_at(&["apply", "--yes"], point));
    }
    server.converge();
    assert_eq!(server.key("one", "limits.memory"), "96MiB");
    for point in [1, 5, 9].map(|point| point + first) {
        kills += u32::from(killed_at(&["destroy", "--no-trash", "--yes"], point));
    }
    assert!(kills >= 5, "only {kills} met a keel at work");
    server.keel(&["destroy", "--no-trash", "--yes"]);
    server.keel(&["trash", "empty", "--yes"]).with(0);
    server.nothing_left();
}

#[test]
fn snapshots_are_made_listed_gone_back_to_and_deleted() {
    let server = Server::furnished("snap", 72);
    server.converge();
    let inside = |line: &str| server.keel(&["exec", "snap-one", "--", "sh", "-c", line]);
    inside("echo first >/kept.txt").with(0);
    server
        .keel(&["snapshot", "create", "snap-one", "before"])
        .with(0);
    inside("echo second >/kept.txt").with(0);
    let all = server
        .keel(&["snapshot", "list", "snap-one", "-o", "json"])
        .with(0)
        .stdout;
    assert!(all.contains("before"), "{all}");
    // A snapshot is nothing that differs.
    server.nothing_to_do();
    server
        .keel(&["snapshot", "restore", "snap-one", "before", "--yes"])
        .with(0);
    assert_eq!(inside("cat /kept.txt").with(0).stdout, "first\n");
    server
        .keel(&["snapshot", "rename", "snap-one", "before", "then"])
        .with(0);
    assert!(
        server
            .incus("query /1.0/instances/snap-one/snapshots")
            .contains("then")
    );
    server
        .keel(&["snapshot", "delete", "snap-one", "then", "--yes"])
        .with(0);
    assert_eq!(
        server
            .incus("query /1.0/instances/snap-one/snapshots")
            .trim(),
        "[]"
    );
    server.nothing_to_do();
    server.destroy();
}

#[test]
fn what_is_in_force_after_a_restart_is_remembered_until_then() {
    let server = Server::furnished("wait", 78);
    server.converge();
    server.edit(
        "one.yaml",
        "  state: Running\n",
        "  state: Running\n  sysctl: { net.ipv4.ip_forward: \"1\" }\n",
    );
    server.keel(&["apply", "--yes"]).with(0);
    assert_eq!(server.key("one", "linux.sysctl.net.ipv4.ip_forward"), "1");
    let waiting = || {
        let plan = server.keel(&["plan", "-o", "json"]).with(0).json();
        plan["waiting"].as_array().map_or(0, Vec::len)
    };
    // The server tells what it was told, as if it were so.
    assert_eq!(waiting(), 1);
    server.nothing_to_do();
    let status = server.keel(&["status"]).with(0).stdout;
    assert!(status.contains("In force after a restart"), "{status}");
    server.incus("restart -f wait-one");
    assert_eq!(waiting(), 0);
    server.nothing_to_do();
    let status = server.keel(&["status"]).with(0).stdout;
    assert!(!status.contains("In force after a restart"), "{status}");
    server.destroy();
}
