//! What a machine on this host is made of: its image, its disks, its firmware.

use std::path::{Path, PathBuf};

use manifests::instance::boot::BootMode;
use manifests::kinds::instance::Instance;
use manifests::kinds::volume::ContentType;
use manifests::path_io::{self, AtPath as _};
use rustix::fs::{Mode, OFlags};

use super::super::picks::InstancePicks;
use super::super::{io_failed, pool_of, volumes};
use super::hardware::{self, Around, DirectBoot, Found};
use super::{passed, served};
use crate::error::{Class, RuntimeError};
use crate::native::definition::Definition;
use crate::native::disk_image::Format;
use crate::native::host::Host;
use crate::native::image::MachineImage;
use crate::native::machine;
use crate::native::machine::firmware::{self, Firmware};
use crate::native::machine::plan::{DiskFile, DiskLayers, Hardware};
use crate::native::pools::root_volume;
use crate::native::storage::Placed;

/// The hardware of a machine on this host.
pub(super) fn planned(instance: &Instance, around: Around<'_>) -> Result<Hardware, RuntimeError> {
    hardware::hardware(instance, around)
        .map_err(|why| RuntimeError::new("start", Class::NeedsOperator, why))
}

/// Finds everything on this host that a machine is made of.
pub(super) fn around<'a>(
    host: &Host,
    definition: &'a Definition<InstancePicks>,
    instance: &'a Instance,
) -> Result<Around<'a>, RuntimeError> {
    // A machine without an image has an empty disk.
    let image = match definition.picks.image.as_str() {
        "" => MachineImage::default(),
        fingerprint => host
            .images
            .machine(fingerprint)
            .map_err(io_failed("read the image of"))?,
    };
    let kernel = image.kernel.clone().map(|kernel| DirectBoot {
        kernel,
        initrd: image.initrd.clone(),
        cmdline: image.cmdline.clone(),
    });
    let (_, driver) = pool_of(host, &definition.picks.pool)?;
    let volume = root_volume(&definition.uid);
    let failed = |error| RuntimeError::new("find the root of", Class::Retry, error);
    let placed = driver.place(&volume).map_err(failed)?;
    let Placed::Disk {
        file,
        layer,
        below,
        format,
        ..
    } = placed
    else {
        let why = "its root is that of a container";
        return Err(RuntimeError::new("find the root of", Class::Bug, why));
    };
    let secure = match hardware::boot_mode(instance, kernel.is_some()) {
        BootMode::UefiSecureboot => Some(true),
        BootMode::Uefi => Some(false),
        BootMode::Bios | BootMode::Direct => None,
    };
    let firmware = secure.map(|secure| uefi(&file, secure)).transpose()?;
    let backing = image.disk.map(|disk| DiskFile {
        path: disk.path,
        format: disk.format,
        device: false,
    });
    let mut disks = Vec::new();
    for (device, disk) in instance.devices.iter().filter_map(|(name, device)| {
        let disk = device.as_disk()?;
        hardware::is_block(disk).then_some((name.as_str(), disk))
    }) {
        if disk.volume().is_some() {
            disks.extend(volume_disk(host, definition, device, disk)?);
            continue;
        }
        disks.push(if disk.is_root() {
            Found {
                device,
                disk,
                can_be_direct: can_be_direct(&file),
                file: DiskFile {
                    path: file.clone(),
                    format,
                    device: false,
                },
                layers: DiskLayers {
                    active: layer,
                    below: below.clone(),
                },
                backing: backing.clone(),
                cdrom: false,
            }
        } else {
            host_disk(device, disk)?
        });
    }
    Ok(Around {
        name: &definition.address.name,
        uid: definition.uid.to_string(),
        picks: &definition.picks,
        host_memory: host.memory,
        host_processors: u32::try_from(host.cgroup.cpus.len()).unwrap_or(1),
        accelerator: machine::accelerator(host.config.accelerator, &host.config.shared_run)
            .map_err(|why| RuntimeError::new("start", Class::NeedsOperator, why))?,
        firmware,
        kernel,
        disks,
        folders: served::folders(&volumes::in_place(host, definition, instance)?),
        tpm: served::tpm(instance, &file),
        passed: passed::plan(instance),
    })
}

/// A disk that is a volume of a pool; `None`: it is not there and need not be.
fn volume_disk<'a>(
    host: &Host,
    definition: &Definition<InstancePicks>,
    device: &'a str,
    disk: &'a manifests::devices::Disk,
) -> Result<Option<Found<'a>>, RuntimeError> {
    let Some((placed, content)) = volumes::disk(host, definition, device, disk)? else {
        return Ok(None);
    };
    let Placed::Disk {
        file,
        layer,
        below,
        format,
        ..
    } = placed
    else {
        let why = format!("devices.{device}: a volume of files has a `path` in the guest");
        return Err(RuntimeError::new(
            "find a disk of",
            Class::NeedsOperator,
            why,
        ));
    };
    Ok(Some(Found {
        device,
        disk,
        can_be_direct: can_be_direct(&file),
        file: DiskFile {
            path: file,
            format,
            device: false,
        },
        layers: DiskLayers {
            active: layer,
            below,
        },
        backing: None,
        cdrom: content == ContentType::Iso,
    }))
}

/// A disk that is a file or block device of the host.
fn host_disk<'a>(
    device: &'a str,
    disk: &'a manifests::devices::Disk,
) -> Result<Found<'a>, RuntimeError> {
    use manifests::devices::disk::DiskSource;
    use rustix::fs::FileType;
    let DiskSource::Host(path) = disk.made_of() else {
        let why = format!("devices.{device}: it is nothing that a machine takes for a disk");
        return Err(RuntimeError::new("find a disk of", Class::Unsupported, why));
    };
    let path = PathBuf::from(path);
    let stat = rustix::fs::stat(&path)
        .at("look at", &path)
        .map_err(io_failed("find a disk of"))?;
    if FileType::from_raw_mode(stat.st_mode).is_dir() {
        let why = format!(
            "devices.{device}: {} is a folder: `path` says where the guest has it",
            path.display()
        );
        return Err(RuntimeError::new(
            "find a disk of",
            Class::NeedsOperator,
            why,
        ));
    }
    let block = FileType::from_raw_mode(stat.st_mode) == FileType::BlockDevice;
    let format = match block {
        // Whatever is written at the start of a raw disk is the guest's choice: never guessed.
        true => Format::Raw,
        false => file_format(&path)?,
    };
    Ok(Found {
        device,
        disk,
        can_be_direct: block || can_be_direct(&path),
        cdrom: path
            .extension()
            .is_some_and(|end| end.eq_ignore_ascii_case("iso")),
        file: DiskFile {
            path,
            format,
            device: block,
        },
        layers: DiskLayers::default(),
        backing: None,
    })
}

/// A file is taken as its name says: what a guest wrote into a raw one must not make it another.
fn file_format(path: &Path) -> Result<Format, RuntimeError> {
    if path
        .extension()
        .is_none_or(|end| !end.eq_ignore_ascii_case("qcow2"))
    {
        return Ok(Format::Raw);
    }
    crate::native::disk_image::inspect(path)
        .map(|_| Format::Qcow2)
        .map_err(|error| RuntimeError::new("read a disk of", Class::Refused, error))
}

/// Whether a file can be read and written without the host's memory between.
fn can_be_direct(path: &Path) -> bool {
    let flags = OFlags::RDONLY | OFlags::DIRECT | OFlags::CLOEXEC;
    rustix::fs::open(path, flags, Mode::empty()).is_ok()
}

/// The firmware of this host, and the file of a machine's variables beside its disk, made where it is missing.
fn uefi(disk: &Path, secure: bool) -> Result<(Firmware, PathBuf), RuntimeError> {
    let firmware = firmware::find(secure).ok_or_else(|| {
        let kind = if secure {
            "UEFI with secure boot"
        } else {
            "UEFI"
        };
        let why = format!("this host has no firmware for {kind}: install the package ovmf");
        RuntimeError::new("start", Class::NeedsOperator, why)
    })?;
    // Variables of one firmware mean nothing to the other.
    let name = match secure {
        true => "variables-secure.fd",
        false => "variables.fd",
    };
    let variables = disk.with_file_name(name);
    if !variables.exists() {
        let template =
            path_io::read(&firmware.variables).map_err(io_failed("read the firmware for"))?;
        path_io::write_durably(&variables, template)
            .map_err(io_failed("write the variables of"))?;
    }
    Ok((firmware, variables))
}
