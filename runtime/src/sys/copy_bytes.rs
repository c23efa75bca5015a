//! What is in one file, copied into another: shared where the file system can, holes stay holes.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt as _;

use rustix::fs::SeekFrom;
use rustix::io::Errno;

/// How much is copied before the caller is asked whether to go on.
const AT_ONCE: u64 = 16 << 20;

/// Why a copy was not made.
#[derive(Debug, thiserror::Error)]
pub enum CopyError {
    /// The caller did not want to go on.
    #[error("it was interrupted")]
    Interrupted,
    /// The original became shorter meanwhile.
    #[error("it changes while it is copied")]
    Changes,
    /// The kernel refused.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// Copies the first `length` bytes of `source` into the new and empty `target`. `go_on` is told the bytes until now.
///
/// # Errors
/// [`CopyError`]; what was copied until then stays.
pub fn copy_bytes(
    source: &File,
    target: &File,
    length: u64,
    go_on: &mut dyn FnMut(u64) -> bool,
) -> Result<(), CopyError> {
    // A block that both share costs neither time nor space (`ioctl_ficlone(2)`).
    if length > 0 && rustix::fs::ioctl_ficlone(target, source).is_ok() {
        return Ok(());
    }
    target.set_len(length)?;
    let mut at = 0;
    while at < length {
        let start = match rustix::fs::seek(source, SeekFrom::Data(at)) {
            Ok(start) => start,
            // Only a hole is left.
            Err(Errno::NXIO) => break,
            Err(_) => at,
        };
        let end = rustix::fs::seek(source, SeekFrom::Hole(start)).unwrap_or(length);
        at = end.min(length);
        copy_range(source, target, start..at, go_on)?;
    }
    Ok(())
}

fn copy_range(
    source: &File,
    target: &File,
    range: Range<u64>,
    go_on: &mut dyn FnMut(u64) -> bool,
) -> Result<(), CopyError> {
    let (mut read, mut written) = (range.start, range.start);
    while read < range.end {
        if !go_on(read) {
            return Err(CopyError::Interrupted);
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
            Ok(0) => return Err(CopyError::Changes),
            Ok(_) | Err(Errno::INTR) => {}
            Err(Errno::NOSPC | Errno::DQUOT) => return Err(io::Error::from(Errno::NOSPC).into()),
            // Between file systems, or not at all: through memory.
            Err(_) => return copy_through(source, target, read..range.end, go_on),
        }
    }
    Ok(())
}

fn copy_through(
    source: &File,
    target: &File,
    range: Range<u64>,
    go_on: &mut dyn FnMut(u64) -> bool,
) -> Result<(), CopyError> {
    let mut buffer = vec![0; 256 * 1024];
    let mut at = range.start;
    while at < range.end {
        if !go_on(at) {
            return Err(CopyError::Interrupted);
        }
        let length = usize::try_from(range.end - at)
            .unwrap_or(usize::MAX)
            .min(buffer.len());
        let part = buffer.get_mut(..length).unwrap_or_default();
        match source.read_at(part, at)? {
            0 => return Err(CopyError::Changes),
            got => {
                target.write_all_at(part.get(..got).unwrap_or_default(), at)?;
                at += got as u64;
            }
        }
    }
    Ok(())
}
