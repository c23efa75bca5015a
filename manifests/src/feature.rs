//! What a host or engine can do, as plain data: probed on floor 2, asked on floor 1.

use std::collections::BTreeMap;

use crate::kind::Kind;

/// Growing a root with a size while its instance runs.
pub const GROW_LIVE: &str = "devices.root.size";
/// Pools of this driver.
pub const BTRFS: &str = "driver: btrfs";
/// Pools of this driver.
pub const LVM: &str = "driver: lvm";
/// Pools of this driver.
pub const ZFS: &str = "driver: zfs";
/// Having members: `placement`, `members`.
pub const CLUSTER: &str = "cluster";
/// Running machines at all: QEMU, and all that is asked of it.
pub const MACHINES: &str = "type: virtual-machine";
/// Running their instructions by whom it was demanded.
pub const ACCELERATOR: &str = "--accelerator kvm";
/// Network interfaces of machines.
pub const TAPS: &str = "devices of type nic in a virtual-machine";
/// Folders of the host in machines.
pub const FOLDERS: &str = "devices of type disk with a path in a virtual-machine";
/// TPMs of machines.
pub const TPM: &str = "devices of type tpm in a virtual-machine";
/// PCI devices of the host in machines.
pub const PCI: &str = "devices of type pci in a virtual-machine";
/// Those of them that are on the wire of a link of the host.
pub const MACVTAPS: &str = "devices of nicType macvlan in a virtual-machine";
/// Firmware for `boot.mode: uefi`.
pub const UEFI: &str = "boot.mode: uefi";
/// Firmware for `boot.mode: uefi-secureboot`.
pub const UEFI_SECUREBOOT: &str = "boot.mode: uefi-secureboot";

/// Facts about the host that planning needs.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Capabilities {
    /// The engine: `native`, `fake`, `incus`.
    pub engine: String,
    /// The host's name.
    pub host: String,
    /// `/etc/machine-id`, where there is one.
    pub machine_id: Option<String>,
    /// The identity of the state folder.
    pub state_id: String,
    /// The host's architecture: `x86_64`.
    pub architecture: String,
    /// Bytes of memory.
    pub memory: u64,
    /// Processors that are online.
    pub processors: u32,
    /// The highest hard resource limits that this host grants, by their names in `limits.kernel`; what is not named has
    /// no ceiling.
    pub ceilings: BTreeMap<String, u64>,
    /// What is missing, by feature, with what would mend it: each becomes a diagnostic where a manifest asks for it.
    pub missing: Vec<Missing>,
    /// What it has for machines; absent: nobody looked, as where none is asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub machines: Option<MachineFacts>,
    /// Keys that a server takes for objects of a kind, as it documents them (`limits.memory`, `user.*`): what `config` of a
    /// manifest names is looked up there. A kind that is not named: nobody looked, or the server does not say.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub config_keys: BTreeMap<Kind, Vec<String>>,
}

/// What a host has for virtual machines, besides what is [missing](Capabilities::missing).
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MachineFacts {
    /// Bytes that are kept in huge pages, in use or not, by the size of a page in bytes. What is not named, the host does
    /// not have.
    #[serde(default)]
    pub huge_pages: BTreeMap<u64, u64>,
    /// Images of the store that are for machines, by alias. An Image that is wanted otherwise than it is in the store is
    /// left out.
    #[serde(default)]
    pub images: BTreeMap<String, MachineImageFacts>,
    /// Links of the host that interfaces of machines can be over, by name; empty: nobody looked.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub links: BTreeMap<String, LinkFacts>,
    /// Its USB devices, without hubs; absent: nobody looked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub usb: Option<Vec<UsbFacts>>,
    /// Its PCI devices; absent: nobody looked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pci: Option<Vec<PciFacts>>,
}

/// A PCI device of the host.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PciFacts {
    /// Its address: `0000:01:00.0`.
    pub address: String,
    /// Its class, of six hexadecimal digits: `0x030000` is a graphics card.
    pub class: u32,
    /// The vendor, four hexadecimal digits.
    pub vendor: String,
    /// The product, four hexadecimal digits.
    pub product: String,
    /// The driver of the host that has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub driver: Option<String>,
    /// The IOMMU group: its devices can reach each other, and go to one process together. Absent: there is no IOMMU.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<u32>,
    /// The number of the card, of a graphics card with a driver of the host: `0` for `/dev/dri/card0`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub card: Option<u32>,
}

impl PciFacts {
    /// Whether it is a graphics card (class 03, "PCI Code and ID Assignment Specification").
    pub const fn is_graphics(&self) -> bool {
        self.class >> 16 == 0x03
    }

    /// Whether it leads to another bus (class 06 04): that one stays the host's.
    pub const fn is_bridge(&self) -> bool {
        self.class >> 8 == 0x0604
    }

    /// Its place without the number of the function: a card with a graphics and a sound function is one of two.
    pub fn slot(&self) -> &str {
        let parts = self.address.rsplit_once('.');
        parts.map_or(self.address.as_str(), |(slot, _)| slot)
    }
}

impl std::fmt::Display for PciFacts {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self {
            address,
            vendor,
            product,
            ..
        } = self;
        write!(formatter, "{address} ({vendor}:{product})")
    }
}

/// A USB device of the host.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct UsbFacts {
    /// The vendor, four hexadecimal digits.
    pub vendor: String,
    /// The product, four hexadecimal digits.
    pub product: String,
    /// The serial number, where it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub serial: Option<String>,
    /// The number of its bus.
    pub bus: u32,
    /// Its number on the bus: another one each time that it is plugged in.
    pub number: u32,
}

impl std::fmt::Display for UsbFacts {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self {
            vendor,
            product,
            bus,
            number,
            ..
        } = self;
        write!(formatter, "{vendor}:{product} (bus {bus}, device {number})")
    }
}

/// What a link of the host is for those that are to be over it.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LinkFacts {
    /// Bytes of its largest packet.
    pub mtu: u32,
    /// Why nothing can be over it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub taken: Option<String>,
}

/// What an image of the store has for machines.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MachineImageFacts {
    /// Bytes of its disk as a guest sees it; absent: it has none.
    pub disk: Option<u64>,
    /// Whether it carries a kernel.
    pub kernel: bool,
}

impl Capabilities {
    /// Whether nothing is known to be missing for a feature.
    pub fn has(&self, feature: &str) -> bool {
        !self
            .missing
            .iter()
            .any(|missing| missing.feature == feature)
    }

    /// Why a feature is missing, if it is.
    pub fn trouble(&self, feature: &str) -> Option<&str> {
        let mut missing = self.missing.iter();
        let found = missing.find(|missing| missing.feature == feature);
        found.map(|missing| missing.why.as_str())
    }
}

/// Something that this host cannot do.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Missing {
    /// Which feature: `limits.kernel.nofile`.
    pub feature: String,
    /// Why, and what would mend it.
    pub why: String,
}
