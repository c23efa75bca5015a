//! What only pools of zfs do: limits in place, snapshots that outlive each other, what they stand on, and what somebody does to
//! them by hand. They are tried where there is a zfs: in the guest of `tests/guest.sh --zfs`.

use std::path::{Path, PathBuf};

use manifests::path_io;
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};

use super::conformance::{Bench, MIB, bench, custom, entry, has_zfs, root};
use super::conformance_tools::{data_of, kept, ready};
use super::*;
use crate::sys::{command, loop_device, mount_table};

/// A test on the kernel that has what it needs.
macro_rules! zfs_test {
    ($(#[$attribute:meta])* fn $name:ident() $body:block) => {
        crate::host_test! {
            $(#[$attribute])*
            fn $name() {
                if has_zfs() $body
            }
        }
    };
}

fn on(bench: &Bench, dataset: DatasetPlan, mark: &str) -> Box<dyn StorageDriver> {
    let plan = bench.plan(mark);
    let backing = Backing::Dataset(dataset);
    open(DriverKind::Zfs, PoolPlan { backing, ..plan })
}

fn somebodys(bench: &Bench, name: &str, mark: &str) -> Box<dyn StorageDriver> {
    let (name, on_what) = (name.to_owned(), ZpoolOn::Somebodys);
    on(bench, DatasetPlan { name, on: on_what }, mark)
}

fn program(program: &str, words: &[&str]) -> String {
    let out = command::run(program, words, None).unwrap();
    String::from_utf8(out).unwrap()
}

/// What a pool has made in its dataset, snapshots too.
fn made(name: &str) -> Vec<String> {
    let all = program(
        "zfs",
        &["list", "-Hp", "-o", "name", "-t", "all", "-r", name],
    );
    let all = all.lines().filter_map(|line| line.strip_prefix(name));
    all.filter(|leaf| !leaf.is_empty())
        .map(str::to_owned)
        .collect()
}

/// What no compression makes smaller.
fn noise(bytes: u64) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let words = (0..MIB / 8).flat_map(|_| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    });
    let block: Vec<u8> = words.collect();
    let mut all = block.repeat(usize::try_from(bytes.div_ceil(MIB)).unwrap());
    all.truncate(usize::try_from(bytes).unwrap());
    all
}

zfs_test! {
    fn limits_hold_and_change_while_it_is_used() {
        let bench = ready(DriverKind::Zfs);
        let driver = &bench.driver;
        let plan = root("u1", Some(32 * MIB));
        driver.ensure_volume(&plan).unwrap();
        let file = data_of(&bench, &plan).join("big");
        let fill = |bytes: u64| path_io::write(&file, noise(bytes));
        let full = fill(40 * MIB).unwrap_err();
        assert_eq!(full.raw_os_error(), Some(libc::EDQUOT));
        let holder = std::fs::File::open(&file).unwrap();
        assert!(matches!(driver.release(&plan.id), Err(StorageError::InUse(_))));
        assert_eq!(driver.resize(&plan.id, Some(96 * MIB)).unwrap(), Ensured::Done);
        assert_eq!(driver.resize(&plan.id, Some(96 * MIB)).unwrap(), Ensured::Already);
        fill(40 * MIB).unwrap();
        assert!(matches!(driver.resize(&plan.id, Some(20 * MIB)), Err(StorageError::DoesNotFit { .. })));
        assert_eq!(driver.resize(&plan.id, Some(64 * MIB)).unwrap(), Ensured::Done);
        fill(80 * MIB).unwrap_err();
        assert_eq!(driver.resize(&plan.id, None).unwrap(), Ensured::Done);
        let size = || driver.volume(&plan.id).unwrap().unwrap().size;
        assert_eq!(size(), None);
        fill(80 * MIB).unwrap();
        fill(10 * MIB).unwrap();
        assert_eq!(driver.resize(&plan.id, Some(30_000_000)).unwrap(), Ensured::Done);
        assert_eq!(size(), Some(30_000_000));
        let used = driver.used(&plan.id).unwrap();
        assert!((10 * MIB..20 * MIB).contains(&used), "{used}");
        assert!(matches!(driver.resize(&plan.id, Some(1)), Err(StorageError::TooSmall { .. })));
        assert!(matches!(driver.ensure_volume(&root("u2", Some(1))), Err(StorageError::TooSmall { .. })));
        assert_eq!(driver.volumes().unwrap().len(), 1, "nothing half-done is left");
        let name = bench.dataset().name;
        assert_eq!(made(&name).len(), 1);
        // By hand: another limit, then none.
        let tree = format!("{name}{}", made(&name)[0]);
        program("zfs", &["set", "refquota=50M", &tree]);
        assert_eq!(size(), Some(50 * MIB));
        program("zfs", &["set", "refquota=none", &tree]);
        assert!(size().unwrap() > 300 * MIB, "as big as the pool");
        assert_eq!(driver.resize(&plan.id, plan.size).unwrap(), Ensured::Done);
        assert_eq!(size(), plan.size);
        drop(holder);
        driver.remove_volume(&plan.id).unwrap();
        assert_eq!(made(&name), [""; 0]);
    }
}

zfs_test! {
    fn one_goes_back_to_any_snapshot_and_loses_none() {
        let bench = ready(DriverKind::Zfs);
        let (driver, name) = (&bench.driver, bench.dataset().name);
        for plan in [root("u1", Some(64 * MIB)), custom("c1", None)] {
            driver.ensure_volume(&plan).unwrap();
            let go_on = &mut || true;
            let trees = driver.kept_trees(&plan.id).unwrap();
            assert!(!trees.needs_stillness());
            let write = |text: &str| path_io::write(data_of(&bench, &plan).join("file"), text).unwrap();
            let now = || path_io::read_to_string(data_of(&bench, &plan).join("file")).unwrap();
            for word in ["one", "two", "three"] {
                write(word);
                trees.create(word, &kept(word), go_on).unwrap();
            }
            assert!(matches!(trees.create("two", &kept("x"), go_on), Err(StorageError::SnapshotExists(_))));
            write("four");
            let read = |snapshot: &str| path_io::read_to_string(trees.kept(snapshot).unwrap().join("file")).unwrap();
            assert_eq!((read("one"), read("three"), now()), ("one".to_owned(), "three".to_owned(), "four".to_owned()));
            path_io::write(trees.kept("one").unwrap().join("file"), "x").unwrap_err();
            // A copy for who makes a backup.
            let passing = trees.pass(go_on).unwrap().at;
            write("five");
            assert_eq!(path_io::read_to_string(passing.join("file")).unwrap(), "four");
            trees.passed().unwrap();
            let holder = std::fs::File::open(data_of(&bench, &plan).join("file")).unwrap();
            assert!(matches!(trees.revert("one", go_on), Err(StorageError::InUse(_))));
            assert_eq!(now(), "five", "a refusal changes nothing");
            drop(holder);
            driver.release(&plan.id).unwrap();
            for (word, datasets) in [("one", 2), ("three", 2), ("two", 2)] {
                trees.revert(word, go_on).unwrap();
                assert_eq!(now(), word);
                assert_eq!(driver.volume(&plan.id).unwrap().unwrap().size, plan.size);
                assert_eq!(trees.all().unwrap().len(), 3);
                driver.release(&plan.id).unwrap();
                let all = made(&name);
                assert_eq!(all.iter().filter(|leaf| !leaf.contains('@')).count(), datasets, "{all:?}");
            }
            // One of what it became.
            write("six");
            trees.create("six", &kept("six"), go_on).unwrap();
            driver.release(&plan.id).unwrap();
            trees.revert("three", go_on).unwrap();
            assert_eq!((now(), read("six"), read("one")), ("three".to_owned(), "six".to_owned(), "one".to_owned()));
            trees.rename("six", "seven").unwrap();
            assert_eq!(read("seven"), "six");
            // It comes out of the trash with all of them.
            let told = entry(&plan, "uid-7");
            driver.trash(&told).unwrap();
            assert!(driver.used_in_trash("uid-7").unwrap().unwrap() > 64 << 10);
            driver.untrash("uid-7").unwrap();
            driver.end_untrash("uid-7").unwrap();
            let trees = driver.kept_trees(&plan.id).unwrap();
            let read = |snapshot: &str| path_io::read_to_string(trees.kept(snapshot).unwrap().join("file")).unwrap();
            assert_eq!((now(), read("seven"), read("two")), ("three".to_owned(), "six".to_owned(), "two".to_owned()));
            // Each that nobody keeps goes, also where what is there now came of it.
            for gone in ["one", "three", "seven", "two"] {
                trees.delete(gone).unwrap();
                assert_eq!(now(), "three");
            }
            assert!(matches!(trees.delete("one"), Err(StorageError::NoSnapshot(_))));
            let left = made(&name);
            assert_eq!(left.len(), 1, "no dataset and no snapshot is left: {left:?}");
            driver.remove_volume(&plan.id).unwrap();
            assert_eq!(made(&name), [""; 0]);
        }
    }
}

zfs_test! {
    fn a_volume_goes_with_all_that_it_was() {
        let bench = ready(DriverKind::Zfs);
        let (driver, name) = (&bench.driver, bench.dataset().name);
        let (plan, go_on) = (custom("c1", None), &mut || true);
        driver.ensure_volume(&plan).unwrap();
        let trees = driver.kept_trees(&plan.id).unwrap();
        for word in ["one", "two", "three"] {
            path_io::write(data_of(&bench, &plan).join("file"), word).unwrap();
            trees.create(word, &kept(word), go_on).unwrap();
            driver.release(&plan.id).unwrap();
            trees.revert("one", go_on).unwrap();
        }
        // One that came from elsewhere, with its files.
        let place = trees.prepare("given").unwrap();
        path_io::create_dir_all(&place).unwrap();
        path_io::write(place.join("file"), "given").unwrap();
        trees.complete("given", &kept("given")).unwrap();
        assert_eq!(path_io::read_to_string(trees.kept("given").unwrap().join("file")).unwrap(), "given");
        driver.release(&plan.id).unwrap();
        trees.revert("given", go_on).unwrap();
        assert_eq!(path_io::read_to_string(data_of(&bench, &plan).join("file")).unwrap(), "given");
        assert!(made(&name).len() > 5, "{:?}", made(&name));
        // Killed while it went back.
        driver.release(&plan.id).unwrap();
        let record = driver.volumes().unwrap()[0].folder.join("datasets.json");
        let text = path_io::read_to_string(&record).unwrap();
        let next = "\"next\": \"keel_0123\",\n  \"past\"";
        path_io::write(&record, text.replacen("\"past\"", next, 1)).unwrap();
        program("zfs", &["create", &format!("{name}/keel_0123")]);
        driver.sweep().unwrap();
        assert!(!made(&name).contains(&"/keel_0123".to_owned()));
        assert_eq!(path_io::read_to_string(data_of(&bench, &plan).join("file")).unwrap(), "given");
        // What somebody made of one is his, and is in the way.
        let snapshot = made(&name).into_iter().find(|leaf| leaf.contains('@')).unwrap();
        program("zfs", &["clone", &format!("{name}{snapshot}"), &format!("{name}/somebodys")]);
        driver.release(&plan.id).unwrap();
        driver.remove_volume(&plan.id).unwrap_err();
        assert!(made(&name).contains(&"/somebodys".to_owned()));
        program("zfs", &["destroy", &format!("{name}/somebodys")]);
        driver.sweep().unwrap();
        assert_eq!(made(&name), [""; 0]);
    }
}

zfs_test! {
    fn a_mount_that_is_gone_is_put_back_and_never_made_anew() {
        let bench = ready(DriverKind::Zfs);
        let (driver, plan, name) = (&bench.driver, custom("c1", None), bench.dataset().name);
        driver.ensure_volume(&plan).unwrap();
        path_io::write(data_of(&bench, &plan).join("file"), "mine").unwrap();
        let away = || {
            for mount in mount_table::at_or_below(&bench.pool()).unwrap() {
                unmount(&mount.mount_point, UnmountFlags::NOFOLLOW).unwrap();
            }
        };
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
        assert_eq!(path_io::list(bench.pool()).unwrap(), Vec::<PathBuf>::new());
        let file = || path_io::read_to_string(data_of(&bench, &plan).join("file")).unwrap();
        assert_eq!(driver.ensure_pool(false).unwrap(), Ensured::Done);
        assert_eq!(file(), "mine");
        // As after a start of the host: whoever starts first imports and mounts it.
        away();
        program("zpool", &["export", &name]);
        assert_eq!(driver.seen().unwrap(), PoolSeen::Unmounted);
        assert_eq!(file(), "mine");
        // Something else lies there.
        away();
        mount("none", bench.pool(), "tmpfs", MountFlags::empty(), None).unwrap();
        assert!(matches!(driver.seen(), Err(StorageError::Remove(_))));
        driver.ensure_pool(true).unwrap_err();
        away();
        assert_eq!(file(), "mine");
        // What another pool holds is its own.
        let other = on(&bench, bench.dataset(), "other/pool");
        assert_eq!(other.seen().unwrap(), PoolSeen::Foreign { owner: Some("edge/pool-1".to_owned()) });
        assert!(matches!(other.remove_pool(), Err(StorageError::ForeignPool { .. })));
        away();
        assert!(matches!(other.ensure_pool(true), Err(StorageError::ForeignPool { .. })));
        program("zpool", &["export", &name]);
        assert!(matches!(other.ensure_pool(true), Err(StorageError::ForeignPool { .. })));
        let imported = program("zpool", &["list", "-H", "-o", "name"]);
        assert!(!imported.contains(&name), "it is left as it was: {imported}");
        // The file is lost: that is told, and no other takes its place.
        let (path, lost) = (bench.keep.path().join("pool.zfs"), bench.keep.path().join("lost"));
        path_io::rename(&path, &lost).unwrap();
        assert_eq!(driver.seen().unwrap(), PoolSeen::Missing);
        assert!(matches!(driver.ensure_pool(false), Err(StorageError::PoolMissing { .. })));
        assert!(!path.exists());
        path_io::write(&path, noise(65536)).unwrap();
        assert!(matches!(driver.ensure_pool(false), Err(StorageError::Broken { .. })));
        path_io::rename(&lost, &path).unwrap();
        assert_eq!(file(), "mine");
        // One whose dataset somebody destroyed says so and can be removed.
        driver.release(&plan.id).unwrap();
        program("zfs", &["destroy", &format!("{name}{}", made(&name)[0])]);
        assert_eq!(driver.volume(&plan.id).unwrap().unwrap().size, Some(0));
        assert_eq!(driver.placed(&plan.id), None);
        assert!(matches!(driver.place(&plan.id), Err(StorageError::NoVolume(_))));
        assert_eq!(driver.remove_volume(&plan.id).unwrap(), Ensured::Done);
        // What somebody made in it is his.
        program("zfs", &["create", &format!("{name}/somebodys")]);
        assert!(matches!(driver.remove_pool(), Err(StorageError::NotEmpty { .. })));
        program("zfs", &["destroy", &format!("{name}/somebodys")]);
        driver.ensure_pool(true).unwrap();
        away();
        // An empty one is removed also where it is not mounted.
        program("zpool", &["export", &name]);
        assert_eq!(driver.remove_pool().unwrap(), Ensured::Done);
        assert!(!path.exists() && !bench.pool().exists());
    }
}

zfs_test! {
    fn the_file_of_a_pool_grows_while_it_is_used() {
        let bench = ready(DriverKind::Zfs);
        let total = |driver: &dyn StorageDriver| match driver.seen().unwrap() {
            PoolSeen::Ready { total, set, .. } => (total, set),
            other => panic!("{other:?}"),
        };
        let (before, set) = total(&*bench.driver);
        assert_eq!(set, Some(768 * MIB));
        let file = bench.keep.path().join("pool.zfs");
        let plan = DatasetPlan { on: ZpoolOn::File { file: file.clone(), size: 1024 * MIB }, ..bench.dataset() };
        let bigger = on(&bench, plan, "edge/pool-1");
        // Killed between the file and the zpool.
        std::fs::File::options().write(true).open(&file).unwrap().set_len(1024 * MIB).unwrap();
        assert_eq!(bigger.ensure_pool(false).unwrap(), Ensured::Done);
        let (after, set) = total(&*bigger);
        assert_eq!(set, Some(1024 * MIB));
        assert!(after > before + 150 * MIB, "{before} {after}");
        assert_eq!(bigger.ensure_pool(false).unwrap(), Ensured::Already);
        assert_eq!(bench.driver.ensure_pool(false).unwrap(), Ensured::Already, "it never gets smaller");
        assert_eq!(total(&*bigger).1, Some(1024 * MIB));
    }
}

zfs_test! {
    fn a_zpool_or_device_of_somebody_is_not_taken() {
        let bench = bench(DriverKind::Zfs);
        let (dataset, name) = (bench.dataset(), bench.dataset().name);
        let own = bench.keep.path().join("somebodys");
        std::fs::File::create_new(&own).unwrap().set_len(256 * MIB).unwrap();
        program("zpool", &["create", "-m", "none", "-o", "cachefile=none", &name, own.to_str().unwrap()]);
        assert!(matches!(bench.driver.ensure_pool(true), Err(StorageError::ZpoolTaken { .. })));
        assert!(matches!(bench.driver.remove_pool(), Ok(Ensured::Already)));
        assert_eq!(made(&name), [""; 0]);
        program("zpool", &["destroy", &name]);
        let file = bench.keep.path().join("device");
        let open = std::fs::File::create_new(&file).unwrap();
        open.set_len(512 * MIB).unwrap();
        command::run("mke2fs", ["-q", "-F", file.to_str().unwrap()], None).unwrap();
        let open = std::fs::File::options().read(true).write(true).open(&file).unwrap();
        let shown = loop_device::attach(&open).unwrap();
        let of = |wipe, mark| {
            let device = ZpoolOn::Device { device: shown.path.clone(), wipe };
            on(&bench, DatasetPlan { on: device, ..dataset.clone() }, mark)
        };
        let held = of(false, "a").ensure_pool(true);
        assert!(matches!(&held, Err(StorageError::DeviceHolds { found, .. }) if found.contains("ext")), "{held:?}");
        of(true, "a").ensure_pool(false).unwrap_err();
        assert_eq!(of(true, "a").ensure_pool(true).unwrap(), Ensured::Done);
        of(true, "a").ensure_volume(&root("u1", Some(64 * MIB))).unwrap();
        assert!(matches!(of(true, "b").ensure_pool(true), Err(StorageError::ForeignPool { .. })));
        program("zpool", &["export", &name]);
        let another = DatasetPlan {
            name: "keel-another".to_owned(),
            on: ZpoolOn::Device { device: shown.path.clone(), wipe: true },
        };
        let refused = on(&bench, another, "c").ensure_pool(true);
        assert!(matches!(refused, Err(StorageError::ForeignPool { .. })), "{refused:?}");
        assert_eq!(of(true, "a").ensure_pool(true).unwrap(), Ensured::Done, "imported again");
        assert_eq!(of(true, "a").volumes().unwrap().len(), 1, "and not wiped");
        of(true, "a").remove_volume(&root("u1", None).id).unwrap();
        assert_eq!(of(false, "a").remove_pool().unwrap(), Ensured::Done);
        // It is empty, and can be another's.
        assert_eq!(of(false, "b").ensure_pool(true).unwrap(), Ensured::Done);
        assert_eq!(of(false, "b").remove_pool().unwrap(), Ensured::Done);
    }
}

zfs_test! {
    fn a_dataset_in_somebodys_zpool_is_a_pool_and_nothing_beside_it_is_touched() {
        let bench = bench(DriverKind::Zfs);
        // Removed with the bench.
        let tank = bench.dataset().name;
        let file = bench.keep.path().join("tank");
        std::fs::File::create_new(&file).unwrap().set_len(512 * MIB).unwrap();
        let mounted = bench.keep.path().join("mounted");
        let shown = mounted.to_str().unwrap();
        let away = somebodys(&bench, &format!("{tank}/keel"), "a");
        assert_eq!(away.seen().unwrap(), PoolSeen::Missing);
        assert!(matches!(away.ensure_pool(true), Err(StorageError::NoZpool { .. })));
        assert_eq!(path_io::read_to_string(bench.pool()).ok(), None);
        program("zpool", &["create", "-o", "cachefile=none", "-m", shown, &tank, file.to_str().unwrap()]);
        path_io::write(mounted.join("precious"), "data").unwrap();
        program("zfs", &["create", &format!("{tank}/other")]);
        program("zfs", &["snapshot", &format!("{tank}/other@kept")]);
        let properties = || program("zfs", &["get", "-Hp", "-s", "local,received", "-o", "name,property,value", "-r", "all", &tank]);
        let before = (made(&tank), properties());
        for (held, what) in [(tank.clone(), "other"), (format!("{tank}/other"), "kept")] {
            let refused = somebodys(&bench, &held, "a").ensure_pool(true).unwrap_err();
            assert!(matches!(&refused, StorageError::ForeignPool { owner, .. } if owner.contains(what)), "{refused:?}");
        }
        program("zfs", &["create", &format!("{tank}/full")]);
        path_io::write(mounted.join("full/precious"), "data").unwrap();
        let refused = somebodys(&bench, &format!("{tank}/full"), "a").ensure_pool(true).unwrap_err();
        assert!(matches!(&refused, StorageError::ForeignPool { owner, .. } if owner.contains("precious")), "{refused:?}");
        assert_eq!(path_io::read_to_string(mounted.join("full/precious")).unwrap(), "data");
        program("zfs", &["destroy", &format!("{tank}/full")]);
        // One that is made, and one that somebody has made for it.
        for given in [false, true] {
            let name = format!("{tank}/keel");
            if given {
                program("zfs", &["create", "-o", &format!("mountpoint={shown}/elsewhere"), &name]);
            }
            let pool = somebodys(&bench, &name, "a");
            assert_eq!(pool.ensure_pool(true).unwrap(), Ensured::Done);
            assert_eq!(pool.ensure_pool(false).unwrap(), Ensured::Already);
            assert!(matches!(somebodys(&bench, &name, "b").ensure_pool(true), Err(StorageError::ForeignPool { .. })));
            assert_eq!(pool.ensure_pool(false).unwrap(), Ensured::Done, "mounted again");
            // What lies in a pool is no pool of another's.
            let inner = bench.keep.path().join("inner");
            let inside = open(DriverKind::Zfs, PoolPlan {
                folder: inner,
                mark: "b".to_owned(),
                backing: Backing::Dataset(DatasetPlan { name: format!("{name}/x"), on: ZpoolOn::Somebodys }),
                mount_options: None,
            });
            pool.ensure_volume(&root("u1", Some(64 * MIB))).unwrap();
            assert_eq!(inside.seen().unwrap(), PoolSeen::Missing);
            assert!(matches!(pool.remove_pool(), Err(StorageError::NotEmpty { .. })));
            pool.remove_volume(&root("u1", None).id).unwrap();
            assert_eq!(pool.remove_pool().unwrap(), Ensured::Done);
            if given {
                assert_eq!(program("zfs", &["get", "-Hp", "-o", "value,source", "mountpoint", &name]).trim(), format!("{shown}/elsewhere\tlocal"));
                program("zfs", &["destroy", &name]);
            }
            assert_eq!((made(&tank), properties()), before);
        }
        // One whose key is not there.
        let key = bench.keep.path().join("key");
        path_io::write(&key, "correct horse battery").unwrap();
        let (name, location) = (format!("{tank}/keel"), format!("keylocation=file://{}", key.display()));
        program("zfs", &["create", "-o", "encryption=on", "-o", "keyformat=passphrase", "-o", &location, &name]);
        let pool = somebodys(&bench, &name, "a");
        pool.ensure_pool(true).unwrap();
        unmount(bench.pool(), UnmountFlags::NOFOLLOW).unwrap();
        program("zfs", &["unload-key", &name]);
        let locked = pool.ensure_pool(false).unwrap_err();
        assert!(locked.to_string().contains(&format!("zfs load-key {name}")), "{locked:?}");
        program("zfs", &["load-key", &name]);
        assert_eq!(pool.ensure_pool(false).unwrap(), Ensured::Done);
        assert_eq!(pool.remove_pool().unwrap(), Ensured::Done);
        assert_eq!(path_io::read_to_string(mounted.join("precious")).unwrap(), "data");
        assert!(Path::new(shown).exists());
    }
}
