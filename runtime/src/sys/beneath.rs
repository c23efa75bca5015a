//! Files beneath a root that is not trusted: every path is resolved by the kernel and cannot leave the root.
//!
//! `openat2(2)` with `RESOLVE_BENEATH`/`RESOLVE_IN_ROOT` and `RESOLVE_NO_MAGICLINKS`, always relative to a descriptor of
//! the root; no string path of an image or a container ever reaches the host's own path resolution.

use std::ffi::OsStr;
use std::io::{self, Read as _, Write as _};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Component, Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use manifests::path_io::{AtPath as _, PathError};
use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, ResolveFlags, Uid};
use rustix::io::Errno;

/// What a symbolic link on the way to a file means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Links {
    /// An error (`ELOOP`).
    Refuse,
    /// Followed as the container would: an absolute target starts at the root again, `..` stops there.
    WithinRoot,
}

/// What is to be written by [`write_file`].
#[derive(Debug, Clone, Copy)]
pub struct FileToWrite<'a> {
    /// The whole content.
    pub content: &'a [u8],
    /// Permission bits (`0o644`); set-uid bits are kept.
    pub mode: u32,
    /// Owner as it is on disk.
    pub uid: u32,
    /// Group as it is on disk.
    pub gid: u32,
    /// Create missing folders above it (mode 0755, same owner).
    pub create_dirs: bool,
}

/// What [`read_file`] found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FileFound {
    /// Nothing has that name.
    Missing,
    /// A regular file.
    File {
        /// Its content.
        content: Vec<u8>,
        /// Permission bits.
        mode: u32,
        /// Owner as it is on disk.
        uid: u32,
        /// Group as it is on disk.
        gid: u32,
    },
    /// Something else: a folder, a link, a device, …
    Other(FileType),
    /// A regular file longer than the limit, of that many bytes.
    TooLong(u64),
}

/// `openat2` answers `EAGAIN` when a rename or mount elsewhere raced with the resolution of `..`; it then may be tried again.
pub(super) fn retry<T>(mut call: impl FnMut() -> rustix::io::Result<T>) -> rustix::io::Result<T> {
    for _ in 0..64 {
        match call() {
            Err(Errno::AGAIN | Errno::INTR) => {}
            other => return other,
        }
    }
    call()
}

/// Opens the folder that is the root for the other functions. The path itself is the host's and trusted, but its last
/// component must not be a link.
///
/// # Errors
/// The kernel's refusal.
pub fn open_root(path: &Path) -> Result<OwnedFd, PathError> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::open(path, flags, Mode::empty()).at("open", path)
}

/// The components of a path inside a root: leading slashes and `.` vanish.
///
/// # Errors
/// `..` or a NUL anywhere.
pub fn components(path: &Path) -> Result<Vec<&OsStr>, PathError> {
    let mut names = Vec::new();
    for component in path.components() {
        match component {
            Component::RootDir | Component::CurDir => {}
            Component::Normal(name) if !name.as_encoded_bytes().contains(&0) => names.push(name),
            Component::Normal(_) | Component::ParentDir | Component::Prefix(_) => {
                return Err(io::Error::from(io::ErrorKind::InvalidInput)).at("accept", path);
            }
        }
    }
    Ok(names)
}

/// Opens something beneath `root`. Leading slashes of `path` mean the root itself; `flags` get `O_CLOEXEC`.
///
/// # Errors
/// `ELOOP` for a link where [`Links::Refuse`], `EXDEV` for a way out, else as `openat2(2)`.
pub fn open(
    root: impl AsFd,
    path: &Path,
    flags: OFlags,
    links: Links,
) -> Result<OwnedFd, PathError> {
    let names = components(path)?;
    let relative: PathBuf = if names.is_empty() {
        PathBuf::from(".")
    } else {
        names.iter().collect()
    };
    let resolve = ResolveFlags::NO_MAGICLINKS
        | match links {
            Links::Refuse => ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS,
            Links::WithinRoot => ResolveFlags::IN_ROOT,
        };
    let flags = flags | OFlags::CLOEXEC;
    retry(|| rustix::fs::openat2(root.as_fd(), &relative, flags, Mode::empty(), resolve))
        .at("open", path)
}

const FOLDER: OFlags = OFlags::PATH.union(OFlags::DIRECTORY);

/// Opens a folder beneath `root`, creating what is missing with `mode` and owner; what exists is left as it is.
///
/// With [`Links::WithinRoot`] existing links are followed; a dangling one is an error, never a place to create at.
///
/// # Errors
/// A component that is no folder, or the kernel's refusal.
pub fn ensure_dirs(
    root: impl AsFd,
    path: &Path,
    mode: u32,
    owner: (u32, u32),
    links: Links,
) -> Result<OwnedFd, PathError> {
    match open(root.as_fd(), path, FOLDER, links) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        other => return other,
    }
    let mut so_far = PathBuf::new();
    let mut folder = open(root.as_fd(), &so_far, FOLDER, links)?;
    for name in components(path)? {
        so_far.push(name);
        folder = match open(root.as_fd(), &so_far, FOLDER, links) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                match rustix::fs::mkdirat(&folder, name, Mode::from_raw_mode(mode)) {
                    Ok(()) => {
                        // Through the name, not a new descriptor: O_PATH descriptors cannot be chmodded before 6.6.
                        set_owner_and_mode(folder.as_fd(), name, owner, mode).at("own", &so_far)?;
                    }
                    Err(Errno::EXIST) => {}
                    Err(refused) => return Err(refused).at("create", &so_far),
                }
                open(&folder, Path::new(name), FOLDER, Links::Refuse)?
            }
            other => other?,
        };
    }
    Ok(folder)
}

fn set_owner_and_mode(
    folder: BorrowedFd<'_>,
    name: &OsStr,
    owner: (u32, u32),
    mode: u32,
) -> rustix::io::Result<()> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let made = rustix::fs::openat(folder, name, flags, Mode::empty())?;
    rustix::fs::fchown(
        &made,
        Some(Uid::from_raw(owner.0)),
        Some(Gid::from_raw(owner.1)),
    )?;
    // The umask took bits away.
    rustix::fs::fchmod(&made, Mode::from_raw_mode(mode))
}

/// Writes a file beneath `root` so that a reader sees the old or the new content: temporary file, fsync, rename.
///
/// Links on the way are followed within the root; a link *at* the place is replaced, never written through. A folder
/// in the place is an error.
///
/// # Errors
/// No such folder (without `create_dirs`), or the kernel's refusal.
pub fn write_file(root: impl AsFd, path: &Path, file: &FileToWrite<'_>) -> Result<(), PathError> {
    let (above, name) = split(path)?;
    let folder = if file.create_dirs {
        let owner = (file.uid, file.gid);
        ensure_dirs(root, &above, 0o755, owner, Links::WithinRoot)?
    } else {
        open(root, &above, FOLDER, Links::WithinRoot)?
    };
    let (made, temporary) = create_temporary(folder.as_fd()).at("create a file beside", path)?;
    let mut made = std::fs::File::from(made);
    let written = (|| {
        made.write_all(file.content).at("write to", path)?;
        let (uid, gid) = (Uid::from_raw(file.uid), Gid::from_raw(file.gid));
        rustix::fs::fchown(&made, Some(uid), Some(gid)).at("own", path)?;
        // After the owner: chown clears set-uid.
        rustix::fs::fchmod(&made, Mode::from_raw_mode(file.mode & 0o7777)).at("own", path)?;
        made.sync_all().at("sync", path)?;
        rustix::fs::renameat(&folder, &temporary, &folder, name).at("rename to", path)
    })();
    if written.is_err() {
        let _ = rustix::fs::unlinkat(&folder, &temporary, AtFlags::empty());
    }
    written
}

/// Reads a regular file of at most `limit` bytes beneath `root`. Links on the way are followed within the root, a link
/// at the place itself is reported as such. Nothing but a regular file is ever opened for reading.
///
/// # Errors
/// The kernel's refusal, other than "not found".
pub fn read_file(root: impl AsFd, path: &Path, limit: u64) -> Result<FileFound, PathError> {
    let (above, name) = split(path)?;
    let missing = |error: &PathError| {
        matches!(
            error.kind(),
            io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
        )
    };
    let folder = match open(root, &above, FOLDER, Links::WithinRoot) {
        Err(error) if missing(&error) => return Ok(FileFound::Missing),
        other => other?,
    };
    let seen = match rustix::fs::statat(&folder, name, AtFlags::SYMLINK_NOFOLLOW) {
        Err(Errno::NOENT) => return Ok(FileFound::Missing),
        other => other.at("look at", path)?,
    };
    let kind = FileType::from_raw_mode(seen.st_mode);
    if kind != FileType::RegularFile {
        return Ok(FileFound::Other(kind));
    }
    // Not blocking: a pipe may have taken its place since.
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY;
    let file = open(&folder, Path::new(name), flags, Links::Refuse)?;
    let seen = rustix::fs::fstat(&file).at("look at", path)?;
    let kind = FileType::from_raw_mode(seen.st_mode);
    if kind != FileType::RegularFile {
        return Ok(FileFound::Other(kind));
    }
    let length = u64::try_from(seen.st_size).unwrap_or(0);
    if length > limit {
        return Ok(FileFound::TooLong(length));
    }
    let mut content = Vec::new();
    std::fs::File::from(file)
        .take(limit.saturating_add(1))
        .read_to_end(&mut content)
        .at("read", path)?;
    if content.len() as u64 > limit {
        return Ok(FileFound::TooLong(content.len() as u64));
    }
    Ok(FileFound::File {
        content,
        mode: seen.st_mode & 0o7777,
        uid: seen.st_uid,
        gid: seen.st_gid,
    })
}

/// Removes a file or link beneath `root`; what is not there is fine. Answers whether something was removed.
///
/// # Errors
/// A folder in that place, or the kernel's refusal.
pub fn remove_file(root: impl AsFd, path: &Path) -> Result<bool, PathError> {
    let (above, name) = split(path)?;
    let folder = match open(root, &above, FOLDER, Links::WithinRoot) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        other => other?,
    };
    match rustix::fs::unlinkat(&folder, name, AtFlags::empty()) {
        Ok(()) => Ok(true),
        Err(Errno::NOENT) => Ok(false),
        Err(error) => Err(error).at("remove", path),
    }
}

pub(super) fn split(path: &Path) -> Result<(PathBuf, &OsStr), PathError> {
    let mut names = components(path)?;
    let name = names
        .pop()
        .ok_or(io::Error::from(io::ErrorKind::InvalidInput))
        .at("accept", path)?;
    Ok((names.iter().collect(), name))
}

pub(super) fn create_temporary(folder: BorrowedFd<'_>) -> rustix::io::Result<(OwnedFd, String)> {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
    loop {
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!(".keel-{}-{count}.new", std::process::id());
        match rustix::fs::openat(folder, name.as_str(), flags, Mode::RUSR | Mode::WUSR) {
            // Left by a process of the same number that was killed.
            Err(Errno::EXIST) => {}
            other => return other.map(|file| (file, name)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use manifests::path_io;
    use std::os::unix::fs::{MetadataExt as _, symlink};

    struct Scene {
        root: PathBuf,
        outside: PathBuf,
        fd: OwnedFd,
        _keep: tempfile::TempDir,
    }

    /// A root with links of every dangerous kind, and a folder outside that must never change.
    fn scene() -> Scene {
        let keep = tempfile::tempdir().unwrap();
        let (root, outside) = (keep.path().join("root"), keep.path().join("outside"));
        path_io::create_dir_all(root.join("etc")).unwrap();
        path_io::create_dir_all(root.join("usr/bin")).unwrap();
        path_io::create_dir_all(&outside).unwrap();
        path_io::write(outside.join("decoy"), "untouched").unwrap();
        symlink(&outside, root.join("absolute")).unwrap();
        symlink("../outside", root.join("upwards")).unwrap();
        symlink("/proc/self/root", root.join("magic")).unwrap();
        symlink("usr/bin", root.join("bin")).unwrap();
        symlink("/usr/bin", root.join("abs-bin")).unwrap();
        symlink(outside.join("decoy"), root.join("etc/resolv.conf")).unwrap();
        Scene {
            fd: open_root(&root).unwrap(),
            root,
            outside,
            _keep: keep,
        }
    }

    fn text(content: &str) -> FileToWrite<'_> {
        let me = rustix::process::geteuid().as_raw();
        FileToWrite {
            content: content.as_bytes(),
            mode: 0o640,
            uid: me,
            gid: rustix::process::getegid().as_raw(),
            create_dirs: true,
        }
    }

    #[test]
    fn nothing_is_written_outside_of_the_root() {
        let scene = scene();
        for path in [
            "absolute/decoy",
            "upwards/decoy",
            "/absolute/new",
            "magic/tmp/keel-beneath-test",
            "etc/resolv.conf",
            "/bin/tool",
            "abs-bin/tool2",
            "a/b/c/new",
        ] {
            // Whether it is refused or lands inside does not matter here: it must not land outside.
            let _ = write_file(&scene.fd, Path::new(path), &text("evil"));
        }
        let outside = path_io::list(&scene.outside).unwrap();
        assert_eq!(outside, [scene.outside.join("decoy")]);
        assert_eq!(
            path_io::read_to_string(scene.outside.join("decoy")).unwrap(),
            "untouched"
        );
        assert!(!Path::new("/tmp/keel-beneath-test").exists());
        for inside in [
            "usr/bin/tool",
            "usr/bin/tool2",
            "a/b/c/new",
            "etc/resolv.conf",
        ] {
            let at = scene.root.join(inside);
            assert!(at.symlink_metadata().unwrap().is_file(), "{inside}");
            assert_eq!(at.metadata().unwrap().mode() & 0o7777, 0o640);
        }
    }

    #[test]
    fn refused_paths() {
        let scene = scene();
        for path in ["../outside/decoy", "etc/../../outside/decoy", "", "/", "."] {
            let error = write_file(&scene.fd, Path::new(path), &text("x")).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidInput, "{path}");
        }
        let plain = FileToWrite {
            create_dirs: false,
            ..text("x")
        };
        let error = write_file(&scene.fd, Path::new("no/such"), &plain).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
        let flags = OFlags::PATH;
        for path in ["bin", "absolute", "absolute/decoy", "magic"] {
            let error = open(&scene.fd, Path::new(path), flags, Links::Refuse).unwrap_err();
            assert_eq!(error.raw_os_error(), Some(libc::ELOOP), "{path}");
        }
        let error = open(&scene.fd, Path::new("magic"), flags, Links::WithinRoot).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn reading_tells_what_is_there() {
        let scene = scene();
        let read = |path: &str| read_file(&scene.fd, Path::new(path), 8).unwrap();
        write_file(&scene.fd, Path::new("etc/motd"), &text("12345678")).unwrap();
        write_file(&scene.fd, Path::new("etc/long"), &text("123456789")).unwrap();
        rustix::fs::mkfifoat(&scene.fd, "pipe", Mode::RUSR).unwrap();
        let FileFound::File { content, mode, .. } = read("/etc/motd") else {
            panic!("a file");
        };
        assert_eq!((content.as_slice(), mode), (b"12345678".as_slice(), 0o640));
        assert_eq!(read("etc/long"), FileFound::TooLong(9));
        assert_eq!(read("etc/none"), FileFound::Missing);
        assert_eq!(read("none/none"), FileFound::Missing);
        assert_eq!(read("etc/motd/none"), FileFound::Missing);
        assert_eq!(read("etc"), FileFound::Other(FileType::Directory));
        assert_eq!(read("etc/resolv.conf"), FileFound::Other(FileType::Symlink));
        assert_eq!(read("pipe"), FileFound::Other(FileType::Fifo));
        assert!(remove_file(&scene.fd, Path::new("etc/resolv.conf")).unwrap());
        assert!(!remove_file(&scene.fd, Path::new("etc/resolv.conf")).unwrap());
        assert!(scene.outside.join("decoy").exists());
    }

    /// A link and a folder trade places all the time: the decoy outside is never written.
    #[test]
    fn a_racing_swap_never_leads_outside() {
        let scene = scene();
        path_io::create_dir_all(scene.root.join("spot")).unwrap();
        let stop = std::sync::atomic::AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let flags = rustix::fs::RenameFlags::EXCHANGE;
                while !stop.load(Ordering::Relaxed) {
                    rustix::fs::renameat_with(&scene.fd, "spot", &scene.fd, "absolute", flags)
                        .unwrap();
                }
            });
            for _ in 0..3000 {
                let _ = write_file(
                    &scene.fd,
                    Path::new("spot/decoy"),
                    &FileToWrite {
                        create_dirs: false,
                        ..text("evil")
                    },
                );
            }
            stop.store(true, Ordering::Relaxed);
        });
        assert_eq!(
            path_io::read_to_string(scene.outside.join("decoy")).unwrap(),
            "untouched"
        );
    }
}
