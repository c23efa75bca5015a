//! PCI devices of the host in machines: from a machine's start to its end.

use manifests::devices::Device;
use manifests::feature::PciFacts;
use manifests::instance::passed::{meant, trouble};
use manifests::instance::served::is_passed;
use manifests::kinds::instance::Instance;

use crate::error::{Class, RuntimeError};
use crate::native::machine::plan::PassedPlan;
use crate::native::machine::seen::MachineSeen;
use crate::native::machine::{host_pci, passed};

/// Those of a manifest.
fn written(instance: &Instance) -> impl Iterator<Item = (&String, &Device)> {
    let devices = instance.devices.iter();
    devices.filter(|(_, device)| is_passed(device))
}

/// What this host has of them.
fn on_host(instance: &Instance) -> Vec<PciFacts> {
    match written(instance).next() {
        None => Vec::new(),
        Some(_) => host_pci::devices(),
    }
}

/// Those of a machine, as this host has them.
pub(super) fn plan(instance: &Instance) -> Vec<PassedPlan> {
    planned(instance, &on_host(instance))
}

/// As [`plan`]: pure.
fn planned(instance: &Instance, host: &[PciFacts]) -> Vec<PassedPlan> {
    let one = |device: &String, one: &PciFacts| {
        Some(PassedPlan {
            device: device.clone(),
            address: one.address.clone(),
            group: one.group?,
        })
    };
    let all = written(instance).map(|(name, device)| (name, meant(device, host)));
    all.flat_map(|(name, meant)| meant.into_iter().filter_map(move |found| one(name, found)))
        .collect()
}

/// Refuses a start where one cannot be given: the host may have changed since it was planned.
pub(super) fn refuse(instance: &Instance) -> Result<(), RuntimeError> {
    match lacking(instance, &on_host(instance)) {
        None => Ok(()),
        Some(why) => Err(RuntimeError::new("start", Class::NeedsOperator, why)),
    }
}

fn lacking(instance: &Instance, host: &[PciFacts]) -> Option<String> {
    written(instance).find_map(|(name, device)| {
        let meant = meant(device, host);
        let why = match meant.is_empty() {
            true => Some("no PCI device of this host is such a one".to_owned()),
            false => meant.into_iter().find_map(|one| trouble(one, host)),
        };
        why.map(|why| format!("devices.{name}: {why}"))
    })
}

/// Whether a running machine has nothing of such a device.
pub(super) fn is_missing(name: &str, seen: &MachineSeen) -> bool {
    !seen.devices.keys().any(|part| passed::is_of(name, part))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_card_goes_with_its_functions_and_what_cannot_go_is_refused() {
        let one = |address: &str, class, driver: &str| PciFacts {
            address: address.to_owned(),
            class,
            vendor: "10de".to_owned(),
            product: "1c82".to_owned(),
            driver: Some(driver.to_owned()),
            group: Some(7),
            card: None,
        };
        let written = serde_json::json!({"type": "virtual-machine", "devices": {
            "card": {"type": "gpu"},
            "root": {"type": "disk", "path": "/"},
        }});
        let instance: Instance = serde_json::from_value(written).expect("an instance");
        let host = |driver: &str| {
            [
                one("0000:01:00.0", 0x03_00_00, "vfio-pci"),
                one("0000:01:00.1", 0x04_03_00, driver),
            ]
        };
        let planned = planned(&instance, &host("vfio-pci"));
        let addresses: Vec<&str> = planned.iter().map(|one| one.address.as_str()).collect();
        assert_eq!(addresses, ["0000:01:00.0", "0000:01:00.1"]);
        assert_eq!(lacking(&instance, &host("vfio-pci")), None);
        let told = lacking(&instance, &host("snd_hda_intel")).expect("a refusal");
        assert!(
            told.starts_with("devices.card: 0000:01:00.0 (10de:1c82) is in IOMMU group 7"),
            "{told}"
        );
        let told = lacking(&instance, &[]).expect("a refusal");
        assert_eq!(
            told,
            "devices.card: no PCI device of this host is such a one"
        );
    }
}
