//! The objects of a repository elsewhere, kept in a folder of ours that is laid out as a bare repository: for `git
//! --git-dir` to look into. It may be deleted at any time, and is fetched again.

use std::path::{Path, PathBuf};

use git2::{Indexer, Odb, Oid};
use manifests::path_io::{self, AtPath as _, PathError};
use runtime::sys::remove_tree::remove_tree;

use super::choosing::object;
use super::objects::Objects;
use crate::source::failure::SourceError;

/// With more packs than this it is made anew.
const MOST_PACKS: usize = 100;
/// With more bytes than this it is made anew.
const MOST_BYTES: u64 = 1 << 30;
/// So many of the commits that are here are told to a server: it sends what differs from them.
const TOLD: usize = 4;

/// A store.
#[derive(Debug, Clone)]
pub(super) struct Store {
    folder: PathBuf,
}

impl Store {
    /// A store in a folder.
    pub(super) fn at(folder: PathBuf) -> Self {
        Self { folder }
    }

    /// Where it is.
    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Another one beside it.
    pub(super) fn beside(&self, ending: &str) -> Self {
        let mut name = self.folder.file_name().unwrap_or_default().to_owned();
        name.push(ending);
        Self::at(self.folder.with_file_name(name))
    }

    fn objects_folder(&self) -> PathBuf {
        self.folder.join("objects")
    }

    /// Makes what is not there.
    pub(super) fn ensure(&self) -> Result<(), PathError> {
        for folder in ["objects/pack", "objects/info", "refs"] {
            path_io::create_dir_all(self.folder.join(folder))?;
        }
        let head = self.folder.join("HEAD");
        if !head.exists() {
            let config = "[core]\n\trepositoryformatversion = 0\n\tbare = true\n";
            path_io::write(self.folder.join("config"), config)?;
            path_io::write(head, "ref: refs/heads/main\n")?;
        }
        Ok(())
    }

    /// Its objects.
    pub(super) fn objects(&self, url: &str) -> Result<Objects, SourceError> {
        self.ensure()?;
        Objects::open(&self.objects_folder(), Vec::new(), url)
    }

    /// Removes all of it.
    pub(super) fn remove(&self) -> Result<(), SourceError> {
        if self.folder.symlink_metadata().is_err() {
            return Ok(());
        }
        remove_tree(&self.folder).map_err(|error| SourceError::Settings {
            what: format!("remove the store {}", self.folder.display()),
            source: error.into(),
        })
    }

    /// Puts it in the place of another one.
    pub(super) fn replace(&self, other: &Self) -> Result<(), SourceError> {
        other.remove()?;
        path_io::rename(&self.folder, &other.folder)?;
        Ok(())
    }

    /// Whether it has grown so much that it is better made anew.
    pub(super) fn is_full(&self) -> bool {
        let packs = path_io::list(self.objects_folder().join("pack")).unwrap_or_default();
        let sizes = packs.iter().filter_map(|path| path.symlink_metadata().ok());
        let bytes: u64 = sizes.map(|found| found.len()).sum();
        let is_pack = |path: &&PathBuf| path.extension().is_some_and(|end| end == "pack");
        bytes > MOST_BYTES || packs.iter().filter(is_pack).count() > MOST_PACKS
    }

    fn names(&self, file: &str) -> Vec<Oid> {
        let text = path_io::read_if_exists(self.folder.join(file))
            .ok()
            .flatten();
        let text = text.unwrap_or_default();
        text.lines().filter_map(object).collect()
    }

    /// The commits and tags that are here with all that they are made of, the last ones.
    pub(super) fn tips(&self) -> Vec<Oid> {
        let mut tips = self.names("keel-tips");
        tips.drain(..tips.len().saturating_sub(TOLD));
        tips
    }

    /// The commits that are here without their parents.
    pub(super) fn shallow(&self) -> Vec<Oid> {
        self.names("shallow")
    }

    /// Remembers what came, when all of it is here.
    pub(super) fn remember(&self, tip: Oid, shallow: &[Oid]) -> Result<(), PathError> {
        let mut cut = self.shallow();
        cut.extend(shallow);
        self.write("shallow", &mut cut)?;
        let mut tips = self.names("keel-tips");
        tips.retain(|known| *known != tip);
        tips.push(tip);
        self.write("keel-tips", &mut tips)
    }

    fn write(&self, file: &str, names: &mut Vec<Oid>) -> Result<(), PathError> {
        names.dedup();
        let text: String = names.iter().map(|name| format!("{name}\n")).collect();
        path_io::write_atomically(self.folder.join(file), text)
    }

    /// A pack that is taken in.
    pub(super) fn take(&self) -> Result<Pack<'_>, SourceError> {
        self.ensure()?;
        let failed = |source| SourceError::Objects {
            url: self.folder.display().to_string(),
            what: "anything".to_owned(),
            source,
        };
        let folder = self.objects_folder();
        let path = folder
            .to_str()
            .ok_or_else(|| std::io::Error::other("its path is not UTF-8"))
            .at("open", &folder)?;
        let base = Odb::new().map_err(failed)?;
        base.add_disk_alternate(path).map_err(failed)?;
        // What came is not checked to be whole: of a shallow history it never is. Each object is named by what it hashes
        // to, and what is read later must be there.
        let indexer = Indexer::new(Some(&base), &folder.join("pack"), 0o444, false);
        Ok(Pack {
            indexer: indexer.map_err(failed)?,
            _base: base,
            store: self,
        })
    }
}

/// A pack on its way into a store.
pub(super) struct Pack<'a> {
    indexer: Indexer<'a>,
    /// What differences of the pack are told from.
    _base: Odb<'a>,
    store: &'a Store,
}

impl Pack<'_> {
    /// Ends it: from now on its objects are there.
    pub(super) fn end(self) -> Result<(), SourceError> {
        let url = self.store.folder.display().to_string();
        self.indexer
            .commit()
            .map(drop)
            .map_err(|source| SourceError::Objects {
                url,
                what: "the pack".to_owned(),
                source,
            })
    }
}

impl std::io::Write for Pack<'_> {
    fn write(&mut self, piece: &[u8]) -> std::io::Result<usize> {
        self.indexer.write(piece)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.indexer.flush()
    }
}
