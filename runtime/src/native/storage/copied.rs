//! What a copy of a subvolume stands on in the pool that it goes to: another copy in there, of a snapshot that the original
//! still has. Then only what differs between the two is sent.
//!
//! ```text
//! VOLUME/copied.json   of which subvolume the volume was made as a copy
//! ```
//! A copy belongs to whoever has it, and nothing is kept for those that may come: it is stood on as long as it looks as that
//! snapshot does, by names, owners, modes, sizes and times. Whatever it was, the new copy is compared with the original.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use manifests::path_io;
use serde::{Deserialize, Serialize};

use super::btrfs::open_folder;
use super::error::StorageError;
use super::folders::files_of;
use super::kept_trees::KeptTrees;
use super::marker;
use super::sending::Sent;
use crate::native::send_stream::StreamId;
use crate::sys;
use crate::sys::compare_tree::{CompareError, look_the_same};

const COPIED: &str = "copied.json";
/// The version that is written; a reader takes it and those before.
const VERSION: u32 = 1;

/// What is known of a copy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Copied {
    format_version: u32,
    of: uuid::Uuid,
}

/// A copy: of which subvolume, and where its own is.
pub(super) type Beside = (StreamId, PathBuf);

/// Where the files of a snapshot are, and which subvolume that is.
type Snapshot = (PathBuf, StreamId);

/// What may be stood on, the best first: snapshots of which there are copies, of those before `files` the newest. `snapshots`
/// are in the order in which they were made; what is none of them is as new as can be.
fn in_turn(snapshots: &[Snapshot], copied: &BTreeSet<StreamId>, files: &Path) -> Vec<Snapshot> {
    let at = snapshots.iter().position(|(path, _)| path == files);
    let (before, after) = snapshots.split_at(at.map_or(snapshots.len(), |at| at + 1));
    let all = before.iter().rev().chain(after);
    all.filter(|(_, id)| copied.contains(id)).cloned().collect()
}

impl KeptTrees {
    /// Notes that the volume was made as a copy of this subvolume, and that this is done.
    pub(super) fn note_copy(&self, of: StreamId) -> Result<(), StorageError> {
        let copied = Copied {
            format_version: VERSION,
            of: uuid::Uuid::from_bytes(of),
        };
        let path = self.volume.join(COPIED);
        Ok(path_io::write_durably(
            &path,
            marker::text(&path, &copied)?,
        )?)
    }

    /// The volumes in its pool that were made as copies.
    fn copies_beside(&self) -> Result<Vec<Beside>, StorageError> {
        let own = self.subvolume.as_ref().and_then(|own| own.path.file_name());
        let Some(tree) = own else {
            return Ok(Vec::new());
        };
        let volumes = path_io::list(self.volume.parent().unwrap_or(&self.volume))?;
        let copy = |volume: PathBuf| {
            // A note that cannot be read is none: then all is sent.
            let copied = marker::read::<Copied>(&volume.join(COPIED)).ok()??;
            let known = copied.format_version <= VERSION;
            known.then(|| (*copied.of.as_bytes(), volume.join(tree)))
        };
        Ok(volumes.into_iter().filter_map(copy).collect())
    }

    /// Its snapshots that are subvolumes, in the order in which they were made.
    fn subvolumes(&self) -> Result<Vec<Snapshot>, StorageError> {
        let mut all = Vec::new();
        for (name, _) in self.in_order()? {
            let path = self.kept(&name)?;
            // One that came from elsewhere is a plain folder.
            let about = path.parent().and_then(|above| open_folder(above).ok());
            if let Some(Ok((id, _))) = about.map(sys::btrfs::identity) {
                all.push((path, id));
            }
        }
        Ok(all)
    }

    /// How `files`, of a snapshot or of a copy that was made of the volume, are sent into a volume of another pool, and on which
    /// copy in there that stands; none: they are no subvolume.
    pub(super) fn sent_beside(
        &self,
        files: &Path,
        to: &Self,
        go_on: &mut dyn FnMut() -> bool,
    ) -> Result<Option<(Sent, Option<Beside>)>, StorageError> {
        let copies = to.copies_beside()?;
        let snapshots = match copies.is_empty() {
            true => Vec::new(),
            false => self.subvolumes()?,
        };
        let copied = copies.iter().map(|(id, _)| *id).collect();
        for (kept, id) in in_turn(&snapshots, &copied, files) {
            let both = [kept.clone(), files.to_path_buf()];
            let sent = self.sent(&both)?.pop().flatten();
            let Some(sent) = sent.filter(|sent| sent.before.is_some()) else {
                continue;
            };
            for copy in copies.iter().filter(|(of, _)| *of == id) {
                match look_the_same(&kept, &copy.1.join(files_of(&self.id)), go_on) {
                    Ok(()) => return Ok(Some((sent, Some(copy.clone())))),
                    Err(CompareError::Interrupted) => {
                        return Err(CompareError::Interrupted.into());
                    }
                    // Somebody has written there, or removed it.
                    Err(_) => {}
                }
            }
        }
        let sent = self.sent(&[files.to_path_buf()])?.pop().flatten();
        Ok(sent.map(|sent| (sent, None)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_before_it_of_which_there_is_a_copy_is_stood_on() {
        let snapshots: Vec<Snapshot> = (0..5)
            .map(|at| (PathBuf::from(format!("/{at}")), [at; 16]))
            .collect();
        let turn = |copied: &[u8], files: &str| {
            let copied = copied.iter().map(|at| [*at; 16]).collect();
            let turn = in_turn(&snapshots, &copied, Path::new(files));
            turn.iter().map(|(_, id)| id[0]).collect::<Vec<_>>()
        };
        assert_eq!(turn(&[], "/3"), [0; 0]);
        assert_eq!(turn(&[0, 2, 4], "/3"), [2, 0, 4]);
        // It is there already.
        assert_eq!(turn(&[0, 3, 4], "/3"), [3, 0, 4]);
        // The nearest of those after it, where there is none before.
        assert_eq!(turn(&[3, 4], "/1"), [3, 4]);
        assert_eq!(turn(&[0, 3, 1], "/as-it-is-now"), [3, 1, 0]);
        assert_eq!(turn(&[9], "/3"), [0; 0]);
    }
}
