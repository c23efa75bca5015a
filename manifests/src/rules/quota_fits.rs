//! What the objects of a project ask for fits its limits.

use std::collections::BTreeMap;

use super::{Rule, wrong};
use crate::desired::{DesiredSet, Resource};
use crate::diagnostic::{Code, Diagnostics};
use crate::kind::Spec;
use crate::kinds::instance::Instance;
use crate::kinds::project::ProjectLimits;
use crate::pointer::Pointer;
use crate::quota::disk_of;
use crate::scalar::byte_size::ByteSize;
use crate::scalar::cpu::CpuLimit;
use crate::scalar::memory::MemoryLimit;

/// More than a project may have, or something of which it cannot be told how much it is.
pub(crate) const OVER: Code = Code("R0206");

/// The sums of all objects of a project are within `limits` of the Project.
pub(super) struct QuotaFits;

impl Rule for QuotaFits {
    fn check(&self, desired: &DesiredSet, found: &mut Diagnostics) {
        let projects: Vec<(&Resource, &ProjectLimits)> = desired
            .resources
            .values()
            .filter_map(|resource| match &resource.spec {
                Spec::Project(project) if project.limits != ProjectLimits::default() => {
                    Some((resource, &project.limits))
                }
                _ => None,
            })
            .collect();
        for (project, limits) in projects {
            one(desired, project, limits, found);
        }
    }
}

/// A sum over objects, and the objects that say nothing of it.
#[derive(Default)]
struct Sum<'a> {
    total: u64,
    silent: Vec<(&'a Resource, Pointer)>,
}

impl<'a> Sum<'a> {
    fn add(&mut self, amount: Option<u64>, resource: &'a Resource, at: Pointer) {
        match amount {
            Some(amount) => self.total = self.total.saturating_add(amount),
            None => self.silent.push((resource, at)),
        }
    }
}

fn one(desired: &DesiredSet, project: &Resource, limits: &ProjectLimits, found: &mut Diagnostics) {
    let members: Vec<&Resource> = desired
        .resources
        .values()
        .filter(|resource| {
            !resource.address.kind.belongs_to_host()
                && resource.address.project_name() == project.address.name
        })
        .collect();
    let instances: Vec<(&Resource, &Instance)> = members
        .iter()
        .filter_map(|resource| match &resource.spec {
            Spec::Instance(instance) => Some((*resource, instance.as_ref())),
            _ => None,
        })
        .collect();
    let containers = instances
        .iter()
        .filter(|(_, instance)| instance.is_container())
        .count();
    let networks = members
        .iter()
        .filter(|resource| matches!(resource.spec, Spec::Network(_)))
        .count();
    let counts = [
        ("instances", limits.instances, instances.len()),
        ("containers", limits.containers, containers),
        (
            "virtualMachines",
            limits.virtual_machines,
            instances.len() - containers,
        ),
        ("networks", limits.networks, networks),
    ];
    let all = Pointer::new("/spec/limits");
    for (field, most, count) in counts {
        if let Some(most) =
            most.filter(|most| usize::try_from(*most).is_ok_and(|most| count > most))
        {
            let message = format!(
                "project {} has {count} {field}, and may have {most}",
                project.address.name
            );
            found.push(wrong(OVER, project, all.field(field), message));
        }
    }
    let mut check = |field: &str, most: Option<u64>, sum: Sum<'_>, show: &dyn Fn(u64) -> String| {
        let Some(most) = most else { return };
        let name = &project.address.name;
        for (resource, at) in &sum.silent {
            let message = format!(
                "project {name} limits {field}, so {} must say how much",
                at.dotted()
            );
            found.push(
                wrong(OVER, resource, at.clone(), message)
                    .related(project.origin_of(&all.field(field)), "the limit"),
            );
        }
        if sum.total > most {
            let message = format!(
                "the objects of project {name} ask for {} of {field}, and may have {}",
                show(sum.total),
                show(most)
            );
            found.push(wrong(OVER, project, all.field(field), message));
        }
    };
    let number = |number: u64| number.to_string();
    let size = |bytes: u64| ByteSize::from_bytes(bytes).to_string();
    let of = |field: &str| Pointer::new("/spec/limits").field(field);
    let (mut cpu, mut memory, mut processes) = (Sum::default(), Sum::default(), Sum::default());
    for (resource, instance) in &instances {
        cpu.add(
            instance.limits.cpu.as_ref().map(processors),
            resource,
            of("cpu"),
        );
        let bytes = match &instance.limits.memory {
            Some(MemoryLimit::Size(size)) => Some(size.bytes()),
            // A share of a host that is not known here cannot be summed.
            Some(MemoryLimit::Percent(_)) | None => None,
        };
        memory.add(bytes, resource, of("memory"));
        processes.add(
            instance.limits.processes.map(u64::from),
            resource,
            of("processes"),
        );
    }
    check("cpu", limits.cpu.map(u64::from), cpu, &number);
    check(
        "memory",
        limits.memory.as_ref().map(ByteSize::bytes),
        memory,
        &size,
    );
    check(
        "processes",
        limits.processes.map(u64::from),
        processes,
        &number,
    );
    let by_pool = disks(&members);
    let mut total = Sum::default();
    for sum in by_pool.values() {
        total.total = total.total.saturating_add(sum.total);
        total.silent.extend(sum.silent.iter().cloned());
    }
    check(
        "disk",
        limits.disk.as_ref().map(ByteSize::bytes),
        total,
        &size,
    );
    for (pool, sum) in by_pool {
        let most = limits.disk_pools.get(pool).map(ByteSize::bytes);
        check(&format!("diskPools/{pool}"), most, sum, &size);
    }
}

/// The roots and volumes of a project by pool.
fn disks<'a>(members: &[&'a Resource]) -> BTreeMap<&'a str, Sum<'a>> {
    let mut pools: BTreeMap<&str, Sum<'_>> = BTreeMap::new();
    for resource in members {
        if let Some(disk) = disk_of(&resource.spec) {
            let sum = pools.entry(disk.pool).or_default();
            sum.add(disk.size, resource, disk.at);
        }
    }
    pools
}

/// How many processors a limit stands for.
fn processors(limit: &CpuLimit) -> u64 {
    match limit {
        CpuLimit::Count(count) => u64::from(*count),
        CpuLimit::Set(set) => set.numbers().map(|_| 1).sum(),
        CpuLimit::Topology {
            sockets,
            cores,
            threads,
        } => u64::from(*sockets)
            .saturating_mul(u64::from(*cores))
            .saturating_mul(u64::from(*threads)),
    }
}
