//! USB devices of the host in machines: those that match when somebody looks. One that comes later, or comes again with
//! another number, is missing until the next apply.

use std::collections::BTreeSet;
use std::time::Duration;

use manifests::devices::{Device, Usb};
use manifests::feature::UsbFacts;
use manifests::kinds::instance::Instance;

use super::{connect_failed, control, monitor_failed};
use crate::error::{Class, RuntimeError};
use crate::native::chain;
use crate::native::machine::devices::id;
use crate::native::machine::host_usb;
use crate::native::machine::plug::{self, PlugError};
use crate::native::machine::qmp::Qmp;
use crate::native::machine::seen::{MachineSeen, look};
use crate::native::shim::Running;
use crate::runtime::Context;

/// What QEMU's names of them begin with.
const KIND: &str = "usb";
/// How long a guest that has just begun may take to let go of one.
const PLUGGING: Duration = Duration::from_secs(5);

/// QEMU's name of one that a device of a manifest matches: its bus and number are in it, so another one has another.
fn name(device: &str, one: &UsbFacts) -> String {
    format!("{}.{}.{}", id(KIND, device), one.bus, one.number)
}

/// Whether a part is one of a device of a manifest.
fn is_of(device: &str, part: &str) -> bool {
    let rest = part.strip_prefix(&id(KIND, device));
    let numbers = rest.and_then(|rest| rest.strip_prefix('.')?.split_once('.'));
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    numbers.is_some_and(|(bus, number)| is_number(bus) && is_number(number))
}

/// The USB devices of a manifest.
fn written(instance: &Instance) -> impl Iterator<Item = (&str, &Usb)> {
    instance
        .devices
        .iter()
        .filter_map(|(name, device)| match device {
            Device::Usb(usb) => Some((name.as_str(), usb.as_ref())),
            _ => None,
        })
}

/// Whether a part of a machine is one of the USB devices of its manifest.
pub(super) fn is_named(instance: &Instance, part: &str) -> bool {
    written(instance).any(|(device, _)| is_of(device, part))
}

/// Why a USB device of a manifest is not as it should be.
#[derive(Debug, PartialEq)]
pub(in crate::native::instance) enum Lacking {
    /// None of the host matches, and none need.
    Nowhere,
    /// None of the host matches, and one must.
    Missing,
    /// Those that match are not those that are plugged in.
    Others,
}

impl Lacking {
    /// For people.
    pub(in crate::native::instance) const fn why(&self) -> &'static str {
        match self {
            Self::Nowhere | Self::Missing => "no USB device of this host matches",
            Self::Others => "what matches on this host is not what is plugged in",
        }
    }
}

/// The USB devices of a running machine that are not as they should be, by their names.
pub(in crate::native::instance) fn lacking_usb(
    instance: &Instance,
    seen: &MachineSeen,
) -> Vec<(String, Lacking)> {
    match written(instance).next() {
        None => Vec::new(),
        Some(_) => among(instance, seen, &host_usb::devices()),
    }
}

/// As [`lacking_usb`]: pure.
fn among(instance: &Instance, seen: &MachineSeen, host: &[UsbFacts]) -> Vec<(String, Lacking)> {
    written(instance)
        .filter_map(|(device, usb)| {
            let wanted = wanted(device, usb, host);
            let there: BTreeSet<String> = plugged(device, seen);
            let lacking = match (wanted.is_empty(), there.is_empty(), usb.required) {
                (true, true, true) => Lacking::Missing,
                (true, true, false) => Lacking::Nowhere,
                _ if wanted != there => Lacking::Others,
                _ => return None,
            };
            Some((device.to_owned(), lacking))
        })
        .collect()
}

fn wanted(device: &str, usb: &Usb, host: &[UsbFacts]) -> BTreeSet<String> {
    let matching = host.iter().filter(|one| usb.matches(one));
    matching.map(|one| name(device, one)).collect()
}

fn plugged(device: &str, seen: &MachineSeen) -> BTreeSet<String> {
    let parts = seen.devices.keys();
    parts.filter(|part| is_of(device, part)).cloned().collect()
}

/// Brings what is plugged into a machine to what matches on the host; of `devices` also those that the manifest has no more.
pub(super) fn follow(
    instance: &Instance,
    devices: &BTreeSet<String>,
    seen: &MachineSeen,
    qmp: &mut Qmp,
    patience: Duration,
) -> Result<(), PlugError> {
    let has_any = |device: &String| {
        matches!(instance.devices.get(device), Some(Device::Usb(_)))
            || !plugged(device, seen).is_empty()
    };
    let devices: Vec<&String> = devices.iter().filter(|device| has_any(device)).collect();
    if devices.is_empty() {
        return Ok(());
    }
    let host = host_usb::devices();
    for device in devices {
        let usb = match instance.devices.get(device) {
            Some(Device::Usb(usb)) => Some(usb),
            _ => None,
        };
        let matching: Vec<&UsbFacts> = match usb {
            Some(usb) => host.iter().filter(|one| usb.matches(one)).collect(),
            None => Vec::new(),
        };
        let wanted: BTreeSet<String> = matching.iter().map(|one| name(device, one)).collect();
        let there = plugged(device, seen);
        for part in there.difference(&wanted) {
            plug::take_out(qmp, part, patience)?;
        }
        for one in matching {
            let part = name(device, one);
            if !there.contains(&part) {
                plug::plug_usb(qmp, &part, &host_usb::node(one))?;
            }
        }
        if wanted.is_empty() && usb.is_some_and(|usb| usb.required) {
            return Err(PlugError::NoUsb(device.clone()));
        }
    }
    Ok(())
}

/// Plugs them into a machine that has just been started.
pub(super) fn with_start(
    instance: &Instance,
    running: &Running,
    context: &Context<'_>,
) -> Result<(), RuntimeError> {
    let all: BTreeSet<String> = written(instance)
        .map(|(device, _)| device.to_owned())
        .collect();
    if all.is_empty() {
        return Ok(());
    }
    let mut qmp = control(running).map_err(connect_failed)?;
    let seen = look(&mut qmp).map_err(monitor_failed("look at"))?;
    match follow(
        instance,
        &all,
        &seen,
        &mut qmp,
        PLUGGING.min(context.timeout),
    ) {
        Err(error @ PlugError::NoUsb(_)) => {
            Err(RuntimeError::new("start", Class::NeedsOperator, error))
        }
        // It runs without: what is missing is drift.
        Err(error) => {
            (context.progress)(&chain(&error));
            Ok(())
        }
        Ok(()) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::native::machine::qmp::RunState;

    fn facts(vendor: &str, bus: u32, number: u32) -> UsbFacts {
        UsbFacts {
            vendor: vendor.to_owned(),
            product: "c077".to_owned(),
            serial: None,
            bus,
            number,
        }
    }

    #[test]
    fn what_matches_now_is_what_should_be_there() {
        let written = serde_json::json!({"type": "virtual-machine", "devices": {
            "mouse": {"type": "usb", "vendorId": "046D"},
            "key": {"type": "usb", "vendorId": "1050"},
            "dongle": {"type": "usb", "vendorId": "1051", "required": true},
            "both": {"type": "usb", "productId": "c077"},
        }});
        let instance: Instance = serde_json::from_value(written).expect("an instance");
        let host = [facts("046d", 1, 4), facts("0951", 2, 3)];
        let told = |parts: &[&str]| {
            let seen = MachineSeen {
                state: RunState::Running,
                processors: 1,
                memory: None,
                balloon: None,
                devices: parts
                    .iter()
                    .map(|part| ((*part).to_owned(), "usb-host".to_owned()))
                    .collect(),
                nodes: BTreeMap::new(),
                empty: Vec::new(),
                limits: BTreeMap::new(),
                agent: false,
            };
            let told = among(&instance, &seen, &host);
            told.into_iter()
                .map(|(name, lacking)| (name, format!("{lacking:?}")))
                .collect::<BTreeMap<_, _>>()
        };
        let all = told(&[]);
        let of = |name: &str| all.get(name).map(String::as_str);
        assert_eq!(
            [of("mouse"), of("key"), of("dongle"), of("both")],
            [
                Some("Others"),
                Some("Nowhere"),
                Some("Missing"),
                Some("Others")
            ]
        );
        let all = told(&["usb-mouse.1.4", "usb-both.1.4", "usb-both.2.3"]);
        assert_eq!(all.keys().collect::<Vec<_>>(), ["dongle", "key"]);
        // It was pulled and came back with another number.
        assert_eq!(told(&["usb-mouse.1.9"])["mouse"], "Others");
    }

    #[test]
    fn a_part_is_of_one_device_alone() {
        assert!(is_of("key", "usb-key.1.2") && !is_of("key", "usb-key.1.2.3"));
        assert!(is_of("key.1", "usb-key.1.2.3") && !is_of("key.1", "usb-key.1.2"));
        for other in [
            "usb",
            "usb-key",
            "usb-key.1",
            "usb-key.1.",
            "usb-keys.1.2",
            "tablet",
        ] {
            assert!(!is_of("key", other), "{other}");
        }
    }
}
