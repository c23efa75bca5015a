//! An instance has one root, and no two devices are in one place.

use std::collections::BTreeMap;

use super::{Rule, devices, instances, wrong};
use crate::desired::{DesiredSet, Resource};
use crate::devices::Device;
use crate::diagnostic::{Diagnostic, Diagnostics};
use crate::pointer::Pointer;
use crate::resolve::NO_ROOT;

use super::unique_addresses::TAKEN;

/// One root disk; one device at each path and under each name of an interface.
pub(super) struct RootDisk;

impl Rule for RootDisk {
    fn check(&self, desired: &DesiredSet, found: &mut Diagnostics) {
        for (resource, instance) in instances(desired) {
            let mut paths: BTreeMap<&str, (&str, Pointer)> = BTreeMap::new();
            let mut interfaces: BTreeMap<&str, (&str, Pointer)> = BTreeMap::new();
            for (name, device, at) in devices(instance) {
                let (places, place, field) = match device {
                    Device::Disk(disk) => match &disk.path {
                        Some(path) => (&mut paths, path.as_str(), "path"),
                        None => continue,
                    },
                    Device::Nic(nic) => (&mut interfaces, nic.interface(name), "name"),
                    _ => continue,
                };
                let at = at.field(field);
                match places.get(place) {
                    Some((first, first_at)) => {
                        found.push(twice(resource, (first, first_at), (name, at), place));
                    }
                    None => {
                        places.insert(place, (name, at));
                    }
                }
            }
        }
    }
}

fn twice(
    resource: &Resource,
    first: (&str, &Pointer),
    second: (&str, Pointer),
    place: &str,
) -> Diagnostic {
    let ((first, first_at), (second, at)) = (first, second);
    let one = if place == "/" {
        wrong(
            NO_ROOT,
            resource,
            at,
            format!("two root disks: devices {first} and {second} both have `path: /`"),
        )
        .hint("an instance has one root; `{ type: none }` takes an inherited device away")
    } else {
        wrong(
            TAKEN,
            resource,
            at,
            format!("devices {first} and {second} are both at {place}"),
        )
    };
    one.related(resource.origin_of(first_at), "the first one")
}
