//! What is read from the host for `doctor`: texts and numbers, no judgement.

use std::collections::BTreeMap;
use std::path::Path;

use manifests::path_io;
use rustix::mount::{OpenTreeFlags, open_tree};

use super::machines::MachineHost;
use crate::native::cgroup::{Controller, Hierarchies, Version};
use crate::sys::command::run;
use crate::sys::mount::{Attributes, set_attributes};
use crate::sys::user_namespace::user_namespace;

/// The first host id that keel gives to containers.
pub(super) const FIRST_ID: u64 = 1_000_000;

/// Programs that parts of the engine call.
const PROGRAMS: [&str; 9] = [
    "nft",
    "dnsmasq",
    "mke2fs",
    "resize2fs",
    "mkfs.btrfs",
    "unsquashfs",
    "busybox",
    "unshare",
    "git",
];

/// What was read. `None`: this kernel does not have it, or it could not be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    /// `uname -r`.
    pub kernel: String,
    /// Names in `/proc/self/ns`.
    pub namespaces: Vec<String>,
    /// `user.max_user_namespaces`.
    pub max_user_namespaces: Option<u64>,
    /// The effective capabilities as a mask.
    pub capabilities: u64,
    /// The file system of the state folder, by name.
    pub state_file_system: String,
    /// Whether a folder of the state folder can be id-mapped, else the kernel's answer.
    pub idmapped: Option<Result<(), String>>,
    /// Whether overlay mounts inside a user namespace on it, else the answer.
    pub overlay: Option<Result<(), String>>,
    /// Where each controller is.
    pub controllers: BTreeMap<&'static str, Option<u8>>,
    /// Whether cgroup2 is mounted and writable.
    pub cgroup2: bool,
    /// The hard limit of open files; `None` is unlimited.
    pub open_files: Option<u64>,
    /// `fs.inotify.max_user_instances`.
    pub inotify: Option<u64>,
    /// `fs.inotify.max_user_watches`.
    pub inotify_watches: Option<u64>,
    /// `kernel.keys.maxkeys`.
    pub keys: Option<u64>,
    /// `kernel.keys.maxbytes`.
    pub key_bytes: Option<u64>,
    /// `net.netfilter.nf_conntrack_max`; absent also where the module is not loaded yet.
    pub connections: Option<u64>,
    /// `net.ipv4.neigh.default.gc_thresh3`.
    pub neighbours: Option<u64>,
    /// `kernel.pty.max`.
    pub terminals: Option<u64>,
    /// `kernel.core_pattern`.
    pub core_pattern: Option<String>,
    /// `dev.tty.legacy_tiocsti`.
    pub tiocsti: Option<u64>,
    /// `kernel.io_uring_disabled`: 2 is off.
    pub io_uring: Option<u64>,
    /// Programs by name, with whether they were found.
    pub programs: BTreeMap<&'static str, bool>,
    /// `/etc/subuid` and `/etc/subgid`, one after the other.
    pub subordinate_ids: String,
    /// Whether `/dev/loop-control` can be opened, else the kernel's answer.
    pub loop_devices: Result<(), String>,
    /// `/sys/module/apparmor/parameters/enabled` is `Y`.
    pub apparmor: bool,
    /// `/sys/fs/selinux/enforce`.
    pub selinux: Option<u64>,
    /// `/var/lib/lxcfs/proc/meminfo` can be read; `None` where there is no lxcfs.
    pub lxcfs: Option<bool>,
    /// What virtual machines need.
    pub machines: MachineHost,
}

impl Facts {
    /// Reads the host. `state` is the state folder (the nearest folder above that exists is probed); two temporary
    /// folders are made in it and removed. What cannot be read is left out, never an error.
    pub fn read(state: &Path) -> Self {
        let state = state
            .ancestors()
            .find(|folder| folder.is_dir())
            .unwrap_or_else(|| Path::new("/"));
        let state_file_system = file_system_of(state);
        let hierarchies = Hierarchies::read().unwrap_or_default();
        let controllers = Controller::ALL
            .into_iter()
            .map(|controller| {
                let version = hierarchies
                    .version(controller)
                    .map(|version| match version {
                        Version::V1 => 1,
                        Version::V2 => 2,
                    });
                (controller.name(), version)
            })
            .collect();
        Self {
            kernel: rustix::system::uname()
                .release()
                .to_string_lossy()
                .into_owned(),
            namespaces: path_io::list("/proc/self/ns")
                .unwrap_or_default()
                .iter()
                .filter_map(|path| Some(path.file_name()?.to_str()?.to_owned()))
                .collect(),
            max_user_namespaces: sysctl("user/max_user_namespaces"),
            capabilities: text("/proc/self/status")
                .and_then(|status| {
                    let line = status.lines().find_map(|l| l.strip_prefix("CapEff:"))?;
                    u64::from_str_radix(line.trim(), 16).ok()
                })
                .unwrap_or(0),
            idmapped: in_scratch(state, "idmap", probe_idmap),
            overlay: in_scratch(state, "overlay", probe_overlay),
            state_file_system,
            loop_devices: probe_loop_devices(),
            cgroup2: hierarchies.v2.is_some(),
            controllers,
            open_files: rustix::process::getrlimit(rustix::process::Resource::Nofile).maximum,
            inotify: sysctl("fs/inotify/max_user_instances"),
            inotify_watches: sysctl("fs/inotify/max_user_watches"),
            keys: sysctl("kernel/keys/maxkeys"),
            key_bytes: sysctl("kernel/keys/maxbytes"),
            connections: sysctl("net/netfilter/nf_conntrack_max"),
            neighbours: sysctl("net/ipv4/neigh/default/gc_thresh3"),
            terminals: sysctl("kernel/pty/max"),
            core_pattern: text("/proc/sys/kernel/core_pattern"),
            tiocsti: sysctl("dev/tty/legacy_tiocsti"),
            io_uring: sysctl("kernel/io_uring_disabled"),
            programs: PROGRAMS
                .into_iter()
                .map(|name| (name, installed(name)))
                .collect(),
            subordinate_ids: ["/etc/subuid", "/etc/subgid"]
                .into_iter()
                .filter_map(text)
                .collect::<Vec<_>>()
                .join("\n"),
            apparmor: text("/sys/module/apparmor/parameters/enabled").as_deref() == Some("Y"),
            selinux: text("/sys/fs/selinux/enforce").and_then(|text| text.parse().ok()),
            machines: MachineHost::read(),
            lxcfs: Path::new("/var/lib/lxcfs")
                .is_dir()
                .then(|| text("/var/lib/lxcfs/proc/meminfo").is_some()),
        }
    }
}

fn text(path: &str) -> Option<String> {
    Some(path_io::read_to_string(path).ok()?.trim().to_owned())
}

fn sysctl(name: &str) -> Option<u64> {
    text(&format!("/proc/sys/{name}"))?.parse().ok()
}

/// Where `sys::command` would find it.
pub(super) fn installed(name: &str) -> bool {
    [
        "/usr/local/sbin",
        "/usr/local/bin",
        "/usr/sbin",
        "/usr/bin",
        "/sbin",
        "/bin",
    ]
    .iter()
    .any(|folder| Path::new(folder).join(name).is_file())
}

/// The file system that a folder is on: of the last mount above it in the mount table.
fn file_system_of(folder: &Path) -> String {
    let table = text("/proc/self/mountinfo").unwrap_or_default();
    file_system_in(&table, folder).unwrap_or_default()
}

pub(super) fn file_system_in(table: &str, folder: &Path) -> Option<String> {
    table
        .lines()
        .filter_map(|line| {
            let (left, right) = line.split_once(" - ")?;
            let point = left.split(' ').nth(4)?;
            let kind = right.split(' ').next()?;
            folder
                .starts_with(point)
                .then(|| (point.len(), kind.to_owned()))
        })
        // The longest is the nearest; of equals the last covers the others.
        .max_by_key(|(length, _)| *length)
        .map(|(_, kind)| kind)
}

/// Opens what loop devices are asked for at; that loads the kernel's module, and takes no device.
fn probe_loop_devices() -> Result<(), String> {
    let flags = rustix::fs::OFlags::RDWR | rustix::fs::OFlags::CLOEXEC;
    rustix::fs::open("/dev/loop-control", flags, rustix::fs::Mode::empty())
        .map(drop)
        .map_err(|error| format!("/dev/loop-control: {error}"))
}

/// Runs a probe in a folder of its own and removes it; `None` where none can be made.
fn in_scratch(
    state: &Path,
    name: &str,
    probe: fn(&Path) -> Result<(), String>,
) -> Option<Result<(), String>> {
    let folder = state.join(format!(".keel-probe-{name}-{}", std::process::id()));
    path_io::ensure_dir(&folder).ok()?;
    let result = probe(&folder);
    if let Err(error) = crate::sys::remove_tree::remove_tree(&folder) {
        tracing::warn!(folder = %folder.display(), %error, "a probe's folder is left behind");
    }
    Some(result)
}

/// Clones the mount of a folder and gives it the map of a container; nothing is attached anywhere.
fn probe_idmap(folder: &Path) -> Result<(), String> {
    let base = u32::try_from(FIRST_ID).unwrap_or(u32::MAX);
    let namespace =
        user_namespace(base, 65_536).map_err(|error| format!("no user namespace: {error}"))?;
    let tree = open_tree(
        rustix::fs::CWD,
        folder,
        OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC,
    )
    .map_err(|error| format!("open_tree: {error}"))?;
    use std::os::fd::AsFd as _;
    let attributes = Attributes {
        map: Some(namespace.as_fd()),
        ..Attributes::default()
    };
    set_attributes(tree.as_fd(), false, attributes)
        .map_err(|error| format!("mount_setattr: {error}"))
}

/// Mounts an overlay in user and mount namespaces of its own, which end with the shell.
fn probe_overlay(folder: &Path) -> Result<(), String> {
    const SCRIPT: &str = "cd \"$1\" && mkdir lower upper work merged && \
        mount -t overlay -o userxattr,lowerdir=lower,upperdir=upper,workdir=work overlay merged && : > merged/file";
    let arguments = [
        "--user",
        "--map-root-user",
        "--mount",
        "sh",
        "-c",
        SCRIPT,
        "sh",
    ];
    let arguments = arguments
        .iter()
        .map(std::ffi::OsStr::new)
        .chain([folder.as_os_str()]);
    run("unshare", arguments, None)
        .map(drop)
        .map_err(|error| match error {
            crate::sys::command::CommandError::Failed { stderr, .. } => stderr.trim().to_owned(),
            other => other.to_string(),
        })
}
