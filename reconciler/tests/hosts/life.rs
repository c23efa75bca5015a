//! What is wanted is made, seen, and taken down again without a trace.

use crate::footprint;
use crate::world::{TestWorld, shell};

runtime::own_processes_test! {
    fn what_is_applied_is_there_and_what_is_destroyed_leaves_nothing() {
        let world = TestWorld::furnished();
        world.keel(&["plan", "--detailed-exitcode"]).with(2);
        world.converge();
        assert_eq!(world.keel(&["exec", "one", "--", "cat", "/data/gold"]).with(0).stdout, "precious\n");
        world.keel(&["exec", "two", "--", "ping", "-c1", "-W2", "10.77.0.10"]).with(0);
        // The check itself sees what is there.
        assert!(shell("nft list tables").contains("table"));
        assert!(footprint::processes().len() >= 5);
        world.destroy();
        // And all of it again on what is left.
        world.converge();
        world.destroy();
    }
}

runtime::own_processes_test! {
    fn what_ends_by_accident_is_started_again_and_what_was_stopped_is_not() {
        let world = TestWorld::furnished();
        world.write("two.yaml", "");
        // Ends by itself, with the code of an accident, in every run after the first.
        let script = "if [ -e /again ]; then echo accident; exit 3; fi; touch /again; exec sleep 1000";
        let fields = format!("  state: Running\n  command: [/bin/sh, -c, '{script}']\n  boot: {{ autorestart: true }}\n");
        world.write("one.yaml", &world.one().replace("  state: Running\n", &fields));
        world.keel(&["apply", "--yes"]).with(0);
        let first = world.init("one");
        shell(&format!("kill -9 {first}"));
        let accidents = |count: usize| {
            let deadline = std::time::Instant::now() + crate::world::PATIENCE;
            while world.keel(&["logs", "one"]).stdout.matches("accident").count() < count {
                assert!(std::time::Instant::now() < deadline, "{count} accidents");
                std::thread::sleep(std::time::Duration::from_millis(50));
            }
        };
        accidents(2);
        // The companion waits longer from time to time: a loop of accidents costs nobody anything.
        let seen = world.get("instance/one");
        assert_eq!(seen["status"]["lastExit"]["code"], serde_json::json!(3), "{seen:#}");
        world.keel(&["stop", "one", "--hold", "1h", "--reason", "a test"]).with(0);
        let before = world.keel(&["logs", "one"]).stdout;
        std::thread::sleep(std::time::Duration::from_secs(2));
        assert_eq!(world.keel(&["logs", "one"]).stdout, before);
        assert_eq!(world.get("instance/one")["status"]["state"], serde_json::json!("Stopped"));
        world.destroy();
    }
}

runtime::own_processes_test! {
    fn what_a_root_holds_is_counted_where_it_would_be_lost_or_is_asked_for() {
        let world = TestWorld::furnished();
        world.converge();
        world.keel(&["exec", "two", "--", "dd", "if=/dev/zero", "of=/big", "bs=1M", "count=3", "conv=fsync"]).with(0);
        let many = 3 << 20;
        let held = |value: &serde_json::Value| value["bytes"].as_u64().unwrap_or_default();
        let asked = world.get("instance/two");
        assert!(held(&asked["status"]["holds"]) >= many, "{asked:#}");
        let all = world.keel(&["get", "instance", "-o", "json"]).with(0).stdout;
        assert!(!all.contains("\"bytes\""), "a look at everything walks no root: {all}");
        world.write("two.yaml", "");
        let plan = world.keel(&["plan", "-o", "json"]).json();
        let steps = plan["changes"].as_array().expect("changes");
        let loss = steps.iter().map(|step| held(&step["loss"])).max();
        assert!(loss >= Some(many), "{plan:#}");
        world.destroy();
    }
}
