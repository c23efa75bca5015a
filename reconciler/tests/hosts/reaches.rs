//! Pools that are out of reach: nothing on them is made again or taken away, and all is as it was when they are back.

use crate::world::{Ended, TestWorld, shell};

const AWAY: &str = "\
apiVersion: evenkeel/v1
kind: StoragePool
metadata: { name: away }
spec: { driver: dir, source: SOURCE }
lifecycle: { prune: delete }
";

fn inside(world: &TestWorld, name: &str, line: &str) -> Ended {
    world.keel(&["exec", name, "--", "sh", "-c", line])
}

runtime::own_processes_test! {
    fn on_a_pool_that_is_away_nothing_is_made_again_and_nothing_taken_away() {
        let world = TestWorld::furnished();
        let (pool, hidden) = (world.path().join("pool"), world.path().join("hidden"));
        let move_pool = |from: &std::path::Path, to: &std::path::Path| {
            shell(&format!("mv {} {}", from.display(), to.display()))
        };
        world.write("away.yaml", &AWAY.replace("SOURCE", pool.to_str().expect("UTF-8")));
        let on_it = crate::world::TWO.replace("pool: fast, size: 32MiB", "pool: away");
        world.write("two.yaml", &on_it);
        let other = |name: &str, address: &str| on_it.replace("name: two", &format!("name: {name}")).replace("10.77.0.11", address);
        world.write("gone.yaml", &other("gone", "10.77.0.12"));
        world.write("trashed.yaml", &other("trashed", "10.77.0.13"));
        world.converge();
        for name in ["two", "gone", "trashed"] {
            inside(&world, name, "echo mine >/kept.txt").with(0);
        }
        world.unwrite("trashed.yaml");
        world.keel(&["apply", "--yes"]).with(0);
        for name in ["two", "gone"] {
            world.keel(&["stop", name, "--hold", "1h", "--reason", "test"]).with(0);
        }
        move_pool(&pool, &hidden);

        // One manifest goes, one comes back, one stays: of nothing on the pool it is known how it is.
        world.unwrite("gone.yaml");
        world.write("trashed.yaml", &other("trashed", "10.77.0.13"));
        let plan = world.keel(&["plan"]).with(0).stdout;
        assert!(plan.contains("G111") && plan.contains("gone or empty"), "{plan}");
        world.keel(&["apply", "--yes", "--approve", "G113,G108,G102"]).with(7);
        assert!(!pool.exists(), "no empty one is made in its place");
        world.keel(&["get", "instance", "trashed"]).with(1);
        world.get("instance/gone");
        world.keel(&["trash", "list"]).with(0).saying("cannot be told");
        world.keel(&["trash", "restore", "instance/trashed"]).with(4);
        let doctor = world.keel(&["doctor"]).stdout;
        assert!(doctor.contains("storage-pool/away") && doctor.contains("gone or empty"), "{doctor}");
        let status = world.keel(&["status"]).with(0).stdout;
        assert!(status.contains("storage-pool/away"), "{status}");

        // Somebody else's folder is in its place.
        shell(&format!("mkdir {0} && touch {0}/theirs", pool.display()));
        world.keel(&["apply", "--yes", "--approve", "G113,G108,G102"]).with(7);
        shell(&format!("rm {0}/theirs && rmdir {0}", pool.display()));
        // A pool of another one of ours, by the mark in it.
        move_pool(&hidden, &pool);
        let marker = pool.join("pool.json");
        shell(&format!("cp {0} {1}/pool.json && sed -i 's/keel:/keel:x/' {0}", marker.display(), world.path().display()));
        let plan = world.keel(&["plan"]).with(0).stdout;
        assert!(plan.contains("G111") && plan.contains("belongs to"), "{plan}");
        shell(&format!("mv {}/pool.json {}", world.path().display(), marker.display()));

        world.keel(&["start", "two"]).with(0);
        world.keel(&["apply", "--yes"]).with(0);
        world.nothing_to_do();
        for name in ["two", "trashed"] {
            assert_eq!(inside(&world, name, "cat /kept.txt").with(0).stdout, "mine\n");
        }
        let trash = world.keel(&["trash", "list"]).with(0).stdout;
        assert!(trash.contains("instance/gone") && trash.contains("away"), "{trash}");
        world.keel(&["trash", "empty", "--yes"]).with(0);
        world.destroy();
    }
}

runtime::own_processes_test! {
    fn what_the_trash_holds_is_counted_and_too_much_of_it_is_told() {
        let world = TestWorld::furnished();
        let head = "apiVersion: evenkeel/v1\nkind: Source\nname: crash\n";
        world.write("keel.yaml", &format!("{head}trash: {{ keep: 2d, size: 1MiB }}\n"));
        world.converge();
        inside(&world, "one", "dd if=/dev/urandom of=/big bs=1M count=3 2>/dev/null").with(0);
        world.keel(&["snapshot", "create", "one", "first"]).with(0);
        world.unwrite("one.yaml");
        let plan = world.keel(&["plan"]).with(0).stdout;
        assert!(plan.contains("kept in the trash for 2 d"), "{plan}");
        world.keel(&["apply", "--yes"]).with(0);
        let plan = world.keel(&["plan", "--detailed-exitcode"]).with(0).stdout;
        assert!(plan.contains("storage-pool/fast") && plan.contains("more than"), "{plan}");
        let list = world.keel(&["trash", "list", "-o", "json"]).with(0).json();
        assert_eq!((&list[0]["pool"], &list[0]["holds"]["snapshots"]), (&"fast".into(), &1.into()), "{list:#}");
        assert!(list[0]["holds"]["bytes"].as_u64().is_some_and(|bytes| bytes > 3 << 20), "{list:#}");
        let doctor = world.keel(&["doctor"]).stdout;
        assert!(doctor.contains("1 object, ") && doctor.contains("the next goes in 1 d"), "{doctor}");
        assert_eq!(world.get("storage-pool/fast")["status"]["trash"], 1);
        world.write("keel.yaml", head);
        let plan = world.keel(&["plan"]).with(0).stdout;
        assert!(!plan.contains("more than"), "{plan}");
        world.keel(&["trash", "empty", "--yes"]).with(0);
        assert_eq!(world.get("storage-pool/fast")["status"]["trash"], 0);
        world.destroy();
    }
}
