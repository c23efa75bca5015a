//! Copies of volumes into other pools: whole, with all that files have, and made while somebody writes to the original.

use std::path::{Path, PathBuf};
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

/// Bytes of what is in the file system at a place.
fn used(at: &Path) -> i64 {
    let at = at.display();
    let words = shell(&format!(
        "sync -f {at} && df --output=used -B1 {at} | tail -1"
    ));
    words.trim().parse().expect("a number")
}

/// How much more is in there after something.
fn costs(at: &Path, work: impl FnOnce()) -> i64 {
    let before = used(at);
    work();
    (used(at) - before) >> 20
}

const FILL: &str = "dd if=/dev/urandom of=/data/own/big bs=1M count=40 2>/dev/null";

runtime::own_processes_test! {
    fn a_copy_beside_another_is_sent_as_what_differs() {
        let world = on("btrfs\n  size: 512MiB");
        world.write("quick.yaml", QUICK);
        world.write("data.yaml", &volume("data", ""));
        world.write("left.yaml", &container("left", DATA));
        world.converge();
        let inside = |line: &str| inside(&world, "left", line).with(0);
        inside(&format!("{FILES}; {FILL}"));
        let original = files(&world, "fast/data");
        by_hand(&original);
        let keep = |name: &str| {
            world.keel(&["snapshot", "create", "volume/fast/data", name]).with(0);
            told(&original.join("own"))
        };
        let first = keep("first");
        inside("cd /data/own; echo after >file; rm link; mv 7 seven; dd if=/dev/urandom of=/data/own/more bs=1M count=2 2>/dev/null");
        let second = keep("second");
        inside("cd /data/own; rm 8; dd if=/dev/urandom of=/data/own/big bs=1M seek=20 count=1 conv=notrunc 2>/dev/null");
        let now = told(&original.join("own"));
        let pool = world.state().join("pools/quick");
        let copied = |name: &str, more: &str, wanted: &str| {
            let cost = costs(&pool, || {
                world.write(&format!("{name}.yaml"), &copy(name, "quick", more));
                world.converge();
            });
            assert_eq!(told(&files(&world, &format!("quick/{name}")).join("own")), wanted, "{name}");
            println!("{name}: {cost} MiB");
            cost
        };
        assert!(copied("one", ", snapshot: first", &first) >= 48);
        assert!(copied("two", ", snapshot: second", &second) < 8);
        assert!(copied("live", "", &now) < 8);
        // It stays so when the original is gone on with, and when keel has looked at all of it again.
        world.nothing_to_do();
        assert!(copied("again", ", snapshot: first", &first) < 8);
        // Into what somebody has is written: nothing stands on that any more.
        world.write("right.yaml", &container("right", &["one", "two", "again"].map(|name| {
            format!("    {name}: {{ type: disk, pool: quick, source: {name}, path: /{name} }}\n")
        }).concat()));
        world.converge();
        let line = "for at in one two again; do echo mine >/$at/own/file; done";
        world.keel(&["exec", "right", "--", "sh", "-c", line]).with(0);
        assert!(copied("last", ", snapshot: first", &first) >= 48);
        for name in ["one", "two", "again"] {
            let file = files(&world, &format!("quick/{name}")).join("own/file");
            assert_eq!(std::fs::read_to_string(file).expect("read"), "mine\n");
        }
        assert_eq!(told(&files(&world, "quick/live").join("own")), now);
        world.keel(&["destroy", "--no-trash", "--yes"]).with(0);
        world.nothing_left();
    }
}

runtime::own_processes_test! {
    fn a_copy_into_another_folder_of_one_file_system_shares_its_blocks() {
        let folder = tempfile::tempdir().expect("a folder");
        let at = folder.path().join("disk");
        shell(&format!(
            "truncate -s 512M {0}.img && mkfs.btrfs -q {0}.img && mkdir {0} && mount -o loop {0}.img {0} && chmod 700 {0}",
            at.display()
        ));
        let world = on(&format!("dir\n  source: {}/pool", at.display()));
        let other = QUICK.replace("driver: btrfs, size: 256MiB", &format!("driver: dir, source: {}/other", at.display()));
        world.write("quick.yaml", &other);
        world.write("data.yaml", &volume("data", ""));
        world.write("left.yaml", &container("left", DATA));
        world.converge();
        inside(&world, "left", &format!("{FILES}; {FILL}")).with(0);
        let original = files(&world, "fast/data");
        by_hand(&original);
        let cost = costs(&at, || {
            world.write("now.yaml", &copy("now", "quick", ""));
            world.converge();
        });
        println!("{cost} MiB");
        assert!(cost < 4, "{cost} MiB");
        assert_eq!(told(&files(&world, "quick/now").join("own")), told(&original.join("own")));
        world.keel(&["destroy", "--no-trash", "--yes"]).with(0);
        world.nothing_left();
        shell(&format!("umount {}", at.display()));
    }
}
