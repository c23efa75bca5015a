//! The root of a stopped instance, as it will see it: for `files` and images of it, without entering anything.

use std::os::fd::{AsRawFd as _, OwnedFd};
use std::path::Path;

use manifests::path_io::AtPath as _;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsconfig_set_flag,
    fsconfig_set_string, fsmount, fsopen,
};

use super::driver::Placed;
use super::error::StorageError;
use crate::sys::beneath;

/// An overlay of image and writable layer that is mounted nowhere: it can only be reached through this descriptor and
/// ends with it. Give it to the functions of [`beneath`].
///
/// The instance must be stopped: two overlays over one writable layer are undefined (kernel
/// Documentation/filesystems/overlayfs.rst, "Sharing and copying layers"). Owners are as on disk, 0 to 65535.
///
/// # Errors
/// A layer that is not there, the kernel's refusal, or [`StorageError::NoFiles`].
pub fn open_stopped_root(image_rootfs: &Path, placed: &Placed) -> Result<OwnedFd, StorageError> {
    let (upper, work, folder) = match placed {
        Placed::Root {
            upper,
            work,
            folder,
        } => (upper, work, folder),
        Placed::Custom { folder } => return Ok(beneath::open_root(folder)?),
        Placed::Disk { file, .. } => return Err(StorageError::NoFiles { path: file.clone() }),
    };
    // By descriptor: a path may contain what the option parser takes for separators.
    let layers = [
        ("lowerdir", beneath::open_root(image_rootfs)?),
        ("upperdir", beneath::open_root(upper)?),
        ("workdir", beneath::open_root(work)?),
    ];
    let options = layers
        .iter()
        .map(|(key, layer)| (*key, path_of(layer)))
        .collect::<Vec<_>>();
    overlay(&options, folder)
}

/// An overlay of a writable layer, or a copy of one, over its image, to which nobody can write: the instance may go on with
/// another one.
///
/// # Errors
/// As [`open_stopped_root`].
pub fn open_merged(upper: &Path, image_rootfs: &Path) -> Result<OwnedFd, StorageError> {
    let layers = [
        beneath::open_root(upper)?,
        beneath::open_root(image_rootfs)?,
    ];
    let lower = format!("{}:{}", path_of(&layers[0]), path_of(&layers[1]));
    overlay(&[("lowerdir", lower)], upper)
}

fn path_of(layer: &OwnedFd) -> String {
    format!("/proc/self/fd/{}", layer.as_raw_fd())
}

fn overlay(options: &[(&str, String)], shown: &Path) -> Result<OwnedFd, StorageError> {
    let doing = "mount an overlay over";
    let context = fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC).at(doing, shown)?;
    for (key, value) in options {
        fsconfig_set_string(&context, *key, value.as_str()).at(doing, shown)?;
    }
    // The same kind of attributes as the container's own overlay writes.
    fsconfig_set_flag(&context, "userxattr").at(doing, shown)?;
    fsconfig_create(&context).at(doing, shown)?;
    let flags = MountAttrFlags::MOUNT_ATTR_NOSUID
        | MountAttrFlags::MOUNT_ATTR_NODEV
        | MountAttrFlags::MOUNT_ATTR_NOEXEC;
    Ok(fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, flags).at(doing, shown)?)
}
