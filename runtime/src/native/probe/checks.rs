//! The judgement of each fact: found, why it matters, what would mend it.

use std::collections::BTreeMap;

use super::facts::{FIRST_ID, Facts};
use super::{Check, Verdict, check};

/// `CAP_SYS_RESOURCE` of `linux/capability.h`.
pub(super) const SYS_RESOURCE: u32 = 24;
/// `CAP_SYS_ADMIN`.
const SYS_ADMIN: u32 = 21;

/// Judges what was read, in a fixed order.
pub fn checks(facts: &Facts) -> Vec<Check> {
    let mut all = vec![
        kernel(facts),
        namespaces(facts),
        administrator(facts),
        idmapped(facts),
        overlay(facts),
        controllers(facts),
        life_cycle(facts),
        resource(facts),
        open_files(facts),
        least("inotify instances", facts.inotify, 1024, "fs.inotify.max_user_instances",
            "a budget for each container with ids of its own, one for all others and the host; systemd takes up to 60"),
        least("inotify watches", facts.inotify_watches, 65_536, "fs.inotify.max_user_watches",
            "as the instances; where they are used up, services no longer see files change"),
        least("keys", facts.keys, 2000, "kernel.keys.maxkeys",
            "a budget for each host user; one systemd takes 65 of the usual 200"),
        least("bytes of keys", facts.key_bytes, 200_000, "kernel.keys.maxbytes",
            "as the number of keys: one budget for each host user"),
        least("connections", facts.connections, 65_536, "net.netfilter.nf_conntrack_max",
            "one table for all that is translated and filtered; where it is full, packets of all are dropped"),
        least("neighbours", facts.neighbours, 1024, "net.ipv4.neigh.default.gc_thresh3",
            "one table of hardware addresses for all bridges; where it is full, guests become unreachable"),
        least("terminals", facts.terminals, 1024, "kernel.pty.max",
            "each console and each exec with a terminal takes one"),
        core_pattern(facts),
        check("TIOCSTI", shown(facts.tiocsti), "a program could type into the terminal it was started from; keel always gives it one of its own")
            .unless(facts.tiocsti != Some(1), Verdict::Warning, "sysctl -w dev.tty.legacy_tiocsti=0"),
        check("io_uring", shown(facts.io_uring), "containers are denied it by default; many kernel holes were there")
            .unless(facts.io_uring.is_none_or(|value| value == 2), Verdict::Warning, "sysctl -w kernel.io_uring_disabled=2, unless something on this host needs it"),
    ];
    all.extend(programs(facts));
    all.push(subordinate_ids(facts));
    all.push(sized_roots(facts));
    all.push(confinement(facts));
    all.push(
        check(
            "lxcfs",
            match facts.lxcfs {
                None => "absent",
                Some(true) => "alive",
                Some(false) => "mounted, does not answer",
            },
            "with it, free and top inside a container show its limits and not the host's memory",
        )
        .unless(
            facts.lxcfs == Some(true),
            Verdict::Warning,
            match facts.lxcfs {
                Some(false) => "systemctl restart lxcfs",
                _ => "apt-get install lxcfs (optional)",
            },
        ),
    );
    all.extend(super::machines::checks(&facts.machines));
    all
}

fn shown(value: Option<u64>) -> String {
    value.map_or_else(|| "not there".to_owned(), |value| value.to_string())
}

/// Major and minor of a kernel release.
fn version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

fn kernel(facts: &Facts) -> Check {
    let fine = version(&facts.kernel).is_some_and(|version| version >= (6, 1));
    check(
        "kernel",
        &*facts.kernel,
        "id-mapped layers under an overlay, cgroup.kill and pidfds as keel uses them are in Linux 6.1 (Debian 12)",
    )
    .unless(fine, Verdict::Missing, "boot a kernel of 6.1 or newer")
}

fn namespaces(facts: &Facts) -> Check {
    let needed = ["cgroup", "ipc", "mnt", "net", "pid", "user", "uts"];
    let absent: Vec<&str> = needed
        .into_iter()
        .filter(|name| !facts.namespaces.iter().any(|found| found == name))
        .collect();
    let allowed = facts.max_user_namespaces != Some(0);
    let found = if !absent.is_empty() {
        format!("without {}", absent.join(", "))
    } else if !allowed {
        "user.max_user_namespaces is 0".to_owned()
    } else {
        "all".to_owned()
    };
    let mend = if allowed {
        "a kernel with these namespaces"
    } else {
        "sysctl -w user.max_user_namespaces=15000"
    };
    check("namespaces", found, "each container has its own of each").unless(
        absent.is_empty() && allowed,
        Verdict::Missing,
        mend,
    )
}

fn administrator(facts: &Facts) -> Check {
    let fine = facts.capabilities >> SYS_ADMIN & 1 == 1;
    check(
        "root",
        if fine {
            "CAP_SYS_ADMIN"
        } else {
            "no CAP_SYS_ADMIN"
        },
        "mounts, maps and networks are made as root; the containers run without it",
    )
    .unless(fine, Verdict::Missing, "run keel as root")
}

/// An answer of a probe in the state folder.
fn probed(
    name: &'static str,
    answer: Option<&Result<(), String>>,
    facts: &Facts,
    why: &'static str,
    mend: &str,
) -> Check {
    let found = match answer {
        None => "not tried: the state folder cannot be written".to_owned(),
        Some(Ok(())) => format!("yes, on {}", facts.state_file_system),
        Some(Err(why)) => format!("not on {}: {why}", facts.state_file_system),
    };
    let verdict = if answer.is_none() {
        Verdict::Warning
    } else {
        Verdict::Missing
    };
    check(name, found, why).unless(matches!(answer, Some(Ok(()))), verdict, mend)
}

fn idmapped(facts: &Facts) -> Check {
    probed(
        "id-mapped mounts",
        facts.idmapped.as_ref(),
        facts,
        "files of images and volumes are stored once, unshifted, and shown to each container under its own ids",
        "put the state folder on ext4, btrfs, xfs or (from Linux 6.3) tmpfs: keel --state-dir",
    )
}

fn overlay(facts: &Facts) -> Check {
    probed(
        "overlay in a user namespace",
        facts.overlay.as_ref(),
        facts,
        "containers share the files of their image",
        "modprobe overlay; the state folder cannot itself be on an overlay",
    )
}

fn controllers(facts: &Facts) -> Check {
    let mut by_version: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    let mut absent = Vec::new();
    for (name, version) in &facts.controllers {
        match version {
            Some(1) => by_version.entry("v1").or_default().push(name),
            Some(_) => by_version.entry("v2").or_default().push(name),
            // These three are files of v1 for what cgroup2 always has.
            None if ["cpuacct", "devices", "freezer"].contains(name) && facts.cgroup2 => {}
            None => absent.push(*name),
        }
    }
    let mut found: Vec<String> = by_version
        .into_iter()
        .map(|(version, names)| format!("{version}: {}", names.join(" ")))
        .collect();
    if !absent.is_empty() {
        found.push(format!("absent: {}", absent.join(" ")));
    }
    // A host without huge pages limits needs none; the others are what people ask for.
    let needed = absent.iter().any(|name| *name != "hugetlb");
    check(
        "cgroup controllers",
        found.join("; "),
        "a limit is only there where its controller is; each is used in the generation it is mounted in",
    )
    .unless(!needed, Verdict::Warning, "mount the missing ones, or boot with systemd.unified_cgroup_hierarchy=1 (and cgroup_enable=memory)")
}

pub(super) fn life_cycle(facts: &Facts) -> Check {
    let freezer = facts
        .controllers
        .get("freezer")
        .is_some_and(Option::is_some);
    let found = match (facts.cgroup2, freezer) {
        (true, _) => "cgroup2",
        (false, true) => "the v1 freezer",
        (false, false) => "nothing",
    };
    check(
        "freezing and killing",
        found,
        "a container is stopped and killed as a whole; systemd in it needs a cgroup2 of its own",
    )
    .unless(
        facts.cgroup2,
        if freezer {
            Verdict::Warning
        } else {
            Verdict::Missing
        },
        "mkdir -p /sys/fs/cgroup/unified && mount -t cgroup2 cgroup2 /sys/fs/cgroup/unified",
    )
}

fn resource(facts: &Facts) -> Check {
    let fine = facts.capabilities >> SYS_RESOURCE & 1 == 1;
    check(
        "CAP_SYS_RESOURCE",
        if fine { "yes" } else { "no" },
        "without it no hard limit can be raised and memoryOomPriority cannot be lowered",
    )
    .unless(
        fine,
        Verdict::Warning,
        "start keel from a service or shell that has all of root's capabilities",
    )
}

fn open_files(facts: &Facts) -> Check {
    let raised = facts.capabilities >> SYS_RESOURCE & 1 == 1;
    check(
        "open files",
        facts
            .open_files
            .map_or_else(|| "unlimited".to_owned(), |limit| limit.to_string()),
        "the most that limits.kernel.nofile of a container can be",
    )
    .unless(
        raised || facts.open_files.is_none_or(|limit| limit >= 65_536),
        Verdict::Warning,
        "LimitNOFILE=1048576 in keel's unit, or ulimit -Hn 1048576 before it is started",
    )
}

/// A sysctl that should be at least so much.
fn least(
    name: &'static str,
    value: Option<u64>,
    least: u64,
    key: &str,
    why: &'static str,
) -> Check {
    check(name, shown(value), why).unless(
        value.is_none_or(|value| value >= least),
        Verdict::Warning,
        format!("sysctl -w {key}={least}"),
    )
}

fn core_pattern(facts: &Facts) -> Check {
    let pattern = facts.core_pattern.as_deref().unwrap_or("not there");
    check(
        "core dumps",
        pattern,
        "a handler behind | runs as the host's root on data of whatever container crashed",
    )
    .unless(
        !pattern.starts_with('|'),
        Verdict::Warning,
        "sysctl -w kernel.core_pattern=core, or a handler that knows containers (systemd-coredump 253)",
    )
}

fn programs(facts: &Facts) -> Vec<Check> {
    // The program, its package, whether anything stops without it, and what.
    const KNOWN: [(&str, &str, Verdict, &str); 9] = [
        (
            "nft",
            "nftables",
            Verdict::Missing,
            "networks: NAT, filters and forwards",
        ),
        (
            "dnsmasq",
            "dnsmasq-base",
            Verdict::Missing,
            "networks: addresses and names for instances",
        ),
        (
            "mke2fs",
            "e2fsprogs",
            Verdict::Missing,
            "sized roots and volumes of dir pools",
        ),
        ("resize2fs", "e2fsprogs", Verdict::Missing, "growing them"),
        (
            "mkfs.btrfs",
            "btrfs-progs",
            Verdict::Warning,
            "pools of driver btrfs",
        ),
        (
            "unsquashfs",
            "squashfs-tools",
            Verdict::Warning,
            "images in squashfs form",
        ),
        (
            "busybox",
            "busybox-static",
            Verdict::Warning,
            "the builtin image, which needs no network",
        ),
        (
            "unshare",
            "util-linux",
            Verdict::Missing,
            "user namespaces for probes",
        ),
        (
            "git",
            "git",
            Verdict::Warning,
            "manifests from a repository",
        ),
    ];
    KNOWN
        .into_iter()
        .map(|(name, package, verdict, why)| {
            let here = facts.programs.get(name).copied().unwrap_or(false);
            check(name, if here { "installed" } else { "not installed" }, why).unless(
                here,
                verdict,
                format!("apt-get install {package}"),
            )
        })
        .collect()
}

fn subordinate_ids(facts: &Facts) -> Check {
    let overlapping: Vec<&str> = facts
        .subordinate_ids
        .lines()
        .filter(|line| {
            let mut fields = line
                .split(':')
                .skip(1)
                .map(|field| field.trim().parse::<u64>());
            let (Some(Ok(first)), Some(Ok(count))) = (fields.next(), fields.next()) else {
                return false;
            };
            // root's own range may be what other engines use, and keel claims ranges host-wide: still a conflict.
            first.saturating_add(count) > FIRST_ID
        })
        .collect();
    let found = if overlapping.is_empty() {
        "free from 1000000".to_owned()
    } else {
        overlapping.join(" ")
    };
    check(
        "id ranges",
        found,
        "two owners of one range could touch each other's files and processes",
    )
    .unless(
        overlapping.is_empty(),
        Verdict::Warning,
        "move these entries of /etc/subuid and /etc/subgid below 1000000, or give instances an idmap.base beyond them",
    )
}

fn sized_roots(facts: &Facts) -> Check {
    let found = match &facts.loop_devices {
        Ok(()) => "by an ext4 on a loop device".to_owned(),
        Err(why) => format!("no loop devices: {why}"),
    };
    check(
        "sized roots",
        found,
        "roots and volumes of dir pools that have a size are an ext4 file on a loop device each",
    )
    .unless(
        facts.loop_devices.is_ok(),
        Verdict::Missing,
        "modprobe loop; in a container or a jail, pass /dev/loop-control and loop devices in",
    )
}

fn confinement(facts: &Facts) -> Check {
    let found = match (facts.apparmor, facts.selinux) {
        (true, _) => "AppArmor",
        (_, Some(1)) => "SELinux, enforcing",
        (_, Some(_)) => "SELinux, permissive",
        (false, None) => "none",
    };
    check(
        "AppArmor or SELinux",
        found,
        "one more fence around containers; user namespaces, seccomp and capabilities hold without it",
    )
    .unless(
        facts.apparmor || facts.selinux == Some(1),
        Verdict::Warning,
        "boot with security=apparmor where the kernel has it",
    )
}
