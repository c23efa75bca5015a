//! Binds of the host whose flags the container's root cannot change.
//!
//! A mount that is attached in the container's own mount namespace belongs to the container: its root may remount a
//! read-only one writable. The kernel locks flags when it copies a mount namespace for a less privileged user
//! namespace (`lock_mnt_tree`, fs/namespace.c; mount_namespaces(7)). So these mounts are attached in a mount namespace
//! of the companion, init gets it as a copy, and takes its own copies of the locked mounts from there.

use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};

use rustix::fs::{CWD, Mode, OFlags};
use rustix::mount::MountPropagationFlags;
use rustix::process::Pid;
use rustix::thread::LinkNameSpaceType;

use super::descriptors::Descriptors;
use super::failure::{Doing as _, Failure};
use super::filesystems::{attach, change, copy, detached};
use super::launch::write_map;
use super::messages::{Mounted, Opened, Root, Start};
use super::place::{Kind, entry};
use super::supervise::reap;
use crate::sys::clone3::{Cloned, NEW_USER, Namespaces, clone3};
use crate::sys::mount::{Attributes, NODEV, NOSUID};
use crate::sys::process;

/// The companion's stay in the namespace of the locked mounts. It goes back when this is dropped.
#[derive(Debug)]
pub struct Locked<'fd> {
    before: OwnedFd,
    run_dir: BorrowedFd<'fd>,
    away: bool,
}

impl Locked<'_> {
    /// Goes back to the host's mounts and into the run folder.
    ///
    /// # Errors
    /// The kernel's answer.
    pub fn leave(mut self) -> Result<(), Failure> {
        self.go_back()
    }

    fn go_back(&mut self) -> Result<(), Failure> {
        self.away = false;
        rustix::thread::move_into_link_name_space(
            self.before.as_fd(),
            Some(LinkNameSpaceType::Mount),
        )
        .named("go back to the host's mounts")?;
        rustix::process::fchdir(self.run_dir).named("enter the run folder")
    }
}

impl Drop for Locked<'_> {
    fn drop(&mut self) {
        if self.away {
            // What made this necessary is told; a companion that is stuck here finds its control socket gone.
            let _ = self.go_back();
        }
    }
}

/// A bind of a start.
struct Bind<'s> {
    source: &'s Opened,
    recursive: bool,
    shift: bool,
    attributes: Attributes<'static>,
}

/// The root, where it is one tree, and all binds, in the order of the message.
fn binds(start: &Start) -> Vec<Bind<'_>> {
    let mut binds = Vec::new();
    if let Root::Tree { tree } = &start.root {
        // Pools are mounted nosuid, nodev; the container's own setuid programs work. Its device nodes work only without
        // a user namespace, where the device cgroup decides.
        let (set, clear) = if start.privileged {
            (0, NOSUID | NODEV)
        } else {
            (NODEV, NOSUID)
        };
        binds.push(Bind {
            source: tree,
            recursive: false,
            shift: true,
            attributes: Attributes {
                set,
                clear,
                propagation: libc::MS_PRIVATE,
                map: None,
            },
        });
    }
    for mount in &start.mounts {
        if let Mounted::Bind {
            source,
            shift,
            recursive,
            propagation,
        } = &mount.what
        {
            binds.push(Bind {
                source,
                recursive: *recursive,
                shift: *shift,
                attributes: Attributes {
                    set: mount.attributes,
                    clear: 0,
                    propagation: *propagation,
                    map: None,
                },
            });
        }
    }
    binds
}

/// Attaches what must be locked, in a mount namespace of its own that this process is in until the answer is
/// dropped. `None`: there is nothing to lock.
///
/// # Errors
/// The kernel's answer, with the path.
pub fn prepare<'fd>(
    start: &Start,
    descriptors: &'fd Descriptors,
) -> Result<Option<Locked<'fd>>, Failure> {
    let binds = binds(start);
    if binds.is_empty() {
        return Ok(None);
    }
    let shifting = !start.privileged && binds.iter().any(|bind| bind.shift);
    let user = shifting.then(|| holder(start)).transpose()?;
    let mut trees = Vec::with_capacity(binds.len());
    for bind in &binds {
        let attributes = Attributes {
            map: user.as_ref().filter(|_| bind.shift).map(|fd| fd.as_fd()),
            ..bind.attributes
        };
        trees.push(tree(descriptors, bind.source, bind.recursive, attributes)?);
    }
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    let before = rustix::fs::open("/proc/self/ns/mnt", flags, Mode::empty())
        .named("open the mount namespace")?;
    let run_dir = descriptors.get(&start.run_dir)?;
    process::unshare_mounts().named("make a mount namespace")?;
    let locked = Locked {
        before,
        run_dir,
        away: true,
    };
    rustix::mount::mount_change(
        "/",
        MountPropagationFlags::PRIVATE | MountPropagationFlags::REC,
    )
    .named("make the mounts private")?;
    let staging = detached("tmpfs", &[("mode", "0700")], NOSUID | NODEV)?;
    attach(&staging, CWD, "the staging tmpfs of binds")?;
    for (index, (bind, tree)) in binds.iter().zip(&trees).enumerate() {
        let path = &bind.source.path;
        let stat = rustix::fs::fstat(tree).doing(|| format!("look at {path}"))?;
        let folder =
            rustix::fs::FileType::from_raw_mode(stat.st_mode) == rustix::fs::FileType::Directory;
        let kind = if folder { Kind::Folder } else { Kind::File };
        attach(tree, entry(&staging, &index.to_string(), path, kind)?, path)?;
    }
    rustix::process::fchdir(&staging).named("enter the staging tmpfs of binds")?;
    Ok(Some(locked))
}

/// In the new init: detached copies of the locked mounts, which keep their locks.
///
/// # Errors
/// The kernel's answer.
pub fn take(start: &Start) -> Result<Vec<OwnedFd>, Failure> {
    binds(start)
        .iter()
        .enumerate()
        .map(|(index, bind)| copy(CWD, &index.to_string(), bind.recursive, &bind.source.path))
        .collect()
}

/// A detached mount of something that keel opened.
///
/// # Errors
/// The kernel's answer; `EINVAL` also where the file system cannot be id-mapped.
pub fn tree(
    descriptors: &Descriptors,
    opened: &Opened,
    recursive: bool,
    attributes: Attributes<'_>,
) -> Result<OwnedFd, Failure> {
    let tree = copy(descriptors.get(&opened.fd)?, "", recursive, &opened.path)?;
    change(&tree, recursive, attributes, || {
        let doing = if attributes.map.is_some() {
            "shift the owners of"
        } else {
            "set the flags of"
        };
        format!("{doing} {}", opened.path)
    })?;
    Ok(tree)
}

/// The user namespace of a child.
///
/// # Errors
/// The kernel's answer.
pub fn user_namespace(pid: Pid) -> Result<OwnedFd, Failure> {
    let path = format!("/proc/{}/ns/user", pid.as_raw_nonzero());
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    rustix::fs::open(path.as_str(), flags, Mode::empty()).doing(|| format!("open {path}"))
}

/// A user namespace with the container's maps and nobody in it: mounts are id-mapped by it before the container's own
/// exists. What counts for a mount is the map, not the namespace.
fn holder(start: &Start) -> Result<OwnedFd, Failure> {
    let cloned = clone3(Namespaces(NEW_USER), None).named("clone into a user namespace")?;
    let (pid, pidfd) = match cloned {
        Cloned::Parent { pid, pidfd } => (pid, pidfd),
        Cloned::Child => loop {
            let _ = rustix::event::poll(&mut [], None);
        },
    };
    let namespace = write_map(pid, "uid_map", &start.uid_map)
        .and_then(|()| write_map(pid, "gid_map", &start.gid_map))
        .and_then(|()| user_namespace(pid));
    let _ = process::signal_by_pidfd(&pidfd, libc::SIGKILL);
    reap(&pidfd)?;
    namespace
}
