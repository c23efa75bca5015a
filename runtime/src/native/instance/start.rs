//! Starting and stopping a container.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;

use manifests::devices::Device;
use manifests::devices::disk::DiskSource;
use manifests::kind::Spec;
use manifests::kinds::instance::Instance;
use manifests::kinds::network::Network;
use manifests::path_io::{self, AtPath as _, PathError};
use rustix::fs::{FileType, OFlags};

use super::container::Nodes;
use super::picks::InstancePicks;
use super::plugs::{plug, plugs};
use super::{
    disks, io_failed, limits, machine, networks_of, nics, own_mark, pool_of, shim_failed, spec,
    volumes,
};
use crate::error::{Class, RuntimeError};
use crate::native::cgroup::{
    self, CgroupError, Delegation, DeviceAccess, DeviceRule, DeviceRules, LimitError, Patience,
};
use crate::native::container::Coming;
use crate::native::container::plan::{CgroupPlan, Delegation as Bounds, FilePlan, RootPlan};
use crate::native::definition::Definition;
use crate::native::host::Host;
use crate::native::networks;
use crate::native::pools::root_volume;
use crate::native::shim::{self, Running};
use crate::native::storage::{Placed, StorageError, released};
use crate::runtime::Context;
use crate::sys::netlink::Namespace;

/// What the unix devices of an instance are on this host: the numbers that are written, else those of the node.
pub(super) fn nodes(instance: &Instance) -> Result<Nodes, RuntimeError> {
    let mut nodes = Nodes::new();
    for (name, device, block) in super::container::unix_devices(instance) {
        let found = match (device.major, device.minor) {
            (Some(major), Some(minor)) => Ok((major, minor)),
            _ => device
                .on_host()
                .ok_or_else(|| "it names neither source nor path".to_owned())
                .and_then(|path| numbers(path.as_path(), block)),
        };
        match found {
            Ok(numbers) => {
                nodes.insert(name.to_owned(), numbers);
            }
            Err(_) if !device.required => {}
            Err(why) => {
                let doing = format!("find the device {name} of");
                return Err(RuntimeError::new(doing, Class::NeedsOperator, why));
            }
        }
    }
    Ok(nodes)
}

/// The numbers of a device node of the host.
fn numbers(path: &Path, block: bool) -> Result<(u32, u32), String> {
    let (wanted, word) = match block {
        true => (FileType::BlockDevice, "block"),
        false => (FileType::CharacterDevice, "character"),
    };
    match rustix::fs::stat(path) {
        Ok(stat) if FileType::from_raw_mode(stat.st_mode) == wanted => Ok((
            rustix::fs::major(stat.st_rdev),
            rustix::fs::minor(stat.st_rdev),
        )),
        Ok(_) => Err(format!("{} is no {word} device", path.display())),
        Err(error) => Err(format!("{}: {error}", path.display())),
    }
}

/// What device nodes an instance may use.
pub(super) fn device_access(
    instance: &Instance,
    nodes: &Nodes,
) -> Result<DeviceAccess, RuntimeError> {
    use manifests::instance::security::DeviceAccess as Written;
    let mut rules = match &instance.security.device_access {
        Written::All => return Ok(DeviceAccess::All),
        Written::Default => DeviceRules::defaults(),
        Written::List(written) => {
            let mut rules = DeviceRules::defaults();
            for rule in written {
                let rule: DeviceRule = rule.parse().map_err(|error| {
                    RuntimeError::new(
                        "understand the device rules of",
                        Class::NeedsOperator,
                        error,
                    )
                })?;
                rules.add(rule);
            }
            rules
        }
    };
    for (name, _, block) in super::container::unix_devices(instance) {
        if let Some((major, minor)) = nodes.get(name) {
            let kind = if block { 'b' } else { 'c' };
            if let Ok(rule) = format!("{kind} {major}:{minor} rwm").parse() {
                rules.add(rule);
            }
        }
    }
    Ok(DeviceAccess::Rules(rules))
}

pub(super) fn limit_failed(error: LimitError) -> RuntimeError {
    let class = match &error {
        LimitError::Refused { .. } => Class::Refused,
        LimitError::Unsupported { .. } => Class::Unsupported,
        // What was to be limited ended meanwhile, and there is something else to do now.
        LimitError::Write { source, .. } if is_gone(source) => Class::Conflict,
        LimitError::Write { .. } => Class::Retry,
    };
    RuntimeError::new("limit", class, error)
}

/// Whether a process has no folder in `/proc` any more, or is only waited for (`ESRCH`).
fn is_gone(error: &PathError) -> bool {
    error.kind() == std::io::ErrorKind::NotFound
        || error.raw_os_error() == Some(rustix::io::Errno::SRCH.raw_os_error())
}

pub(super) fn cgroup_failed(error: CgroupError) -> RuntimeError {
    RuntimeError::new("set up the cgroups of", Class::Retry, error)
}

/// The block devices on which the disks of an instance lie, where its root is in use.
pub(super) fn disk_places(
    host: &Host,
    definition: &Definition<InstancePicks>,
    instance: &Instance,
) -> disks::Places {
    let root = pool_of(host, &definition.picks.pool)
        .ok()
        .and_then(|(_, driver)| driver.placed(&root_volume(&definition.uid)));
    let instance = volumes::seen_in_place(host, definition, instance);
    disks::places(&instance, root.as_deref())
}

/// Brings the limits of a running or starting instance to its spec. All that can be set is; the first refusal is told.
pub(super) fn set_limits(
    host: &Host,
    definition: &Definition<InstancePicks>,
    instance: &Instance,
) -> Result<(), RuntimeError> {
    let uid = &definition.uid;
    let cgroups = host.cgroups(uid);
    let size = limits::HostSize {
        memory: host.memory,
    };
    // What a machine's disks may do is held by QEMU.
    let places = match instance.is_container() {
        true => disk_places(host, definition, instance),
        false => disks::Places::new(),
    };
    let io = disks::wanted(instance, &places);
    let wanted = match instance.is_container() {
        true => limits::wanted(&instance.limits, &io, size),
        false => limits::wanted(&machine::process_limits(&instance.limits), &io, size),
    };
    let mut around = host.cgroup.clone();
    // What all others use is only of interest to who gets some of the processors.
    if let cgroup::limits::CpuChoice::Count(_) = wanted.cpuset.cpus {
        let uid = uid.to_string();
        around.load =
            cgroup::cpuset::load(&host.hierarchies, &host.config.state_id, &uid, &host.cgroup)
                .map_err(cgroup_failed)?;
    }
    if let Some(error) = cgroup::set(&wanted, &cgroups, &around).into_iter().next() {
        return Err(limit_failed(error));
    }
    if !instance.is_container() {
        return Ok(());
    }
    match disks::impossible(instance, &places).into_iter().next() {
        Some(why) => Err(RuntimeError::new("limit", Class::Unsupported, why)),
        None => Ok(()),
    }
}

/// The first line of a file that is written anew at each start, for as long as it has this line.
const OURS: &str = "# Written by keel at each start; without this line it is left alone.\n";

/// `/etc/hostname`, `/etc/hosts` and `/etc/resolv.conf` of a start.
fn own_files(
    name: &str,
    instance: &Instance,
    networks: &BTreeMap<String, Arc<Definition<networks::NetworkPicks>>>,
    picks: &InstancePicks,
) -> Vec<FilePlan> {
    let first = nics::nics(instance).next();
    let network = first
        .and_then(|(_, nic)| networks.get(nic.network.as_ref()?))
        .and_then(|network| match &network.spec {
            Spec::Network(written) => Some((written.as_ref(), &network.picks)),
            _ => None,
        });
    let domain = network
        .map(|(written, _)| written.dns.domain.as_str())
        .unwrap_or_default();
    let full = if domain.is_empty() {
        String::new()
    } else {
        format!("{name}.{domain} ")
    };
    let own = first
        .and_then(|(device, _)| picks.nics.get(device)?.ipv4)
        .map(|address| format!("{address} {full}{name}\n"))
        .unwrap_or_else(|| format!("127.0.1.1 {full}{name}\n"));
    let hosts = format!(
        "{OURS}127.0.0.1 localhost\n{own}::1 localhost ip6-localhost ip6-loopback\nff02::1 ip6-allnodes\nff02::2 ip6-allrouters\n"
    );
    let file = |target: &str, content: String, only_if_absent| FilePlan {
        target: target.to_owned(),
        content: content.into_bytes(),
        mode: 0o644,
        uid: 0,
        gid: 0,
        create_parents: true,
        only_if_absent,
        ours: OURS.as_bytes().to_vec(),
    };
    let mut files = vec![
        file("/etc/hostname", format!("{name}\n"), false),
        file("/etc/hosts", hosts, true),
    ];
    if let Some((written, picks)) = network
        && let Some(text) = resolver(written, picks)
    {
        // A resolver of the guest's own (systemd-resolved) leaves a link there: it knows better.
        files.push(file("/etc/resolv.conf", text, true));
    }
    files
}

/// Whom a guest without DHCP asks for names: the same as one with it. None: its network has no address to ask at.
fn resolver(network: &Network, picks: &networks::NetworkPicks) -> Option<String> {
    let own = [
        picks.ipv4(network).map(|net| IpAddr::V4(net.addr())),
        picks.ipv6(network).map(|net| IpAddr::V6(net.addr())),
    ];
    let servers = match network.dns.nameservers.as_slice() {
        [] => own.into_iter().flatten().take(1).collect(),
        written => written.to_vec(),
    };
    if servers.is_empty() {
        return None;
    }
    let mut text = OURS.to_owned();
    for server in servers {
        text += &format!("nameserver {server}\n");
    }
    let domains = std::iter::once(&network.dns.domain).chain(&network.dns.search);
    let domains: Vec<&str> = domains
        .map(String::as_str)
        .filter(|domain| !domain.is_empty())
        .collect();
    if !domains.is_empty() {
        text += &format!("search {}\n", domains.join(" "));
    }
    Some(text)
}

/// Starts a container and records with what it was started.
pub(super) fn start(
    host: &Host,
    definition: &mut Definition<InstancePicks>,
    context: &Context<'_>,
) -> Result<(), RuntimeError> {
    if !spec(definition)?.is_container() {
        return machine::start(host, definition, context);
    }
    let instance = spec(definition)?.clone();
    let companion = Coming::begin(&host.config.shim, &definition.address.name);
    // It came out of the trash while its network was not there.
    if nics::nics(&instance).any(|(device, _)| !definition.picks.nics.contains_key(device)) {
        super::pick(host, definition)?;
    }
    let image = host
        .images
        .get(&definition.picks.image)
        .map_err(io_failed("read the image of"))?
        .ok_or_else(|| {
            RuntimeError::new(
                "find the image of",
                Class::NeedsOperator,
                "its image is gone from the store",
            )
        })?;
    let rootfs = host
        .images
        .rootfs(&definition.picks.image)
        .map_err(io_failed("find the image of"))?;
    let (_, driver) = pool_of(host, &definition.picks.pool)?;
    let volume = root_volume(&definition.uid);
    let placed = super::root::grow(driver.as_ref(), &volume, &instance)
        .and_then(|()| driver.place(&volume))
        .map_err(|error| RuntimeError::new("mount the root of", Class::Retry, error))?;
    let Placed::Root { folder, .. } = placed else {
        return Err(RuntimeError::new(
            "mount the root of",
            Class::Bug,
            "the volume is no root",
        ));
    };
    let instance = volumes::in_place(host, definition, &instance)?;
    let cgroups = host.cgroups(&definition.uid);
    let joining = cgroups.ensure().map_err(cgroup_failed)?;
    set_limits(host, definition, &instance)?;
    let nodes = nodes(&instance)?;
    cgroups
        .set_devices(&device_access(&instance, &nodes)?)
        .map_err(cgroup_failed)?;
    let run_dir = host.run_folder(&definition.uid);
    path_io::create_dir_all(&run_dir).map_err(io_failed("make the run folder of"))?;
    rustix::fs::chmod(&run_dir, rustix::fs::Mode::from_raw_mode(0o700))
        .at("close", &run_dir)
        .map_err(io_failed("make the run folder of"))?;
    let networks = networks_of(host, definition, &instance)?;
    let ids = definition
        .picks
        .id_base
        .map(|base| super::container::ids(&instance, base))
        .transpose()
        .map_err(|why| RuntimeError::new("map the ids of", Class::NeedsOperator, why))?;
    let put = definition
        .picks
        .started_with()
        .and_then(|before| before.files.0.clone())
        .unwrap_or_default();
    // Compared as they are written; with their secrets in place they would be others.
    let put = super::container::Put::of(instance.files.0.as_ref(), &put);
    let instance = host.secrets.revealed_instance(&instance)?;
    definition.picks.generation += 1;
    definition.picks.started_with = Some(definition.spec.to_value());
    definition.picks.running = true;
    let bounds = Delegation::default();
    let payload = cgroups.payload();
    let plan = super::container::plan(
        &instance,
        super::container::Surroundings {
            name: &definition.address.name,
            uid: definition.uid.to_string(),
            generation: definition.picks.generation,
            run_dir,
            filters: host.filters(),
            root: RootPlan::Overlay {
                layers: vec![rootfs],
                writable: folder,
            },
            ids,
            cgroups: CgroupPlan {
                joins: cgroups
                    .payload_folders()
                    .into_iter()
                    .filter(|folder| Some(folder) != payload.as_ref())
                    .collect(),
                payload,
                monitors: cgroups.monitors().to_vec(),
                monitor: cgroups.monitor(),
                delegate: Some(Bounds {
                    descendants: bounds.descendants,
                    depth: bounds.depth,
                }),
            },
            image: &image.properties,
            put,
            own_files: own_files(
                &definition.address.name,
                &instance,
                &networks,
                &definition.picks,
            ),
            nodes: &nodes,
        },
    );
    host.write_instance(definition).map_err(super::stored)?;
    let plugs = plugs(host, definition)?;
    // Rules and reservations are made while the kernel makes the namespaces.
    let started = std::thread::scope(|scope| {
        let mut prepared = (!networks.is_empty()).then(|| {
            scope.spawn(|| {
                networks
                    .values()
                    .try_for_each(|network| host.ensure_network(network))
            })
        });
        crate::native::container::start(&plan, companion, &mut |init| {
            if let Some(prepared) = prepared.take() {
                prepared
                    .join()
                    .map_err(|_| "the thread that sets up the network panicked")??;
            }
            if plugs.is_empty() {
                return Ok(());
            }
            let guest = Namespace::from(init.open("ns/net", OFlags::RDONLY)?);
            for one in &plugs {
                plug(host, one, &guest)?;
            }
            Ok(())
        })
    });
    drop(joining);
    let started = started.map_err(|error| {
        // What was begun is taken down; the definition stays and says what was meant.
        let _ = after_stop(host, definition);
        RuntimeError::new("start", Class::Retry, error)
    })?;
    for warning in started.warnings {
        (context.progress)(&warning);
    }
    let priority = instance.limits.memory_oom_priority;
    let init = u32::try_from(started.init.as_raw_nonzero().get()).unwrap_or(0);
    // It has that of keel, which a service or a shell may have been given.
    if cgroup::oom::seen_oom_priority(init) != cgroup::Seen::Known(priority) {
        match cgroup::oom::set_oom_priority(&cgroups, init, priority) {
            Err(error) if priority == 0 => (context.progress)(&crate::native::chain(&error)),
            other => other.map_err(limit_failed)?,
        }
    }
    Ok(())
}

/// Stops a running container in an orderly way, or at once, and takes down what it ran in.
pub(super) fn stop(
    host: &Host,
    definition: &Definition<InstancePicks>,
    running: &Running,
    at_once: bool,
    context: &Context<'_>,
) -> Result<(), RuntimeError> {
    if !spec(definition)?.is_container() {
        return machine::stop(host, definition, running, at_once, context);
    }
    if at_once {
        running
            .kill(context.timeout)
            .map_err(|error| shim_failed("kill", error))?;
    } else {
        let signal = stop_signal(host, definition, running);
        let instance = spec(definition)?;
        let patience =
            std::time::Duration::from_secs(instance.boot.host_shutdown_timeout.seconds());
        running
            .stop(signal, patience.min(context.timeout))
            .map_err(|error| shim_failed("stop", error))?;
    }
    after_stop(host, definition)
}

/// The signal by which the first process of a container ends in an orderly way.
fn stop_signal(host: &Host, definition: &Definition<InstancePicks>, running: &Running) -> i32 {
    let from_image = host
        .images
        .get(&definition.picks.image)
        .ok()
        .flatten()
        .and_then(|image| signal_number(image.properties.stop_signal.as_deref()?));
    from_image.unwrap_or_else(|| {
        let pid = running.init().map_or(0, |pid| pid.as_raw_nonzero().get());
        let program = rustix::fs::readlink(format!("/proc/{pid}/exe"), Vec::new())
            .map(|path| path.to_string_lossy().into_owned())
            .unwrap_or_default();
        shim::stop_signal(&program)
    })
}

/// `SIGTERM`, `TERM`, `15`, `SIGRTMIN+3`.
fn signal_number(text: &str) -> Option<i32> {
    if let Ok(number) = text.parse() {
        return Some(number);
    }
    let name = text.strip_prefix("SIG").unwrap_or(text);
    if let Some(offset) = name.strip_prefix("RTMIN+") {
        return offset.parse::<i32>().ok().map(|offset| 34 + offset);
    }
    Some(match name {
        "HUP" => 1,
        "INT" => 2,
        "QUIT" => 3,
        "KILL" => 9,
        "USR1" => 10,
        "USR2" => 12,
        "TERM" => 15,
        "WINCH" => 28,
        "PWR" => 30,
        "RTMIN" => 34,
        _ => return None,
    })
}

/// Takes down what a container ran in: its cgroups, what is left of its links, the mount of its root.
pub(super) fn after_stop(
    host: &Host,
    definition: &Definition<InstancePicks>,
) -> Result<(), RuntimeError> {
    // Whoever stops it does not want its companion to start it again after its pause.
    let patience = std::time::Duration::from_secs(10);
    shim::stop_restarting(&host.run_folder(&definition.uid), patience)
        .map_err(|error| shim_failed("stop", error))?;
    let mark = own_mark(host, definition);
    for nic in definition.picks.nics.values() {
        host.network
            .detach(&nic.host_interface, &mark)
            .map_err(|error| RuntimeError::new("unplug", Class::Retry, error))?;
    }
    let cgroups = host.cgroups(&definition.uid);
    if cgroups.exist() {
        let patience = Patience::new(std::time::Duration::from_secs(10));
        cgroups.kill(patience).map_err(cgroup_failed)?;
        cgroups.remove(patience).map_err(cgroup_failed)?;
    }
    let pool = host.pool_named(&definition.picks.pool);
    if let Some(pool) = pool.map_err(io_failed("find the pool of"))? {
        let driver = crate::native::pools::driver(host, &pool);
        match released(driver.as_ref(), &root_volume(&definition.uid)) {
            Ok(_) | Err(StorageError::NoVolume(_)) => {}
            Err(error) => {
                return Err(RuntimeError::new(
                    "unmount the root of",
                    Class::Retry,
                    error,
                ));
            }
        }
    }
    volumes::let_rest(host, definition)
}

/// The devices of an instance that are mounts, by the path at which they are.
pub(super) fn mount_devices(instance: &Instance) -> impl Iterator<Item = (&str, &str)> {
    instance
        .devices
        .iter()
        .filter_map(|(name, device)| match device {
            Device::Disk(disk)
                if !disk.is_root() && !matches!(disk.made_of(), DiskSource::Other(_)) =>
            {
                Some((name.as_str(), disk.path.as_ref()?.as_str()))
            }
            _ => None,
        })
}

/// The network namespace of a running container.
pub(super) fn namespace(running: &Running) -> Result<Namespace, RuntimeError> {
    let opened = running.open("ns/net", OFlags::RDONLY);
    opened
        .map(Namespace::from)
        .map_err(|error| RuntimeError::new("reach the network of", Class::Retry, error))
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    #[test]
    fn what_ended_while_it_was_limited_is_looked_at_again_at_once() {
        let class = |errno: rustix::io::Errno| {
            let source = PathError {
                doing: "read",
                path: PathBuf::from("/proc/7/oom_score_adj"),
                source: errno.into(),
            };
            let part = cgroup::LimitPart::OomPriority;
            let value = "0".to_owned();
            limit_failed(LimitError::Write {
                part,
                value,
                source,
            })
            .class
        };
        assert_eq!(class(rustix::io::Errno::NOENT), Class::Conflict);
        assert_eq!(class(rustix::io::Errno::SRCH), Class::Conflict);
        assert_eq!(class(rustix::io::Errno::BUSY), Class::Retry);
    }
}
