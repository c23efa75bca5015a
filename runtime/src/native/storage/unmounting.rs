//! Taking the file system of a volume, or of a whole pool, from its folder.

use std::path::Path;
use std::time::Duration;

use manifests::path_io::AtPath as _;
use rustix::io::Errno;
use rustix::mount::{UnmountFlags, unmount};

use super::driver::VolumeId;
use super::error::StorageError;
use crate::native::cgroup::Patience;

/// For how long somebody may look into a pool yet: a program that another thread of ours has just started has all that
/// we had open until it is executed.
const MOMENT: Duration = Duration::from_secs(5);

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

/// Unmounts the file system of a pool, as long as `is_mounted` says that it is ours and mounted there; answers whether
/// it was.
///
/// # Errors
/// What failed; `EBUSY` where somebody still looks into it after a moment.
pub(super) fn unmount_pool(
    pool: &Path,
    is_mounted: impl Fn() -> Result<bool, StorageError>,
) -> Result<bool, StorageError> {
    let mut was = false;
    let mut patience = Patience::new(MOMENT);
    // An interrupted mount may have been repeated on top.
    while is_mounted()? {
        match unmount(pool, UnmountFlags::NOFOLLOW) {
            Err(Errno::BUSY) if patience.wait() => {}
            other => {
                other.at("unmount", pool)?;
                was = true;
            }
        }
    }
    Ok(was)
}
