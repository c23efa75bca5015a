//! The limits of one instance as plain data, what was seen of them, and what can go wrong with one.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use manifests::path_io::PathError;
use serde::{Deserialize, Serialize};

use super::cpu_list::CpuList;

/// Everything the kernel is asked to limit for one instance through cgroup files.
///
/// The defaults limit nothing and are those of Incus: full CPU share at priority 10, disk priority 5, swap allowed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Limits {
    /// Which CPUs.
    pub cpuset: CpuPlacement,
    /// How much of them.
    pub cpu: CpuShare,
    /// Memory and swap.
    pub memory: MemoryLimit,
    /// Huge pages: bytes by page size in bytes. A size that is not named is unlimited.
    pub hugepages: BTreeMap<u64, u64>,
    /// How many processes and threads at once; `None` is unlimited.
    pub processes: Option<u64>,
    /// Disks.
    pub io: IoLimits,
}

/// Which CPUs and memory nodes the instance runs on.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CpuPlacement {
    /// The CPUs.
    pub cpus: CpuChoice,
    /// The NUMA nodes whose CPUs and memory are used; `None` is all.
    pub nodes: Option<CpuList>,
}

/// Which CPUs.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum CpuChoice {
    /// Every CPU of the host.
    #[default]
    All,
    /// So many, the least used ones are chosen.
    Count(u32),
    /// Exactly these.
    Set(CpuList),
}

/// How much CPU time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CpuShare {
    /// The share when CPUs are contended, or a fixed quota.
    pub allowance: CpuAllowance,
    /// 0 to 10: who goes first among instances of the same allowance.
    pub priority: u8,
}

impl Default for CpuShare {
    fn default() -> Self {
        Self {
            allowance: CpuAllowance::default(),
            priority: 10,
        }
    }
}

/// How CPU time is allotted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum CpuAllowance {
    /// A share relative to the other instances, 1 to 100 percent; only counts while CPUs are contended.
    Soft(u8),
    /// At most `quota` microseconds of CPU time in each `period` microseconds, also on an idle host. The kernel
    /// takes quotas from 1 ms and periods from 1 ms to 1 s.
    Hard {
        /// Microseconds of CPU time, all CPUs together.
        quota: u64,
        /// Microseconds of wall clock.
        period: u64,
    },
}

impl Default for CpuAllowance {
    fn default() -> Self {
        Self::Soft(100)
    }
}

/// How much memory.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemoryLimit {
    /// Bytes; `None` is unlimited.
    pub bytes: Option<u64>,
    /// What happens at the limit.
    pub enforce: Enforce,
    /// Swap on top of it.
    pub swap: Swap,
}

/// What happens at a memory limit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Enforce {
    /// Never more than the limit: the kernel reclaims, then kills inside the instance.
    #[default]
    Hard,
    /// More while the host has plenty: the kernel reclaims and slows down, never kills for it.
    Soft,
}

/// How much swap.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Swap {
    /// What the host has.
    #[default]
    Allowed,
    /// None.
    Forbidden,
    /// At most so many bytes, more than 0.
    Bytes(u64),
}

/// Disks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct IoLimits {
    /// 0 to 10: the weight among instances when a disk is contended.
    pub priority: u8,
    /// Limits of single block devices; a device that is not named is unlimited.
    pub devices: BTreeMap<BlockDevice, DeviceIo>,
}

impl Default for IoLimits {
    fn default() -> Self {
        Self {
            priority: 5,
            devices: BTreeMap::new(),
        }
    }
}

/// A whole block device by its numbers (the kernel throttles disks, not partitions: see [`super::io::whole_disk`]).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct BlockDevice {
    /// Major number.
    pub major: u32,
    /// Minor number.
    pub minor: u32,
}

impl fmt::Display for BlockDevice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.major, self.minor)
    }
}

impl From<BlockDevice> for String {
    fn from(device: BlockDevice) -> Self {
        device.to_string()
    }
}

impl TryFrom<String> for BlockDevice {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.trim()
            .split_once(':')
            .and_then(|(major, minor)| {
                Some(Self {
                    major: major.parse().ok()?,
                    minor: minor.parse().ok()?,
                })
            })
            .ok_or_else(|| format!("{text:?} is not major:minor"))
    }
}

/// Limits of one block device; `None` is unlimited.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceIo {
    /// Bytes read in a second.
    pub read_bytes: Option<u64>,
    /// Bytes written in a second.
    pub write_bytes: Option<u64>,
    /// Reads in a second.
    pub read_operations: Option<u64>,
    /// Writes in a second.
    pub write_operations: Option<u64>,
}

impl DeviceIo {
    /// Whether nothing is limited.
    pub fn is_unlimited(&self) -> bool {
        *self == Self::default()
    }
}

/// What was seen of a thing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Seen<T> {
    /// This is in force.
    Known(T),
    /// Something is in force that no manifest can say (somebody wrote the kernel's file by hand): in words. It
    /// differs from everything that can be wanted.
    Other(String),
    /// It could not be told, and why.
    Unknown(String),
}

impl<T> Seen<T> {
    /// The value, where it is known.
    pub fn known(&self) -> Option<&T> {
        match self {
            Self::Known(value) => Some(value),
            Self::Other(_) | Self::Unknown(_) => None,
        }
    }

    /// Another view of a known value.
    pub fn map<U>(self, f: impl FnOnce(T) -> U) -> Seen<U> {
        match self {
            Self::Known(value) => Seen::Known(f(value)),
            Self::Other(words) => Seen::Other(words),
            Self::Unknown(why) => Seen::Unknown(why),
        }
    }
}

/// [`Limits`], as the kernel has them, part by part.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LimitsSeen {
    /// Which CPUs.
    pub cpuset: Seen<CpuPlacement>,
    /// How much of them.
    pub cpu: Seen<CpuShare>,
    /// Memory and swap.
    pub memory: Seen<MemoryLimit>,
    /// Huge pages.
    pub hugepages: Seen<BTreeMap<u64, u64>>,
    /// Processes.
    pub processes: Seen<Option<u64>>,
    /// Disks.
    pub io: Seen<IoLimits>,
}

impl LimitsSeen {
    /// The limits, if every part is known.
    pub fn all_known(&self) -> Option<Limits> {
        Some(Limits {
            cpuset: self.cpuset.known()?.clone(),
            cpu: self.cpu.known()?.clone(),
            memory: self.memory.known()?.clone(),
            hugepages: self.hugepages.known()?.clone(),
            processes: *self.processes.known()?,
            io: self.io.known()?.clone(),
        })
    }
}

/// The parts of [`Limits`] that are changed, refused and reported on their own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum LimitPart {
    /// [`Limits::cpuset`].
    Cpuset,
    /// [`Limits::cpu`].
    Cpu,
    /// [`Limits::memory`].
    Memory,
    /// [`Limits::hugepages`].
    Hugepages,
    /// [`Limits::processes`].
    Processes,
    /// [`Limits::io`].
    Io,
    /// [`super::oom`].
    OomPriority,
}

impl LimitPart {
    /// The extended attribute in which the meaning of what was written is kept (see [`super::snapshot`]).
    pub fn attribute(self) -> &'static str {
        match self {
            Self::Cpuset => "user.keel.cpuset",
            Self::Cpu => "user.keel.cpu",
            Self::Memory => "user.keel.memory",
            Self::Hugepages => "user.keel.hugepages",
            Self::Processes => "user.keel.processes",
            Self::Io => "user.keel.io",
            Self::OomPriority => "user.keel.oom",
        }
    }
}

impl fmt::Display for LimitPart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Cpuset => "cpu",
            Self::Cpu => "cpuAllowance",
            Self::Memory => "memory",
            Self::Hugepages => "hugepages",
            Self::Processes => "processes",
            Self::Io => "diskPriority",
            Self::OomPriority => "memoryOomPriority",
        })
    }
}

/// A limit that is not in force now. The others were still tried.
#[derive(Debug, thiserror::Error)]
pub enum LimitError {
    /// The kernel could not bring the use below the new limit; the old limit is in force, nothing was killed.
    #[error("limits.{part} cannot be {wanted} now: {current} bytes are in use")]
    Refused {
        /// Which one.
        part: LimitPart,
        /// Bytes wanted.
        wanted: u64,
        /// Bytes in use after reclaim.
        current: u64,
    },
    /// This host has no means for it.
    #[error("limits.{part}: {why}")]
    Unsupported {
        /// Which one.
        part: LimitPart,
        /// What is missing.
        why: String,
    },
    /// A file could not be written.
    #[error("limits.{part} could not be set to {value:?}")]
    Write {
        /// Which one.
        part: LimitPart,
        /// What was written.
        value: String,
        /// The kernel's answer with the path.
        source: PathError,
    },
}

/// One part of the limits brought to its wanted value: writes in the order the kernel needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// Which part.
    pub part: LimitPart,
    /// In this order; the first that fails ends this change and takes back those before.
    pub writes: Vec<FileWrite>,
}

/// One value for the kernel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileWrite {
    /// The file (or, for an attribute, the folder).
    pub path: PathBuf,
    /// The text, without a newline.
    pub value: String,
    /// What to do with it.
    pub how: How,
    /// What to write to take it back, where a later write of the same change may fail.
    pub undo: Option<String>,
}

/// How a [`FileWrite`] is done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum How {
    /// One `write(2)`.
    File,
    /// One `write(2)`; `EBUSY` means that more is in use than the new limit (cgroup v1 memory).
    RefusedWhenBusy {
        /// Holds the bytes in use.
        usage: PathBuf,
        /// Bytes wanted.
        wanted: u64,
    },
    /// cgroup2's `memory.max` kills when it is set below the use: bring the use down first, write only when it is.
    AfterReclaim {
        /// `memory.current`.
        usage: PathBuf,
        /// `memory.reclaim` (Linux 5.19).
        reclaim: PathBuf,
        /// `memory.high`: lowered meanwhile, so that growth in between is slowed down and not killed.
        high: PathBuf,
        /// Bytes wanted.
        wanted: u64,
    },
    /// An extended attribute of this name on the folder.
    Attribute(&'static str),
}

impl FileWrite {
    /// A plain write.
    pub(super) fn file(path: PathBuf, value: impl Into<String>) -> Self {
        Self {
            path,
            value: value.into(),
            how: How::File,
            undo: None,
        }
    }
}
