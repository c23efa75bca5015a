//! [`Security`]: what an instance may do.

use std::collections::BTreeMap;
use std::fmt;

use crate::scalar::id_map::IdMapEntry;

crate::fields! {
    /// The ids of the host that an instance's ids are.
    pub struct IdMap {
        /// Whether no other instance has the same.
        isolated: bool = true,
        /// How many.
        size: u32 = 65536,
        /// The first one; absent: picked once and kept.
        base: Option<u32> = None,
        /// Ids of the host that it sees under ids of its own: `both 1000 1000`.
        extra: Vec<IdMapEntry> = Vec::new(),
    }
}

crate::fields! {
    /// The capabilities (capabilities(7)) that its processes can have, in lower case without `cap_`.
    pub struct Capabilities {
        /// Taken away beyond the engine's list.
        drop: Vec<String> = Vec::new(),
        /// Whether the engine's list is taken away.
        drop_defaults: bool = true,
        /// All that is left, instead of `drop` and `dropDefaults`.
        keep: Option<Vec<String>> = None,
    }
}

crate::words! {
    /// How a kernel file system is mounted.
    pub enum KernelMount {
        /// Writable where that is safe.
        Mixed "mixed",
        /// Read-only.
        ReadOnly "ro",
        /// Writable.
        ReadWrite "rw",
    }
}

crate::fields! {
    /// How the kernel's file systems are mounted.
    pub struct KernelMounts {
        /// `/proc`.
        proc: KernelMount = KernelMount::Mixed,
        /// `/sys`.
        sys: KernelMount = KernelMount::Mixed,
        /// `/sys/fs/cgroup`.
        cgroup: KernelMount = KernelMount::Mixed,
    }
}

/// Which device nodes may be opened, beyond the devices of the instance.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum DeviceAccess {
    /// Null, zero, full, random, urandom, tty, terminals, fuse, tun.
    #[default]
    Default,
    /// All.
    All,
    /// These beyond the default, in the words of the devices controller: `c 10:237 rwm`.
    List(Vec<String>),
}

impl serde::Serialize for DeviceAccess {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Default => serializer.serialize_str("default"),
            Self::All => serializer.serialize_str("all"),
            Self::List(list) => list.serialize(serializer),
        }
    }
}

struct DeviceAccessVisitor;

impl<'de> serde::de::Visitor<'de> for DeviceAccessVisitor {
    type Value = DeviceAccess;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("`default`, `all` or a list of rules such as `c 10:237 rwm`")
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<DeviceAccess, E> {
        match text {
            "default" => Ok(DeviceAccess::Default),
            "all" => Ok(DeviceAccess::All),
            other => Err(E::unknown_variant(other, &["default", "all"])),
        }
    }

    fn visit_seq<A: serde::de::SeqAccess<'de>>(
        self,
        mut list: A,
    ) -> Result<DeviceAccess, A::Error> {
        let mut rules = Vec::new();
        while let Some(rule) = list.next_element::<String>()? {
            if !is_device_rule(&rule) {
                return Err(serde::de::Error::custom(format_args!(
                    "`{rule}` is no device rule: write type, numbers and access, such as `c 10:237 rwm`"
                )));
            }
            rules.push(rule);
        }
        Ok(DeviceAccess::List(rules))
    }
}

/// The form of `devices.allow` (Documentation/admin-guide/cgroup-v1/devices.rst): `c 10:237 rwm`, `b *:* m`.
fn is_device_rule(rule: &str) -> bool {
    let words: Vec<&str> = rule.split_whitespace().collect();
    let [kind, numbers, access] = words.as_slice() else {
        return false;
    };
    let number = |text: &str| text == "*" || text.parse::<u32>().is_ok();
    matches!(*kind, "a" | "b" | "c")
        && numbers
            .split_once(':')
            .is_some_and(|(major, minor)| number(major) && number(minor))
        && access.chars().all(|letter| "rwm".contains(letter))
}

impl<'de> serde::Deserialize<'de> for DeviceAccess {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(DeviceAccessVisitor)
    }
}

crate::scalar_schema!(DeviceAccess, "`default`, `all` or a list of rules such as `c 10:237 rwm`", {
    "anyOf": [
        { "enum": ["default", "all"] },
        { "type": "array", "items": { "type": "string", "pattern": "^[abc] ([0-9]+|\\*):([0-9]+|\\*) [rwm]+$" } },
    ],
});
crate::compare_as_one!(DeviceAccess);

crate::words! {
    /// Which system calls are refused.
    pub enum SeccompProfile {
        /// Those that containers do not need and that have hurt hosts.
        Default "default",
        /// None.
        Unconfined "unconfined",
    }
}

crate::fields! {
    /// Which system calls are refused.
    pub struct Seccomp {
        /// Where it begins.
        profile: SeccompProfile = SeccompProfile::Default,
        /// System calls that are allowed beyond the profile.
        allow: Vec<String> = Vec::new(),
        /// System calls that are refused beyond the profile.
        deny: Vec<String> = Vec::new(),
        /// Whether 32-bit system calls are refused on a 64-bit host.
        deny_compat: bool = false,
    }
}

crate::fields! {
    /// Mounts that the host makes for the instance.
    pub struct MountInterception {
        /// File systems that may be mounted.
        allowed: Vec<String> = Vec::new(),
        /// File systems that a FUSE program mounts instead: `{ext4: fuse2fs}`.
        fuse: BTreeMap<String, String> = BTreeMap::new(),
        /// Whether ids are shifted.
        shift: bool = false,
    }
}

crate::fields! {
    /// System calls that the host makes for the instance.
    pub struct Intercept {
        /// mknod and mknodat, of harmless devices.
        mknod: bool = false,
        /// setxattr of overlay attributes.
        setxattr: bool = false,
        /// mount.
        mount: Option<MountInterception> = None,
        /// bpf, for device programs.
        bpf: bool = false,
        /// sched_setscheduler.
        sched_setscheduler: bool = false,
        /// sysinfo, answered with the instance's limits.
        sysinfo: bool = false,
    }
}

crate::words! {
    /// Which AppArmor profile confines it.
    pub enum AppArmorMode {
        /// One that is made for it.
        Generated "generated",
        /// None.
        Unconfined "unconfined",
    }
}

crate::fields! {
    /// AppArmor.
    pub struct AppArmor {
        /// Which profile confines it.
        mode: AppArmorMode = AppArmorMode::Generated,
        /// Lines that are added to the generated profile.
        extra_rules: String = String::new(),
    }
}

crate::fields! {
    /// SELinux.
    pub struct SeLinux {
        /// The type of its processes; empty: the engine's.
        r#type: String = String::new(),
        /// The level of its processes; empty: one of its own.
        level: String = String::new(),
    }
}

crate::fields! {
    /// What an instance may do.
    pub struct Security {
        /// Whether its root is the host's root. Do not.
        privileged: bool = false,
        /// Whether it may run containers itself; absent: containers may not, machines may.
        nesting: Option<bool> = None,
        /// Its ids on the host.
        idmap: IdMap = IdMap::default(),
        /// What its processes can do.
        capabilities: Capabilities = Capabilities::default(),
        /// How the kernel's file systems are mounted.
        mounts: KernelMounts = KernelMounts::default(),
        /// Which device nodes may be opened: `default`, `all`, or a list such as `["c 10:237 rwm"]`.
        device_access: DeviceAccess = DeviceAccess::Default,
        /// Which system calls are refused.
        seccomp: Seccomp = Seccomp::default(),
        /// Which system calls the host makes for it.
        intercept: Intercept = Intercept::default(),
        /// AppArmor.
        apparmor: AppArmor = AppArmor::default(),
        /// SELinux.
        selinux: SeLinux = SeLinux::default(),
        /// Whether it reaches `/dev/incus/sock`, by which it can read its own settings.
        guest_api: bool = true,
        /// Whether a machine has an IOMMU.
        iommu: bool = false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_of_the_devices_controller() {
        for rule in ["c 10:237 rwm", "b *:* m", "a *:* rwm"] {
            assert!(is_device_rule(rule), "{rule}");
        }
        for rule in ["", "c 10 rwm", "d 1:1 r", "c 1:1 x", "c 1:1"] {
            assert!(!is_device_rule(rule), "{rule}");
        }
    }
}
