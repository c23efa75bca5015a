//! Where things go inside the new root: folders, files and mount points made without following the image's links.
//!
//! Everything here runs after `pivot_root`, so even a followed link stays inside the container; still the last name
//! of a target is never followed, and a link of the image there is replaced (CVE-2021-30465, CVE-2025-31133 and their
//! family). In what is mounted into the container, nothing is taken away for a mount point: it is somebody's data.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, ResolveFlags, StatxFlags, Uid};
use rustix::io::Errno;

use super::failure::{Doing as _, Failure};
use super::messages::File;

/// What a mount point has to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// For a folder or file system.
    Folder,
    /// For a file or device node.
    File,
}

const HANDLE: OFlags = OFlags::PATH.union(OFlags::CLOEXEC);

/// Splits an absolute path of the container into its names.
///
/// # Errors
/// `EINVAL` for a relative path, `/` itself, and for `.` or `..` in it.
pub fn names(target: &str) -> Result<Vec<&str>, Failure> {
    let invalid = || {
        Failure::new(
            format!("use {target} as a path in the container"),
            libc::EINVAL,
        )
    };
    let names: Vec<&str> = target
        .strip_prefix('/')
        .ok_or_else(invalid)?
        .split('/')
        .filter(|name| !name.is_empty())
        .collect();
    if names.is_empty() || names.iter().any(|name| matches!(*name, "." | "..")) {
        return Err(invalid());
    }
    Ok(names)
}

/// Opens the folder that holds the last name of `target`, and makes missing ones where `create` says so.
fn parent(root: impl AsFd, target: &str, create: bool) -> Result<(OwnedFd, &str), Failure> {
    let names = names(target)?;
    let (last, before) = names
        .split_last()
        .ok_or_else(|| Failure::new("split a path", libc::EINVAL))?;
    let mut folder = rustix::io::fcntl_dupfd_cloexec(&root, 3).named("duplicate the root")?;
    let mut path = String::new();
    for name in before {
        path.push('/');
        path.push_str(name);
        let open = || {
            rustix::fs::openat2(
                &root,
                path.as_str(),
                HANDLE | OFlags::DIRECTORY,
                Mode::empty(),
                ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS,
            )
        };
        folder = match open() {
            Err(Errno::NOENT) if create => {
                make_folder(&folder, name, &path, Links::in_the_way(&root, &folder)?)?;
                open()
            }
            other => other,
        }
        .doing(|| format!("open {path} in the container"))?;
    }
    Ok((folder, last))
}

/// What becomes of a link where a mount point has to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Links {
    /// It is of the image.
    Replaced,
    /// It is of somebody's volume.
    Kept,
}

impl Links {
    /// Those in a folder of the container.
    fn in_the_way(root: impl AsFd, folder: impl AsFd) -> Result<Self, Failure> {
        let mount = |fd: BorrowedFd<'_>| {
            rustix::fs::statx(fd, "", AtFlags::EMPTY_PATH, StatxFlags::MNT_ID)
                .map(|found| found.stx_mnt_id)
                .named("ask which mount a folder is on")
        };
        Ok(if mount(root.as_fd())? == mount(folder.as_fd())? {
            Self::Replaced
        } else {
            Self::Kept
        })
    }

    fn take_away(self, folder: impl AsFd, name: &str, path: &str) -> Result<(), Failure> {
        if self == Self::Kept {
            return Err(Failure::new(
                format!("mount on {path}, which is a link in what is mounted there"),
                libc::ELOOP,
            ));
        }
        rustix::fs::unlinkat(folder, name, AtFlags::empty())
            .doing(|| format!("replace the link {path} in the container"))
    }
}

/// A dangling link is in the way of nothing that can be reached.
fn make_folder(folder: impl AsFd, name: &str, path: &str, links: Links) -> Result<(), Failure> {
    let mode = Mode::from_raw_mode(0o755);
    match rustix::fs::mkdirat(&folder, name, mode) {
        Err(Errno::EXIST) => {
            links.take_away(&folder, name, path)?;
            rustix::fs::mkdirat(&folder, name, mode)
        }
        other => other,
    }
    .doing(|| format!("create the folder {path} in the container"))
}

/// Opens `target` as a mount point, and makes it where it is missing or a link of the image.
///
/// # Errors
/// It is something else, or cannot be made.
pub fn mount_point(root: impl AsFd, target: &str, kind: Kind) -> Result<OwnedFd, Failure> {
    let (folder, name) = parent(&root, target, true)?;
    let links = Links::in_the_way(&root, &folder)?;
    place(folder, name, target, kind, links)
}

/// As [`mount_point`], for one name in an open folder of keel's own.
///
/// # Errors
/// It is something else, or cannot be made.
pub fn entry(folder: impl AsFd, name: &str, path: &str, kind: Kind) -> Result<OwnedFd, Failure> {
    place(folder, name, path, kind, Links::Kept)
}

fn place(
    folder: impl AsFd,
    name: &str,
    path: &str,
    kind: Kind,
    links: Links,
) -> Result<OwnedFd, Failure> {
    let open = || rustix::fs::openat(&folder, name, HANDLE | OFlags::NOFOLLOW, Mode::empty());
    let create = || match kind {
        Kind::Folder => make_folder(&folder, name, path, links),
        Kind::File => rustix::fs::openat(
            &folder,
            name,
            OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC,
            Mode::from_raw_mode(0o644),
        )
        .map(drop)
        .doing(|| format!("create {path} in the container")),
    };
    let opening = || format!("open {path} in the container");
    let mut handle = match open() {
        Err(Errno::NOENT) => {
            create()?;
            open()
        }
        other => other,
    }
    .doing(opening)?;
    let stat = |handle: &OwnedFd| {
        rustix::fs::fstat(handle)
            .map(|stat| FileType::from_raw_mode(stat.st_mode))
            .doing(opening)
    };
    let mut found = stat(&handle)?;
    if found == FileType::Symlink {
        links.take_away(&folder, name, path)?;
        create()?;
        handle = open().doing(opening)?;
        found = stat(&handle)?;
    }
    match (kind, found == FileType::Directory) {
        (Kind::Folder, true) | (Kind::File, false) => Ok(handle),
        (Kind::Folder, false) => Err(Failure::new(
            format!("mount a folder on {path} in the container"),
            libc::ENOTDIR,
        )),
        (Kind::File, true) => Err(Failure::new(
            format!("mount a file on {path} in the container"),
            libc::EISDIR,
        )),
    }
}

/// Whether a regular file begins with these bytes; nothing begins with none.
fn begins_with(folder: impl AsFd, name: &str, beginning: &[u8]) -> bool {
    if beginning.is_empty() {
        return false;
    }
    // Not blocking: the image may have put a pipe there.
    let flags =
        OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let Ok(handle) = rustix::fs::openat(folder, name, flags, Mode::empty()) else {
        return false;
    };
    let mut found = vec![0; beginning.len()];
    rustix::io::read(&handle, &mut found[..]).is_ok_and(|count| found[..count] == *beginning)
}

/// Writes a file under a name of its own and renames it over the target, which is never opened: a link there is
/// replaced, a kernel file system behind a link of the image refuses.
///
/// # Errors
/// A folder is missing, or the file cannot be written.
pub fn write_file(root: impl AsFd, file: &File) -> Result<(), Failure> {
    let path = &file.target;
    let (folder, name) = parent(root, path, file.create_parents)?;
    if file.only_if_absent {
        let found = rustix::fs::statat(&folder, name, AtFlags::SYMLINK_NOFOLLOW);
        let kept = found.is_ok_and(|stat| {
            FileType::from_raw_mode(stat.st_mode) != FileType::Symlink
                && !begins_with(&folder, name, &file.ours)
        });
        if kept {
            return Ok(());
        }
    }
    let temporary = ".keel-new";
    let _ = rustix::fs::unlinkat(&folder, temporary, AtFlags::empty());
    let writing = || format!("write {path} in the container");
    let handle = rustix::fs::openat(
        &folder,
        temporary,
        OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC,
        Mode::from_raw_mode(0o600),
    )
    .doing(writing)?;
    let mut rest = &file.content[..];
    while !rest.is_empty() {
        let written = rustix::io::write(&handle, rest).doing(writing)?;
        rest = &rest[written..];
    }
    rustix::fs::fchown(
        &handle,
        Some(Uid::from_raw(file.uid)),
        Some(Gid::from_raw(file.gid)),
    )
    .doing(|| format!("give {path} its owner"))?;
    rustix::fs::fchmod(&handle, Mode::from_raw_mode(file.mode))
        .doing(|| format!("give {path} its mode"))?;
    rustix::fs::renameat(&folder, temporary, &folder, name).doing(writing)
}
