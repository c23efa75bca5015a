//! Mounts whose flags nobody in a container can change.
//!
//! The kernel locks the flags of mounts when it copies a mount namespace for a less privileged user namespace
//! (`lock_mnt_tree`, fs/namespace.c; mount_namespaces(7)), and a mount that is copied from there keeps its locks. At a
//! start the new init takes its copies itself; this is the same for a container that runs.

use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::CWD;
use rustix::mount::{
    MountFlags, MountPropagationFlags, MoveMountFlags, OpenTreeFlags, mount, mount_change,
    move_mount, open_tree,
};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use super::process::unshare_mounts;
use super::user_namespace::Holder;

/// A detached copy of a detached mount, with all its flags locked. `folder` says whether it is one; `staging` is any
/// folder: what is done there is seen by a thread of this call only.
///
/// # Errors
/// The kernel's answer; `unshare` (util-linux) cannot be run.
pub fn locked(
    tree: BorrowedFd<'_>,
    recursive: bool,
    folder: bool,
    staging: &Path,
) -> io::Result<OwnedFd> {
    let copy = || -> io::Result<OwnedFd> {
        // Of this thread only, its root and working folder with it.
        unshare_mounts()?;
        mount_change(
            "/",
            MountPropagationFlags::PRIVATE | MountPropagationFlags::REC,
        )?;
        let flags = MountFlags::NOSUID | MountFlags::NODEV;
        mount("tmpfs", staging, "tmpfs", flags, c"mode=0700")?;
        let place = staging.join("mount");
        let made = match folder {
            true => manifests::path_io::create_dir_all(&place),
            false => manifests::path_io::write(&place, ""),
        };
        made.map_err(|error| error.source)?;
        move_mount(
            tree,
            "",
            CWD,
            &place,
            MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH,
        )?;
        let holder = Holder::start(&["--user", "--mount", "--propagation", "unchanged"])?;
        let namespace = holder.namespace("mnt")?;
        move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Mount))?;
        let mut flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
        if recursive {
            flags |= OpenTreeFlags::AT_RECURSIVE;
        }
        Ok(open_tree(CWD, &place, flags)?)
    };
    std::thread::scope(|scope| {
        scope.spawn(copy).join().unwrap_or_else(|_| {
            Err(io::Error::other(
                "the thread in a mount namespace of its own panicked",
            ))
        })
    })
}
