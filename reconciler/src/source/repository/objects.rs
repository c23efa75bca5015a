//! Objects of git, out of an object store. Nothing else of a repository is read: no settings, no attributes, no hooks.

use std::path::{Path, PathBuf};

use git2::{Commit, ErrorClass, ErrorCode, ObjectType, Odb, Oid, Repository};

use super::regular::is_file;
use crate::source::failure::SourceError;

/// The most bytes that a commit or tag may have.
const MOST_OF_COMMIT: usize = 1 << 20;
/// The most bytes that a list of files may have: some hundred thousand names.
const MOST_OF_TREE: usize = 32 << 20;

/// The objects of a store.
pub(super) struct Objects {
    repository: Repository,
    /// Folders in which an object may be something else than a file.
    folders: Vec<PathBuf>,
    /// Where they come from, for people.
    url: String,
}

impl Objects {
    /// Opens an `objects` folder. In `folders` others may write.
    ///
    /// # Errors
    /// It cannot be opened.
    pub(super) fn open(
        folder: &Path,
        folders: Vec<PathBuf>,
        url: &str,
    ) -> Result<Self, SourceError> {
        let open = || {
            let path = folder
                .to_str()
                .ok_or_else(|| wrong("its path is not UTF-8"))?;
            let store = Odb::new()?;
            store.add_disk_alternate(path)?;
            Repository::from_odb(store)
        };
        match open() {
            Ok(repository) => Ok(Self {
                repository,
                folders,
                url: url.to_owned(),
            }),
            Err(source) => Err(SourceError::Objects {
                url: url.to_owned(),
                what: "anything".to_owned(),
                source,
            }),
        }
    }

    fn failed(&self, id: Oid, source: git2::Error) -> SourceError {
        SourceError::Objects {
            url: self.url.clone(),
            what: id.to_string(),
            source,
        }
    }

    /// Whether an object is there.
    pub(super) fn has(&self, id: Oid) -> bool {
        self.repository.odb().is_ok_and(|store| store.exists(id))
    }

    /// The kind and size of an object.
    pub(super) fn header(&self, id: Oid) -> Result<(usize, ObjectType), git2::Error> {
        if !is_file(&self.folders, id) {
            return Err(wrong("it is no file"));
        }
        self.repository.odb()?.read_header(id)
    }

    /// The content of an object of a kind, if it has at most so many bytes.
    pub(super) fn content(
        &self,
        id: Oid,
        kind: ObjectType,
        most: usize,
    ) -> Result<Vec<u8>, git2::Error> {
        let (size, found) = self.header(id)?;
        if found != kind {
            return Err(wrong(&format!("it is a {found}, not a {kind}")));
        }
        if size > most {
            return Err(wrong(&format!("it has {size} bytes, more than {most}")));
        }
        Ok(self.repository.odb()?.read(id)?.data().to_vec())
    }

    /// A commit.
    ///
    /// # Errors
    /// It is not there, or is none.
    pub(super) fn commit(&self, id: Oid) -> Result<Commit<'_>, SourceError> {
        let find = || {
            self.checked(id, ObjectType::Commit, MOST_OF_COMMIT)?;
            self.repository.find_commit(id)
        };
        find().map_err(|source| self.failed(id, source))
    }

    /// The signature of a commit and what it signs; none where it is not signed.
    ///
    /// # Errors
    /// It is not there.
    pub(super) fn signature(&self, id: Oid) -> Result<Option<(String, Vec<u8>)>, SourceError> {
        self.commit(id)?;
        match self.repository.extract_signature(&id, None) {
            Ok((signature, signed)) => Ok(Some((
                String::from_utf8_lossy(&signature).into_owned(),
                signed.to_vec(),
            ))),
            // libgit2 answers so where the header is not there.
            Err(error)
                if error.code() == ErrorCode::NotFound && error.class() == ErrorClass::Object =>
            {
                Ok(None)
            }
            Err(source) => Err(self.failed(id, source)),
        }
    }

    /// What an annotated tag says, and the commit that it leads to in the end; for what is a commit itself, none and that.
    ///
    /// # Errors
    /// It leads to no commit.
    pub(super) fn peeled(&self, id: Oid) -> Result<(Option<Vec<u8>>, Oid), SourceError> {
        let mut at = id;
        let mut first = None;
        // Tags of tags are possible; nobody makes many.
        for _ in 0..8 {
            let (_, kind) = self.header(at).map_err(|source| self.failed(at, source))?;
            match kind {
                ObjectType::Commit => return Ok((first, at)),
                ObjectType::Tag => {
                    let content = self
                        .content(at, ObjectType::Tag, MOST_OF_COMMIT)
                        .map_err(|source| self.failed(at, source))?;
                    let target = self
                        .repository
                        .find_tag(at)
                        .map_err(|source| self.failed(at, source))?
                        .target_id();
                    first.get_or_insert(content);
                    at = target;
                }
                other => {
                    return Err(self.failed(at, wrong(&format!("it is a {other} and no commit"))));
                }
            }
        }
        Err(self.failed(id, wrong("it is a tag of a tag of a tag, without end")))
    }

    /// The names in a tree, with mode and object.
    pub(super) fn tree(&self, id: Oid) -> Result<Vec<(Vec<u8>, i32, Oid)>, git2::Error> {
        self.checked(id, ObjectType::Tree, MOST_OF_TREE)?;
        let tree = self.repository.find_tree(id)?;
        let entry = |entry: git2::TreeEntry<'_>| {
            (
                entry.name_bytes().to_vec(),
                entry.filemode_raw(),
                entry.id(),
            )
        };
        Ok(tree.iter().map(entry).collect())
    }

    /// Looks at an object before it is taken into memory.
    fn checked(&self, id: Oid, kind: ObjectType, most: usize) -> Result<(), git2::Error> {
        let (size, found) = self.header(id)?;
        if found != kind {
            return Err(wrong(&format!("it is a {found}, not a {kind}")));
        }
        if size > most {
            return Err(wrong(&format!("it has {size} bytes, more than {most}")));
        }
        Ok(())
    }
}

fn wrong(why: &str) -> git2::Error {
    git2::Error::new(ErrorCode::Invalid, ErrorClass::Object, why)
}
