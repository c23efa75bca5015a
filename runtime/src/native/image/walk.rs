//! Walks a tree in a fixed order, without crossing a mount or following a link.

use std::ffi::OsString;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Path, PathBuf};

use manifests::path_io::AtPath as _;
use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;

use super::attributes::{Attributes, kept_xattr, owner};
use super::error::{ImageError, Refusal};
use super::limits::Limits;
use crate::sys::copy_tree::open_unread;

/// One entry of the walk.
pub(in crate::native) struct Entry<'a> {
    /// Relative to the root of the walk; empty for the root itself.
    pub(in crate::native) path: &'a Path,
    /// As `lstat` saw it.
    pub(in crate::native) stat: Stat,
    pub(in crate::native) kind: EntryKind,
}

pub(in crate::native) enum EntryKind {
    /// A folder, open for reading.
    Folder(OwnedFd),
    /// A regular file, open for reading.
    File(OwnedFd),
    /// A link and its target.
    Symlink(Vec<u8>),
    /// A named pipe.
    Pipe,
    /// Something that no image takes over: a device or a socket.
    Special(&'static str),
    /// A folder on which something is mounted; not looked into.
    MountedFolder,
    /// A file on which something is mounted.
    MountedFile,
}

/// Calls `visit` for the root and everything in it: folders before their contents, names in byte order.
pub(in crate::native) fn walk(
    root: &Path,
    limits: &Limits,
    visit: &mut dyn FnMut(&Entry<'_>) -> Result<(), ImageError>,
) -> Result<(), ImageError> {
    let open = match rustix::fs::open(root, READ_FOLDER | OFlags::NOATIME, Mode::empty()) {
        Err(Errno::PERM) => rustix::fs::open(root, READ_FOLDER, Mode::empty()),
        other => other,
    }
    .at("open", root)?;
    let stat = rustix::fs::fstat(&open).at("look at", root)?;
    let mut walk = Walk {
        root,
        limits,
        visit,
    };
    walk.folder(open, stat, Path::new(""), 0)
}

const READ_FOLDER: OFlags = OFlags::RDONLY
    .union(OFlags::DIRECTORY)
    .union(OFlags::CLOEXEC);

struct Walk<'a> {
    root: &'a Path,
    limits: &'a Limits,
    visit: &'a mut dyn FnMut(&Entry<'_>) -> Result<(), ImageError>,
}

impl Walk<'_> {
    fn folder(
        &mut self,
        open: OwnedFd,
        stat: Stat,
        path: &Path,
        depth: usize,
    ) -> Result<(), ImageError> {
        if depth > self.limits.depth {
            return Err(ImageError::Refused {
                entry: path.display().to_string(),
                refusal: Refusal::Deep,
            });
        }
        let shown = self.root.join(path);
        let mut names = Vec::new();
        let listing = open.try_clone().at("open", &shown)?;
        // Not `read_from`: it opens the folder again and without O_NOATIME.
        for entry in Dir::new(open.try_clone().at("open", &shown)?).at("list", &shown)? {
            let entry = entry.at("list", &shown)?;
            let name = entry.file_name().to_bytes();
            if name != b"." && name != b".." {
                names.push(OsString::from_vec(name.to_vec()));
            }
        }
        names.sort();
        (self.visit)(&Entry {
            path,
            stat,
            kind: EntryKind::Folder(open),
        })?;
        for name in names {
            self.entry(listing.as_fd(), &path.join(&name), Path::new(&name), depth)?;
        }
        Ok(())
    }

    fn entry(
        &mut self,
        folder: BorrowedFd<'_>,
        path: &Path,
        name: &Path,
        depth: usize,
    ) -> Result<(), ImageError> {
        let shown = self.root.join(path);
        let stat = match rustix::fs::statat(folder, name, AtFlags::SYMLINK_NOFOLLOW) {
            // A source that somebody works in may lose files while it is read.
            Err(Errno::NOENT) => return Ok(()),
            other => other.at("look at", &shown)?,
        };
        let kind = match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => match open_unread(folder, name, READ_FOLDER) {
                Ok(open) => {
                    let stat = rustix::fs::fstat(&open).at("look at", &shown)?;
                    return self.folder(open, stat, path, depth + 1);
                }
                Err(Errno::XDEV) => EntryKind::MountedFolder,
                Err(error) => return Err(error).at("open", &shown)?,
            },
            FileType::RegularFile => {
                let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
                match open_unread(folder, name, flags) {
                    Ok(open) => EntryKind::File(open),
                    Err(Errno::XDEV) => EntryKind::MountedFile,
                    Err(error) => return Err(error).at("open", &shown)?,
                }
            }
            FileType::Symlink => EntryKind::Symlink(
                rustix::fs::readlinkat(folder, name, Vec::new())
                    .at("read", &shown)?
                    .into_bytes(),
            ),
            FileType::Fifo => EntryKind::Pipe,
            FileType::Socket => EntryKind::Special("a socket"),
            FileType::CharacterDevice => EntryKind::Special("a character device"),
            FileType::BlockDevice => EntryKind::Special("a block device"),
            _ => EntryKind::Special("of unknown kind"),
        };
        (self.visit)(&Entry { path, stat, kind })
    }
}

/// The attributes of a walked file or folder that an image takes over. Attributes that are dropped are told to `dropped`.
pub(in crate::native) fn attributes_of(
    entry: &Entry<'_>,
    dropped: &mut dyn FnMut(&str),
) -> Result<Attributes, ImageError> {
    let in_range = |id: u32| {
        owner(id.into()).map_err(|refusal| ImageError::Refused {
            entry: entry.path.display().to_string(),
            refusal,
        })
    };
    let mut xattrs = Vec::new();
    if let EntryKind::Folder(open) | EntryKind::File(open) = &entry.kind {
        for name in xattr_names(open.as_fd()).at("list the attributes of", entry.path)? {
            let mut value = vec![0; 64 * 1024];
            let Ok(length) = rustix::fs::fgetxattr(open, name.as_str(), &mut value[..]) else {
                dropped(&name);
                continue;
            };
            value.truncate(length);
            match kept_xattr(&name, &value) {
                Some(kept) => xattrs.push((name, kept)),
                None => dropped(&name),
            }
        }
        xattrs.sort();
    }
    Ok(Attributes {
        mode: entry.stat.st_mode & 0o7777,
        uid: in_range(entry.stat.st_uid)?,
        gid: in_range(entry.stat.st_gid)?,
        modified: (
            entry.stat.st_mtime,
            u32::try_from(entry.stat.st_mtime_nsec).unwrap_or(0),
        ),
        xattrs,
    })
}

/// The names of a file's extended attributes; none where the file system has none.
pub(in crate::native) fn xattr_names(file: BorrowedFd<'_>) -> rustix::io::Result<Vec<String>> {
    let mut list = vec![0; 64 * 1024];
    let length = match rustix::fs::flistxattr(file, &mut list[..]) {
        Err(Errno::NOTSUP) => 0,
        other => other?,
    };
    Ok(list
        .get(..length)
        .unwrap_or_default()
        .split(|byte| *byte == 0)
        .filter(|name| !name.is_empty())
        .filter_map(|name| String::from_utf8(name.to_vec()).ok())
        .collect())
}

/// The path below `root` for messages.
pub(in crate::native) fn shown(root: &Path, path: &Path) -> PathBuf {
    root.join(path)
}
