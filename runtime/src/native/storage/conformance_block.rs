//! What every storage driver has to do with the disks of machines.

use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use manifests::path_io;
use rustix::mount::{MountFlags, mount};

use super::conformance::{Bench, MIB, ON_ANYTHING, custom, each_of, each_ready, entry, root};
use super::*;
use crate::native::disk_image::{Format, inspect_overlay};
use crate::sys::command;

/// An image with something in it that is never written to.
fn image(bench: &Bench, size: u64) -> DiskBelow {
    let path = bench.keep.path().join("image.raw");
    let content: Vec<u8> = (0..size / 8).flat_map(u64::to_le_bytes).collect();
    path_io::write(&path, content).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o400)).unwrap();
    DiskBelow {
        path,
        format: Format::Raw,
        virtual_size: size,
    }
}

fn disk(uid: &str, size: Option<u64>, below: Option<&DiskBelow>) -> VolumePlan {
    VolumePlan {
        content: VolumeContent::Block {
            below: below.cloned(),
        },
        ..root(uid, size)
    }
}

fn file_of(bench: &Bench, plan: &VolumePlan) -> PathBuf {
    match bench.driver.place(&plan.id).unwrap() {
        Placed::Disk { file, .. } => file,
        other => panic!("{other:?} is no disk"),
    }
}

/// Writes as a machine would.
fn write(disk: &Path, at: u64, byte: u8) {
    let what = format!("write -P {byte} {at} 64k");
    command::run(
        "qemu-io",
        ["-f", "qcow2", "-c", &what, disk.to_str().unwrap()],
        None,
    )
    .unwrap();
}

fn content(bench: &Bench, disk: &Path) -> Vec<u8> {
    let raw = bench.keep.path().join("content.raw");
    let (disk, to) = (disk.to_str().unwrap(), raw.to_str().unwrap());
    command::run(
        "qemu-img",
        ["convert", "-f", "qcow2", "-O", "raw", disk, to],
        None,
    )
    .unwrap();
    path_io::read(&raw).unwrap()
}

crate::host_test! {
    fn the_life_of_a_disk() {
        each_ready(|bench| {
            let driver = &bench.driver;
            let below = image(bench, 4 * MIB);
            let before = path_io::read(&below.path).unwrap();
            let data = VolumePlan { content: VolumeContent::Block { below: None }, ..custom("c1", Some(8 * MIB)) };
            for plan in [disk("u1", None, Some(&below)), disk("u2", Some(8 * MIB - 1), Some(&below)), disk("u3", Some(8 * MIB), None), data] {
                assert!(matches!(driver.place(&plan.id), Err(StorageError::NoVolume(_))));
                assert_eq!(driver.ensure_volume(&plan).unwrap(), Ensured::Done);
                assert_eq!(driver.ensure_volume(&plan).unwrap(), Ensured::Already);
                let whole = plan.size.map_or(4 * MIB, |_| 8 * MIB);
                let Placed::Disk { file, format, virtual_size, .. } = driver.place(&plan.id).unwrap() else { panic!("a disk") };
                assert_eq!((format, virtual_size), (Format::Qcow2, whole));
                assert_eq!(file.metadata().unwrap().mode() & 0o7777, 0o600);
                let volumes = driver.volumes().unwrap();
                let [seen] = volumes.as_slice() else { panic!("{volumes:?}") };
                assert_eq!((&seen.id, &seen.mark, &seen.image), (&plan.id, &plan.mark, &plan.image));
                assert_eq!((seen.content, seen.size, seen.mounted), (ContentType::Block, plan.size.or(Some(whole)), None));
                assert_eq!(seen.folder.metadata().unwrap().mode() & 0o7777, 0o700);
                assert_eq!(driver.placed(&plan.id).as_deref(), file.parent());
                let empty = driver.used(&plan.id).unwrap();
                assert!(empty < bench.empty_disk(), "{empty}");
                write(&file, MIB, 7);
                rustix::fs::sync();
                assert!(driver.used(&plan.id).unwrap() >= empty + (64 << 10));
                let now = content(bench, &file);
                let at = usize::try_from(MIB).unwrap();
                assert!(now.len() as u64 == whole && now[at..at + 65536].iter().all(|byte| *byte == 7));
                if let VolumeContent::Block { below: Some(_) } = plan.content {
                    assert_eq!(now[..at], before[..at]);
                }
                let was_mounted = if bench.has_homes() { Ensured::Done } else { Ensured::Already };
                assert_eq!(driver.release(&plan.id).unwrap(), was_mounted);
                assert_eq!(driver.remove_volume(&plan.id).unwrap(), Ensured::Done);
                assert_eq!(driver.remove_volume(&plan.id).unwrap(), Ensured::Already);
                assert_eq!(driver.volumes().unwrap(), []);
            }
            assert_eq!(path_io::read(&below.path).unwrap(), before, "nothing of it was written or removed");
        });
    }
}

crate::host_test! {
    fn a_disk_goes_back_to_its_snapshots_and_takes_them_along_into_the_trash() {
        each_ready(|bench| {
            let driver = &bench.driver;
            let below = image(bench, 4 * MIB);
            let plan = disk("u1", None, Some(&below));
            driver.ensure_volume(&plan).unwrap();
            let layered = driver.layered(&plan.id).unwrap();
            let kept = || Kept {
                layer: 0,
                created_at: jiff::Timestamp::UNIX_EPOCH,
                description: String::new(),
                memory: false,
                made_by: None,
                expires_at: None,
                about: serde_json::Value::Null,
            };
            let byte = |at: u64| content(bench, &file_of(bench, &plan))[usize::try_from(at).unwrap()];
            write(&file_of(bench, &plan), MIB, 1);
            layered.begin("one", kept(), false).unwrap();
            layered.end(true).unwrap();
            write(&file_of(bench, &plan), MIB, 2);
            assert_eq!(byte(MIB), 2);
            let Placed::Disk { layer, below: layers, .. } = driver.place(&plan.id).unwrap() else { panic!("a disk") };
            assert_eq!((layer, layers.len()), (1, 1));
            // It grows, and what a snapshot keeps stays as big as it was.
            assert_eq!(driver.resize(&plan.id, Some(8 * MIB)).unwrap(), Ensured::Done);
            assert_eq!(driver.volume(&plan.id).unwrap().unwrap().size, Some(8 * MIB));
            let entry = entry(&plan, "u1");
            driver.trash(&entry).unwrap();
            driver.untrash(&entry.uid).unwrap();
            driver.end_untrash(&entry.uid).unwrap();
            let layered = driver.layered(&plan.id).unwrap();
            layered.revert("one", false).unwrap();
            assert_eq!(byte(MIB), 1);
            assert!(matches!(layered.revert("two", false), Err(StorageError::NoSnapshot(_))));
            driver.remove_volume(&plan.id).unwrap();
            assert!(matches!(driver.layered(&plan.id), Err(StorageError::NoVolume(_))));
        });
    }
}

crate::host_test! {
    fn disks_grow_and_do_not_shrink() {
        each_ready(|bench| {
            let driver = &bench.driver;
            let below = image(bench, 4 * MIB);
            let told = |error: StorageError| error.to_string();
            let small = disk("small", Some(3 * MIB), Some(&below));
            assert_eq!(
                told(driver.ensure_volume(&small).unwrap_err()),
                "3145728 bytes are fewer than the 4194304 bytes of the disk in its image"
            );
            let sizeless = driver.ensure_volume(&disk("none", None, None));
            assert!(matches!(sizeless, Err(StorageError::NoSize(_))), "{sizeless:?}");
            assert_eq!(driver.volumes().unwrap(), [], "nothing half-done is left");
            let plan = disk("u1", None, Some(&below));
            driver.ensure_volume(&plan).unwrap();
            let size = || driver.volumes().unwrap()[0].size;
            let resize = |size| driver.resize(&plan.id, size);
            assert_eq!(resize(None).unwrap(), Ensured::Already);
            assert_eq!(resize(Some(4 * MIB)).unwrap(), Ensured::Already);
            assert_eq!(resize(Some(10_000_000)).unwrap(), Ensured::Done);
            assert_eq!(resize(Some(10_000_000)).unwrap(), Ensured::Already);
            assert_eq!(size(), Some(10_000_000), "as it was spelled");
            assert_eq!(told(resize(Some(9_000_000)).unwrap_err()), "volume instance/u1 has 10000384 bytes and cannot shrink to 9000000");
            // Nobody asks for a size any more.
            assert_eq!(resize(None).unwrap(), Ensured::Already);
            assert_eq!(size(), Some(10_000_000));
            let file = file_of(bench, &plan);
            assert!(content(bench, &file).starts_with(&path_io::read(&below.path).unwrap()));
            // Grown by its machine, then told.
            command::run("qemu-img", ["resize", "-q", "-f", "qcow2", file.to_str().unwrap(), "20000256"], None).unwrap();
            assert_eq!(size(), Some(20_000_256), "the file is the truth");
            assert_eq!(resize(Some(20_000_000)).unwrap(), Ensured::Already);
            assert_eq!(size(), Some(20_000_000));
            driver.release(&plan.id).unwrap();
        });
    }
}

crate::host_test! {
    fn a_disk_goes_to_the_trash_and_comes_back() {
        each_ready(|bench| {
            let driver = &bench.driver;
            let below = image(bench, 4 * MIB);
            let plan = disk("u1", Some(8 * MIB), Some(&below));
            driver.ensure_volume(&plan).unwrap();
            write(&file_of(bench, &plan), 0, 9);
            let entry = entry(&plan, "u1");
            assert_eq!(driver.trash(&entry).unwrap(), Ensured::Done);
            assert_eq!(driver.volumes().unwrap(), []);
            assert!(matches!(driver.place(&plan.id), Err(StorageError::NoVolume(_))));
            assert_eq!(driver.untrash("u1").unwrap(), entry);
            driver.end_untrash("u1").unwrap();
            let file = file_of(bench, &plan);
            assert_eq!(content(bench, &file)[..65536], [9; 65536]);
            assert_eq!(inspect_overlay(&file).unwrap().backing.as_deref(), below.path.to_str());
            driver.trash(&entry).unwrap();
            assert_eq!(driver.purge("u1").unwrap(), Ensured::Done);
            assert!(below.path.exists());
        });
    }
}

crate::host_test! {
    /// Whoever broke out of a machine into its QEMU can write any header.
    fn a_spoiled_header_hurts_only_its_own_machine() {
        each_ready(|bench| {
            let driver = &bench.driver;
            let (bad, good) = (disk("bad", Some(MIB), None), disk("good", Some(MIB), None));
            driver.ensure_volume(&bad).unwrap();
            driver.ensure_volume(&good).unwrap();
            let file = file_of(bench, &bad);
            let written = path_io::read(&file).unwrap();
            let mut outside = written.clone();
            outside[79] = 4;
            for spoiled in [&[0; 4096][..], b"", b"QFI\xfb", &outside] {
                path_io::write(&file, spoiled).unwrap();
                let place = driver.place(&bad.id);
                assert!(matches!(place, Err(StorageError::Disk(_))), "{place:?}");
                driver.resize(&bad.id, Some(2 * MIB)).unwrap_err();
                let volumes = driver.volumes().unwrap();
                let sizes: Vec<_> = volumes.iter().map(|seen| seen.size).collect();
                assert_eq!(sizes.get(1), Some(&Some(MIB)), "the other one is seen as ever: {sizes:?}");
            }
            path_io::remove_file(&file).unwrap();
            assert_eq!(driver.volumes().unwrap()[0].size, Some(0), "lost by hand");
            assert_eq!(driver.remove_volume(&bad.id).unwrap(), Ensured::Done);
            driver.release(&good.id).unwrap();
        });
    }
}

crate::host_test! {
    fn a_full_disk_and_a_crash_leave_no_half_disk() {
        each_of(ON_ANYTHING, |bench| {
            path_io::create_dir_all(bench.pool()).unwrap();
            mount("none", bench.pool(), "tmpfs", MountFlags::empty(), Some(c"size=4m,nr_inodes=13")).unwrap();
            let driver = &bench.driver;
            driver.ensure_pool(true).unwrap();
            let plans: Vec<_> = (0..9).map(|n| disk(&format!("u{n}"), Some(64 << 30), None)).collect();
            let made = plans.iter().take_while(|plan| driver.ensure_volume(plan).is_ok()).count();
            assert!((1..8).contains(&made), "{made}");
            let full = driver.ensure_volume(&plans[made]).unwrap_err();
            let told = |error: &dyn std::error::Error| error.source().map(ToString::to_string).unwrap_or_default();
            assert!(told(&full).contains("No space left"), "{full:?}");
            assert_eq!(driver.volumes().unwrap().len(), made);
            driver.remove_volume(&plans[0].id).unwrap();
            path_io::create_dir_all(bench.pool().join("instances/.new-u9")).unwrap();
            path_io::write(bench.pool().join("instances/.new-u9/disk.qcow2"), "half").unwrap();
            driver.ensure_pool(false).unwrap();
            driver.ensure_volume(&plans[made]).unwrap();
        });
    }
}
