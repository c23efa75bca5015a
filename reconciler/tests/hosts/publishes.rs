//! Images that are made of instances and of their snapshots, and what starts from them.

use crate::guest::Guest;
use crate::machines::{self, machine};
use crate::world::{Ended, TestWorld, shell};

fn inside(world: &TestWorld, name: &str, line: &str) -> Ended {
    world.keel(&["exec", name, "--", "sh", "-c", line])
}

runtime::own_processes_test! {
    fn a_container_and_a_snapshot_of_it_become_images() {
        let world = TestWorld::furnished();
        world.unwrite("two.yaml");
        world.converge();
        inside(&world, "one", "mkdir -p /own && echo first >/own/file && ln /own/file /own/again && chown 1000:5 /own && chmod 4750 /own/file && \
                               rm /bin/vi && rm -r /etc/init.d && mkdir /etc/init.d && touch /etc/init.d/mine").with(0);
        world.keel(&["snapshot", "create", "one", "a"]).with(0);
        inside(&world, "one", "echo second >/own/file && chmod 4750 /own/file").with(0);
        world.keel(&["image", "publish", "one", "--alias", "own/now"]).with(4).saying("stop it, or publish a snapshot of it");
        world.keel(&["image", "publish", "one/nope", "--alias", "own/now"]).with(1).saying("there is no snapshot nope");
        world.keel(&["image", "publish", "nobody", "--alias", "own/now"]).with(1).saying("there is no such instance");
        world.keel(&["image", "publish", "one/a", "--alias", "busybox"]).with(4).saying("image/busybox");
        // Of a snapshot also while it runs.
        let first = world.keel(&["image", "publish", "one/a", "--alias", "own/first"]).with(0).stdout;
        world.keel(&["image", "publish", "one/a", "--alias", "own/again"]).with(0).saying("in the store already");
        world.keel(&["stop", "one", "--force", "--hold", "1h", "--reason", "test"]).with(0);
        let now = world.keel(&["image", "publish", "instance/one", "--alias", "own/now", "-o", "json"]).with(0).json();
        assert_ne!(now["fingerprint"], first.trim(), "{now:#}");
        let list = world.keel(&["image", "list", "-o", "json"]).with(0).json();
        let of = |alias: &str| {
            let all = list["images"].as_array().expect("images").iter();
            let mut all = all.filter(|one| one["aliases"].as_array().expect("aliases").iter().any(|one| one == alias));
            all.next().expect("it").clone()
        };
        assert_eq!(of("own/first")["source"], "instance/one at a");
        assert_eq!(of("own/now")["source"], "instance/one");
        assert_eq!(of("own/first")["properties"], of("busybox")["properties"]);

        for (name, image) in [("early", "own/first"), ("late", "own/now")] {
            world.write(&format!("{name}.yaml"), &format!(
                "apiVersion: evenkeel/v1\nkind: Instance\nmetadata: {{ name: {name} }}\nspec:\n  image: {image}\n  state: Running\n  \
                 devices:\n    root: {{ type: disk, path: /, pool: fast }}\n"
            ));
        }
        world.unwrite("one.yaml");
        world.keel(&["apply", "--yes", "--no-trash", "--approve", "G102,G101"]).with(0);
        for (name, word) in [("early", "first"), ("late", "second")] {
            inside(&world, name, &format!(
                "grep -q {word} /own/file && test $(stat -c %u-%g /own) = 1000-5 && test $(stat -c %a-%h /own/file) = 4750-2 && \
                 test ! -e /bin/vi && test \"$(ls /etc/init.d)\" = mine && test -e /bin/sh"
            )).with(0);
        }
        let stray = shell(&format!("find {}/images -name '.*' -mindepth 1 -maxdepth 1 | wc -l", world.state().display()));
        assert_eq!(stray.trim(), "0");
        world.keel(&["image", "delete", "own/now", "--yes"]).with(4).saying("instance/late needs it");
        world.keel(&["destroy", "--no-trash", "--yes"]).with(0);
        world.keel(&["image", "delete", "own/now", "own/first", "--yes"]).with(0);
        world.nothing_left();
    }
}

runtime::own_processes_test! {
    fn the_disk_of_a_machine_and_of_a_snapshot_of_it_become_images() {
        let world = machines::world("initrd");
        let standing = machine("vm", "256MiB", "").replace("state: Running", "state: Stopped");
        world.write("vm.yaml", &standing);
        world.converge();
        let folder = shell(&format!("ls -d {}/pools/fast/instances/*", world.state().display()));
        let write = |file: &str, pattern: u8, at: &str| {
            shell(&format!("qemu-io -c 'write -P {pattern} {at} 1M' {}/{file}", folder.trim()));
        };
        write("disk.qcow2", 1, "4M");
        write("disk.qcow2", 1, "8M");
        world.keel(&["snapshot", "create", "vm", "a"]).with(0);
        write("disk-1.qcow2", 2, "8M");
        let published = |what: &str, alias: &str| {
            let told = world.keel(&["image", "publish", what, "--alias", alias, "-o", "json"]).with(0).json();
            let fingerprint = told["fingerprint"].as_str().expect("a fingerprint").to_owned();
            world.state().join("images").join(fingerprint).join("machine")
        };
        let (early, late) = (published("vm/a", "own/early"), published("vm", "own/late"));
        for (image, pattern) in [(&early, 1), (&late, 2)] {
            shell(&format!(
                "cd {}; test -e kernel -a -e initrd; qemu-img info disk.qcow2 | grep -c backing && exit 1; \
                 qemu-io -r -c 'read -P 1 4M 1M' -c 'read -P {pattern} 8M 1M' -c 'read -P 0 9M 1M' disk.qcow2",
                image.display()
            ));
        }
        world.keel(&["image", "publish", "vm/a", "--alias", "own/again"]).with(0).saying("in the store already");
        // What starts from one has its kernel and its disk.
        world.write("late.yaml", &machine("late", "256MiB", "").replace("image: tiny", "image: own/late"));
        world.keel(&["apply", "--yes"]).with(0);
        let mut guest = Guest::of(&world, "late");
        let found = guest.run("dd if=/dev/sda bs=1M skip=8 count=1 2>/dev/null | od -An -tx1 -N2");
        assert_eq!(found.trim(), "02 02");
        world.keel(&["image", "publish", "late", "--alias", "own/now"]).with(4).saying("stop it, or publish a snapshot of it");
        let stray = shell(&format!("find {}/images -name '.*' -mindepth 1 -maxdepth 1 | wc -l", world.state().display()));
        assert_eq!(stray.trim(), "0");
        drop(guest);
        world.keel(&["destroy", "--no-trash", "--yes"]).with(0);
        world.keel(&["image", "delete", "own/early", "own/late", "--yes"]).with(0);
        world.nothing_left();
    }
}
