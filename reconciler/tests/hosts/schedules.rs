//! Snapshots by schedule: due by the clock of a time zone, caught up with once, thinned, and left to those who made
//! others.

use serde_json::Value;

use crate::machines::{machine, world};
use crate::world::{Ended, TestWorld, ended};

const NIGHTLY: &str = "\
apiVersion: evenkeel/v1
kind: SnapshotSchedule
metadata:
  name: nightly
spec:
  schedule: \"30 2 * * *\"
  timeZone: Europe/Berlin
  selector: { matchLabels: { tier: data } }
  pattern: nightly-%d
  stopped: true
  retention: { keepLast: 2 }
";

/// A `keel` at another time.
fn keel_at(world: &TestWorld, now: &str, arguments: &[&str]) -> Ended {
    ended(world.command(arguments).env("KEEL_NOW", now))
}

fn run_due(world: &TestWorld, now: &str) -> String {
    let ended = keel_at(world, now, &["snapshot", "run-due"]).with(0);
    ended.stderr
}

/// The names of the snapshots, oldest first.
fn names(world: &TestWorld) -> Vec<String> {
    let all = world
        .keel(&["snapshot", "list", "vm", "-o", "json"])
        .with(0)
        .json();
    let all = all.as_array().expect("a list").iter();
    all.map(|one| one["name"].as_str().expect("a name").to_owned())
        .collect()
}

fn scheduled(world: &TestWorld, now: &str) -> Value {
    keel_at(world, now, &["snapshot", "list", "--due", "-o", "json"])
        .with(0)
        .json()
}

runtime::own_processes_test! {
    fn schedules_make_snapshots_and_thin_only_their_own() {
        let world = world("initrd");
        world.write("nightly.yaml", NIGHTLY);
        let stopped = machine("vm", "256MiB", "").replace("state: Running", "state: Stopped").replace(
            "  name: vm\n",
            "  name: vm\n  labels: { tier: data }\n",
        );
        world.write("vm.yaml", &stopped);
        world.converge();
        let seen = world.get("snapshot-schedule/nightly");
        assert_eq!(seen["spec"]["timeZone"], "Europe/Berlin", "{seen:#}");

        // Seen for the first time: what was due before is not missed.
        assert_eq!(run_due(&world, "2026-03-27T12:00:00Z"), "");
        assert_eq!(names(&world), [""; 0]);
        let seen = scheduled(&world, "2026-03-27T12:00:00Z");
        assert_eq!(seen[0]["object"], "instance/vm", "{seen:#}");
        assert_eq!(seen[0]["next"], "2026-03-28T01:30:00Z", "{seen:#}");

        assert_eq!(run_due(&world, "2026-03-28T01:29:59Z"), "");
        let said = run_due(&world, "2026-03-28T01:30:00Z");
        assert_eq!(said, "instance/vm has the snapshot nightly-0, by snapshot-schedule/nightly\n");
        assert_eq!(run_due(&world, "2026-03-28T01:31:00Z"), "");
        // The night in which the clocks leave half past two out; then three nights in which the host was off.
        run_due(&world, "2026-03-29T01:00:00Z");
        assert_eq!(names(&world), ["nightly-0", "nightly-1"]);
        keel_at(&world, "2026-03-29T08:00:00Z", &["snapshot", "create", "vm", "mine"]).with(0);
        let said = run_due(&world, "2026-04-01T09:00:00Z");
        assert!(said.contains("snapshot nightly-2") && said.contains("snapshot nightly-0 no more"), "{said}");
        assert_eq!(names(&world), ["nightly-1", "mine", "nightly-2"]);
        let seen = world.keel(&["snapshot", "list", "vm", "-o", "json"]).with(0).json();
        assert!(seen[1]["madeBy"].is_null() && seen[2]["madeBy"].is_string(), "{seen:#}");
        let told = world.keel(&["history", "instance/vm"]).with(0).stdout;
        assert!(told.contains("snapshot"), "{told}");

        // What no longer bears the label is left alone, and so is what was made of it.
        world.write("vm.yaml", &stopped.replace("tier: data", "tier: web"));
        world.converge();
        assert_eq!(scheduled(&world, "2026-04-03T09:00:00Z").as_array().map(Vec::len), Some(0));
        assert_eq!(run_due(&world, "2026-04-03T09:00:00Z"), "");

        // A schedule of its own, and the time of what it made is over; the newest stays.
        let own = stopped.replace("tier: data", "tier: web").replace(
            "  limits:",
            "  snapshots: { schedule: \"@hourly\", scheduleStopped: true, expiry: 3h, pattern: \"own-%d\" }\n  limits:",
        );
        world.write("vm.yaml", &own);
        world.converge();
        for hour in ["03:10", "04:00", "05:00"] {
            run_due(&world, &format!("2026-05-01T{hour}:00Z"));
        }
        assert_eq!(names(&world), ["nightly-1", "mine", "nightly-2", "own-0", "own-1"]);
        world.write("vm.yaml", &stopped.replace("tier: data", "tier: web"));
        world.converge();
        // A clock that jumps makes nothing older: its three hours must have been seen to pass.
        for time in ["2027-01-01T00:00:00Z", "2026-05-01T06:00:00Z", "2027-01-01T00:00:00Z", "2027-01-01T00:59:00Z"] {
            assert_eq!(run_due(&world, time), "", "{time}");
        }
        let said = run_due(&world, "2027-01-01T02:10:00Z");
        assert_eq!(said, "instance/vm has the snapshot own-0 no more\n");
        assert_eq!(names(&world), ["nightly-1", "mine", "nightly-2", "own-1"]);

        // The database is lost: which labels an object has is not known, and that is said.
        world.write("vm.yaml", &stopped);
        world.keel(&["apply", "--yes"]).with(0);
        for end in ["", "-wal", "-shm"] {
            let _ = manifests::path_io::remove_file(world.state().join(format!("keel.db{end}")));
        }
        keel_at(&world, "2027-01-02T00:00:00Z", &["snapshot", "run-due"])
            .with(7)
            .saying("snapshot-schedule/nightly selects by labels, and those of instance/vm are not known until the next apply");
        world.converge();
        run_due(&world, "2027-01-02T00:00:00Z");
        run_due(&world, "2027-01-03T09:00:00Z");
        assert_eq!(names(&world), ["mine", "nightly-2", "own-1", "nightly-3"]);

        // The schedule is taken away: what it made stays.
        world.unwrite("nightly.yaml");
        world.converge();
        assert_eq!(names(&world).len(), 4);
        world.destroy();
    }
}

runtime::own_processes_test! {
    fn volumes_have_schedules_of_their_own_and_of_others() {
        let world = TestWorld::furnished();
        for name in ["one.yaml", "two.yaml"] {
            world.unwrite(name);
        }
        let volume = |name: &str, more: &str| {
            format!("apiVersion: evenkeel/v1\nkind: Volume\nmetadata: {{ name: {name}, labels: {{ tier: data }} }}\nspec: {{ pool: fast{more} }}\n---\n")
        };
        let own = ", size: 32MiB, snapshots: { schedule: \"0 3 * * *\", expiry: 1d, pattern: own%d }";
        world.write("volumes.yaml", &(volume("a", own) + &volume("b", "")));
        world.write("nightly.yaml", &NIGHTLY.replace("selector: { ", "selector: { kinds: [Volume], "));
        world.converge();
        let names = |volume: &str| {
            let seen = world.keel(&["snapshot", "list", volume, "-o", "json"]).with(0).json();
            let all = seen.as_array().expect("a list").iter().map(|one| one["name"].as_str().expect("a name").to_owned());
            all.collect::<Vec<_>>()
        };
        assert_eq!(run_due(&world, "2026-05-01T12:00:00Z"), "");
        run_due(&world, "2026-05-02T12:00:00Z");
        assert_eq!(names("volume/fast/a").len(), 2, "by its own schedule, and by the other");
        assert_eq!(names("volume/fast/b"), ["nightly-0"]);
        // Its own expire; the newest stays.
        run_due(&world, "2026-05-03T12:00:00Z");
        run_due(&world, "2026-05-03T12:01:00Z");
        let left = names("volume/fast/a");
        assert!(left.contains(&"own1".to_owned()) && !left.contains(&"own0".to_owned()), "{left:?}");
        world.nothing_to_do();
        world.destroy();
    }
}
