//! Copies and digests one big file.

use std::fs::{File, OpenOptions};
use std::io::Read as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use manifests::path_io::{AtPath as _, PathError};
use sha2::{Digest as _, Sha256};

use super::error::ImageError;
use crate::sys::copy_bytes::{CopyError, copy_bytes};

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
    copy_bytes(&source, &target, length, go_on).map_err(|error| match error {
        CopyError::Interrupted => ImageError::Interrupted,
        CopyError::Changes => ImageError::Broken {
            path: from.to_path_buf(),
            problem: "changes while it is copied".to_owned(),
        },
        CopyError::Io(source) => ImageError::from(PathError {
            path: from.to_path_buf(),
            doing: "copy",
            source,
        }),
    })?;
    Ok(length)
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
