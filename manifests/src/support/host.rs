//! What a manifest asks for beyond what this host grants.

use serde_json::Value;

use super::{HOST, machines, macvtaps, passed};
use crate::desired::{DesiredSet, Resource};
use crate::diagnostic::{Diagnostic, Diagnostics};
use crate::feature::{BTRFS, CLUSTER, Capabilities, LVM, MACHINES, ZFS};
use crate::kind::Spec;
use crate::kinds::instance::Instance;
use crate::kinds::storage_pool::PoolDriver;
use crate::near_miss::nearest;
use crate::pointer::Pointer;
use crate::scalar::kernel_limit::KernelLimit;

/// All of it: warnings where instances start with what there is, errors where they could not run.
pub fn beyond(desired: &DesiredSet, host: &Capabilities) -> Diagnostics {
    let mut found = Diagnostics::default();
    for resource in desired.resources.values() {
        let architecture = match &resource.spec {
            Spec::Instance(instance) => instance.architecture.as_deref(),
            Spec::Image(image) => image.architecture.as_deref(),
            _ => None,
        };
        if let Some(wanted) = architecture.filter(|wanted| *wanted != host.architecture) {
            let at = Pointer::new("/spec/architecture");
            let message = format!("this host is {}, not {wanted}", host.architecture);
            found.push(error(resource, at, message));
        }
        if let Spec::StoragePool(pool) = &resource.spec
            && let Some(feature) = of_driver(pool.driver)
            && let Some(why) = host.trouble(feature)
        {
            found.push(error(
                resource,
                Pointer::new("/spec/driver"),
                why.to_owned(),
            ));
        }
        let of_a_cluster = match &resource.spec {
            Spec::StoragePool(pool) if !pool.members.is_empty() => Some("/spec/members"),
            Spec::Network(network) if !network.members.is_empty() => Some("/spec/members"),
            Spec::Instance(instance) if instance.placement.is_some() => Some("/spec/placement"),
            _ => None,
        };
        if let (Some(at), Some(why)) = (of_a_cluster, host.trouble(CLUSTER)) {
            found.push(error(resource, Pointer::new(at), why.to_owned()));
        }
        keys(resource, host, &mut found);
        let Spec::Instance(instance) = &resource.spec else {
            continue;
        };
        if host.engine == "incus" {
            if let Some(why) = host.trouble(MACHINES).filter(|_| !instance.is_container()) {
                found.push(error(resource, Pointer::new("/spec/type"), why.to_owned()));
            }
            continue;
        }
        match instance.is_container() {
            true => ceilings(resource, instance, host, &mut found),
            false => {
                machines::beyond(resource, instance, desired, host, &mut found);
                macvtaps::beyond(resource, instance, desired, host, &mut found);
                passed::beyond(resource, instance, desired, host, &mut found);
            }
        }
    }
    found
}

/// Servers take whatever begins so, and document only some of it.
const OPEN: &[&str] = &["limits.kernel.", "image."];

/// Keys in `config` that the server does not have.
fn keys(resource: &Resource, host: &Capabilities, found: &mut Diagnostics) {
    let config = match &resource.spec {
        Spec::Instance(instance) => &instance.config,
        Spec::Project(project) => &project.config,
        _ => return,
    };
    if host.engine != "incus" {
        return;
    }
    let mut say = |key: &String, message: String| {
        let at = Pointer::new("/spec/config").field(key);
        found.push(error(resource, at, message));
    };
    // They are of whoever uses the server, and are never read as keys that a manifest gives here.
    for key in config.keys() {
        let Some(own) = key.strip_prefix("user.") else {
            continue;
        };
        let message = match &resource.spec {
            Spec::Instance(_) => format!("`{key}` has a field: write `user: {{ {own}: … }}`"),
            _ => format!("`{key}` is a free key, and only those of instances have a field"),
        };
        say(key, message);
    }
    let Some(known) = host.config_keys.get(&resource.address.kind) else {
        return;
    };
    // `user.*`, `volatile.<name>.hwaddr`, `limits.disk.pool.POOL_NAME`: whatever follows may be anything.
    let is_known = |key: &str| {
        let mut known = known.iter();
        let is_open = |one: char| matches!(one, '*' | '<' | '{') || one.is_ascii_uppercase();
        OPEN.iter().any(|open| key.starts_with(open))
            || known.any(|known| match known.find(is_open) {
                // A unit is no name: `limits.hugepages.2MB`.
                Some(open) if known[..open].ends_with('.') => key.starts_with(&known[..open]),
                _ => key == known,
            })
    };
    for key in config.keys().filter(|key| !is_known(key)) {
        let words: Vec<&str> = known.iter().map(String::as_str).collect();
        let nearest = nearest(key, &words);
        let hint = nearest.map_or_else(String::new, |word| format!("; is `{word}` meant?"));
        say(
            key,
            format!("the server {} has no key `{key}`{hint}", host.host),
        );
    }
}

/// What pools of a driver need of a host.
fn of_driver(driver: PoolDriver) -> Option<&'static str> {
    match driver {
        PoolDriver::Btrfs => Some(BTRFS),
        PoolDriver::Lvm => Some(LVM),
        PoolDriver::Zfs => Some(ZFS),
        _ => None,
    }
}

/// Something without which an instance could not run.
pub(super) fn error(resource: &Resource, at: Pointer, message: String) -> Diagnostic {
    Diagnostic::error(HOST, resource.origin_of(&at), message)
        .of(&resource.address)
        .at(at)
}

fn ceilings(
    resource: &Resource,
    instance: &Instance,
    host: &Capabilities,
    found: &mut Diagnostics,
) {
    let Ok(limits) = serde_json::to_value(&instance.limits.kernel) else {
        return;
    };
    for (name, ceiling) in &host.ceilings {
        let Some(limit) = limits
            .get(name)
            .and_then(Value::as_str)
            .and_then(|text| text.parse::<KernelLimit>().ok())
        else {
            continue;
        };
        if limit.hard.is_some_and(|hard| hard <= *ceiling) {
            continue;
        }
        let at = Pointer::new("/spec/limits/kernel").field(name);
        let origin = resource.origin_of(&at).clone();
        let message =
            format!("this host grants {name} up to {ceiling} (it lacks CAP_SYS_RESOURCE)");
        let one = Diagnostic::warning(HOST, origin, message).of(&resource.address);
        found.push(one.at(at));
    }
}
