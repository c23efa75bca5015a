//! The new root: layers put together in a private staging tmpfs, then `pivot_root`, then the host is gone.

use std::os::fd::{AsFd as _, OwnedFd};

use rustix::fs::{CWD, Mode, OFlags, StatVfsMountFlags};
use rustix::io::Errno;
use rustix::mount::{MountFlags, MountPropagationFlags, UnmountFlags};

use super::failure::{Doing as _, Failure};
use super::filesystems::{attach, detached};
use super::messages::Root;
use crate::sys::mount::{NODEV, NOSUID};

/// The staging tmpfs, attached on the working folder.
#[derive(Debug)]
pub struct Staging(OwnedFd);

/// Makes all mounts private and attaches an empty tmpfs on the working folder.
///
/// The working folder is the instance's run folder, which only the host's root may search; `move_mount` onto the
/// working folder itself needs no search, so this also works after the ids were changed.
///
/// # Errors
/// The kernel's answer.
pub fn stage() -> Result<Staging, Failure> {
    rustix::mount::mount_change(
        "/",
        MountPropagationFlags::PRIVATE | MountPropagationFlags::REC,
    )
    .named("make the mounts private")?;
    let tmpfs = detached("tmpfs", &[("mode", "0700")], NOSUID | NODEV)?;
    attach(&tmpfs, CWD, "the staging tmpfs")?;
    rustix::process::fchdir(&tmpfs).named("enter the staging tmpfs")?;
    Ok(Staging(tmpfs))
}

/// An overlay that cannot make a folder for itself beside what is written is mounted, and nobody can write to it
/// (fs/overlayfs/super.c, `ovl_make_workdir`).
fn is_read_only(at: &str) -> bool {
    rustix::fs::statvfs(at).is_ok_and(|found| found.f_flag.contains(StatVfsMountFlags::RDONLY))
}

fn no_room(path: &str) -> Failure {
    let words = format!(
        "mount an overlay with the writable folder {path}: that is full (a bigger `size` of the root, or fewer snapshots and \
         files in its pool, make room) or read-only"
    );
    Failure::new(words, libc::ENOSPC)
}

impl Staging {
    fn folder(&self, name: &str) -> Result<OwnedFd, Failure> {
        rustix::fs::mkdirat(&self.0, name, Mode::from_raw_mode(0o755))
            .doing(|| format!("create {name} in the staging tmpfs"))?;
        self.open(name)
    }

    fn open(&self, name: &str) -> Result<OwnedFd, Failure> {
        rustix::fs::openat(
            &self.0,
            name,
            OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC,
            Mode::empty(),
        )
        .doing(|| format!("open {name} in the staging tmpfs"))
    }

    /// Mounts the root: from its layers' trees, or from the first locked bind.
    ///
    /// Overlay takes its layers by relative path: layers that are not attached anywhere are refused (EPERM on 6.18),
    /// layers by descriptor need 6.13, and the host's paths do not show up in the container's mountinfo.
    ///
    /// # Errors
    /// The kernel's answer, with the layer.
    pub fn mount_root(
        &self,
        root: &Root,
        trees: &mut impl Iterator<Item = OwnedFd>,
        locked: &mut impl Iterator<Item = OwnedFd>,
    ) -> Result<(), Failure> {
        let missing = || Failure::new("find the trees of the root", libc::EBADF);
        match root {
            Root::Overlay { layers, writable } => {
                let mut lower = String::new();
                for (index, layer) in layers.iter().enumerate() {
                    let name = index.to_string();
                    let tree = trees.next().ok_or_else(missing)?;
                    attach(tree, self.folder(&name)?, &layer.path)?;
                    if index > 0 {
                        lower.push(':');
                    }
                    lower.push_str(&name);
                }
                let tree = trees.next().ok_or_else(missing)?;
                attach(tree, self.folder("w")?, &writable.path)?;
                self.folder("r")?;
                let options =
                    format!("userxattr,lowerdir={lower},upperdir=w/upper,workdir=w/work\0");
                let options = std::ffi::CStr::from_bytes_with_nul(options.as_bytes())
                    .map_err(|_| Failure::new("spell the overlay's options", libc::EINVAL))?;
                let mounted =
                    rustix::mount::mount("overlay", "r", "overlay", MountFlags::empty(), options);
                if mounted == Err(Errno::ROFS) || mounted.is_ok() && is_read_only("r") {
                    return Err(no_room(&writable.path));
                }
                mounted.doing(|| {
                    format!(
                        "mount an overlay of {} layers with the writable folder {}",
                        layers.len(),
                        writable.path
                    )
                })
            }
            Root::Tree { tree } => {
                let mount = locked.next().ok_or_else(missing)?;
                attach(mount, self.folder("r")?, &tree.path)
            }
        }
    }

    /// Mounts an empty root that only a few things are put into.
    ///
    /// # Errors
    /// The kernel's answer.
    pub fn mount_empty_root(&self) -> Result<(), Failure> {
        let root = detached("tmpfs", &[("mode", "0755")], NOSUID | NODEV)?;
        attach(root, self.folder("r")?, "the empty root")
    }

    /// Makes the new root `/` and detaches everything else, the staging tmpfs with it.
    ///
    /// # Errors
    /// The kernel's answer.
    pub fn pivot(self) -> Result<OwnedFd, Failure> {
        let root = self.open("r")?;
        rustix::process::fchdir(&root).named("enter the new root")?;
        // "." twice stacks the old root on the new one; it is then the topmost mount there (pivot_root(2)).
        rustix::process::pivot_root(".", ".").named("pivot_root")?;
        rustix::mount::unmount(".", UnmountFlags::DETACH).named("detach the host's root")?;
        rustix::process::chdir("/").named("enter the new root")?;
        rustix::io::fcntl_dupfd_cloexec(root.as_fd(), 3).named("keep the new root")
    }
}
