//! From a plan to the message that the companion gets, and the list of what has to be opened for it. No effects.

use std::path::PathBuf;

use super::capabilities::bounding_set;
use super::plan::{
    ContainerPlan, FilePlan, IdSpan, LimitPlan, MountSource, ProgramPlan, Propagation, RootPlan,
};
use super::start::ContainerError;
use crate::shim::messages::{
    Confinement, Device, Fd, File, IdRange, Mount, Mounted, Opened, Program, ResourceLimit, Root,
    Start, Sysctl, TimeOffsets,
};
use crate::shim::place;
use crate::sys::mount::{NODEV, NOSUID, READ_ONLY};

/// How a path of the host is opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum How {
    /// `O_PATH`, a link is followed.
    Handle,
    /// `O_PATH | O_DIRECTORY`, a link is refused.
    Folder,
    /// For writing: a file of a cgroup.
    Write,
    /// A new node like this one, with another owner and mode.
    Node {
        /// `S_IFCHR` or `S_IFBLK`.
        kind: u32,
        /// Number of the device.
        numbers: (u32, u32),
        /// The host's ids.
        owner: (u32, u32),
        /// Permission bits.
        mode: u32,
    },
}

/// A message, and the paths whose descriptors go with it, in order.
#[derive(Debug)]
pub(super) struct Ordered {
    /// For the companion.
    pub start: Start,
    /// To be opened.
    pub open: Vec<(PathBuf, How)>,
}

#[derive(Default)]
struct Opening(Vec<(PathBuf, How)>);

impl Opening {
    fn fd(&mut self, path: PathBuf, how: How) -> Fd {
        let index = u32::try_from(self.0.len()).unwrap_or(u32::MAX);
        self.0.push((path, how));
        Fd { index }
    }

    fn opened(&mut self, path: PathBuf, how: How) -> Opened {
        let name = path.display().to_string();
        Opened {
            fd: self.fd(path, how),
            path: name,
        }
    }
}

/// Settles a plan; `seccomp` is its compiled filter.
///
/// # Errors
/// Something in it cannot be meant: a relative target, an empty command, an unknown limit or capability.
pub(super) fn order(
    plan: &ContainerPlan,
    boot_id: &str,
    seccomp: Vec<u8>,
) -> Result<Ordered, ContainerError> {
    let mut opening = Opening::default();
    let privileged = plan.ids.is_none();
    let run_dir = opening.fd(plan.run_dir.clone(), How::Folder);
    let payload = plan.cgroups.payload.as_ref();
    let cgroup2 = payload.map(|path| opening.opened(path.clone(), How::Folder));
    let mut tasks = |folders: &[PathBuf]| -> Vec<Opened> {
        folders
            .iter()
            .map(|folder| opening.opened(folder.join("tasks"), How::Write))
            .collect()
    };
    let joins = tasks(&plan.cgroups.joins);
    let monitors = tasks(&plan.cgroups.monitors);
    let monitor = plan.cgroups.monitor.as_ref();
    let monitor = monitor.map(|path| opening.opened(path.clone(), How::Folder));
    let root = match &plan.root {
        RootPlan::Tree(path) => Root::Tree {
            tree: opening.opened(path.clone(), How::Folder),
        },
        RootPlan::Overlay { layers, writable } => Root::Overlay {
            layers: layers
                .iter()
                .map(|path| opening.opened(path.clone(), How::Folder))
                .collect(),
            writable: opening.opened(writable.clone(), How::Folder),
        },
    };
    let mounts = plan
        .mounts
        .iter()
        .map(|mount| {
            check_target(&mount.target)?;
            let mut attributes = 0;
            if mount.read_only {
                attributes |= READ_ONLY;
            }
            if mount.nosuid_nodev {
                attributes |= NOSUID | NODEV;
            }
            Ok(Mount {
                target: mount.target.clone(),
                what: mounted(&mount.what, &mut opening),
                attributes,
            })
        })
        .collect::<Result<_, ContainerError>>()?;
    let devices = plan
        .devices
        .iter()
        .map(|device| {
            check_target(&device.target)?;
            let kind = if device.block {
                libc::S_IFBLK
            } else {
                libc::S_IFCHR
            };
            let how = match device.owner {
                None => How::Handle,
                Some(owner) => How::Node {
                    kind,
                    numbers: (device.major, device.minor),
                    owner: host_ids(plan, owner.uid, owner.gid)?,
                    mode: owner.mode,
                },
            };
            Ok(Device {
                node: opening.opened(device.path.clone(), how),
                target: device.target.clone(),
                kind,
                major: device.major,
                minor: device.minor,
            })
        })
        .collect::<Result<_, ContainerError>>()?;
    let files = plan.files.iter().map(file).collect::<Result<_, _>>()?;
    let spans = |spans: Option<&Vec<IdSpan>>| -> Vec<IdRange> {
        spans
            .into_iter()
            .flatten()
            .map(|span| IdRange {
                inside: span.inside,
                outside: span.outside,
                length: span.length,
            })
            .collect()
    };
    let start = Start {
        name: plan.name.clone(),
        generation: plan.generation,
        boot_id: boot_id.to_owned(),
        run_dir,
        privileged,
        uid_map: spans(plan.ids.as_ref().map(|ids| &ids.users)),
        gid_map: spans(plan.ids.as_ref().map(|ids| &ids.groups)),
        time: plan.time.map(|time| TimeOffsets {
            monotonic_seconds: time.monotonic,
            boottime_seconds: time.boottime,
        }),
        cgroup2,
        joins,
        monitors,
        monitor,
        root,
        mounts,
        devices,
        files,
        proc: plan.proc.clone(),
        sys: plan.sys.clone(),
        cgroup: plan.cgroup.clone(),
        hostname: plan.hostname.clone(),
        sysctls: plan
            .sysctls
            .iter()
            .map(|(name, value)| Sysctl {
                name: name.clone(),
                value: value.clone(),
            })
            .collect(),
        confinement: confinement(plan, seccomp)?,
        init: program(&plan.command)?,
        restart: plan.restart.clone(),
    };
    Ok(Ordered {
        start,
        open: opening.0,
    })
}

/// A file as the companion wants it.
///
/// # Errors
/// Its path is none in the container.
pub(super) fn file(file: &FilePlan) -> Result<File, ContainerError> {
    check_target(&file.target)?;
    Ok(File {
        target: file.target.clone(),
        content: file.content.clone(),
        mode: file.mode & 0o7777,
        uid: file.uid,
        gid: file.gid,
        create_parents: file.create_parents,
        only_if_absent: file.only_if_absent,
        ours: file.ours.clone(),
    })
}

fn check_target(target: &str) -> Result<(), ContainerError> {
    place::names(target).map(drop).map_err(|_| {
        ContainerError::Plan(format!(
            "{target:?} is no absolute path without .. in the container"
        ))
    })
}

fn mounted(source: &MountSource, opening: &mut Opening) -> Mounted {
    match source {
        MountSource::Bind {
            path,
            shift,
            recursive,
            propagation,
        } => Mounted::Bind {
            source: opening.opened(path.clone(), How::Handle),
            shift: *shift,
            recursive: *recursive,
            propagation: match propagation {
                Propagation::Private => libc::MS_PRIVATE,
                Propagation::Slave => libc::MS_SLAVE,
                Propagation::Shared => libc::MS_SHARED,
            },
        },
        MountSource::Tmpfs { size, mode } => {
            let option = |name: &str, value: String| Sysctl {
                name: name.to_owned(),
                value,
            };
            let mut options = vec![option("mode", format!("{mode:o}"))];
            options.extend(size.map(|size| option("size", size.to_string())));
            Mounted::Tmpfs { options }
        }
    }
}

/// The host's ids of two ids of the container.
fn host_ids(plan: &ContainerPlan, uid: u32, gid: u32) -> Result<(u32, u32), ContainerError> {
    let Some(ids) = &plan.ids else {
        return Ok((uid, gid));
    };
    let find = |spans: &[IdSpan], id: u32| {
        spans
            .iter()
            .find(|span| id >= span.inside && id - span.inside < span.length)
            .map(|span| span.outside + (id - span.inside))
            .ok_or_else(|| ContainerError::Plan(format!("the container has no id {id}")))
    };
    Ok((find(&ids.users, uid)?, find(&ids.groups, gid)?))
}

/// What holds init and everything executed later.
fn confinement(plan: &ContainerPlan, seccomp: Vec<u8>) -> Result<Confinement, ContainerError> {
    let capabilities = bounding_set(&plan.capabilities, plan.ids.is_none())
        .map_err(|error| ContainerError::Plan(error.to_string()))?;
    let limits = plan.limits.iter().map(limit).collect::<Result<_, _>>()?;
    Ok(Confinement {
        capabilities,
        seccomp,
        limits,
    })
}

/// Names of `RLIMIT_…` (`getrlimit(2)`).
const LIMITS: [(&str, u32); 16] = [
    ("as", libc::RLIMIT_AS),
    ("core", libc::RLIMIT_CORE),
    ("cpu", libc::RLIMIT_CPU),
    ("data", libc::RLIMIT_DATA),
    ("fsize", libc::RLIMIT_FSIZE),
    ("locks", libc::RLIMIT_LOCKS),
    ("memlock", libc::RLIMIT_MEMLOCK),
    ("msgqueue", libc::RLIMIT_MSGQUEUE),
    ("nice", libc::RLIMIT_NICE),
    ("nofile", libc::RLIMIT_NOFILE),
    ("nproc", libc::RLIMIT_NPROC),
    ("rss", libc::RLIMIT_RSS),
    ("rtprio", libc::RLIMIT_RTPRIO),
    ("rttime", libc::RLIMIT_RTTIME),
    ("sigpending", libc::RLIMIT_SIGPENDING),
    ("stack", libc::RLIMIT_STACK),
];

/// A limit of a process as the companion wants it.
///
/// # Errors
/// There is none of that name.
pub(in crate::native) fn limit(limit: &LimitPlan) -> Result<ResourceLimit, ContainerError> {
    let (name, resource) = LIMITS
        .iter()
        .find(|(name, _)| *name == limit.name)
        .ok_or_else(|| {
            ContainerError::Plan(format!("no resource limit is named {}", limit.name))
        })?;
    Ok(ResourceLimit {
        resource: *resource,
        name: (*name).to_owned(),
        soft: limit.soft.unwrap_or(u64::MAX),
        hard: limit.hard.unwrap_or(u64::MAX),
    })
}

/// A program as the companion wants it.
///
/// # Errors
/// No arguments, a zero byte, or a variable name with `=`.
pub(in crate::native) fn program(plan: &ProgramPlan) -> Result<Program, ContainerError> {
    if plan.arguments.first().is_none_or(String::is_empty) {
        return Err(ContainerError::Plan("the command is empty".to_owned()));
    }
    let no_zero = |text: &str| {
        if text.contains('\0') {
            return Err(ContainerError::Plan(format!("{text:?} has a zero byte")));
        }
        Ok(text.as_bytes().to_vec())
    };
    let environment = plan.environment.iter().map(|(name, value)| {
        if name.is_empty() || name.contains('=') {
            return Err(ContainerError::Plan(format!(
                "{name:?} is no name of a variable"
            )));
        }
        no_zero(&format!("{name}={value}"))
    });
    if !plan.directory.starts_with('/') {
        return Err(ContainerError::Plan(format!(
            "the working folder {:?} is not absolute",
            plan.directory
        )));
    }
    Ok(Program {
        arguments: plan
            .arguments
            .iter()
            .map(|text| no_zero(text))
            .collect::<Result<_, _>>()?,
        environment: environment.collect::<Result<_, _>>()?,
        directory: no_zero(&plan.directory)?,
        uid: plan.uid,
        gid: plan.gid,
        groups: plan.groups.clone(),
    })
}
