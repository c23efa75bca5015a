//! Copies of volumes into other pools: whole, with all that files have, and made while somebody writes to the original.

use std::path::PathBuf;
use std::time::Duration;

use crate::backups::{by_hand, told};
use crate::kills::{killed_after, some_of};
use crate::moves::QUICK;
use crate::volumes::{DATA, container, inside, on, status, volume};
use crate::world::{TestWorld, shell};

const FILES: &str = "mkdir -p /data/own/deep && cd /data/own && echo before >file && ln file deep/again && ln -s /etc/hosts link && \
                     mkfifo pipe && chown 1000:5 deep && touch -d 2001-02-03 deep/again; \
                     for i in $(seq 80); do dd if=/dev/urandom of=/data/own/$i bs=128k count=1 2>/dev/null; done";
/// Somebody writes without an end, each time to two files after another.
const WRITER: &str = "(i=0; while :; do i=$((i+1)); echo $i >/data/c && mv /data/c /data/one; echo $i >/data/c && mv /data/c /data/two; \
                      done) >/dev/null 2>&1 &";

fn copy(name: &str, pool: &str, more: &str) -> String {
    let text = volume(
        name,
        &format!("source: {{ pool: fast, volume: data{more} }}"),
    );
    text.replacen("pool: fast", &format!("pool: {pool}"), 1)
}

fn files(world: &TestWorld, name: &str) -> PathBuf {
    let seen = status(world, name);
    PathBuf::from(seen["path"].as_str().expect("a path")).join("disk/data")
}

fn into_another_pool(world: &TestWorld) {
    world.write("quick.yaml", QUICK);
    world.write("data.yaml", &volume("data", ""));
    world.write("left.yaml", &container("left", DATA));
    world.converge();
    inside(world, "left", FILES).with(0);
    let original = files(world, "fast/data");
    by_hand(&original);
    world
        .keel(&["snapshot", "create", "volume/fast/data", "first"])
        .with(0);
    let first = told(&original.join("own"));
    inside(
        world,
        "left",
        &format!("cd /data/own; echo after >file; rm link; {WRITER}"),
    )
    .with(0);
    let now = told(&original.join("own"));
    world.write("then.yaml", &copy("then", "quick", ", snapshot: first"));
    world.write("now.yaml", &copy("now", "quick", ""));
    world.converge();
    assert_eq!(told(&files(world, "quick/then").join("own")), first);
    assert_eq!(told(&files(world, "quick/now").join("own")), now);
    // Of one moment: the second is written after the first.
    let counts = shell(&format!(
        "cd {} && cat one two",
        files(world, "quick/now").display()
    ));
    let counts: Vec<u64> = counts
        .lines()
        .map(|line| line.parse().expect("a number"))
        .collect();
    assert!(
        counts[0] == counts[1] || counts[0] == counts[1] + 1,
        "{counts:?}"
    );
    assert_eq!(world.get("instance/left")["status"]["state"], "Running");
    let passing = original
        .parent()
        .and_then(|disk| disk.parent())
        .expect("its folder")
        .join("snapshots/.new-.passing");
    assert!(!passing.exists());
    // Killed at any moment it is made again, whole, and nothing is left of what was copied from.
    for milliseconds in some_of([20, 40, 60, 80, 100, 130, 160, 200, 250]) {
        world.unwrite("now.yaml");
        world
            .keel(&["apply", "--yes", "--no-trash", "--approve", "G102,G101"])
            .with(0);
        world.write("now.yaml", &copy("now", "quick", ""));
        killed_after(
            &mut world.command(&["apply", "--yes"]),
            Duration::from_millis(milliseconds),
        );
        world.keel(&["snapshot", "run-due"]).with(0);
        assert!(!passing.exists(), "after {milliseconds} ms");
        world.converge();
        assert_eq!(
            told(&files(world, "quick/now").join("own")),
            now,
            "after {milliseconds} ms"
        );
        assert_eq!(world.get("instance/left")["status"]["state"], "Running");
    }
    world.keel(&["destroy", "--no-trash", "--yes"]).with(0);
    world.nothing_left();
}

runtime::own_processes_test! {
    fn a_copy_between_pools_of_btrfs_is_whole_and_of_one_moment() {
        into_another_pool(&on("btrfs\n  size: 512MiB"));
    }
}

runtime::own_processes_test! {
    fn a_copy_between_pools_of_different_drivers_is_whole_and_of_one_moment() {
        into_another_pool(&on("dir"));
    }
}
