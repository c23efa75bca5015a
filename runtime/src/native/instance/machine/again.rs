//! What a machine is after an accident: its companion has started QEMU again, with what it was begun with. What was plugged
//! in since, the USB devices of the host and where its processors run are for keel to bring: they are drift, told with why.

use std::collections::BTreeSet;

use manifests::devices::Device;

use super::extras::began_with;
use crate::native::machine::devices::id;
use crate::native::shim::Running;

/// Why something is not there any more.
const WITHOUT: &str =
    "its companion has started it again after an accident, without what was plugged in since";
/// Why its processors are not where they should be.
pub(in crate::native::instance) const UNPINNED: &str = "its companion has started it again after an accident, and its processors run where they like since";

/// A machine that its companion has started again.
#[derive(Debug)]
pub(in crate::native::instance) struct Again {
    began_with: BTreeSet<String>,
}

/// Whether a machine is one.
pub(in crate::native::instance) fn started_again(running: &Running) -> Option<Again> {
    (running.restarts() > 0).then(|| Again {
        began_with: began_with(running),
    })
}

impl Again {
    /// Why a device is not there: by the accident, or by nothing that is known.
    pub(in crate::native::instance) fn why(
        &self,
        name: &str,
        device: &Device,
    ) -> Option<&'static str> {
        let kind = match device {
            Device::Usb(_) => return Some(WITHOUT),
            Device::Disk(_) => "disk",
            Device::Nic(_) => "nic",
            _ => return None,
        };
        // What it was begun with somebody has taken out.
        (!self.began_with.contains(&id(kind, name))).then_some(WITHOUT)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_it_was_begun_with_was_taken_out_by_somebody() {
        let again = Again {
            began_with: ["disk-root".to_owned()].into(),
        };
        let why = |name: &str, written: &str| {
            let device: Device = serde_json::from_str(written).expect(written);
            again.why(name, &device).is_some()
        };
        assert!(why("data", r#"{"type": "disk", "source": "/srv/x"}"#));
        assert!(why("key", r#"{"type": "usb", "vendorId": "1050"}"#));
        assert!(!why("root", r#"{"type": "disk", "path": "/"}"#));
        assert!(!why("tpm", r#"{"type": "tpm"}"#));
    }
}
