//! What goes wrong while a machine is saved or a snapshot of it is made: its companion dies, its disk gets full, its agent
//! hangs; and what belongs to a snapshot beside the disk.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use manifests::path_io;

use crate::guest::{Guest, PATIENCE};
use crate::kills::some_of;
use crate::machines::{machine, world};
use crate::world::{TestWorld, shell};

const HOLD: [&str; 4] = ["--hold", "1h", "--reason", "test"];

fn stop(world: &TestWorld, how: &str) {
    world
        .keel(&[&["stop", "vm", how][..], &HOLD].concat())
        .with(0);
}

fn folder(world: &TestWorld) -> PathBuf {
    let found = shell(&format!(
        "ls -d {}/pools/fast/instances/*",
        world.state().display()
    ));
    found.trim().into()
}

/// The companion of the machine.
fn companion(world: &TestWorld) -> String {
    let pid = world.init("vm");
    let found = shell(&format!("awk '/^PPid/ {{print $2}}' /proc/{pid}/status"));
    found.trim().to_owned()
}

/// Runs a `keel` that is killed after a while.
fn killed_after(world: &TestWorld, words: &[&str], milliseconds: u64) {
    let mut keel = world.begin(words);
    std::thread::sleep(Duration::from_millis(milliseconds));
    keel.kill().expect("it is killed");
    keel.wait().expect("its end");
}

runtime::own_processes_test! {
    fn a_companion_that_dies_while_a_state_is_saved_or_kept_loses_nothing() {
        let world = world("initrd");
        world.write("vm.yaml", &machine("vm", "256MiB", ""));
        world.converge();
        let mut guest = Guest::of(&world, "vm");
        guest.run("echo kept >/tmp/mark");
        for (round, milliseconds) in [50, 200].into_iter().enumerate() {
            let name = format!("s{round}");
            let dies = companion(&world);
            let keel = world.begin(&["snapshot", "create", "vm", &name, "--stateful"]);
            std::thread::sleep(Duration::from_millis(milliseconds));
            shell(&format!("kill -9 {dies}"));
            let ended = crate::world::of_output(&keel.wait_with_output().expect("its end"));
            println!("a snapshot while its companion died after {milliseconds} ms: {:?}", ended.code);
            drop(guest);
            // It goes on, and can be looked at and changed; its console went with its companion.
            world.nothing_to_do();
            let seen = world.get("instance/vm");
            assert_eq!(seen["status"]["state"], "Running", "{seen:#}");
            let made = seen["status"]["snapshots"].to_string().contains(&name);
            assert_eq!(made, ended.code == Some(0), "{seen:#}");
            if made {
                world.keel(&["snapshot", "restore", "vm", &name, "--yes"]).with(0);
                let mut again = Guest::of(&world, "vm");
                assert_eq!(again.run("cat /tmp/mark"), "kept");
            }
            // The same while it stops with its state; by now it has a companion again.
            world.keel(&["restart", "vm"]).with(0);
            let mut again = Guest::of(&world, "vm");
            again.run("echo kept >/tmp/mark");
            drop(again);
            let dies = companion(&world);
            let keel = world.begin(&[&["stop", "vm", "--stateful"][..], &HOLD].concat());
            std::thread::sleep(Duration::from_millis(milliseconds));
            shell(&format!("kill -9 {dies}"));
            keel.wait_with_output().expect("its end");
            let began = Instant::now();
            while world.keel(&["start", "vm"]).code != Some(0) {
                assert!(began.elapsed() < PATIENCE, "it starts");
            }
            guest = Guest::of(&world, "vm");
            assert_eq!(guest.run("cat /tmp/mark"), "kept");
            world.nothing_to_do();
            drop(guest);
            world.keel(&["restart", "vm"]).with(0);
            guest = Guest::of(&world, "vm");
            guest.run("echo kept >/tmp/mark");
        }
        drop(guest);
        world.destroy();
    }
}

runtime::own_processes_test! {
    fn what_a_person_froze_is_not_woken_by_what_was_cut_short() {
        let world = world("initrd");
        world.write("vm.yaml", &machine("vm", "256MiB", "").replace("state: Running", "state: Frozen"));
        world.converge();
        let state = || world.get("instance/vm")["status"]["state"].clone();
        assert_eq!(state(), "Frozen");
        for milliseconds in some_of([20, 50, 90, 140, 200]) {
            killed_after(&world, &[&["stop", "vm", "--stateful"][..], &HOLD].concat(), milliseconds);
            // Whatever the next deed is, it takes the result.
            world.write("vm.yaml", &machine("vm", "256MiB", &format!("  description: after {milliseconds} ms\n")).replace("state: Running", "state: Frozen"));
            world.keel(&["apply", "--yes"]);
            let seen = world.get("instance/vm");
            println!("killed after {milliseconds} ms: {} {}", seen["status"]["state"], seen["status"]["machine"]);
            assert_ne!(seen["status"]["state"], "Running", "{seen:#}");
            if seen["status"]["state"] == "Stopped" {
                world.keel(&["start", "vm"]).with(0);
                world.keel(&["freeze", "vm"]).with(0);
            }
            assert_eq!(state(), "Frozen");
        }
        world.destroy();
    }
}

runtime::own_processes_test! {
    fn a_disk_of_the_host_that_gets_full_during_a_snapshot_leaves_all_as_it_was() {
        let world = world("initrd");
        let disk = world.path().join("disk");
        std::fs::create_dir(&disk).expect("a folder");
        let image = world.path().join("disk.img");
        shell(&format!(
            "truncate -s 64M {1} && mke2fs -q -t ext4 {1} && mount -o loop {1} {0} && chmod 700 {0}",
            disk.display(),
            image.display()
        ));
        let host = path_io::read_to_string(world.path().join("manifests/host.yaml")).expect("manifests");
        world.write("host.yaml", &host.replacen("driver: dir\n", &format!("driver: dir\n  source: {}/pool\n", disk.display()), 1));
        world.write("vm.yaml", &machine("vm", "256MiB", ""));
        world.converge();
        let mut guest = Guest::of(&world, "vm");
        guest.run("echo kept >/tmp/mark; dd if=/dev/urandom of=/dev/sda bs=1M count=4 conv=fsync 2>/dev/null");
        // Memory that no compression makes small.
        guest.run("dd if=/dev/urandom of=/tmp/much bs=1M count=40 2>/dev/null");
        let pid = world.init("vm");
        for words in [&["snapshot", "create", "vm", "a", "--stateful"][..], &["stop", "vm", "--stateful", "--hold", "1h", "--reason", "test"]] {
            let ended = world.keel(words);
            assert_ne!(ended.code, Some(0), "{ended:?}");
            assert_eq!(world.init("vm"), pid, "it goes on");
            let seen = world.get("instance/vm");
            assert_eq!(seen["status"]["state"], "Running", "{seen:#}");
            assert!(seen["status"]["snapshots"].is_null() && seen["status"]["savedState"].is_null(), "{seen:#}");
            assert_eq!(guest.run("cat /tmp/mark"), "kept");
        }
        world.keel(&["start", "vm"]).with(0);
        let left = shell(&format!("find {} -name 'saved*' -o -name 'snapshot*'", disk.display()));
        assert_eq!(left, "", "nothing of it takes space");
        // There is space enough for one without memory.
        world.keel(&["snapshot", "create", "vm", "b"]).with(0);
        assert_eq!(guest.run("cat /tmp/mark"), "kept");
        world.nothing_to_do();
        drop(guest);
        world.keel(&["destroy", "--no-trash", "--yes"]).with(0);
        shell(&format!("umount {0} && rmdir {0} && rm {1}", disk.display(), image.display()));
        world.nothing_left();
    }
}

/// An agent that does as it should, but hangs where file systems are to be thawed, until /tmp/thaw is there.
const HANGS: &str = r#"PORT=/dev/virtio-ports/org.qemu.guest_agent.0
cat >/tmp/agent <<'END'
exec 3<>$1
while :; do
  # Without anybody at the other end there is nothing to read.
  read -r line <&3 || { sleep 0.1; continue; }
  case $line in
    *guest-sync-delimited*) id=${line##*\"id\":}; id=${id%%\}*}; printf '\377{"return": %s}\n' "$id" >&3 ;;
    *fsfreeze-status*) cat /tmp/frozen 2>/dev/null | grep -q . && printf '{"return": "frozen"}\n' >&3 || printf '{"return": "thawed"}\n' >&3 ;;
    *fsfreeze-freeze*) echo yes >/tmp/frozen; printf '{"return": 1}\n' >&3 ;;
    *fsfreeze-thaw*) while [ ! -e /tmp/thaw ]; do sleep 1; done; : >/tmp/frozen; printf '{"return": 1}\n' >&3 ;;
    *) printf '{"return": []}\n' >&3 ;;
  esac
done
END
sh /tmp/agent $PORT >/dev/null 2>&1 &
echo begun"#;

runtime::own_processes_test! {
    fn file_systems_that_an_agent_does_not_thaw_are_told_and_thawed_later() {
        let world = world("initrd");
        // Its agent comes on a disk.
        let script = world.path().join("script.img");
        path_io::write(&script, HANGS).expect("a script");
        shell(&format!("truncate -s 64K {}", script.display()));
        let more = format!("    script: {{ type: disk, source: {}, readonly: true }}\n", script.display());
        world.write("vm.yaml", &machine("vm", "256MiB", &more));
        world.converge();
        let mut guest = Guest::of(&world, "vm");
        guest.wait_for("ls /dev/virtio-ports/", "org.qemu.guest_agent.0");
        guest.run("tr -d '\\000' </dev/$(awk '$3 == 64 {print $4}' /proc/partitions) >/tmp/begin; sh /tmp/begin");
        let began = Instant::now();
        while world.get("instance/vm")["status"]["machine"]["agent"] != true {
            assert!(began.elapsed() < PATIENCE, "somebody serves the port");
        }
        // The snapshot is made; what is frozen is told, as drift.
        let made = world.keel(&["snapshot", "create", "vm", "a"]).with(0);
        assert!(made.stderr.contains("agent"), "{}", made.stderr);
        let seen = world.get("instance/vm");
        assert_eq!(seen["status"]["state"], "Frozen", "{seen:#}");
        assert!(seen["status"]["machine"]["fileSystems"].as_str().is_some_and(|how| how.contains("not thawed")), "{seen:#}");
        world.keel(&["apply", "--yes"]).with(7).saying("does not thaw");
        guest.run("touch /tmp/thaw");
        world.converge();
        assert_eq!(guest.run("cat /tmp/frozen"), "");
        // A keel that is killed in between leaves them to the next one.
        guest.run("rm /tmp/thaw");
        killed_after(&world, &["snapshot", "create", "vm", "b"], 1500);
        assert_eq!(guest.run("cat /tmp/frozen"), "yes");
        assert_eq!(world.get("instance/vm")["status"]["state"], "Frozen");
        guest.run("touch /tmp/thaw");
        world.converge();
        assert_eq!(guest.run("cat /tmp/frozen"), "");
        // Who was told that the port is served dies; then nobody serves it any more, and QEMU itself is asked.
        guest.run("(sleep 3; for one in /proc/[0-9]*; do grep -q /tmp/agent $one/cmdline && kill -9 ${one#/proc/}; done) >/dev/null 2>&1 & echo");
        shell(&format!("kill -9 {}", companion(&world)));
        let began = Instant::now();
        while world.get("instance/vm")["status"]["machine"]["agent"] != false {
            assert!(began.elapsed() < PATIENCE, "nobody serves the port");
        }
        drop(guest);
        world.destroy();
    }
}

runtime::own_processes_test! {
    fn what_a_tpm_keeps_goes_back_with_the_disk() {
        let world = world("initrd");
        world.write("vm.yaml", &machine("vm", "256MiB", "    tpm: { type: tpm }\n"));
        world.converge();
        drop(Guest::of(&world, "vm"));
        let kept = |of: &str| path_io::read(folder(&world).join(of).join("tpm2-00.permall")).expect("a TPM");
        // While it runs, and while it does not.
        world.keel(&["snapshot", "create", "vm", "running"]).with(0);
        stop(&world, "--force");
        let first = kept("tpm");
        world.keel(&["snapshot", "create", "vm", "stopped"]).with(0);
        for _ in 0..2 {
            world.keel(&["start", "vm"]).with(0);
            drop(Guest::of(&world, "vm"));
            stop(&world, "--force");
        }
        assert!(kept("tpm") != first, "it counts its resets");
        // Somebody who has taken swtpm over plants a link.
        shell(&format!("ln -s /etc/shadow {}/tpm/planted", folder(&world).display()));
        world.keel(&["snapshot", "create", "vm", "planted"]).with(0);
        let planted = shell(&format!("find {} -path '*snapshot-*/tpm/planted' -type f", folder(&world).display()));
        assert_eq!(planted, "", "it is not followed");
        world.keel(&["snapshot", "restore", "vm", "stopped", "--yes"]).with(0);
        assert!(kept("tpm") == first, "as it was then");
        assert!(!folder(&world).join("tpm/planted").exists() && !folder(&world).join("tpm.new").exists());
        world.keel(&["start", "vm"]).with(0);
        let mut guest = Guest::of(&world, "vm");
        assert_eq!(guest.run("cat /sys/class/tpm/tpm0/tpm_version_major"), "2");
        drop(guest);
        world.keel(&["snapshot", "restore", "vm", "running", "--yes"]).with(0);
        drop(Guest::of(&world, "vm"));
        world.nothing_to_do();
        // With its memory it cannot be kept, which is said.
        world.keel(&["snapshot", "create", "vm", "memory", "--stateful"]).with(4).saying("TPM");
        world.destroy();
    }
}
