//! Which CPUs: `cpuset.cpus` and `cpuset.mems`, the same on both generations but for the empty set (cgroup2: all).

use std::collections::BTreeMap;
use std::path::PathBuf;

use manifests::path_io;

use super::cpu_list::CpuList;
use super::hierarchies::{Controller, Hierarchies, Version};
use super::instance::{CgroupError, InstanceCgroups, instances};
use super::limits::{CpuChoice, CpuPlacement, FileWrite, LimitPart, Seen};
use super::part::Part;
use super::snapshot::{Host, View};

pub(super) struct Placement;

/// The files' values. On cgroup2 an empty set means what the parent has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Raw {
    cpus: CpuList,
    nodes: CpuList,
}

/// How many instances are held to each CPU, without the one named: what [`CpuChoice::Count`] balances by. Instances
/// that may use every CPU count nowhere.
///
/// # Errors
/// The instances of this state folder cannot be listed.
pub fn load(
    hierarchies: &Hierarchies,
    state: &str,
    without: &str,
    host: &Host,
) -> Result<BTreeMap<u32, u32>, CgroupError> {
    let mut load = BTreeMap::new();
    for uid in instances(hierarchies, state)? {
        if uid == without {
            continue;
        }
        let cgroups = InstanceCgroups::of(hierarchies, state, &uid);
        let Some(place) = cgroups.place(Controller::Cpuset) else {
            break;
        };
        // One that is being removed right now uses none.
        let Some(cpus) = path_io::read_if_exists(place.payload.join("cpuset.cpus"))
            .ok()
            .flatten()
            .and_then(|text| text.parse::<CpuList>().ok())
        else {
            continue;
        };
        if !host.cpus.is_subset(&cpus) {
            for cpu in cpus.0 {
                *load.entry(cpu).or_insert(0) += 1;
            }
        }
    }
    Ok(load)
}

/// The CPUs for a count: what is in force where that is as many, else the least used ones, lowest number first.
fn choose(count: usize, among: &CpuList, load: &BTreeMap<u32, u32>, now: &CpuList) -> CpuList {
    if now.len() == count && now.is_subset(among) {
        return now.clone();
    }
    let mut candidates: Vec<u32> = among.0.iter().copied().collect();
    candidates.sort_by_key(|cpu| (load.get(cpu).copied().unwrap_or(0), *cpu));
    candidates.into_iter().take(count).collect()
}

impl Part for Placement {
    type Meaning = CpuPlacement;
    type Raw = Raw;

    const PART: LimitPart = LimitPart::Cpuset;
    const CONTROLLER: Controller = Controller::Cpuset;

    fn files(view: &View<'_>) -> Vec<PathBuf> {
        ["cpuset.cpus", "cpuset.mems"]
            .map(|name| view.place.payload.join(name))
            .into()
    }

    fn read(view: &View<'_>) -> Result<Raw, String> {
        let list = |name: &str| {
            view.needed(name)?
                .parse::<CpuList>()
                .map_err(|error| error.to_string())
        };
        Ok(Raw {
            cpus: list("cpuset.cpus")?,
            nodes: list("cpuset.mems")?,
        })
    }

    fn encode(view: &View<'_>, meaning: &CpuPlacement, now: &Raw) -> Result<Raw, String> {
        let host = view.host;
        let inherit = |all: CpuList| match view.place.version {
            Version::V1 => all,
            Version::V2 => CpuList::default(),
        };
        let all_nodes: CpuList = host.nodes.keys().copied().collect();
        let nodes = match &meaning.nodes {
            None => inherit(all_nodes),
            Some(nodes) if nodes.is_empty() => return Err("no NUMA node is named".to_owned()),
            Some(nodes) if nodes.is_subset(&all_nodes) => nodes.clone(),
            Some(nodes) => {
                return Err(format!("this host has NUMA nodes {all_nodes}, not {nodes}"));
            }
        };
        let among = match &meaning.nodes {
            None => host.cpus.clone(),
            Some(nodes) => nodes
                .0
                .iter()
                .filter_map(|node| host.nodes.get(node))
                .flat_map(|cpus| cpus.0.intersection(&host.cpus.0).copied())
                .collect(),
        };
        let cpus = match &meaning.cpus {
            CpuChoice::All if meaning.nodes.is_none() => inherit(host.cpus.clone()),
            CpuChoice::All => among,
            CpuChoice::Count(count) => {
                let count = usize::try_from(*count).unwrap_or(usize::MAX);
                if count == 0 || count > among.len() {
                    return Err(format!(
                        "{count} CPUs wanted, {} ({among}) to choose from",
                        among.len()
                    ));
                }
                choose(count, &among, &host.load, &now.cpus)
            }
            CpuChoice::Set(set) if set.is_empty() => return Err("no CPU is named".to_owned()),
            CpuChoice::Set(set) if set.is_subset(&among) => set.clone(),
            CpuChoice::Set(set) => return Err(format!("CPUs {set} wanted, {among} can be used")),
        };
        Ok(Raw { cpus, nodes })
    }

    fn decode(view: &View<'_>, raw: &Raw) -> Seen<CpuPlacement> {
        let all = |set: &CpuList, of: &CpuList| {
            (set.is_empty() && view.place.version == Version::V2) || of.is_subset(set)
        };
        let all_nodes: CpuList = view.host.nodes.keys().copied().collect();
        let cpus = if all(&raw.cpus, &view.host.cpus) {
            CpuChoice::All
        } else {
            CpuChoice::Set(raw.cpus.clone())
        };
        let nodes = (!all(&raw.nodes, &all_nodes)).then(|| raw.nodes.clone());
        Seen::Known(CpuPlacement { cpus, nodes })
    }

    fn writes(view: &View<'_>, from: &Raw, to: &Raw) -> Vec<FileWrite> {
        // Memory nodes first: a v1 cpuset without them takes no process. An empty text is not a write for the kernel,
        // a newline is.
        let text = |list: &CpuList| match list.to_string() {
            empty if empty.is_empty() => "\n".to_owned(),
            text => text,
        };
        let mut writes = Vec::new();
        for (name, from, to) in [
            ("cpuset.mems", &from.nodes, &to.nodes),
            ("cpuset.cpus", &from.cpus, &to.cpus),
        ] {
            if from != to {
                writes.push(FileWrite {
                    undo: Some(text(from)),
                    ..FileWrite::file(view.place.payload.join(name), text(to))
                });
            }
        }
        writes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_count_takes_the_least_used_and_stays_where_it_is() {
        let list = |text: &str| text.parse::<CpuList>().unwrap();
        let load = BTreeMap::from([(0, 2), (1, 1), (3, 1)]);
        for (count, now, chosen) in [
            (1, "0-3", "2"),
            (2, "0-3", "1-2"),
            (3, "", "1-3"),
            (2, "0,3", "0,3"),
            (2, "0,7", "1-2"),
        ] {
            assert_eq!(
                choose(count, &list("0-3"), &load, &list(now)),
                list(chosen),
                "{count} now {now}"
            );
        }
    }
}
