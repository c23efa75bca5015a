//! What is plugged into a machine and out of it: USB disks by git, what somebody plugs in by the monitor, and what a guest
//! does not let go of.

use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::path::PathBuf;
use std::time::Instant;

use serde_json::{Value, json};

use crate::guest::{Guest, PATIENCE, image};
use crate::machines::{machine, world};
use crate::world::{TestWorld, shell};

/// Tells the monitor of a machine something, as its second client.
pub(crate) fn monitor(world: &TestWorld, command: &str, arguments: Value) {
    let seen = world.get("instance/vm");
    let run = seen["status"]["runFolder"].as_str().expect("a folder");
    let path = PathBuf::from(run).join("qmp-rescue");
    let mut qmp = runtime::native::machine::qmp::Qmp::connect(&path, PATIENCE).expect("a monitor");
    qmp.execute(command, arguments).expect("it does");
}

/// The guest with a kernel that knows USB.
fn usb_world() -> TestWorld {
    let world = world("initrd-usb");
    let text = crate::guest::tiny("initrd-usb");
    let (without, with) = (image("kernel"), image("kernel-usb"));
    world.write(
        "tiny.yaml",
        &text.replace(
            &format!("kernel: {}\n", without.display()),
            &format!("kernel: {}\n", with.display()),
        ),
    );
    world
}

runtime::own_processes_test! {
    fn usb_disks_come_and_go_and_what_somebody_plugs_in_is_taken_out() {
        let world = usb_world();
        world.write("vm.yaml", &machine("vm", "256MiB", ""));
        world.converge();
        let mut guest = Guest::of(&world, "vm");
        let pid = world.init("vm");
        assert!(!guest.run("cat /proc/partitions").contains("32768"));
        let path = world.path().join("stick.img");
        let mut file = std::fs::File::create_new(&path).expect("a disk");
        file.set_len(32 << 20).expect("a size");
        file.write_all(b"from the host").expect("a mark");
        let stick = format!("    stick: {{ type: disk, source: {}, ioBus: usb }}\n", path.display());
        let text = machine("vm", "256MiB", &stick) + "lifecycle: { extras: remove }\n";
        world.write("vm.yaml", &text);
        let plan = world.keel(&["plan"]).with(0).stdout;
        assert!(!plan.contains("NEXT START"), "{plan}");
        world.converge();
        // A USB device of the guest, and a disk behind it that it reads and writes.
        guest.wait_for("cat /sys/bus/usb/devices/*/serial", "stick");
        let name = guest.wait_for("awk '$3 == 32768 {print $4}' /proc/partitions", "sd");
        assert!(guest.run(&format!("readlink -f /sys/block/{name}")).contains("/usb"), "{name}");
        assert_eq!(guest.run(&format!("head -c 13 /dev/{name}")), "from the host");
        guest.run(&format!("echo from the guest | dd of=/dev/{name} bs=512 seek=1 conv=sync && sync"));
        // What others plug in is told, with what it is, and taken out again; also one without a name.
        monitor(&world, "device_add", json!({"driver": "usb-tablet", "id": "tablet", "bus": "usb.0"}));
        monitor(&world, "device_add", json!({"driver": "usb-kbd", "bus": "usb.0"}));
        guest.wait_for("cat /proc/bus/input/devices", "Tablet");
        let drift = world.keel(&["drift", "--detailed-exitcode"]).with(2).stdout;
        assert!(drift.contains("devices.tablet") && drift.contains("devices.device-0"), "{drift}");
        let seen = world.get("instance/vm");
        let reason = &seen["status"]["devices"]["tablet"]["reason"];
        assert!(reason.as_str().is_some_and(|why| why.contains("usb-tablet")), "{seen:#}");
        assert!(seen["status"]["devices"]["stick"]["reason"].is_null(), "{seen:#}");
        world.converge();
        // The guest takes a moment to notice.
        guest.wait_for("grep -c 'QEMU USB' /proc/bus/input/devices", "0");
        // Somebody pulls the stick, which git has.
        monitor(&world, "device_del", json!({"id": "disk-stick"}));
        assert!(world.keel(&["drift"]).with(0).stdout.contains("devices.stick"));
        world.converge();
        let name = guest.wait_for("awk '$3 == 32768 {print $4}' /proc/partitions", "sd");
        assert!(guest.run(&format!("dd if=/dev/{name} bs=512 skip=1 count=1")).contains("from the guest"));
        world.write("vm.yaml", &machine("vm", "256MiB", ""));
        world.converge();
        guest.wait_for("grep -c 32768 /proc/partitions", "0");
        guest.wait_for("cat /sys/bus/usb/devices/*/serial | grep -c stick", "0");
        assert_eq!(world.init("vm"), pid, "it was not restarted");
        let mut text = [0; 14];
        file.seek(SeekFrom::Start(512)).expect("a place");
        file.read_exact(&mut text).unwrap_or_else(|_| {
            std::fs::File::open(&path).and_then(|mut file| {
                file.seek(SeekFrom::Start(512))?;
                file.read_exact(&mut text)
            }).expect("it is read");
        });
        assert_eq!(&text, b"from the guest");
        drop(guest);
        world.destroy();
    }
}

runtime::own_processes_test! {
    fn what_a_guest_does_not_let_go_of_is_told_until_it_does() {
        let world = world("initrd");
        for name in ["kept.img", "stick.img"] {
            shell(&format!("truncate -s 16M {}", world.path().join(name).display()));
        }
        let disk = |name: &str, bus: &str| {
            let path = world.path().join(format!("{name}.img"));
            format!("    {name}: {{ type: disk, source: {}, ioBus: {bus} }}\n", path.display())
        };
        // Nothing is on its disk: nobody answers in it.
        let of = |more: &str| machine("vm", "64MiB", more).replace("  image: tiny\n", "").replace("boot: {", "boot: { mode: bios,");
        world.write("vm.yaml", &of(""));
        world.converge();
        let pid = world.init("vm");
        world.write("vm.yaml", &of(&format!("{}{}", disk("kept", "virtio-blk"), disk("stick", "usb"))));
        world.converge();
        world.write("vm.yaml", &of(""));
        let began = Instant::now();
        world.keel(&["apply", "--yes"]).with(7).saying("did not let go of disk-kept within 20s");
        println!("given up after {:?}", began.elapsed());
        // Of the others nothing is left; it is there, and nobody says otherwise.
        let plan = world.keel(&["plan"]).with(0).stdout;
        assert!(plan.contains("devices.kept") && !plan.contains("devices.stick"), "{plan}");
        let seen = world.get("instance/vm");
        assert_eq!(seen["status"]["devices"]["kept"]["present"], true, "{seen:#}");
        // It goes on where the last one gave up, and what else there is to do is done.
        world.write("vm.yaml", &of(&disk("stick", "usb")));
        world.keel(&["apply", "--yes"]).with(7).saying("disk-kept");
        let seen = world.get("instance/vm");
        assert_eq!(seen["status"]["devices"]["stick"]["present"], true, "{seen:#}");
        assert_eq!(world.init("vm"), pid, "it was not restarted");
        world.keel(&["stop", "vm", "--force", "--hold", "1h", "--reason", "test"]).with(0);
        world.keel(&["start", "vm"]).with(0);
        world.nothing_to_do();
        world.destroy();
    }
}

/// A USB device of the host, as the kernel tells of it.
fn on_the_host(name: &str, vendor: &str, number: u32) {
    shell(&format!(
        "mkdir -p /sys/bus/usb/devices/{name} /dev/bus/usb/001; cd /sys/bus/usb/devices/{name}
         echo 00 >bDeviceClass; echo {vendor} >idVendor; echo c077 >idProduct; echo 1 >busnum; echo {number} >devnum
         : >/dev/bus/usb/001/$(printf %03d {number})"
    ));
}

runtime::own_processes_test! {
    fn usb_devices_of_the_host_are_looked_for_each_time_and_what_is_not_there_is_told() {
        let world = world("initrd");
        // A host with USB, of which nothing is real: QEMU is handed the node, and says that it is none.
        shell("mount -t tmpfs none /sys/bus; mkdir -p /dev/bus; mount -t tmpfs none /dev/bus; mkdir -p /sys/bus/usb/devices/usb1");
        let with = |more: &str| machine("vm", "256MiB", &format!("    key: {{ type: usb, vendorId: \"1050\"{more} }}\n"));
        world.write("vm.yaml", &with(", required: true"));
        world.keel(&["plan"]).with(3).saying("no USB device of this host is such a one: it has none");
        on_the_host("1-3", "046d", 5);
        let line = world.line("vm.yaml", "key:");
        world.keel(&["apply", "--yes"]).with(3).saying("there are 046d:c077 (bus 1, device 5)").saying(&format!("vm.yaml:{line}"));
        // One that need not be there is not missed.
        world.write("vm.yaml", &with(""));
        world.converge();
        let device = || world.get("instance/vm")["status"]["devices"]["key"].clone();
        assert_eq!(device()["present"], false);
        assert_eq!(device()["reason"], "no USB device of this host matches");
        // It comes: that is drift until it is plugged in.
        on_the_host("1-4", "1050", 6);
        let drift = world.keel(&["drift", "--detailed-exitcode"]).with(2).stdout;
        assert!(drift.contains("devices.key"), "{drift}");
        world.keel(&["apply", "--yes"]).with(7).saying("failed to open host usb device");
        assert_eq!(device()["reason"], "what matches on this host is not what is plugged in");
        // It goes, and nobody misses it.
        shell("rm -r /sys/bus/usb/devices/1-4");
        world.nothing_to_do();
        // As git says it is gone.
        world.write("vm.yaml", &machine("vm", "256MiB", ""));
        world.converge();
        world.keel(&["destroy", "--no-trash", "--yes"]).with(0);
        shell("umount /dev/bus; umount /sys/bus");
        world.nothing_left();
    }
}
