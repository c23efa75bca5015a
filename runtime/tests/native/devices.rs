//! Disks, device nodes and limits of running instances: changed live, seen when changed by hand, mended.

use std::path::Path;

use manifests::action::Verb;
use manifests::id::Address;
use runtime::error::Class;
use runtime::runtime::ExitStatus;
use serde_json::{Value, json};

use crate::world::{World, by_hand, pid, shell};

/// Wants another spec of `one` and brings the world there; nothing is left to do then.
fn change(world: &mut World, one: &Address, spec: &Value) {
    let init = pid(&world.look(one));
    world.container_spec("one", spec);
    world.mend();
    assert_eq!(world.differences(), Vec::<String>::new(), "{spec}");
    assert_eq!(pid(&world.look(one)), init, "it went on running");
}

fn ok(world: &World, one: &Address, script: &str) {
    assert_eq!(world.run(one, script), ExitStatus::Code(0), "{script}");
}

runtime::host_test! {
    fn device_nodes_are_plugged_live_and_seen_when_they_are_gone() {
        let mut world = World::new();
        let one = world.container("one", &json!({}));
        let with = |mode: &str| json!({"devices": {
            "rng": {"type": "unix-char", "source": "/dev/urandom", "path": "/dev/rng", "uid": 3, "gid": 4, "mode": mode},
            "numbers": {"type": "unix-char", "path": "/dev/own/zero", "major": 1, "minor": 5},
            "loop0": {"type": "unix-block", "path": "/dev/disk0", "major": 7, "minor": 0},
            "maybe": {"type": "unix-char", "source": "/dev/there-is-none", "required": false},
        }});
        change(&mut world, &one, &with("0640"));
        ok(&world, &one, "test \"$(stat -c '%F %t:%T %u:%g %a' /dev/rng)\" = 'character special file 1:9 3:4 640'");
        ok(&world, &one, "head -c4 /dev/rng >/dev/null && test $(head -c4 /dev/own/zero | tr '\\0' x) = xxxx");
        ok(&world, &one, "test -b /dev/disk0 && test ! -e /dev/there-is-none");
        change(&mut world, &one, &with("0600"));
        ok(&world, &one, "test $(stat -c %a /dev/rng) = 600");
        let init = pid(&world.look(&one));
        shell(&format!("nsenter -t {init} -m umount /dev/rng"));
        assert!(world.differences()[0].starts_with("instance/one devices.rng null"), "{:?}", world.differences());
        world.mend();
        assert_eq!(world.differences(), Vec::<String>::new());
        // What is taken out of the manifest is taken out of the instance, node and right alike.
        let init = pid(&world.look(&one));
        world.container_spec("one", &json!({}));
        world.mend();
        assert_eq!(pid(&world.look(&one)), init);
        ok(&world, &one, "test ! -c /dev/rng && test ! -b /dev/disk0");
        let missing = world.container_spec("two", &json!({"devices": {"x": {"type": "unix-char", "source": "/dev/there-is-none"}}}));
        let (class, text) = world.tried(&missing, Verb::Create).expect_err("required");
        assert!(class == Class::NeedsOperator && text.contains("/dev/there-is-none"), "{text}");
    }
}

runtime::host_test! {
    fn mounts_change_live_and_differ_when_changed_by_hand() {
        let source = tempfile::tempdir().expect("a folder");
        std::fs::write(source.path().join("x"), "1").expect("written");
        let mut world = World::new();
        let one = world.container("one", &json!({}));
        let with = |readonly: bool, size: &str| json!({"devices": {
            "data": {"type": "disk", "source": source.path(), "path": "/data", "shift": true, "readonly": readonly},
            "mem": {"type": "disk", "source": "tmpfs:", "path": "/mem", "size": size},
        }});
        change(&mut world, &one, &with(true, "8MiB"));
        ok(&world, &one, "! echo 2 >/data/x 2>/dev/null && df -k /mem | grep -q ' 8192 '");
        // What the container's root takes away is put back as it was: not for its root to change.
        let unlocks = "mount -o remount,bind,rw /data; mount -o remount,bind,suid,dev /data; ! echo 2 >/data/x 2>/dev/null";
        ok(&world, &one, unlocks);
        ok(&world, &one, "umount /data");
        assert!(world.differences()[0].contains("devices.data null"), "{:?}", world.differences());
        world.mend();
        assert_eq!(world.differences(), Vec::<String>::new());
        ok(&world, &one, unlocks);
        assert_eq!(std::fs::read(source.path().join("x")).expect("read"), b"1");
        change(&mut world, &one, &with(false, "16MiB"));
        ok(&world, &one, "echo 2 >/data/x && df -k /mem | grep -q ' 16384 '");
        let init = pid(&world.look(&one));
        for (by_hand, field) in [
            ("mount -o remount,bind,ro,nosuid,nodev none /data", "devices.data.readonly true → false"),
            ("mount -o remount,size=4m none /mem", "devices.mem.size \"4MiB\" → \"16MiB\""),
            ("umount /mem", "devices.mem null"),
            ("mount -t tmpfs none /data", "devices.data null"),
            ("mount --bind /etc /data", "devices.data null"),
        ] {
            shell(&format!("nsenter -t {init} -m {by_hand}"));
            let found = world.differences();
            assert!(found.len() == 1 && found[0].contains(field), "{field}: {found:?}");
            world.mend();
            assert_eq!(world.differences(), Vec::<String>::new(), "{field}");
        }
        assert!(source.path().join("x").exists());
    }
}

runtime::host_test! {
    fn limits_of_disks_and_huge_pages_are_live_and_seen() {
        let mut world = World::new();
        let one = world.container("one", &json!({}));
        let with = |limits: Value| json!({"devices": {"root": {"limits": limits}}});
        change(&mut world, &one, &with(json!({"read": "10MB", "write": "5MB,100iops"})));
        change(&mut world, &one, &with(json!({"max": "300iops"})));
        change(&mut world, &one, &with(json!({"write": "1MB"})));
        // The limit bites: three megabytes through the disk take two seconds and more.
        let began = std::time::Instant::now();
        ok(&world, &one, "dd if=/dev/zero of=/big bs=1M count=3 oflag=direct 2>/dev/null || dd if=/dev/zero of=/big bs=1M count=3 conv=fsync 2>/dev/null");
        assert!(began.elapsed().as_millis() > 1500, "{:?}", began.elapsed());
        let stat = std::fs::metadata(world.state().join("pools")).map(|found| std::os::unix::fs::MetadataExt::dev(&found)).expect("a device");
        let disk = runtime::native::cgroup::io::whole_disk(runtime::native::cgroup::limits::BlockDevice {
            major: rustix::fs::major(stat), minor: rustix::fs::minor(stat),
        }).expect("a disk");
        let init = pid(&world.look(&one));
        let by = by_hand(init, "blkio.throttle.write_bps_device", &format!("{disk} 7000000"))
            || by_hand(init, "io.max", &format!("{disk} wbps=7000000"));
        assert!(by, "a file of the kernel");
        assert_eq!(world.differences(), ["instance/one devices.root.limits.write \"7MB\" → \"1MB\""]);
        world.mend();
        assert_eq!(world.differences(), Vec::<String>::new());
        change(&mut world, &one, &json!({}));

        let pages = Path::new("/sys/kernel/mm/hugepages/hugepages-2048kB");
        assert!(pages.exists(), "this kernel has huge pages of 2 MiB");
        let with = |size: &str| json!({"limits": {"hugepages": {"2MiB": size}}});
        change(&mut world, &one, &with("64MiB"));
        change(&mut world, &one, &with("32MiB"));
        let by = by_hand(init, "hugetlb.2MB.max", "4194304") || by_hand(init, "hugetlb.2MB.limit_in_bytes", "4194304");
        assert!(by, "a file of the kernel");
        assert_eq!(world.differences(), ["instance/one limits.hugepages.2MiB \"4MiB\" → \"32MiB\""]);
        world.mend();
        assert_eq!(world.differences(), Vec::<String>::new());
        let bad = world.container_spec("one", &json!({"limits": {"hugepages": {"3MiB": "6MiB"}}}));
        let (class, text) = world.tried(&bad, Verb::Update { changes: world.changes(&bad) }).expect_err("no such pages");
        assert!(class == Class::Unsupported && text.contains("no huge pages of 3145728 bytes"), "{text}");
    }
}

runtime::host_test! {
    fn memory_below_the_use_is_held_and_nothing_is_killed() {
        let mut world = World::new();
        let one = world.container("one", &json!({"limits": {"memory": "128MiB", "memorySwap": false},
            "devices": {"mem": {"type": "disk", "source": "tmpfs:", "path": "/mem"}}}));
        ok(&world, &one, "dd if=/dev/zero of=/mem/x bs=1M count=64 2>/dev/null");
        let init = pid(&world.look(&one));
        let spec = |memory: &str, processes: u32| json!({"limits": {"memory": memory, "memorySwap": false, "processes": processes},
            "devices": {"mem": {"type": "disk", "source": "tmpfs:", "path": "/mem"}}});
        world.container_spec("one", &spec("16MiB", 77));
        let (class, text) = world.tried(&one, Verb::Update { changes: world.changes(&one) }).expect_err("held");
        assert!(class == Class::Refused && text.contains("cannot be 16777216 now") && text.contains("are in use"), "{text}");
        // Nothing was killed, the sibling is in force, and the refusal is still to be done.
        assert_eq!(pid(&world.look(&one)), init);
        ok(&world, &one, "test $(stat -c %s /mem/x) = 67108864");
        assert_eq!(world.differences(), ["instance/one limits.memory \"128MiB\" → \"16MiB\""]);
        ok(&world, &one, "rm /mem/x");
        world.mend();
        assert_eq!(world.differences(), Vec::<String>::new());
    }
}
