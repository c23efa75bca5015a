//! PCI devices of the host that a machine has for itself: which they are, and why one cannot be given.
//!
//! They are given by VFIO (`Documentation/driver-api/vfio.rst` of Linux): the host's driver lets go of them, and what
//! can reach each other past the IOMMU goes to one process together.

use crate::devices::{Device, Gpu};
use crate::feature::PciFacts;

/// The driver that a device has while a machine may have it.
pub const DRIVER: &str = "vfio-pci";

/// The devices of the host that a device of a machine means, by their addresses. Of a card of graphics it is all
/// functions: its sound is of no use to the host.
pub fn meant<'h>(device: &Device, host: &'h [PciFacts]) -> Vec<&'h PciFacts> {
    let mut found: Vec<&PciFacts> = match device {
        Device::Pci(pci) => {
            let wanted = pci.address.as_deref().map(in_full);
            let is_it = |one: &&PciFacts| wanted.as_deref() == Some(one.address.as_str());
            host.iter().filter(is_it).collect()
        }
        Device::Gpu(gpu) => {
            let cards = host.iter().filter(|one| is_card(gpu, one));
            let slots: Vec<&str> = cards.map(PciFacts::slot).collect();
            let is_of_it = |one: &&PciFacts| slots.contains(&one.slot()) && !one.is_bridge();
            host.iter().filter(is_of_it).collect()
        }
        _ => Vec::new(),
    };
    found.sort_by(|one, other| one.address.cmp(&other.address));
    found
}

/// An address as the kernel has it: with its domain, in small letters.
fn in_full(address: &str) -> String {
    let address = address.to_ascii_lowercase();
    match address.matches(':').count() {
        1 => format!("0000:{address}"),
        _ => address,
    }
}

fn is_card(gpu: &Gpu, one: &PciFacts) -> bool {
    let digits = |written: &Option<String>, has: &str| {
        written
            .as_ref()
            .is_none_or(|written| written.eq_ignore_ascii_case(has))
    };
    one.is_graphics()
        && gpu
            .pci
            .as_deref()
            .is_none_or(|address| in_full(address) == one.address)
        && digits(&gpu.vendor_id, &one.vendor)
        && digits(&gpu.product_id, &one.product)
        && (gpu.id.is_none() || gpu.id == one.card)
}

/// Whether two devices go to one process only.
pub fn go_together(one: &PciFacts, other: &PciFacts) -> bool {
    one.address == other.address || (one.group.is_some() && one.group == other.group)
}

/// Why a device of the host cannot be given to a machine as it is, and what would mend it.
pub fn trouble(one: &PciFacts, host: &[PciFacts]) -> Option<String> {
    let Some(group) = one.group else {
        return Some(format!(
            "{one} would reach all memory of the host, which has no IOMMU that works: switch VT-d or AMD-Vi on in its \
             firmware, and add intel_iommu=on to its kernel's command line where the processor is Intel's"
        ));
    };
    if one.driver.as_deref() != Some(DRIVER) {
        let has = match &one.driver {
            Some(driver) => format!("the host uses {one} by its driver {driver}"),
            None => format!("{one} has no driver, and a machine takes it from {DRIVER}"),
        };
        return Some(format!("{has}: {}", hand_over(one)));
    }
    // What the kernel lets be in a group of which a process has some (`vfio_dev_driver_allowed`, drivers/vfio).
    let in_the_way = host.iter().find(|other| {
        other.group == one.group
            && !other.is_bridge()
            && other
                .driver
                .as_deref()
                .is_some_and(|driver| !["vfio-pci", "pci-stub"].contains(&driver))
    })?;
    let driver = in_the_way.driver.as_deref().unwrap_or_default();
    Some(format!(
        "{one} is in IOMMU group {group} with {in_the_way}, which the host uses by its driver {driver}, and all of a group \
         go together: {}",
        hand_over(in_the_way)
    ))
}

/// How the host's driver lets go of it.
fn hand_over(one: &PciFacts) -> String {
    let at = format!("/sys/bus/pci/devices/{}", one.address);
    let unbind = match one.driver {
        Some(_) => format!("echo {} >{at}/driver/unbind; ", one.address),
        None => String::new(),
    };
    format!(
        "modprobe {DRIVER}; echo {DRIVER} >{at}/driver_override; {unbind}echo {} >/sys/bus/pci/drivers_probe",
        one.address
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(address: &str, class: u32, driver: &str, group: u32) -> PciFacts {
        PciFacts {
            address: address.to_owned(),
            class,
            vendor: "10de".to_owned(),
            product: "1c82".to_owned(),
            driver: (!driver.is_empty()).then(|| driver.to_owned()),
            group: (group > 0).then_some(group),
            card: None,
        }
    }

    fn addresses(written: &str, host: &[PciFacts]) -> Vec<String> {
        let device: Device = serde_json::from_str(written).expect(written);
        meant(&device, host)
            .into_iter()
            .map(|one| one.address.clone())
            .collect()
    }

    #[test]
    fn a_device_is_one_function_and_a_card_all_of_its_own() {
        let mut host = [
            one("0000:01:00.1", 0x04_03_00, "vfio-pci", 1),
            one("0000:01:00.0", 0x03_00_00, "vfio-pci", 1),
            one("0000:02:00.0", 0x03_02_00, "nouveau", 2),
            one("0000:03:00.0", 0x02_00_00, "e1000e", 3),
        ];
        host[2].card = Some(0);
        host[2].product = "2204".to_owned();
        for (written, wanted) in [
            (
                r#"{"type": "pci", "address": "03:00.0"}"#,
                &["0000:03:00.0"][..],
            ),
            (
                r#"{"type": "pci", "address": "0000:01:00.0"}"#,
                &["0000:01:00.0"],
            ),
            (r#"{"type": "pci", "address": "0000:04:00.0"}"#, &[]),
            (
                r#"{"type": "gpu", "pci": "0000:01:00.0"}"#,
                &["0000:01:00.0", "0000:01:00.1"],
            ),
            (r#"{"type": "gpu", "id": 0}"#, &["0000:02:00.0"]),
            (
                r#"{"type": "gpu", "vendorId": "10DE", "productId": "2204"}"#,
                &["0000:02:00.0"],
            ),
            (r#"{"type": "gpu", "pci": "0000:03:00.0"}"#, &[]),
            (
                r#"{"type": "gpu"}"#,
                &["0000:01:00.0", "0000:01:00.1", "0000:02:00.0"],
            ),
        ] {
            assert_eq!(addresses(written, &host), wanted, "{written}");
        }
    }

    #[test]
    fn what_keeps_a_device_from_being_given_is_told_with_what_mends_it() {
        let bridge = one("0000:00:01.0", 0x06_04_00, "pcieport", 1);
        let card = one("0000:01:00.0", 0x03_00_00, "vfio-pci", 1);
        let sound = |driver| one("0000:01:00.1", 0x04_03_00, driver, 1);
        let told = |card: &PciFacts, sound: PciFacts| {
            let host = [bridge.clone(), card.clone(), sound];
            trouble(card, &host)
        };
        assert_eq!(told(&card, sound("vfio-pci")), None);
        // What nobody uses is in nobody's way.
        assert_eq!(told(&card, sound("")), None);
        let cases = [
            (
                one("0000:01:00.0", 0x03_00_00, "nouveau", 0),
                sound(""),
                "no IOMMU that works",
            ),
            (
                one("0000:01:00.0", 0x03_00_00, "nouveau", 1),
                sound(""),
                "driver nouveau: modprobe vfio-pci; echo vfio-pci >/sys/bus/pci/devices/0000:01:00.0/driver_override; echo 0000:01:00.0 >/sys/bus/pci/devices/0000:01:00.0/driver/unbind; echo 0000:01:00.0 >/sys/bus/pci/drivers_probe",
            ),
            (
                one("0000:01:00.0", 0x03_00_00, "", 1),
                sound(""),
                "from vfio-pci: modprobe vfio-pci; echo vfio-pci >/sys/bus/pci/devices/0000:01:00.0/driver_override; echo 0000:01:00.0 >/sys/bus/pci/drivers_probe",
            ),
            (
                card.clone(),
                sound("snd_hda_intel"),
                "in IOMMU group 1 with 0000:01:00.1 (10de:1c82), which the host uses by its driver snd_hda_intel",
            ),
        ];
        for (card, sound, wanted) in cases {
            let told = told(&card, sound).expect(wanted);
            assert!(told.contains(wanted), "{told}");
        }
    }
}
