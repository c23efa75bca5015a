//! Several at once on one host: two applies, a lock that is taken away, two state folders.

use std::os::unix::process::ExitStatusExt as _;
use std::process::Child;
use std::time::Instant;

use manifests::path_io;
use serde_json::Value;

use crate::world::{Ended, PATIENCE, TestWorld, ended, of_output, shell};

/// Begins a command and stops its process in the middle, while it holds the lock; answers it and the lock's id.
#[track_caller]
#[expect(clippy::zombie_processes, reason = "who asks for it waits for it")]
fn in_the_middle(world: &TestWorld, arguments: &[&str]) -> (Child, String) {
    let child = world.begin(arguments);
    let deadline = Instant::now() + PATIENCE;
    loop {
        assert!(Instant::now() < deadline, "no lock is held");
        let text = path_io::read_to_string(world.state().join("lock")).unwrap_or_default();
        let Ok(owner) = serde_json::from_str::<Value>(&text) else {
            continue;
        };
        if owner["pid"] != child.id() {
            continue;
        }
        shell(&format!("kill -STOP {}", child.id()));
        // Not in the middle of a write, during which nobody else can write.
        let database = rusqlite::Connection::open(world.state().join("keel.db")).expect("it opens");
        if database.execute_batch("BEGIN IMMEDIATE; ROLLBACK").is_ok() {
            let id = owner["id"].as_str().expect("an id");
            return (child, id.to_owned());
        }
        shell(&format!("kill -CONT {}", child.id()));
    }
}

fn go_on(child: Child) -> Ended {
    shell(&format!("kill -CONT {}", child.id()));
    of_output(&child.wait_with_output().expect("its end"))
}

runtime::own_processes_test! {
    fn of_two_applies_at_once_the_second_is_told_and_looking_goes_on() {
        let world = TestWorld::furnished();
        let (first, id) = in_the_middle(&world, &["apply", "--yes"]);
        for second in [&["apply", "--yes"][..], &["destroy", "--yes"]] {
            let told = world.keel(second);
            assert_eq!(told.code, Some(6), "{told:?}");
            for words in ["keel apply --yes", &first.id().to_string(), &id] {
                assert!(told.stderr.contains(words), "no {words} in {told:?}");
            }
        }
        for looking in [&["plan"][..], &["get"], &["drift"], &["history"], &["status"]] {
            world.keel(looking).with(0);
        }
        assert!(world.keel(&["status"]).with(0).stdout.contains("is at work"));
        go_on(first).with(0);
        world.nothing_to_do();
        world.destroy();
    }
}

runtime::own_processes_test! {
    fn a_command_that_hangs_is_ended_and_the_next_one_goes_on() {
        let world = TestWorld::furnished();
        let (first, id) = in_the_middle(&world, &["apply", "--yes"]);
        world.keel(&["unlock", "another"]).with(6).saying(&id);
        world.keel(&["unlock", &id]).with(0);
        let first = first.wait_with_output().expect("its end");
        assert_eq!(first.status.signal(), Some(9), "{first:?}");
        world.keel(&["unlock", &id]).with(0).saying("nobody");
        world.converge();
        world.destroy();
    }
}

runtime::own_processes_test! {
    fn two_state_folders_live_side_by_side() {
        let world = TestWorld::furnished();
        world.converge();
        let on_other = |arguments: &[&str]| ended(&mut world.command_on("state-2", arguments));
        // The same manifests again: the bridge is there, and not of this state folder.
        let again = on_other(&["apply", "--yes"]);
        assert!(again.code != Some(0), "{again:?}");
        assert!(again.stdout.contains("something else made it"), "{again:?}");
        world.nothing_to_do();
        on_other(&["destroy", "--yes", "--no-trash"]).with(0);
        world.nothing_to_do();

        // The same names on another bridge.
        shell(&format!("cp -r {0}/manifests {0}/other", world.path().display()));
        shell(&format!("sed -i 's/10\\.77\\./10.78./g; s/\\blan\\b/lan2/g' {}/other/*.yaml", world.path().display()));
        let other = world.path().join("other");
        let other = other.to_str().expect("UTF-8");
        on_other(&["apply", "--yes", other]).with(0);
        on_other(&["plan", "--detailed-exitcode", other]).with(0);
        world.nothing_to_do();
        let base = |state: &str| {
            let seen = ended(&mut world.command_on(state, &["exec", "one", "--", "cat", "/proc/self/uid_map"]));
            seen.with(0).stdout.split_whitespace().nth(1).expect("a base").to_owned()
        };
        assert_ne!(base("state"), base("state-2"), "both have the same ids of the host");
        on_other(&["exec", "one", "--", "ping", "-c1", "-W2", "10.78.0.1"]).with(0);
        world.keel(&["exec", "one", "--", "ping", "-c1", "-W2", "10.77.0.1"]).with(0);
        on_other(&["destroy", "--yes", "--no-trash", other]).with(0);
        world.nothing_to_do();
        world.keel(&["destroy", "--no-trash", "--yes"]).with(0);
        shell(&format!("rm -r {0}/state-2 {0}/other", world.path().display()));
        world.nothing_left();
    }
}
