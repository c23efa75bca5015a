//! Instances on a pool of driver btrfs: limits, drift of the pool itself, growth, removal.

use std::path::PathBuf;

use manifests::path_io;
use serde_json::json;

use crate::guest::Guest;
use crate::machines;
use crate::world::{TWO, TestWorld, shell};

/// The manifests of a world on a pool of another driver.
fn on_btrfs(world: &TestWorld, size: &str) {
    let path = world.path().join("manifests/host.yaml");
    let text = path_io::read_to_string(&path).expect("manifests");
    assert!(text.contains("driver: dir"), "{text}");
    let pool = format!("driver: btrfs\n  size: {size}");
    path_io::write(&path, text.replace("driver: dir", &pool)).expect("manifests");
}

fn resize_pool(world: &TestWorld, from: &str, to: &str) {
    let path = world.path().join("manifests/host.yaml");
    let text = path_io::read_to_string(&path).expect("manifests");
    let (from, to) = (format!("size: {from}"), format!("size: {to}"));
    path_io::write(&path, text.replace(&from, &to)).expect("manifests");
}

/// Applies, and starts `two` again where its root grows only then.
fn settle(world: &TestWorld) {
    world.keel(&["apply", "--yes"]).with(0);
    let pending = world.get("instance/two")["status"]["restartPending"].clone();
    if pending
        .as_array()
        .is_some_and(|pending| !pending.is_empty())
    {
        world.keel(&["restart", "two"]).with(0);
    }
    world.nothing_to_do();
}

/// The subvolume of the root of `two`.
fn tree_of_two(world: &TestWorld) -> PathBuf {
    let uid = world.get("instance/two")["status"]["uid"].clone();
    let uid = uid.as_str().expect("a uid").to_owned();
    world
        .state()
        .join("pools/fast/instances")
        .join(uid)
        .join("disk")
}

runtime::own_processes_test! {
    fn containers_live_on_subvolumes_and_what_somebody_does_to_their_pool_is_mended() {
        let world = TestWorld::furnished();
        on_btrfs(&world, "100MiB");
        world.keel(&["plan"]).with(3).saying("109MiB");
        resize_pool(&world, "100MiB", "512MiB");
        world.converge();
        let pool = world.get("storage-pool/fast");
        assert_eq!(pool["status"]["driver"], json!("btrfs"), "{pool:#}");
        let fill = |mebibytes: u32| {
            let script = format!("dd if=/dev/zero of=/big bs=1M count={mebibytes} conv=fsync");
            world.keel(&["exec", "two", "--", "sh", "-c", &script])
        };
        fill(20).with(0);
        fill(40).with(1);
        // A limit that somebody changed is seen and put back.
        let tree = tree_of_two(&world);
        let limit = |size: &str| shell(&format!("btrfs qgroup limit {size} {}", tree.display()));
        limit("24M");
        let drift = world.keel(&["drift", "--detailed-exitcode"]).with(2).stdout;
        assert!(drift.contains("24MiB"), "{drift}");
        settle(&world);
        fill(40).with(1);
        limit("none");
        let drift = world.keel(&["drift", "--detailed-exitcode"]).with(2).stdout;
        assert!(drift.contains("512MiB"), "as big as the pool: {drift}");
        limit("32M");
        world.nothing_to_do();
        // One that is full cannot start, and says what would help.
        let full = world.keel(&["restart", "two"]);
        assert!(full.code != Some(0) && full.stderr.contains("that is full (a bigger `size`"), "{full:?}");
        world.write("two.yaml", &TWO.replace("32MiB", "64MiB"));
        settle(&world);
        fill(40).with(0);
        let init = world.init("two");
        // The pool grows below what runs on it, and does not shrink.
        resize_pool(&world, "512MiB", "640MiB");
        world.converge();
        assert_eq!(world.get("storage-pool/fast")["status"]["total"], json!(640 << 20));
        resize_pool(&world, "640MiB", "600MiB");
        world.keel(&["apply", "--yes"]).with(7).saying("does not shrink");
        resize_pool(&world, "600MiB", "640MiB");
        world.nothing_to_do();
        // Its mount is gone: nothing is made anew, and what it holds is there again.
        let mounted = world.state().join("pools/fast");
        shell(&format!("umount -l {}", mounted.display()));
        let drift = world.keel(&["drift", "--detailed-exitcode"]).with(2).stdout;
        assert!(drift.contains("storage-pool/fast"), "{drift}");
        world.converge();
        assert_eq!(world.init("two"), init, "it was not restarted");
        assert!(tree.join("upper/big").exists());
        // As after a start of the host.
        world.keel(&["stop", "two", "--force", "--hold", "1h", "--reason", "test"]).with(0);
        shell(&format!("umount -l {}", mounted.display()));
        world.keel(&["start", "two"]).with(0);
        fill(50).with(0);
        world.nothing_to_do();
        // A snapshot shares its blocks with what it is of, also when that goes back to it: twice 50 MiB fit.
        world.keel(&["snapshot", "create", "two", "kept"]).with(0);
        world.keel(&["exec", "two", "--", "sh", "-c", "rm /big && touch /new"]).with(0);
        world.keel(&["snapshot", "restore", "two", "kept", "--yes"]).with(0);
        world.keel(&["exec", "two", "--", "sh", "-c", "test $(stat -c %s /big) = 52428800 && test ! -e /new"]).with(0);
        world.nothing_to_do();
        fill(70).with(1);
        world.keel(&["exec", "two", "--", "sh", "-c", "rm /big && sync"]).with(0);
        fill(30).with(0);
        world.keel(&["snapshot", "delete", "two", "kept", "--yes"]).with(0);
        // Its file is away: that is told, and nothing takes its place.
        world.keel(&["stop", "two", "--force", "--hold", "1h", "--reason", "test"]).with(0);
        world.keel(&["stop", "one", "--force", "--hold", "1h", "--reason", "test"]).with(0);
        shell(&format!("umount {0} && mv {0}.btrfs {0}.away", mounted.display()));
        world.keel(&["apply", "--yes"]);
        let file = world.state().join("pools/fast.btrfs");
        assert!(!file.exists() && path_io::list(&mounted).expect("the mount point").is_empty());
        shell(&format!("mv {0}.away {0}.btrfs", mounted.display()));
        world.keel(&["start", "one"]).with(0);
        world.keel(&["start", "two"]).with(0);
        world.converge();
        assert!(tree.join("upper/big").exists());
        world.destroy();
    }
}

runtime::own_processes_test! {
    fn a_root_of_which_somebody_deleted_the_subvolume_is_told_and_made_anew_only_when_a_person_says_so() {
        let world = TestWorld::furnished();
        on_btrfs(&world, "512MiB");
        world.converge();
        world.keel(&["exec", "two", "--", "touch", "/kept"]).with(0);
        world.keel(&["snapshot", "create", "two", "first"]).with(0);
        let tree = tree_of_two(&world);
        world.keel(&["stop", "two", "--force", "--hold", "1h", "--reason", "test"]).with(0);
        shell(&format!("btrfs subvolume delete {}", tree.display()));
        let drift = world.keel(&["drift", "--detailed-exitcode"]).with(2).stdout;
        assert!(drift.contains("instance/two") && drift.contains("devices.root.size"), "{drift}");
        world.keel(&["start", "two"]).with(1);
        world.keel(&["apply", "--yes", "--approve", "G113"]).with(7);
        assert!(!tree.exists(), "nothing empty takes its place");
        // Its snapshots are kept: they are in the trash with what is left of it.
        world.keel(&["apply", "--yes", "--approve", "G113,G108"]).with(0);
        world.nothing_to_do();
        world.keel(&["exec", "two", "--", "test", "!", "-e", "/kept"]).with(0);
        let trash = world.keel(&["trash", "list", "-o", "json"]).with(0).json();
        assert_eq!((&trash[0]["by"], &trash[0]["holds"]["snapshots"]), (&json!("rebuild"), &json!(1)), "{trash:#}");
        world.keel(&["trash", "restore", "instance/two", "--instead"]).with(0);
        world.keel(&["snapshot", "restore", "two", "first", "--yes"]).with(0);
        world.converge();
        world.keel(&["exec", "two", "--", "test", "-e", "/kept"]).with(0);
        world.destroy();
    }
}

runtime::own_processes_test! {
    fn a_machine_has_its_disk_on_a_pool_of_btrfs() {
        let world = machines::world("initrd");
        on_btrfs(&world, "512MiB");
        world.write("vm.yaml", &machines::machine("vm", "256MiB", ""));
        world.converge();
        let mut guest = Guest::of(&world, "vm");
        assert!(guest.run("cat /proc/partitions").contains("65536"));
        let disks = shell(&format!("lsattr {}/pools/fast/instances/*/disk.qcow2", world.state().display()));
        let flags = disks.split(' ').next().expect("flags");
        assert!(flags.contains('C'), "without copy on write: {disks}");
        world.write("vm.yaml", &machines::machine("vm", "256MiB", "").replace("size: 64MiB", "size: 96MiB"));
        world.converge();
        guest.wait_for("cat /proc/partitions", "98304");
        drop(guest);
        world.destroy();
    }
}

runtime::own_processes_test! {
    fn snapshots_of_subvolumes_are_made_at_once_and_gone_back_to() {
        let world = TestWorld::furnished();
        on_btrfs(&world, "1GiB");
        world.converge();
        let inside = |name: &str, line: &str| world.keel(&["exec", name, "--", "sh", "-c", line]).with(0).stdout;
        let groups = || shell(&format!("btrfs filesystem sync {0}; btrfs qgroup show -re --raw {0} | grep -c ^0/", world.state().join("pools/fast").display()));
        // Without a limit, and with one.
        for name in ["one", "two"] {
            inside(name, "echo first >/file; rm /bin/vi; echo x >/bin/vi; rm -r /etc/init.d");
            world.keel(&["snapshot", "create", name, "first"]).with(0);
            inside(name, "echo second >/file; echo y >/bin/vi; mkdir -p /etc/init.d /new");
            world.keel(&["snapshot", "create", name, "second"]).with(0);
            world.nothing_to_do();
            let before = world.get(&format!("instance/{name}"))["spec"]["devices"]["root"]["size"].clone();
            world.keel(&["snapshot", "restore", name, "first", "--yes"]).with(0);
            world.wait_for_state(name, "Running");
            assert_eq!(inside(name, "cat /file /bin/vi; ls -d /new /etc/init.d 2>/dev/null || true"), "first\nx\n");
            assert_eq!(world.get(&format!("instance/{name}"))["spec"]["devices"]["root"]["size"], before);
            world.nothing_to_do();
            world.keel(&["snapshot", "restore", name, "second", "--yes"]).with(0);
            assert_eq!(inside(name, "cat /file; ls -d /new"), "second\n/new\n");
            world.keel(&["snapshot", "delete", name, "first", "--yes"]).with(0);
            world.keel(&["snapshot", "create", name, "second"]).with(1).saying("there is a snapshot second already");
        }
        assert!(!groups().is_empty());
        // They go into the trash and come out of it with what they are of.
        world.unwrite("two.yaml");
        world.keel(&["apply", "--yes"]).with(0);
        world.write("two.yaml", crate::world::TWO);
        world.converge();
        inside("two", "rm /file");
        world.keel(&["snapshot", "restore", "two", "second", "--yes"]).with(0);
        assert_eq!(inside("two", "cat /file"), "second\n");
        world.destroy();
    }
}
