//! [`Gpu`]: a graphics card.

use crate::scalar::file_mode::FileMode;

crate::words! {
    /// How a graphics card is given.
    pub enum GpuType {
        /// The card itself.
        Physical "physical",
        /// A mediated device of it.
        Mdev "mdev",
        /// A slice of it (NVIDIA MIG).
        Mig "mig",
        /// A virtual function of it.
        Sriov "sriov",
    }
}

crate::fields! {
    /// Graphics cards of the host that match; all of them where nothing is written.
    pub struct Gpu {
        /// How it is given.
        gpu_type: GpuType = GpuType::Physical,
        /// The number of the card: `0` for `/dev/dri/card0`.
        id: Option<u32> = None,
        /// The PCI address.
        pci: Option<String> = None,
        /// The vendor, four hexadecimal digits.
        vendor_id: Option<String> = None,
        /// The product, four hexadecimal digits.
        product_id: Option<String> = None,
        /// The profile of the mediated device.
        mdev: Option<String> = None,
        /// The user that owns it in the instance.
        uid: u32 = 0,
        /// The group that owns it in the instance.
        gid: u32 = 0,
        /// Its mode.
        mode: FileMode = FileMode(0o660),
    }
}
