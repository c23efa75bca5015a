//! From the entries of a tar archive to the calls of the tree writer: every judgement about an entry is made here.

use std::ffi::OsStr;
use std::io::Read;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use super::attributes::{Attributes, kept_xattr, owner};
use super::error::{ImageError, Refusal};
use super::tar_stream::{TarEntry, TarKind, TarStream, refused};
use super::tree_writer::{TreeWriter, entry_path};

/// Whether names that start with `.wh.` remove what earlier layers have (OCI image specification, "Whiteouts").
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Whiteouts {
    /// They are names as others.
    Names,
    /// They remove.
    Remove,
}

/// Unpacks all entries, and reads on to the end of the stream.
pub(super) fn unpack<R: Read>(
    tar: &mut TarStream<R>,
    writer: &mut TreeWriter,
    whiteouts: Whiteouts,
) -> Result<(), ImageError> {
    let meter = tar.meter();
    let unpacked = (|| {
        while let Some(entry) = tar.next()? {
            take(tar, writer, whiteouts, &entry)?;
        }
        tar.drain()
    })();
    meter.judge(unpacked)
}

fn take<R: Read>(
    tar: &mut TarStream<R>,
    writer: &mut TreeWriter,
    whiteouts: Whiteouts,
    entry: &TarEntry,
) -> Result<(), ImageError> {
    let refuse = |refusal| refused(&entry.name, refusal);
    let path = entry_path(&entry.name, writer.limits()).map_err(refuse)?;
    if whiteouts == Whiteouts::Remove
        && let Some(path) = &path
        && let Some(whiteout) = whiteout(path)
    {
        return match whiteout.map_err(refuse)? {
            Whiteout::Of(path) => writer.whiteout(&path),
            Whiteout::Opaque(folder) => writer.opaque(Some(&folder)),
        };
    }
    let attributes = || attributes_of(entry).map_err(refuse);
    let Some(path) = path else {
        return match entry.kind {
            TarKind::Folder => writer.folder(None, &attributes()?),
            _ => Err(refuse(Refusal::ReplacesRoot)),
        };
    };
    match entry.kind {
        TarKind::Folder => writer.folder(Some(&path), &attributes()?),
        TarKind::File => {
            let runs = entry.runs.as_deref();
            writer.file(&path, &attributes()?, entry.size, runs, tar)
        }
        TarKind::Symlink => writer.symlink(&path, &entry.link, &attributes()?),
        TarKind::HardLink => {
            let target = entry_path(&entry.link, writer.limits()).map_err(refuse)?;
            let target = target.ok_or_else(|| refuse(Refusal::LinkToFolder))?;
            writer.hard_link(&path, &target)
        }
        TarKind::Pipe => writer.pipe(&path, &attributes()?),
        TarKind::CharacterDevice => {
            writer.leave_out(&path, "a character device");
            Ok(())
        }
        TarKind::BlockDevice => {
            writer.leave_out(&path, "a block device");
            Ok(())
        }
        TarKind::Other(kind) => {
            writer.leave_out(&path, &format!("of unknown kind {:?}", char::from(kind)));
            Ok(())
        }
    }
}

fn attributes_of(entry: &TarEntry) -> Result<Attributes, Refusal> {
    Ok(Attributes {
        mode: entry.mode,
        uid: owner(entry.uid)?,
        gid: owner(entry.gid)?,
        modified: entry.modified,
        xattrs: entry
            .xattrs
            .iter()
            .filter_map(|(name, value)| Some((name.clone(), kept_xattr(name, value)?)))
            .collect(),
    })
}

enum Whiteout {
    /// This goes.
    Of(PathBuf),
    /// What earlier layers have in this folder goes.
    Opaque(PathBuf),
}

fn whiteout(path: &Path) -> Option<Result<Whiteout, Refusal>> {
    const PREFIX: &[u8] = b".wh.";
    let folder = path.parent().unwrap_or(Path::new(""));
    let name = path.file_name()?.as_bytes().strip_prefix(PREFIX)?;
    Some(match name {
        b".wh..opq" => Ok(Whiteout::Opaque(folder.to_path_buf())),
        // aufs kept its own files under this prefix; they mean nothing in an image, and nothing else may start so.
        b"" | b"." | b".." => Err(Refusal::BadWhiteout),
        reserved if reserved.starts_with(PREFIX) => Err(Refusal::BadWhiteout),
        name => Ok(Whiteout::Of(folder.join(OsStr::from_bytes(name)))),
    })
}
