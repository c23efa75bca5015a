//! Archives that mean harm, each with what must come of it.

use std::path::Path;

use super::archive_bench::*;
use super::*;

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
