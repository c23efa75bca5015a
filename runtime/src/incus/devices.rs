//! Devices of instances in the words of manifests and in those of the server, a table a type.

use manifests::devices::{Device, Nic};
use manifests::observed::Unseen;
use manifests::pointer::Pointer;
use serde_json::{Map, Value, json};

use super::table::Absent::{Bool as B, Empty, Null, Number as N, Text as T};
use super::table::{Codec, Keyless, Row, from_config, put, to_config};
use super::wire::Config;

const DISK: &[Row] = &[
    Row("pool", "pool", Codec::Text, Null),
    Row("source", "source", Codec::Text, Null),
    Row("path", "path", Codec::Text, Null),
    Row("size", "size", Codec::Text, Null),
    Row("readonly", "readonly", Codec::Bool, B(false)),
    Row("shift", "shift", Codec::Bool, B(false)),
    Row("required", "required", Codec::Bool, B(true)),
    Row("recursive", "recursive", Codec::Bool, B(false)),
    Row("propagation", "propagation", Codec::Text, T("private")),
    Row("limits/read", "limits.read", Codec::Text, Null),
    Row("limits/write", "limits.write", Codec::Text, Null),
    Row("limits/max", "limits.max", Codec::Text, Null),
    Row("ioBus", "io.bus", Codec::Text, Null),
    Row("ioCache", "io.cache", Codec::Text, Null),
    Row("bootPriority", "boot.priority", Codec::Number, Null),
];
const NIC: &[Row] = &[
    Row("network", "network", Codec::Text, Null),
    Row("nicType", "nictype", Codec::Text, Null),
    Row("parent", "parent", Codec::Text, Null),
    Row("hwaddr", "hwaddr", Codec::Text, Null),
    Row("mtu", "mtu", Codec::Number, Null),
    Row("vlan", "vlan", Codec::Number, Null),
    Row("limits/ingress", "limits.ingress", Codec::Text, Null),
    Row("limits/egress", "limits.egress", Codec::Text, Null),
    Row("limits/max", "limits.max", Codec::Text, Null),
    Row("limits/priority", "limits.priority", Codec::Number, Null),
    Row("isolated", "security.port_isolation", Codec::Bool, B(false)),
    Row("acls", "security.acls", Codec::List, Empty),
    Row("connected", "connected", Codec::Bool, B(true)),
];
/// Only interfaces on a bridge have these; elsewhere they are as by default.
const BRIDGED: &[Row] = &[
    Row(
        "filtering/mac",
        "security.mac_filtering",
        Codec::Bool,
        B(false),
    ),
    Row(
        "filtering/ipv4",
        "security.ipv4_filtering",
        Codec::Bool,
        B(false),
    ),
    Row(
        "filtering/ipv6",
        "security.ipv6_filtering",
        Codec::Bool,
        B(false),
    ),
];
/// Of `ipv4` and `ipv6`, which are short or in full.
const FAMILY: &[(&str, &str)] = &[
    ("gateway", "gateway"),
    ("hostAddress", "host_address"),
    ("hostTables", "host_tables"),
];
const PROXY: &[Row] = &[
    Row("listen", "listen", Codec::Text, Null),
    Row("connect", "connect", Codec::Text, Null),
    Row(
        "bind",
        "bind",
        // Older words of the server for the same.
        Codec::Words(&[
            ("instance", "instance"),
            ("instance", "guest"),
            ("instance", "container"),
        ]),
        T("host"),
    ),
    Row("nat", "nat", Codec::Bool, B(false)),
    Row("proxyProtocol", "proxy_protocol", Codec::Bool, B(false)),
    Row("uid", "uid", Codec::Number, N(0)),
    Row("gid", "gid", Codec::Number, N(0)),
    Row("mode", "mode", Codec::Mode, T("0644")),
];
const UNIX: &[Row] = &[
    Row("source", "source", Codec::Text, Null),
    Row("path", "path", Codec::Text, Null),
    Row("major", "major", Codec::Number, Null),
    Row("minor", "minor", Codec::Number, Null),
    Row("uid", "uid", Codec::Number, N(0)),
    Row("gid", "gid", Codec::Number, N(0)),
    Row("mode", "mode", Codec::Mode, T("0660")),
    Row("required", "required", Codec::Bool, B(true)),
];
const USB: &[Row] = &[
    Row("vendorId", "vendorid", Codec::Text, Null),
    Row("productId", "productid", Codec::Text, Null),
    Row("serial", "serial", Codec::Text, Null),
    Row("busnum", "busnum", Codec::Number, Null),
    Row("devnum", "devnum", Codec::Number, Null),
    Row("required", "required", Codec::Bool, B(false)),
    Row("uid", "uid", Codec::Number, N(0)),
    Row("gid", "gid", Codec::Number, N(0)),
    Row("mode", "mode", Codec::Mode, T("0660")),
];
const GPU: &[Row] = &[
    Row("gpuType", "gputype", Codec::Text, T("physical")),
    Row("id", "id", Codec::Number, Null),
    Row("pci", "pci", Codec::Text, Null),
    Row("vendorId", "vendorid", Codec::Text, Null),
    Row("productId", "productid", Codec::Text, Null),
    Row("mdev", "mdev", Codec::Text, Null),
    Row("uid", "uid", Codec::Number, N(0)),
    Row("gid", "gid", Codec::Number, N(0)),
    Row("mode", "mode", Codec::Mode, T("0660")),
];
const TPM: &[Row] = &[
    Row("path", "path", Codec::Text, Null),
    Row("pathrm", "pathrm", Codec::Text, Null),
];
const PCI: &[Row] = &[Row("address", "address", Codec::Text, Null)];

fn rows(word: &str) -> Option<&'static [Row]> {
    Some(match word {
        "disk" => DISK,
        "nic" => NIC,
        "proxy" => PROXY,
        "unix-char" | "unix-block" => UNIX,
        "usb" => USB,
        "gpu" => GPU,
        "tpm" => TPM,
        "pci" => PCI,
        "none" => &[],
        _ => return None,
    })
}

/// A device as the server has it. `on_bridge` tells whether an interface is on a bridge.
pub(super) fn to_wire(
    name: &str,
    device: &Device,
    on_bridge: &dyn Fn(&Nic) -> bool,
) -> Result<Config, String> {
    let word = device.word();
    let spec = manifests::change::shown(device);
    let mut out = Config::from([("type".to_owned(), word.to_owned())]);
    let of = |why: String| format!("devices.{name}.{why}");
    to_config(rows(word).unwrap_or_default(), &spec, &mut out).map_err(of)?;
    let Some(nic) = device.as_nic() else {
        return Ok(out);
    };
    // Without it the server counts interfaces by itself.
    out.insert("name".to_owned(), nic.interface(name).to_owned());
    if on_bridge(nic) {
        to_config(BRIDGED, &spec, &mut out).map_err(of)?;
    }
    for family in ["ipv4", "ipv6"] {
        let side = match &spec[family] {
            Value::String(address) => json!({"address": address}),
            other => other.clone(),
        };
        if let Some(address) = side["address"].as_str().filter(|text| *text != "dynamic") {
            out.insert(format!("{family}.address"), address.to_owned());
        }
        for (field, key) in FAMILY {
            let codec = if side[*field].is_array() {
                Codec::List
            } else {
                Codec::Text
            };
            if let Some(value) = codec.encode(&side[*field]).map_err(of)? {
                out.insert(format!("{family}.{key}"), value);
            }
        }
    }
    let routes: Vec<String> = nic.routes.iter().map(ToString::to_string).collect();
    for (family, is_six) in [("ipv4", false), ("ipv6", true)] {
        let own: Vec<&str> = routes
            .iter()
            .map(String::as_str)
            .filter(|route| route.contains(':') == is_six)
            .collect();
        if !own.is_empty() {
            out.insert(format!("{family}.routes"), own.join(","));
        }
    }
    Ok(out)
}

/// A device as manifests have it.
pub(super) fn from_wire(
    name: &str,
    config: &Config,
    is_bridge: &dyn Fn(&str) -> bool,
    at: &Pointer,
    unseen: &mut Vec<Unseen>,
) -> Result<Value, String> {
    let word = config.get("type").map_or("", String::as_str);
    let rows = rows(word).ok_or_else(|| format!("keel has no devices of type `{word}`"))?;
    let mut out = json!({"type": word});
    from_config(rows, config, Keyless::Meant, at, &mut out, unseen);
    if word != "nic" {
        return Ok(out);
    }
    let get = |key: &str| {
        config
            .get(key)
            .map(String::as_str)
            .filter(|text| !text.is_empty())
    };
    if let Some(interface) = get("name").filter(|interface| *interface != name) {
        put(&mut out, "name", Value::from(interface));
    }
    let is_bridged = match get("network") {
        Some(network) => is_bridge(network),
        None => get("nictype").is_none_or(|kind| kind == "bridged"),
    };
    if is_bridged {
        from_config(BRIDGED, config, Keyless::Meant, at, &mut out, unseen);
    }
    let mut routes = Vec::new();
    for family in ["ipv4", "ipv6"] {
        let mut side = Map::new();
        if let Some(address) = get(&format!("{family}.address")) {
            side.insert("address".to_owned(), Value::from(address));
        }
        for (field, key) in FAMILY {
            if let Some(text) = get(&format!("{family}.{key}")) {
                let value = match *field {
                    "hostTables" => text
                        .split(',')
                        .filter_map(|part| part.trim().parse::<u32>().ok())
                        .map(Value::from)
                        .collect(),
                    _ => Value::from(text),
                };
                side.insert((*field).to_owned(), value);
            }
        }
        if !side.is_empty() {
            put(&mut out, family, Value::Object(side));
        }
        let more = get(&format!("{family}.routes")).unwrap_or_default();
        routes.extend(
            more.split(',')
                .map(str::trim)
                .filter(|route| !route.is_empty())
                .map(str::to_owned),
        );
    }
    put(&mut out, "routes", Value::from(routes));
    Ok(out)
}

/// The keys of a device that a manifest has no words for: they stay as they are.
pub(super) fn foreign_keys(config: &Config) -> Config {
    let word = config.get("type").map_or("", String::as_str);
    let known = |key: &String| {
        key == "type"
            || rows(word)
                .unwrap_or_default()
                .iter()
                .any(|Row(_, known, ..)| known == key)
            || word == "nic"
                && (key == "name"
                    || BRIDGED.iter().any(|Row(_, known, ..)| known == key)
                    || [
                        "address",
                        "gateway",
                        "host_address",
                        "host_tables",
                        "routes",
                    ]
                    .iter()
                    .any(|end| *key == format!("ipv4.{end}") || *key == format!("ipv6.{end}")))
    };
    let others = config.iter().filter(|(key, _)| !known(key));
    others
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect()
}

/// Whether manifests have no words for a device at all.
pub(super) fn is_foreign(config: &Config) -> bool {
    rows(config.get("type").map_or("", String::as_str)).is_none()
}
