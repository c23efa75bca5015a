//! What can be wrong with a backup, in words for the person who makes or restores it.

use std::path::PathBuf;

use manifests::path_io::PathError;

use crate::native::image::ImageError;
use crate::native::storage::StorageError;

/// Why a backup was not made, or not read.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// A file operation failed; a full disk shows as `ENOSPC` in here.
    #[error(transparent)]
    Path(#[from] PathError),
    /// The archive as such cannot be read, or an entry of it not be written.
    #[error(transparent)]
    Archive(#[from] ImageError),
    /// What comes out of it cannot be put into its pool.
    #[error(transparent)]
    Storage(Box<StorageError>),
    /// The file is there.
    #[error("{} is there already", path.display())]
    Exists {
        /// The file.
        path: PathBuf,
    },
    /// Another process writes it.
    #[error("{} is being written by another process", path.display())]
    Busy {
        /// The file.
        path: PathBuf,
    },
    /// Where the part of a backup would be is something else.
    #[error("{} is in the way, and is no part of a backup", path.display())]
    NotAPart {
        /// The file.
        path: PathBuf,
    },
    /// What is to be written is not what this part is the beginning of.
    #[error("{} is the beginning of another backup of {of}: it has another {}", path.display(), others.join(", "))]
    OtherPart {
        /// The part.
        path: PathBuf,
        /// Of what it is.
        of: String,
        /// Which fields are others.
        others: Vec<String>,
    },
    /// It is something else.
    #[error("{} is no backup: {why}", path.display())]
    NotABackup {
        /// The file.
        path: PathBuf,
        /// Why not.
        why: String,
    },
    /// It was made by a newer program.
    #[error("{} is of format version {found}, and this keel reads up to {}", path.display(), super::FORMAT_VERSION)]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: u32,
    },
    /// It is a backup, and not as it was made.
    #[error("{} is damaged or was altered: {}", path.display(), told(faults, *count))]
    Faulty {
        /// The file.
        path: PathBuf,
        /// The first faults, a line each.
        faults: Vec<String>,
        /// How many there are.
        count: u64,
    },
    /// Something is mounted in a tree.
    #[error("something is mounted on {}", path.display())]
    Mounted {
        /// Where.
        path: PathBuf,
    },
    /// A file became shorter while it was read.
    #[error("{} changes while it is read", path.display())]
    Changes {
        /// The file.
        path: PathBuf,
    },
    /// The caller did not want to go on.
    #[error("it was interrupted")]
    Interrupted,
}

fn told(faults: &[String], count: u64) -> String {
    let mut text = faults.join("; ");
    let more = count.saturating_sub(faults.len() as u64);
    if more > 0 {
        text.push_str(&format!("; and {more} more"));
    }
    text
}
