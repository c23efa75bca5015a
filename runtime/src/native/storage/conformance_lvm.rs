//! What only pools of LVM do: snapshots of volumes in use, what their groups lie on, full thin pools, and what somebody does to
//! them by hand. On a kernel without a device mapper they are left out, and the guest of `tests/guest.sh` runs them.

use std::path::PathBuf;

use manifests::path_io;
use rustix::mount::{UnmountFlags, unmount};

use super::conformance::{Bench, MIB, bench, custom, entry, has_thin_pools, root};
use super::conformance_tools::{data_of, device, kept, ready, text};
use super::*;
use crate::sys::{command, mount_table};

/// A test on the kernel that has what it needs.
macro_rules! lvm_test {
    ($(#[$attribute:meta])* fn $name:ident() $body:block) => {
        crate::host_test! {
            $(#[$attribute])*
            fn $name() {
                if has_thin_pools() $body
            }
        }
    };
}

fn on(bench: &Bench, on: GroupOn, mark: &str) -> Box<dyn StorageDriver> {
    let thin_pool = ThinPoolPlan {
        on,
        ..bench.thin_pool()
    };
    of(bench, thin_pool, mark)
}

fn of(bench: &Bench, thin_pool: ThinPoolPlan, mark: &str) -> Box<dyn StorageDriver> {
    let plan = bench.plan(mark);
    open(
        DriverKind::Lvm,
        PoolPlan {
            backing: Backing::ThinPool(thin_pool),
            ..plan
        },
    )
}

/// What somebody does by hand.
fn lvm(program: &str, words: &[&str]) -> String {
    let config = "activation{udev_sync=0 udev_rules=0 verify_udev_operations=0 monitoring=0} backup{backup=0 archive=0}";
    let all = ["--config", config]
        .into_iter()
        .chain(words.iter().copied());
    String::from_utf8(command::run(program, all, None).unwrap()).unwrap()
}

fn names(bench: &Bench) -> Vec<String> {
    let told = lvm(
        "lvs",
        &["--noheadings", "-o", "lv_name", &bench.thin_pool().group],
    );
    told.split_whitespace().map(str::to_owned).collect()
}

lvm_test! {
    fn snapshots_are_made_at_once_and_gone_back_to() {
        let bench = ready(DriverKind::Lvm);
        let driver = &bench.driver;
        let go_on = &mut || true;
        for plan in [root("u1", Some(64 * MIB)), custom("c1", None)] {
            driver.ensure_volume(&plan).unwrap();
            let data = data_of(&bench, &plan);
            let trees = driver.kept_trees(&plan.id).unwrap();
            assert!(!trees.needs_stillness());
            path_io::write(data.join("file"), "one").unwrap();
            // It is in use, and stays so.
            let holder = std::fs::File::open(data.join("file")).unwrap();
            trees.create("a", &kept(""), go_on).unwrap();
            assert!(matches!(trees.create("a", &kept(""), go_on), Err(StorageError::SnapshotExists(_))));
            path_io::write(data.join("file"), "two").unwrap();
            trees.create("b", &kept(""), go_on).unwrap();
            path_io::write(data.join("file"), "three").unwrap();
            assert_eq!(text(trees.kept("a").unwrap().join("file")), "one");
            assert_eq!(text(trees.kept("b").unwrap().join("file")), "two");
            path_io::write(trees.kept("a").unwrap().join("file"), "x").unwrap_err();
            // A copy for one reader.
            let copy = trees.pass(go_on).unwrap().at;
            assert_eq!(text(copy.join("file")), "three");
            trees.passed().unwrap();
            assert!(!copy.exists());
            // Whoever reads one still has it when the volume is unmounted, and when crashes are tidied up after.
            let passing = trees.pass(go_on).unwrap();
            driver.sweep().unwrap();
            assert!(matches!(driver.release(&plan.id), Err(StorageError::InUse(_))), "somebody has it open");
            assert_eq!(text(passing.at.join("file")), "three");
            trees.passed().unwrap();
            drop(passing);
            assert!(matches!(trees.revert("a", go_on), Err(StorageError::InUse(_))), "somebody has it open");
            drop(holder);
            trees.revert("a", go_on).unwrap();
            assert!(matches!(trees.revert("nope", go_on), Err(StorageError::NoSnapshot(_))));
            assert_eq!(text(data_of(&bench, &plan).join("file")), "one");
            assert_eq!(driver.volume(&plan.id).unwrap().unwrap().size, plan.size);
            path_io::write(data_of(&bench, &plan).join("file"), "four").unwrap();
            assert_eq!(text(trees.kept("a").unwrap().join("file")), "one", "it is not touched by that");
            trees.rename("a", "c").unwrap();
            driver.release(&plan.id).unwrap();
            if plan.size.is_some() {
                // It has grown since, and stays so; it has shrunk since, and stays so where what it held fits.
                for size in [96 * MIB, 32 * MIB] {
                    driver.resize(&plan.id, Some(size)).unwrap();
                    trees.revert("c", go_on).unwrap();
                    assert_eq!(driver.volume(&plan.id).unwrap().unwrap().size, Some(size));
                    assert_eq!(text(data_of(&bench, &plan).join("file")), "one");
                    driver.release(&plan.id).unwrap();
                }
            }
            // What comes from elsewhere.
            let place = trees.prepare("d").unwrap();
            path_io::ensure_dir(&place).unwrap();
            path_io::write(place.join("file"), "far").unwrap();
            trees.complete("d", &kept("")).unwrap();
            assert_eq!(text(trees.kept("d").unwrap().join("file")), "far");
            path_io::write(trees.kept("d").unwrap().join("file"), "x").unwrap_err();
            trees.revert("d", go_on).unwrap();
            assert_eq!(text(data_of(&bench, &plan).join("file")), "far");
            let all: Vec<String> = trees.all().unwrap().into_keys().collect();
            assert_eq!(all, ["b", "c", "d"]);
            for name in ["b", "c"] {
                trees.delete(name).unwrap();
            }
            // With its snapshots into the trash, back, and away.
            let entry = entry(&plan, "uid-7");
            driver.trash(&entry).unwrap();
            assert!(driver.used_in_trash("uid-7").unwrap().unwrap() > 0);
            driver.untrash("uid-7").unwrap();
            driver.end_untrash("uid-7").unwrap();
            assert_eq!(text(data_of(&bench, &plan).join("file")), "far");
            driver.remove_volume(&plan.id).unwrap();
            assert_eq!(names(&bench).len(), 2, "the thin pool and the pool's own: {:?}", names(&bench));
        }
    }
}

lvm_test! {
    fn what_a_crash_left_goes_and_nothing_else() {
        let bench = ready(DriverKind::Lvm);
        let driver = &bench.driver;
        let (plan, go_on) = (custom("c1", None), &mut || true);
        driver.ensure_volume(&plan).unwrap();
        path_io::write(data_of(&bench, &plan).join("file"), "mine").unwrap();
        let trees = driver.kept_trees(&plan.id).unwrap();
        trees.create("a", &kept(""), go_on).unwrap();
        let folder = driver.volume(&plan.id).unwrap().unwrap().folder;
        let before = names(&bench);
        // Killed while one was made, before and after its volume was.
        let group = bench.thin_pool().group;
        let tag = "keel:edge/pool-1";
        let cut_short = |path: PathBuf, name: &str, made: bool| {
            path_io::create_dir_all(path.parent().unwrap()).unwrap();
            path_io::write(&path, format!("{name}\n")).unwrap();
            if made {
                lvm("lvcreate", &["--yes", "--type", "thin", "--thinpool", "thin", "-V", "16m", "-n", name, "--addtag", tag, &group]);
            }
        };
        cut_short(bench.pool().join("volumes/.new-c2/volume.lv"), "keel_01", false);
        cut_short(bench.pool().join("volumes/.new-c3/volume.lv"), "keel_02", true);
        cut_short(folder.join("snapshots/.new-b/volume.lv"), "keel_03", true);
        cut_short(folder.join("volume.lv.next"), "keel_04", true);
        // Somebody's, which a file of ours names all the same.
        lvm("lvcreate", &["--yes", "--type", "thin", "--thinpool", "thin", "-V", "16m", "-n", "keel_05", &group]);
        cut_short(folder.join("snapshots/.gone-d/volume.lv"), "keel_05", false);
        driver.sweep().unwrap();
        let mut after = names(&bench);
        assert!(after.contains(&"keel_05".to_owned()), "{after:?}");
        after.retain(|name| name != "keel_05");
        assert_eq!(after, before);
        assert_eq!(text(data_of(&bench, &plan).join("file")), "mine");
        assert_eq!(text(trees.kept("a").unwrap().join("file")), "mine");
        driver.remove_volume(&plan.id).unwrap();
        let kept = driver.remove_pool().unwrap_err();
        assert!(matches!(&kept, StorageError::NotEmpty { what, .. } if what.contains("keel_05")), "{kept:?}");
        lvm("lvremove", &["--yes", &format!("{group}/keel_05")]);
        driver.remove_pool().unwrap();
        assert!(!bench.pool().exists() && !bench.keep.path().join("pool.lvm").exists());
    }
}

lvm_test! {
    fn a_mount_that_is_gone_is_put_back_and_a_volume_that_is_lost_is_told() {
        let bench = ready(DriverKind::Lvm);
        let (driver, plan) = (&bench.driver, custom("c1", Some(32 * MIB)));
        driver.ensure_volume(&plan).unwrap();
        path_io::write(data_of(&bench, &plan).join("file"), "mine").unwrap();
        driver.release(&plan.id).unwrap();
        let away = || {
            unmount(bench.pool(), UnmountFlags::NOFOLLOW).unwrap();
            lvm("vgchange", &["--yes", "--activate", "n", &bench.thin_pool().group]);
        };
        // As after a start of the host: no device is there, no volume is active.
        away();
        assert_eq!(driver.seen().unwrap(), PoolSeen::Unmounted);
        let refused = driver.volumes();
        assert!(matches!(refused, Err(StorageError::PoolUnmounted { .. })), "{refused:?}");
        assert_eq!(driver.ensure_pool(false).unwrap(), Ensured::Done);
        assert_eq!(text(data_of(&bench, &plan).join("file")), "mine");
        driver.release(&plan.id).unwrap();
        away();
        assert_eq!(text(data_of(&bench, &plan).join("file")), "mine", "whoever starts first mounts it");
        driver.release(&plan.id).unwrap();
        // Its file is lost: that is told, and no other takes its place.
        away();
        let (file, lost) = (bench.keep.path().join("pool.lvm"), bench.keep.path().join("lost"));
        path_io::rename(&file, &lost).unwrap();
        assert_eq!(driver.seen().unwrap(), PoolSeen::Missing);
        assert!(matches!(driver.ensure_pool(false), Err(StorageError::PoolMissing { .. })));
        assert!(!file.exists());
        path_io::rename(&lost, &file).unwrap();
        // Another pool's.
        let other = of(&bench, bench.thin_pool(), "other/pool");
        let foreign = other.ensure_pool(true);
        assert!(matches!(foreign, Err(StorageError::PoolUnmounted { .. } | StorageError::ForeignPool { .. })), "{foreign:?}");
        driver.ensure_pool(false).unwrap();
        assert_eq!(other.seen().unwrap(), PoolSeen::Foreign { owner: Some("edge/pool-1".to_owned()) });
        // By hand: another size, then nothing of it.
        let folder = driver.volume(&plan.id).unwrap().unwrap().folder;
        let volume = format!("{}/{}", bench.thin_pool().group, text(folder.join("volume.lv")).trim());
        lvm("lvextend", &["--yes", "--size", "48m", &volume]);
        assert_eq!(driver.volume(&plan.id).unwrap().unwrap().size, Some(48 * MIB));
        assert_eq!(driver.resize(&plan.id, plan.size).unwrap(), Ensured::Done);
        assert_eq!(text(data_of(&bench, &plan).join("file")), "mine");
        driver.release(&plan.id).unwrap();
        lvm("lvremove", &["--yes", &volume]);
        assert_eq!(driver.volume(&plan.id).unwrap().unwrap().size, Some(0));
        driver.place(&plan.id).unwrap_err();
        driver.remove_volume(&plan.id).unwrap();
        assert_eq!(driver.volumes().unwrap(), []);
    }
}

lvm_test! {
    fn the_file_of_a_pool_grows_while_it_is_used() {
        let bench = ready(DriverKind::Lvm);
        let total = |driver: &dyn StorageDriver| match driver.seen().unwrap() {
            PoolSeen::Ready { total, set, .. } => (total, set),
            other => panic!("{other:?}"),
        };
        let (before, set) = total(&*bench.driver);
        assert!((400 * MIB..512 * MIB).contains(&before), "{before}");
        assert_eq!(set, Some(512 * MIB));
        let file = bench.keep.path().join("pool.lvm");
        let bigger = on(&bench, GroupOn::LoopFile { file, size: 700 * MIB }, "edge/pool-1");
        assert_eq!(bigger.ensure_pool(false).unwrap(), Ensured::Done);
        assert_eq!(total(&*bigger), (before + 188 * MIB, Some(700 * MIB)));
        assert_eq!(bigger.ensure_pool(false).unwrap(), Ensured::Already);
        assert_eq!(bench.driver.ensure_pool(false).unwrap(), Ensured::Already, "it never gets smaller");
    }
}

lvm_test! {
    fn a_full_thin_pool_is_told_and_what_is_in_it_stays() {
        let bench = ready(DriverKind::Lvm);
        let driver = &bench.driver;
        let (plan, go_on) = (custom("c1", None), &mut || true);
        driver.ensure_volume(&plan).unwrap();
        let data = data_of(&bench, &plan);
        path_io::write(data.join("file"), "mine").unwrap();
        let trees = driver.kept_trees(&plan.id).unwrap();
        // Each may hold as much as the pool has.
        let other = custom("c3", None);
        driver.ensure_volume(&other).unwrap();
        rustix::fs::sync();
        for folder in [data, data_of(&bench, &other)] {
            let open = std::fs::File::create(folder.join("big")).unwrap();
            let chunk = vec![7; 4 << 20];
            let write = |_| std::io::Write::write_all(&mut &open, &chunk).and_then(|()| open.sync_data());
            (0..75).try_for_each(write).err();
        }
        let is_full = |found: Result<(), StorageError>| {
            assert!(matches!(&found, Err(StorageError::PoolFull { what: "data", .. })), "{found:?}");
        };
        is_full(driver.ensure_volume(&custom("c2", Some(32 * MIB))).map(|_| ()));
        is_full(trees.create("a", &kept(""), go_on));
        assert_eq!(driver.volumes().unwrap().len(), 2, "nothing half-done is left");
        driver.remove_volume(&other.id).unwrap();
        // It can be thrown away all the same, and what it held is whole.
        driver.trash(&entry(&plan, "uid-7")).unwrap();
        driver.untrash("uid-7").unwrap();
        driver.end_untrash("uid-7").unwrap();
        let data = data_of(&bench, &plan);
        assert_eq!(text(data.join("file")), "mine");
        driver.remove_volume(&plan.id).unwrap();
        driver.ensure_volume(&custom("c2", Some(32 * MIB))).unwrap();
    }
}

lvm_test! {
    fn a_device_is_taken_only_if_nobody_has_it() {
        let bench = bench(DriverKind::Lvm);
        let shown = device(&bench, "device", 256 * MIB);
        let path = shown.path.clone();
        command::run("mke2fs", ["-q", "-F", path.to_str().unwrap()], None).unwrap();
        let of = |wipe, mark| on(&bench, GroupOn::Device { device: path.clone(), wipe }, mark);
        let held = of(false, "a").ensure_pool(true);
        assert!(matches!(&held, Err(StorageError::DeviceHolds { found, .. }) if found.contains("ext2")), "{held:?}");
        assert!(matches!(of(true, "a").ensure_pool(false), Err(StorageError::PoolMissing { .. })), "what held something is not wiped");
        assert_eq!(of(true, "a").ensure_pool(true).unwrap(), Ensured::Done);
        of(true, "a").ensure_volume(&root("u1", Some(64 * MIB))).unwrap();
        assert!(matches!(of(true, "b").ensure_pool(true), Err(StorageError::ForeignPool { .. })));
        assert_eq!(of(true, "a").ensure_pool(true).unwrap(), Ensured::Done, "mounted again, and not wiped");
        assert_eq!(of(true, "a").volumes().unwrap().len(), 1);
        of(true, "a").remove_volume(&root("u1", None).id).unwrap();
        assert_eq!(of(false, "a").remove_pool().unwrap(), Ensured::Done);
        // It is empty, and can be somebody's, who is not asked to leave.
        lvm("vgcreate", &["--yes", "somebodys-own", path.to_str().unwrap()]);
        let held = of(false, "b").ensure_pool(true);
        assert!(matches!(&held, Err(StorageError::DeviceHolds { found, .. }) if found.contains("LVM2_member")), "{held:?}");
        // A pool of another mark is not wiped either, whatever is said.
        lvm("vgchange", &["--yes", "--addtag", "keel:another", "somebodys-own"]);
        let foreign = of(true, "b").ensure_pool(true);
        assert!(matches!(&foreign, Err(StorageError::ForeignPool { owner, .. }) if owner == "another"), "{foreign:?}");
        lvm("vgremove", &["--yes", "somebodys-own"]);
    }
}

lvm_test! {
    fn of_a_group_of_somebody_only_what_is_ours_is_touched() {
        let bench = bench(DriverKind::Lvm);
        let shown = device(&bench, "device", 256 * MIB);
        let thin_pool = |name: &str, own| ThinPoolPlan {
            thin_pool: name.to_owned(),
            on: GroupOn::Somebodys { thin_pool: own },
            ..bench.thin_pool()
        };
        let group = bench.thin_pool().group;
        let missing = of(&bench, thin_pool("thin", None), "a").ensure_pool(true);
        assert!(matches!(missing, Err(StorageError::NoGroup { .. })), "{missing:?}");
        lvm("vgcreate", &["--yes", &group, shown.path.to_str().unwrap()]);
        let taken = of(&bench, bench.thin_pool(), "a").ensure_pool(true);
        assert!(matches!(taken, Err(StorageError::GroupTaken { .. })), "{taken:?}");
        let no_pool = of(&bench, thin_pool("nope", None), "a").ensure_pool(true);
        assert!(matches!(no_pool, Err(StorageError::NoThinPool { .. })), "{no_pool:?}");
        let no_room = of(&bench, thin_pool("mine", Some(1 << 40)), "a").ensure_pool(true);
        assert!(matches!(no_room, Err(StorageError::NoRoom { .. })), "{no_room:?}");
        lvm("lvcreate", &["--yes", "-Wn", "-Zn", "-L", "8m", "-n", "precious", &group]);
        lvm("lvcreate", &["--yes", "--type", "thin-pool", "-L", "64m", "-n", "data", &group]);
        lvm("lvcreate", &["--yes", "--type", "thin", "--thinpool", "data", "-V", "16m", "-n", "theirs", &group]);
        let taken = of(&bench, thin_pool("precious", Some(32 * MIB)), "a").ensure_pool(true);
        assert!(matches!(taken, Err(StorageError::VolumeTaken { .. })), "{taken:?}");
        let before = names(&bench);
        for plan in [thin_pool("data", None), thin_pool("keel_thin_1", Some(64 * MIB))] {
            let pool = of(&bench, plan, "a");
            assert_eq!(pool.ensure_pool(true).unwrap(), Ensured::Done);
            pool.ensure_volume(&root("u1", Some(32 * MIB))).unwrap();
            assert!(matches!(pool.place(&root("u1", None).id).unwrap(), Placed::Root { .. }));
            assert_eq!(pool.volumes().unwrap()[0].size, Some(32 * MIB));
            pool.release(&root("u1", None).id).unwrap();
            pool.remove_volume(&root("u1", None).id).unwrap();
            assert_eq!(pool.remove_pool().unwrap(), Ensured::Done);
            assert_eq!(names(&bench), before);
        }
        lvm("vgremove", &["--yes", "--force", &group]);
    }
}

lvm_test! {
    fn an_xfs_is_kept_grown_and_gone_back_to_and_is_mounted_as_asked() {
        let bench = ready(DriverKind::Lvm);
        let (driver, go_on) = (&bench.driver, &mut || true);
        let plan = VolumePlan {
            own: OwnFiles { kind: FileSystem::Xfs, mount_options: Some("noatime,logbufs=4".to_owned()) },
            ..custom("c1", Some(300 * MIB))
        };
        let small = driver.ensure_volume(&VolumePlan { size: Some(64 * MIB), ..plan.clone() });
        assert!(matches!(small, Err(StorageError::TooSmall { .. })), "{small:?}");
        assert_eq!(names(&bench).len(), 2, "nothing is left of it: {:?}", names(&bench));
        driver.ensure_volume(&plan).unwrap();
        let data = data_of(&bench, &plan);
        let mounted = |at: &std::path::Path| {
            let table = mount_table::read().unwrap();
            let found = table.iter().rev().find(|mount| at.starts_with(&mount.mount_point)).unwrap();
            let lines = text("/proc/self/mounts");
            let point = found.mount_point.display().to_string();
            let line = lines.lines().find(|line| line.split(' ').nth(1) == Some(point.as_str())).unwrap();
            (found.filesystem.clone(), line.to_owned())
        };
        let (kind, line) = mounted(&data);
        assert!(kind == "xfs" && line.contains("noatime") && line.contains("logbufs=4"), "{line}");
        assert_eq!(driver.volume(&plan.id).unwrap().unwrap().own, plan.own);
        let trees = driver.kept_trees(&plan.id).unwrap();
        path_io::write(data.join("file"), "one").unwrap();
        trees.create("a", &kept(""), go_on).unwrap();
        path_io::write(data.join("file"), "two").unwrap();
        // It grows while it is used, and what was kept is read beside it.
        let blocks = || rustix::fs::statvfs(&data).unwrap().f_blocks;
        let before = blocks();
        assert_eq!(driver.resize(&plan.id, Some(320 * MIB)).unwrap(), Ensured::Done);
        assert_eq!((blocks() - before) * 4096, 20 * MIB);
        assert_eq!(text(trees.kept("a").unwrap().join("file")), "one");
        assert_eq!(mounted(&trees.kept("a").unwrap()).0, "xfs");
        driver.release(&plan.id).unwrap();
        trees.revert("a", go_on).unwrap();
        assert_eq!(driver.volume(&plan.id).unwrap().unwrap().size, Some(320 * MIB));
        assert_eq!(text(data_of(&bench, &plan).join("file")), "one");
        driver.release(&plan.id).unwrap();
        assert_eq!(driver.resize(&plan.id, Some(340 * MIB)).unwrap(), Ensured::Done);
        let shrunk = driver.resize(&plan.id, Some(310 * MIB));
        assert!(matches!(shrunk, Err(StorageError::Shrinks { .. })), "{shrunk:?}");
        // What comes from elsewhere is kept in one, too.
        let place = trees.prepare("d").unwrap();
        path_io::ensure_dir(&place).unwrap();
        path_io::write(place.join("file"), "far").unwrap();
        trees.complete("d", &kept("")).unwrap();
        trees.revert("d", go_on).unwrap();
        // Other options count when it is mounted the next time.
        assert_eq!(driver.set_mount_options(&plan.id, None).unwrap(), Ensured::Done);
        assert_eq!(driver.set_mount_options(&plan.id, None).unwrap(), Ensured::Already);
        let data = data_of(&bench, &plan);
        assert_eq!(text(data.join("file")), "far");
        assert!(!mounted(&data).1.contains("noatime"));
        driver.remove_volume(&plan.id).unwrap();
        assert_eq!(names(&bench).len(), 2, "{:?}", names(&bench));
    }
}
