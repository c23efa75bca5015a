//! Which capabilities a container may ever have: names and lists in, one mask for the bounding set out.

use std::collections::BTreeSet;

/// What the manifest says about capabilities. Names are lower case, without `CAP_`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Capabilities {
    /// All but the engine's list (unless `defaults` is false) and these.
    Drop {
        /// Also drop the engine's own list.
        defaults: bool,
        /// Dropped too.
        names: Vec<String>,
    },
    /// These alone.
    Keep(Vec<String>),
}

impl Default for Capabilities {
    fn default() -> Self {
        Self::Drop {
            defaults: true,
            names: Vec::new(),
        }
    }
}

/// A name that no capability has.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("no capability is named {0}")]
pub struct UnknownCapability(pub String);

/// In the order of their numbers (`<linux/capability.h>`).
pub const NAMES: [&str; 41] = [
    "chown",
    "dac_override",
    "dac_read_search",
    "fowner",
    "fsetid",
    "kill",
    "setgid",
    "setuid",
    "setpcap",
    "linux_immutable",
    "net_bind_service",
    "net_broadcast",
    "net_admin",
    "net_raw",
    "ipc_lock",
    "ipc_owner",
    "sys_module",
    "sys_rawio",
    "sys_chroot",
    "sys_ptrace",
    "sys_pacct",
    "sys_admin",
    "sys_boot",
    "sys_nice",
    "sys_resource",
    "sys_time",
    "sys_tty_config",
    "mknod",
    "lease",
    "audit_write",
    "audit_control",
    "setfcap",
    "mac_override",
    "mac_admin",
    "syslog",
    "wake_alarm",
    "block_suspend",
    "audit_read",
    "perfmon",
    "bpf",
    "checkpoint_restore",
];

/// Of no use to a container, or only to attack the host's kernel. `sys_boot` stays: without it a container can neither
/// halt nor reboot itself.
const DROPPED: [&str; 7] = [
    "sys_module",
    "sys_rawio",
    "mac_admin",
    "wake_alarm",
    "block_suspend",
    "perfmon",
    "bpf",
];

/// Without a user namespace these would reach the host.
const DROPPED_WHEN_PRIVILEGED: [&str; 3] = ["mac_override", "sys_time", "syslog"];

fn mask(names: &[String]) -> Result<u64, UnknownCapability> {
    names.iter().try_fold(0, |mask, name| {
        NAMES
            .iter()
            .position(|known| known == name)
            .map(|number| mask | 1 << number)
            .ok_or_else(|| UnknownCapability(name.clone()))
    })
}

fn known(names: &[&str]) -> u64 {
    let names: BTreeSet<&str> = names.iter().copied().collect();
    NAMES
        .iter()
        .enumerate()
        .filter(|(_, name)| names.contains(*name))
        .fold(0, |mask, (number, _)| mask | 1 << number)
}

/// Bit n: capability n stays in the bounding set.
///
/// # Errors
/// A name that no capability has.
pub fn bounding_set(wanted: &Capabilities, privileged: bool) -> Result<u64, UnknownCapability> {
    let all = (1 << NAMES.len()) - 1;
    Ok(match wanted {
        Capabilities::Keep(names) => mask(names)?,
        Capabilities::Drop { defaults, names } => {
            let mut dropped = mask(names)?;
            if *defaults {
                dropped |= known(&DROPPED);
                if privileged {
                    dropped |= known(&DROPPED_WHEN_PRIVILEGED);
                }
            }
            all & !dropped
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn has(mask: u64, name: &str) -> bool {
        mask & mask_of(name) != 0
    }

    fn mask_of(name: &str) -> u64 {
        mask(&[name.to_owned()]).unwrap()
    }

    #[test]
    fn the_defaults_keep_what_systemd_needs_and_drop_what_only_attacks() {
        let unprivileged = bounding_set(&Capabilities::default(), false).unwrap();
        assert!(has(unprivileged, "sys_boot") && has(unprivileged, "sys_admin"));
        assert!(!has(unprivileged, "sys_module") && !has(unprivileged, "bpf"));
        assert!(has(unprivileged, "sys_time"));
        let privileged = bounding_set(&Capabilities::default(), true).unwrap();
        assert!(!has(privileged, "sys_time"));
    }

    #[test]
    fn keep_replaces_the_list() {
        let keep = Capabilities::Keep(vec!["kill".to_owned(), "bpf".to_owned()]);
        assert_eq!(
            bounding_set(&keep, true),
            Ok(mask_of("kill") | mask_of("bpf"))
        );
    }

    #[test]
    fn a_wrong_name_is_said() {
        let wanted = Capabilities::Keep(vec!["cap_kill".to_owned()]);
        let error = bounding_set(&wanted, false).unwrap_err();
        assert_eq!(error.to_string(), "no capability is named cap_kill");
    }

    #[test]
    fn names_stand_at_their_numbers() {
        assert_eq!(mask_of("sys_admin"), 1 << 21);
        assert_eq!(mask_of("checkpoint_restore"), 1 << 40);
    }
}
