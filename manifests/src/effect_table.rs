//! What a change of a field costs on the native engine, as data: kind, pattern of the pointer, effect. The first line
//! that matches counts.

use crate::effect::Effect;
use crate::kind::Kind;
use crate::pointer::Pointer;

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
    (Kind::Instance, "/spec/boot", Effect::Live),
    (Kind::Instance, "/spec/health", Effect::Live),
    (Kind::Instance, "/spec/profiles", Effect::Live),
    (Kind::Instance, "/spec/snapshots", Effect::Live),
    (Kind::Instance, "/spec/placement", Effect::Live),
    (Kind::Instance, "/spec/devices/*/pool", Effect::Replace),
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
    (Kind::Volume, "/spec/contentType", Effect::Replace),
];

/// What a change of this field costs while the object runs.
pub fn effect(kind: Kind, path: &Pointer) -> Effect {
    NATIVE
        .iter()
        .find(|(of, pattern, _)| *of == kind && Pointer::new(pattern).matches(path))
        .map_or(Effect::Live, |(_, _, effect)| *effect)
}

#[cfg(test)]
mod tests {
    use super::*;

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
        ];
        for (kind, path, expected) in cases {
            assert_eq!(effect(kind, &Pointer::new(path)), expected, "{path}");
        }
    }
}
