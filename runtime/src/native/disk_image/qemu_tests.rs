//! What we make is good for QEMU's own tool, and what it makes is understood here.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use manifests::path_io;
use serde_json::Value;

use super::*;
use crate::sys::command;

const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;
const TIB: u64 = 1 << 40;

/// Runs `qemu-img`; its package is one that `tests/run.sh` installs.
fn qemu_img<const N: usize>(arguments: [&str; N]) -> String {
    let out = command::run("qemu-img", arguments, None).unwrap();
    String::from_utf8(out).unwrap()
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// It has neither errors nor leaks.
fn check(path: &Path) {
    qemu_img(["check", "-q", "-f", "qcow2", text(path)]);
}

fn info(path: &Path) -> Value {
    serde_json::from_str(&qemu_img(["info", "--output=json", text(path)])).unwrap()
}

struct Bench {
    folder: tempfile::TempDir,
}

impl Bench {
    fn new() -> Self {
        Self {
            folder: tempfile::tempdir().unwrap(),
        }
    }
    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }
    /// The whole content of a disk.
    fn content(&self, disk: &Path) -> Vec<u8> {
        let raw = self.path("content.raw");
        qemu_img(["convert", "-O", "raw", text(disk), text(&raw)]);
        path_io::read(&raw).unwrap()
    }
    fn raw(&self, bytes: u64) -> (PathBuf, Vec<u8>) {
        let path = self.path("base.raw");
        let content: Vec<u8> = (0..bytes / 8)
            .flat_map(|n| (n * 0x9e37_79b9).to_le_bytes())
            .collect();
        path_io::write(&path, &content).unwrap();
        (path, content)
    }
}

#[test]
fn disks_of_every_size_are_good() {
    let bench = Bench::new();
    let disk = bench.path("disk.qcow2");
    for size in [
        512,
        MIB,
        2 * GIB,
        100 * GIB,
        4 * TIB,
        4 * TIB + 512,
        40 * TIB,
        2 << 50,
    ] {
        create_overlay(&disk, size, None).unwrap();
        check(&disk);
        let told = info(&disk);
        assert_eq!(told["virtual-size"], size, "{told}");
        assert_eq!(told["format"], "qcow2");
        assert_eq!(told["format-specific"]["data"]["lazy-refcounts"], false);
        let seen = inspect(&disk).unwrap();
        assert_eq!((seen.format, seen.virtual_size), (Format::Qcow2, size));
        assert!(
            seen.allocated <= 16 << 10,
            "{} bytes for an empty disk of {size}",
            seen.allocated
        );
        assert_eq!(disk.metadata().unwrap().mode() & 0o777, 0o600);
    }
    for size in [0, (2 << 50) + 512, u64::MAX] {
        assert!(
            matches!(
                create_overlay(&disk, size, None),
                Err(DiskError::Size { .. })
            ),
            "{size}"
        );
    }
    assert_eq!(
        path_io::list(bench.folder.path()).unwrap(),
        [disk],
        "nothing half-done is left"
    );
}

#[test]
fn an_overlay_shows_what_is_below_it_and_zeros_behind() {
    let bench = Bench::new();
    let (base, content) = bench.raw(3 * MIB);
    let packed = bench.path("base.qcow2");
    qemu_img(["convert", "-c", "-O", "qcow2", text(&base), text(&packed)]);
    for (path, format) in [(&base, Format::Raw), (&packed, Format::Qcow2)] {
        let below = Below {
            name: text(path),
            format,
            virtual_size: 3 * MIB,
        };
        let disk = bench.path("disk.qcow2");
        create_overlay(&disk, 5 * MIB - 7, Some(below)).unwrap();
        check(&disk);
        let told = info(&disk);
        assert_eq!(told["backing-filename"], text(path), "{told}");
        assert_eq!(told["backing-filename-format"], format.word());
        let shown = bench.content(&disk);
        assert_eq!(shown.len() as u64, 5 * MIB);
        assert!(
            shown.starts_with(&content) && shown[content.len()..].iter().all(|byte| *byte == 0)
        );
        let seen = inspect_overlay(&disk).unwrap();
        assert_eq!(
            (seen.virtual_size, seen.backing.as_deref()),
            (5 * MIB, Some(text(path)))
        );
        // As an image of a stranger it would show a file of this host.
        let refused = inspect(&disk).unwrap_err().to_string();
        assert!(
            refused.contains(&format!("has the backing file {:?}", text(path))),
            "{refused}"
        );
    }
    let small = Below {
        name: text(&base),
        format: Format::Raw,
        virtual_size: 3 * MIB,
    };
    let told = create_overlay(&bench.path("small"), 2 * MIB, Some(small)).unwrap_err();
    assert_eq!(
        told.to_string(),
        "2097152 bytes are fewer than the 3145728 bytes of the disk below"
    );
    let long = format!("/{}", "x".repeat(1023));
    for name in ["base.raw", "json:{}", "nbd:host", "", "/a\0b", &long] {
        let below = Below {
            name,
            format: Format::Raw,
            virtual_size: 512,
        };
        assert!(
            matches!(
                create_overlay(&bench.path("bad"), MIB, Some(below)),
                Err(DiskError::BadBackingName(_))
            ),
            "{name}"
        );
    }
}

#[test]
fn what_qemu_makes_is_understood() {
    let bench = Bench::new();
    for options in [
        "compat=0.10",
        "compat=1.1",
        "cluster_size=512",
        "cluster_size=2M",
        "extended_l2=on",
        "compression_type=zstd",
        "lazy_refcounts=on",
        "refcount_bits=1",
        "refcount_bits=64",
        "preallocation=metadata",
    ] {
        for size in ["512", "1M", "7G"] {
            let disk = bench.path("disk");
            qemu_img([
                "create",
                "-q",
                "-f",
                "qcow2",
                "-o",
                options,
                text(&disk),
                size,
            ]);
            let seen = inspect(&disk).unwrap_or_else(|error| panic!("{options} {size}: {error}"));
            assert_eq!(
                info(&disk)["virtual-size"],
                seen.virtual_size,
                "{options} {size}"
            );
        }
    }
    let disk = bench.path("disk");
    qemu_img(["snapshot", "-c", "one", text(&disk)]);
    assert_eq!(inspect(&disk).unwrap().snapshots, 1);
}

#[test]
fn what_leads_outside_is_refused() {
    let bench = Bench::new();
    let disk = bench.path("disk");
    let refused = |why: &str| {
        let told = inspect(&disk).unwrap_err().to_string();
        assert!(told.contains(why), "{told}");
    };
    for name in [
        "/etc/shadow",
        "json:{\"driver\":\"nbd\",\"host\":\"h\"}",
        "nbd://127.0.0.1/x",
        "../../x",
    ] {
        qemu_img([
            "create",
            "-q",
            "-u",
            "-f",
            "qcow2",
            "-F",
            "raw",
            "-b",
            name,
            text(&disk),
            "1M",
        ]);
        refused(&format!("has the backing file {name:?}"));
    }
    let data = format!(
        "data_file={},data_file_raw=on",
        bench.path("data").display()
    );
    qemu_img([
        "create",
        "-q",
        "-f",
        "qcow2",
        "-o",
        &data,
        text(&disk),
        "1M",
    ]);
    refused("keeps its data in another file");
    for (format, told) in [
        ("vmdk", "a vmdk disk"),
        ("vdi", "a vdi disk"),
        ("vhdx", "a vhdx disk"),
        ("vpc", "a vhd disk"),
        ("qed", "a qed disk"),
    ] {
        qemu_img(["create", "-q", "-f", format, text(&disk), "8M"]);
        refused(told);
    }
    qemu_img(["create", "-q", "-f", "qcow2", text(&disk), "1M"]);
    let mut bytes = path_io::read(&disk).unwrap();
    // Making a real one takes seconds of hashing.
    bytes[35] = 2;
    path_io::write(&disk, &bytes).unwrap();
    refused("is encrypted");
    bytes[35] = 0;
    bytes[79] = 1;
    path_io::write(&disk, &bytes).unwrap();
    refused("was not closed by whoever wrote it last");
    bytes[79] = 2;
    path_io::write(&disk, &bytes).unwrap();
    refused("marked as corrupt");
}

#[test]
fn a_disk_grows_and_never_shrinks() {
    let bench = Bench::new();
    let (base, content) = bench.raw(2 * MIB);
    let disk = bench.path("disk.qcow2");
    let below = Below {
        name: text(&base),
        format: Format::Raw,
        virtual_size: 2 * MIB,
    };
    create_overlay(&disk, 2 * MIB, Some(below)).unwrap();
    for (size, grown) in [
        (2 * MIB, Grown::Already),
        (3 * MIB - 1, Grown::Done),
        (3 * MIB, Grown::Already),
        (GIB, Grown::Done),
        (4 * TIB, Grown::Done),
    ] {
        assert_eq!(grow(&disk, Format::Qcow2, size).unwrap(), grown);
        check(&disk);
        let seen = inspect_overlay(&disk).unwrap();
        assert_eq!(
            (seen.virtual_size, seen.backing.as_deref()),
            (whole_sectors(size), Some(text(&base)))
        );
        assert_eq!(info(&disk)["virtual-size"], whole_sectors(size));
        if size <= 3 * MIB {
            assert!(bench.content(&disk).starts_with(&content));
        }
    }
    let told = grow(&disk, Format::Qcow2, GIB).unwrap_err().to_string();
    assert!(
        told.ends_with("has 4398046511104 bytes and cannot shrink to 1073741824"),
        "{told}"
    );
    assert!(
        matches!(grow(&disk, Format::Qcow2, 4 * TIB + 512), Err(DiskError::Size { most, .. }) if most == 4 * TIB)
    );
    // Raw ones.
    assert_eq!(grow(&base, Format::Raw, 3 * MIB).unwrap(), Grown::Done);
    assert_eq!(grow(&base, Format::Raw, 3 * MIB).unwrap(), Grown::Already);
    assert!(matches!(
        grow(&base, Format::Raw, MIB),
        Err(DiskError::Shrinks { .. })
    ));
    assert_eq!(base.metadata().unwrap().len(), 3 * MIB);
    // Those of others have only as many L1 entries as they need.
    for options in [
        "compat=0.10",
        "cluster_size=512",
        "cluster_size=64k,extended_l2=on",
        "preallocation=metadata",
    ] {
        let other = bench.path("other");
        qemu_img([
            "create",
            "-q",
            "-f",
            "qcow2",
            "-o",
            options,
            text(&other),
            "1M",
        ]);
        assert_eq!(
            grow(&other, Format::Qcow2, 2 * MIB).unwrap(),
            Grown::Done,
            "{options}"
        );
        check(&other);
        assert_eq!(inspect(&other).unwrap().virtual_size, 2 * MIB);
    }
}

#[test]
fn a_disk_in_use_does_not_grow() {
    let bench = Bench::new();
    let disk = bench.path("disk.qcow2");
    create_overlay(&disk, MIB, None).unwrap();
    std::thread::scope(|scope| {
        let user = scope.spawn(|| {
            let hold = ["-f", "qcow2", "-c", "sleep 1000", text(&disk)];
            // It may come while the disk grows, and is refused then.
            while command::run("qemu-io", hold, None).is_err() {}
        });
        let mut size = MIB;
        loop {
            // Most of the time nobody holds it, so that the other one comes in.
            let pause = rustix::thread::Timespec {
                tv_sec: 0,
                tv_nsec: 20_000_000,
            };
            let _ = rustix::thread::nanosleep(&pause);
            size += SECTOR;
            match grow(&disk, Format::Qcow2, size) {
                Err(DiskError::InUse { .. }) => break,
                // It has not opened it yet.
                Ok(Grown::Done) => assert!(!user.is_finished(), "it never was in use"),
                other => panic!("{other:?}"),
            }
        }
    });
    assert_eq!(grow(&disk, Format::Qcow2, GIB).unwrap(), Grown::Done);
    check(&disk);
}

#[test]
fn what_one_layer_has_of_another_is_read_from_their_files() {
    let bench = Bench::new();
    let layer = |name: &str, cluster: &str, writes: &[&str]| {
        let path = bench.path(name);
        let options = format!("cluster_size={cluster}");
        qemu_img([
            "create",
            "-q",
            "-f",
            "qcow2",
            "-o",
            &options,
            text(&path),
            "8G",
        ]);
        for write in writes {
            command::run("qemu-io", ["-f", "qcow2", "-c", write, text(&path)], None).unwrap();
        }
        path
    };
    let below = layer("below", "64k", &["write 0 1M", "write -z 5G 64k"]);
    let more = layer("more", "64k", &["write 0 2M", "write 5G 64k"]);
    let other = layer("other", "64k", &["write 0 1M", "write 4G 64k"]);
    let coarse = layer("coarse", "2M", &["write 0 4k", "write 5G 4k"]);
    let fine = layer("fine", "4k", &["write 0 1M", "write 5G 60k"]);
    let empty = layer("empty", "64k", &[]);
    let all = |above: &Path, below: &Path| has_all_of(above, below).unwrap();
    assert!(
        all(&below, &below) && all(&more, &below) && all(&below, &empty) && all(&coarse, &below)
    );
    assert!(!all(&other, &below) && !all(&below, &more) && !all(&empty, &below));
    // One of its small clusters is missing.
    assert!(!all(&fine, &below));
    let raw = bench.raw(MIB).0;
    assert!(matches!(
        has_all_of(&raw, &below),
        Err(DiskError::Broken { .. })
    ));
}
