//! Files of an instance: read by the host within the container's root, written by the container's root itself.

use std::collections::BTreeMap;
use std::io::{self, Read as _};
use std::os::fd::AsRawFd as _;

use manifests::instance::files::File;
use manifests::scalar::file_mode::FileMode;
use rustix::fs::{FileType, Mode, OFlags, ResolveFlags};

use super::ids::Ids;
use crate::error::{Class, RuntimeError};
use crate::native::container::ContainerError;
use crate::native::container::exec::write_files;
use crate::native::container::plan::FilePlan;
use crate::native::host::Host;
use crate::native::secrets::SecretStore;
use crate::native::shim::Running;
use crate::runtime::FileInside;

/// A larger file is not compared.
const COMPARED_BYTES: u64 = 1 << 20;

/// A regular file of a running container of at most `limit` bytes.
///
/// The path is resolved within the container's root, so its links cannot lead to the host; what is no regular file is
/// not opened for reading, so a FIFO cannot hold us up.
pub(in crate::native) fn read(running: &Running, path: &str, limit: u64) -> io::Result<FileInside> {
    let root = running.open("root", OFlags::PATH | OFlags::DIRECTORY)?;
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    let regular = |file: &std::os::fd::OwnedFd| {
        let stat = rustix::fs::fstat(file)?;
        if !FileType::from_raw_mode(stat.st_mode).is_file() {
            return Err(io::Error::other("it is no regular file"));
        }
        if u64::try_from(stat.st_size).unwrap_or(u64::MAX) > limit {
            let why = format!("it is too big: {} bytes, {limit} at most", stat.st_size);
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, why));
        }
        Ok(stat)
    };
    let found = rustix::fs::openat2(
        &root,
        path,
        OFlags::PATH | OFlags::CLOEXEC,
        Mode::empty(),
        resolve,
    )?;
    let stat = regular(&found)?;
    // The very file that was looked at: another may have come to this path since.
    let again = format!("/proc/self/fd/{}", found.as_raw_fd());
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let file = rustix::fs::open(again, flags, Mode::empty())?;
    let mut content = Vec::new();
    std::fs::File::from(file)
        .take(limit)
        .read_to_end(&mut content)?;
    let (uid, gid) = Ids::of(running).inside((stat.st_uid, stat.st_gid));
    Ok(FileInside {
        content,
        mode: stat.st_mode & 0o7777,
        uid,
        gid,
    })
}

/// Writes files of a running container, as its own root and in its own root.
pub(in crate::native) fn write(
    host: &Host,
    running: &Running,
    files: &[FilePlan],
) -> Result<(), RuntimeError> {
    if files.is_empty() {
        return Ok(());
    }
    write_files(running, &host.config.shim, files).map_err(|error| {
        let class = match &error {
            ContainerError::Plan(_) | ContainerError::Failed { .. } => Class::NeedsOperator,
            ContainerError::Frozen => Class::Conflict,
            _ => Class::Retry,
        };
        RuntimeError::new("write the files of", class, error)
    })
}

/// A written file as it is put.
pub(super) fn plan(path: &str, file: &File) -> FilePlan {
    FilePlan {
        target: path.to_owned(),
        content: content(file).to_vec(),
        mode: file.mode.0,
        uid: file.uid,
        gid: file.gid,
        create_parents: file.create_dirs,
        only_if_absent: false,
        ours: Vec::new(),
    }
}

fn content(file: &File) -> &[u8] {
    file.content.as_plain().unwrap_or_default().as_bytes()
}

/// The files that are put while the instance runs: those whose words in the manifest changed, and enforced ones that
/// are not as they say.
///
/// # Errors
/// The value of a secret is not known here.
pub(super) fn to_put(
    secrets: &SecretStore,
    before: &BTreeMap<String, File>,
    after: &BTreeMap<String, File>,
    running: &Running,
) -> Result<Vec<FilePlan>, RuntimeError> {
    after
        .iter()
        .filter(|(path, file)| {
            before.get(*path) != Some(*file)
                || (file.enforce && overlay(secrets, running, path, file).as_ref() != Some(*file))
        })
        .map(|(path, file)| Ok(plan(path, &secrets.revealed_file(file)?)))
        .collect()
}

/// What an enforced file is, in the words of its manifest; none: there is no regular file that could be compared.
pub(super) fn overlay(
    secrets: &SecretStore,
    running: &Running,
    path: &str,
    file: &File,
) -> Option<File> {
    let there = read(running, path, COMPARED_BYTES).ok()?;
    let mut seen = File {
        mode: FileMode(there.mode),
        uid: there.uid,
        gid: there.gid,
        ..file.clone()
    };
    seen.content = secrets.seen(&file.content, &there.content);
    Some(seen)
}
