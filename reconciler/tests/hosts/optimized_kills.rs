//! Streams of btrfs that are cut short: keel is killed while it writes a backup, brings one in or moves a root, or the
//! disk is full.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use manifests::path_io;
use serde_json::json;

use crate::backups::volume;
use crate::kills::killed_after;
use crate::moves::cut_short_after;
use crate::volumes::wait_until;
use crate::world::{Ended, HOST, TestWorld, ended, shell};

const QUICK: &str = "\
apiVersion: evenkeel/v1
kind: StoragePool
metadata: { name: quick }
spec: { driver: btrfs, size: 512MiB }
lifecycle: { prune: delete }
";

/// Imports in the other state folder where it was told that there is room, and there is none by the time that it writes:
/// nothing of it is among what is `left`.
#[track_caller]
pub(crate) fn fills_up_in_an_import(
    world: &TestWorld,
    arguments: &[&str],
    filler: &Path,
    left: fn(&TestWorld, &str) -> String,
) {
    let before = left(world, "other");
    let mut keel = world
        .command_on("other", &[&["backup", "import"], arguments].concat())
        .stderr(Stdio::piped())
        .spawn()
        .expect("keel starts");
    wait_until(|| {
        world.path().join("other/imports").exists()
            || keel.try_wait().expect("its status").is_some()
    });
    let process = rustix::process::Pid::from_child(&keel);
    let signal = |signal| rustix::process::kill_process(process, signal).expect("a signal");
    signal(rustix::process::Signal::STOP);
    shell(&format!(
        "dd if=/dev/zero of={} bs=64k conv=fsync 2>/dev/null || true",
        filler.display()
    ));
    signal(rustix::process::Signal::CONT);
    let full = keel.wait_with_output().expect("its end");
    let words = String::from_utf8_lossy(&full.stderr).into_owned();
    assert!(
        !full.status.success() && words.contains("No space left on device"),
        "{words}"
    );
    path_io::remove_file(filler).expect("removed");
    other(world, &["snapshot", "run-due"]).with(0);
    assert_eq!(left(world, "other"), before);
}

pub(crate) fn other(world: &TestWorld, arguments: &[&str]) -> Ended {
    ended(&mut world.command_on("other", arguments))
}

/// A container on btrfs with a snapshot and many files, some of them in both.
fn begin() -> TestWorld {
    let world = TestWorld::furnished();
    world.unwrite("two.yaml");
    world.write(
        "host.yaml",
        &HOST.replacen("driver: dir", "driver: btrfs\n  size: 512MiB", 1),
    );
    world.write("one.yaml", &world.one().replace("  state: Running\n", ""));
    world.converge();
    let inside = |line: &str| world.keel(&["exec", "one", "--", "sh", "-c", line]).with(0);
    inside(
        "mkdir /own; for i in $(seq 200); do dd if=/dev/urandom of=/own/$i bs=64k count=2 2>/dev/null; done",
    );
    world.keel(&["snapshot", "create", "one", "first"]).with(0);
    inside(
        "for i in $(seq 201 300); do dd if=/dev/urandom of=/own/$i bs=64k count=1 2>/dev/null; done",
    );
    world
}

/// The sums of its files, whatever the times.
fn sums(volume: &Path) -> String {
    shell(&format!(
        "cd {}/disk/upper/own && sha256sum * | sort -k2",
        volume.display()
    ))
}

/// What there is of instances in a state folder: also subvolumes that no folder shows.
fn left(world: &TestWorld, state: &str) -> String {
    let state = world.path().join(state);
    shell(&format!(
        "cd {0} && find imports pools/fast/instances pools/fast/volumes images instances moves -mindepth 1 -maxdepth 1 2>/dev/null | grep -v aliases | sort; \
         btrfs subvolume list {0}/pools/fast | awk '{{ print $NF }}' | grep -E '^(instances|volumes)' | sort; true",
        state.display()
    ))
}

runtime::own_processes_test! {
    fn a_backup_as_a_stream_that_is_cut_short_leaves_nothing_half_made() {
        let world = begin();
        let kept = tempfile::tempdir().expect("a folder");
        let file = kept.path().join("one").display().to_string();
        let cut = kept.path().join("cut").display().to_string();
        let before = left(&world, "state");
        let began = Instant::now();
        world.keel(&["backup", "export", "one", "-o", &file, "--optimized"]).with(0);
        let whole = began.elapsed();
        assert_eq!(left(&world, "state"), before);
        let mut hit = 0;
        for step in 1..12 {
            let mut keel = world.command(&["backup", "export", "one", "-o", &cut, "--optimized"]);
            hit += u32::from(killed_after(&mut keel, whole * step / 12));
            let names: Vec<PathBuf> = path_io::list(kept.path()).expect("listed");
            assert!(names.iter().all(|path| path.ends_with("one") || path.ends_with("cut")), "{names:?}");
            if kept.path().join("cut").exists() {
                world.keel(&["backup", "verify", &cut]).with(0);
                path_io::remove_file(&cut).expect("removed");
            }
            if step % 2 == 0 {
                world.keel(&["snapshot", "run-due"]).with(0);
                assert_eq!(left(&world, "state"), before, "killed at {step} of 12");
            }
        }
        assert!(hit > 2, "{hit} were killed");
        // Where the file does not fit there is none, and nothing stays of the copy that was to be read.
        let small = kept.path().join("small");
        shell(&format!("mkdir {0} && mount -t tmpfs -o size=4M none {0}", small.display()));
        let there = small.join("one").display().to_string();
        world.keel(&["backup", "export", "one", "-o", &there, "--optimized"]).with(1).saying("No space left on device");
        assert_eq!(path_io::list(&small).expect("listed").len(), 0);
        shell(&format!("umount {}", small.display()));
        assert_eq!(left(&world, "state"), before);
        assert_eq!(world.get("instance/one")["status"]["state"], "Running");
        world.nothing_to_do();
        world.keel(&["stop", "one", "--force", "--hold", "1h", "--reason", "test"]).with(0);
        let wanted = sums(&volume(&world, "state", "one"));
        world.destroy();

        world.unwrite("one.yaml");
        other(&world, &["apply", "--yes"]).with(0);
        let before = left(&world, "other");
        let began = Instant::now();
        other(&world, &["backup", "import", &file, "--name", "timed"]).with(0);
        let whole = began.elapsed();
        let away = ["apply", "--yes", "--no-trash", "--approve", "G102,G101"];
        other(&world, &away).with(0);
        assert_eq!(left(&world, "other"), before, "it is declared nowhere");
        let mut hit = 0;
        for step in 1..16 {
            let mut keel = world.command_on("other", &["backup", "import", &file]);
            hit += u32::from(killed_after(&mut keel, whole * step / 16));
            other(&world, &["snapshot", "run-due"]).with(0);
            if other(&world, &["get", "instance", "one", "-o", "json"]).code == Some(0) {
                assert_eq!(sums(&volume(&world, "other", "one")), wanted, "killed at {step} of 16");
                other(&world, &away).with(0);
            }
            assert_eq!(left(&world, "other"), before, "killed at {step} of 16");
        }
        assert!(hit > 4, "{hit} were killed");
        let filler = world.path().join("other/pools/fast/filler");
        fills_up_in_an_import(&world, &[&file], &filler, left);
        other(&world, &["backup", "import", &file]).with(0);
        assert_eq!(sums(&volume(&world, "other", "one")), wanted);
        other(&world, &["destroy", "--no-trash", "--yes", "--approve", "G102"]).with(0);
        world.nothing_left();
    }
}

runtime::own_processes_test! {
    fn a_root_that_goes_as_a_stream_is_in_one_place_wherever_keel_is_killed() {
        let world = begin();
        world.write("quick.yaml", QUICK);
        world.converge();
        world.keel(&["stop", "one", "--force", "--hold", "1h", "--reason", "test"]).with(0);
        let uid = world.get("instance/one")["status"]["uid"].as_str().expect("a uid").to_owned();
        let place = |pool: &str| world.state().join("pools").join(pool).join("instances").join(&uid);
        let wanted = sums(&place("fast"));
        let text = world.one().replace("  state: Running\n", "");
        let at = |pool: &str| text.replace("root: { type: disk, path: /, pool: fast }", &format!("root: {{ type: disk, path: /, pool: {pool} }}"));
        let mut here = "fast";
        let mut cut_short = 0;
        for pause in 0..9 {
            let to = if here == "fast" { "quick" } else { "fast" };
            world.write("one.yaml", &at(to));
            cut_short += usize::from(cut_short_after(&world, Duration::from_millis(pause * 6)));
            if pause % 3 == 2 {
                // Somebody has thought better of it.
                world.write("one.yaml", &at(here));
                world.keel(&["apply", "--yes"]).with(0);
            } else {
                world.keel(&["apply", "--yes"]).with(0);
                here = to;
            }
            let away = if here == "fast" { "quick" } else { "fast" };
            assert!(!place(away).exists() && !world.state().join("moves").exists(), "twice, after {pause}");
            let held = shell(&format!("btrfs subvolume list {}", world.state().join("pools").join(away).display()));
            assert!(!held.contains(&uid), "after {pause}: {held}");
            assert_eq!(sums(&place(here)), wanted, "after {pause}");
            assert_eq!(world.get("instance/one")["status"]["snapshots"][0]["name"], json!("first"));
        }
        assert!(cut_short > 2, "only {cut_short} were cut short");
        world.keel(&["start", "one"]).with(0);
        world.nothing_to_do();
        world.destroy();
    }
}
