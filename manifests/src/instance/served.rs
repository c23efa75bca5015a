//! Parts of a machine that are there from its start to its end, and change with its next start: what processes beside it
//! serve, folders of the host and a TPM; and PCI devices of the host.

use serde_json::Value;

use crate::change::FieldChange;
use crate::devices::Device;
use crate::kinds::instance::Instance;

/// Whether a device of a machine is there from its start to its end.
pub fn is_of_start(device: &Device) -> bool {
    is_served(device) || is_passed(device)
}

/// Whether a device of a machine is one of the host's PCI devices.
pub const fn is_passed(device: &Device) -> bool {
    matches!(device, Device::Pci(_) | Device::Gpu(_))
}

/// Whether a process beside a machine serves a device of it.
pub fn is_served(device: &Device) -> bool {
    match device {
        Device::Disk(disk) => disk.is_shared_folder(),
        Device::Tpm(_) => true,
        _ => false,
    }
}

/// Whether a change of a machine is one of a part that is there from its start. `instance` is as it is after it.
pub fn changes_with_start(instance: &Instance, change: &FieldChange) -> bool {
    let steps: Vec<String> = change.path.steps().collect();
    let steps: Vec<&str> = steps.iter().map(String::as_str).collect();
    match steps.as_slice() {
        // A disk becomes a folder by it, and the reverse.
        ["spec", "devices", _, "path"] => true,
        ["spec", "devices", name, rest @ ..] => {
            let device = instance.devices.get(*name);
            device.is_some_and(is_of_start) || (rest.is_empty() && was_of_start(&change.before))
        }
        _ => false,
    }
}

/// The same of a device as it is written.
fn was_of_start(device: &Value) -> bool {
    let word = |key: &str| device[key].as_str();
    match word("type") {
        Some("tpm" | "pci" | "gpu") => true,
        Some("disk") => {
            word("path").is_some()
                && word("source")
                    .is_some_and(|source| source.starts_with('/') || word("pool").is_some())
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::change::Cause;
    use crate::pointer::Pointer;

    #[test]
    fn changes_of_folders_and_tpms_are_told_from_those_of_disks() {
        let written = json!({"type": "virtual-machine", "devices": {
            "folder": {"type": "disk", "source": "/srv/a", "path": "/a"},
            "block": {"type": "disk", "source": "/srv/b"},
            "tpm": {"type": "tpm"},
            "card": {"type": "gpu"},
        }});
        let instance: Instance = serde_json::from_value(written).expect("an instance");
        let folder = json!({"type": "disk", "source": "/srv/c", "path": "/c"});
        let disk = json!({"type": "disk", "source": "/srv/c"});
        for (path, before, wanted) in [
            ("/spec/devices/folder", Value::Null, true),
            ("/spec/devices/folder/readonly", json!(false), true),
            ("/spec/devices/block/path", json!("/b"), true),
            ("/spec/devices/tpm", Value::Null, true),
            ("/spec/devices/gone", folder, true),
            ("/spec/devices/gone", json!({"type": "tpm"}), true),
            ("/spec/devices/gone", json!({"type": "pci"}), true),
            ("/spec/devices/card/pci", Value::Null, true),
            ("/spec/devices/gone", disk, false),
            ("/spec/devices/block", Value::Null, false),
            ("/spec/devices/block/readonly", json!(false), false),
            ("/spec/limits/memory", Value::Null, false),
        ] {
            let change = FieldChange {
                path: Pointer::new(path),
                before,
                after: Value::Null,
                cause: Cause::Edited,
            };
            assert_eq!(changes_with_start(&instance, &change), wanted, "{change:?}");
        }
    }
}
