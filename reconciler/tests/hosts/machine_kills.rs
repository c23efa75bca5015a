//! `kill -9` of `keel` and of the companion of a machine: nothing is lost, and how the machine is, is known.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use runtime::native::machine::qmp::Qmp;

use crate::guest::{Guest, PATIENCE};
use crate::kills::{first_point, killed_at, next_point, some_of};
use crate::machines::{machine, world};
use crate::world::{TestWorld, shell};

const APPLY: [&str; 4] = ["apply", "--yes", "--parallelism", "1"];

fn run_folder(world: &TestWorld, name: &str) -> PathBuf {
    let seen = world.get(&format!("instance/{name}"));
    let folder = seen["status"]["runFolder"].as_str();
    folder
        .unwrap_or_else(|| panic!("{name} runs: {seen:#}"))
        .into()
}

fn monitor(run: &Path) -> Qmp {
    Qmp::connect(&run.join("qmp"), PATIENCE).expect("a monitor")
}

runtime::own_processes_test! {
    fn keel_is_killed_at_every_point_of_making_and_removing_a_machine() {
        let world = world("initrd");
        world.write("vm.yaml", &machine("vm", "256MiB", ""));
        let mut point = first_point();
        while killed_at(&world, &APPLY, point) {
            world.converge();
            world.destroy();
            point = next_point(point);
        }
        assert!(point > 15, "only {point} points");
        world.nothing_to_do();
        let destroy = ["destroy", "--no-trash", "--yes", "--parallelism", "1"];
        point = first_point();
        while killed_at(&world, &destroy, point) {
            if point.is_multiple_of(2) {
                world.destroy();
            }
            world.converge();
            point = next_point(point);
        }
        assert!(point > 10, "only {point} points");
        world.nothing_left();
    }
}

runtime::own_processes_test! {
    fn keel_is_killed_at_every_point_of_plugging() {
        let world = world("initrd");
        world.write("vm.yaml", &machine("vm", "256MiB", ""));
        world.converge();
        let mut guest = Guest::of(&world, "vm");
        let pid = world.init("vm");
        let disk = world.path().join("more.img");
        std::fs::File::create(&disk).expect("a disk").set_len(32 << 20).expect("a size");
        let more = format!(
            "    more: {{ type: disk, source: {} }}\n    eth1: {{ type: nic, network: lan }}\n",
            disk.display()
        );
        for there in [true, false] {
            let mut point = first_point();
            loop {
                let (before, after) = match there {
                    true => ("", more.as_str()),
                    false => (more.as_str(), ""),
                };
                world.write("vm.yaml", &machine("vm", "256MiB", before));
                world.converge();
                world.write("vm.yaml", &machine("vm", "256MiB", after));
                let killed = killed_at(&world, &APPLY, point);
                world.converge();
                let seen = guest.run("cat /proc/partitions; ls /sys/class/net");
                assert_eq!(seen.contains("32768"), there, "{seen}");
                assert_eq!(seen.contains("eth1"), there, "{seen}");
                if !killed {
                    break;
                }
                point = next_point(point);
            }
            assert!(point > 3, "only {point} points");
        }
        assert_eq!(world.init("vm"), pid, "it ran all the time");
        drop(guest);
        world.destroy();
    }
}

runtime::own_processes_test! {
    fn a_machine_lives_on_without_its_companion_and_its_end_is_seen() {
        let world = world("initrd");
        world.write("vm.yaml", &machine("vm", "256MiB", ""));
        world.converge();
        drop(Guest::of(&world, "vm"));
        let pid = world.init("vm");
        let run = run_folder(&world, "vm");
        let companion = shell(&format!("awk '/^PPid/ {{print $2}}' /proc/{pid}/status"));
        shell(&format!("kill -9 {companion}"));
        // It is there, and can be changed.
        world.nothing_to_do();
        assert_eq!(world.init("vm"), pid);
        world.write("vm.yaml", &machine("vm", "240MiB", ""));
        world.converge();
        assert_eq!(world.init("vm"), pid);
        // It switches itself off, and nobody is there to take note but QEMU, which waits.
        monitor(&run).power_down().expect("a button");
        let began = Instant::now();
        while world.get("instance/vm")["status"]["state"] != "Stopped" {
            assert!(began.elapsed() < PATIENCE, "the end is seen");
        }
        let drift = world.keel(&["drift", "--detailed-exitcode"]).with(2);
        assert!(drift.stdout.contains("Stopped"), "{}", drift.stdout);
        world.converge();
        assert_ne!(world.init("vm"), pid);
        world.destroy();
    }
}

runtime::own_processes_test! {
    fn keel_and_the_companion_are_killed_while_the_machine_stops() {
        let world = world("initrd");
        world.write("vm.yaml", &machine("vm", "256MiB", ""));
        world.converge();
        for milliseconds in some_of([0, 200, 800]) {
            drop(Guest::of(&world, "vm"));
            let pid = world.init("vm");
            let companion = shell(&format!("awk '/^PPid/ {{print $2}}' /proc/{pid}/status"));
            // However quick the guest is, the companion does not take note of its end.
            shell(&format!("kill -STOP {companion}"));
            // QEMU tells of the button, however long keel takes until it presses that; or keel is killed at once.
            let mut watching = Qmp::connect(&run_folder(&world, "vm").join("qmp-rescue"), PATIENCE).expect("a monitor");
            let mut keel = world.begin(&["stop", "vm", "--hold", "1h", "--reason", "test"]);
            if milliseconds > 0 {
                watching.wait_event(PATIENCE, &mut |event| event.name == "POWERDOWN").expect("it lives").expect("the button");
            }
            drop(watching);
            std::thread::sleep(Duration::from_millis(milliseconds));
            // Where keel saw the end by itself, it has ended the companion that takes no note of it.
            shell(&format!("kill -9 {} 2>/dev/null || true", companion.trim()));
            keel.kill().expect("it is killed");
            keel.wait().expect("its end");
            // Killed before it asked for the end, it left a machine that runs.
            if milliseconds == 0 && world.get("instance/vm")["status"]["state"] == "Running" {
                world.keel(&["stop", "vm", "--hold", "1h", "--reason", "test"]).with(0);
            }
            let began = Instant::now();
            while world.get("instance/vm")["status"]["state"] != "Stopped" {
                assert!(began.elapsed() < PATIENCE, "the end is seen");
            }
            world.keel(&["start", "vm"]).with(0);
            world.nothing_to_do();
        }
        world.destroy();
    }
}
