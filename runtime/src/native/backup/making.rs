//! Writes a backup of what was gathered for it.

use std::io::Seek as _;
use std::path::{Path, PathBuf};

use manifests::id::Uid;
use manifests::path_io::AtPath as _;

use super::error::BackupError;
use super::format::{Form, Head, Index};
use super::judge::Tree;
use super::noted::Noted;
use super::packer::{Packer, Sink};
use super::part::Before;
use super::tar_writer::BackupWriter;
use super::target::Target;
use super::trees::{write_file, write_stream, write_tree};
use crate::native::backups::Seal;
use crate::native::storage::{KeptTrees, Sent, StorageError};

/// A tree or a file of this host.
#[derive(Debug)]
pub(in crate::native) enum From {
    Tree(PathBuf),
    File(PathBuf),
    Stream(Sent),
}

/// A tree as a part, and in which form.
pub(in crate::native) type Part = (Form, (String, From));

/// These trees of one object as parts, which come in this order: file by file, or as streams where its pool has such.
///
/// # Errors
/// One cannot be looked at.
pub(in crate::native) fn parts_of(
    trees: &KeptTrees,
    all: Vec<(Tree, PathBuf)>,
    optimized: bool,
) -> Result<Vec<Part>, StorageError> {
    let files: Vec<PathBuf> = all.iter().map(|(_, files)| files.clone()).collect();
    let sent = match optimized {
        true => trees.sent(&files)?,
        false => vec![None; files.len()],
    };
    let part = |((tree, files), sent): ((Tree, PathBuf), Option<Sent>)| match sent {
        Some(sent) => (Form::Btrfs, (tree.stream(), From::Stream(sent))),
        None => (Form::Files, (tree.part(), From::Tree(files))),
    };
    Ok(all.into_iter().zip(sent).map(part).collect())
}

/// What becomes a backup: nobody writes to any of it.
pub(in crate::native) struct Making<'a> {
    /// The file, for errors.
    pub(in crate::native) path: &'a Path,
    pub(in crate::native) head: &'a Head,
    /// The configuration, as documents.
    pub(in crate::native) manifest: &'a str,
    /// The parts in their order, each with what it is made of.
    pub(in crate::native) parts: &'a [(String, From)],
    pub(in crate::native) seal: Option<&'a Seal<'a>>,
    /// The object and the Backup for which it is made, where one does: a note is put beside the file.
    pub(in crate::native) made_by: Option<(Uid, Uid)>,
}

/// A backup that was written.
pub(in crate::native) struct Made {
    /// Bytes of the file.
    pub(in crate::native) bytes: u64,
    /// How many of them were there before.
    pub(in crate::native) kept: u64,
    pub(in crate::native) index: Index,
}

impl Making<'_> {
    /// Writes all of it and gives the file its name. Answers how much there is of what.
    ///
    /// # Errors
    /// Something cannot be read or written, or what is there of it is the beginning of another: then there is no file.
    pub(in crate::native) fn write(
        &self,
        target: Target,
        go_on: &dyn Fn() -> bool,
    ) -> Result<Made, BackupError> {
        let (head, before) = match target.begun() {
            None => (self.head.clone(), None),
            Some(begun) => {
                let head = begun.taken_up(self.head, self.manifest, target.at())?;
                let before = Before::new(target.writer()?);
                (head, Some(before.at("read", target.at())?))
            }
        };
        let mut file = target.writer()?;
        if before.is_none() {
            // What may be there is of no use.
            let empty = file.set_len(0).and_then(|()| file.rewind());
            empty.at("empty", target.at())?;
        }
        let sink: Box<dyn Sink> = match self.seal {
            None => Box::new(file),
            Some(seal) => seal(file).at("encrypt", self.path)?,
        };
        let text = serde_json::to_vec_pretty(&head);
        let text = text.map_err(std::io::Error::from).at("write", self.path)?;
        let streams = self
            .parts
            .iter()
            .any(|(_, from)| matches!(from, From::Stream(_)));
        let made = BackupWriter::new(Packer::new(sink, before, streams), &text, self.manifest);
        let mut out = made.at("write", self.path)?;
        for (part, from) in self.parts {
            match from {
                From::Tree(root) => write_tree(&mut out, part, root, go_on)?,
                From::File(file) => write_file(&mut out, part, file, go_on)?,
                From::Stream(sent) => write_stream(&mut out, part, sent, go_on)?,
            }
        }
        let (packer, index) = out.finish().at("write", self.path)?;
        let kept = packer.finish().at("write", self.path)?;
        if let (Some(who), Some(object)) = (self.made_by, head.of()) {
            let at = head.created_at;
            let noted = Noted {
                size: target.size()?,
                sums: index.sums.clone(),
                ..Noted::new(object.clone(), who, at, self.seal.is_some())
            };
            // Before the file has its name: what has one and no note is nobody's.
            noted.write(self.path)?;
        }
        Ok(Made {
            bytes: target.finish()?,
            kept,
            index,
        })
    }
}
