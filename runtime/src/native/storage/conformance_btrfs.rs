//! What only pools of btrfs do: limits in place, what they stand on, and what somebody does to them by hand.

use std::io::Write as _;
use std::path::Path;

use manifests::path_io;
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};

use super::conformance::{Bench, MIB, bench, custom, root, wait_a_little};
use super::conformance_tools::{data_of, ready, text};
use super::*;
use crate::sys::{command, loop_device};

fn on(bench: &Bench, backing: Backing, mark: &str) -> Box<dyn StorageDriver> {
    let plan = bench.plan(mark);
    open(DriverKind::Btrfs, PoolPlan { backing, ..plan })
}

fn program(words: &[&str]) -> String {
    let out = command::run("btrfs", words, None).unwrap();
    String::from_utf8(out).unwrap()
}

crate::host_test! {
    fn limits_hold_and_change_while_it_is_used() {
        let bench = ready(DriverKind::Btrfs);
        let driver = &bench.driver;
        let plan = root("u1", Some(32 * MIB));
        driver.ensure_volume(&plan).unwrap();
        let file = data_of(&bench, &plan).join("big");
        let fill = |bytes: u64| {
            path_io::write(&file, vec![7; usize::try_from(bytes).unwrap()])
        };
        let full = fill(40 * MIB).unwrap_err();
        assert_eq!(full.raw_os_error(), Some(libc::EDQUOT));
        let holder = std::fs::File::open(&file).unwrap();
        assert_eq!(driver.resize(&plan.id, Some(96 * MIB)).unwrap(), Ensured::Done);
        assert_eq!(driver.resize(&plan.id, Some(96 * MIB)).unwrap(), Ensured::Already);
        fill(40 * MIB).unwrap();
        assert!(matches!(driver.resize(&plan.id, Some(20 * MIB)), Err(StorageError::DoesNotFit { .. })));
        assert_eq!(driver.resize(&plan.id, Some(64 * MIB)).unwrap(), Ensured::Done);
        fill(80 * MIB).unwrap_err();
        // It loses its limit and gets one again.
        assert_eq!(driver.resize(&plan.id, None).unwrap(), Ensured::Done);
        let size = || driver.volume(&plan.id).unwrap().unwrap().size;
        assert_eq!(size(), None);
        fill(80 * MIB).unwrap();
        fill(10 * MIB).unwrap();
        assert_eq!(driver.resize(&plan.id, Some(30_000_000)).unwrap(), Ensured::Done);
        assert_eq!(size(), Some(30_000_000));
        assert!((10 * MIB..20 * MIB).contains(&driver.used(&plan.id).unwrap()));
        assert!(matches!(driver.resize(&plan.id, Some(1)), Err(StorageError::TooSmall { .. })));
        assert!(matches!(driver.ensure_volume(&root("u2", Some(1))), Err(StorageError::TooSmall { .. })));
        assert_eq!(driver.volumes().unwrap().len(), 1, "nothing half-done is left");
        // By hand: another limit, then no quotas at all.
        let tree = driver.placed(&plan.id).unwrap();
        program(&["qgroup", "limit", "50M", tree.to_str().unwrap()]);
        assert_eq!(size(), Some(50 * MIB));
        // One that holds more than it may gets more room all the same.
        program(&["qgroup", "limit", "5M", tree.to_str().unwrap()]);
        assert_eq!(driver.resize(&plan.id, Some(30_000_000)).unwrap(), Ensured::Done);
        program(&["quota", "disable", bench.pool().to_str().unwrap()]);
        assert_eq!(size(), Some(512 * MIB), "as big as the pool");
        assert_eq!(driver.resize(&plan.id, plan.size).unwrap(), Ensured::Done);
        assert_eq!(size(), plan.size);
        // What is deleted leaves no quota group behind.
        drop(holder);
        driver.remove_volume(&plan.id).unwrap();
        let pool = bench.pool().display().to_string();
        let groups = || {
            program(&["filesystem", "sync", &pool]);
            program(&["qgroup", "show", "--raw", &pool])
        };
        // Newer kernels do it in the background.
        let gone = (0..200).any(|_| {
            wait_a_little();
            groups().matches("0/").count() == 1
        });
        assert!(gone, "{}", groups());
    }
}

crate::host_test! {
    fn a_mount_that_is_gone_is_put_back_and_never_made_anew() {
        let bench = ready(DriverKind::Btrfs);
        let (driver, plan) = (&bench.driver, custom("c1", None));
        driver.ensure_volume(&plan).unwrap();
        path_io::write(data_of(&bench, &plan).join("file"), "mine").unwrap();
        let away = || unmount(bench.pool(), UnmountFlags::NOFOLLOW).unwrap();
        away();
        assert_eq!(driver.seen().unwrap(), PoolSeen::Unmounted);
        for refused in [
            driver.ensure_volume(&plan).map(|_| ()),
            driver.volumes().map(|_| ()),
            driver.trashed().map(|_| ()),
            driver.remove_volume(&plan.id).map(|_| ()),
        ] {
            assert!(matches!(refused, Err(StorageError::PoolUnmounted { .. })), "{refused:?}");
        }
        assert_eq!(path_io::list(bench.pool()).unwrap(), Vec::<std::path::PathBuf>::new());
        let file = || path_io::read_to_string(data_of(&bench, &plan).join("file")).unwrap();
        assert_eq!(driver.ensure_pool(false).unwrap(), Ensured::Done);
        assert_eq!(file(), "mine");
        // As after a start of the host: whoever starts first mounts it.
        away();
        assert_eq!(file(), "mine");
        // Something else lies there.
        mount("none", bench.pool(), "tmpfs", MountFlags::empty(), None).unwrap();
        assert!(matches!(driver.seen(), Err(StorageError::Remove(_))));
        driver.ensure_pool(true).unwrap_err();
        away();
        assert_eq!(file(), "mine");
        // What another pool holds is its own.
        let other = on(&bench, Backing::LoopFile { file: bench.file(), size: 512 * MIB }, "other/pool");
        assert_eq!(other.seen().unwrap(), PoolSeen::Foreign { owner: Some("edge/pool-1".to_owned()) });
        assert!(matches!(other.remove_pool(), Err(StorageError::ForeignPool { .. })));
        away();
        assert!(matches!(other.ensure_pool(true), Err(StorageError::ForeignPool { .. })));
        // The file is lost: that is told, and no other takes its place.
        let lost = bench.keep.path().join("lost");
        path_io::rename(bench.file(), &lost).unwrap();
        assert_eq!(driver.seen().unwrap(), PoolSeen::Missing);
        assert!(matches!(driver.ensure_pool(false), Err(StorageError::PoolMissing { .. })));
        assert!(!bench.file().exists());
        path_io::rename(&lost, bench.file()).unwrap();
        assert_eq!(file(), "mine");
        driver.remove_volume(&plan.id).unwrap();
        away();
        // An empty one is removed also where it is not mounted.
        assert_eq!(driver.remove_pool().unwrap(), Ensured::Done);
        assert!(!bench.file().exists() && !bench.pool().exists());
    }
}

crate::host_test! {
    fn the_file_of_a_pool_grows_while_it_is_used() {
        let bench = ready(DriverKind::Btrfs);
        let total = |driver: &dyn StorageDriver| match driver.seen().unwrap() {
            PoolSeen::Ready { total, set, .. } => (total, set),
            other => panic!("{other:?}"),
        };
        assert_eq!(total(&*bench.driver), (512 * MIB, Some(512 * MIB)));
        let bigger = on(&bench, Backing::LoopFile { file: bench.file(), size: 700 * MIB }, "edge/pool-1");
        assert_eq!(bigger.ensure_pool(false).unwrap(), Ensured::Done);
        assert_eq!(total(&*bigger), (700 * MIB, Some(700 * MIB)));
        assert_eq!(bigger.ensure_pool(false).unwrap(), Ensured::Already);
        assert_eq!(bench.driver.ensure_pool(false).unwrap(), Ensured::Already, "it never gets smaller");
        assert_eq!(total(&*bigger).1, Some(700 * MIB));
    }
}

crate::host_test! {
    fn a_device_or_folder_is_taken_only_if_nobody_has_it() {
        let bench = bench(DriverKind::Btrfs);
        let file = bench.keep.path().join("device");
        let open = std::fs::File::create_new(&file).unwrap();
        open.set_len(256 * MIB).unwrap();
        command::run("mke2fs", ["-q", "-F", file.to_str().unwrap()], None).unwrap();
        let open = std::fs::OpenOptions::new().read(true).write(true).open(&file).unwrap();
        let shown = loop_device::attach(&open).unwrap();
        let of = |wipe, mark| on(&bench, Backing::Device { device: shown.path.clone(), wipe }, mark);
        let held = of(false, "a").ensure_pool(true);
        assert!(matches!(&held, Err(StorageError::DeviceHolds { found, .. }) if found.contains("ext4") || found.contains("ext2")), "{held:?}");
        assert!(of(true, "a").ensure_pool(false).is_err(), "what held something is not wiped");
        assert_eq!(of(true, "a").ensure_pool(true).unwrap(), Ensured::Done);
        of(true, "a").ensure_volume(&root("u1", Some(64 * MIB))).unwrap();
        assert!(matches!(of(true, "b").ensure_pool(true), Err(StorageError::ForeignPool { .. })));
        assert_eq!(of(true, "a").ensure_pool(true).unwrap(), Ensured::Done, "mounted again");
        assert_eq!(of(true, "a").volumes().unwrap().len(), 1, "and not wiped");
        of(true, "a").remove_volume(&root("u1", None).id).unwrap();
        assert_eq!(of(false, "a").remove_pool().unwrap(), Ensured::Done);
        // It is empty, and can be another's.
        assert_eq!(of(false, "b").ensure_pool(true).unwrap(), Ensured::Done);
        // A folder of it, which somebody else keeps mounted.
        let sub = bench.pool().join("folder");
        let in_it = |folder: &Path| super::open(DriverKind::Btrfs, PoolPlan {
            folder: folder.to_path_buf(),
            mark: "c".to_owned(),
            backing: Backing::Folder,
            mount_options: None,
        });
        let pool = in_it(&sub);
        assert_eq!(pool.ensure_pool(true).unwrap(), Ensured::Done);
        pool.ensure_volume(&root("u1", Some(64 * MIB))).unwrap();
        assert_eq!(pool.volumes().unwrap()[0].size, Some(64 * MIB));
        pool.remove_volume(&root("u1", None).id).unwrap();
        assert_eq!(pool.remove_pool().unwrap(), Ensured::Done);
        let elsewhere = in_it(&bench.keep.path().join("on-something-else"));
        assert!(matches!(elsewhere.ensure_pool(true), Err(StorageError::NotBtrfs { .. })));
        assert!(!bench.keep.path().join("on-something-else").exists());
        assert_eq!(of(false, "b").remove_pool().unwrap(), Ensured::Done);
    }
}

crate::host_test! {
    fn subvolumes_in_a_volume_go_with_it() {
        let bench = ready(DriverKind::Btrfs);
        let (driver, plan) = (&bench.driver, custom("c1", None));
        driver.ensure_volume(&plan).unwrap();
        let data = data_of(&bench, &plan);
        let path = |name: &str| data.join(name).display().to_string();
        path_io::create_dir_all(data.join("a/b")).unwrap();
        program(&["subvolume", "create", &path("a/b/one")]);
        program(&["subvolume", "create", &path("a/b/one/two")]);
        path_io::write(data.join("a/b/one/two/file"), "x").unwrap();
        program(&["subvolume", "snapshot", "-r", &path("a/b/one/two"), &path("a/kept")]);
        program(&["property", "set", "-ts", &path("a/b/one"), "ro", "true"]);
        assert_eq!(driver.remove_volume(&plan.id).unwrap(), Ensured::Done);
        assert_eq!(driver.volumes().unwrap(), []);
        let left = program(&["subvolume", "list", bench.pool().to_str().unwrap()]);
        assert_eq!(left, "");
        // One whose subvolume somebody deleted says so and can be removed.
        let plan = root("u1", None);
        driver.ensure_volume(&plan).unwrap();
        program(&["subvolume", "delete", driver.placed(&plan.id).unwrap().to_str().unwrap()]);
        assert_eq!(driver.volume(&plan.id).unwrap().unwrap().size, Some(0));
        assert_eq!(driver.placed(&plan.id), None);
        assert_eq!(driver.remove_volume(&plan.id).unwrap(), Ensured::Done);
    }
}

crate::host_test! {
    fn a_pool_is_mounted_with_its_options_and_with_others_while_it_is_used() {
        let bench = bench(DriverKind::Btrfs);
        let with = |options: &str| {
            let plan = bench.plan("a");
            super::open(DriverKind::Btrfs, PoolPlan { mount_options: Some(options.to_owned()), ..plan })
        };
        let line = || {
            let (mounts, pool) = (text("/proc/self/mounts"), bench.pool().canonicalize().unwrap().display().to_string());
            let found = mounts.lines().find(|line| line.split(' ').nth(1) == Some(pool.as_str()));
            found.unwrap_or_default().to_owned()
        };
        with("compress=nonsense").ensure_pool(true).unwrap_err();
        assert_eq!(line(), "", "it is not mounted with something else");
        assert_eq!(with("noatime,compress=zstd:5").ensure_pool(true).unwrap(), Ensured::Done);
        assert!(line().contains("noatime") && line().contains("compress=zstd:5"), "{}", line());
        let holder = std::fs::File::open(bench.pool()).unwrap();
        with("compress=lzo").ensure_pool(false).unwrap();
        assert!(line().contains("compress=lzo") && !line().contains("zstd"), "{}", line());
        drop(holder);
        assert_eq!(with("compress=lzo").remove_pool().unwrap(), Ensured::Done);
    }
}

crate::host_test! {
    fn a_volume_goes_to_another_btrfs_as_what_differs_between_its_snapshots() {
        let (here, there) = (ready(DriverKind::Btrfs), ready(DriverKind::Btrfs));
        let plan = custom("c1", Some(64 * MIB));
        for bench in [&here, &there] {
            bench.driver.ensure_volume(&plan).unwrap();
        }
        let data = data_of(&here, &plan);
        let from = here.driver.kept_trees(&plan.id).unwrap();
        let keep = |name: &str, second: i64| {
            let kept = KeptTree {
                created_at: jiff::Timestamp::from_second(second).unwrap(),
                description: name.to_owned(),
                made_by: None,
                expires_at: None,
                about: serde_json::Value::Null,
            };
            from.create(name, &kept, &mut || true).unwrap();
        };
        let noise: Vec<u8> = (0..5_u32 << 20)
            .flat_map(|at| at.wrapping_mul(2_654_435_761).to_le_bytes())
            .collect();
        path_io::write(data.join("big"), &noise).unwrap();
        path_io::write(data.join("file"), "one").unwrap();
        keep("b-first", 1);
        path_io::rename(data.join("file"), data.join("moved")).unwrap();
        keep("a-second", 2);
        path_io::write(data.join("file"), "three").unwrap();
        // In the order of time: each stands on the one before.
        let files = ["b-first", "a-second"].map(|name| from.kept(name).unwrap());
        let sent = from.sent(&files).unwrap();
        assert_eq!(sent[0].as_ref().map(|sent| sent.before.clone()), Some(None));
        assert_eq!(sent[1].as_ref().unwrap().before.as_deref(), files[0].parent());
        let to = there.driver.kept_trees(&plan.id).unwrap();
        assert!(from.stream_to(&to, &mut || true).unwrap());
        assert_eq!(to.all().unwrap(), from.all().unwrap());
        let moved = data_of(&there, &plan);
        assert_eq!(path_io::read_to_string(moved.join("file")).unwrap(), "three");
        assert!(path_io::read(moved.join("big")).unwrap() == noise);
        assert_eq!(path_io::read_to_string(to.kept("b-first").unwrap().join("file")).unwrap(), "one");
        assert!(!to.kept("a-second").unwrap().join("file").exists());
        // Three times 20 MiB share their blocks, there as here.
        program(&["filesystem", "sync", there.pool().to_str().unwrap()]);
        let PoolSeen::Ready { used, .. } = there.driver.seen().unwrap() else { panic!("it is away") };
        assert!(used < 40 * MIB, "{used}");
        assert_eq!(there.driver.volume(&plan.id).unwrap().unwrap().size, plan.size);
        to.revert("b-first", &mut || true).unwrap();
        assert!(data_of(&there, &plan).join("big").exists());
        // One alone is what a volume of its own becomes, which goes on from there.
        let alone = custom("c2", Some(96 * MIB));
        there.driver.ensure_volume(&alone).unwrap();
        let into = there.driver.kept_trees(&alone.id).unwrap();
        let whole = from.send(&files[0], &into, &mut || true).unwrap().unwrap();
        assert!(whole > 20 * MIB, "{whole}");
        let copied = data_of(&there, &alone);
        assert_eq!(path_io::read_to_string(copied.join("file")).unwrap(), "one");
        path_io::write(copied.join("file"), "another").unwrap();
        assert_eq!(there.driver.volume(&alone.id).unwrap().unwrap().size, alone.size);
        assert_eq!(into.all().unwrap().len(), 0);
        // It was written to: nothing stands on it, and a copy of the same goes whole. On that the next ones stand.
        let next = |name: &str, files: &std::path::Path| {
            let plan = custom(name, None);
            there.driver.ensure_volume(&plan).unwrap();
            let into = there.driver.kept_trees(&plan.id).unwrap();
            let sent = from.send(files, &into, &mut || true).unwrap().unwrap();
            compare_tree::compare(files, &data_of(&there, &plan), &mut || true).unwrap();
            sent
        };
        assert!(next("c3", &files[0]) > 20 * MIB);
        assert!(next("c4", &files[0]) < MIB, "it is there already");
        let now = from.pass(&mut || true).unwrap();
        for (name, files) in [("c5", &files[1]), ("c6", &now.at), ("c7", &files[0])] {
            let sent = next(name, files);
            assert!(sent < MIB, "{name}: {sent} bytes");
        }
        drop(now);
        from.passed().unwrap();
        // What was written there and cannot be seen is found all the same, and all is sent.
        for copy in ["c3", "c4", "c7"] {
            let file = data_of(&there, &custom(copy, None)).join("big");
            let mut open = std::fs::OpenOptions::new().write(true).open(file).unwrap();
            let before = open.metadata().unwrap().modified().unwrap();
            open.write_all(b"altered").unwrap();
            open.set_modified(before).unwrap();
        }
        assert!(next("c8", &files[0]) > 20 * MIB);
        // It does not fit, is given up, or comes where there are no subvolumes: nothing is left of it.
        let small = ready(DriverKind::Btrfs);
        small.driver.ensure_volume(&custom("c1", Some(16 * MIB))).unwrap();
        let into = small.driver.kept_trees(&plan.id).unwrap();
        assert!(matches!(from.stream_to(&into, &mut || true), Err(StorageError::DoesNotFit { .. })));
        small.driver.remove_volume(&plan.id).unwrap();
        assert!(from.stream_to(&to, &mut || false).is_err());
        let plain = bench(DriverKind::Dir);
        plain.driver.ensure_pool(true).unwrap();
        plain.driver.ensure_volume(&custom("c1", None)).unwrap();
        let into = plain.driver.kept_trees(&plan.id).unwrap();
        assert!(!from.stream_to(&into, &mut || true).unwrap());
        assert!(from.send(&files[0], &into, &mut || true).unwrap().is_none());
        for name in ["a-second", "b-first"] {
            from.delete(name).unwrap();
        }
        here.driver.remove_volume(&plan.id).unwrap();
    }
}
