//! A thread inside another process's mount namespace, with its root as root and its owner as file-system user.
#![expect(
    unsafe_code,
    reason = "unshare(CLONE_FS) and setfsuid(2) have no safe wrapper"
)]

use std::io;
use std::os::fd::BorrowedFd;

use rustix::thread::{LinkNameSpaceType, UnshareFlags, move_into_link_name_space};

/// Runs a function on a thread of its own in a mount namespace.
///
/// Entering makes the namespace's root the thread's root (setns(2)), so no path reaches the host. Files that the
/// function makes belong to `owner` (uid and gid in the host's view), as an overlay of a user namespace demands.
///
/// # Errors
/// The namespace could not be entered, the function failed, or it panicked.
pub fn mount_namespace<T: Send>(
    namespace: BorrowedFd<'_>,
    owner: (u32, u32),
    function: impl FnOnce() -> io::Result<T> + Send,
) -> io::Result<T> {
    let inside = || {
        // setns(2) refuses a mount namespace to a thread that shares its root and working folder with others.
        // SAFETY: only this thread's root, working folder and umask stop being shared.
        unsafe { rustix::thread::unshare_unsafe(UnshareFlags::FS) }?;
        move_into_link_name_space(namespace, Some(LinkNameSpaceType::Mount))?;
        // SAFETY: both calls concern this thread only and take no pointers; they report no errors (setfsuid(2)).
        unsafe {
            libc::setfsgid(owner.1);
            libc::setfsuid(owner.0);
        }
        function()
    };
    std::thread::scope(|scope| {
        scope.spawn(inside).join().unwrap_or_else(|_| {
            Err(io::Error::other(
                "the thread in the mount namespace panicked",
            ))
        })
    })
}
