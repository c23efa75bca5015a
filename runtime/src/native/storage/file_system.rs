//! The file systems that volumes have for themselves on devices: made, mounted, grown.

use std::ffi::CString;
use std::io;
use std::path::Path;

use manifests::path_io::AtPath as _;
use manifests::support::LEAST_XFS;
use rustix::mount::MountFlags;

use super::driver::FileSystem;
use super::error::StorageError;
use super::sized;
use crate::sys::command::{self, CommandError};

/// Options of a mount that are flags of `mount(2)`; all others are the file system's own.
const FLAGS: &[(&str, MountFlags)] = &[
    ("noatime", MountFlags::NOATIME),
    ("nodiratime", MountFlags::NODIRATIME),
    ("relatime", MountFlags::RELATIME),
    ("strictatime", MountFlags::STRICTATIME),
    ("lazytime", MountFlags::LAZYTIME),
    ("sync", MountFlags::SYNCHRONOUS),
    ("dirsync", MountFlags::DIRSYNC),
    ("noexec", MountFlags::NOEXEC),
];

/// Options as people write them, as flags and as what the file system itself is told.
///
/// Not for containers: they have clones of these mounts with flags of their own.
pub(super) fn options(written: Option<&str>) -> (MountFlags, Vec<&str>) {
    let mut flags = MountFlags::NOSUID | MountFlags::NODEV;
    let mut rest = Vec::new();
    let each = written.unwrap_or_default().split(',').map(str::trim);
    for option in each.filter(|option| !option.is_empty()) {
        match FLAGS.iter().find(|(name, _)| *name == option) {
            Some((_, flag)) => flags |= *flag,
            // They are set as it is, and nobody takes them away.
            None if ["nosuid", "nodev"].contains(&option) => {}
            None => rest.push(option),
        }
    }
    (flags, rest)
}

/// The options as the kernel takes them.
pub(super) fn as_data(options: &[&str]) -> CString {
    CString::new(options.join(",")).unwrap_or_default()
}

/// Makes an empty one on a device. What is there already is overwritten.
pub(super) fn make(device: &Path, kind: FileSystem, size: u64) -> Result<(), StorageError> {
    match kind {
        FileSystem::Ext4 => sized::make_file_system(device),
        FileSystem::Xfs if size < LEAST_XFS => Err(StorageError::TooSmall {
            size,
            least: LEAST_XFS,
        }),
        FileSystem::Xfs => {
            let device = device.display().to_string();
            xfsprogs("mkfs.xfs", &["-q", "-f", "-K", &device])
        }
    }
}

/// Mounts one that is only read from now on, or written to.
pub(super) fn mount(
    device: &Path,
    at: &Path,
    kind: FileSystem,
    writable: bool,
    written: Option<&str>,
) -> Result<(), StorageError> {
    let (mut flags, own) = options(written);
    // What is deleted in it goes back to the pool. Tables that nobody needs yet are not written: they would take a part of the
    // pool. Where the pool is full it is read, and not written to any more.
    let mut all = match (kind, writable) {
        (FileSystem::Ext4, true) => vec!["discard", "noinit_itable", "errors=remount-ro"],
        (FileSystem::Ext4, false) => Vec::new(),
        // What it is a snapshot of has the same UUID.
        (FileSystem::Xfs, true) => vec!["nouuid", "discard"],
        // It was held still when it was made, so there is nothing to recover, and nothing could be written for that.
        (FileSystem::Xfs, false) => vec!["nouuid", "norecovery"],
    };
    match writable {
        true => all.extend(own),
        false => flags |= MountFlags::RDONLY,
    }
    let (word, doing) = match kind {
        FileSystem::Ext4 => ("ext4", "mount an ext4 on"),
        FileSystem::Xfs => ("xfs", "mount an xfs on"),
    };
    rustix::mount::mount(device, at, word, flags, as_data(&all).as_c_str()).at(doing, at)?;
    Ok(())
}

/// Lets one that is mounted be as big as what it lies on.
pub(super) fn fill_live(at: &Path, kind: FileSystem, size: u64) -> Result<(), StorageError> {
    match kind {
        FileSystem::Ext4 => sized::fill_live(at, size),
        FileSystem::Xfs => xfsprogs("xfs_growfs", &["-d", &at.display().to_string()]),
    }
}

/// Whether one that is mounted may be grown by us.
pub(super) fn can_grow_live(kind: FileSystem) -> bool {
    match kind {
        FileSystem::Ext4 => sized::can_grow_live(),
        FileSystem::Xfs => true,
    }
}

fn xfsprogs(program: &'static str, arguments: &[&str]) -> Result<(), StorageError> {
    match command::run(program, arguments, None) {
        Err(CommandError::Start { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
            Err(StorageError::NoProgram {
                program,
                package: "xfsprogs",
            })
        }
        other => Ok(other.map(|_| ())?),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_flags_or_the_file_systems_own() {
        let plain = MountFlags::NOSUID | MountFlags::NODEV;
        assert_eq!(options(None), (plain, Vec::new()));
        let (flags, own) = options(Some("noatime, commit=30,nodev,sync,data=ordered"));
        assert_eq!(flags, plain | MountFlags::NOATIME | MountFlags::SYNCHRONOUS);
        assert_eq!(own, ["commit=30", "data=ordered"]);
        assert_eq!(as_data(&own).to_str(), Ok("commit=30,data=ordered"));
    }
}
