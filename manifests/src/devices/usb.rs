//! [`Usb`]: a USB device.

use crate::feature::UsbFacts;
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

impl Usb {
    /// Whether anything is said of which devices these are.
    pub const fn names_some(&self) -> bool {
        self.vendor_id.is_some()
            || self.product_id.is_some()
            || self.serial.is_some()
            || self.busnum.is_some()
            || self.devnum.is_some()
    }

    /// Whether one of the host is meant: all that is written fits.
    pub fn matches(&self, one: &UsbFacts) -> bool {
        let digits = |written: &Option<String>, has: &str| {
            written
                .as_ref()
                .is_none_or(|written| written.eq_ignore_ascii_case(has))
        };
        self.names_some()
            && digits(&self.vendor_id, &one.vendor)
            && digits(&self.product_id, &one.product)
            && (self.serial.is_none() || self.serial == one.serial)
            && self.busnum.is_none_or(|bus| bus == one.bus)
            && self.devnum.is_none_or(|number| number == one.number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_that_is_written_fits() {
        let one = UsbFacts {
            vendor: "046d".to_owned(),
            product: "c077".to_owned(),
            serial: Some("A1".to_owned()),
            bus: 1,
            number: 4,
        };
        for (written, fits) in [
            (r#"{"vendorId": "046D"}"#, true),
            (r#"{"vendorId": "046d", "productId": "c078"}"#, false),
            (r#"{"serial": "A1", "busnum": 1}"#, true),
            (r#"{"serial": "a1"}"#, false),
            (r#"{"busnum": 1, "devnum": 5}"#, false),
            // Nothing would be all of the host's.
            ("{}", false),
        ] {
            let usb: Usb = serde_json::from_str(written).expect(written);
            assert_eq!(usb.matches(&one), fits, "{written}");
        }
    }
}
