//! The new init, from its first instruction in the new namespaces to execve.

use std::os::fd::{AsFd as _, OwnedFd};

use super::channel::{receive, send};
use super::confine::{self, Standard};
use super::descriptors::Descriptors;
use super::failure::{Doing as _, Failure, fail};
use super::filesystems::{attach, detached};
use super::interior::{self, attach_device};
use super::launch::join;
use super::locked;
use super::messages::{Mount, Mounted, Progress, Start, Step, VERSION};
use super::place::{Kind, mount_point, write_file};
use super::rootfs;
use crate::sys::process;

/// Runs in the cloned process and never returns: it becomes the first program, or says what failed and ends.
pub fn become_init(start: &Start, descriptors: &Descriptors, socket: &OwnedFd) -> ! {
    match prepare(start, descriptors, socket) {
        Err(failure) => fail(socket, failure),
        Ok(terminal) => {
            let streams = Standard::Terminal(terminal.as_fd());
            confine::run(&start.confinement, &start.init, &streams, socket)
        }
    }
}

/// Waits for one step of the companion, and takes the descriptors that came with it.
///
/// # Errors
/// The companion has ended or takes another step.
pub fn wait(socket: &OwnedFd, wanted: &Step) -> Result<Vec<OwnedFd>, Failure> {
    let (step, descriptors) = receive::<Step>(socket, VERSION).named("wait for the companion")?;
    if step == *wanted {
        Ok(descriptors)
    } else {
        Err(Failure::new("follow the companion's steps", libc::EPROTO))
    }
}

fn prepare(start: &Start, descriptors: &Descriptors, socket: &OwnedFd) -> Result<OwnedFd, Failure> {
    // Nothing of the container may look into this process while it still holds the host's descriptors
    // (CVE-2016-9962); execve makes it dumpable again.
    rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable)
        .named("become undumpable")?;
    rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))
        .named("end with the companion")?;
    join(&start.joins, descriptors)?;
    let locked = locked::take(start)?;
    let mut trees = wait(socket, &Step::Prepared)?.into_iter();
    let mut locked = locked.into_iter();
    confine::become_root()?;
    let staging = rootfs::stage()?;
    staging.mount_root(&start.root, &mut trees, &mut locked)?;
    let prepared = interior::prepare(start)?;
    process::unshare_cgroup().named("make a cgroup namespace")?;
    let cgroup = start
        .cgroup2
        .as_ref()
        .map(|_| interior::prepare_cgroup(&start.cgroup))
        .transpose()?;
    let root = staging.pivot()?;
    let console = prepared.attach(&root, start, cgroup.as_ref())?;
    for mount in &start.mounts {
        attach_mount(&root, mount, &mut locked)?;
    }
    for device in &start.devices {
        let node = trees
            .next()
            .ok_or_else(|| Failure::new("find the device's mount", libc::EBADF))?;
        attach_device(&root, device, &node)?;
    }
    for file in &start.files {
        write_file(&root, file)?;
    }
    rustix::system::sethostname(start.hostname.as_bytes())
        .doing(|| format!("set the host name {}", start.hostname))?;
    process::loopback_up().named("set the loopback interface up")?;
    let ready = Progress::Ready {
        warnings: Vec::new(),
    };
    send(socket, VERSION, &ready, &[console.master.as_fd()]).named("report to the companion")?;
    drop(console.master);
    wait(socket, &Step::Go)?;
    for sysctl in &start.sysctls {
        confine::write_sysctl(prepared.proc_sys(), sysctl)?;
    }
    if start.init.uid != 0 {
        interior::own_terminal(&console.slave, start.init.uid)?;
    }
    Ok(console.slave)
}

fn attach_mount(
    root: &OwnedFd,
    mount: &Mount,
    trees: &mut impl Iterator<Item = OwnedFd>,
) -> Result<(), Failure> {
    match &mount.what {
        Mounted::Bind { source, .. } => {
            let tree = trees
                .next()
                .ok_or_else(|| Failure::new("find the tree of a mount", libc::EBADF))?;
            let stat = rustix::fs::fstat(&tree).doing(|| format!("look at {}", source.path))?;
            let folder = rustix::fs::FileType::from_raw_mode(stat.st_mode)
                == rustix::fs::FileType::Directory;
            let kind = if folder { Kind::Folder } else { Kind::File };
            let name = format!("{} on {}", source.path, mount.target);
            attach(tree, mount_point(root, &mount.target, kind)?, &name)
        }
        Mounted::Tmpfs { options } => {
            let options: Vec<(&str, &str)> = options
                .iter()
                .map(|option| (option.name.as_str(), option.value.as_str()))
                .collect();
            let tmpfs = detached("tmpfs", &options, mount.attributes)?;
            attach(
                tmpfs,
                mount_point(root, &mount.target, Kind::Folder)?,
                &mount.target,
            )
        }
    }
}
