//! Instances on a pool of driver zfs. On a kernel without it they are left out, and the guest of `tests/guest.sh --zfs` runs
//! them.

use std::path::Path;

use manifests::path_io;
use serde_json::json;

use crate::world::{TWO, TestWorld, shell};

/// The manifests of a world on a pool of another driver.
fn on_zfs(world: &TestWorld, more: &str) {
    let path = world.path().join("manifests/host.yaml");
    let text = path_io::read_to_string(&path).expect("manifests");
    assert!(text.contains("driver: dir"), "{text}");
    let pool = format!("driver: zfs\n  {more}");
    path_io::write(&path, text.replace("driver: dir", &pool)).expect("manifests");
}

fn change_pool(world: &TestWorld, from: &str, to: &str) {
    let path = world.path().join("manifests/host.yaml");
    let text = path_io::read_to_string(&path).expect("manifests");
    assert!(text.contains(from), "{text}");
    path_io::write(&path, text.replace(from, to)).expect("manifests");
}

/// Removes a zpool when a test ends, however that happens: it outlives the namespaces of the test.
struct Zpool(String);

impl Drop for Zpool {
    fn drop(&mut self) {
        shell(&format!(
            "for _ in 1 2 3 4 5; do zpool list -H {0} >/dev/null 2>&1 || break; zpool destroy -f {0} && break; sleep 1; done",
            self.0
        ));
    }
}

/// The zpool of the pool of a world.
fn zpool(world: &TestWorld) -> Zpool {
    let uid = world.get("storage-pool/fast")["status"]["uid"].clone();
    let uid = uid.as_str().expect("a uid");
    Zpool(format!(
        "keel-fast-{}",
        uid.split('-').next().expect("digits")
    ))
}

/// The dataset of the root of `two`, where it is mounted.
fn tree_of_two(world: &TestWorld) -> String {
    let uid = world.get("instance/two")["status"]["uid"].clone();
    let disk = world.state().join("pools/fast/instances");
    let disk = disk.join(uid.as_str().expect("a uid")).join("disk");
    shell(&format!("findmnt -n -o SOURCE {}", disk.display()))
        .trim()
        .to_owned()
}

/// A test on the kernel that has what it needs.
macro_rules! zfs_test {
    (fn $name:ident() $body:block) => {
        runtime::own_processes_test! {
            fn $name() {
                if Path::new("/sys/module/zfs").exists() $body
            }
        }
    };
}

zfs_test! {
    fn zfs_containers_live_on_datasets_and_what_somebody_does_to_their_pool_is_mended() {
        let world = TestWorld::furnished();
        on_zfs(&world, "size: 100MiB");
        world.keel(&["plan"]).with(3).saying("256MiB");
        change_pool(&world, "size: 100MiB", "size: 768MiB");
        world.converge();
        let zpool = zpool(&world);
        let pool = world.get("storage-pool/fast");
        assert_eq!(pool["status"]["driver"], json!("zfs"), "{pool:#}");
        let fill = |mebibytes: u32| {
            let script = format!("dd if=/dev/urandom of=/big bs=1M count={mebibytes} conv=fsync");
            world.keel(&["exec", "two", "--", "sh", "-c", &script])
        };
        fill(20).with(0);
        fill(40).with(1);
        world.keel(&["exec", "two", "--", "rm", "/big"]).with(0);
        // A limit that somebody changed is seen and put back.
        let tree = tree_of_two(&world);
        assert!(tree.starts_with(&zpool.0), "{tree}");
        shell(&format!("zpool sync {} && zfs set refquota=24M {tree}", zpool.0));
        let drift = world.keel(&["drift", "--detailed-exitcode"]).with(2).stdout;
        assert!(drift.contains("24MiB"), "{drift}");
        world.converge();
        world.write("two.yaml", &TWO.replace("32MiB", "64MiB"));
        world.converge();
        let init = world.init("two");
        fill(40).with(0);
        // The pool grows below what runs on it, and does not shrink.
        change_pool(&world, "size: 768MiB", "size: 1GiB");
        world.converge();
        change_pool(&world, "size: 1GiB", "size: 900MiB");
        world.keel(&["apply", "--yes"]).with(7).saying("does not shrink");
        change_pool(&world, "size: 900MiB", "size: 1GiB");
        world.nothing_to_do();
        // Snapshots share their blocks with what they are of, and outlive each other.
        let inside = |line: &str| world.keel(&["exec", "two", "--", "sh", "-c", line]).with(0).stdout;
        inside("echo first >/file; rm /bin/vi; echo x >/bin/vi; rm -r /etc/init.d");
        world.keel(&["snapshot", "create", "two", "first"]).with(0);
        inside("rm /big; echo second >/file; echo y >/bin/vi; mkdir -p /etc/init.d /new");
        world.keel(&["snapshot", "create", "two", "second"]).with(0);
        assert_eq!(world.init("two"), init, "it ran all the time");
        world.keel(&["snapshot", "restore", "two", "first", "--yes"]).with(0);
        assert_eq!(inside("cat /file /bin/vi; ls -d /new /etc/init.d 2>/dev/null; stat -c %s /big"), "first\nx\n41943040\n");
        world.nothing_to_do();
        world.keel(&["snapshot", "restore", "two", "second", "--yes"]).with(0);
        assert_eq!(inside("cat /file; ls -d /new"), "second\n/new\n");
        world.keel(&["snapshot", "delete", "two", "first", "--yes"]).with(0);
        world.nothing_to_do();
        // As after a start of the host: the zpool is imported, and all is mounted, by whoever starts first.
        for name in ["one", "two"] {
            world.keel(&["stop", name, "--force", "--hold", "1h", "--reason", "test"]).with(0);
        }
        shell(&format!("umount {} && zpool export {}", world.state().join("pools/fast").display(), zpool.0));
        let drift = world.keel(&["drift", "--detailed-exitcode"]).with(2).stdout;
        assert!(drift.contains("storage-pool/fast"), "{drift}");
        world.keel(&["start", "one"]).with(0);
        world.keel(&["start", "two"]).with(0);
        world.converge();
        assert_eq!(inside("cat /file"), "second\n");
        // They go into the trash and come out of it with their snapshots.
        world.unwrite("two.yaml");
        world.keel(&["apply", "--yes"]).with(0);
        world.write("two.yaml", &TWO.replace("32MiB", "64MiB"));
        world.converge();
        inside("rm /file");
        world.keel(&["snapshot", "restore", "two", "second", "--yes"]).with(0);
        assert_eq!(inside("cat /file"), "second\n");
        world.destroy();
        assert_eq!(shell(&format!("zpool list -H {} 2>&1 || true", zpool.0)).trim(), format!("cannot open '{}': no such pool", zpool.0));
    }
}

zfs_test! {
    fn zfs_volumes_lie_in_a_dataset_of_somebody_and_are_shared() {
        let world = TestWorld::furnished();
        let file = world.path().join("tank");
        let tank = Zpool(format!("tank-{}", world.path().file_name().expect("a name").to_string_lossy().trim_start_matches('.')));
        shell(&format!("truncate -s 768M {0} && zpool create -o cachefile=none -m none {1} {0} && zfs create {1}/other && zfs snapshot {1}/other@kept", file.display(), tank.0));
        on_zfs(&world, &format!("source: {}/other", tank.0));
        world.keel(&["apply", "--yes"]).with(7).saying("kept in it");
        world.keel(&["destroy", "--yes"]);
        change_pool(&world, "/other", "/keel");
        world.write(
            "shared.yaml",
            "apiVersion: evenkeel/v1\nkind: Volume\nmetadata: { name: shared }\nspec: { pool: fast, size: 64MiB }\n",
        );
        let with = |text: &str| text.replace("  devices:\n", "  devices:\n    shared: { type: disk, pool: fast, source: shared, path: /shared }\n");
        let one = path_io::read_to_string(world.path().join("manifests/one.yaml")).expect("a manifest");
        world.write("one.yaml", &with(&one));
        world.write("two.yaml", &with(TWO));
        world.converge();
        let inside = |name: &str, line: &str| world.keel(&["exec", name, "--", "sh", "-c", line]).with(0).stdout;
        inside("one", "echo hello >/shared/file");
        assert_eq!(inside("two", "cat /shared/file"), "hello\n");
        world.keel(&["exec", "one", "--", "dd", "if=/dev/urandom", "of=/shared/big", "bs=1M", "count=80", "conv=fsync"]).with(1);
        inside("one", "rm /shared/big");
        world.nothing_to_do();
        world.destroy();
        let left = shell(&format!("zfs list -H -o name -t all -r {}", tank.0));
        assert_eq!(left, format!("{0}\n{0}/other\n{0}/other@kept\n", tank.0), "only what is not keel's is left");
    }
}
