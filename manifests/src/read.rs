//! Folders to texts: the only reading of manifests, from disk or out of a commit.

mod bases;
mod walk;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use crate::attached::{self, AttachedFiles};
use crate::files::{Disk, Entry, Files};
use crate::folder;
use crate::path_io::{AtPath as _, PathError};
use walk::Walk;

/// The files of a source.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Texts {
    /// The nearest folder with a `keel.yaml`, else the path that was given. Absolute.
    pub root: PathBuf,
    /// Name relative to the root, and content, by name; `../base/web.yaml` for what a base has.
    pub files: Vec<(String, String)>,
    /// Why this is only a part of the source. The whole tree is read all the same: profiles and references of a part
    /// stand anywhere in it.
    pub partial: Option<String>,
    /// The file or folder that is meant, relative to the root; none: all.
    pub only: Option<String>,
    /// The files that manifests take in as texts.
    pub attached: AttachedFiles,
    /// The folders of the bases, by name.
    pub bases: BTreeSet<String>,
    /// Bases that could not be read, by name, and why: in words that go on after what was written.
    pub refused: BTreeMap<String, String>,
}

impl Texts {
    fn add(&mut self, path: &Path, bytes: Vec<u8>) -> Result<(), PathError> {
        let text = String::from_utf8(bytes)
            .map_err(|_| std::io::Error::other("it is not UTF-8"))
            .at("read", path)?;
        self.files.push((name_in(&self.root, path)?, text));
        Ok(())
    }

    /// Whether a file belongs to what is meant.
    pub fn means(&self, file: &str) -> bool {
        self.only
            .as_deref()
            .is_none_or(|only| folder::holds(only, file))
    }
}

/// The name of the file that makes a folder a source.
pub const SOURCE_FILE: &str = "keel.yaml";

/// A source stands on at most so many bases.
pub const MOST_BASES: usize = 100;

/// Reads a folder or a file of manifests, and the folders that `bases` name. Hidden folders and what `.keelignore` names
/// are passed over, in bases as well. Symbolic links are not followed, and not passed over either: objects that were
/// declared behind one would count as given up.
///
/// A base lies in the git repository of the source; outside of git, in the folder that holds the source and what its own
/// `keel.yaml` names. It is read as a part of no other layer, also where it lies in one.
///
/// # Errors
/// Something cannot be read, or is a symbolic link to a folder or to a manifest.
pub fn read(path: &Path) -> Result<Texts, PathError> {
    let path = path.canonicalize().at("find", path)?;
    read_from(&Disk, &path)
}

/// As [`read`], of files that may lie elsewhere. The path is absolute, without links and `..`.
///
/// # Errors
/// As [`read`].
pub fn read_from<F: Files>(files: &F, path: &Path) -> Result<Texts, PathError> {
    let mut texts = place(files, path)?;
    bases::find(files, &mut texts)?;
    let folders: Vec<String> = std::iter::once(String::new())
        .chain(texts.bases.iter().cloned())
        .collect();
    let layers: BTreeSet<PathBuf> = folders
        .iter()
        .map(|layer| folder::path(&texts.root, layer))
        .collect();
    let mut found = BTreeSet::new();
    let mut walk = Walk {
        files,
        path,
        others: &layers,
        found: &mut found,
    };
    for layer in &layers {
        walk.layer(layer)?;
    }
    let found: Vec<PathBuf> = found.into_iter().collect();
    for (path, bytes) in found.iter().zip(files.read_all(&found)) {
        texts.add(path, bytes?)?;
    }
    texts.files.sort();
    texts.attached = attached::read(files, &texts.root, &folders, &texts.files)?;
    Ok(texts)
}

/// As [`read`], and of the files only the `keel.yaml`, if there is one: what the manifests say is in nobody's way.
///
/// # Errors
/// It cannot be read, or is a symbolic link.
pub fn read_source(path: &Path) -> Result<Texts, PathError> {
    let path = path.canonicalize().at("find", path)?;
    let mut texts = place(&Disk, &path)?;
    let file = texts.root.join(SOURCE_FILE);
    if let Some(bytes) = source_bytes(&Disk, &file)? {
        texts.add(&file, bytes)?;
    }
    Ok(texts)
}

/// What a `keel.yaml` says, if it is there.
fn source_bytes<F: Files>(files: &F, file: &Path) -> Result<Option<Vec<u8>>, PathError> {
    match files.look(file) {
        Ok(Some(Entry::Link { .. })) => Err(link()).at("read", file),
        Ok(Some(Entry::File)) => files.read(file).map(Some),
        _ => Ok(None),
    }
}

fn link() -> std::io::Error {
    std::io::Error::other(
        "it is a symbolic link, which keel does not follow: name it in .keelignore, or put what it leads to in its place",
    )
}

/// The source that a path belongs to, without its files yet.
fn place<F: Files>(files: &F, path: &Path) -> Result<Texts, PathError> {
    let is_folder = files.look(path)? == Some(Entry::Folder);
    let start = if is_folder {
        path.to_path_buf()
    } else {
        parent(path)
    };
    let is_source = |folder: &&Path| match files.look(&folder.join(SOURCE_FILE)) {
        Ok(found) => found.is_some_and(|entry| entry != Entry::Folder),
        Err(_) => false,
    };
    let root = start.ancestors().find(is_source).unwrap_or(&start);
    let only = if path == root {
        None
    } else {
        Some(name_in(root, path)?)
    };
    let kind = if is_folder { "folder" } else { "file" };
    Ok(Texts {
        root: root.to_path_buf(),
        partial: only.as_ref().map(|name| format!("only the {kind} {name}")),
        only,
        ..Texts::default()
    })
}

fn parent(path: &Path) -> PathBuf {
    path.parent()
        .map_or_else(|| PathBuf::from("/"), Path::to_path_buf)
}

/// The name of a file in its source. Places are told by it, so it must be a text.
fn name_in(root: &Path, path: &Path) -> Result<String, PathError> {
    if path.to_str().is_none() {
        return Err(std::io::Error::other("its name is not UTF-8")).at("read", path);
    }
    Ok(folder::name(root, path))
}

#[cfg(test)]
mod tests;
