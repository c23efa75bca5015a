//! Images of machines as the callers of the store see them.

use std::collections::BTreeSet;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use manifests::kinds::instance::InstanceType;
use manifests::path_io;
use sha2::{Digest as _, Sha256};

use super::*;
use crate::native::disk_image::{Below, Format, create_overlay};

const MIB: u64 = 1 << 20;

struct Scene {
    keep: tempfile::TempDir,
    store: ImageStore,
}

fn scene() -> Scene {
    let keep = tempfile::tempdir().unwrap();
    let store = ImageStore::at(keep.path().join("images"));
    Scene { keep, store }
}

impl Scene {
    fn path(&self, name: &str) -> PathBuf {
        self.keep.path().join(name)
    }
    fn file(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        path_io::write(&path, content).unwrap();
        path
    }
    fn qcow2(&self, size: u64) -> PathBuf {
        let path = self.path("disk.qcow2");
        create_overlay(&path, size, None).unwrap();
        path
    }
    /// A raw disk with a boot sector, a hole and something behind it.
    fn raw(&self) -> PathBuf {
        let path = self.path("disk.img");
        let file = std::fs::File::create(&path).unwrap();
        file.set_len(64 * MIB).unwrap();
        file.write_all_at(b"\x55\xaa", 510).unwrap();
        file.write_all_at(b"end", 64 * MIB - 3).unwrap();
        path
    }
    fn kernel(&self) -> PathBuf {
        let mut kernel = vec![0; 4096];
        kernel[0x202..0x206].copy_from_slice(b"HdrS");
        self.file("vmlinuz", kernel)
    }
    fn import(&self, path: &Path, rootfs: Option<&Path>) -> Result<Imported, ImageError> {
        let source = archive(path, rootfs);
        self.store.import(&source, None, &mut |_| true)
    }
    fn for_machines(
        &self,
        source: Option<&Path>,
        parts: &BootParts,
    ) -> Result<Imported, ImageError> {
        let source = source.map(|path| archive(path, None));
        self.store
            .import_for_machines(source.as_ref(), parts, None, &mut |_| true)
    }
    fn nothing_is_left(&self) {
        let left = path_io::list(self.path("images")).unwrap_or_default();
        assert_eq!(left, Vec::<PathBuf>::new());
    }
}

fn archive(path: &Path, rootfs: Option<&Path>) -> ImageSource {
    ImageSource::Archive {
        path: path.to_path_buf(),
        rootfs: rootfs.map(Path::to_path_buf),
    }
}

fn tar(path: &Path, files: &[(&str, &[u8])]) {
    let mut builder = tar::Builder::new(std::fs::File::create(path).unwrap());
    for (name, content) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o666);
        header.set_uid(1000);
        builder.append_data(&mut header, name, *content).unwrap();
    }
    builder.finish().unwrap();
}

fn sha256(files: &[&Path]) -> String {
    let mut hash = Sha256::new();
    for file in files {
        hash.update(path_io::read(file).unwrap());
    }
    hex::encode(hash.finalize())
}

const METADATA: &[u8] = b"architecture: x86_64\nproperties: {os: debian}\n";

#[test]
fn a_disk_is_kept_as_it_is_and_never_written_to() {
    for (path, format, size) in [
        (Scene::raw as fn(&Scene) -> PathBuf, Format::Raw, 64 * MIB),
        (|scene| scene.qcow2(3 * MIB), Format::Qcow2, 3 * MIB),
    ] {
        let scene = scene();
        let path = path(&scene);
        let imported = scene.import(&path, None).unwrap();
        let record = &imported.record;
        assert!(!imported.present);
        assert_eq!(record.fingerprint, sha256(&[&path]));
        assert_eq!((record.form, record.entries), (Form::Disk, 1));
        assert_eq!(record.made_for(), InstanceType::VirtualMachine);
        assert!(
            record.unpacked_bytes < MIB,
            "holes stay holes: {}",
            record.unpacked_bytes
        );
        let machine = scene.store.machine(&record.fingerprint).unwrap();
        assert_eq!(
            (machine.kernel, machine.initrd, machine.cmdline),
            (None, None, None)
        );
        let disk = machine.disk.unwrap();
        assert_eq!((disk.format, disk.virtual_size), (format, size));
        let seen = disk.path.metadata().unwrap();
        assert_eq!((seen.mode() & 0o7777, seen.uid()), (0o400, 0));
        assert_eq!(
            path_io::read(&disk.path).unwrap(),
            path_io::read(&path).unwrap()
        );
        assert!(scene.store.verify(&record.fingerprint).unwrap());
        let again = scene.import(&path, None).unwrap();
        assert!(again.present && again.record == *record);
        let pinned = scene.store.import(
            &archive(&path, None),
            Some(&record.fingerprint),
            &mut |_| true,
        );
        assert!(pinned.unwrap().present);
        // It is not what containers have.
        let asked = scene
            .store
            .rootfs(&record.fingerprint)
            .unwrap_err()
            .to_string();
        assert!(asked.ends_with("is for virtual-machines"), "{asked}");
        // Spoiled by somebody.
        let file = std::fs::File::options()
            .write(true)
            .open(&disk.path)
            .unwrap();
        file.write_all_at(b"x", 4000).unwrap();
        assert!(!scene.store.verify(&record.fingerprint).unwrap());
        let used = BTreeSet::from([record.fingerprint.clone()]);
        assert!(matches!(
            scene.store.delete(&record.fingerprint, &used),
            Err(ImageError::InUse(_))
        ));
        scene
            .store
            .delete(&record.fingerprint, &BTreeSet::new())
            .unwrap();
        scene.nothing_is_left();
    }
}

#[test]
fn images_of_incus_in_one_file_and_in_two() {
    let scene = scene();
    let disk = scene.qcow2(5 * MIB);
    let content = path_io::read(&disk).unwrap();
    let unified = scene.path("unified.tar");
    tar(
        &unified,
        &[("metadata.yaml", METADATA), ("rootfs.img", &content)],
    );
    let metadata = scene.path("metadata.tar");
    tar(
        &metadata,
        &[("metadata.yaml", METADATA), ("templates/x.tpl", b"x")],
    );
    for (path, rootfs, form, wanted) in [
        (&unified, None, Form::Unified, sha256(&[&unified])),
        (
            &metadata,
            Some(disk.as_path()),
            Form::Split,
            sha256(&[&metadata, &disk]),
        ),
    ] {
        let record = scene.import(path, rootfs).unwrap().record;
        assert_eq!(
            (record.fingerprint.as_str(), record.form),
            (wanted.as_str(), form)
        );
        assert_eq!(record.properties.architecture.as_deref(), Some("x86_64"));
        let found = scene
            .store
            .machine(&record.fingerprint)
            .unwrap()
            .disk
            .unwrap();
        assert_eq!((found.format, found.virtual_size), (Format::Qcow2, 5 * MIB));
        let seen = found.path.metadata().unwrap();
        assert_eq!((seen.mode() & 0o7777, seen.uid()), (0o400, 0));
        assert_eq!(path_io::read(&found.path).unwrap(), content);
        assert!(scene.store.verify(&record.fingerprint).unwrap());
        assert!(scene.import(path, rootfs).unwrap().present);
        let left: Vec<_> = path_io::list(scene.path("images").join(&record.fingerprint)).unwrap();
        assert_eq!(left.len(), 2, "{left:?}");
    }
    // The disk in it leads outside.
    let evil = scene.path("evil.qcow2");
    let below = Below {
        name: "/etc/shadow",
        format: Format::Raw,
        virtual_size: 512,
    };
    create_overlay(&evil, MIB, Some(below)).unwrap();
    tar(
        &unified,
        &[
            ("metadata.yaml", METADATA),
            ("rootfs.img", &path_io::read(&evil).unwrap()),
        ],
    );
    for (path, rootfs, shown) in [
        (
            &unified,
            None,
            "unified.tar/rootfs.img has the backing file \"/etc/shadow\"",
        ),
        (
            &metadata,
            Some(evil.as_path()),
            "evil.qcow2 has the backing file \"/etc/shadow\"",
        ),
        (
            &evil,
            None,
            "evil.qcow2 has the backing file \"/etc/shadow\"",
        ),
    ] {
        let told = scene.import(path, rootfs).unwrap_err().to_string();
        assert!(told.contains(shown), "{told}");
    }
    assert_eq!(
        path_io::list(scene.path("images")).unwrap().len(),
        2,
        "nothing of those is left"
    );
}

#[test]
fn a_kernel_and_what_goes_with_it_are_part_of_the_image() {
    let scene = scene();
    let disk = scene.raw();
    let parts = BootParts {
        kernel: Some(scene.kernel()),
        initrd: Some(scene.file("initrd", "initrd")),
        cmdline: Some("console=ttyS0".to_owned()),
    };
    let kernel_alone = BootParts {
        kernel: parts.kernel.clone(),
        ..BootParts::default()
    };
    let other_line = BootParts {
        cmdline: Some("quiet".to_owned()),
        ..parts.clone()
    };
    let mut fingerprints = BTreeSet::new();
    for (source, parts) in [
        (Some(disk.as_path()), &parts),
        (Some(disk.as_path()), &kernel_alone),
        (Some(disk.as_path()), &BootParts::default()),
        (None, &parts),
        (None, &kernel_alone),
        (None, &other_line),
    ] {
        let imported = scene.for_machines(source, parts).unwrap();
        assert!(!imported.present);
        let fingerprint = imported.record.fingerprint;
        assert!(fingerprints.insert(fingerprint.clone()), "each part counts");
        assert!(scene.for_machines(source, parts).unwrap().present);
        let machine = scene.store.machine(&fingerprint).unwrap();
        assert_eq!(machine.disk.is_some(), source.is_some());
        assert_eq!(machine.cmdline, parts.cmdline);
        for (copy, original) in [
            (&machine.kernel, &parts.kernel),
            (&machine.initrd, &parts.initrd),
        ] {
            let read = |path: &PathBuf| path_io::read(path).unwrap();
            assert_eq!(copy.as_ref().map(read), original.as_ref().map(read));
            if let Some(copy) = copy {
                assert!(copy.starts_with(scene.path("images")));
                assert_eq!(copy.metadata().unwrap().mode() & 0o7777, 0o444);
            }
        }
        assert!(scene.store.verify(&fingerprint).unwrap());
    }
    // The SHA-256 of a source is that of the source.
    let pinned = |sha: &str| {
        let source = archive(&disk, None);
        scene
            .store
            .import_for_machines(Some(&source), &parts, Some(sha), &mut |_| true)
    };
    assert!(pinned(&sha256(&[&disk])).unwrap().present);
    assert!(matches!(
        pinned(&"0".repeat(64)),
        Err(ImageError::WrongFingerprint { .. })
    ));
}

#[test]
fn what_no_machine_starts_from_is_told() {
    let scene = scene();
    let kernel = Some(scene.kernel());
    let disk = scene.raw();
    let container = scene.path("rootfs.tar");
    tar(&container, &[("etc/hostname", b"x"), ("bin/sh", b"x")]);
    let with = |kernel: Option<PathBuf>, initrd: Option<&str>, cmdline: Option<&str>| BootParts {
        kernel,
        initrd: initrd.map(|content| scene.file("initrd", content)),
        cmdline: cmdline.map(str::to_owned),
    };
    let table: [(Option<&Path>, BootParts, &str); 9] = [
        (
            Some(&container),
            with(None, None, None),
            "rootfs.tar is a root file system for containers",
        ),
        (
            Some(&container),
            with(kernel.clone(), None, None),
            "rootfs.tar is a root file system for containers",
        ),
        (Some(&disk), with(None, Some("x"), None), "need a kernel"),
        (
            Some(&disk),
            with(None, None, Some("quiet")),
            "need a kernel",
        ),
        (None, with(None, None, None), "need a kernel"),
        (
            None,
            with(kernel.clone(), Some(""), None),
            "initrd: is empty",
        ),
        (
            None,
            with(Some(disk.clone()), None, None),
            "disk.img: is no kernel",
        ),
        (
            None,
            with(kernel.clone(), None, Some("a\nb")),
            "is one line of at most 2047 bytes",
        ),
        (
            Some(&scene.file("zip", b"PK\x03\x04")),
            with(kernel, None, None),
            "zip is a zip archive and no raw or qcow2 disk",
        ),
    ];
    for (source, parts, wanted) in table {
        let told = scene.for_machines(source, &parts).unwrap_err().to_string();
        assert!(told.contains(wanted), "{told}");
    }
    for folder in [ImageSource::Busybox, ImageSource::Folder(scene.path("x"))] {
        let none = BootParts::default();
        let told = scene
            .store
            .import_for_machines(Some(&folder), &none, None, &mut |_| true);
        assert!(matches!(told, Err(ImageError::WrongKind { .. })));
    }
    scene.nothing_is_left();
    // Nothing tells that it is a disk: it is one where one is asked for.
    let plain = scene.file("plain.img", vec![0; 4096]);
    assert!(matches!(
        scene.import(&plain, None),
        Err(ImageError::Broken { .. })
    ));
    scene
        .for_machines(Some(&plain), &BootParts::default())
        .unwrap();
    // An image for containers has no disk.
    let record = scene.import(&container, None).unwrap().record;
    let told = scene
        .store
        .machine(&record.fingerprint)
        .unwrap_err()
        .to_string();
    assert!(told.ends_with("is for containers"), "{told}");
}

#[test]
fn limits_and_interruptions_leave_nothing() {
    let mut scene = scene();
    let disk = scene.raw();
    let source = archive(&disk, None);
    let mut never = |_: u64| false;
    let stopped = scene.store.import(&source, None, &mut never);
    assert!(
        matches!(stopped, Err(ImageError::Interrupted)),
        "{stopped:?}"
    );
    scene.nothing_is_left();
    scene.store = scene.store.clone().with_limits(Limits {
        unpacked_bytes: 32 * MIB,
        ..Limits::default()
    });
    assert!(matches!(
        scene.import(&disk, None),
        Err(ImageError::TooBig { .. })
    ));
    scene.nothing_is_left();
}
