//! DHCP and DNS of a network: one dnsmasq each, which outlives us.
//!
//! Everything that is the same for all guests is in its arguments; what belongs to one guest is a file of its own in
//! two folders that dnsmasq watches (`--dhcp-hostsdir`, `--hostsdir`), so adding a guest restarts nothing. Files that
//! went away are forgotten on SIGHUP only (`man 8 dnsmasq`). Nothing starts it again when it dies: that is drift.

use std::net::IpAddr;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use manifests::path_io::{self, PathError};
use rustix::fs::OFlags;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use super::addresses::{ranges4, ranges6};
use super::plan::{DnsMode, NetworkPlan};
use super::watched;
use crate::native::cgroup::{self, CgroupError, InstanceCgroups};
use crate::native::known_files::KnownFiles;
use crate::sys::command::{self, CommandError};
use crate::sys::held_process::HeldProcess;
use crate::sys::netlink::Namespace;

/// The log is emptied at the next start when it is larger, in bytes; dnsmasq logs only what it could not do.
const LONGEST_LOG: u64 = 256 * 1024;

/// How long an old dnsmasq may take to go, in seconds.
const PATIENCE: i64 = 2;

/// dnsmasq could not be brought to where it shall be.
#[derive(Debug, thiserror::Error)]
pub enum DnsmasqError {
    /// It did not start.
    #[error("start dnsmasq")]
    Start(#[from] CommandError),
    /// Another program listens where it should.
    #[error("dnsmasq of {interface} cannot listen: another program does")]
    AddressInUse {
        /// The bridge.
        interface: String,
        /// What dnsmasq said.
        source: CommandError,
    },
    /// A file of its could not be written or read.
    #[error("write the files of dnsmasq")]
    File(#[from] PathError),
    /// It reads its files as another user, who cannot get there.
    #[error("{} must be passable for everybody (0711): dnsmasq reads below it without being root", path.display())]
    NotPassable {
        /// The folder that bars the way.
        path: PathBuf,
    },
    /// Its place among the cgroups.
    #[error("move dnsmasq into a cgroup of its own")]
    Cgroup(#[from] CgroupError),
    /// It does not end, or cannot be signalled.
    #[error("signal dnsmasq (process {process})")]
    Signal {
        /// Its number.
        process: u32,
        /// The kernel's answer.
        source: std::io::Error,
    },
}

/// The files that hold the numbers of the processes, of all networks whose run folders are in this one.
pub fn process_files(run: &Path) -> Vec<PathBuf> {
    let folders = path_io::list(run).unwrap_or_default().into_iter();
    let files = folders.map(|run| {
        Folders {
            state: run.clone(),
            run,
        }
        .process()
    });
    files.collect()
}

/// Where the files of one dnsmasq are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Folders {
    /// For the leases and the log; may be 0700.
    pub state: PathBuf,
    /// For what it reads while it runs; everybody must be able to pass.
    pub run: PathBuf,
}

impl Folders {
    fn process(&self) -> PathBuf {
        self.run.join("dnsmasq.pid")
    }

    fn log(&self) -> PathBuf {
        self.state.join("dnsmasq.log")
    }

    /// The file of leases, as `man 8 dnsmasq` describes it.
    pub fn leases(&self) -> PathBuf {
        self.state.join("leases")
    }

    pub(super) fn reservations(&self) -> PathBuf {
        self.run.join("reservations")
    }

    pub(super) fn names(&self) -> PathBuf {
        self.run.join("names")
    }
}

/// An address that a guest holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    /// When it ends, in seconds since 1970; 0: never.
    pub expires: u64,
    /// Hardware address; of a lease for IPv6 the identity association instead.
    pub client: String,
    /// What it holds.
    pub address: std::net::IpAddr,
    /// The name that it has.
    pub name: Option<String>,
}

/// Reads a file of leases: `expires client address name client-id` a line, `*` for none, `duid …` before those for IPv6.
pub fn parse_leases(text: &str) -> Vec<Lease> {
    let lease = |line: &str| {
        let mut words = line.split(' ');
        Some(Lease {
            expires: words.next()?.parse().ok()?,
            client: words.next()?.to_owned(),
            address: words.next()?.parse().ok()?,
            name: words.next().filter(|name| *name != "*").map(str::to_owned),
        })
    };
    text.lines().filter_map(lease).collect()
}

/// The leases of a network.
///
/// # Errors
/// The file is there and cannot be read.
pub fn leases(folders: &Folders) -> Result<Vec<Lease>, DnsmasqError> {
    Ok(parse_leases(
        &path_io::read_if_exists(folders.leases())?.unwrap_or_default(),
    ))
}

/// Whether it runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DnsmasqSeen {
    /// It does not.
    Dead,
    /// It does, with other arguments.
    Outdated {
        /// Its process.
        process: u32,
    },
    /// It does, as it shall.
    Running {
        /// Its process.
        process: u32,
    },
}

/// The argument vector, without the program's name.
///
/// `user` and `group` are whom it becomes after start.
pub fn arguments(plan: &NetworkPlan, folders: &Folders, user: &str, group: &str) -> Vec<String> {
    let interface = &plan.interface;
    let path = |path: PathBuf| path.display().to_string();
    let mut arguments = vec![
        // First, because a process is recognised by it.
        format!("--pid-file={}", path(folders.process())),
        "--conf-file=/dev/null".to_owned(),
        format!("--user={user}"),
        format!("--group={group}"),
        format!("--log-facility={}", path(folders.log())),
        "--quiet-dhcp".to_owned(),
        "--quiet-dhcp6".to_owned(),
        "--quiet-ra".to_owned(),
        "--bind-dynamic".to_owned(),
        format!("--interface={interface}"),
        "--except-interface=lo".to_owned(),
        "--no-hosts".to_owned(),
        format!("--hostsdir={}", path(folders.names())),
    ];
    let mut add = |argument: String| arguments.push(argument);
    add("--resolv-file=/etc/resolv.conf".to_owned());
    // A name without a domain is known here or nowhere: asked of the family that it lacks (AAAA), a server outside would
    // say that there is no such name.
    add("--domain-needed".to_owned());
    let domain = &plan.dns.domain;
    if plan.dns.mode != DnsMode::None && !domain.is_empty() {
        add(format!("--domain={domain}"));
        add(format!("--local=/{domain}/"));
        add("--expand-hosts".to_owned());
    }
    if plan.dns.mode != DnsMode::Dynamic {
        add("--dhcp-ignore-names".to_owned());
    }
    if let Some(dhcp) = plan.ipv4.as_ref().and_then(|ip| ip.dhcp.as_ref())
        && let Some(ip) = &plan.ipv4
    {
        for (first, last) in ranges4(ip.address, &dhcp.ranges) {
            add(format!(
                "--dhcp-range={first},{last},{},{}s",
                ip.address.netmask(),
                dhcp.expiry
            ));
        }
        if let Some(gateway) = dhcp.gateway {
            add(format!("--dhcp-option=option:router,{gateway}"));
        }
    }
    if let Some(ip) = &plan.ipv6
        && let Some(dhcp) = &ip.dhcp
    {
        add("--enable-ra".to_owned());
        if dhcp.stateful {
            for (first, last) in ranges6(ip.address, &dhcp.ranges) {
                let prefix = ip.address.prefix_len();
                add(format!(
                    "--dhcp-range={first},{last},{prefix},{}s",
                    dhcp.expiry
                ));
            }
        } else {
            add(format!(
                "--dhcp-range=::,constructor:{interface},ra-stateless"
            ));
        }
    }
    if has_dhcp(plan) {
        add("--dhcp-authoritative".to_owned());
        add("--dhcp-no-override".to_owned());
        // Asking the network first costs three seconds, and every address is ours to give.
        add("--no-ping".to_owned());
        add(format!("--dhcp-leasefile={}", path(folders.leases())));
        add(format!("--dhcp-hostsdir={}", path(folders.reservations())));
        if !plan.dns.search.is_empty() {
            let search = plan.dns.search.join(",");
            add(format!("--dhcp-option=option:domain-search,{search}"));
            add(format!("--dhcp-option=option6:domain-search,{search}"));
        }
        nameservers(plan).into_iter().for_each(&mut add);
        if let Some(mtu) = plan.mtu {
            add(format!("--dhcp-option-force=option:mtu,{mtu}"));
        }
    }
    arguments
}

/// The servers that guests are told. A family without one of them is told none: its own would be told else.
fn nameservers(plan: &NetworkPlan) -> Vec<String> {
    let servers = &plan.dns.nameservers;
    if servers.is_empty() {
        return Vec::new();
    }
    let option = |name: &str, servers: Vec<String>| match servers.as_slice() {
        [] => format!("--dhcp-option={name}"),
        some => format!("--dhcp-option={name},{}", some.join(",")),
    };
    let (four, six): (Vec<IpAddr>, Vec<IpAddr>) = servers.iter().partition(|ip| ip.is_ipv4());
    vec![
        option(
            "option:dns-server",
            four.iter().map(ToString::to_string).collect(),
        ),
        option(
            "option6:dns-server",
            six.iter().map(|ip| format!("[{ip}]")).collect(),
        ),
    ]
}

fn has_dhcp(plan: &NetworkPlan) -> bool {
    plan.ipv4.as_ref().is_some_and(|ip| ip.dhcp.is_some())
        || plan.ipv6.as_ref().is_some_and(|ip| ip.dhcp.is_some())
}

/// Whether the network has an address to listen at.
pub fn is_needed(plan: &NetworkPlan) -> bool {
    plan.ipv4.is_some() || plan.ipv6.is_some()
}

pub(super) fn set_mode(path: &Path, mode: u32) -> Result<(), PathError> {
    use manifests::path_io::AtPath as _;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).at("set mode of", path)
}

fn prepare_folders(folders: &Folders) -> Result<(), DnsmasqError> {
    use manifests::path_io::AtPath as _;
    path_io::create_dir_all(&folders.state)?;
    path_io::create_dir_all(&folders.run)?;
    for folder in [folders.run.clone(), folders.reservations(), folders.names()] {
        path_io::ensure_dir(&folder)?;
        set_mode(&folder, 0o755)?;
    }
    for folder in folders.run.ancestors().skip(1) {
        let mode = std::fs::metadata(folder)
            .at("look at", folder)?
            .permissions()
            .mode();
        if mode & 0o001 == 0 {
            return Err(DnsmasqError::NotPassable {
                path: folder.to_owned(),
            });
        }
    }
    Ok(())
}

/// Whom dnsmasq becomes: its own user where Debian's package made one, else nobody.
fn identity() -> Result<(String, String), PathError> {
    let has = |file: &str, name: &str| -> Result<bool, PathError> {
        Ok(path_io::read_if_exists(file)?
            .unwrap_or_default()
            .lines()
            .any(|line| line.split(':').next() == Some(name)))
    };
    let pick = |file, first: &str, second: &str| -> Result<String, PathError> {
        Ok(if has(file, first)? { first } else { second }.to_owned())
    };
    Ok((
        pick("/etc/passwd", "dnsmasq", "nobody")?,
        pick("/etc/group", "nogroup", "nobody")?,
    ))
}

/// A running dnsmasq of ours: held by a descriptor, so that its number cannot pass to another process meanwhile.
struct Found {
    process: u32,
    descriptor: OwnedFd,
    arguments: Vec<String>,
}

/// Looks at one process: ours if its first argument names our pid file, and it is in our network: in a container of ours
/// another engine may use the same paths, and its processes are seen from here.
fn look_at(process: u32, folders: &Folders) -> Option<Found> {
    let pid = Pid::from_raw(i32::try_from(process).ok()?)?;
    let descriptor = pidfd_open(pid, PidfdFlags::empty()).ok()?;
    let held = HeldProcess {
        pid,
        pidfd: descriptor.as_fd(),
    };
    let line = path_io::read(format!("/proc/{process}/cmdline")).ok()?;
    if !line
        .windows(b"dnsmasq".len())
        .any(|part| part == b"dnsmasq")
    {
        return None;
    }
    let network = Namespace::from(held.open("ns/net", OFlags::RDONLY).ok()?);
    let network = network.identity().ok()?;
    if network != Namespace::current().ok()?.identity().ok()? {
        return None;
    }
    let mut arguments = line
        .split(|byte| *byte == 0)
        .map(|argument| String::from_utf8_lossy(argument).into_owned());
    let program = arguments.next()?;
    let mut arguments: Vec<String> = arguments.collect();
    arguments.pop();
    let marker = format!("--pid-file={}", folders.process().display());
    (program.ends_with("dnsmasq") && arguments.first() == Some(&marker)).then_some(Found {
        process,
        descriptor,
        arguments,
    })
}

/// The process of the pid file; where that leads nowhere, any process with our arguments.
fn find(folders: &Folders) -> Result<Option<Found>, PathError> {
    let written = path_io::read_if_exists(folders.process())?;
    if let Some(found) = written
        .as_deref()
        .and_then(|text| text.trim().parse().ok())
        .and_then(|process| look_at(process, folders))
    {
        return Ok(Some(found));
    }
    Ok(path_io::list("/proc")?.iter().find_map(|path| {
        let process = path.file_name()?.to_str()?.parse().ok()?;
        look_at(process, folders)
    }))
}

/// Looks whether it runs as it shall.
///
/// # Errors
/// procfs or the run folder cannot be read.
pub fn seen(plan: &NetworkPlan, folders: &Folders) -> Result<DnsmasqSeen, DnsmasqError> {
    let (user, group) = identity()?;
    Ok(match find(folders)? {
        None => DnsmasqSeen::Dead,
        Some(found) if found.arguments == arguments(plan, folders, &user, &group) => {
            DnsmasqSeen::Running {
                process: found.process,
            }
        }
        Some(found) => DnsmasqSeen::Outdated {
            process: found.process,
        },
    })
}

/// Writes its files, starts it where it does not run, and again where it runs otherwise than it shall. The bridge must
/// have its addresses.
///
/// # Errors
/// A file cannot be written; it does not start; an old one does not end.
pub(super) fn ensure(
    plan: &NetworkPlan,
    folders: &Folders,
    known: &KnownFiles,
) -> Result<bool, DnsmasqError> {
    if !is_needed(plan) {
        return stop(folders);
    }
    prepare_folders(folders)?;
    let again = watched::write(plan, folders, known)?;
    let (user, group) = identity()?;
    let wanted = arguments(plan, folders, &user, &group);
    if let Some(found) = find(folders)? {
        if found.arguments == wanted {
            if again {
                signal(&found, Signal::HUP)?;
            }
            return Ok(again);
        }
        end(&found)?;
    }
    wait_for_dying(folders)?;
    let log = folders.log();
    if std::fs::metadata(&log).is_ok_and(|status| status.len() > LONGEST_LOG) {
        path_io::write(&log, "")?;
    }
    // It returns once its daemon listens, and says so if it cannot.
    match command::run("dnsmasq", &wanted, None) {
        Ok(_) => Ok(true),
        Err(CommandError::Failed {
            stderr,
            command,
            status,
        }) if stderr.contains("in use") => Err(DnsmasqError::AddressInUse {
            interface: plan.interface.clone(),
            source: CommandError::Failed {
                command,
                status,
                stderr,
            },
        }),
        Err(error) => Err(error.into()),
    }
}

/// Moves it out of the cgroups of whoever started it: a service manager ends all that is left there when its unit ends.
///
/// # Errors
/// A cgroup cannot be made or joined.
pub fn settle(folders: &Folders, cgroups: &InstanceCgroups) -> Result<bool, DnsmasqError> {
    let Some(found) = find(folders)? else {
        return Ok(false);
    };
    let there = cgroups.payload_folders();
    let names: Vec<_> = there
        .iter()
        .filter_map(|folder| cgroup_name(folder))
        .collect();
    let text = path_io::read_to_string(format!("/proc/{}/cgroup", found.process))?;
    let settled = text
        .lines()
        .filter(|line| names.iter().any(|name| line.ends_with(name)));
    if settled.count() >= there.len() {
        return Ok(false);
    }
    let _until_joined = cgroups.ensure()?;
    cgroup::instance::join(&there, found.process)?;
    Ok(true)
}

/// What the kernel calls a cgroup of ours, from `keel-…` on: a hierarchy may be mounted from a folder of it on.
fn cgroup_name(folder: &Path) -> Option<String> {
    let text = folder.to_str()?;
    Some(text.get(text.find("/keel-")?..)?.to_owned())
}

fn signal(found: &Found, signal: Signal) -> Result<(), DnsmasqError> {
    match pidfd_send_signal(&found.descriptor, signal) {
        Ok(()) | Err(rustix::io::Errno::SRCH) => Ok(()),
        Err(error) => Err(DnsmasqError::Signal {
            process: found.process,
            source: error.into(),
        }),
    }
}

/// Ends a dnsmasq and waits until it is gone.
fn end(found: &Found) -> Result<(), DnsmasqError> {
    for which in [Signal::TERM, Signal::KILL] {
        signal(found, which)?;
        if has_ended(&found.descriptor) {
            return Ok(());
        }
    }
    Err(DnsmasqError::Signal {
        process: found.process,
        source: std::io::ErrorKind::TimedOut.into(),
    })
}

/// Waits for the end of a process, for as long as our patience goes.
fn has_ended(descriptor: &OwnedFd) -> bool {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    let timeout = Timespec {
        tv_sec: PATIENCE,
        tv_nsec: 0,
    };
    let mut poll_on = [PollFd::new(descriptor, PollFlags::IN)];
    poll(&mut poll_on, Some(&timeout)).is_ok_and(|ready| ready > 0)
}

/// A process that was killed loses its memory, and with it its arguments, before its sockets: a moment in which it is
/// not found and its address is in use.
fn wait_for_dying(folders: &Folders) -> Result<(), PathError> {
    let written = path_io::read_if_exists(folders.process())?;
    let process = written.and_then(|text| Pid::from_raw(text.trim().parse().ok()?));
    if let Some(process) = process
        && let Ok(descriptor) = pidfd_open(process, PidfdFlags::empty())
        && path_io::read(format!("/proc/{}/cmdline", process.as_raw_nonzero()))
            .is_ok_and(|line| line.is_empty())
    {
        has_ended(&descriptor);
    }
    Ok(())
}

/// Ends it if it runs, and waits until it is gone.
///
/// # Errors
/// It does not end.
pub fn stop(folders: &Folders) -> Result<bool, DnsmasqError> {
    let Some(found) = find(folders)? else {
        return Ok(false);
    };
    end(&found)?;
    Ok(true)
}

/// Ends it and removes its files.
///
/// # Errors
/// It does not end; a file cannot be removed.
pub fn remove(folders: &Folders) -> Result<(), DnsmasqError> {
    stop(folders)?;
    for file in watched::existing(folders)? {
        path_io::remove_file(folders.run.join(file))?;
    }
    for folder in [folders.reservations(), folders.names()] {
        for hidden in path_io::list(&folder).unwrap_or_default() {
            path_io::remove_file(hidden)?;
        }
        path_io::remove_empty_dir(folder)?;
    }
    for file in [folders.process(), folders.log(), folders.leases()] {
        path_io::remove_file(file)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leases_are_read_and_noise_is_not() {
        let text = "1790000000 10:66:6a:01:02:03 10.20.0.11 web-2 01:10:66:6a:01:02:03\n\
                    0 10:66:6a:01:02:04 10.20.0.12 * *\n\
                    duid 00:01:00:01\n\
                    1790000000 12345 fd42::11 web-2 00:01\nbroken\n";
        let leases = parse_leases(text);
        assert_eq!(leases.len(), 3);
        assert_eq!(leases[0].name.as_deref(), Some("web-2"));
        assert_eq!((leases[1].expires, leases[1].name.as_deref()), (0, None));
        assert_eq!(leases[2].address.to_string(), "fd42::11");
    }
}
