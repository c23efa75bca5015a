//! What an instance is: its definition, overlaid with what cgroups, links, mounts and files say.

use std::collections::BTreeMap;
use std::sync::OnceLock;
use std::time::Duration;

use manifests::change::FieldChange;
use manifests::devices::{Device, Disk};
use manifests::id::Uid;
use manifests::instance::served::{changes_with_start, is_passed};
use manifests::kind::Spec;
use manifests::kinds::instance::{Instance, PowerState};
use manifests::observed::{Holds, Item, ObservedSet, Unclear, Unseen};
use manifests::overlay::overlay;
use manifests::pointer::Pointer;
use manifests::scalar::byte_size::ByteSize;
use manifests::scalar::file_mode::FileMode;
use manifests::scalar::image_ref::ImageRef;
use manifests::scalar::text::Text;
use serde_json::{Map, Value, json};

use super::health::Healths;
use super::mounts::{self, Mount, mount_points};
use super::picks::InstancePicks;
use super::{
    change, container, disks, files, limits, machine, nics, plugs, shim_failed, spec, start,
    status, volumes,
};
use crate::error::RuntimeError;
use crate::native::cgroup;
use crate::native::definition::Definition;
use crate::native::host::Host;
use crate::native::image::Alias;
use crate::native::network::{GuestPlan, PortSeen};
use crate::native::pools::root_volume;
use crate::native::shim::{self, End, Found, Running};
use crate::native::storage::ContentType;
use crate::sys::mount_table::MountEntry;

/// The running container of an instance, where it runs.
pub(in crate::native) fn running(
    host: &Host,
    uid: &Uid,
) -> Result<Option<Box<Running>>, RuntimeError> {
    match shim::adopt(&host.run_folder(uid)).map_err(|error| shim_failed("look at", error))? {
        Found::Running(running) => Ok(Some(running)),
        Found::Ended(_) | Found::Lost(_) | Found::Absent => Ok(None),
    }
}

/// How long one may take to end that has lost something which it has as long as it lives. The kernel gives back its
/// memory first, and under load that takes a while.
const ENDING: Duration = Duration::from_secs(2);

/// What is mounted in an instance that was found; `None`: it has ended since. `is_silent`: its monitor did not answer.
fn mounted(found: &Found, is_container: bool, is_silent: bool) -> Option<Mounted> {
    let Found::Running(running) = found else {
        return Some(Ok(BTreeMap::new()));
    };
    let mounted = match is_container {
        true => mount_points(running),
        false => Ok(BTreeMap::new()),
    };
    // A process that was killed has lost its mounts, and answers no more, a moment before it has ended.
    if (mounted.is_err() || is_silent) && running.ends_within(ENDING) {
        return None;
    }
    Some(mounted)
}

type Mounted = Result<BTreeMap<String, Mount>, RuntimeError>;

/// What is the same for all instances that are looked at together.
pub(in crate::native) struct Surroundings<'a> {
    ports: &'a Ports,
    machines: &'a Machines,
    healths: &'a Healths,
    /// The host's mounts; without them nothing can be told of where those of instances come from.
    mounts: OnceLock<Vec<MountEntry>>,
    /// The priority that keel itself has, and gives to what it starts.
    own_oom_priority: OnceLock<cgroup::Seen<i32>>,
    /// The fingerprint that each alias of the store names.
    aliases: OnceLock<BTreeMap<String, String>>,
}

impl<'a> Surroundings<'a> {
    pub(in crate::native) fn new(
        ports: &'a Ports,
        machines: &'a Machines,
        healths: &'a Healths,
    ) -> Self {
        Self {
            ports,
            machines,
            healths,
            mounts: OnceLock::new(),
            own_oom_priority: OnceLock::new(),
            aliases: OnceLock::new(),
        }
    }

    /// Says what is there by its fingerprint where the alias in the manifest names another image by now.
    fn say_image(&self, host: &Host, instance: &mut Instance, fingerprint: &str) {
        let Some(ImageRef::Alias {
            remote: None,
            alias,
        }) = &instance.image
        else {
            return;
        };
        let aliases = self.aliases.get_or_init(|| {
            let all = host.images.list_aliases().unwrap_or_default();
            let pair = |one: Alias| (one.alias, one.fingerprint);
            all.into_iter().map(pair).collect()
        });
        // One that names nothing any more did not move.
        if aliases.get(alias).is_some_and(|named| named != fingerprint) && !fingerprint.is_empty() {
            instance.image = Some(ImageRef::Fingerprint(fingerprint.to_owned()));
        }
    }

    fn mounts(&self) -> &[MountEntry] {
        self.mounts
            .get_or_init(|| crate::sys::mount_table::read().unwrap_or_default())
    }

    fn own_oom_priority(&self) -> &cgroup::Seen<i32> {
        self.own_oom_priority
            .get_or_init(|| cgroup::oom::seen_oom_priority(std::process::id()))
    }
}

/// What the monitors of running machines say.
pub(in crate::native) type Machines = BTreeMap<Uid, machine::Look>;

/// What the ports of an instance are, by device.
pub(in crate::native) type Ports = BTreeMap<(Uid, String), PortSeen>;

/// What an instance is that was `found` a moment ago.
pub(in crate::native) fn observe(
    host: &Host,
    definition: &Definition<InstancePicks>,
    found: &Result<Found, shim::ShimError>,
    surroundings: &Surroundings<'_>,
    out: &mut ObservedSet,
) {
    let Spec::Instance(meant) = &definition.spec else {
        return;
    };
    let mut unseen = Vec::new();
    let again;
    let look = surroundings.machines.get(&definition.uid);
    let is_silent = look.is_some_and(|look| look.seen.is_err());
    let found = match found
        .as_ref()
        .map(|found| (found, mounted(found, meant.is_container(), is_silent)))
    {
        Ok((found, Some(mounted))) => Ok((found, mounted)),
        Ok((_, None)) => {
            again = shim::adopt(&host.run_folder(&definition.uid));
            again.as_ref().map(|found| (found, Ok(BTreeMap::new())))
        }
        Err(error) => Err(error),
    };
    let (found, mounted) = match found {
        Ok(found) => found,
        Err(error) => {
            out.unclear.push(Unclear {
                address: definition.address.clone(),
                nameless: None,
                why: crate::native::chain(error),
            });
            return;
        }
    };
    // What was accepted for the next start is not in force yet: a running one has what it was started with.
    let pending = match found {
        Found::Running(_) => pending(definition),
        _ => Vec::new(),
    };
    let mut instance = match overlay(
        &definition.spec,
        pending.iter().map(|c| (&c.path, &c.before)),
    ) {
        Ok(Spec::Instance(instance)) => instance,
        _ => meant.clone(),
    };
    surroundings.say_image(host, &mut instance, &definition.picks.image);
    // Those by keel, and those by the companion since: reboots from inside and accidents.
    let by_companion = match found {
        Found::Running(running) => running.restarts(),
        Found::Ended(record) => record.restarts,
        Found::Lost(_) | Found::Absent => 0,
    };
    let mut status = json!({
        "uid": definition.uid,
        "image": definition.picks.image,
        "lastState": if definition.picks.running { "Running" } else { "Stopped" },
        "restarts": definition.picks.generation.saturating_sub(1) + u64::from(by_companion),
        "restartPending": pending.iter().map(|change| change.path.dotted()).collect::<Vec<_>>(),
    });
    let state = match found {
        Found::Running(running) => {
            let seen = (running.as_ref(), mounted);
            let (unseen, status) = (&mut unseen, &mut status);
            let state = match meant.is_container() {
                true => {
                    live(
                        host,
                        definition,
                        &mut instance,
                        seen,
                        surroundings,
                        unseen,
                        status,
                    );
                    PowerState::Running
                }
                false => live_machine(
                    host,
                    definition,
                    &mut instance,
                    running,
                    surroundings,
                    unseen,
                    status,
                ),
            };
            match running.frozen() {
                Ok(true) => PowerState::Frozen,
                Ok(false) => state,
                Err(error) => {
                    unseen.push(Unseen {
                        path: Pointer::new("/spec/state"),
                        why: crate::native::chain(&error),
                    });
                    state
                }
            }
        }
        Found::Ended(record) => {
            let (code, signal) = match record.end {
                End::Code(code) => (Some(code), None),
                End::Signal(signal) => (None, Some(signal)),
            };
            let at = i64::try_from(record.at_ms)
                .ok()
                .and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok());
            status["lastExit"] = json!({ "code": code, "signal": signal, "at": at });
            if let Some(reason) = &record.reason {
                status["lastExit"]["reason"] = json!(reason);
            }
            PowerState::Stopped
        }
        Found::Lost(_) => {
            status["lastExit"] = json!("unknown");
            PowerState::Stopped
        }
        Found::Absent => PowerState::Stopped,
    };
    let mut devices = instance.devices.iter_mut();
    let root = devices.find_map(|(name, device)| match device {
        Device::Disk(disk) if disk.is_root() => Some((name, disk)),
        _ => None,
    });
    if let Some((name, disk)) = root {
        // Where it lies and not where it was meant to be brought.
        disk.pool = Some(definition.picks.pool.clone());
        // The disk of a machine that asks for no size has that of its image.
        let of_image = |content, disk: &Disk| content == ContentType::Block && disk.size.is_none();
        if let Some((content, size)) = root_size(host, definition)
            && disk.size.as_ref().map(ByteSize::bytes) != size
            && !of_image(content, disk)
        {
            disk.size = size.map(ByteSize::from_bytes);
            if state != PowerState::Stopped
                && let Some(waiting) = status["restartPending"].as_array_mut()
            {
                waiting.push(json!(format!("devices.{name}.size")));
            }
        }
    }
    let snapshots = super::snapshots_of(host, definition);
    if !snapshots.is_empty() {
        status["snapshots"] = json!(snapshots);
    }
    if state == PowerState::Stopped
        && !meant.is_container()
        && let Some((at, bytes)) = machine::saved_state(host, definition)
    {
        status["savedState"] = json!({ "at": at, "bytes": bytes });
    }
    if let (PowerState::Running, Some(health)) = (state, surroundings.healths.get(&definition.uid))
    {
        status["health"] = health.clone();
    }
    instance.state.0 = Some(state);
    status["state"] = json!(state);
    out.items.push(Item {
        address: definition.address.clone(),
        mark: definition.mark.clone(),
        // Of an ephemeral instance that has ended only leftovers are there.
        complete: definition.complete
            && (state != PowerState::Stopped
                || (!meant.ephemeral && super::has_root(host, definition))),
        spec: Spec::Instance(instance),
        last_told: Some(definition.spec.clone()),
        unseen,
        remembered: Some(definition.remembered),
        holds: Holds {
            bytes: 0,
            snapshots: u32::try_from(snapshots.len()).unwrap_or(u32::MAX),
        },
        status,
    });
}

/// What an instance's root is and how big it is on disk; `None` where there is no root, or it cannot be told.
fn root_size(
    host: &Host,
    definition: &Definition<InstancePicks>,
) -> Option<(ContentType, Option<u64>)> {
    let (_, driver) = super::pool_of(host, &definition.picks.pool).ok()?;
    let volume = driver.volume(&root_volume(&definition.uid)).ok()??;
    // A disk always has a size.
    let known = volume.content == ContentType::Filesystem || volume.size.is_some();
    known.then_some((volume.content, volume.size))
}

/// Bytes of an instance's own root. An instance always holds something: at least its having been there.
pub(in crate::native) fn root_bytes(host: &Host, definition: &Definition<InstancePicks>) -> u64 {
    super::pool_of(host, &definition.picks.pool)
        .ok()
        .and_then(|(_, driver)| driver.used(&root_volume(&definition.uid)).ok())
        .unwrap_or(0)
        .max(1)
}

/// Fields that were changed since the start and wait for the next one, with what is in force now.
fn pending(definition: &Definition<InstancePicks>) -> Vec<FieldChange> {
    let Some(started) = &definition.picks.started_with else {
        return Vec::new();
    };
    let Ok(started) = Spec::deserialize(definition.address.kind, started) else {
        return Vec::new();
    };
    definition
        .spec
        .compare(&started)
        .into_iter()
        .filter(|change| match spec(definition) {
            Ok(instance) if !instance.is_container() => {
                machine::waits_for_start(change) || changes_with_start(instance, change)
            }
            _ => change::waits_for_start(&change.path),
        })
        .collect()
}

fn live(
    host: &Host,
    definition: &Definition<InstancePicks>,
    instance: &mut Instance,
    (running, mounted): (&Running, Mounted),
    surroundings: &Surroundings<'_>,
    unseen: &mut Vec<Unseen>,
    told: &mut Value,
) {
    let size = limits::HostSize {
        memory: host.memory,
    };
    let cgroups = host.cgroups(&definition.uid);
    let snapshot = cgroup::Snapshot::read(&cgroups, &host.cgroup);
    let seen = cgroup::seen(&cgroups, &snapshot, &host.cgroup);
    let limited = match &seen.io {
        cgroup::Seen::Known(there) => !there.devices.is_empty(),
        _ => false,
    };
    let places = match limited || disks::are_limited(instance) {
        true => start::disk_places(host, definition, instance),
        false => disks::Places::new(),
    };
    let io = disks::wanted(instance, &places);
    limits::overlay(&mut instance.limits, &io, &seen, size, unseen);
    if let cgroup::Seen::Known(there) = &seen.io {
        disks::overlay(instance, &places, &there.devices);
    }
    let init = running.init().map_or(0, |pid| pid.as_raw_nonzero().get());
    told["pid"] = json!(init);
    told["startedAt"] = json!(status::started_at(running));
    told["cgroup"] = json!(status::memory_cgroup(init));
    if let Ok(pid) = u32::try_from(init)
        && let cgroup::Seen::Known(priority) = cgroup::oom::seen_oom_priority(pid)
        // What it has from keel itself may be beyond what keel is let to lower.
        && (instance.limits.memory_oom_priority != 0
            || *surroundings.own_oom_priority() != cgroup::Seen::Known(priority))
    {
        instance.limits.memory_oom_priority = priority;
    }
    let nodes = start::nodes(instance).unwrap_or_default();
    limits::overlay_devices(instance, &nodes, cgroups.devices(), unseen);
    let mut devices: Map<String, Value> = instance
        .devices
        .iter()
        .map(|(name, device)| (name.clone(), status::device(device, true)))
        .collect();
    match mounted {
        Ok(mounted) => {
            let in_place = volumes::seen_in_place(host, definition, instance);
            let mut gone: Vec<String> = start::mount_devices(instance)
                .filter(|(name, path)| {
                    let disk = in_place.devices.get(*name).and_then(Device::as_disk);
                    disk.is_none_or(|disk| match mounted.contains_key(*path) {
                        false => disk.required,
                        true => mounts::is_another(disk, &mounted, surroundings.mounts()),
                    })
                })
                .map(|(name, _)| name.to_owned())
                .collect();
            for device in instance.devices.values_mut() {
                if let Device::Disk(disk) = device {
                    mounts::overlay(disk, &mounted);
                }
            }
            gone.extend(
                container::unix_devices(instance)
                    .filter(|(name, device, _)| {
                        let plugged = device
                            .in_instance()
                            .is_some_and(|path| mounted.contains_key(path.as_str()));
                        // One that is not required may be missing on the host.
                        !plugged && (device.required || nodes.contains_key(*name))
                    })
                    .map(|(name, ..)| name.to_owned()),
            );
            for name in gone {
                if let Some(device) = instance.devices.remove(&name) {
                    devices.insert(name, status::device(&device, false));
                }
            }
        }
        Err(error) => unseen.push(Unseen {
            path: Pointer::new("/spec/devices"),
            why: crate::native::chain(&error),
        }),
    }
    let addresses = live_nics(
        host,
        definition,
        instance,
        surroundings,
        unseen,
        &mut devices,
    );
    told["addresses"] = json!(addresses);
    told["devices"] = Value::Object(devices);
    if let Some(files) = &mut instance.files.0 {
        for (path, written) in files.iter_mut().filter(|(_, written)| written.enforce) {
            match files::overlay(&host.secrets, running, path, written) {
                Some(seen) => *written = seen,
                // Also an empty file differs from one that is not there.
                None => {
                    written.content = Text::default();
                    written.mode = FileMode(0);
                }
            }
        }
    }
}

/// Puts what the ports of an instance are over its network interfaces; answers the addresses of its guest that are in sight.
fn live_nics(
    host: &Host,
    definition: &Definition<InstancePicks>,
    instance: &mut Instance,
    surroundings: &Surroundings<'_>,
    unseen: &mut Vec<Unseen>,
    devices: &mut Map<String, Value>,
) -> Vec<String> {
    let in_sight = instance.is_container();
    let wanted = plugs::guest_plans(host, definition).unwrap_or_default();
    let interfaces: Vec<String> = nics::nics(instance)
        .map(|(name, _)| name.to_owned())
        .collect();
    let mut addresses = Vec::new();
    for device in interfaces {
        let Some(picked) = definition.picks.nics.get(&device) else {
            continue;
        };
        let Some(seen) = surroundings.ports.get(&(definition.uid, device.clone())) else {
            if let Some(gone) = instance.devices.remove(&device) {
                devices.insert(device, status::device(&gone, false));
            }
            continue;
        };
        devices.insert(device.clone(), status::nic(&picked.host_interface, seen));
        if let Some(why) = &seen.guest_unknown {
            unseen.push(Unseen {
                path: Pointer::new(&format!("/spec/devices/{device}")),
                why: why.clone(),
            });
        }
        if let Some(guest) = &seen.guest {
            addresses.extend(guest.addresses.iter().map(|net| net.addr().to_string()));
        }
        let none = GuestPlan::default();
        let plan = wanted.get(&picked.host_interface).unwrap_or(&none);
        let there = match instance.devices.get_mut(&device) {
            Some(Device::Nic(nic)) => nics::overlay(nic, &device, picked, plan, seen, in_sight),
            _ => continue,
        };
        if there.is_none() {
            instance.devices.remove(&device);
        }
    }
    addresses
}

/// Asks the monitor of a machine; answers whether its guest goes on.
fn live_machine(
    host: &Host,
    definition: &Definition<InstancePicks>,
    instance: &mut Instance,
    running: &Running,
    surroundings: &Surroundings<'_>,
    unseen: &mut Vec<Unseen>,
    told: &mut Value,
) -> PowerState {
    let size = limits::HostSize {
        memory: host.memory,
    };
    let cgroups = host.cgroups(&definition.uid);
    let snapshot = cgroup::Snapshot::read(&cgroups, &host.cgroup);
    let seen = cgroup::seen(&cgroups, &snapshot, &host.cgroup);
    // What QEMU holds is not asked of the cgroups, and the reverse.
    let mut process = machine::process_limits(&instance.limits);
    let before = process.clone();
    limits::overlay(&mut process, &BTreeMap::new(), &seen, size, unseen);
    machine::put_back(&mut instance.limits, &before, process);
    let init = running.init().map_or(0, |pid| pid.as_raw_nonzero().get());
    told["pid"] = json!(init);
    told["startedAt"] = json!(status::started_at(running));
    told["runFolder"] = json!(running.run_dir());
    told["cgroup"] = json!(status::memory_cgroup(init));
    let mut devices = Map::new();
    let mut extras = BTreeMap::new();
    let mut nowhere = BTreeMap::new();
    let asked;
    let look = match surroundings.machines.get(&definition.uid) {
        Some(look) => look,
        // It has been started since.
        None => {
            asked = machine::look_at(instance, running);
            &asked
        }
    };
    let state = match &look.seen {
        Ok(seen) => {
            extras = machine::extras(instance, seen, running);
            let again = machine::started_again(running);
            let cpu = instance.limits.cpu.clone();
            machine::overlay_pins(&mut instance.limits, running, seen.processors);
            if again.is_some() && instance.limits.cpu != cpu {
                told["reasons"] = json!({ "/spec/limits/cpu": machine::UNPINNED });
            }
            let by_accident = |name: &str, device: &Device| again.as_ref()?.why(name, device);
            for (name, lacking) in machine::lacking_usb(instance, seen) {
                if lacking == machine::Lacking::Nowhere {
                    nowhere.insert(name, lacking.why());
                } else if let Some(device) = instance.devices.remove(&name) {
                    let mut told = status::device(&device, false);
                    let accident = by_accident(&name, &device);
                    told["reason"] = json!(accident.unwrap_or_else(|| lacking.why()));
                    devices.insert(name, told);
                }
            }
            for (name, device) in machine::overlay(instance, host.memory, seen) {
                let mut gone = status::device(&device, false);
                if is_passed(&device) {
                    gone["reason"] = json!("it comes with the next start: restart the machine");
                    if let Some(waiting) = told["restartPending"].as_array_mut() {
                        waiting.push(json!(format!("devices.{name}")));
                    }
                } else if let Some(why) = by_accident(&name, &device) {
                    gone["reason"] = json!(why);
                }
                devices.insert(name, gone);
            }
            for (name, extra) in &extras {
                instance.devices.insert(name.clone(), extra.device.clone());
            }
            told["machine"] = json!({ "state": seen.state.words(), "agent": seen.agent });
            if let Some(addresses) = &look.addresses {
                told["addresses"] = json!(addresses);
            }
            let agent = seen.agent && machine::power(seen) == PowerState::Running;
            let secrets = &host.secrets;
            if let Err(error) =
                machine::overlay_files(secrets, definition, instance, running, agent)
            {
                unseen.push(Unseen {
                    path: Pointer::new("/spec/files"),
                    why: crate::native::chain(&error),
                });
            }
            if machine::is_left_frozen(running) {
                told["machine"]["fileSystems"] = json!("frozen for a snapshot, and not thawed");
                PowerState::Frozen
            } else {
                machine::power(seen)
            }
        }
        // It has ended since.
        Err(_) if running.ends_within(Duration::from_millis(100)) => PowerState::Stopped,
        Err(error) => {
            let why = crate::native::chain(error);
            for path in ["/spec/state", "/spec/limits", "/spec/devices"] {
                unseen.push(Unseen {
                    path: Pointer::new(path),
                    why: why.clone(),
                });
            }
            PowerState::Running
        }
    };
    match machine::unserved(instance, running) {
        Ok(gone) => {
            for one in gone {
                let mut device = status::device(&one.device, false);
                device["reason"] = json!(one.why);
                if let Some(waiting) = told["restartPending"].as_array_mut() {
                    waiting.push(json!(format!("devices.{}", one.name)));
                }
                devices.insert(one.name, device);
            }
        }
        Err(error) => unseen.push(Unseen {
            path: Pointer::new("/spec/devices"),
            why: crate::native::chain(&error),
        }),
    }
    for (name, device) in &instance.devices {
        let mut told = status::device(device, !nowhere.contains_key(name));
        if let Some(why) = nowhere.get(name) {
            told["reason"] = json!(why);
        }
        if let Some(extra) = extras.get(name) {
            told["reason"] = json!(extra.why());
        }
        devices.insert(name.clone(), told);
    }
    live_nics(
        host,
        definition,
        instance,
        surroundings,
        unseen,
        &mut devices,
    );
    told["devices"] = Value::Object(devices);
    state
}
