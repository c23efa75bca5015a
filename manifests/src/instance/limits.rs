//! [`Limits`]: how much of the host an instance may use.

use std::collections::BTreeMap;

use crate::scalar::byte_size::ByteSize;
use crate::scalar::cpu::{CpuAllowance, CpuLimit};
use crate::scalar::kernel_limit::KernelLimit;
use crate::scalar::memory::{MemoryLimit, Swap};

crate::words! {
    /// How firm the memory limit is.
    pub enum MemoryEnforce {
        /// Never exceeded.
        Hard "hard",
        /// Exceeded while the host has memory to spare.
        Soft "soft",
    }
}

crate::fields! {
    /// Resource limits of the processes (getrlimit(2)): a number, `SOFT:HARD` or `unlimited`. Absent: as the host gives.
    pub struct KernelLimits {
        /// Address space in bytes.
        r#as: Option<KernelLimit> = None,
        /// Core dumps in bytes.
        core: Option<KernelLimit> = None,
        /// Processor time in seconds.
        cpu: Option<KernelLimit> = None,
        /// Data segment in bytes.
        data: Option<KernelLimit> = None,
        /// Files in bytes.
        fsize: Option<KernelLimit> = None,
        /// File locks.
        locks: Option<KernelLimit> = None,
        /// Locked memory in bytes.
        memlock: Option<KernelLimit> = None,
        /// POSIX message queues in bytes.
        msgqueue: Option<KernelLimit> = None,
        /// Nice ceiling: 20 less the nice value.
        nice: Option<KernelLimit> = None,
        /// Open files.
        nofile: Option<KernelLimit> = None,
        /// Processes of a user.
        nproc: Option<KernelLimit> = None,
        /// Resident memory in bytes.
        rss: Option<KernelLimit> = None,
        /// Realtime priority.
        rtprio: Option<KernelLimit> = None,
        /// Realtime processor time in microseconds.
        rttime: Option<KernelLimit> = None,
        /// Queued signals.
        sigpending: Option<KernelLimit> = None,
        /// Stack in bytes.
        stack: Option<KernelLimit> = None,
    }
}

crate::fields! {
    /// How much of the host an instance may use. Absent: no limit.
    pub struct Limits {
        /// A number of processors (balanced over those of the host), a set such as `"0-3,5"` (`"2-2"` is processor 2
        /// alone), or for machines {sockets, cores, threads}.
        cpu: Option<CpuLimit> = None,
        /// The NUMA nodes of its processors: a set such as `"0-1"`, or `balanced`.
        cpu_nodes: Option<String> = None,
        /// A percentage is a soft share, `25ms/100ms` a hard quota.
        cpu_allowance: Option<CpuAllowance> = None,
        /// 0 to 10: higher gets processors first when they are scarce.
        cpu_priority: u8 = 10,
        /// A size, or a percentage of the host's memory.
        memory: Option<MemoryLimit> = None,
        /// How firm the memory limit is.
        memory_enforce: MemoryEnforce = MemoryEnforce::Hard,
        /// Whether it may be swapped out, or how much of it.
        memory_swap: Swap = Swap::Switch(true),
        /// Whether a machine's memory may grow while it runs, or up to which size.
        memory_hotplug: Swap = Swap::Switch(true),
        /// -1000 to 1000: higher is killed first when the host is out of memory.
        memory_oom_priority: i32 = 0,
        /// How much of each size of huge pages: `{2MiB: 64MiB}`.
        hugepages: BTreeMap<String, ByteSize> = BTreeMap::new(),
        /// Processes and threads.
        processes: Option<u32> = None,
        /// 0 to 10: higher gets the disks first when they are busy.
        disk_priority: u8 = 5,
        /// Resource limits of the processes.
        kernel: KernelLimits = KernelLimits::default(),
    }
}
