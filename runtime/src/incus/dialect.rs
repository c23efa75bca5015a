//! What a server can do, by its `api_extensions` and never by its version: distributions carry extensions back.

use std::collections::BTreeSet;

use super::wire::Server;

/// What a server said of itself.
#[derive(Debug, Clone)]
pub(super) struct Dialect {
    extensions: BTreeSet<String>,
    /// `incus` or `lxd`.
    pub(super) server: String,
    pub(super) version: String,
    pub(super) name: String,
    pub(super) architecture: String,
    /// Drivers of pools.
    pub(super) drivers: BTreeSet<String>,
    /// Whether it runs machines.
    pub(super) machines: bool,
    /// Whether it is a member of a cluster.
    pub(super) clustered: bool,
}

impl Dialect {
    pub(super) fn of(server: Server) -> Self {
        let environment = server.environment;
        Self {
            extensions: server.api_extensions.into_iter().collect(),
            // Old servers of LXD do not say.
            server: match environment.server.as_str() {
                "" => "lxd".to_owned(),
                said => said.to_owned(),
            },
            version: environment.server_version,
            name: environment.server_name,
            architecture: environment
                .architectures
                .into_iter()
                .next()
                .unwrap_or_default(),
            drivers: environment
                .storage_supported_drivers
                .into_iter()
                .map(|driver| driver.name)
                .collect(),
            machines: environment.driver.contains("qemu"),
            clustered: environment.server_clustered,
        }
    }

    /// Whether it has an extension of the API.
    pub(super) fn has(&self, extension: &str) -> bool {
        self.extensions.contains(extension)
    }
}
