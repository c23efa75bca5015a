//! Backups in the form of pools of btrfs: streams that are read by us, with snapshots as what differs from one before.

use manifests::path_io;
use serde_json::json;

use crate::backups::{MAKE, by_hand, first, told, volume};
use crate::world::{Ended, HOST, TestWorld, ended, shell};

fn other(world: &TestWorld, arguments: &[&str]) -> Ended {
    ended(&mut world.command_on("other", arguments))
}

/// Bytes of the parts whose names end so.
fn bytes(checked: &serde_json::Value, end: &str) -> u64 {
    let parts = checked["parts"].as_array().expect("parts").iter();
    let of = parts.filter(|part| part["name"].as_str().expect("a name").ends_with(end));
    of.map(|part| part["bytes"].as_u64().expect("bytes")).sum()
}

runtime::own_processes_test! {
    fn what_lies_on_btrfs_travels_as_streams_to_another_btrfs_alone() {
        let world = TestWorld::furnished();
        let kept = tempfile::tempdir().expect("a folder");
        let file = |name: &str| kept.path().join(name).display().to_string();
        let on_btrfs = HOST.replacen("driver: dir", "driver: btrfs\n  size: 512MiB", 1);
        world.write("host.yaml", &on_btrfs);
        world.write("data.yaml", "apiVersion: evenkeel/v1\nkind: Volume\nmetadata: { name: data }\nspec: { pool: fast, size: 64MiB }\n");
        world.write("plain.yaml", "apiVersion: evenkeel/v1\nkind: StoragePool\nmetadata: { name: plain }\nspec: { driver: dir }\nlifecycle: { prune: delete }\n---\n\
                                   apiVersion: evenkeel/v1\nkind: Volume\nmetadata: { name: files }\nspec: { pool: plain }\n");
        // It has a size, and so has what comes of it.
        world.write("one.yaml", &world.one().replacen("pool: fast", "pool: fast, size: 64MiB", 1));
        world.unwrite("two.yaml");
        world.converge();
        let inside = |line: &str| world.keel(&["exec", "one", "--", "sh", "-c", line]);
        inside(&format!("{MAKE} && dd if=/dev/urandom of=/own/big bs=1M count=8 2>/dev/null")).with(0);
        world.keel(&["snapshot", "create", "one", "first", "--description", "before"]).with(0);
        inside("echo after >/own/file && mv /own/deep /own/deeper && rm /bin/sed && mkdir /own/deep && cp /own/file /own/deep/new").with(0);
        world.keel(&["snapshot", "create", "one", "second"]).with(0);
        world.keel(&["snapshot", "create", "volume/fast/data", "empty"]).with(0);
        world.keel(&["backup", "export", "one", "-o", &file("live"), "--optimized"]).with(0);
        assert_eq!(world.get("instance/one")["status"]["state"], "Running");
        world.keel(&["stop", "one", "--force", "--hold", "1h", "--reason", "test"]).with(0);
        let own = volume(&world, "state", "one");
        by_hand(&own.join("disk/upper"));
        let (now, then) = (told(&own.join("disk/upper")), told(&first(&own)));
        world.keel(&["backup", "export", "one", "-o", &file("one"), "--optimized"]).with(0);
        world.keel(&["backup", "export", "one", "-o", &file("first"), "--optimized", "--snapshot", "first"]).with(0);
        world.keel(&["backup", "export", "volume/fast/data", "-o", &file("data"), "--optimized"]).with(0);
        assert!(!own.join("snapshots/.new-.passing").exists());
        world.keel(&["backup", "export", "volume/plain/files", "-o", &file("none"), "--optimized"]).with(3).saying("only pools of driver btrfs have a form");
        assert!(!kept.path().join("none").exists());
        for name in ["live", "one", "first", "data"] {
            let checked = world.keel(&["backup", "verify", &file(name), "-o", "json"]).with(0).json();
            assert_eq!(checked["faults"], json!([]), "{checked:#}");
            assert_eq!(checked["backup"]["formatVersion"], 3);
            if name == "one" {
                assert_eq!(checked["backup"]["form"], "btrfs");
                let (whole, differs) = (bytes(&checked, "/first"), bytes(&checked, "/second"));
                assert!(whole > 8 << 20 && differs < 1 << 20, "it is sent once: {checked:#}");
            }
        }
        // Beside itself, and there it goes back to a snapshot at once.
        world.keel(&["backup", "import", &file("one"), "--name", "again"]).with(0);
        let again = volume(&world, "state", "again");
        assert_eq!(told(&again.join("disk/upper")), now);
        assert!(shell(&format!("btrfs subvolume show {}/snapshots/second/tree", again.display())).contains("readonly"));
        let limit = |folder: &std::path::Path| shell(&format!("btrfs qgroup show -rf --raw {}/disk | tail -1 | awk '{{ print $4 }}'", folder.display()));
        assert_eq!(limit(&again).trim(), (64 << 20).to_string());
        world.keel(&["snapshot", "restore", "again", "first", "--yes"]).with(0);
        assert_eq!(told(&again.join("disk/upper")), then);
        // What came as a stream goes as one.
        world.keel(&["backup", "export", "again", "-o", &file("again"), "--optimized"]).with(0);
        world.keel(&["backup", "verify", &file("again")]).with(0);
        // Altered, cut short, or with less room than it needs.
        let whole = path_io::read(file("one")).expect("read");
        let mut altered = whole.clone();
        altered[whole.len() / 2] ^= 1;
        for (name, bytes) in [("altered", altered), ("short", whole[..whole.len() / 2].to_vec())] {
            path_io::write(file(name), bytes).expect("written");
            world.keel(&["backup", "import", &file(name), "--name", "bad"]).with(1);
        }
        world.destroy();

        world.write("host.yaml", HOST);
        for name in ["one.yaml", "data.yaml", "plain.yaml"] {
            world.unwrite(name);
        }
        other(&world, &["apply", "--yes"]).with(0);
        for name in ["one", "data"] {
            other(&world, &["backup", "import", &file(name)]).with(4).saying("this pool is of another one: export it without --optimized");
        }
        let left = shell(&format!("cd {}/other && find pools/fast/instances pools/fast/volumes imports -mindepth 1 2>/dev/null | sort; true", world.path().display()));
        assert_eq!(left, "");
        other(&world, &["destroy", "--no-trash", "--yes"]).with(0);
        world.write("host.yaml", &on_btrfs);
        other(&world, &["apply", "--yes"]).with(0);
        for (name, from, wanted) in [("one", "one", &now), ("early", "first", &then)] {
            other(&world, &["backup", "import", &file(from), "--name", name]).with(0);
            assert_eq!(&told(&volume(&world, "other", name).join("disk/upper")), wanted, "{name}");
        }
        assert_eq!(told(&first(&volume(&world, "other", "one"))), then);
        other(&world, &["backup", "import", &file("data")]).with(0);
        other(&world, &["start", "one"]).with(0);
        let run = other(&world, &["exec", "one", "--", "sh", "-c", "test ! -e /bin/vi && test ! -e /bin/sed && test -z \"$(ls /etc/init.d)\" && cat /own/deep/new"]).with(0);
        assert_eq!(run.stdout.trim(), "after");
        other(&world, &["destroy", "--no-trash", "--yes", "--approve", "G102"]).with(0);
        world.nothing_left();
    }
}
