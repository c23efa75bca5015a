//! What a machine asks for of the PCI devices of this host that it cannot have.

use super::host::error;
use crate::desired::{DesiredSet, Resource};
use crate::devices::Device;
use crate::diagnostic::Diagnostics;
use crate::feature::{Capabilities, PciFacts};
use crate::instance::passed::{go_together, meant, trouble};
use crate::instance::served::is_passed;
use crate::kind::Spec;
use crate::kinds::instance::Instance;
use crate::pointer::Pointer;

/// All of it.
pub(super) fn beyond(
    resource: &Resource,
    instance: &Instance,
    desired: &DesiredSet,
    host: &Capabilities,
    found: &mut Diagnostics,
) {
    let machines = host.machines.as_ref();
    let Some(host) = machines.and_then(|machines| machines.pci.as_deref()) else {
        return;
    };
    for (name, device) in &instance.devices {
        if !is_passed(device) {
            continue;
        }
        let mut say = |message: String| {
            let at = Pointer::new("/spec/devices").field(name);
            found.push(error(resource, at, message));
        };
        let meant = meant(device, host);
        if meant.is_empty() {
            say(absent(device, host));
        }
        for one in meant {
            if let Some(why) = trouble(one, host) {
                say(why);
            } else if let Some(other) = taken(resource, instance, name, one, desired, host) {
                say(other);
            }
        }
    }
}

/// That there is none such, and what there is.
fn absent(device: &Device, host: &[PciFacts]) -> String {
    let is_graphics = matches!(device, Device::Gpu(_));
    let there = host
        .iter()
        .filter(|one| !is_graphics || one.is_graphics())
        // Bridges and what the board itself is made of.
        .filter(|one| one.class >> 16 != 0x06)
        .map(ToString::to_string)
        .collect::<Vec<_>>();
    let there = match there.is_empty() {
        true => "it has none".to_owned(),
        false => format!("there are {}", there.join(", ")),
    };
    let what = match is_graphics {
        true => "graphics card",
        false => "PCI device",
    };
    format!("no {what} of this host is such a one: {there}")
}

/// Who has it, or one that goes with it to one process only, already.
fn taken(
    resource: &Resource,
    instance: &Instance,
    name: &str,
    one: &PciFacts,
    desired: &DesiredSet,
    host: &[PciFacts],
) -> Option<String> {
    let own = instance.devices.iter().find(|(other, device)| {
        *other != name
            && meant(device, host)
                .iter()
                .any(|has| has.address == one.address)
    });
    if let Some((other, _)) = own {
        return Some(format!("{one} is devices.{other} already"));
    }
    desired.resources.values().find_map(|other| {
        let Spec::Instance(of) = &other.spec else {
            return None;
        };
        if other.address == resource.address || of.is_container() {
            return None;
        }
        let has = |device: &Device| {
            meant(device, host)
                .into_iter()
                .find(|has| go_together(has, one))
        };
        let has = of.devices.values().find_map(has)?;
        let why = match has.address == one.address {
            true => String::new(),
            false => format!(" {has} of the same IOMMU group, and with it"),
        };
        Some(format!("{} has{why} {one} already", other.address))
    })
}

#[cfg(test)]
mod tests {
    use super::super::machines::tests::{found, host};
    use super::*;

    fn one(address: &str, group: Option<u32>, driver: &str) -> PciFacts {
        PciFacts {
            address: address.to_owned(),
            class: 0x02_00_00,
            vendor: "8086".to_owned(),
            product: "10d3".to_owned(),
            driver: Some(driver.to_owned()),
            group,
            card: None,
        }
    }

    #[test]
    fn what_cannot_be_given_is_told_at_its_device() {
        let mut host = host();
        let machines = host.machines.as_mut().expect("facts");
        machines.pci = Some(vec![
            one("0000:01:00.0", Some(1), "vfio-pci"),
            one("0000:02:00.0", Some(2), "e1000e"),
            one("0000:03:00.0", None, "e1000e"),
            one("0000:04:00.0", Some(4), "vfio-pci"),
            one("0000:04:00.1", Some(4), "vfio-pci"),
        ]);
        let spec = "  type: virtual-machine\n  image: tiny\n  devices:\n    \
                    good: { type: pci, address: \"01:00.0\" }\n    \
                    absent: { type: pci, address: \"0000:09:00.0\" }\n    \
                    used: { type: pci, address: \"0000:02:00.0\" }\n    \
                    bare: { type: pci, address: \"0000:03:00.0\" }\n    \
                    card: { type: gpu }\n    \
                    half: { type: pci, address: \"0000:04:00.0\" }\n    \
                    twice: { type: pci, address: \"0000:04:00.0\" }\n\
                    ---\napiVersion: evenkeel/v1\nkind: Instance\nmetadata: { name: other }\nspec:\n  \
                    type: virtual-machine\n  image: tiny\n  devices: { rest: { type: pci, address: \"0000:04:00.1\" } }\n";
        let told: Vec<String> = found(spec, &host)
            .into_iter()
            .map(|one| {
                let place = one.split_once("/devices/").expect("a device").1;
                place.chars().take(80).collect()
            })
            .collect();
        insta::assert_snapshot!(told.join("\n"));
        // Nobody looked.
        if let Some(machines) = host.machines.as_mut() {
            machines.pci = None;
        }
        assert_eq!(found(spec, &host), Vec::<String>::new());
    }
}
