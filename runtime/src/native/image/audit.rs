//! A tree that a helper program unpacked is made what our own writer would have made of it: devices and sockets go,
//! unwanted attributes go, owners and sizes are checked.

use std::path::Path;

use manifests::path_io::AtPath as _;
use rustix::fs::XattrFlags;
use rustix::io::Errno;

use super::attributes::{kept_xattr, owner};
use super::error::{ImageError, Refusal};
use super::limits::{Counted, Limits};
use super::tree_writer::{LeftOut, Written};
use super::walk::{self, Entry, EntryKind, xattr_names};
use crate::sys::beneath;

/// Walks the tree at `root` and puts it right.
pub(super) fn audit(root: &Path, limits: &Limits) -> Result<Written, ImageError> {
    let mut counted = Counted::default();
    let mut left_out = LeftOut::default();
    let mut unwanted = Vec::new();
    walk::walk(root, limits, &mut |entry| {
        counted.add_entry(limits)?;
        for id in [entry.stat.st_uid, entry.stat.st_gid] {
            owner(id.into()).map_err(|refusal| refused(entry.path, refusal))?;
        }
        match &entry.kind {
            EntryKind::Special(what) => {
                left_out.add(entry.path, what);
                unwanted.push(entry.path.to_path_buf());
            }
            EntryKind::File(_) => {
                let size = u64::try_from(entry.stat.st_size)
                    .map_err(|_| refused(entry.path, Refusal::BadSize))?;
                counted.add_bytes(size, limits)?;
            }
            // Nobody mounts anything in a tree that is being made.
            EntryKind::MountedFolder | EntryKind::MountedFile => {
                return Err(refused(entry.path, Refusal::ThroughLink));
            }
            EntryKind::Folder(_) | EntryKind::Symlink(_) | EntryKind::Pipe => {}
        }
        filter_xattrs(entry, &mut left_out)
    })?;
    let open = beneath::open_root(root)?;
    for path in unwanted {
        beneath::remove_file(&open, &path)?;
    }
    Ok(Written { counted, left_out })
}

fn refused(path: &Path, refusal: Refusal) -> ImageError {
    ImageError::Refused {
        entry: path.display().to_string(),
        refusal,
    }
}

fn filter_xattrs(entry: &Entry<'_>, left_out: &mut LeftOut) -> Result<(), ImageError> {
    let (EntryKind::Folder(open) | EntryKind::File(open)) = &entry.kind else {
        return Ok(());
    };
    use std::os::fd::AsFd as _;
    for name in xattr_names(open.as_fd()).at("list the attributes of", entry.path)? {
        let mut value = vec![0; 64 * 1024];
        let value = match rustix::fs::fgetxattr(open, name.as_str(), &mut value[..]) {
            Ok(length) => value.get(..length).unwrap_or_default(),
            Err(_) => &[],
        };
        let kept = kept_xattr(&name, value);
        if kept.as_deref() == Some(value) {
            continue;
        }
        let done = match kept {
            Some(kept) => rustix::fs::fsetxattr(open, name.as_str(), &kept, XattrFlags::REPLACE),
            None => {
                left_out.add(entry.path, &format!("its attribute {name}"));
                rustix::fs::fremovexattr(open, name.as_str())
            }
        };
        match done {
            Ok(()) | Err(Errno::NODATA) => {}
            Err(error) => return Err(error).at("set an attribute of", entry.path)?,
        }
    }
    Ok(())
}
