//! What can be wrong with a disk image.

use std::path::{Path, PathBuf};

use manifests::path_io::PathError;

/// Why a disk image was not read, made or grown.
#[derive(Debug, thiserror::Error)]
pub enum DiskError {
    /// A file operation failed; a full disk shows as `ENOSPC` in here.
    #[error(transparent)]
    Path(#[from] PathError),
    /// It is known what it is, and that is no disk.
    #[error("{} is {what} and no raw or qcow2 disk", path.display())]
    NoDisk {
        /// The file.
        path: PathBuf,
        /// `a vmdk disk`, `empty`, …
        what: String,
    },
    /// A disk that this engine does not take, although it may be a good one.
    #[error("{} {what}", path.display())]
    Refused {
        /// The file.
        path: PathBuf,
        /// `is encrypted`, `has the backing file "…", and an image has to be whole`, …
        what: String,
    },
    /// Its header contradicts itself or the file.
    #[error("{} is a broken qcow2 disk: {problem}", path.display())]
    Broken {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// A disk only ever grows: what lies behind its new end would be lost.
    #[error("{} has {has} bytes and cannot shrink to {wanted}", path.display())]
    Shrinks {
        /// The file.
        path: PathBuf,
        /// Its size.
        has: u64,
        /// As asked.
        wanted: u64,
    },
    /// An overlay that is smaller than what is below it would hide the end of it.
    #[error("{wanted} bytes are fewer than the {below} bytes of the disk below")]
    SmallerThanBelow {
        /// As asked.
        wanted: u64,
        /// The size of the disk below.
        below: u64,
    },
    /// Not a size that a disk can have, or not one that this one can get in place.
    #[error("a disk here has 512 to {most} bytes and not {wanted}")]
    Size {
        /// As asked.
        wanted: u64,
        /// The most that there can be.
        most: u64,
    },
    /// The name of the file below does not fit into a header.
    #[error("{0:?} cannot be the name of a backing file")]
    BadBackingName(String),
    /// Somebody has it open, most likely a running machine.
    #[error("{} is in use", path.display())]
    InUse {
        /// The file.
        path: PathBuf,
    },
}

impl DiskError {
    /// The same, told of another file: the one that people know.
    #[must_use]
    pub fn of(mut self, shown: &Path) -> Self {
        if let Self::NoDisk { path, .. }
        | Self::Refused { path, .. }
        | Self::Broken { path, .. }
        | Self::Shrinks { path, .. }
        | Self::InUse { path } = &mut self
        {
            *path = shown.to_path_buf();
        }
        self
    }
}
