//! Pools without room for a copy: nothing half made takes up what there is, and what was there goes on.

use std::path::Path;

use manifests::path_io;

use crate::moves::QUICK;
use crate::volumes::{container, inside, on, status, volume};
use crate::world::{TestWorld, shell};

/// What a pool holds, by its files and its subvolumes.
fn held(pool: &Path) -> String {
    shell(&format!(
        "cd {} && find . -xdev -maxdepth 3 -not -name filler -not -name snapshots | sort; \
         btrfs subvolume list . 2>/dev/null | awk '{{ print $NF }}' | sort; true",
        pool.display()
    ))
}

const ORIGINAL: &str = "    data: { type: disk, pool: fast, source: data, path: /data }\n";

/// A copy of a volume in `fast` goes into a pool that is full to but a few blocks.
fn nothing_half_made(world: &TestWorld, into: &str) {
    let pool = world.state().join("pools").join(into);
    world.write("data.yaml", &volume("data", ""));
    world.write("left.yaml", &container("left", ORIGINAL));
    world.converge();
    inside(
        world,
        "left",
        "for i in $(seq 40); do dd if=/dev/urandom of=/data/$i bs=512k count=1 2>/dev/null; done; sync",
    )
    .with(0);
    let sums = || {
        inside(world, "left", "cat /data/* | sha256sum")
            .with(0)
            .stdout
    };
    let wanted = sums();
    let filler = pool.join("filler");
    // Room for less than half of the copy.
    shell(&format!(
        "dd if=/dev/zero of={0} bs=1M conv=fsync 2>/dev/null || true; sync -f {0}; truncate -s -8M {0}; sync -f {0}",
        filler.display()
    ));
    let before = held(&pool);
    let copy = volume("copy", "source: { volume: data, pool: fast }");
    world.write(
        "copy.yaml",
        &copy.replacen("pool: fast", &format!("pool: {into}"), 1),
    );
    world
        .keel(&["apply", "--yes"])
        .with(7)
        .saying("No space left on device");
    assert_eq!(held(&pool), before);
    assert_eq!(world.get("instance/left")["status"]["state"], "Running");
    assert_eq!(sums(), wanted);
    // Again it is the same, and nothing adds up.
    world.keel(&["apply", "--yes"]).with(7);
    assert_eq!(held(&pool), before);
    path_io::remove_file(&filler).expect("removed");
    world.keel(&["apply", "--yes"]).with(0);
    world.nothing_to_do();
    let seen = status(world, &format!("{into}/copy"));
    let copied = shell(&format!(
        "cat $(find {} -name 40 -printf '%h')/* | sha256sum",
        seen["path"].as_str().expect("a path")
    ));
    assert_eq!(copied, wanted);
    world.keel(&["destroy", "--no-trash", "--yes"]).with(0);
}

runtime::own_processes_test! {
    fn a_folder_without_room_for_a_copy_has_no_half_one() {
        let world = on("dir");
        // The pool is a disk of its own: a small one.
        let fast = world.state().join("pools/fast");
        let image = world.path().join("disk.img");
        shell(&format!(
            "mkdir -p {0} && chmod 700 {0} {0}/.. && truncate -s 80M {1} && mke2fs -q -t ext4 -m 0 {1} && mount -o loop {1} {0} && \
             rmdir {0}/lost+found && chmod 700 {0}",
            fast.display(),
            image.display()
        ));
        nothing_half_made(&world, "fast");
        shell(&format!("umount {0} && rmdir {0} && rm {1}", fast.display(), image.display()));
        world.nothing_left();
    }
}

runtime::own_processes_test! {
    fn a_pool_of_btrfs_without_room_for_a_copy_has_no_half_one() {
        let world = on("dir");
        world.write("quick.yaml", QUICK);
        nothing_half_made(&world, "quick");
        world.nothing_left();
    }
}
