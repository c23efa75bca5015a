//! /proc, /sys, /dev and /sys/fs/cgroup of a container: made before the pivot, attached after it.

use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{CWD, FileType, Gid, Mode, OFlags, Uid};
use rustix::pty::OpenptFlags;

use super::failure::{Doing as _, Failure};
use super::filesystems::{attach, change, copy, detached};
use super::messages::{Access, Device, Start};
use super::place::{Kind, entry, mount_point};
use crate::sys::mount::{Attributes, NODEV, NOEXEC, NOSUID, READ_ONLY};

/// The device nodes that every container gets: name, major, minor.
const NODES: [(&str, u32, u32); 6] = [
    ("null", 1, 3),
    ("zero", 1, 5),
    ("full", 1, 7),
    ("random", 1, 8),
    ("urandom", 1, 9),
    ("tty", 5, 0),
];

/// Links in /dev, as the kernel's admin guide (devices.rst) wishes.
const LINKS: [(&str, &str); 5] = [
    ("ptmx", "pts/ptmx"),
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
];

/// Files of /proc that are hidden. This is hygiene and no boundary: the container's root may unmount them again.
const MASKED: [&str; 5] = [
    "kcore",
    "keys",
    "latency_stats",
    "sysrq-trigger",
    "timer_list",
];

/// The group of terminals in every distribution (`devpts(5)`).
const TTY_GROUP: u32 = 5;

/// Detached kernel file systems of the container.
#[derive(Debug)]
pub struct Prepared {
    proc: OwnedFd,
    /// `/proc/sys` of that proc, opened before anything is mounted over it: sysctls are written here.
    proc_sys: OwnedFd,
    sys: OwnedFd,
    dev: OwnedFd,
    pts: OwnedFd,
    shm: OwnedFd,
    mqueue: Option<OwnedFd>,
    nodes: Vec<OwnedFd>,
}

/// The console of the container: both ends of a terminal of its own devpts.
#[derive(Debug)]
pub struct Console {
    /// For the companion.
    pub master: OwnedFd,
    /// For the first program.
    pub slave: OwnedFd,
}

fn check_node(
    node: impl AsFd,
    name: &str,
    kind: FileType,
    numbers: (u32, u32),
) -> Result<(), Failure> {
    let stat = rustix::fs::fstat(node).doing(|| format!("look at {name}"))?;
    let found = (
        rustix::fs::major(stat.st_rdev),
        rustix::fs::minor(stat.st_rdev),
    );
    // A node may be replaced between being named and being opened (CVE-2025-31133): the descriptor decides.
    if FileType::from_raw_mode(stat.st_mode) != kind || found != numbers {
        return Err(Failure::new(
            format!("take {name} for the device {}:{}", numbers.0, numbers.1),
            libc::ENODEV,
        ));
    }
    Ok(())
}

/// Makes everything that must exist before the host's /proc and /sys are gone: the kernel allows new ones in a user
/// namespace only while a fully visible one is mounted (`mount_too_revealing`, fs/namespace.c).
///
/// # Errors
/// The kernel's answer.
pub fn prepare(start: &Start) -> Result<Prepared, Failure> {
    let mut nodes = Vec::with_capacity(NODES.len());
    for (name, major, minor) in NODES {
        let path = format!("/dev/{name}");
        let node = copy(CWD, &path, false, &path)?;
        check_node(&node, &path, FileType::CharacterDevice, (major, minor))?;
        nodes.push(node);
    }
    let quiet = NOSUID | NODEV | NOEXEC;
    let proc = detached("proc", &[], quiet)?;
    let proc_sys = rustix::fs::openat(
        &proc,
        "sys",
        OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
        Mode::empty(),
    )
    .named("open /proc/sys")?;
    let tty_group = TTY_GROUP.to_string();
    let mut devpts = vec![("ptmxmode", "0666"), ("mode", "0620"), ("max", "1024")];
    let mapped = |range: &super::messages::IdRange| {
        TTY_GROUP >= range.inside && TTY_GROUP - range.inside < range.length
    };
    if start.privileged || start.gid_map.iter().any(mapped) {
        devpts.push(("gid", &tty_group));
    }
    Ok(Prepared {
        proc,
        proc_sys,
        sys: detached("sysfs", &[], quiet)?,
        dev: detached("tmpfs", &[("mode", "0755"), ("size", "1m")], NOSUID)?,
        pts: detached("devpts", &devpts, NOSUID | NOEXEC)?,
        shm: detached("tmpfs", &[("mode", "1777")], NOSUID | NODEV)?,
        // CONFIG_POSIX_MQUEUE is optional.
        mqueue: detached("mqueue", &[], quiet).ok(),
        nodes,
    })
}

/// The container's cgroup 2, seen from its own cgroup namespace.
///
/// # Errors
/// The kernel's answer.
pub fn prepare_cgroup(access: &Access) -> Result<OwnedFd, Failure> {
    let read_only = match access {
        Access::ReadOnly => READ_ONLY,
        Access::Mixed | Access::ReadWrite => 0,
    };
    detached("cgroup2", &[], NOSUID | NODEV | NOEXEC | read_only)
}

impl Prepared {
    /// `/proc/sys` of the container's own proc.
    pub fn proc_sys(&self) -> &OwnedFd {
        &self.proc_sys
    }

    /// Attaches all of it below the new root.
    ///
    /// # Errors
    /// The kernel's answer, with the place.
    pub fn attach(
        &self,
        root: &OwnedFd,
        start: &Start,
        cgroup: Option<&OwnedFd>,
    ) -> Result<Console, Failure> {
        for (mount, target) in [
            (&self.proc, "/proc"),
            (&self.sys, "/sys"),
            (&self.dev, "/dev"),
        ] {
            attach(mount, mount_point(root, target, Kind::Folder)?, target)?;
        }
        self.limit_proc(&start.proc)?;
        self.limit_sys(&start.sys)?;
        if let Some(cgroup) = cgroup {
            let target = below(&self.sys, "fs/cgroup")?;
            attach(cgroup, target, "/sys/fs/cgroup")?;
        }
        for ((name, ..), node) in NODES.iter().zip(&self.nodes) {
            let path = format!("/dev/{name}");
            attach(node, entry(&self.dev, name, &path, Kind::File)?, &path)?;
        }
        for (name, target) in LINKS {
            rustix::fs::symlinkat(target, &self.dev, name)
                .doing(|| format!("link /dev/{name} in the container"))?;
        }
        let folders = [
            ("pts", Some(&self.pts)),
            ("shm", Some(&self.shm)),
            ("mqueue", self.mqueue.as_ref()),
        ];
        for (name, mount) in folders {
            let path = format!("/dev/{name}");
            if let Some(mount) = mount {
                attach(mount, entry(&self.dev, name, &path, Kind::Folder)?, &path)?;
            }
        }
        self.mask()?;
        self.console()
    }

    fn limit_proc(&self, access: &Access) -> Result<(), Failure> {
        if *access == Access::ReadWrite {
            return Ok(());
        }
        let sys = copy(&self.proc, "sys", false, "/proc/sys")?;
        change(&sys, false, read_only(), || {
            "make /proc/sys read-only".to_owned()
        })?;
        let net = (*access == Access::Mixed)
            .then(|| copy(&self.proc, "sys/net", false, "/proc/sys/net"))
            .transpose()?;
        attach(&sys, below(&self.proc, "sys")?, "/proc/sys")?;
        if let Some(net) = net {
            attach(net, below(&sys, "net")?, "/proc/sys/net")?;
        }
        Ok(())
    }

    fn limit_sys(&self, access: &Access) -> Result<(), Failure> {
        if *access == Access::ReadWrite {
            return Ok(());
        }
        let net = "devices/virtual/net";
        let writable = (*access == Access::Mixed)
            .then(|| copy(&self.sys, net, false, "/sys/devices/virtual/net"))
            .transpose()?;
        change(&self.sys, false, read_only(), || {
            "make /sys read-only".to_owned()
        })?;
        if let Some(writable) = writable {
            attach(writable, below(&self.sys, net)?, "/sys/devices/virtual/net")?;
        }
        Ok(())
    }

    fn mask(&self) -> Result<(), Failure> {
        let Some(null) = self.nodes.first() else {
            return Ok(());
        };
        for name in MASKED {
            let Ok(target) = below_file(&self.proc, name) else {
                continue;
            };
            attach(copy(null, "", false, "/dev/null")?, target, name)?;
        }
        Ok(())
    }

    /// A terminal of the container's devpts, bound on /dev/console. The slave comes from the master by `TIOCGPTPEER`,
    /// never by a name (CVE-2025-52565).
    fn console(&self) -> Result<Console, Failure> {
        let console = open_terminal(&self.pts)?;
        let target = entry(&self.dev, "console", "/dev/console", Kind::File)?;
        let slave = copy(&console.slave, "", false, "the console")?;
        attach(slave, target, "/dev/console")?;
        Ok(console)
    }
}

/// Opens a new terminal of a mounted devpts.
///
/// # Errors
/// The kernel's answer.
pub fn open_terminal(pts: impl AsFd) -> Result<Console, Failure> {
    let master = rustix::fs::openat(
        pts,
        "ptmx",
        OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC | OFlags::NOFOLLOW,
        Mode::empty(),
    )
    .named("open /dev/pts/ptmx")?;
    rustix::pty::unlockpt(&master).named("unlock the terminal")?;
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let slave =
        rustix::pty::ioctl_tiocgptpeer(&master, flags).named("open the terminal's slave")?;
    Ok(Console { master, slave })
}

/// Binds a device node of the host, after looking at what was opened.
///
/// # Errors
/// It is another device, or cannot be bound.
pub fn attach_device(root: &OwnedFd, device: &Device, node: &OwnedFd) -> Result<(), Failure> {
    let kind = FileType::from_raw_mode(device.kind);
    check_node(node, &device.node.path, kind, (device.major, device.minor))?;
    attach(
        node,
        mount_point(root, &device.target, Kind::File)?,
        &device.target,
    )
}

/// Gives a terminal to the user who will work on it.
///
/// # Errors
/// The kernel's answer.
pub fn own_terminal(slave: impl AsFd, uid: u32) -> Result<(), Failure> {
    rustix::fs::fchown(slave, Some(Uid::from_raw(uid)), None::<Gid>)
        .named("give the terminal its owner")
}

fn read_only() -> Attributes<'static> {
    Attributes {
        set: READ_ONLY,
        ..Attributes::default()
    }
}

fn below(mount: &OwnedFd, path: &str) -> Result<OwnedFd, Failure> {
    rustix::fs::openat(
        mount,
        path,
        OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
        Mode::empty(),
    )
    .doing(|| format!("open {path} in a kernel file system"))
}

fn below_file(mount: &OwnedFd, name: &str) -> Result<OwnedFd, rustix::io::Errno> {
    rustix::fs::openat(
        mount,
        name,
        OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC,
        Mode::empty(),
    )
}
