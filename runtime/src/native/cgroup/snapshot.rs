//! What the files of one instance's limits said at one moment, and what was meant when they were last written.
//!
//! The kernel rounds (memory to pages), forgets (which CPUs out of how many) and merges (share and priority are one
//! weight). So the meaning of what is written is kept beside it, as an extended attribute of the instance's folder, and
//! counts exactly as long as the files still hold what that meaning leads to. A file written by hand is taken at its
//! word. The attributes are on a folder that only the host's root can write.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use manifests::path_io;

use super::cpu_list::CpuList;
use super::hierarchies::{Controller, Hierarchies, Version};
use super::instance::{InstanceCgroups, Place};
use super::limits::LimitPart;

/// One file at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reading {
    /// Its text.
    Text(String),
    /// There is no such file: this kernel has no such limit, or the controller is not handed down.
    Absent,
    /// It could not be read.
    Failed(String),
}

/// The files of one instance's limits at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// By path.
    pub files: BTreeMap<PathBuf, Reading>,
    /// The attributes: what was last meant, as JSON.
    pub meant: BTreeMap<LimitPart, String>,
}

/// What of the host the limits depend on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Host {
    /// CPUs that instances may use.
    pub cpus: CpuList,
    /// NUMA nodes with their CPUs.
    pub nodes: BTreeMap<u32, CpuList>,
    /// How many instances (other than the one looked at) use each CPU; a CPU that is not named has none.
    pub load: BTreeMap<u32, u32>,
    /// Sizes of huge pages in bytes.
    pub huge_pages: Vec<u64>,
    /// Bytes of a page: the kernel rounds memory limits down to it.
    pub page: u64,
}

impl Host {
    /// Reads the host's CPUs, nodes and page sizes; no load yet (see [`super::cpuset::load`]).
    ///
    /// # Errors
    /// The list of online CPUs cannot be read.
    pub fn read(hierarchies: &Hierarchies) -> Result<Self, path_io::PathError> {
        let online = path_io::read_to_string("/sys/devices/system/cpu/online")?;
        // Where the hierarchy we build on has fewer CPUs, instances cannot have more.
        let base = match (
            hierarchies.version(Controller::Cpuset),
            hierarchies.v1_of(Controller::Cpuset),
            &hierarchies.v2,
        ) {
            (Some(Version::V1), Some(v1), _) => Some(v1.base.join("cpuset.cpus")),
            (Some(Version::V2), _, Some(v2)) => Some(v2.base.join("cpuset.cpus.effective")),
            _ => None,
        };
        let list = |text: &str| text.parse::<CpuList>().ok().filter(|l| !l.is_empty());
        let cpus = base
            .and_then(|path| list(&path_io::read_to_string(path).ok()?))
            .or_else(|| list(&online))
            .unwrap_or_else(|| CpuList::from_iter([0]));
        let mut nodes = BTreeMap::new();
        for folder in path_io::list("/sys/devices/system/node").unwrap_or_default() {
            let number = folder
                .file_name()
                .and_then(|name| name.to_str()?.strip_prefix("node")?.parse::<u32>().ok());
            if let Some(number) = number
                && let Ok(text) = path_io::read_to_string(folder.join("cpulist"))
                && let Ok(cpus) = text.parse()
            {
                nodes.insert(number, cpus);
            }
        }
        if nodes.is_empty() {
            nodes.insert(0, cpus.clone());
        }
        let mut huge_pages: Vec<u64> = path_io::list("/sys/kernel/mm/hugepages")
            .unwrap_or_default()
            .iter()
            .filter_map(|folder| {
                let name = folder.file_name()?.to_str()?;
                let kib = name.strip_prefix("hugepages-")?.strip_suffix("kB")?;
                kib.parse::<u64>().ok()?.checked_mul(1024)
            })
            .collect();
        huge_pages.sort_unstable();
        Ok(Self {
            cpus,
            nodes,
            load: BTreeMap::new(),
            huge_pages,
            page: rustix::param::page_size() as u64,
        })
    }
}

/// What one controller's part is decided from.
#[derive(Clone, Copy)]
pub(super) struct View<'a> {
    pub(super) place: &'a Place,
    pub(super) snapshot: &'a Snapshot,
    pub(super) host: &'a Host,
}

impl View<'_> {
    /// The text of a file of the container's folder; `None` if there is no such file.
    pub(super) fn payload(&self, name: &str) -> Result<Option<&str>, String> {
        self.snapshot.text(&self.place.payload.join(name))
    }

    /// As [`View::payload`], of the instance's folder.
    pub(super) fn instance(&self, name: &str) -> Result<Option<&str>, String> {
        self.snapshot.text(&self.place.instance.join(name))
    }

    /// As [`View::payload`], for a file that each kernel with this controller has.
    pub(super) fn needed(&self, name: &str) -> Result<&str, String> {
        self.payload(name)?
            .ok_or_else(|| missing(&self.place.payload.join(name)))
    }
}

/// Why a file that should be there is not.
fn missing(path: &Path) -> String {
    format!(
        "{} is not there: its controller is not handed down to this cgroup",
        path.display()
    )
}

impl Snapshot {
    /// Reads every file of every limit of an instance, and what was last meant.
    pub fn read(cgroups: &InstanceCgroups, host: &Host) -> Self {
        let mut snapshot = Self::default();
        for path in super::files(cgroups, host) {
            let reading = match path_io::read_if_exists(&path) {
                Ok(Some(text)) => Reading::Text(text),
                Ok(None) => Reading::Absent,
                Err(error) => Reading::Failed(format!("{error}: {}", error.source)),
            };
            snapshot.files.insert(path, reading);
        }
        if let Some(home) = cgroups.home() {
            for part in super::PARTS {
                let mut buffer = vec![0u8; 4096];
                if let Ok(length) =
                    rustix::fs::getxattr(home, part.attribute(), buffer.as_mut_slice())
                {
                    buffer.truncate(length);
                    if let Ok(text) = String::from_utf8(buffer) {
                        snapshot.meant.insert(part, text);
                    }
                }
            }
        }
        snapshot
    }

    fn text(&self, path: &Path) -> Result<Option<&str>, String> {
        match self.files.get(path) {
            Some(Reading::Text(text)) => Ok(Some(text.trim())),
            Some(Reading::Absent) => Ok(None),
            Some(Reading::Failed(why)) => Err(why.clone()),
            None => Err(format!("{} was not read", path.display())),
        }
    }
}

/// A number, or `max` as cgroup2 says for none.
pub(super) fn ceiling(text: &str) -> Result<Option<u64>, String> {
    match text {
        "max" => Ok(None),
        number => number
            .parse()
            .map(Some)
            .map_err(|_| format!("{number:?} is no number")),
    }
}

/// How cgroup2 wants a number or none.
pub(super) fn or_max(value: Option<u64>) -> String {
    value.map_or_else(|| "max".to_owned(), |number| number.to_string())
}
