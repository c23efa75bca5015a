//! What a change of a field costs on the native engine, as data: kind, pattern of the pointer, effect. The first line
//! that matches counts.

mod incus;

use serde::Deserialize as _;
use serde_json::Value;

pub use self::incus::incus_effect;

use crate::change::FieldChange;
use crate::devices::disk::IoBus;
use crate::effect::Effect;
use crate::feature::{Capabilities, GROW_LIVE};
use crate::instance::cloud_init::OnChange;
use crate::instance::served::changes_with_start;
use crate::kind::{Kind, Spec};
use crate::kinds::instance::Instance;
use crate::kinds::volume::{ContentType, FileSystem, Volume};
use crate::pointer::Pointer;
use crate::scalar::byte_size::ByteSize;
use crate::scalar::cpu::CpuLimit;
use crate::scalar::memory::{MemoryLimit, Swap};

/// The lines of the native engine.
const NATIVE: &[(Kind, &str, Effect)] = &[
    (Kind::Instance, "/spec/type", Effect::Replace),
    (Kind::Instance, "/spec/architecture", Effect::Replace),
    (Kind::Instance, "/spec/image", Effect::Rebuild),
    (
        Kind::Instance,
        "/spec/security/privileged",
        Effect::NextStart,
    ),
    (Kind::Instance, "/spec/security/idmap", Effect::NextStart),
    (Kind::Instance, "/spec/security/deviceAccess", Effect::Live),
    (Kind::Instance, "/spec/limits/kernel", Effect::NextStart),
    (Kind::Instance, "/spec/limits", Effect::Live),
    (Kind::Instance, "/spec/files", Effect::Live),
    (Kind::Instance, "/spec/state", Effect::Live),
    (Kind::Instance, "/spec/description", Effect::Live),
    (Kind::Instance, "/spec/user", Effect::Live),
    (Kind::Instance, "/spec/boot/autorestart", Effect::NextStart),
    (Kind::Instance, "/spec/boot", Effect::Live),
    (Kind::Instance, "/spec/cloudInit/onChange", Effect::Live),
    (Kind::Instance, "/spec/ephemeral", Effect::Live),
    (Kind::Instance, "/spec/health", Effect::Live),
    (Kind::Instance, "/spec/profiles", Effect::Live),
    (Kind::Instance, "/spec/snapshots", Effect::Live),
    (Kind::Instance, "/spec/placement", Effect::Live),
    // Its root goes along with its snapshots.
    (Kind::Instance, "/spec/devices/*/pool", Effect::StopNeeded),
    (Kind::Instance, "/spec/devices/*/size", Effect::Live),
    (Kind::Instance, "/spec/devices/*/limits", Effect::Live),
    (Kind::Instance, "/spec/devices/*/connected", Effect::Live),
    (Kind::Instance, "/spec/devices/*/isolated", Effect::Live),
    (Kind::Instance, "/spec/devices/*/filtering", Effect::Live),
    (Kind::Instance, "/spec/devices/*/ipv4", Effect::Live),
    (Kind::Instance, "/spec/devices/*/ipv6", Effect::Live),
    (Kind::Instance, "/spec/devices/*/routes", Effect::Live),
    (Kind::Instance, "/spec/devices", Effect::Replug),
    (Kind::Instance, "/spec", Effect::NextStart),
    (Kind::Network, "/spec/type", Effect::Replace),
    (Kind::Network, "/spec/interface", Effect::Replace),
    // Instances know the pool of their root by its name.
    (Kind::StoragePool, "/metadata/name", Effect::Forbidden),
    (Kind::StoragePool, "/spec/driver", Effect::Replace),
    (Kind::StoragePool, "/spec/source", Effect::Replace),
    // It outlives everybody: nothing of one becomes the other, and nobody wipes it for the sake of a word.
    (Kind::Volume, "/spec/contentType", Effect::Forbidden),
    // Its instances have it mapped as they were started. What it is a copy of, and its `initial`, count when it is made.
    (Kind::Volume, "/spec/unmapped", Effect::StopNeeded),
    // It is mounted anew with them.
    (Kind::Volume, "/spec/mountOptions", Effect::StopNeeded),
];

/// What a change costs on this host: as [`effect`], and for what depends on the value or the host, what is true there.
pub fn effect_of(spec: &Spec, change: &FieldChange, host: &Capabilities) -> Effect {
    if host.engine == "incus" {
        return incus_effect(spec, change);
    }
    let path = &change.path;
    if let Spec::Instance(instance) = spec
        && !instance.is_container()
        && let Some(effect) = of_machine(instance, change, host)
    {
        return effect;
    }
    if is_root_size(spec, path) {
        return root_size(&change.before, &change.after, host);
    }
    match spec {
        // The size of memory that is mounted is set when it is mounted.
        Spec::Instance(_) if Pointer::new("/spec/devices/*/size").matches(path) => Effect::Replug,
        // Another volume is there then, and both keep what they hold.
        Spec::Instance(instance) if is_pool_of_volume(instance, path) => Effect::Replug,
        Spec::Volume(volume) if *path == Pointer::new("/spec/size") => {
            volume_size(volume, &change.before, &change.after, host)
        }
        // Nothing of one file system becomes the other.
        Spec::Volume(_) if *path == Pointer::new("/spec/filesystem") => {
            let word = |value: &Value| value.as_str().unwrap_or(FileSystem::Ext4.word()).to_owned();
            match word(&change.before) == word(&change.after) {
                true => Effect::Live,
                false => Effect::Forbidden,
            }
        }
        _ => effect(spec.kind(), path),
    }
}

/// Why a change costs more on this host than it does elsewhere.
pub fn because<'a>(spec: &Spec, change: &FieldChange, host: &'a Capabilities) -> Option<&'a str> {
    let of_machine = matches!(spec, Spec::Instance(instance) if !instance.is_container());
    if of_machine
        || host.engine == "incus"
        || !is_root_size(spec, &change.path)
        || effect_of(spec, change, host) != Effect::NextStart
    {
        return None;
    }
    let mut missing = host.missing.iter();
    missing
        .find(|missing| missing.feature == GROW_LIVE)
        .map(|missing| missing.why.as_str())
}

/// What a change costs a machine, where that is not what it costs a container.
fn of_machine(instance: &Instance, change: &FieldChange, host: &Capabilities) -> Option<Effect> {
    let steps: Vec<String> = change.path.steps().collect();
    let steps: Vec<&str> = steps.iter().map(String::as_str).collect();
    let root = instance.root().map(|(name, _)| name);
    if changes_with_start(instance, change) {
        return Some(Effect::NextStart);
    }
    Some(match steps.as_slice() {
        ["spec", "limits", "cpu"] => processors(&change.before, &change.after),
        ["spec", "limits", "memory"] => {
            let bytes = |value: &Value| {
                let limit: MemoryLimit = value.as_str()?.parse().ok()?;
                Some(limit.bytes(host.memory))
            };
            // It can be plugged in up to here.
            let most = match &instance.limits.memory_hotplug {
                Swap::Switch(false) => bytes(&change.before).unwrap_or(0),
                Swap::Switch(true) => host.memory,
                Swap::Size(size) => size.bytes(),
            };
            match bytes(&change.after) {
                Some(after) if after > most => Effect::NextStart,
                _ => Effect::Live,
            }
        }
        // How much memory is in such pages is for the memory to say.
        ["spec", "limits", "hugepages", _]
            if !change.before.is_null() && !change.after.is_null() =>
        {
            Effect::Live
        }
        ["spec", "limits", "memoryHotplug" | "hugepages", ..] => Effect::NextStart,
        ["spec", "boot", "mode"] => Effect::NextStart,
        ["spec", "cloudInit", "onChange"] => Effect::Live,
        ["spec", "cloudInit", ..] => match instance.cloud_init.on_change {
            // It counts for machines that are made from now on.
            OnChange::Ignore => Effect::Live,
            OnChange::Rerun => Effect::NextStart,
            OnChange::Recreate => Effect::Replace,
        },
        ["spec", "devices", name, "size"] if Some(*name) == root => {
            let is_nvme = instance
                .root()
                .is_some_and(|(_, disk)| disk.io_bus == Some(IoBus::Nvme));
            match disk_size(&change.before, &change.after) {
                // QEMU's NVMe disks are as big as they are when they are plugged in.
                Effect::Live if is_nvme => Effect::NextStart,
                effect => effect,
            }
        }
        // It is in use as long as the machine runs.
        ["spec", "devices", name, "ioBus" | "ioCache" | "readonly"] if Some(*name) == root => {
            Effect::NextStart
        }
        // Firmware asks for it when the guest boots.
        ["spec", "devices", _, "bootPriority"] => Effect::Live,
        _ => return None,
    })
}

/// A machine takes more processors while it runs; a guest does not reliably give one back.
fn processors(before: &Value, after: &Value) -> Effect {
    // Sockets, cores and threads are as they are.
    let count = |value: &Value| match CpuLimit::deserialize(value) {
        Ok(CpuLimit::Count(count)) => Some(count),
        Ok(CpuLimit::Set(set)) => u32::try_from(set.numbers().count()).ok(),
        Ok(CpuLimit::Topology { .. }) => None,
        Err(_) => value.is_null().then_some(1),
    };
    match (count(before), count(after)) {
        (Some(before), Some(after)) if after >= before => Effect::Live,
        _ => Effect::NextStart,
    }
}

/// A disk grows while it is used, and is never made smaller: nobody can know what its guest has where.
fn disk_size(before: &Value, after: &Value) -> Effect {
    let bytes = |value: &Value| Some(value.as_str()?.parse::<ByteSize>().ok()?.bytes());
    match (bytes(before), bytes(after)) {
        (Some(before), Some(after)) if after < before => Effect::Forbidden,
        _ => Effect::Live,
    }
}

fn is_pool_of_volume(instance: &Instance, path: &Pointer) -> bool {
    instance.devices.iter().any(|(name, device)| {
        device.as_disk().is_some_and(|disk| !disk.is_root())
            && *path == Pointer::new("/spec/devices").field(name).field("pool")
    })
}

/// A volume grows where it is used as a root does, and gets smaller while nobody uses it, as far as what it holds still
/// fits. One of blocks never does: nobody can know what is where in it. With and without a size it is another file
/// system, which is for people to copy.
fn volume_size(volume: &Volume, before: &Value, after: &Value, host: &Capabilities) -> Effect {
    if volume.content_type != ContentType::Filesystem {
        return match after.is_null() {
            true => Effect::Live,
            false => disk_size(before, after),
        };
    }
    match root_size(before, after, host) {
        Effect::Rebuild => Effect::Forbidden,
        Effect::StopNeeded if volume.filesystem == Some(FileSystem::Xfs) => Effect::Forbidden,
        Effect::NextStart => Effect::StopNeeded,
        other => other,
    }
}

fn is_root_size(spec: &Spec, path: &Pointer) -> bool {
    matches!(spec, Spec::Instance(instance) if instance.root().is_some_and(|(root, _)| {
        *path == Pointer::new("/spec/devices").field(root).field("size")
    }))
}

/// A root gets or loses its own file system only when it is made; the kernel shrinks none that is mounted, and grows one
/// only for CAP_SYS_RESOURCE: else it is grown before it is mounted the next time.
fn root_size(before: &Value, after: &Value, host: &Capabilities) -> Effect {
    let bytes = |value: &Value| Some(value.as_str()?.parse::<ByteSize>().ok()?.bytes());
    match (bytes(before), bytes(after)) {
        // There is no root any more: somebody deleted its subvolume.
        (Some(0), _) => Effect::Rebuild,
        (Some(before), Some(after)) if after >= before => match host.has(GROW_LIVE) {
            true => Effect::Live,
            false => Effect::NextStart,
        },
        (Some(_), Some(_)) => Effect::StopNeeded,
        _ => Effect::Rebuild,
    }
}

/// What a change costs where that is no one word, since it depends on the value or the host: for people.
pub fn depends(kind: Kind, path: &Pointer) -> Option<&'static str> {
    if payer(kind) != Kind::Instance {
        return None;
    }
    if Pointer::new("/spec/devices/*/size") == *path {
        return Some(
            "more for a root: live where the host can grow it (`keel doctor` says), else at the next start; less for a \
             root: a stop; a first or no size for a root: a rebuild; of a `tmpfs:`: a replug",
        );
    }
    let data = Pointer::new("/spec/cloudInit");
    (data.covers(path) && data.field("onChange") != *path).then_some(
        "as `onChange` says: `ignore`: nothing in what is there; `rerun`: the next start; `recreate`: a replace",
    )
}

/// Whose objects a change reaches: a profile is nothing but a part of instances.
const fn payer(kind: Kind) -> Kind {
    match kind {
        Kind::Profile => Kind::Instance,
        other => other,
    }
}

/// What a change of this field costs while the object runs.
pub fn effect(kind: Kind, path: &Pointer) -> Effect {
    let kind = payer(kind);
    NATIVE
        .iter()
        .find(|(of, pattern, _)| *of == kind && Pointer::new(pattern).matches(path))
        .map_or(Effect::Live, |(_, _, effect)| *effect)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(missing: &[&str]) -> Capabilities {
        Capabilities {
            engine: "native".to_owned(),
            host: String::new(),
            machine_id: None,
            state_id: String::new(),
            architecture: String::new(),
            memory: 0,
            processors: 1,
            ceilings: Default::default(),
            machines: None,
            config_keys: Default::default(),
            missing: missing
                .iter()
                .map(|feature| crate::feature::Missing {
                    feature: (*feature).to_owned(),
                    why: String::new(),
                })
                .collect(),
        }
    }

    #[test]
    fn the_first_line_that_matches_counts() {
        let cases = [
            (Kind::Instance, "/spec/limits/memory", Effect::Live),
            (
                Kind::Instance,
                "/spec/limits/kernel/nofile",
                Effect::NextStart,
            ),
            (
                Kind::Instance,
                "/spec/devices/eth0/ipv4/address",
                Effect::Live,
            ),
            (Kind::Instance, "/spec/devices/eth0/network", Effect::Replug),
            (Kind::Instance, "/spec/devices/eth0", Effect::Replug),
            (Kind::Instance, "/spec/environment/LANG", Effect::NextStart),
            (Kind::Network, "/spec/ipv4/nat", Effect::Live),
            (Kind::StoragePool, "/spec/source", Effect::Replace),
            (
                Kind::Profile,
                "/spec/limits/kernel/nofile",
                Effect::NextStart,
            ),
        ];
        for (kind, path, expected) in cases {
            assert_eq!(effect(kind, &Pointer::new(path)), expected, "{path}");
        }
    }

    #[test]
    fn a_machine_takes_more_memory_in_huge_pages_while_it_runs_and_other_pages_when_it_starts() {
        let spec = serde_json::json!({"type": "virtual-machine"});
        let spec = Spec::deserialize(Kind::Instance, &spec).expect("a spec");
        for (before, after, expected) in [
            (Value::from("64MiB"), "96MiB".into(), Effect::Live),
            (Value::Null, "96MiB".into(), Effect::NextStart),
            (Value::from("64MiB"), Value::Null, Effect::NextStart),
        ] {
            let change = FieldChange {
                path: Pointer::new("/spec/limits/hugepages/2MiB"),
                before,
                after,
                cause: crate::change::Cause::Edited,
            };
            let seen = effect_of(&spec, &change, &host(&[]));
            assert_eq!(seen, expected, "{change:?}");
        }
    }

    #[test]
    fn a_machine_takes_more_processors_and_others_of_the_host_while_it_runs() {
        let spec = serde_json::json!({"type": "virtual-machine"});
        let spec = Spec::deserialize(Kind::Instance, &spec).expect("a spec");
        for (before, after, expected) in [
            (Value::Null, 2.into(), Effect::Live),
            (2.into(), 1.into(), Effect::NextStart),
            ("0-1".into(), "2-3".into(), Effect::Live),
            (2.into(), "0-1".into(), Effect::Live),
            ("0-2".into(), 2.into(), Effect::NextStart),
            (
                2.into(),
                serde_json::json!({"sockets": 1, "cores": 2}),
                Effect::NextStart,
            ),
        ] {
            let change = FieldChange {
                path: Pointer::new("/spec/limits/cpu"),
                before,
                after,
                cause: crate::change::Cause::Edited,
            };
            assert_eq!(
                effect_of(&spec, &change, &host(&[])),
                expected,
                "{change:?}"
            );
        }
    }

    #[test]
    fn what_cloud_init_is_given_costs_what_is_written_beside_it() {
        let change = |field: &str| FieldChange {
            path: Pointer::new("/spec/cloudInit").field(field),
            before: Value::Null,
            after: "x".into(),
            cause: crate::change::Cause::Edited,
        };
        let host = host(&[]);
        for (on_change, expected) in [
            ("ignore", Effect::Live),
            ("rerun", Effect::NextStart),
            ("recreate", Effect::Replace),
        ] {
            let spec = serde_json::json!({
                "type": "virtual-machine", "cloudInit": {"userData": "x", "onChange": on_change},
            });
            let spec = Spec::deserialize(Kind::Instance, &spec).expect("a spec");
            let cost = |field| effect_of(&spec, &change(field), &host);
            assert_eq!(cost("userData"), expected, "{on_change}");
            assert_eq!(cost("onChange"), Effect::Live, "{on_change}");
        }
    }

    #[test]
    fn a_root_grows_live_only_where_the_kernel_lets_it() {
        let spec = serde_json::json!({"devices": {
            "root": {"type": "disk", "path": "/", "pool": "p"},
            "shm": {"type": "disk", "path": "/shm", "source": "tmpfs:"},
        }});
        let spec = Spec::deserialize(Kind::Instance, &spec).expect("a spec");
        let change = |device: &str, before: Value, after: Value| FieldChange {
            path: Pointer::new("/spec/devices").field(device).field("size"),
            before,
            after,
            cause: crate::change::Cause::Edited,
        };
        let (all, poor) = (host(&[]), host(&[GROW_LIVE]));
        for (device, before, after, on_all, on_poor) in [
            (
                "root",
                "1GiB".into(),
                "2GiB".into(),
                Effect::Live,
                Effect::NextStart,
            ),
            (
                "root",
                "2GiB".into(),
                "1GiB".into(),
                Effect::StopNeeded,
                Effect::StopNeeded,
            ),
            (
                "root",
                "0".into(),
                "1GiB".into(),
                Effect::Rebuild,
                Effect::Rebuild,
            ),
            (
                "root",
                Value::Null,
                "1GiB".into(),
                Effect::Rebuild,
                Effect::Rebuild,
            ),
            (
                "root",
                "1GiB".into(),
                Value::Null,
                Effect::Rebuild,
                Effect::Rebuild,
            ),
            (
                "shm",
                "1GiB".into(),
                "2GiB".into(),
                Effect::Replug,
                Effect::Replug,
            ),
        ] {
            let change = change(device, before, after);
            assert_eq!(effect_of(&spec, &change, &all), on_all, "{change:?}");
            assert_eq!(effect_of(&spec, &change, &poor), on_poor, "{change:?}");
            assert_eq!(because(&spec, &change, &all), None, "{change:?}");
            let why = because(&spec, &change, &poor);
            assert_eq!(
                why.is_some(),
                on_all == Effect::Live && on_poor == Effect::NextStart,
                "{change:?}"
            );
        }
    }
}
