//! What an unpacked archive is: looked up in the tree, beneath its root and without links.

use std::os::fd::OwnedFd;
use std::path::Path;

use manifests::path_io::{AtPath as _, PathError};
use rustix::fs::{AtFlags, FileType, OFlags};

use super::error::ImageError;
use crate::sys::beneath::{self, FileFound, Links};

/// The disk of a unified image for machines; it may be of any form.
pub(super) const DISK: &str = "rootfs.img";

/// The layouts that are told apart.
#[expect(clippy::enum_variant_names, reason = "the words of the OCI")]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Layout {
    /// The root file system itself.
    Plain,
    /// `metadata.yaml` and `rootfs/`.
    Unified,
    /// `metadata.yaml` and `rootfs.img`, the disk of a machine.
    UnifiedDisk,
    /// `metadata.yaml` alone: one half of a split image.
    Metadata,
    /// `config.json` and `rootfs/`.
    OciBundle,
    /// `oci-layout`, `index.json` and `blobs/`.
    OciLayout,
    /// Nothing at all.
    Empty,
}

/// Looks at the tree of an unpacked archive.
pub(super) fn look(root: &OwnedFd, root_path: &Path) -> Result<Layout, ImageError> {
    let is = |name: &str, kind: FileType| -> Result<bool, PathError> {
        match rustix::fs::statat(root, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(seen) => Ok(FileType::from_raw_mode(seen.st_mode) == kind),
            Err(rustix::io::Errno::NOENT) => Ok(false),
            Err(error) => Err(error).at("look at", root_path.join(name)),
        }
    };
    let file = |name| is(name, FileType::RegularFile);
    let folder = |name| is(name, FileType::Directory);
    Ok(
        if file("oci-layout")? && file("index.json")? && folder("blobs")? {
            Layout::OciLayout
        } else if file("metadata.yaml")? && folder("rootfs")? {
            Layout::Unified
        } else if file("metadata.yaml")? && file(DISK)? {
            Layout::UnifiedDisk
        } else if file("config.json")? && folder("rootfs")? {
            Layout::OciBundle
        } else if file("metadata.yaml")? && !folder("etc")? && !folder("usr")? && !folder("bin")? {
            Layout::Metadata
        } else if manifests::path_io::list(root_path)?.is_empty() {
            Layout::Empty
        } else {
            Layout::Plain
        },
    )
}

/// Reads a small text file of the archive.
pub(super) fn read_text(root: &OwnedFd, name: &str, limit: u64) -> Result<String, ImageError> {
    let broken = |problem: &str| ImageError::Broken {
        path: name.into(),
        problem: problem.to_owned(),
    };
    match beneath::read_file(root, Path::new(name), limit)? {
        FileFound::File { content, .. } => {
            String::from_utf8(content).map_err(|_| broken("is not UTF-8"))
        }
        FileFound::TooLong(_) => Err(broken("is too long")),
        FileFound::Missing => Err(broken("is missing")),
        FileFound::Other(_) => Err(broken("is no file")),
    }
}

/// Opens a file of the archive for reading.
pub(super) fn open_file(root: &OwnedFd, name: &Path) -> Result<std::fs::File, ImageError> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK;
    let file = std::fs::File::from(beneath::open(root, name, flags, Links::Refuse)?);
    if !file.metadata().at("look at", name)?.is_file() {
        return Err(ImageError::Broken {
            path: name.to_path_buf(),
            problem: "is no file".to_owned(),
        });
    }
    Ok(file)
}
