//! Where each controller lives on this host: chosen per controller, from the mount table, never from the host's name.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::{Path, PathBuf};

use manifests::path_io::{self, PathError};
use rustix::fs::Access;

/// A cgroup controller by its cgroup2 name; the comment in [`Controller::v1_name`] has the older ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Controller {
    /// CPU time: weight and quota.
    Cpu,
    /// CPU time used (cgroup v1 only; cgroup2 always counts).
    Cpuacct,
    /// CPUs and memory nodes.
    Cpuset,
    /// Memory and swap.
    Memory,
    /// Processes and threads.
    Pids,
    /// Block devices.
    Io,
    /// Huge pages.
    Hugetlb,
    /// Device nodes (cgroup v1 only; cgroup2 has programs instead).
    Devices,
    /// Freezing (cgroup v1 only; cgroup2 always can).
    Freezer,
}

impl Controller {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::Cpu,
        Self::Cpuacct,
        Self::Cpuset,
        Self::Memory,
        Self::Pids,
        Self::Io,
        Self::Hugetlb,
        Self::Devices,
        Self::Freezer,
    ];

    /// Its name as an option of a cgroup v1 mount.
    pub fn v1_name(self) -> &'static str {
        match self {
            Self::Io => "blkio",
            other => other.name(),
        }
    }

    /// Its name in `cgroup.controllers` of cgroup2 (those that cgroup2 does not have keep their v1 name).
    pub fn name(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            Self::Cpuacct => "cpuacct",
            Self::Cpuset => "cpuset",
            Self::Memory => "memory",
            Self::Pids => "pids",
            Self::Io => "io",
            Self::Hugetlb => "hugetlb",
            Self::Devices => "devices",
            Self::Freezer => "freezer",
        }
    }
}

impl fmt::Display for Controller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The two generations.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    /// One hierarchy per controller.
    V1,
    /// One hierarchy for all.
    V2,
}

/// A mounted cgroup v1 hierarchy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct V1Hierarchy {
    /// The controllers bound to it (several when co-mounted, none for a named one).
    pub controllers: BTreeSet<Controller>,
    /// The name of a named hierarchy, such as `systemd`.
    pub name: Option<String>,
    /// The folder below which ours are made.
    pub base: PathBuf,
}

/// The mounted cgroup2 hierarchy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct V2Hierarchy {
    /// The controllers that can be enabled below `base`.
    pub controllers: BTreeSet<Controller>,
    /// The folder below which ours are made.
    pub base: PathBuf,
    /// Where the hierarchy is mounted; `base` is this or below.
    pub mount: PathBuf,
}

/// Every cgroup hierarchy that matters here.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Hierarchies {
    /// cgroup v1, in mount order.
    pub v1: Vec<V1Hierarchy>,
    /// cgroup2, if mounted.
    pub v2: Option<V2Hierarchy>,
}

/// The texts from which [`Hierarchies::probe`] decides.
#[derive(Debug, Clone, Default)]
pub struct Texts<'a> {
    /// `/proc/self/mountinfo`.
    pub mountinfo: &'a str,
    /// `/proc/self/cgroup`.
    pub own: &'a str,
    /// `cgroup.controllers` by the folder it was read in.
    pub controllers: BTreeMap<PathBuf, String>,
    /// Folders in which we may make cgroups.
    pub writable: BTreeSet<PathBuf>,
}

/// One cgroup mount of the mount table.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Mount {
    point: PathBuf,
    /// The part of the hierarchy that is mounted here.
    root: String,
    two: bool,
    options: Vec<String>,
}

impl Hierarchies {
    /// Reads where the controllers of this host are.
    ///
    /// # Errors
    /// `/proc/self/mountinfo` or `/proc/self/cgroup` cannot be read.
    pub fn read() -> Result<Self, PathError> {
        let mountinfo = path_io::read_to_string("/proc/self/mountinfo")?;
        let own = path_io::read_to_string("/proc/self/cgroup")?;
        let mut texts = Texts {
            mountinfo: &mountinfo,
            own: &own,
            ..Texts::default()
        };
        for mount in mounts(&mountinfo) {
            for base in [Some(mount.point.clone()), own_folder(&mount, &own)]
                .into_iter()
                .flatten()
            {
                if mount.two
                    && let Ok(text) = path_io::read_to_string(base.join("cgroup.controllers"))
                {
                    texts.controllers.insert(base.clone(), text);
                }
                // access(2) answers EROFS for a read-only mount, also to root.
                if rustix::fs::access(&base, Access::WRITE_OK).is_ok() {
                    texts.writable.insert(base);
                }
            }
        }
        Ok(Self::probe(&texts))
    }

    /// Decides from texts. The root of a hierarchy is taken where it is writable, else the cgroup we are in; a
    /// hierarchy where neither is writable counts as absent.
    pub fn probe(texts: &Texts<'_>) -> Self {
        let mut found = Self::default();
        for mount in mounts(texts.mountinfo) {
            let Some(base) = [Some(mount.point.clone()), own_folder(&mount, texts.own)]
                .into_iter()
                .flatten()
                .find(|base| texts.writable.contains(base))
            else {
                continue;
            };
            if mount.two {
                if found.v2.is_none() {
                    let text = texts.controllers.get(&base).map_or("", String::as_str);
                    let controllers = Controller::ALL
                        .into_iter()
                        .filter(|c| text.split_whitespace().any(|word| word == c.name()))
                        .collect();
                    found.v2 = Some(V2Hierarchy {
                        controllers,
                        base,
                        mount: mount.point,
                    });
                }
                continue;
            }
            let controllers: BTreeSet<Controller> = Controller::ALL
                .into_iter()
                .filter(|c| mount.options.iter().any(|option| option == c.v1_name()))
                .collect();
            let name = mount
                .options
                .iter()
                .find_map(|option| option.strip_prefix("name="))
                .map(str::to_owned);
            // Others (perf_event, net_cls, rdma) are left alone: nothing here is theirs to limit.
            if controllers.is_empty() && name.as_deref() != Some("systemd") {
                continue;
            }
            // The same hierarchy can be mounted twice; the first is as good as the second.
            if found
                .v1
                .iter()
                .any(|seen| seen.controllers == controllers && seen.name == name)
            {
                continue;
            }
            found.v1.push(V1Hierarchy {
                controllers,
                name,
                base,
            });
        }
        found
    }

    /// Where a controller lives.
    pub fn version(&self, controller: Controller) -> Option<Version> {
        if self.v1_of(controller).is_some() {
            Some(Version::V1)
        } else if self
            .v2
            .as_ref()
            .is_some_and(|v2| v2.controllers.contains(&controller))
        {
            Some(Version::V2)
        } else {
            None
        }
    }

    /// The cgroup v1 hierarchy of a controller.
    pub fn v1_of(&self, controller: Controller) -> Option<&V1Hierarchy> {
        self.v1
            .iter()
            .find(|hierarchy| hierarchy.controllers.contains(&controller))
    }
}

/// The folder of the cgroup we are in, where it is visible below the mount.
fn own_folder(mount: &Mount, own: &str) -> Option<PathBuf> {
    let path = own.lines().find_map(|line| {
        let mut fields = line.splitn(3, ':');
        let (_, names, path) = (fields.next()?, fields.next()?, fields.next()?);
        let ours = if mount.two {
            names.is_empty()
        } else {
            !names.is_empty()
                && names
                    .split(',')
                    .all(|n| mount.options.iter().any(|o| o == n))
        };
        ours.then_some(path)
    })?;
    let below = path.strip_prefix(mount.root.trim_end_matches('/'))?;
    let below = below.trim_start_matches('/');
    // `/..` is shown to a process outside its cgroup namespace's root: no folder of ours.
    if below.is_empty() || Path::new(below).starts_with("..") {
        return None;
    }
    Some(mount.point.join(below))
}

/// The cgroup mounts of a mount table (`proc_pid_mountinfo(5)`).
fn mounts(mountinfo: &str) -> Vec<Mount> {
    mountinfo
        .lines()
        .filter_map(|line| {
            let (left, right) = line.split_once(" - ")?;
            let mut right = right.split(' ');
            let kind = right.next()?;
            let two = match kind {
                "cgroup2" => true,
                "cgroup" => false,
                _ => return None,
            };
            let options = right.nth(1)?.split(',').map(str::to_owned).collect();
            let mut left = left.split(' ').skip(3);
            Some(Mount {
                root: unescape(left.next()?),
                point: unescape(left.next()?).into(),
                two,
                options,
            })
        })
        .collect()
}

/// Undoes the octal escapes of the mount table (space, tab, newline, backslash).
fn unescape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('\\') {
        out.push_str(&rest[..at]);
        let code = rest.get(at + 1..at + 4);
        match code.and_then(|c| u8::from_str_radix(c, 8).ok()) {
            Some(byte) => {
                out.push(char::from(byte));
                rest = &rest[at + 4..];
            }
            None => {
                out.push('\\');
                rest = &rest[at + 1..];
            }
        }
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    const HYBRID: &str = "\
31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,relatime shared:9 - cgroup cgroup rw,cpu,cpuacct
35 31 0:32 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory
38 31 0:35 / /sys/fs/cgroup/blkio rw,relatime - cgroup cgroup rw,blkio
39 31 0:36 / /sys/fs/cgroup/net_cls rw,relatime - cgroup cgroup rw,net_cls,net_prio
40 31 0:37 / /sys/fs/cgroup/systemd rw,relatime - cgroup cgroup rw,xattr,name=systemd
41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw,nsdelegate
";
    const UNIFIED: &str = "30 23 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate,memory_recursiveprot\n";

    fn probe(
        mountinfo: &str,
        own: &str,
        writable: &[&str],
        controllers: &[(&str, &str)],
    ) -> Hierarchies {
        Hierarchies::probe(&Texts {
            mountinfo,
            own,
            controllers: controllers
                .iter()
                .map(|(path, text)| (PathBuf::from(path), (*text).to_owned()))
                .collect(),
            writable: writable.iter().map(PathBuf::from).collect(),
        })
    }

    #[test]
    fn a_hybrid_host_has_each_controller_where_it_is_mounted() {
        let found = probe(
            HYBRID,
            "0::/\n",
            &[
                "/sys/fs/cgroup/cpu,cpuacct",
                "/sys/fs/cgroup/memory",
                "/sys/fs/cgroup/blkio",
                "/sys/fs/cgroup/net_cls",
                "/sys/fs/cgroup/systemd",
                "/sys/fs/cgroup/unified",
            ],
            &[("/sys/fs/cgroup/unified", "hugetlb\n")],
        );
        for (controller, version) in [
            (Controller::Cpu, Some(Version::V1)),
            (Controller::Cpuacct, Some(Version::V1)),
            (Controller::Memory, Some(Version::V1)),
            (Controller::Io, Some(Version::V1)),
            (Controller::Hugetlb, Some(Version::V2)),
            (Controller::Pids, None),
            (Controller::Devices, None),
        ] {
            assert_eq!(found.version(controller), version, "{controller}");
        }
        assert_eq!(found.v1.len(), 4, "net_cls is nobody's: {found:?}");
        assert_eq!(found.v1[3].name.as_deref(), Some("systemd"));
        assert_eq!(found.v2.unwrap().base, Path::new("/sys/fs/cgroup/unified"));
    }

    #[test]
    fn cgroup2_alone_has_all() {
        let found = probe(
            UNIFIED,
            "0::/user.slice/user-0.slice/session-1.scope\n",
            &[
                "/sys/fs/cgroup",
                "/sys/fs/cgroup/user.slice/user-0.slice/session-1.scope",
            ],
            &[(
                "/sys/fs/cgroup",
                "cpuset cpu io memory hugetlb pids rdma misc\n",
            )],
        );
        assert!(found.v1.is_empty());
        assert_eq!(found.v2.as_ref().unwrap().base, Path::new("/sys/fs/cgroup"));
        for controller in [
            Controller::Cpu,
            Controller::Cpuset,
            Controller::Io,
            Controller::Memory,
            Controller::Hugetlb,
            Controller::Pids,
        ] {
            assert_eq!(found.version(controller), Some(Version::V2));
        }
        assert_eq!(found.version(Controller::Devices), None);
    }

    #[test]
    fn our_own_cgroup_is_the_parent_only_where_the_root_is_not_writable() {
        let own = "4:memory:/docker/abc/inner\n0::/box.scope/in\n";
        let memory = "35 31 0:32 /docker/abc /cg/mem\\040ory rw - cgroup cgroup rw,memory\n";
        let two = "36 31 0:33 / /cg/two rw - cgroup2 cgroup2 rw\n";
        let found = probe(
            &format!("{memory}{two}"),
            own,
            &["/cg/mem ory/inner", "/cg/two/box.scope/in"],
            &[
                ("/cg/two", "cpu memory pids\n"),
                ("/cg/two/box.scope/in", "pids\n"),
            ],
        );
        assert_eq!(found.v1[0].base, Path::new("/cg/mem ory/inner"));
        assert_eq!(
            found.v2.as_ref().unwrap().base,
            Path::new("/cg/two/box.scope/in")
        );
        assert_eq!(found.version(Controller::Pids), Some(Version::V2));
        assert_eq!(
            found.version(Controller::Cpu),
            None,
            "not handed down to us"
        );
        let found = probe(memory, own, &["/cg/mem ory", "/cg/mem ory/inner"], &[]);
        assert_eq!(found.v1[0].base, Path::new("/cg/mem ory"));
    }

    #[test]
    fn where_nothing_is_mounted_or_writable_there_is_nothing() {
        assert_eq!(probe("", "0::/\n", &[], &[]), Hierarchies::default());
        assert_eq!(probe(HYBRID, "0::/..\n", &[], &[]), Hierarchies::default());
    }
}
