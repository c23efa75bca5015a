//! Numbers and lengths are within their bounds.

use super::{Rule, devices, wrong};
use crate::decode::BAD_VALUE;
use crate::desired::{DesiredSet, Resource};
use crate::devices::Device;
use crate::diagnostic::Diagnostics;
use crate::instance::cloud_init::MOST_BYTES;
use crate::kind::Spec;
use crate::kinds::snapshot_schedule::Retention;
use crate::pointer::Pointer;
use crate::scalar::byte_size::ByteSize;
use crate::scalar::memory::MemoryLimit;

/// Priorities, packet sizes and VLANs are numbers that the kernel takes.
pub(super) struct InRange;

const SPEC: &str = "/spec";

/// Bytes below which no process runs and no file system is made: whoever writes less forgot the unit.
const LEAST: u64 = 1 << 20;

/// Sizes of memory and of file systems that are too small, in bytes.
fn too_small(resource: &Resource) -> Vec<(Pointer, u64)> {
    let spec = Pointer::new(SPEC);
    let mut small = Vec::new();
    let mut look = |at: &dyn Fn() -> Pointer, size: Option<&ByteSize>| {
        if let Some(bytes) = size.map(ByteSize::bytes).filter(|bytes| *bytes < LEAST) {
            small.push((at(), bytes));
        }
    };
    match &resource.spec {
        Spec::Instance(instance) => {
            if let Some(MemoryLimit::Size(size)) = &instance.limits.memory {
                look(&|| spec.field("limits").field("memory"), Some(size));
            }
            for (_, device, at) in devices(instance) {
                if let Device::Disk(disk) = device
                    && disk.is_root()
                {
                    look(&|| at.field("size"), disk.size.as_ref());
                }
            }
        }
        Spec::Volume(volume) => look(&|| spec.field("size"), volume.size.as_ref()),
        Spec::StoragePool(pool) => look(&|| spec.field("size"), pool.size.as_ref()),
        _ => {}
    }
    small
}

/// What a kernel takes as its command line: `COMMAND_LINE_SIZE` of x86 without its end.
const LONGEST_COMMAND_LINE: usize = 2047;

impl Rule for InRange {
    fn check(&self, desired: &DesiredSet, found: &mut Diagnostics) {
        for resource in desired.resources.values() {
            for (at, bytes) in too_small(resource) {
                let message = format!("{} is {bytes} bytes", at.dotted());
                let one = wrong(BAD_VALUE, resource, at, message);
                found.push(one.hint(format!("did you mean `{bytes}MiB`?")));
            }
            if let Spec::Image(image) = &resource.spec
                && let Some(line) = &image.cmdline
                && (line.len() > LONGEST_COMMAND_LINE || line.chars().any(char::is_control))
            {
                let message = format!(
                    "the command line of a kernel is one line of at most {LONGEST_COMMAND_LINE} bytes"
                );
                let at = Pointer::new(SPEC).field("cmdline");
                found.push(wrong(BAD_VALUE, resource, at, message));
            }
            if let Spec::Instance(instance) = &resource.spec
                && let Some(bytes) = Some(instance.cloud_init.bytes()).filter(|it| *it > MOST_BYTES)
            {
                let at = Pointer::new(SPEC).field("cloudInit");
                let message = format!("cloudInit has {bytes} bytes, expected {MOST_BYTES} at most");
                found.push(wrong(BAD_VALUE, resource, at, message));
            }
            let mut within = |at: Pointer, number: Option<i64>, least: i64, most: i64| {
                if let Some(number) = number.filter(|number| !(least..=most).contains(number)) {
                    found.push(outside(resource, at, number, least, most));
                }
            };
            let spec = Pointer::new(SPEC);
            match &resource.spec {
                Spec::Instance(instance) => {
                    let limits = spec.field("limits");
                    let rules = [
                        (
                            "cpuPriority",
                            i64::from(instance.limits.cpu_priority),
                            0,
                            10,
                        ),
                        (
                            "diskPriority",
                            i64::from(instance.limits.disk_priority),
                            0,
                            10,
                        ),
                        (
                            "memoryOomPriority",
                            i64::from(instance.limits.memory_oom_priority),
                            -1000,
                            1000,
                        ),
                    ];
                    for (field, number, least, most) in rules {
                        within(limits.field(field), Some(number), least, most);
                    }
                    within(
                        limits.field("processes"),
                        instance.limits.processes.map(i64::from),
                        1,
                        4_194_304,
                    );
                    for (_, device, at) in devices(instance) {
                        if let Device::Nic(nic) = device {
                            within(at.field("mtu"), nic.mtu.map(i64::from), 68, 65_535);
                            within(at.field("vlan"), nic.vlan.map(i64::from), 1, 4094);
                        }
                    }
                }
                Spec::Network(network) => {
                    within(
                        spec.field("bridge").field("mtu"),
                        network.bridge.mtu.map(i64::from),
                        68,
                        65_535,
                    );
                    within(spec.field("vlan"), network.vlan.map(i64::from), 1, 4094);
                }
                Spec::SnapshotSchedule(schedule) => {
                    if let Some(rules) = &schedule.retention {
                        kept(resource, &spec.field("retention"), rules, found);
                    }
                }
                Spec::Backup(backup) => {
                    for (index, recipient) in backup.encrypt_to.iter().enumerate() {
                        if !is_recipient(recipient) {
                            let at = spec.field("encryptTo").index(index);
                            let message = format!("{recipient:?} is no recipient of age");
                            let one = wrong(BAD_VALUE, resource, at, message);
                            found.push(one.hint("`age-keygen -y` tells it: `age1…`"));
                        }
                    }
                    if let Some(rules) = &backup.retention {
                        kept(resource, &spec.field("retention"), rules, found);
                    }
                }
                _ => {}
            }
        }
    }
}

/// Whether a text has the form of a key that age encrypts to: bech32 of 32 bytes (BIP 173).
fn is_recipient(text: &str) -> bool {
    let data = text.strip_prefix("age1").unwrap_or_default();
    data.len() == 58
        && data
            .chars()
            .all(|letter| "qpzry9x8gf2tvdw0s3jn54khce6mua7l".contains(letter))
}

/// Something is kept, and none of what is written keeps nothing.
fn kept(resource: &Resource, at: &Pointer, rules: &Retention, found: &mut Diagnostics) {
    let all = [
        ("keepLast", rules.keep_last),
        ("keepHourly", rules.keep_hourly),
        ("keepDaily", rules.keep_daily),
        ("keepWeekly", rules.keep_weekly),
        ("keepMonthly", rules.keep_monthly),
        ("keepYearly", rules.keep_yearly),
    ];
    for (field, number) in all {
        if number == Some(0) {
            let at = at.field(field);
            let message = format!("{} is 0: it keeps nothing", at.dotted());
            found.push(wrong(BAD_VALUE, resource, at, message).hint("take it away"));
        }
    }
    if all.iter().all(|(_, number)| number.is_none()) {
        let message = "`retention` keeps nothing".to_owned();
        let one = wrong(BAD_VALUE, resource, at.clone(), message);
        found.push(one.hint("say how many, such as `keepDaily: 7`, or take it away to keep all"));
    }
}

fn outside(
    resource: &Resource,
    at: Pointer,
    number: i64,
    least: i64,
    most: i64,
) -> crate::diagnostic::Diagnostic {
    let message = format!("{} is {number}, expected {least} to {most}", at.dotted());
    wrong(BAD_VALUE, resource, at, message)
}

#[cfg(test)]
mod tests {
    use crate::instance::cloud_init::MOST_BYTES;
    use crate::read::Texts;
    use crate::resolve::resolve;

    #[test]
    fn what_cloud_init_is_given_has_an_end() {
        for (length, is_right) in [(MOST_BYTES / 2, true), (MOST_BYTES / 2 + 1, false)] {
            let text = "x".repeat(length);
            let manifest = format!(
                "apiVersion: evenkeel/v1\nkind: StoragePool\nmetadata: {{name: fast}}\n---\n\
                 apiVersion: evenkeel/v1\nkind: Instance\nmetadata: {{name: vm}}\nspec:\n  type: virtual-machine\n  \
                 cloudInit:\n    userData: {text}\n    parts: {{ a: {text} }}\n"
            );
            let resolved = resolve(
                &Texts {
                    root: "/".into(),
                    files: vec![("vm.yaml".to_owned(), manifest)],
                    ..Texts::default()
                },
                None,
            );
            let found = resolved.found.sorted();
            let said: Vec<_> = found.iter().map(|one| &one.message).collect();
            assert_eq!(resolved.desired.is_some(), is_right, "{said:?}");
            assert!(
                is_right || said[0].contains("cloudInit has 8388610 bytes"),
                "{said:?}"
            );
        }
    }
}
