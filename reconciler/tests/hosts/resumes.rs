//! An export that was cut off is gone on with: what is there already stays, and what comes of it is a backup as any other.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use manifests::path_io;
use rustix::process::Signal;

use crate::backups::{MAKE, by_hand, told, volume};
use crate::optimized_kills::other;
use crate::volumes::wait_until;
use crate::world::{Ended, HOST, TestWorld, of_output, shell};

const MIB: u64 = 1 << 20;

/// A container with much that does not get smaller, and a snapshot of most of it.
fn begin(driver: &str) -> TestWorld {
    let world = TestWorld::furnished();
    world.unwrite("two.yaml");
    let host = HOST.replacen("driver: dir", &format!("driver: {driver}"), 1);
    world.write("host.yaml", &host);
    world.write("one.yaml", &world.one().replace("  state: Running\n", ""));
    world.converge();
    let fill = "dd if=/dev/urandom of=/own/big bs=1M count=40 2>/dev/null; \
                for i in $(seq 100); do dd if=/dev/urandom of=/own/$i bs=128k count=1 2>/dev/null; done";
    let inside = |line: &str| world.keel(&["exec", "one", "--", "sh", "-c", line]).with(0);
    inside(&format!("{MAKE}; {fill}"));
    world.keel(&["snapshot", "create", "one", "first"]).with(0);
    inside("dd if=/dev/urandom of=/own/later bs=1M count=24 2>/dev/null; rm /own/7");
    world
}

fn length(file: &Path) -> u64 {
    file.metadata().map_or(0, |facts| facts.len())
}

/// Exports until so much of it is in the part, and ends it then.
#[track_caller]
fn cut_off(world: &TestWorld, export: &[&str], part: &Path, at: u64, signal: Signal) -> Ended {
    let mut keel = world
        .command(export)
        .stderr(Stdio::piped())
        .spawn()
        .expect("keel starts");
    let process = rustix::process::Pid::from_child(&keel);
    wait_until(|| length(part) >= at || keel.try_wait().expect("its status").is_some());
    rustix::process::kill_process(process, signal).expect("a signal");
    of_output(&keel.wait_with_output().expect("its end"))
}

/// What an export says that it kept.
#[track_caller]
fn kept(world: &TestWorld, export: &[&str], report: &Path) -> u64 {
    let name = report.display().to_string();
    let told = ["--json-into", name.as_str()];
    world.keel(&[export, &told].concat()).with(0);
    let text = path_io::read(report).expect("a report");
    let report: serde_json::Value = serde_json::from_slice(&text).expect("JSON");
    report["kept"].as_u64().expect("bytes")
}

fn upper(world: &TestWorld, state: &str) -> PathBuf {
    volume(world, state, "one").join("disk/upper")
}

fn left(world: &TestWorld) -> String {
    shell(&format!(
        "cd {} && find reading pools/fast/instances -mindepth 1 -maxdepth 3 2>/dev/null | sort",
        world.state().display()
    ))
}

/// Cut off at these bytes of it, one after another, then to its end.
fn goes_on(driver: &str, form: &[&str], cuts: &[u64]) {
    let world = begin(driver);
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("one");
    let part = folder.path().join("one.keel-part");
    let report = folder.path().join("report");
    let name = file.display().to_string();
    let export = [&["backup", "export", "one", "-o", &name, "--resume"], form].concat();
    let before = left(&world);
    for (at, signal) in cuts.iter().zip([Signal::KILL, Signal::INT].iter().cycle()) {
        let there = length(&part);
        let ended = cut_off(&world, &export, &part, *at, *signal);
        assert!(!file.exists(), "it was cut off at {at}: {ended:?}");
        assert!(length(&part) >= there, "what was there stays");
        if *signal == Signal::INT {
            ended.saying("the same command goes on with it");
        }
        world.keel(&["snapshot", "run-due"]).with(0);
        assert_eq!(left(&world), before, "cut off at {at}");
    }
    // It passes for nothing else.
    let name_of_part = part.display().to_string();
    let there = path_io::read(&part).expect("read");
    for deed in [&["backup", "verify"][..], &["backup", "import"]] {
        let refused = world.keel(&[deed, &[name_of_part.as_str()]].concat());
        refused.with(1).saying("--resume goes on with it");
    }
    let refused = world.keel(&[&export[..], &["--snapshots", "none"]].concat());
    refused
        .with(4)
        .saying("it has another snapshots")
        .saying("what begins anew: remove");
    assert!(path_io::read(&part).expect("read") == there);
    // All but what was being written is kept: of a stream of what runs only what comes before it.
    let wanted = cuts.last().expect("one") / MIB;
    let kept = kept(&world, &export, &report) / MIB;
    println!("{driver} {form:?}: kept {kept} MiB of {wanted}");
    assert!(
        kept + 17 >= wanted || (!form.is_empty() && kept >= 32),
        "{kept} of {wanted} MiB"
    );
    assert!(!part.exists());
    assert_eq!(world.get("instance/one")["status"]["state"], "Running");
    assert_eq!(left(&world), before);
    world.keel(&["backup", "verify", &name]).with(0);
    world
        .keel(&["stop", "one", "--force", "--hold", "1h", "--reason", "test"])
        .with(0);
    let now = told(&upper(&world, "state"));
    // What has changed since then is written anew, and all of it is as it is now.
    let again = folder.path().join("again");
    let part = folder.path().join("again.keel-part");
    let again = again.display().to_string();
    let export = [&["backup", "export", "one", "-o", &again, "--resume"], form].concat();
    cut_off(
        &world,
        &export,
        &part,
        *cuts.last().expect("one"),
        Signal::KILL,
    );
    by_hand(&upper(&world, "state"));
    let changed = told(&upper(&world, "state"));
    world
        .keel(&export)
        .with(0)
        .saying("of it were there already");
    world.keel(&["backup", "verify", &again]).with(0);
    world.destroy();

    world.unwrite("one.yaml");
    for (file, wanted) in [(&name, now), (&again, changed)] {
        other(&world, &["apply", "--yes"]).with(0);
        other(&world, &["backup", "import", file]).with(0);
        assert_eq!(told(&upper(&world, "other")), wanted);
        other(&world, &["destroy", "--no-trash", "--yes"]).with(0);
    }
    world.nothing_left();
}

runtime::own_processes_test! {
    fn an_export_that_is_cut_off_goes_on_after_what_is_there() {
        goes_on("dir", &[], &[1, 20 * MIB, 21 * MIB, 60 * MIB, 100 * MIB]);
    }
}

runtime::own_processes_test! {
    fn an_export_of_streams_that_is_cut_off_goes_on_after_what_is_there() {
        goes_on("btrfs\n  size: 512MiB", &["--optimized"], &[18 * MIB, 40 * MIB, 60 * MIB]);
    }
}

runtime::own_processes_test! {
    fn an_export_that_found_the_disk_full_goes_on_where_there_is_room_again() {
        let world = begin("dir");
        let folder = tempfile::tempdir().expect("a folder");
        let small = folder.path().join("small");
        shell(&format!("mkdir {0} && mount -t tmpfs -o size=48M none {0}", small.display()));
        let name = small.join("one").display().to_string();
        let export = ["backup", "export", "one", "-o", &name, "--resume"];
        world
            .keel(&export)
            .with(1)
            .saying("No space left on device")
            .saying("the same command goes on with it");
        // Somebody makes another one meanwhile, and is told.
        let elsewhere = [&export[..5], &["--without-image", "--snapshots", "none"]].concat();
        world.keel(&elsewhere).saying("--resume goes on with it, and it may be removed");
        shell(&format!("mount -o remount,size=300M {0}", small.display()));
        let kept = kept(&world, &export, &folder.path().join("report")) / MIB;
        assert!(kept >= 31, "{kept} MiB");
        world.keel(&["backup", "verify", &name]).with(0);
        assert_eq!(path_io::list(&small).expect("listed").len(), 1);
        // What is no part of a backup is nobody's to write over.
        path_io::write(small.join("two.keel-part"), "mine").expect("written");
        let two = small.join("two").display().to_string();
        let refused = world.keel(&["backup", "export", "one", "-o", &two, "--resume"]);
        refused.with(4).saying("is no part of a backup");
        assert_eq!(path_io::read_to_string(small.join("two.keel-part")).expect("read"), "mine");
        shell(&format!("umount {}", small.display()));
        world.destroy();
        world.nothing_left();
    }
}
