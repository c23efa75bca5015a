//! Limits in the words of manifests and in those of cgroups, both ways.

use std::collections::BTreeMap;

use manifests::instance::limits as spec;
use manifests::instance::security::DeviceAccess as Written;
use manifests::kinds::instance::Instance;
use manifests::observed::Unseen;
use manifests::pointer::Pointer;
use manifests::scalar::byte_size::ByteSize;
use manifests::scalar::cpu::{CpuAllowance, CpuLimit, CpuSet};
use manifests::scalar::memory::{MemoryLimit, Swap};

use super::container::Nodes;
use crate::native::cgroup::DeviceAccess;
use crate::native::cgroup::cpu_list::CpuList;
use crate::native::cgroup::limits as kernel;
use crate::native::cgroup::{Limits, LimitsSeen, Seen};

/// What a percentage is taken of.
#[derive(Debug, Clone, Copy)]
pub(super) struct HostSize {
    /// Bytes of memory.
    pub memory: u64,
}

/// The limits that a spec asks the kernel for. `disks` are those of its devices.
pub(super) fn wanted(
    limits: &spec::Limits,
    disks: &BTreeMap<kernel::BlockDevice, kernel::DeviceIo>,
    host: HostSize,
) -> Limits {
    Limits {
        cpuset: cpuset(limits),
        cpu: share(limits),
        memory: memory(limits, host),
        hugepages: limits
            .hugepages
            .iter()
            .filter_map(|(size, most)| Some((size.parse::<ByteSize>().ok()?.bytes(), most.bytes())))
            .collect(),
        processes: limits.processes.map(u64::from),
        io: kernel::IoLimits {
            priority: limits.disk_priority,
            devices: disks.clone(),
        },
    }
}

fn cpuset(limits: &spec::Limits) -> kernel::CpuPlacement {
    kernel::CpuPlacement {
        cpus: match &limits.cpu {
            None => kernel::CpuChoice::All,
            Some(CpuLimit::Count(count)) => kernel::CpuChoice::Count(*count),
            Some(CpuLimit::Set(set)) => kernel::CpuChoice::Set(CpuList(set.numbers().collect())),
            Some(CpuLimit::Topology {
                sockets,
                cores,
                threads,
            }) => kernel::CpuChoice::Count(sockets * cores * threads),
        },
        nodes: limits
            .cpu_nodes
            .as_deref()
            .and_then(|nodes| nodes.parse::<CpuSet>().ok())
            .map(|nodes| CpuList(nodes.numbers().collect())),
    }
}

fn share(limits: &spec::Limits) -> kernel::CpuShare {
    kernel::CpuShare {
        allowance: match limits.cpu_allowance {
            None => kernel::CpuAllowance::default(),
            Some(CpuAllowance::Share(percent)) => {
                kernel::CpuAllowance::Soft(u8::try_from(percent.min(100)).unwrap_or(100))
            }
            Some(CpuAllowance::Quota { quota, period }) => {
                kernel::CpuAllowance::Hard { quota, period }
            }
        },
        priority: limits.cpu_priority,
    }
}

fn memory(limits: &spec::Limits, host: HostSize) -> kernel::MemoryLimit {
    kernel::MemoryLimit {
        bytes: limits
            .memory
            .as_ref()
            .map(|memory| memory.bytes(host.memory)),
        enforce: match limits.memory_enforce {
            spec::MemoryEnforce::Hard => kernel::Enforce::Hard,
            spec::MemoryEnforce::Soft => kernel::Enforce::Soft,
        },
        swap: match &limits.memory_swap {
            Swap::Switch(true) => kernel::Swap::Allowed,
            Swap::Switch(false) => kernel::Swap::Forbidden,
            Swap::Size(size) => kernel::Swap::Bytes(size.bytes()),
        },
    }
}

/// Puts what the kernel says over what was meant. A part that is as meant keeps its spelling (`25%`, `1024MiB`).
pub(super) fn overlay(
    limits: &mut spec::Limits,
    disks: &BTreeMap<kernel::BlockDevice, kernel::DeviceIo>,
    seen: &LimitsSeen,
    host: HostSize,
    unseen: &mut Vec<Unseen>,
) {
    let meant = wanted(limits, disks, host);
    let mut doubt = |fields: &[&str], why: &str| {
        let at = Pointer::new("/spec/limits");
        unseen.extend(fields.iter().map(|field| Unseen {
            path: at.field(field),
            why: why.to_owned(),
        }));
    };
    match &seen.cpuset {
        Seen::Known(there) if *there != meant.cpuset => {
            limits.cpu = match &there.cpus {
                kernel::CpuChoice::All => None,
                kernel::CpuChoice::Count(count) => Some(CpuLimit::Count(*count)),
                kernel::CpuChoice::Set(set) => {
                    Some(CpuLimit::Set(set.0.iter().copied().collect::<CpuSet>()))
                }
            };
            limits.cpu_nodes = there
                .nodes
                .as_ref()
                .map(|nodes| nodes.0.iter().copied().collect::<CpuSet>().to_string());
        }
        Seen::Known(_) => {}
        Seen::Other(_) => limits.cpu = Some(CpuLimit::Set(CpuSet::default())),
        Seen::Unknown(why) => doubt(&["cpu", "cpuNodes"], why),
    }
    match &seen.cpu {
        Seen::Known(there) if *there != meant.cpu => {
            limits.cpu_allowance = match there.allowance {
                kernel::CpuAllowance::Soft(100) => None,
                kernel::CpuAllowance::Soft(percent) => {
                    Some(CpuAllowance::Share(u32::from(percent)))
                }
                kernel::CpuAllowance::Hard { quota, period } => {
                    Some(CpuAllowance::Quota { quota, period })
                }
            };
            limits.cpu_priority = there.priority;
        }
        Seen::Known(_) => {}
        // No manifest can say it: a quota of nothing differs from whatever is wanted.
        Seen::Other(_) => {
            limits.cpu_allowance = Some(CpuAllowance::Quota {
                quota: 0,
                period: 0,
            });
        }
        Seen::Unknown(why) => doubt(&["cpuAllowance", "cpuPriority"], why),
    }
    match &seen.memory {
        Seen::Known(there) if *there != meant.memory => {
            let bytes = there
                .bytes
                .map(|bytes| MemoryLimit::Size(ByteSize::from_bytes(bytes)));
            if there.bytes != meant.memory.bytes {
                limits.memory = bytes;
            }
            limits.memory_enforce = match there.enforce {
                kernel::Enforce::Hard => spec::MemoryEnforce::Hard,
                kernel::Enforce::Soft => spec::MemoryEnforce::Soft,
            };
            limits.memory_swap = match there.swap {
                kernel::Swap::Allowed => Swap::Switch(true),
                kernel::Swap::Forbidden => Swap::Switch(false),
                kernel::Swap::Bytes(bytes) => Swap::Size(ByteSize::from_bytes(bytes)),
            };
        }
        Seen::Known(_) => {}
        Seen::Other(_) => limits.memory = Some(MemoryLimit::Size(ByteSize::from_bytes(0))),
        Seen::Unknown(why) => doubt(&["memory", "memoryEnforce", "memorySwap"], why),
    }
    match &seen.hugepages {
        Seen::Known(there) if *there != meant.hugepages => {
            limits.hugepages = there
                .iter()
                .map(|(size, most)| {
                    (
                        ByteSize::from_bytes(*size).to_string(),
                        ByteSize::from_bytes(*most),
                    )
                })
                .collect();
        }
        Seen::Known(_) => {}
        Seen::Other(_) | Seen::Unknown(_) if meant.hugepages.is_empty() => {}
        Seen::Other(why) | Seen::Unknown(why) => doubt(&["hugepages"], why),
    }
    match &seen.processes {
        Seen::Known(there) if *there != meant.processes => {
            limits.processes = there.map(|most| u32::try_from(most).unwrap_or(u32::MAX));
        }
        Seen::Known(_) => {}
        Seen::Other(_) => limits.processes = Some(0),
        Seen::Unknown(why) => doubt(&["processes"], why),
    }
    match &seen.io {
        Seen::Known(there) => limits.disk_priority = there.priority,
        Seen::Other(_) => limits.disk_priority = u8::MAX,
        Seen::Unknown(why) => doubt(&["diskPriority"], why),
    }
}

/// Puts the device nodes that the kernel lets it use over those that were meant.
pub(super) fn overlay_devices(
    instance: &mut Instance,
    nodes: &Nodes,
    seen: Seen<DeviceAccess>,
    unseen: &mut Vec<Unseen>,
) {
    let Ok(meant) = super::start::device_access(instance, nodes) else {
        return;
    };
    instance.security.device_access = match seen {
        Seen::Known(there) if there == meant => return,
        Seen::Known(DeviceAccess::All) => Written::All,
        Seen::Known(DeviceAccess::Rules(rules)) => {
            Written::List(rules.iter().map(|rule| rule.to_string()).collect())
        }
        // What no manifest can say differs from whatever is wanted.
        Seen::Other(what) => Written::List(vec![what]),
        Seen::Unknown(why) => {
            unseen.push(Unseen {
                path: Pointer::new("/spec/security/deviceAccess"),
                why,
            });
            return;
        }
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOST: HostSize = HostSize { memory: 8 << 30 };

    fn all_as(limits: &Limits) -> LimitsSeen {
        LimitsSeen {
            cpuset: Seen::Known(limits.cpuset.clone()),
            cpu: Seen::Known(limits.cpu.clone()),
            memory: Seen::Known(limits.memory.clone()),
            hugepages: Seen::Known(limits.hugepages.clone()),
            processes: Seen::Known(limits.processes),
            io: Seen::Known(limits.io.clone()),
        }
    }

    fn subject() -> spec::Limits {
        spec::Limits {
            cpu: "2".parse().ok(),
            memory: "25%".parse().ok(),
            processes: Some(100),
            cpu_allowance: "25ms/100ms".parse().ok(),
            ..spec::Limits::default()
        }
    }

    #[test]
    fn what_is_as_meant_keeps_its_spelling() {
        let mut limits = subject();
        let seen = all_as(&wanted(&limits, &BTreeMap::new(), HOST));
        let mut unseen = Vec::new();
        overlay(&mut limits, &BTreeMap::new(), &seen, HOST, &mut unseen);
        assert_eq!(limits, subject());
        assert!(unseen.is_empty());
    }

    #[test]
    fn each_part_that_moved_is_seen_alone() {
        let mut limits = subject();
        let mut seen = all_as(&wanted(&limits, &BTreeMap::new(), HOST));
        seen.memory = Seen::Known(kernel::MemoryLimit {
            bytes: Some(1 << 30),
            ..Default::default()
        });
        seen.processes = Seen::Known(None);
        seen.cpu = Seen::Unknown("gone".to_owned());
        let mut unseen = Vec::new();
        overlay(&mut limits, &BTreeMap::new(), &seen, HOST, &mut unseen);
        assert_eq!(
            limits.memory.map(|m| m.to_string()),
            Some("1GiB".to_owned())
        );
        assert_eq!(limits.processes, None);
        assert_eq!(limits.cpu, subject().cpu);
        assert_eq!(unseen.len(), 2);
    }
}
