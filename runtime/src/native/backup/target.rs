//! The file of a backup: it has no name before it is whole. One that can be gone on with has that of a part until then.

use std::ffi::OsString;
use std::fs::File;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use manifests::path_io::{self, AtPath as _};
use rustix::fs::{AtFlags, CWD, FlockOperation, Mode, OFlags};
use rustix::io::Errno;

use super::error::BackupError;
use super::part::{self, Begun, part_of};

/// A file that is being written.
pub(in crate::native) struct Target {
    path: PathBuf,
    replace: bool,
    file: File,
    /// Its name until then, where the file system has no files without one.
    beside: Option<PathBuf>,
    /// What is written stays also where it is not all.
    stays: bool,
    /// What was there of it.
    begun: Option<Begun>,
}

impl Target {
    /// Begins to write `path`, which only its owner can read. `stays`: as a part that is gone on with.
    ///
    /// # Errors
    /// It is there and not to be replaced, or cannot be written; or what is there of it is something else.
    pub(in crate::native) fn begin(
        path: &Path,
        replace: bool,
        stays: bool,
    ) -> Result<Self, BackupError> {
        let exists = || BackupError::Exists {
            path: path.to_path_buf(),
        };
        match path.symlink_metadata() {
            Ok(there) if !replace || !there.is_file() => return Err(exists()),
            _ => {}
        }
        if stays {
            let beside = part_of(path);
            let file = locked(&beside, path)?;
            let begun = part::begun(&file, &beside)?;
            return Ok(Self {
                path: path.to_path_buf(),
                replace,
                file,
                beside: Some(beside),
                stays,
                begun,
            });
        }
        let folder = above(path);
        let flags = OFlags::TMPFILE | OFlags::WRONLY | OFlags::CLOEXEC;
        let mode = Mode::RUSR | Mode::WUSR;
        let (file, beside) = match rustix::fs::open(folder, flags, mode) {
            Ok(file) => (File::from(file), None),
            Err(Errno::OPNOTSUPP | Errno::ISDIR | Errno::INVAL) => {
                let (file, beside) = named(path)?;
                (file, Some(beside))
            }
            Err(error) => return Err(error).at("write into", folder)?,
        };
        Ok(Self {
            path: path.to_path_buf(),
            replace,
            file,
            beside,
            stays,
            begun: None,
        })
    }

    /// What is there of it.
    pub(super) const fn begun(&self) -> Option<&Begun> {
        self.begun.as_ref()
    }

    /// Where it is written.
    pub(super) fn at(&self) -> &Path {
        self.beside.as_deref().unwrap_or(&self.path)
    }

    /// Another handle for who writes.
    pub(in crate::native) fn writer(&self) -> Result<File, BackupError> {
        Ok(self.file.try_clone().at("write to", &self.path)?)
    }

    /// Bytes of what is written by now.
    pub(in crate::native) fn size(&self) -> Result<u64, BackupError> {
        Ok(self.file.metadata().at("look at", &self.path)?.len())
    }

    /// Gives the file, all of which is on disk, its name. Answers its bytes.
    ///
    /// # Errors
    /// Somebody else took the name, or the kernel refuses.
    pub(in crate::native) fn finish(mut self) -> Result<u64, BackupError> {
        let bytes = self.size()?;
        let taken = || BackupError::Exists {
            path: self.path.clone(),
        };
        match self.beside.clone() {
            None if self.replace && self.path.exists() => {
                let beside = name_beside(&self.path);
                path_io::remove_file(&beside)?;
                self.link(&beside).at("create", &beside)?;
                path_io::rename(&beside, &self.path)?;
            }
            None => match self.link(&self.path) {
                Err(Errno::EXIST) => return Err(taken()),
                other => other.at("create", &self.path)?,
            },
            Some(beside) if self.replace => path_io::rename(&beside, &self.path)?,
            Some(beside) => {
                let flags = rustix::fs::RenameFlags::NOREPLACE;
                match rustix::fs::renameat_with(CWD, &beside, CWD, &self.path, flags) {
                    Err(Errno::EXIST) => return Err(taken()),
                    other => other.at("create", &self.path)?,
                }
            }
        }
        self.beside = None;
        let folder = above(&self.path);
        File::open(folder)
            .and_then(|folder| folder.sync_all())
            .at("sync", folder)?;
        Ok(bytes)
    }

    fn link(&self, to: &Path) -> rustix::io::Result<()> {
        let open = format!("/proc/self/fd/{}", self.file.as_raw_fd());
        rustix::fs::linkat(CWD, open, CWD, to, AtFlags::SYMLINK_FOLLOW)
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        if let Some(beside) = self.beside.take()
            && !self.stays
            && let Err(error) = path_io::remove_file(&beside)
        {
            tracing::warn!(path = %beside.display(), %error, "left an unfinished backup behind");
        }
    }
}

fn above(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}

/// One name for each file: what a process left that was killed is what the next one begins with.
fn name_beside(path: &Path) -> PathBuf {
    let mut name = OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    name.push(".keel-unfinished");
    path.with_file_name(name)
}

fn named(path: &Path) -> Result<(File, PathBuf), BackupError> {
    let beside = name_beside(path);
    let file = locked(&beside, path)?;
    file.set_len(0).at("empty", &beside)?;
    Ok((file, beside))
}

/// Opens a file beside that of a backup, which nobody else does meanwhile.
fn locked(beside: &Path, path: &Path) -> Result<File, BackupError> {
    let busy = || BackupError::Busy {
        path: path.to_path_buf(),
    };
    let flags = OFlags::CREATE
        | OFlags::RDWR
        | OFlags::NOFOLLOW
        | OFlags::NONBLOCK
        | OFlags::NOCTTY
        | OFlags::CLOEXEC;
    let file = rustix::fs::open(beside, flags, Mode::RUSR | Mode::WUSR).at("create", beside)?;
    match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Err(Errno::WOULDBLOCK) => return Err(busy()),
        other => other.at("lock", beside)?,
    }
    let file = File::from(file);
    let ours = file.metadata().at("look at", beside)?;
    // Whoever had the lock may have given the file its name since it was opened.
    let there = beside.symlink_metadata();
    if there.is_ok_and(|there| (there.dev(), there.ino()) == (ours.dev(), ours.ino())) {
        return match ours.is_file() {
            true => Ok(file),
            false => Err(BackupError::NotAPart {
                path: beside.to_path_buf(),
            }),
        };
    }
    Err(busy())
}
