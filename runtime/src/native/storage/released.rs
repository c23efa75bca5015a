//! Unmounting a volume that nobody uses any more, or only for a moment yet.

use std::time::Duration;

use super::driver::{Ensured, StorageDriver, VolumeId};
use super::error::StorageError;
use crate::native::cgroup::Patience;

/// For how long somebody may look into it yet.
const MOMENT: Duration = Duration::from_secs(1);

/// Unmounts a volume. The kernel lets go of what was unmounted in a container a moment later, and a program that another
/// thread of ours has just started has all that we had open until it is executed: so it is tried for a moment.
///
/// # Errors
/// As [`StorageDriver::release`]; [`StorageError::InUse`] where somebody still looks into it then.
pub fn released(driver: &dyn StorageDriver, id: &VolumeId) -> Result<Ensured, StorageError> {
    let mut patience = Patience::new(MOMENT);
    loop {
        match driver.release(id) {
            Err(StorageError::InUse(_)) if patience.wait() => {}
            other => return other,
        }
    }
}
