//! What a host or engine can do, as plain data: probed on floor 2, asked on floor 1.

use std::collections::BTreeMap;

/// Growing a root with a size while its instance runs.
pub const GROW_LIVE: &str = "devices.root.size";

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
}

impl Capabilities {
    /// Whether nothing is known to be missing for a feature.
    pub fn has(&self, feature: &str) -> bool {
        !self
            .missing
            .iter()
            .any(|missing| missing.feature == feature)
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
