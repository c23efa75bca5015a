//! Clusters: pools and networks are made on each member first and then as a whole; some of their keys are of each member by
//! itself, and no list has those.

use std::collections::BTreeMap;

use manifests::id::Address;
use manifests::kind::{Kind, Spec};
use serde::Deserialize;
use serde_json::{Value, json};

use super::IncusRuntime;
use super::client::{ClientError, at};
use super::images::waiting;
use super::marks;
use super::objects;
use super::wire::{Config, Object};
use crate::error::{Class, RuntimeError};
use crate::runtime::Context;

/// A member, as `/1.0/cluster/members` has it.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct Member {
    server_name: String,
    status: String,
}

/// Keys that each member has for itself, of pools and networks.
pub(super) const fn of_members(kind: Kind) -> &'static [&'static str] {
    match kind {
        Kind::StoragePool => &[
            "source",
            "source.wipe",
            "size",
            "zfs.pool_name",
            "lvm.vg_name",
            "lvm.thinpool_name",
        ],
        Kind::Network => &["bridge.external_interfaces", "parent"],
        _ => &[],
    }
}

/// Those that count when a thing is made: the server takes no other value later.
const ONCE: &[&str] = &[
    "source",
    "source.wipe",
    "zfs.pool_name",
    "lvm.vg_name",
    "lvm.thinpool_name",
];

/// A key as somebody gave it: the server writes what became of a `source` in its place.
fn given<'a>(config: &'a Config, key: &str) -> Option<&'a String> {
    let initial = config.get("volatile.initial_source");
    let initial = initial.filter(|value| key == "source" && !value.is_empty());
    initial.or_else(|| config.get(key))
}

/// What `members` of a manifest says, by the keys of the server.
const FIELDS: &[(&str, &str)] = &[
    ("source", "source"),
    ("size", "size"),
    ("parent", "parent"),
    ("externalInterfaces", "bridge.external_interfaces"),
];

/// Takes the keys of members out.
pub(super) fn split(kind: Kind, config: &mut Config) -> Config {
    let of_members = of_members(kind);
    let own = |key: &String| of_members.contains(&key.as_str());
    let taken = config.extract_if(.., |key, _| own(key));
    taken.collect()
}

/// What a manifest says for single members: member, then key.
pub(super) fn for_members(spec: &Spec) -> BTreeMap<String, Config> {
    let spec = spec.to_value();
    let members = spec["members"].as_object().into_iter().flatten();
    members
        .map(|(member, fields)| {
            let said = FIELDS.iter().filter_map(|(field, key)| {
                let text = match &fields[*field] {
                    Value::String(text) => text.clone(),
                    Value::Array(all) if !all.is_empty() => {
                        let all: Vec<&str> = all.iter().filter_map(Value::as_str).collect();
                        all.join(",")
                    }
                    _ => return None,
                };
                Some(((*key).to_owned(), text))
            });
            (member.clone(), said.collect())
        })
        .collect()
}

/// The reverse of [`for_members`]: `members` of a manifest.
pub(super) fn to_members(all: &BTreeMap<String, Config>) -> Value {
    let mut members = json!({});
    for (member, config) in all {
        for (field, key) in FIELDS {
            let Some(text) = config.get(*key) else {
                continue;
            };
            members[member][*field] = match *field {
                "externalInterfaces" => text.split(',').map(str::trim).collect(),
                _ => Value::from(text.as_str()),
            };
        }
    }
    members
}

/// Which keys a manifest gives for which member, as the mark has it: `n1:size,n2:size`.
pub(super) fn mark_of(all: &BTreeMap<String, Config>) -> Option<String> {
    let words: Vec<String> = all
        .iter()
        .flat_map(|(member, config)| config.keys().map(move |key| format!("{member}:{key}")))
        .collect();
    (!words.is_empty()).then(|| words.join(","))
}

/// What one member shall have.
fn on_member(common: &Config, single: &BTreeMap<String, Config>, member: &str) -> Config {
    let mut own = common.clone();
    own.extend(single.get(member).cloned().unwrap_or_default());
    own
}

/// What most members have; of equally many the first.
fn shared(values: &[(String, String)]) -> Option<&str> {
    let count = |value: &str| values.iter().filter(|(_, other)| other == value).count();
    let mut best: Option<(&str, usize)> = None;
    for (_, value) in values {
        let many = count(value);
        if best.is_none_or(|(_, most)| many > most) {
            best = Some((value, many));
        }
    }
    best.map(|(value, _)| value)
}

impl IncusRuntime {
    fn members(&self) -> Result<Vec<Member>, ClientError> {
        self.client
            .list(&at(&["cluster", "members"], &[("recursion", "1")]))
    }

    /// Adds to a pool or network what its members have, as far as a manifest speaks of it. Answers which members could not
    /// be asked.
    pub(super) fn with_members(
        &self,
        address: &Address,
        object: &mut Object,
    ) -> Result<Vec<String>, ClientError> {
        let asked: Vec<&str> = of_members(address.kind)
            .iter()
            .copied()
            .filter(|key| marks::was_asked(&object.config, key))
            .collect();
        let singly = object.config.get(marks::MEMBERS).cloned();
        if !self.dialect.clustered
            || marks::mark(&object.config).is_none()
            || (asked.is_empty() && singly.is_none())
        {
            return Ok(Vec::new());
        }
        let singly: Vec<(&str, &str)> = singly
            .iter()
            .flat_map(|words| words.split(','))
            .filter_map(|word| word.split_once(':'))
            .collect();
        let mut silent = Vec::new();
        let mut values: BTreeMap<&str, Vec<(String, String)>> = BTreeMap::new();
        for member in self.members()? {
            let name = member.server_name;
            let path = objects::path(address);
            let path = targeted(&path, &name);
            let there = match member.status.as_str() {
                "Offline" => None,
                _ => match self.client.get::<Object>(&path) {
                    // It went just now: what it has is not known, and that is all.
                    Err(ClientError::Refused {
                        status: 500..=599, ..
                    }) => None,
                    there => there?,
                },
            };
            let Some(there) = there else {
                silent.push(name);
                continue;
            };
            for (of, key) in &singly {
                if let Some(value) = given(&there.config, key).filter(|_| *of == name) {
                    let own = object.members.entry(name.clone()).or_default();
                    own.insert((*key).to_owned(), value.clone());
                }
            }
            for key in &asked {
                if !singly.contains(&(name.as_str(), *key)) {
                    let value = given(&there.config, key).cloned().unwrap_or_default();
                    values.entry(key).or_default().push((name.clone(), value));
                }
            }
        }
        for (key, values) in values {
            let Some(most) = shared(&values).filter(|value| !value.is_empty()) else {
                continue;
            };
            object.config.insert(key.to_owned(), most.to_owned());
            // A member that somebody gave something else is told as one that has its own.
            for (member, value) in values.iter().filter(|(_, value)| value != most) {
                let own = object.members.entry(member.clone()).or_default();
                own.insert(key.to_owned(), value.clone());
            }
        }
        Ok(silent)
    }

    /// Makes a pool or network on each member, so that it can be made as a whole. The server does not go on with what was
    /// begun there before and bears no mark: somebody has to remove that first.
    pub(super) fn make_on_members(
        &self,
        address: &Address,
        spec: &Spec,
        body: &mut Value,
        context: &Context<'_>,
    ) -> Result<(), RuntimeError> {
        let failed = |error: ClientError| error.doing("create on each member");
        let mut config: Config = serde_json::from_value(body["config"].take()).unwrap_or_default();
        let common = split(address.kind, &mut config);
        let single = for_members(spec);
        let members = self.members().map_err(failed)?;
        let known = |name: &String| members.iter().any(|member| member.server_name == *name);
        if let Some(unknown) = single.keys().find(|name| !known(name)) {
            let names: Vec<&str> = members.iter().map(|one| one.server_name.as_str()).collect();
            let why = format!(
                "`members` names {unknown}, and the cluster has {}",
                names.join(", ")
            );
            return Err(RuntimeError::new("create", Class::NeedsOperator, why));
        }
        for member in &members {
            let name = &member.server_name;
            let mut own = body.clone();
            own["config"] = json!(on_member(&common, &single, name));
            let path = targeted(&super::write::collection(address), name);
            let done = self
                .client
                .write("POST", &path, Some(&own), None, &waiting(context));
            if let Err(error) = done {
                return Err(error.doing(&format!("create on member {name}")));
            }
        }
        body["config"] = json!(config);
        Ok(())
    }

    /// Gives each member what it shall have of a pool or network that is there.
    pub(super) fn change_on_members(
        &self,
        address: &Address,
        spec: &Spec,
        mut config: Config,
        context: &Context<'_>,
    ) -> Result<bool, RuntimeError> {
        let common = split(address.kind, &mut config);
        let single = for_members(spec);
        if common.is_empty() && single.is_empty() {
            return Ok(false);
        }
        let mut changed = false;
        for member in self
            .members()
            .map_err(|error| error.doing("list the members"))?
        {
            let name = member.server_name;
            let mut wanted = on_member(&common, &single, &name);
            wanted.retain(|key, _| !ONCE.contains(&key.as_str()));
            let path = targeted(&objects::path(address), &name);
            let done = self.change(&path, context, &mut |object: &Object| {
                let differs = |(key, value): (&String, &String)| {
                    (object.config.get(key) != Some(value)).then(|| (key.clone(), value.clone()))
                };
                let differing: Config = wanted.iter().filter_map(differs).collect();
                if differing.is_empty() {
                    return Ok(None);
                }
                // All keys, of which a member takes other values for its own alone.
                let mut all = object.config.clone();
                all.extend(differing);
                Ok(Some(
                    json!({"description": object.description, "config": all}),
                ))
            })?;
            changed |= done == crate::runtime::Effected::Done;
        }
        Ok(changed)
    }
}

fn targeted(path: &str, member: &str) -> String {
    let sign = if path.contains('?') { '&' } else { '?' };
    format!("{path}{sign}target={member}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_manifest_says_of_members_is_read_back() {
        let spec = json!({
            "driver": "btrfs",
            "size": "2GiB",
            "members": {"n1": {"source": "/dev/sdb"}, "n2": {"size": "3GiB", "source": "/dev/sdc"}},
        });
        let spec = Spec::deserialize(Kind::StoragePool, &spec).expect("a pool");
        let single = for_members(&spec);
        assert_eq!(to_members(&single), spec.to_value()["members"]);
        let mark = mark_of(&single).expect("a mark");
        assert_eq!(mark, "n1:source,n2:size,n2:source");
        let mut config = Config::from([
            ("size".to_owned(), "2GiB".to_owned()),
            ("user.mine".to_owned(), "x".to_owned()),
        ]);
        let common = split(Kind::StoragePool, &mut config);
        assert_eq!(config.keys().collect::<Vec<_>>(), ["user.mine"]);
        let own = |member: &str| on_member(&common, &single, member)["size"].clone();
        assert_eq!(
            (own("n1"), own("n2")),
            ("2GiB".to_owned(), "3GiB".to_owned())
        );
    }

    #[test]
    fn what_most_members_have_is_what_the_others_differ_from() {
        let value = |all: &[&str]| {
            let all: Vec<(String, String)> = all
                .iter()
                .map(|one| ("n".to_owned(), (*one).to_owned()))
                .collect();
            shared(&all).map(str::to_owned)
        };
        for all in [
            ["1GiB", "2GiB", "2GiB"],
            ["2GiB", "2GiB", "1GiB"],
            ["2GiB", "2GiB", "2GiB"],
        ] {
            assert_eq!(value(&all).as_deref(), Some("2GiB"));
        }
        assert_eq!(value(&["1GiB", "2GiB"]).as_deref(), Some("1GiB"));
        assert_eq!(value(&[]), None);
    }
}
