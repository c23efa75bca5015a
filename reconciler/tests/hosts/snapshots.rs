//! Snapshots of containers: made while they run, gone back to, and what a kill or a full disk leaves.

use std::time::{Duration, Instant};

use crate::world::{Ended, PATIENCE, TestWorld, shell};

fn inside(world: &TestWorld, name: &str, line: &str) -> Ended {
    world.keel(&["exec", name, "--", "sh", "-c", line])
}

fn names(world: &TestWorld, instance: &str) -> Vec<String> {
    let all = world
        .keel(&["snapshot", "list", instance, "-o", "json"])
        .with(0)
        .json();
    let all = all.as_array().expect("a list").iter();
    all.map(|one| one["name"].as_str().expect("a name").to_owned())
        .collect()
}

/// All that can be seen of a container's own files.
fn told(world: &TestWorld, name: &str) -> String {
    inside(world, name, "cd /own && find . -exec stat -c '%n %F %a %u %g %h %s %Y' {} + | sort && cat file && readlink link").with(0).stdout
}

const MAKE: &str = "mkdir -p /own/deep && cd /own && echo before >file && ln file deep/again && ln -s /etc/hosts link && \
                    mkfifo pipe && chown 1000:5 deep && chmod 4711 file && touch -d 2001-02-03 deep/again && rm /bin/vi && rm -r /etc/init.d";

runtime::own_processes_test! {
    fn a_container_goes_back_to_a_snapshot_made_while_it_ran() {
        let world = TestWorld::furnished();
        world.converge();
        // Without a size, and with a file system of its own.
        for name in ["one", "two"] {
            inside(&world, name, MAKE).with(0);
            let before = told(&world, name);
            let began = Instant::now();
            world.keel(&["snapshot", "create", name, "first", "--description", "before the change"]).with(0);
            println!("made within {:?}", began.elapsed());
            world.nothing_to_do();
            inside(&world, name, "echo after >/own/file; rm /own/link; touch /own/new; echo x >/bin/vi").with(0);
            world.keel(&["snapshot", "create", name]).with(0);
            assert_eq!(names(&world, name), ["first", "snap0"]);
            // What it does to who runs is told before, and done when somebody wants it.
            let init = world.init(name);
            world.keel(&["snapshot", "restore", name, "first"]).with(64).saying("It runs, is stopped for that, and started again.");
            assert_eq!(world.init(name), init);
            let began = Instant::now();
            world.keel(&["snapshot", "restore", name, "first", "--yes"]).with(0).saying(&format!("instance/{name} runs, is stopped for that, and started again"));
            println!("back within {:?}", began.elapsed());
            world.wait_for_state(name, "Running");
            assert_eq!(told(&world, name), before, "{name}");
            inside(&world, name, "test ! -e /bin/vi && test ! -e /etc/init.d && test ! -e /own/new").with(0);
            world.nothing_to_do();
            // Forward again, stopped; it stays stopped.
            world.keel(&["stop", name, "--hold", "1h", "--reason", "test"]).with(0);
            let said = world.keel(&["snapshot", "restore", name, "snap0", "--yes"]).with(0).stderr;
            assert!(!said.contains("started again"), "{said}");
            assert_eq!(world.get(&format!("instance/{name}"))["status"]["state"], "Stopped");
            world.keel(&["snapshot", "create", name, "third"]).with(0);
            world.keel(&["start", name]).with(0);
            inside(&world, name, "grep -q after /own/file && test ! -e /own/link && grep -q x /bin/vi").with(0);
            world.keel(&["snapshot", "rename", name, "third", "last"]).with(0);
            world.keel(&["snapshot", "rename", name, "last", "snap0"]).with(1).saying("there is a snapshot snap0 already");
            world.keel(&["snapshot", "create", name, "last"]).with(1).saying("there is a snapshot last already");
            world.keel(&["snapshot", "create", name, "../up"]).with(4).saying("is no name for a snapshot");
            world.keel(&["snapshot", "create", name, "m", "--stateful"]).with(3).saying("the memory of a container is not kept");
            world.keel(&["snapshot", "delete", name, "first", "--yes"]).with(0);
            world.keel(&["snapshot", "restore", name, "first", "--yes"]).with(1).saying("has no snapshot first");
            let seen = world.get(&format!("instance/{name}"));
            assert_eq!(seen["status"]["snapshots"].as_array().map(Vec::len), Some(2), "{seen:#}");
        }
        // The trash keeps them.
        world.unwrite("two.yaml");
        world.keel(&["apply", "--yes"]).with(0);
        world.write("two.yaml", crate::world::TWO);
        world.keel(&["trash", "restore", "instance/two"]).with(0);
        assert_eq!(names(&world, "two"), ["snap0", "last"]);
        world.converge();
        world.destroy();
    }
}

runtime::own_processes_test! {
    fn a_keel_that_is_killed_while_it_copies_leaves_no_frozen_container_and_no_half_snapshot() {
        let world = TestWorld::furnished();
        world.converge();
        inside(&world, "one", "mkdir /own; for i in $(seq 400); do dd if=/dev/zero of=/own/$i bs=64k count=8 2>/dev/null; done").with(0);
        let held = shell(&format!("ls -d {}/pools/fast/instances/*", world.state().display()));
        let one = world.get("instance/one")["status"]["uid"].as_str().expect("a uid").to_owned();
        let folder = held.lines().find(|line| line.ends_with(&one)).expect("its folder").to_owned();
        let snapshots = std::path::Path::new(&folder).join("snapshots");
        let mut keel = world.begin(&["snapshot", "create", "one", "cut"]);
        let deadline = Instant::now() + PATIENCE;
        while !snapshots.join(".new-cut/tree/own").exists() {
            assert!(Instant::now() < deadline, "it copies");
            std::thread::sleep(Duration::from_micros(200));
        }
        keel.kill().expect("killed");
        keel.wait().expect("gone");
        assert_eq!(world.get("instance/one")["status"]["state"], "Frozen");
        assert_eq!(names(&world, "one"), [""; 0]);
        // Whatever is done next lets it go on.
        world.keel(&["snapshot", "run-due"]).with(0);
        assert_eq!(world.get("instance/one")["status"]["state"], "Running");
        assert!(!snapshots.join(".new-cut").exists() && !snapshots.join(".held").exists());
        world.keel(&["snapshot", "create", "one", "cut"]).with(0);
        world.nothing_to_do();

        // A copy that is cut short while it goes back: the files are those of before or of the snapshot, never both.
        inside(&world, "one", "touch /own/later").with(0);
        let mut keel = world.begin(&["snapshot", "restore", "one", "cut", "--yes"]);
        let deadline = Instant::now() + PATIENCE;
        while !std::path::Path::new(&folder).join("disk/upper.next/own").exists() {
            assert!(Instant::now() < deadline, "it copies");
            std::thread::sleep(Duration::from_micros(200));
        }
        keel.kill().expect("killed");
        keel.wait().expect("gone");
        world.keel(&["apply", "--yes"]).with(0);
        world.wait_for_state("one", "Running");
        inside(&world, "one", "test -e /own/later && test -e /own/400").with(0);
        assert!(!std::path::Path::new(&folder).join("disk/upper.next").exists());
        world.keel(&["snapshot", "restore", "one", "cut", "--yes"]).with(0);
        inside(&world, "one", "test ! -e /own/later && test -e /own/400").with(0);
        world.destroy();
    }
}

runtime::own_processes_test! {
    fn a_full_disk_leaves_the_container_running_and_no_half_snapshot() {
        let world = TestWorld::furnished();
        let small = world.path().join("small");
        shell(&format!("mkdir {0} && mount -t tmpfs -o size=24M none {0}", small.display()));
        let host = crate::world::HOST.replace("  driver: dir\n", &format!("  driver: dir\n  source: {}/pool\n", small.display()));
        world.write("host.yaml", &host);
        world.unwrite("two.yaml");
        world.converge();
        inside(&world, "one", "dd if=/dev/urandom of=/big bs=1M count=16 2>/dev/null").with(0);
        world.keel(&["snapshot", "create", "one", "full"]).with(1).saying("No space left on device");
        assert_eq!(names(&world, "one"), [""; 0]);
        assert_eq!(world.get("instance/one")["status"]["state"], "Running");
        world.nothing_to_do();
        inside(&world, "one", "rm /big && dd if=/dev/urandom of=/kept bs=1M count=8 2>/dev/null").with(0);
        world.keel(&["snapshot", "create", "one", "full"]).with(0);
        // No room to go back: it is as it was.
        inside(&world, "one", "dd if=/dev/urandom of=/more bs=1M count=6 2>/dev/null").with(0);
        world.keel(&["snapshot", "restore", "one", "full", "--yes"]).with(1).saying("No space left on device");
        world.wait_for_state("one", "Running");
        inside(&world, "one", "test $(stat -c %s /more) = 6291456 && test $(stat -c %s /kept) = 8388608").with(0);
        world.nothing_to_do();
        world.keel(&["destroy", "--no-trash", "--yes"]).with(0);
        shell(&format!("umount {0} && rmdir {0}", small.display()));
        world.nothing_left();
    }
}
