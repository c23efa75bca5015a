//! From an instance's spec to the plan of one start: pure.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use manifests::devices::disk::{DiskSource, Propagation as Written};
use manifests::devices::{Device, Disk, UnixDevice};
use manifests::instance::files::File;
use manifests::instance::limits::KernelLimits;
use manifests::instance::security::{KernelMount, SeccompProfile};
use manifests::kinds::instance::Instance;
use manifests::scalar::id_map::{IdMapEntry, IdMapKind};
use manifests::scalar::kernel_limit::KernelLimit;

use crate::native::container::capabilities::Capabilities;
use crate::native::container::plan::{
    CgroupPlan, ContainerPlan, DeviceOwner, DevicePlan, FilePlan, IdMap, IdSpan, LimitPlan,
    MountPlan, MountSource, ProgramPlan, Propagation, RootPlan, TimePlan,
};
use crate::native::container::seccomp::Seccomp;
use crate::native::image::ImageProperties;
use crate::shim::messages::{Access, Restart};

/// What a start needs besides the spec: where things are on this host.
pub(super) struct Surroundings<'a> {
    /// Name of the instance.
    pub name: &'a str,
    /// Its identity.
    pub uid: String,
    /// Number of this start.
    pub generation: u64,
    /// Its run folder.
    pub run_dir: PathBuf,
    /// Where compiled seccomp filters are kept.
    pub filters: PathBuf,
    /// What becomes `/`.
    pub root: RootPlan,
    /// Its ids on the host; none for a privileged one.
    pub ids: Option<IdMap>,
    /// Its cgroups.
    pub cgroups: CgroupPlan,
    /// What its image says of itself.
    pub image: &'a ImageProperties,
    /// `/etc/hosts` and such, made by the engine.
    pub own_files: Vec<FilePlan>,
    /// The files of the manifest that were put as they are.
    pub put: Put,
    /// What its unix devices are on this host.
    pub nodes: &'a Nodes,
}

/// Paths of files that are as they were put last.
#[derive(Debug, Default)]
pub(super) struct Put(BTreeSet<String>);

impl Put {
    /// Those of the files of a manifest that were put just so.
    pub(super) fn of(
        files: Option<&BTreeMap<String, File>>,
        before: &BTreeMap<String, File>,
    ) -> Self {
        let files = files.into_iter().flatten();
        let same = files.filter(|(path, file)| before.get(*path) == Some(*file));
        Self(same.map(|(path, _)| path.clone()).collect())
    }
}

/// The PATH of a system container that says nothing else.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The plan of one start.
pub(super) fn plan(instance: &Instance, around: Surroundings<'_>) -> ContainerPlan {
    let security = &instance.security;
    let mut files = around.own_files;
    if let Some(written) = &instance.files.0 {
        files.extend(written.iter().map(|(path, file)| FilePlan {
            // Without `enforce` the guest's changes stay until the manifest changes; with it they are put back.
            only_if_absent: !file.enforce && around.put.0.contains(path),
            ..super::files::plan(path, file)
        }));
    }
    let own_users = around.ids.is_some();
    ContainerPlan {
        name: around.name.to_owned(),
        uid: around.uid,
        generation: around.generation,
        run_dir: around.run_dir,
        filters: Some(around.filters),
        hostname: around.name.to_owned(),
        root: around.root,
        ids: around.ids,
        cgroups: around.cgroups,
        mounts: mounts(instance),
        devices: devices(instance, around.nodes),
        files,
        proc: access(security.mounts.proc),
        sys: access(security.mounts.sys),
        cgroup: access(security.mounts.cgroup),
        command: program(instance, around.image),
        capabilities: match &security.capabilities.keep {
            Some(names) => Capabilities::Keep(names.clone()),
            None => Capabilities::Drop {
                defaults: security.capabilities.drop_defaults,
                names: security.capabilities.drop.clone(),
            },
        },
        seccomp: (security.seccomp.profile == SeccompProfile::Default).then(|| Seccomp {
            allow: security.seccomp.allow.clone(),
            deny: security.seccomp.deny.clone(),
            deny_compat: security.seccomp.deny_compat,
            nesting: security.nesting.unwrap_or(false),
        }),
        limits: resource_limits(&instance.limits.kernel),
        sysctls: sysctls(instance, own_users),
        time: instance.time_namespace.as_ref().map(|time| TimePlan {
            monotonic: 0,
            boottime: i64::try_from(time.boot_offset.seconds()).unwrap_or(i64::MAX),
        }),
        // A reboot from inside is a restart always.
        restart: Some(Restart::usual(instance.boot.autorestart)),
    }
}

/// Kernel parameters of the container. Where nesting is off, it makes no user namespaces, also without the filter.
fn sysctls(instance: &Instance, own_users: bool) -> Vec<(String, String)> {
    // Without a user namespace of its own this would be the host's.
    let nested = instance.security.nesting.unwrap_or(false) || !own_users;
    let none = ("user.max_user_namespaces".to_owned(), "0".to_owned());
    let written = instance
        .sysctl
        .iter()
        .filter_map(|(name, value)| Some((name.clone(), value.as_plain()?.to_owned())));
    (!nested)
        .then_some(none)
        .into_iter()
        .chain(written)
        .collect()
}

/// The ids of an instance whose own begin at `base` on the host.
///
/// # Errors
/// Two stretches of `security.idmap.extra` overlap.
pub(super) fn ids(instance: &Instance, base: u32) -> Result<IdMap, String> {
    let written = &instance.security.idmap;
    let of = |kind: IdMapKind| -> Vec<IdSpan> {
        let counts = |entry: &&IdMapEntry| [kind, IdMapKind::Both].contains(&entry.kind);
        let span = |entry: &IdMapEntry| IdSpan {
            inside: entry.instance,
            outside: entry.host,
            length: entry.count,
        };
        written.extra.iter().filter(counts).map(span).collect()
    };
    IdMap::with(base, written.size, &of(IdMapKind::Uid), &of(IdMapKind::Gid))
        .map_err(|why| format!("security.idmap.extra: {why}"))
}

fn access(written: KernelMount) -> Access {
    match written {
        KernelMount::Mixed => Access::Mixed,
        KernelMount::ReadOnly => Access::ReadOnly,
        KernelMount::ReadWrite => Access::ReadWrite,
    }
}

fn program(instance: &Instance, image: &ImageProperties) -> ProgramPlan {
    let from_image = Some(image.command.clone()).filter(|command| !command.is_empty());
    let arguments = instance
        .command
        .clone()
        .or(from_image)
        .unwrap_or_else(|| vec!["/sbin/init".to_owned()]);
    let mut environment: BTreeMap<String, String> = BTreeMap::new();
    environment.insert("PATH".to_owned(), PATH.to_owned());
    environment.insert("TERM".to_owned(), "linux".to_owned());
    environment.extend(
        image
            .environment
            .iter()
            .map(|(name, value)| (name.clone(), value.clone())),
    );
    environment.extend(
        instance
            .environment
            .iter()
            .filter_map(|(name, value)| Some((name.clone(), value.as_plain()?.to_owned()))),
    );
    // systemd and others look for it (https://systemd.io/CONTAINER_INTERFACE).
    environment.insert("container".to_owned(), "lxc".to_owned());
    ProgramPlan {
        arguments,
        environment: environment.into_iter().collect(),
        directory: instance
            .oci
            .working_dir
            .as_ref()
            .map(|path| path.as_str().to_owned())
            .or_else(|| image.working_dir.clone())
            .unwrap_or_else(|| "/".to_owned()),
        uid: instance.oci.uid.unwrap_or(0),
        gid: instance.oci.gid.unwrap_or(0),
        groups: Vec::new(),
    }
}

/// The mounts of an instance by device, without its root.
pub(super) fn mount_of(disk: &Disk) -> Option<MountPlan> {
    let target = disk.path.as_ref()?.as_str().to_owned();
    let what = match disk.made_of() {
        DiskSource::Host(path) => MountSource::Bind {
            path: Path::new(path).to_path_buf(),
            shift: disk.shift,
            recursive: disk.recursive,
            propagation: match disk.propagation {
                Written::Shared | Written::RecursiveShared => Propagation::Shared,
                Written::Slave | Written::RecursiveSlave => Propagation::Slave,
                _ => Propagation::Private,
            },
        },
        DiskSource::Tmpfs => MountSource::Tmpfs {
            size: disk
                .size
                .as_ref()
                .map(manifests::scalar::byte_size::ByteSize::bytes),
            mode: 0o1777,
        },
        DiskSource::Root | DiskSource::Volume { .. } | DiskSource::Other(_) => return None,
    };
    Some(MountPlan {
        target,
        what,
        read_only: disk.readonly,
        // What is in a volume only instances have put there, and nobody else on the host reaches it.
        nosuid_nodev: disk.pool.is_none(),
    })
}

fn mounts(instance: &Instance) -> Vec<MountPlan> {
    let mut mounts: Vec<MountPlan> = instance
        .devices
        .values()
        .filter_map(Device::as_disk)
        .filter(|disk| is_present(disk))
        .filter_map(mount_of)
        .collect();
    // `/srv` before `/srv/data`: a mount hides what was mounted below it before.
    mounts.sort_by(|a, b| a.target.cmp(&b.target));
    mounts
}

/// A disk that is not required and whose source is not there is left out.
pub(super) fn is_present(disk: &Disk) -> bool {
    match disk.made_of() {
        DiskSource::Host(path) => disk.required || Path::new(path).exists(),
        _ => true,
    }
}

/// The unix devices of an instance with whether they are block devices.
pub(super) fn unix_devices(instance: &Instance) -> impl Iterator<Item = (&str, &UnixDevice, bool)> {
    instance
        .devices
        .iter()
        .filter_map(|(name, device)| match device {
            Device::UnixChar(device) => Some((name.as_str(), device.as_ref(), false)),
            Device::UnixBlock(device) => Some((name.as_str(), device.as_ref(), true)),
            _ => None,
        })
}

/// The unix devices as they are bound into a container, by the numbers that were found for them.
pub(super) fn devices(instance: &Instance, nodes: &Nodes) -> Vec<DevicePlan> {
    unix_devices(instance)
        .filter_map(|(name, device, block)| {
            let (major, minor) = *nodes.get(name)?;
            Some(DevicePlan {
                path: device.on_host()?.as_path().to_path_buf(),
                target: device.in_instance()?.as_str().to_owned(),
                block,
                major,
                minor,
                owner: Some(DeviceOwner {
                    uid: device.uid,
                    gid: device.gid,
                    mode: device.mode.0,
                }),
            })
        })
        .collect()
}

/// Numbers of device nodes, major and minor, by the name of the device.
pub(super) type Nodes = BTreeMap<String, (u32, u32)>;

fn resource_limits(limits: &KernelLimits) -> Vec<LimitPlan> {
    let KernelLimits {
        r#as,
        core,
        cpu,
        data,
        fsize,
        locks,
        memlock,
        msgqueue,
        nice,
        nofile,
        nproc,
        rss,
        rtprio,
        rttime,
        sigpending,
        stack,
    } = limits;
    let all: [(&str, &Option<KernelLimit>); 16] = [
        ("as", r#as),
        ("core", core),
        ("cpu", cpu),
        ("data", data),
        ("fsize", fsize),
        ("locks", locks),
        ("memlock", memlock),
        ("msgqueue", msgqueue),
        ("nice", nice),
        ("nofile", nofile),
        ("nproc", nproc),
        ("rss", rss),
        ("rtprio", rtprio),
        ("rttime", rttime),
        ("sigpending", sigpending),
        ("stack", stack),
    ];
    all.into_iter()
        .filter_map(|(name, limit)| {
            let limit = limit.as_ref()?;
            Some(LimitPlan {
                name: name.to_owned(),
                soft: limit.soft,
                hard: limit.hard,
            })
        })
        .collect()
}
