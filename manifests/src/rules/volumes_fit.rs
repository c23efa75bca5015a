//! A volume fits those who use it: what is on it, and how many they are.

use std::collections::BTreeMap;

use super::requirements::NOT_FOR_IT;
use super::{Rule, devices, instances, wrong};
use crate::desired::{DesiredSet, Resource};
use crate::devices::Disk;
use crate::diagnostic::Diagnostics;
use crate::id::Address;
use crate::kind::{Kind, Spec};
use crate::kinds::volume::{ContentType, Volume};
use crate::pointer::Pointer;

/// The content of volumes and of their copies against the disks that they are, and that nobody writes to the same
/// blocks as another.
pub(super) struct VolumesFit;

impl Rule for VolumesFit {
    fn check(&self, desired: &DesiredSet, found: &mut Diagnostics) {
        let mut users: BTreeMap<&Address, Vec<(&Resource, Pointer)>> = BTreeMap::new();
        for (resource, instance) in instances(desired) {
            for (_, device, at) in devices(instance) {
                let Some(disk) = device.as_disk() else {
                    continue;
                };
                let Some((address, declared, volume)) = declared(desired, resource, disk) else {
                    continue;
                };
                let is_files = volume.content_type == ContentType::Filesystem;
                let wrong_place = match (instance.is_container(), is_files, &disk.path) {
                    (true, false, _) => Some((
                        "source",
                        "a container mounts volumes of files, and this one is for machines",
                    )),
                    (_, true, None) => {
                        Some(("source", "`path` says where its files are in the instance"))
                    }
                    (false, false, Some(_)) => Some((
                        "path",
                        "a volume of blocks is a disk, which the guest mounts itself where it wants it",
                    )),
                    _ => None,
                };
                if let Some((field, message)) = wrong_place {
                    let asked = declared.origin_of(&Pointer::new("/spec/contentType"));
                    found.push(
                        wrong(NOT_FOR_IT, resource, at.field(field), message)
                            .related(asked, format!("it holds {}", holds(volume))),
                    );
                    continue;
                }
                if volume.content_type == ContentType::Block && !volume.shared {
                    users
                        .entry(address)
                        .or_default()
                        .push((resource, at.field("source")));
                }
            }
        }
        for (address, users) in users {
            let [(first, place), others @ ..] = users.as_slice() else {
                continue;
            };
            for (resource, at) in others {
                let message = format!(
                    "{address} is a disk of {} already, and two machines on one disk destroy what is on it",
                    first.address
                );
                found.push(
                    wrong(NOT_FOR_IT, resource, at.clone(), message)
                        .related(first.origin_of(place), "here")
                        .hint(
                            "`shared: true` on the volume, if their file system is made for that",
                        ),
                );
            }
        }
        copies(desired, found);
    }
}

/// What a copy is of is of the same content.
fn copies(desired: &DesiredSet, found: &mut Diagnostics) {
    for resource in desired.resources.values() {
        let Spec::Volume(volume) = &resource.spec else {
            continue;
        };
        let Some(source) = &volume.source else {
            continue;
        };
        let pool = source.pool.as_deref().unwrap_or(&volume.pool);
        let Some((_, of, original)) = named(desired, resource, pool, &source.volume) else {
            continue;
        };
        let at = Pointer::new("/spec/source/volume");
        if original.content_type != volume.content_type {
            let message = format!("it holds {}, and so does its copy", holds(original));
            let asked = of.origin_of(&Pointer::new("/spec/contentType"));
            found.push(wrong(NOT_FOR_IT, resource, at, message).related(asked, "it is said here"));
        }
    }
}

/// What is on a volume.
const fn holds(volume: &Volume) -> &'static str {
    match volume.content_type {
        ContentType::Filesystem => "files",
        ContentType::Block => "blocks",
        ContentType::Iso => "an image of a CD",
    }
}

/// The volume that a disk is, where it is declared.
fn declared<'a>(
    desired: &'a DesiredSet,
    resource: &Resource,
    disk: &Disk,
) -> Option<(&'a Address, &'a Resource, &'a Volume)> {
    let (pool, name) = disk.volume()?;
    named(
        desired,
        resource,
        pool,
        name.split('/').next().unwrap_or(name),
    )
}

/// A volume as somebody names it: of its own project, else of the default one.
fn named<'a>(
    desired: &'a DesiredSet,
    resource: &Resource,
    pool: &str,
    name: &str,
) -> Option<(&'a Address, &'a Resource, &'a Volume)> {
    let in_project = |project: &str| {
        let mut address = Address::in_project(Kind::Volume, project, name);
        address.pool = Some(pool.to_owned());
        desired.resources.get_key_value(&address)
    };
    let (address, declared) =
        in_project(resource.address.project_name()).or_else(|| in_project("default"))?;
    match &declared.spec {
        Spec::Volume(volume) => Some((address, declared, volume.as_ref())),
        _ => None,
    }
}
