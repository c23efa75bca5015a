//! Everything on the server: one request a kind, and one a pool for its volumes.

use std::collections::{HashMap, HashSet};

use manifests::id::{Address, Mark, Uid};
use manifests::kind::{Kind, Spec};
use manifests::observed::{Holds, Item, ObservedSet, Trashed, Unclear, Unseen};
use manifests::pointer::Pointer;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::IncusRuntime;
use super::client::{ClientError, TRIES, at};
use super::instance_words::{self, Facts};
use super::texts::Texts;
use super::wire::{Alias, Config, Devices, Image, Instance, Object};
use super::write::trash_name;
use super::{cluster, images, marks, objects};
use crate::error::RuntimeError;

/// What stands on something in the trash.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct TrashNote {
    /// The name under which it lived.
    pub(super) name: String,
    pub(super) at: jiff::Timestamp,
    pub(super) until: jiff::Timestamp,
    pub(super) by: manifests::observed::TrashedBy,
    /// Keys that are off while it lies there, as they were.
    #[serde(default)]
    pub(super) off: Config,
    /// Its interfaces: without them it keeps no network from being removed, and no address from others.
    #[serde(default)]
    pub(super) nics: Devices,
}

/// The note, where something lies in the trash.
pub(super) fn trash_note(config: &Config) -> Option<TrashNote> {
    serde_json::from_str(config.get(marks::TRASH)?).ok()
}

/// The note, where an object lies in the trash itself: a copy of one bears the note as well.
fn in_trash(address: &Address, object: &Object) -> Option<TrashNote> {
    let note = trash_note(&object.config)?;
    let mark = marks::mark(&object.config)?;
    let lies = object.name == trash_name(&mark.uid);
    (lies || marks::own(&object.config, address).is_some()).then_some(note)
}

/// What the lists say.
pub(super) struct Listed {
    aliases: HashMap<(String, String), String>,
    fingerprints: HashMap<(String, String), String>,
    no_bridges: HashSet<String>,
    /// Projects that see the images of `default`.
    without_images: HashSet<String>,
}

impl Listed {
    fn of_images<'a>(&self, project: &'a str) -> &'a str {
        match self.without_images.contains(project) {
            true => "default",
            false => project,
        }
    }
}

impl Facts for Listed {
    fn fingerprint(&self, project: &str, alias: &str) -> Option<String> {
        self.aliases
            .get(&(self.of_images(project).to_owned(), alias.to_owned()))
            .cloned()
    }

    fn alias(&self, project: &str, fingerprint: &str) -> Option<String> {
        self.fingerprints
            .get(&(self.of_images(project).to_owned(), fingerprint.to_owned()))
            .cloned()
    }

    fn is_bridge(&self, network: &str) -> bool {
        !self.no_bridges.contains(network)
    }
}

/// The same, asked when it is needed.
impl Facts for IncusRuntime {
    fn fingerprint(&self, project: &str, alias: &str) -> Option<String> {
        let path = at(&["images", "aliases", alias], &[("project", project)]);
        let found: Option<Alias> = self.client.get(&path).ok()?;
        found.map(|alias| alias.target)
    }

    fn alias(&self, project: &str, fingerprint: &str) -> Option<String> {
        let path = at(&["images", fingerprint], &[("project", project)]);
        let found: Option<Image> = self.client.get(&path).ok()?;
        found?.aliases.into_iter().next().map(|alias| alias.name)
    }

    fn is_bridge(&self, network: &str) -> bool {
        let found: Result<Option<Object>, ClientError> =
            self.client.get(&at(&["networks", network], &[]));
        !matches!(found, Ok(Some(network)) if network.kind != "bridge")
    }
}

/// Who keeps what has snapshots and is started ([`Item::is_kept_by_server`]).
const SERVER: &str = "server";

pub(super) fn failed(error: ClientError) -> RuntimeError {
    error.doing("look at the server")
}

impl IncusRuntime {
    /// Everything, whoever owns it.
    pub(super) fn observe_all(&self) -> Result<ObservedSet, RuntimeError> {
        let mut out = ObservedSet::default();
        let mut query = vec![("recursion", "1")];
        if self.dialect.has("projects") {
            query.push(("all-projects", "true"));
        }
        let plain = [("recursion", "1")];
        let of_all = |extension: &str| match self.dialect.has(extension) {
            true => query.as_slice(),
            false => plain.as_slice(),
        };
        let projects: Vec<Object> = match self.dialect.has("projects") {
            true => self.all_of(&at(&["projects"], &plain))?,
            false => Vec::new(),
        };
        for one in &projects {
            let address = Address::new(Kind::Project, one.name.clone());
            self.add(&mut out, address, one, None);
        }
        let pools: Vec<Object> = self.all_of(&at(&["storage-pools"], &plain))?;
        for pool in &pools {
            let address = Address::new(Kind::StoragePool, pool.name.clone());
            self.add(&mut out, address, pool, None);
        }
        let networks = at(&["networks"], of_all("networks_all_projects"));
        let networks: Vec<Object> = self.all_of(&networks)?;
        for network in networks.iter().filter(|network| network.managed) {
            let name = network.name.clone();
            let address = Address::in_project(Kind::Network, project(&network.project), name);
            self.add(&mut out, address, network, None);
        }
        if self.dialect.has("network_acl") {
            let acls = at(&["network-acls"], of_all("network_acls_all_projects"));
            let acls: Vec<Object> = self.all_of(&acls)?;
            for acl in &acls {
                let name = acl.name.clone();
                let address = Address::in_project(Kind::NetworkAcl, project(&acl.project), name);
                self.add(&mut out, address, acl, None);
            }
        }
        self.add_forwards(&networks, &mut out)?;
        let images = at(&["images"], of_all("images_all_projects"));
        let images: Vec<Image> = self.all_of(&images)?;
        for image in &images {
            for alias in &image.aliases {
                out.items
                    .push(images::item(image, alias, project(&image.project)));
            }
        }
        for pool in &pools {
            let path = ["storage-pools", &pool.name, "volumes", "custom"];
            let path = at(&path, of_all("storage_volumes_all_projects"));
            let is_there = || {
                let pool = self
                    .client
                    .get::<Object>(&at(&["storage-pools", &pool.name], &[]));
                Ok(pool?.is_some())
            };
            let volumes: Option<Vec<Object>> = self.list_again(&path, &is_there)?;
            let Some(volumes) = volumes else {
                // The pool went meanwhile, and all that it had.
                let gone = Address::new(Kind::StoragePool, pool.name.clone());
                out.items.retain(|item| item.address != gone);
                out.unclear.retain(|unclear| unclear.address != gone);
                continue;
            };
            // Those with a stroke are snapshots.
            for volume in volumes.iter().filter(|volume| !volume.name.contains('/')) {
                let name = volume.name.clone();
                let mut address = Address::in_project(Kind::Volume, project(&volume.project), name);
                address.pool = Some(pool.name.clone());
                self.add(&mut out, address, volume, Some(&pool.name));
            }
        }
        let facts = listed(&images, &networks, &projects);
        let instances = at(&["instances"], of_all("instance_all_projects"));
        let instances: Vec<Instance> = self.all_of(&instances)?;
        for instance in &instances {
            self.add_instance(&mut out, instance, &facts);
        }
        self.add_schedules(&mut out)?;
        for item in &mut out.items {
            self.made.tell_of_last(item);
        }
        Ok(out)
    }

    /// A list of what every server has.
    pub(super) fn all_of<T: DeserializeOwned>(&self, path: &str) -> Result<Vec<T>, RuntimeError> {
        let found = self.list_again(path, &|| Ok(true))?;
        found.ok_or_else(|| failed(ClientError::Vanished))
    }

    /// A list; none where what it is of is not there. The server puts a list together one by one, and where one of them
    /// goes meanwhile it answers for all that it is not found: then the list is asked for again.
    pub(super) fn list_again<T: DeserializeOwned>(
        &self,
        path: &str,
        is_there: &dyn Fn() -> Result<bool, ClientError>,
    ) -> Result<Option<Vec<T>>, RuntimeError> {
        let mut tries = TRIES;
        loop {
            tries -= 1;
            match self.client.list(path) {
                Err(error) if error.is_not_found() => {
                    if !is_there().map_err(failed)? {
                        return Ok(None);
                    }
                    if tries == 0 {
                        return Err(failed(error));
                    }
                }
                found => return found.map(Some).map_err(failed),
            }
        }
    }

    fn add(&self, out: &mut ObservedSet, address: Address, object: &Object, pool: Option<&str>) {
        if let Some(note) = in_trash(&address, object) {
            out.trash
                .extend(trashed_object(&address, object, pool, note));
            return;
        }
        match self.whole(address.clone(), object, pool) {
            Ok(item) => out.items.push(item),
            Err(why) => out.unclear.push(Unclear {
                address,
                nameless: None,
                why,
            }),
        }
    }

    /// An object with what members of a cluster have of it.
    fn whole(&self, address: Address, object: &Object, pool: Option<&str>) -> Result<Item, String> {
        if !self.dialect.clustered || cluster::of_members(address.kind).is_empty() {
            return object_item(address, object, pool);
        }
        let mut object = object.clone();
        let silent = self
            .with_members(&address, &mut object)
            .map_err(|error| crate::native::chain(&error))?;
        let mut item = object_item(address, &object, pool)?;
        item.unseen.extend(silent.into_iter().map(|member| Unseen {
            path: Pointer::new("/spec/members").field(&member),
            why: format!("member {member} of the cluster is out of reach"),
        }));
        Ok(item)
    }

    fn add_instance(&self, out: &mut ObservedSet, instance: &Instance, facts: &dyn Facts) {
        let name = instance.name.clone();
        let address = Address::in_project(Kind::Instance, project(&instance.project), name);
        // What a member that is out of reach has is listed without its keys.
        if instance.status == "Error" && instance.config.is_empty() {
            out.unclear.push(Unclear {
                address,
                nameless: None,
                why: format!(
                    "member {} of the cluster is out of reach",
                    instance.location
                ),
            });
            return;
        }
        let read = self.instance_item(address.clone(), instance, facts);
        match (read, trash_note(&instance.config)) {
            (Ok(mut was), Some(note)) => {
                was.address.name.clone_from(&note.name);
                let Some(mark) = was.mark.clone() else { return };
                out.trash.push(Trashed {
                    address: was.address.clone(),
                    mark,
                    deleted_at: note.at,
                    expires_at: note.until,
                    holds: was.holds,
                    by: note.by,
                    pool: None,
                    was: Some(Box::new(was)),
                });
            }
            (Ok(item), None) => out.items.push(item),
            (Err(why), _) => out.unclear.push(Unclear {
                address,
                nameless: None,
                why,
            }),
        }
    }

    /// An instance as a live object; one in the trash as it would be if it were back.
    pub(super) fn instance_item(
        &self,
        address: Address,
        instance: &Instance,
        facts: &dyn Facts,
    ) -> Result<Item, String> {
        let back;
        let instance = match trash_note(&instance.config) {
            None => instance,
            Some(note) => {
                let mut was = instance.clone();
                for config in [&mut was.config, &mut was.expanded_config] {
                    config.retain(|key, _| !super::instances::OFF.contains(&key.as_str()));
                    config.extend(note.off.clone());
                }
                was.expanded_devices.extend(note.nics);
                back = was;
                &back
            }
        };
        let texts = Texts(&self.secrets);
        let (spec, mut unseen) = instance_words::from_wire(instance, &texts, facts)?;
        let config = &instance.config;
        // It stands still because its member does, and is started with that again.
        if let Some(member) = config.get("volatile.evacuate.origin")
            && instance_words::state(&instance.status) == "Stopped"
        {
            unseen.push(Unseen {
                path: Pointer::new("/spec/state"),
                why: format!("it was stopped when member {member} was evacuated"),
            });
        }
        let uuid: Option<Uid> = config
            .get("volatile.uuid")
            .and_then(|text| text.parse().ok());
        // A copy bears the mark as well, and is another one.
        let written = marks::mark(config);
        let mark = written.clone().filter(|mark| Some(mark.uid) == uuid);
        let is_copy = written.is_some() && mark.is_none();
        Ok(Item {
            address,
            remembered: mark.as_ref().and(marks::remembered(config)),
            status: status(instance, uuid, written.filter(|_| is_copy)),
            holds: Holds {
                bytes: 0,
                snapshots: instance
                    .snapshots
                    .as_ref()
                    .map_or(0, |all| u32::try_from(all.len()).unwrap_or(u32::MAX)),
            },
            mark,
            complete: true,
            spec,
            last_told: None,
            unseen,
        })
    }

    pub(super) fn look_at_instance(&self, address: &Address) -> Result<Option<Item>, RuntimeError> {
        let project = [("project", address.project_name()), ("recursion", "1")];
        let path = at(&["instances", &address.name], &project);
        let Some(instance) = self.client.get::<Instance>(&path).map_err(failed)? else {
            return Ok(None);
        };
        if trash_note(&instance.config).is_some() {
            return Ok(None);
        }
        let read = self.instance_item(address.clone(), &instance, self);
        read.map(Some).map_err(|why| not_understood(&why))
    }

    pub(super) fn look_at_object(&self, address: &Address) -> Result<Option<Item>, RuntimeError> {
        let found = self.client.get::<Object>(&objects::path(address));
        let Some(object) = found.map_err(failed)? else {
            return Ok(None);
        };
        if in_trash(address, &object).is_some() {
            return Ok(None);
        }
        let read = self.whole(address.clone(), &object, address.pool.as_deref());
        read.map(Some).map_err(|why| not_understood(&why))
    }
}

pub(super) fn not_understood(why: &str) -> RuntimeError {
    RuntimeError::new(
        "understand what the server says of",
        crate::error::Class::Bug,
        why.to_owned(),
    )
}

pub(super) fn project(name: &str) -> &str {
    if name.is_empty() { "default" } else { name }
}

pub(super) fn listed(images: &[Image], networks: &[Object], projects: &[Object]) -> Listed {
    let mut facts = Listed {
        aliases: HashMap::new(),
        fingerprints: HashMap::new(),
        no_bridges: networks
            .iter()
            .filter(|network| network.managed && network.kind != "bridge")
            .map(|network| network.name.clone())
            .collect(),
        without_images: projects
            .iter()
            .filter(|one| {
                one.config
                    .get("features.images")
                    .is_some_and(|on| on == "false")
            })
            .map(|one| one.name.clone())
            .collect(),
    };
    for image in images {
        let project = project(&image.project).to_owned();
        for alias in &image.aliases {
            let key = (project.clone(), alias.name.clone());
            facts.aliases.insert(key, image.fingerprint.clone());
            let key = (project.clone(), image.fingerprint.clone());
            facts
                .fingerprints
                .entry(key)
                .or_insert_with(|| alias.name.clone());
        }
    }
    facts
}

/// A pool or network that was not made to its end, or of a cluster not on all members, is not made.
pub(super) fn is_complete(object: &Object) -> bool {
    !matches!(object.status.as_str(), "Pending" | "Errored" | "Unknown")
}

fn object_item(address: Address, object: &Object, pool: Option<&str>) -> Result<Item, String> {
    let (spec, unseen): (Spec, Vec<Unseen>) = objects::from_wire(address.kind, object, pool)?;
    let mark = marks::own(&object.config, &address);
    Ok(Item {
        complete: is_complete(object),
        remembered: mark.as_ref().and(marks::remembered(&object.config)),
        mark,
        holds: Holds::default(),
        status: json!({
            "inUse": !object.used_by.is_empty(),
            "usedBy": object.used_by.len(),
            "keptBy": (address.kind == Kind::Volume).then_some(SERVER),
        }),
        address,
        spec,
        last_told: None,
        unseen,
    })
}

fn trashed_object(
    address: &Address,
    object: &Object,
    pool: Option<&str>,
    note: TrashNote,
) -> Option<Trashed> {
    let mut was = object_item(address.clone(), object, pool).ok()?;
    was.mark = marks::mark(&object.config);
    was.remembered = marks::remembered(&object.config);
    was.address.name = note.name;
    Some(Trashed {
        address: was.address.clone(),
        mark: was.mark.clone()?,
        deleted_at: note.at,
        expires_at: note.until,
        holds: was.holds,
        by: note.by,
        pool: pool.map(str::to_owned),
        was: Some(Box::new(was)),
    })
}

/// What `status` says of an instance beyond its spec.
fn status(instance: &Instance, uuid: Option<Uid>, copy_of: Option<Mark>) -> Value {
    let mut status = json!({
        "state": instance_words::state(&instance.status),
        "createdAt": instance.created_at,
        "keptBy": SERVER,
    });
    if let Some(uuid) = uuid {
        status["uid"] = json!(uuid);
    }
    if let Some(mark) = copy_of {
        status["copyOf"] = json!(mark.uid);
    }
    if !instance.location.is_empty() && instance.location != "none" {
        status["member"] = json!(instance.location);
    }
    if instance_words::state(&instance.status) != "Stopped" {
        status["startedAt"] = json!(instance.last_used_at);
    }
    let Some(state) = &instance.state else {
        return status;
    };
    if state.pid > 0 {
        status["pid"] = json!(state.pid);
    }
    let interfaces = state
        .network
        .iter()
        .flatten()
        .filter(|(name, _)| *name != "lo");
    for (name, interface) in interfaces {
        let addresses: Vec<String> = interface
            .addresses
            .iter()
            .filter(|address| address.scope == "global")
            .map(|address| format!("{}/{}", address.address, address.netmask))
            .collect();
        status["devices"][name] = json!({
            "type": "nic",
            "interface": name,
            "hwaddr": interface.hwaddr,
            "mtu": interface.mtu,
            "hostInterface": interface.host_name,
            "addresses": addresses,
        });
    }
    status
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A volume of a name, with the mark and the places of another.
    fn volume(name: &str, uid: &Uid, places: &str) -> (Address, Object) {
        let mut address = Address::in_project(Kind::Volume, "default", name);
        address.pool = Some("fast".to_owned());
        let config = [
            (marks::MARK, format!("keel:edge:{uid}")),
            (marks::PLACE, places.to_owned()),
        ];
        let object = Object {
            name: name.to_owned(),
            kind: "custom".to_owned(),
            content_type: "filesystem".to_owned(),
            config: Config::from(config.map(|(key, value)| (key.to_owned(), value))),
            ..Object::default()
        };
        (address, object)
    }

    #[test]
    fn a_copy_of_a_volume_is_not_ours_and_not_in_our_trash() {
        let uid = Uid::nobody(7);
        let is_ours = |name: &str, places: &str| {
            let (address, object) = volume(name, &uid, places);
            let item = object_item(address, &object, Some("fast")).expect("a volume");
            item.mark.is_some()
        };
        assert!(is_ours("data", "default/fast/data"));
        assert!(is_ours("new", "default/fast/data,default/fast/new"));
        assert!(!is_ours("copy", "default/fast/data"));
        assert!(!is_ours("data", "shop/fast/data"));
        assert!(!is_ours("data", ""));
        let note = json!({
            "name": "data", "at": "2026-01-01T00:00:00Z", "until": "2026-01-08T00:00:00Z", "by": "delete",
        });
        let lies = |name: &str| {
            let (address, mut object) = volume(name, &uid, "default/fast/data");
            object
                .config
                .insert(marks::TRASH.to_owned(), note.to_string());
            in_trash(&address, &object).is_some()
        };
        assert!(lies(&trash_name(&uid)));
        assert!(lies("data"), "its name is not changed yet");
        assert!(!lies("copy"));
    }
}
