//! Volumes: made, attached, shared, grown, copied, snapshotted, trashed and taken back.

use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::guest::{Guest, tiny};
use crate::world::{Ended, HOST, PATIENCE, TestWorld, shell};

pub(crate) fn inside(world: &TestWorld, name: &str, line: &str) -> Ended {
    world.keel(&["exec", name, "--", "sh", "-c", line])
}

pub(crate) fn volume(name: &str, spec: &str) -> String {
    format!(
        "apiVersion: evenkeel/v1\nkind: Volume\nmetadata: {{ name: {name} }}\nspec: {{ pool: fast, {spec} }}\n"
    )
}

pub(crate) fn container(name: &str, devices: &str) -> String {
    format!(
        "apiVersion: evenkeel/v1\nkind: Instance\nmetadata: {{ name: {name} }}\nspec:\n  image: busybox\n  devices:\n    \
         root: {{ type: disk, path: /, pool: fast }}\n{devices}"
    )
}

pub(crate) fn names(world: &TestWorld, object: &str) -> Vec<String> {
    let all = world
        .keel(&["snapshot", "list", object, "-o", "json"])
        .with(0)
        .json();
    let all = all.as_array().expect("a list").iter();
    all.map(|one| one["name"].as_str().expect("a name").to_owned())
        .collect()
}

pub(crate) fn status(world: &TestWorld, name: &str) -> Value {
    world.get(&format!("volume/{name}"))["status"].clone()
}

/// A world with a pool and an image, without instances.
fn world() -> TestWorld {
    on("dir")
}

/// The same with a pool of a driver.
pub(crate) fn on(driver: &str) -> TestWorld {
    let world = TestWorld::furnished();
    let host = HOST.replacen("driver: dir", &format!("driver: {driver}"), 1);
    world.write("host.yaml", &host);
    world.unwrite("one.yaml");
    world.unwrite("two.yaml");
    world
}

pub(crate) const DATA: &str = "    data: { type: disk, pool: fast, source: data, path: /data }\n";

runtime::own_processes_test! {
    fn containers_share_a_volume_that_outlives_them() {
        let world = world();
        world.write("data.yaml", &volume("data", "initial: { uid: 1000, gid: 5, mode: \"0750\" }"));
        world.write("small.yaml", &volume("small", "size: 64MiB"));
        let small = "    small: { type: disk, pool: fast, source: small, path: /small }\n";
        world.write("left.yaml", &container("left", &format!("{DATA}{small}")));
        world.write("right.yaml", &container("right", DATA));
        world.converge();
        inside(&world, "left", "test $(stat -c %a-%u-%g /data) = 750-1000-5").with(0);
        inside(&world, "left", "echo of-left >/data/file && chown 7:8 /data/file && dd if=/dev/zero of=/small/big bs=1M count=100 2>/dev/null; rm /small/big; echo kept >/small/file").with(0);
        // Ids are those of the instance, in each of them.
        inside(&world, "right", "grep -q of-left /data/file && test $(stat -c %u-%g /data/file) = 7-8 && echo of-right >>/data/file").with(0);
        assert_eq!(inside(&world, "left", "cat /data/file").with(0).stdout, "of-left\nof-right\n");
        let seen = status(&world, "fast/data");
        assert_eq!(seen["attachedTo"], serde_json::json!(["instance/left", "instance/right"]), "{seen:#}");
        // It is grown while it is used, where the kernel lets keel; it is made smaller while it is not, as far as it fits.
        let is_big = "test $(df -m /small | awk 'NR==2 {print $2}') -gt 90";
        world.write("small.yaml", &volume("small", "size: 128MiB"));
        if crate::sizes::rich() {
            world.converge();
        } else {
            assert!(world.keel(&["plan"]).with(0).stdout.contains("Waits until it is stopped"));
            world.keel(&["stop", "left", "--hold", "1h", "--reason", "test"]).with(0);
            world.keel(&["apply", "--yes"]).with(0);
            world.keel(&["start", "left"]).with(0);
        }
        inside(&world, "left", is_big).with(0);
        world.write("small.yaml", &volume("small", "size: 64MiB"));
        let page = world.keel(&["plan"]).with(0).stdout;
        assert!(page.contains("Waits until it is stopped"), "{page}");
        world.keel(&["stop", "left", "--hold", "1h", "--reason", "test"]).with(0);
        world.write("small.yaml", &volume("small", "size: 1MiB"));
        world.keel(&["apply", "--yes"]).with(7);
        world.write("small.yaml", &volume("small", "size: 64MiB"));
        world.keel(&["apply", "--yes"]).with(0);
        world.keel(&["start", "left"]).with(0);
        inside(&world, "left", is_big).with(1);
        world.write("small.yaml", &volume("small", ""));
        world.keel(&["apply", "--yes"]).with(7);
        world.write("small.yaml", &volume("small", "size: 64MiB"));
        world.nothing_to_do();
        // Of one that is gone from its pool no empty one is made unless a person says so.
        world.write("lost.yaml", &volume("lost", ""));
        world.converge();
        let place = status(&world, "fast/lost")["path"].as_str().expect("a path").to_owned();
        shell(&format!("mv {place} {place}-away"));
        world.keel(&["apply", "--yes"]).with(7);
        assert!(world.keel(&["plan"]).with(0).stdout.contains("is gone from its pool"));
        assert!(!Path::new(&place).exists());
        shell(&format!("mv {place}-away {place}"));
        world.nothing_to_do();
        shell(&format!("rm -r {place}"));
        world.keel(&["apply", "--yes", "--approve", "G108"]).with(0);
        world.nothing_to_do();
        world.unwrite("lost.yaml");
        world.keel(&["apply", "--yes"]).with(0);
        // Taken out by hand it comes back.
        let left = world.init("left");
        shell(&format!("nsenter -t {left} -m umount /data"));
        world.keel(&["drift", "--detailed-exitcode"]).with(2);
        world.converge();
        inside(&world, "left", "test -e /data/file").with(0);
        // Out of one and, while it runs, into another.
        world.write("left.yaml", &container("left", small));
        world.write("right.yaml", &container("right", &format!("{DATA}{small}")));
        world.converge();
        inside(&world, "left", "test ! -e /data/file && test -e /small/file").with(0);
        inside(&world, "right", "test -e /small/file").with(0);
        // A start of the host finds them where they were.
        crate::boot::restart_host(&world);
        world.keel(&["boot"]).with(0);
        inside(&world, "right", "grep -q of-left /data/file && grep -q kept /small/file").with(0);
        world.nothing_to_do();
        // What runs keeps its volume.
        let uid = status(&world, "fast/data")["uid"].as_str().expect("a uid").to_owned();
        world.write("right.yaml", &container("right", small));
        world.unwrite("data.yaml");
        world.keel(&["apply", "--yes"]).with(0);
        let trash = world.keel(&["trash", "list", "-o", "json"]).with(0).json();
        assert!(trash.to_string().contains("volume/fast/data"), "{trash:#}");
        world.write("data.yaml", &volume("data", "initial: { uid: 1000, gid: 5, mode: \"0750\" }"));
        world.write("right.yaml", &container("right", &format!("{DATA}{small}")));
        world.converge();
        assert_eq!(status(&world, "fast/data")["uid"], uid.as_str());
        inside(&world, "right", "grep -q of-left /data/file").with(0);
        world.destroy();
    }
}

runtime::own_processes_test! {
    fn volumes_have_snapshots_and_copies() {
        snapshots_and_copies(&world());
    }
}

runtime::own_processes_test! {
    fn volumes_that_are_subvolumes_have_snapshots_and_copies() {
        snapshots_and_copies(&on("btrfs\n  size: 512MiB"));
    }
}

runtime::own_processes_test! {
    fn volumes_that_are_thin_have_snapshots_and_copies() {
        if crate::lvm::has_thin_pools() {
            snapshots_and_copies(&on("lvm\n  size: 512MiB"));
        }
    }
}

fn snapshots_and_copies(world: &TestWorld) {
    world.write("data.yaml", &volume("data", "size: 64MiB"));
    world.write("left.yaml", &container("left", DATA));
    world.converge();
    inside(
        world,
        "left",
        "echo first >/data/file; ln /data/file /data/again; mkfifo /data/pipe",
    )
    .with(0);
    world
        .keel(&["snapshot", "create", "volume/fast/data", "first"])
        .with(0);
    inside(world, "left", "echo second >/data/file").with(0);
    world
        .keel(&["snapshot", "create", "volume/fast/data"])
        .with(0);
    assert_eq!(names(world, "volume/fast/data"), ["first", "snap0"]);
    assert_eq!(world.get("instance/left")["status"]["state"], "Running");
    world.nothing_to_do();
    // Copies: of what it is, of a snapshot, and into a folder without a size.
    world.write("now.yaml", &volume("now", "source: { volume: data }"));
    world.write(
        "then.yaml",
        &volume(
            "then",
            "size: 96MiB, source: { volume: data, snapshot: first }",
        ),
    );
    let both = "    now: { type: disk, pool: fast, source: now, path: /now }\n    then: { type: disk, pool: fast, source: then, path: /then, readonly: true }\n";
    world.write("right.yaml", &container("right", both));
    world.converge();
    inside(world, "right", "grep -q second /now/file && grep -q first /then/file && test -p /now/pipe && test $(stat -c %h /then/again) = 2").with(0);
    inside(world, "right", "touch /then/new").with(1);
    // Back: not under somebody who runs.
    world
        .keel(&["snapshot", "restore", "volume/fast/data", "first", "--yes"])
        .with(4)
        .saying("instance/left runs with it");
    world
        .keel(&["stop", "left", "--hold", "1h", "--reason", "test"])
        .with(0);
    world
        .keel(&["snapshot", "restore", "volume/fast/data", "first", "--yes"])
        .with(0);
    world.keel(&["start", "left"]).with(0);
    inside(world, "left", "grep -q first /data/file").with(0);
    world
        .keel(&["snapshot", "rename", "volume/fast/data", "snap0", "second"])
        .with(0);
    world
        .keel(&["snapshot", "delete", "volume/fast/data", "first", "--yes"])
        .with(0);
    assert_eq!(names(world, "volume/fast/data"), ["second"]);
    // A rename moves nothing.
    world.write(
        "data.yaml",
        &volume("data", "size: 64MiB").replace("name: data", "name: pages, previousNames: [data]"),
    );
    world.write(
        "left.yaml",
        &container("left", &DATA.replace("source: data", "source: pages")),
    );
    // What a volume was copied from counts when it is made.
    world.write("now.yaml", &volume("now", ""));
    world.write(
        "then.yaml",
        &volume("then", "size: 96MiB, source: { volume: pages }"),
    );
    world.converge();
    inside(
        world,
        "right",
        "grep -q second /now/file && grep -q first /then/file",
    )
    .with(0);
    inside(world, "left", "grep -q first /data/file").with(0);
    assert_eq!(names(world, "volume/fast/pages"), ["second"]);
    // What is a copy of nothing, or of itself, is told with its line.
    world.write("now.yaml", &volume("now", "source: { volume: now }"));
    world
        .keel(&["plan"])
        .with(3)
        .saying("volume/fast/now waits for itself");
    world.write(
        "now.yaml",
        &volume("now", "source: { volume: data, snapshot: never }"),
    );
    world.keel(&["plan"]).with(3);
    world.unwrite("now.yaml");
    world.write("right.yaml", &container("right", ""));
    world.unwrite("then.yaml");
    world.write(
        "late.yaml",
        &volume("late", "source: { volume: pages, snapshot: never }"),
    );
    world
        .keel(&["apply", "--yes", "--approve", "G102"])
        .with(7)
        .saying("there is no snapshot never");
    // What was never made is in nobody's way.
    world.unwrite("late.yaml");
    world.keel(&["apply", "--yes"]).with(0);
    world.nothing_to_do();
    world.destroy();
}

runtime::own_processes_test! {
    fn a_machine_has_volumes_for_disks() {
        let world = world();
        let machine = |devices: &str| {
            format!(
                "apiVersion: evenkeel/v1\nkind: Instance\nmetadata: {{ name: vm }}\nspec:\n  type: virtual-machine\n  image: tiny\n  \
                 limits: {{ memory: 256MiB }}\n  devices:\n    root: {{ type: disk, path: /, pool: fast, size: 64MiB }}\n    \
                 files: {{ type: disk, pool: fast, source: files, path: /files }}\n{devices}"
            )
        };
        let blocks = "    blocks: { type: disk, pool: fast, source: blocks, ioBus: virtio-blk }\n";
        world.write("tiny.yaml", &tiny("initrd"));
        world.write("blocks.yaml", &volume("blocks", "contentType: block, size: 32MiB"));
        world.write("files.yaml", &volume("files", ""));
        world.write("vm.yaml", &machine(blocks));
        world.write("box.yaml", &container("box", "    files: { type: disk, pool: fast, source: files, path: /files }\n"));
        world.converge();
        let mut guest = Guest::of(&world, "vm");
        guest.run("printf before | dd of=/dev/vda conv=fsync 2>/dev/null");
        // Its files are those of a container, with the same owners.
        guest.run("mkdir /files && mount -t virtiofs files /files && echo of-vm >/files/file && chown 7:8 /files/file && sync");
        inside(&world, "box", "grep -q of-vm /files/file && test $(stat -c %u-%g /files/file) = 7-8").with(0);
        world.keel(&["snapshot", "create", "volume/fast/files", "first"]).with(0);
        world.nothing_to_do();
        // It grows while it is used, and never gets smaller.
        world.write("blocks.yaml", &volume("blocks", "contentType: block, size: 48MiB"));
        world.converge();
        world.write("blocks.yaml", &volume("blocks", "contentType: block, size: 16MiB"));
        world.keel(&["apply", "--yes"]).with(7);
        world.write("blocks.yaml", &volume("blocks", "contentType: block, size: 48MiB"));
        world.nothing_to_do();
        guest.wait_for("cat /sys/block/vda/size", "98304");
        world.keel(&["snapshot", "create", "volume/fast/blocks", "first"]).with(0);
        guest.run("printf after! | dd of=/dev/vda conv=fsync 2>/dev/null");
        assert_eq!(world.get("instance/vm")["status"]["state"], "Running");
        // Out and in again while it runs.
        world.write("vm.yaml", &machine(""));
        world.converge();
        world.write("copy.yaml", &volume("copy", "contentType: block, source: { volume: blocks, snapshot: first }"));
        world.write("vm.yaml", &machine(&format!("{blocks}    copy: {{ type: disk, pool: fast, source: copy }}\n")));
        world.converge();
        guest.wait_for("ls /dev", "vda");
        assert_eq!(guest.run("head -c 6 /dev/vda"), "after!");
        guest.wait_for("ls /dev", "sdb");
        assert_eq!(guest.run("head -c 6 /dev/sdb"), "before");
        world.nothing_to_do();
        // What it holds is never wiped for another kind of content.
        world.write("other.yaml", &volume("plain", ""));
        world.converge();
        world.write("other.yaml", &volume("plain", "contentType: block, size: 1MiB"));
        world.keel(&["apply", "--yes"]).with(7);
        world.unwrite("other.yaml");
        world.converge();
        // Two on one disk are told before anything is done.
        world.write("other.yaml", &machine(blocks).replace("name: vm", "name: other"));
        world.keel(&["plan"]).with(3).saying("is a disk of instance/other already");
        world.unwrite("other.yaml");
        // The image of a CD is kept in the pool, and several may read it.
        let cd = world.path().join("cd.iso");
        std::fs::write(&cd, b"disc".repeat(1 << 18)).expect("an image");
        world.write("cd.yaml", &volume("cd", &format!("contentType: iso, source: {{ file: {} }}", cd.display())));
        world.write("vm.yaml", &machine(&format!("{blocks}    cd: {{ type: disk, pool: fast, source: cd }}\n")));
        world.converge();
        std::fs::remove_file(&cd).expect("removed");
        world.nothing_to_do();
        guest.wait_for("ls /dev", "sr0");
        assert_eq!(guest.run("head -c 8 /dev/sr0"), "discdisc");
        // A disk of somebody else becomes a volume; what lies on another is refused.
        let from = world.path().join("from.qcow2");
        shell(&format!("cp {}/pools/fast/volumes/{}/disk.qcow2 {}", world.state().display(), status(&world, "fast/copy")["uid"].as_str().expect("a uid"), from.display()));
        world.write("import.yaml", &volume("import", &format!("contentType: block, source: {{ file: {} }}", from.display())));
        world.converge();
        assert_eq!(world.get("volume/fast/import")["status"]["attachedTo"], serde_json::json!([]));
        shell(&format!("printf raw >{0}.raw && truncate -s 1M {0}.raw", from.display()));
        world.write("import.yaml", &volume("raw", &format!("contentType: block, source: {{ file: {}.raw }}", from.display())));
        world.keel(&["apply", "--yes"]).with(7).saying("is no qcow2 disk");
        world.unwrite("import.yaml");
        drop(guest);
        world.keel(&["apply", "--yes"]);
        world.destroy();
    }
}

runtime::own_processes_test! {
    fn a_keel_that_is_killed_while_it_copies_leaves_nobody_frozen_and_no_half_copy() {
        let world = world();
        world.write("data.yaml", &volume("data", ""));
        world.write("left.yaml", &container("left", DATA));
        world.converge();
        inside(&world, "left", "for i in $(seq 400); do dd if=/dev/zero of=/data/$i bs=64k count=8 2>/dev/null; done").with(0);
        let folder = Path::new(status(&world, "fast/data")["path"].as_str().expect("a path")).to_owned();
        let copies = folder.join("snapshots/.new-cut/tree");
        let mut keel = world.begin(&["snapshot", "create", "volume/fast/data", "cut"]);
        wait_until(|| copies.exists());
        keel.kill().expect("killed");
        keel.wait().expect("gone");
        assert_eq!(world.get("instance/left")["status"]["state"], "Frozen");
        world.keel(&["snapshot", "run-due"]).with(0);
        assert_eq!(world.get("instance/left")["status"]["state"], "Running");
        assert!(names(&world, "volume/fast/data").is_empty() && !copies.exists());
        world.keel(&["snapshot", "create", "volume/fast/data", "cut"]).with(0);

        // A copy that was cut short is made again, whole.
        world.write("copy.yaml", &volume("copy", "source: { volume: data }"));
        world.write("right.yaml", &container("right", "    copy: { type: disk, pool: fast, source: copy, path: /copy }\n"));
        let volumes = folder.parent().expect("a folder").to_owned();
        let mut keel = world.begin(&["apply", "--yes"]);
        wait_until(|| shell(&format!("ls {}/*/disk/data.next 2>/dev/null | head -3", volumes.display())).lines().count() > 2);
        keel.kill().expect("killed");
        keel.wait().expect("gone");
        world.converge();
        assert_eq!(world.get("instance/left")["status"]["state"], "Running");
        assert_eq!(inside(&world, "right", "ls /copy | wc -l").with(0).stdout.trim(), "400");
        assert_eq!(shell(&format!("ls -d {}/*/disk/data.next 2>/dev/null | wc -l", volumes.display())).trim(), "0");

        // So it goes at every point of the journal.
        let changed = [
            ("copy.yaml", volume("copy", "").replace("name: copy", "name: other, previousNames: [copy]")),
            ("right.yaml", container("right", "    copy: { type: disk, pool: fast, source: other, path: /copy }\n")),
            ("third.yaml", volume("third", "size: 64MiB, source: { volume: data, snapshot: cut }")),
            ("left.yaml", container("left", "    third: { type: disk, pool: fast, source: third, path: /third }\n")),
        ];
        inside(&world, "left", "cd /data && rm -r * && echo mine >file").with(0);
        world.keel(&["snapshot", "delete", "volume/fast/data", "cut", "--yes"]).with(0);
        world.keel(&["snapshot", "create", "volume/fast/data", "cut"]).with(0);
        let before = ["copy.yaml", "right.yaml", "left.yaml"].map(|name| (name, manifests::path_io::read_to_string(world.path().join("manifests").join(name)).expect("a manifest")));
        let mut point = crate::kills::first_point();
        loop {
            for (name, text) in &changed {
                world.write(name, text);
            }
            let killed = crate::kills::killed_at(&world, &["apply", "--yes", "--parallelism", "1"], point);
            world.converge();
            inside(&world, "left", "grep -q mine /third/file").with(0);
            inside(&world, "right", "test -e /copy/400").with(0);
            if !killed {
                break;
            }
            for (name, text) in &before {
                world.write(name, text.replace("name: copy }", "name: copy, previousNames: [other] }").as_str());
            }
            world.unwrite("third.yaml");
            world.converge();
            inside(&world, "left", "grep -q mine /data/file").with(0);
            inside(&world, "right", "test -e /copy/400").with(0);
            world.keel(&["trash", "empty", "--yes"]).with(0);
            point = crate::kills::next_point(point);
        }
        assert!(point > 8, "only {point} points");
        world.destroy();
    }
}

#[track_caller]
pub(crate) fn wait_until(mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !done() {
        assert!(Instant::now() < deadline, "in time");
        std::thread::sleep(Duration::from_micros(200));
    }
}
