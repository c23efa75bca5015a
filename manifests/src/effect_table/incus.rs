//! What a change of a field costs on a server of Incus, as its source has it and not as its documentation says. The first
//! line that matches counts; a machine has lines of its own before those of all instances.

use crate::change::FieldChange;
use crate::effect::Effect;
use crate::kind::{Kind, Spec};
use crate::pointer::Pointer;
use crate::scalar::byte_size::ByteSize;
use crate::scalar::cpu::CpuLimit;
use serde::Deserialize as _;
use serde_json::Value;

/// Keys that the server refuses to change while a machine runs are `StopNeeded`: one of them would fail all of the request.
const MACHINES: &[(&str, Effect)] = &[
    ("/spec/limits/cpuNodes", Effect::StopNeeded),
    ("/spec/limits/memoryHotplug", Effect::StopNeeded),
    ("/spec/limits/hugepages", Effect::StopNeeded),
    ("/spec/limits/diskPriority", Effect::StopNeeded),
    ("/spec/security/nesting", Effect::StopNeeded),
    ("/spec/security/iommu", Effect::StopNeeded),
    ("/spec/security/guestApi", Effect::Live),
    ("/spec/boot/mode", Effect::NextStart),
    ("/spec/credentials", Effect::StopNeeded),
    ("/spec/environment", Effect::Live),
    ("/spec/config", Effect::StopNeeded),
];

const INSTANCES: &[(&str, Effect)] = &[
    ("/metadata/name", Effect::StopNeeded),
    ("/spec/type", Effect::Replace),
    ("/spec/architecture", Effect::Replace),
    ("/spec/image", Effect::Rebuild),
    ("/spec/limits/kernel", Effect::NextStart),
    ("/spec/limits", Effect::Live),
    ("/spec/security/nesting", Effect::Live),
    ("/spec/security/guestApi", Effect::Live),
    ("/spec/security/intercept/mount/allowed", Effect::Live),
    ("/spec/security/intercept/mount/fuse", Effect::Live),
    ("/spec/security/intercept/mount/shift", Effect::Live),
    ("/spec/security", Effect::NextStart),
    ("/spec/sysctl", Effect::NextStart),
    ("/spec/cloudInit/onChange", Effect::Live),
    ("/spec/cloudInit", Effect::NextStart),
    ("/spec/config", Effect::NextStart),
    // The server never moves a root to another pool by a change.
    ("/spec/devices/root/pool", Effect::Replace),
    ("/spec/devices/*/size", Effect::Live),
    ("/spec/devices/*/limits", Effect::Live),
    ("/spec/devices/*/connected", Effect::Live),
    ("/spec/devices/*/filtering", Effect::Live),
    ("/spec/devices/*/routes", Effect::Live),
    ("/spec/devices/*/ipv4", Effect::Live),
    ("/spec/devices/*/ipv6", Effect::Live),
    ("/spec/devices/*/acls", Effect::Live),
    ("/spec/devices", Effect::Replug),
];

const OTHERS: &[(Kind, &str, Effect)] = &[
    (Kind::Network, "/metadata/name", Effect::Forbidden),
    (Kind::Network, "/spec/type", Effect::Replace),
    // The bridge goes down, and instances lose their port until they start anew.
    (Kind::Network, "/spec/bridge/driver", Effect::Replug),
    // The server knows it by these two.
    (Kind::NetworkForward, "/spec/network", Effect::Replace),
    (Kind::NetworkForward, "/spec/listenAddress", Effect::Replace),
    (Kind::StoragePool, "/metadata/name", Effect::Forbidden),
    (Kind::StoragePool, "/spec/driver", Effect::Forbidden),
    (Kind::StoragePool, "/spec/source", Effect::Forbidden),
    (
        Kind::StoragePool,
        "/spec/members/*/source",
        Effect::Forbidden,
    ),
    (Kind::StoragePool, "/spec/lvm", Effect::Forbidden),
    (Kind::StoragePool, "/spec/wipe", Effect::Forbidden),
    (Kind::Volume, "/spec/contentType", Effect::Forbidden),
    (Kind::Volume, "/spec/pool", Effect::Forbidden),
    (Kind::Volume, "/spec/filesystem", Effect::Forbidden),
    (Kind::Volume, "/spec/shifted", Effect::StopNeeded),
    (Kind::Volume, "/spec/unmapped", Effect::StopNeeded),
    (Kind::Image, "/metadata/name", Effect::Replace),
];

/// What a change of a field costs while the object runs.
pub fn incus_effect(spec: &Spec, change: &FieldChange) -> Effect {
    let path = &change.path;
    let matching = |lines: &[(&str, Effect)]| {
        let mut lines = lines.iter();
        let found = lines.find(|(pattern, _)| Pointer::new(pattern).matches(path));
        found.map(|(_, effect)| *effect)
    };
    let Spec::Instance(instance) = spec else {
        let mut lines = OTHERS.iter();
        let found = lines
            .find(|(kind, pattern, _)| *kind == spec.kind() && Pointer::new(pattern).matches(path));
        return found.map_or(Effect::Live, |(.., effect)| *effect);
    };
    let root = instance.root().map(|(name, _)| name);
    let steps: Vec<String> = path.steps().collect();
    if let ["spec", "devices", name, rest @ ..] = steps
        .iter()
        .map(String::as_str)
        .collect::<Vec<_>>()
        .as_slice()
        && Some(*name) == root
    {
        return match rest {
            ["size"] => size(&change.before, &change.after, instance.is_container()),
            ["limits", ..] => Effect::Live,
            ["pool"] => Effect::Replace,
            // It would have to be unplugged.
            _ => Effect::StopNeeded,
        };
    }
    if !instance.is_container() {
        if path.as_str() == "/spec/limits/cpu" {
            let count =
                |value: &Value| matches!(CpuLimit::deserialize(value), Ok(CpuLimit::Count(_)));
            return match count(&change.before) && count(&change.after) {
                true => Effect::Live,
                false => Effect::StopNeeded,
            };
        }
        if let Some(effect) = matching(MACHINES) {
            return effect;
        }
    }
    matching(INSTANCES).unwrap_or(Effect::Live)
}

/// A root grows while it is used. That of a machine never gets smaller.
fn size(before: &Value, after: &Value, is_container: bool) -> Effect {
    let bytes = |value: &Value| Some(value.as_str()?.parse::<ByteSize>().ok()?.bytes());
    match (bytes(before), bytes(after)) {
        (Some(before), Some(after)) if after < before && !is_container => Effect::Forbidden,
        _ => Effect::Live,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::change::Cause;

    fn effect(kind: &str, path: &str, before: Value, after: Value) -> Effect {
        let spec = serde_json::json!({
            "type": kind,
            "devices": {"root": {"type": "disk", "path": "/", "pool": "fast"}, "eth0": {"type": "nic", "network": "lan"}},
        });
        let spec = Spec::deserialize(Kind::Instance, &spec).expect("an instance");
        let change = FieldChange {
            path: Pointer::new(path),
            before,
            after,
            cause: Cause::Edited,
        };
        incus_effect(&spec, &change)
    }

    #[test]
    fn what_a_server_refuses_while_a_machine_runs_needs_a_stop() {
        let null = || Value::Null;
        for (kind, path, before, after, wanted) in [
            (
                "container",
                "/spec/limits/diskPriority",
                null(),
                null(),
                Effect::Live,
            ),
            (
                "virtual-machine",
                "/spec/limits/diskPriority",
                null(),
                null(),
                Effect::StopNeeded,
            ),
            (
                "virtual-machine",
                "/spec/limits/cpu",
                1.into(),
                2.into(),
                Effect::Live,
            ),
            (
                "virtual-machine",
                "/spec/limits/cpu",
                1.into(),
                "0-1".into(),
                Effect::StopNeeded,
            ),
            (
                "container",
                "/spec/limits/cpu",
                1.into(),
                "0-1".into(),
                Effect::Live,
            ),
            (
                "container",
                "/spec/limits/kernel/nofile",
                null(),
                null(),
                Effect::NextStart,
            ),
            (
                "container",
                "/spec/devices/root/pool",
                null(),
                null(),
                Effect::Replace,
            ),
            (
                "container",
                "/spec/devices/root/readonly",
                null(),
                null(),
                Effect::StopNeeded,
            ),
            (
                "container",
                "/spec/devices/root/size",
                "2GiB".into(),
                "1GiB".into(),
                Effect::Live,
            ),
            (
                "virtual-machine",
                "/spec/devices/root/size",
                "2GiB".into(),
                "1GiB".into(),
                Effect::Forbidden,
            ),
            (
                "container",
                "/spec/devices/eth0/mtu",
                null(),
                null(),
                Effect::Replug,
            ),
            (
                "container",
                "/spec/devices/eth0/acls",
                null(),
                null(),
                Effect::Live,
            ),
            (
                "container",
                "/spec/description",
                null(),
                null(),
                Effect::Live,
            ),
        ] {
            assert_eq!(effect(kind, path, before, after), wanted, "{kind} {path}");
        }
    }
}
