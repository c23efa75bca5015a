//! Layers of disks that nobody needs any more go into what lies on them, whether a machine runs or not, and whoever does it
//! may be killed; and what a machine is after accidents of QEMU and of its companion while it is changed.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use manifests::path_io;

use crate::guest::{Guest, PATIENCE};
use crate::kills::some_of;
use crate::machine_state::{has, put};
use crate::machines::{machine, world};
use crate::world::{TestWorld, shell};

const HOLD: [&str; 4] = ["--hold", "1h", "--reason", "test"];

fn folder(world: &TestWorld) -> PathBuf {
    let found = shell(&format!(
        "ls -d {}/pools/fast/instances/*",
        world.state().display()
    ));
    found.trim().into()
}

/// The layers of the disk of the one machine.
fn layers(world: &TestWorld) -> usize {
    shell(&format!("ls {}/disk*.qcow2", folder(world).display()))
        .lines()
        .count()
}

/// The layer that is written to.
fn active(world: &TestWorld) -> PathBuf {
    let folder = folder(world);
    let record = path_io::read_to_string(folder.join("layers.json")).expect("a record");
    let record: serde_json::Value = serde_json::from_str(&record).expect("JSON");
    match record["active"].as_u64().expect("a layer") {
        0 => folder.join("disk.qcow2"),
        layer => folder.join(format!("disk-{layer}.qcow2")),
    }
}

/// Reads or writes the disk of a machine that stands: with the layers that the record has, whatever their files say.
fn ask(world: &TestWorld, command: &str) {
    let folder = folder(world);
    let record = path_io::read_to_string(folder.join("layers.json")).expect("a record");
    let record: serde_json::Value = serde_json::from_str(&record).expect("JSON");
    let mut layer = record["active"].as_u64();
    let (mut options, mut at) = ("driver=qcow2".to_owned(), String::new());
    while let Some(number) = layer {
        let file = match number {
            0 => "disk.qcow2".to_owned(),
            number => format!("disk-{number}.qcow2"),
        };
        options.push_str(&format!(
            ",{at}driver=qcow2,{at}file.filename={}",
            folder.join(file).display()
        ));
        at.push_str("backing.");
        layer = record["below"][number.to_string()].as_u64();
    }
    shell(&format!("qemu-io --image-opts -c '{command}' {options}"));
}

fn names(world: &TestWorld) -> Vec<String> {
    let seen = world.get("instance/vm");
    let all = seen["status"]["snapshots"]
        .as_array()
        .cloned()
        .unwrap_or_default();
    all.iter()
        .map(|one| one["name"].as_str().expect("a name").to_owned())
        .collect()
}

fn sum(guest: &mut Guest) -> String {
    guest.run("echo 3 >/proc/sys/vm/drop_caches; md5sum </dev/sda")
}

/// Applies until nothing is in the way: who has just ended may still be there for a moment.
fn applied(world: &TestWorld) {
    let began = Instant::now();
    while world.keel(&["apply", "--yes"]).code != Some(0) {
        assert!(began.elapsed() < PATIENCE, "it is mended");
    }
}

runtime::own_processes_test! {
    fn layers_of_a_machine_that_stands_are_merged_and_a_kill_at_any_moment_loses_nothing() {
        let world = world("initrd");
        world.write("vm.yaml", &machine("vm", "256MiB", ""));
        world.converge();
        let mut guest = Guest::of(&world, "vm");
        put(&mut guest, 1, "first");
        drop(guest);
        world.keel(&[&["stop", "vm", "--force"][..], &HOLD].concat()).with(0);
        world.keel(&["snapshot", "create", "vm", "a"]).with(0);
        ask(&world, "write -P 2 8M 40M");
        let mut cut = 0;
        for (round, milliseconds) in [1, 20, 40, 60, 80, 100, 120, 150, 200].into_iter().enumerate() {
            let name = format!("b{round}");
            world.keel(&["snapshot", "create", "vm", &name]).with(0);
            ask(&world, &format!("write -P {} {}M 1M", round + 3, 20 + round));
            let before = layers(&world);
            let mut keel = world.begin(&["snapshot", "delete", "vm", &name, "--yes"]);
            std::thread::sleep(Duration::from_millis(milliseconds));
            keel.kill().expect("killed");
            keel.wait().expect("gone");
            let after = (names(&world).contains(&name), layers(&world));
            println!("killed after {milliseconds} ms: {before} layers, then {after:?}");
            cut += usize::from(after == (false, before));
            ask(&world, "read -P 2 8M 12M");
            for older in 0..=round {
                ask(&world, &format!("read -P {} {}M 1M", older + 3, 20 + older));
            }
            ask(&world, "read -P 2 30M 18M");
        }
        println!("{cut} merges were cut short");
        // What was left is gone on with by the next.
        world.keel(&["snapshot", "create", "vm", "last"]).with(0);
        for name in names(&world).iter().filter(|name| *name != "a") {
            world.keel(&["snapshot", "delete", "vm", name, "--yes"]).with(0);
        }
        assert_eq!((names(&world), layers(&world)), (vec!["a".to_owned()], 2));
        ask(&world, "read -P 2 8M 12M");
        world.keel(&["snapshot", "delete", "vm", "a", "--yes"]).with(0);
        assert_eq!(layers(&world), 1);
        shell(&format!("qemu-img check -q -f qcow2 {}", active(&world).display()));
        world.keel(&["start", "vm"]).with(0);
        let mut guest = Guest::of(&world, "vm");
        assert_eq!(has(&mut guest, 1), "first");
        world.nothing_to_do();
        drop(guest);
        // A saved state goes on with the disk that it left, and nobody writes to that before.
        world.keel(&["snapshot", "create", "vm", "a"]).with(0);
        world.keel(&[&["stop", "vm", "--stateful"][..], &HOLD].concat()).with(0);
        world.keel(&["snapshot", "delete", "vm", "a", "--yes"]).with(0);
        assert_eq!(layers(&world), 2);
        world.keel(&["start", "vm"]).with(0);
        let mut guest = Guest::of(&world, "vm");
        assert_eq!(has(&mut guest, 1), "first");
        drop(guest);
        world.destroy();
    }
}

runtime::own_processes_test! {
    fn a_qemu_that_is_killed_while_it_merges_loses_nothing() {
        let world = world("initrd");
        world.write("vm.yaml", &machine("vm", "256MiB", ""));
        world.converge();
        let mut guest = Guest::of(&world, "vm");
        for (round, milliseconds) in [60, 160].into_iter().enumerate() {
            guest.run("dd if=/dev/urandom of=/dev/sda bs=1M count=40 conv=fsync 2>/dev/null");
            let (first, second) = (format!("a{round}"), format!("b{round}"));
            world.keel(&["snapshot", "create", "vm", &first]).with(0);
            guest.run("dd if=/dev/urandom of=/dev/sda bs=1M seek=30 count=20 conv=fsync 2>/dev/null");
            world.keel(&["snapshot", "create", "vm", &second]).with(0);
            guest.run("dd if=/dev/urandom of=/dev/sda bs=1M seek=10 count=1 conv=fsync 2>/dev/null");
            let mut before = sum(&mut guest);
            let mut pid = world.init("vm");
            drop(guest);
            if round == 0 {
                // It was done, and its guest has not asked for anything to be kept since.
                world.keel(&["snapshot", "delete", "vm", &first, "--yes"]).with(0);
                shell(&format!("kill -9 {pid}"));
                applied(&world);
                guest = Guest::of(&world, "vm");
                assert_eq!(sum(&mut guest), before, "what was merged is there");
                world.keel(&["snapshot", "create", "vm", &first]).with(0);
                guest.run("dd if=/dev/urandom of=/dev/sda bs=1M seek=5 count=8 conv=fsync 2>/dev/null");
                (before, pid) = (sum(&mut guest), world.init("vm"));
                drop(guest);
            }
            let keel = world.begin(&["snapshot", "delete", "vm", &first, &second, "--yes"]);
            std::thread::sleep(Duration::from_millis(milliseconds));
            shell(&format!("kill -9 {pid}"));
            let ended = crate::world::of_output(&keel.wait_with_output().expect("its end"));
            println!("QEMU was killed after {milliseconds} ms: {:?}, {} layers", ended.code, layers(&world));
            applied(&world);
            guest = Guest::of(&world, "vm");
            assert_eq!(sum(&mut guest), before);
            // The next deletion merges what that one did not.
            world.keel(&["snapshot", "create", "vm", "next"]).with(0);
            for name in names(&world) {
                world.keel(&["snapshot", "delete", "vm", &name, "--yes"]).with(0);
            }
            assert_eq!(layers(&world), 1);
            assert_eq!(sum(&mut guest), before);
        }
        drop(guest);
        world.destroy();
    }
}

runtime::own_processes_test! {
    fn a_companion_that_dies_while_parts_are_plugged_leaves_a_state_that_is_known() {
        let world = world("initrd");
        let disk = world.path().join("more.img");
        shell(&format!("truncate -s 16M {}", disk.display()));
        let more = format!("    more: {{ type: disk, source: {} }}\n    eth1: {{ type: nic, network: lan }}\n", disk.display());
        world.write("vm.yaml", &machine("vm", "256MiB", ""));
        world.converge();
        drop(Guest::of(&world, "vm"));
        for milliseconds in some_of([5, 40, 90, 150]) {
            let pid = world.init("vm");
            let companion = shell(&format!("awk '/^PPid/ {{print $2}}' /proc/{pid}/status"));
            world.write("vm.yaml", &machine("vm", "256MiB", &more));
            let keel = world.begin(&["apply", "--yes"]);
            std::thread::sleep(Duration::from_millis(milliseconds));
            shell(&format!("kill -9 {}", companion.trim()));
            let ended = crate::world::of_output(&keel.wait_with_output().expect("its end"));
            println!("its companion died after {milliseconds} ms: {:?}", ended.code);
            assert_eq!(world.init("vm"), pid, "it goes on");
            world.converge();
            let seen = world.get("instance/vm");
            for part in ["more", "eth1"] {
                assert!(seen["spec"]["devices"][part].is_object(), "{seen:#}");
            }
            assert_eq!(world.init("vm"), pid);
            // Out again without a companion, and with another one.
            world.write("vm.yaml", &machine("vm", "256MiB", ""));
            world.converge();
            world.keel(&["restart", "vm"]).with(0);
            let mut guest = Guest::of(&world, "vm");
            let there = guest.run("ls /sys/class/net /sys/block");
            assert!(!there.contains("eth1") && !there.contains("sdb"), "{there}");
        }
        world.destroy();
    }
}

runtime::own_processes_test! {
    fn what_a_machine_lacks_after_an_accident_is_told_and_brought_by_the_next_apply() {
        let world = world("initrd");
        let disk = world.path().join("more.img");
        shell(&format!("truncate -s 16M {}", disk.display()));
        let of = |more: &str| {
            machine("vm", "256MiB", more)
                .replace("boot: {", "boot: { autorestart: true,")
                .replace("limits: {", "limits: { cpu: 0-1,")
        };
        world.write("vm.yaml", &of(""));
        world.converge();
        drop(Guest::of(&world, "vm"));
        world.write("vm.yaml", &of(&format!("    more: {{ type: disk, source: {} }}\n", disk.display())));
        world.converge();
        let pid = world.init("vm");
        shell(&format!("kill -9 {pid}"));
        let began = Instant::now();
        loop {
            let seen = world.get("instance/vm");
            let again = seen["status"]["pid"].as_u64().unwrap_or(0);
            if seen["status"]["state"] == "Running" && again != 0 && again != u64::from(pid) && !seen["status"]["devices"]["root"].is_null() {
                break;
            }
            assert!(began.elapsed() < PATIENCE, "{seen:#}");
            std::thread::sleep(Duration::from_millis(100));
        }
        let drift = world.keel(&["drift", "--detailed-exitcode"]).with(2).stdout;
        for words in ["devices.more", "limits.cpu", "again after an accident"] {
            assert!(drift.contains(words), "{words}: {drift}");
        }
        assert!(!drift.contains("devices.root"), "{drift}");
        world.converge();
        let mut guest = Guest::of(&world, "vm");
        assert!(guest.run("cat /proc/partitions").contains("16384"));
        drop(guest);
        world.destroy();
    }
}
