//! Disks: what is written is kept, what belongs to others is out of reach.

use runtime::native::disk_image::{Below, Format, create_overlay};
use runtime::native::machine::plan::{Bus, Cache, DiskFile, DiskLayers, DiskLimits, DiskPlan};
use runtime::native::machine::plug;
use runtime::native::machine::seen::look;
use runtime::own_processes_test;

use crate::world::{PATIENCE, World};

/// A disk over a raw image whose first sector has a text.
pub(crate) fn disk(world: &World, device: &str, bus: Bus) -> DiskPlan {
    let below = world.path().join(format!("{device}.raw"));
    let mut bytes = vec![0; 4 << 20];
    bytes[..5].copy_from_slice(b"below");
    std::fs::write(&below, bytes).expect("an image");
    let path = world.path().join(format!("{device}.qcow2"));
    let over = Below {
        name: below.to_str().expect("UTF-8"),
        format: Format::Raw,
        virtual_size: 4 << 20,
    };
    create_overlay(&path, 8 << 20, Some(over)).expect("a disk");
    DiskPlan {
        device: device.to_owned(),
        file: DiskFile {
            path,
            format: Format::Qcow2,
            device: false,
        },
        layers: DiskLayers::default(),
        backing: Some(DiskFile {
            path: below,
            format: Format::Raw,
            device: false,
        }),
        bus,
        cache: Cache::Writeback,
        read_only: false,
        cdrom: false,
        boot_index: None,
        limits: DiskLimits::default(),
    }
}

own_processes_test! {
    fn each_bus_carries_a_disk_over_an_image_that_stays_as_it_is() {
        let mut world = World::new();
        let buses = [("a", Bus::VirtioScsi), ("b", Bus::VirtioBlk), ("c", Bus::Nvme)];
        world.plan.hardware.disks = buses.map(|(name, bus)| disk(&world, name, bus)).to_vec();
        world.start();
        let mut guest = world.guest();
        for node in ["sda", "vda", "nvme0n1"] {
            let read = format!("dd if=/dev/{node} bs=5 count=1 2>/dev/null");
            assert_eq!(guest.run(&read), "below", "{node}");
            guest.run(&format!("printf above | dd of=/dev/{node} conv=fsync 2>/dev/null"));
            assert_eq!(guest.run(&read), "above", "{node}");
        }
        for name in ["a", "b", "c"] {
            let below = std::fs::read(world.path().join(format!("{name}.raw"))).expect("the image");
            assert_eq!(&below[..5], b"below");
        }
    }
}

own_processes_test! {
    fn a_disk_is_plugged_in_limited_made_bigger_and_taken_out() {
        let world = World::new();
        world.start();
        let mut guest = world.guest();
        let mut qmp = world.qmp();
        for bus in [Bus::VirtioScsi, Bus::VirtioBlk, Bus::Nvme] {
            let mut disk = disk(&world, "more", bus);
            // Also one that was plugged in half.
            for _ in 0..2 {
                plug::plug_disk(&mut qmp, &disk).expect("a disk");
            }
            let wait = |guest: &mut crate::world::Guest, wanted: &str, there: bool| {
                let began = std::time::Instant::now();
                while guest.run("cat /proc/partitions").contains(wanted) != there {
                    assert!(began.elapsed() < PATIENCE, "{bus:?} {wanted}");
                }
            };
            wait(&mut guest, " 8192 ", true);
            let grown = plug::grow_disk(&mut qmp, "more", 16 << 20);
            let (size, blocks) = match bus {
                // QEMU's NVMe disks are as big as they are when they are plugged in.
                Bus::Nvme => (8 << 20, " 8192 "),
                _ => (16 << 20, " 16384 "),
            };
            assert_eq!(grown.is_ok(), bus != Bus::Nvme, "{grown:?}");
            wait(&mut guest, blocks, true);
            disk.limits.operations = Some(100);
            plug::limit_disk(&mut qmp, "more", &disk.limits).expect("limits");
            let seen = look(&mut qmp).expect("a look");
            assert_eq!(seen.limits["disk-more.l"], disk.limits);
            assert_eq!(seen.nodes["disk-more"].size, size);
            plug::unplug_disk(&mut qmp, "disk-more", PATIENCE).expect("it is let go");
            wait(&mut guest, blocks, false);
            let seen = look(&mut qmp).expect("a look");
            assert!(seen.nodes.is_empty() && seen.limits.is_empty(), "{seen:?}");
            // Nor those below it.
            let nodes = qmp.execute("query-named-block-nodes", serde_json::Value::Null);
            assert_eq!(nodes.expect("nodes"), serde_json::json!([]));
        }
    }
}
