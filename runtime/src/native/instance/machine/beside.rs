//! What a snapshot keeps beside the layers of the disk: the variables of firmware, and what a TPM keeps. It goes back with
//! the disk: whoever sealed a key to one finds it as the other has it.

use std::path::Path;

use manifests::path_io::{self, PathError};

use super::super::io_failed;
use super::served::STATE as TPM;
use crate::error::{Class, RuntimeError};
use crate::native::backup::VARIABLES;
use crate::native::storage::LayeredDisk;
use crate::sys::copy_tree::{copy_tree, exchange};
use crate::sys::remove_tree::remove_tree;

/// A folder that is being made.
const NEW: &str = "tpm.new";

/// Keeps it in the folder of a snapshot. What that has is of its moment, and stays.
///
/// swtpm replaces its files and never writes into them, so a copy is whole while it runs.
pub(super) fn keep(disk: &LayeredDisk, to: &Path, doing: &'static str) -> Result<(), RuntimeError> {
    let failed = io_failed::<PathError>;
    for name in VARIABLES {
        let from = disk.folder().join(name);
        if from.exists() && !to.join(name).exists() {
            path_io::create_dir_all(to).map_err(failed(doing))?;
            let bytes = path_io::read(&from).map_err(failed(doing))?;
            path_io::write_durably(to.join(name), bytes).map_err(failed(doing))?;
        }
    }
    let from = disk.folder().join(TPM);
    if from.exists() && !to.join(TPM).exists() {
        path_io::create_dir_all(to).map_err(failed(doing))?;
        let new = copied(&from, to, doing)?;
        path_io::rename(&new, to.join(TPM)).map_err(failed(doing))?;
    }
    Ok(())
}

/// Puts back what the folder of a snapshot has. Done again after a crash it comes to the same.
pub(super) fn put(
    disk: &LayeredDisk,
    from: &Path,
    doing: &'static str,
) -> Result<(), RuntimeError> {
    let failed = io_failed::<PathError>;
    for name in VARIABLES {
        let (kept, now) = (from.join(name), disk.folder().join(name));
        match kept.exists() {
            true => {
                let bytes = path_io::read(&kept).map_err(failed(doing))?;
                path_io::write_durably(&now, bytes).map_err(failed(doing))?;
            }
            // It is made anew.
            false => path_io::remove_file(&now).map_err(failed(doing))?,
        }
    }
    let (kept, now) = (from.join(TPM), disk.folder().join(TPM));
    // One that came later is left alone: what is sealed to it is nowhere else.
    if kept.exists() {
        let new = copied(&kept, disk.folder(), doing)?;
        if now.exists() {
            exchange(&new, &now).map_err(failed(doing))?;
            remove(&new, doing)?;
        } else {
            path_io::rename(&new, &now).map_err(failed(doing))?;
        }
    }
    Ok(())
}

/// A copy in a folder, that has no name of its own yet.
fn copied(
    from: &Path,
    folder: &Path,
    doing: &'static str,
) -> Result<std::path::PathBuf, RuntimeError> {
    let new = folder.join(NEW);
    if new.exists() {
        remove(&new, doing)?;
    }
    copy_tree(from, &new, &mut || true)
        .map_err(|error| RuntimeError::new(doing, Class::Retry, error))?;
    Ok(new)
}

fn remove(folder: &Path, doing: &'static str) -> Result<(), RuntimeError> {
    remove_tree(folder).map_err(|error| RuntimeError::new(doing, Class::Retry, error))
}
