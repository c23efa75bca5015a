//! The cgroups of one instance: their names in every hierarchy, making, joining, handing over and removing them.
//!
//! cgroup2: `keel-<state>/<uid>/payload` holds the container (handed over to its root) and `…/monitor` its shim.
//! cgroup v1: `keel-<state>/<uid>` holds the container in each hierarchy, `keel-<state>/monitors` all shims: nothing is
//! handed over there, so one folder per instance is enough and a start makes nine folders less.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use manifests::path_io::{self, AtPath as _, PathError};
use rustix::fs::{Gid, Uid};

use super::hierarchies::{Controller, Hierarchies, V2Hierarchy, Version};
use super::removal::Ensured;

/// What went wrong with the cgroups of an instance.
#[derive(Debug, thiserror::Error)]
pub enum CgroupError {
    /// A file operation.
    #[error(transparent)]
    Path(#[from] PathError),
    /// There is no hierarchy in which an instance could be held together.
    #[error(
        "no cgroup hierarchy is mounted and writable (wanted cgroup2, or cgroup v1 with the freezer controller)"
    )]
    NoHierarchy,
    /// Something still lives in it.
    #[error("{} still has processes", path.display())]
    Busy {
        /// The folder.
        path: PathBuf,
        /// The kernel's answer.
        source: std::io::Error,
    },
    /// Not all processes stopped in time.
    #[error("{} is not frozen yet", path.display())]
    NotFrozen {
        /// The folder.
        path: PathBuf,
    },
    /// A file says something that its documentation does not.
    #[error("{} says {text:?}", path.display())]
    Strange {
        /// The file.
        path: PathBuf,
        /// Its text.
        text: String,
    },
}

/// Where one controller of one instance is set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The generation, which decides file names.
    pub version: Version,
    /// The folder among those of other instances: weights count here.
    pub instance: PathBuf,
    /// The folder of the container's processes: limits count here. The same as `instance` on v1.
    pub payload: PathBuf,
}

/// What the container's root may make inside its own part of cgroup2.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Delegation {
    /// How many cgroups in all; without a limit a container can make thousands.
    pub descendants: u32,
    /// How deep.
    pub depth: u32,
}

impl Default for Delegation {
    /// systemd makes about one a unit; nested containers some dozens each.
    fn default() -> Self {
        Self {
            descendants: 4096,
            depth: 32,
        }
    }
}

/// Beside the instances of a state folder: their companions, on cgroup v1.
const MONITORS: &str = "monitors";
/// Beside them too: programs that look after networks.
pub const NETWORKS: &str = "networks";

/// The cgroups of one instance, whether they exist or not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InstanceCgroups {
    /// `keel-<state>/<uid>` in each cgroup v1 hierarchy.
    pub v1: Vec<PathBuf>,
    /// `keel-<state>/<uid>` in cgroup2.
    pub v2: Option<PathBuf>,
    /// Where each controller is set.
    places: BTreeMap<Controller, Place>,
    /// `keel-<state>/monitors` in each cgroup v1 hierarchy.
    monitors: Vec<PathBuf>,
    /// What must be enabled from here down to the instance.
    delegating: Option<V2Hierarchy>,
    /// The `cpuset` hierarchy's base, whose CPUs ours inherit.
    cpuset_base: Option<PathBuf>,
    /// Mount point and folder of each hierarchy by the names that `/proc/PID/cgroup` has for it.
    named: Vec<(BTreeSet<String>, PathBuf)>,
}

impl InstanceCgroups {
    /// The cgroups of an instance. `state` is the id of the state folder (so two keels do not meet), `uid` the
    /// instance's; both must be names without a slash.
    pub fn of(hierarchies: &Hierarchies, state: &str, uid: &str) -> Self {
        let ours = format!("keel-{state}");
        let v2 = hierarchies
            .v2
            .as_ref()
            .map(|v2| v2.base.join(&ours).join(uid));
        let mut places = BTreeMap::new();
        for controller in Controller::ALL {
            if let Some(v1) = hierarchies.v1_of(controller) {
                let folder = v1.base.join(&ours).join(uid);
                places.insert(
                    controller,
                    Place {
                        version: Version::V1,
                        instance: folder.clone(),
                        payload: folder,
                    },
                );
            } else if let Some(instance) = &v2
                && hierarchies.version(controller) == Some(Version::V2)
            {
                places.insert(
                    controller,
                    Place {
                        version: Version::V2,
                        instance: instance.clone(),
                        payload: instance.join("payload"),
                    },
                );
            }
        }
        let below = |leaf: &str| -> Vec<PathBuf> {
            hierarchies
                .v1
                .iter()
                .map(|v1| v1.base.join(&ours).join(leaf))
                .collect()
        };
        let mut named: Vec<(BTreeSet<String>, PathBuf)> = hierarchies
            .v1
            .iter()
            .map(|v1| {
                let names = v1
                    .controllers
                    .iter()
                    .map(|c| c.v1_name().to_owned())
                    .chain(v1.name.iter().map(|name| format!("name={name}")))
                    .collect();
                (names, v1.base.join(&ours).join(uid))
            })
            .collect();
        if let Some(v2) = &v2 {
            named.push((BTreeSet::from([String::new()]), v2.join("payload")));
        }
        Self {
            v1: below(uid),
            monitors: below(MONITORS),
            cpuset_base: hierarchies
                .v1_of(Controller::Cpuset)
                .map(|v1| v1.base.clone()),
            delegating: hierarchies.v2.clone(),
            v2,
            places,
            named,
        }
    }

    /// Where a controller of this instance is set; `None` where the host has no such controller.
    pub fn place(&self, controller: Controller) -> Option<&Place> {
        self.places.get(&controller)
    }

    /// The folder of the container in cgroup2: for `CLONE_INTO_CGROUP` and as root of its cgroup namespace.
    pub fn payload(&self) -> Option<PathBuf> {
        self.v2.as_ref().map(|v2| v2.join("payload"))
    }

    /// The folder on which the marks of this instance are kept: cgroup2's, else the first of v1.
    pub fn home(&self) -> Option<&Path> {
        self.v2
            .as_deref()
            .or_else(|| self.v1.first().map(PathBuf::as_path))
    }

    /// Every folder that the container's processes belong in: cgroup v1, then cgroup2's payload. Joining is writing the
    /// pid to `cgroup.procs` in each (see [`join`]); a `clone3` with `CLONE_INTO_CGROUP` saves the last.
    pub fn payload_folders(&self) -> Vec<PathBuf> {
        self.v1.iter().cloned().chain(self.payload()).collect()
    }

    /// The folders in which the limits of this instance are set.
    pub fn limit_folders(&self) -> BTreeSet<&Path> {
        self.places
            .values()
            .map(|place| place.instance.as_path())
            .collect()
    }

    /// The cgroup v1 folders that the shim belongs in.
    pub fn monitors(&self) -> &[PathBuf] {
        &self.monitors
    }

    /// The cgroup2 folder that the shim belongs in.
    pub fn monitor(&self) -> Option<PathBuf> {
        self.v2.as_ref().map(|v2| v2.join("monitor"))
    }

    /// Whether any of the folders is there: who is killed while they are made or removed leaves some of them.
    pub fn exist(&self) -> bool {
        self.v1.iter().chain(&self.v2).any(|folder| folder.is_dir())
    }

    /// The folders that a process of the container is in, by the text of its `/proc/PID/cgroup` as seen from the
    /// host's cgroup namespace. What `exec` must join: systemd moves itself below the payload, and a cgroup2 folder
    /// whose controllers are handed down takes no processes of its own.
    ///
    /// A hierarchy in which the process is not below this instance's folder yields that folder: what the text says
    /// is not trusted further.
    pub fn folders_of_process(&self, proc_cgroup: &str) -> Vec<PathBuf> {
        self.named
            .iter()
            .map(|(names, ours)| {
                proc_cgroup
                    .lines()
                    .find_map(|line| {
                        let mut fields = line.splitn(3, ':');
                        let (_, listed, path) = (fields.next()?, fields.next()?, fields.next()?);
                        if !listed.split(',').any(|name| names.contains(name)) {
                            return None;
                        }
                        below(ours, path)
                    })
                    .unwrap_or_else(|| ours.clone())
            })
            .collect()
    }

    /// Makes every folder and hands the controllers down to the payload. May be called again.
    ///
    /// # Errors
    /// [`CgroupError::NoHierarchy`], or the first folder that cannot be made.
    pub fn ensure(&self) -> Result<Ensured, CgroupError> {
        if self.home().is_none() {
            return Err(CgroupError::NoHierarchy);
        }
        let ensured = Ensured::new();
        self.ensure_cpuset_parent()?;
        for folder in self.monitors.iter().chain(&self.v1) {
            ensure_with_parent(folder)?;
        }
        if let (Some(v2), Some(hierarchy)) = (&self.v2, &self.delegating) {
            ensure_with_parent(v2)?;
            let mut from = Some(hierarchy.base.clone());
            // Only a parent that hands a controller down lets its children have it.
            while let Some(folder) = from.take() {
                enable(&folder, &hierarchy.controllers)?;
                from = match v2.strip_prefix(&folder) {
                    Ok(rest) => rest.iter().next().map(|next| folder.join(next)),
                    Err(_) => None,
                };
            }
            for leaf in ["payload", "monitor"] {
                path_io::ensure_dir(v2.join(leaf))?;
            }
        }
        Ok(ensured)
    }

    /// A v1 cpuset is born without CPUs and takes no process; ours inherit what the base has.
    fn ensure_cpuset_parent(&self) -> Result<(), CgroupError> {
        let (Some(base), Some(place)) = (&self.cpuset_base, self.place(Controller::Cpuset)) else {
            return Ok(());
        };
        let Some(parent) = place.instance.parent() else {
            return Ok(());
        };
        path_io::ensure_dir(parent)?;
        for name in ["cpuset.mems", "cpuset.cpus"] {
            let wanted = path_io::read_to_string(base.join(name))?;
            // Each write rebuilds the scheduler's domains: not without need.
            if path_io::read_to_string(parent.join(name))? != wanted {
                path_io::write_kernel_file(parent.join(name), wanted.trim())?;
            }
        }
        let inherit = parent.join("cgroup.clone_children");
        if path_io::read_to_string(&inherit)?.trim() != "1" {
            path_io::write_kernel_file(inherit, "1")?;
        }
        Ok(())
    }

    /// Hands the payload in cgroup2 over to the container's root (host ids): it may make cgroups below and move its
    /// processes, but cannot touch its own limits. Nothing to do without cgroup2.
    ///
    /// # Errors
    /// The first file that cannot be changed.
    pub fn delegate(&self, uid: u32, gid: u32, within: Delegation) -> Result<(), CgroupError> {
        let Some(payload) = self.payload() else {
            return Ok(());
        };
        path_io::write_kernel_file(
            payload.join("cgroup.max.descendants"),
            &within.descendants.to_string(),
        )?;
        path_io::write_kernel_file(payload.join("cgroup.max.depth"), &within.depth.to_string())?;
        let owner = (Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)));
        let mut handed = vec![
            payload.clone(),
            payload.join("cgroup.procs"),
            payload.join("cgroup.threads"),
            payload.join("cgroup.subtree_control"),
        ];
        // Which of these exist depends on the kernel's configuration.
        handed.extend(
            [
                "cpu.pressure",
                "io.pressure",
                "memory.pressure",
                "irq.pressure",
            ]
            .iter()
            .map(|name| payload.join(name))
            .filter(|path| path.exists()),
        );
        for path in handed {
            rustix::fs::chown(&path, owner.0, owner.1).at("change the owner of", &path)?;
        }
        Ok(())
    }
}

/// Moves a process (all its threads) into each of these folders.
///
/// # Errors
/// The first folder that does not take it.
pub fn join(folders: &[PathBuf], pid: u32) -> Result<(), CgroupError> {
    for folder in folders {
        path_io::write_kernel_file(folder.join("cgroup.procs"), &pid.to_string())?;
    }
    Ok(())
}

/// The uids of all instances that have a cgroup of this state folder's, in any hierarchy: what a crash left behind is
/// found here.
///
/// # Errors
/// A hierarchy that cannot be listed.
pub fn instances(hierarchies: &Hierarchies, state: &str) -> Result<BTreeSet<String>, CgroupError> {
    let bases = hierarchies
        .v1
        .iter()
        .map(|v1| &v1.base)
        .chain(hierarchies.v2.iter().map(|v2| &v2.base));
    let mut found = BTreeSet::new();
    for base in bases {
        let ours = base.join(format!("keel-{state}"));
        if !ours.is_dir() {
            continue;
        }
        for entry in path_io::list_folders(&ours)? {
            if let Some(name) = entry.file_name().and_then(|name| name.to_str())
                && ![MONITORS, NETWORKS].contains(&name)
            {
                found.insert(name.to_owned());
            }
        }
    }
    Ok(found)
}

/// `ours` followed by what `path` (of `/proc/PID/cgroup`) has below the two last names of `ours`.
fn below(ours: &Path, path: &str) -> Option<PathBuf> {
    // `keel-x/uid` on v1, `keel-x/uid/payload` on cgroup2: enough to be found again wherever the mount begins.
    let marker: PathBuf = ours
        .iter()
        .skip_while(|part| !part.to_str().is_some_and(|p| p.starts_with("keel-")))
        .collect();
    let path = Path::new(path);
    if marker.as_os_str().is_empty() || path.iter().any(|part| part == "..") {
        return None;
    }
    let mut candidate = path;
    loop {
        if candidate.ends_with(&marker) {
            return path
                .strip_prefix(candidate)
                .ok()
                .map(|rest| ours.join(rest));
        }
        candidate = candidate.parent()?;
    }
}

fn ensure_with_parent(folder: &Path) -> Result<(), PathError> {
    match (path_io::ensure_dir(folder), folder.parent()) {
        (Err(error), Some(parent)) if error.kind() == std::io::ErrorKind::NotFound => {
            path_io::ensure_dir(parent)?;
            path_io::ensure_dir(folder)
        }
        (result, _) => result,
    }
}

/// Enables controllers for the children of a cgroup2 folder, each by itself: one that this folder cannot hand down
/// does not take the others with it (its limit is then `Unsupported`).
fn enable(folder: &Path, wanted: &BTreeSet<Controller>) -> Result<(), PathError> {
    let path = folder.join("cgroup.subtree_control");
    let enabled = path_io::read_to_string(&path)?;
    for controller in wanted {
        if enabled
            .split_whitespace()
            .any(|name| name == controller.name())
        {
            continue;
        }
        if let Err(error) = path_io::write_kernel_file(&path, &format!("+{controller}")) {
            tracing::debug!(%controller, folder = %folder.display(), error = %error.source, "not enabled");
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::native::cgroup::hierarchies::V1Hierarchy;

    fn hybrid() -> Hierarchies {
        let v1 = |controllers: &[Controller], name: Option<&str>, base: &str| V1Hierarchy {
            controllers: controllers.iter().copied().collect(),
            name: name.map(str::to_owned),
            base: base.into(),
        };
        Hierarchies {
            v1: vec![
                v1(&[Controller::Memory], None, "/cg/memory"),
                v1(&[Controller::Cpu, Controller::Cpuacct], None, "/cg/cpu/own"),
                v1(&[], Some("systemd"), "/cg/systemd"),
            ],
            v2: Some(V2Hierarchy {
                controllers: BTreeSet::from([Controller::Pids]),
                base: "/cg/two".into(),
                mount: "/cg/two".into(),
            }),
        }
    }

    #[test]
    fn each_hierarchy_has_the_instance_once() {
        let cgroups = InstanceCgroups::of(&hybrid(), "s1", "u1");
        assert_eq!(
            cgroups.payload_folders(),
            [
                "/cg/memory/keel-s1/u1",
                "/cg/cpu/own/keel-s1/u1",
                "/cg/systemd/keel-s1/u1",
                "/cg/two/keel-s1/u1/payload",
            ]
            .map(PathBuf::from)
        );
        assert_eq!(cgroups.monitor(), Some("/cg/two/keel-s1/u1/monitor".into()));
        assert_eq!(cgroups.place(Controller::Cpu).unwrap().version, Version::V1);
        let pids = cgroups.place(Controller::Pids).unwrap();
        assert_eq!(
            (pids.version, pids.instance.ends_with("u1")),
            (Version::V2, true)
        );
        assert_eq!(cgroups.place(Controller::Io), None);
    }

    #[test]
    fn exec_joins_where_init_is_but_never_outside() {
        let cgroups = InstanceCgroups::of(&hybrid(), "s1", "u1");
        let folders = cgroups.folders_of_process(
            "4:memory:/keel-s1/u1\n3:cpu,cpuacct:/own/keel-s1/u1\n1:name=systemd:/keel-s1/u2\n\
             0::/keel-s1/u1/payload/init.scope\n",
        );
        assert_eq!(
            folders,
            [
                "/cg/memory/keel-s1/u1",
                "/cg/cpu/own/keel-s1/u1",
                "/cg/systemd/keel-s1/u1",
                "/cg/two/keel-s1/u1/payload/init.scope",
            ]
            .map(PathBuf::from)
        );
        let folders = cgroups.folders_of_process("0::/keel-s1/u1/payload/../../u2/payload\n");
        assert_eq!(folders.last(), Some(&"/cg/two/keel-s1/u1/payload".into()));
    }
}
