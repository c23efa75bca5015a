//! What hosts, disks, QEMU and guests do wrong to machines: clear words in bounded time, nothing half done, and the next
//! apply mends it.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use manifests::path_io;

use crate::guest::{Guest, PATIENCE};
use crate::machines::{machine, world};
use crate::world::{Ended, TestWorld, shell};

/// No command takes longer because a machine is silent: each of two monitors is waited for, and each look once.
const BOUNDED: Duration = Duration::from_secs(60);

#[track_caller]
fn no_instances(world: &TestWorld) {
    let list = world
        .keel(&["get", "instance", "-o", "json"])
        .with(0)
        .json();
    assert_eq!(list["items"], serde_json::json!([]), "{list:#}");
}

/// Runs a `keel` that must not take long.
#[track_caller]
fn soon(world: &TestWorld, arguments: &[&str]) -> Ended {
    let began = Instant::now();
    let ended = world.keel(arguments);
    let took = began.elapsed();
    assert!(took < BOUNDED, "{arguments:?} took {took:?}: {ended:?}");
    ended
}

/// An Image from a file, and a machine of it.
fn of_file(name: &str, file: &str, size: &str) -> String {
    let text = machine(name, "256MiB", "")
        .replace("image: tiny", &format!("image: {name}"))
        .replace("boot: {", "boot: { mode: bios,")
        .replace("size: 64MiB", &format!("size: {size}"));
    format!(
        "apiVersion: evenkeel/v1\nkind: Image\nmetadata:\n  name: {name}\nspec:\n  type: virtual-machine\n  \
         source: {{ file: {file} }}\n---\n{text}"
    )
}

fn emulator() -> PathBuf {
    runtime::native::machine::emulator().expect("qemu-system is installed")
}

runtime::own_processes_test! {
    fn what_the_host_lacks_is_told_with_its_line_before_anything_is_done() {
        let world = world("initrd");
        let text = machine("vm", "256MiB", "");
        world.write("vm.yaml", &text);
        let refused = |arguments: &[&str], words: &[&str]| {
            let ended = world.keel(arguments).with(3);
            for word in words {
                assert!(ended.stderr.contains(word), "{word}: {ended:#?}");
            }
            no_instances(&world);
        };
        let (plan, apply) = (["plan"], ["apply", "--yes"]);
        let qemu = emulator();
        shell(&format!("mount --bind /dev/null {}", qemu.display()));
        for arguments in [&plan[..], &apply] {
            refused(arguments, &["vm.yaml:6:9", "apt-get install qemu-system-x86"]);
        }
        shell(&format!("umount {}", qemu.display()));
        // One that is none, or too old.
        let fake = world.path().join("qemu");
        shell(&format!("printf '#!/bin/sh\\necho too old >&2\\nexit 1\\n' >{0}; chmod 755 {0}; mount --bind {0} {1}", fake.display(), qemu.display()));
        refused(&plan, &["vm.yaml:6:9", "does not answer", "too old"]);
        shell(&format!("umount {}; rm {}", qemu.display(), fake.display()));
        // Whatever KVM is here.
        shell("test ! -e /dev/kvm || mount --bind /dev/null /dev/kvm");
        refused(&["plan", "--accelerator", "kvm"], &["vm.yaml:6:9", "KVM is demanded and does not work here"]);
        shell("mkdir -p /dev/net; mount -t tmpfs none /dev/net");
        refused(&plan, &["vm.yaml:13:", "modprobe tun"]);
        shell("umount /dev/net");
        shell("! grep -q ' /dev/kvm ' /proc/self/mountinfo || umount /dev/kvm");
        world.write("vm.yaml", &text.replace("memory: 256MiB", "memory: 900TiB"));
        refused(&plan, &["vm.yaml:10:", "its memory is 900TiB, and this host has"]);
        world.write("vm.yaml", &text.replace("memory: 256MiB", "memory: 256MiB, hugepages: { 4MiB: 1GiB }"));
        refused(&plan, &["vm.yaml:10:", "this host has no pages of 4MiB"]);
        world.write("vm.yaml", &text.replace("  image: tiny\n", "").replace("boot: {", "boot: { mode: uefi,"));
        shell("mount -t tmpfs none /usr/share/qemu/firmware");
        refused(&plan, &["vm.yaml:8:", "no firmware for UEFI: apt-get install ovmf"]);
        shell("umount /usr/share/qemu/firmware");
        world.keel(&plan).with(0);
        // Containers do not need it.
        world.write("vm.yaml", "");
        shell(&format!("mount --bind /dev/null {}", qemu.display()));
        world.keel(&apply).with(0);
        shell(&format!("umount {}", qemu.display()));
        world.destroy();
    }
}

runtime::own_processes_test! {
    fn an_image_that_is_no_disk_or_leans_on_another_is_refused_and_nothing_is_half_done() {
        let world = world("initrd");
        let file = |name: &str| world.path().join(name).display().to_string();
        shell(&format!("printf 'this is no disk' >{}", file("text.qcow2")));
        shell(&format!("truncate -s 96M {0} && qemu-img create -q -f qcow2 -F raw -b {0} {1}", file("below.raw"), file("above.qcow2")));
        for (name, words) in [("text", "text.qcow2"), ("above", "backing file")] {
            world.write("vm.yaml", &of_file(name, &file(&format!("{name}.qcow2")), "96MiB"));
            for _ in 0..2 {
                world.keel(&["apply", "--yes"]).with(7).saying(words);
                no_instances(&world);
            }
        }
        assert_eq!(world.keel(&["image", "list", "-o", "json"]).with(0).stdout.matches("\"above").count(), 0);
        // Smaller than its image: seen when it is made, and while planning once the image is there.
        shell(&format!("printf keel | dd of={} conv=notrunc status=none", file("below.raw")));
        world.write("vm.yaml", &of_file("plain", &file("below.raw"), "64MiB"));
        world.keel(&["apply", "--yes"]).with(7).saying("100663296").saying("67108864");
        no_instances(&world);
        world.keel(&["plan"]).with(3).saying("vm.yaml:").saying("the disk is 64MiB, and that of its image is 96MiB");
        world.write("vm.yaml", &of_file("plain", &file("below.raw"), "96MiB"));
        world.converge();
        world.destroy();
    }
}

runtime::own_processes_test! {
    fn a_qemu_that_hangs_holds_nobody_up() {
        let world = world("initrd");
        world.write("vm.yaml", &machine("vm", "256MiB", "").replace("25s", "5s"));
        world.converge();
        drop(Guest::of(&world, "vm"));
        let pid = world.init("vm");
        shell(&format!("kill -STOP {pid}"));
        let seen = soon(&world, &["get", "instance", "vm", "-o", "json"]).with(0).json();
        let unseen = &seen["status"]["unseen"];
        assert!(unseen.to_string().contains("QEMU hangs"), "{seen:#}");
        let plan = soon(&world, &["plan"]);
        let said = format!("{}{}", plan.stdout, plan.stderr);
        assert!(plan.code == Some(0) && said.contains("QEMU hangs"), "{plan:#?}");
        let drift = soon(&world, &["drift"]).with(0);
        assert!(drift.stdout.contains("QEMU hangs"), "{}", drift.stdout);
        soon(&world, &["exec", "vm", "--", "true"]).with(125);
        // In an orderly way it has its time, and no more.
        soon(&world, &["stop", "vm", "--hold", "1h", "--reason", "test"]).with(0);
        assert_eq!(world.get("instance/vm")["status"]["state"], "Stopped");
        soon(&world, &["start", "vm"]).with(0);
        let again = world.init("vm");
        assert_ne!(again, pid);
        shell(&format!("kill -STOP {again}"));
        soon(&world, &["stop", "vm", "--force", "--hold", "1h", "--reason", "test"]).with(0);
        assert_eq!(world.get("instance/vm")["status"]["state"], "Stopped");
        world.keel(&["start", "vm"]).with(0);
        world.nothing_to_do();
        world.destroy();
    }
}

runtime::own_processes_test! {
    fn a_qemu_that_is_killed_while_it_is_changed_is_told_and_started_again() {
        let world = world("initrd");
        world.write("vm.yaml", &machine("vm", "256MiB", ""));
        world.converge();
        drop(Guest::of(&world, "vm"));
        let pid = world.init("vm");
        let disk = world.path().join("more.img");
        std::fs::File::create(&disk).expect("a disk").set_len(32 << 20).expect("a size");
        world.write("vm.yaml", &machine("vm", "256MiB", &format!("    more: {{ type: disk, source: {} }}\n", disk.display())));
        // It looks, and then QEMU answers no more until it is gone.
        let apply = world.begin(&["apply", "--yes"]);
        let journal = world.state().join("keel.db-wal");
        let before = std::fs::metadata(&journal).map_or(0, |file| file.len());
        let began = Instant::now();
        while std::fs::metadata(&journal).map_or(0, |file| file.len()) == before && began.elapsed() < Duration::from_secs(5) {
            std::thread::sleep(Duration::from_millis(1));
        }
        shell(&format!("kill -STOP {pid}; sleep 1; kill -KILL {pid}"));
        let ended = crate::world::of_output(&apply.wait_with_output().expect("its end"));
        assert!(matches!(ended.code, Some(0 | 7)), "{ended:#?}");
        world.wait_for_state("vm", "Stopped");
        let seen = world.get("instance/vm");
        assert_eq!(seen["status"]["lastExit"]["signal"], 9, "{seen:#}");
        world.converge();
        let mut guest = Guest::of(&world, "vm");
        assert!(guest.run("cat /proc/partitions").contains("32768"));
        drop(guest);
        world.destroy();
    }
}

runtime::own_processes_test! {
    fn an_agent_that_talks_nonsense_is_not_waited_for() {
        let world = world("initrd");
        world.write("vm.yaml", &machine("vm", "256MiB", ""));
        world.converge();
        let mut guest = Guest::of(&world, "vm");
        const PORT: &str = "/dev/virtio-ports/org.qemu.guest_agent.0";
        guest.wait_for(&format!("ls {PORT}"), PORT);
        let nonsense = [
            // No end of a line, NULs, and answers to what nobody asked.
            format!("(while :; do cat /bin/busybox; done | tr -d '\\n\\377' >{PORT}) >/dev/null 2>&1 & echo $!"),
            format!("(cat /dev/zero >{PORT}) >/dev/null 2>&1 & echo $!"),
            format!("(while :; do printf '\\377{{\"return\": 7}}\\n' >&3; cat <&3 >/dev/null & sleep 1; done 3<>{PORT}) >/dev/null 2>&1 & echo $!"),
        ];
        for talk in nonsense {
            let talks = guest.run(&talk);
            let began = Instant::now();
            while world.get("instance/vm")["status"]["machine"]["agent"] != true {
                assert!(began.elapsed() < PATIENCE, "somebody serves the port");
            }
            let seen = soon(&world, &["get", "instance", "vm", "-o", "json"]).with(0).json();
            assert_eq!(seen["status"]["state"], "Running", "{seen:#}");
            assert_eq!(seen["status"]["addresses"], serde_json::json!([]), "{seen:#}");
            let ended = soon(&world, &["exec", "vm", "--", "true"]).with(125);
            assert!(ended.stderr.contains("agent"), "{ended:?}");
            // What it talks with may hang in the port: the kernel ends it as soon as the other end reads.
            guest.run(&format!("kill -9 {talks}; killall -9 cat tr sleep 2>/dev/null; true"));
        }
        world.nothing_to_do();
        drop(guest);
        world.destroy();
    }
}

runtime::own_processes_test! {
    fn a_disk_of_the_host_that_gets_full_stops_the_machine_until_there_is_space() {
        let world = world("initrd");
        let disk = world.path().join("disk");
        std::fs::create_dir(&disk).expect("a folder");
        let image = world.path().join("disk.img");
        shell(&format!(
            "truncate -s 64M {1} && mke2fs -q -t ext4 {1} && mount -o loop {1} {0} && chmod 700 {0} && \
             dd if=/dev/zero of={0}/filling bs=1M count=30 conv=fsync 2>/dev/null",
            disk.display(),
            image.display()
        ));
        let host = path_io::read_to_string(world.path().join("manifests/host.yaml")).expect("manifests");
        world.write("host.yaml", &host.replacen("driver: dir\n", &format!("driver: dir\n  source: {}/pool\n", disk.display()), 1));
        world.write("vm.yaml", &machine("vm", "256MiB", ""));
        world.converge();
        let mut guest = Guest::of(&world, "vm");
        // More than there is space for.
        guest.tell("dd if=/dev/urandom of=/dev/sda bs=1M count=48 conv=fsync 2>/dev/null; echo written $?");
        let began = Instant::now();
        let seen = loop {
            let seen = world.get("instance/vm");
            if seen["status"]["state"] != "Running" {
                break seen;
            }
            assert!(began.elapsed() < PATIENCE, "{seen:#}");
        };
        assert_eq!(seen["status"]["state"], "Frozen", "{seen:#}");
        assert_eq!(seen["status"]["machine"]["state"], "stopped by an error of a disk", "{seen:#}");
        let drift = world.keel(&["drift", "--detailed-exitcode"]).with(2);
        assert!(drift.stdout.contains("Frozen"), "{}", drift.stdout);
        let pid = world.init("vm");
        // Where there is still no space it stops again, and nothing is lost.
        path_io::remove_file(disk.join("filling")).expect("the filling");
        world.keel(&["apply", "--yes"]).with(0);
        assert_eq!(world.init("vm"), pid, "it was not restarted");
        let (said, _) = guest.try_run("true");
        assert!(said.contains("written 0") || guest.run("echo on") == "on", "{said}");
        world.nothing_to_do();
        drop(guest);
        world.keel(&["destroy", "--no-trash", "--yes"]).with(0);
        shell(&format!("umount {0} && rmdir {0} && rm {1}", disk.display(), image.display()));
        world.nothing_left();
    }
}
