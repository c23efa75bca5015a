//! Writes what is in a backup to places of this host that nobody uses yet, while it is checked.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use manifests::path_io::{self, AtPath as _};

use super::error::BackupError;
use super::format::Head;
use super::judge::{Blob, Member, Rules, Tree};
use super::reader::{LIMITS, Visitor};
use crate::native::image::ImageError;
use crate::native::image::attributes::Attributes;
use crate::native::image::tar_stream::TarEntry;
use crate::native::image::tree_writer::{TreeWriter, Written};
use crate::native::send_stream::Command;

/// Where parts go; those that have no place are only checked.
pub(in crate::native) trait Places {
    /// The folder that becomes the root of a tree. It is made where it is missing.
    fn tree(&mut self, tree: &Tree) -> Result<Option<PathBuf>, BackupError>;
    /// A file, which is not there yet.
    fn blob(&mut self, blob: Blob) -> Result<Option<PathBuf>, BackupError>;
    /// Does the next command of the stream of a tree.
    fn command(&mut self, tree: &Tree, command: &Command<'_>) -> Result<(), BackupError>;
}

/// Puts parts into their places.
pub(in crate::native) struct Unpacking<'a> {
    places: &'a mut dyn Places,
    rules: Rules,
    current: Option<(Tree, Option<TreeWriter>)>,
    /// What was written of the last tree.
    written: Written,
}

impl<'a> Unpacking<'a> {
    pub(in crate::native) fn new(places: &'a mut dyn Places, rules: Rules) -> Self {
        Self {
            places,
            rules,
            current: None,
            written: Written::default(),
        }
    }

    /// Ends the last tree.
    pub(in crate::native) fn finish(&mut self) -> Result<Written, BackupError> {
        if let Some((_, Some(writer))) = self.current.take() {
            self.written = writer.finish()?;
        }
        Ok(std::mem::take(&mut self.written))
    }

    fn begin_tree(&mut self, tree: &Tree) -> Result<(), BackupError> {
        if self.current.as_ref().is_some_and(|(now, _)| now == tree) {
            return Ok(());
        }
        if let Some((_, Some(writer))) = self.current.take() {
            self.written = writer.finish()?;
        }
        let writer = match self.places.tree(tree)? {
            None => None,
            Some(folder) => {
                make_folder(&folder)?;
                Some(TreeWriter::new(&folder, LIMITS)?.exactly())
            }
        };
        self.current = Some((tree.clone(), writer));
        Ok(())
    }
}

impl Visitor for Unpacking<'_> {
    fn begin(&mut self, _: &Head) -> Result<Rules, BackupError> {
        Ok(self.rules)
    }

    fn entry(
        &mut self,
        tree: &Tree,
        path: Option<&Path>,
        what: &Member,
        attributes: &Attributes,
        entry: &TarEntry,
        data: &mut dyn Read,
    ) -> Result<(), BackupError> {
        self.begin_tree(tree)?;
        let Some((_, Some(writer))) = &mut self.current else {
            return Ok(());
        };
        let Some(path) = path else {
            return Ok(writer.folder(None, attributes)?);
        };
        match what {
            Member::Folder => writer.folder(Some(path), attributes)?,
            Member::File => {
                let runs = entry.runs.as_deref();
                writer.file(path, attributes, entry.size, runs, data)?;
            }
            Member::HardLink(target) => writer.hard_link(path, target)?,
            Member::Symlink => writer.symlink(path, &entry.link, attributes)?,
            Member::Node(kind, device) => writer.node(path, *kind, *device, attributes)?,
        }
        Ok(())
    }

    fn command(&mut self, tree: &Tree, command: &Command<'_>) -> Result<(), BackupError> {
        self.places.command(tree, command)
    }

    fn blob(
        &mut self,
        blob: Blob,
        entry: &TarEntry,
        data: &mut dyn Read,
    ) -> Result<(), BackupError> {
        let Some(path) = self.places.blob(blob)? else {
            return Ok(());
        };
        if let Some(above) = path.parent() {
            make_folder(above)?;
        }
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&path)
            .at("create", &path)?;
        let whole = [(0, entry.size)];
        for (offset, length) in entry.runs.as_deref().unwrap_or(&whole) {
            file.seek(SeekFrom::Start(*offset)).at("seek in", &path)?;
            copy(data, &mut file, *length, &path)?;
        }
        file.set_len(entry.size).at("extend", &path)?;
        Ok(())
    }
}

fn copy(data: &mut dyn Read, file: &mut File, length: u64, path: &Path) -> Result<(), BackupError> {
    let mut buffer = vec![0; 256 * 1024];
    let mut left = length;
    while left > 0 {
        let want = usize::try_from(left)
            .unwrap_or(usize::MAX)
            .min(buffer.len());
        let chunk = buffer.get_mut(..want).unwrap_or_default();
        let got = match data.read(chunk) {
            Ok(0) => Err(io::Error::from(io::ErrorKind::UnexpectedEof)),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            other => other,
        }
        .at("unpack", path)
        .map_err(ImageError::from)?;
        file.write_all(chunk.get(..got).unwrap_or_default())
            .at("write to", path)?;
        left -= got as u64;
    }
    Ok(())
}

/// Makes a folder that only root can enter, unless it is there.
fn make_folder(path: &Path) -> Result<(), BackupError> {
    match std::fs::DirBuilder::new().mode(0o700).create(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(path_io::create_dir_all(path)?),
        other => Ok(other.at("create", path)?),
    }
}
