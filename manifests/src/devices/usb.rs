//! [`Usb`]: a USB device.

use crate::scalar::file_mode::FileMode;

crate::fields! {
    /// USB devices of the host that match.
    pub struct Usb {
        /// The vendor, four hexadecimal digits.
        vendor_id: Option<String> = None,
        /// The product, four hexadecimal digits.
        product_id: Option<String> = None,
        /// The serial number.
        serial: Option<String> = None,
        /// The number of the bus.
        busnum: Option<u32> = None,
        /// The number on the bus.
        devnum: Option<u32> = None,
        /// Whether the instance does not start while none matches.
        required: bool = false,
        /// The user that owns it in the instance.
        uid: u32 = 0,
        /// The group that owns it in the instance.
        gid: u32 = 0,
        /// Its mode.
        mode: FileMode = FileMode(0o660),
    }
}
