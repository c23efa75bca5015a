//! Everything a start needs, as plain data. Nothing here knows manifests; paths are the host's unless said otherwise.

use std::path::PathBuf;

use crate::native::container::capabilities::Capabilities;
use crate::native::container::seccomp::Seccomp;
use crate::shim::messages::{Access, Restart};

/// One start of one container.
#[derive(Debug, Clone)]
pub struct ContainerPlan {
    /// Shown by `ps` and in errors.
    pub name: String,
    /// Written into the state file, so that the instance is found again.
    pub uid: String,
    /// Number of this start; the exit record carries it.
    pub generation: u64,
    /// The instance's run folder: exists, 0700, on a tmpfs. Holds control socket, state, exit record and console log.
    pub run_dir: PathBuf,
    /// Host name in the container.
    pub hostname: String,
    /// What becomes `/`.
    pub root: RootPlan,
    /// The ids of the container; absent: privileged, no user namespace.
    pub ids: Option<IdMap>,
    /// Where its processes are counted.
    pub cgroups: CgroupPlan,
    /// After the engine's own /proc, /sys, /dev, in this order.
    pub mounts: Vec<MountPlan>,
    /// Nodes in the container's /dev beyond null, zero, full, random, urandom, tty, console and ptmx.
    pub devices: Vec<DevicePlan>,
    /// Written before the first program runs, as the container's root and without following its links.
    pub files: Vec<FilePlan>,
    /// How /proc/sys can be written.
    pub proc: Access,
    /// How /sys can be written.
    pub sys: Access,
    /// How /sys/fs/cgroup can be written.
    pub cgroup: Access,
    /// The container's PID 1.
    pub command: ProgramPlan,
    /// Capabilities that the container may ever have.
    pub capabilities: Capabilities,
    /// System calls; absent: no filter.
    pub seccomp: Option<Seccomp>,
    /// Where compiled filters are kept for the next start; absent: nowhere.
    pub filters: Option<PathBuf>,
    /// What the host does not grant comes back as a warning.
    pub limits: Vec<LimitPlan>,
    /// Name and value, for instance `net.ipv4.ip_forward` and `1`; written after the network is plugged.
    pub sysctls: Vec<(String, String)>,
    /// Clock offsets in seconds; absent: the host's clocks.
    pub time: Option<TimePlan>,
    /// The companion starts it again after a reboot, and if asked after an accident; absent: never.
    pub restart: Option<Restart>,
}

/// What becomes `/`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RootPlan {
    /// Read-only layers, the uppermost first, below a writable folder that holds `upper` and `work`.
    Overlay {
        /// Unpacked with the owners of the image (unshifted).
        layers: Vec<PathBuf>,
        /// Of this instance alone; `upper` and `work` are made where they are missing.
        writable: PathBuf,
    },
    /// One writable tree, for instance a subvolume, with unshifted owners.
    Tree(PathBuf),
}

/// Ids of a container in ids of the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdMap {
    /// User ids.
    pub users: Vec<IdSpan>,
    /// Group ids.
    pub groups: Vec<IdSpan>,
}

impl IdMap {
    /// One span for both, from id 0 of the container on.
    pub fn span(base: u32, length: u32) -> Self {
        let span = vec![IdSpan {
            inside: 0,
            outside: base,
            length,
        }];
        Self {
            users: span.clone(),
            groups: span,
        }
    }

    /// As [`IdMap::span`], with single stretches of the container's ids taken from elsewhere on the host.
    ///
    /// # Errors
    /// Two of the stretches overlap, in the container or on the host: the kernel refuses such a map.
    pub fn with(
        base: u32,
        length: u32,
        users: &[IdSpan],
        groups: &[IdSpan],
    ) -> Result<Self, String> {
        Ok(Self {
            users: cut(base, length, users)?,
            groups: cut(base, length, groups)?,
        })
    }

    /// The host's ids of the container's root, user and group.
    pub fn root(&self) -> Option<(u32, u32)> {
        let zero = |spans: &[IdSpan]| {
            spans
                .iter()
                .find(|span| span.inside == 0)
                .map(|span| span.outside)
        };
        Some((zero(&self.users)?, zero(&self.groups)?))
    }
}

/// `length` ids from `inside` on are the host's from `outside` on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IdSpan {
    /// First id in the container.
    pub inside: u32,
    /// First id on the host.
    pub outside: u32,
    /// How many.
    pub length: u32,
}

/// One span with stretches cut out and put in from elsewhere.
fn cut(base: u32, length: u32, extra: &[IdSpan]) -> Result<Vec<IdSpan>, String> {
    let mut extra = extra.to_vec();
    extra.sort_by_key(|span| span.inside);
    let mut spans = Vec::new();
    let mut next = 0;
    for span in &extra {
        let end = span
            .inside
            .checked_add(span.length)
            .ok_or_else(|| format!("ids {} and above end too late", span.inside))?;
        if span.inside < next
            && spans
                .last()
                .is_some_and(|last: &IdSpan| last.inside + last.length > span.inside)
        {
            return Err(format!(
                "id {} of the instance is mapped twice",
                span.inside
            ));
        }
        if span.inside.min(length) > next {
            spans.push(IdSpan {
                inside: next,
                outside: base + next,
                length: span.inside.min(length) - next,
            });
        }
        spans.push(*span);
        next = next.max(end);
    }
    if next < length {
        spans.push(IdSpan {
            inside: next,
            outside: base + next,
            length: length - next,
        });
    }
    let mut on_host: Vec<&IdSpan> = spans.iter().collect();
    on_host.sort_by_key(|span| span.outside);
    for pair in on_host.windows(2) {
        let end = u64::from(pair[0].outside) + u64::from(pair[0].length);
        if u64::from(pair[1].outside) < end {
            return Err(format!(
                "id {} of the host is mapped twice",
                pair[1].outside
            ));
        }
    }
    Ok(spans)
}

/// Cgroup folders that exist.
#[derive(Debug, Clone, Default)]
pub struct CgroupPlan {
    /// The cgroup 2 folder that the container is born in and sees as its root; its life cycle (kill, freeze) is done
    /// there. Absent where no cgroup 2 is mounted.
    pub payload: Option<PathBuf>,
    /// Cgroup 1 folders that init is moved into.
    pub joins: Vec<PathBuf>,
    /// Cgroup 1 folders that the companion moves itself into.
    pub monitors: Vec<PathBuf>,
    /// The cgroup 2 folder that the companion is born in.
    pub monitor: Option<PathBuf>,
    /// Give `payload` to the container's root, with these bounds.
    pub delegate: Option<Delegation>,
}

/// What a container may do with the cgroup 2 folder that it is given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Delegation {
    /// `cgroup.max.descendants`.
    pub descendants: u32,
    /// `cgroup.max.depth`.
    pub depth: u32,
}

/// One mount.
#[derive(Debug, Clone)]
pub struct MountPlan {
    /// Absolute path in the container; missing folders are made, a link as last name is replaced.
    pub target: String,
    /// What is mounted.
    pub what: MountSource,
    /// Mount read-only. A container's root cannot undo it for a bind.
    pub read_only: bool,
    /// Ignore set-user-id bits and device nodes.
    pub nosuid_nodev: bool,
}

/// What is mounted.
#[derive(Debug, Clone)]
pub enum MountSource {
    /// A file or folder of the host.
    Bind {
        /// Must exist. A link is followed: the manifest's author decides on the host's side.
        path: PathBuf,
        /// Owners shifted by the container's map, so that the host's root shows as the container's.
        shift: bool,
        /// With what is mounted below it.
        recursive: bool,
        /// Between host and container.
        propagation: Propagation,
    },
    /// A tmpfs.
    Tmpfs {
        /// In bytes; absent: the kernel's half of the memory.
        size: Option<u64>,
        /// Permission bits of its top.
        mode: u32,
    },
}

/// Whether mounts made later on one side show on the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Propagation {
    /// Never.
    #[default]
    Private,
    /// The host's in the container.
    Slave,
    /// In both.
    Shared,
}

/// A device node of the host for the container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DevicePlan {
    /// The node on the host.
    pub path: PathBuf,
    /// Absolute path in the container.
    pub target: String,
    /// Block device, else character device.
    pub block: bool,
    /// Expected number: a node that became another device is refused.
    pub major: u32,
    /// Expected number.
    pub minor: u32,
    /// Owner and mode in the container; absent: those of the host's node, which an unprivileged container sees as
    /// nobody's.
    pub owner: Option<DeviceOwner>,
}

/// Owner and mode of a device node in the container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeviceOwner {
    /// Id in the container.
    pub uid: u32,
    /// Id in the container.
    pub gid: u32,
    /// Permission bits.
    pub mode: u32,
}

/// A file of the container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FilePlan {
    /// Absolute path in the container. A link there is replaced; the links of its folders are followed inside the root.
    pub target: String,
    /// All of it.
    pub content: Vec<u8>,
    /// Permission bits.
    pub mode: u32,
    /// Id in the container.
    pub uid: u32,
    /// Id in the container.
    pub gid: u32,
    /// Make missing folders (0755, root).
    pub create_parents: bool,
    /// Leave what is there alone, unless it is a link or begins with `ours`.
    pub only_if_absent: bool,
    /// How a file begins that may be replaced in any case; empty: none.
    pub ours: Vec<u8>,
}

/// A program in the container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProgramPlan {
    /// Argument vector; the first is looked up in `PATH` where it has no slash.
    pub arguments: Vec<String>,
    /// Exactly these. `container=` should be among them: systemd looks for it.
    pub environment: Vec<(String, String)>,
    /// Absolute path in the container.
    pub directory: String,
    /// Id in the container.
    pub uid: u32,
    /// Id in the container.
    pub gid: u32,
    /// Ids in the container.
    pub groups: Vec<u32>,
}

/// One resource limit (`setrlimit(2)`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LimitPlan {
    /// Lower case, without `RLIMIT_`: `nofile`.
    pub name: String,
    /// In the unit of the resource; absent: unlimited.
    pub soft: Option<u64>,
    /// In the unit of the resource; absent: unlimited.
    pub hard: Option<u64>,
}

/// Offsets of the container's clocks, in seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TimePlan {
    /// Added to the monotonic clock.
    pub monotonic: i64,
    /// Added to the boot-time clock.
    pub boottime: i64,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn span(inside: u32, outside: u32, length: u32) -> IdSpan {
        IdSpan {
            inside,
            outside,
            length,
        }
    }

    #[test]
    fn stretches_are_cut_out_of_the_span() {
        for (extra, expected) in [
            (vec![], vec![span(0, 100, 10)]),
            (
                vec![span(4, 1000, 2)],
                vec![span(0, 100, 4), span(4, 1000, 2), span(6, 106, 4)],
            ),
            (
                vec![span(0, 1000, 1)],
                vec![span(0, 1000, 1), span(1, 101, 9)],
            ),
            (
                vec![span(9, 1000, 3), span(20, 2000, 1)],
                vec![span(0, 100, 9), span(9, 1000, 3), span(20, 2000, 1)],
            ),
            (
                vec![span(3, 1000, 1), span(2, 999, 1)],
                vec![
                    span(0, 100, 2),
                    span(2, 999, 1),
                    span(3, 1000, 1),
                    span(4, 104, 6),
                ],
            ),
        ] {
            assert_eq!(cut(100, 10, &extra), Ok(expected), "{extra:?}");
        }
        for extra in [
            vec![span(1, 1000, 2), span(2, 2000, 1)],
            vec![span(1, 1000, 1), span(5, 1000, 1)],
            vec![span(1, 105, 1)],
            vec![span(u32::MAX, 1, 2)],
        ] {
            assert!(cut(100, 10, &extra).is_err(), "{extra:?}");
        }
    }
}
