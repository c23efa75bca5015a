//! OCI image layouts: index, manifest, config and layers are looked up by digest, checked, and flattened into one tree.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde::de::DeserializeOwned;
use sha2::{Digest as _, Sha256};

use super::archive::{head_of, unpack_tar};
use super::error::ImageError;
use super::layout::{open_file, read_text};
use super::limits::Limits;
use super::metadata::{from_oci_config, kernel_architecture};
use super::meter::{Meter, Packed};
use super::packing::{Detected, detect};
use super::record::ImageProperties;
use super::tree_writer::TreeWriter;
use super::unpack::Whiteouts;

/// Longest index, manifest or config.
const LONGEST_JSON: u64 = 4 << 20;
/// An index may name further indexes.
const DEEPEST_INDEX: usize = 3;
/// Docker allows 127.
const MOST_LAYERS: usize = 512;

#[derive(Deserialize)]
struct Index {
    manifests: Vec<Descriptor>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Manifest {
    config: Descriptor,
    layers: Vec<Descriptor>,
}

#[derive(Deserialize, Clone)]
#[serde(rename_all = "camelCase")]
struct Descriptor {
    #[serde(default)]
    media_type: String,
    digest: String,
    platform: Option<Platform>,
}

#[derive(Deserialize, Clone)]
struct Platform {
    architecture: String,
    os: String,
}

/// Writes the image for this host's architecture.
pub(super) fn flatten(
    root: &OwnedFd,
    archive: &Path,
    writer: &mut TreeWriter,
    limits: &Limits,
    go_on: &mut dyn FnMut(u64) -> bool,
) -> Result<ImageProperties, ImageError> {
    let layout = OciLayout { root, archive };
    let index: Index = layout.parse("index.json", &read_text(root, "index.json", LONGEST_JSON)?)?;
    let manifest = layout.manifest(index, 0)?;
    let config = layout.text(&manifest.config)?;
    let properties =
        from_oci_config(&config).map_err(|problem| layout.broken(format!("config: {problem}")))?;
    if manifest.layers.len() > MOST_LAYERS {
        return Err(ImageError::TooBig {
            limit: MOST_LAYERS as u64,
            of: "layers",
        });
    }
    for (number, layer) in manifest.layers.iter().enumerate() {
        if number > 0 {
            writer.begin_layer();
        }
        layout.layer(layer, writer, limits, go_on)?;
    }
    Ok(properties)
}

struct OciLayout<'a> {
    root: &'a OwnedFd,
    archive: &'a Path,
}

impl OciLayout<'_> {
    fn broken(&self, problem: impl Into<String>) -> ImageError {
        ImageError::Broken {
            path: self.archive.to_path_buf(),
            problem: problem.into(),
        }
    }

    fn parse<T: DeserializeOwned>(&self, name: &str, text: &str) -> Result<T, ImageError> {
        serde_json::from_str(text).map_err(|error| self.broken(format!("{name}: {error}")))
    }

    /// The one manifest, or the one for this host.
    #[expect(clippy::needless_pass_by_value, reason = "an index is read once")]
    fn manifest(&self, index: Index, depth: usize) -> Result<Manifest, ImageError> {
        // Attestations of buildkit are manifests for the platform unknown/unknown.
        let for_here = |descriptor: &&Descriptor| {
            descriptor.platform.as_ref().is_none_or(|platform| {
                platform.os == "linux"
                    && kernel_architecture(&platform.architecture) == std::env::consts::ARCH
            })
        };
        let mut fitting = index.manifests.iter().filter(for_here);
        let Some(chosen) = fitting.next() else {
            return Err(self.broken(format!(
                "has no image for linux on {}",
                std::env::consts::ARCH
            )));
        };
        if fitting.next().is_some_and(|_| chosen.platform.is_none()) {
            return Err(self.broken("has several images and does not say for what they are"));
        }
        let text = self.text(chosen)?;
        if chosen.media_type.contains("index") || chosen.media_type.contains("manifest.list") {
            if depth >= DEEPEST_INDEX {
                return Err(self.broken("its indexes lie too deep"));
            }
            return self.manifest(self.parse(&chosen.digest, &text)?, depth + 1);
        }
        self.parse(&chosen.digest, &text)
    }

    /// A digest is the only word of the image that becomes a path, so it has to be one.
    fn place(&self, descriptor: &Descriptor) -> Result<(PathBuf, String), ImageError> {
        let digest = descriptor.digest.strip_prefix("sha256:").filter(|hex| {
            hex.len() == 64
                && hex
                    .bytes()
                    .all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
        });
        let digest = digest
            .ok_or_else(|| self.broken(format!("{:?} is no sha256 digest", descriptor.digest)))?;
        Ok((Path::new("blobs/sha256").join(digest), digest.to_owned()))
    }

    fn check(&self, wanted: &str, hash: Sha256) -> Result<(), ImageError> {
        let found = hex::encode(hash.finalize());
        if found == wanted {
            return Ok(());
        }
        Err(self.broken(format!("blob sha256:{wanted} has sha256 {found}")))
    }

    fn text(&self, descriptor: &Descriptor) -> Result<String, ImageError> {
        let (path, digest) = self.place(descriptor)?;
        let text = read_text(self.root, &path.to_string_lossy(), LONGEST_JSON)?;
        self.check(&digest, Sha256::new().chain_update(&text))?;
        Ok(text)
    }

    fn layer(
        &self,
        descriptor: &Descriptor,
        writer: &mut TreeWriter,
        limits: &Limits,
        go_on: &mut dyn FnMut(u64) -> bool,
    ) -> Result<(), ImageError> {
        let (path, digest) = self.place(descriptor)?;
        let mut file = open_file(self.root, &path)?;
        let Detected::Tar(packing) = detect(&head_of(&mut file, &path)?) else {
            // An empty layer may be an archive of nothing but zeros.
            return self.empty_layer(file, &digest, descriptor);
        };
        let meter = Meter::new(self.archive, *limits);
        let mut hash = Sha256::new();
        let packed = Packed::new(file, &mut hash, meter.clone(), go_on);
        unpack_tar(packed, packing, writer, Whiteouts::Remove, &path, &meter)?;
        self.check(&digest, hash)
    }

    fn empty_layer(
        &self,
        mut file: std::fs::File,
        digest: &str,
        descriptor: &Descriptor,
    ) -> Result<(), ImageError> {
        use std::io::Read as _;
        let mut content = Vec::new();
        let limit = 1 << 20;
        let read = file.by_ref().take(limit).read_to_end(&mut content);
        if read.is_err() || content.is_empty() || content.iter().any(|byte| *byte != 0) {
            return Err(self.broken(format!("layer {} is no archive", descriptor.digest)));
        }
        self.check(digest, Sha256::new().chain_update(&content))
    }
}
