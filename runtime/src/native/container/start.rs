//! Starting a container: keel's side of the talk with the companion.

use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use manifests::path_io::{self, AtPath as _, PathError};
use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags};
use rustix::process::Pid;

use super::filter_cache;
use super::order::{How, order};
use super::plan::{ContainerPlan, RootPlan};
use super::seccomp::SeccompError;
use super::talk::Coming;
use crate::native::shim::state::{self, SavedState};
use crate::native::shim::{self as client, Found, ShimError};
use crate::shim::channel::ChannelError;
use crate::shim::messages::{Confinement, Event, Order};
use crate::sys::held_process::HeldProcess;

/// Why a container was not started; nothing of it is left then but the folders that were there before.
#[derive(Debug, thiserror::Error)]
pub enum ContainerError {
    /// The plan cannot be meant.
    #[error("{0}")]
    Plan(String),
    /// A file of the host.
    #[error(transparent)]
    Path(#[from] PathError),
    /// The system call filter.
    #[error(transparent)]
    Seccomp(#[from] SeccompError),
    /// The companion could not be executed.
    #[error("execute {}", program.display())]
    Spawn {
        /// Its path.
        program: PathBuf,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The companion ended or speaks another version.
    #[error("talk to keel-shim")]
    Channel(#[source] ChannelError),
    /// The companion said something out of turn.
    #[error("keel-shim does not follow the protocol")]
    Protocol,
    /// A call in the companion or in the new container.
    #[error("{doing}")]
    Failed {
        /// The call and what it was made on.
        doing: String,
        /// The kernel's answer.
        source: io::Error,
    },
    /// What runs could not be asked.
    #[error(transparent)]
    Shim(ShimError),
    /// It was started already.
    #[error("the container runs already")]
    Runs,
    /// It is frozen.
    #[error("the container is frozen")]
    Frozen,
    /// Files could not be written within their time.
    #[error("the container's file system did not answer in time")]
    TooSlow,
    /// The caller could not plug the network in.
    #[error("plug the network in")]
    Plug(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// How long a companion may take to leave.
const LEAVING: Duration = Duration::from_secs(10);

/// What `plug` may answer.
pub type PlugError = Box<dyn std::error::Error + Send + Sync>;

/// A container that runs.
#[derive(Debug)]
pub struct Started {
    /// Init, in the host's view.
    pub init: Pid,
    /// Field 22 of its `/proc/PID/stat`, in clock ticks since boot.
    pub start_time: u64,
    /// The companion.
    pub shim: Pid,
    /// What the host did not grant, for people.
    pub warnings: Vec<String>,
}

/// Starts a container. `companion` is a `keel-shim` that comes up. `plug` is called with init while it waits: move interfaces
/// into its network namespace there.
///
/// The state file is in the run folder before the first program runs, so a caller that dies at any moment leaves either
/// no process or one that `adopt` finds.
///
/// # Errors
/// As [`ContainerError`] says; every process that was started has then ended.
pub fn start(
    plan: &ContainerPlan,
    companion: Coming,
    plug: &mut dyn FnMut(HeldProcess<'_>) -> Result<(), PlugError>,
) -> Result<Started, ContainerError> {
    let filter = match &plan.seccomp {
        Some(policy) => filter_cache::filter(policy, plan.filters.as_deref())?,
        None => Vec::new(),
    };
    let boot_id = state::boot_id()?;
    let ordered = order(plan, &boot_id, filter)?;
    make_way(&plan.run_dir)?;
    prepare(plan)?;
    let opened = ordered
        .open
        .iter()
        .map(|(path, how)| open(path, *how, &plan.run_dir))
        .collect::<Result<Vec<OwnedFd>, PathError>>()?;
    let borrowed: Vec<BorrowedFd<'_>> = opened.iter().map(|fd| fd.as_fd()).collect();
    let confinement = ordered.start.confinement.clone();
    let order = Order::Start {
        start: Box::new(ordered.start),
    };
    let saved = SavedState::of_container(plan, &boot_id);
    begin(
        companion,
        &order,
        &borrowed,
        &plan.run_dir,
        (saved, &confinement),
        plug,
    )
}

/// Gives a companion its order and sees it obeyed. What is `saved` is in the run folder before the first program runs.
///
/// # Errors
/// As [`start`].
pub fn begin(
    companion: Coming,
    order: &Order,
    descriptors: &[BorrowedFd<'_>],
    run_dir: &Path,
    (saved, confinement): (SavedState, &Confinement),
    plug: &mut dyn FnMut(HeldProcess<'_>) -> Result<(), PlugError>,
) -> Result<Started, ContainerError> {
    let mut talk = companion.talk()?;
    talk.order(order, descriptors)?;
    let (event, descriptors) = talk.hear()?;
    let Event::Cloned { init, shim } = event else {
        return Err(talk.out_of_turn(event));
    };
    let pidfd = descriptors.into_iter().next();
    let (Some(init), Some(shim), Some(pidfd)) = (Pid::from_raw(init), Pid::from_raw(shim), pidfd)
    else {
        return Err(ContainerError::Protocol);
    };
    let written = saved.born(init, shim).and_then(|saved| {
        saved.write(run_dir, confinement)?;
        Ok(saved.start_time)
    });
    let ready = written
        .map_err(ContainerError::Path)
        .and_then(|start_time| {
            let init = HeldProcess {
                pid: init,
                pidfd: pidfd.as_fd(),
            };
            // Into one that has ended nothing can be plugged: why it has is what helps.
            plug(init)
                .map_err(|error| talk.why_ended(init).unwrap_or(ContainerError::Plug(error)))?;
            Ok(start_time)
        });
    let result = match ready {
        Ok(start_time) => talk.go().map(|warnings| Started {
            init,
            start_time,
            shim,
            warnings,
        }),
        Err(error) => {
            talk.abandon();
            Err(error)
        }
    };
    if result.is_err() {
        state::remove(run_dir)?;
    }
    result
}

/// A companion that waits to start the instance again must not do so beside this start.
///
/// # Errors
/// It runs, or the companion does not leave.
pub fn make_way(run_dir: &Path) -> Result<(), ContainerError> {
    if let Found::Running(_) = client::adopt(run_dir).map_err(ContainerError::Shim)? {
        return Err(ContainerError::Runs);
    }
    client::stop_restarting(run_dir, LEAVING).map_err(ContainerError::Shim)
}

/// Folders and files that keel makes itself before the companion starts.
fn prepare(plan: &ContainerPlan) -> Result<(), PathError> {
    if let RootPlan::Overlay { writable, .. } = &plan.root {
        for name in ["upper", "work"] {
            let path = writable.join(name);
            match rustix::fs::mkdir(&path, Mode::from_raw_mode(0o755)) {
                Err(rustix::io::Errno::EXIST) => {}
                // The umask of whoever called must not decide the mode of the container's root.
                Ok(()) => rustix::fs::chmod(&path, Mode::from_raw_mode(0o755))
                    .at("set the mode of", path)?,
                Err(error) => Err(error).at("create", path)?,
            }
        }
    }
    // The record of an earlier start must not be taken for one of this.
    state::remove(&plan.run_dir)?;
    if let (Some(payload), Some(bounds)) = (&plan.cgroups.payload, plan.cgroups.delegate) {
        let owner = match &plan.ids {
            Some(ids) => ids.root(),
            None => Some((0, 0)),
        };
        delegate(payload, bounds, owner)?;
    }
    Ok(())
}

/// Gives a cgroup 2 folder to the container's root, as cgroup-v2.rst ("Model of Delegation") has it: the folder and the
/// files that move processes and pass controllers on, never the limits.
fn delegate(
    payload: &Path,
    bounds: super::plan::Delegation,
    owner: Option<(u32, u32)>,
) -> Result<(), PathError> {
    let bound =
        |file: &str, value: u32| path_io::write_kernel_file(payload.join(file), &value.to_string());
    bound("cgroup.max.descendants", bounds.descendants)?;
    bound("cgroup.max.depth", bounds.depth)?;
    let Some((uid, gid)) = owner else {
        return Ok(());
    };
    for file in [
        "",
        "cgroup.procs",
        "cgroup.threads",
        "cgroup.subtree_control",
    ] {
        let path = payload.join(file);
        let (uid, gid) = (
            rustix::fs::Uid::from_raw(uid),
            rustix::fs::Gid::from_raw(gid),
        );
        rustix::fs::chown(&path, Some(uid), Some(gid)).at("change the owner of", path)?;
    }
    Ok(())
}

fn open(path: &Path, how: How, run_dir: &Path) -> Result<OwnedFd, PathError> {
    let base = OFlags::CLOEXEC;
    let opened = match how {
        How::Handle => rustix::fs::open(path, base | OFlags::PATH, Mode::empty()),
        How::Folder => {
            let flags = base | OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW;
            rustix::fs::open(path, flags, Mode::empty())
        }
        How::Write => rustix::fs::open(path, base | OFlags::WRONLY, Mode::empty()),
        How::Node {
            kind,
            numbers: (major, minor),
            owner: (uid, gid),
            mode,
        } => {
            return make_node(run_dir, kind, (major, minor), (uid, gid), mode);
        }
    };
    opened.at("open", path)
}

/// Makes a device node in a run folder and opens it: its owner and mode are those that a container will see.
///
/// # Errors
/// The kernel's answer.
pub fn make_node(
    run_dir: &Path,
    kind: u32,
    (major, minor): (u32, u32),
    (uid, gid): (u32, u32),
    mode: u32,
) -> Result<OwnedFd, PathError> {
    let node = run_dir.join(format!(
        "node-{kind:o}-{major}-{minor}-{uid}-{gid}-{mode:o}"
    ));
    let make = || {
        match rustix::fs::unlink(&node) {
            Err(rustix::io::Errno::NOENT) => Ok(()),
            other => other,
        }?;
        let device = rustix::fs::makedev(major, minor);
        let mode = Mode::from_raw_mode(mode & 0o777);
        rustix::fs::mknodat(CWD, &node, FileType::from_raw_mode(kind), mode, device)?;
        let (uid, gid) = (
            rustix::fs::Uid::from_raw(uid),
            rustix::fs::Gid::from_raw(gid),
        );
        rustix::fs::chownat(CWD, &node, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)?;
        rustix::fs::chmod(&node, mode)?;
        // The name stays in the run folder, which only root may enter: what has none cannot be mounted.
        rustix::fs::open(&node, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())
    };
    make().at("make", &node)
}
