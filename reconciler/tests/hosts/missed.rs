//! What time brings without anybody's doing: snapshots that nobody made, and what lay in the trash for long enough.

use crate::world::{Ended, TestWorld, ended};

const HOURLY: &str = "\
apiVersion: evenkeel/v1
kind: SnapshotSchedule
metadata: { name: hourly }
spec:
  schedule: \"@hourly\"
  selector: { names: [two] }
  retention: { keepLast: 2 }
";

/// A `keel` at another time.
fn keel_at(world: &TestWorld, now: &str, arguments: &[&str]) -> Ended {
    ended(world.command(arguments).env("KEEL_NOW", now))
}

runtime::own_processes_test! {
    fn a_schedule_that_missed_its_time_is_told() {
        let world = TestWorld::furnished();
        world.write("hourly.yaml", HOURLY);
        let at = |now: &str, arguments: &[&str]| keel_at(&world, now, arguments);
        let get = |now: &str| {
            at(now, &["get", "snapshot-schedule", "hourly", "-o", "json"]).with(0).json()["status"].clone()
        };
        at("2026-11-27T09:10:00Z", &["apply", "--yes"]).with(0);
        at("2026-11-27T09:59:00Z", &["drift", "--detailed-exitcode"]).with(0);
        let status = get("2026-11-27T09:59:00Z");
        assert_eq!(status["selected"], serde_json::json!(["instance/two"]), "{status:#}");
        assert_eq!((&status["nextRun"], &status["lastRun"]), (&"2026-11-27T10:00:00Z".into(), &serde_json::Value::Null));

        // Nobody makes snapshots here: no timer was ever turned on.
        let late = "2026-11-27T12:30:00Z";
        let page = at(late, &["status"]).with(0).stdout;
        assert!(page.contains("missed: instance/two") && page.contains("keel-snapshots.timer"), "{page}");
        let doctor = at(late, &["doctor"]).stdout;
        assert!(doctor.contains("is due since 2026-11-27 12:00:00Z"), "{doctor}");
        let drift = at(late, &["drift", "--detailed-exitcode", "-o", "json"]).with(2).json();
        assert_eq!(drift["drift"].as_array().map(Vec::len), Some(1), "{drift:#}");
        let field = &drift["drift"][0];
        assert_eq!(field["path"], "/status/lastRun", "{drift:#}");
        at(late, &["drift", "accept", "snapshot-schedule/hourly"]).with(1).saying("has drifted");
        at(late, &["plan", "--detailed-exitcode"]).with(0);

        // The first look only begins to count; the next time that is due, is made.
        at(late, &["snapshot", "run-due"]).with(0);
        at(late, &["drift", "--detailed-exitcode"]).with(0);
        at("2026-11-27T13:00:30Z", &["snapshot", "run-due"]).with(0);
        let status = get("2026-11-27T13:01:00Z");
        assert_eq!(status["lastRun"], "2026-11-27T13:00:30Z", "{status:#}");
        assert_eq!(status["nextRun"], "2026-11-27T14:00:00Z", "{status:#}");
        at("2026-11-27T13:59:00Z", &["drift", "--detailed-exitcode"]).with(0);
        at("2026-11-27T14:20:00Z", &["drift", "--detailed-exitcode"]).with(2);
        world.destroy();
    }
}

runtime::own_processes_test! {
    fn what_lay_in_the_trash_for_long_enough_goes_and_no_clock_that_jumps_takes_it() {
        let world = TestWorld::furnished();
        let at = |now: &str, arguments: &[&str]| keel_at(&world, now, arguments);
        let in_it = |now: &str| {
            let all = at(now, &["trash", "list", "-o", "json"]).with(0).json();
            all.as_array().map(Vec::len)
        };
        at("2026-11-20T08:00:00Z", &["apply", "--yes"]).with(0);
        world.unwrite("two.yaml");
        at("2026-11-20T08:00:00Z", &["apply", "--yes"]).with(0);
        at("2026-11-20T08:01:00Z", &["snapshot", "run-due"]).with(0);
        // A clock that is a year ahead, and one that is back.
        for now in ["2027-11-20T09:00:00Z", "2026-11-20T09:00:00Z", "2027-11-20T09:00:00Z", "2026-11-20T10:00:00Z"] {
            at(now, &["snapshot", "run-due"]).with(0);
            assert_eq!(in_it(now), Some(1), "{now}");
        }
        for day in 20..=29 {
            for hour in [11, 13, 15, 17, 19, 21, 23] {
                let now = format!("2026-11-{day}T{hour}:00:00Z");
                at(&now, &["snapshot", "run-due"]).with(0);
                assert!(day > 26 || in_it(&now) == Some(1), "{now}");
            }
        }
        for day in 1..=4 {
            for hour in ["02", "08", "14", "20"] {
                at(&format!("2026-12-0{day}T{hour}:00:00Z"), &["snapshot", "run-due"]).with(0);
            }
        }
        assert_eq!(in_it("2026-12-04T20:00:00Z"), Some(0));
        let told = world.keel(&["history", "instance/two"]).with(0).stdout;
        assert!(told.contains("delete"), "{told}");
        world.destroy();
    }
}
