//! Backups of volumes: with the instance that uses them and alone, brought in on another pool under another name.

use manifests::path_io;
use serde_json::json;

use crate::world::{Ended, HOST, TestWorld, ended, shell};

fn other(world: &TestWorld, arguments: &[&str]) -> Ended {
    ended(&mut world.command_on("other", arguments))
}

fn volume(name: &str, spec: &str) -> String {
    format!(
        "apiVersion: evenkeel/v1\nkind: Volume\nmetadata: {{ name: {name} }}\nspec: {{ pool: fast, {spec} }}\n"
    )
}

fn container(name: &str, devices: &str) -> String {
    format!(
        "apiVersion: evenkeel/v1\nkind: Instance\nmetadata: {{ name: {name} }}\nspec:\n  image: busybox\n  devices:\n    \
         root: {{ type: disk, path: /, pool: fast }}\n{devices}"
    )
}

const DATA: &str = "    data: { type: disk, pool: fast, source: data, path: /data }\n";

/// What an import has left in the other state folder.
fn left(world: &TestWorld) -> String {
    shell(&format!(
        "cd {}/other && find imports pools/fast/instances pools/fast/custom volumes instances -mindepth 1 -maxdepth 1 2>/dev/null | sort; true",
        world.path().display()
    ))
}

runtime::own_processes_test! {
    fn an_instance_travels_with_its_volumes_and_a_volume_alone() {
        let world = TestWorld::furnished();
        let kept = tempfile::tempdir().expect("a folder");
        let file = |name: &str| kept.path().join(name).display().to_string();
        world.write("host.yaml", &HOST.replacen("driver: dir", "driver: btrfs\n  size: 512MiB", 1));
        world.unwrite("one.yaml");
        world.unwrite("two.yaml");
        world.write("data.yaml", &volume("data", "initial: { uid: 1000, gid: 5 }"));
        world.write("bare.yaml", &volume("bare", "size: 32MiB"));
        world.write("disk.yaml", &volume("disk", "contentType: block, size: 8MiB"));
        world.write("left.yaml", &container("left", &format!("{DATA}    bare: {{ type: disk, pool: fast, source: bare, path: /bare }}\n")));
        world.write("right.yaml", &container("right", DATA));
        world.converge();
        let inside = |name: &str, line: &str| world.keel(&["exec", name, "--", "sh", "-c", line]);
        inside("left", "echo before >/data/file && chown 7:8 /data/file && echo bare >/bare/file").with(0);
        world.keel(&["snapshot", "create", "volume/fast/data", "first", "--description", "one"]).with(0);
        world.keel(&["snapshot", "create", "volume/fast/disk", "first"]).with(0);
        // Two files that are always written after each other: a copy of one moment has the root's ahead by one at most.
        inside("left", "(i=0; while :; do i=$((i+1)); echo $i >/c && mv /c /counter; echo $i >/data/c && mv /data/c /data/counter; done) >/dev/null 2>&1 &").with(0);
        inside("right", "echo after >>/data/file").with(0);
        let told = world.keel(&["backup", "export", "left", "-o", &file("all"), "--volumes"]).with(0);
        assert!(!told.stderr.contains("left out"), "{told:?}");
        let told = world.keel(&["backup", "export", "left", "-o", &file("none")]).with(0);
        assert!(told.stderr.contains("left out: data: the volume fast/data"), "{told:?}");
        world.keel(&["backup", "export", "volume/fast/data", "-o", &file("data")]).with(0);
        world.keel(&["backup", "export", "volume/fast/data", "-o", &file("first"), "--snapshot", "first"]).with(0);
        world.keel(&["backup", "export", "volume/fast/disk", "-o", &file("disk")]).with(0);
        world.keel(&["backup", "export", "volume/fast/nope", "-o", &file("nope")]).with(1).saying("there is no volume/fast/nope");
        for name in ["left", "right"] {
            assert_eq!(world.get(&format!("instance/{name}"))["status"]["state"], "Running");
        }
        world.nothing_to_do();
        for name in ["all", "data", "first", "disk"] {
            let checked = world.keel(&["backup", "verify", &file(name), "-o", "json"]).with(0).json();
            assert_eq!(checked["faults"], json!([]), "{checked:#}");
        }
        let page = world.keel(&["backup", "verify", &file("all")]).with(0).stdout;
        assert!(page.contains("volume/fast/data snapshots/first") && page.contains("volume/fast/bare files"), "{page}");
        let page = world.keel(&["backup", "verify", &file("disk")]).with(0).stdout;
        assert!(page.contains("volume/fast/disk (block)") && page.contains("volume/fast/disk snapshots/first"), "{page}");
        world.destroy();

        // On a pool of another driver, in another state folder.
        world.write("host.yaml", HOST);
        for name in ["left", "right", "data", "bare", "disk"] {
            world.unwrite(&format!("{name}.yaml"));
        }
        other(&world, &["apply", "--yes"]).with(0);
        other(&world, &["backup", "import", &file("all"), "--volume", "fast/nope=fast/other"]).with(64).saying("no volume fast/nope");
        other(&world, &["backup", "import", &file("all"), "--volume", "fast/data=nope/data"]).with(1).saying("there is no storage pool nope");
        let before = left(&world);
        other(&world, &["backup", "import", &file("all"), "--volume", "fast/data=fast/moved"]).with(0);
        other(&world, &["backup", "import", &file("all"), "--name", "again"]).with(4).saying("there is a volume/fast/bare already");
        other(&world, &["backup", "import", &file("data")]).with(0);
        other(&world, &["backup", "import", &file("data")]).with(4).saying("there is a volume/fast/data already");
        other(&world, &["backup", "import", &file("first"), "--name", "early"]).with(0);
        other(&world, &["backup", "import", &file("disk")]).with(0);
        other(&world, &["backup", "import", &file("all"), "--name", "again", "--without-volumes"]).with(0);
        let altered = kept.path().join("altered");
        let mut bytes = path_io::read(file("all")).expect("read");
        let at = bytes.len() / 2;
        bytes[at] ^= 1;
        path_io::write(&altered, bytes).expect("written");
        let there = left(&world);
        other(&world, &["backup", "import", &altered.display().to_string(), "--name", "x", "--volume", "fast/data=fast/x", "--volume", "fast/bare=fast/y"]).with(1);
        assert_eq!(left(&world), there);
        // Their manifests take them on.
        let moved = DATA.replace("source: data", "source: moved");
        let bare = "    bare: { type: disk, pool: fast, source: bare, path: /bare }\n";
        world.write("left.yaml", &container("left", &format!("{moved}{bare}")));
        world.write("again.yaml", &container("again", &format!("{DATA}{bare}")));
        for name in ["data", "moved", "early"] {
            world.write(&format!("{name}.yaml"), &volume(name, "initial: { uid: 1000, gid: 5 }"));
        }
        world.write("bare.yaml", &volume("bare", "size: 32MiB"));
        world.write("disk.yaml", &volume("disk", "contentType: block, size: 8MiB"));
        let plan = other(&world, &["plan"]).with(0).stdout;
        assert!(!plan.contains("CREATE") && !plan.contains("DELETE"), "{plan}");
        other(&world, &["apply", "--yes"]).with(0);
        other(&world, &["plan", "--detailed-exitcode"]).with(0);
        for name in ["left", "again"] {
            other(&world, &["start", name]).with(0);
        }
        let run = |name: &str, line: &str| other(&world, &["exec", name, "--", "sh", "-c", line]);
        run("left", "test $(stat -c %u-%g /data) = 1000-5 && test $(stat -c %u-%g /data/file) = 7-8 && grep -q before /data/file && grep -q after /data/file && grep -q bare /bare/file").with(0);
        run("left", "a=$(cat /counter) && b=$(cat /data/counter) && d=$((a-b)) && echo $a $b && test $a -gt 0 && test $d -ge 0 && test $d -le 1").with(0);
        run("again", "grep -q after /data/file").with(0);
        let names = |object: &str| other(&world, &["snapshot", "list", object, "-o", "json"]).with(0).json();
        for object in ["volume/fast/moved", "volume/fast/data", "volume/fast/disk"] {
            assert_eq!(names(object)[0]["name"], "first", "{object}");
        }
        for name in ["left", "again"] {
            other(&world, &["stop", name, "--force", "--hold", "1h", "--reason", "test"]).with(0);
        }
        other(&world, &["snapshot", "restore", "volume/fast/moved", "first", "--yes"]).with(0);
        other(&world, &["snapshot", "restore", "volume/fast/disk", "first", "--yes"]).with(0);
        other(&world, &["start", "left"]).with(0);
        run("left", "grep -q before /data/file && ! grep -q after /data/file").with(0);
        for name in ["left", "again", "data", "moved", "early", "bare", "disk"] {
            world.unwrite(&format!("{name}.yaml"));
        }
        other(&world, &["apply", "--yes", "--no-trash", "--approve", "G102,G101"]).with(0);
        assert_eq!(left(&world), before);
        other(&world, &["destroy", "--no-trash", "--yes"]).with(0);
        world.nothing_left();
    }
}
