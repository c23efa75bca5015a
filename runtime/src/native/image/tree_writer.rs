//! Writes the entries of a stranger's archive into a folder, and nowhere else.
//!
//! Every parent is resolved by the kernel beneath the root and without links, every object is created exclusively by
//! its last name in that parent, so neither `..` nor a link planted by an earlier entry leads outside. Device nodes
//! are left out. What is named twice: the last one wins.

use std::collections::HashSet;
use std::ffi::{CString, OsStr, OsString};
use std::fs::File;
use std::io::{self, Read, Seek as _, SeekFrom, Write as _};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};

use manifests::path_io::{AtPath as _, PathError};
use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, Timespec, Timestamps, Uid, XattrFlags};
use rustix::io::Errno;

use super::attributes::Attributes;
use super::error::{ImageError, Refusal};
use super::limits::{Counted, Limits};
use crate::sys::beneath::{self, Links};
use crate::sys::remove_tree::{remove_entry, remove_tree};

/// The longest name of one component (`NAME_MAX`).
const LONGEST_NAME: usize = 255;
/// The longest whole name or link target (`PATH_MAX` with its NUL).
const LONGEST_PATH: usize = 4095;

/// A run of data in a sparse file: offset in the file, length in bytes. The rest are holes.
pub(in crate::native) type Run = (u64, u64);

/// What was not taken over.
#[derive(Debug, Default)]
pub(in crate::native) struct LeftOut {
    pub(in crate::native) lines: Vec<String>,
    pub(in crate::native) count: u64,
}

impl LeftOut {
    const LINES: usize = 100;

    pub(in crate::native) fn add(&mut self, path: &Path, why: &str) {
        self.count += 1;
        if self.lines.len() < Self::LINES {
            self.lines.push(format!("{}: {why}", path.display()));
        }
    }
}

/// What [`TreeWriter::finish`] has to tell.
#[derive(Debug, Default)]
pub(in crate::native) struct Written {
    pub(in crate::native) counted: Counted,
    pub(in crate::native) left_out: LeftOut,
}

pub(in crate::native) struct TreeWriter {
    root: OwnedFd,
    root_path: PathBuf,
    limits: Limits,
    counted: Counted,
    left_out: LeftOut,
    /// The last parent: archives list siblings together.
    parent: Option<(PathBuf, OwnedFd)>,
    /// Times of folders are set last, because every entry in them changes it.
    folder_times: Vec<(PathBuf, (i64, u32))>,
    /// What the current layer made, so that its opaque marker spares it. `None`: not layered, or the first layer.
    in_this_layer: Option<HashSet<PathBuf>>,
    /// Whether all that is asked for has to be done, and nothing twice.
    exact: bool,
    buffer: Vec<u8>,
}

/// Splits an archive's name into a relative path, `None` for the root itself.
pub(in crate::native) fn entry_path(
    name: &[u8],
    limits: &Limits,
) -> Result<Option<PathBuf>, Refusal> {
    if name.is_empty() {
        return Err(Refusal::NoName);
    }
    if name.first() == Some(&b'/') {
        return Err(Refusal::Absolute);
    }
    if name.contains(&0) {
        return Err(Refusal::Nul);
    }
    if name.len() > LONGEST_PATH {
        return Err(Refusal::LongName);
    }
    let mut path = PathBuf::new();
    let mut depth = 0;
    for component in name.split(|byte| *byte == b'/') {
        match component {
            b"" | b"." => {}
            b".." => return Err(Refusal::Upwards),
            long if long.len() > LONGEST_NAME => return Err(Refusal::LongName),
            normal => {
                depth += 1;
                path.push(OsStr::from_bytes(normal));
            }
        }
    }
    if depth > limits.depth {
        return Err(Refusal::Deep);
    }
    Ok((depth > 0).then_some(path))
}

impl TreeWriter {
    /// Writes below the existing folder `root`.
    pub(in crate::native) fn new(root: &Path, limits: Limits) -> Result<Self, ImageError> {
        Ok(Self {
            root: beneath::open_root(root)?,
            root_path: root.to_path_buf(),
            limits,
            counted: Counted::default(),
            left_out: LeftOut::default(),
            parent: None,
            folder_times: Vec::new(),
            in_this_layer: None,
            exact: false,
            buffer: vec![0; 256 * 1024],
        })
    }

    /// From here on what is named twice is refused, and so is what cannot be made as it is described.
    pub(in crate::native) fn exactly(mut self) -> Self {
        self.exact = true;
        self
    }

    pub(in crate::native) fn limits(&self) -> &Limits {
        &self.limits
    }

    pub(in crate::native) fn leave_out(&mut self, path: &Path, why: &str) {
        self.left_out.add(path, why);
    }

    /// The entries that follow lie on top of those before.
    pub(in crate::native) fn begin_layer(&mut self) {
        self.in_this_layer = Some(HashSet::new());
    }

    /// Makes a folder or gives an existing one these attributes; anything else in its place goes.
    pub(in crate::native) fn folder(
        &mut self,
        path: Option<&Path>,
        attributes: &Attributes,
    ) -> Result<(), ImageError> {
        self.counted.add_entry(&self.limits)?;
        let Some(path) = path else {
            let root = self.open_folder(Path::new(""))?;
            let (root, root_path) = (File::from(root), self.root_path.clone());
            if self.exact {
                self.folder_times
                    .push((PathBuf::new(), attributes.modified));
            }
            return self.apply(&root, &root_path, Path::new(""), attributes);
        };
        let (parent, name) = self.parent_of(path)?;
        let make = || rustix::fs::mkdirat(&parent, name.as_os_str(), Mode::RWXU);
        match make() {
            Ok(()) => {}
            Err(Errno::EXIST) if self.exact => return Err(refused(path, Refusal::Twice)),
            Err(Errno::EXIST) => {
                let kind = self.kind_at(&parent, &name)?;
                if kind != Some(FileType::Directory) {
                    self.clear_the_way(path, &parent, &name)?;
                    make().at("create", self.root_path.join(path))?;
                }
            }
            Err(error) => return Err(error).at("create", self.root_path.join(path))?,
        }
        self.remember(path);
        let made = File::from(self.open_folder(path)?);
        self.folder_times
            .push((path.to_path_buf(), attributes.modified));
        let shown = self.root_path.join(path);
        self.apply(&made, &shown, path, attributes)
    }

    /// Writes a file of `size` bytes; with `runs` only those come from `data`, in order, and the rest are holes.
    pub(in crate::native) fn file(
        &mut self,
        path: &Path,
        attributes: &Attributes,
        size: u64,
        runs: Option<&[Run]>,
        data: &mut dyn Read,
    ) -> Result<(), ImageError> {
        self.counted.add_entry(&self.limits)?;
        let whole = [(0, size)];
        let runs = runs.unwrap_or(&whole);
        let mut end = 0;
        for (offset, length) in runs {
            let next = offset
                .checked_add(*length)
                .filter(|next| *offset >= end && *next <= size);
            end = next.ok_or_else(|| refused(path, Refusal::BadSparse))?;
        }
        // A sparse file costs what it holds; its size alone fills no disk, but a copy of it would.
        self.counted.add_bytes(size, &self.limits)?;
        let shown = self.root_path.join(path);
        let mut file = self.create(path)?;
        for (offset, length) in runs {
            if *length == 0 {
                continue;
            }
            file.seek(SeekFrom::Start(*offset)).at("seek in", &shown)?;
            copy(data, &mut file, *length, &mut self.buffer, &shown)?;
        }
        file.set_len(size).at("extend", &shown)?;
        self.remember(path);
        self.apply(&file, &shown, path, attributes)?;
        set_modified(&file, attributes.modified).at("set the time of", &shown)?;
        Ok(())
    }

    pub(in crate::native) fn symlink(
        &mut self,
        path: &Path,
        target: &[u8],
        attributes: &Attributes,
    ) -> Result<(), ImageError> {
        self.counted.add_entry(&self.limits)?;
        check_target(target).map_err(|refusal| refused(path, refusal))?;
        let (parent, name) = self.parent_of(path)?;
        let shown = self.root_path.join(path);
        let target = OsStr::from_bytes(target);
        self.make_exclusively(path, |parent, name| {
            rustix::fs::symlinkat(target, parent, name)
        })?;
        let (uid, gid) = (Uid::from_raw(attributes.uid), Gid::from_raw(attributes.gid));
        let flags = AtFlags::SYMLINK_NOFOLLOW;
        rustix::fs::chownat(&parent, name.as_os_str(), Some(uid), Some(gid), flags)
            .at("own", &shown)?;
        let times = timestamps(attributes.modified);
        rustix::fs::utimensat(&parent, name.as_os_str(), &times, flags)
            .at("set the time of", &shown)?;
        Ok(())
    }

    /// Gives an earlier file a second name.
    pub(in crate::native) fn hard_link(
        &mut self,
        path: &Path,
        target: &Path,
    ) -> Result<(), ImageError> {
        self.counted.add_entry(&self.limits)?;
        if path == target {
            return Ok(());
        }
        let refuse = |refusal| refused(path, refusal);
        let (above, target_name) = split(target);
        let target_name = target_name.ok_or_else(|| refuse(Refusal::LinkToFolder))?;
        let target_parent = match beneath::open(&self.root, &above, FOLDER, Links::Refuse) {
            Ok(parent) => parent,
            Err(error) => {
                return Err(match error.raw_os_error() {
                    Some(libc::ENOENT) => refuse(Refusal::LinkToNothing),
                    Some(libc::ELOOP | libc::ENOTDIR) => refuse(Refusal::ThroughLink),
                    _ => error.into(),
                });
            }
        };
        match self.kind_at(&target_parent, &target_name)? {
            None => return Err(refuse(Refusal::LinkToNothing)),
            Some(FileType::Directory) => return Err(refuse(Refusal::LinkToFolder)),
            Some(_) => {}
        }
        self.make_exclusively(path, |parent, name| {
            // Without AT_SYMLINK_FOLLOW a link is linked itself.
            let flags = AtFlags::empty();
            rustix::fs::linkat(&target_parent, target_name.as_os_str(), parent, name, flags)
        })
    }

    pub(in crate::native) fn pipe(
        &mut self,
        path: &Path,
        attributes: &Attributes,
    ) -> Result<(), ImageError> {
        self.counted.add_entry(&self.limits)?;
        let mode = Mode::from_raw_mode(attributes.mode & 0o777);
        self.make_exclusively(path, |parent, name| {
            rustix::fs::mkfifoat(parent, name, mode)
        })?;
        let (parent, name) = self.parent_of(path)?;
        let (uid, gid) = (Uid::from_raw(attributes.uid), Gid::from_raw(attributes.gid));
        let flags = AtFlags::SYMLINK_NOFOLLOW;
        rustix::fs::chownat(&parent, name.as_os_str(), Some(uid), Some(gid), flags)
            .at("own", self.root_path.join(path))?;
        Ok(())
    }

    /// Makes what has neither content nor a target: a pipe, a socket, a device.
    pub(in crate::native) fn node(
        &mut self,
        path: &Path,
        kind: FileType,
        device: u64,
        attributes: &Attributes,
    ) -> Result<(), ImageError> {
        self.counted.add_entry(&self.limits)?;
        let mode = Mode::from_raw_mode(attributes.mode & 0o7777);
        self.make_exclusively(path, |parent, name| {
            rustix::fs::mknodat(parent, name, kind, mode, device)
        })?;
        let (parent, name) = self.parent_of(path)?;
        let shown = self.root_path.join(path);
        let (uid, gid) = (Uid::from_raw(attributes.uid), Gid::from_raw(attributes.gid));
        let (name, flags) = (name.as_os_str(), AtFlags::SYMLINK_NOFOLLOW);
        rustix::fs::chownat(&parent, name, Some(uid), Some(gid), flags).at("own", &shown)?;
        // What has just been made is no link, and nobody else can enter.
        rustix::fs::chmodat(&parent, name, mode, AtFlags::empty()).at("set the mode of", &shown)?;
        let times = timestamps(attributes.modified);
        rustix::fs::utimensat(&parent, name, &times, flags).at("set the time of", &shown)?;
        Ok(())
    }

    /// Removes what earlier layers put at `path`.
    pub(in crate::native) fn whiteout(&mut self, path: &Path) -> Result<(), ImageError> {
        if let Some((parent, name)) = self.existing_parent_of(path)? {
            self.clear_the_way(path, &parent, &name)?;
        }
        Ok(())
    }

    /// Removes what earlier layers put into a folder; what this layer put there stays.
    pub(in crate::native) fn opaque(&mut self, folder: Option<&Path>) -> Result<(), ImageError> {
        let Some(made) = self.in_this_layer.clone() else {
            return Ok(());
        };
        let folder = folder.unwrap_or(Path::new(""));
        let flags = OFlags::RDONLY | OFlags::DIRECTORY;
        let open = match beneath::open(&self.root, folder, flags, Links::Refuse) {
            Ok(open) => open,
            Err(error) if not_there(&error) => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        let mut below = Vec::new();
        for entry in rustix::fs::Dir::read_from(&open).at("list", folder)? {
            let entry = entry.at("list", folder)?;
            let name = entry.file_name().to_bytes();
            if name != b"." && name != b".." {
                below.push(OsString::from_vec(name.to_vec()));
            }
        }
        for name in below {
            let path = folder.join(&name);
            if !made.contains(&path) {
                self.clear_the_way(&path, &open, &name)?;
            } else if self.kind_at(&open, &name)? == Some(FileType::Directory) {
                self.opaque(Some(&path))?;
            }
        }
        Ok(())
    }

    /// Sets the times of the folders and tells what was written.
    pub(in crate::native) fn finish(mut self) -> Result<Written, ImageError> {
        self.parent = None;
        let times = std::mem::take(&mut self.folder_times);
        for (path, modified) in times {
            // A later entry may have replaced the folder, or an entry above it by a link.
            if let Ok(folder) = beneath::open(&self.root, &path, READ_FOLDER, Links::Refuse) {
                set_modified(&File::from(folder), modified)
                    .at("set the time of", self.root_path.join(&path))?;
            }
        }
        Ok(Written {
            counted: self.counted,
            left_out: self.left_out,
        })
    }

    fn remember(&mut self, path: &Path) {
        if let Some(made) = self.in_this_layer.as_mut() {
            // With what is above it, so that an opaque marker finds it from there.
            for path in path.ancestors() {
                if path.as_os_str().is_empty() || !made.insert(path.to_path_buf()) {
                    break;
                }
            }
        }
    }

    fn create(&mut self, path: &Path) -> Result<File, ImageError> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        let mut made = None;
        self.make_exclusively(path, |parent, name| {
            let mode = Mode::RUSR | Mode::WUSR;
            made = Some(rustix::fs::openat(parent, name, flags, mode)?);
            Ok(())
        })?;
        made.map(File::from)
            .ok_or(io::Error::from(io::ErrorKind::NotFound))
            .at("create", self.root_path.join(path))
            .map_err(Into::into)
    }

    /// Runs `make` on the parent and the last name; if something is there already, it goes first.
    fn make_exclusively(
        &mut self,
        path: &Path,
        mut make: impl FnMut(&OwnedFd, &OsStr) -> rustix::io::Result<()>,
    ) -> Result<(), ImageError> {
        let (parent, name) = self.parent_of(path)?;
        match make(&parent, &name) {
            Err(Errno::EXIST) if self.exact => return Err(refused(path, Refusal::Twice)),
            Err(Errno::EXIST) => {
                self.clear_the_way(path, &parent, &name)?;
                make(&parent, &name)
            }
            other => other,
        }
        .at("create", self.root_path.join(path))?;
        self.remember(path);
        Ok(())
    }

    fn clear_the_way(
        &mut self,
        path: &Path,
        parent: &OwnedFd,
        name: &OsStr,
    ) -> Result<(), ImageError> {
        // The cached parent may be what is removed, or lie in it.
        self.parent = None;
        let name = CString::new(name.as_bytes()).map_err(|_| refused(path, Refusal::Nul))?;
        let above = self.root_path.join(path.parent().unwrap_or(Path::new("")));
        Ok(remove_entry(parent.as_fd(), &name, &above)?)
    }

    fn kind_at(&self, parent: &OwnedFd, name: &OsStr) -> Result<Option<FileType>, ImageError> {
        match rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(seen) => Ok(Some(FileType::from_raw_mode(seen.st_mode))),
            Err(Errno::NOENT) => Ok(None),
            Err(error) => Err(error).at("look at", self.root_path.join(name))?,
        }
    }

    fn open_folder(&self, path: &Path) -> Result<OwnedFd, ImageError> {
        Ok(beneath::open(&self.root, path, READ_FOLDER, Links::Refuse)?)
    }

    fn existing_parent_of(
        &mut self,
        path: &Path,
    ) -> Result<Option<(OwnedFd, OsString)>, ImageError> {
        let (above, name) = split(path);
        let name = name.ok_or_else(|| refused(path, Refusal::ReplacesRoot))?;
        match beneath::open(&self.root, &above, FOLDER, Links::Refuse) {
            Ok(parent) => Ok(Some((parent, name))),
            Err(error) if not_there(&error) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// The folder above `path`, made if it is missing, and the last name.
    fn parent_of(&mut self, path: &Path) -> Result<(OwnedFd, OsString), ImageError> {
        let (above, name) = split(path);
        let name = name.ok_or_else(|| refused(path, Refusal::ReplacesRoot))?;
        if let Some((known, parent)) = &self.parent
            && *known == above
        {
            return Ok((parent.try_clone().at("open", &above)?, name));
        }
        let parent = match beneath::open(&self.root, &above, FOLDER, Links::Refuse) {
            Ok(parent) => parent,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                self.folder_and_those_above(&above)?;
                beneath::open(&self.root, &above, FOLDER, Links::Refuse)?
            }
            Err(error) => {
                return Err(match error.raw_os_error() {
                    Some(libc::ELOOP | libc::ENOTDIR) => refused(path, Refusal::ThroughLink),
                    _ => error.into(),
                });
            }
        };
        self.parent = Some((above.clone(), parent.try_clone().at("open", &above)?));
        Ok((parent, name))
    }

    fn folder_and_those_above(&mut self, path: &Path) -> Result<(), ImageError> {
        let mut missing: Vec<&Path> = Vec::new();
        for ancestor in path.ancestors() {
            if ancestor.as_os_str().is_empty() {
                break;
            }
            match beneath::open(&self.root, ancestor, FOLDER, Links::Refuse) {
                Ok(_) => break,
                Err(error) if error.kind() == io::ErrorKind::NotFound => missing.push(ancestor),
                Err(_) => return Err(refused(path, Refusal::ThroughLink)),
            }
        }
        for path in missing.into_iter().rev() {
            self.folder(Some(path), &Attributes::of_implied_folder())?;
        }
        Ok(())
    }

    fn apply(
        &mut self,
        file: &File,
        shown: &Path,
        path: &Path,
        attributes: &Attributes,
    ) -> Result<(), ImageError> {
        let (uid, gid) = (Uid::from_raw(attributes.uid), Gid::from_raw(attributes.gid));
        rustix::fs::fchown(file, Some(uid), Some(gid)).at("own", shown)?;
        for (name, value) in &attributes.xattrs {
            match rustix::fs::fsetxattr(file, name.as_str(), value, XattrFlags::empty()) {
                Ok(()) => {}
                Err(Errno::NOTSUP | Errno::PERM | Errno::INVAL | Errno::NOSPC | Errno::TOOBIG)
                    if !self.exact =>
                {
                    self.left_out.add(path, &format!("its attribute {name}"));
                }
                Err(error) => return Err(error).at("set an attribute of", shown)?,
            }
        }
        // After owner and access list: both change mode bits.
        rustix::fs::fchmod(file, Mode::from_raw_mode(attributes.mode & 0o7777))
            .at("set the mode of", shown)?;
        Ok(())
    }
}

const FOLDER: OFlags = OFlags::PATH.union(OFlags::DIRECTORY);
const READ_FOLDER: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY);

fn refused(path: &Path, refusal: Refusal) -> ImageError {
    ImageError::Refused {
        entry: path.display().to_string(),
        refusal,
    }
}

fn not_there(error: &PathError) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::ENOENT | libc::ENOTDIR | libc::ELOOP)
    )
}

fn split(path: &Path) -> (PathBuf, Option<OsString>) {
    (
        path.parent().unwrap_or(Path::new("")).to_path_buf(),
        path.file_name().map(OsStr::to_os_string),
    )
}

/// A link's target is never resolved by us; it only has to be one that the kernel takes.
fn check_target(target: &[u8]) -> Result<(), Refusal> {
    if target.is_empty() {
        return Err(Refusal::NoTarget);
    }
    if target.contains(&0) {
        return Err(Refusal::Nul);
    }
    if target.len() > LONGEST_PATH {
        return Err(Refusal::LongName);
    }
    Ok(())
}

fn copy(
    from: &mut dyn Read,
    to: &mut File,
    mut length: u64,
    buffer: &mut [u8],
    shown: &Path,
) -> Result<(), ImageError> {
    while length > 0 {
        let want = usize::try_from(length)
            .unwrap_or(usize::MAX)
            .min(buffer.len());
        let Some(chunk) = buffer.get_mut(..want) else {
            return Ok(());
        };
        let got = match from.read(chunk) {
            Ok(0) => Err(io::Error::from(io::ErrorKind::UnexpectedEof)).at("unpack", shown)?,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            other => other.at("unpack", shown)?,
        };
        to.write_all(chunk.get(..got).unwrap_or_default())
            .at("write to", shown)?;
        length -= got as u64;
    }
    Ok(())
}

fn timestamps((seconds, nanoseconds): (i64, u32)) -> Timestamps {
    let time = Timespec {
        tv_sec: seconds,
        tv_nsec: nanoseconds.min(999_999_999).into(),
    };
    Timestamps {
        last_access: time,
        last_modification: time,
    }
}

fn set_modified(file: &File, modified: (i64, u32)) -> rustix::io::Result<()> {
    rustix::fs::futimens(file, &timestamps(modified))
}

/// Removes a path below the store and everything in it; only used for trees that this store made.
pub(in crate::native) fn discard(path: &Path) -> Result<(), ImageError> {
    Ok(remove_tree(path)?)
}
