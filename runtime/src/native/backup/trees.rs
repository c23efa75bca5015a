//! Trees and big files of this host as members of a backup.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use manifests::path_io::AtPath as _;
use rustix::fs::{FileType, SeekFrom};
use rustix::io::Errno;

use super::error::BackupError;
use super::judge::travels;
use super::tar_writer::{BackupWriter, Header};
use crate::native::image::ImageError;
use crate::native::image::tree_writer::Run;
use crate::native::image::walk::{Entry, EntryKind, walk, xattr_names};
use crate::native::storage::{Sending, Sent, StorageError};

/// More runs than this are joined over their smallest holes: a reader takes a map of a megabyte.
const MOST_RUNS: usize = 16_000;
/// Bytes of a stream in one member.
const PIECE: usize = 4 << 20;

/// Writes the tree at `root` as the part of this name.
pub(in crate::native) fn write_tree<W: Write>(
    out: &mut BackupWriter<W>,
    part: &str,
    root: &Path,
    go_on: &dyn Fn() -> bool,
) -> Result<(), BackupError> {
    out.begin_part(part);
    let mut first_names: HashMap<(u64, u64), Vec<u8>> = HashMap::new();
    // What stops the walk, where it is not the walk's own.
    let mut failed = None;
    let walked = walk(root, &super::reader::LIMITS, &mut |entry| {
        let one = member(out, part, root, entry, &mut first_names, go_on);
        one.map_err(|error| {
            failed = Some(error);
            ImageError::Interrupted
        })
    });
    match (failed, walked) {
        (Some(error), _) => Err(error),
        (None, walked) => Ok(walked?),
    }
}

fn member<W: Write>(
    out: &mut BackupWriter<W>,
    part: &str,
    root: &Path,
    entry: &Entry<'_>,
    first_names: &mut HashMap<(u64, u64), Vec<u8>>,
    go_on: &dyn Fn() -> bool,
) -> Result<(), BackupError> {
    if !go_on() {
        return Err(BackupError::Interrupted);
    }
    let shown = root.join(entry.path);
    let mut name = part.as_bytes().to_vec();
    if !entry.path.as_os_str().is_empty() {
        name.push(b'/');
        name.extend_from_slice(entry.path.as_os_str().as_bytes());
    }
    let stat = &entry.stat;
    let mut header = Header {
        name: &name,
        mode: stat.st_mode & 0o7777,
        uid: stat.st_uid,
        gid: stat.st_gid,
        modified: (
            stat.st_mtime,
            u32::try_from(stat.st_mtime_nsec).unwrap_or(0),
        ),
        ..Header::default()
    };
    let kind = FileType::from_raw_mode(stat.st_mode);
    // Whiteouts of an overlay are names of one device, and nothing else shares them.
    let linked = stat.st_nlink > 1
        && !matches!(
            kind,
            FileType::Directory | FileType::CharacterDevice | FileType::BlockDevice
        );
    let key = (stat.st_dev, stat.st_ino);
    let first = first_names.get(&key).filter(|_| linked).cloned();
    if let Some(first) = &first {
        header.kind = b'1';
        header.link = first;
        return out.member(&header, 0, &[], &mut io::empty(), &shown);
    }
    if linked {
        first_names.insert(key, name.clone());
    }
    let xattrs;
    match &entry.kind {
        EntryKind::Folder(open) => {
            header.kind = b'5';
            xattrs = attributes(open, &shown)?;
            header.xattrs = &xattrs;
        }
        EntryKind::File(open) => {
            header.kind = b'0';
            xattrs = attributes(open, &shown)?;
            header.xattrs = &xattrs;
            let file = File::from(open.try_clone().at("open", &shown)?);
            let size = u64::try_from(stat.st_size).unwrap_or(0);
            return content(out, &header, &file, size, &shown, go_on);
        }
        EntryKind::Symlink(target) => {
            header.kind = b'2';
            header.link = target;
            return out.member(&header, 0, &[], &mut io::empty(), &shown);
        }
        EntryKind::Pipe => header.kind = b'6',
        EntryKind::Special(_) => match kind {
            FileType::Socket => {
                header.kind = b'0';
                header.socket = true;
            }
            FileType::BlockDevice | FileType::CharacterDevice => {
                let of_bytes = kind == FileType::CharacterDevice;
                header.kind = if of_bytes { b'3' } else { b'4' };
                let device = stat.st_rdev;
                header.device = (rustix::fs::major(device), rustix::fs::minor(device));
            }
            _ => return Ok(()),
        },
        EntryKind::MountedFolder | EntryKind::MountedFile => {
            return Err(BackupError::Mounted { path: shown });
        }
    }
    out.member(&header, 0, &[], &mut io::empty(), &shown)
}

/// Writes one file of ours as the part of this name.
pub(in crate::native) fn write_file<W: Write>(
    out: &mut BackupWriter<W>,
    part: &str,
    path: &Path,
    go_on: &dyn Fn() -> bool,
) -> Result<(), BackupError> {
    out.begin_part(part);
    let file = File::open(path).at("open", path)?;
    let size = file.metadata().at("look at", path)?.len();
    let header = Header {
        name: part.as_bytes(),
        kind: b'0',
        mode: 0o600,
        ..Header::default()
    };
    content(out, &header, &file, size, path, go_on)
}

/// Writes a subvolume as the part of this name, in pieces: how long its stream is nobody knows before its end.
pub(in crate::native) fn write_stream<W: Write>(
    out: &mut BackupWriter<W>,
    part: &str,
    sent: &Sent,
    go_on: &dyn Fn() -> bool,
) -> Result<(), BackupError> {
    out.begin_part(part);
    let shown = &sent.subvolume;
    let cannot = |error: StorageError| io::Error::other(error);
    let mut sending = Sending::begin(sent).map_err(cannot).at("send", shown)?;
    let mut piece = vec![0; PIECE];
    for number in 0_u32.. {
        let mut filled = 0;
        while filled < PIECE {
            if !go_on() {
                return Err(BackupError::Interrupted);
            }
            match sending.read(piece.get_mut(filled..).unwrap_or_default()) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Ok(0) => break,
                other => filled += other.at("read the stream of", shown)?,
            }
        }
        if filled == 0 {
            break;
        }
        let name = format!("{part}/{number}");
        let header = Header {
            name: name.as_bytes(),
            kind: b'0',
            mode: 0o600,
            ..Header::default()
        };
        let (size, mut data) = (filled as u64, piece.get(..filled).unwrap_or_default());
        out.member(&header, size, &[(0, size)], &mut data, shown)?;
    }
    Ok(sending.end().map_err(cannot).at("send", shown)?)
}

fn content<W: Write>(
    out: &mut BackupWriter<W>,
    header: &Header<'_>,
    file: &File,
    size: u64,
    shown: &Path,
    go_on: &dyn Fn() -> bool,
) -> Result<(), BackupError> {
    let runs = joined(runs(file, size).at("look for holes in", shown)?);
    let mut data = Runs {
        file,
        runs: &runs,
        at: 0,
        go_on,
    };
    out.member(header, size, &runs, &mut data, shown)
}

/// Where a file has data.
fn runs(file: &File, size: u64) -> io::Result<Vec<Run>> {
    let mut runs = Vec::new();
    let mut at = 0;
    while at < size {
        let start = match rustix::fs::seek(file, SeekFrom::Data(at)) {
            Ok(start) => start,
            // Only a hole is left.
            Err(Errno::NXIO) => break,
            // This file system knows no holes.
            Err(Errno::INVAL) => at,
            Err(error) => return Err(error.into()),
        };
        if start >= size {
            break;
        }
        let end = rustix::fs::seek(file, SeekFrom::Hole(start)).unwrap_or(size);
        at = end.min(size);
        runs.push((start, at - start));
    }
    Ok(runs)
}

/// The same with fewer holes.
fn joined(mut runs: Vec<Run>) -> Vec<Run> {
    let mut smallest = 64 * 1024;
    while runs.len() > MOST_RUNS {
        let mut fewer: Vec<Run> = Vec::with_capacity(runs.len());
        for (start, length) in runs {
            match fewer.last_mut() {
                Some(last) if start - (last.0 + last.1) < smallest => {
                    last.1 = start + length - last.0;
                }
                _ => fewer.push((start, length)),
            }
        }
        runs = fewer;
        smallest *= 4;
    }
    runs
}

/// The data of a file without its holes.
struct Runs<'a> {
    file: &'a File,
    runs: &'a [Run],
    /// In the first of them.
    at: u64,
    go_on: &'a dyn Fn() -> bool,
}

impl Read for Runs<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if !(self.go_on)() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        while let Some(((start, length), rest)) = self.runs.split_first() {
            let left = length - self.at;
            if left == 0 {
                (self.runs, self.at) = (rest, 0);
                continue;
            }
            let want = usize::try_from(left)
                .unwrap_or(usize::MAX)
                .min(buffer.len());
            let got = self
                .file
                .read_at(buffer.get_mut(..want).unwrap_or_default(), start + self.at)?;
            self.at += got as u64;
            return Ok(got);
        }
        Ok(0)
    }
}

/// The extended attributes that mean the same elsewhere.
fn attributes(open: &OwnedFd, shown: &Path) -> Result<Vec<(String, Vec<u8>)>, BackupError> {
    let mut found = Vec::new();
    for name in xattr_names(open.as_fd()).at("list the attributes of", shown)? {
        let mut value = vec![0; 64 * 1024];
        let length = match rustix::fs::fgetxattr(open, name.as_str(), &mut value[..]) {
            Err(Errno::NODATA) => continue,
            other => other.at("read an attribute of", shown)?,
        };
        value.truncate(length);
        if let Some(value) = travels(&name, &value) {
            found.push((name, value));
        }
    }
    found.sort();
    Ok(found)
}
