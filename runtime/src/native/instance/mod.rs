//! Instances: containers made from a spec, started, changed, stopped and removed.
//!
//! The parts that decide are pure: `limits`, `nics`, `container`. `start`, `change` and `remove` do; `observe` reads.

mod aside;
mod change;
mod container;
pub(super) mod container_snapshots;
mod disks;
pub(super) mod export;
pub(super) mod files;
mod health;
mod ids;
pub(super) mod import;
mod limits;
mod live_mount;
pub(super) mod machine;
mod mounts;
mod nics;
mod observe;
mod picks;
mod plugs;
mod remove;
mod root;
pub(super) mod snapshots;
mod start;
mod status;
mod volumes;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use manifests::action::{Action, Power, Verb};
use manifests::desired::{DesiredSet, Resource};
use manifests::devices::Nic;
use manifests::id::Uid;
use manifests::instance::boot::ShutdownAction;
use manifests::kind::{Kind, Spec};
use manifests::kinds::instance::{Instance, PowerState};
use manifests::scalar::address::NicAddress4;

use super::definition::{Definition, DefinitionError};
use super::host::Host;
use super::id_ranges::IdRangeError;
use super::network::PortPlan;
use super::networks::{self, NetworkPicks};
use super::pools::{self, pool_of};
use super::shim::{self, Running};
use super::storage::{Initial, VolumePlan};
use crate::error::{Class, RuntimeError};
use crate::runtime::{Context, Effected, Snapshot};

pub(super) use self::change::plug_again;
pub(super) use self::health::healths;
pub(super) use self::machine::grow_volume;
pub(super) use self::observe::{Machines, Ports, Surroundings, observe, root_bytes, running};
pub(super) use self::picks::{InstancePicks, NicPicks};
pub(super) use self::plugs::network_plan;
pub(super) use self::remove::{is_on_its_way, lies_in, trash_bytes, trashed};
pub(super) use self::volumes::used_volumes;

/// The class of a failure of the shim's client.
fn shim_failed(doing: &str, error: shim::ShimError) -> RuntimeError {
    RuntimeError::new(doing, Class::Retry, error)
}

fn io_failed<E: std::error::Error + Send + Sync + 'static>(
    doing: &'static str,
) -> impl Fn(E) -> RuntimeError {
    move |error| RuntimeError::new(doing, Class::NeedsOperator, error)
}

/// A definition with its spec as an instance.
fn spec(definition: &Definition<InstancePicks>) -> Result<&Instance, RuntimeError> {
    match &definition.spec {
        Spec::Instance(instance) => Ok(instance),
        _ => Err(super::wrong_kind(&definition.address)),
    }
}

/// Whether the root of an instance is there: the removal of an instance may have been cut short behind it. Where its
/// pool cannot tell, it is.
fn has_root(host: &Host, definition: &Definition<InstancePicks>) -> bool {
    let root = pools::root_volume(&definition.uid);
    pool_of(host, &definition.picks.pool).map_or(true, |(_, driver)| {
        !matches!(driver.volume(&root), Ok(None))
    })
}

/// The snapshots of an instance; none where they cannot be told.
fn snapshots_of(host: &Host, definition: &Definition<InstancePicks>) -> Vec<Snapshot> {
    match spec(definition).is_ok_and(Instance::is_container) {
        true => container_snapshots::told(host, definition),
        false => machine::snapshots::told(host, definition),
    }
    .unwrap_or_default()
}

/// The networks of an instance's NICs by name.
fn networks_of(
    host: &Host,
    definition: &Definition<InstancePicks>,
    instance: &Instance,
) -> Result<BTreeMap<String, Arc<Definition<NetworkPicks>>>, RuntimeError> {
    let found = networks_there(host, definition, instance)?;
    let mut wanted = nics::nics(instance).filter_map(|(_, nic)| nic.network.as_ref());
    match wanted.find(|name| !found.contains_key(*name)) {
        None => Ok(found),
        Some(name) => Err(RuntimeError::new(
            "find the network of",
            Class::NeedsOperator,
            format!("there is no network {name}"),
        )),
    }
}

/// As [`networks_of`], without those that are not there.
fn networks_there(
    host: &Host,
    definition: &Definition<InstancePicks>,
    instance: &Instance,
) -> Result<BTreeMap<String, Arc<Definition<NetworkPicks>>>, RuntimeError> {
    let mut found = BTreeMap::new();
    for name in nics::nics(instance).filter_map(|(_, nic)| nic.network.as_ref()) {
        let network = host
            .network_named(definition.address.project_name(), name)
            .map_err(io_failed("find the network of"))?;
        if let Some(network) = network {
            found.insert(name.clone(), network);
        }
    }
    Ok(found)
}

/// The ports of all instances in a network.
pub(super) fn ports(
    host: &Host,
    network: &Definition<NetworkPicks>,
) -> Result<Vec<(Uid, String, PortPlan)>, RuntimeError> {
    let all = ports_of_instances(host, network)?;
    Ok(all
        .into_iter()
        .map(|(definition, device, port)| (definition.uid, device, port))
        .collect())
}

/// An instance, one of its NICs by name, and its port.
type PortOfInstance = (Arc<Definition<InstancePicks>>, String, PortPlan);

/// The ports of all instances in a network, with the instances.
fn ports_of_instances(
    host: &Host,
    network: &Definition<NetworkPicks>,
) -> Result<Vec<PortOfInstance>, RuntimeError> {
    let mut all = Vec::new();
    for definition in host.instances().map_err(io_failed("list the instances"))? {
        let Spec::Instance(instance) = &definition.spec else {
            continue;
        };
        for (device, nic) in nics::nics(instance) {
            let joins = nic.network.as_deref() == Some(network.address.name.as_str())
                && host
                    .network_named(definition.address.project_name(), &network.address.name)
                    .map_err(io_failed("find the network of"))?
                    .is_some_and(|found| found.uid == network.uid);
            if !joins {
                continue;
            }
            let mark = own_mark(host, &definition);
            let name = &definition.address.name;
            if let Some(port) = nics::port(name, &mark, device, nic, &definition.picks) {
                all.push((Arc::clone(&definition), device.to_owned(), port));
            }
        }
    }
    Ok(all)
}

/// The ports of one instance by device.
pub(super) fn own_ports(
    host: &Host,
    definition: &Definition<InstancePicks>,
) -> Vec<(String, PortPlan)> {
    let Spec::Instance(instance) = &definition.spec else {
        return Vec::new();
    };
    let mark = own_mark(host, definition);
    nics::nics(instance)
        .filter_map(|(device, nic)| {
            let name = &definition.address.name;
            let port = nics::port(name, &mark, device, nic, &definition.picks)?;
            Some((device.to_owned(), port))
        })
        .collect()
}

/// The text that marks the links of an instance: kept when its owner changes, so it names nobody.
fn own_mark(host: &Host, definition: &Definition<InstancePicks>) -> String {
    format!("keel:{}:instance:{}", host.config.state_id, definition.uid)
}

/// Picks what an instance needs once: its ids, its hardware addresses, its reservations.
fn pick(host: &Host, definition: &mut Definition<InstancePicks>) -> Result<(), RuntimeError> {
    let networks = networks_of(host, definition, spec(definition)?)?;
    pick_in(host, definition, &networks)
}

/// As [`pick`], in these networks; NICs of others get nothing yet.
fn pick_in(
    host: &Host,
    definition: &mut Definition<InstancePicks>,
    networks: &BTreeMap<String, Arc<Definition<NetworkPicks>>>,
) -> Result<(), RuntimeError> {
    let instance = spec(definition)?.clone();
    let _alone = host.picking();
    if !definition.complete {
        // Known before it claims: a run that is cut short is gone on with under the same identity, or deleted.
        host.write_instance(definition)
            .map_err(io_failed("record"))?;
    }
    definition.picks.id_base = claim_ids(host, definition, &instance)?;
    let others: Vec<_> = host
        .instances()
        .map_err(io_failed("list the instances"))?
        .into_iter()
        .filter(|other| other.uid != definition.uid)
        .collect();
    let asks = |(device, nic): (&str, &Nic)| {
        let before = definition.picks.nics.get(device);
        nic.ipv4.address == NicAddress4::Dynamic && before.is_none_or(|one| one.ipv4.is_none())
    };
    let promised = match nics::nics(&instance).any(asks) {
        true => {
            let living = others.iter().map(AsRef::as_ref);
            remove::addresses_in_trash(host, &definition.uid, living)
        }
        false => BTreeSet::new(),
    };
    let macs: BTreeSet<_> = others
        .iter()
        .flat_map(|other| other.picks.nics.values())
        .filter_map(NicPicks::hardware_address)
        .collect();
    let mut picked = BTreeMap::new();
    for (device, nic) in nics::nics(&instance) {
        let network = nic.network.as_ref().map(|name| networks.get(name));
        let around = match network {
            None => None,
            Some(None) => continue,
            Some(Some(network)) => {
                let Spec::Network(written) = &network.spec else {
                    continue;
                };
                let ports: Vec<PortPlan> = ports(host, network)?
                    .into_iter()
                    .filter(|(uid, of, _)| *uid != definition.uid || of != device)
                    .map(|(_, _, port)| port)
                    .collect();
                let subnet = network.picks.ipv4(written);
                let dhcp = subnet.filter(|_| written.ipv4.dhcp.enabled);
                let ranges: Vec<_> = written
                    .ipv4
                    .dhcp
                    .ranges
                    .iter()
                    .map(|r| (r.first, r.last))
                    .collect();
                Some(picks::Around {
                    promised: promised.clone(),
                    subnet,
                    ranges: dhcp.map_or_else(Vec::new, |subnet| {
                        super::network::addresses::ranges4(subnet, &ranges)
                    }),
                    taken: networks::taken(written, &ports),
                })
            }
        };
        let before = definition.picks.nics.get(device);
        let asks = nic.ipv4.address == NicAddress4::Dynamic
            && around
                .as_ref()
                .is_some_and(|around| !around.ranges.is_empty());
        let one = picks::nic(&definition.uid, device, nic, before, around.as_ref(), &macs);
        if asks && one.ipv4.is_none() {
            let name = nic.network.as_deref().unwrap_or_default();
            let why = format!("no address of network {name} is left for {device}");
            return Err(RuntimeError::new(
                "find an address for",
                Class::NeedsOperator,
                why,
            ));
        }
        picked.insert(device.to_owned(), one);
    }
    definition.picks.nics = picked;
    // Still alone: the next one to pick must see these.
    host.write_instance(definition).map_err(io_failed("record"))
}

const fn spec_of(resource: &Resource) -> Option<&Instance> {
    match &resource.spec {
        Spec::Instance(instance) => Some(instance),
        _ => None,
    }
}

/// Who claims the ids of an instance: itself, or all instances together that are not isolated from each other.
fn owner_of_ids(host: &Host, definition: &Definition<InstancePicks>, isolated: bool) -> String {
    match isolated {
        true => format!("{}/{}", host.config.state_id, definition.uid),
        false => format!("{}/shared", host.config.state_id),
    }
}

/// The first id of an instance on the host; none for a privileged one.
fn claim_ids(
    host: &Host,
    definition: &Definition<InstancePicks>,
    instance: &Instance,
) -> Result<Option<u32>, RuntimeError> {
    if instance.security.privileged && instance.is_container() {
        return Ok(None);
    }
    let wanted = &instance.security.idmap;
    let owner = owner_of_ids(host, definition, wanted.isolated);
    // What was picked once is kept; it is another's if the instance was not isolated before.
    let before = definition.picks.id_base.filter(|_| wanted.isolated);
    let claim = |base| host.ranges.claim(&owner, wanted.size, base);
    match claim(wanted.base.or(before)) {
        Err(IdRangeError::Taken { .. }) if wanted.base.is_none() => claim(None),
        other => other,
    }
    .map(Some)
    .map_err(|error| RuntimeError::new("claim ids for", Class::NeedsOperator, error))
}

fn stored(error: DefinitionError) -> RuntimeError {
    RuntimeError::new("record", Class::NeedsOperator, error)
}

/// Makes an instance and starts it unless its `state` is `Stopped`.
fn create(
    host: &Host,
    action: &Action,
    resource: &Resource,
    desired: &DesiredSet,
    context: &Context<'_>,
) -> Result<Effected, RuntimeError> {
    let Spec::Instance(instance) = &resource.spec else {
        return Err(super::wrong_kind(&action.address));
    };
    let before = host
        .definitions
        .read::<InstancePicks>(Kind::Instance, &action.uid)
        // A definition of something in the making that a power cut spoiled is made again.
        .ok()
        .flatten();
    let before = before.map(|before| aside::end(host, before)).transpose()?;
    let before = match before {
        // Nothing of an ephemeral instance outlives its stop, also where it stopped by itself.
        Some(old) if instance.ephemeral && old.complete && running(host, &old.uid)?.is_none() => {
            remove::unmake(host, &old, context)?;
            Some(Definition {
                complete: false,
                ..old
            })
        }
        other => other,
    };
    let mut finished = false;
    if let Some(before) = before.as_ref().filter(|before| before.complete) {
        // A root that a deletion had already put into the trash when it was cut short is taken back.
        finished = has_root(host, before) || remove::untrash(host, before)?;
    }
    let mut picks = before.map(|before| before.picks).unwrap_or_default();
    if !finished {
        picks.image = root::image(host, instance, desired, context)?;
        let (_, root) = instance.root().ok_or_else(|| {
            RuntimeError::new("make", Class::NeedsOperator, "it has no root disk")
        })?;
        picks.pool = root.pool.clone().unwrap_or_default();
        picks.running = true;
        picks.started_with = None;
    }
    let mut definition = Definition {
        address: action.address.clone(),
        mark: Some(action.mark.clone()),
        uid: action.uid,
        complete: finished,
        spec: resource.spec.clone(),
        remembered: super::remember(resource),
        picks,
    };
    let (content, image) = root::content(host, instance, &definition.picks.image)?;
    pick(host, &mut definition)?;
    if let Some(image) = &image {
        host.images
            .claim(image)
            .map_err(io_failed("claim the image of"))?;
    }
    if !has_root(host, &definition) {
        // In a new root cloud-init has not run yet.
        definition.picks.cloud_init = None;
    }
    let (pool, driver) = pool_of(host, &definition.picks.pool)?;
    driver
        .ensure_volume(&VolumePlan {
            id: pools::root_volume(&definition.uid),
            mark: own_mark(host, &definition),
            image,
            size: root::size(instance),
            content,
            own: pools::own_files_of_roots(&pool),
            initial: Initial::default(),
        })
        .map_err(|error| {
            let class = pools::class(&error);
            RuntimeError::new("make the root of", class, error)
        })?;
    let wanted = instance.state.0;
    if wanted == Some(PowerState::Stopped) {
        definition.picks.running = false;
    } else if running(host, &definition.uid)?.is_none() {
        (context.progress)("starting");
        start::start(host, &mut definition, context)?;
    }
    definition.complete = true;
    host.write_instance(&definition).map_err(stored)?;
    if wanted == Some(PowerState::Stopped) {
        // A start brings its networks to know it; without one its reservations would be missing until somebody looks.
        change::network(host, &definition)?;
    }
    if wanted == Some(PowerState::Frozen)
        && let Some(running) = running(host, &definition.uid)?
    {
        freeze(instance, &running, true)?;
    }
    Ok(Effected::Done)
}

/// Does one deed on an instance.
pub(super) fn perform(
    host: &Host,
    action: &Action,
    resource: Option<&Resource>,
    desired: &DesiredSet,
    context: &Context<'_>,
) -> Result<Effected, RuntimeError> {
    let before = || {
        host.definitions
            .read::<InstancePicks>(Kind::Instance, &action.uid)
            .map_err(stored)
    };
    let named = |error: RuntimeError| error.of(&action.address);
    match (&action.verb, resource) {
        (Verb::Create, Some(resource)) => create(host, action, resource, desired, context),
        (Verb::Update { changes }, Some(resource)) => match before().map_err(named)? {
            Some(definition) => {
                change::update(host, &definition, action, resource, changes, context)
            }
            None => create(host, action, resource, desired, context),
        },
        (Verb::Rename { .. }, Some(resource)) => match before().map_err(named)? {
            Some(mut definition) => {
                definition.address = action.address.clone();
                definition.remembered = super::remember(resource);
                host.write_instance(&definition)
                    .map_err(stored)
                    .map_err(named)?;
                change::network(host, &definition).map_err(named)?;
                // The host name inside is set at the start.
                Ok(match running(host, &definition.uid).map_err(named)? {
                    Some(_) => Effected::NextStart,
                    None => Effected::Done,
                })
            }
            None => Ok(Effected::NotNeeded),
        },
        (Verb::Rebuild | Verb::Replace, Some(resource)) => {
            if let Some(definition) = before().map_err(named)? {
                // Nothing is removed for the sake of an image that is not to be had.
                if let Some(instance) = spec_of(resource) {
                    root::image(host, instance, desired, context).map_err(named)?;
                }
                match aside::of(action) {
                    Some(aside) => aside::set_aside(host, &definition, aside, context),
                    None => remove::unmake(host, &definition, context),
                }
                .map_err(named)?;
            }
            create(host, action, resource, desired, context)
        }
        (Verb::Power { power }, _) => match before().map_err(named)? {
            Some(definition) => power_to(host, definition, *power, context),
            None => Ok(Effected::NotNeeded),
        },
        (Verb::Adopt | Verb::Forget, _) => match before().map_err(named)? {
            Some(mut definition) => {
                definition.mark = matches!(action.verb, Verb::Adopt).then(|| action.mark.clone());
                if let Some(resource) = resource {
                    definition.remembered = super::remember(resource);
                }
                host.write_instance(&definition).map_err(stored)?;
                Ok(Effected::Done)
            }
            None if matches!(action.verb, Verb::Adopt) => {
                Err(super::not_made_here(&action.address))
            }
            None => Ok(Effected::NotNeeded),
        },
        (Verb::Trash { at, expires_at }, _) => match before().map_err(named)? {
            Some(definition) => remove::trash(host, &definition, *at, *expires_at, context),
            None => Ok(Effected::NotNeeded),
        },
        (Verb::Restore, _) => remove::restore(host, &action.uid, &action.address, &action.mark),
        (Verb::Delete, _) => match before().map_err(named)? {
            Some(definition) => {
                let done = remove::delete(host, &definition, context);
                // What was on its way out of the trash may still lie there.
                if !definition.complete {
                    remove::purge(host, &action.uid).map_err(named)?;
                }
                done
            }
            None => remove::purge(host, &action.uid),
        },
        (verb, None) => Err(super::cannot(verb, &action.address)),
    }
    .map_err(named)
}

/// Stops an instance where it is, or lets it go on.
fn freeze(instance: &Instance, running: &Running, frozen: bool) -> Result<(), RuntimeError> {
    match (instance.is_container(), frozen) {
        (false, _) => machine::freeze(running, frozen),
        (true, true) => running
            .freeze()
            .map_err(|error| shim_failed("freeze", error)),
        (true, false) => running
            .thaw()
            .map_err(|error| shim_failed("unfreeze", error)),
    }
}

/// Stops an instance before the host goes down, as its manifest says.
fn host_down(
    host: &Host,
    definition: &Definition<InstancePicks>,
    now: &Running,
    context: &Context<'_>,
) -> Result<(), RuntimeError> {
    match spec(definition)?.boot.host_shutdown_action {
        ShutdownAction::Stop => start::stop(host, definition, now, false, context),
        ShutdownAction::ForceStop => start::stop(host, definition, now, true, context),
        ShutdownAction::StatefulStop => {
            machine::save(host, definition, now, context).or_else(|error| {
                // The host does not wait until somebody has mended that.
                let why = super::chain(&error);
                (context.progress)(&format!("it is stopped without its state: {why}"));
                start::stop(host, definition, now, false, context)
            })
        }
    }
}

/// Whether an instance that runs stands still, by whomever.
pub(super) fn is_frozen(
    definition: &Definition<InstancePicks>,
    running: &Running,
) -> Result<bool, RuntimeError> {
    let frozen = running
        .frozen()
        .map_err(|error| shim_failed("look at", error))?;
    match spec(definition)?.is_container() {
        true => Ok(frozen),
        false => Ok(frozen || machine::is_paused(running)?),
    }
}

/// Stops an instance that runs where it is, or lets it go on.
pub(super) fn set_frozen(
    definition: &Definition<InstancePicks>,
    running: &Running,
    frozen: bool,
) -> Result<(), RuntimeError> {
    freeze(spec(definition)?, running, frozen).map_err(|error| error.of(&definition.address))
}

/// Switches an instance.
fn power_to(
    host: &Host,
    mut definition: Definition<InstancePicks>,
    power: Power,
    context: &Context<'_>,
) -> Result<Effected, RuntimeError> {
    let mut now = running(host, &definition.uid)?;
    if let Some(process) = now.take_if(|_| spec(&definition).is_ok_and(|one| !one.is_container())) {
        now = machine::let_go(host, &definition, process)?;
    }
    let done = match (power, now) {
        (Power::Start | Power::StartAnew, Some(_)) => Effected::NotNeeded,
        // It was frozen by a keel that saved its state and was killed: it goes on from there.
        (Power::Unfreeze, None) if machine::saved_state(host, &definition).is_some() => {
            start::start(host, &mut definition, context)?;
            Effected::Done
        }
        (Power::Start | Power::StartAnew, None) => {
            if power == Power::StartAnew {
                machine::discard_state(host, &definition)?;
            }
            start::start(host, &mut definition, context)?;
            Effected::Done
        }
        (Power::Save, Some(now)) => {
            machine::save(host, &definition, &now, context)?;
            Effected::Done
        }
        (Power::Save, None)
            if definition.picks.running && machine::saved_state(host, &definition).is_none() =>
        {
            start::after_stop(host, &definition)?;
            let why = "it does not run: there is no state to save";
            return Err(RuntimeError::new("save the state of", Class::Conflict, why));
        }
        (Power::Stop | Power::Kill | Power::Save | Power::HostDown, None) => {
            start::after_stop(host, &definition)?;
            Effected::NotNeeded
        }
        (Power::Stop | Power::Kill, Some(now)) => {
            start::stop(host, &definition, &now, power == Power::Kill, context)?;
            Effected::Done
        }
        (Power::HostDown, Some(now)) => {
            host_down(host, &definition, &now, context)?;
            Effected::Done
        }
        (Power::Restart | Power::Reset, now) => {
            if let Some(now) = now {
                start::stop(host, &definition, &now, power == Power::Reset, context)?;
            }
            start::start(host, &mut definition, context)?;
            Effected::Done
        }
        (Power::Freeze, Some(now)) => {
            freeze(spec(&definition)?, &now, true)?;
            Effected::Done
        }
        (Power::Unfreeze, Some(now)) => {
            freeze(spec(&definition)?, &now, false)?;
            Effected::Done
        }
        (Power::Freeze | Power::Unfreeze, None) => {
            return Err(RuntimeError::new(
                "freeze",
                Class::Conflict,
                "it does not run",
            ));
        }
    };
    let stops = matches!(
        power,
        Power::Stop | Power::Kill | Power::Save | Power::HostDown
    );
    if stops && spec(&definition)?.ephemeral {
        return remove::delete(host, &definition, context);
    }
    let runs = match power {
        // The next start of the host starts it.
        Power::HostDown => definition.picks.running,
        _ => !stops,
    };
    if definition.picks.running != runs || done == Effected::Done {
        definition.picks.running = runs;
        host.write_instance(&definition).map_err(stored)?;
    }
    Ok(done)
}
