//! What instances, volumes and backups of a restricted project may not do.

use super::{Rule, devices, wrong};
use crate::desired::DesiredSet;
use crate::devices::disk::DiskSource;
use crate::devices::{Device, Disk, Nic};
use crate::diagnostic::{Code, Diagnostics};
use crate::id::Address;
use crate::instance::security::{DeviceAccess, Intercept, Security};
use crate::kind::{Kind, Spec};
use crate::kinds::instance::Instance;
use crate::kinds::project::{Permission, Restrictions as Written};
use crate::kinds::volume::Volume;
use crate::pointer::Pointer;

/// Something that the project of an object does not allow.
pub(crate) const RESTRICTED: Code = Code("R0207");

/// `restrictions` of a Project, where they are enabled.
pub(super) struct Restrictions;

impl Rule for Restrictions {
    fn check(&self, desired: &DesiredSet, found: &mut Diagnostics) {
        for resource in desired.resources.values() {
            if !matches!(
                resource.spec,
                Spec::Instance(_) | Spec::Volume(_) | Spec::Backup(_)
            ) {
                continue;
            }
            let project = Address::new(Kind::Project, resource.address.project_name());
            let Some(Spec::Project(spec)) =
                desired.resources.get(&project).map(|found| &found.spec)
            else {
                continue;
            };
            if spec.restrictions.enabled {
                let mut refuse = |at: Pointer, what: String, by: &str| {
                    let origin = desired.resources.get(&project).map(|project| {
                        project.origin_of(&Pointer::new("/spec/restrictions").field(by))
                    });
                    let one = wrong(
                        RESTRICTED,
                        resource,
                        at,
                        format!("project {} does not allow {what}", project.name),
                    );
                    found.push(one.related(
                        origin.unwrap_or_default(),
                        format!("restrictions.{}", by.replace('/', ".")),
                    ));
                };
                match &resource.spec {
                    Spec::Instance(instance) => one(instance, &spec.restrictions, &mut refuse),
                    Spec::Volume(volume) => one_volume(volume, &spec.restrictions, &mut refuse),
                    Spec::Backup(_) if spec.restrictions.backups == Permission::Block => {
                        refuse(Pointer::new("/spec"), "backups".to_owned(), "backups");
                    }
                    _ => {}
                }
            }
        }
    }
}

type Refuse<'a> = dyn FnMut(Pointer, String, &str) + 'a;

fn one(instance: &Instance, allowed: &Written, refuse: &mut Refuse<'_>) {
    let security = Pointer::new("/spec/security");
    let blocks = |permission: Permission| permission == Permission::Block;
    let plain = Security::default();
    if instance.security.privileged && blocks(allowed.privileged) {
        refuse(
            security.field("privileged"),
            "privileged instances".to_owned(),
            "privileged",
        );
    }
    if instance.is_container() && instance.security.nesting == Some(true) && blocks(allowed.nesting)
    {
        refuse(security.field("nesting"), "nesting".to_owned(), "nesting");
    }
    if instance.security.intercept != Intercept::default() && blocks(allowed.syscall_interception) {
        refuse(
            security.field("intercept"),
            "interception of system calls".to_owned(),
            "syscallInterception",
        );
    }
    if blocks(allowed.low_level) {
        let low = [
            (
                "deviceAccess",
                instance.security.device_access != DeviceAccess::Default,
            ),
            ("apparmor", instance.security.apparmor != plain.apparmor),
            ("seccomp", instance.security.seccomp != plain.seccomp),
            (
                "capabilities",
                instance.security.capabilities != plain.capabilities,
            ),
        ];
        for (field, _) in low.iter().filter(|(_, written)| *written) {
            refuse(
                security.field(field),
                format!("security.{field} of its own"),
                "lowLevel",
            );
        }
        if !instance.config.is_empty() {
            refuse(
                Pointer::new("/spec/config"),
                "keys of Incus below this language".to_owned(),
                "lowLevel",
            );
        }
    }
    for (_, device, at) in devices(instance) {
        let permission = match device {
            Device::Disk(disk) => {
                one_disk(disk, &at, allowed, refuse);
                continue;
            }
            Device::Nic(nic) => {
                one_nic(nic, &at, allowed, refuse);
                continue;
            }
            Device::Proxy(_) => (allowed.devices.proxy, "proxy"),
            Device::UnixChar(_) => (allowed.devices.unix_char, "unixChar"),
            Device::UnixBlock(_) => (allowed.devices.unix_block, "unixBlock"),
            Device::Usb(_) => (allowed.devices.usb, "usb"),
            Device::Gpu(_) => (allowed.devices.gpu, "gpu"),
            Device::Pci(_) => (allowed.devices.pci, "pci"),
            Device::Tpm(_) | Device::None(_) => continue,
        };
        // Only disks and interfaces can be managed by the engine: `managed` allows none of the others.
        if permission.0 != Permission::Allow {
            let what = format!("devices of type {}", device.word());
            refuse(at, what, &format!("devices/{}", permission.1));
        }
    }
}

fn one_disk(disk: &Disk, at: &Pointer, allowed: &Written, refuse: &mut Refuse<'_>) {
    let DiskSource::Host(path) = disk.made_of() else {
        if allowed.devices.disk == Permission::Block && !disk.is_root() {
            refuse(
                at.clone(),
                "disks beside the root".to_owned(),
                "devices/disk",
            );
        }
        return;
    };
    one_path(path, at.field("source"), allowed, refuse);
}

/// What a volume is a copy of is read as what an instance has mounted is.
fn one_volume(volume: &Volume, allowed: &Written, refuse: &mut Refuse<'_>) {
    let file = volume
        .source
        .as_ref()
        .and_then(|source| source.file.as_ref());
    if let Some(file) = file {
        one_path(file, Pointer::new("/spec/source/file"), allowed, refuse);
    }
}

fn one_path(path: &str, at: Pointer, allowed: &Written, refuse: &mut Refuse<'_>) {
    let listed = allowed.disk_paths.iter().any(|folder| {
        path == folder
            || path
                .strip_prefix(folder.trim_end_matches('/'))
                .is_some_and(|rest| rest.starts_with('/'))
    });
    if allowed.devices.disk != Permission::Allow {
        refuse(at, format!("disks from the host ({path})"), "devices/disk");
    } else if !allowed.disk_paths.is_empty() && !listed {
        refuse(at, format!("disks from {path}"), "diskPaths");
    }
}

fn one_nic(nic: &Nic, at: &Pointer, allowed: &Written, refuse: &mut Refuse<'_>) {
    match (&nic.network, allowed.devices.nic) {
        (_, Permission::Block) => {
            refuse(at.clone(), "network interfaces".to_owned(), "devices/nic");
        }
        (None, Permission::Managed) => {
            refuse(
                at.clone(),
                "interfaces that join no Network".to_owned(),
                "devices/nic",
            );
        }
        (Some(network), _)
            if !allowed.network_access.is_empty() && !allowed.network_access.contains(network) =>
        {
            refuse(
                at.field("network"),
                format!("network {network}"),
                "networkAccess",
            );
        }
        _ => {}
    }
}
