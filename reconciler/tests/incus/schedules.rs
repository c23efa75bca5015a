//! Schedules that a server does not have: their snapshots are made, thinned and told apart from those of others.

use serde_json::Value;

use crate::ended::{Ended, ended};
use crate::world::Server;

const NIGHTLY: &str = "\
apiVersion: evenkeel/v1
kind: SnapshotSchedule
metadata: { name: nightly }
spec:
  schedule: \"30 2 * * *\"
  selector: { kinds: [Instance, Volume], names: [sched-one, sched-data] }
  pattern: nightly-%d
  retention: { keepLast: 2 }
";

const DATA: &str = "\
apiVersion: evenkeel/v1
kind: Volume
metadata: { name: sched-data }
spec: { pool: sched-pool }
";

fn keel_at(server: &Server, now: &str, arguments: &[&str]) -> Ended {
    ended(server.command(arguments).env("KEEL_NOW", now))
}

/// The snapshots of an object as the server has them, oldest first.
fn there(server: &Server, object: &str) -> Vec<String> {
    let all = server.incus(&format!("query /1.0/{object}/snapshots"));
    let all: Vec<String> = serde_json::from_str(&all).expect("a list");
    let mut names: Vec<String> = all
        .iter()
        .filter_map(|one| Some(one.rsplit('/').next()?.to_owned()))
        .collect();
    names.sort_unstable();
    names
}

#[test]
fn schedules_make_snapshots_and_thin_only_their_own() {
    let server = Server::furnished("sched", 77);
    server.write("nightly.yaml", NIGHTLY);
    server.write("data.yaml", DATA);
    // What an instance asks for itself the server does, and nobody a second time.
    server.edit(
        "two.yaml",
        "  state: Stopped\n",
        "  state: Stopped\n  snapshots: { schedule: \"0 0 * * *\", scheduleStopped: true, expiry: 1d }\n",
    );
    server.edit(
        "one.yaml",
        "  state: Running\n",
        "  state: Running\n  snapshots: { schedule: \"@yearly\", expiry: 1d }\n",
    );
    server.converge();
    assert_eq!(
        server.get("snapshot-schedule/nightly")["spec"]["pattern"],
        "nightly-%d"
    );
    let run_due = |now: &str| {
        keel_at(&server, now, &["snapshot", "run-due"])
            .with(0)
            .stderr
    };
    let (one, data) = (
        "instances/sched-one",
        "storage-pools/sched-pool/volumes/custom/sched-data",
    );
    // Seen for the first time: what was due before is not missed.
    assert_eq!(run_due("2027-03-01T12:00:00Z"), "");
    let said = run_due("2027-03-02T02:30:00Z");
    assert!(
        said.contains("instance/sched-one has the snapshot nightly-0"),
        "{said}"
    );
    assert_eq!(there(&server, one), ["nightly-0"]);
    assert_eq!(there(&server, data), ["nightly-0"]);
    assert_eq!(run_due("2027-03-02T02:31:00Z"), "");
    server.incus("snapshot create sched-one mine");
    server.nothing_to_do();
    run_due("2027-03-03T02:30:00Z");
    run_due("2027-03-04T02:30:00Z");
    assert_eq!(there(&server, one), ["mine", "nightly-1", "nightly-2"]);
    assert_eq!(there(&server, data), ["nightly-1", "nightly-2"]);
    assert_eq!(there(&server, "instances/sched-two"), Vec::<String>::new());
    // The server lets go of none of them: its own rule is not for these.
    let all = server
        .keel(&["snapshot", "list", "sched-one", "-o", "json"])
        .with(0)
        .json();
    for snapshot in all.as_array().expect("a list") {
        let name = snapshot["name"].as_str().unwrap_or_default();
        assert_eq!(
            snapshot["madeBy"].is_string(),
            name.starts_with("nightly"),
            "{snapshot:#}"
        );
        assert_eq!(
            snapshot["expiresAt"] == Value::Null,
            name.starts_with("nightly"),
            "{snapshot:#}"
        );
    }
    let seen = keel_at(
        &server,
        "2027-03-04T12:00:00Z",
        &["get", "snapshot-schedule", "nightly", "-o", "json"],
    );
    let seen = seen.with(0).json();
    assert!(seen["status"]["lastRun"].is_string(), "{seen:#}");
    assert_eq!(
        seen["status"]["nextRun"], "2027-03-05T02:30:00Z",
        "{seen:#}"
    );
    server.unwrite("nightly.yaml");
    server
        .keel(&["apply", "--yes", "--approve", "G102"])
        .with(0);
    server.nothing_to_do();
    assert_eq!(there(&server, one), ["mine", "nightly-1", "nightly-2"]);
    // Without its schedule nothing is made or thinned.
    let said = keel_at(&server, "2027-03-05T02:30:00Z", &["snapshot", "run-due"]).with(0);
    assert_eq!(said.stderr, "");
    server.destroy();
}
