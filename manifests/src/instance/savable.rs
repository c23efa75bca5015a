//! What keeps the state of a machine from being saved: with memory in a snapshot, or over a stop.

use crate::devices::Device;
use crate::devices::disk::IoBus;
use crate::kinds::instance::Instance;

/// A device whose state cannot be saved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unsavable {
    /// The device.
    pub device: String,
    /// Its field that is in the way; none: the device as such.
    pub field: Option<&'static str>,
    /// What cannot be saved: `the state of a machine with an NVMe disk`.
    pub what: &'static str,
    /// What can.
    pub hint: &'static str,
}

/// The devices of a machine that are in the way.
pub fn unsavable(instance: &Instance) -> impl Iterator<Item = Unsavable> {
    instance.devices.iter().filter_map(|(name, device)| {
        let (field, what, hint) = match device {
            Device::Disk(disk) if disk.io_bus == Some(IoBus::Nvme) => (
                Some("ioBus"),
                "an NVMe disk",
                "virtio-scsi and virtio-blk can",
            ),
            // A folder of the host is seen through a process of its own, which keeps what the guest has open.
            Device::Disk(disk) if disk.is_shared_folder() => {
                (Some("path"), "a folder of the host", "a disk can")
            }
            Device::Usb(_) => (None, "a USB device of the host", "take it out first"),
            Device::Pci(_) | Device::Gpu(_) => {
                (None, "a PCI device of the host", "take it out first")
            }
            Device::Tpm(_) => (None, "a TPM", "a machine without one can"),
            _ => return None,
        };
        Some(Unsavable {
            device: name.clone(),
            field,
            what,
            hint,
        })
    })
}
