//! What planning must know of this host: ceilings of resource limits and features that are missing.

use std::collections::BTreeMap;

use std::path::Path;

use manifests::feature::{BTRFS, GROW_LIVE, LVM, Missing, ZFS};
use manifests::path_io;
use rustix::process::{Resource, getrlimit};
use rustix::thread::CapabilitySet;

/// By their names in `limits.kernel`.
const RESOURCES: [(&str, Resource); 16] = [
    ("as", Resource::As),
    ("core", Resource::Core),
    ("cpu", Resource::Cpu),
    ("data", Resource::Data),
    ("fsize", Resource::Fsize),
    ("locks", Resource::Locks),
    ("memlock", Resource::Memlock),
    ("msgqueue", Resource::Msgqueue),
    ("nice", Resource::Nice),
    ("nofile", Resource::Nofile),
    ("nproc", Resource::Nproc),
    ("rss", Resource::Rss),
    ("rtprio", Resource::Rtprio),
    ("rttime", Resource::Rttime),
    ("sigpending", Resource::Sigpending),
    ("stack", Resource::Stack),
];

/// The kernel raises hard limits, and grows mounted ext4 (fs/ext4/resize.c), only for CAP_SYS_RESOURCE.
fn may_raise() -> bool {
    rustix::thread::capabilities(None)
        .is_ok_and(|sets| sets.effective.contains(CapabilitySet::SYS_RESOURCE))
}

/// The highest hard resource limits that this host grants to instances.
pub fn ceilings() -> BTreeMap<String, u64> {
    if may_raise() {
        return BTreeMap::new();
    }
    RESOURCES
        .iter()
        .filter_map(|(name, resource)| Some(((*name).to_owned(), getrlimit(*resource).maximum?)))
        .collect()
}

/// Features that this host lacks.
pub fn missing() -> Vec<Missing> {
    let mut missing = Vec::new();
    let mut lacks = |feature: &str, why: &str| {
        missing.push(Missing {
            feature: feature.to_owned(),
            why: why.to_owned(),
        });
    };
    if !may_raise() {
        lacks(
            GROW_LIVE,
            "keel has no CAP_SYS_RESOURCE here, without which the kernel grows no file system that is mounted: a root grows at the next start",
        );
    }
    if !has_btrfs() {
        lacks(BTRFS, "this kernel has no btrfs");
    } else if !super::facts::installed("mkfs.btrfs") {
        lacks(
            BTRFS,
            "mkfs.btrfs is not installed: apt-get install btrfs-progs",
        );
    }
    if !has_thin_pools() {
        lacks(LVM, "this kernel has no thin pools of device mapper");
    } else if !super::facts::installed("lvcreate") {
        lacks(LVM, "lvcreate is not installed: apt-get install lvm2");
    } else if !super::facts::installed("thin_check") {
        lacks(
            LVM,
            "thin_check is not installed: apt-get install thin-provisioning-tools",
        );
    }
    if let Some(why) = crate::native::storage::zfs_trouble() {
        lacks(ZFS, &why);
    } else if let Some(program) = ["zfs", "zpool"]
        .into_iter()
        .find(|program| !super::facts::installed(program))
    {
        lacks(
            ZFS,
            &format!("{program} is not installed: apt-get install zfsutils-linux"),
        );
    }
    missing
}

/// Built in, loaded, or a module that the kernel loads when it is asked for such a volume.
fn has_thin_pools() -> bool {
    let uname = rustix::system::uname();
    let modules = Path::new("/lib/modules").join(uname.release().to_string_lossy().as_ref());
    let is_thin = |path: &Path| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        name.starts_with("dm-thin-pool.ko")
    };
    let loadable = path_io::list(modules.join("kernel/drivers/md")).unwrap_or_default();
    let built_in = path_io::read_to_string(modules.join("modules.builtin")).unwrap_or_default();
    Path::new("/sys/module/dm_thin_pool").exists()
        || loadable.iter().any(|path| is_thin(path))
        || built_in.contains("/dm-thin-pool.ko")
}

/// Built in, loaded, or a module that the kernel loads when it is asked to mount one.
fn has_btrfs() -> bool {
    let known = path_io::read_to_string("/proc/filesystems").unwrap_or_default();
    let uname = rustix::system::uname();
    let modules = Path::new("/lib/modules").join(uname.release().to_string_lossy().as_ref());
    known.split_whitespace().any(|word| word == "btrfs") || modules.join("kernel/fs/btrfs").exists()
}
