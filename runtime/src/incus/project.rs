//! Projects: what they have for themselves, their limits and restrictions, in the keys of the server.

use manifests::scalar::byte_size::ByteSize;
use serde_json::Value;

use super::table::Absent::{self, Bool as B, Empty, Null, Text as T};
use super::table::{Codec, Row, put};
use super::wire::Config;

/// Keys of what pools may hold begin with it.
const POOLS: &str = "limits.disk.pool.";

/// What it has for itself.
pub(super) const FEATURES: &[Row] = &[
    Row("features/images", "features.images", Codec::Bool, B(false)),
    Row(
        "features/profiles",
        "features.profiles",
        Codec::Bool,
        B(false),
    ),
    Row(
        "features/volumes",
        "features.storage.volumes",
        Codec::Bool,
        B(false),
    ),
    Row(
        "features/buckets",
        "features.storage.buckets",
        Codec::Bool,
        B(false),
    ),
    Row(
        "features/networks",
        "features.networks",
        Codec::Bool,
        B(false),
    ),
    Row(
        "features/networkZones",
        "features.networks.zones",
        Codec::Bool,
        B(false),
    ),
];

/// How much all of it may be and use.
pub(super) const LIMITS: &[Row] = &[
    Row("limits/instances", "limits.instances", Codec::Number, Null),
    Row(
        "limits/containers",
        "limits.containers",
        Codec::Number,
        Null,
    ),
    Row(
        "limits/virtualMachines",
        "limits.virtual-machines",
        Codec::Number,
        Null,
    ),
    Row("limits/cpu", "limits.cpu", Codec::Number, Null),
    Row("limits/memory", "limits.memory", Codec::Text, Null),
    Row("limits/disk", "limits.disk", Codec::Text, Null),
    Row("limits/processes", "limits.processes", Codec::Number, Null),
    Row("limits/networks", "limits.networks", Codec::Number, Null),
];

const BLOCK: Absent = T("block");
const UNPRIVILEGED: Codec = Codec::Words(&[("block", "unprivileged")]);

/// What its instances may not do.
pub(super) const RESTRICTIONS: &[Row] = &[
    Row("restrictions/enabled", "restricted", Codec::Bool, B(false)),
    Row(
        "restrictions/privileged",
        "restricted.containers.privilege",
        UNPRIVILEGED,
        BLOCK,
    ),
    Row(
        "restrictions/nesting",
        "restricted.containers.nesting",
        Codec::Text,
        BLOCK,
    ),
    Row(
        "restrictions/syscallInterception",
        "restricted.containers.interception",
        Codec::Text,
        BLOCK,
    ),
    Row(
        "restrictions/lowLevel",
        "restricted.containers.lowlevel",
        Codec::Text,
        BLOCK,
    ),
    Row(
        "restrictions/diskPaths",
        "restricted.devices.disk.paths",
        Codec::List,
        Empty,
    ),
    Row(
        "restrictions/networkAccess",
        "restricted.networks.access",
        Codec::List,
        Empty,
    ),
    Row(
        "restrictions/snapshots",
        "restricted.snapshots",
        Codec::Text,
        BLOCK,
    ),
    Row(
        "restrictions/backups",
        "restricted.backups",
        Codec::Text,
        BLOCK,
    ),
    Row(
        "restrictions/idmap",
        "restricted.idmap.uid",
        Codec::List,
        Empty,
    ),
    Row(
        "restrictions/imageServers",
        "restricted.images.servers",
        Codec::List,
        Empty,
    ),
    Row(
        "restrictions/devices/disk",
        "restricted.devices.disk",
        Codec::Text,
        T("managed"),
    ),
    Row(
        "restrictions/devices/nic",
        "restricted.devices.nic",
        Codec::Text,
        T("managed"),
    ),
    Row(
        "restrictions/devices/proxy",
        "restricted.devices.proxy",
        Codec::Text,
        BLOCK,
    ),
    Row(
        "restrictions/devices/unixChar",
        "restricted.devices.unix-char",
        Codec::Text,
        BLOCK,
    ),
    Row(
        "restrictions/devices/unixBlock",
        "restricted.devices.unix-block",
        Codec::Text,
        BLOCK,
    ),
    Row(
        "restrictions/devices/usb",
        "restricted.devices.usb",
        Codec::Text,
        BLOCK,
    ),
    Row(
        "restrictions/devices/gpu",
        "restricted.devices.gpu",
        Codec::Text,
        BLOCK,
    ),
    Row(
        "restrictions/devices/pci",
        "restricted.devices.pci",
        Codec::Text,
        BLOCK,
    ),
];

/// What is one word in manifests and two keys on the server.
pub(super) const TWINS: &[(&str, &str)] = &[
    (
        "restricted.containers.lowlevel",
        "restricted.virtual-machines.lowlevel",
    ),
    ("restricted.idmap.uid", "restricted.idmap.gid"),
];

/// What the tables do not say.
pub(super) fn to_wire(spec: &Value, config: &mut Config) -> Result<(), String> {
    // Of what there is no key a project that is there has nothing, and one that is made may have it.
    for Row(path, key, ..) in FEATURES {
        let is_on = spec.pointer(&format!("/{path}")) == Some(&Value::Bool(true));
        config.insert((*key).to_owned(), is_on.to_string());
    }
    let pools = spec["limits"]["diskPools"].as_object();
    for (pool, size) in pools.into_iter().flatten() {
        let size = size.as_str().ok_or("a size is wanted")?;
        config.insert(format!("{POOLS}{pool}"), size.to_owned());
    }
    Ok(())
}

/// The same, read back; what it takes is no key that is left over.
pub(super) fn from_wire(config: &mut Config, spec: &mut Value) {
    config.retain(|key, size| {
        let Some(pool) = key.strip_prefix(POOLS) else {
            return true;
        };
        // What is no size stays a key.
        if size.parse::<ByteSize>().is_err() {
            return true;
        }
        let at = format!("limits/diskPools/{pool}");
        put(spec, &at, Value::from(size.as_str()));
        false
    });
}
