//! What the tests of archives share: a tar archive made byte by byte, and a store beside a folder that must not change.

use std::io::Write as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use manifests::path_io;
use sha2::{Digest as _, Sha256};

use super::*;

/// A tar archive in the making, without any judgement.
#[derive(Default, Clone)]
pub(super) struct Tar(pub(super) Vec<u8>);

impl Tar {
    /// An entry; name and link are written raw, so they may be anything of up to 100 bytes.
    pub(super) fn raw(
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
    pub(super) fn data(mut self, data: &[u8]) -> Self {
        self.0.extend_from_slice(data);
        let padded = self.0.len().next_multiple_of(512);
        self.0.resize(padded, 0);
        self
    }
    pub(super) fn file(self, name: &str, content: &[u8]) -> Self {
        self.raw(b'0', name.as_bytes(), b"", content.len() as u64, content, 0)
    }
    pub(super) fn folder(self, name: &str) -> Self {
        self.raw(b'5', name.as_bytes(), b"", 0, b"", 0)
    }
    pub(super) fn symlink(self, name: &str, target: &str) -> Self {
        self.raw(b'2', name.as_bytes(), target.as_bytes(), 0, b"", 0)
    }
    pub(super) fn hard_link(self, name: &str, target: &str) -> Self {
        self.raw(b'1', name.as_bytes(), target.as_bytes(), 0, b"", 0)
    }
    pub(super) fn device(self, kind: u8, name: &str) -> Self {
        self.raw(kind, name.as_bytes(), b"", 0, b"", 0)
    }
    pub(super) fn pax(self, records: &[(&str, &[u8])]) -> Self {
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
    pub(super) fn end(mut self) -> Vec<u8> {
        self.0.extend_from_slice(&[0; 1024]);
        self.0
    }
}

pub(super) struct Scene {
    pub(super) keep: tempfile::TempDir,
    pub(super) store: ImageStore,
}

pub(super) fn scene() -> Scene {
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
    pub(super) fn write(&self, name: &str, content: &[u8]) -> PathBuf {
        let path = self.keep.path().join(name);
        path_io::write(&path, content).unwrap();
        path
    }
    pub(super) fn import(&self, content: &[u8]) -> Result<Imported, ImageError> {
        let path = self.write("archive", content);
        self.import_files(&path, None)
    }
    pub(super) fn import_files(
        &self,
        path: &Path,
        rootfs: Option<&Path>,
    ) -> Result<Imported, ImageError> {
        let source = ImageSource::Archive {
            path: path.to_path_buf(),
            rootfs: rootfs.map(Path::to_path_buf),
        };
        self.store.import(&source, None, &mut |_| true)
    }
    pub(super) fn root(&self, imported: &Imported) -> PathBuf {
        self.store.rootfs(&imported.record.fingerprint).unwrap()
    }
    /// The host is as it was: nothing but the decoy outside, nothing unfinished in the store.
    pub(super) fn outside_is_untouched(&self, what: &str) {
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

pub(super) fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

pub(super) fn xz(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = liblzma::write::XzEncoder::new(Vec::new(), 0);
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

pub(super) fn zstd(bytes: &[u8]) -> Vec<u8> {
    zstd::encode_all(bytes, 1).unwrap()
}

pub(super) fn sha(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}

/// A small root file system.
pub(super) fn plain(prefix: &str) -> Tar {
    let at = |name: &str| format!("{prefix}{name}");
    Tar::default()
        .folder(&at("./").replace("rootfs/./", "rootfs/"))
        .folder(&at("bin"))
        .file(&at("bin/tool"), b"program")
        .hard_link(&at("bin/second"), &at("bin/tool"))
        .symlink(&at("etc/link"), "/proc/1/root")
}

/// An OCI layout of these layers.
pub(super) fn oci(layers: &[Vec<u8>]) -> Tar {
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
