//! The store as its callers see it.

use std::collections::BTreeSet;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

use manifests::path_io;

use super::*;

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
    fn import(&self, source: &ImageSource) -> Result<Imported, ImageError> {
        self.store.import(source, None, &mut |_| true)
    }
    /// A folder with one of everything.
    fn folder(&self) -> PathBuf {
        let root = self.path("source");
        path_io::create_dir_all(root.join("etc")).unwrap();
        path_io::create_dir_all(root.join("usr/bin")).unwrap();
        path_io::write(root.join("usr/bin/tool"), "program").unwrap();
        let mode = std::fs::Permissions::from_mode(0o4755);
        std::fs::set_permissions(root.join("usr/bin/tool"), mode).unwrap();
        std::fs::hard_link(root.join("usr/bin/tool"), root.join("usr/bin/second")).unwrap();
        symlink("/etc/../../../../etc/passwd", root.join("etc/link")).unwrap();
        symlink("usr/bin", root.join("bin")).unwrap();
        let pipe = root.join("pipe");
        rustix::fs::mkfifoat(rustix::fs::CWD, pipe, rustix::fs::Mode::RUSR).unwrap();
        std::os::unix::net::UnixListener::bind(root.join("socket")).unwrap();
        let flags = rustix::fs::XattrFlags::empty();
        rustix::fs::setxattr(root.join("etc"), "user.kept", b"1", flags).unwrap();
        rustix::fs::setxattr(root.join("etc"), "user.overlay.opaque", b"y", flags).unwrap();
        root
    }
    fn names(&self) -> Vec<PathBuf> {
        path_io::list(self.path("images")).unwrap_or_default()
    }
}

#[test]
fn busybox_is_made_once_and_runs() {
    let scene = scene();
    let first = scene.import(&ImageSource::Busybox).unwrap();
    assert!(!first.present);
    let second = scene.import(&ImageSource::Busybox).unwrap();
    assert!(second.present);
    assert_eq!(first.record, second.record);
    let root = scene.store.rootfs(&first.record.fingerprint).unwrap();
    for file in [
        "bin/busybox",
        "etc/inittab",
        "etc/init.d/network",
        "etc/passwd",
    ] {
        assert!(
            root.join(file).symlink_metadata().unwrap().is_file(),
            "{file}"
        );
    }
    for link in ["sbin/init", "bin/sh", "sbin/udhcpc", "bin/hostname"] {
        let target = std::fs::read_link(root.join(link)).unwrap();
        assert_eq!(target, Path::new("/bin/busybox"), "{link}");
    }
    assert_eq!(root.metadata().unwrap().mode() & 0o7777, 0o755);
    assert_eq!(root.join("tmp").metadata().unwrap().mode() & 0o7777, 0o1777);
    assert_eq!(
        first.record.properties.architecture.as_deref(),
        Some(std::env::consts::ARCH)
    );
    let state = scene.path("images").metadata().unwrap();
    assert_eq!(state.mode() & 0o7777, 0o700);
    for script in [
        "etc/init.d/rcS",
        "etc/init.d/network",
        "usr/share/udhcpc/default.script",
    ] {
        let script = root.join(script).display().to_string();
        crate::sys::command::run("/bin/busybox", ["sh", "-n", &script], None).unwrap();
    }
    // Another store makes the very same.
    let other = self::scene();
    assert_eq!(
        other.import(&ImageSource::Busybox).unwrap().record,
        first.record
    );
    assert!(scene.store.verify(&first.record.fingerprint).unwrap());
}

#[test]
fn a_folder_is_copied_with_what_an_image_may_have() {
    let scene = scene();
    let folder = scene.folder();
    let record = scene
        .import(&ImageSource::Folder(folder.clone()))
        .unwrap()
        .record;
    let root = scene.store.rootfs(&record.fingerprint).unwrap();
    let tool = root.join("usr/bin/tool").metadata().unwrap();
    assert_eq!(tool.mode() & 0o7777, 0o4755);
    assert_eq!(
        tool.ino(),
        root.join("usr/bin/second").metadata().unwrap().ino()
    );
    assert_eq!(
        std::fs::read_link(root.join("etc/link")).unwrap(),
        Path::new("/etc/../../../../etc/passwd")
    );
    assert!(root.join("pipe").exists());
    assert!(!root.join("socket").exists());
    let mut buffer = [0; 8];
    assert_eq!(
        rustix::fs::getxattr(root.join("etc"), "user.kept", &mut buffer),
        Ok(1)
    );
    rustix::fs::getxattr(root.join("etc"), "user.overlay.opaque", &mut buffer).unwrap_err();
    assert_eq!(record.left_out_count, 2, "{:?}", record.left_out);
    // Times do not count, content does.
    let mode = std::fs::Permissions::from_mode(0o4755);
    path_io::write(folder.join("usr/bin/tool"), "program").unwrap();
    std::fs::set_permissions(folder.join("usr/bin/tool"), mode).unwrap();
    assert!(
        scene
            .import(&ImageSource::Folder(folder.clone()))
            .unwrap()
            .present
    );
    path_io::write(folder.join("usr/bin/tool"), "Program").unwrap();
    let changed = scene.import(&ImageSource::Folder(folder)).unwrap();
    assert!(!changed.present);
    assert_eq!(scene.store.list().unwrap().images.len(), 2);
    path_io::write(root.join("usr/bin/tool"), "tampered").unwrap();
    assert!(!scene.store.verify(&record.fingerprint).unwrap());
}

#[test]
fn nothing_half_done_is_left_or_seen() {
    let scene = scene();
    let folder = scene.folder();
    let stopped = scene
        .store
        .import(&ImageSource::Folder(folder.clone()), None, &mut |_| false);
    assert!(matches!(stopped, Err(ImageError::Interrupted)));
    assert_eq!(scene.names(), Vec::<PathBuf>::new());
    let wanted = "0".repeat(64);
    let other = scene.store.import(
        &ImageSource::Folder(folder.clone()),
        Some(&wanted),
        &mut |_| true,
    );
    assert!(matches!(other, Err(ImageError::WrongFingerprint { .. })));
    let small = scene.store.clone().with_limits(Limits {
        unpacked_bytes: 3,
        ..Limits::default()
    });
    let big = small.import(&ImageSource::Folder(folder.clone()), None, &mut |_| true);
    assert!(matches!(big, Err(ImageError::TooBig { limit: 3, .. })));
    let few = scene.store.clone().with_limits(Limits {
        entries: 2,
        ..Limits::default()
    });
    let many = few.import(&ImageSource::Folder(folder.clone()), None, &mut |_| true);
    assert!(matches!(many, Err(ImageError::TooBig { limit: 2, .. })));
    assert_eq!(scene.names(), Vec::<PathBuf>::new());
    let empty = scene.path("empty");
    path_io::create_dir_all(&empty).unwrap();
    for bad in [empty, scene.path("missing"), folder.join("usr/bin/tool")] {
        scene.import(&ImageSource::Folder(bad)).unwrap_err();
    }
    assert_eq!(scene.names(), Vec::<PathBuf>::new());
    // What a killed process left is no image and goes with the next import; what a living one makes stays.
    let dead = scene.path("images/.unfinished-1-0-dead");
    let living = scene.path("images/.unfinished-1-0-living");
    for path in [&dead, &living] {
        path_io::create_dir_all(path.join("rootfs/etc")).unwrap();
    }
    let lock = std::fs::File::open(&living).unwrap();
    rustix::fs::flock(&lock, rustix::fs::FlockOperation::LockExclusive).unwrap();
    assert!(scene.store.list().unwrap().images.is_empty());
    let aliases = scene.path("images/aliases");
    path_io::create_dir_all(&aliases).unwrap();
    // No process has so high a number.
    let unfinished = aliases.join(".busybox.json.4194305.new");
    path_io::write(&unfinished, "{").unwrap();
    scene.import(&ImageSource::Folder(folder)).unwrap();
    assert!(!dead.exists() && living.exists() && !unfinished.exists());
}

#[test]
fn images_are_found_by_alias_and_prefix() {
    let scene = scene();
    let record = scene.import(&ImageSource::Busybox).unwrap().record;
    let fingerprint = record.fingerprint.as_str();
    scene
        .store
        .set_alias("busy/box", fingerprint, Some("edge/1"))
        .unwrap();
    let named = |name: &str| scene.store.find(name).map(|record| record.fingerprint).ok();
    let hit = Some(fingerprint.to_owned());
    assert_eq!(named("busy/box"), hit);
    assert_eq!(named(fingerprint), hit);
    assert_eq!(named(&format!("sha256:{}", &fingerprint[..12])), hit);
    assert_eq!(named(&fingerprint[..12].to_ascii_uppercase()), hit);
    for miss in [
        &fingerprint[..11],
        "",
        "other",
        "../busy",
        "sha256:",
        &"0".repeat(64),
    ] {
        assert!(
            matches!(scene.store.find(miss), Err(ImageError::NotFound(_))),
            "{miss}"
        );
    }
    let twin = format!("{}{}", &fingerprint[..32], "0".repeat(32));
    path_io::create_dir_all(scene.path("images").join(&twin)).unwrap();
    assert!(matches!(
        scene.store.find(&fingerprint[..12]),
        Err(ImageError::Ambiguous { count: 2, .. })
    ));
    let images = scene.store.list().unwrap();
    assert_eq!((images.images.len(), images.broken.len()), (1, 1));
    // Only the owner moves or removes an alias.
    let foreign = scene
        .store
        .set_alias("busy/box", fingerprint, Some("other/2"));
    assert!(matches!(foreign, Err(ImageError::ForeignAlias { .. })));
    assert!(matches!(
        scene.store.remove_alias("busy/box", None),
        Err(ImageError::ForeignAlias { .. })
    ));
    let used = BTreeSet::from([fingerprint.to_owned()]);
    assert!(matches!(
        scene.store.delete(fingerprint, &used),
        Err(ImageError::InUse(_))
    ));
    scene.store.delete(fingerprint, &BTreeSet::new()).unwrap();
    scene.store.delete(fingerprint, &BTreeSet::new()).unwrap();
    assert!(matches!(
        scene.store.rootfs(fingerprint),
        Err(ImageError::NotFound(_))
    ));
    assert!(scene.store.list_aliases().unwrap().is_empty());
    scene
        .store
        .delete("../source", &BTreeSet::new())
        .unwrap_err();
}

#[test]
fn downloads_are_pinned_and_leave_nothing() {
    use std::io::{BufRead as _, Write as _};
    let scene = scene();
    let folder = scene.folder();
    let archive = scene.path("archive.tar");
    let (from, to) = (folder.display().to_string(), archive.display().to_string());
    crate::sys::command::run("tar", ["-cf", &to, "-C", &from, "."], None).unwrap();
    let bytes = path_io::read(&archive).unwrap();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let body = bytes.clone();
    let serving = std::thread::spawn(move || {
        for _ in 0..2 {
            let (mut stream, _) = listener.accept().unwrap();
            let mut lines = std::io::BufReader::new(stream.try_clone().unwrap()).lines();
            while lines
                .next()
                .is_some_and(|line| line.is_ok_and(|line| !line.is_empty()))
            {}
            let head = format!(
                "HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
                body.len()
            );
            stream.write_all(head.as_bytes()).unwrap();
            stream.write_all(&body).unwrap();
        }
    });
    let source = ImageSource::Url {
        url: format!("http://user:secret@127.0.0.1:{port}/image?token=secret"),
        rootfs: None,
        allowed: AllowedAddresses {
            also: vec!["127.0.0.0/8".parse().unwrap()],
        },
    };
    let fetch = |wanted: Option<&str>| scene.store.import(&source, wanted, &mut |_| true);
    assert!(matches!(fetch(None), Err(ImageError::NoDigest)));
    let other = "0".repeat(64);
    assert!(matches!(
        fetch(Some(&other)),
        Err(ImageError::WrongFingerprint { .. })
    ));
    assert_eq!(scene.names(), Vec::<PathBuf>::new());
    use sha2::Digest as _;
    let wanted = hex::encode(sha2::Sha256::digest(&bytes));
    let imported = fetch(Some(&wanted)).unwrap();
    serving.join().unwrap();
    assert_eq!(
        imported.record.source,
        format!("http://127.0.0.1:{port}/image")
    );
    // The server is not asked again.
    assert!(fetch(Some(&wanted)).unwrap().present);
    assert_eq!(scene.names().len(), 1);
}

crate::host_test! {
    /// A folder with devices and mounts inside: they are left out, and nothing of the source changes.
    fn devices_and_mounts_of_a_folder_are_left_out() {
        use rustix::fs::{CWD, FileType, Mode};
        let scene = scene();
        let folder = scene.folder();
        path_io::create_dir_all(folder.join("proc")).unwrap();
        rustix::fs::mknodat(CWD, folder.join("null"), FileType::CharacterDevice, Mode::RUSR, rustix::fs::makedev(1, 3)).unwrap();
        rustix::fs::mknodat(CWD, folder.join("whiteout"), FileType::CharacterDevice, Mode::RUSR, 0).unwrap();
        let secret = scene.path("secret");
        path_io::create_dir_all(&secret).unwrap();
        path_io::write(secret.join("key"), "host").unwrap();
        rustix::mount::mount_bind(&secret, folder.join("proc")).unwrap();
        rustix::mount::mount_bind(secret.join("key"), folder.join("usr/bin/second")).unwrap();
        let record = scene.import(&ImageSource::Folder(folder.clone())).unwrap().record;
        let root = scene.store.rootfs(&record.fingerprint).unwrap();
        assert_eq!(path_io::list(root.join("proc")).unwrap(), Vec::<PathBuf>::new());
        for absent in ["null", "whiteout", "usr/bin/second"] {
            assert!(!root.join(absent).exists(), "{absent}");
        }
        assert!(scene.store.verify(&record.fingerprint).unwrap());
        std::os::unix::fs::chown(folder.join("etc"), Some(100_000), None).unwrap();
        assert!(matches!(
            scene.import(&ImageSource::Folder(folder.clone())),
            Err(ImageError::Refused { refusal: Refusal::Owner(100_000), .. })
        ));
        for mounted in ["proc", "usr/bin/second"] {
            rustix::mount::unmount(folder.join(mounted), rustix::mount::UnmountFlags::NOFOLLOW).unwrap();
        }
    }
}
