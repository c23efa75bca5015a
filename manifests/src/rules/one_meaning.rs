//! Fields that exclude each other are not written together.

use super::{Rule, devices, wrong};
use crate::desired::DesiredSet;
use crate::devices::Device;
use crate::diagnostic::{Code, Diagnostics};
use crate::kind::Spec;
use crate::kinds::instance::InstanceType;
use crate::kinds::storage_pool::PoolDriver;
use crate::kinds::volume::VolumeSource;
use crate::pointer::Pointer;
use crate::scalar::image_ref::ImageSource;

/// Two fields that cannot both count.
pub(crate) const CONTRADICTION: Code = Code("E0118");

/// What is written has one meaning.
pub(super) struct OneMeaning;

impl Rule for OneMeaning {
    fn check(&self, desired: &DesiredSet, found: &mut Diagnostics) {
        let spec = Pointer::new("/spec");
        for resource in desired.resources.values() {
            let mut both = |at: Pointer, message: String, hint: &str| {
                found.push(wrong(CONTRADICTION, resource, at, message).hint(hint));
            };
            match &resource.spec {
                Spec::Instance(instance) => {
                    let capabilities = &instance.security.capabilities;
                    if capabilities.keep.is_some() && !capabilities.drop.is_empty() {
                        both(
                            spec.field("security").field("capabilities").field("drop"),
                            "`keep` names all capabilities that are left, so `drop` says nothing"
                                .to_owned(),
                            "take one of them away",
                        );
                    }
                    for (_, device, at) in devices(instance) {
                        match device {
                            Device::Nic(nic) if nic.network.is_some() => {
                                let other = [
                                    ("nicType", nic.nic_type.is_some()),
                                    ("parent", nic.parent.is_some()),
                                ];
                                for (field, _) in other.iter().filter(|(_, written)| *written) {
                                    both(
                                        at.field(field),
                                        format!(
                                            "`{field}` beside `network`: the network says how the interface is joined"
                                        ),
                                        "take one of them away",
                                    );
                                }
                            }
                            Device::Disk(disk)
                                if disk.source.is_some()
                                    && disk
                                        .path
                                        .as_ref()
                                        .is_some_and(|path| path.as_str() == "/") =>
                            {
                                both(
                                    at.field("source"),
                                    "the root disk is made from the image and has no `source`"
                                        .to_owned(),
                                    "take `source` away, or give the disk another `path`",
                                );
                            }
                            _ => {}
                        }
                    }
                }
                Spec::Image(image) => {
                    if image.kernel.is_some() && image.r#type == Some(InstanceType::Container) {
                        both(
                            spec.field("kernel"),
                            "`kernel` is for machines, and the image is for containers".to_owned(),
                            "take it away, or write `type: virtual-machine`",
                        );
                    }
                    let source = image.source.as_ref();
                    if source.and_then(ImageSource::made_for).is_some() {
                        let hint = "name a disk, such as `source: { file: ./disk.qcow2 }`";
                        if image.kernel.is_some() {
                            both(
                                spec.field("kernel"),
                                "`kernel` is for machines, and the source is files for containers"
                                    .to_owned(),
                                hint,
                            );
                        } else if image.r#type == Some(InstanceType::VirtualMachine) {
                            both(
                                spec.field("source"),
                                "machines start from a disk, and this source is files for containers"
                                    .to_owned(),
                                hint,
                            );
                        }
                    }
                }
                Spec::SnapshotSchedule(schedule)
                    if schedule.retention.is_some() && schedule.expiry.is_some() =>
                {
                    both(
                        spec.field("expiry"),
                        "`expiry` beside `retention`: which of them would decide?".to_owned(),
                        "take one of them away",
                    );
                }
                Spec::StoragePool(pool) => {
                    let blocks = [
                        ("btrfs", pool.btrfs.is_some(), PoolDriver::Btrfs),
                        ("zfs", pool.zfs.is_some(), PoolDriver::Zfs),
                        ("lvm", pool.lvm.is_some(), PoolDriver::Lvm),
                    ];
                    for (field, written, driver) in blocks {
                        if written && pool.driver != driver {
                            both(
                                spec.field(field),
                                format!(
                                    "`{field}` is for pools of driver {driver}, this one is {}",
                                    pool.driver
                                ),
                                "take it away, or change `driver`",
                            );
                        }
                    }
                }
                Spec::Volume(volume) if volume.shifted && volume.unmapped => both(
                    spec.field("unmapped"),
                    "a volume is `shifted` or `unmapped`, not both".to_owned(),
                    "take one of them away",
                ),
                Spec::Volume(volume) => {
                    let source = volume.source.as_ref();
                    let of_volume = |source: &&VolumeSource| {
                        let VolumeSource {
                            pool,
                            volume,
                            snapshot,
                            file,
                        } = source;
                        let named = pool.is_some() || !volume.is_empty() || snapshot.is_some();
                        file.is_some() && named
                    };
                    if source.filter(of_volume).is_some() {
                        both(
                            spec.field("source").field("file"),
                            "a volume is a copy of a file or of a volume, not of both".to_owned(),
                            "take one of them away",
                        );
                    }
                }
                _ => {}
            }
        }
    }
}
