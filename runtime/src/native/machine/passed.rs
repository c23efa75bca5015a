//! PCI devices of the host in QEMU's words, and what its process needs for them. Pure.
//!
//! QEMU opens VFIO's container and the node of each group by name, and reads a little of sysfs
//! (`vfio_realize`, `hw/vfio/pci.c`): its empty root has just these. The kernel counts the guest's whole memory as locked by
//! it, since a device may write anywhere in it.

use serde_json::{Value, json};

use super::devices::{id, port};
use super::host_pci::LIST;
use super::plan::{Memory, PassedPlan};

/// What QEMU's names of them begin with.
const PASSED: &str = "pci";
/// QEMU's device for each.
pub const DRIVER: &str = "vfio-pci";
/// The folder of VFIO's nodes.
pub const NODES: &str = "/dev/vfio/";
/// Where groups are put together.
const CONTAINER: &str = "/dev/vfio/vfio";
/// What is locked besides the guest's memory: firmware, and memory of devices.
const BESIDE: u64 = 1 << 30;

/// Whether a part of a machine is one of a device of a manifest: of a graphics card there are several.
pub fn is_of(device: &str, part: &str) -> bool {
    let rest = part.strip_prefix(&id(PASSED, device));
    let number = rest.and_then(|rest| rest.strip_prefix('.'));
    number.is_some_and(|number| {
        !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit())
    })
}

/// The devices themselves. What is one card on the host is one in the machine: its functions share a port.
pub fn devices(passed: &[PassedPlan], free: &mut impl Iterator<Item = u32>) -> Vec<Value> {
    let is_one_card = |one: &PassedPlan, other: &PassedPlan| {
        let slot = |plan: &PassedPlan| {
            plan.address
                .rsplit_once('.')
                .map(|(slot, _)| slot.to_owned())
        };
        one.device == other.device && slot(one) == slot(other)
    };
    let mut all = Vec::new();
    let mut numbers = std::collections::BTreeMap::new();
    for card in passed.chunk_by(is_one_card) {
        let at = free.next().map(port).unwrap_or_default();
        for (function, one) in card.iter().enumerate() {
            let number = numbers.entry(one.device.as_str()).or_insert(0_u32);
            let mut device = json!({
                "driver": DRIVER,
                "id": format!("{}.{number}", id(PASSED, &one.device)),
                "host": one.address,
                "bus": at,
                "addr": format!("0x0.{function}"),
            });
            if function == 0 && card.len() > 1 {
                device["multifunction"] = json!(true);
            }
            *number += 1;
            all.push(device);
        }
    }
    all
}

/// The folder of sysfs that QEMU looks at, at the same place in its root.
pub fn folder(one: &PassedPlan) -> String {
    format!("{LIST}/{}", one.address)
}

/// The nodes that QEMU opens by name.
pub fn nodes(passed: &[PassedPlan]) -> Vec<String> {
    let mut nodes: Vec<String> = passed
        .iter()
        .map(|one| format!("{NODES}{}", one.group))
        .collect();
    nodes.sort();
    nodes.dedup();
    if !nodes.is_empty() {
        nodes.push(CONTAINER.to_owned());
    }
    nodes
}

/// Bytes that its process locks; none where it has no such device.
pub fn locked(passed: &[PassedPlan], memory: &Memory) -> Option<u64> {
    let most = memory.bytes.max(memory.most);
    (!passed.is_empty()).then(|| most.saturating_add(BESIDE))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_is_of_one_device_alone() {
        assert!(is_of("card", "pci-card.0") && is_of("card", "pci-card.12"));
        for other in [
            "pci-card",
            "pci-card.",
            "pci-cards.0",
            "pci-card.0.0",
            "nic-card.0",
        ] {
            assert!(!is_of("card", other), "{other}");
        }
    }

    #[test]
    fn each_group_has_one_node_and_the_memory_is_locked_once() {
        let one = |address: &str, group| PassedPlan {
            device: "card".to_owned(),
            address: address.to_owned(),
            group,
        };
        let card = [one("0000:01:00.0", 7), one("0000:01:00.1", 7)];
        assert_eq!(nodes(&card), ["/dev/vfio/7", "/dev/vfio/vfio"]);
        assert_eq!(nodes(&[]), Vec::<String>::new());
        let memory = Memory {
            bytes: 1 << 30,
            most: 4 << 30,
            huge_pages: None,
        };
        assert_eq!(locked(&card, &memory), Some(5 << 30));
        assert_eq!(locked(&[], &memory), None);
    }
}
