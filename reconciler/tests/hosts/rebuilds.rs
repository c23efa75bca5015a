//! What an instance was before it is made anew: it lies in the trash with its snapshots, and can be had back.

use std::path::PathBuf;
use std::time::Duration;

use crate::guest::Guest;
use crate::kills::{first_point, killed_after, killed_at, next_point};
use crate::machine_state::{has, put};
use crate::machines::{machine, world as world_of_machines};
use crate::world::{Ended, TestWorld, shell};

/// How many points and moments are tried at least.
const MOMENTS: u32 = 14;
const ANEW: [&str; 4] = ["apply", "--yes", "--approve", "G108"];

fn inside(world: &TestWorld, name: &str, line: &str) -> Ended {
    world.keel(&["exec", name, "--", "sh", "-c", line])
}

/// Another image beside the builtin one, and where its files are.
pub(crate) fn other_image(world: &TestWorld) -> PathBuf {
    let tree = world.path().join("other");
    shell(&format!(
        "mkdir -p {0}/sbin {0}/bin {0}/etc && cp $(command -v busybox) {0}/bin/ && ln -s ../bin/busybox {0}/sbin/init && \
                    for one in sh cat test touch; do ln -s busybox {0}/bin/$one; done; touch {0}/etc/other",
        tree.display()
    ));
    let text = format!(
        "apiVersion: evenkeel/v1\nkind: Image\nmetadata: {{ name: other }}\nspec: {{ source: {{ rootfs: {} }} }}\n",
        tree.display()
    );
    world.write("other.yaml", &text);
    tree
}

fn image(text: &str) -> String {
    text.replace("image: busybox", "image: other")
}

runtime::own_processes_test! {
    fn what_a_rebuild_takes_away_is_in_the_trash_and_comes_back() {
        let world = TestWorld::furnished();
        let tree = other_image(&world);
        world.converge();
        // Without a size, and with a file system of its own.
        for (name, text) in [("one", world.one()), ("two", crate::world::TWO.to_owned())] {
            inside(&world, name, "echo mine >/kept.txt").with(0);
            world.keel(&["snapshot", "create", name, "first"]).with(0);
            let uid = world.get(&format!("instance/{name}"))["status"]["uid"].clone();
            world.write(&format!("{name}.yaml"), &image(&text));
            let plan = world.keel(&["plan"]).with(0).stdout;
            assert!(plan.contains("G108") && plan.contains("goes to the"), "{plan}");
            let plan = world.keel(&["plan", "--approve", "G108"]).with(0).stdout;
            assert!(plan.contains("1 snapshot: kept in the trash for 7 d"), "{plan}");
            let plan = world.keel(&["plan", "--approve", "G108", "--no-trash"]).with(0).stdout;
            assert!(plan.contains("lost for good"), "{plan}");
            world.keel(&ANEW).with(0);
            world.nothing_to_do();
            inside(&world, name, "test -e /etc/other && test ! -e /kept.txt").with(0);
            assert_eq!(world.get(&format!("instance/{name}"))["status"]["uid"], uid, "it keeps its identity");
            let trash = world.keel(&["trash", "list", "-o", "json"]).with(0).json();
            assert_eq!((&trash[0]["by"], &trash[0]["holds"]["snapshots"]), (&"rebuild".into(), &1.into()), "{trash:#}");
            // Beside what is there now.
            let object = format!("instance/{name}");
            world.keel(&["trash", "restore", &object]).with(4).saying("--instead");
            world.keel(&["trash", "restore", &object, "--as", "before"]).with(0);
            world.keel(&["start", "before"]).with(0);
            assert_eq!(inside(&world, "before", "cat /kept.txt").with(0).stdout, "mine\n");
            let link = |name| inside(&world, name, "cat /sys/class/net/eth0/address").with(0).stdout;
            assert_ne!(link("before"), link(name));
            world.keel(&["apply", "--yes"]).with(0);
            world.keel(&["trash", "empty", "instance/before", "--yes"]).with(0);
            // In its place, with the manifest that it had.
            inside(&world, name, "touch /second").with(0);
            world.write(&format!("{name}.yaml"), &text);
            world.keel(&ANEW).with(0);
            world.write(&format!("{name}.yaml"), &image(&text));
            world.keel(&["trash", "restore", &object, "--instead"]).with(0);
            world.converge();
            inside(&world, name, "test -e /second").with(0);
            world.keel(&["trash", "empty", "--yes"]).with(0);
        }
        shell(&format!("rm -r {}", tree.display()));
        world.destroy();
    }
}

runtime::own_processes_test! {
    fn what_a_replace_takes_away_is_in_the_trash() {
        let world = world_of_machines("initrd");
        let with = |package: &str| {
            let seed = format!("  cloudInit: {{ userData: {{ packages: [{package}] }}, onChange: recreate }}\n");
            machine("vm", "256MiB", &seed)
        };
        world.write("vm.yaml", &with("first"));
        world.converge();
        let mut guest = Guest::of(&world, "vm");
        put(&mut guest, 700, "mine");
        drop(guest);
        world.write("vm.yaml", &with("second"));
        let plan = world.keel(&["plan", "--approve", "G108"]).with(0).stdout;
        assert!(plan.contains("REPLACE") && plan.contains("kept in the trash for 7 d"), "{plan}");
        world.keel(&ANEW).with(0);
        world.nothing_to_do();
        let mut guest = Guest::of(&world, "vm");
        assert_eq!(has(&mut guest, 700), "");
        drop(guest);
        let list = world.keel(&["trash", "list"]).with(0).stdout;
        assert!(list.contains("replace"), "{list}");
        world.write("vm.yaml", &with("first"));
        world.keel(&["trash", "restore", "instance/vm", "--instead"]).with(0);
        world.converge();
        let mut guest = Guest::of(&world, "vm");
        assert_eq!(has(&mut guest, 700), "mine");
        drop(guest);
        // Nothing is kept where that is said.
        world.keel(&["trash", "empty", "--yes"]).with(0);
        world.write("vm.yaml", &with("second"));
        world.keel(&["apply", "--yes", "--approve", "G108", "--no-trash"]).with(0);
        world.keel(&["trash", "list"]).with(0).saying("nothing");
        world.destroy();
    }
}

runtime::own_processes_test! {
    fn a_keel_that_is_killed_while_it_makes_one_anew_loses_nothing() {
        let world = TestWorld::furnished();
        let tree = other_image(&world);
        world.unwrite("one.yaml");
        world.converge();
        let (mut point, mut killed) = (0, true);
        // At every point of the journal, then at moments inside the deed.
        while killed || point < MOMENTS {
            let mine = format!("{point}\n");
            inside(&world, "two", &format!("echo {point} >/kept.txt")).with(0);
            let was = world.get("instance/two")["spec"]["image"].clone();
            let next = if was == "busybox" { image(crate::world::TWO) } else { crate::world::TWO.to_owned() };
            world.write("two.yaml", &next);
            point = if point == 0 { first_point() } else { next_point(point) };
            if killed {
                killed = killed_at(&world, &ANEW, point);
            } else {
                killed_after(&mut world.command(&ANEW), Duration::from_millis(u64::from(point) * 20));
            }
            world.keel(&ANEW).with(0);
            world.nothing_to_do();
            inside(&world, "two", "test ! -e /kept.txt").with(0);
            let trash = world.keel(&["trash", "list", "-o", "json"]).with(0).json();
            assert_eq!(trash.as_array().map(Vec::len), Some(1), "point {point}: {trash:#}");
            world.keel(&["trash", "restore", "instance/two", "--as", "was"]).with(0);
            world.keel(&["start", "was"]).with(0);
            assert_eq!(inside(&world, "was", "cat /kept.txt").with(0).stdout, mine);
            world.keel(&["apply", "--yes", "--no-trash", "--approve", "G102"]).with(0);
        }
        shell(&format!("rm -r {}", tree.display()));
        world.destroy();
    }
}

runtime::own_processes_test! {
    fn what_a_machine_was_before_a_rebuild_comes_back_with_its_snapshots() {
        let world = world_of_machines("initrd");
        let second = crate::guest::tiny("initrd").replace("name: tiny", "name: second");
        world.write("second.yaml", &second);
        let text = machine("vm", "256MiB", "");
        world.write("vm.yaml", &text);
        world.converge();
        let mut guest = Guest::of(&world, "vm");
        put(&mut guest, 700, "precious");
        drop(guest);
        world.keel(&["snapshot", "create", "vm", "first"]).with(0);
        world.write("vm.yaml", &text.replace("image: tiny", "image: second"));
        let plan = world.keel(&["plan", "--approve", "G108"]).with(0).stdout;
        assert!(plan.contains("1 snapshot: kept in the trash for 7 d"), "{plan}");
        world.keel(&ANEW).with(0);
        world.nothing_to_do();
        let mut guest = Guest::of(&world, "vm");
        assert_eq!(has(&mut guest, 700), "");
        drop(guest);
        world.write("vm.yaml", &text);
        world.keel(&["trash", "restore", "instance/vm", "--instead"]).with(0);
        world.converge();
        let mut guest = Guest::of(&world, "vm");
        assert_eq!(has(&mut guest, 700), "precious");
        drop(guest);
        let seen = world.get("instance/vm");
        assert_eq!(seen["status"]["snapshots"][0]["name"], "first", "{seen:#}");
        world.destroy();
    }
}
