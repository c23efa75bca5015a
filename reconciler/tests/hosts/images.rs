//! `keel image`: files of every form come in, are used, and go.

use std::path::Path;

use crate::world::{TestWorld, shell};

/// Files of an image in every form, below this folder.
fn make(folder: &Path) {
    let folder = folder.display();
    shell(&format!(
        "mkdir -p {folder} && cd {folder}
         mkdir -p rootfs/bin rootfs/etc rootfs/proc rootfs/sys rootfs/dev rootfs/tmp rootfs/sbin
         cp $(command -v busybox) rootfs/bin/busybox
         for word in sh cat sleep init; do ln -s busybox rootfs/bin/$word; done
         ln -s ../bin/busybox rootfs/sbin/init
         echo 'null::respawn:/bin/sleep 1000' >rootfs/etc/inittab
         echo here >rootfs/etc/mark
         printf 'architecture: x86_64\\ncreation_date: 1700000000\\nproperties:\\n  description: made by a test\\n' >metadata.yaml
         tar -C rootfs -czf plain.tar.gz .
         mksquashfs rootfs plain.squashfs -quiet -no-progress
         tar -cJf unified.tar.xz metadata.yaml rootfs
         tar -czf meta.tar.gz metadata.yaml
         cp plain.squashfs split.squashfs"
    ));
}

runtime::own_processes_test! {
    fn files_of_every_form_come_in_are_used_and_go() {
        let world = TestWorld::furnished();
        world.keel(&["image", "list"]).with(0).saying("nothing");
        let files = world.path().join("files");
        make(&files);
        let import = |names: &[&str], alias: &str| {
            let paths: Vec<String> = names.iter().map(|name| files.join(name).display().to_string()).collect();
            let paths = paths.iter().map(String::as_str);
            let arguments: Vec<&str> = ["image", "import"].into_iter().chain(paths).chain(["--alias", alias]).collect();
            world.keel(&arguments).with(0).stdout.trim().to_owned()
        };
        let forms = [
            (&["rootfs"][..], "folder"),
            (&["plain.tar.gz"], "plain"),
            (&["plain.squashfs"], "squashfs"),
            (&["unified.tar.xz"], "unified"),
            (&["meta.tar.gz", "split.squashfs"], "split"),
        ];
        for (names, form) in forms {
            let fingerprint = import(names, &format!("test/{form}"));
            assert_eq!(fingerprint.len(), 64, "{fingerprint}");
            assert_eq!(import(names, &format!("test/{form}")), fingerprint, "a second time changes nothing");
        }
        let list = world.keel(&["image", "list", "-o", "json"]).with(0).json();
        let images = list["images"].as_array().expect("images");
        assert_eq!(images.len(), forms.len());
        for (_, form) in forms {
            let of_form = images.iter().find(|one| one["form"] == form);
            let of_form = of_form.unwrap_or_else(|| panic!("{form} in {list:#}"));
            assert_eq!(of_form["aliases"][0], format!("test/{form}"));
            assert!(of_form["unpackedBytes"].as_u64().expect("a size") > 100_000);
        }
        let human = world.keel(&["image", "list"]).with(0).stdout;
        assert!(human.contains("FINGERPRINT") && human.contains("test/split"), "{human}");

        // A name is not taken away in silence.
        let plain = files.join("plain.tar.gz").display().to_string();
        world.keel(&["image", "import", &plain, "--alias", "test/folder"]).with(4).saying("another image");
        world.keel(&["image", "import", &plain, "--alias", "a b"]).with(1).saying("cannot be an alias");
        world.keel(&["image", "import", "/nowhere.tar"]).with(1).saying("there is no /nowhere.tar");
        let zeros = "0".repeat(64);
        world.keel(&["image", "import", &plain, "--sha256", &zeros]).with(1).saying("wanted is");
        shell(&format!("head -c 1000 /dev/urandom >{}/noise", files.display()));
        world.keel(&["image", "import", &files.join("noise").display().to_string()]).with(1);

        for name in ["one.yaml", "two.yaml"] {
            world.unwrite(name);
        }
        for (_, form) in forms {
            world.write(&format!("{form}.yaml"), &format!(
                "apiVersion: evenkeel/v1\nkind: Instance\nmetadata: {{ name: {form} }}\nspec:\n  image: test/{form}\n  \
                 state: Running\n  devices:\n    root: {{ type: disk, path: /, pool: fast }}\n"
            ));
        }
        world.converge();
        for (_, form) in forms {
            assert_eq!(world.keel(&["exec", form, "--", "cat", "/etc/mark"]).with(0).stdout, "here\n");
        }
        world.keel(&["image", "delete", "test/plain"]).with(64);
        world.keel(&["image", "delete", "test/plain", "--yes"]).with(4).saying("instance/plain needs it");
        world.keel(&["image", "delete", "busybox", "--yes"]).with(4).saying("image/busybox needs it");
        world.keel(&["image", "delete", "nothing", "--yes"]).with(1).saying("keel image list");
        world.keel(&["destroy", "--yes"]).with(0);
        world.keel(&["image", "delete", "test/plain", "--yes"]).with(4).saying("in the trash");
        world.keel(&["trash", "empty", "--yes"]).with(0);
        world.keel(&["image", "delete", "nothing", "test/plain", "--yes"]).with(7);
        let rest = ["test/folder", "test/squashfs", "test/unified", "test/split"];
        world.keel(&[&["image", "delete", "--yes"], &rest[..]].concat()).with(0);
        assert!(world.keel(&["history"]).with(0).stdout.contains("keel image delete"));
        world.keel(&["destroy", "--yes", "--no-trash"]).with(0);
        world.keel(&["image", "list"]).with(0).saying("nothing");
        world.nothing_left();
    }
}

runtime::own_processes_test! {
    fn disks_and_kernels_of_machines_come_in_and_no_container_starts_from_them() {
        let world = TestWorld::furnished();
        for name in ["one.yaml", "two.yaml"] {
            world.unwrite(name);
        }
        let files = world.path().join("files");
        shell(&format!(
            "mkdir -p {0} && cd {0}
             truncate -s 64M disk.img && printf '\\125\\252' | dd of=disk.img bs=1 seek=510 conv=notrunc status=none
             truncate -s 4096 vmlinuz && printf HdrS | dd of=vmlinuz bs=1 seek=514 conv=notrunc status=none
             echo initrd >initrd
             printf 'QFI\\373\\000\\000\\000\\003' >bad.qcow2",
            files.display()
        ));
        let file = |name: &str| files.join(name).display().to_string();
        let import = |arguments: &[&str]| world.keel(&[&["image", "import"], arguments].concat());
        let disk = import(&[&file("disk.img"), "--alias", "test/disk"]).with(0).stdout;
        assert_eq!(import(&[&file("disk.img")]).with(0).stdout, disk, "a second time changes nothing");
        let with_kernel = import(&[&file("disk.img"), "--kernel", &file("vmlinuz"), "--initrd", &file("initrd")]).with(0).stdout;
        assert_ne!(with_kernel, disk, "the kernel is part of the image");
        import(&[&file("disk.img"), "--initrd", &file("initrd")]).with(64).saying("--kernel");
        import(&[&file("disk.img"), "--kernel", &file("initrd")]).with(1).saying("is no kernel");
        import(&[&file("bad.qcow2")]).with(1).saying("is a broken qcow2 disk");
        let human = world.keel(&["image", "list"]).with(0).stdout;
        assert!(human.contains("TYPE") && human.contains("virtual-machine"), "{human}");

        world.write("machine.yaml", &format!(
            "apiVersion: evenkeel/v1\nkind: Image\nmetadata: {{ name: machine }}\nspec:\n  source: {{ file: {} }}\n  \
             kernel: {}\n  cmdline: console=ttyS0\n",
            file("disk.img"), file("vmlinuz")
        ));
        world.converge();
        let image = world.keel(&["get", "image", "machine", "-o", "json"]).with(0).json();
        assert_eq!(image["status"]["type"], "virtual-machine", "{image:#}");
        let stored = world.keel(&["image", "list", "-o", "json"]).with(0).json();
        let images = stored["images"].as_array().expect("images");
        let of_document = images.iter().find(|one| one["fingerprint"] == image["status"]["fingerprint"]);
        let of_document = of_document.unwrap_or_else(|| panic!("it is in {stored:#}"));
        assert_eq!(of_document["type"], "virtual-machine");
        assert_eq!(of_document["machine"]["cmdline"], "console=ttyS0");
        assert_eq!(of_document["machine"]["disk"]["virtualSize"], 64 << 20);

        world.write("container.yaml",
            "apiVersion: evenkeel/v1\nkind: Instance\nmetadata: { name: container }\nspec:\n  image: test/disk\n  \
             devices:\n    root: { type: disk, path: /, pool: fast }\n");
        world.keel(&["apply", "--yes"]).with(7).saying("image test/disk is for instances of type virtual-machine");
        world.unwrite("container.yaml");
        world.keel(&["destroy", "--yes", "--no-trash"]).with(0);
        let fingerprints = [disk.trim(), with_kernel.trim()];
        world.keel(&[&["image", "delete", "--yes"], &fingerprints[..]].concat()).with(0);
        world.keel(&["image", "list"]).with(0).saying("nothing");
        world.nothing_left();
    }
}
