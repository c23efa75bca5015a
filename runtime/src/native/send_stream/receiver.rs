//! Does what the commands of a stream say, beneath the folder of one subvolume.
//!
//! Nobody else can enter that folder before all of it is there, so what a name is does not change between a look and a deed.

use std::ffi::OsStr;
use std::fs::File;
use std::os::fd::{AsFd, AsRawFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use manifests::path_io::{AtPath as _, PathError};
use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, Timespec, Timestamps, Uid, XattrFlags};
use rustix::io::Errno;

use super::command::{Command, StreamId};
use crate::sys::beneath::{self, Links};

/// Bytes of one name, and of a path.
const LONGEST_NAME: usize = 255;
const LONGEST_PATH: usize = 4095;
/// Folders in each other.
const DEEPEST: usize = 400;

/// Why a command was not done.
#[derive(Debug, thiserror::Error)]
pub enum ReceiveError {
    /// The kernel refused a step; a full disk shows as `ENOSPC` in here.
    #[error(transparent)]
    Path(#[from] PathError),
    /// It speaks of what is not beneath the subvolume.
    #[error("{} is no name in a subvolume", path.escape_debug())]
    BadPath {
        /// As it was spelled.
        path: String,
    },
    /// It is done to something else.
    #[error("{} is no {wanted}", path.display())]
    Kind {
        /// What it is done to.
        path: PathBuf,
        /// What that is not.
        wanted: &'static str,
    },
    /// It takes bytes of a subvolume that did not come before.
    #[error("it takes bytes of a subvolume that did not come before")]
    NotBefore,
}

/// A path of a stream: names that are no more than names.
pub(in crate::native) fn path_of(bytes: &[u8]) -> Result<PathBuf, ReceiveError> {
    if bytes.is_empty() {
        return Ok(PathBuf::new());
    }
    let lawful = |name: &[u8]| !matches!(name, b"" | b"." | b"..") && name.len() <= LONGEST_NAME;
    let mut names = bytes.split(|byte| *byte == b'/');
    let good = bytes.len() <= LONGEST_PATH
        && !bytes.contains(&0)
        && names.clone().count() <= DEEPEST
        && names.all(lawful);
    match good {
        true => Ok(PathBuf::from(OsStr::from_bytes(bytes))),
        false => Err(ReceiveError::BadPath {
            path: String::from_utf8_lossy(bytes).chars().take(200).collect(),
        }),
    }
}

const FOLDER: OFlags = OFlags::PATH.union(OFlags::DIRECTORY);

/// Writes one subvolume.
#[derive(Debug)]
pub(in crate::native) struct Receiver {
    id: StreamId,
    root: OwnedFd,
    shown: PathBuf,
    /// The one on which it stands, from which bytes are taken.
    before: Option<(StreamId, OwnedFd)>,
    /// The file that was written to last: mostly it is the next one, too.
    open: Option<(PathBuf, File)>,
    /// The folder above it.
    above: Option<(PathBuf, OwnedFd)>,
}

impl Receiver {
    /// Writes into the subvolume at `root`, which is empty, or a copy of the one on which the stream stands.
    pub(in crate::native) fn new(
        id: StreamId,
        root: &Path,
        before: Option<&(StreamId, PathBuf)>,
    ) -> Result<Self, ReceiveError> {
        let before = before.map(|(id, path)| beneath::open_root(path).map(|root| (*id, root)));
        Ok(Self {
            id,
            root: beneath::open_root(root)?,
            shown: root.to_path_buf(),
            before: before.transpose()?,
            open: None,
            above: None,
        })
    }

    /// Does the next command; the one that begins it is done by who made the subvolume.
    pub(in crate::native) fn take(&mut self, command: &Command<'_>) -> Result<(), ReceiveError> {
        match *command {
            Command::Begin { .. } | Command::End => Ok(()),
            Command::Make { path, kind, device } => self.make(&path_of(path)?, kind, device),
            Command::Symlink { path, target } => {
                let path = path_of(path)?;
                let (above, name) = self.above(&path)?;
                let made = rustix::fs::symlinkat(OsStr::from_bytes(target), above, name);
                Ok(made.at("create", self.shown.join(&path))?)
            }
            Command::Rename { path, to } => self.rename(&path_of(path)?, &path_of(to)?),
            Command::Link { path, of } => self.link(&path_of(path)?, &path_of(of)?),
            Command::Unlink { path } => self.unlink(&path_of(path)?, AtFlags::empty()),
            Command::RemoveFolder { path } => self.unlink(&path_of(path)?, AtFlags::REMOVEDIR),
            Command::SetAttribute { path, name, value } => {
                let path = path_of(path)?;
                let at = self.through(&path)?;
                let name = OsStr::from_bytes(name);
                let set = rustix::fs::lsetxattr(at, name, value, XattrFlags::empty());
                Ok(set.at("set an attribute of", self.shown.join(&path))?)
            }
            Command::RemoveAttribute { path, name } => {
                let path = path_of(path)?;
                let at = self.through(&path)?;
                match rustix::fs::lremovexattr(at, OsStr::from_bytes(name)) {
                    // One that did not come with what was there before.
                    Err(Errno::NODATA) => Ok(()),
                    other => Ok(other.at("remove an attribute of", self.shown.join(&path))?),
                }
            }
            Command::Write { path, offset, data } => {
                let path = path_of(path)?;
                let shown = self.shown.join(&path);
                let written = self.file(&path)?.write_all_at(data, offset);
                Ok(written.at("write to", shown)?)
            }
            Command::Clone { .. } => self.clone_bytes(command),
            Command::Truncate { path, size } => {
                let path = path_of(path)?;
                let shown = self.shown.join(&path);
                Ok(self.file(&path)?.set_len(size).at("resize", shown)?)
            }
            Command::Mode { path, mode } => {
                let path = path_of(path)?;
                let mode = Mode::from_raw_mode(u32::try_from(mode).unwrap_or(0) & 0o7777);
                if self.kind(&path)? == FileType::Symlink {
                    let wanted = "file with a mode";
                    return Err(ReceiveError::Kind { path, wanted });
                }
                let at = self.through(&path)?;
                let flags = AtFlags::empty();
                let set = rustix::fs::chmodat(rustix::fs::CWD, at, mode, flags);
                Ok(set.at("set the mode of", self.shown.join(&path))?)
            }
            Command::Owner { path, uid, gid } => {
                let path = path_of(path)?;
                let at = self.through(&path)?;
                let id = |id: u64| u32::try_from(id).unwrap_or(u32::MAX - 1);
                let (uid, gid) = (Uid::from_raw(id(uid)), Gid::from_raw(id(gid)));
                let flags = AtFlags::SYMLINK_NOFOLLOW;
                let here = rustix::fs::CWD;
                let set = rustix::fs::chownat(here, at, Some(uid), Some(gid), flags);
                Ok(set.at("own", self.shown.join(&path))?)
            }
            Command::Times {
                path,
                accessed,
                modified,
            } => {
                let path = path_of(path)?;
                let at = self.through(&path)?;
                let times = Timestamps {
                    last_access: time(accessed),
                    last_modification: time(modified),
                };
                let flags = AtFlags::SYMLINK_NOFOLLOW;
                let set = rustix::fs::utimensat(rustix::fs::CWD, at, &times, flags);
                Ok(set.at("set the time of", self.shown.join(&path))?)
            }
        }
    }

    fn make(&mut self, path: &Path, kind: FileType, device: u64) -> Result<(), ReceiveError> {
        let shown = self.shown.join(path);
        let (above, name) = self.above(path)?;
        let mode = Mode::RUSR | Mode::WUSR;
        match kind {
            FileType::Directory => rustix::fs::mkdirat(above, name, Mode::RWXU),
            kind => rustix::fs::mknodat(above, name, kind, mode, device),
        }
        .at("create", shown)?;
        Ok(())
    }

    fn rename(&mut self, path: &Path, to: &Path) -> Result<(), ReceiveError> {
        let shown = self.shown.join(path);
        self.forget();
        let (from, name) = self.parent(path)?;
        let (into, new) = self.parent(to)?;
        rustix::fs::renameat(&from, name, &into, new).at("rename", shown)?;
        Ok(())
    }

    fn link(&mut self, path: &Path, of: &Path) -> Result<(), ReceiveError> {
        let shown = self.shown.join(path);
        let (from, name) = self.parent(of)?;
        let (above, new) = self.parent(path)?;
        // Without AT_SYMLINK_FOLLOW a link is linked itself.
        rustix::fs::linkat(&from, name, &above, new, AtFlags::empty()).at("link to", shown)?;
        Ok(())
    }

    fn unlink(&mut self, path: &Path, flags: AtFlags) -> Result<(), ReceiveError> {
        let shown = self.shown.join(path);
        self.forget();
        let (above, name) = self.parent(path)?;
        rustix::fs::unlinkat(&above, name, flags).at("remove", shown)?;
        Ok(())
    }

    fn clone_bytes(&mut self, command: &Command<'_>) -> Result<(), ReceiveError> {
        let Command::Clone {
            path,
            offset,
            length,
            of,
            of_path,
            of_offset,
        } = *command
        else {
            return Ok(());
        };
        let (path, of_path) = (path_of(path)?, path_of(of_path)?);
        let shown = self.shown.join(&path);
        let from = match of == self.id {
            true => self.root.as_fd(),
            false => {
                let found = self.before.as_ref().filter(|(id, _)| *id == of);
                found.ok_or(ReceiveError::NotBefore)?.1.as_fd()
            }
        };
        let from = regular(from, &of_path, OFlags::RDONLY)?;
        let to = self.file(&path)?;
        let (mut from_at, mut to_at, mut left) = (of_offset, offset, length);
        while left > 0 {
            let most = usize::try_from(left).unwrap_or(usize::MAX).min(1 << 30);
            // On btrfs whole blocks are shared by it, and the rest is copied.
            let copied = rustix::fs::copy_file_range(
                &from,
                Some(&mut from_at),
                &*to,
                Some(&mut to_at),
                most,
            );
            match copied.at("copy to", &shown)? {
                0 => return Err(ReceiveError::NotBefore),
                copied => left -= copied as u64,
            }
        }
        Ok(())
    }

    /// What is known of names is so no more.
    fn forget(&mut self) {
        self.open = None;
        self.above = None;
    }

    fn kind(&mut self, path: &Path) -> Result<FileType, ReceiveError> {
        if path.as_os_str().is_empty() {
            return Ok(FileType::Directory);
        }
        let shown = self.shown.join(path);
        let (above, name) = self.above(path)?;
        let seen = rustix::fs::statat(above, name, AtFlags::SYMLINK_NOFOLLOW);
        Ok(FileType::from_raw_mode(seen.at("look at", shown)?.st_mode))
    }

    /// The folder above something, opened, and the last name.
    fn parent<'p>(&self, path: &'p Path) -> Result<(OwnedFd, &'p OsStr), ReceiveError> {
        let (Some(above), Some(name)) = (path.parent(), path.file_name()) else {
            return Err(ReceiveError::BadPath {
                path: String::new(),
            });
        };
        let open = beneath::open(&self.root, above, FOLDER, Links::Refuse)?;
        Ok((open, name))
    }

    /// The same, where that folder may be the one that was opened last.
    fn above<'p>(&mut self, path: &'p Path) -> Result<(&OwnedFd, &'p OsStr), ReceiveError> {
        let (Some(above), Some(name)) = (path.parent(), path.file_name()) else {
            return Err(ReceiveError::BadPath {
                path: String::new(),
            });
        };
        let known = self.above.take().filter(|(known, _)| known == above);
        let known = match known {
            Some(known) => known,
            None => (above.to_path_buf(), self.parent(path)?.0),
        };
        Ok((&self.above.insert(known).1, name))
    }

    /// A path to something for calls that take no descriptor of it: its folder is open, and only its own name is looked up.
    fn through(&mut self, path: &Path) -> Result<PathBuf, ReceiveError> {
        if path.as_os_str().is_empty() {
            return Ok(PathBuf::from(format!(
                "/proc/self/fd/{}/.",
                self.root.as_raw_fd()
            )));
        }
        let (above, name) = self.above(path)?;
        let folder = PathBuf::from(format!("/proc/self/fd/{}", above.as_raw_fd()));
        Ok(folder.join(name))
    }

    fn file(&mut self, path: &Path) -> Result<&mut File, ReceiveError> {
        let known = self.open.take().filter(|(known, _)| known == path);
        let known = match known {
            Some(known) => known,
            None => {
                let open = regular(self.root.as_fd(), path, OFlags::WRONLY)?;
                (path.to_path_buf(), open)
            }
        };
        Ok(&mut self.open.insert(known).1)
    }
}

/// Opens a file that is one: a pipe would have whoever opens it wait.
fn regular(root: impl AsFd, path: &Path, flags: OFlags) -> Result<File, ReceiveError> {
    let flags = flags | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::NOFOLLOW;
    let looked = beneath::open(
        root.as_fd(),
        path,
        OFlags::PATH | OFlags::NOFOLLOW,
        Links::Refuse,
    )?;
    let seen = rustix::fs::fstat(&looked).at("look at", path)?;
    if FileType::from_raw_mode(seen.st_mode) != FileType::RegularFile {
        let (path, wanted) = (path.to_path_buf(), "file");
        return Err(ReceiveError::Kind { path, wanted });
    }
    Ok(File::from(beneath::open(root, path, flags, Links::Refuse)?))
}

fn time((seconds, nanoseconds): (i64, u32)) -> Timespec {
    Timespec {
        tv_sec: seconds,
        tv_nsec: nanoseconds.min(999_999_999).into(),
    }
}
