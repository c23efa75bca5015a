//! What every storage driver has to do, run on each of them, on the real kernel.

use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

use manifests::path_io;
use rustix::mount::{MountFlags, UnmountFlags, mount, mount_bind, unmount};

use super::*;
use crate::native::image::{ImageSource, ImageStore};
use crate::sys::beneath::{self, FileFound, FileToWrite};
use crate::sys::remove_tree::RemoveTreeError;
use crate::sys::{command, loop_device, mount_table};
use crate::testing::host;

/// One line a driver.
const DRIVERS: &[DriverKind] = &[
    DriverKind::Dir,
    DriverKind::Btrfs,
    DriverKind::Lvm,
    DriverKind::Zfs,
];
/// Drivers that take whatever file system their folder lies in.
pub(super) const ON_ANYTHING: &[DriverKind] = &[DriverKind::Dir];

pub(super) const MIB: u64 = 1 << 20;

pub(super) struct Bench {
    pub(super) keep: tempfile::TempDir,
    kind: DriverKind,
    pub(super) driver: Box<dyn StorageDriver>,
}

impl Bench {
    pub(super) fn pool(&self) -> PathBuf {
        self.keep.path().join("pool")
    }
    /// The file that a pool of btrfs stands on.
    pub(super) fn file(&self) -> PathBuf {
        self.keep.path().join("pool.btrfs")
    }
    pub(super) fn plan(&self, mark: &str) -> PoolPlan {
        PoolPlan {
            folder: self.pool(),
            mark: mark.to_owned(),
            mount_options: None,
            backing: match self.kind {
                DriverKind::Dir => Backing::Folder,
                DriverKind::Btrfs => Backing::LoopFile {
                    file: self.file(),
                    size: 512 * MIB,
                },
                DriverKind::Lvm => Backing::ThinPool(self.thin_pool()),
                DriverKind::Zfs => Backing::Dataset(self.dataset()),
            },
        }
    }
    /// The dataset that a pool of zfs is.
    pub(super) fn dataset(&self) -> DatasetPlan {
        let name = self.keep.path().file_name().unwrap().to_string_lossy();
        DatasetPlan {
            name: format!("keel-{}", name.trim_start_matches('.')),
            on: ZpoolOn::File {
                file: self.keep.path().join("pool.zfs"),
                size: 768 * MIB,
            },
        }
    }
    /// A volume group of a name that no other test has.
    pub(super) fn thin_pool(&self) -> ThinPoolPlan {
        let name = self.keep.path().file_name().unwrap().to_string_lossy();
        ThinPoolPlan {
            group: format!("keel_{}", name.trim_start_matches('.')),
            thin_pool: "thin".to_owned(),
            metadata: None,
            on: GroupOn::LoopFile {
                file: self.keep.path().join("pool.lvm"),
                size: 512 * MIB,
            },
        }
    }
    fn other(&self, mark: &str) -> Box<dyn StorageDriver> {
        open(self.kind, self.plan(mark))
    }
    /// Whether volumes with a size have a file system of their own.
    fn has_own(&self) -> bool {
        matches!(
            self.driver.features().sized,
            Sized::LoopExt4 | Sized::LogicalVolume
        )
    }
    /// The same of one volume.
    fn own(&self, plan: &VolumePlan) -> Option<()> {
        let always = matches!(self.kind, DriverKind::Lvm | DriverKind::Zfs);
        (always || self.has_own() && plan.size.is_some()).then_some(())
    }
    /// Whether disks of machines are on a file system of their own.
    pub(super) fn has_homes(&self) -> bool {
        self.kind == DriverKind::Lvm
    }
    /// Bytes that an empty disk takes at the most: zfs writes whole records, where nothing makes them smaller.
    pub(super) fn empty_disk(&self) -> u64 {
        match self.kind {
            DriverKind::Zfs => 512 << 10,
            _ => 64 << 10,
        }
    }
    /// Nothing of ours is mounted or attached below the pool.
    fn nothing_leaks(&self) {
        let pool = self.pool().canonicalize().unwrap();
        let mut below = mount_table::at_or_below(&pool).unwrap();
        below.retain(|mount| mount.mount_point != pool);
        assert_eq!(below, []);
        // Autoclear works off in the background.
        for _ in 0..200 {
            if self.attached().is_empty() {
                return;
            }
            wait_a_little();
        }
        panic!("loop devices stayed: {:?}", self.attached());
    }
    fn attached(&self) -> Vec<PathBuf> {
        let pool = self.pool().canonicalize().unwrap_or(self.pool());
        path_io::list("/sys/block")
            .unwrap()
            .iter()
            .filter_map(|block| path_io::read_to_string(block.join("loop/backing_file")).ok())
            .map(|file| PathBuf::from(file.trim_end()))
            .filter(|file| file.starts_with(&pool))
            .collect()
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        for mount in mount_table::at_or_below(self.keep.path()).unwrap_or_default() {
            let _ = unmount(&mount.mount_point, UnmountFlags::DETACH);
        }
        if self.kind == DriverKind::Lvm {
            let group = self.thin_pool().group;
            let _ = command::run("vgchange", ["--yes", "--activate", "n", &group], None);
        }
        if self.kind == DriverKind::Zfs {
            let _ = command::run("zpool", ["destroy", "-f", &self.dataset().name], None);
        }
    }
}

pub(super) fn wait_a_little() {
    let time = rustix::thread::Timespec {
        tv_sec: 0,
        tv_nsec: 5_000_000,
    };
    let _ = rustix::thread::nanosleep(&time);
}

pub(super) fn bench(kind: DriverKind) -> Bench {
    let nothing = PoolPlan {
        folder: PathBuf::new(),
        mark: String::new(),
        backing: Backing::Folder,
        mount_options: None,
    };
    let mut bench = Bench {
        keep: tempfile::tempdir().unwrap(),
        kind,
        driver: open(kind, nothing),
    };
    bench.driver = bench.other("edge/pool-1");
    bench
}

/// Volumes of LVM are made where the kernel can; the guest's can, and there they are never left out.
pub(super) fn has_thin_pools() -> bool {
    let has = host::has_device_mapper();
    if !has {
        eprintln!("lvm is left out: this kernel has no device mapper");
    }
    has
}

/// Whether this kernel has a zfs that pools can lie on, as in the guest of `tests/guest.sh --zfs`.
pub(super) fn has_zfs() -> bool {
    let trouble = zfs_trouble();
    if let Some(why) = &trouble {
        eprintln!("zfs is left out: {why}");
    }
    trouble.is_none()
}

pub(super) fn each_of(kinds: &[DriverKind], test: impl Fn(&Bench)) {
    for kind in kinds {
        if !host::is_asked_for(&format!("{kind:?}").to_lowercase())
            || (*kind == DriverKind::Lvm && !has_thin_pools())
            || (*kind == DriverKind::Zfs && !has_zfs())
        {
            continue;
        }
        test(&bench(*kind));
    }
}

pub(super) fn each(test: impl Fn(&Bench)) {
    each_of(DRIVERS, test);
}

pub(super) fn each_ready(test: impl Fn(&Bench)) {
    each(|bench| {
        bench.driver.ensure_pool(true).unwrap();
        if bench.kind == DriverKind::Zfs {
            // What is written here is counted, and is all alike.
            command::run(
                "zfs",
                ["set", "compression=off", &bench.dataset().name],
                None,
            )
            .unwrap();
        }
        test(bench);
        bench.nothing_leaks();
    });
}

pub(super) fn root(uid: &str, size: Option<u64>) -> VolumePlan {
    VolumePlan {
        id: VolumeId::Root(uid.to_owned()),
        mark: format!("edge/{uid}"),
        image: Some("f".repeat(64)),
        size,
        content: VolumeContent::Filesystem,
        own: OwnFiles::default(),
        initial: Initial::default(),
    }
}

pub(super) fn custom(name: &str, size: Option<u64>) -> VolumePlan {
    VolumePlan {
        id: VolumeId::Custom(name.to_owned()),
        image: None,
        initial: Initial {
            uid: 33,
            gid: 44,
            mode: 0o2770,
        },
        ..root(name, size)
    }
}

fn upper_of(placed: &Placed) -> &Path {
    match placed {
        Placed::Root { upper, .. } => upper,
        Placed::Custom { folder } => folder,
        Placed::Disk { file, .. } => panic!("{} is a disk", file.display()),
    }
}

pub(super) fn entry(plan: &VolumePlan, uid: &str) -> TrashEntry {
    TrashEntry {
        becomes: None,
        expires_at: None,
        snapshots: 0,
        format_version: 1,
        uid: uid.to_owned(),
        volume: plan.id.clone(),
        mark: plan.mark.clone(),
        deleted_at: "2026-11-23T09:00:00Z".to_owned(),
        definition: serde_json::json!({"name": "web-1"}),
    }
}

crate::host_test! {
    fn the_life_of_a_pool() {
        each(|bench| {
            let driver = &bench.driver;
            assert_eq!(driver.seen().unwrap(), PoolSeen::Missing);
            assert!(matches!(driver.ensure_pool(false), Err(StorageError::PoolMissing { .. })));
            assert!(matches!(driver.volumes(), Err(StorageError::PoolMissing { .. })));
            assert!(!bench.pool().exists(), "asking made nothing");
            assert_eq!(driver.remove_pool().unwrap(), Ensured::Already);
            assert_eq!(driver.ensure_pool(true).unwrap(), Ensured::Done);
            assert_eq!(driver.ensure_pool(true).unwrap(), Ensured::Already);
            assert_eq!(driver.ensure_pool(false).unwrap(), Ensured::Already);
            assert_eq!(bench.pool().metadata().unwrap().mode() & 0o7777, 0o700);
            let PoolSeen::Ready { used, total, .. } = driver.seen().unwrap() else {
                panic!("it was made");
            };
            assert!(used > 0 && used <= total);
            assert_eq!(driver.volumes().unwrap(), []);
            driver.ensure_volume(&root("u1", None)).unwrap();
            assert!(matches!(driver.remove_pool(), Err(StorageError::NotEmpty { .. })));
            driver.trash(&entry(&root("u1", None), "u1")).unwrap();
            assert!(matches!(driver.remove_pool(), Err(StorageError::NotEmpty { .. })));
            driver.purge("u1").unwrap();
            assert_eq!(driver.remove_pool().unwrap(), Ensured::Done);
            assert_eq!(driver.remove_pool().unwrap(), Ensured::Already);
            assert!(!bench.pool().exists());
        });
    }
}

crate::host_test! {
    fn what_is_not_ours_is_left_as_it_is() {
        each(|bench| {
            let precious = bench.pool().join("instances/u1/disk/precious");
            path_io::create_dir_all(precious.parent().unwrap()).unwrap();
            path_io::write(&precious, "data").unwrap();
            let untouched = |driver: &dyn StorageDriver| {
                assert!(matches!(driver.seen(), Ok(PoolSeen::Foreign { .. })));
                assert!(matches!(driver.ensure_pool(true), Err(StorageError::ForeignPool { .. })));
                assert!(matches!(driver.ensure_volume(&root("u1", None)), Err(StorageError::ForeignPool { .. })));
                assert!(matches!(driver.remove_volume(&root("u1", None).id), Err(StorageError::ForeignPool { .. })));
                assert!(matches!(driver.purge("u1"), Err(StorageError::ForeignPool { .. })));
                assert!(matches!(driver.remove_pool(), Err(StorageError::ForeignPool { .. })));
                assert_eq!(path_io::read_to_string(&precious).unwrap(), "data");
            };
            untouched(&*bench.driver);
            if bench.kind != DriverKind::Dir {
                return;
            }
            // A pool of another mark.
            crate::sys::remove_tree::remove_tree(&bench.pool()).unwrap();
            bench.driver.ensure_pool(true).unwrap();
            path_io::create_dir_all(precious.parent().unwrap()).unwrap();
            path_io::write(&precious, "data").unwrap();
            untouched(&*bench.other("other/pool-9"));
            assert_eq!(
                bench.other("x").seen().unwrap(),
                PoolSeen::Foreign { owner: Some("edge/pool-1".to_owned()) }
            );
            // A file in its place.
            crate::sys::remove_tree::remove_tree(&bench.pool()).unwrap();
            path_io::write(bench.pool(), "data").unwrap();
            assert_eq!(bench.driver.seen().unwrap(), PoolSeen::Foreign { owner: None });
            bench.driver.ensure_pool(true).unwrap_err();
        });
    }
}

crate::host_test! {
    fn an_empty_file_system_can_become_a_pool_and_a_pool_that_is_away_is_missed() {
        each_of(ON_ANYTHING, |bench| {
            path_io::create_dir_all(bench.pool()).unwrap();
            mount("none", bench.pool(), "tmpfs", MountFlags::empty(), None).unwrap();
            path_io::create_dir_all(bench.pool().join("lost+found")).unwrap();
            path_io::write(bench.pool().join(".pool.json.77.new"), "{").unwrap();
            bench.driver.ensure_pool(true).unwrap();
            bench.driver.ensure_volume(&root("u1", None)).unwrap();
            unmount(bench.pool(), UnmountFlags::NOFOLLOW).unwrap();
            assert_eq!(bench.driver.seen().unwrap(), PoolSeen::Missing);
            for refused in [
                bench.driver.ensure_pool(false).map(|_| ()),
                bench.driver.ensure_volume(&root("u1", None)).map(|_| ()),
                bench.driver.place(&root("u1", None).id).map(|_| ()),
                bench.driver.volumes().map(|_| ()),
                bench.driver.trashed().map(|_| ()),
                bench.driver.remove_volume(&root("u1", None).id).map(|_| ()),
            ] {
                assert!(matches!(refused, Err(StorageError::PoolMissing { .. })), "{refused:?}");
            }
            assert_eq!(path_io::list(bench.pool()).unwrap(), Vec::<PathBuf>::new());
        });
    }
}

crate::host_test! {
    fn the_life_of_a_volume() {
        each_ready(|bench| {
            let driver = &bench.driver;
            for plan in [root("u1", None), root("u2", Some(64 * MIB)), custom("c1", None), custom("c2", Some(64 * MIB + 1))] {
                assert!(matches!(driver.place(&plan.id), Err(StorageError::NoVolume(_))));
                assert_eq!(driver.remove_volume(&plan.id).unwrap(), Ensured::Already);
                assert_eq!(driver.ensure_volume(&plan).unwrap(), Ensured::Done);
                assert_eq!(driver.ensure_volume(&plan).unwrap(), Ensured::Already);
                let placed = driver.place(&plan.id).unwrap();
                assert_eq!(driver.place(&plan.id).unwrap(), placed);
                let upper = upper_of(&placed);
                let seen = upper.metadata().unwrap();
                assert_eq!(
                    (seen.uid(), seen.gid(), seen.mode() & 0o7777),
                    (plan.initial.uid, plan.initial.gid, plan.initial.mode)
                );
                path_io::write(upper.join("file"), vec![1; 100_000]).unwrap();
                rustix::fs::sync();
                let used = driver.used(&plan.id).unwrap();
                assert!((100_000..32 * MIB).contains(&used), "{used}");
                let volumes = driver.volumes().unwrap();
                assert_eq!(volumes.len(), 1);
                let seen = &volumes[0];
                assert_eq!((&seen.id, &seen.mark, &seen.image, seen.size), (&plan.id, &plan.mark, &plan.image, plan.size));
                let own = bench.own(&plan);
                assert_eq!(seen.mounted, own.map(|_| true));
                assert_eq!(seen.folder.metadata().unwrap().mode() & 0o7777, 0o700);
                let had_mount = if own.is_some() { Ensured::Done } else { Ensured::Already };
                assert_eq!(driver.release(&plan.id).unwrap(), had_mount);
                assert_eq!(driver.release(&plan.id).unwrap(), Ensured::Already);
                assert_eq!(driver.volumes().unwrap()[0].mounted, own.map(|_| false));
                let again = driver.place(&plan.id).unwrap();
                assert_eq!(path_io::read(upper_of(&again).join("file")).unwrap().len(), 100_000);
                // Removed while it is mounted.
                assert_eq!(driver.remove_volume(&plan.id).unwrap(), Ensured::Done);
                assert_eq!(driver.remove_volume(&plan.id).unwrap(), Ensured::Already);
                assert_eq!(driver.volumes().unwrap(), []);
                bench.nothing_leaks();
            }
        });
    }
}

crate::host_test! {
    fn sizes_hold_grow_and_shrink() {
        each_ready(|bench| {
            if !bench.has_own() {
                return;
            }
            let driver = &bench.driver;
            let plan = root("u1", Some(32 * MIB));
            driver.ensure_volume(&plan).unwrap();
            let placed = driver.place(&plan.id).unwrap();
            let file = upper_of(&placed).join("big");
            let fill = |bytes: u64| path_io::write(&file, vec![7; usize::try_from(bytes).unwrap()]);
            let full = fill(40 * MIB).unwrap_err();
            assert_eq!(full.raw_os_error(), Some(libc::ENOSPC));
            // Live, with the file open.
            let holder = std::fs::File::open(&file).unwrap();
            assert!(matches!(driver.release(&plan.id), Err(StorageError::InUse(_))));
            if driver.features().grow_live {
                assert_eq!(driver.resize(&plan.id, Some(96 * MIB)).unwrap(), Ensured::Done);
                drop(holder);
            } else {
                assert!(matches!(driver.resize(&plan.id, Some(96 * MIB)), Err(StorageError::InUse(_))));
                assert_eq!(driver.volumes().unwrap()[0].size, plan.size, "a refusal changes nothing");
                rustix::mount::unmount(driver.volumes().unwrap()[0].folder.join("disk"), UnmountFlags::DETACH).unwrap();
                assert!(matches!(driver.resize(&plan.id, Some(96 * MIB)), Err(StorageError::InUse(_))), "still open");
                drop(holder);
                bench.nothing_leaks();
                assert_eq!(driver.resize(&plan.id, Some(96 * MIB)).unwrap(), Ensured::Done);
                driver.place(&plan.id).unwrap();
            }
            assert_eq!(driver.resize(&plan.id, Some(96 * MIB)).unwrap(), Ensured::Already);
            assert_eq!(driver.volumes().unwrap()[0].size, Some(96 * MIB));
            fill(40 * MIB).unwrap();
            assert!(matches!(driver.resize(&plan.id, Some(64 * MIB)), Err(StorageError::InUse(_))));
            driver.release(&plan.id).unwrap();
            bench.nothing_leaks();
            assert!(matches!(driver.resize(&plan.id, Some(20 * MIB)), Err(StorageError::DoesNotFit { .. })));
            assert_eq!(driver.resize(&plan.id, Some(64 * MIB)).unwrap(), Ensured::Done);
            // Grown while it is not mounted.
            assert_eq!(driver.resize(&plan.id, Some(128 * MIB)).unwrap(), Ensured::Done);
            assert_eq!(driver.volumes().unwrap()[0].mounted, Some(false));
            driver.place(&plan.id).unwrap();
            assert_eq!(path_io::read(&file).unwrap().len() as u64, 40 * MIB);
            fill(100 * MIB).unwrap();
            driver.release(&plan.id).unwrap();
            assert!(matches!(driver.resize(&plan.id, Some(1)), Err(StorageError::TooSmall { .. })));
            assert!(matches!(driver.resize(&plan.id, None), Err(StorageError::NeedsRebuild(_))));
            assert!(matches!(driver.ensure_volume(&root("u2", Some(1))), Err(StorageError::TooSmall { .. })));
            assert_eq!(driver.volumes().unwrap().len(), 1, "nothing half-done is left");
            driver.ensure_volume(&root("u3", None)).unwrap();
            assert!(matches!(driver.resize(&root("u3", None).id, Some(MIB)), Err(StorageError::NeedsRebuild(_))));
            assert_eq!(driver.resize(&root("u3", None).id, None).unwrap(), Ensured::Already);
        });
    }
}

crate::host_test! {
    fn the_trash() {
        each_ready(|bench| {
            let driver = &bench.driver;
            for plan in [root("u1", None), root("u1", Some(32 * MIB)), custom("c1", None)] {
                driver.ensure_volume(&plan).unwrap();
                let placed = driver.place(&plan.id).unwrap();
                path_io::write(upper_of(&placed).join("file"), "mine").unwrap();
                let entry = entry(&plan, "uid-7");
                assert_eq!(driver.trash(&entry).unwrap(), Ensured::Done);
                assert_eq!(driver.trash(&entry).unwrap(), Ensured::Already);
                bench.nothing_leaks();
                assert_eq!(driver.volumes().unwrap(), []);
                assert_eq!(driver.trashed().unwrap(), std::slice::from_ref(&entry));
                // Its name may be used again; then it cannot come back.
                driver.ensure_volume(&plan).unwrap();
                assert!(matches!(driver.untrash("uid-7"), Err(StorageError::VolumeExists(_))));
                driver.remove_volume(&plan.id).unwrap();
                assert_eq!(driver.untrash("uid-7").unwrap(), entry);
                assert_eq!(driver.trashed().unwrap(), std::slice::from_ref(&entry), "not settled");
                assert_eq!(driver.untrash("uid-7").unwrap(), entry, "asked again after a crash");
                driver.end_untrash("uid-7").unwrap();
                driver.end_untrash("uid-7").unwrap();
                assert_eq!(driver.trashed().unwrap(), []);
                let placed = driver.place(&plan.id).unwrap();
                assert_eq!(path_io::read_to_string(upper_of(&placed).join("file")).unwrap(), "mine");
                driver.trash(&entry).unwrap();
                assert_eq!(driver.purge("uid-7").unwrap(), Ensured::Done);
                assert_eq!(driver.purge("uid-7").unwrap(), Ensured::Already);
                assert!(matches!(driver.untrash("uid-7"), Err(StorageError::NotInTrash(_))));
                assert_eq!(driver.trashed().unwrap(), []);
            }
            // The volume was lost by hand: the definition is kept.
            driver.trash(&entry(&root("gone", None), "uid-8")).unwrap();
            assert_eq!(driver.trashed().unwrap().len(), 1);
            driver.purge("uid-8").unwrap();
        });
    }
}

crate::host_test! {
    /// The most feared bug: a host folder bind-mounted into an instance's root, deleted through.
    fn a_bind_mounted_host_folder_survives_every_removal() {
        each_ready(|bench| {
            let driver = &bench.driver;
            let host = bench.keep.path().join("host");
            path_io::create_dir_all(host.join("deep")).unwrap();
            path_io::write(host.join("deep/precious"), "data").unwrap();
            for plan in [root("u1", None), root("u2", Some(32 * MIB)), custom("c1", None)] {
                driver.ensure_volume(&plan).unwrap();
                let placed = driver.place(&plan.id).unwrap();
                let place = upper_of(&placed).join("srv/host");
                path_io::create_dir_all(&place).unwrap();
                symlink(&host, upper_of(&placed).join("link")).unwrap();
                mount_bind(&host, &place).unwrap();
                let refused = [
                    driver.remove_volume(&plan.id).map(|_| ()),
                    driver.trash(&entry(&plan, "uid-7")).map(|_| ()),
                ];
                for refused in refused {
                    // A sized volume's own unmount is not lazy about what others mounted in it.
                    assert!(
                        matches!(
                            refused,
                            Err(StorageError::Remove(RemoveTreeError::Mounted { .. }) | StorageError::InUse(_))
                        ),
                        "{refused:?}"
                    );
                }
                assert_eq!(path_io::read_to_string(host.join("deep/precious")).unwrap(), "data");
                assert!(place.join("deep/precious").exists(), "nothing was unmounted that is not ours");
                unmount(&place, UnmountFlags::NOFOLLOW).unwrap();
                driver.remove_volume(&plan.id).unwrap();
                assert_eq!(path_io::read_to_string(host.join("deep/precious")).unwrap(), "data");
            }
        });
    }
}

crate::host_test! {
    fn what_crashes_leave_is_found_and_removed() {
        each_ready(|bench| {
            let driver = &bench.driver;
            // Killed while making or removing.
            for leftover in ["instances/.new-u1/disk/upper", "instances/.gone-u2/disk", "trash/.gone-u3/disk/a/b"] {
                path_io::create_dir_all(bench.pool().join(leftover)).unwrap();
            }
            assert_eq!(driver.volumes().unwrap(), []);
            driver.ensure_volume(&root("u1", None)).unwrap();
            assert_eq!(driver.ensure_pool(false).unwrap(), Ensured::Already);
            for gone in ["instances/.new-u1", "instances/.gone-u2", "trash/.gone-u3"] {
                assert!(!bench.pool().join(gone).exists(), "{gone}");
            }
            if bench.driver.features().sized != Sized::LoopExt4 {
                return;
            }
            // Killed between attaching and mounting, with a device that does not clear itself.
            let plan = root("u4", Some(32 * MIB));
            driver.ensure_volume(&plan).unwrap();
            let file = driver.volumes().unwrap().into_iter().find(|v| v.id == plan.id).unwrap().folder.join("disk.ext4");
            let shown = file.display().to_string();
            command::run("losetup", ["-f", &shown], None).unwrap();
            assert_eq!(loop_device::showing(&file).unwrap().len(), 1);
            driver.place(&plan.id).unwrap();
            assert_eq!(loop_device::showing(&file).unwrap().len(), 1);
            // Killed between the rename and the unmount of a removal.
            let gone = bench.pool().join("instances/.gone-u4");
            path_io::rename(file.parent().unwrap(), &gone).unwrap();
            driver.ensure_pool(false).unwrap();
            assert!(!gone.exists());
        });
    }
}

crate::host_test! {
    fn a_full_disk_leaves_nothing_half_done() {
        each_of(ON_ANYTHING, |bench| {
            path_io::create_dir_all(bench.pool()).unwrap();
            mount("none", bench.pool(), "tmpfs", MountFlags::empty(), Some(c"size=4m,nr_inodes=13")).unwrap();
            bench.driver.ensure_pool(true).unwrap();
            bench.driver.ensure_volume(&root("u1", None)).unwrap();
            for _ in 0..2 {
                let error = bench.driver.ensure_volume(&root("u2", None)).unwrap_err();
                assert!(matches!(&error, StorageError::Path(path) if path.raw_os_error() == Some(libc::ENOSPC)), "{error:?}");
            }
            assert_eq!(bench.driver.volumes().unwrap().len(), 1);
            bench.driver.remove_volume(&root("u1", None).id).unwrap();
            bench.driver.ensure_volume(&root("u2", None)).unwrap();
        });
    }
}

crate::host_test! {
    fn names_are_never_paths() {
        each_ready(|bench| {
            for name in ["", ".", "..", "a/b", "../x", ".new-x", "a\nb", "ä", &"x".repeat(129)] {
                for plan in [root(name, None), custom(name, None)] {
                    assert!(matches!(bench.driver.ensure_volume(&plan), Err(StorageError::BadName(_))), "{name}");
                    assert!(matches!(bench.driver.remove_volume(&plan.id), Err(StorageError::BadName(_))), "{name}");
                }
                assert!(matches!(bench.driver.purge(name), Err(StorageError::BadName(_))), "{name}");
            }
        });
    }
}

crate::host_test! {
    fn files_of_a_stopped_instance() {
        each_ready(|bench| {
            let store = ImageStore::at(bench.keep.path().join("images"));
            let image = store.import(&ImageSource::Busybox, None, &mut |_| true).unwrap();
            let rootfs = store.rootfs(&image.record.fingerprint).unwrap();
            for plan in [root("u1", None), root("u2", Some(32 * MIB))] {
                bench.driver.ensure_volume(&plan).unwrap();
                let placed = bench.driver.place(&plan.id).unwrap();
                let decoy = bench.keep.path().join("decoy");
                path_io::write(&decoy, "host").unwrap();
                symlink(&decoy, upper_of(&placed).join("motd")).unwrap();
                let view = open_stopped_root(&rootfs, &placed).unwrap();
                let file = FileToWrite { content: b"hello", mode: 0o4711, uid: 7, gid: 8, create_dirs: true };
                for path in ["/etc/passwd", "/motd", "/a/b/c"] {
                    beneath::write_file(&view, Path::new(path), &file).unwrap();
                    assert_eq!(
                        beneath::read_file(&view, Path::new(path), 100).unwrap(),
                        FileFound::File { content: b"hello".to_vec(), mode: 0o4711, uid: 7, gid: 8 }
                    );
                    let on_disk = upper_of(&placed).join(path.trim_start_matches('/'));
                    assert_eq!(path_io::read_to_string(on_disk).unwrap(), "hello");
                }
                assert!(beneath::remove_file(&view, Path::new("etc/group")).unwrap());
                assert_eq!(beneath::read_file(&view, Path::new("etc/group"), 10).unwrap(), FileFound::Missing);
                drop(view);
                assert_eq!(path_io::read_to_string(&decoy).unwrap(), "host");
                assert!(rootfs.join("etc/group").exists());
                assert!(path_io::read_to_string(rootfs.join("etc/passwd")).unwrap().starts_with("root:"));
                bench.driver.release(&plan.id).unwrap();
                assert!(store.verify(&image.record.fingerprint).unwrap());
            }
        });
    }
}

crate::host_test! {
    /// The volume's own mount is nosuid and nodev; an overlay over it is not, so programs inside work as they should.
    fn set_uid_programs_work_through_an_overlay() {
        each_ready(|bench| {
            let plan = root("u1", Some(64 * MIB));
            bench.driver.ensure_volume(&plan).unwrap();
            let placed = bench.driver.place(&plan.id).unwrap();
            let Placed::Root { upper, work, .. } = &placed else { panic!("a root") };
            let (lower, merged) = (Path::new("/run/lower"), Path::new("/run/merged"));
            path_io::ensure_dir(lower).unwrap();
            path_io::ensure_dir(merged).unwrap();
            let program = upper.join("id");
            path_io::write(&program, path_io::read("/usr/bin/id").unwrap()).unwrap();
            std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o4755)).unwrap();
            let options = format!("userxattr,lowerdir={},upperdir={},workdir={}", lower.display(), upper.display(), work.display());
            let options = std::ffi::CString::new(options).unwrap();
            mount("none", merged, "overlay", MountFlags::empty(), Some(options.as_c_str())).unwrap();
            let who = |path: &str| {
                let out = command::run("setpriv", ["--reuid", "1000", "--clear-groups", path, "-u"], None).unwrap();
                String::from_utf8(out).unwrap()
            };
            assert_eq!(who("/run/merged/id").trim(), "0");
            unmount(merged, UnmountFlags::NOFOLLOW).unwrap();
            bench.driver.release(&plan.id).unwrap();
        });
    }
}
