//! Control groups of instances: limits, freezing, killing, device access and use, on cgroup v1 and v2 by one model,
//! chosen per controller.
//!
//! [`Hierarchies`] says where each controller lives, [`InstanceCgroups`] names the folders of one instance. Limits go
//! through plain data: [`Snapshot::read`] reads, [`seen`] and [`changes`] decide, [`apply`] writes.
//!
//! To add a limit: a file that implements `part::Part`, its field in `limits.rs`, a line in [`files`], [`seen`] and
//! [`changes`] below.

mod apply;
mod cpu;
pub mod cpu_list;
pub mod cpuset;
mod device_program;
pub mod device_rules;
mod devices;
pub mod hierarchies;
mod hugetlb;
pub mod instance;
pub mod io;
pub mod lifecycle;
pub mod limits;
mod memory;
#[cfg(test)]
mod model;
#[cfg(test)]
mod on_this_host;
pub mod oom;
mod part;
pub mod patience;
mod pids;
mod removal;
pub mod snapshot;
pub mod usage;

use std::path::PathBuf;

pub use apply::apply;
pub use cpu_list::CpuList;
pub use device_rules::{DeviceAccess, DeviceRule, DeviceRules};
pub use hierarchies::{Controller, Hierarchies, Version};
pub use instance::{CgroupError, Delegation, InstanceCgroups};
pub use lifecycle::Frozen;
pub use limits::{LimitError, LimitPart, Limits, LimitsSeen, Seen};
pub use patience::Patience;
pub use snapshot::{Host, Snapshot};
pub use usage::Usage;

use part::Part;
use snapshot::View;

/// Every part, in the order in which changes are made.
pub(crate) const PARTS: [LimitPart; 6] = [
    LimitPart::Cpuset,
    LimitPart::Cpu,
    LimitPart::Memory,
    LimitPart::Hugepages,
    LimitPart::Processes,
    LimitPart::Io,
];

/// The files of all limits of an instance.
fn files(cgroups: &InstanceCgroups, host: &Host) -> Vec<PathBuf> {
    fn of<P: Part>(cgroups: &InstanceCgroups, host: &Host, files: &mut Vec<PathBuf>) {
        if let Some(place) = cgroups.place(P::CONTROLLER) {
            let snapshot = Snapshot::default();
            files.extend(P::files(&View {
                place,
                snapshot: &snapshot,
                host,
            }));
        }
    }
    let mut files = Vec::new();
    of::<cpuset::Placement>(cgroups, host, &mut files);
    of::<cpu::Share>(cgroups, host, &mut files);
    of::<memory::Memory>(cgroups, host, &mut files);
    of::<hugetlb::HugePages>(cgroups, host, &mut files);
    of::<pids::Processes>(cgroups, host, &mut files);
    of::<io::Disks>(cgroups, host, &mut files);
    files
}

/// What limits are in force, part by part. Only meaningful while the instance's cgroups exist.
pub fn seen(cgroups: &InstanceCgroups, snapshot: &Snapshot, host: &Host) -> LimitsSeen {
    LimitsSeen {
        cpuset: part::seen::<cpuset::Placement>(cgroups, snapshot, host),
        cpu: part::seen::<cpu::Share>(cgroups, snapshot, host),
        memory: part::seen::<memory::Memory>(cgroups, snapshot, host),
        hugepages: part::seen::<hugetlb::HugePages>(cgroups, snapshot, host),
        processes: part::seen::<pids::Processes>(cgroups, snapshot, host),
        io: part::seen::<io::Disks>(cgroups, snapshot, host),
    }
}

/// What must be written so that `wanted` is in force: nothing for the parts that are, an error for each part that this
/// host cannot do.
pub fn changes(
    wanted: &Limits,
    cgroups: &InstanceCgroups,
    snapshot: &Snapshot,
    host: &Host,
) -> Vec<Result<limits::Change, LimitError>> {
    [
        part::change::<cpuset::Placement>(cgroups, snapshot, host, &wanted.cpuset).transpose(),
        part::change::<cpu::Share>(cgroups, snapshot, host, &wanted.cpu).transpose(),
        part::change::<memory::Memory>(cgroups, snapshot, host, &wanted.memory).transpose(),
        part::change::<hugetlb::HugePages>(cgroups, snapshot, host, &wanted.hugepages).transpose(),
        part::change::<pids::Processes>(cgroups, snapshot, host, &wanted.processes).transpose(),
        part::change::<io::Disks>(cgroups, snapshot, host, &wanted.io).transpose(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// Brings an instance's limits to `wanted`: reads, decides, writes. Parts that fail leave the others in force.
pub fn set(wanted: &Limits, cgroups: &InstanceCgroups, host: &Host) -> Vec<LimitError> {
    let snapshot = Snapshot::read(cgroups, host);
    let mut errors = Vec::new();
    let mut doable = Vec::new();
    for change in changes(wanted, cgroups, &snapshot, host) {
        match change {
            Ok(change) => doable.push(change),
            Err(error) => errors.push(error),
        }
    }
    errors.extend(apply(&doable));
    errors
}
