//! Changing an instance: everything that can be live is put in force at once, the rest waits for its next start.

use std::collections::{BTreeMap, BTreeSet};

use manifests::action::Action;
use manifests::change::FieldChange;
use manifests::desired::Resource;
use manifests::devices::Device;
use manifests::kind::Spec;
use manifests::kinds::instance::Instance;
use manifests::pointer::Pointer;

use super::mounts::mount_points;
use super::picks::InstancePicks;
use super::{
    files, live_mount, machine, networks_of, own_mark, pick, plugs, root, running, spec, start,
    stored, volumes,
};
use crate::error::{Class, RuntimeError};
use crate::native::cgroup;
use crate::native::definition::Definition;
use crate::native::host::Host;
use crate::native::network::port;
use crate::native::networks::NetworkPicks;
use crate::native::shim::Running;
use crate::runtime::{Context, Effected};

/// The parts of a spec that have means of their own to change them live.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
struct Touched {
    limits: bool,
    nics: bool,
    /// Mounts that are made anew, by device.
    disks: BTreeSet<String>,
    nodes: bool,
    root_size: bool,
    device_rules: bool,
    files: bool,
    other: bool,
}

/// Sorts changed fields by the means that put them in force: pure.
fn touched(changes: &[FieldChange], before: &Instance, after: &Instance) -> Touched {
    let mut touched = Touched::default();
    for change in changes {
        let steps: Vec<String> = change.path.steps().collect();
        let steps: Vec<&str> = steps.iter().map(String::as_str).collect();
        match steps.as_slice() {
            ["spec", "limits", "kernel", ..] => touched.other = true,
            ["spec", "limits", ..] => touched.limits = true,
            ["spec", "files", ..] => touched.files = true,
            ["spec", "devices", name, rest @ ..] => {
                let device = [after, before].map(|instance| instance.devices.get(*name));
                match (device.into_iter().flatten().next(), rest) {
                    (Some(Device::Nic(_)), _) => touched.nics = true,
                    (Some(Device::Disk(_)), ["limits", ..]) => touched.limits = true,
                    (Some(Device::Disk(disk)), _) if disk.is_root() => {
                        touched.root_size = true;
                        touched.limits = true;
                    }
                    (Some(Device::Disk(_)), _) => {
                        touched.disks.insert((*name).to_owned());
                        touched.limits = true;
                    }
                    (Some(Device::UnixChar(_) | Device::UnixBlock(_)), _) => touched.nodes = true,
                    _ => touched.other = true,
                }
            }
            // The companion was told at the start.
            ["spec", "boot", "autorestart"] => touched.other = true,
            ["spec", "security", "deviceAccess", ..] => touched.device_rules = true,
            [
                "spec",
                "state" | "description" | "ephemeral" | "user" | "health" | "boot" | "profiles"
                | "snapshots" | "placement",
                ..,
            ] => {}
            _ => touched.other = true,
        }
    }
    touched
}

/// Where the image is no part of a change its name stays as it was told: one that is left alone is given as it lives.
pub(super) fn keep_image(
    definition: &mut Definition<InstancePicks>,
    before: &Definition<InstancePicks>,
    changes: &[FieldChange],
) {
    let image = Pointer::new("/spec/image");
    let is_changed = changes.iter().any(|change| image.covers(&change.path));
    if let (false, Spec::Instance(meant), Spec::Instance(told)) =
        (is_changed, &mut definition.spec, &before.spec)
    {
        meant.image.clone_from(&told.image);
    }
}

/// Changes an instance. Siblings of a field that is refused are changed all the same; the refusal is told.
pub(super) fn update(
    host: &Host,
    before: &Definition<InstancePicks>,
    action: &Action,
    resource: &Resource,
    changes: &[FieldChange],
    context: &Context<'_>,
) -> Result<Effected, RuntimeError> {
    let Spec::Instance(after) = &resource.spec else {
        return Err(crate::native::wrong_kind(&action.address));
    };
    if !after.is_container() {
        return machine::update(host, before, action, resource, changes, context);
    }
    let touched = touched(changes, spec(before)?, after);
    let mut definition = Definition {
        address: action.address.clone(),
        mark: Some(action.mark.clone()),
        spec: resource.spec.clone(),
        remembered: crate::native::remember(resource),
        ..before.clone()
    };
    keep_image(&mut definition, before, changes);
    let mut refusal: Option<RuntimeError> = None;
    let mut keep = |result: Result<(), RuntimeError>| {
        if let Err(error) = result {
            refusal.get_or_insert(error);
        }
    };
    pick(host, &mut definition)?;
    let now = running(host, &definition.uid)?;
    let old_spec = spec(before)?;
    let mut later = touched.other;
    keep(root::bring(
        host,
        &mut definition,
        before,
        now.is_some(),
        context,
    ));
    if touched.root_size {
        match root::resize(host, &definition, after, now.is_some()) {
            Ok(effected) => later |= effected == Effected::NextStart,
            Err(error) => {
                // The definition says what is: the disk is as big as it was.
                root::leave_size(&mut definition, old_spec);
                keep(Err(error));
            }
        }
    }
    if let Some(now) = &now {
        if !touched.disks.is_empty() {
            keep(disks(host, before, &definition, &touched.disks, now));
        }
        if touched.limits {
            keep(start::set_limits(host, &definition, after));
            keep(oom_priority(host, &definition, after, now));
        }
        if touched.device_rules || touched.nodes {
            let set = device_rules(host, &definition, after);
            if set.is_err()
                && let Spec::Instance(meant) = &mut definition.spec
            {
                meant.security.device_access = old_spec.security.device_access.clone();
            }
            keep(set);
        }
        if touched.nodes {
            keep(nodes(before, &definition, now));
        }
        if touched.nics {
            (context.progress)("plugging");
            keep(unplug(host, before, &definition));
            keep(network(host, &definition));
            keep(leave(host, before, &definition));
            keep(plug(host, before, &definition, now));
        }
        if touched.files {
            let (old, new) = (&spec(before)?.files.0, &after.files.0);
            let none = BTreeMap::new();
            let put = files::to_put(
                &host.secrets,
                old.as_ref().unwrap_or(&none),
                new.as_ref().unwrap_or(&none),
                now,
            );
            let written = put.and_then(|put| files::write(host, now, &put));
            if written.is_err() {
                if let Spec::Instance(meant) = &mut definition.spec {
                    meant.files.clone_from(&old_spec.files);
                }
            } else if let Some(mut started) = definition.picks.started_with() {
                // The next start leaves alone what was put by now.
                started.files = after.files.clone();
                definition.picks.started_with = Some(Spec::Instance(Box::new(started)).to_value());
            }
            keep(written);
        }
    } else if touched.nics {
        keep(sweep(host, &definition));
        keep(network(host, &definition));
        keep(leave(host, before, &definition));
    }
    host.write_instance(&definition).map_err(stored)?;
    if !touched.disks.is_empty() {
        keep(volumes::let_rest(host, before));
    }
    match refusal {
        Some(error) => Err(error),
        None if later && now.is_some() => Ok(Effected::NextStart),
        None => Ok(Effected::Done),
    }
}

fn oom_priority(
    host: &Host,
    definition: &Definition<InstancePicks>,
    instance: &Instance,
    now: &Running,
) -> Result<(), RuntimeError> {
    let pid = now.init().map_or(0, |pid| pid.as_raw_nonzero().get());
    let Ok(pid) = u32::try_from(pid) else {
        return Ok(());
    };
    let wanted = instance.limits.memory_oom_priority;
    if cgroup::oom::seen_oom_priority(pid) == cgroup::Seen::Known(wanted) {
        return Ok(());
    }
    cgroup::oom::set_oom_priority(&host.cgroups(&definition.uid), pid, wanted)
        .map_err(start::limit_failed)
}

fn device_rules(
    host: &Host,
    definition: &Definition<InstancePicks>,
    instance: &Instance,
) -> Result<(), RuntimeError> {
    let nodes = start::nodes(instance)?;
    host.cgroups(&definition.uid)
        .set_devices(&start::device_access(instance, &nodes)?)
        .map_err(|error| RuntimeError::new("set the device rules of", Class::Retry, error))
}

/// Rules and reservations of the networks that an instance joins.
pub(super) fn network(
    host: &Host,
    definition: &Definition<InstancePicks>,
) -> Result<(), RuntimeError> {
    let instance = spec(definition)?;
    networks_of(host, definition, instance)?
        .values()
        .try_for_each(|network| host.ensure_network(network))
}

/// Takes rules and reservations out of the networks that an instance was in and is not in any more.
pub(super) fn leave(
    host: &Host,
    before: &Definition<InstancePicks>,
    after: &Definition<InstancePicks>,
) -> Result<(), RuntimeError> {
    let now = networks_of(host, after, spec(after)?)?;
    for (_, nic) in super::nics::nics(spec(before)?) {
        let Some(name) = nic.network.as_ref().filter(|name| !now.contains_key(*name)) else {
            continue;
        };
        // One that is gone already holds nothing of it.
        let left = host.network_named(before.address.project_name(), name);
        if let Some(left) = left.map_err(super::io_failed("find the network of"))? {
            host.ensure_network(&left)?;
        }
    }
    Ok(())
}

/// Takes out the NICs that are gone or join another network now, and what an earlier change left half done.
fn unplug(
    host: &Host,
    before: &Definition<InstancePicks>,
    after: &Definition<InstancePicks>,
) -> Result<(), RuntimeError> {
    let (old, new) = (spec(before)?, spec(after)?);
    for (device, nic) in super::nics::nics(old) {
        let stays = super::nics::nics(new).any(|(name, other)| {
            name == device
                && other.network == nic.network
                && other.nic_type == nic.nic_type
                && other.interface(name) == nic.interface(device)
        });
        if let (false, Some(picked)) = (stays, before.picks.nics.get(device)) {
            host.network
                .unplug(&picked.host_interface, &own_mark(host, before))
                .map_err(|error| RuntimeError::new("unplug", Class::Retry, error))?;
        }
    }
    sweep(host, after)
}

/// Removes the links of an instance that belong to none of its NICs.
pub(super) fn sweep(
    host: &Host,
    definition: &Definition<InstancePicks>,
) -> Result<(), RuntimeError> {
    let nics = definition.picks.nics.values();
    let kept = nics.map(|nic| nic.host_interface.clone()).collect();
    host.network
        .unplug_others(&own_mark(host, definition), &kept)
        .map_err(|error| RuntimeError::new("unplug", Class::Retry, error))
}

fn plug(
    host: &Host,
    before: &Definition<InstancePicks>,
    after: &Definition<InstancePicks>,
    now: &Running,
) -> Result<(), RuntimeError> {
    let guest = start::namespace(now)?;
    let set_before = plugs::plugs(host, before).unwrap_or_default();
    for one in plugs::plugs(host, after)? {
        let interface = &one.port.guest_interface;
        if let Some(old) = set_before
            .iter()
            .find(|old| old.port.guest_interface == *interface)
        {
            port::clear_guest(&guest, interface, &old.guest, &one.guest)
                .map_err(|error| RuntimeError::new("readdress", Class::Retry, error))?;
        }
        plugs::plug(host, &one, &guest)?;
    }
    Ok(())
}

/// Puts the ports of running instances back into a bridge that was made anew or changed, with the addresses and
/// routers that the network has now at the guests' ends. `before` is the network as it was.
pub(in crate::native) fn plug_again(
    host: &Host,
    before: Option<&Definition<NetworkPicks>>,
    network: &Definition<NetworkPicks>,
) -> Result<(), RuntimeError> {
    let plan = super::network_plan(host, network)?;
    let failed = |error| crate::native::network_failed("plug the instances of", error);
    let addresses = |network: &Definition<NetworkPicks>| match &network.spec {
        Spec::Network(written) => (network.picks.ipv4(written), network.picks.ipv6(written)),
        _ => (None, None),
    };
    let (ipv4, ipv6) = addresses(network);
    for (definition, device, port) in super::ports_of_instances(host, network)? {
        let Some(now) = running(host, &definition.uid)? else {
            continue;
        };
        if !spec(&definition)?.is_container() {
            host.network.repair_tap(&plan, &port).map_err(failed)?;
            continue;
        }
        let guest = start::namespace(&now)?;
        host.network.attach(&plan, &port, &guest).map_err(failed)?;
        let Some(Device::Nic(nic)) = spec(&definition)?.devices.get(&device) else {
            continue;
        };
        let wanted = super::nics::guest(nic, ipv4, ipv6);
        if let Some((ipv4, ipv6)) = before.map(addresses) {
            let set_before = super::nics::guest(nic, ipv4, ipv6);
            port::clear_guest(&guest, &port.guest_interface, &set_before, &wanted)
                .map_err(failed)?;
        }
        port::configure_guest(&guest, &port.guest_interface, &wanted).map_err(failed)?;
    }
    Ok(())
}

/// Plugs and unplugs device nodes of a running container.
fn nodes(
    before: &Definition<InstancePicks>,
    after: &Definition<InstancePicks>,
    now: &Running,
) -> Result<(), RuntimeError> {
    let (old, new) = (spec(before)?, spec(after)?);
    // A node that is gone from the host is no reason not to take it out of the instance.
    let old = super::container::devices(old, &start::nodes(old).unwrap_or_default());
    let new = super::container::devices(new, &start::nodes(new)?);
    let mounted = mount_points(now)?;
    for device in &old {
        if !new.contains(device) && mounted.contains_key(&device.target) {
            live_mount::unmount(now, &device.target)?;
        }
    }
    for device in &new {
        if !(old.contains(device) && mounted.contains_key(&device.target)) {
            live_mount::device(now, device)?;
        }
    }
    Ok(())
}

/// Mounts and unmounts disks of a running container: those that changed, in the manifest or by hand.
fn disks(
    host: &Host,
    before: &Definition<InstancePicks>,
    after: &Definition<InstancePicks>,
    changed: &BTreeSet<String>,
    now: &Running,
) -> Result<(), RuntimeError> {
    let (old, new) = (spec(before)?, spec(after)?);
    let mounted = mount_points(now)?;
    let stays = |name: &str, path: &str| !changed.contains(name) && mounted.contains_key(path);
    for (name, path) in start::mount_devices(old) {
        if !stays(name, path) && mounted.contains_key(path) {
            live_mount::unmount(now, path)?;
        }
    }
    let new = &volumes::in_place(host, after, new)?;
    for (name, path) in start::mount_devices(new) {
        let disk = new.devices.get(name).and_then(Device::as_disk);
        let Some(mount) = disk
            .filter(|disk| super::container::is_present(disk) && !stays(name, path))
            .and_then(super::container::mount_of)
        else {
            continue;
        };
        live_mount::mount(now, &mount)?;
    }
    Ok(())
}

/// Whether a change of this field waits for the next start of a running instance.
pub(super) fn waits_for_start(path: &Pointer) -> bool {
    let subject = Instance::default();
    let change = FieldChange {
        path: path.clone(),
        before: serde_json::Value::Null,
        after: serde_json::Value::Null,
        cause: manifests::change::Cause::Edited,
    };
    touched(&[change], &subject, &subject).other && !path.as_str().starts_with("/spec/devices/")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_sorted_by_the_means_that_change_them() {
        let cases = [
            ("/spec/limits/memory", false),
            ("/spec/limits/kernel/nofile", true),
            ("/spec/environment/LANG", true),
            ("/spec/description", false),
            ("/spec/security/nesting", true),
            ("/spec/files/~1etc~1motd", false),
        ];
        for (path, waits) in cases {
            assert_eq!(waits_for_start(&Pointer::new(path)), waits, "{path}");
        }
    }
}
