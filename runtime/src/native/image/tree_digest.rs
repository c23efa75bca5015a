//! One SHA-256 over a tree: names, kinds, owners, modes, attributes, targets and contents, in a fixed order.
//!
//! Times are not part of it, nor is what an image never takes over (devices, sockets, mounts), so a folder and the copy
//! that the store made of it have the same digest.

use std::fs::File;
use std::io::Read as _;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use manifests::path_io::AtPath as _;
use sha2::{Digest as _, Sha256};

use super::error::ImageError;
use super::limits::Limits;
use super::walk::{self, Entry, EntryKind, attributes_of};

/// The digest of the tree at `root`, as 64 lower-case hexadecimal digits.
pub(super) fn tree_digest(root: &Path, limits: &Limits) -> Result<String, ImageError> {
    let mut hash = Sha256::new();
    hash.update(b"keel-tree-1\n");
    let mut buffer = vec![0; 256 * 1024];
    walk::walk(root, limits, &mut |entry| {
        add(&mut hash, entry, root, &mut buffer)
    })?;
    Ok(hex::encode(hash.finalize()))
}

fn add(
    hash: &mut Sha256,
    entry: &Entry<'_>,
    root: &Path,
    buffer: &mut [u8],
) -> Result<(), ImageError> {
    let mut field = |bytes: &[u8]| {
        hash.update((bytes.len() as u64).to_le_bytes());
        hash.update(bytes);
    };
    let kind: &[u8] = match &entry.kind {
        // A mount point becomes an empty folder in the image.
        EntryKind::Folder(_) | EntryKind::MountedFolder => b"d",
        EntryKind::File(_) => b"f",
        EntryKind::Symlink(_) => b"l",
        EntryKind::Pipe => b"p",
        EntryKind::Special(_) | EntryKind::MountedFile => return Ok(()),
    };
    field(kind);
    field(entry.path.as_os_str().as_bytes());
    if matches!(entry.kind, EntryKind::MountedFolder) {
        for number in [0o755_u32, 0, 0] {
            field(&number.to_le_bytes());
        }
        return Ok(());
    }
    let attributes = attributes_of(entry, &mut |_| {})?;
    // The kernel gives every link the same mode.
    let mode = match entry.kind {
        EntryKind::Symlink(_) => 0,
        _ => attributes.mode,
    };
    for number in [mode, attributes.uid, attributes.gid] {
        field(&number.to_le_bytes());
    }
    for (name, value) in &attributes.xattrs {
        field(name.as_bytes());
        field(value);
    }
    match &entry.kind {
        EntryKind::Symlink(target) => field(target),
        EntryKind::File(open) => {
            let shown = walk::shown(root, entry.path);
            let mut file = File::from(open.try_clone().at("open", &shown)?);
            let mut content = Sha256::new();
            loop {
                let got = file.read(buffer).at("read", &shown)?;
                if got == 0 {
                    break;
                }
                content.update(buffer.get(..got).unwrap_or_default());
            }
            field(&content.finalize());
        }
        _ => {}
    }
    Ok(())
}
