//! File systems as descriptors: made detached, attached where a descriptor points.

use std::os::fd::{AsFd, OwnedFd};

use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags, OpenTreeFlags, fsconfig_create,
    fsconfig_set_flag, fsconfig_set_string, fsmount, fsopen, move_mount, open_tree,
};

use super::failure::{Doing as _, Failure};
use crate::sys::mount::{Attributes, set_attributes};

/// Makes a detached mount of a new file system. An option without value is a flag.
///
/// # Errors
/// The kernel's answer to `fsopen`, `fsconfig` or `fsmount`, with the option.
pub fn detached(kind: &str, options: &[(&str, &str)], attributes: u64) -> Result<OwnedFd, Failure> {
    let context = fsopen(kind, FsOpenFlags::FSOPEN_CLOEXEC)
        .doing(|| format!("open the file system {kind}"))?;
    for (key, value) in options {
        if value.is_empty() {
            fsconfig_set_flag(&context, *key)
        } else {
            fsconfig_set_string(&context, *key, *value)
        }
        .doing(|| format!("set {key}={value} for {kind}"))?;
    }
    fsconfig_create(&context).doing(|| format!("create the file system {kind}"))?;
    let attributes = MountAttrFlags::from_bits_retain(u32::try_from(attributes).unwrap_or(0));
    fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, attributes).doing(|| format!("mount {kind}"))
}

/// A detached copy of the mount at `path` under `folder`; an empty path is the descriptor itself.
///
/// # Errors
/// The kernel's answer; `EINVAL` for a descriptor of another mount namespace.
pub fn copy(
    folder: impl AsFd,
    path: &str,
    recursive: bool,
    name: &str,
) -> Result<OwnedFd, Failure> {
    let mut flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    if path.is_empty() {
        flags |= OpenTreeFlags::AT_EMPTY_PATH;
    } else {
        flags |= OpenTreeFlags::AT_SYMLINK_NOFOLLOW;
    }
    if recursive {
        flags |= OpenTreeFlags::AT_RECURSIVE;
    }
    open_tree(folder, path, flags).doing(|| format!("copy the mount of {name}"))
}

/// Attaches a detached mount on the file or folder that `target` refers to.
///
/// # Errors
/// The kernel's answer.
pub fn attach(mount: impl AsFd, target: impl AsFd, name: &str) -> Result<(), Failure> {
    move_mount(
        mount,
        "",
        target,
        "",
        MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH,
    )
    .doing(|| format!("mount {name}"))
}

/// Changes flags, propagation or id map of a mount.
///
/// # Errors
/// The kernel's answer.
pub fn change(
    mount: impl AsFd,
    recursive: bool,
    attributes: Attributes<'_>,
    words: impl FnOnce() -> String,
) -> Result<(), Failure> {
    set_attributes(mount.as_fd(), recursive, attributes).doing(words)
}
