//! What cloud-init in a machine finds: what it was given first, and what it is given after a change.

use manifests::path_io;
use serde_json::Value;

use crate::boot::restart_host;
use crate::guest::{Guest, PATIENCE, image, tiny};
use crate::world::{TestWorld, shell};

const SOURCE: &str = "apiVersion: evenkeel/v1\nkind: Source\nname: cloud\n";
const HOST: &str = "\
apiVersion: evenkeel/v1
kind: StoragePool
metadata: { name: fast }
spec: { driver: dir }
lifecycle: { prune: delete }
---
apiVersion: evenkeel/v1
kind: Network
metadata: { name: lan }
spec:
  ipv4: { address: 10.79.0.1/24 }
  ipv6: { address: none }
";
const CANARY: &str = "canary-5e1c7a";
const NEXT: &str = "canary-next-81b0";

/// A machine with a `cloudInit`, by its lines.
fn machine(image: &str, memory: &str, cloud_init: &[&str]) -> String {
    let mut text = format!(
        "apiVersion: evenkeel/v1\nkind: Instance\nmetadata: {{ name: vm }}\nspec:\n  type: virtual-machine\n  image: {image}\n  \
         state: Running\n  boot: {{ hostShutdownTimeout: 25s }}\n  limits: {{ memory: {memory} }}\n  devices:\n    \
         root: {{ type: disk, path: /, pool: fast, size: 2GiB }}\n    eth0: {{ type: nic, network: lan }}\n  cloudInit:\n"
    );
    for line in cloud_init {
        text += &format!("    {line}\n");
    }
    text
}

fn world() -> TestWorld {
    let world = TestWorld::new();
    world.write("keel.yaml", SOURCE);
    world.write("host.yaml", HOST);
    world
}

/// The documents on the disk that cloud-init looks for.
fn seed(guest: &mut Guest) -> String {
    guest.run("mkdir -p /seed; mount -o ro -t vfat $(findfs LABEL=CIDATA) /seed");
    let said = guest.run("cd /seed; for file in *; do echo \"--- $file\"; cat $file; done");
    guest.run("umount /seed");
    said
}

/// What a document says.
#[track_caller]
fn instance_id(seed: &str) -> String {
    let line = seed
        .lines()
        .find_map(|line| line.strip_prefix("instance-id: "));
    line.unwrap_or_else(|| panic!("{seed}")).to_owned()
}

/// What waits for the next start.
fn waiting(world: &TestWorld) -> Value {
    world.get("instance/vm")["status"]["restartPending"].clone()
}

fn restarted(world: &TestWorld) -> Guest {
    world.keel(&["restart", "vm"]).with(0);
    Guest::of(world, "vm")
}

runtime::own_processes_test! {
    fn what_cloud_init_finds_follows_the_manifest_as_its_on_change_says() {
        let world = world();
        world.write("tiny.yaml", &tiny("initrd"));
        let password = world.path().join("password");
        path_io::write(&password, CANARY).expect("a secret");
        world.write("secret.yaml", &format!(
            "apiVersion: evenkeel/v1\nkind: Secret\nmetadata: {{ name: db }}\nspec: {{ source: {{ files: {{ password: {} }} }} }}\n",
            password.display()
        ));
        let secret = "vendorData: { template: \"#!/bin/sh\\nword=${secret.db.password}\\n\" }";
        let with = |data: &str, on_change: &str| {
            let on_change = format!("onChange: {on_change}");
            machine("tiny", "256MiB", &[data, secret, "networkConfig: { version: 2 }", &on_change])
        };
        world.write("vm.yaml", &with("userData: { packages: [first] }", "ignore"));
        world.converge();
        let mut guest = Guest::of(&world, "vm");
        let first = seed(&mut guest);
        for words in [
            "local-hostname: \"vm\"",
            "--- user-data\n#cloud-config\n{\n  \"packages\": [\n    \"first\"",
            "--- network-config\n{\n  \"version\": 2\n}",
            &format!("--- vendor-data\n#!/bin/sh\nword={CANARY}"),
        ] {
            assert!(first.contains(words), "no {words:?} in {first}");
        }
        // It cannot be written, and takes no place of a disk of the manifest.
        let disk = guest.run("basename $(findfs LABEL=CIDATA)");
        assert_eq!(guest.run(&format!("cat /sys/block/{disk}/ro")), "1");
        // Whichever of them the guest's kernel has found first.
        let place = |guest: &mut Guest, disk: &str| guest.run(&format!("readlink -f /sys/block/{disk}/device"));
        let other = if disk == "sda" { "sdb" } else { "sda" };
        let (seeds, roots) = (place(&mut guest, &disk), place(&mut guest, other));
        assert!(roots < seeds, "{roots} {seeds}");
        let kept = shell("find /run/keel -name cloud-init.img -printf '%m %U\\n'");
        assert_eq!(kept, "600 0\n");
        // On disk the secret is nowhere.
        let found = shell(&format!("cd {} && grep -rl {CANARY} . | sort", world.path().display()));
        assert_eq!(found, "./password\n");

        // What is there goes on with what it had.
        world.write("vm.yaml", &with("userData: { packages: [second] }", "ignore"));
        world.converge();
        assert_eq!(waiting(&world), serde_json::json!([]));
        drop(guest);
        let mut guest = restarted(&world);
        assert_eq!(seed(&mut guest), first);
        world.nothing_to_do();

        // Another value of a secret is a change like others; but after a start of the host nobody knows the one before.
        path_io::write(&password, NEXT).expect("a secret");
        world.converge();
        assert_eq!(waiting(&world), serde_json::json!([]));
        drop(guest);
        let mut guest = restarted(&world);
        assert_eq!(seed(&mut guest), first);
        drop(guest);
        restart_host(&world);
        world.keel(&["apply", "--yes"]).with(0);
        world.nothing_to_do();
        let mut guest = Guest::of(&world, "vm");
        let before = first;
        let first = seed(&mut guest);
        assert!(first.contains(NEXT) && first.contains("second"), "{first}");
        assert_eq!(instance_id(&first), instance_id(&before), "it does not run again");

        // The next change is followed at the next start, and not before.
        world.write("vm.yaml", &with("parts: { 10-a: { packages: [third] }, 20-b: \"#!/bin/true\" }", "rerun"));
        let plan = world.keel(&["plan"]).with(0);
        assert!(plan.stdout.contains("NEXT START"), "{}", plan.stdout);
        world.keel(&["apply", "--yes"]).with(0);
        assert_eq!(seed(&mut guest), first);
        assert_ne!(waiting(&world), serde_json::json!([]));
        drop(guest);
        let mut guest = restarted(&world);
        let third = seed(&mut guest);
        assert!(third.contains("multipart/mixed") && third.contains("filename=\"20-b\""), "{third}");
        assert_ne!(instance_id(&third), instance_id(&first));
        assert_eq!(waiting(&world), serde_json::json!([]));
        world.nothing_to_do();
        drop(guest);
        let mut guest = restarted(&world);
        assert_eq!(seed(&mut guest), third, "it is followed once");

        // Made anew: a new root, in which nothing has run yet.
        world.write("vm.yaml", &with("userData: { packages: [fourth] }", "recreate"));
        let plan = world.keel(&["plan"]).with(0);
        assert!(plan.stdout.contains("REPLACE"), "{}", plan.stdout);
        drop(guest);
        world.keel(&["apply", "--yes", "--approve", "G108"]).with(0);
        world.nothing_to_do();
        let mut guest = Guest::of(&world, "vm");
        let fourth = seed(&mut guest);
        assert!(fourth.contains("fourth") && !fourth.contains("multipart"), "{fourth}");
        assert_ne!(instance_id(&fourth), instance_id(&third));
        drop(guest);
        world.destroy();
    }
}

runtime::own_processes_test! {
    fn slow_a_debian_runs_its_user_data_once_and_is_reached_by_its_agent() {
        let world = world();
        world.write("debian.yaml", &format!(
            "apiVersion: evenkeel/v1\nkind: Image\nmetadata: {{ name: debian }}\nspec:\n  type: virtual-machine\n  source: {{ file: {} }}\n",
            image("debian.qcow2").display()
        ));
        let user_data = [
            "userData:",
            "  write_files: [{ path: /etc/marked, content: \"by cloud-init\\n\" }]",
            "  runcmd: [[sh, -c, \"echo ran >>/root/runs\"]]",
        ];
        // Without a keel of its own in it, a folder of the host is where the manifest says.
        path_io::create_dir_all(world.path().join("shared")).expect("a folder");
        path_io::write(world.path().join("shared/file"), "from the host\n").expect("a file");
        let folder = format!(
            "    shared: {{ type: disk, source: {}, path: /srv/shared, shift: true }}\n    eth0:",
            world.path().join("shared").display()
        );
        let with = |memory: &str| {
            let text = machine("debian", memory, &user_data).replace("boot: {", "boot: { mode: bios,");
            let files = "  files: { /srv/keel/put: { content: \"by keel\\n\", uid: 12, gid: 34, mode: \"0640\" } }\n";
            text.replace("    eth0:", &folder) + files
        };
        world.write("vm.yaml", &with("512MiB"));
        world.converge();
        let inside = |command: &str| world.keel(&["exec", "vm", "--", "sh", "-c", command]);
        let until = |what: &str, holds: &dyn Fn() -> bool| {
            let began = std::time::Instant::now();
            while !holds() {
                assert!(began.elapsed() < PATIENCE, "{what}");
                std::thread::sleep(std::time::Duration::from_secs(1));
            }
        };
        let done = || {
            world.keel(&["wait", "instance/vm", "--for", "cloud-init", "--timeout", "5min"]).with(0);
        };
        done();
        assert_eq!(inside("cat /etc/marked /root/runs; hostname").with(0).stdout, "by cloud-init\nran\nvm\n");
        // Beside those of its own.
        assert_eq!(inside("cat /srv/keel/put; stat -c '%a %u %g' /srv/keel/put").with(0).stdout, "by keel\n640 12 34\n");
        let mounted = "cat /srv/shared/file; findmnt -n -o FSTYPE,SOURCE /srv/shared; echo back >/srv/shared/back";
        assert_eq!(inside(mounted).with(0).stdout, "from the host\nvirtiofs shared\n");
        assert_eq!(path_io::read_to_string(world.path().join("shared/back")).expect("a file"), "back\n");
        for condition in ["agent", "addresses"] {
            world.keel(&["wait", "instance/vm", "--for", condition, "--timeout", "5min"]).with(0);
        }
        let addresses = world.get("instance/vm")["status"]["addresses"].to_string();
        assert!(addresses.contains("\"10.79.0."), "{addresses}");
        // One change of limits, and three restarts.
        world.write("vm.yaml", &with("640MiB"));
        world.converge();
        for _ in 0..3 {
            let before = inside("cat /proc/sys/kernel/random/boot_id").with(0).stdout;
            world.keel(&["restart", "vm"]).with(0);
            until("it is up again", &|| {
                let now = inside("cat /proc/sys/kernel/random/boot_id");
                now.code == Some(0) && now.stdout != before
            });
            done();
        }
        assert_eq!(inside("cat /root/runs /srv/shared/file").with(0).stdout, "ran\nfrom the host\n");
        world.nothing_to_do();
        world.destroy();
    }
}
