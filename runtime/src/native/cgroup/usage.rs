//! What an instance uses now, and what its limits have done: the numbers of `keel top` and of its conditions.

use std::path::Path;

use manifests::path_io;

use super::hierarchies::{Controller, Version};
use super::instance::InstanceCgroups;
use super::lifecycle::event;

/// What an instance uses; `None` where this host does not count it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// Bytes of memory, page cache included.
    pub memory: Option<u64>,
    /// Bytes of it that are page cache nobody has used lately: free for the asking.
    pub memory_reclaimable: Option<u64>,
    /// Bytes in swap.
    pub swap: Option<u64>,
    /// Nanoseconds of CPU time since the cgroup was made.
    pub cpu_nanoseconds: Option<u64>,
    /// Processes and threads.
    pub processes: Option<u64>,
    /// Bytes read from disks since the cgroup was made.
    pub read_bytes: Option<u64>,
    /// Bytes written to disks since the cgroup was made.
    pub written_bytes: Option<u64>,
    /// Processes killed because memory was short, since the cgroup was made.
    pub out_of_memory_kills: Option<u64>,
    /// Forks refused by the limit of processes, since the cgroup was made.
    pub forks_refused: Option<u64>,
}

impl InstanceCgroups {
    /// What the container uses now. A file that cannot be read yields `None`.
    pub fn usage(&self) -> Usage {
        let mut usage = Usage::default();
        if let Some(place) = self.place(Controller::Memory) {
            let folder = &place.payload;
            let stat = text(folder, "memory.stat").unwrap_or_default();
            match place.version {
                Version::V1 => {
                    usage.memory = number(folder, "memory.usage_in_bytes");
                    usage.swap = event(&stat, "total_swap");
                    usage.memory_reclaimable = event(&stat, "total_inactive_file");
                    usage.out_of_memory_kills = counted(folder, "memory.oom_control", "oom_kill");
                }
                Version::V2 => {
                    usage.memory = number(folder, "memory.current");
                    usage.swap = number(folder, "memory.swap.current");
                    usage.memory_reclaimable = event(&stat, "inactive_file");
                    usage.out_of_memory_kills = counted(folder, "memory.events", "oom_kill");
                }
            }
        }
        usage.cpu_nanoseconds = match (self.place(Controller::Cpuacct), self.payload()) {
            (Some(place), _) => number(&place.payload, "cpuacct.usage"),
            // cgroup2 counts CPU time also where it does not control it.
            (None, Some(payload)) => counted(&payload, "cpu.stat", "usage_usec")
                .and_then(|microseconds| microseconds.checked_mul(1000)),
            (None, None) => None,
        };
        if let Some(place) = self.place(Controller::Pids) {
            usage.processes = number(&place.payload, "pids.current");
            usage.forks_refused = counted(&place.payload, "pids.events", "max");
        }
        if let Some(place) = self.place(Controller::Io) {
            let counted = match place.version {
                Version::V1 => text(&place.payload, "blkio.throttle.io_service_bytes_recursive")
                    .map(|text| v1_io(&text)),
                Version::V2 => text(&place.payload, "io.stat").map(|text| v2_io(&text)),
            };
            usage.read_bytes = counted.map(|(read, _)| read);
            usage.written_bytes = counted.map(|(_, written)| written);
        }
        usage
    }
}

/// `8:0 Read 4096` and `8:0 Write 8192`, all devices together.
fn v1_io(text: &str) -> (u64, u64) {
    let sum = |word: &str| {
        text.lines()
            .filter_map(|line| {
                let mut fields = line.split_whitespace().skip(1);
                (fields.next()? == word).then(|| fields.next()?.parse::<u64>().ok())?
            })
            .fold(0, u64::saturating_add)
    };
    (sum("Read"), sum("Write"))
}

/// `8:0 rbytes=4096 wbytes=8192 rios=…`, all devices together.
fn v2_io(text: &str) -> (u64, u64) {
    let sum = |word: &str| {
        text.split_whitespace()
            .filter_map(|field| field.strip_prefix(word)?.strip_prefix('=')?.parse().ok())
            .fold(0, u64::saturating_add)
    };
    (sum("rbytes"), sum("wbytes"))
}

fn text(folder: &Path, name: &str) -> Option<String> {
    path_io::read_to_string(folder.join(name)).ok()
}

fn number(folder: &Path, name: &str) -> Option<u64> {
    text(folder, name)?.trim().parse().ok()
}

fn counted(folder: &Path, name: &str, line: &str) -> Option<u64> {
    event(&text(folder, name)?, line)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_of_all_disks_are_summed() {
        let v1 = "8:0 Read 10\n8:0 Write 20\n8:0 Sync 5\n8:0 Total 30\n7:1 Read 1\nTotal 31\n";
        assert_eq!(v1_io(v1), (11, 20));
        let v2 =
            "8:0 rbytes=10 wbytes=20 rios=1 wios=1 dbytes=0 dios=0\n7:1 rbytes=1 wbytes=0 rios=1\n";
        assert_eq!(v2_io(v2), (11, 20));
        assert_eq!((v1_io(""), v2_io("")), ((0, 0), (0, 0)));
    }
}
