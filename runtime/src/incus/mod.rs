//! The Incus engine: a server of Incus, spoken to by its REST API.
//!
//! `http`, `transport` and `client` carry requests; `wire` has the documents; `table`, `instance_words`, `devices` and `objects`
//! say manifests in the words of the server and the reverse; `observe` reads all there is in as many requests as there are
//! pools and kinds, whatever the number of instances; `as_written`
//! what people wrote, profiles apart; `instances`, `write`, `forwards` and `images` do what a plan says; `events` listens (by a
//! web socket: `socket`). What the server has no place for is kept in the state folder: `schedules`, and in `made` which
//! snapshots are theirs. `cluster` makes things on each member.
//!
//! Whose an object is stands on it (`marks`), and nothing of what it should be: that is compared with what it is. The
//! identity of an instance is its `volatile.uuid`, which a copy does not have. What an operation came to is told by looking
//! again and never by the text of an error.

mod as_written;
mod client;
mod cluster;
mod devices;
mod dialect;
mod events;
mod forwards;
mod http;
mod images;
mod instance_words;
mod instances;
mod made;
mod marks;
mod objects;
mod observe;
mod operate;
mod project;
mod rules;
mod schedules;
mod snapshots;
mod socket;
mod table;
#[cfg(test)]
mod tests;
mod texts;
mod transport;
mod typed;
mod wire;
mod write;

use std::collections::BTreeMap;
use std::path::Path;

use manifests::action::{Action, Verb};
use manifests::desired::DesiredSet;
use manifests::feature::{Capabilities, Missing};
use manifests::id::{Address, Uid};
use manifests::kind::{Kind, Spec};
use manifests::observed::{Item, ObservedSet};
use serde_json::Value;

pub use self::as_written::{AsWritten, WrittenProfile};
use self::client::{Client, at};
use self::dialect::Dialect;
use self::made::MadeHere;
pub use self::transport::{Endpoint, TransportError};
use self::wire::{Resources, Server};
use crate::error::{Class, RuntimeError};
use crate::native::definition::Definitions;
use crate::native::{SecretStore, schedules as kept};
use crate::runtime::{Context, Effected, Runtime};

/// A server of Incus as an engine.
pub struct IncusRuntime {
    client: Client,
    dialect: Dialect,
    secrets: SecretStore,
    state_id: String,
    definitions: Definitions,
    made: MadeHere,
}

impl IncusRuntime {
    /// Asks a server who it is. `state` is the folder in which the key of the digests of secrets is kept.
    ///
    /// # Errors
    /// Nobody answers, or the server does not trust who asks.
    pub fn open(endpoint: Endpoint, state: &Path, state_id: &str) -> Result<Self, RuntimeError> {
        let client = Client::new(endpoint)
            .map_err(|error| RuntimeError::new("call the server", Class::NeedsOperator, error))?;
        let doing = format!("ask the server {}", client.endpoint());
        let server: Server = client
            .have(&at(&[], &[]))
            .map_err(|error| error.doing(&doing))?;
        // It answers 200 to those it does not know as well.
        if server.auth != "trusted" {
            return Err(client::ClientError::Untrusted.doing(&doing));
        }
        Ok(Self {
            client,
            dialect: Dialect::of(server),
            secrets: SecretStore::new(state, state),
            state_id: state_id.to_owned(),
            definitions: Definitions::new(state),
            made: MadeHere::new(state),
        })
    }

    /// What is known of secrets here.
    pub const fn secrets(&self) -> &SecretStore {
        &self.secrets
    }
}

fn wrong_kind(address: &Address) -> RuntimeError {
    RuntimeError::new("understand", Class::Bug, "its spec is of another kind").of(address)
}

fn cannot(verb: &Verb, address: &Address) -> RuntimeError {
    let why = format!(
        "this engine has no way to {} a {}",
        verb.word(),
        address.kind.noun()
    );
    RuntimeError::new(verb.word(), Class::Unsupported, why).of(address)
}

impl IncusRuntime {
    /// What the server can do of what is wanted: where a manifest names keys in `config`, which ones it takes.
    ///
    /// # Errors
    /// The server is out of reach.
    pub fn capabilities_for(
        &self,
        desired: Option<&DesiredSet>,
    ) -> Result<Capabilities, RuntimeError> {
        let mut host = self.capabilities()?;
        let names_keys = |desired: &DesiredSet| {
            let mut resources = desired.resources.values();
            resources.any(|resource| match &resource.spec {
                Spec::Instance(instance) => !instance.config.is_empty(),
                Spec::Project(project) => !project.config.is_empty(),
                _ => false,
            })
        };
        if desired.is_some_and(names_keys) {
            host.config_keys = self.documented_keys()?;
        }
        Ok(host)
    }

    /// Keys of instances and projects, as the server documents them; of other kinds servers tell only some. None where
    /// it documents nothing.
    fn documented_keys(&self) -> Result<BTreeMap<Kind, Vec<String>>, RuntimeError> {
        let mut keys = BTreeMap::new();
        if !self.dialect.has("metadata_configuration") {
            return Ok(keys);
        }
        let path = at(&["metadata", "configuration"], &[]);
        let told: Option<Value> = self
            .client
            .get(&path)
            .map_err(|error| error.doing("ask for the keys of the server"))?;
        let told = told.unwrap_or_default();
        for (kind, parts) in [
            (Kind::Instance, &["instance", "kernel"][..]),
            (Kind::Project, &["project"]),
        ] {
            let groups = parts
                .iter()
                .filter_map(|part| told["configs"][*part].as_object());
            let named = groups
                .flat_map(|groups| groups.values())
                .filter_map(|group| group["keys"].as_array())
                .flatten()
                .filter_map(Value::as_object)
                .flat_map(|key| key.keys().cloned());
            let named: Vec<String> = named.collect();
            if !named.is_empty() {
                keys.insert(kind, named);
            }
        }
        Ok(keys)
    }
}

impl Runtime for IncusRuntime {
    fn capabilities(&self) -> Result<Capabilities, RuntimeError> {
        let resources: Resources = self
            .client
            .get(&at(&["resources"], &[]))
            .ok()
            .flatten()
            .unwrap_or_default();
        let mut missing = Vec::new();
        let mut lacks = |feature: &str| {
            missing.push(Missing {
                feature: feature.to_owned(),
                why: format!(
                    "the server {} ({} {}) has none",
                    self.dialect.name, self.dialect.server, self.dialect.version
                ),
            });
        };
        for (feature, driver) in [
            (manifests::feature::BTRFS, "btrfs"),
            (manifests::feature::LVM, "lvm"),
            (manifests::feature::ZFS, "zfs"),
        ] {
            if !self.dialect.drivers.contains(driver) {
                lacks(feature);
            }
        }
        if !self.dialect.machines {
            lacks(manifests::feature::MACHINES);
        }
        if !self.dialect.clustered {
            missing.push(Missing {
                feature: manifests::feature::CLUSTER.to_owned(),
                why: format!("the server {} is no member of a cluster", self.dialect.name),
            });
        }
        Ok(Capabilities {
            engine: "incus".to_owned(),
            host: self.dialect.name.clone(),
            machine_id: None,
            state_id: self.state_id.clone(),
            architecture: self.dialect.architecture.clone(),
            memory: resources.memory.total,
            processors: resources.cpu.total,
            ceilings: BTreeMap::new(),
            missing,
            machines: None,
            config_keys: BTreeMap::new(),
        })
    }

    fn observe(&self) -> Result<ObservedSet, RuntimeError> {
        self.observe_all()
    }

    fn look(&self, address: &Address) -> Result<Option<Item>, RuntimeError> {
        match address.kind {
            Kind::Instance => self.look_at_instance(address),
            Kind::Image => self.look_at_image(address),
            Kind::NetworkForward => self.look_at_forward(address),
            Kind::SnapshotSchedule => return self.look_at_schedule(address),
            kind if objects::is_one(kind) => self.look_at_object(address),
            _ => Ok(None),
        }
        .map_err(|error| error.of(address))
    }

    /// The server counts only what has a quota.
    fn measure(&self, _: Kind, _: &Uid) -> Result<Option<u64>, RuntimeError> {
        Ok(None)
    }

    fn knows_secret(&self, digest: &str) -> bool {
        self.secrets.knows(digest)
    }

    fn perform(
        &self,
        action: &Action,
        desired: &DesiredSet,
        context: &Context<'_>,
    ) -> Result<Effected, RuntimeError> {
        let resource = desired.resources.get(&action.address);
        match action.address.kind {
            Kind::Instance => self.perform_on_instance(action, resource, desired, context),
            Kind::Image => self.perform_on_image(action, resource, desired, context),
            Kind::NetworkForward => self.perform_on_forward(action, resource, context),
            Kind::SnapshotSchedule => kept::perform(&self.definitions, action, resource),
            kind if objects::is_one(kind) => self.perform_on_object(action, resource, context),
            _ => Err(cannot(&action.verb, &action.address)),
        }
        .map_err(|error| error.of(&action.address))
    }

    /// The server does what follows by itself.
    fn settle(&self, _: &Context<'_>) -> Result<(), RuntimeError> {
        Ok(())
    }
}
