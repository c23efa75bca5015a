//! What is there as people wrote it: profiles by themselves, and of instances what they say beyond them.

use std::collections::BTreeMap;

use manifests::id::Address;
use manifests::kind::{Kind, Spec};
use manifests::observed::Unseen;
use serde_json::{Map, Value, json};

use super::IncusRuntime;
use super::client::at;
use super::instance_words::{Facts, Words, devices_from_wire};
use super::observe::{listed, project};
use super::table::{Keyless, put};
use super::texts::Texts;
use super::wire::{Config, Devices, Instance, Object, Profile};
use crate::error::RuntimeError;

/// What people wrote on a server.
#[derive(Debug, Clone, Default)]
pub struct AsWritten {
    /// The profiles.
    pub profiles: BTreeMap<Address, WrittenProfile>,
    /// Of instances with profiles of the server's: which, and what they say beyond them.
    pub instances: BTreeMap<Address, Value>,
    /// What could not be read of profiles.
    pub unseen: Vec<(Address, Unseen)>,
}

/// A profile of a server.
#[derive(Debug, Clone)]
pub struct WrittenProfile {
    /// Of the profile alone: its instances do not get it.
    pub description: String,
    /// What its keys and devices say.
    pub spec: Value,
}

impl IncusRuntime {
    /// Reads what people wrote; an instance that keel made has no profiles of the server's.
    ///
    /// # Errors
    /// The server is out of reach.
    pub fn as_written(&self) -> Result<AsWritten, RuntimeError> {
        let mut out = AsWritten::default();
        let all = |extension: &str| match self.dialect.has(extension) {
            true => vec![("recursion", "1"), ("all-projects", "true")],
            false => vec![("recursion", "1")],
        };
        let networks = at(&["networks"], &all("networks_all_projects"));
        let networks: Vec<Object> = self.all_of(&networks)?;
        let facts = listed(&[], &networks, &[]);
        let texts = Texts(&self.secrets);
        let part = |words: &Words<'_>, config: &Config, devices: &Devices| {
            part(words, config, devices, &facts)
        };
        let profiles = at(&["profiles"], &all("profiles_all_projects"));
        let profiles: Vec<Profile> = self.all_of(&profiles)?;
        for profile in &profiles {
            let words = Words {
                // Whose ids are mapped by itself leaves these keys away.
                is_container: true,
                keyless: Keyless::LeftOut,
                texts: &texts,
                secrets: Map::new(),
            };
            let name = profile.name.clone();
            let address = Address::in_project(Kind::Profile, project(&profile.project), name);
            let (spec, unseen) = part(&words, &profile.config, &profile.devices);
            let unseen = unseen.into_iter().map(|one| (address.clone(), one));
            out.unseen.extend(unseen);
            let description = profile.description.clone();
            out.profiles
                .insert(address, WrittenProfile { description, spec });
        }
        let instances = at(&["instances"], &all("instance_all_projects"));
        let instances: Vec<Instance> = self.all_of(&instances)?;
        for instance in instances.iter().filter(|one| !one.profiles.is_empty()) {
            let words = Words {
                is_container: instance.kind != "virtual-machine",
                keyless: Keyless::LeftOut,
                texts: &texts,
                secrets: Map::new(),
            };
            let name = instance.name.clone();
            let address = Address::in_project(Kind::Instance, project(&instance.project), name);
            // What cannot be read is told of the whole instance.
            let (mut spec, _) = part(&words, &instance.config, &instance.devices);
            put(
                &mut spec,
                "profiles",
                Value::from(instance.profiles.clone()),
            );
            out.instances.insert(address, spec);
        }
        Ok(out)
    }
}

/// What keys and devices say.
fn part(
    words: &Words<'_>,
    config: &Config,
    devices: &Devices,
    facts: &dyn Facts,
) -> (Value, Vec<Unseen>) {
    let (mut spec, mut unseen) = (json!({}), Vec::new());
    words.of_keys(config, &mut spec, &mut unseen);
    let mut devices = devices_from_wire(devices, facts, &mut unseen);
    for (name, device) in devices.as_object_mut().into_iter().flatten() {
        shorten(name, device);
    }
    if devices.as_object().is_some_and(|all| !all.is_empty()) {
        put(&mut spec, "devices", devices);
    }
    (spec, unseen)
}

/// Takes out of a device what is as by default: it is written whole, so nothing else can say it.
fn shorten(name: &str, device: &mut Value) {
    let typed =
        |device: &Value| Spec::deserialize(Kind::Profile, &json!({"devices": {name: device}})).ok();
    let Some(meant) = typed(device) else { return };
    let keys: Vec<String> = device
        .as_object()
        .into_iter()
        .flat_map(Map::keys)
        .cloned()
        .collect();
    for key in keys {
        let mut without = device.clone();
        if let Some(fields) = without.as_object_mut() {
            fields.shift_remove(&key);
        }
        if typed(&without).as_ref() == Some(&meant) {
            *device = without;
        }
    }
}
