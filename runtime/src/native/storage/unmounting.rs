//! Taking the file system of a volume from its folder.

use std::path::Path;

use manifests::path_io::AtPath as _;
use rustix::io::Errno;
use rustix::mount::{UnmountFlags, unmount};

use super::driver::VolumeId;
use super::error::StorageError;

/// How an unmount treats users.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Users {
    /// They are an error.
    Respect,
    /// They keep what they have open until they end.
    CutOff,
}

/// Unmounts what is ours from a folder, as long as `is_ours` says that it is mounted there; answers whether it was.
///
/// # Errors
/// [`StorageError::InUse`], or what failed.
pub(super) fn unmount_ours(
    at: &Path,
    users: Users,
    id: &VolumeId,
    is_ours: impl Fn() -> Result<bool, StorageError>,
) -> Result<bool, StorageError> {
    let flags = UnmountFlags::NOFOLLOW
        | match users {
            Users::Respect => UnmountFlags::empty(),
            Users::CutOff => UnmountFlags::DETACH,
        };
    let mut was = false;
    // An interrupted mount may have been repeated on top.
    while is_ours()? {
        match unmount(at, flags) {
            Ok(()) => was = true,
            Err(Errno::BUSY) => return Err(StorageError::InUse(id.clone())),
            Err(error) => Err(error).at("unmount", at)?,
        }
    }
    Ok(was)
}
