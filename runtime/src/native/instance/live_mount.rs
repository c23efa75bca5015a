//! Mounting and unmounting in a running container: the source is taken on the host by descriptor, the target is found
//! in the container's own root without following its links.

use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::Path;

use rustix::fs::{CWD, Mode, OFlags, ResolveFlags};
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags, OpenTreeFlags, UnmountFlags,
};

use super::ids::Ids;
use crate::error::{Class, RuntimeError};
use crate::native::container::make_node;
use crate::native::container::plan::{DeviceOwner, DevicePlan, MountPlan, MountSource};
use crate::native::shim::Running;
use crate::sys::inside;
use crate::sys::locked_mount::locked;
use crate::sys::mount::{Attributes, NODEV, NOSUID, READ_ONLY, set_attributes};

fn failed(what: &str, path: &str) -> impl FnOnce(io::Error) -> RuntimeError {
    let doing = format!("{what} {path} in");
    move |error| RuntimeError::new(doing, Class::Retry, error)
}

fn namespace(running: &Running, which: &str) -> io::Result<OwnedFd> {
    running.open(&format!("ns/{which}"), OFlags::RDONLY)
}

/// The host's ids of the container's root.
fn owner(running: &Running) -> (u32, u32) {
    let state = running.state();
    if state.privileged {
        (0, 0)
    } else {
        (state.root_id, state.root_id)
    }
}

fn detached(running: &Running, mount: &MountPlan) -> io::Result<OwnedFd> {
    let mut set = 0;
    if mount.read_only {
        set |= READ_ONLY;
    }
    if mount.nosuid_nodev {
        set |= NOSUID | NODEV;
    }
    match &mount.what {
        MountSource::Bind {
            path,
            shift,
            recursive,
            ..
        } => {
            let mut flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
            if *recursive {
                flags |= OpenTreeFlags::AT_RECURSIVE;
            }
            let tree = rustix::mount::open_tree(CWD, path, flags)?;
            let map = match *shift && !running.state().privileged {
                true => Some(namespace(running, "user")?),
                false => None,
            };
            let attributes = Attributes {
                set,
                map: map.as_ref().map(|fd| fd.as_fd()),
                // Private: what is mounted in the container later does not show on the host.
                propagation: libc::MS_PRIVATE,
                ..Attributes::default()
            };
            set_attributes(tree.as_fd(), *recursive, attributes)?;
            if running.state().privileged {
                // Its root is the host's: nothing could be locked.
                return Ok(tree);
            }
            locked(tree.as_fd(), *recursive, path.is_dir(), running.run_dir())
        }
        MountSource::Tmpfs { size, mode } => {
            let context = rustix::mount::fsopen("tmpfs", FsOpenFlags::FSOPEN_CLOEXEC)?;
            rustix::mount::fsconfig_set_string(&context, "mode", format!("{mode:o}"))?;
            let (uid, gid) = owner(running);
            rustix::mount::fsconfig_set_string(&context, "uid", uid.to_string())?;
            rustix::mount::fsconfig_set_string(&context, "gid", gid.to_string())?;
            if let Some(size) = size {
                rustix::mount::fsconfig_set_string(&context, "size", size.to_string())?;
            }
            rustix::mount::fsconfig_create(&context)?;
            let mut flags = MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NODEV;
            flags.set(MountAttrFlags::MOUNT_ATTR_RDONLY, mount.read_only);
            Ok(rustix::mount::fsmount(
                &context,
                FsMountFlags::FSMOUNT_CLOEXEC,
                flags,
            )?)
        }
    }
}

/// Opens the place of a mount in the container's root, making missing folders; links are refused.
fn place(target: &str, folder: bool) -> io::Result<OwnedFd> {
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    let path = OFlags::PATH | OFlags::CLOEXEC;
    let mut at = rustix::fs::open("/", path | OFlags::DIRECTORY, Mode::empty())?;
    let names: Vec<_> = Path::new(target)
        .components()
        .filter_map(|part| match part {
            std::path::Component::Normal(name) => Some(name),
            _ => None,
        })
        .collect();
    for (index, name) in names.iter().enumerate() {
        let is_file = !folder && index + 1 == names.len();
        let flags = if is_file {
            path
        } else {
            path | OFlags::DIRECTORY
        };
        let open = |at: &OwnedFd| rustix::fs::openat2(at, *name, flags, Mode::empty(), resolve);
        at = match open(&at) {
            Err(rustix::io::Errno::NOENT) if is_file => {
                let make = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
                drop(rustix::fs::openat(
                    &at,
                    *name,
                    make,
                    Mode::from_raw_mode(0o644),
                )?);
                open(&at)?
            }
            Err(rustix::io::Errno::NOENT) => {
                rustix::fs::mkdirat(&at, *name, Mode::from_raw_mode(0o755))?;
                open(&at)?
            }
            other => other?,
        };
    }
    Ok(at)
}

/// Mounts in a running container.
pub(super) fn mount(running: &Running, mount: &MountPlan) -> Result<(), RuntimeError> {
    let target = mount.target.as_str();
    let folder = match &mount.what {
        MountSource::Bind { path, .. } => path.is_dir(),
        MountSource::Tmpfs { .. } => true,
    };
    let work = || -> io::Result<()> { attach(running, &detached(running, mount)?, target, folder) };
    work().map_err(failed("mount", target))
}

/// Binds a device node into a running container.
pub(super) fn device(running: &Running, device: &DevicePlan) -> Result<(), RuntimeError> {
    let target = device.target.as_str();
    let work = || -> io::Result<()> {
        let owner = device.owner.unwrap_or(DeviceOwner {
            uid: 0,
            gid: 0,
            mode: 0o600,
        });
        let ids = Ids::of(running)
            .outside((owner.uid, owner.gid))
            .ok_or_else(|| io::Error::other("the container has no such user or group"))?;
        let kind = match device.block {
            true => libc::S_IFBLK,
            false => libc::S_IFCHR,
        };
        let numbers = (device.major, device.minor);
        let node = make_node(running.run_dir(), kind, numbers, ids, owner.mode)
            .map_err(io::Error::other)?;
        let flags = OpenTreeFlags::OPEN_TREE_CLONE
            | OpenTreeFlags::OPEN_TREE_CLOEXEC
            | OpenTreeFlags::AT_EMPTY_PATH;
        let tree = rustix::mount::open_tree(&node, "", flags)?;
        let attributes = Attributes {
            propagation: libc::MS_PRIVATE,
            ..Attributes::default()
        };
        set_attributes(tree.as_fd(), false, attributes)?;
        attach(running, &tree, target, false)
    };
    work().map_err(failed("plug", target))
}

fn attach(running: &Running, tree: &OwnedFd, target: &str, folder: bool) -> io::Result<()> {
    let namespace = namespace(running, "mnt")?;
    inside::mount_namespace(namespace.as_fd(), owner(running), || {
        let place = place(target, folder)?;
        let flags =
            MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
        Ok(rustix::mount::move_mount(tree, "", &place, "", flags)?)
    })
}

/// Unmounts in a running container; what is not mounted is fine.
pub(super) fn unmount(running: &Running, target: &str) -> Result<(), RuntimeError> {
    let work = || -> io::Result<()> {
        let namespace = namespace(running, "mnt")?;
        inside::mount_namespace(namespace.as_fd(), owner(running), || {
            let flags = UnmountFlags::DETACH | UnmountFlags::NOFOLLOW;
            match rustix::mount::unmount(target, flags) {
                Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOENT) => Ok(()),
                other => Ok(other?),
            }
        })
    };
    work().map_err(failed("unmount", target))
}
