//! The cgroup 2 folder that a container is born in, as the container before left it.

use std::os::fd::{AsFd, OwnedFd};

use rustix::event::Timespec;
use rustix::fs::{AtFlags, Dir, Mode, OFlags};
use rustix::io::Errno;

use super::failure::{Doing as _, Failure};

/// How often a folder is tried whose last process was reaped, and may take a moment to leave.
const TRIES: u32 = 200;
/// Between two tries.
const PAUSE: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 10_000_000,
};
/// A container is not allowed as many levels of folders (`cgroup.max.depth`).
const DEEPEST: u32 = 100;

/// Removes the folders that an earlier container made below, and hands no controllers down any more: a folder that
/// does takes no processes (cgroup-v2.rst, "No Internal Process Constraint"), and systemd makes its root such a one.
///
/// # Errors
/// The kernel's answer; `EBUSY`: something still lives below.
pub fn clear(folder: impl AsFd, path: &str) -> Result<(), Failure> {
    let mut tries = TRIES;
    remove_below(&folder, DEEPEST, &mut tries)
        .doing(|| format!("remove the cgroups below {path}"))?;
    stop_handing_down(&folder).doing(|| format!("take back the controllers below {path}"))
}

fn open_folder(at: impl AsFd, name: &std::ffi::CStr) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(at, name, flags, Mode::empty())
}

fn remove_below(folder: &impl AsFd, depth: u32, tries: &mut u32) -> Result<(), Errno> {
    let listed = open_folder(folder, c".")?;
    let mut names = Vec::new();
    for entry in Dir::read_from(&listed)? {
        let entry = entry?;
        let name = entry.file_name();
        if entry.file_type().is_dir() && name != c"." && name != c".." {
            names.push(name.to_owned());
        }
    }
    for name in names {
        let below = open_folder(&listed, &name)?;
        remove_below(&below, depth.checked_sub(1).ok_or(Errno::LOOP)?, tries)?;
        while let Err(errno) = rustix::fs::unlinkat(&listed, &name, AtFlags::REMOVEDIR) {
            match errno {
                Errno::NOENT => break,
                Errno::BUSY if *tries > 0 => {
                    *tries -= 1;
                    let _ = rustix::event::poll(&mut [], Some(&PAUSE));
                }
                _ => return Err(errno),
            }
        }
    }
    Ok(())
}

fn stop_handing_down(folder: &impl AsFd) -> Result<(), Errno> {
    let flags = OFlags::RDWR | OFlags::CLOEXEC;
    let file = rustix::fs::openat(folder, c"cgroup.subtree_control", flags, Mode::empty())?;
    let mut bytes = [0; 1024];
    let length = rustix::io::read(&file, &mut bytes)?;
    let text = String::from_utf8_lossy(&bytes[..length]);
    for controller in text.split_whitespace() {
        rustix::io::write(&file, format!("-{controller}").as_bytes())?;
    }
    Ok(())
}
