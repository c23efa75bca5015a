//! NetworkForwards: the server knows one by its network and its outer address, and a manifest by its name, which stands on
//! it. So one is found by looking through those of all networks.

use manifests::action::{Action, Verb};
use manifests::desired::Resource;
use manifests::id::Address;
use manifests::kind::{Kind, Spec};
use manifests::kinds::network_forward::{ForwardPort, NetworkForward};
use manifests::observed::{Holds, Item, ObservedSet, Unclear, Unseen};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::client::{ClientError, at};
use super::images::waiting;
use super::observe::project;
use super::texts::Texts;
use super::typed::typed;
use super::wire::{Config, Object};
use super::write::{taken, unsaid};
use super::{IncusRuntime, marks};
use crate::error::{Class, RuntimeError};
use crate::runtime::{Context, Effected};

/// Where all ports are led that are not named.
const TARGET: &str = "target_address";

/// A forward as the server has it.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
pub(super) struct Forward {
    listen_address: String,
    description: String,
    config: Config,
    ports: Vec<Port>,
}

/// Some of its ports. What the server does not say is empty.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, Serialize)]
#[serde(default)]
struct Port {
    description: String,
    protocol: String,
    listen_port: String,
    target_port: String,
    target_address: String,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    snat: bool,
}

/// A forward and where it is.
struct Found {
    address: Address,
    network: String,
    forward: Forward,
}

impl Found {
    fn of(network: &Object, forward: Forward) -> Self {
        let name = match forward.config.get(marks::NAME) {
            Some(name) if marks::mark(&forward.config).is_some() => name.clone(),
            // Of one that nobody named.
            _ => {
                let outer = forward.listen_address.replace(['.', ':'], "-");
                format!("{}-{outer}", network.name)
            }
        };
        Self {
            address: Address::in_project(Kind::NetworkForward, project(&network.project), name),
            network: network.name.clone(),
            forward,
        }
    }

    fn path(&self) -> String {
        path(&self.address, &self.network, &self.forward.listen_address)
    }

    fn item(self) -> Result<Item, String> {
        let (spec, unseen) = from_wire(&self.network, &self.forward)?;
        let config = &self.forward.config;
        let mark = marks::mark(config);
        Ok(Item {
            complete: true,
            remembered: mark.as_ref().and(marks::remembered(config)),
            mark,
            holds: Holds::default(),
            status: json!({}),
            address: self.address,
            spec,
            last_told: None,
            unseen,
        })
    }
}

fn path(address: &Address, network: &str, outer: &str) -> String {
    let project = [("project", address.project_name())];
    at(&["networks", network, "forwards", outer], &project)
}

/// The body of a forward as its manifest says; `live` are the keys that it has, where it is there.
fn to_wire(
    wanted: &NetworkForward,
    texts: &Texts<'_>,
    live: Option<&Config>,
) -> Result<Forward, String> {
    let mut config = Config::new();
    if let Some(target) = wanted.target_address {
        config.insert(TARGET.to_owned(), target.to_string());
    }
    for (key, value) in &wanted.config {
        let value = manifests::change::shown(value);
        config.insert(key.clone(), texts.reveal(&value, key, &mut Map::new())?);
    }
    let theirs = live.into_iter().flatten();
    let theirs = theirs.filter(|(key, _)| super::objects::is_of_others(key));
    config.extend(theirs.map(|(key, value)| (key.clone(), value.clone())));
    let port = |port: &ForwardPort| Port {
        description: port.description.clone(),
        protocol: port.protocol.to_string(),
        listen_port: port.listen_port.to_string(),
        target_port: text(port.target_port.as_ref()),
        target_address: text(port.target_address.as_ref()),
        snat: port.snat,
    };
    Ok(Forward {
        listen_address: text(wanted.listen_address.as_ref()),
        description: wanted.description.clone(),
        config,
        ports: wanted.ports.iter().map(port).collect(),
    })
}

fn text<T: ToString>(value: Option<&T>) -> String {
    value.map(ToString::to_string).unwrap_or_default()
}

/// A forward as manifests have it.
fn from_wire(network: &str, forward: &Forward) -> Result<(Spec, Vec<Unseen>), String> {
    let target = forward.config.get(TARGET);
    let some = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    let port = |port: &Port| {
        json!({
            "description": port.description,
            "protocol": port.protocol,
            "listenPort": port.listen_port,
            "targetPort": some(&port.target_port),
            "targetAddress": some(&port.target_address),
            "snat": port.snat,
        })
    };
    let rest = forward.config.iter().filter(|(key, _)| {
        *key != TARGET && !key.starts_with("user.") && !key.starts_with("volatile.")
    });
    let rest: Map<String, Value> = rest
        .map(|(key, value)| (key.clone(), Value::from(value.as_str())))
        .collect();
    let spec = json!({
        "description": forward.description,
        "network": network,
        "listenAddress": some(&forward.listen_address),
        "targetAddress": target,
        "ports": forward.ports.iter().map(port).collect::<Vec<_>>(),
        "config": rest,
    });
    let mut unseen = Vec::new();
    let spec = typed(Kind::NetworkForward, spec, &mut unseen)?;
    Ok((spec, unseen))
}

/// What is written over one that is there: its outer address is its name.
fn writing(forward: &Forward) -> Value {
    json!({
        "description": forward.description,
        "config": forward.config,
        "ports": forward.ports,
    })
}

fn wanted(resource: &Resource) -> Option<&NetworkForward> {
    match &resource.spec {
        Spec::NetworkForward(forward) => Some(forward),
        _ => None,
    }
}

/// Puts the mark of a deed on it, and its name.
fn put_mark(config: &mut Config, action: &Action, resource: Option<&Resource>) {
    marks::put(config, action, resource);
    config.insert(marks::NAME.to_owned(), action.address.name.clone());
}

impl IncusRuntime {
    /// Those of these networks.
    fn forwards(&self, networks: &[Object]) -> Result<Vec<Found>, RuntimeError> {
        let mut all = Vec::new();
        if !self.dialect.has("network_forward") {
            return Ok(all);
        }
        let can = |network: &&Object| {
            network.managed && matches!(network.kind.as_str(), "bridge" | "ovn")
        };
        for network in networks.iter().filter(can) {
            let query = [("recursion", "1"), ("project", project(&network.project))];
            let path = at(&["networks", &network.name, "forwards"], &query);
            let of = at(&["networks", &network.name], &query[1..]);
            let is_there = || Ok(self.client.get::<Object>(&of)?.is_some());
            let forwards = self.list_again::<Forward>(&path, &is_there)?;
            let forwards = forwards.into_iter().flatten();
            all.extend(forwards.map(|forward| Found::of(network, forward)));
        }
        Ok(all)
    }

    /// All there are.
    pub(super) fn add_forwards(
        &self,
        networks: &[Object],
        out: &mut ObservedSet,
    ) -> Result<(), RuntimeError> {
        for found in self.forwards(networks)? {
            let address = found.address.clone();
            match found.item() {
                Ok(item) => out.items.push(item),
                Err(why) => out.unclear.push(Unclear {
                    address,
                    nameless: None,
                    why,
                }),
            }
        }
        Ok(())
    }

    /// The one of a project that is meant.
    fn find_forward(
        &self,
        in_project: &Address,
        is_it: impl Fn(&Found) -> bool,
    ) -> Result<Option<Found>, RuntimeError> {
        let query = [("recursion", "1"), ("project", in_project.project_name())];
        let networks: Vec<Object> = self.all_of(&at(&["networks"], &query))?;
        let found = self.forwards(&networks)?;
        Ok(found.into_iter().find(is_it))
    }

    pub(super) fn look_at_forward(&self, address: &Address) -> Result<Option<Item>, RuntimeError> {
        let found = self.find_forward(address, |one| one.address == *address)?;
        let item = found.map(Found::item).transpose();
        item.map_err(|why| super::observe::not_understood(&why))
    }

    pub(super) fn perform_on_forward(
        &self,
        action: &Action,
        resource: Option<&Resource>,
        context: &Context<'_>,
    ) -> Result<Effected, RuntimeError> {
        let of_uid = |one: &Found| {
            marks::mark(&one.forward.config).is_some_and(|mark| mark.uid == action.uid)
        };
        let ours = self.find_forward(&action.address, of_uid)?;
        match (&action.verb, ours) {
            (Verb::Create, None) => self.make_forward(action, resource, context),
            (Verb::Create | Verb::Update { .. } | Verb::Rename { .. }, Some(ours)) => {
                let Some(wanted) = resource.and_then(wanted) else {
                    return Err(super::wrong_kind(&action.address));
                };
                let texts = Texts(&self.secrets);
                self.change(&ours.path(), context, &mut |live: &Forward| {
                    let mut now = to_wire(wanted, &texts, Some(&live.config))?;
                    now.listen_address.clone_from(&live.listen_address);
                    put_mark(&mut now.config, action, resource);
                    Ok((now != *live).then(|| writing(&now)))
                })
            }
            (Verb::Replace, ours) => {
                if let Some(ours) = ours {
                    self.is_place_free(&ours, resource)?;
                    self.remove_forward(&ours, action, context)?;
                }
                self.make_forward(action, resource, context)
            }
            (Verb::Adopt, _) => {
                let found =
                    self.find_forward(&action.address, |one| one.address == action.address)?;
                let Some(found) = found else {
                    let why = "it is not there any more";
                    return Err(RuntimeError::new("adopt", Class::Conflict, why));
                };
                self.mark_forward(&found, context, &mut |config| {
                    put_mark(config, action, resource);
                })
            }
            (Verb::Forget, Some(ours)) => self.mark_forward(&ours, context, &mut marks::take_off),
            (Verb::Delete | Verb::Trash { .. }, Some(ours)) => {
                self.remove_forward(&ours, action, context)
            }
            (Verb::Forget | Verb::Delete | Verb::Trash { .. }, None) => Ok(Effected::NotNeeded),
            (verb, _) => Err(super::cannot(verb, &action.address)),
        }
    }

    /// What there is stays where its new place is somebody else's.
    fn is_place_free(&self, ours: &Found, resource: Option<&Resource>) -> Result<(), RuntimeError> {
        let Some(wanted) = resource.and_then(wanted) else {
            return Err(super::wrong_kind(&ours.address));
        };
        let outer = text(wanted.listen_address.as_ref());
        let place = path(&ours.address, &wanted.network, &outer);
        let there = match place == ours.path() {
            true => None,
            false => self
                .client
                .get::<Forward>(&place)
                .map_err(|error| error.doing("look at"))?,
        };
        match there {
            Some(_) => Err(taken(&Verb::Replace)),
            None => Ok(()),
        }
    }

    fn make_forward(
        &self,
        action: &Action,
        resource: Option<&Resource>,
        context: &Context<'_>,
    ) -> Result<Effected, RuntimeError> {
        let Some((resource, wanted)) = resource.and_then(|one| Some((one, wanted(one)?))) else {
            return Err(super::wrong_kind(&action.address));
        };
        let texts = Texts(&self.secrets);
        let mut forward = to_wire(wanted, &texts, None).map_err(unsaid)?;
        put_mark(&mut forward.config, action, Some(resource));
        let mut body = writing(&forward);
        body["listen_address"] = json!(forward.listen_address);
        let project = [("project", action.address.project_name())];
        let all = at(&["networks", &wanted.network, "forwards"], &project);
        let done = self
            .client
            .write("POST", &all, Some(&body), None, &waiting(context));
        let Err(error) = done else {
            return Ok(Effected::Done);
        };
        // Whatever it says: what counts is what is there.
        let place = path(&action.address, &wanted.network, &forward.listen_address);
        match self.client.get::<Forward>(&place) {
            Ok(Some(there)) if marks::mark(&there.config).as_ref() == Some(&action.mark) => {
                Ok(Effected::Done)
            }
            Ok(Some(_)) => Err(taken(&action.verb)),
            _ => Err(error.doing("create")),
        }
    }

    fn mark_forward(
        &self,
        found: &Found,
        context: &Context<'_>,
        put: &mut dyn FnMut(&mut Config),
    ) -> Result<Effected, RuntimeError> {
        self.change(&found.path(), context, &mut |live: &Forward| {
            let mut now = live.clone();
            put(&mut now.config);
            Ok((now != *live).then(|| writing(&now)))
        })
    }

    fn remove_forward(
        &self,
        found: &Found,
        action: &Action,
        context: &Context<'_>,
    ) -> Result<Effected, RuntimeError> {
        let done = self
            .client
            .write("DELETE", &found.path(), None, None, &waiting(context));
        match done {
            Err(error) if !ClientError::is_not_found(&error) => {
                Err(error.doing(action.verb.word()))
            }
            _ => Ok(Effected::Done),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_to_the_server_is_read_back() {
        let spec = json!({
            "description": "the shop", "network": "lan", "listenAddress": "192.0.2.1", "targetAddress": "10.0.0.5",
            "ports": [
                {"listenPort": "80,443", "targetAddress": "10.0.0.7"},
                {"protocol": "udp", "listenPort": "5000-5001", "targetPort": "6000-6001", "targetAddress": "10.0.0.6"},
            ],
        });
        let spec = Spec::deserialize(Kind::NetworkForward, &spec).expect("a spec");
        let Spec::NetworkForward(meant) = &spec else {
            panic!("{spec:?}");
        };
        let secrets = crate::native::SecretStore::new("/nowhere".as_ref(), "/nowhere".as_ref());
        let texts = Texts(&secrets);
        let live = Config::from(
            [
                ("user.theirs", "1"),
                (marks::NAME, "old"),
                (TARGET, "10.0.0.9"),
            ]
            .map(|(key, value)| (key.to_owned(), value.to_owned())),
        );
        let forward = to_wire(meant, &texts, Some(&live)).expect("a forward");
        assert_eq!(forward.config["user.theirs"], "1");
        assert!(!forward.config.contains_key(marks::NAME), "{forward:?}");
        let (back, unseen) = from_wire("lan", &forward).expect("a spec");
        assert_eq!((back, unseen), (spec, Vec::new()));
    }

    #[test]
    fn one_without_a_name_of_ours_is_called_after_its_place() {
        let network = Object {
            name: "lan".to_owned(),
            ..Object::default()
        };
        let named = |listen: &str, config: &[(&str, &str)]| {
            let config = config
                .iter()
                .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
            let forward = Forward {
                listen_address: listen.to_owned(),
                config: config.collect(),
                ..Forward::default()
            };
            Found::of(&network, forward).address.name
        };
        assert_eq!(named("192.0.2.1", &[]), "lan-192-0-2-1");
        // A name without a mark is none of ours.
        assert_eq!(
            named("2001:db8::1", &[(marks::NAME, "shop")]),
            "lan-2001-db8--1"
        );
        let mark = format!("keel:edge:{}", manifests::id::Uid::nobody(1));
        assert_eq!(
            named("192.0.2.1", &[(marks::NAME, "shop"), (marks::MARK, &mark)]),
            "shop"
        );
    }
}
