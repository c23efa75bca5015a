//! Replacing files that people own: all of them or, where the kernel fails in the middle, with the word which ones.
//!
//! Each file is made anew beside the old one (fsync), and only when all are there each takes the place of its own (rename,
//! fsync of the folder). Mode and owner stay; no symbolic link is followed on the way.

use std::ffi::OsStr;
use std::io::{Read as _, Write as _};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use manifests::path_io::{AtPath as _, PathError};
use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, Stat, Uid};

use super::beneath::{self, Links};

/// A file with what it says and what it is to say.
#[derive(Debug, Clone)]
pub struct Replacement<'a> {
    /// Where it lies, relative to the root.
    pub path: PathBuf,
    /// What it must say, or nothing is done.
    pub was: &'a [u8],
    /// What it says then.
    pub is: &'a [u8],
}

/// Why files are not replaced.
#[derive(Debug, thiserror::Error)]
pub enum ReplaceError {
    /// A step before anything was replaced.
    #[error(transparent)]
    Nothing(#[from] PathError),
    /// Somebody else wrote to it; nothing was replaced.
    #[error("{} was changed meanwhile", .0.display())]
    Changed(PathBuf),
    /// No file; nothing was replaced.
    #[error("{} is no plain file", .0.display())]
    NoFile(PathBuf),
    /// It stopped in the middle.
    #[error(
        "only in part: {} is written, {} is not",
        listed(replaced),
        listed(left)
    )]
    Partly {
        /// Files that are replaced.
        replaced: Vec<PathBuf>,
        /// Files that are as they were.
        left: Vec<PathBuf>,
        /// What failed.
        source: PathError,
    },
}

fn listed(paths: &[PathBuf]) -> String {
    let names: Vec<String> = paths
        .iter()
        .map(|path| path.display().to_string())
        .collect();
    names.join(", ")
}

/// Replaces files beneath `root`.
///
/// # Errors
/// One of them is not as it is thought to be, or the kernel's refusal; only [`ReplaceError::Partly`] leaves something
/// changed.
pub fn files(root: impl AsFd, all: &[Replacement<'_>]) -> Result<(), ReplaceError> {
    files_with(root, all, |_| {})
}

/// As [`files`]; `meanwhile` is what happens before each rename, by its number.
fn files_with(
    root: impl AsFd,
    all: &[Replacement<'_>],
    mut meanwhile: impl FnMut(usize),
) -> Result<(), ReplaceError> {
    let mut ready = Vec::new();
    for one in all {
        ready.push(Prepared::of(root.as_fd(), one)?);
    }
    for prepared in &ready {
        prepared.is_unchanged()?;
    }
    for number in 0..ready.len() {
        meanwhile(number);
        if let Err(source) = ready[number].put() {
            if number == 0 && !ready[number].placed {
                return Err(source.into());
            }
            let path = |prepared: &Prepared<'_>| prepared.path.to_path_buf();
            let (replaced, left) = ready.iter().partition::<Vec<_>, _>(|one| one.placed);
            return Err(ReplaceError::Partly {
                replaced: replaced.into_iter().map(path).collect(),
                left: left.into_iter().map(path).collect(),
                source,
            });
        }
    }
    Ok(())
}

/// A file that is made and has not taken its place; it is removed where it never does.
struct Prepared<'a> {
    path: &'a Path,
    folder: OwnedFd,
    name: &'a OsStr,
    temporary: String,
    /// The file in whose place it comes.
    seen: Stat,
    placed: bool,
}

impl<'a> Prepared<'a> {
    fn of(root: impl AsFd, one: &'a Replacement<'_>) -> Result<Self, ReplaceError> {
        let path = one.path.as_path();
        let (above, name) = beneath::split(path)?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY;
        let folder = beneath::open(root, &above, flags, Links::Refuse)?;
        // Not blocking: it may be a pipe.
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY;
        let file = beneath::open(&folder, Path::new(name), flags, Links::Refuse)
            .map_err(|error| error.source)
            .at("open", path)?;
        let seen = rustix::fs::fstat(&file).at("look at", path)?;
        if FileType::from_raw_mode(seen.st_mode) != FileType::RegularFile {
            return Err(ReplaceError::NoFile(path.to_path_buf()));
        }
        let mut content = Vec::new();
        std::fs::File::from(file)
            .take(one.was.len() as u64 + 1)
            .read_to_end(&mut content)
            .at("read", path)?;
        if content != one.was {
            return Err(ReplaceError::Changed(path.to_path_buf()));
        }
        let made = beneath::create_temporary(folder.as_fd()).at("create a file beside", path)?;
        let (made, temporary) = made;
        let prepared = Self {
            path,
            folder,
            name,
            temporary,
            seen,
            placed: false,
        };
        prepared.fill(made, one.is)?;
        Ok(prepared)
    }

    fn fill(&self, made: OwnedFd, content: &[u8]) -> Result<(), PathError> {
        let path = self.path;
        let (uid, gid) = (self.seen.st_uid, self.seen.st_gid);
        let own = rustix::fs::fstat(&made).at("look at", path)?;
        let mut made = std::fs::File::from(made);
        made.write_all(content).at("write to", path)?;
        if (own.st_uid, own.st_gid) != (uid, gid) {
            let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(gid));
            rustix::fs::fchown(&made, Some(uid), Some(gid)).at("keep the owner of", path)?;
        }
        // After the owner: chown clears set-uid.
        let mode = Mode::from_raw_mode(self.seen.st_mode & 0o7777);
        rustix::fs::fchmod(&made, mode).at("keep the mode of", path)?;
        made.sync_all().at("sync", path)
    }

    /// Sees that the file still lies in its place, and nobody wrote to it.
    fn is_unchanged(&self) -> Result<(), ReplaceError> {
        let now = rustix::fs::statat(&self.folder, self.name, AtFlags::SYMLINK_NOFOLLOW)
            .at("look at", self.path)?;
        let state = |of: &Stat| {
            (
                of.st_dev,
                of.st_ino,
                of.st_size,
                of.st_mtime,
                of.st_mtime_nsec,
            )
        };
        if state(&now) == state(&self.seen) {
            Ok(())
        } else {
            Err(ReplaceError::Changed(self.path.to_path_buf()))
        }
    }

    /// Takes its place.
    fn put(&mut self) -> Result<(), PathError> {
        let temporary = self.temporary.as_str();
        rustix::fs::renameat(&self.folder, temporary, &self.folder, self.name)
            .at("rename to", self.path)?;
        self.placed = true;
        rustix::fs::fsync(&self.folder).at("sync the folder of", self.path)
    }
}

impl Drop for Prepared<'_> {
    fn drop(&mut self) {
        if !self.placed {
            let temporary = self.temporary.as_str();
            let _ = rustix::fs::unlinkat(&self.folder, temporary, AtFlags::empty());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};

    use manifests::path_io;

    use super::*;

    /// A folder with `a` and `deep/b`, which say their names.
    fn scene() -> (tempfile::TempDir, OwnedFd) {
        let folder = tempfile::tempdir().unwrap();
        path_io::create_dir_all(folder.path().join("deep")).unwrap();
        path_io::write(folder.path().join("a"), "a").unwrap();
        path_io::write(folder.path().join("deep/b"), "b").unwrap();
        let root = beneath::open_root(folder.path()).unwrap();
        (folder, root)
    }

    fn one<'a>(path: &str, was: &'a str, is: &'a str) -> Replacement<'a> {
        Replacement {
            path: path.into(),
            was: was.as_bytes(),
            is: is.as_bytes(),
        }
    }

    /// What both files say, and that nothing else lies about.
    fn said(folder: &tempfile::TempDir) -> (String, String) {
        let count = |below: &str| path_io::list(folder.path().join(below)).unwrap().len();
        assert_eq!((count(""), count("deep")), (2, 1), "nothing is left behind");
        let read = |name: &str| path_io::read_to_string(folder.path().join(name)).unwrap();
        (read("a"), read("deep/b"))
    }

    #[test]
    fn mode_and_owner_stay_and_a_reader_keeps_the_old_file() {
        let (folder, root) = scene();
        let path = folder.path().join("a");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
        let is_root = rustix::process::geteuid().is_root();
        if is_root {
            std::os::unix::fs::chown(&path, Some(1234), Some(4321)).unwrap();
        }
        let before = path.metadata().unwrap();
        let mut old = std::fs::File::open(&path).unwrap();
        files(&root, &[one("a", "a", "new"), one("deep/b", "b", "")]).unwrap();
        assert_eq!(said(&folder), ("new".to_owned(), String::new()));
        let after = path.metadata().unwrap();
        assert_eq!(after.mode(), before.mode());
        assert_eq!((after.uid(), after.gid()), (before.uid(), before.gid()));
        assert_ne!(after.ino(), before.ino());
        let mut text = String::new();
        old.read_to_string(&mut text).unwrap();
        assert_eq!(text, "a");
    }

    #[test]
    fn one_that_is_otherwise_leaves_all() {
        let (folder, root) = scene();
        for second in [one("deep/b", "x", "new"), one("deep/b", "bb", "new")] {
            let error = files(&root, &[one("a", "a", "new"), second]).unwrap_err();
            assert!(matches!(&error, ReplaceError::Changed(path) if path == Path::new("deep/b")));
            assert_eq!(said(&folder), ("a".to_owned(), "b".to_owned()));
        }
        for path in ["deep", "deep/none", "none/b", "../a"] {
            let all = [one("a", "a", "new"), one(path, "b", "new")];
            files(&root, &all).unwrap_err();
            assert_eq!(said(&folder), ("a".to_owned(), "b".to_owned()), "{path}");
        }
    }

    #[test]
    fn no_link_is_followed() {
        let (outside, _) = scene();
        let folder = tempfile::tempdir().unwrap();
        let root = beneath::open_root(folder.path()).unwrap();
        symlink(outside.path(), folder.path().join("way")).unwrap();
        symlink(outside.path().join("a"), folder.path().join("file")).unwrap();
        for path in ["way/a", "file"] {
            files(&root, &[one(path, "a", "new")]).unwrap_err();
        }
        assert_eq!(said(&outside), ("a".to_owned(), "b".to_owned()));
        assert_eq!(path_io::list(folder.path()).unwrap().len(), 2);
    }

    #[test]
    fn a_failure_in_the_middle_says_what_is_written() {
        let (folder, root) = scene();
        let all = [one("a", "a", "new"), one("deep/b", "b", "new")];
        let place = folder.path().join("deep/b");
        let error = files_with(&root, &all, |number| {
            if number == 1 {
                // A folder cannot be renamed over.
                path_io::remove_file(&place).unwrap();
                path_io::ensure_dir(&place).unwrap();
            }
        });
        assert_eq!(
            error.unwrap_err().to_string(),
            "only in part: a is written, deep/b is not"
        );
        assert_eq!(path_io::list(folder.path().join("deep")).unwrap(), [place]);
        let text = path_io::read_to_string(folder.path().join("a")).unwrap();
        assert_eq!(text, "new");
    }

    #[test]
    fn a_failure_of_the_first_leaves_all() {
        let (folder, root) = scene();
        let place = folder.path().join("a");
        let all = [one("a", "a", "new"), one("deep/b", "b", "new")];
        let error = files_with(&root, &all, |number| {
            if number == 0 {
                path_io::remove_file(&place).unwrap();
                path_io::ensure_dir(&place).unwrap();
            }
        });
        assert!(matches!(error, Err(ReplaceError::Nothing(_))), "{error:?}");
        let text = path_io::read_to_string(folder.path().join("deep/b")).unwrap();
        assert_eq!(text, "b");
        assert_eq!(path_io::list(folder.path().join("deep")).unwrap().len(), 1);
    }
}
