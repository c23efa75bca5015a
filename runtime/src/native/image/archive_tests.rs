//! Good archives, in every form.

use std::os::unix::fs::{MetadataExt as _, symlink};
use std::path::Path;

use manifests::path_io;

use super::archive_bench::*;
use super::*;

fn check_plain(root: &Path) {
    assert_eq!(
        path_io::read_to_string(root.join("bin/tool")).unwrap(),
        "program"
    );
    let tool = root.join("bin/tool").metadata().unwrap();
    assert_eq!((tool.nlink(), tool.mtime()), (2, 1_700_000_000));
    assert_eq!(root.join("bin").metadata().unwrap().mtime(), 1_700_000_000);
    assert!(root.join("etc/link").is_symlink());
}

#[test]
fn every_packing() {
    for pack in [|bytes: &[u8]| bytes.to_vec(), gzip, xz, zstd] {
        let scene = scene();
        let bytes = pack(&plain("").end());
        let imported = scene.import(&bytes).unwrap();
        assert_eq!(imported.record.fingerprint, sha(&bytes));
        assert_eq!(imported.record.form, Form::Plain);
        assert_eq!(imported.record.packed_bytes, bytes.len() as u64);
        check_plain(&scene.root(&imported));
        assert!(scene.import(&bytes).unwrap().present);
        // Cut or damaged in the packed stream.
        if bytes.len() < 10_000 && bytes[0] != b'.' {
            let scene = self::scene();
            let cut = &bytes[..bytes.len() - 10];
            if !bytes.ends_with(&[0; 512]) {
                assert!(matches!(scene.import(cut), Err(ImageError::Broken { .. })));
            }
            scene.outside_is_untouched("cut");
        }
    }
}

#[test]
fn bombs_are_stopped_by_what_comes_out() {
    // 40 MiB of zeros in an entry of a kind that is left out: no file is written, and yet it ends.
    let bomb = Tar::default()
        .raw(b'Z', b"a", b"", 40 << 20, &vec![0; 40 << 20], 0)
        .end();
    for pack in [gzip, xz, zstd] {
        let scene = scene();
        assert!(matches!(
            scene.import(&pack(&bomb)),
            Err(ImageError::TooBig { .. })
        ));
        scene.outside_is_untouched("bomb");
    }
    let limits = Limits::default();
    limits::check_ratio(1, 200 << 20, &limits).unwrap();
    limits::check_ratio(4 << 20, 300 << 20, &limits).unwrap();
    limits::check_ratio(1 << 20, 300 << 20, &limits).unwrap_err();
}

#[test]
fn images_of_lxd_and_incus() {
    let metadata = b"architecture: x86_64\nproperties: {os: Debian, release: 12}\n";
    let scene = scene();
    let unified = gzip(&plain("rootfs/").file("metadata.yaml", metadata).end());
    let imported = scene.import(&unified).unwrap();
    assert_eq!(
        (imported.record.form, &imported.record.fingerprint),
        (Form::Unified, &sha(&unified))
    );
    assert_eq!(imported.record.properties.words["release"], "12");
    check_plain(&scene.root(&imported));
    assert!(!scene.root(&imported).join("metadata.yaml").exists());
    // In two files: the fingerprint is of both, metadata first.
    let scene = self::scene();
    let half = xz(&Tar::default()
        .file("metadata.yaml", metadata)
        .folder("templates")
        .end());
    let rootfs = zstd(&plain("").end());
    let (metadata_path, rootfs_path) = (
        scene.write("archive", &half),
        scene.write("outside/decoy", &rootfs),
    );
    let imported = scene
        .import_files(&metadata_path, Some(&rootfs_path))
        .unwrap();
    let both = [half.as_slice(), rootfs.as_slice()].concat();
    assert_eq!(
        (imported.record.form, &imported.record.fingerprint),
        (Form::Split, &sha(&both))
    );
    assert_eq!(
        imported.record.properties.architecture.as_deref(),
        Some("x86_64")
    );
    check_plain(&scene.root(&imported));
    assert!(
        scene
            .import_files(&metadata_path, Some(&rootfs_path))
            .unwrap()
            .present
    );
    assert!(matches!(
        scene.import_files(&metadata_path, None),
        Err(ImageError::Broken { .. })
    ));
    assert!(matches!(
        scene.import_files(&rootfs_path, Some(&metadata_path)),
        Err(ImageError::Broken { .. })
    ));
}

#[test]
fn oci_bundles() {
    let scene = scene();
    let config = br#"{"process":{"args":["/bin/tool"],"env":["A=b"],"cwd":"/srv"}}"#;
    let imported = scene
        .import(&plain("rootfs/").file("config.json", config).end())
        .unwrap();
    assert_eq!(imported.record.form, Form::OciBundle);
    assert_eq!(imported.record.properties.command, ["/bin/tool"]);
    check_plain(&scene.root(&imported));
}

#[test]
fn oci_layers_are_flattened() {
    let scene = scene();
    let t = Tar::default;
    let layers = [
        gzip(
            &plain("")
                .file("old/a", b"1")
                .file("old/sub/b", b"1")
                .file("gone", b"1")
                .folder("emptied")
                .file("emptied/x", b"1")
                .end(),
        ),
        // The opaque mark may come after what its own layer has put there.
        t().file("old/new", b"2")
            .file("old/sub/c", b"2")
            .file("old/.wh..wh..opq", b"")
            .file(".wh.gone", b"")
            .file("emptied/.wh.x", b"")
            .file(".wh.never", b"")
            .end(),
        zstd(
            &t().hard_link("linked", "bin/tool")
                .symlink("bin/second", "tool")
                .end(),
        ),
        vec![0; 1024],
    ];
    let bytes = oci(&layers).end();
    let imported = scene.import(&bytes).unwrap();
    assert_eq!(
        (imported.record.form, &imported.record.fingerprint),
        (Form::OciLayout, &sha(&bytes))
    );
    assert_eq!(imported.record.properties.command, ["/e", "c"]);
    let root = scene.root(&imported);
    for there in ["old/new", "old/sub/c", "bin/tool", "linked", "emptied"] {
        assert!(root.join(there).exists(), "{there}");
    }
    for gone in [
        "old/a",
        "old/sub/b",
        "gone",
        "emptied/x",
        "old/.wh..wh..opq",
        ".wh.gone",
    ] {
        assert!(root.join(gone).symlink_metadata().is_err(), "{gone}");
    }
    assert!(root.join("bin/second").is_symlink());
    assert_eq!(
        path_io::list(root.parent().unwrap()).unwrap().len(),
        2,
        "rootfs and image.json"
    );
}

#[test]
fn what_is_no_file_is_refused_at_once() {
    let scene = scene();
    let pipe = scene.keep.path().join("archive");
    rustix::fs::mkfifoat(rustix::fs::CWD, &pipe, rustix::fs::Mode::RUSR).unwrap();
    assert!(matches!(
        scene.import_files(&pipe, None),
        Err(ImageError::Broken { .. })
    ));
    assert!(matches!(
        scene.import_files(Path::new("/dev/zero"), None),
        Err(ImageError::Broken { .. })
    ));
    assert!(matches!(
        scene.import_files(Path::new("/none"), None),
        Err(ImageError::Path(_))
    ));
}

#[test]
fn sparse_files_of_gnu_tar() {
    for format in ["gnu", "pax"] {
        let scene = scene();
        let folder = scene.keep.path().join("state/tree");
        path_io::create_dir_all(&folder).unwrap();
        let file = std::fs::File::create(folder.join("sparse")).unwrap();
        for block in 0..12_u64 {
            use std::os::unix::fs::FileExt as _;
            file.write_all_at(b"data", block * 65_536).unwrap();
        }
        file.set_len(900_000).unwrap();
        symlink("sparse", folder.join("link")).unwrap();
        let archive = scene.keep.path().join("archive").display().to_string();
        let folder_name = folder.display().to_string();
        let format = format!("--format={format}");
        crate::sys::command::run(
            "tar",
            ["-cSf", &archive, &format, "-C", &folder_name, "."],
            None,
        )
        .unwrap();
        let imported = scene.import_files(Path::new(&archive), None).unwrap();
        let root = scene.root(&imported);
        assert_eq!(
            path_io::read(root.join("sparse")).unwrap(),
            path_io::read(folder.join("sparse")).unwrap()
        );
        assert!(
            root.join("sparse").metadata().unwrap().blocks() * 512 < 400_000,
            "{format}"
        );
    }
}

crate::host_test! {
    fn squashfs_is_unpacked_in_a_jail() {
        let scene = scene();
        let folder = scene.keep.path().join("state/tree");
        path_io::create_dir_all(folder.join("bin")).unwrap();
        path_io::write(folder.join("bin/tool"), "program").unwrap();
        symlink("/etc/passwd", folder.join("link")).unwrap();
        use rustix::fs::{CWD, FileType, Mode, XattrFlags};
        rustix::fs::mknodat(CWD, folder.join("null"), FileType::CharacterDevice, Mode::RUSR, rustix::fs::makedev(1, 3)).unwrap();
        rustix::fs::setxattr(folder.join("bin"), "user.overlay.opaque", b"y", XattrFlags::empty()).unwrap();
        let capability = [&[1, 0, 0, 2][..], &[7; 16]].concat();
        rustix::fs::setxattr(folder.join("bin/tool"), "security.capability", &capability, XattrFlags::empty()).unwrap();
        let archive = scene.keep.path().join("archive");
        let (from, to) = (folder.display().to_string(), archive.display().to_string());
        crate::sys::command::run("mksquashfs", [from.as_str(), &to, "-quiet", "-no-progress"], None).unwrap();
        let imported = scene.import_files(&archive, None).unwrap();
        assert_eq!(imported.record.form, Form::Squashfs);
        assert_eq!(imported.record.fingerprint, sha(&path_io::read(&archive).unwrap()));
        let root = scene.root(&imported);
        assert_eq!(path_io::read_to_string(root.join("bin/tool")).unwrap(), "program");
        assert!(root.join("null").symlink_metadata().is_err());
        let mut buffer = [0; 64];
        rustix::fs::getxattr(root.join("bin"), "user.overlay.opaque", &mut buffer).unwrap_err();
        assert_eq!(rustix::fs::getxattr(root.join("bin/tool"), "security.capability", &mut buffer), Ok(20));
        assert!(imported.record.left_out_count >= 2, "{:?}", imported.record.left_out);
        scene.outside_is_untouched("squashfs");
        // Damaged, and bigger than allowed.
        let mut bytes = path_io::read(&archive).unwrap();
        for byte in bytes.iter_mut().skip(96).step_by(7) {
            *byte ^= 0x55;
        }
        assert!(matches!(scene.import(&bytes), Err(ImageError::Broken { .. })));
        path_io::write(folder.join("zeros"), vec![1; 3 << 20]).unwrap();
        path_io::remove_file(&archive).unwrap();
        crate::sys::command::run("mksquashfs", [from.as_str(), &to, "-quiet", "-no-progress"], None).unwrap();
        assert!(matches!(scene.import_files(&archive, None), Err(ImageError::TooBig { .. })));
        scene.outside_is_untouched("squashfs");
    }
}
