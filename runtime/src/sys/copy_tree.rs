//! A copy of a tree that is like it in all that a program can see: owners, modes, times, extended attributes with
//! capabilities and access lists, holes, hard links, pipes, sockets, devices (an overlay's whiteouts are some).
//!
//! The tree may have been written by somebody who wishes harm. As in [`remove_tree`](super::remove_tree), every name is
//! opened beside the descriptor of its folder, no link is followed and no mount crossed; the copy is made in a folder
//! that only root can enter until it is complete.

use std::collections::HashMap;
use std::ffi::{CString, OsStr};
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use manifests::path_io::{AtPath as _, PathError};
use rustix::fs::{
    AtFlags, Dir, FileType, Gid, Mode, OFlags, RenameFlags, ResolveFlags, Stat, Timespec,
    Timestamps, Uid, XattrFlags,
};
use rustix::io::Errno;

use super::copy_bytes::{CopyError, copy_bytes};

/// Two descriptors are open for each folder on the way down; a process has 1024 at least.
pub(super) const DEEPEST: usize = 400;

/// Why a tree was not copied.
#[derive(Debug, thiserror::Error)]
pub enum CopyTreeError {
    /// The kernel refused a step.
    #[error(transparent)]
    Path(#[from] PathError),
    /// Something is mounted in it.
    #[error("something is mounted on {}", path.display())]
    Mounted {
        /// Where.
        path: PathBuf,
    },
    /// Its folders lie too deep in each other.
    #[error("{} lies in more than {DEEPEST} folders", path.display())]
    TooDeep {
        /// The folder.
        path: PathBuf,
    },
    /// A file was changed meanwhile, or the caller did not want to go on.
    #[error("copy {}", path.display())]
    Copy {
        /// The file.
        path: PathBuf,
        /// Why it was not copied.
        source: CopyError,
    },
}

impl CopyTreeError {
    /// Whether the disk is full.
    pub fn is_full(&self) -> bool {
        let full = |error: &std::io::Error| error.kind() == std::io::ErrorKind::StorageFull;
        match self {
            Self::Path(error) => full(&error.source),
            Self::Copy {
                source: CopyError::Io(error),
                ..
            } => full(error),
            _ => false,
        }
    }
}

/// Copies the folder `from` with all that is in it to `to`, which is not there yet, and waits until the disk has it.
/// `go_on` is asked now and then. Answers the bytes of its files.
///
/// # Errors
/// [`CopyTreeError`]; what was copied until then is left for the caller to remove.
pub fn copy_tree(
    from: &Path,
    to: &Path,
    go_on: &mut dyn FnMut() -> bool,
) -> Result<u64, CopyTreeError> {
    let source = rustix::fs::open(from, FOLDER, Mode::empty()).at("open", from)?;
    rustix::fs::mkdir(to, Mode::RWXU).at("create", to)?;
    let target = rustix::fs::open(to, FOLDER, Mode::empty()).at("open", to)?;
    let stat = rustix::fs::fstat(&source).at("look at", from)?;
    let mut copying = Copying {
        from,
        root: &target,
        first_names: HashMap::new(),
        bytes: 0,
        go_on,
    };
    let inside = Path::new("");
    copying.folder(&source, &target, inside, 0)?;
    copying.attributes(source.as_fd(), target.as_fd(), &stat, inside)?;
    // One call for all of them: to sync each file would cost a commit of the journal a file.
    rustix::fs::syncfs(&target).at("sync", to)?;
    Ok(copying.bytes)
}

/// Copies one file into the new file `to`, which only its owner can read; as [`copy_tree`] follows no link. Waits until it is
/// on disk.
///
/// # Errors
/// [`CopyTreeError`]; what was copied until then stays.
pub fn copy_file(
    from: &Path,
    to: &Path,
    go_on: &mut dyn FnMut() -> bool,
) -> Result<u64, CopyTreeError> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let source = File::from(rustix::fs::open(from, flags, Mode::empty()).at("open", from)?);
    let length = source.metadata().at("look at", from)?.len();
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
    let target = rustix::fs::open(to, flags, Mode::RUSR | Mode::WUSR);
    let target = File::from(target.at("create", to)?);
    copy_bytes(&source, &target, length, &mut |_| go_on()).map_err(|source| {
        CopyTreeError::Copy {
            path: from.to_path_buf(),
            source,
        }
    })?;
    target.sync_all().at("sync", to)?;
    Ok(length)
}

/// Puts the folder `new` at the place of `old` and the other way round, at once.
///
/// # Errors
/// One of them is not there, or the file system cannot do that.
pub fn exchange(new: &Path, old: &Path) -> Result<(), PathError> {
    let here = rustix::fs::CWD;
    rustix::fs::renameat_with(here, new, here, old, RenameFlags::EXCHANGE).at("exchange", old)
}

pub(super) const FOLDER: OFlags = OFlags::RDONLY
    .union(OFlags::DIRECTORY)
    .union(OFlags::NOFOLLOW)
    .union(OFlags::CLOEXEC);

/// Attributes that another program may refuse to let go or that mean nothing here.
pub(super) const NOT_OURS: &[&str] = &["security.selinux", "security.evm", "security.ima"];

struct Copying<'a> {
    from: &'a Path,
    root: &'a OwnedFd,
    /// Where a file with several names was put first, by its device and number.
    first_names: HashMap<(u64, u64), PathBuf>,
    bytes: u64,
    go_on: &'a mut dyn FnMut() -> bool,
}

impl Copying<'_> {
    fn shown(&self, path: &Path) -> PathBuf {
        self.from.join(path)
    }

    fn folder(
        &mut self,
        source: &OwnedFd,
        target: &OwnedFd,
        path: &Path,
        depth: usize,
    ) -> Result<(), CopyTreeError> {
        let shown = self.shown(path);
        if depth > DEEPEST {
            return Err(CopyTreeError::TooDeep { path: shown });
        }
        for entry in Dir::read_from(source).at("list", &shown)? {
            let entry = entry.at("list", &shown)?;
            let name = entry.file_name();
            if matches!(name.to_bytes(), b"." | b"..") {
                continue;
            }
            let path = path.join(as_path(name));
            self.entry(
                source.as_fd(),
                target.as_fd(),
                &name.to_owned(),
                &path,
                depth,
            )?;
        }
        Ok(())
    }

    fn entry(
        &mut self,
        source: BorrowedFd<'_>,
        target: BorrowedFd<'_>,
        name: &CString,
        path: &Path,
        depth: usize,
    ) -> Result<(), CopyTreeError> {
        let shown = self.shown(path);
        let nofollow = AtFlags::SYMLINK_NOFOLLOW;
        let stat = rustix::fs::statat(source, name, nofollow).at("look at", &shown)?;
        let kind = FileType::from_raw_mode(stat.st_mode);
        if kind != FileType::Directory && stat.st_nlink > 1 {
            let key = (stat.st_dev, stat.st_ino);
            if let Some(first) = self.first_names.get(&key) {
                rustix::fs::linkat(self.root, first, target, name, AtFlags::empty())
                    .at("link to", &shown)?;
                return Ok(());
            }
            self.first_names.insert(key, path.to_path_buf());
        }
        match kind {
            FileType::Directory => {
                let from = self.open(source, name, FOLDER, &shown)?;
                rustix::fs::mkdirat(target, name, Mode::RWXU).at("copy", &shown)?;
                let to =
                    rustix::fs::openat(target, name, FOLDER, Mode::empty()).at("open", &shown)?;
                self.folder(&from, &to, path, depth + 1)?;
                self.attributes(from.as_fd(), to.as_fd(), &stat, path)
            }
            FileType::RegularFile => {
                if !(self.go_on)() {
                    let source = CopyError::Interrupted;
                    return Err(CopyTreeError::Copy {
                        path: shown,
                        source,
                    });
                }
                let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
                let from = File::from(self.open(source, name, flags, &shown)?);
                let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
                let to = rustix::fs::openat(target, name, flags, Mode::RUSR | Mode::WUSR);
                let to = File::from(to.at("copy", &shown)?);
                let length = u64::try_from(stat.st_size).unwrap_or(0);
                let go_on = &mut *self.go_on;
                copy_bytes(&from, &to, length, &mut |_| go_on()).map_err(|source| {
                    CopyTreeError::Copy {
                        path: shown,
                        source,
                    }
                })?;
                self.bytes = self.bytes.saturating_add(length);
                self.attributes(from.as_fd(), to.as_fd(), &stat, path)
            }
            FileType::Symlink => {
                let to = rustix::fs::readlinkat(source, name, Vec::new()).at("read", &shown)?;
                rustix::fs::symlinkat(&to, target, name).at("copy", &shown)?;
                owned(target, name, &stat).at("own", &shown)?;
                rustix::fs::utimensat(target, name, &times(&stat), nofollow).at("date", &shown)?;
                Ok(())
            }
            _ => {
                let mode = Mode::from_raw_mode(stat.st_mode);
                rustix::fs::mknodat(target, name, kind, mode, stat.st_rdev).at("copy", &shown)?;
                owned(target, name, &stat).at("own", &shown)?;
                // What has just been made is no link, and nobody else can enter.
                rustix::fs::chmodat(target, name, mode, AtFlags::empty())
                    .at("set the mode of", &shown)?;
                rustix::fs::utimensat(target, name, &times(&stat), nofollow).at("date", &shown)?;
                Ok(())
            }
        }
    }

    fn open(
        &self,
        folder: BorrowedFd<'_>,
        name: &CString,
        flags: OFlags,
        shown: &Path,
    ) -> Result<OwnedFd, CopyTreeError> {
        open_beside(folder, name, flags, shown).map_err(|error| {
            match error.raw_os_error() == Some(libc::EXDEV) {
                true => CopyTreeError::Mounted {
                    path: shown.to_path_buf(),
                },
                false => error.into(),
            }
        })
    }

    /// Owner, then mode (a change of the owner takes set-uid bits away), then attributes (and capabilities), then times.
    fn attributes(
        &self,
        source: BorrowedFd<'_>,
        target: BorrowedFd<'_>,
        stat: &Stat,
        path: &Path,
    ) -> Result<(), CopyTreeError> {
        let shown = self.shown(path);
        let (uid, gid) = (Uid::from_raw(stat.st_uid), Gid::from_raw(stat.st_gid));
        rustix::fs::fchown(target, Some(uid), Some(gid)).at("own", &shown)?;
        let mode = Mode::from_raw_mode(stat.st_mode);
        rustix::fs::fchmod(target, mode).at("set the mode of", &shown)?;
        for name in names_of_attributes(source).at("list the attributes of", &shown)? {
            if NOT_OURS
                .iter()
                .any(|other| name.to_bytes() == other.as_bytes())
            {
                continue;
            }
            let mut value = vec![0; 64 * 1024];
            let length = rustix::fs::fgetxattr(source, &name, &mut value[..])
                .at("read an attribute of", &shown)?;
            let value = value.get(..length).unwrap_or_default();
            rustix::fs::fsetxattr(target, &name, value, XattrFlags::empty())
                .at("set an attribute of", &shown)?;
        }
        rustix::fs::futimens(target, &times(stat)).at("date", &shown)?;
        Ok(())
    }
}

/// Opens what has this name in a folder, over no mount and through no link.
///
/// # Errors
/// `EXDEV` where something is mounted on it.
pub(super) fn open_beside(
    folder: BorrowedFd<'_>,
    name: &CString,
    flags: OFlags,
    shown: &Path,
) -> Result<OwnedFd, PathError> {
    open_unread(folder, name, flags).at("open", shown)
}

/// Opens what lies in a folder, on the same file system and behind no link. Reading it does not change when it was read
/// last, where the caller may ask for that.
///
/// # Errors
/// The kernel's answer; `EXDEV` where something is mounted on it.
pub fn open_unread(
    folder: BorrowedFd<'_>,
    name: impl rustix::path::Arg + Copy,
    flags: OFlags,
) -> rustix::io::Result<OwnedFd> {
    let resolve = ResolveFlags::BENEATH
        | ResolveFlags::NO_XDEV
        | ResolveFlags::NO_SYMLINKS
        | ResolveFlags::NO_MAGICLINKS;
    let open = |flags| rustix::fs::openat2(folder, name, flags, Mode::empty(), resolve);
    // Only the owner may ask for it.
    match open(flags | OFlags::NOATIME) {
        Err(Errno::PERM) => open(flags),
        other => other,
    }
}

pub(super) fn as_path(name: &std::ffi::CStr) -> &Path {
    Path::new(OsStr::from_bytes(name.to_bytes()))
}

fn owned(folder: BorrowedFd<'_>, name: &CString, stat: &Stat) -> rustix::io::Result<()> {
    let (uid, gid) = (Uid::from_raw(stat.st_uid), Gid::from_raw(stat.st_gid));
    let flags = AtFlags::SYMLINK_NOFOLLOW;
    rustix::fs::chownat(folder, name, Some(uid), Some(gid), flags)
}

fn times(stat: &Stat) -> Timestamps {
    let time = |seconds, nanoseconds: u64| Timespec {
        tv_sec: seconds,
        tv_nsec: i64::try_from(nanoseconds).unwrap_or(0),
    };
    Timestamps {
        last_access: time(stat.st_atime, stat.st_atime_nsec),
        last_modification: time(stat.st_mtime, stat.st_mtime_nsec),
    }
}

/// The names of a file's extended attributes; none where the file system has none.
pub(super) fn names_of_attributes(file: BorrowedFd<'_>) -> rustix::io::Result<Vec<CString>> {
    let mut list = vec![0; 64 * 1024];
    let length = match rustix::fs::flistxattr(file, &mut list[..]) {
        Err(Errno::NOTSUP) => 0,
        other => other?,
    };
    let list = list.get(..length).unwrap_or_default();
    let names = list
        .split(|byte| *byte == 0)
        .filter(|name| !name.is_empty());
    Ok(names.filter_map(|name| CString::new(name).ok()).collect())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{FileExt as _, MetadataExt as _};

    use super::*;

    /// Everything that can be seen of a tree, a line an entry.
    fn told(root: &Path) -> String {
        let attributes = "import os; [print(p, n, os.getxattr(p, n, follow_symlinks=False)) for f, _, a in os.walk('.') \
                          for p in [f] + [f + '/' + x for x in a] for n in os.listxattr(p, follow_symlinks=False)]";
        let line = format!(
            "cd {} && find . -printf '%P %y %m %U %G %s %n %T@ %l\\n' | sort; python3 -c \"{attributes}\" | sort; \
             find . -type f -exec sha256sum {{}} + | sort",
            root.display()
        );
        let told = super::super::command::run("sh", &["-c".to_owned(), line], None).expect("told");
        String::from_utf8(told).expect("UTF-8")
    }

    crate::host_test! {
        fn a_copy_is_as_the_tree_in_all_that_can_be_seen() {
            let folder = tempfile::tempdir().expect("a folder");
            let (from, to) = (folder.path().join("from"), folder.path().join("to"));
            let make = format!(
                "set -e; mkdir -p {0}/deep/er; cd {0}; echo hello >file; ln file deep/again; ln -s /etc/passwd link; mkfifo pipe;\
                 mknod whiteout c 0 0; mknod dev b 7 99; chown -h 1000:1001 link; chown 65534:5 pipe deep; chmod 4755 file; chmod 1777 deep/er; \
                 truncate -s 64M hole; printf x | dd of=hole bs=1 seek=33554432 conv=notrunc 2>/dev/null; \
                 touch -h -d 2001-02-03T04:05:06.789 link file deep/er pipe; touch -d 1999-01-01 deep; chmod 700 .",
                from.display()
            );
            super::super::command::run("sh", &["-c".to_owned(), make], None).expect("a tree");
            std::os::unix::net::UnixListener::bind(from.join("socket")).expect("a socket");
            for (name, value) in [("user.overlay.opaque", &b"y"[..]), ("trusted.thing", b"1"), ("user.note", b"mine")] {
                rustix::fs::setxattr(from.join("deep"), name, value, XattrFlags::empty()).expect(name);
            }
            let capability = [&[1, 0, 0, 2][..], &[0, 4, 0, 0], &[0; 12]].concat();
            rustix::fs::setxattr(from.join("file"), "security.capability", &capability, XattrFlags::empty()).expect("a capability");
            let before = told(&from);
            assert_eq!(copy_tree(&from, &to, &mut || true).expect("copied"), 6 + (64 << 20));
            assert_eq!(told(&to), before);
            assert_eq!(told(&from), before, "the original is as it was");
            let mut kept = [0; 64];
            let length = rustix::fs::getxattr(to.join("file"), "security.capability", &mut kept[..]).expect("kept");
            assert_eq!(kept[..length], capability);
            let hole = File::open(to.join("hole")).expect("there");
            assert!(hole.metadata().expect("there").blocks() < 1024, "holes stay holes");
            let mut byte = [0];
            hole.read_exact_at(&mut byte, 32 << 20).expect("read");
            assert_eq!(&byte, b"x");
            let same = |name: &str| to.join(name).metadata().expect(name).ino();
            assert_eq!(same("file"), same("deep/again"));

            // They change places at once.
            manifests::path_io::write(to.join("new"), "").expect("written");
            exchange(&to, &from).expect("exchanged");
            assert!(from.join("new").exists() && !to.join("new").exists());

            // It is left when nobody wants it any more, and what is mounted inside is never copied.
            let third = folder.path().join("third");
            let left = copy_tree(&from, &third, &mut || false);
            assert!(matches!(left, Err(CopyTreeError::Copy { source: CopyError::Interrupted, .. })), "{left:?}");
            rustix::mount::mount("none", from.join("deep/er"), "tmpfs", rustix::mount::MountFlags::empty(), None).expect("mounted");
            let mounted = copy_tree(&from, &folder.path().join("fourth"), &mut || true);
            assert!(matches!(mounted, Err(CopyTreeError::Mounted { .. })), "{mounted:?}");
            rustix::mount::unmount(from.join("deep/er"), rustix::mount::UnmountFlags::empty()).expect("unmounted");
        }
    }
}
