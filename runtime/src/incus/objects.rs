//! Projects, pools, networks, NetworkAcls and volumes: what they have in common is a description and keys.

use manifests::id::Address;
use manifests::kind::{Kind, Spec};
use manifests::observed::Unseen;
use manifests::pointer::Pointer;
use serde_json::{Map, Value, json};

use super::client::at;
use super::table::Absent::{Bool as B, Empty, Null, Text as T};
use super::table::{Codec, Keyless, Row, from_config, put, to_config};
use super::texts::Texts;
use super::typed::typed;
use super::wire::{Config, Object};
use super::{cluster, marks, project, rules};

const POOL: &[Row] = &[
    Row("source", "source", Codec::Text, Null),
    Row("size", "size", Codec::Text, Null),
    Row(
        "btrfs/mountOptions",
        "btrfs.mount_options",
        Codec::Text,
        Null,
    ),
    Row("zfs/cloneCopy", "zfs.clone_copy", Codec::Text, Null),
    Row("lvm/volumeGroup", "lvm.vg_name", Codec::Text, Null),
    Row("lvm/thinPool", "lvm.thinpool_name", Codec::Text, Null),
    Row(
        "lvm/thinPoolMetadataSize",
        "lvm.thinpool_metadata_size",
        Codec::Text,
        Null,
    ),
    Row("volumeDefaults/size", "volume.size", Codec::Text, Null),
    Row(
        "volumeDefaults/filesystem",
        "volume.block.filesystem",
        Codec::Text,
        Null,
    ),
    Row(
        "volumeDefaults/mountOptions",
        "volume.block.mount_options",
        Codec::Text,
        Null,
    ),
];
const NETWORK: &[Row] = &[
    Row("ipv4/address", "ipv4.address", Codec::Text, T("none")),
    Row("ipv4/nat", "ipv4.nat", Codec::Bool, B(false)),
    Row("ipv4/natAddress", "ipv4.nat.address", Codec::Text, Null),
    Row("ipv4/dhcp/enabled", "ipv4.dhcp", Codec::Bool, B(true)),
    Row("ipv4/dhcp/ranges", "ipv4.dhcp.ranges", Codec::List, Empty),
    Row(
        "ipv4/dhcp/expiry",
        "ipv4.dhcp.expiry",
        Codec::Lease,
        T("1h"),
    ),
    Row("ipv4/dhcp/gateway", "ipv4.dhcp.gateway", Codec::Text, Null),
    Row("ipv4/firewall", "ipv4.firewall", Codec::Bool, B(true)),
    Row("ipv4/routing", "ipv4.routing", Codec::Bool, B(true)),
    Row("ipv4/routes", "ipv4.routes", Codec::List, Empty),
    Row("ipv6/address", "ipv6.address", Codec::Text, T("none")),
    Row("ipv6/nat", "ipv6.nat", Codec::Bool, B(false)),
    Row("ipv6/natAddress", "ipv6.nat.address", Codec::Text, Null),
    Row("ipv6/dhcp/enabled", "ipv6.dhcp", Codec::Bool, B(true)),
    Row("ipv6/dhcp/ranges", "ipv6.dhcp.ranges", Codec::List, Empty),
    Row(
        "ipv6/dhcp/expiry",
        "ipv6.dhcp.expiry",
        Codec::Lease,
        T("1h"),
    ),
    Row("ipv6/stateful", "ipv6.dhcp.stateful", Codec::Bool, B(false)),
    Row("ipv6/firewall", "ipv6.firewall", Codec::Bool, B(true)),
    Row("ipv6/routing", "ipv6.routing", Codec::Bool, B(true)),
    Row("ipv6/routes", "ipv6.routes", Codec::List, Empty),
    Row("dns/domain", "dns.domain", Codec::Text, T("incus")),
    Row("dns/mode", "dns.mode", Codec::Text, T("managed")),
    Row("dns/nameservers", "dns.nameservers", Codec::List, Empty),
    Row("dns/search", "dns.search", Codec::List, Empty),
    Row("bridge/driver", "bridge.driver", Codec::Text, T("native")),
    Row("bridge/mtu", "bridge.mtu", Codec::Number, Null),
    Row("bridge/hwaddr", "bridge.hwaddr", Codec::Text, Null),
    Row(
        "bridge/externalInterfaces",
        "bridge.external_interfaces",
        Codec::List,
        Empty,
    ),
    Row(
        "bridge/multicastSnooping",
        "bridge.multicast_snooping",
        Codec::Bool,
        B(true),
    ),
];
/// What counts of networks where the server has rules for them.
const NETWORK_RULES: &[Row] = &[
    Row("acls", "security.acls", Codec::List, Empty),
    Row(
        "aclDefaults/ingress",
        "security.acls.default.ingress.action",
        Codec::Text,
        T("reject"),
    ),
    Row(
        "aclDefaults/egress",
        "security.acls.default.egress.action",
        Codec::Text,
        T("reject"),
    ),
    Row(
        "aclDefaults/logged",
        "security.acls.default.ingress.logged",
        Codec::Bool,
        B(false),
    ),
];
/// Of what is one word in manifests, the key that says it for the other direction.
const OTHER_WAY: (&str, &str) = (
    "security.acls.default.ingress.logged",
    "security.acls.default.egress.logged",
);
const VOLUME: &[Row] = &[
    Row("size", "size", Codec::Text, Null),
    Row("shared", "security.shared", Codec::Bool, B(false)),
    Row("shifted", "security.shifted", Codec::Bool, B(false)),
    Row("unmapped", "security.unmapped", Codec::Bool, B(false)),
    Row("filesystem", "block.filesystem", Codec::Text, Null),
    Row("mountOptions", "block.mount_options", Codec::Text, Null),
    Row(
        "snapshots/schedule",
        "snapshots.schedule",
        Codec::Text,
        Null,
    ),
    Row("snapshots/expiry", "snapshots.expiry", Codec::Expiry, Null),
    Row(
        "snapshots/pattern",
        "snapshots.pattern",
        Codec::Text,
        T("snap%d"),
    ),
];

/// Keys that the server fills in where nobody gives them: they count only where a manifest does.
const FILLED: &[&str] = &[
    "source",
    "size",
    "zfs.pool_name",
    "lvm.vg_name",
    "lvm.thinpool_name",
    "block.filesystem",
    "block.mount_options",
    "ipv4.address",
    "ipv6.address",
];

/// Whether things of a kind are such objects.
pub(super) const fn is_one(kind: Kind) -> bool {
    matches!(
        kind,
        Kind::Project | Kind::StoragePool | Kind::Network | Kind::NetworkAcl | Kind::Volume
    )
}

/// The tables of a kind.
fn rows(kind: Kind) -> &'static [&'static [Row]] {
    match kind {
        Kind::StoragePool => &[POOL],
        Kind::Network => &[NETWORK, NETWORK_RULES],
        Kind::Volume => &[VOLUME],
        Kind::Project => &[project::FEATURES, project::LIMITS, project::RESTRICTIONS],
        _ => &[],
    }
}

/// Keys that say the same as another one, which has a field.
fn twins(kind: Kind) -> &'static [(&'static str, &'static str)] {
    match kind {
        Kind::Network => &[OTHER_WAY],
        Kind::Project => project::TWINS,
        _ => &[],
    }
}

/// Where an object is.
pub(super) fn path(address: &Address) -> String {
    let project = [("project", address.project_name())];
    match address.kind {
        Kind::StoragePool => at(&["storage-pools", &address.name], &[]),
        Kind::Network => at(&["networks", &address.name], &project),
        Kind::NetworkAcl => at(&["network-acls", &address.name], &project),
        Kind::Project => at(&["projects", &address.name], &[]),
        _ => {
            let pool = address.pool.as_deref().unwrap_or_default();
            at(
                &["storage-pools", pool, "volumes", "custom", &address.name],
                &project,
            )
        }
    }
}

/// The keys of an object as its manifest says; `live` are those that it has, where it is there.
pub(super) fn to_wire(
    spec: &Spec,
    texts: &Texts<'_>,
    live: Option<&Config>,
) -> Result<Config, String> {
    let kind = spec.kind();
    let single = cluster::for_members(spec);
    let spec = spec.to_value();
    let mut config = Config::new();
    for rows in rows(kind) {
        to_config(rows, &spec, &mut config)?;
    }
    for (one, other) in twins(kind) {
        if let Some(value) = config.get(*one).cloned() {
            config.insert((*other).to_owned(), value);
        }
    }
    if kind == Kind::Project {
        project::to_wire(&spec, &mut config)?;
    }
    if kind == Kind::StoragePool && live.is_none() && spec["wipe"] == true {
        config.insert("source.wipe".to_owned(), "true".to_owned());
    }
    let more = spec["config"].as_object().into_iter().flatten();
    for (key, value) in more {
        config.insert(key.clone(), texts.reveal(value, key, &mut Map::new())?);
    }
    if kind == Kind::Network {
        // No key at all would be `auto` to one that is made, and none to one that is there.
        for key in ["ipv4.address", "ipv6.address"] {
            let field = format!("/{}", key.replace('.', "/"));
            let address = spec.pointer(&field).and_then(Value::as_str);
            config.insert(key.to_owned(), address.unwrap_or("auto").to_owned());
        }
    }
    // Whether it is made anew is asked once.
    let of_members = cluster::of_members(kind).iter().copied();
    let of_members = of_members.filter(|key| !FILLED.contains(key) && *key != "source.wipe");
    let filled = FILLED.iter().copied();
    let asked: Vec<&str> = filled
        .chain(of_members)
        .filter(|key| config.get(*key).is_some_and(|value| value != "auto"))
        .collect();
    if !asked.is_empty() {
        config.insert(marks::ASKED.to_owned(), asked.join(","));
    }
    if let Some(mark) = cluster::mark_of(&single) {
        config.insert(marks::MEMBERS.to_owned(), mark);
    }
    let Some(live) = live else { return Ok(config) };
    // `auto` would be another address each time, and what the server filled in stays.
    for key in FILLED {
        let is_open = config.get(*key).is_none_or(|value| value == "auto");
        if let Some(value) = live.get(*key).filter(|_| is_open) {
            config.insert((*key).to_owned(), value.clone());
        }
    }
    let theirs = live.iter().filter(|(key, _)| is_of_others(key));
    config.extend(theirs.map(|(key, value)| (key.clone(), value.clone())));
    Ok(config)
}

/// Keys that no manifest speaks of.
pub(super) fn is_of_others(key: &str) -> bool {
    key.starts_with("volatile.") || (key.starts_with("user.") && !key.starts_with(marks::PREFIX))
}

/// An object as manifests have it.
pub(super) fn from_wire(
    kind: Kind,
    object: &Object,
    pool: Option<&str>,
) -> Result<(Spec, Vec<Unseen>), String> {
    let mut unseen = Vec::new();
    let mut spec = json!({});
    put(
        &mut spec,
        "description",
        Value::from(object.description.as_str()),
    );
    match kind {
        Kind::StoragePool => put(&mut spec, "driver", Value::from(object.driver.as_str())),
        Kind::Network => put(&mut spec, "type", Value::from(object.kind.as_str())),
        Kind::Project => {}
        Kind::NetworkAcl => {
            for (field, rules) in [("ingress", &object.ingress), ("egress", &object.egress)] {
                let at = Pointer::new("/spec").field(field);
                put(&mut spec, field, rules::from_wire(rules, &at, &mut unseen));
            }
        }
        _ => {
            put(&mut spec, "pool", Value::from(pool.unwrap_or_default()));
            put(
                &mut spec,
                "contentType",
                Value::from(object.content_type.as_str()),
            );
        }
    }
    let mut config = object.config.clone();
    config
        .retain(|key, _| !FILLED.contains(&key.as_str()) || marks::was_asked(&object.config, key));
    // A twin that says something else is told as the key that it is.
    for (one, other) in twins(kind) {
        if config.get(*one) == config.get(*other) {
            config.remove(*other);
        }
    }
    for rows in rows(kind) {
        let at = Pointer::new("/spec");
        from_config(rows, &config, Keyless::Meant, &at, &mut spec, &mut unseen);
    }
    if kind == Kind::Project {
        project::from_wire(&mut config, &mut spec);
    }
    if kind == Kind::Network {
        for key in ["ipv4.address", "ipv6.address"] {
            let is_there = object
                .config
                .get(key)
                .is_some_and(|address| address != "none");
            if is_there && !marks::was_asked(&object.config, key) {
                put(&mut spec, &key.replace('.', "/"), Value::from("auto"));
            }
        }
    }
    let rest: Map<String, Value> = config
        .iter()
        .filter(|(key, _)| {
            !key.starts_with("user.")
                && !key.starts_with("volatile.")
                && !FILLED.contains(&key.as_str())
                && !rows(kind)
                    .iter()
                    .copied()
                    .flatten()
                    .any(|Row(_, known, ..)| known == key)
        })
        .map(|(key, value)| (key.clone(), Value::from(value.as_str())))
        .collect();
    put(&mut spec, "config", Value::Object(rest));
    if !object.members.is_empty() {
        put(&mut spec, "members", cluster::to_members(&object.members));
    }
    let spec = typed(kind, spec, &mut unseen)?;
    Ok((spec, unseen))
}

/// The body with which an object is made.
pub(super) fn creating(address: &Address, spec: &Spec, config: &Config) -> Result<Value, String> {
    let value = spec.to_value();
    let mut body = json!({
        "name": address.name,
        "description": value["description"],
        "config": config,
    });
    match spec {
        Spec::StoragePool(pool) => body["driver"] = json!(pool.driver.to_string()),
        Spec::Network(_) => body["type"] = value["type"].clone(),
        Spec::Project(_) => {}
        Spec::NetworkAcl(_) => {
            body["ingress"] = json!(rules::to_wire(&value["ingress"])?);
            body["egress"] = json!(rules::to_wire(&value["egress"])?);
        }
        _ => {
            body["type"] = json!("custom");
            body["content_type"] = value["contentType"].clone();
        }
    }
    Ok(body)
}

/// What becomes of an object that is there: as its manifest says, but for what no manifest speaks of.
pub(super) fn changed(live: &Object, spec: &Spec, texts: &Texts<'_>) -> Result<Object, String> {
    let value = spec.to_value();
    let mut now = live.clone();
    now.config = to_wire(spec, texts, Some(&live.config))?;
    now.description = value["description"].as_str().unwrap_or_default().to_owned();
    if spec.kind() == Kind::NetworkAcl {
        now.ingress = rules::to_wire(&value["ingress"])?;
        now.egress = rules::to_wire(&value["egress"])?;
    }
    Ok(now)
}

/// The body with which all of an object is written.
pub(super) fn writing(kind: Kind, object: &Object) -> Value {
    let mut body = json!({"description": object.description, "config": object.config});
    if kind == Kind::NetworkAcl {
        body["ingress"] = json!(object.ingress);
        body["egress"] = json!(object.egress);
    }
    body
}
