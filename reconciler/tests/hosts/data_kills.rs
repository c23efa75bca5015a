//! `kill -9` and a full disk at each point of the journal of what is done to data: sizes, snapshots, backups of any driver.
//! Nothing is lost, and nothing half made is left.

use std::path::{Path, PathBuf};
use std::time::Duration;

use manifests::path_io;

use crate::backups::volume as root_of;
use crate::kills::{first_point, killed_after, killed_at, killed_on, next_point, some_of};
use crate::optimized_kills::{fills_up_in_an_import, other};
use crate::volumes::{container, on, status, volume};
use crate::world::{HOST, TestWorld, shell};

const DATA: &str = "    data: { type: disk, pool: fast, source: data, path: /data }\n";

fn data(size: u32) -> String {
    volume("data", &format!("size: {size}MiB"))
}

/// A volume of files with a size that nobody has mounted, and something in it.
fn sized() -> (TestWorld, PathBuf) {
    let world = on("dir");
    world.write("data.yaml", &data(96));
    world.write("box.yaml", &container("box", DATA));
    world.converge();
    let fill = "for i in $(seq 60); do dd if=/dev/urandom of=/data/$i bs=512k count=1 2>/dev/null; done; \
                for i in $(seq 1 3 60); do rm /data/$i; done; sync";
    world.keel(&["exec", "box", "--", "sh", "-c", fill]).with(0);
    world
        .keel(&["stop", "box", "--hold", "1h", "--reason", "test"])
        .with(0);
    let place = status(&world, "fast/data")["path"].clone();
    let place = Path::new(place.as_str().expect("a path")).to_owned();
    (world, place)
}

/// The file system of a volume in a folder.
fn file_of(place: &Path) -> PathBuf {
    place.join("disk.ext4")
}

/// The sums of what is in it, of a file system without a fault.
#[track_caller]
fn sums(world: &TestWorld, place: &Path) -> String {
    let at = world.path().join("looked");
    shell(&format!(
        "e2fsck -fn {file} >/dev/null 2>&1; mkdir -p {at} && mount -o loop,ro {file} {at}; \
         find {at} -type f -exec sha256sum {{}} + | sort; umount {at}; rmdir {at}",
        file = file_of(place).display(),
        at = at.display()
    ))
}

#[track_caller]
fn is_sized(place: &Path, mebibytes: u64) {
    let file = file_of(place);
    assert_eq!(file.metadata().expect("a file").len(), mebibytes << 20);
}

runtime::own_processes_test! {
    fn a_size_changes_wholly_wherever_keel_is_killed() {
        let (world, place) = sized();
        let wanted = sums(&world, &place);
        let apply = ["apply", "--yes", "--parallelism", "1"];
        for sizes in [[96, 192], [96, 48]] {
            let mut point = first_point();
            loop {
                world.write("data.yaml", &data(sizes[1]));
                let killed = killed_at(&world, &apply, point);
                world.converge();
                is_sized(&place, sizes[1].into());
                assert_eq!(sums(&world, &place), wanted, "killed at {point}");
                world.write("data.yaml", &data(sizes[0]));
                world.converge();
                is_sized(&place, sizes[0].into());
                if !killed {
                    break;
                }
                point = next_point(point);
            }
            assert!(point > 3, "only {point} points");
        }
        // At any moment, and the container starts at once after it.
        for (round, milliseconds) in some_of([10, 25, 40, 55, 70, 85, 100, 130, 160]).enumerate() {
            let size = [48, 192][round % 2];
            world.write("data.yaml", &data(size));
            killed_after(&mut world.command(&apply), Duration::from_millis(milliseconds));
            world.keel(&["start", "box"]).with(0);
            world.keel(&["stop", "box", "--hold", "1h", "--reason", "test"]).with(0);
            world.converge();
            is_sized(&place, size.into());
            assert_eq!(sums(&world, &place), wanted, "killed after {milliseconds} ms");
        }
        world.destroy();
    }
}

/// The program that changes a size: in the namespaces of a test it is the only one.
fn resizing() -> Option<rustix::process::Pid> {
    let all = path_io::list(Path::new("/proc")).expect("processes");
    let found = all.iter().find(|process| {
        let name = std::fs::read_to_string(process.join("comm"));
        name.is_ok_and(|name| name == "resize2fs\n")
    })?;
    let number = found.file_name()?.to_str()?.parse().ok()?;
    rustix::process::Pid::from_raw(number)
}

runtime::own_processes_test! {
    fn a_program_that_a_killed_keel_left_at_work_is_waited_for() {
        // It is caught while it moves what is in the end of the file, for which it may be too quick.
        let caught = (0..5).find_map(|_| {
            let (world, place) = sized();
            let wanted = sums(&world, &place);
            world.write("data.yaml", &data(48));
            let mut keel = world.begin(&["apply", "--yes"]);
            while keel.try_wait().expect("its status").is_none() {
                if let Some(found) = resizing()
                    && rustix::process::kill_process(found, rustix::process::Signal::STOP).is_ok()
                {
                    return Some((world, place, wanted, keel, found));
                }
            }
            world.destroy();
            None
        });
        let (world, place, wanted, mut keel, resizing) = caught.expect("one");
        keel.kill().expect("killed");
        keel.wait().expect("gone");
        let mut start = world.begin(&["start", "box"]);
        std::thread::sleep(Duration::from_secs(1));
        assert!(start.try_wait().expect("its status").is_none(), "it waits");
        assert_eq!(shell(&format!("losetup -j {}", file_of(&place).display())), "");
        rustix::process::kill_process(resizing, rustix::process::Signal::CONT).expect("it goes on");
        assert!(start.wait().expect("its end").success());
        world.keel(&["stop", "box", "--hold", "1h", "--reason", "test"]).with(0);
        world.converge();
        is_sized(&place, 48);
        assert_eq!(sums(&world, &place), wanted);
        world.destroy();
    }
}

runtime::own_processes_test! {
    fn a_size_that_finds_no_room_on_the_disk_costs_nothing() {
        let small = tempfile::tempdir().expect("a folder");
        let image = small.path().join("disk.img");
        let at = small.path().join("disk");
        shell(&format!(
            "truncate -s 96M {1} && mke2fs -q -t ext4 -m 0 {1} && mkdir {0} && mount -o loop {1} {0} && chmod 700 {0}",
            at.display(),
            image.display()
        ));
        let world = on("dir");
        world.write("host.yaml", &HOST.replacen("driver: dir", &format!("source: {}/pool", at.display()), 1));
        world.write("data.yaml", &data(64));
        world.write("box.yaml", &container("box", DATA));
        world.converge();
        let fill = "for i in $(seq 60); do dd if=/dev/urandom of=/data/$i bs=512k count=1 2>/dev/null; done; for i in $(seq 1 2 60); do rm /data/$i; done; sync; fstrim /data 2>/dev/null; true";
        world.keel(&["exec", "box", "--", "sh", "-c", fill]).with(0);
        world.keel(&["stop", "box", "--hold", "1h", "--reason", "test"]).with(0);
        let place = status(&world, "fast/data")["path"].clone();
        let place = Path::new(place.as_str().expect("a path")).to_owned();
        let wanted = sums(&world, &place);
        let filler = at.join("filler");
        let mut refused = 0;
        for size in [48, 2048] {
            for block in ["1M", "4k"] {
                shell(&format!(
                    "dd if=/dev/zero of={} bs={block} oflag=append conv=notrunc,fsync 2>/dev/null || true",
                    filler.display()
                ));
            }
            world.write("data.yaml", &data(size));
            let before = status(&world, "fast/data");
            let full = world.keel(&["apply", "--yes"]);
            if full.code != Some(0) {
                // It is as it was, also where it does not fit by now.
                full.with(7).saying("No space left on device");
                assert_eq!(status(&world, "fast/data"), before);
                assert_eq!(sums(&world, &place), wanted, "refused {size}");
                refused += 1;
            }
            path_io::remove_file(&filler).expect("removed");
            world.converge();
            is_sized(&place, size.into());
            assert_eq!(sums(&world, &place), wanted, "at {size}");
        }
        assert!(refused > 0, "there was room after all");
        world.keel(&["destroy", "--no-trash", "--yes"]).with(0);
        world.nothing_left();
        shell(&format!("umount {}", at.display()));
    }
}

fn one_on(driver: &str) -> TestWorld {
    let world = on(driver);
    world.write("one.yaml", &world.one().replace("  state: Running\n", ""));
    world.converge();
    let fill = "mkdir /own; for i in $(seq 60); do dd if=/dev/urandom of=/own/$i bs=64k count=2 2>/dev/null; done";
    world.keel(&["exec", "one", "--", "sh", "-c", fill]).with(0);
    world.keel(&["snapshot", "create", "one", "first"]).with(0);
    world
        .keel(&["stop", "one", "--force", "--hold", "1h", "--reason", "test"])
        .with(0);
    world
}

/// What is in its files.
fn own(world: &TestWorld, state: &str) -> String {
    let own = root_of(world, state, "one").join("disk/upper/own");
    shell(&format!("cd {} && sha256sum * | sort -k2", own.display()))
}

fn a_restore_is_killed(driver: &str) {
    let world = one_on(driver);
    let first = own(&world, "state");
    let restore = ["snapshot", "restore", "one", "first", "--yes"];
    let held = || {
        let place = root_of(&world, "state", "one");
        shell(&format!(
            "cd {} && find . -maxdepth 3 -not -path '*/upper/*' | sort",
            place.display()
        ))
    };
    let before = held();
    let change = || {
        let upper = root_of(&world, "state", "one").join("disk/upper/own");
        shell(&format!(
            "cd {} && echo other >1 && rm -f 2 && touch new",
            upper.display()
        ));
        own(&world, "state")
    };
    let mut point = first_point();
    loop {
        let changed = change();
        let killed = killed_at(&world, &restore, point);
        world.keel(&["snapshot", "run-due"]).with(0);
        let seen = own(&world, "state");
        assert!(
            seen == first || seen == changed,
            "neither, killed at {point}"
        );
        assert_eq!(held(), before, "killed at {point}");
        world.keel(&restore).with(0);
        assert_eq!(own(&world, "state"), first, "killed at {point}");
        if !killed {
            break;
        }
        point = next_point(point);
    }
    assert!(point > 4, "only {point} points");
    for milliseconds in some_of([4, 8, 12, 16, 20, 24, 28, 32, 40]) {
        let changed = change();
        killed_after(
            &mut world.command(&restore),
            Duration::from_millis(milliseconds),
        );
        world.keel(&["snapshot", "run-due"]).with(0);
        let seen = own(&world, "state");
        assert!(
            seen == first || seen == changed,
            "neither, after {milliseconds} ms"
        );
        assert_eq!(held(), before, "after {milliseconds} ms");
    }
    world.keel(&["start", "one"]).with(0);
    world.nothing_to_do();
    world.destroy();
}

runtime::own_processes_test! {
    fn a_restore_of_copies_is_done_or_not_wherever_keel_is_killed() {
        a_restore_is_killed("dir");
    }
}

runtime::own_processes_test! {
    fn a_restore_of_subvolumes_is_done_or_not_wherever_keel_is_killed() {
        a_restore_is_killed("btrfs\n  size: 512MiB");
    }
}

/// What there is of instances in a state folder.
fn left(world: &TestWorld, state: &str) -> String {
    shell(&format!(
        "cd {}/{state} && find imports reading pools/fast/instances pools/fast/volumes images instances -mindepth 1 -maxdepth 3 \
         2>/dev/null | grep -v aliases | sort; true",
        world.path().display()
    ))
}

runtime::own_processes_test! {
    fn a_backup_is_whole_or_not_there_at_every_point_of_the_journal() {
        let world = one_on("dir");
        let kept = tempfile::tempdir().expect("a folder");
        let wanted = own(&world, "state");
        let before = left(&world, "state");
        let cut = kept.path().join("cut");
        let name = cut.display().to_string();
        let export = ["backup", "export", "one", "-o", &name];
        let mut point = first_point();
        while killed_at(&world, &export, point) {
            let names: Vec<PathBuf> = path_io::list(kept.path()).expect("listed");
            assert!(names.iter().all(|path| *path == cut), "killed at {point}: {names:?}");
            if cut.exists() {
                world.keel(&["backup", "verify", &name]).with(0);
                path_io::remove_file(&cut).expect("removed");
            }
            world.keel(&["snapshot", "run-due"]).with(0);
            assert_eq!(left(&world, "state"), before, "killed at {point}");
            point = next_point(point);
        }
        assert!(point > 8, "only {point} points");
        world.destroy();

        world.unwrite("one.yaml");
        other(&world, &["apply", "--yes"]).with(0);
        let before = left(&world, "other");
        let import = ["backup", "import", name.as_str()];
        let away = ["apply", "--yes", "--no-trash", "--approve", "G102,G101"];
        point = first_point();
        while killed_on("other", &world, &import, point) {
            other(&world, &["snapshot", "run-due"]).with(0);
            if other(&world, &["get", "instance", "one", "-o", "json"]).code == Some(0) {
                assert_eq!(own(&world, "other"), wanted, "killed at {point}");
                other(&world, &away).with(0);
            }
            assert_eq!(left(&world, "other"), before, "killed at {point}");
            point = next_point(point);
        }
        assert!(point > 4, "only {point} points");
        other(&world, &away).with(0);
        // It was told that there is room, and there is none by the time that it writes.
        let small = kept.path().join("small");
        shell(&format!("mkdir {0} && mount -t tmpfs -o size=60M none {0}", small.display()));
        world.write("small.yaml", &format!("apiVersion: evenkeel/v1\nkind: StoragePool\nmetadata: {{ name: small }}\nspec: {{ driver: dir, source: {}/pool }}\nlifecycle: {{ prune: delete }}\n", small.display()));
        other(&world, &["apply", "--yes"]).with(0);
        fills_up_in_an_import(&world, &[&name, "--pool", "small"], &small.join("filler"), left);
        assert_eq!(shell(&format!("ls -A {}/pool/instances", small.display())), "");
        other(&world, &["destroy", "--no-trash", "--yes"]).with(0);
        shell(&format!("umount {}", small.display()));
        world.nothing_left();
    }
}
