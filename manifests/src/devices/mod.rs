//! The devices of instances, one file each.
//!
//! To add one: write `devices/<name>.rs` with its `fields!`, add its line below, give it to the engines that know it, and
//! say in [`crate::support`] and [`crate::effect_table`] what they do with it.

pub mod disk;
pub mod gpu;
pub mod nic;
pub mod none;
pub mod pci;
pub mod proxy;
pub mod tpm;
pub mod unix;
pub mod usb;

pub use disk::Disk;
pub use gpu::Gpu;
pub use nic::Nic;
pub use none::NoDevice;
pub use pci::Pci;
pub use proxy::Proxy;
pub use tpm::Tpm;
pub use unix::UnixDevice;
pub use usb::Usb;

crate::tagged! {
    /// A device of an instance.
    pub enum Device {
        /// A file system or block device.
        Disk "disk" (Disk),
        /// A network interface.
        Nic "nic" (Nic),
        /// A listening socket that leads from the host in or from the instance out.
        Proxy "proxy" (Proxy),
        /// A character device of the host.
        UnixChar "unix-char" (UnixDevice),
        /// A block device of the host.
        UnixBlock "unix-block" (UnixDevice),
        /// A USB device.
        Usb "usb" (Usb),
        /// A graphics card.
        Gpu "gpu" (Gpu),
        /// A trusted platform module.
        Tpm "tpm" (Tpm),
        /// A PCI device.
        Pci "pci" (Pci),
        /// Nothing: takes an inherited device of this name away.
        None "none" (NoDevice),
    }
}

impl Device {
    /// The disk, if it is one.
    pub fn as_disk(&self) -> Option<&Disk> {
        match self {
            Self::Disk(disk) => Some(disk),
            _ => None,
        }
    }

    /// The network interface, if it is one.
    pub fn as_nic(&self) -> Option<&Nic> {
        match self {
            Self::Nic(nic) => Some(nic),
            _ => None,
        }
    }
}
