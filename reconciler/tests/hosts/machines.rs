//! Machines beside containers: made, reached, changed while they run, mended after somebody's hand, removed.

use std::time::{Duration, Instant};

use crate::guest::{Guest, PATIENCE, tiny};
use crate::world::TestWorld;

const HOST: &str = "\
apiVersion: evenkeel/v1
kind: Source
name: machines
---
apiVersion: evenkeel/v1
kind: StoragePool
metadata:
  name: fast
spec:
  driver: dir
lifecycle:
  prune: delete
---
apiVersion: evenkeel/v1
kind: Network
metadata:
  name: lan
spec:
  ipv4:
    address: 10.78.0.1/24
  ipv6:
    address: none
  dns:
    domain: lan.test
---
apiVersion: evenkeel/v1
kind: Image
metadata:
  name: busybox
spec:
  source: { builtin: busybox }
";

const BOX: &str = "\
apiVersion: evenkeel/v1
kind: Instance
metadata:
  name: box
spec:
  image: busybox
  devices:
    root: { type: disk, path: /, pool: fast }
    eth0: { type: nic, network: lan }
";

/// The manifest of a machine, with more of its spec.
pub(crate) fn machine(name: &str, memory: &str, more: &str) -> String {
    format!(
        "apiVersion: evenkeel/v1\nkind: Instance\nmetadata:\n  name: {name}\nspec:\n  type: virtual-machine\n  image: tiny\n  \
         state: Running\n  boot: {{ hostShutdownTimeout: 25s }}\n  limits: {{ memory: {memory} }}\n  devices:\n    \
         root: {{ type: disk, path: /, pool: fast, size: 64MiB }}\n    eth0: {{ type: nic, network: lan }}\n{more}"
    )
}

pub(crate) fn world(initrd: &str) -> TestWorld {
    let world = TestWorld::new();
    let files = HOST.splitn(2, "---\n").collect::<Vec<_>>();
    world.write("keel.yaml", files[0]);
    world.write("host.yaml", files[1]);
    world.write("tiny.yaml", &tiny(initrd));
    world
}

runtime::own_processes_test! {
    fn a_container_and_a_machine_reach_each_other_by_name() {
        let world = world("initrd");
        world.write("box.yaml", BOX);
        world.write("vm.yaml", &machine("vm", "256MiB", ""));
        world.converge();
        let mut guest = Guest::of(&world, "vm");
        let own = guest.wait_for("ip -4 -o addr show dev eth0", "10.78.0.");
        let leases = world.keel(&["exec", "box", "--", "nslookup", "vm.lan.test", "10.78.0.1"]).with(0);
        let address = own.split_whitespace().find_map(|word| word.strip_suffix("/24")).expect("an address");
        assert!(leases.stdout.contains(address), "{own}: {}", leases.stdout);
        guest.run("ping -c 1 -W 5 box.lan.test");
        world.keel(&["exec", "box", "--", "ping", "-c", "1", "-W", "5", "vm.lan.test"]).with(0);
        world.nothing_to_do();
        // In an orderly way, by its power button.
        world.keel(&["stop", "vm", "--hold", "1h", "--reason", "test"]).with(0);
        let seen = world.get("instance/vm");
        assert_eq!(seen["status"]["lastExit"]["reason"], "guest-shutdown", "{seen:#}");
        drop(guest);
        world.destroy();
    }
}

runtime::own_processes_test! {
    fn what_the_hardware_takes_is_changed_while_it_runs() {
        let world = world("initrd");
        world.write("vm.yaml", &machine("vm", "256MiB", ""));
        world.converge();
        let mut guest = Guest::of(&world, "vm");
        guest.run("echo kept >/tmp/mark");
        let pid = world.init("vm");
        for name in ["more.img", "fast.img"] {
            std::fs::File::create(world.path().join(name)).expect("a disk").set_len(32 << 20).expect("a size");
        }
        let disk = |name: &str| world.path().join(name).display().to_string();
        let more = format!(
            "    more: {{ type: disk, source: {}, limits: {{ max: 500iops }} }}\n    \
             fast: {{ type: disk, source: {}, ioBus: virtio-blk, readonly: true }}\n    eth1: {{ type: nic, network: lan }}\n",
            disk("more.img"),
            disk("fast.img")
        );
        let text = machine("vm", "384MiB", &more)
            .replace("size: 64MiB", "size: 96MiB")
            .replace("limits: { memory", "limits: { cpu: 2, memory");
        world.write("vm.yaml", &text);
        world.converge();
        assert_eq!(world.init("vm"), pid, "it was not restarted");
        guest.wait_for("nproc", "2");
        guest.wait_for("ls /sys/class/net", "eth1");
        guest.wait_for("ip -4 -o addr show dev eth1", "10.78.0.");
        let disks = guest.wait_for("cat /proc/partitions", "98304");
        assert!(disks.matches("32768").count() == 2, "{disks}");
        guest.wait_for("awk '/MemTotal/ {print ($2 > 250000) ? \"big\" : \"small\"}' /proc/meminfo", "big");
        assert_eq!(guest.run("cat /tmp/mark"), "kept");
        // And back: what the guest lets go of is taken out again.
        world.write("vm.yaml", &machine("vm", "256MiB", "").replace("size: 64MiB", "size: 96MiB").replace("limits: { memory", "limits: { cpu: 2, memory"));
        world.converge();
        assert_eq!(world.init("vm"), pid, "it was not restarted");
        assert!(!guest.run("ls /sys/class/net").contains("eth1"));
        assert!(!guest.run("cat /proc/partitions").contains("32768"));
        drop(guest);
        world.destroy();
    }
}

runtime::own_processes_test! {
    fn what_somebody_changes_by_the_monitor_is_seen_and_mended() {
        let world = world("initrd");
        std::fs::File::create(world.path().join("more.img")).expect("a disk").set_len(32 << 20).expect("a size");
        let more = format!("    more: {{ type: disk, source: {} }}\n", world.path().join("more.img").display());
        world.write("vm.yaml", &machine("vm", "256MiB", &more));
        world.converge();
        let mut guest = Guest::of(&world, "vm");
        let seen = world.get("instance/vm");
        let run = std::path::PathBuf::from(seen["status"]["runFolder"].as_str().expect("a folder"));
        let tell = |command: &str, arguments: serde_json::Value| {
            let mut qmp = runtime::native::machine::qmp::Qmp::connect(&run.join("qmp"), PATIENCE).expect("a monitor");
            qmp.execute(command, arguments).expect("it does");
        };
        tell("stop", serde_json::Value::Null);
        let drift = world.keel(&["drift", "--detailed-exitcode"]).with(2);
        assert!(drift.stdout.contains("Frozen"), "{}", drift.stdout);
        world.converge();
        tell("balloon", serde_json::json!({"value": 200 << 20}));
        let began = std::time::Instant::now();
        while !world.keel(&["drift"]).with(0).stdout.contains("200MiB") {
            assert!(began.elapsed() < PATIENCE, "the balloon is seen");
        }
        world.converge();
        tell("device_del", serde_json::json!({"id": "disk-more"}));
        let began = std::time::Instant::now();
        while !world.keel(&["drift"]).with(0).stdout.contains("devices.more") {
            assert!(began.elapsed() < PATIENCE, "the missing disk is seen");
        }
        world.converge();
        assert!(guest.run("cat /proc/partitions").contains("32768"));
        // How fast a disk may be: changed live, and drift where somebody else changes it.
        let with = |fields: &str| {
            let more = format!("    more: {{ type: disk, source: {}, {fields} }}\n", world.path().join("more.img").display());
            machine("vm", "256MiB", &more)
        };
        let limits = || {
            let mut qmp = runtime::native::machine::qmp::Qmp::connect(&run.join("qmp"), PATIENCE).expect("a monitor");
            let limits = qmp.execute("qom-get", serde_json::json!({"path": "/objects/disk-more.l", "property": "limits"})).expect("limits");
            ["iops-total", "bps-read", "iops-write"].map(|key| limits[key].as_u64().expect("a number"))
        };
        for (fields, wanted) in [
            ("limits: { max: 500iops }", [500, 0, 0]),
            ("limits: { read: 10MiB, write: 200iops }", [0, 10 << 20, 200]),
        ] {
            world.write("vm.yaml", &with(fields));
            let plan = world.keel(&["plan"]).with(0).stdout;
            assert!(plan.contains("LIVE"), "{plan}");
            world.converge();
            assert_eq!(limits(), wanted, "{fields}");
        }
        let other = serde_json::json!({"path": "/objects/disk-more.l", "property": "limits", "value": {"iops-write": 7}});
        tell("qom-set", other);
        let drift = world.keel(&["drift", "--detailed-exitcode"]).with(2).stdout;
        assert!(drift.contains("devices.more.limits"), "{drift}");
        world.converge();
        assert_eq!(limits(), [0, 10 << 20, 200]);
        // What is fixed when it is plugged in: it is taken out and plugged in again.
        world.write("vm.yaml", &with("ioBus: virtio-blk, ioCache: unsafe, bootPriority: 3"));
        let plan = world.keel(&["plan"]).with(0).stdout;
        assert!(plan.contains("REPLUG"), "{plan}");
        world.converge();
        assert!(guest.wait_for("cat /proc/partitions", "vda").contains("32768"));
        let asked = serde_json::json!({"path": "/machine/peripheral/disk-more", "property": "bootindex"});
        let mut qmp = runtime::native::machine::qmp::Qmp::connect(&run.join("qmp"), PATIENCE).expect("a monitor");
        assert_eq!(qmp.execute("qom-get", asked.clone()).expect("its place"), 1);
        drop(qmp);
        // The order of the others changes with it, and is live.
        world.write("vm.yaml", &with("ioBus: virtio-blk, ioCache: unsafe, bootPriority: -3"));
        let plan = world.keel(&["plan"]).with(0).stdout;
        assert!(plan.contains("LIVE") && !plan.contains("REPLUG"), "{plan}");
        world.converge();
        let mut qmp = runtime::native::machine::qmp::Qmp::connect(&run.join("qmp"), PATIENCE).expect("a monitor");
        assert_eq!(qmp.execute("qom-get", asked).expect("its place"), 2);
        drop(qmp);
        drop(guest);
        world.destroy();
    }
}

runtime::own_processes_test! {
    fn firmware_starts_what_its_mode_lets_it() {
        let world = world("initrd");
        // Nothing is on its disk: the firmware tries its own shell, which nobody has signed.
        let of_mode = |mode: &str| {
            let text = machine("vm", "256MiB", "").replace("  image: tiny\n", "");
            text.replace("boot: {", &format!("boot: {{ mode: {mode},"))
        };
        let says = |words: &str| {
            let began = Instant::now();
            loop {
                let log = world.keel(&["logs", "vm"]).with(0).stdout;
                if log.contains(words) {
                    return;
                }
                assert!(began.elapsed() < PATIENCE, "{words}: {log}");
                std::thread::sleep(Duration::from_millis(200));
            }
        };
        world.write("vm.yaml", &of_mode("uefi-secureboot"));
        world.converge();
        says("Security Violation");
        world.write("vm.yaml", &of_mode("uefi"));
        let plan = world.keel(&["plan"]).with(0).stdout;
        assert!(plan.contains("NEXT START") && plan.contains("uefi-secureboot → uefi"), "{plan}");
        world.keel(&["apply", "--yes"]).with(0);
        assert_eq!(world.get("instance/vm")["status"]["restartPending"][0], "boot.mode");
        world.keel(&["stop", "vm", "--force", "--hold", "1h", "--reason", "test"]).with(0);
        world.keel(&["start", "vm"]).with(0);
        says("Shell>");
        world.nothing_to_do();
        world.destroy();
    }
}
