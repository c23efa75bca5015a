//! What people, disks and images do wrong: one clear error each, nothing half done, and the next apply mends it.

use manifests::path_io;

use crate::world::{HOST, TestWorld, shell};

/// A source with one instance and nothing that it needs beside a pool and an image.
fn with_one(more: &str) -> TestWorld {
    let world = TestWorld::furnished();
    world.write("two.yaml", "");
    world.write("one.yaml", &one("one", more));
    world
}

fn one(name: &str, more: &str) -> String {
    format!(
        "apiVersion: evenkeel/v1\nkind: Instance\nmetadata:\n  name: {name}\nspec:\n  image: busybox\n  state: Running\n{more}"
    )
}

const ROOT: &str = "  devices:\n    root: { type: disk, path: /, pool: fast }\n";

#[track_caller]
fn instances(world: &TestWorld) -> usize {
    let list = world
        .keel(&["get", "instance", "-o", "json"])
        .with(0)
        .json();
    list["items"].as_array().expect("a list").len()
}

runtime::own_processes_test! {
    fn a_folder_that_is_not_there_is_not_mounted_and_not_made() {
        let missing = "    data: { type: disk, source: /there/is/none, path: /data }\n";
        let world = with_one(&format!("{ROOT}{missing}"));
        world.keel(&["apply", "--yes"]).with(7).saying("/there/is/none");
        assert!(!std::path::Path::new("/there").exists());
        // What needs nothing of it is there, and nothing of the instance runs.
        assert_eq!(world.get("storage-pool/fast")["metadata"]["name"], "fast");
        assert!(!shell("cat /proc/mounts").contains("/there/is/none"));
        world.keel(&["apply", "--yes"]).with(7).saying("/there/is/none");
        // Not required: left out until it comes.
        world.write("one.yaml", &one("one", &format!("{ROOT}{}", missing.replace(" }", ", required: false }"))));
        world.keel(&["apply", "--yes"]).with(0);
        world.keel(&["exec", "one", "--", "true"]).with(0);
        world.destroy();
    }
}

runtime::own_processes_test! {
    fn a_disk_that_gets_full_costs_what_does_not_fit_and_no_more() {
        let world = with_one(ROOT);
        let disk = world.path().join("disk");
        std::fs::create_dir(&disk).expect("a folder");
        // No tmpfs: older kernels cannot shift the owners of one.
        let image = world.path().join("disk.img");
        shell(&format!(
            "truncate -s 96M {1} && mke2fs -q -t ext4 {1} && mount -o loop {1} {0} && chmod 700 {0}",
            disk.display(),
            image.display()
        ));
        let host = path_io::read_to_string(world.path().join("manifests/host.yaml")).expect("manifests");
        world.write("host.yaml", &host.replace("driver: dir\n", &format!("driver: dir\n  source: {}/pool\n", disk.display())));
        world.keel(&["apply", "--yes"]).with(0);
        let filling = disk.join("filling");
        // To the last block: the root of a container begins with little.
        for block in ["1M", "4k"] {
            shell(&format!(
                "dd if=/dev/zero of={} bs={block} oflag=append conv=notrunc,fsync 2>/dev/null || true",
                filling.display()
            ));
        }
        world.write("two.yaml", &one("two", "  devices:\n    root: { type: disk, path: /, pool: fast, size: 32MiB }\n"));
        world.keel(&["apply", "--yes"]).with(7).saying("No space left on device");
        // The one that is there goes on, and nothing of the other is left in the pool.
        world.keel(&["exec", "one", "--", "true"]).with(0);
        assert_eq!(path_io::list(disk.join("pool/instances")).expect("roots").len(), 1);
        path_io::remove_file(&filling).expect("the filling");
        world.converge();
        assert_eq!(instances(&world), 2);
        world.keel(&["destroy", "--no-trash", "--yes"]).with(0);
        shell(&format!("umount {0} && rmdir {0} && rm {1}", disk.display(), image.display()));
        world.nothing_left();
    }
}

runtime::own_processes_test! {
    fn a_pool_whose_folder_is_gone_is_told_and_never_made_anew_in_silence() {
        let world = with_one(ROOT);
        world.converge();
        world.keel(&["stop", "one", "--hold", "1h", "--reason", "the disk goes"]).with(0);
        let pool = world.state().join("pools/fast");
        let away = world.path().join("away");
        path_io::rename(&pool, &away).expect("taken away");
        let plan = world.keel(&["plan"]);
        let said = format!("{}{}", plan.stdout, plan.stderr);
        assert!(said.contains("is gone or empty") && said.contains("fast"), "{said}");
        // Nothing is made in its place, nothing is deleted for it.
        let applied = world.keel(&["apply", "--yes"]);
        assert_ne!(applied.code, Some(0), "{applied:?}");
        assert!(!pool.exists());
        // It comes back, and all is as it was.
        path_io::rename(&away, &pool).expect("put back");
        world.keel(&["start", "one"]).with(0);
        world.converge();
        world.destroy();
    }
}

runtime::own_processes_test! {
    fn two_pools_do_not_stand_on_one_folder_by_whatever_path() {
        let world = with_one(ROOT);
        let (ground, link) = (world.path().join("ground"), world.path().join("link"));
        world.write("host.yaml", &HOST.replacen("driver: dir", &format!("source: {}", ground.display()), 1));
        world.converge();
        let second = |source: &std::path::Path| {
            let head = "apiVersion: evenkeel/v1\nkind: StoragePool\nmetadata: { name: second }\n";
            world.write("second.yaml", &format!("{head}spec: {{ source: {} }}\n", source.display()));
        };
        second(&ground.join("volumes"));
        world.keel(&["validate"]).with(3).saying("lie in each other");
        std::os::unix::fs::symlink(&ground, &link).expect("a link");
        second(&link);
        world.keel(&["apply", "--yes"]).with(7).saying("storage-pool/fast stands on that already");
        world.unwrite("second.yaml");
        world.nothing_to_do();
        path_io::remove_file(&link).expect("removed");
        world.destroy();
    }
}

/// An image that means harm, as a folder packed by tar.
fn pack(world: &TestWorld, name: &str, make: &str) -> String {
    let folder = world.path().join(name);
    let busybox = "mkdir -p bin sbin && cp $(command -v busybox) bin/busybox && ln -s busybox bin/sh && ln -s busybox bin/sleep && ln -s busybox bin/cat && printf '#!/bin/sh\\nexec /bin/sleep 1000\\n' >sbin/init && chmod 755 sbin/init";
    shell(&format!(
        "mkdir {0} && cd {0} && {busybox} && {make} && tar -C {0} -cf {0}.tar .",
        folder.display()
    ));
    format!("{}.tar", folder.display())
}

fn image(file: &str) -> String {
    format!(
        "apiVersion: evenkeel/v1\nkind: Image\nmetadata:\n  name: evil\nspec:\n  source: {{ file: {file} }}\n---\n{}",
        one("one", ROOT).replace("busybox", "evil")
    )
}

runtime::own_processes_test! {
    fn links_of_an_image_to_the_host_lead_nowhere() {
        let world = with_one(ROOT);
        let treasure = world.treasure();
        let treasure = treasure.display();
        let file = pack(&world, "evil", &format!(
            "ln -s {treasure} dev && ln -s {treasure} proc && ln -s {treasure} sys && mkdir etc && ln -s {treasure}/gold etc/resolv.conf && ln -s {treasure}/gold etc/hosts && ln -s {treasure}/gold etc/hostname"
        ));
        let nic = "    eth0: { type: nic, network: lan, ipv4: 10.77.0.10 }\n";
        world.write("one.yaml", &format!("{}{nic}", image(&file)));
        world.keel(&["apply", "--yes"]);
        world.treasure_is_untouched();
        if world.get("instance/one")["status"]["state"] == "Running" {
            let inside = world.keel(&["exec", "one", "--", "cat", "/etc/resolv.conf"]);
            assert!(!inside.stdout.contains("precious"), "{inside:?}");
        }
        world.keel(&["file", "cat", "one/etc/resolv.conf"]);
        world.treasure_is_untouched();
        world.destroy();
    }
}

runtime::own_processes_test! {
    fn an_archive_that_means_harm_is_refused_and_leaves_nothing() {
        let world = with_one(ROOT);
        let outside = world.path().join("outside");
        let evil = |name: &str, make: &str| {
            let file = pack(&world, name, "true");
            shell(&format!("cd {} && {make}", world.path().display()));
            file
        };
        let python = |member: &str| format!(
            "python3 -c 'import tarfile,io; t=tarfile.open(\"{{}}\",\"a\"); {member}'"
        );
        let outside_text = outside.display().to_string();
        let cases = [
            ("above", python("i=tarfile.TarInfo(\"../../outside\"); i.size=4; t.addfile(i, io.BytesIO(b\"evil\"))")),
            ("absolute", python(&format!("i=tarfile.TarInfo(\"x\"); i.name=\"{outside_text}\"; i.size=4; t.addfile(i, io.BytesIO(b\"evil\"))"))),
            ("hardlink", python(&format!("i=tarfile.TarInfo(\"passwd\"); i.type=tarfile.LNKTYPE; i.linkname=\"{}/gold\"; t.addfile(i)", world.treasure().display()))),
        ];
        for (name, member) in cases {
            let tar = format!("{}.tar", world.path().join(name).display());
            let file = evil(name, &member.replace("{}", &tar));
            world.write("one.yaml", &image(&file));
            let ended = world.keel(&["apply", "--yes"]);
            assert!(!outside.exists(), "{name}: {ended:?}");
            world.treasure_is_untouched();
            if ended.code != Some(0) {
                assert_eq!(ended.code, Some(7), "{name}: {ended:?}");
                let list = world.keel(&["image", "list", "-o", "json"]).with(0).json();
                assert!(!list.to_string().contains("evil"), "{name}: {list:#}");
                assert_eq!(instances(&world), 0, "{name}");
            } else {
                // What is absolute is taken as below the root of the image.
                assert_eq!(name, "absolute", "{ended:?}");
            }
        }
        world.destroy();
    }
}
