//! Whether a copy of a tree is as the tree is: what [`copy_tree`](super::copy_tree) takes over is compared, the bytes of files
//! as the disk gives them back.

use std::collections::HashMap;
use std::ffi::CString;
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use manifests::path_io::{AtPath as _, PathError};
use rustix::fs::{Advice, AtFlags, Dir, FileType, Mode, OFlags, SeekFrom, Stat};

use super::copy_tree::{DEEPEST, FOLDER, NOT_OURS, as_path, names_of_attributes, open_beside};

/// Compared at once, in bytes.
const CHUNK: usize = 256 * 1024;

/// Why two trees are not the same.
#[derive(Debug, thiserror::Error)]
pub enum CompareError {
    /// One of them cannot be read.
    #[error(transparent)]
    Path(#[from] PathError),
    /// They differ.
    #[error("the copy of {} differs in its {what}", path.display())]
    Differs {
        /// What was copied.
        path: PathBuf,
        /// In what.
        what: &'static str,
    },
    /// The caller did not want to go on.
    #[error("it was interrupted")]
    Interrupted,
}

/// Compares a folder, or a file, with the copy of it. Nobody writes to either. `go_on` is asked now and then.
///
/// # Errors
/// [`CompareError`]: the first difference.
pub fn compare(
    original: &Path,
    copy: &Path,
    go_on: &mut dyn FnMut() -> bool,
) -> Result<(), CompareError> {
    let seen = |path: &Path| rustix::fs::lstat(path).at("look at", path);
    let (one, other) = (seen(original)?, seen(copy)?);
    let mut comparing = Comparing {
        original,
        first_names: HashMap::new(),
        buffers: [vec![0; CHUNK], vec![0; CHUNK]],
        opens: true,
        go_on,
    };
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let open = |path: &Path| {
        rustix::fs::open(path, flags | OFlags::RDONLY, Mode::empty()).at("open", path)
    };
    let here = Path::new("");
    // Of a file that is a disk only its bytes are copied: who owns it is whoever made it.
    if FileType::from_raw_mode(one.st_mode) == FileType::RegularFile {
        let same = one.st_size == other.st_size
            && FileType::from_raw_mode(other.st_mode) == FileType::RegularFile;
        comparing.same(same, here, "size")?;
        return comparing.bytes(&File::from(open(original)?), &File::from(open(copy)?), here);
    }
    comparing.stats(&one, &other, here)?;
    let (one, other) = (open(original)?, open(copy)?);
    comparing.attributes(one.as_fd(), other.as_fd(), here)?;
    comparing.folder(&one, &other, here, 0)
}

/// As [`compare`], but for the bytes of files and what else only shows where one is opened: two folders of which one was a copy
/// of the other, and into which nobody has written since, look the same.
///
/// # Errors
/// [`CompareError`]: the first difference.
pub fn look_the_same(
    original: &Path,
    copy: &Path,
    go_on: &mut dyn FnMut() -> bool,
) -> Result<(), CompareError> {
    let seen = |path: &Path| rustix::fs::lstat(path).at("look at", path);
    let (one, other) = (seen(original)?, seen(copy)?);
    let mut comparing = Comparing {
        original,
        first_names: HashMap::new(),
        buffers: [Vec::new(), Vec::new()],
        opens: false,
        go_on,
    };
    let here = Path::new("");
    comparing.stats(&one, &other, here)?;
    let open = |path: &Path| rustix::fs::open(path, FOLDER, Mode::empty()).at("open", path);
    comparing.folder(&open(original)?, &open(copy)?, here, 0)
}

/// Which file a name is of.
type Node = (u64, u64);

struct Comparing<'a> {
    original: &'a Path,
    /// Of files with several names the copy of each.
    first_names: HashMap<Node, Node>,
    buffers: [Vec<u8>; 2],
    /// Whether what is in files is compared, and not only what they look like.
    opens: bool,
    go_on: &'a mut dyn FnMut() -> bool,
}

impl Comparing<'_> {
    fn shown(&self, path: &Path) -> PathBuf {
        match path.as_os_str().is_empty() {
            true => self.original.to_path_buf(),
            false => self.original.join(path),
        }
    }

    fn same(&self, same: bool, path: &Path, what: &'static str) -> Result<(), CompareError> {
        match same {
            true => Ok(()),
            false => Err(CompareError::Differs {
                path: self.shown(path),
                what,
            }),
        }
    }

    fn folder(
        &mut self,
        one: &OwnedFd,
        other: &OwnedFd,
        path: &Path,
        depth: usize,
    ) -> Result<(), CompareError> {
        let shown = self.shown(path);
        // Whoever copied it has refused more.
        self.same(depth <= DEEPEST, path, "depth")?;
        let names = names_in(one).at("list", &shown)?;
        let copied = names_in(other).at("list the copy of", &shown)?;
        self.same(names == copied, path, "names")?;
        for name in names {
            let path = path.join(as_path(&name));
            self.entry(one.as_fd(), other.as_fd(), &name, &path, depth)?;
        }
        Ok(())
    }

    fn entry(
        &mut self,
        one: BorrowedFd<'_>,
        other: BorrowedFd<'_>,
        name: &CString,
        path: &Path,
        depth: usize,
    ) -> Result<(), CompareError> {
        let shown = self.shown(path);
        let look = |folder| rustix::fs::statat(folder, name, AtFlags::SYMLINK_NOFOLLOW);
        let (original, copied) = (
            look(one).at("look at", &shown)?,
            look(other).at("look at the copy of", &shown)?,
        );
        self.stats(&original, &copied, path)?;
        let kind = FileType::from_raw_mode(original.st_mode);
        if kind != FileType::Directory && original.st_nlink > 1 {
            let node = |stat: &Stat| (stat.st_dev, stat.st_ino);
            if let Some(first) = self.first_names.get(&node(&original)) {
                // Its content was compared under its first name.
                return self.same(*first == node(&copied), path, "hard links");
            }
            self.first_names.insert(node(&original), node(&copied));
        }
        match kind {
            FileType::Directory => {
                let one = open_beside(one, name, FOLDER, &shown)?;
                let other = open_beside(other, name, FOLDER, &shown)?;
                self.attributes(one.as_fd(), other.as_fd(), path)?;
                self.folder(&one, &other, path, depth + 1)
            }
            FileType::RegularFile if !self.opens => match (self.go_on)() {
                true => Ok(()),
                false => Err(CompareError::Interrupted),
            },
            FileType::RegularFile => {
                let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
                let one = File::from(open_beside(one, name, flags, &shown)?);
                let other = File::from(open_beside(other, name, flags, &shown)?);
                self.attributes(one.as_fd(), other.as_fd(), path)?;
                self.bytes(&one, &other, path)
            }
            FileType::Symlink => {
                let target = |folder| rustix::fs::readlinkat(folder, name, Vec::new());
                let one = target(one).at("read", &shown)?;
                let other = target(other).at("read the copy of", &shown)?;
                self.same(one == other, path, "target")
            }
            _ => self.same(original.st_rdev == copied.st_rdev, path, "device number"),
        }
    }

    fn stats(&self, one: &Stat, other: &Stat, path: &Path) -> Result<(), CompareError> {
        let kind = |stat: &Stat| FileType::from_raw_mode(stat.st_mode);
        self.same(kind(one) == kind(other), path, "kind")?;
        let owners = (one.st_uid, one.st_gid) == (other.st_uid, other.st_gid);
        self.same(owners, path, "owner")?;
        self.same(one.st_mode == other.st_mode, path, "mode")?;
        let time = |stat: &Stat| (stat.st_mtime, stat.st_mtime_nsec);
        self.same(time(one) == time(other), path, "time")?;
        match kind(one) {
            FileType::RegularFile | FileType::Symlink => {
                self.same(one.st_size == other.st_size, path, "size")
            }
            _ => Ok(()),
        }
    }

    fn attributes(
        &self,
        one: BorrowedFd<'_>,
        other: BorrowedFd<'_>,
        path: &Path,
    ) -> Result<(), CompareError> {
        let shown = self.shown(path);
        let all = |file: BorrowedFd<'_>| -> Result<Vec<(CString, Vec<u8>)>, CompareError> {
            let mut all = Vec::new();
            for name in names_of_attributes(file).at("list the attributes of", &shown)? {
                if NOT_OURS.iter().any(|not| name.to_bytes() == not.as_bytes()) {
                    continue;
                }
                let mut value = vec![0; 64 * 1024];
                let length = rustix::fs::fgetxattr(file, &name, &mut value[..]);
                value.truncate(length.at("read an attribute of", &shown)?);
                all.push((name, value));
            }
            all.sort();
            Ok(all)
        };
        self.same(all(one)? == all(other)?, path, "attributes")
    }

    /// Compares the bytes of two files that are equally long; what is a hole in both is not read.
    fn bytes(&mut self, one: &File, other: &File, path: &Path) -> Result<(), CompareError> {
        let shown = self.shown(path);
        // What the disk has, and not what is still in memory of what was written: it is on disk by now.
        let _ = rustix::fs::fadvise(other, 0, None, Advice::DontNeed);
        let length = one.metadata().at("look at", &shown)?.len();
        let mut at = 0;
        while at < length {
            if !(self.go_on)() {
                return Err(CompareError::Interrupted);
            }
            let start = next_data(one, at, length).min(next_data(other, at, length));
            if start >= length {
                break;
            }
            let left = usize::try_from(length - start).unwrap_or(usize::MAX);
            let many = left.min(CHUNK);
            let [first, second] = &mut self.buffers;
            let (first, second) = (
                first.get_mut(..many).unwrap_or_default(),
                second.get_mut(..many).unwrap_or_default(),
            );
            let read = one.read_exact_at(first, start).at("read", &shown);
            let copied = other.read_exact_at(second, start);
            read?;
            copied.at("read the copy of", &shown)?;
            let same = first == second;
            self.same(same, path, "content")?;
            at = start + many as u64;
        }
        Ok(())
    }
}

/// Where the next data of a file begin.
fn next_data(file: &File, at: u64, length: u64) -> u64 {
    match rustix::fs::seek(file, SeekFrom::Data(at)) {
        Ok(start) => start,
        Err(rustix::io::Errno::NXIO) => length,
        // This file system knows no holes.
        Err(_) => at,
    }
}

fn names_in(folder: &OwnedFd) -> rustix::io::Result<Vec<CString>> {
    let mut names = Vec::new();
    for entry in Dir::read_from(folder)? {
        let name = entry?.file_name().to_owned();
        if !matches!(name.to_bytes(), b"." | b"..") {
            names.push(name);
        }
    }
    names.sort();
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::super::copy_tree::copy_tree;
    use super::*;

    fn shell(line: &str) {
        let words = ["-ec".to_owned(), line.to_owned()];
        super::super::command::run("sh", &words, None).expect("done");
    }

    crate::host_test! {
        fn every_difference_is_found() {
            let folder = tempfile::tempdir().expect("a folder");
            let (from, to) = (folder.path().join("from"), folder.path().join("to"));
            shell(&format!(
                "mkdir -p {0}/deep; cd {0}; head -c 600000 /dev/urandom >file; ln file deep/again; ln file third; ln -s x link; mknod dev c 1 3;\
                 truncate -s 8G hole; printf x | dd of=hole bs=1 seek=5000000000 conv=notrunc 2>/dev/null; echo 1 >one; echo 1 >two; mkfifo pipe",
                from.display()
            ));
            copy_tree(&from, &to, &mut || true).expect("copied");
            compare(&from, &to, &mut || true).expect("the same");
            assert!(matches!(compare(&from, &to, &mut || false), Err(CompareError::Interrupted)));
            for (deed, what) in [
                ("printf x | dd of=file bs=1 seek=599999 conv=notrunc; touch -r ../from/file file", "content"),
                ("printf y | dd of=hole bs=1 seek=5000000000 conv=notrunc; touch -r ../from/hole hole", "content"),
                ("printf y | dd of=hole bs=1 seek=7000000000 conv=notrunc; touch -r ../from/hole hole", "content"),
                ("echo >>file; touch -r ../from/file file", "size"),
                ("chown 5 deep", "owner"),
                ("chmod 4755 file", "mode"),
                ("touch deep", "time"),
                ("rm pipe; touch -r ../from .", "names"),
                ("touch deep/more; touch -r ../from/deep deep", "names"),
                ("ln -sf y link; touch -h -r ../from/link link; touch -r ../from .", "target"),
                ("rm link; touch link; chmod 777 link; touch -r ../from .", "kind"),
                ("rm dev; mknod dev c 1 5; touch -r ../from/dev dev; touch -r ../from .", "device number"),
                ("rm third; cp -p file third; touch -r ../from .", "hard links"),
                ("setfattr -n user.x -v y one 2>/dev/null || python3 -c \"import os; os.setxattr('one', 'user.x', b'y')\"", "attributes"),
            ] {
                shell(&format!("cp -a --sparse=always {0} {0}.kept; cd {0}; ({deed}) 2>/dev/null", to.display()));
                match compare(&from, &to, &mut || true) {
                    Err(CompareError::Differs { what: found, .. }) => assert_eq!(found, what, "{deed}"),
                    other => panic!("{deed}: {other:?}"),
                }
                shell(&format!("rm -r {0}; mv {0}.kept {0}", to.display()));
            }
            compare(&from, &to, &mut || true).expect("the same again");
        }
    }
}
