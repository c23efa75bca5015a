//! What a host or engine can do, as plain data: probed on floor 2, asked on floor 1.

/// Facts about the host that planning needs.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Capabilities {
    /// The engine: `native`, `fake`, `incus`.
    pub engine: &'static str,
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
    /// What is missing, by feature, with what would mend it: each becomes a diagnostic where a manifest asks for it.
    pub missing: Vec<Missing>,
}

/// Something that this host cannot do.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Missing {
    /// Which feature: `limits.kernel.nofile`.
    pub feature: String,
    /// Why, and what would mend it.
    pub why: String,
}
