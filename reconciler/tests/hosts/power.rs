//! `keel start`, `stop`, `restart`, `freeze`, `unfreeze`, and holds.

use std::os::fd::AsFd as _;
use std::time::{Duration, Instant};

use crate::world::TestWorld;

fn state(world: &TestWorld, name: &str) -> String {
    let seen = world.get(&format!("instance/{name}"));
    seen["status"]["state"]
        .as_str()
        .expect("a state")
        .to_owned()
}

runtime::own_processes_test! {
    fn what_git_wants_running_is_stopped_for_a_while_only() {
        let world = TestWorld::furnished();
        world.converge();
        let refused = world.keel(&["stop", "one"]).with(4).saying("the next apply would start it again");
        assert!(refused.stderr.contains("keel stop one --hold 2h --reason TEXT"), "{}", refused.stderr);
        assert!(refused.stderr.contains("one.yaml"), "{}", refused.stderr);
        for wrong in [
            &["stop", "one", "--hold", "2h"][..],
            &["stop", "one", "--reason", "why not"],
            &["stop", "one", "--hold", "soon", "--reason", "x"],
            &["stop", "one", "--hold", "2h", "--reason", " "],
            &["stop"],
            &["stop", "network/lan"],
        ] {
            world.keel(wrong).with(64);
        }
        assert_eq!(state(&world, "one"), "Running");

        // One that is not there hides none of the others.
        let ended = world.keel(&["stop", "one", "nobody", "two", "--hold", "2h", "--reason", "a new disk"]);
        ended.with(7).saying("there is no instance/nobody");
        for name in ["one", "two"] {
            assert_eq!(state(&world, name), "Stopped");
        }
        let plan = world.keel(&["plan", "--detailed-exitcode"]).with(2).stdout;
        assert!(plan.contains("G113") && plan.contains("a new disk") && plan.contains("until"), "{plan}");
        world.keel(&["apply", "--yes"]).with(7);
        assert_eq!(state(&world, "one"), "Stopped");
        let drift = world.keel(&["drift", "--detailed-exitcode"]).with(2).stdout;
        assert!(drift.contains("stopped by hand until") && drift.contains("a new disk"), "{drift}");
        assert!(!drift.contains("Put it back"), "{drift}");
        // A start of the host does not end it either.
        world.keel(&["boot"]).with(0);
        assert_eq!(state(&world, "one"), "Stopped");

        world.keel(&["start", "one", "two"]).with(0);
        world.nothing_to_do();

        // It is over by itself.
        world.keel(&["stop", "one", "--force", "--hold", "1s", "--reason", "a moment"]).with(0).saying("held until");
        assert_eq!(state(&world, "one"), "Stopped");
        std::thread::sleep(Duration::from_millis(1100));
        world.converge();
        world.destroy();
    }
}

runtime::own_processes_test! {
    fn power_is_switched_under_the_lock_and_in_the_journal() {
        let world = TestWorld::furnished();
        // Without a word about its state it is stopped without a word.
        world.write("two.yaml", &crate::world::TWO.replace("  state: Running\n", ""));
        world.converge();
        world.keel(&["stop", "two"]).with(0);
        world.nothing_to_do();
        world.keel(&["stop", "two"]).with(0);
        world.keel(&["freeze", "two"]).with(1).saying("does not run");
        world.keel(&["start", "two"]).with(0);
        world.keel(&["freeze", "two"]).with(0);
        assert_eq!(state(&world, "two"), "Frozen");
        world.keel(&["unfreeze", "two"]).with(0);
        let before = world.init("two");
        let json = world.keel(&["restart", "two", "-o", "json"]).with(0).json();
        assert_eq!(json["report"]["applied"], 1);
        assert_ne!(world.init("two"), before);
        let before = world.init("two");
        world.keel(&["restart", "--force", "two"]).with(0);
        assert_ne!(world.init("two"), before);
        world.keel(&["wait", "instance/two", "--for", "addresses"]).with(0);
        world.keel(&["wait", "instance/two", "--for", "agent"]).with(64).saying("instance/two is a container");
        world.keel(&["console", "two", "--type", "vga"]).with(3).saying("a container has none");
        world.nothing_to_do();
        world.keel(&["start", "nobody"]).with(1).saying("keel get instance");

        let history = world.keel(&["history", "-o", "json"]).with(0).json();
        let commands: Vec<&str> = history
            .as_array()
            .expect("applies")
            .iter()
            .filter_map(|one| one["command"].as_str())
            .collect();
        for command in ["keel restart two -o json", "keel freeze two", "keel stop two"] {
            assert!(commands.contains(&command), "{command} in {commands:?}");
        }

        let lock = std::fs::File::open(world.state().join("lock")).expect("the lock");
        rustix::fs::flock(lock.as_fd(), rustix::fs::FlockOperation::LockExclusive).expect("locked");
        let began = Instant::now();
        world.keel(&["stop", "two"]).with(6);
        assert!(began.elapsed() < Duration::from_secs(10));
        assert_eq!(state(&world, "two"), "Running");
        drop(lock);
        world.destroy();
    }
}
