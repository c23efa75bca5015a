//! USB devices of the host, by what sysfs tells of them (`Documentation/ABI/testing/sysfs-bus-usb`).

use std::path::{Path, PathBuf};

use manifests::feature::UsbFacts;
use manifests::path_io;

/// Where the kernel lists them.
const LIST: &str = "/sys/bus/usb/devices";
/// Where their nodes are.
const NODES: &str = "/dev/bus/usb";
/// The class of hubs (USB-IF, "Defined Class Codes"): they are the host's own.
const HUB: &str = "09";

/// Those of this host, by bus and number.
pub fn devices() -> Vec<UsbFacts> {
    listed(Path::new(LIST))
}

/// As [`devices`], in a folder that is laid out as the kernel's: each device has a folder with its numbers, each of its
/// interfaces one with a colon in its name.
fn listed(list: &Path) -> Vec<UsbFacts> {
    // A host without USB has no such folder.
    let mut found: Vec<UsbFacts> = path_io::list(list)
        .unwrap_or_default()
        .iter()
        .filter_map(|folder| one(folder))
        .collect();
    found.sort_by_key(|one| (one.bus, one.number));
    found
}

/// What a folder tells; none: it is no device, or one that is just leaving.
fn one(folder: &Path) -> Option<UsbFacts> {
    let text = |name: &str| {
        let text = path_io::read_to_string(folder.join(name)).ok()?;
        Some(text.trim().to_owned())
    };
    if text("bDeviceClass")? == HUB {
        return None;
    }
    Some(UsbFacts {
        vendor: text("idVendor")?,
        product: text("idProduct")?,
        serial: text("serial").filter(|serial| !serial.is_empty()),
        bus: text("busnum")?.parse().ok()?,
        number: text("devnum")?.parse().ok()?,
    })
}

/// The node of a device.
pub fn node(one: &UsbFacts) -> PathBuf {
    Path::new(NODES).join(format!("{:03}/{:03}", one.bus, one.number))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_are_found_and_hubs_and_interfaces_are_none() {
        let list = tempfile::tempdir().expect("a folder");
        let device = |name: &str, files: &[(&str, &str)]| {
            for (file, text) in files {
                let path = list.path().join(name).join(file);
                path_io::create_dir_all(path.parent().expect("a folder")).expect("a folder");
                path_io::write(path, format!("{text}\n")).expect("a file");
            }
        };
        let stick = [
            ("bDeviceClass", "00"),
            ("idVendor", "0951"),
            ("idProduct", "1666"),
            ("serial", "E0D55E"),
            ("busnum", "2"),
            ("devnum", "3"),
        ];
        device("2-1.4", &stick);
        device(
            "usb1",
            &[
                ("bDeviceClass", "09"),
                ("idVendor", "1d6b"),
                ("idProduct", "0002"),
                ("busnum", "1"),
                ("devnum", "1"),
            ],
        );
        device("2-1.4:1.0", &[("bInterfaceClass", "08")]);
        device(
            "1-2",
            &[
                ("bDeviceClass", "00"),
                ("idVendor", "046d"),
                ("idProduct", "c077"),
                ("busnum", "1"),
                ("devnum", "12"),
            ],
        );
        // One that leaves has lost its numbers.
        device("1-3", &[("bDeviceClass", "00"), ("idVendor", "046d")]);
        let found = listed(list.path());
        let names: Vec<String> = found.iter().map(ToString::to_string).collect();
        assert_eq!(
            names,
            [
                "046d:c077 (bus 1, device 12)",
                "0951:1666 (bus 2, device 3)"
            ]
        );
        assert_eq!(found[1].serial.as_deref(), Some("E0D55E"));
        assert_eq!(node(&found[0]), Path::new("/dev/bus/usb/001/012"));
        assert!(listed(&list.path().join("nowhere")).is_empty());
    }
}
