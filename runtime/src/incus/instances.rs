//! What is done to instances.

use std::time::Duration;

use manifests::action::{Action, Keep, Power, Verb};
use manifests::desired::{DesiredSet, Resource};
use manifests::devices::Nic;
use manifests::effect::Effect;
use manifests::effect_table::incus_effect;
use manifests::id::{Address, Uid};
use manifests::instance::placement::Placement;
use manifests::kind::{Kind, Spec};
use manifests::kinds::instance::{Instance as Wanted, PowerState};
use manifests::kinds::network::NetworkType;
use manifests::observed::TrashedBy;
use manifests::scalar::image_ref::ImageRef;
use serde_json::{Value, json};

use super::IncusRuntime;
use super::client::{ClientError, at};
use super::images::waiting;
use super::instance_words::{self, Facts as _, Written, is_of_server};
use super::observe::{TrashNote, trash_note};
use super::texts::Texts;
use super::wire::{Config, Instance, InstancePut};
use super::write::{taken, trash_name, unsaid};
use super::{devices, marks};
use crate::error::{Class, RuntimeError};
use crate::native::cgroup::Patience;
use crate::runtime::{Context, Effected};

/// Keys that are off while an instance lies in the trash: it neither starts with the host nor is it snapshotted.
pub(super) const OFF: &[&str] = &["boot.autostart", "snapshots.schedule"];
/// How long an orderly stop may take, in seconds, before it is forced.
const ORDERLY: u64 = 30;
/// How long something that was begun by others is waited for.
pub(super) const BEGUN: Duration = Duration::from_secs(2);

/// Where an instance is.
pub(super) fn path(address: &Address) -> String {
    path_of(&address.name, address.project_name())
}

fn path_of(name: &str, project: &str) -> String {
    at(&["instances", name], &[("project", project)])
}

/// What an instance that is made anew keeps of what it was.
#[derive(Default)]
struct Before {
    /// Addresses of its interfaces, by the keys of the server.
    known_by: Config,
    /// The member of a cluster that it was on.
    stays: Option<String>,
}

/// Where in a cluster it is to be made, as the server has it.
fn target(placement: &Placement) -> Option<String> {
    match (&placement.member, &placement.group) {
        (Some(member), _) => Some(member.clone()),
        (None, Some(group)) => Some(format!("@{group}")),
        (None, None) => None,
    }
}

fn uid(instance: &Instance) -> Option<Uid> {
    let mark = marks::mark(&instance.config)?;
    let uuid: Uid = instance.config.get("volatile.uuid")?.parse().ok()?;
    (mark.uid == uuid).then_some(uuid)
}

fn runs(instance: &Instance) -> bool {
    instance_words::state(&instance.status) != "Stopped"
}

impl IncusRuntime {
    pub(super) fn perform_on_instance(
        &self,
        action: &Action,
        resource: Option<&Resource>,
        desired: &DesiredSet,
        context: &Context<'_>,
    ) -> Result<Effected, RuntimeError> {
        let address = &action.address;
        let doing = |error: ClientError| error.doing(action.verb.word());
        let live: Option<Instance> = self.client.get(&path(address)).map_err(doing)?;
        let is_ours = live
            .as_ref()
            .is_some_and(|live| uid(live) == Some(action.uid));
        let wanted = || match resource {
            Some(resource) => match &resource.spec {
                Spec::Instance(instance) => Ok((resource, instance.as_ref())),
                _ => Err(super::wrong_kind(address)),
            },
            None => Err(super::wrong_kind(address)),
        };
        match &action.verb {
            Verb::Create => {
                let (resource, instance) = wanted()?;
                match live {
                    Some(_) if !is_ours => Err(taken(&action.verb)),
                    Some(_) => self.change_instance(action, resource, instance, desired, context),
                    None => {
                        let before = Before::default();
                        self.make_instance(action, resource, instance, desired, before, context)
                    }
                }
            }
            Verb::Update { changes } => {
                let (resource, instance) = wanted()?;
                if live.is_some() && !is_ours {
                    return Err(taken(&action.verb));
                }
                let later = live.as_ref().is_some_and(runs)
                    && changes
                        .iter()
                        .any(|change| incus_effect(&resource.spec, change) == Effect::NextStart);
                let done = self.change_instance(action, resource, instance, desired, context)?;
                Ok(if later { Effected::NextStart } else { done })
            }
            Verb::Rename { from } => {
                let found: Option<Instance> = self.client.get(&path(from)).map_err(doing)?;
                match found {
                    None if is_ours => Ok(Effected::NotNeeded),
                    Some(found) if uid(&found) == Some(action.uid) && live.is_none() => {
                        self.rename(&path(from), &address.name, context)?;
                        self.made.moved(from, address)?;
                        Ok(Effected::Done)
                    }
                    Some(_) | None => Err(taken(&action.verb)),
                }
            }
            Verb::Rebuild | Verb::Replace => {
                let (resource, instance) = wanted()?;
                if live.is_some() && !is_ours {
                    return Err(taken(&action.verb));
                }
                let known_by = live.as_ref().map(hwaddrs).unwrap_or_default();
                if let Some(live) = &live {
                    match &action.keep {
                        Some(keep) => {
                            let by = match action.verb {
                                Verb::Rebuild => TrashedBy::Rebuild,
                                _ => TrashedBy::Replace,
                            };
                            self.put_away(action, live, keep, by, context)?;
                        }
                        None => self.remove(&path(address), live, context)?,
                    }
                }
                // Where it was are its volumes, and a member that is named for its first time may be gone.
                let stays = live
                    .map(|live| live.location)
                    .filter(|_| self.dialect.clustered);
                let before = Before { known_by, stays };
                self.make_instance(action, resource, instance, desired, before, context)
            }
            Verb::Power { power } => {
                let Some(live) = live.filter(|_| is_ours) else {
                    return Ok(Effected::NotNeeded);
                };
                self.power(address, &live, *power, context)
            }
            Verb::Adopt => {
                let given = match wanted() {
                    Ok((_, instance)) => self.words(instance, desired)?.config,
                    Err(_) => Config::new(),
                };
                self.change(&path(address), context, &mut |live: &Instance| {
                    let mut put = InstancePut::from(live);
                    marks::put(&mut put.config, action, resource);
                    let own = given
                        .iter()
                        .filter(|(key, _)| key.starts_with(marks::PREFIX));
                    put.config
                        .extend(own.map(|(key, value)| (key.clone(), value.clone())));
                    Ok(body_unless_same(live, &put))
                })
            }
            Verb::Forget if is_ours => {
                self.change(&path(address), context, &mut |live: &Instance| {
                    let mut put = InstancePut::from(live);
                    marks::take_off(&mut put.config);
                    Ok(body_unless_same(live, &put))
                })
            }
            Verb::Forget => Ok(Effected::NotNeeded),
            Verb::Trash { at, expires_at } => {
                let Some(live) = live.filter(|_| is_ours) else {
                    return Ok(Effected::NotNeeded);
                };
                let keep = Keep {
                    uid: action.uid,
                    at: *at,
                    expires_at: *expires_at,
                };
                self.put_away(action, &live, &keep, TrashedBy::Delete, context)?;
                Ok(Effected::Done)
            }
            Verb::Restore => {
                if live.is_some() && !is_ours {
                    return Err(taken(&action.verb));
                }
                if live.is_none() {
                    let lies = path_of(&trash_name(&action.uid), address.project_name());
                    self.rename(&lies, &address.name, context)?;
                }
                self.change(&path(address), context, &mut |live: &Instance| {
                    let mut put = InstancePut::from(live);
                    if let Some(note) = trash_note(&put.config) {
                        put.config.retain(|key, _| !OFF.contains(&key.as_str()));
                        put.config.extend(note.off);
                        let there = note.nics.into_iter().filter(|(_, nic)| self.can_join(nic));
                        put.devices.extend(there);
                    }
                    put.config.remove(marks::TRASH);
                    marks::put(&mut put.config, action, resource);
                    Ok(body_unless_same(live, &put))
                })
            }
            Verb::Delete => {
                let (place, found) = match live.filter(|_| is_ours) {
                    Some(live) => (path(address), live),
                    None => {
                        let lies = path_of(&trash_name(&action.uid), address.project_name());
                        match self.client.get::<Instance>(&lies).map_err(doing)? {
                            Some(found) if trash_note(&found.config).is_some() => (lies, found),
                            _ => return Ok(Effected::NotNeeded),
                        }
                    }
                };
                self.remove(&place, &found, context)?;
                Ok(Effected::Done)
            }
        }
    }

    /// All of an instance in the words of the server.
    fn words(&self, instance: &Wanted, desired: &DesiredSet) -> Result<Written, RuntimeError> {
        let on_bridge = |nic: &Nic| match &nic.network {
            None => nic
                .nic_type
                .is_none_or(|kind| kind.to_string() == "bridged"),
            Some(name) => {
                let declared = desired.declared().find_map(|one| match &one.spec {
                    Spec::Network(network) if one.address.name == *name => Some(network),
                    _ => None,
                });
                match declared {
                    Some(network) => network.r#type == NetworkType::Bridge,
                    None => self.is_bridge(name),
                }
            }
        };
        instance_words::to_wire(instance, &Texts(&self.secrets), &on_bridge).map_err(unsaid)
    }

    /// Makes it, and starts it unless it should be stopped.
    fn make_instance(
        &self,
        action: &Action,
        resource: &Resource,
        instance: &Wanted,
        desired: &DesiredSet,
        before: Before,
        context: &Context<'_>,
    ) -> Result<Effected, RuntimeError> {
        let address = &action.address;
        let Before {
            mut known_by,
            stays,
        } = before;
        let mut words = self.words(instance, desired)?;
        marks::put(&mut words.config, action, Some(resource));
        known_by.retain(|key, _| {
            let nic = key.split('.').nth(1).and_then(|nic| words.devices.get(nic));
            nic.is_some_and(|nic| !nic.contains_key("hwaddr"))
        });
        words.config.extend(known_by);
        // By this a copy is told from the original, which alone has the identity that its mark says.
        words
            .config
            .insert("volatile.uuid".to_owned(), action.uid.to_string());
        let starts = instance.state.0 != Some(PowerState::Stopped);
        let body = json!({
            "name": address.name,
            "type": instance.r#type.to_string(),
            "description": instance.description,
            "ephemeral": instance.ephemeral,
            "profiles": [],
            "config": words.config,
            "devices": words.devices,
            "source": self.source(instance, address, desired, context)?,
        });
        (context.progress)("creating");
        let target = stays.or_else(|| instance.placement.as_ref().and_then(target));
        let mut query = vec![("project", address.project_name())];
        query.extend(target.as_deref().map(|target| ("target", target)));
        let all = at(&["instances"], &query);
        let done = self
            .client
            .write("POST", &all, Some(&body), None, &waiting(context));
        let found = self.client.get::<Instance>(&path(address));
        let found = found.map_err(|error| error.doing("look at"))?;
        let Some(found) = found.filter(|found| uid(found) == Some(action.uid)) else {
            let error = done.err().unwrap_or(ClientError::Vanished);
            return Err(error.doing("create"));
        };
        if starts {
            (context.progress)("starting");
            self.power(address, &found, Power::Start, context)?;
            if instance.state.0 == Some(PowerState::Frozen) {
                self.set_state(address, "freeze", false, context)?;
            }
        }
        Ok(Effected::Done)
    }

    /// What it is made from.
    fn source(
        &self,
        instance: &Wanted,
        address: &Address,
        desired: &DesiredSet,
        context: &Context<'_>,
    ) -> Result<Value, RuntimeError> {
        let project = address.project_name();
        Ok(match &instance.image {
            None => json!({"type": "none"}),
            Some(ImageRef::Fingerprint(digits)) => json!({"type": "image", "fingerprint": digits}),
            Some(ImageRef::Alias {
                remote: None,
                alias,
            }) => {
                json!({"type": "image", "alias": alias})
            }
            Some(ImageRef::Alias {
                remote: Some(remote),
                alias,
            }) => {
                let source = manifests::scalar::image_ref::ImageSource::Alias {
                    alias: alias.clone(),
                    server: remote.clone(),
                };
                let root = &desired.source.root;
                let fingerprint = self.fetch(Some(&source), false, project, root, context)?;
                json!({"type": "image", "fingerprint": fingerprint})
            }
            Some(ImageRef::Source(source)) => {
                let root = &desired.source.root;
                let fingerprint = self.fetch(Some(source), false, project, root, context)?;
                json!({"type": "image", "fingerprint": fingerprint})
            }
        })
    }

    fn change_instance(
        &self,
        action: &Action,
        resource: &Resource,
        instance: &Wanted,
        desired: &DesiredSet,
        context: &Context<'_>,
    ) -> Result<Effected, RuntimeError> {
        let words = self.words(instance, desired)?;
        self.change(&path(&action.address), context, &mut |live: &Instance| {
            let mut put = InstancePut::from(live);
            put.config.retain(|key, _| is_of_server(key));
            put.config.extend(words.config.clone());
            marks::put(&mut put.config, action, Some(resource));
            put.description.clone_from(&instance.description);
            put.ephemeral = instance.ephemeral;
            put.profiles = Vec::new();
            put.devices = words.devices.clone();
            for (name, device) in &live.expanded_devices {
                match put.devices.get_mut(name) {
                    // What manifests have no words for stays as it is.
                    Some(own) if own.get("type") == device.get("type") => {
                        own.extend(devices::foreign_keys(device));
                    }
                    Some(_) => {}
                    None if devices::is_foreign(device) => {
                        put.devices.insert(name.clone(), device.clone());
                    }
                    None => {}
                }
            }
            // A running machine is never told what it knows: any change has it stopped and started anew.
            Ok(body_unless_same(live, &put))
        })
    }

    fn rename(&self, from: &str, to: &str, context: &Context<'_>) -> Result<(), RuntimeError> {
        let body = json!({"name": to});
        let done = self
            .client
            .write("POST", from, Some(&body), None, &waiting(context));
        done.map(|_| ()).map_err(|error| error.doing("rename"))
    }

    /// Stops an instance and moves it to the trash.
    fn put_away(
        &self,
        action: &Action,
        live: &Instance,
        keep: &Keep,
        by: TrashedBy,
        context: &Context<'_>,
    ) -> Result<(), RuntimeError> {
        let address = &action.address;
        if runs(live) {
            self.power(address, live, Power::Stop, context)?;
        }
        let mut own = action.clone();
        own.mark.uid = keep.uid;
        self.change(&path(address), context, &mut |live: &Instance| {
            let mut put = InstancePut::from(live);
            // Where a killed keel began it, it was as its note says.
            let note = trash_note(&put.config).unwrap_or_else(|| {
                // With its interfaces the server forgets their addresses.
                let known_by = hwaddrs(live);
                let off = put
                    .config
                    .iter()
                    .filter(|(key, _)| OFF.contains(&key.as_str()))
                    .chain(&known_by);
                TrashNote {
                    name: address.name.clone(),
                    at: keep.at,
                    until: keep.expires_at,
                    by,
                    off: off
                        .map(|(key, value)| (key.clone(), value.clone()))
                        .collect(),
                    nics: put
                        .devices
                        .extract_if(.., |_, device| is_nic(device))
                        .collect(),
                }
            });
            put.config.retain(|key, _| !OFF.contains(&key.as_str()));
            put.config
                .insert("boot.autostart".to_owned(), "false".to_owned());
            put.config
                .insert("volatile.uuid".to_owned(), keep.uid.to_string());
            let note = manifests::change::shown(&note).to_string();
            put.config.insert(marks::TRASH.to_owned(), note);
            marks::put(&mut put.config, &own, None);
            Ok(body_unless_same(live, &put))
        })?;
        self.rename(&path(address), &trash_name(&keep.uid), context)
    }

    /// Whether the network of an interface is there. One that was removed meanwhile is for the next plan.
    fn can_join(&self, nic: &Config) -> bool {
        let Some(network) = nic.get("network") else {
            return true;
        };
        let place = at(&["networks", network], &[]);
        !matches!(self.client.get::<Value>(&place), Ok(None))
    }

    fn remove(
        &self,
        place: &str,
        live: &Instance,
        context: &Context<'_>,
    ) -> Result<(), RuntimeError> {
        if runs(live) {
            let mut address = Address::in_project(Kind::Instance, &live.project, live.name.clone());
            if live.project.is_empty() {
                address.project = None;
            }
            self.set_state(&address, "stop", true, context)?;
        }
        match self
            .client
            .write("DELETE", place, None, None, &waiting(context))
        {
            Err(error) if !error.is_not_found() => {
                // What counts is whether it is there. An ephemeral one goes when it is stopped.
                let left = self.client.get::<Instance>(place);
                match left {
                    Ok(None) => Ok(()),
                    _ => Err(error.doing("delete")),
                }
            }
            _ => Ok(()),
        }
    }

    fn power(
        &self,
        address: &Address,
        live: &Instance,
        power: Power,
        context: &Context<'_>,
    ) -> Result<Effected, RuntimeError> {
        let state = instance_words::state(&live.status);
        let (word, force) = match (power, state) {
            (Power::Start | Power::StartAnew, "Stopped") => ("start", false),
            (Power::Unfreeze, "Frozen") => ("unfreeze", false),
            (Power::Start | Power::StartAnew | Power::Unfreeze, _) => {
                return Ok(Effected::NotNeeded);
            }
            (Power::Stop | Power::HostDown | Power::Kill | Power::Save, "Stopped") => {
                return Ok(Effected::NotNeeded);
            }
            (Power::Stop | Power::HostDown, _) => ("stop", false),
            (Power::Kill, _) => ("stop", true),
            (Power::Save, _) => {
                let why = "this engine does not save the state of instances";
                return Err(RuntimeError::new("save", Class::Unsupported, why));
            }
            (Power::Restart | Power::Reset, "Stopped") => ("start", false),
            (Power::Restart, _) => ("restart", false),
            (Power::Reset, _) => ("restart", true),
            (Power::Freeze, "Frozen") => return Ok(Effected::NotNeeded),
            (Power::Freeze, _) => ("freeze", false),
        };
        let done = self.set_state(address, word, force, context);
        match done {
            // In an orderly way, then by force.
            Err(_) if !force && matches!(word, "stop" | "restart") => {
                self.set_state(address, word, true, context)?;
            }
            other => other?,
        }
        Ok(Effected::Done)
    }

    fn set_state(
        &self,
        address: &Address,
        word: &str,
        force: bool,
        context: &Context<'_>,
    ) -> Result<(), RuntimeError> {
        let project = [("project", address.project_name())];
        let place = at(&["instances", &address.name, "state"], &project);
        let timeout = match force {
            true => -1,
            false => i64::try_from(ORDERLY.min(context.timeout.as_secs())).unwrap_or(-1),
        };
        let body = json!({"action": word, "timeout": timeout, "force": force, "stateful": false});
        let done = self
            .client
            .write("PUT", &place, Some(&body), None, &waiting(context));
        let Err(error) = done else { return Ok(()) };
        // How it ended may be forgotten, and somebody may have been first: what counts is how it is.
        let wanted = match word {
            "stop" => "Stopped",
            "freeze" => "Frozen",
            _ => "Running",
        };
        // What somebody else began, also a keel that was killed, may be about to end so.
        let mut patience = Patience::new(BEGUN);
        loop {
            let found = self.client.get::<Instance>(&path(address));
            match (word, found) {
                ("restart", _) => return Err(error.doing(word)),
                (_, Ok(Some(now))) if instance_words::state(&now.status) == wanted => return Ok(()),
                ("stop", Ok(None)) => return Ok(()),
                _ if !patience.wait() => return Err(error.doing(word)),
                _ => {}
            }
        }
    }
}

fn is_nic(device: &Config) -> bool {
    device.get("type").is_some_and(|word| word == "nic")
}

/// The addresses that the server gave interfaces of an instance, under its keys for them.
fn hwaddrs(live: &Instance) -> Config {
    let nics = live.expanded_devices.iter();
    let nics = nics.filter(|(_, device)| is_nic(device));
    nics.filter_map(|(name, _)| {
        let key = format!("volatile.{name}.hwaddr");
        let value = live.config.get(&key)?.clone();
        Some((key, value))
    })
    .collect()
}

fn body_unless_same(live: &Instance, put: &InstancePut) -> Option<Value> {
    (InstancePut::from(live) != *put).then(|| manifests::change::shown(put))
}
