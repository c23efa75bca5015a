//! The layers of a machine's disk, of which an image is made.

use super::super::picks::InstancePicks;
use super::super::running;
use super::super::snapshots::disk_failed;
use super::snapshots;
use crate::error::{Class, RuntimeError};
use crate::native::definition::Definition;
use crate::native::disk_image::Format;
use crate::native::host::Host;
use crate::native::image::{Layer, MachineImage};
use crate::native::storage::StorageError;

/// The files of the disk as a snapshot keeps it, or of a machine that is stopped as it is; the highest first, the image's last.
///
/// # Errors
/// It runs, or there is no such snapshot.
pub(in crate::native) fn layers(
    host: &Host,
    definition: &Definition<InstancePicks>,
    image: &MachineImage,
    snapshot: Option<&str>,
    doing: &'static str,
) -> Result<Vec<Layer>, RuntimeError> {
    let failed = disk_failed(doing);
    if snapshot.is_none() && running(host, &definition.uid)?.is_some() {
        let why = "it runs: stop it, or publish a snapshot of it";
        return Err(RuntimeError::new(doing, Class::Refused, why));
    }
    let (disk, _) = snapshots::settled(host, definition)?;
    let layers = disk.layers().map_err(&failed)?;
    let top = match snapshot {
        None => layers.active,
        Some(name) => match layers.snapshots.get(name) {
            Some(kept) => kept.layer,
            None => return Err(failed(StorageError::NoSnapshot(name.to_owned()))),
        },
    };
    let own = layers.chain_of(top).into_iter().map(|layer| Layer {
        path: disk.file(layer),
        format: Format::Qcow2,
    });
    let image = image.disk.iter().map(|disk| Layer {
        path: disk.path.clone(),
        format: disk.format,
    });
    Ok(own.chain(image).collect())
}
