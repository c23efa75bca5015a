//! mount_setattr (kernel 5.12): id-mapped mounts and flags of mounts that are known by descriptor.
#![expect(unsafe_code, reason = "mount_setattr has no safe wrapper")]

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsRawFd as _, BorrowedFd};

pub use libc::{
    MOUNT_ATTR_NODEV as NODEV, MOUNT_ATTR_NOEXEC as NOEXEC, MOUNT_ATTR_NOSUID as NOSUID,
    MOUNT_ATTR_RDONLY as READ_ONLY,
};

/// What to change of a mount.
#[derive(Debug, Clone, Copy, Default)]
pub struct Attributes<'fd> {
    /// `MOUNT_ATTR_…` bits to set.
    pub set: u64,
    /// `MOUNT_ATTR_…` bits to clear.
    pub clear: u64,
    /// `MS_PRIVATE`, `MS_SLAVE`, `MS_SHARED`, or 0 to leave the propagation as it is.
    pub propagation: u64,
    /// Shift owners by this user namespace's map; only on a mount that was never id-mapped and is not attached yet.
    pub map: Option<BorrowedFd<'fd>>,
}

/// Changes a mount, and with `recursive` all mounts below it.
///
/// # Errors
/// `EINVAL` where the file system cannot be id-mapped (overlay, proc, sysfs; RUNTIME notes in `mount_setattr(2)`),
/// `EPERM` where a locked flag would be cleared.
pub fn set_attributes(
    mount: BorrowedFd<'_>,
    recursive: bool,
    attributes: Attributes<'_>,
) -> io::Result<()> {
    let mut set = attributes.set;
    if attributes.map.is_some() {
        set |= libc::MOUNT_ATTR_IDMAP;
    }
    let values = libc::mount_attr {
        attr_set: set,
        attr_clr: attributes.clear,
        propagation: attributes.propagation,
        userns_fd: attributes
            .map
            .and_then(|fd| u64::try_from(fd.as_raw_fd()).ok())
            .unwrap_or(0),
    };
    let flags = libc::AT_EMPTY_PATH | if recursive { libc::AT_RECURSIVE } else { 0 };
    let path: &CStr = c"";
    // SAFETY: path and values outlive the call and are only read.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_raw_fd(),
            path.as_ptr(),
            flags,
            &raw const values,
            size_of::<libc::mount_attr>(),
        )
    };
    if result == -1 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}
