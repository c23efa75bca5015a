//! Copies one big file: shared with the original where the file system can, holes stay holes.

use std::fs::{File, OpenOptions};
use std::io::Read as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use manifests::path_io::AtPath as _;
use rustix::fs::SeekFrom;
use rustix::io::Errno;
use sha2::{Digest as _, Sha256};

use super::error::ImageError;

/// How much is copied before the caller is asked whether to go on.
const AT_ONCE: u64 = 16 << 20;

/// Copies `from` to the new file `to`, which only its owner can read. Answers its length.
pub(super) fn copy_file(
    from: &Path,
    to: &Path,
    most: u64,
    go_on: &mut dyn FnMut(u64) -> bool,
) -> Result<u64, ImageError> {
    let source = open(from)?;
    let length = source.metadata().at("look at", from)?.len();
    if length > most {
        return Err(ImageError::TooBig {
            limit: most,
            of: "bytes in the file",
        });
    }
    let target = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(to)
        .at("create", to)?;
    if rustix::fs::ioctl_ficlone(&target, &source).is_ok() {
        return Ok(target.metadata().at("look at", to)?.len());
    }
    target.set_len(length).at("extend", to)?;
    let mut at = 0;
    while at < length {
        let start = match rustix::fs::seek(&source, SeekFrom::Data(at)) {
            Ok(start) => start,
            // Only a hole is left.
            Err(Errno::NXIO) => break,
            Err(_) => at,
        };
        let end = rustix::fs::seek(&source, SeekFrom::Hole(start)).unwrap_or(length);
        at = end.min(length);
        copy_range(&source, &target, start..at, from, go_on)?;
    }
    Ok(length)
}

fn copy_range(
    source: &File,
    target: &File,
    range: std::ops::Range<u64>,
    from: &Path,
    go_on: &mut dyn FnMut(u64) -> bool,
) -> Result<(), ImageError> {
    let (mut read, mut written) = (range.start, range.start);
    while read < range.end {
        if !go_on(read) {
            return Err(ImageError::Interrupted);
        }
        let length = usize::try_from((range.end - read).min(AT_ONCE)).unwrap_or(0);
        let copied = rustix::fs::copy_file_range(
            source,
            Some(&mut read),
            target,
            Some(&mut written),
            length,
        );
        match copied {
            Ok(0) => return Err(changes(from)),
            Ok(_) | Err(Errno::INTR) => {}
            // Between file systems, or not at all: through memory.
            Err(_) => return copy_through(source, target, read..range.end, from, go_on),
        }
    }
    Ok(())
}

fn copy_through(
    source: &File,
    target: &File,
    range: std::ops::Range<u64>,
    from: &Path,
    go_on: &mut dyn FnMut(u64) -> bool,
) -> Result<(), ImageError> {
    use std::os::unix::fs::FileExt as _;
    let mut buffer = vec![0; 256 * 1024];
    let mut at = range.start;
    while at < range.end {
        if !go_on(at) {
            return Err(ImageError::Interrupted);
        }
        let length = usize::try_from(range.end - at)
            .unwrap_or(usize::MAX)
            .min(buffer.len());
        let part = buffer.get_mut(..length).unwrap_or_default();
        match source.read_at(part, at).at("read", from)? {
            0 => return Err(changes(from)),
            got => {
                let part = part.get(..got).unwrap_or_default();
                target.write_all_at(part, at).at("copy", from)?;
                at += got as u64;
            }
        }
    }
    Ok(())
}

fn changes(path: &Path) -> ImageError {
    ImageError::Broken {
        path: path.to_path_buf(),
        problem: "changes while it is copied".to_owned(),
    }
}

/// Opens a regular file without waiting for anybody: the path may name a pipe.
pub(super) fn open(path: &Path) -> Result<File, ImageError> {
    let file = File::options()
        .read(true)
        .custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY)
        .open(path)
        .at("open", path)?;
    if !file.metadata().at("look at", path)?.is_file() {
        return Err(ImageError::Broken {
            path: path.to_path_buf(),
            problem: "is no file".to_owned(),
        });
    }
    Ok(file)
}

/// The SHA-256 of a file; what is read also goes to `also`.
pub(super) fn digest(
    path: &Path,
    also: Option<&mut Sha256>,
    go_on: &mut dyn FnMut(u64) -> bool,
) -> Result<String, ImageError> {
    let mut file = open(path)?;
    let (mut own, mut also) = (Sha256::new(), also);
    let mut buffer = vec![0; 256 * 1024];
    let mut sum = 0;
    loop {
        let got = file.read(&mut buffer).at("read", path)?;
        let part = buffer.get(..got).unwrap_or_default();
        if part.is_empty() {
            return Ok(hex::encode(own.finalize()));
        }
        own.update(part);
        if let Some(also) = &mut also {
            also.update(part);
        }
        sum += got as u64;
        if !go_on(sum) {
            return Err(ImageError::Interrupted);
        }
    }
}
