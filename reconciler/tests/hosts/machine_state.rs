//! The state of machines: saved with their memory over a stop, and what is in the way of it.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use crate::guest::{Guest, PATIENCE};
use crate::kills::{first_point, killed_at, next_point, some_of};
use crate::machines::{machine, world};
use crate::world::{TestWorld, shell};

const STOP: [&str; 7] = [
    "stop",
    "vm",
    "--stateful",
    "--hold",
    "1h",
    "--reason",
    "test",
];
/// Counts in the guest's memory alone.
const COUNTER: &str = "(i=0; while true; do i=$((i+1)); echo $i >/tmp/count; sleep 1; done) >/dev/null 2>&1 & echo begun";

/// The count, which a boot would begin anew.
fn count(guest: &mut Guest) -> u32 {
    let text = guest.run("cat /tmp/count");
    text.trim()
        .parse()
        .unwrap_or_else(|_| panic!("a number: {text:?}"))
}

fn folder(world: &TestWorld) -> PathBuf {
    let found = shell(&format!(
        "ls -d {}/pools/fast/instances/*",
        world.state().display()
    ));
    found.trim().into()
}

fn counting() -> (TestWorld, Guest) {
    let world = world("initrd");
    world.write("vm.yaml", &machine("vm", "256MiB", ""));
    world.converge();
    let mut guest = Guest::of(&world, "vm");
    guest.run(COUNTER);
    (world, guest)
}

runtime::own_processes_test! {
    fn a_counter_in_memory_goes_on_over_a_stop_and_what_was_plugged_in_is_there() {
        let (world, mut guest) = counting();
        for name in ["more.img", "fast.img", "stick.img"] {
            std::fs::File::create(world.path().join(name)).expect("a disk").set_len(32 << 20).expect("a size");
        }
        std::fs::File::create(world.path().join("late.img")).expect("a disk").set_len(16 << 20).expect("a size");
        let disk = |name: &str| world.path().join(name).display().to_string();
        let more = format!(
            "    more: {{ type: disk, source: {} }}\n    fast: {{ type: disk, source: {}, ioBus: virtio-blk }}\n    \
             stick: {{ type: disk, source: {}, ioBus: usb }}\n    eth1: {{ type: nic, network: lan }}\n",
            disk("more.img"), disk("fast.img"), disk("stick.img")
        );
        let text = machine("vm", "384MiB", &more).replace("limits: { memory", "limits: { cpu: 2, memory");
        world.write("vm.yaml", &text);
        world.converge();
        guest.wait_for("nproc", "2");
        guest.wait_for("awk '/MemTotal/ {print ($2 > 250000) ? \"big\" : \"small\"}' /proc/meminfo", "big");
        for round in 0..2 {
            let before = count(&mut guest);
            assert!(before > round, "it counts");
            drop(guest);
            let began = Instant::now();
            world.keel(&STOP).with(0);
            println!("saved within {:?}", began.elapsed());
            let seen = world.get("instance/vm");
            assert_eq!(seen["status"]["state"], "Stopped", "{seen:#}");
            assert!(seen["status"]["savedState"]["bytes"].as_u64().expect("bytes") > 1 << 20, "{seen:#}");
            let began = Instant::now();
            world.keel(&["start", "vm"]).with(0);
            println!("goes on within {:?}", began.elapsed());
            guest = Guest::of(&world, "vm");
            assert!(count(&mut guest) >= before, "it goes on");
            assert!(world.get("instance/vm")["status"]["savedState"].is_null());
            assert!(!folder(&world).join("saved").exists());
            world.nothing_to_do();
            let seen = guest.run("nproc; ls /sys/class/net; cat /proc/partitions");
            assert!(seen.starts_with('2') && seen.contains("eth1") && seen.matches("32768").count() == 2, "{seen}");
        }
        // What its manifest says by now is mended when it goes on.
        drop(guest);
        world.keel(&STOP).with(0);
        let without = text.lines().filter(|line| !line.contains("more:")).collect::<Vec<_>>().join("\n");
        world.write("vm.yaml", &format!("{without}\n    late: {{ type: disk, source: {} }}\n", disk("late.img")));
        world.keel(&["apply", "--yes"]);
        world.keel(&["start", "vm"]).with(0);
        world.converge();
        let mut guest = Guest::of(&world, "vm");
        guest.run("cat /tmp/count");
        let seen = guest.wait_for("cat /proc/partitions", "16384");
        assert!(seen.matches("32768").count() == 1, "{seen}");
        // What was plugged in before can be taken out, and it still boots.
        world.write("vm.yaml", &machine("vm", "384MiB", "").replace("limits: { memory", "limits: { cpu: 2, memory"));
        world.converge();
        drop(guest);
        world.keel(&["restart", "vm"]).with(0);
        let mut guest = Guest::of(&world, "vm");
        assert_ne!(guest.try_run("cat /tmp/count").1, "0", "it booted");
        drop(guest);
        world.destroy();
    }
}

runtime::own_processes_test! {
    fn a_state_that_cannot_be_taken_over_is_kept_and_told() {
        let (world, mut guest) = counting();
        guest.wait_for("cat /tmp/count", "2");
        drop(guest);
        world.keel(&STOP).with(0);
        let saved = folder(&world).join("saved");
        // Its disk is written to by somebody else.
        shell(&format!("touch {}/disk.qcow2", folder(&world).display()));
        world.keel(&["start", "vm"]).with(1).saying("disk.qcow2 was changed after its state was saved");
        assert!(saved.join("memory").exists());
        // It is cut short.
        world.keel(&["start", "vm", "--discard-state"]).with(0);
        let mut guest = Guest::of(&world, "vm");
        assert_ne!(guest.try_run("cat /tmp/count").1, "0", "it booted");
        drop(guest);
        world.keel(&STOP).with(0);
        shell(&format!("truncate -s 1M {}/memory", saved.display()));
        let ended = world.keel(&["start", "vm"]).with(1).saying("--discard-state");
        println!("{}", ended.stderr);
        assert!(saved.join("memory").exists());
        assert_eq!(world.get("instance/vm")["status"]["state"], "Stopped");
        // Its size cannot be changed meanwhile, and what needs another disk cannot be saved.
        world.write("vm.yaml", &machine("vm", "256MiB", "").replace("size: 64MiB", "size: 96MiB"));
        world.keel(&["apply", "--yes"]).with(7).saying("its state is saved");
        world.write("vm.yaml", &machine("vm", "256MiB", ""));
        world.keel(&["start", "vm", "--discard-state"]).with(0);
        world.nothing_to_do();
        let disk = world.path().join("fast.img");
        std::fs::File::create(&disk).expect("a disk").set_len(32 << 20).expect("a size");
        let nvme = format!("    fast: {{ type: disk, source: {}, ioBus: nvme }}\n", disk.display());
        world.write("vm.yaml", &machine("vm", "256MiB", &nvme));
        world.converge();
        world.keel(&STOP).with(4).saying("NVMe");
        assert_eq!(world.get("instance/vm")["status"]["state"], "Running");
        world.destroy();
    }
}

/// Runs a `keel` that is killed after a while.
fn killed_after(world: &TestWorld, words: &[&str], milliseconds: u64) {
    let mut keel = world.begin(words);
    std::thread::sleep(Duration::from_millis(milliseconds));
    keel.kill().expect("it is killed");
    keel.wait().expect("its end");
}

runtime::own_processes_test! {
    fn keel_is_killed_while_a_state_is_saved_and_taken_over() {
        let (world, guest) = counting();
        drop(guest);
        let mut point = first_point();
        let mut last = 0;
        // At every point of the journal, there and back.
        while killed_at(&world, &STOP, point) {
            world.keel(&["start", "vm"]);
            world.converge();
            let mut guest = Guest::of(&world, "vm");
            let now = count(&mut guest);
            assert!(now >= last, "it went on");
            last = now;
            point = next_point(point);
        }
        assert!(point > 3, "only {point} points");
        world.keel(&["start", "vm"]).with(0);
        // At moments between.
        for milliseconds in some_of([30, 80, 150, 250, 400]) {
            killed_after(&world, &STOP, milliseconds);
            let seen = world.get("instance/vm");
            println!("after {milliseconds} ms: {} {}", seen["status"]["state"], seen["status"]["machine"]);
            world.keel(&["start", "vm"]);
            world.converge();
            let mut guest = Guest::of(&world, "vm");
            let now = count(&mut guest);
            assert!(now >= last, "it went on");
            last = now;
        }
        for milliseconds in some_of([100, 300, 600, 900]) {
            world.keel(&STOP).with(0);
            killed_after(&world, &["start", "vm"], milliseconds);
            let seen = world.get("instance/vm");
            println!("start killed after {milliseconds} ms: {} {}", seen["status"]["state"], seen["status"]["machine"]);
            let began = Instant::now();
            while world.keel(&["start", "vm"]).code != Some(0) {
                assert!(began.elapsed() < PATIENCE, "it starts");
            }
            world.converge();
            let mut guest = Guest::of(&world, "vm");
            let now = count(&mut guest);
            assert!(now >= last, "it went on");
            last = now;
        }
        world.destroy();
    }
}

runtime::own_processes_test! {
    fn a_restore_that_is_killed_is_before_or_after_with_all_that_the_snapshot_keeps() {
        let (world, mut guest) = counting();
        let variables = folder(&world).join("variables.fd");
        put(&mut guest, 1, "first");
        manifests::path_io::write(&variables, "first").expect("variables");
        world.keel(&["snapshot", "create", "vm", "a", "--stateful"]).with(0);
        manifests::path_io::write(&variables, "then").expect("variables");
        world.keel(&["snapshot", "create", "vm", "b"]).with(0);
        // Killed after it was stopped for its state, and before QEMU was told to write that: what QEMU tells is of the snapshot.
        let saved = folder(&world).join("saved.new");
        let run: PathBuf = world.get("instance/vm")["status"]["runFolder"].as_str().expect("it runs").into();
        let mut qmp = runtime::native::machine::qmp::Qmp::connect(&run.join("qmp"), PATIENCE).expect("a monitor");
        qmp.stop().expect("it is stopped");
        drop(qmp);
        shell(&format!("mkdir {0}; cp {1}/snapshot-0/machine.json {0}/; touch {0}/memory", saved.display(), folder(&world).display()));
        let pid = world.init("vm");
        world.keel(&["apply", "--yes"]).with(0);
        assert_eq!(world.init("vm"), pid, "it was not ended");
        world.converge();
        let before = count(&mut guest);
        guest.wait_for(&format!("test $(cat /tmp/count) -gt {before} && echo on"), "on");
        for milliseconds in some_of([40, 90, 160, 300]) {
            put(&mut guest, 1, "later");
            manifests::path_io::write(&variables, "later").expect("variables");
            drop(guest);
            killed_after(&world, &["snapshot", "restore", "vm", "a", "--yes"], milliseconds);
            let began = Instant::now();
            while world.keel(&["apply", "--yes"]).code != Some(0) {
                assert!(began.elapsed() < PATIENCE, "it starts");
            }
            world.converge();
            guest = Guest::of(&world, "vm");
            let disk = has(&mut guest, 1);
            let kept = manifests::path_io::read_to_string(&variables).expect("variables");
            println!("killed after {milliseconds} ms: {disk}");
            assert_eq!(disk, kept, "its disk and its variables are of one moment");
            match disk.as_str() {
                "later" => {}
                _ => drop(count(&mut guest)),
            }
        }
        check(&world);
        // A snapshot of one that is stopped has them too.
        drop(guest);
        world.keel(&["stop", "vm", "--force", "--hold", "1h", "--reason", "test"]).with(0);
        manifests::path_io::write(&variables, "stopped").expect("variables");
        world.keel(&["snapshot", "create", "vm", "s"]).with(0);
        manifests::path_io::write(&variables, "later").expect("variables");
        world.keel(&["snapshot", "restore", "vm", "s", "--yes"]).with(0);
        assert_eq!(manifests::path_io::read_to_string(&variables).expect("variables"), "stopped");
        // What of a restore was left to be done is done by the next start, unless the state is given up.
        shell(&format!("cd {}; sed -i '1s/{{/{{\"returning\":{{\"layer\":0,\"memory\":true}},/' layers.json", folder(&world).display()));
        world.keel(&["start", "vm", "--discard-state"]).with(0);
        let mut guest = Guest::of(&world, "vm");
        assert_ne!(guest.try_run("cat /tmp/count").1, "0", "it booted");
        assert_eq!(manifests::path_io::read_to_string(&variables).expect("variables"), "first");
        drop(guest);
        world.destroy();
    }
}

/// Whether the layers of a machine's disk are whole.
fn check(world: &TestWorld) {
    let folder = folder(world);
    let names = shell(&format!("cd {}; ls disk*.qcow2", folder.display()));
    for name in names.lines() {
        let path = folder.join(name);
        // As its own, without what is below it.
        let found = shell(&format!(
            "qemu-img check -U -f qcow2 {} 2>&1 || true",
            path.display()
        ));
        assert!(found.contains("No errors"), "{name}: {found}");
    }
}

/// A kernel finds its disks while its init answers already, and in any order: what is written before is written into a file of
/// that name, and the first may be the one with what cloud-init is told, which nobody writes to.
const DISK: &str = "until D=$(grep -l 0 /sys/block/sd?/ro 2>/dev/null | head -n 1); test -n \"$D\"; do sleep 0.1; done; \
                    D=${D#/sys/block/}; D=/dev/${D%/ro}; until [ -b $D ]; do sleep 0.1; done";

pub(crate) fn put(guest: &mut Guest, block: u32, text: &str) {
    guest.run(&format!(
        "{DISK}; echo {text} | dd of=$D bs=4096 seek={block} conv=sync,fsync 2>/dev/null"
    ));
}

pub(crate) fn has(guest: &mut Guest, block: u32) -> String {
    let text = guest.run(&format!(
        "{DISK}; echo 3 >/proc/sys/vm/drop_caches; dd if=$D bs=4096 skip={block} count=1 2>/dev/null | tr -d '\\000' | head -c 20"
    ));
    text.trim().to_owned()
}

runtime::own_processes_test! {
    fn what_a_snapshot_keeps_comes_back_with_its_memory_or_without() {
        let (world, mut guest) = counting();
        put(&mut guest, 1, "first");
        let began = Instant::now();
        world.keel(&["snapshot", "create", "vm", "a", "--description", "before"]).with(0);
        println!("a snapshot within {:?}", began.elapsed());
        put(&mut guest, 1, "second");
        put(&mut guest, 2, "more");
        let began = Instant::now();
        world.keel(&["snapshot", "create", "vm", "b", "--stateful"]).with(0);
        println!("a snapshot with memory within {:?}", began.elapsed());
        let counted = count(&mut guest);
        put(&mut guest, 1, "third");
        world.keel(&["snapshot", "create", "vm"]).with(0);
        world.nothing_to_do();
        let seen = world.get("instance/vm");
        let names: Vec<&str> = seen["status"]["snapshots"].as_array().expect("snapshots").iter().map(|one| one["name"].as_str().expect("a name")).collect();
        assert_eq!(names, ["a", "b", "snap0"]);
        world.keel(&["snapshot", "create", "vm", "a"]).with(1).saying("there is a snapshot a already");
        world.keel(&["snapshot", "restore", "vm", "x", "--yes"]).with(1).saying("it has a, b, snap0");
        world.keel(&["snapshot", "restore", "vm", "b"]).with(64);
        // Back, with its memory.
        drop(guest);
        world.keel(&["snapshot", "restore", "vm", "b", "--yes"]).with(0);
        let mut guest = Guest::of(&world, "vm");
        let now = count(&mut guest);
        assert!(now >= 1 && now <= counted + 20, "{now} of {counted}");
        assert_eq!((has(&mut guest, 1).as_str(), has(&mut guest, 2).as_str()), ("second", "more"));
        world.nothing_to_do();
        // Without: it boots.
        drop(guest);
        world.keel(&["snapshot", "restore", "vm", "a", "--yes"]).with(0);
        let mut guest = Guest::of(&world, "vm");
        assert_ne!(guest.try_run("cat /tmp/count").1, "0", "it booted");
        assert_eq!((has(&mut guest, 1).as_str(), has(&mut guest, 2).as_str()), ("first", ""));
        // One that only other snapshots lie on goes, too: QEMU has not opened it, and its data stay for the others.
        world.keel(&["snapshot", "delete", "vm", "b", "--yes"]).with(0);
        world.keel(&["snapshot", "create", "vm", "side"]).with(0);
        world.keel(&["snapshot", "delete", "vm", "side", "--yes"]).with(0);
        // What later snapshots keep is there.
        drop(guest);
        world.keel(&["snapshot", "restore", "vm", "snap0", "--yes"]).with(0);
        let mut guest = Guest::of(&world, "vm");
        assert_eq!((has(&mut guest, 1).as_str(), has(&mut guest, 2).as_str()), ("third", "more"));
        // The middle one goes, and nothing of the others.
        world.keel(&["snapshot", "rename", "vm", "snap0", "c"]).with(0);
        world.keel(&["snapshot", "create", "vm", "m"]).with(0);
        world.keel(&["snapshot", "create", "vm", "n"]).with(0);
        world.keel(&["snapshot", "delete", "vm", "m", "--yes"]).with(0);
        check(&world);
        drop(guest);
        world.keel(&["snapshot", "restore", "vm", "c", "--yes"]).with(0);
        let mut guest = Guest::of(&world, "vm");
        assert_eq!((has(&mut guest, 1).as_str(), has(&mut guest, 2).as_str()), ("third", "more"));
        put(&mut guest, 3, "last");
        world.keel(&["snapshot", "delete", "vm", "a", "c", "n", "--yes"]).with(0);
        assert_eq!((has(&mut guest, 1).as_str(), has(&mut guest, 2).as_str(), has(&mut guest, 3).as_str()), ("third", "more", "last"));
        let left = shell(&format!("cd {}; ls -d disk* snapshot* 2>/dev/null || true", folder(&world).display()));
        assert_eq!(left.lines().count(), 1, "one layer: {left}");
        drop(guest);
        world.keel(&["restart", "vm"]).with(0);
        let mut guest = Guest::of(&world, "vm");
        assert_eq!((has(&mut guest, 1).as_str(), has(&mut guest, 2).as_str(), has(&mut guest, 3).as_str()), ("third", "more", "last"));
        world.nothing_to_do();
        check(&world);
        drop(guest);
        // A plan that takes the machine away counts what goes with it.
        world.keel(&["snapshot", "create", "vm"]).with(0);
        world.keel(&["snapshot", "create", "vm"]).with(0);
        world.unwrite("vm.yaml");
        let plan = world.keel(&["plan"]).with(0);
        assert!(plan.stdout.contains("2 snapshots"), "{}", plan.stdout);
        world.destroy();
    }
}

runtime::own_processes_test! {
    fn keel_or_qemu_is_killed_during_a_snapshot() {
        let (world, mut guest) = counting();
        put(&mut guest, 1, "kept");
        let mut last = 0;
        for (round, milliseconds) in [20, 50, 80, 120, 180, 260].into_iter().enumerate() {
            for memory in [false, true] {
                let name = format!("s{round}{}", u8::from(memory));
                let mut words = vec!["snapshot", "create", "vm", &name];
                if memory {
                    words.push("--stateful");
                }
                killed_after(&world, &words, milliseconds);
                world.keel(&["apply", "--yes"]);
                let text = format!("r{round}{}", u8::from(memory));
                // The next deed takes the result.
                world.keel(&["snapshot", "create", "vm", &format!("after-{name}")]).with(0);
                world.converge();
                let now = count(&mut guest);
                assert!(now >= last, "it goes on");
                last = now;
                put(&mut guest, 2, &text);
                assert_eq!((has(&mut guest, 1).as_str(), has(&mut guest, 2)), ("kept", text));
            }
        }
        check(&world);
        // QEMU dies with a snapshot: the disk is as it was, and the snapshot is made or is not.
        let pid = world.init("vm");
        drop(guest);
        let mut keel = world.begin(&["snapshot", "create", "vm", "last", "--stateful"]);
        std::thread::sleep(Duration::from_millis(100));
        shell(&format!("kill -9 {pid}"));
        keel.wait().expect("its end");
        let began = Instant::now();
        while world.keel(&["apply", "--yes"]).code != Some(0) {
            assert!(began.elapsed() < PATIENCE, "it starts");
        }
        let mut guest = Guest::of(&world, "vm");
        assert_eq!((has(&mut guest, 1).as_str(), has(&mut guest, 2).as_str()), ("kept", "r51"));
        check(&world);
        // QEMU is silent: nothing is made, and it goes on when it does.
        let pid = world.init("vm");
        shell(&format!("kill -STOP {pid}"));
        world.keel(&["snapshot", "create", "vm", "silent"]).with(1);
        shell(&format!("kill -CONT {pid}"));
        world.keel(&["snapshot", "create", "vm", "heard"]).with(0);
        assert_eq!((has(&mut guest, 1).as_str(), has(&mut guest, 2).as_str()), ("kept", "r51"));
        drop(guest);
        let names = world.get("instance/vm")["status"]["snapshots"].to_string();
        assert!(names.contains("heard"), "{names}");
        world.destroy();
    }
}
