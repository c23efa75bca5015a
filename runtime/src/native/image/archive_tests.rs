//! Archives as strangers make them: forty hostile ones, and the good ones in every form.

use std::io::Write as _;
use std::os::unix::fs::{MetadataExt as _, symlink};
use std::path::{Path, PathBuf};

use manifests::path_io;
use sha2::{Digest as _, Sha256};

use super::*;

/// A tar archive in the making, without any judgement.
#[derive(Default, Clone)]
struct Tar(Vec<u8>);

impl Tar {
    /// An entry; name and link are written raw, so they may be anything of up to 100 bytes.
    fn raw(
        mut self,
        kind: u8,
        name: &[u8],
        link: &[u8],
        size: u64,
        data: &[u8],
        owner: u64,
    ) -> Self {
        let mut header = tar::Header::new_gnu();
        {
            let old = header.as_old_mut();
            old.name[..name.len()].copy_from_slice(name);
            old.linkname[..link.len()].copy_from_slice(link);
            old.linkflag[0] = kind;
        }
        header.set_size(size);
        header.set_mode(if kind == b'5' { 0o755 } else { 0o644 });
        header.set_uid(owner);
        header.set_gid(0);
        header.set_mtime(1_700_000_000);
        header.set_cksum();
        self.0.extend_from_slice(header.as_bytes());
        self.data(data)
    }
    fn data(mut self, data: &[u8]) -> Self {
        self.0.extend_from_slice(data);
        let padded = self.0.len().next_multiple_of(512);
        self.0.resize(padded, 0);
        self
    }
    fn file(self, name: &str, content: &[u8]) -> Self {
        self.raw(b'0', name.as_bytes(), b"", content.len() as u64, content, 0)
    }
    fn folder(self, name: &str) -> Self {
        self.raw(b'5', name.as_bytes(), b"", 0, b"", 0)
    }
    fn symlink(self, name: &str, target: &str) -> Self {
        self.raw(b'2', name.as_bytes(), target.as_bytes(), 0, b"", 0)
    }
    fn hard_link(self, name: &str, target: &str) -> Self {
        self.raw(b'1', name.as_bytes(), target.as_bytes(), 0, b"", 0)
    }
    fn device(self, kind: u8, name: &str) -> Self {
        self.raw(kind, name.as_bytes(), b"", 0, b"", 0)
    }
    fn pax(self, records: &[(&str, &[u8])]) -> Self {
        let mut text = Vec::new();
        for (key, value) in records {
            let rest = key.len() + value.len() + 3;
            let mut length = rest + 1;
            while length != rest + length.to_string().len() {
                length = rest + length.to_string().len();
            }
            text.extend_from_slice(format!("{length} {key}=").as_bytes());
            text.extend_from_slice(value);
            text.push(b'\n');
        }
        self.raw(b'x', b"pax", b"", text.len() as u64, &text, 0)
    }
    fn end(mut self) -> Vec<u8> {
        self.0.extend_from_slice(&[0; 1024]);
        self.0
    }
}

struct Scene {
    keep: tempfile::TempDir,
    store: ImageStore,
}

fn scene() -> Scene {
    let keep = tempfile::tempdir().unwrap();
    // Small limits, so that bombs are small.
    let store = ImageStore::at(keep.path().join("state/images")).with_limits(Limits {
        unpacked_bytes: 1 << 20,
        entries: 1000,
        ratio: 100,
        depth: 32,
        archive_bytes: 64 << 20,
        header_bytes: 64 << 10,
    });
    path_io::create_dir_all(keep.path().join("outside")).unwrap();
    path_io::write(keep.path().join("outside/decoy"), "untouched").unwrap();
    Scene { keep, store }
}

impl Scene {
    fn write(&self, name: &str, content: &[u8]) -> PathBuf {
        let path = self.keep.path().join(name);
        path_io::write(&path, content).unwrap();
        path
    }
    fn import(&self, content: &[u8]) -> Result<Imported, ImageError> {
        let path = self.write("archive", content);
        self.import_files(&path, None)
    }
    fn import_files(&self, path: &Path, rootfs: Option<&Path>) -> Result<Imported, ImageError> {
        let source = ImageSource::Archive {
            path: path.to_path_buf(),
            rootfs: rootfs.map(Path::to_path_buf),
        };
        self.store.import(&source, None, &mut |_| true)
    }
    fn root(&self, imported: &Imported) -> PathBuf {
        self.store.rootfs(&imported.record.fingerprint).unwrap()
    }
    /// The host is as it was: nothing but the decoy outside, nothing unfinished in the store.
    fn outside_is_untouched(&self, what: &str) {
        let outside = self.keep.path().join("outside");
        assert_eq!(
            path_io::list(&outside).unwrap(),
            [outside.join("decoy")],
            "{what}"
        );
        let decoy = outside.join("decoy");
        assert_eq!(
            path_io::read_to_string(&decoy).unwrap(),
            "untouched",
            "{what}"
        );
        assert_eq!(decoy.metadata().unwrap().nlink(), 1, "{what}");
        let names: Vec<PathBuf> = path_io::list(self.keep.path())
            .unwrap()
            .into_iter()
            .filter(|path| !path.ends_with("archive"))
            .collect();
        for path in names {
            assert!(
                path.ends_with("outside") || path.ends_with("state"),
                "{what}: {}",
                path.display()
            );
        }
        for path in path_io::list(self.keep.path().join("state/images")).unwrap_or_default() {
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            assert!(!name.starts_with('.'), "{what}: {name} was left");
        }
    }
}

/// What must come of a hostile archive.
enum Fate {
    Refused(Refusal),
    TooBig,
    Broken,
    /// It is harmless: these paths are there (or, with `!`, not), below the root.
    Tamed(&'static [&'static str]),
}

fn hostile(outside: &str) -> Vec<(&'static str, Vec<u8>, Fate)> {
    use Fate::{Broken, Refused, Tamed, TooBig};
    let t = Tar::default;
    let decoy = format!("{outside}/decoy");
    let up = "../../../../outside/decoy";
    let long_name = vec![b'n'; 300];
    let deep = "d/".repeat(40);
    let long_path = "nnnnnnnnn/".repeat(500);
    let old_sparse = |real: u64, runs: &[(u64, u64)], data: &[u8]| {
        let mut header = tar::Header::new_gnu();
        header.set_path("sparse").unwrap();
        header.set_mode(0o644);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        header.set_size(data.len() as u64);
        header.set_entry_type(tar::EntryType::GNUSparse);
        let gnu = header.as_gnu_mut().unwrap();
        gnu.set_real_size(real);
        for (slot, (offset, length)) in gnu.sparse.iter_mut().zip(runs) {
            slot.set_offset(*offset);
            slot.set_length(*length);
        }
        header.set_cksum();
        Tar(header.as_bytes().to_vec()).data(data).end()
    };
    let damaged = |change: fn(&mut Vec<u8>)| {
        let mut bytes = t().file("a", b"x").end();
        change(&mut bytes);
        bytes
    };
    let many = (0..1200).fold(t(), |tar, number| tar.file(&format!("f{number}"), b""));
    vec![
        (
            "upwards",
            t().file("../decoy", b"x").end(),
            Refused(Refusal::Upwards),
        ),
        (
            "upwards inside",
            t().file("a/../../decoy", b"x").end(),
            Refused(Refusal::Upwards),
        ),
        (
            "upwards at the end",
            t().folder("a/..").end(),
            Refused(Refusal::Upwards),
        ),
        (
            "far upwards",
            t().file(up, b"x").end(),
            Refused(Refusal::Upwards),
        ),
        (
            "absolute",
            t().file("/tmp/keel-evil", b"x").end(),
            Refused(Refusal::Absolute),
        ),
        (
            "absolute by pax",
            t().pax(&[("path", decoy.as_bytes())]).file("a", b"x").end(),
            Refused(Refusal::Absolute),
        ),
        (
            "upwards by pax",
            t().pax(&[("path", b"../decoy")]).file("a", b"x").end(),
            Refused(Refusal::Upwards),
        ),
        (
            "upwards by a long name",
            t().raw(b'L', b"././@LongLink", b"", 9, b"../decoy\0", 0)
                .file("a", b"x")
                .end(),
            Refused(Refusal::Upwards),
        ),
        (
            "upwards by a sparse name",
            t().pax(&[("GNU.sparse.name", b"../decoy")])
                .file("a", b"x")
                .end(),
            Refused(Refusal::Upwards),
        ),
        (
            "NUL in a pax path",
            t().pax(&[("path", b"a\0b")]).file("a", b"x").end(),
            Refused(Refusal::Nul),
        ),
        (
            "no name",
            t().raw(b'0', b"", b"", 0, b"", 0).end(),
            Refused(Refusal::NoName),
        ),
        (
            "a link, then a file in it",
            t().symlink("d", outside).file("d/decoy", b"x").end(),
            Refused(Refusal::ThroughLink),
        ),
        (
            "a relative link, then a file in it",
            t().symlink("d", "../../../../outside")
                .file("d/decoy", b"x")
                .end(),
            Refused(Refusal::ThroughLink),
        ),
        (
            "a link, then a folder below it",
            t().symlink("d", outside).folder("d/new").end(),
            Refused(Refusal::ThroughLink),
        ),
        (
            "a chain of links",
            t().symlink("a", "b")
                .symlink("b", outside)
                .file("a/decoy", b"x")
                .end(),
            Refused(Refusal::ThroughLink),
        ),
        (
            "a magic link",
            t().symlink("d", "/proc/self/root")
                .file("d/tmp/keel-evil", b"x")
                .end(),
            Refused(Refusal::ThroughLink),
        ),
        (
            "a link, then a file in its place",
            t().symlink("decoy", &decoy).file("decoy", b"x").end(),
            Tamed(&["decoy"]),
        ),
        (
            "a link, then a folder in its place",
            t().symlink("d", outside)
                .folder("d")
                .file("d/decoy", b"x")
                .end(),
            Tamed(&["d/decoy"]),
        ),
        (
            "a link, then its attributes",
            t().symlink("d", outside)
                .raw(b'5', b"d", b"", 0, b"", 99)
                .end(),
            Tamed(&["d"]),
        ),
        (
            "a hard link to the host",
            t().hard_link("h", &decoy).end(),
            Refused(Refusal::Absolute),
        ),
        (
            "a hard link upwards",
            t().hard_link("h", up).end(),
            Refused(Refusal::Upwards),
        ),
        (
            "a hard link through a link",
            t().symlink("d", outside).hard_link("h", "d/decoy").end(),
            Refused(Refusal::ThroughLink),
        ),
        (
            "a hard link to a link, then a file over it",
            t().symlink("s", &decoy)
                .hard_link("h", "s")
                .file("h", b"x")
                .end(),
            Tamed(&["h"]),
        ),
        (
            "a hard link to a link, written through",
            t().symlink("s", &decoy)
                .hard_link("h", "s")
                .file("h/x", b"x")
                .end(),
            Refused(Refusal::ThroughLink),
        ),
        (
            "a hard link to nothing",
            t().hard_link("h", "none").end(),
            Refused(Refusal::LinkToNothing),
        ),
        (
            "a hard link to a folder",
            t().folder("d").hard_link("h", "d").end(),
            Refused(Refusal::LinkToFolder),
        ),
        (
            "a hard link to the root",
            t().hard_link("h", "./").end(),
            Refused(Refusal::LinkToFolder),
        ),
        (
            "devices",
            t().device(b'3', "dev/mem")
                .device(b'4', "dev/sda")
                .file("a", b"x")
                .end(),
            Tamed(&["a", "!dev/mem", "!dev/sda"]),
        ),
        (
            "the root as a file",
            t().file("./", b"").file(".", b"x").end(),
            Refused(Refusal::ReplacesRoot),
        ),
        (
            "the root as a link",
            t().symlink(".", outside).end(),
            Refused(Refusal::ReplacesRoot),
        ),
        (
            "a file as a folder",
            t().file("a", b"x").file("a/b", b"x").end(),
            Refused(Refusal::ThroughLink),
        ),
        (
            "named twice",
            t().file("a", b"1")
                .folder("a")
                .file("a/b", b"x")
                .file("a", b"2")
                .end(),
            Tamed(&["a", "!a/b"]),
        ),
        (
            "an owner out of range",
            t().raw(b'0', b"a", b"", 0, b"", 100_000).end(),
            Refused(Refusal::Owner(100_000)),
        ),
        (
            "an owner out of range by pax",
            t().pax(&[("uid", b"4294967295")]).file("a", b"x").end(),
            Refused(Refusal::Owner(4_294_967_295)),
        ),
        (
            "a link without a target",
            t().symlink("s", "").end(),
            Refused(Refusal::NoTarget),
        ),
        (
            "a long component",
            t().pax(&[("path", &long_name)]).file("a", b"x").end(),
            Refused(Refusal::LongName),
        ),
        (
            "a long path",
            t().pax(&[("path", long_path.as_bytes())])
                .file("a", b"x")
                .end(),
            Refused(Refusal::LongName),
        ),
        (
            "a deep path",
            t().folder(&deep).end(),
            Refused(Refusal::Deep),
        ),
        (
            "a huge extended header",
            t().raw(b'x', b"pax", b"", 1 << 40, b"", 0).end(),
            TooBig,
        ),
        (
            "a huge long name",
            t().raw(b'L', b"l", b"", 1 << 30, b"", 0).end(),
            TooBig,
        ),
        (
            "a file bigger than allowed",
            t().raw(b'0', b"a", b"", 1 << 30, b"x", 0).end(),
            TooBig,
        ),
        ("too many entries", many.end(), TooBig),
        (
            "a sparse bomb",
            old_sparse(1 << 33, &[(0, 1)], b"x"),
            TooBig,
        ),
        (
            "a sparse bomb by pax",
            t().pax(&[
                ("GNU.sparse.size", b"9000000000"),
                ("GNU.sparse.map", b"0,1"),
            ])
            .file("a", b"x")
            .end(),
            TooBig,
        ),
        (
            "a sparse map past the end",
            old_sparse(10, &[(100, 1)], b"x"),
            Refused(Refusal::BadSparse),
        ),
        (
            "a sparse map that overlaps",
            old_sparse(10, &[(4, 1), (2, 1)], b"xy"),
            Refused(Refusal::BadSparse),
        ),
        (
            "a sparse map with too much data",
            old_sparse(10, &[(0, 1)], b"xyz"),
            Refused(Refusal::BadSparse),
        ),
        (
            "a size that overflows",
            t().pax(&[("size", b"18446744073709551615")])
                .file("a", b"x")
                .end(),
            Refused(Refusal::BadSize),
        ),
        ("a damaged header", damaged(|bytes| bytes[0] ^= 1), Broken),
        (
            "cut in a header",
            damaged(|bytes| bytes.truncate(300)),
            Broken,
        ),
        (
            "cut in the data",
            damaged(|bytes| bytes.truncate(512)),
            Broken,
        ),
        ("no end mark", damaged(|bytes| bytes.truncate(1024)), Broken),
        (
            "damaged extended header",
            t().raw(b'x', b"pax", b"", 5, b"99 a=", 0)
                .file("a", b"x")
                .end(),
            Broken,
        ),
        ("nothing but zeros", vec![0; 10_240], Broken),
        ("no archive", b"#!/bin/sh\nrm -rf /\n".to_vec(), Broken),
        ("no bytes", Vec::new(), Broken),
        (
            "overlay attributes",
            t().pax(&[
                ("SCHILY.xattr.user.overlay.redirect", b"/etc"),
                ("SCHILY.xattr.trusted.overlay.opaque", b"y"),
                ("SCHILY.xattr.security.selinux", b"x"),
            ])
            .folder("d")
            .end(),
            Tamed(&["d"]),
        ),
        (
            "rootfs as a link",
            t().symlink("rootfs", "/")
                .file("metadata.yaml", b"{}")
                .end(),
            Broken,
        ),
        (
            "metadata as a link",
            t().folder("rootfs")
                .file("rootfs/a", b"x")
                .symlink("metadata.yaml", &decoy)
                .end(),
            Tamed(&["rootfs/a"]),
        ),
        (
            "templates upwards",
            t().folder("rootfs")
                .file("rootfs/a", b"x")
                .file(
                    "metadata.yaml",
                    b"templates: {../../x: {template: ../../../y}}",
                )
                .end(),
            Tamed(&["a"]),
        ),
        (
            "whiteouts where there are no layers",
            t().file(".wh.a", b"").file(".wh..", b"").end(),
            Tamed(&[".wh.a", ".wh.."]),
        ),
    ]
}

#[test]
fn hostile_archives() {
    let probe = scene();
    let count = hostile("x").len();
    assert!(count >= 40, "{count}");
    drop(probe);
    for index in 0..count {
        let scene = scene();
        let outside = scene.keep.path().join("outside").display().to_string();
        let (what, bytes, fate) = hostile(&outside).swap_remove(index);
        let result = scene.import(&bytes);
        match (fate, result) {
            (Fate::Refused(wanted), Err(ImageError::Refused { refusal, .. })) => {
                assert_eq!(refusal, wanted, "{what}");
            }
            (Fate::TooBig, Err(ImageError::TooBig { .. }))
            | (Fate::Broken, Err(ImageError::Broken { .. })) => {}
            (Fate::Tamed(paths), Ok(imported)) => {
                let root = scene.root(&imported);
                for path in paths {
                    match path.strip_prefix('!') {
                        Some(absent) => assert!(
                            root.join(absent).symlink_metadata().is_err(),
                            "{what}: {absent}"
                        ),
                        None => {
                            let seen = root
                                .join(path)
                                .symlink_metadata()
                                .unwrap_or_else(|_| panic!("{what}: {path}"));
                            assert!(!seen.is_symlink(), "{what}: {path}");
                        }
                    }
                }
                assert!(
                    scene.store.verify(&imported.record.fingerprint).unwrap(),
                    "{what}"
                );
            }
            (_, other) => panic!("{what}: {other:?}"),
        }
        scene.outside_is_untouched(what);
    }
    assert!(!Path::new("/tmp/keel-evil").exists());
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn xz(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = liblzma::write::XzEncoder::new(Vec::new(), 0);
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn zstd(bytes: &[u8]) -> Vec<u8> {
    zstd::encode_all(bytes, 1).unwrap()
}

fn sha(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}

/// A small root file system.
fn plain(prefix: &str) -> Tar {
    let at = |name: &str| format!("{prefix}{name}");
    Tar::default()
        .folder(&at("./").replace("rootfs/./", "rootfs/"))
        .folder(&at("bin"))
        .file(&at("bin/tool"), b"program")
        .hard_link(&at("bin/second"), &at("bin/tool"))
        .symlink(&at("etc/link"), "/proc/1/root")
}

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

/// An OCI layout of these layers.
fn oci(layers: &[Vec<u8>]) -> Tar {
    let arch = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    let config = format!(
        r#"{{"architecture":"{arch}","os":"linux","config":{{"Entrypoint":["/e"],"Cmd":["c"]}}}}"#
    );
    let mut tar = Tar::default()
        .file("oci-layout", b"{}")
        .folder("blobs")
        .folder("blobs/sha256");
    let mut blob = |content: &[u8]| {
        tar = tar
            .clone()
            .file(&format!("blobs/sha256/{}", sha(content)), content);
        format!(
            r#"{{"mediaType":"x","size":1,"digest":"sha256:{}"}}"#,
            sha(content)
        )
    };
    let config = blob(config.as_bytes());
    let layers: Vec<String> = layers.iter().map(|layer| blob(layer)).collect();
    let manifest =
        blob(format!(r#"{{"config":{config},"layers":[{}]}}"#, layers.join(",")).as_bytes());
    let other = r#"{"digest":"sha256:00","platform":{"architecture":"s390x","os":"linux"}}"#;
    tar.file(
        "index.json",
        format!(r#"{{"manifests":[{other},{manifest}]}}"#).as_bytes(),
    )
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
fn hostile_oci_layouts() {
    let t = Tar::default;
    for name in [".wh..", ".wh...", ".wh.", "a/.wh..", ".wh..wh.plnk"] {
        let scene = scene();
        let layers = [t().file("a/b", b"1").end(), t().file(name, b"").end()];
        let result = scene.import(&oci(&layers).end());
        assert!(
            matches!(
                result,
                Err(ImageError::Refused {
                    refusal: Refusal::BadWhiteout,
                    ..
                })
            ),
            "{name}: {result:?}"
        );
        scene.outside_is_untouched(name);
    }
    // A whiteout or an opaque mark through a link of an earlier layer removes nothing outside.
    for name in ["d/.wh.decoy", "d/.wh..wh..opq"] {
        let scene = scene();
        let outside = scene.keep.path().join("outside").display().to_string();
        let layers = [
            t().symlink("d", &outside).file("a", b"").end(),
            t().file(name, b"").end(),
        ];
        scene.import(&oci(&layers).end()).unwrap();
        scene.outside_is_untouched(name);
    }
    // Blobs that are not what their digest says, are missing, or are named by a path.
    let good = oci(&[plain("").end()]).end();
    let text = String::from_utf8_lossy(&good).into_owned();
    let at = text.find("program").unwrap();
    let mut tampered = good.clone();
    tampered[at] = b'P';
    let manifests = [
        r#"{"manifests":[{"digest":"sha256:../../../../outside/decoy"}]}"#.to_owned(),
        format!(
            r#"{{"manifests":[{{"digest":"sha256:{}"}}]}}"#,
            "0".repeat(64)
        ),
        r#"{"manifests":[]}"#.to_owned(),
        "[".repeat(100_000),
    ];
    let mut bad = vec![tampered];
    for manifest in manifests {
        bad.push(
            t().file("oci-layout", b"{}")
                .folder("blobs")
                .file("index.json", manifest.as_bytes())
                .end(),
        );
    }
    for (number, bytes) in bad.iter().enumerate() {
        let scene = scene();
        let result = scene.import(bytes);
        assert!(
            matches!(result, Err(ImageError::Broken { .. } | ImageError::Path(_))),
            "{number}: {result:?}"
        );
        scene.outside_is_untouched("layout");
    }
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
