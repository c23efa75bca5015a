//! Into another pool: roots of instances and volumes go there as they are, with their snapshots, and are nowhere twice.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Value, json};

use crate::backups::{MAKE, by_hand, first, told};
use crate::guest::Guest;
use crate::kills::{first_point, killed_at, next_point};
use crate::machine_state::{has, put};
use crate::machines::{machine, world as world_of_machines};
use crate::world::{Ended, TWO, TestWorld, shell};

pub(crate) const QUICK: &str = "\
apiVersion: evenkeel/v1
kind: StoragePool
metadata: { name: quick }
spec: { driver: btrfs, size: 256MiB }
lifecycle: { prune: delete }
";

fn inside(world: &TestWorld, name: &str, line: &str) -> Ended {
    world.keel(&["exec", name, "--", "sh", "-c", line])
}

fn volume(pool: &str, name: &str) -> String {
    format!(
        "apiVersion: evenkeel/v1\nkind: Volume\nmetadata: {{ name: {name} }}\nspec: {{ pool: {pool}, size: 32MiB }}\n"
    )
}

/// The manifest of `one`, which nobody starts unasked.
fn one_of(world: &TestWorld) -> String {
    world.one().replace("  state: Running\n", "")
}

fn uid(world: &TestWorld, object: &str) -> String {
    let seen = world.get(object);
    seen["status"]["uid"].as_str().expect("a uid").to_owned()
}

/// Where something lies: the folders of that uid in all pools.
fn places(world: &TestWorld, uid: &str) -> Vec<PathBuf> {
    let pools = world.state().join("pools");
    let found = shell(&format!(
        "ls -d {}/*/*/{uid} 2>/dev/null | cat",
        pools.display()
    ));
    found.lines().map(PathBuf::from).collect()
}

#[track_caller]
fn only_in(world: &TestWorld, pool: &str, uid: &str) -> PathBuf {
    let places = places(world, uid);
    let [place] = &places[..] else {
        panic!("not in one place: {places:?}")
    };
    assert!(
        place.starts_with(world.state().join("pools").join(pool)),
        "{place:?}"
    );
    assert!(!world.state().join("moves").exists());
    place.clone()
}

fn stop(world: &TestWorld, name: &str) {
    world
        .keel(&["stop", name, "--force", "--hold", "1h", "--reason", "test"])
        .with(0);
}

fn upper(place: &Path) -> PathBuf {
    place.join("disk/upper")
}

runtime::own_processes_test! {
    fn the_root_of_a_container_goes_along_with_its_snapshots() {
        let world = TestWorld::furnished();
        world.write("quick.yaml", QUICK);
        world.write("one.yaml", &one_of(&world));
        world.converge();
        for name in ["one", "two"] {
            inside(&world, name, MAKE).with(0);
            world.keel(&["snapshot", "create", name, "first", "--description", "before"]).with(0);
            inside(&world, name, "echo after >/own/file").with(0);
        }
        let one = uid(&world, "instance/one");
        // It runs: nothing is done, and the plan says so.
        let text = one_of(&world);
        let elsewhere = text.replace("root: { type: disk, path: /, pool: fast }", "root: { type: disk, path: /, pool: quick }");
        world.write("one.yaml", &elsewhere);
        let page = world.keel(&["plan"]).with(0).stdout;
        assert!(page.contains("Waits until it is stopped") && page.contains("fast → quick"), "{page}");
        world.keel(&["apply", "--yes"]).with(0);
        only_in(&world, "fast", &one);
        stop(&world, "one");
        let place = only_in(&world, "fast", &one);
        by_hand(&upper(&place));
        let (before, kept) = (told(&upper(&place)), told(&first(&place)));
        world.keel(&["apply", "--yes"]).with(0);
        let place = only_in(&world, "quick", &one);
        assert_eq!(told(&upper(&place)), before);
        assert_eq!(told(&first(&place)), kept);
        world.keel(&["start", "one"]).with(0);
        world.nothing_to_do();
        inside(&world, "one", "grep -q after /own/file && test ! -e /bin/vi").with(0);
        world.keel(&["snapshot", "create", "one", "second"]).with(0);
        // Whoever lets a restart happen at once has it stopped, moved and started; a root with a size keeps it.
        let two = uid(&world, "instance/two");
        let now = format!("{}lifecycle: {{ onRestartNeeded: now }}\n", TWO.replace("pool: fast", "pool: quick"));
        world.write("two.yaml", &now);
        world.converge();
        only_in(&world, "quick", &two);
        assert_eq!(world.get("instance/two")["status"]["state"], "Running");
        inside(&world, "two", "grep -q after /own/file && dd if=/dev/zero of=/big bs=1M count=40 2>/dev/null").with(1);
        inside(&world, "two", "rm /big && dd if=/dev/urandom of=/big bs=1M count=29 2>/dev/null").with(0);
        // And back, onto a file system of its own, where less fits in as much: then it runs on where it was.
        world.write("two.yaml", &now.replace("pool: quick", "pool: fast"));
        world.keel(&["apply", "--yes"]).with(7).saying("does not fit");
        only_in(&world, "quick", &two);
        inside(&world, "two", "rm /big").with(0);
        world.converge();
        only_in(&world, "fast", &two);
        world.keel(&["stop", "two", "--hold", "1h", "--reason", "test"]).with(0);
        world.keel(&["snapshot", "restore", "two", "first", "--yes"]).with(0);
        world.keel(&["start", "two"]).with(0);
        inside(&world, "two", "grep -q before /own/file").with(0);
        // Where it does not fit, it stays where it was.
        inside(&world, "one", "dd if=/dev/urandom of=/big bs=1M count=100 2>/dev/null").with(0);
        world.write("tight.yaml", &QUICK.replace("name: quick", "name: tight").replace("256MiB", "109MiB"));
        world.write("one.yaml", &text.replace("root: { type: disk, path: /, pool: fast }", "root: { type: disk, path: /, pool: tight }"));
        stop(&world, "one");
        world.keel(&["apply", "--yes"]).with(7).saying("free");
        only_in(&world, "quick", &one);
        world.write("one.yaml", &elsewhere);
        world.keel(&["start", "one"]).with(0);
        world.converge();
        inside(&world, "one", "test -s /big").with(0);
        // Out of the trash of the pool that it was in, into the one that its manifest says by now.
        world.unwrite("two.yaml");
        world.keel(&["apply", "--yes"]).with(0);
        world.write("two.yaml", &now);
        let page = world.keel(&["plan"]).with(0).stdout;
        assert!(page.contains("restore from trash") && page.contains("fast → quick"), "{page}");
        world.converge();
        only_in(&world, "quick", &two);
        inside(&world, "two", "grep -q before /own/file").with(0);
        world.destroy();
    }
}

runtime::own_processes_test! {
    fn a_volume_goes_into_the_pool_of_its_manifest_while_nobody_uses_it() {
        let world = TestWorld::furnished();
        world.unwrite("two.yaml");
        world.write("quick.yaml", QUICK);
        world.write("data.yaml", &volume("fast", "data"));
        let with = |pool: &str, name: &str| {
            format!("{}    own: {{ type: disk, pool: {pool}, source: {name}, path: /own }}\n", one_of(&world))
        };
        world.write("one.yaml", &with("fast", "data"));
        world.converge();
        inside(&world, "one", "echo before >/own/file").with(0);
        world.keel(&["snapshot", "create", "volume/fast/data", "first"]).with(0);
        inside(&world, "one", "echo after >/own/file && chown 7:8 /own").with(0);
        let data = uid(&world, "volume/fast/data");
        // Whoever changes the pool means this one, and not an empty one.
        world.write("data.yaml", &volume("quick", "data"));
        world.write("one.yaml", &with("quick", "data"));
        let page = world.keel(&["plan"]).with(0).stdout;
        assert!(page.contains("MOVE (held)") && page.contains("stop instance/one first"), "{page}");
        world.keel(&["apply", "--yes"]).with(7);
        only_in(&world, "fast", &data);
        inside(&world, "one", "grep -q after /own/file").with(0);
        stop(&world, "one");
        world.keel(&["apply", "--yes"]).with(0);
        only_in(&world, "quick", &data);
        world.keel(&["start", "one"]).with(0);
        world.nothing_to_do();
        inside(&world, "one", "grep -q after /own/file && test $(stat -c %u-%g /own) = 7-8").with(0);
        let all = world.keel(&["snapshot", "list", "volume/quick/data", "-o", "json"]).with(0).json();
        assert_eq!(all[0]["name"], "first", "{all:#}");
        stop(&world, "one");
        world.keel(&["snapshot", "restore", "volume/quick/data", "first", "--yes"]).with(0);
        // Back, and under another name at once; at every point of the journal it is in one place.
        let mut point = first_point();
        let mut at = ("quick", "data");
        loop {
            let to = match at {
                ("quick", _) => ("fast", "letters"),
                _ => ("quick", "data"),
            };
            let text = volume(to.0, to.1).replace(&format!("name: {} }}", to.1), &format!("name: {}, previousNames: [{}] }}", to.1, at.1));
            world.write("data.yaml", &text);
            world.write("one.yaml", &with(to.0, to.1));
            let killed = killed_at(&world, &["apply", "--yes", "--parallelism", "1"], point);
            world.keel(&["apply", "--yes"]).with(0);
            only_in(&world, to.0, &data);
            assert_eq!(uid(&world, &format!("volume/{}/{}", to.0, to.1)), data);
            at = to;
            if !killed {
                break;
            }
            point = next_point(point);
        }
        assert!(point > 4, "only {point} points");
        world.keel(&["start", "one"]).with(0);
        inside(&world, "one", "grep -q before /own/file").with(0);
        world.nothing_to_do();
        world.destroy();
    }
}

/// Kills an apply, so long after it has written down that it moves something; whether it was still at it.
pub(crate) fn cut_short_after(world: &TestWorld, pause: Duration) -> bool {
    let moves = world.state().join("moves");
    let mut keel = world.begin(&["apply", "--yes"]);
    crate::volumes::wait_until(|| moves.exists() || keel.try_wait().expect("it").is_some());
    std::thread::sleep(pause);
    keel.kill().expect("killed");
    keel.wait().expect("gone");
    moves.exists()
}

runtime::own_processes_test! {
    fn a_keel_that_is_killed_while_it_moves_a_root_leaves_it_in_one_place() {
        let world = TestWorld::furnished();
        world.write("quick.yaml", QUICK);
        world.write("one.yaml", &one_of(&world));
        world.converge();
        inside(&world, "one", "mkdir /own && for i in $(seq 300); do echo $i >/own/$i; done").with(0);
        world.keel(&["snapshot", "create", "one", "first"]).with(0);
        let one = uid(&world, "instance/one");
        stop(&world, "one");
        let at = |pool: &str| one_of(&world).replace("root: { type: disk, path: /, pool: fast }", &format!("root: {{ type: disk, path: /, pool: {pool} }}"));
        let mut here = "fast";
        let mut cut_short = 0;
        for pause in 0..12 {
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
            let place = only_in(&world, here, &one);
            assert_eq!(shell(&format!("ls {}/own | wc -l", upper(&place).display())).trim(), "300");
            assert_eq!(world.get("instance/one")["status"]["snapshots"][0]["name"], "first");
        }
        assert!(cut_short > 2, "only {cut_short} were cut short");
        // What cannot be removed from where it was goes later; what counts is where it is now.
        let place = only_in(&world, here, &one);
        let to = if here == "fast" { "quick" } else { "fast" };
        shell(&format!("mkdir {0}/held && mount -t tmpfs none {0}/held", place.display()));
        world.write("one.yaml", &at(to));
        world.keel(&["apply", "--yes"]).with(0);
        assert_eq!(places(&world, &one).len(), 2);
        world.nothing_to_do();
        shell(&format!("umount {}/held", place.display()));
        world.keel(&["start", "one"]).with(0);
        only_in(&world, to, &one);
        assert_eq!(inside(&world, "one", "ls /own | wc -l").with(0).stdout.trim(), "300");
        world.nothing_to_do();
        world.destroy();
    }
}

runtime::own_processes_test! {
    fn the_disk_of_a_machine_goes_along_with_its_layers() {
        let world = world_of_machines("initrd");
        world.write("quick.yaml", QUICK);
        let text = machine("vm", "256MiB", "").replace("  state: Running\n", "");
        world.write("vm.yaml", &text);
        world.converge();
        let mut guest = Guest::of(&world, "vm");
        put(&mut guest, 700, "precious");
        drop(guest);
        world.keel(&["snapshot", "create", "vm", "first"]).with(0);
        let mut guest = Guest::of(&world, "vm");
        put(&mut guest, 700, "newer");
        drop(guest);
        let vm = uid(&world, "instance/vm");
        world.write("vm.yaml", &text.replace("pool: fast", "pool: quick"));
        let page = world.keel(&["plan"]).with(0).stdout;
        assert!(page.contains("Waits until it is stopped"), "{page}");
        stop(&world, "vm");
        world.keel(&["apply", "--yes"]).with(0);
        only_in(&world, "quick", &vm);
        world.keel(&["start", "vm"]).with(0);
        world.nothing_to_do();
        let mut guest = Guest::of(&world, "vm");
        assert_eq!(has(&mut guest, 700), "newer");
        drop(guest);
        stop(&world, "vm");
        world.keel(&["snapshot", "restore", "vm", "first", "--yes"]).with(0);
        world.keel(&["start", "vm"]).with(0);
        let mut guest = Guest::of(&world, "vm");
        assert_eq!(has(&mut guest, 700), "precious");
        drop(guest);
        let seen: Value = world.get("instance/vm");
        assert_eq!(seen["status"]["snapshots"][0]["name"], json!("first"), "{seen:#}");
        world.destroy();
    }
}
