//! Files that manifests put into machines: given to cloud-init at first, by the agent from then on.

use crate::guest::Guest;
use crate::machines::{machine, world};
use crate::world::{TestWorld, shell};

const CANARY: &str = "canary-77f0c2";

fn with(files: &str) -> String {
    machine("vm", "256MiB", &format!("  files:\n{files}"))
}

fn inside(world: &TestWorld, command: &str) -> String {
    world
        .keel(&["exec", "vm", "--", "sh", "-c", command])
        .with(0)
        .stdout
}

runtime::own_processes_test! {
    fn files_of_a_machine_follow_its_manifest() {
        let world = world("initrd-agent");
        manifests::path_io::write(world.path().join("password"), CANARY).expect("a secret");
        world.write("secret.yaml", &format!(
            "apiVersion: evenkeel/v1\nkind: Secret\nmetadata: {{ name: db }}\nspec: {{ source: {{ files: {{ password: {}/password }} }} }}\n",
            world.path().display()
        ));
        let kept = "    /tmp/kept: { content: \"by keel\\n\", enforce: true, uid: 7, gid: 8, mode: \"0640\" }\n";
        let secret = "    /tmp/deep/secret: { content: { secretRef: { name: db, key: password } }, mode: \"0600\", createDirs: true }\n";
        let motd = "    /tmp/motd: { content: \"first\\n\" }\n";
        world.write("vm.yaml", &with(&[kept, secret, motd].concat()));
        world.keel(&["apply", "--yes"]).with(0);
        // cloud-init was given them; there is none in this guest, and its agent says so.
        let mut guest = Guest::of(&world, "vm");
        guest.run("mkdir -p /seed; mount -o ro -t vfat $(findfs LABEL=CIDATA) /seed");
        let seed = guest.run("cat /seed/user-data; umount /seed");
        assert!(seed.contains("filename=\"files\"") && seed.contains("filename=\"owners\"") && !seed.contains(CANARY), "{seed}");
        drop(guest);
        world.keel(&["wait", "instance/vm", "--for", "agent", "--timeout", "2min"]).with(0);
        let drift = world.keel(&["drift", "--detailed-exitcode"]).with(2).stdout;
        assert!(drift.contains("/tmp/kept") && drift.contains("/tmp/motd") && !drift.contains(CANARY), "{drift}");
        world.converge();
        let seen = inside(&world, "cat /tmp/kept /tmp/motd /tmp/deep/secret; stat -c '%a %u %g' /tmp/kept /tmp/motd /tmp/deep/secret");
        assert_eq!(seen, format!("by keel\nfirst\n{CANARY}640 7 8\n644 0 0\n600 0 0\n"));
        let found = shell(&format!("cd {} && grep -rl {CANARY} . | sort", world.path().display()));
        assert_eq!(found, "./password\n");
        // What is enforced is put back, all else is the guest's.
        inside(&world, "echo x >/tmp/kept; chmod 777 /tmp/deep/secret; rm /tmp/motd");
        let drift = world.keel(&["drift", "--detailed-exitcode"]).with(2).stdout;
        assert!(drift.contains("/tmp/kept") && !drift.contains("/tmp/motd") && !drift.contains("secret"), "{drift}");
        world.converge();
        assert_eq!(inside(&world, "cat /tmp/kept; stat -c %a /tmp/kept; ls /tmp/motd 2>/dev/null || echo gone"), "by keel\n640\ngone\n");
        // An edit is put, live.
        let second = motd.replace("first", "second");
        world.write("vm.yaml", &with(&[kept, secret, &second].concat()));
        let plan = world.keel(&["plan"]).with(0).stdout;
        assert!(plan.contains("LIVE"), "{plan}");
        world.converge();
        assert_eq!(inside(&world, "cat /tmp/motd"), "second\n");
        // One that changed while it was stopped is put with the start; this guest has a new file system then.
        world.keel(&["stop", "vm", "--force", "--hold", "1h", "--reason", "test"]).with(0);
        let third = motd.replace("first", "third");
        world.write("vm.yaml", &with(&[kept, secret, &third].concat()));
        world.keel(&["apply", "--yes"]).with(7);
        world.keel(&["start", "vm"]).with(0);
        assert_eq!(inside(&world, "cat /tmp/motd"), "third\n");
        world.nothing_to_do();
        world.destroy();
    }
}

runtime::own_processes_test! {
    fn without_an_agent_nobody_puts_files_into_a_guest_that_has_begun() {
        let world = world("initrd");
        let motd = "    /tmp/motd: { content: \"first\\n\" }\n";
        world.write("vm.yaml", &with(motd));
        world.converge();
        world.write("vm.yaml", &with(&motd.replace("first", "second")));
        world.keel(&["apply", "--yes"]).with(7).saying("qemu-guest-agent does not run in it");
        assert!(world.keel(&["plan"]).with(0).stdout.contains("/tmp/motd"));
        // Hands off.
        world.write("vm.yaml", &machine("vm", "256MiB", ""));
        world.converge();
        world.destroy();
    }
}
