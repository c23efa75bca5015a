//! A commit that deleted something is reverted: it comes back out of the trash as it was, and what is not it does not.

use serde_json::Value;

use crate::guest::Guest;
use crate::machine_state::{has, put};
use crate::machines::{machine, world as world_of_machines};
use crate::world::{Ended, TestWorld, shell};

/// Gets its address by DHCP, of which there are two.
const THREE: &str = "\
apiVersion: evenkeel/v1
kind: Instance
metadata: { name: three }
spec:
  image: busybox
  state: Running
  limits: { memory: 64MiB }
  devices:
    root: { type: disk, path: /, pool: fast }
    eth0: { type: nic, network: lan }
";

fn git(world: &TestWorld, line: &str) {
    let folder = world.path().join("manifests");
    let git = "git -c user.name=a -c user.email=a@b";
    shell(&format!(
        "cd {} && {}",
        folder.display(),
        line.replace("git ", &format!("{git} "))
    ));
}

fn inside(world: &TestWorld, name: &str, line: &str) -> Ended {
    world.keel(&["exec", name, "--", "sh", "-c", line])
}

/// What others know an instance by.
fn known_as(world: &TestWorld, name: &str) -> (Value, Value, String) {
    let status = world.get(&format!("instance/{name}"))["status"].clone();
    let link = inside(
        world,
        name,
        "cat /sys/class/net/eth0/address; ip -4 -o address show dev eth0 | awk '{print $4}'",
    );
    (
        status["uid"].clone(),
        status["snapshots"].clone(),
        link.with(0).stdout,
    )
}

runtime::own_processes_test! {
    fn what_a_reverted_commit_deleted_is_back_with_its_data_addresses_and_snapshots() {
        let world = TestWorld::furnished();
        let two_addresses = "enabled: true\n      ranges: [10.77.0.100-10.77.0.101]";
        world.write("host.yaml", &crate::world::HOST.replace("enabled: true", two_addresses));
        world.write("three.yaml", THREE);
        git(&world, "git init -qb main && git add . && git commit -qm one");
        world.converge();
        for name in ["two", "three"] {
            inside(&world, name, "echo mine >/kept.txt && chown 1000 /kept.txt").with(0);
            world.keel(&["snapshot", "create", name, "first"]).with(0);
            inside(&world, name, "echo later >>/kept.txt").with(0);
        }
        let before = ["two", "three"].map(|name| known_as(&world, name));
        git(&world, "git rm -q two.yaml three.yaml && git commit -qm two");
        world.keel(&["apply", "--yes", "--approve", "G102"]).with(0);
        world.nothing_to_do();
        // Its address is kept for it while another one is left.
        world.write("four.yaml", &THREE.replace("three", "four"));
        git(&world, "git add . && git commit -qm three");
        world.converge();

        git(&world, "git revert --no-edit HEAD~1 >/dev/null && sed -i 's/64MiB/96MiB/' three.yaml && git commit -qam four");
        let plan = world.keel(&["plan"]).with(0).stdout;
        assert_eq!(plan.matches("restore from trash, deleted").count(), 2, "{plan}");
        assert!(plan.contains("with 1 snapshot") && plan.contains("64MiB → 96MiB"), "{plan}");
        world.keel(&["apply", "--yes"]).with(0);
        world.nothing_to_do();
        assert_eq!(["two", "three"].map(|name| known_as(&world, name)), before);
        for name in ["two", "three"] {
            assert_eq!(inside(&world, name, "cat /kept.txt; stat -c %u /kept.txt").with(0).stdout, "mine\nlater\n1000\n");
            world.keel(&["snapshot", "restore", name, "first", "--yes"]).with(0);
            world.wait_for_state(name, "Running");
            assert_eq!(inside(&world, name, "cat /kept.txt").with(0).stdout, "mine\n");
        }
        assert_eq!(world.get("instance/three")["spec"]["limits"]["memory"], "96MiB");
        world.keel(&["trash", "list"]).with(0).saying("nothing");
        world.nothing_to_do();
        git(&world, "rm -r .git");
        world.destroy();
    }
}

runtime::own_processes_test! {
    fn what_is_not_the_same_is_not_taken_for_it_and_nothing_empty_is_made_in_its_place() {
        let world = TestWorld::furnished();
        let tree = world.path().join("other");
        let tree = tree.display();
        shell(&format!("mkdir -p {tree}/sbin && cp $(command -v busybox) {tree}/sbin/init"));
        let other = format!("---\napiVersion: evenkeel/v1\nkind: Image\nmetadata: {{ name: other }}\nspec: {{ source: {{ rootfs: {tree} }} }}\n");
        world.write("host.yaml", &format!("{}{other}", crate::world::HOST));
        world.unwrite("one.yaml");
        world.converge();
        inside(&world, "two", "echo first >/kept.txt").with(0);
        let bring = |text: &str| world.write("two.yaml", text);
        let delete = || {
            world.unwrite("two.yaml");
            world.keel(&["apply", "--yes", "--approve", "G102"]).with(0);
        };
        delete();
        // Another image: a person says.
        bring(&crate::world::TWO.replace("image: busybox", "image: other"));
        let plan = world.keel(&["plan"]).with(0).stdout;
        assert!(plan.contains("G115") && plan.contains("which differs in"), "{plan}");
        world.keel(&["apply", "--yes"]).with(7);
        world.keel(&["get", "instance", "two"]).with(1);
        // A new one is made when they say so, and the old one stays where it is.
        bring(crate::world::TWO);
        world.keel(&["apply", "--yes", "--no-restore"]).with(0);
        world.nothing_to_do();
        inside(&world, "two", "test ! -e /kept.txt && echo second >/kept.txt").with(0);
        delete();
        // Two of them: it is not guessed which.
        bring(crate::world::TWO);
        let plan = world.keel(&["plan"]).with(0).stdout;
        assert!(plan.contains("holds 2 of this name"), "{plan}");
        world.keel(&["apply", "--yes"]).with(7);
        world.keel(&["get", "instance", "two"]).with(1);
        let all = world.keel(&["trash", "list", "-o", "json"]).with(0).json();
        let oldest = all[0]["mark"]["uid"].as_str().expect("a uid").to_owned();
        world.keel(&["trash", "restore", "instance/two", "--uid", &oldest[..8]]).with(0);
        world.converge();
        assert_eq!(inside(&world, "two", "cat /kept.txt").with(0).stdout, "first\n");
        world.keel(&["trash", "empty", "--yes"]).with(0);
        shell(&format!("rm -r {tree}"));
        world.destroy();
    }
}

runtime::own_processes_test! {
    fn a_machine_comes_back_by_a_revert() {
        let world = world_of_machines("initrd");
        world.write("vm.yaml", &machine("vm", "256MiB", ""));
        git(&world, "git init -qb main && git add . && git commit -qm one");
        world.converge();
        let mut guest = Guest::of(&world, "vm");
        put(&mut guest, 700, "precious");
        let link = guest.run("cat /sys/class/net/eth0/address");
        drop(guest);
        world.keel(&["snapshot", "create", "vm", "first"]).with(0);
        let uid = world.get("instance/vm")["status"]["uid"].clone();
        git(&world, "git rm -q vm.yaml && git commit -qm two");
        world.keel(&["apply", "--yes", "--approve", "G102"]).with(0);
        git(&world, "git revert --no-edit HEAD >/dev/null && sed -i 's/256MiB/320MiB/' vm.yaml && git commit -qam three");
        let plan = world.keel(&["plan"]).with(0).stdout;
        assert!(plan.contains("restore from trash, deleted") && plan.contains("256MiB → 320MiB"), "{plan}");
        world.keel(&["apply", "--yes"]).with(0);
        world.nothing_to_do();
        let seen = world.get("instance/vm");
        assert_eq!(seen["status"]["uid"], uid);
        assert_eq!(seen["status"]["snapshots"][0]["name"], "first", "{seen:#}");
        let mut guest = Guest::of(&world, "vm");
        assert_eq!(guest.run("cat /sys/class/net/eth0/address"), link);
        assert_eq!(has(&mut guest, 700), "precious");
        drop(guest);
        git(&world, "rm -r .git");
        world.destroy();
    }
}
