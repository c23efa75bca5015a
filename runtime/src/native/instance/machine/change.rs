//! Changing a machine: what its hardware takes while it runs is put in force at once, the rest waits for its next start.
//!
//! What is done is decided by what the machine has, not by what changed: so a change that was cut short is gone on with, and
//! what somebody took out by hand comes back.

use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::AsFd as _;
use std::time::Duration;

use manifests::action::Action;
use manifests::change::FieldChange;
use manifests::desired::Resource;
use manifests::instance::served::changes_with_start;
use manifests::kind::Spec;
use manifests::kinds::instance::Instance;

use super::super::change::{keep_image, leave, network, sweep};
use super::super::picks::InstancePicks;
use super::super::plugs::plugs;
use super::super::start::set_limits;
use super::super::{pick, root, running, spec, stored};
use super::around::{around, planned};
use super::extras::{Extra, extras};
use super::start::tap;
use super::{connect_failed, files, hardware, let_go, monitor_failed, pin, saved_state, seed, usb};
use crate::error::{Class, RuntimeError};
use crate::native::definition::Definition;
use crate::native::host::Host;
use crate::native::machine::devices::{id, nodes};
use crate::native::machine::plan::{Bus, DiskPlan, Hardware, NicPlan};
use crate::native::machine::plug::{self, PlugError};
use crate::native::machine::qmp::Qmp;
use crate::native::machine::seen::{MachineSeen, look};
use crate::native::network::port;
use crate::native::shim::Running;
use crate::runtime::{Context, Effected};
use crate::sys::netlink::Connection;

/// How long a guest may take to let go of a part, or to give memory back.
const GUEST: Duration = Duration::from_secs(20);

fn plug_failed(doing: impl Into<String>) -> impl FnOnce(PlugError) -> RuntimeError {
    let doing = doing.into();
    move |error| {
        let class = match &error {
            PlugError::NoPort
            | PlugError::NoUsb(_)
            | PlugError::NotLetGo(..)
            | PlugError::NotGivenBack { .. } => Class::NeedsOperator,
            PlugError::Monitor(_) | PlugError::Path(_) => Class::Retry,
        };
        RuntimeError::new(doing, class, error)
    }
}

/// Whether a change of a field waits for the next start of a running machine: pure.
pub(in crate::native::instance) fn waits_for_start(change: &FieldChange) -> bool {
    let steps: Vec<String> = change.path.steps().collect();
    let steps: Vec<&str> = steps.iter().map(String::as_str).collect();
    match steps.as_slice() {
        // How much memory is in such pages is for the memory to say.
        ["spec", "limits", "hugepages", _] => change.before.is_null() || change.after.is_null(),
        ["spec", "limits", "memoryHotplug" | "hugepages", ..] => true,
        ["spec", "limits" | "devices", ..] => false,
        ["spec", "boot", field, ..] => ["mode", "autorestart"].contains(field),
        ["spec", "cloudInit", "onChange"] => false,
        [
            "spec",
            "state" | "description" | "ephemeral" | "user" | "health" | "profiles" | "snapshots"
            | "placement" | "environment" | "files",
            ..,
        ] => false,
        _ => true,
    }
}

/// The parts of a machine that changes touch, and nothing else is done: who allowed only what is live gets only that.
#[derive(Debug, Default, PartialEq, Eq)]
struct Touched {
    /// What holds its process.
    limits: bool,
    processors: bool,
    memory: bool,
    /// Devices of which anything changed.
    devices: BTreeSet<String>,
    /// Those that are taken out and plugged in again: something changed that is fixed when they are plugged in.
    replugged: BTreeSet<String>,
    /// What cloud-init is given.
    cloud_init: bool,
    files: bool,
    /// Something that waits for the next start.
    later: bool,
}

/// Sorts changed fields by what they touch: pure.
fn touched(changes: &[FieldChange]) -> Touched {
    let mut touched = Touched::default();
    for change in changes {
        let steps: Vec<String> = change.path.steps().collect();
        let steps: Vec<&str> = steps.iter().map(String::as_str).collect();
        match steps.as_slice() {
            // Whether that waits for a start is for what it says to say.
            ["spec", "cloudInit", field, ..] => {
                touched.cloud_init |= *field != "onChange";
                continue;
            }
            // A set of processors says both how many and which.
            ["spec", "limits", "cpu", ..] => (touched.processors, touched.limits) = (true, true),
            ["spec", "limits", "memory", ..] => touched.memory = true,
            ["spec", "files", ..] => touched.files = true,
            ["spec", "limits", ..] => touched.limits = true,
            ["spec", "devices", name, rest @ ..] => {
                touched.devices.insert((*name).to_owned());
                match rest {
                    [
                        "limits" | "size" | "connected" | "isolated" | "filtering" | "bootPriority",
                        ..,
                    ]
                    | ["ipv4" | "ipv6" | "routes" | "network" | "vlan" | "acls", ..] => {}
                    _ => {
                        touched.replugged.insert((*name).to_owned());
                    }
                }
            }
            _ => {}
        }
        touched.later |= waits_for_start(change);
    }
    touched
}

/// Changes a machine. Siblings of a field that is refused are changed all the same; the refusal is told.
pub(in crate::native::instance) fn update(
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
    let mut definition = Definition {
        address: action.address.clone(),
        mark: Some(action.mark.clone()),
        spec: resource.spec.clone(),
        remembered: crate::native::remember(resource),
        ..before.clone()
    };
    keep_image(&mut definition, before, changes);
    let runs_again = seed::follow(
        &mut definition.picks,
        &spec(before)?.cloud_init,
        &after.cloud_init,
    );
    pick(host, &mut definition)?;
    let now = running(host, &definition.uid)?;
    let now = now
        .map(|now| let_go(host, &definition, now))
        .transpose()?
        .flatten();
    let brought = root::bring(host, &mut definition, before, now.is_some(), context);
    let Some(now) = now else {
        let sized = match wanted_size(after) {
            // A guest goes on with the disk that it knows.
            Some(wanted)
                if Some(wanted) != wanted_size(spec(before)?)
                    && saved_state(host, &definition).is_some() =>
            {
                let why = "its state is saved, with a disk of the size that it has: start it first, and change its size then";
                Err(RuntimeError::new("resize the root of", Class::Refused, why))
            }
            Some(_) if saved_state(host, &definition).is_some() => Ok(()),
            Some(_) => root::resize(host, &definition, after, false).map(drop),
            None => Ok(()),
        };
        if sized.is_err() {
            root::leave_size(&mut definition, spec(before)?);
        }
        sweep(host, &definition)?;
        network(host, &definition)?;
        leave(host, before, &definition)?;
        host.write_instance(&definition).map_err(stored)?;
        return brought.and(sized).map(|()| Effected::Done);
    };
    let mut qmp = super::control(&now).map_err(connect_failed)?;
    let seen = look(&mut qmp).map_err(monitor_failed("look at"))?;
    let mut touched = touched(changes);
    touched.later |= touched.cloud_init && runs_again;
    touched.later |= changes
        .iter()
        .any(|change| changes_with_start(after, change));
    let mut work = Work {
        host,
        context,
        running: &now,
        qmp: &mut qmp,
        seen: &seen,
        extras: extras(after, &seen, &now),
        after: &definition,
        later: touched.later,
        touched,
        refusal: brought.err(),
    };
    work.all(before, after);
    let puts = work.touched.files;
    let Work {
        later, mut refusal, ..
    } = work;
    if puts && let Err(error) = files::put_changed(host, &mut definition, &now, &mut qmp) {
        if let Spec::Instance(meant) = &mut definition.spec {
            meant.files.clone_from(&spec(before)?.files);
        }
        refusal.get_or_insert(error);
    }
    if refusal.is_some() {
        // The disk may be as big as it was.
        let size = look(&mut qmp).ok().and_then(|seen| root_size(after, &seen));
        if size.is_some() && size != wanted_size(after) {
            root::leave_size(&mut definition, spec(before)?);
        }
    }
    host.write_instance(&definition).map_err(stored)?;
    match refusal {
        Some(error) => Err(error),
        None if later => Ok(Effected::NextStart),
        None => Ok(Effected::Done),
    }
}

/// Brings a machine that goes on from a saved state to what its definition says by now, as far as that is live. `had`: the
/// devices that it had.
pub(super) fn mend(
    host: &Host,
    definition: &Definition<InstancePicks>,
    had: impl Iterator<Item = String>,
    (running, qmp): (&Running, &mut Qmp),
    context: &Context<'_>,
) -> Result<(), RuntimeError> {
    let instance = spec(definition)?;
    let seen = look(qmp).map_err(monitor_failed("look at"))?;
    let touched = Touched {
        processors: true,
        memory: true,
        devices: instance.devices.keys().cloned().chain(had).collect(),
        ..Touched::default()
    };
    let mut work = Work {
        host,
        context,
        running,
        qmp,
        seen: &seen,
        extras: BTreeMap::new(),
        after: definition,
        later: false,
        touched,
        refusal: None,
    };
    work.all(definition, instance);
    work.refusal.map_or(Ok(()), Err)
}

/// Gives a disk of a machine that runs more bytes; the volume that it is has to know it then.
pub(in crate::native) fn grow_volume(
    host: &Host,
    definition: &Definition<InstancePicks>,
    device: &str,
    wanted: u64,
) -> Result<(), RuntimeError> {
    const DOING: &str = "resize a disk of";
    let Some(now) = running(host, &definition.uid)? else {
        return Ok(());
    };
    let mut qmp = super::control(&now).map_err(connect_failed)?;
    let seen = look(&mut qmp).map_err(monitor_failed("look at"))?;
    let there = seen.nodes.get(&nodes(device).top).map(|node| node.size);
    if there.is_some_and(|there| there < wanted) {
        plug::grow_disk(&mut qmp, device, wanted).map_err(plug_failed(DOING))?;
    }
    Ok(())
}

fn wanted_size(instance: &Instance) -> Option<u64> {
    let (_, root) = instance.root()?;
    root.size.as_ref().map(|size| size.bytes())
}

fn root_size(instance: &Instance, seen: &MachineSeen) -> Option<u64> {
    let (name, _) = instance.root()?;
    seen.nodes.get(&nodes(name).top).map(|node| node.size)
}

/// The work on one running machine.
struct Work<'w> {
    host: &'w Host,
    context: &'w Context<'w>,
    running: &'w Running,
    qmp: &'w mut Qmp,
    seen: &'w MachineSeen,
    /// What no manifest names.
    extras: BTreeMap<String, Extra>,
    after: &'w Definition<InstancePicks>,
    touched: Touched,
    later: bool,
    refusal: Option<RuntimeError>,
}

impl Work<'_> {
    /// The first refusal is told.
    fn keep(&mut self, result: Result<(), RuntimeError>) {
        if let Err(error) = result {
            self.refusal.get_or_insert(error);
        }
    }

    /// All that is touched.
    fn all(&mut self, before: &Definition<InstancePicks>, after: &Instance) {
        let (host, definition) = (self.host, self.after);
        let found = around(host, definition, after);
        let hardware = match found.and_then(|around| planned(after, around)) {
            Ok(hardware) => hardware,
            Err(error) => return self.keep(Err(error)),
        };
        if self.touched.limits {
            self.keep(set_limits(host, definition, after));
        }
        if self.touched.processors {
            self.processors(after);
            // Those that were plugged in by now, too; and a new set for the process takes each of its threads along.
            self.keep(pin(self.running, &after.limits));
        }
        if self.touched.memory {
            self.memory(after, &hardware);
        }
        if !self.touched.devices.is_empty() {
            self.extras();
            self.disks(after, &hardware.disks);
            let done = self.nics(before, definition, &hardware);
            self.keep(done);
            let patience = self.patience();
            let done = usb::follow(after, &self.touched.devices, self.seen, self.qmp, patience);
            self.keep(done.map_err(plug_failed("plug the USB devices of")));
        }
    }

    fn patience(&self) -> Duration {
        GUEST.min(self.context.timeout)
    }

    fn processors(&mut self, after: &Instance) {
        let wanted = hardware::count(&after.limits);
        if wanted > self.seen.processors {
            let grown = plug::grow_processors(self.qmp, wanted);
            self.keep(grown.map_err(plug_failed("give more processors to")));
            let there = look(self.qmp).map_or(0, |seen| seen.processors);
            self.later |= there < wanted;
        } else {
            // A guest does not reliably give one back.
            self.later |= wanted < self.seen.processors;
        }
    }

    fn memory(&mut self, after: &Instance, hardware: &Hardware) {
        let wanted = hardware::memory_bytes(&after.limits, self.host.memory);
        let plugged = self.seen.memory.unwrap_or(0);
        if wanted == self.seen.balloon.unwrap_or(plugged) {
            return;
        }
        if wanted > plugged && wanted > hardware.memory.most {
            self.later = true;
            return;
        }
        let patience = self.patience();
        let set = plug::set_memory(
            self.qmp,
            wanted,
            hardware::PIECE,
            hardware.memory.huge_pages,
            patience,
        );
        self.keep(set.map_err(plug_failed("change the memory of")));
    }

    /// The devices that changed, by the names that QEMU has for them.
    fn changed(&self, kind: &str) -> BTreeSet<String> {
        let names = self.touched.devices.iter();
        names.map(|device| id(kind, device)).collect()
    }

    /// Takes out what no manifest names.
    fn extras(&mut self) {
        let patience = self.patience();
        for (name, extra) in std::mem::take(&mut self.extras) {
            // Disks and interfaces of ours have more to them.
            let is_ours = ["disk", "nic"]
                .map(|kind| id(kind, &name))
                .contains(&extra.id);
            if self.touched.devices.contains(&name) && !is_ours {
                let done = plug::take_out(self.qmp, &extra.id, patience);
                let doing = format!("unplug {name} ({}) of", extra.driver);
                self.keep(done.map_err(plug_failed(doing)));
            }
        }
    }

    fn disks(&mut self, after: &Instance, disks: &[DiskPlan]) {
        let patience = self.patience();
        let root = after.root().map(|(name, _)| nodes(name).top);
        let wanted: BTreeMap<String, &DiskPlan> = disks
            .iter()
            .map(|disk| (nodes(&disk.device).top, disk))
            .collect();
        for id in self.changed("disk") {
            let is_root = Some(&id) == root.as_ref();
            let there = self.seen.devices.contains_key(&id) && !self.seen.empty.contains(&id);
            let again = wanted
                .get(&id)
                .is_none_or(|disk| self.touched.replugged.contains(&disk.device));
            if self.seen.devices.contains_key(&id) && !is_root && (again || !there) {
                (self.context.progress)("unplugging");
                let done = plug::unplug_disk(self.qmp, &id, patience);
                self.keep(done.map_err(plug_failed(format!("unplug {id} of"))));
            }
            let Some(disk) = wanted.get(&id) else {
                continue;
            };
            if is_root && there {
                // It is in use always: its bus and its cache change with the next start.
                self.later |= self.touched.replugged.contains(&disk.device);
                self.size(after, disk);
            } else {
                let done = plug::plug_disk(self.qmp, disk);
                let doing = format!("plug the disk {} into", disk.device);
                self.keep(done.map_err(plug_failed(doing)));
            }
            let limits = self.seen.limits.get(&nodes(&disk.device).group);
            if limits.is_some_and(|limits| *limits != disk.limits) {
                let done = plug::limit_disk(self.qmp, &disk.device, &disk.limits);
                let doing = format!("limit the disk {} of", disk.device);
                self.keep(done.map_err(plug_failed(doing)));
            }
        }
        let done = plug::order_boot(self.qmp, disks);
        self.keep(done.map_err(plug_failed("set what is booted first by")));
    }

    fn size(&mut self, after: &Instance, disk: &DiskPlan) {
        let (Some(wanted), Some(there)) = (wanted_size(after), root_size(after, self.seen)) else {
            return;
        };
        if wanted < there {
            let why =
                format!("it has {there} bytes, and a disk of a machine is never made smaller");
            self.keep(Err(RuntimeError::new(
                "resize the root of",
                Class::Refused,
                why,
            )));
        } else if wanted > there && disk.bus == Bus::Nvme {
            self.later = true;
        } else if wanted > there {
            let done = plug::grow_disk(self.qmp, &disk.device, wanted)
                .map_err(plug_failed("resize the root of"))
                // There is nothing left to do for the pool but to know.
                .and_then(|()| root::resize(self.host, self.after, after, true).map(drop));
            self.keep(done);
        }
    }

    fn nics(
        &mut self,
        before: &Definition<InstancePicks>,
        after: &Definition<InstancePicks>,
        hardware: &Hardware,
    ) -> Result<(), RuntimeError> {
        let patience = self.patience();
        let wanted: BTreeMap<String, &NicPlan> = hardware
            .nics
            .iter()
            .map(|nic| (id("nic", &nic.device), nic))
            .collect();
        let changed = self.changed("nic");
        let mut there: BTreeSet<String> = self.seen.devices.keys().cloned().collect();
        for id in &changed {
            let stays = wanted
                .get(id)
                .is_some_and(|nic| !self.touched.replugged.contains(&nic.device));
            if !stays && there.remove(id) {
                let done = plug::unplug_nic(self.qmp, id, patience);
                done.map_err(plug_failed(format!("unplug {id} of")))?;
            }
        }
        sweep(self.host, after)?;
        network(self.host, after)?;
        leave(self.host, before, after)?;
        for one in plugs(self.host, after)? {
            let id = id("nic", &one.device);
            if !changed.contains(&id) {
                continue;
            }
            if there.contains(&id) && self.repaired(&one)? {
                continue;
            }
            if there.contains(&id) {
                // Its tap is gone: what is left of it leads nowhere.
                let done = plug::unplug_nic(self.qmp, &id, patience);
                done.map_err(plug_failed(format!("unplug {id} of")))?;
            }
            let Some(nic) = wanted.get(&id) else {
                continue;
            };
            (self.context.progress)("plugging");
            let tap = tap(self.host, &one)?;
            let done = plug::plug_nic(self.qmp, nic, tap.as_fd());
            let doing = format!("plug the network interface {} into", one.device);
            done.map_err(plug_failed(doing))?;
        }
        Ok(())
    }

    /// Brings the host's side of an interface to where it shall be; `false`: it has none.
    fn repaired(&self, plug: &super::super::plugs::Plug) -> Result<bool, RuntimeError> {
        let failed =
            |error| RuntimeError::new("plug the network interface of", Class::Retry, error);
        match &plug.network {
            Some(network) => self
                .host
                .network
                .repair_tap(network, &plug.port)
                .map_err(failed),
            None => {
                let mut connection = Connection::open().map_err(|error| {
                    RuntimeError::new("reach the kernel's links", Class::Retry, error)
                })?;
                port::repair_tap(&mut connection, &plug.port, None, None).map_err(failed)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use manifests::change::Cause;
    use manifests::pointer::Pointer;
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn fields_are_sorted_by_whether_a_running_machine_takes_them() {
        let cases = [
            ("/spec/limits/memory", false),
            ("/spec/limits/hugepages/2MiB", true),
            ("/spec/boot/mode", true),
            ("/spec/boot/priority", false),
            ("/spec/devices/data/ioBus", false),
            ("/spec/description", false),
            ("/spec/cloudInit/userData", true),
            ("/spec/cloudInit/onChange", false),
            ("/spec/files/~1etc~1motd", false),
            ("/spec/security/idmap/base", true),
        ];
        let of = |path: &str, before: Value| FieldChange {
            path: Pointer::new(path),
            before,
            after: json!("64MiB"),
            cause: Cause::Edited,
        };
        for (path, waits) in cases {
            assert_eq!(waits_for_start(&of(path, Value::Null)), waits, "{path}");
        }
        let more = of("/spec/limits/hugepages/2MiB", json!("32MiB"));
        assert!(!waits_for_start(&more));
    }
}
