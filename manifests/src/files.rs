//! Where the files of a source lie: in folders of this host, or in the tree of a commit.

use std::path::{Path, PathBuf};

use crate::path_io::{self, AtPath as _, PathError};

/// What a name in a folder stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Entry {
    /// A file.
    File,
    /// A folder.
    Folder,
    /// A symbolic link; none is followed.
    Link {
        /// Whether it leads to a folder.
        to_folder: bool,
    },
    /// Something else: a socket, a device.
    Other,
}

/// Folders with files in them. Paths are absolute and have no `..`.
pub trait Files {
    /// What a path is; none: nothing is there.
    ///
    /// # Errors
    /// It may not be looked at.
    fn look(&self, path: &Path) -> Result<Option<Entry>, PathError>;

    /// What is in a folder, by name.
    ///
    /// # Errors
    /// It cannot be listed.
    fn list(&self, folder: &Path) -> Result<Vec<(PathBuf, Entry)>, PathError>;

    /// How many bytes a file has.
    ///
    /// # Errors
    /// It may not be looked at.
    fn size(&self, file: &Path) -> Result<u64, PathError>;

    /// The content of each of these files, or why it cannot be read.
    fn read_all(&self, files: &[PathBuf]) -> Vec<Result<Vec<u8>, PathError>>;

    /// The content of a file.
    ///
    /// # Errors
    /// It cannot be read.
    fn read(&self, file: &Path) -> Result<Vec<u8>, PathError> {
        let all = self.read_all(&[file.to_path_buf()]);
        all.into_iter().next().unwrap_or_else(|| Ok(Vec::new()))
    }

    /// The top of the repository that a folder is in.
    fn top(&self, folder: &Path) -> Option<PathBuf>;
}

/// The folders of this host.
#[derive(Debug, Clone, Copy)]
pub struct Disk;

impl Disk {
    fn entry(path: &Path, kind: std::fs::FileType) -> Entry {
        match kind {
            kind if kind.is_file() => Entry::File,
            kind if kind.is_dir() => Entry::Folder,
            kind if kind.is_symlink() => Entry::Link {
                to_folder: path.is_dir(),
            },
            _ => Entry::Other,
        }
    }
}

impl Files for Disk {
    fn look(&self, path: &Path) -> Result<Option<Entry>, PathError> {
        match path.symlink_metadata() {
            Ok(found) => Ok(Some(Self::entry(path, found.file_type()))),
            Err(error)
                if matches!(
                    error.kind(),
                    std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory
                ) =>
            {
                Ok(None)
            }
            Err(error) => Err(error).at("look at", path),
        }
    }

    fn list(&self, folder: &Path) -> Result<Vec<(PathBuf, Entry)>, PathError> {
        let all = path_io::list_kinds(folder)?.into_iter();
        let entry = |(path, kind): (PathBuf, _)| {
            let entry = Self::entry(&path, kind);
            (path, entry)
        };
        Ok(all.map(entry).collect())
    }

    fn size(&self, file: &Path) -> Result<u64, PathError> {
        Ok(file.symlink_metadata().at("look at", file)?.len())
    }

    fn read_all(&self, files: &[PathBuf]) -> Vec<Result<Vec<u8>, PathError>> {
        files.iter().map(path_io::read_unchanged).collect()
    }

    fn top(&self, folder: &Path) -> Option<PathBuf> {
        let is_top = |at: &&Path| at.join(".git").symlink_metadata().is_ok();
        folder.ancestors().find(is_top).map(Path::to_path_buf)
    }
}
