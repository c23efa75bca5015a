//! `rootfs: FOLDER`: a copy of a folder of the host, which is only read.

use std::collections::HashMap;
use std::fs::File;
use std::path::{Path, PathBuf};

use manifests::path_io::AtPath as _;

use super::attributes::Attributes;
use super::error::{ImageError, Refusal};
use super::tree_writer::TreeWriter;
use super::walk::{self, EntryKind, attributes_of};

/// Copies everything below `source` that an image takes over. Mounts inside are left out, their folders stay empty.
pub(super) fn copy_folder(
    source: &Path,
    writer: &mut TreeWriter,
    go_on: &mut dyn FnMut(u64) -> bool,
) -> Result<(), ImageError> {
    let limits = *writer.limits();
    // Hard links stay hard links: where a file with several names was put first.
    let mut first_names: HashMap<(u64, u64), PathBuf> = HashMap::new();
    let mut bytes = 0_u64;
    walk::walk(source, &limits, &mut |entry| {
        let path = (!entry.path.as_os_str().is_empty()).then_some(entry.path);
        let attributes = match &entry.kind {
            EntryKind::Special(what) => {
                writer.leave_out(entry.path, what);
                return Ok(());
            }
            EntryKind::MountedFile => {
                writer.leave_out(entry.path, "a mount");
                return Ok(());
            }
            EntryKind::MountedFolder => {
                writer.leave_out(entry.path, "what is mounted there");
                Attributes::of_implied_folder()
            }
            _ => attributes_of(entry, &mut |name| {
                writer.leave_out(entry.path, &format!("its attribute {name}"));
            })?,
        };
        match (&entry.kind, path) {
            (EntryKind::Folder(_) | EntryKind::MountedFolder, _) => {
                writer.folder(path, &attributes)
            }
            (EntryKind::Symlink(target), Some(path)) => writer.symlink(path, target, &attributes),
            (EntryKind::Pipe, Some(path)) => writer.pipe(path, &attributes),
            (EntryKind::File(open), Some(path)) => {
                if entry.stat.st_nlink > 1 {
                    let key = (entry.stat.st_dev, entry.stat.st_ino);
                    if let Some(first) = first_names.get(&key) {
                        return writer.hard_link(path, first);
                    }
                    first_names.insert(key, path.to_path_buf());
                }
                let size = u64::try_from(entry.stat.st_size).map_err(|_| ImageError::Refused {
                    entry: path.display().to_string(),
                    refusal: Refusal::BadSize,
                })?;
                bytes = bytes.saturating_add(size);
                if !go_on(bytes) {
                    return Err(ImageError::Interrupted);
                }
                let shown = source.join(path);
                let mut file = File::from(open.try_clone().at("open", &shown)?);
                writer.file(path, &attributes, size, None, &mut file)
            }
            _ => Ok(()),
        }
    })
}
