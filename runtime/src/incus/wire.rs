//! Documents of the REST API, as much of them as is used. Names are the server's.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize};

/// Keys and values; the values are always texts.
pub(super) type Config = BTreeMap<String, String>;
/// Devices by name.
pub(super) type Devices = BTreeMap<String, Config>;

/// Of what a member has that is out of reach the server says `null` where it otherwise has keys.
fn or_none<'de, T: Deserialize<'de> + Default, D: Deserializer<'de>>(
    from: D,
) -> Result<T, D::Error> {
    Ok(Option::deserialize(from)?.unwrap_or_default())
}

/// `GET /1.0`.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Server {
    #[serde(default)]
    pub(super) api_extensions: Vec<String>,
    /// `trusted`, or not: the server answers 200 either way.
    #[serde(default)]
    pub(super) auth: String,
    #[serde(default)]
    pub(super) environment: Environment,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Environment {
    pub(super) server: String,
    pub(super) server_name: String,
    pub(super) server_version: String,
    pub(super) server_clustered: bool,
    pub(super) architectures: Vec<String>,
    pub(super) driver: String,
    pub(super) storage_supported_drivers: Vec<Driver>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub(super) struct Driver {
    pub(super) name: String,
}

/// `GET /1.0/resources`, what is asked of it.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Resources {
    pub(super) cpu: Cpu,
    pub(super) memory: Memory,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Cpu {
    pub(super) total: u32,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Memory {
    pub(super) total: u64,
}

/// A profile of the server's.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct Profile {
    pub(super) name: String,
    pub(super) project: String,
    pub(super) description: String,
    pub(super) config: Config,
    pub(super) devices: Devices,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct Instance {
    pub(super) name: String,
    pub(super) project: String,
    pub(super) description: String,
    pub(super) architecture: String,
    #[serde(rename = "type")]
    pub(super) kind: String,
    pub(super) status: String,
    pub(super) location: String,
    pub(super) ephemeral: bool,
    pub(super) stateful: bool,
    #[serde(deserialize_with = "or_none")]
    pub(super) profiles: Vec<String>,
    #[serde(deserialize_with = "or_none")]
    pub(super) config: Config,
    #[serde(deserialize_with = "or_none")]
    pub(super) devices: Devices,
    #[serde(deserialize_with = "or_none")]
    pub(super) expanded_config: Config,
    #[serde(deserialize_with = "or_none")]
    pub(super) expanded_devices: Devices,
    pub(super) created_at: String,
    pub(super) last_used_at: String,
    /// Only where all of it was asked for.
    pub(super) state: Option<State>,
    pub(super) snapshots: Option<Vec<Snapshot>>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct State {
    pub(super) pid: i64,
    pub(super) processes: i64,
    pub(super) status: String,
    pub(super) cpu: Usage,
    pub(super) memory: Usage,
    pub(super) network: Option<BTreeMap<String, Interface>>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct Usage {
    pub(super) usage: i64,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct Interface {
    pub(super) addresses: Vec<InterfaceAddress>,
    pub(super) hwaddr: String,
    pub(super) mtu: u32,
    pub(super) host_name: String,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct InterfaceAddress {
    pub(super) address: String,
    pub(super) netmask: String,
    pub(super) scope: String,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct Snapshot {
    pub(super) name: String,
    pub(super) created_at: String,
    /// None and the year 1: never.
    pub(super) expires_at: Option<String>,
    pub(super) stateful: bool,
    pub(super) config: Config,
}

/// What a PUT of an instance has.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct InstancePut {
    pub(super) architecture: String,
    pub(super) config: Config,
    pub(super) devices: Devices,
    pub(super) ephemeral: bool,
    pub(super) profiles: Vec<String>,
    pub(super) stateful: bool,
    pub(super) description: String,
}

impl From<&Instance> for InstancePut {
    fn from(instance: &Instance) -> Self {
        Self {
            architecture: instance.architecture.clone(),
            config: instance.config.clone(),
            devices: instance.devices.clone(),
            ephemeral: instance.ephemeral,
            profiles: instance.profiles.clone(),
            stateful: instance.stateful,
            description: instance.description.clone(),
        }
    }
}

/// A pool, network, project, NetworkAcl or volume: what they have in common.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
pub(super) struct Object {
    pub(super) name: String,
    pub(super) description: String,
    pub(super) config: Config,
    pub(super) status: String,
    /// Of a pool.
    pub(super) driver: String,
    /// Of a network or volume.
    #[serde(rename = "type")]
    pub(super) kind: String,
    /// Of a network.
    pub(super) managed: bool,
    /// Of a volume.
    pub(super) content_type: String,
    pub(super) location: String,
    pub(super) project: String,
    pub(super) used_by: Vec<String>,
    /// Rules of a NetworkAcl; their values are texts too.
    pub(super) ingress: Vec<Config>,
    pub(super) egress: Vec<Config>,
    /// What members of a cluster have for themselves, as far as a manifest speaks of it; in no document of the server.
    #[serde(skip)]
    pub(super) members: BTreeMap<String, Config>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct Image {
    pub(super) fingerprint: String,
    pub(super) project: String,
    pub(super) aliases: Vec<Alias>,
    pub(super) auto_update: bool,
    pub(super) architecture: String,
    #[serde(rename = "type")]
    pub(super) kind: String,
    pub(super) properties: Config,
    pub(super) public: bool,
    pub(super) size: u64,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct Alias {
    pub(super) name: String,
    pub(super) description: String,
    /// The fingerprint, where the alias itself was asked for.
    pub(super) target: String,
}
