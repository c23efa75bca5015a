//! Performs the writes of a change: the only place here that changes a limit.

use std::path::Path;

use manifests::path_io::{self, AtPath as _, PathError};
use rustix::fs::XattrFlags;
use rustix::io::Errno;

use super::limits::{Change, FileWrite, How, LimitError, LimitPart};

/// How often the kernel is asked to reclaim before a smaller `memory.max` is given up.
const RECLAIMS: u32 = 5;

/// Performs every change; one that fails is taken back and does not hold up the others.
pub fn apply(changes: &[Change]) -> Vec<LimitError> {
    changes
        .iter()
        .filter_map(|change| one(change).err())
        .collect()
}

fn one(change: &Change) -> Result<(), LimitError> {
    for (index, write) in change.writes.iter().enumerate() {
        tracing::debug!(path = %write.path.display(), value = %write.value, "set limit");
        if let Err(error) = perform(change.part, write) {
            for done in change.writes[..index].iter().rev() {
                if let Some(undo) = &done.undo
                    && let Err(error) = path_io::write_kernel_file(&done.path, undo)
                {
                    // The next observation shows it; the first error is the one to report.
                    tracing::debug!(path = %done.path.display(), error = %error.source, "not taken back");
                }
            }
            return Err(error);
        }
    }
    Ok(())
}

fn perform(part: LimitPart, write: &FileWrite) -> Result<(), LimitError> {
    let failed = |source| LimitError::Write {
        part,
        value: write.value.clone(),
        source,
    };
    match &write.how {
        How::File => path_io::write_kernel_file(&write.path, &write.value).map_err(failed),
        How::Attribute(name) => rustix::fs::setxattr(
            &write.path,
            *name,
            write.value.as_bytes(),
            XattrFlags::empty(),
        )
        .at("set an attribute of", &write.path)
        .map_err(failed),
        How::RefusedWhenBusy { usage, wanted } => {
            match path_io::write_kernel_file(&write.path, &write.value) {
                Err(error) if error.raw_os_error() == Some(Errno::BUSY.raw_os_error()) => {
                    Err(LimitError::Refused {
                        part,
                        wanted: *wanted,
                        current: number(usage).map_err(failed)?,
                    })
                }
                other => other.map_err(failed),
            }
        }
        How::AfterReclaim {
            usage,
            reclaim,
            high,
            wanted,
        } => {
            let before = path_io::read_to_string(high).map_err(failed)?;
            // From here on growth above the new limit is slowed down instead of killed.
            path_io::write_kernel_file(high, &write.value).map_err(failed)?;
            let current = shrink(usage, reclaim, *wanted).map_err(failed);
            let result = match current {
                Ok(current) if current > *wanted => Err(LimitError::Refused {
                    part,
                    wanted: *wanted,
                    current,
                }),
                Ok(_) => path_io::write_kernel_file(&write.path, &write.value).map_err(failed),
                Err(error) => Err(error),
            };
            let restored = path_io::write_kernel_file(high, before.trim()).map_err(failed);
            result.and(restored)
        }
    }
}

/// Asks for reclaim until the use is at most `wanted`; the use then, whichever it is.
fn shrink(usage: &Path, reclaim: &Path, wanted: u64) -> Result<u64, PathError> {
    for _ in 0..RECLAIMS {
        let current = number(usage)?;
        if current <= wanted {
            return Ok(current);
        }
        match path_io::write_kernel_file(reclaim, &(current - wanted).to_string()) {
            // Not as much as asked (EAGAIN), or a kernel before 5.19, where lowering memory.high has reclaimed.
            Err(error)
                if error.raw_os_error() != Some(Errno::AGAIN.raw_os_error())
                    && error.kind() != std::io::ErrorKind::NotFound =>
            {
                return Err(error);
            }
            _ => {}
        }
    }
    number(usage)
}

/// A file with one number.
fn number(path: &Path) -> Result<u64, PathError> {
    path_io::read_to_string(path)?
        .trim()
        .parse()
        .map_err(std::io::Error::other)
        .at("read a number from", path)
}
