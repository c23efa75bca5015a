//! Instances on a pool of driver lvm. A kernel without a device mapper says so while planning; the rest is for the guest of
//! `tests/guest.sh`.

use std::path::{Path, PathBuf};

use serde_json::json;

use crate::backups::{MAKE, by_hand, told, volume};
use crate::world::{HOST, TWO, TestWorld, ended, shell};

/// Whether volumes of LVM can be made here. In the guest they can, and nothing is left out there.
pub(crate) fn has_thin_pools() -> bool {
    runtime::testing::host::has_device_mapper()
}

/// The manifest of a world on a pool of LVM.
pub(crate) fn host_of(size: &str) -> String {
    HOST.replacen("driver: dir", &format!("driver: lvm\n  size: {size}"), 1)
}

/// The usual source, on a host where somebody has used LVM before: its programs leave the folder of their locks behind.
fn furnished() -> TestWorld {
    shell("mkdir -p /run/lock/lvm");
    TestWorld::furnished()
}

fn inside(world: &TestWorld, name: &str, line: &str) -> String {
    world
        .keel(&["exec", name, "--", "sh", "-c", line])
        .with(0)
        .stdout
}

/// The folder of the root of an instance.
fn root_of(world: &TestWorld, name: &str) -> PathBuf {
    let uid = world.get(&format!("instance/{name}"))["status"]["uid"].clone();
    let uid = uid.as_str().expect("a uid").to_owned();
    world.state().join("pools/fast/instances").join(uid)
}

/// All logical volumes of keel's.
fn volumes() -> usize {
    shell("lvs --noheadings -o lv_name | grep -c keel_ || true")
        .trim()
        .parse()
        .expect("a number")
}

runtime::own_processes_test! {
    fn containers_live_on_thin_volumes() {
        let world = furnished();
        world.write("host.yaml", &host_of("100MiB"));
        world.keel(&["plan"]).with(3).saying("128MiB");
        world.write("host.yaml", &host_of("512MiB"));
        if !has_thin_pools() {
            world.keel(&["plan"]).with(3).saying("no thin pools");
            return;
        }
        world.converge();
        let pool = world.get("storage-pool/fast");
        assert_eq!(pool["status"]["driver"], json!("lvm"), "{pool:#}");
        let fill = |mebibytes: u32| {
            let script = format!("dd if=/dev/zero of=/big bs=1M count={mebibytes} conv=fsync");
            world.keel(&["exec", "two", "--", "sh", "-c", &script])
        };
        fill(40).with(1);
        world.write("two.yaml", &TWO.replace("32MiB", "96MiB"));
        world.converge();
        fill(60).with(0);
        // The pool grows below what runs on it, and does not shrink.
        let init = world.init("two");
        world.write("host.yaml", &host_of("640MiB"));
        world.converge();
        world.write("host.yaml", &host_of("600MiB"));
        world.keel(&["apply", "--yes"]).with(7).saying("does not shrink");
        world.write("host.yaml", &host_of("640MiB"));
        world.nothing_to_do();
        // Snapshots are made while it runs, share its blocks, and are gone back to with the size that it has now.
        inside(&world, "two", "echo first >/file");
        world.keel(&["snapshot", "create", "two", "first"]).with(0);
        inside(&world, "two", "echo second >/file; rm /big");
        world.keel(&["snapshot", "restore", "two", "first", "--yes"]).with(0);
        world.wait_for_state("two", "Running");
        assert_eq!(inside(&world, "two", "cat /file; stat -c %s /big"), "first\n62914560\n");
        world.nothing_to_do();
        assert_ne!(world.init("two"), init);
        // Into the trash and back with what is its own.
        world.unwrite("two.yaml");
        world.keel(&["apply", "--yes"]).with(0);
        world.write("two.yaml", &TWO.replace("32MiB", "96MiB"));
        world.converge();
        inside(&world, "two", "rm /file");
        world.keel(&["snapshot", "restore", "two", "first", "--yes"]).with(0);
        assert_eq!(inside(&world, "two", "cat /file"), "first\n");
        // Somebody makes it bigger by hand.
        let named = shell(&format!("cat {}/volume.lv", root_of(&world, "two").display()));
        let volume = shell(&format!("lvs --noheadings -o vg_name,lv_name --separator / -S lv_name={}", named.trim()));
        let drift = || world.keel(&["drift", "--detailed-exitcode"]);
        shell(&format!("lvextend --config 'activation{{udev_sync=0 udev_rules=0}}' --yes -L 112m {}", volume.trim()));
        assert!(drift().with(2).stdout.contains("112MiB"));
        world.keel(&["stop", "two", "--force", "--hold", "1h", "--reason", "test"]).with(0);
        // It stays stopped, since a person said so.
        world.keel(&["apply", "--yes"]).with(7);
        world.keel(&["start", "two"]).with(0);
        world.nothing_to_do();
        assert_eq!(inside(&world, "two", "cat /file"), "first\n");
        // A start of the host: nothing is mounted, no volume is a device.
        crate::boot::restart_host(&world);
        world.keel(&["boot"]).with(0);
        assert_eq!(inside(&world, "two", "cat /file"), "first\n");
        world.nothing_to_do();
        world.destroy();
        assert_eq!(volumes(), 0);
    }
}

runtime::own_processes_test! {
    fn keel_is_killed_while_it_works_on_thin_volumes() {
        if !has_thin_pools() {
            return;
        }
        let world = furnished();
        world.write("host.yaml", &host_of("512MiB"));
        world.converge();
        inside(&world, "two", "echo mine >/file");
        // Every few milliseconds later: wherever it is then, the next one ends what was begun.
        for (turn, after) in ["0.2", "0.5", "0.9", "1.4", "2.0"].iter().enumerate() {
            let name = format!("s{turn}");
            let cut = |words: &[&str]| {
                let mut command = world.command(words);
                let mut child = command.spawn().expect("keel starts");
                shell(&format!("sleep {after}"));
                let _ = child.kill();
                child.wait().expect("it ends");
            };
            cut(&["snapshot", "create", "two", &name]);
            inside(&world, "two", "grep -q mine /file");
            cut(&["snapshot", "delete", "two", &name, "--yes"]);
            world.unwrite("two.yaml");
            cut(&["apply", "--yes"]);
            world.write("two.yaml", TWO);
            world.converge();
            inside(&world, "two", "grep -q mine /file");
        }
        for one in world.keel(&["snapshot", "list", "instance/two", "-o", "json"]).with(0).json().as_array().expect("a list") {
            let name = one["name"].as_str().expect("a name");
            world.keel(&["snapshot", "restore", "two", name, "--yes"]).with(0);
            inside(&world, "two", "grep -q mine /file");
        }
        world.destroy();
        assert_eq!(volumes(), 0, "none is forgotten");
    }
}

/// Shows what lies on the logical volume that a folder names, at `/run/shown`.
fn shown(folder: &Path) -> PathBuf {
    let at = PathBuf::from("/run/shown");
    let named = shell(&format!("cat {}/volume.lv", folder.display()));
    shell(&format!(
        "mkdir -p {0} && volume=$(lvs --noheadings -o vg_name,lv_name --separator / -S lv_name={1} | tr -d ' ') && \
         lvchange --config 'activation{{udev_sync=0 udev_rules=0}}' -ay -K $volume && \
         mount -o ro /dev/mapper/$(echo $volume | tr / -) {0}",
        at.display(),
        named.trim()
    ));
    at
}

runtime::own_processes_test! {
    fn what_was_on_btrfs_is_the_same_on_thin_volumes() {
        if !has_thin_pools() {
            return;
        }
        let world = furnished();
        let kept = tempfile::tempdir().expect("a folder");
        let file = |name: &str| kept.path().join(name).display().to_string();
        let other = |arguments: &[&str]| ended(&mut world.command_on("other", arguments));
        world.write("host.yaml", &HOST.replacen("driver: dir", "driver: btrfs\n  size: 512MiB", 1));
        world.converge();
        let (mut now, mut first) = (Vec::new(), Vec::new());
        for name in ["one", "two"] {
            inside(&world, name, MAKE);
            world.keel(&["snapshot", "create", name, "first"]).with(0);
            inside(&world, name, "echo after >/own/file");
            world.keel(&["stop", name, "--force", "--hold", "1h", "--reason", "test"]).with(0);
            let folder = volume(&world, "state", name);
            by_hand(&folder.join("disk/upper"));
            now.push(told(&folder.join("disk/upper")));
            first.push(told(&folder.join("snapshots/first/tree/upper")));
            world.keel(&["backup", "export", name, "-o", &file(name)]).with(0);
        }
        world.destroy();
        world.write("host.yaml", &host_of("1GiB"));
        for name in ["one.yaml", "two.yaml"] {
            world.unwrite(name);
        }
        other(&["apply", "--yes"]).with(0);
        for (at, name) in ["one", "two"].iter().enumerate() {
            other(&["backup", "import", &file(name)]).with(0);
            let folder = volume(&world, "other", name);
            let place = shown(&folder);
            assert_eq!(told(&place.join("upper")), now[at], "{name}");
            let blocks = shell("stat -c %b /run/shown/upper/own/hole");
            assert!(blocks.trim().parse::<u64>().expect("blocks") < 1024, "holes stay holes");
            shell("umount /run/shown");
            let place = shown(&folder.join("snapshots/first"));
            assert_eq!(told(&place.join("upper")), first[at], "{name}");
            shell("umount /run/shown");
            // And back out of it, which reads snapshots where they are.
            other(&["backup", "export", name, "-o", &file(&format!("{name}-again"))]).with(0);
            other(&["backup", "verify", &file(&format!("{name}-again"))]).with(0);
        }
        other(&["destroy", "--no-trash", "--yes"]).with(0);
        shell("rmdir /run/shown");
        world.nothing_left();
        assert_eq!(volumes(), 0);
    }
}
