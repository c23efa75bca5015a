//! A volume that is the disk of a machine: one qcow2 file, in which only differs what the machine has written.

use std::io;
use std::path::Path;

use manifests::path_io::AtPath as _;

use super::driver::{DiskBelow, Ensured, Placed, VolumeId};
use super::error::StorageError;
use super::layers::LayeredDisk;
use crate::native::disk_image::{self, Below, DiskError, Format, Grown, whole_sectors};

/// Its name in the folder of the volume.
pub(super) const FILE: &str = "disk.qcow2";

/// The name of the image of a CD in the folder of its volume.
pub(super) const ISO: &str = "disk.iso";

/// Where the image of a CD is.
pub(super) fn place_iso(folder: &Path) -> Result<Placed, StorageError> {
    let file = folder.join(ISO);
    let virtual_size = file.metadata().at("look at", &file)?.len();
    Ok(Placed::Disk {
        file,
        layer: 0,
        below: Vec::new(),
        format: Format::Raw,
        virtual_size,
    })
}

/// Makes the file. Without a size it is as big as what is below it.
pub(super) fn make(
    path: &Path,
    size: Option<u64>,
    below: Option<&DiskBelow>,
    id: &VolumeId,
) -> Result<(), StorageError> {
    let size = size
        .or(below.map(|below| below.virtual_size))
        .ok_or_else(|| StorageError::NoSize(id.clone()))?;
    let below = match below {
        None => None,
        Some(below) => Some(Below {
            name: below.path.to_str().ok_or_else(|| {
                DiskError::BadBackingName(below.path.to_string_lossy().into_owned())
            })?,
            format: below.format,
            virtual_size: below.virtual_size,
        }),
    };
    match disk_image::create_overlay(path, size, below) {
        Err(DiskError::SmallerThanBelow { below: image, .. }) => {
            Err(StorageError::SmallerThanImage { size, image })
        }
        other => Ok(other?),
    }
}

/// How big the disk is, spelled as it was asked for where that is the same. A header that a machine has spoiled tells
/// nothing, and is an error only of what needs it.
pub(super) fn size(path: &Path, asked: Option<u64>) -> Result<Option<u64>, StorageError> {
    let seen = match disk_image::inspect_overlay(path) {
        Ok(image) => image.virtual_size,
        Err(DiskError::Path(error)) if error.kind() == io::ErrorKind::NotFound => 0,
        Err(DiskError::Path(error)) => return Err(error.into()),
        Err(error) => {
            tracing::warn!(%error, "the size of a disk is not known");
            return Ok(None);
        }
    };
    Ok(Some(match asked {
        Some(asked) if whole_sectors(asked) == seen => asked,
        _ => seen,
    }))
}

/// Makes the disk bigger; whoever runs on it has to grow it himself first.
pub(super) fn grow(path: &Path, size: u64, id: &VolumeId) -> Result<Ensured, StorageError> {
    match disk_image::grow(path, Format::Qcow2, size) {
        Ok(Grown::Done) => Ok(Ensured::Done),
        Ok(Grown::Already) => Ok(Ensured::Already),
        Err(DiskError::Shrinks { has, .. }) => Err(StorageError::Shrinks {
            volume: id.clone(),
            has,
            size,
        }),
        Err(DiskError::InUse { .. }) => Err(StorageError::InUse(id.clone())),
        Err(error) => Err(error.into()),
    }
}

/// Where the disk is. Its header may have been spoiled by whoever ran on it last.
pub(super) fn place(disk: &LayeredDisk) -> Result<Placed, StorageError> {
    let layers = disk.layers()?;
    let file = disk.file(layers.active);
    let image = disk_image::inspect_overlay(&file)?;
    if image.format != Format::Qcow2 {
        return Err(DiskError::Broken {
            path: file,
            problem: "it does not start as one".to_owned(),
        }
        .into());
    }
    Ok(Placed::Disk {
        file,
        layer: layers.active,
        below: layers
            .chain()
            .into_iter()
            .map(|layer| (layer, disk.file(layer)))
            .collect(),
        format: image.format,
        virtual_size: image.virtual_size,
    })
}
