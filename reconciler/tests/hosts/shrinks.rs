//! What would not fit is not made smaller: that is told, and nothing has changed.

use serde_json::json;

use crate::volumes::{DATA, container, inside, on, volume};
use crate::world::TestWorld;

fn one(size: &str) -> String {
    let text = container("one", DATA);
    text.replace("pool: fast }", &format!("pool: fast, size: {size} }}"))
}

fn sums(world: &TestWorld) -> String {
    inside(world, "one", "sha256sum /big /data/big")
        .with(0)
        .stdout
}

/// Both sizes, as they are.
fn sizes(world: &TestWorld) -> [serde_json::Value; 2] {
    [
        world.get("instance/one")["spec"]["devices"]["root"]["size"].clone(),
        world.get("volume/fast/data")["spec"]["size"].clone(),
    ]
}

fn stays_as_it_is(world: &TestWorld) {
    let hold = || {
        let stop = ["stop", "one", "--hold", "1h", "--reason", "test"];
        world.keel(&stop).with(0);
    };
    let go_on = || {
        world.keel(&["start", "one"]).with(0);
    };
    world.write("one.yaml", &one("128MiB"));
    world.write("data.yaml", &volume("data", "size: 128MiB"));
    world.converge();
    inside(
        world,
        "one",
        "for at in /big /data/big; do dd if=/dev/urandom of=$at bs=1M count=60 2>/dev/null; done; sync",
    )
    .with(0);
    let before = sums(world);
    let there = [json!("128MiB"), json!("128MiB")];
    hold();
    // One at a time: what cannot be done to one is no word about the other.
    for (name, small, whole) in [
        ("one.yaml", one("48MiB"), one("128MiB")),
        (
            "data.yaml",
            volume("data", "size: 48MiB"),
            volume("data", "size: 128MiB"),
        ),
    ] {
        world.write(name, &small);
        world
            .keel(&["apply", "--yes"])
            .with(7)
            .saying("does not fit into 48MiB");
        assert_eq!(sizes(world), there, "{name}");
        // It is not forgotten what git says, and refused as often as it is asked.
        world.keel(&["plan", "--detailed-exitcode"]).with(2);
        world
            .keel(&["apply", "--yes"])
            .with(7)
            .saying("does not fit into 48MiB");
        world.write(name, &whole);
        world.nothing_to_do();
    }
    go_on();
    assert_eq!(sums(world), before);
    // As much as fits is taken away.
    hold();
    world.write("one.yaml", &one("100MiB"));
    world.write("data.yaml", &volume("data", "size: 100MiB"));
    world.keel(&["apply", "--yes"]).with(0);
    assert_eq!(sizes(world), [json!("100MiB"), json!("100MiB")]);
    go_on();
    assert_eq!(sums(world), before);
    inside(
        world,
        "one",
        "dd if=/dev/zero of=/data/more bs=1M count=60 2>/dev/null",
    )
    .with(1);
    world.keel(&["apply", "--yes"]).with(0);
    world.nothing_to_do();
    world.destroy();
}

runtime::own_processes_test! {
    fn what_does_not_fit_is_not_made_smaller_in_a_folder() {
        stays_as_it_is(&on("dir"));
    }
}

runtime::own_processes_test! {
    fn what_does_not_fit_is_not_made_smaller_on_btrfs() {
        stays_as_it_is(&on("btrfs\n  size: 512MiB"));
    }
}

runtime::own_processes_test! {
    fn what_does_not_fit_is_not_made_smaller_on_thin_volumes() {
        if crate::lvm::has_thin_pools() {
            stays_as_it_is(&on("lvm\n  size: 512MiB"));
        }
    }
}
