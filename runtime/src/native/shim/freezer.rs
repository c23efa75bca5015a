//! Freezing: by cgroup 2 where the container is in one, else by the freezer controller of cgroup 1.

use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use manifests::path_io::{self, AtPath as _};
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::fs::{Mode, OFlags};

use super::running::ShimError;

/// How long processes may take to stop: one in an uninterruptible wait of the kernel stops after it.
const PATIENCE: Duration = Duration::from_secs(10);

/// The folder of cgroup 1's freezer among those that a container was moved into.
fn first_version(joins: &[PathBuf]) -> Option<&PathBuf> {
    // Nearly always the one that is called so, but any hierarchy may be mounted anywhere.
    let called = |folder: &&PathBuf| folder.iter().any(|part| part.as_bytes() == b"freezer");
    let others = joins.iter().filter(|folder| !called(folder));
    joins
        .iter()
        .filter(called)
        .chain(others)
        .find(|folder| folder.join("freezer.state").exists())
}

/// Freezes and waits until all processes have stopped.
pub(super) fn freeze(payload: &Option<PathBuf>, joins: &[PathBuf]) -> Result<(), ShimError> {
    if let Some(payload) = payload {
        path_io::write_kernel_file(payload.join("cgroup.freeze"), "1")?;
        return wait_until_frozen(payload);
    }
    let Some(folder) = first_version(joins) else {
        return Err(ShimError::Call {
            doing: "freeze a container that is in no cgroup 2 and no freezer",
            source: std::io::ErrorKind::Unsupported.into(),
        });
    };
    path_io::write_kernel_file(folder.join("freezer.state"), "FROZEN")?;
    Ok(())
}

/// The wishes to freeze that hold a container: its own, and that of the instance's folder above, which has the companion
/// in it too.
fn wishes(payload: &Option<PathBuf>) -> impl Iterator<Item = PathBuf> {
    let payload = payload.as_ref();
    let above = payload
        .filter(|payload| payload.ends_with("payload"))
        .and_then(|payload| payload.parent());
    let folders = payload.map(PathBuf::as_path).into_iter().chain(above);
    folders
        .map(|folder| folder.join("cgroup.freeze"))
        .collect::<Vec<_>>()
        .into_iter()
}

fn is_wished(file: &Path) -> Result<bool, ShimError> {
    let text = path_io::read_if_exists(file)?;
    Ok(text.is_some_and(|text| text.trim() == "1"))
}

/// Whether somebody froze the folder above, and with it the companion.
pub(super) fn is_frozen_above(payload: &Option<PathBuf>) -> bool {
    wishes(payload)
        .nth(1)
        .is_some_and(|file| is_wished(&file).unwrap_or(false))
}

/// Thaws all: whoever froze it may have used another one.
pub(super) fn thaw(payload: &Option<PathBuf>, joins: &[PathBuf]) -> Result<(), ShimError> {
    for file in wishes(payload) {
        if is_wished(&file)? {
            path_io::write_kernel_file(file, "0")?;
        }
    }
    if let Some(folder) = first_version(joins) {
        path_io::write_kernel_file(folder.join("freezer.state"), "THAWED")?;
    }
    Ok(())
}

/// Whether any freezer holds it.
pub(super) fn frozen(payload: &Option<PathBuf>, joins: &[PathBuf]) -> Result<bool, ShimError> {
    for file in wishes(payload) {
        if is_wished(&file)? {
            return Ok(true);
        }
    }
    if let Some(payload) = payload
        && stands_still(payload)?
    {
        return Ok(true);
    }
    let Some(folder) = first_version(joins) else {
        return Ok(false);
    };
    Ok(path_io::read_to_string(folder.join("freezer.state"))?.trim() != "THAWED")
}

/// Whether every process of a cgroup 2 folder has stopped, by a freezer there or anywhere above.
pub(in crate::native) fn stands_still(folder: &Path) -> Result<bool, ShimError> {
    let events = path_io::read_to_string(folder.join("cgroup.events"))?;
    Ok(events.lines().any(|line| line == "frozen 1"))
}

/// `cgroup.events` says when the last process has stopped, and wakes whoever polls it (cgroup-v2.rst).
fn wait_until_frozen(payload: &Path) -> Result<(), ShimError> {
    let path = payload.join("cgroup.events");
    let file = rustix::fs::open(&path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
        .at("open", &path)?;
    let patience = Timespec::try_from(PATIENCE).ok();
    loop {
        let mut bytes = [0; 256];
        let length = rustix::io::pread(&file, &mut bytes, 0).at("read", &path)?;
        let text = String::from_utf8_lossy(&bytes[..length]).into_owned();
        if text
            .lines()
            .any(|line| line == "frozen 1" || line == "populated 0")
        {
            return Ok(());
        }
        let mut sources = [PollFd::new(&file, PollFlags::PRI)];
        match rustix::event::poll(&mut sources, patience.as_ref()) {
            Err(rustix::io::Errno::INTR) => {}
            Ok(0) => {
                return Err(ShimError::TimedOut {
                    what: "the freeze",
                    after: PATIENCE,
                });
            }
            other => {
                other.at("wait for", &path)?;
            }
        }
    }
}
