//! An instance in the words of manifests and in those of the server.
//!
//! Profiles are put together before the engine is asked, so what is written is all of an instance and `profiles` is empty.
//! What is read is what the server makes of it, profiles of its own included: where that differs, it is put back.

use manifests::kind::{Kind, Spec};
use manifests::kinds::instance::Instance as Wanted;
use manifests::observed::Unseen;
use manifests::pointer::Pointer;
use manifests::scalar::byte_size::ByteSize;
use manifests::scalar::image_ref::ImageRef;
use serde_json::{Map, Value, json};

use super::devices;
use super::marks;
use super::table::Absent::{Bool as B, Empty, Null, Number as N, Text as T};
use super::table::{Codec, Keyless, Row, from_config, put, to_config};
use super::texts::Texts;
use super::wire::{Config, Devices, Instance};

/// Fields that are one key each.
const ROWS: &[Row] = &[
    Row(
        "boot/autostart",
        "boot.autostart",
        Codec::Autostart,
        T("lastState"),
    ),
    Row(
        "boot/priority",
        "boot.autostart.priority",
        Codec::Number,
        N(0),
    ),
    Row(
        "boot/delay",
        "boot.autostart.delay",
        Codec::Seconds,
        T("0s"),
    ),
    Row(
        "boot/stopPriority",
        "boot.stop.priority",
        Codec::Number,
        N(0),
    ),
    Row(
        "boot/autorestart",
        "boot.autorestart",
        Codec::Bool,
        B(false),
    ),
    Row(
        "boot/hostShutdownAction",
        "boot.host_shutdown_action",
        Codec::Words(&[
            ("forceStop", "force-stop"),
            ("statefulStop", "stateful-stop"),
        ]),
        T("stop"),
    ),
    Row(
        "boot/hostShutdownTimeout",
        "boot.host_shutdown_timeout",
        Codec::Seconds,
        T("30s"),
    ),
    Row("limits/cpu", "limits.cpu", Codec::Cpu, Null),
    Row("limits/cpuNodes", "limits.cpu.nodes", Codec::Text, Null),
    Row(
        "limits/cpuAllowance",
        "limits.cpu.allowance",
        Codec::Text,
        Null,
    ),
    Row(
        "limits/cpuPriority",
        "limits.cpu.priority",
        Codec::Number,
        N(10),
    ),
    Row("limits/memory", "limits.memory", Codec::Text, Null),
    Row(
        "limits/memoryEnforce",
        "limits.memory.enforce",
        Codec::Text,
        T("hard"),
    ),
    Row(
        "limits/memorySwap",
        "limits.memory.swap",
        Codec::Switch,
        B(true),
    ),
    Row(
        "limits/memoryHotplug",
        "limits.memory.hotplug",
        Codec::Switch,
        B(true),
    ),
    Row(
        "limits/memoryOomPriority",
        "limits.memory.oom_priority",
        Codec::Number,
        N(0),
    ),
    Row("limits/processes", "limits.processes", Codec::Number, Null),
    Row(
        "limits/diskPriority",
        "limits.disk.priority",
        Codec::Number,
        N(5),
    ),
    Row("limits/kernel/as", "limits.kernel.as", Codec::Text, Null),
    Row(
        "limits/kernel/core",
        "limits.kernel.core",
        Codec::Text,
        Null,
    ),
    Row("limits/kernel/cpu", "limits.kernel.cpu", Codec::Text, Null),
    Row(
        "limits/kernel/data",
        "limits.kernel.data",
        Codec::Text,
        Null,
    ),
    Row(
        "limits/kernel/fsize",
        "limits.kernel.fsize",
        Codec::Text,
        Null,
    ),
    Row(
        "limits/kernel/locks",
        "limits.kernel.locks",
        Codec::Text,
        Null,
    ),
    Row(
        "limits/kernel/memlock",
        "limits.kernel.memlock",
        Codec::Text,
        Null,
    ),
    Row(
        "limits/kernel/nice",
        "limits.kernel.nice",
        Codec::Text,
        Null,
    ),
    Row(
        "limits/kernel/nofile",
        "limits.kernel.nofile",
        Codec::Text,
        Null,
    ),
    Row(
        "limits/kernel/nproc",
        "limits.kernel.nproc",
        Codec::Text,
        Null,
    ),
    Row(
        "limits/kernel/rtprio",
        "limits.kernel.rtprio",
        Codec::Text,
        Null,
    ),
    Row(
        "limits/kernel/sigpending",
        "limits.kernel.sigpending",
        Codec::Text,
        Null,
    ),
    Row(
        "security/privileged",
        "security.privileged",
        Codec::Bool,
        B(false),
    ),
    Row("security/nesting", "security.nesting", Codec::Bool, Null),
    Row(
        "security/idmap/base",
        "security.idmap.base",
        Codec::Number,
        Null,
    ),
    Row("security/idmap/extra", "raw.idmap", Codec::Lines, Empty),
    Row(
        "security/guestApi",
        "security.guestapi",
        Codec::Bool,
        B(true),
    ),
    Row("security/iommu", "security.iommu", Codec::Bool, B(false)),
    Row(
        "security/seccomp/deny",
        "security.syscalls.deny",
        Codec::Lines,
        Empty,
    ),
    Row(
        "security/seccomp/denyCompat",
        "security.syscalls.deny_compat",
        Codec::Bool,
        B(false),
    ),
    Row(
        "security/seccomp/profile",
        "security.syscalls.deny_default",
        Codec::Words(&[("unconfined", "false"), ("default", "true")]),
        T("default"),
    ),
    Row(
        "security/intercept/mknod",
        "security.syscalls.intercept.mknod",
        Codec::Bool,
        B(false),
    ),
    Row(
        "security/intercept/setxattr",
        "security.syscalls.intercept.setxattr",
        Codec::Bool,
        B(false),
    ),
    Row(
        "security/intercept/bpf",
        "security.syscalls.intercept.bpf",
        Codec::Bool,
        B(false),
    ),
    Row(
        "security/intercept/schedSetscheduler",
        "security.syscalls.intercept.sched_setscheduler",
        Codec::Bool,
        B(false),
    ),
    Row(
        "security/intercept/sysinfo",
        "security.syscalls.intercept.sysinfo",
        Codec::Bool,
        B(false),
    ),
    Row(
        "cloudInit/onChange",
        marks::ON_CHANGE,
        Codec::Text,
        T("ignore"),
    ),
    Row("kernelModules", "linux.kernel_modules", Codec::List, Empty),
    Row(
        "snapshots/schedule",
        "snapshots.schedule",
        Codec::Text,
        Null,
    ),
    Row(
        "snapshots/scheduleStopped",
        "snapshots.schedule.stopped",
        Codec::Bool,
        B(false),
    ),
    Row("snapshots/expiry", "snapshots.expiry", Codec::Expiry, Null),
    Row(
        "snapshots/pattern",
        "snapshots.pattern",
        Codec::Text,
        T("snap%d"),
    ),
];

/// Only containers have these: a machine's ids are its guest's business, and our words for it are as by default.
const OF_CONTAINERS: &[Row] = &[
    Row(
        "security/idmap/isolated",
        "security.idmap.isolated",
        Codec::Bool,
        B(false),
    ),
    Row(
        "security/idmap/size",
        "security.idmap.size",
        Codec::Number,
        N(65536),
    ),
];

/// Fields that are texts under keys that begin so; what is written last in a manifest comes last here.
const PREFIXES: &[(&str, &str)] = &[
    ("environment", "environment."),
    ("sysctl", "linux.sysctl."),
    ("credentials", "systemd.credential."),
    ("user", "user."),
];

const DOCUMENTS: &[(&str, &str)] = &[
    ("userData", "cloud-init.user-data"),
    ("vendorData", "cloud-init.vendor-data"),
    ("networkConfig", "cloud-init.network-config"),
];

/// The server's words for sizes of huge pages.
const PAGES: &[(u64, &str)] = &[
    (64 << 10, "limits.hugepages.64KB"),
    (1 << 20, "limits.hugepages.1MB"),
    (2 << 20, "limits.hugepages.2MB"),
    (1 << 30, "limits.hugepages.1GB"),
];

const SECUREBOOT: &str = "security.secureboot";
const CSM: &str = "security.csm";
const MOUNT: &str = "security.syscalls.intercept.mount";

/// All of an instance as the server has it, without what only the server knows.
pub(super) struct Written {
    pub(super) config: Config,
    pub(super) devices: Devices,
}

/// An instance as the server has it.
pub(super) fn to_wire(
    wanted: &Wanted,
    texts: &Texts<'_>,
    nics: &dyn Fn(&manifests::devices::Nic) -> bool,
) -> Result<Written, String> {
    let spec = manifests::change::shown(wanted);
    let mut config = Config::new();
    to_config(ROWS, &spec, &mut config)?;
    if wanted.is_container() {
        to_config(OF_CONTAINERS, &spec, &mut config)?;
        if wanted.security.privileged {
            // The ids of the host: there is no range of its own.
            config.retain(|key, _| !key.starts_with("security.idmap."));
        }
    }
    let mut secrets = Map::new();
    for (field, prefix) in PREFIXES {
        for (key, value) in entries(&spec[*field]) {
            let place = format!("{prefix}{key}");
            config.insert(place.clone(), texts.reveal(value, &place, &mut secrets)?);
        }
    }
    for (field, key) in DOCUMENTS {
        let value = &spec["cloudInit"][*field];
        if !value.is_null() {
            let header = *field != "networkConfig";
            config.insert(
                (*key).to_owned(),
                texts.document(value, header, key, &mut secrets)?,
            );
        }
    }
    for (size, pages) in &wanted.limits.hugepages {
        let bytes: ByteSize = size.parse().map_err(|error| format!("{error}"))?;
        let key = PAGES.iter().find(|(size, _)| *size == bytes.bytes());
        let (_, key) = key.ok_or_else(|| format!("limits.hugepages: there is no size {size}"))?;
        config.insert((*key).to_owned(), pages.to_string());
    }
    if let Some(mount) = &wanted.security.intercept.mount {
        config.insert(MOUNT.to_owned(), "true".to_owned());
        config.insert(format!("{MOUNT}.allowed"), mount.allowed.join(","));
        let fuse: Vec<String> = mount
            .fuse
            .iter()
            .map(|(of, by)| format!("{of}={by}"))
            .collect();
        config.insert(format!("{MOUNT}.fuse"), fuse.join(","));
        config.insert(format!("{MOUNT}.shift"), mount.shift.to_string());
    }
    match spec["boot"]["mode"].as_str() {
        Some("uefi") => {
            config.insert(SECUREBOOT.to_owned(), "false".to_owned());
        }
        Some("bios") => {
            config.insert(SECUREBOOT.to_owned(), "false".to_owned());
            config.insert(CSM.to_owned(), "true".to_owned());
        }
        Some("uefi-secureboot") => {
            config.insert(SECUREBOOT.to_owned(), "true".to_owned());
        }
        _ => {}
    }
    if let Some(image) = &wanted.image {
        config.insert(marks::IMAGE.to_owned(), image_text(image));
    }
    if let Some(profiles) = &wanted.profiles {
        // The server keeps no key without a value, and no profile has a comma in its name.
        let names = match profiles.as_slice() {
            [] => ",".to_owned(),
            names => names.join(","),
        };
        config.insert(marks::PROFILES.to_owned(), names);
    }
    if wanted.placement.is_some() {
        config.insert(marks::PLACEMENT.to_owned(), spec["placement"].to_string());
    }
    for (key, value) in entries(&spec["config"]) {
        config.insert(key.clone(), texts.reveal(value, key, &mut secrets)?);
    }
    if !secrets.is_empty() {
        config.insert(
            marks::SECRETS.to_owned(),
            Value::Object(secrets).to_string(),
        );
    }
    config.retain(|key, value| !value.is_empty() || key.starts_with("user."));
    let devices = wanted
        .devices
        .iter()
        .map(|(name, device)| Ok((name.clone(), devices::to_wire(name, device, nics)?)))
        .collect::<Result<Devices, String>>()?;
    Ok(Written { config, devices })
}

fn image_text(image: &ImageRef) -> String {
    match image {
        ImageRef::Source(_) => manifests::change::shown(image).to_string(),
        other => other.to_string(),
    }
}

fn entries(map: &Value) -> impl Iterator<Item = (&String, &Value)> {
    map.as_object().into_iter().flatten()
}

/// What others know of what an instance names.
pub(super) trait Facts {
    /// The fingerprint that an alias of a project stands for now.
    fn fingerprint(&self, project: &str, alias: &str) -> Option<String>;
    /// An alias of a project that stands for a fingerprint.
    fn alias(&self, project: &str, fingerprint: &str) -> Option<String>;
    /// Whether a network is a bridge.
    fn is_bridge(&self, network: &str) -> bool;
}

fn image_of(instance: &Instance, facts: &dyn Facts) -> Value {
    let base = instance.config.get("volatile.base_image");
    let by_fingerprint = || base.map_or(Value::Null, |base| Value::from(format!("sha256:{base}")));
    let Some(recorded) = instance.config.get(marks::IMAGE) else {
        let alias = base.and_then(|base| facts.alias(&instance.project, base));
        return alias.map_or_else(by_fingerprint, Value::from);
    };
    if recorded.starts_with('{') {
        return serde_json::from_str(recorded).unwrap_or_else(|_| by_fingerprint());
    }
    match facts.fingerprint(&instance.project, recorded) {
        // The alias stands for something else by now.
        Some(now) if base.is_some_and(|base| *base != now) => by_fingerprint(),
        _ => Value::from(recorded.as_str()),
    }
}

/// An instance as manifests have it, and what of it could not be read.
pub(super) fn from_wire(
    instance: &Instance,
    texts: &Texts<'_>,
    facts: &dyn Facts,
) -> Result<(Spec, Vec<Unseen>), String> {
    let mut unseen = Vec::new();
    let mut spec = json!({});
    let local = &instance.config;
    // What a profile of the server's gives counts as well; marks only where they are the instance's own.
    let mut config = instance.expanded_config.clone();
    config.retain(|key, _| !key.starts_with(marks::PREFIX));
    config.extend(
        local
            .iter()
            .map(|(key, value)| (key.clone(), value.clone())),
    );
    let is_container = instance.kind != "virtual-machine";
    put(
        &mut spec,
        "type",
        Value::from(match is_container {
            true => "container",
            false => "virtual-machine",
        }),
    );
    put(
        &mut spec,
        "description",
        Value::from(instance.description.as_str()),
    );
    put(&mut spec, "ephemeral", Value::Bool(instance.ephemeral));
    put(&mut spec, "image", image_of(instance, facts));
    if let Some(placement) = local.get(marks::PLACEMENT) {
        let placement = serde_json::from_str(placement).unwrap_or_default();
        put(&mut spec, "placement", placement);
    }
    if let Some(profiles) = local.get(marks::PROFILES) {
        let names = profiles.split(',').filter(|name| !name.is_empty());
        put(&mut spec, "profiles", names.map(Value::from).collect());
    } else if !local.contains_key(marks::MARK) {
        // Of what nobody owns, the server's profiles are those that somebody meant.
        put(
            &mut spec,
            "profiles",
            Value::from(instance.profiles.clone()),
        );
    }
    put(&mut spec, "state", Value::from(state(&instance.status)));
    let secrets = local
        .get(marks::SECRETS)
        .and_then(|text| serde_json::from_str(text).ok());
    let words = Words {
        is_container,
        keyless: Keyless::Meant,
        texts,
        secrets: secrets.unwrap_or_default(),
    };
    words.of_keys(&config, &mut spec, &mut unseen);
    // Where the server has none, it says so to keep out what a profile gives.
    let mut there = instance.expanded_devices.clone();
    there.retain(|_, device| device.get("type").is_none_or(|word| word != "none"));
    let all = devices_from_wire(&there, facts, &mut unseen);
    put(&mut spec, "devices", all);
    let spec = super::typed::typed(Kind::Instance, spec, &mut unseen)?;
    Ok((spec, unseen))
}

/// How keys are said in the words of manifests.
pub(super) struct Words<'a> {
    pub(super) is_container: bool,
    pub(super) keyless: Keyless,
    pub(super) texts: &'a Texts<'a>,
    /// Where texts come from that are secrets, by their keys.
    pub(super) secrets: Map<String, Value>,
}

impl Words<'_> {
    /// What keys of an instance or a profile are.
    pub(super) fn of_keys(&self, config: &Config, spec: &mut Value, unseen: &mut Vec<Unseen>) {
        let top = Pointer::new("/spec");
        from_config(ROWS, config, self.keyless, &top, spec, unseen);
        let privileged = config.get("security.privileged");
        if self.is_container && privileged.is_none_or(|text| text != "true") {
            from_config(OF_CONTAINERS, config, self.keyless, &top, spec, unseen);
        }
        for (field, prefix) in PREFIXES {
            let mut map = Map::new();
            for (place, value) in config {
                if let Some(key) = place.strip_prefix(prefix)
                    && !place.starts_with(marks::PREFIX)
                {
                    map.insert(key.to_owned(), self.seal(value, place));
                }
            }
            self.put_map(spec, field, map);
        }
        for (field, key) in DOCUMENTS {
            if let Some(text) = config.get(*key).filter(|text| !text.is_empty()) {
                let header = *field != "networkConfig";
                let value = self.texts.read_document(text, header, key, &self.secrets);
                put(spec, &format!("cloudInit/{field}"), value);
            }
        }
        for (size, key) in PAGES {
            if let Some(pages) = config.get(*key) {
                let size = ByteSize::from_bytes(*size).to_string();
                put(
                    spec,
                    &format!("limits/hugepages/{size}"),
                    Value::from(pages.as_str()),
                );
            }
        }
        if config.get(MOUNT).is_some_and(|text| text == "true") {
            let list = |key: &str| -> Vec<String> {
                let text = config
                    .get(&format!("{MOUNT}.{key}"))
                    .map_or("", String::as_str);
                let parts = text.split(',').filter(|part| !part.is_empty());
                parts.map(|part| part.trim().to_owned()).collect()
            };
            let fuse: Map<String, Value> = list("fuse")
                .iter()
                .filter_map(|part| part.split_once('='))
                .map(|(of, by)| (of.to_owned(), Value::from(by)))
                .collect();
            let shift = config
                .get(&format!("{MOUNT}.shift"))
                .is_some_and(|text| text == "true");
            let mount = json!({"allowed": list("allowed"), "fuse": fuse, "shift": shift});
            put(spec, "security/intercept/mount", mount);
        }
        if !self.is_container {
            put(spec, "boot/mode", boot_mode(config));
        }
        let mut rest = Map::new();
        for (key, value) in config {
            if !is_known(key) {
                rest.insert(key.clone(), self.seal(value, key));
            }
        }
        self.put_map(spec, "config", rest);
    }

    fn seal(&self, value: &str, key: &str) -> Value {
        self.texts.seal(value, key, &self.secrets)
    }

    fn put_map(&self, spec: &mut Value, field: &str, map: Map<String, Value>) {
        if self.keyless == Keyless::Meant || !map.is_empty() {
            put(spec, field, Value::Object(map));
        }
    }
}

/// Devices as manifests have them; those that cannot be read are told.
pub(super) fn devices_from_wire(
    all_of_them: &Devices,
    facts: &dyn Facts,
    unseen: &mut Vec<Unseen>,
) -> Value {
    let top = Pointer::new("/spec/devices");
    let mut all = Map::new();
    for (name, device) in all_of_them {
        let at = top.field(name);
        match devices::from_wire(
            name,
            device,
            &|network| facts.is_bridge(network),
            &at,
            unseen,
        ) {
            Ok(device) => {
                all.insert(name.clone(), device);
            }
            Err(why) => unseen.push(Unseen { path: at, why }),
        }
    }
    Value::Object(all)
}

fn boot_mode(config: &Config) -> Value {
    let on = |key: &str| config.get(key).and_then(|text| super::table::switch(text));
    match (on(SECUREBOOT), on(CSM)) {
        (_, Some(true)) => Value::from("bios"),
        (Some(false), _) => Value::from("uefi"),
        (Some(true), _) => Value::from("uefi-secureboot"),
        (None, _) => Value::Null,
    }
}

/// Whether a key is a field, or one that the server fills in: what is left is `config`.
fn is_known(key: &str) -> bool {
    let prefixes = [
        "volatile.",
        "image.",
        "oci.",
        "user.",
        "environment.",
        "linux.sysctl.",
        "systemd.credential.",
    ];
    prefixes.iter().any(|prefix| key.starts_with(prefix))
        || ROWS
            .iter()
            .chain(OF_CONTAINERS)
            .any(|Row(_, known, ..)| *known == key)
        || DOCUMENTS.iter().any(|(_, known)| *known == key)
        || PAGES.iter().any(|(_, known)| *known == key)
        || key == SECUREBOOT
        || key == CSM
        || key.starts_with(MOUNT)
}

/// The server's word for how an instance is, in ours.
pub(super) fn state(status: &str) -> &'static str {
    match status {
        "Running" | "Ready" | "Starting" | "Stopping" | "Freezing" | "Thawed" => "Running",
        "Frozen" => "Frozen",
        _ => "Stopped",
    }
}

/// Keys of an instance that only the server writes: a PUT returns them untouched.
pub(super) fn is_of_server(key: &str) -> bool {
    key.starts_with("volatile.") || key.starts_with("image.") || key.starts_with("oci.")
}
