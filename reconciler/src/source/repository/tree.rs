//! The tree of a commit as folders with files, read out of an object store, only as far as it is looked at. What a
//! repository brings along does nothing: a link is not followed, a submodule not fetched, an attribute not heeded.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use git2::{ErrorCode, ObjectType, Oid};
use manifests::files::{Entry, Files};
use manifests::path_io::{AtPath as _, PathError};
use manifests::read::Texts;

use super::objects::Objects;
use crate::source::reading::{LONGEST_LINK, MOST, Step, in_layers, resolved, submodule, with_size};

/// Folders within folders: more is no tree that people made.
const DEEPEST: usize = 64;
/// The most names in all folders that are looked at.
const MOST_NAMES: usize = 200_000;
/// How the pointers of Git LFS begin.
const LFS: &[u8] = b"version https://git-lfs.github.com/spec/";

/// What a name in a folder stands for.
#[derive(Clone, Copy)]
enum Node {
    Folder(Oid),
    File(Oid),
    Link(Oid),
    Submodule,
}

type Folder = Rc<BTreeMap<OsString, Node>>;

/// The folders and files of a commit. Paths begin with where the repository is.
pub(super) struct CommitTree<'a> {
    objects: &'a Objects,
    top: &'a Path,
    root: Oid,
    folders: RefCell<BTreeMap<PathBuf, Folder>>,
    /// How many names were seen.
    names: Cell<usize>,
    /// How many bytes were read.
    taken: Cell<u64>,
    submodules: RefCell<BTreeSet<PathBuf>>,
    /// What git itself would not check out.
    forbidden: RefCell<BTreeSet<PathBuf>>,
}

impl<'a> CommitTree<'a> {
    /// The tree of that name.
    pub(super) fn new(objects: &'a Objects, top: &'a Path, root: Oid) -> Self {
        Self {
            objects,
            top,
            root,
            folders: RefCell::default(),
            names: Cell::new(0),
            taken: Cell::new(0),
            submodules: RefCell::default(),
            forbidden: RefCell::default(),
        }
    }

    /// Where a path leads, links followed.
    pub(super) fn resolved(&self, path: &Path) -> Option<PathBuf> {
        resolved(path, |at| match self.node(at) {
            Ok(Some(Node::Link(target))) => {
                let most = usize::try_from(LONGEST_LINK).unwrap_or(usize::MAX);
                match self.objects.content(target, ObjectType::Blob, most) {
                    Ok(target) => Step::Link(target),
                    Err(_) => Step::Lost,
                }
            }
            _ => Step::Plain,
        })
    }

    /// What is in the layers of a source and cannot be read.
    pub(super) fn passed_over(&self, texts: &Texts) -> Vec<String> {
        let submodules = self.submodules.borrow();
        let forbidden = self.forbidden.borrow();
        let modules = in_layers(texts, submodules.iter().map(PathBuf::as_path));
        let forbidden = in_layers(texts, forbidden.iter().map(PathBuf::as_path));
        modules
            .map(|name| submodule(&name))
            .chain(
                forbidden.map(|name| {
                    format!("{name} is a name that git keeps for itself, and is not read")
                }),
            )
            .collect()
    }

    /// What is in a folder; none: it is no folder.
    fn folder(&self, path: &Path) -> io::Result<Option<Folder>> {
        if let Some(known) = self.folders.borrow().get(path) {
            return Ok(Some(Rc::clone(known)));
        }
        let Ok(below) = path.strip_prefix(self.top) else {
            return Ok(None);
        };
        if below.components().count() > DEEPEST {
            return Err(io::Error::other(format!(
                "folders nest deeper than {DEEPEST}"
            )));
        }
        let tree = match below.parent() {
            None => self.root,
            Some(_) => match self.node(path)? {
                Some(Node::Folder(tree)) => tree,
                _ => return Ok(None),
            },
        };
        let folder = Rc::new(self.listed(path, tree)?);
        let known = Rc::clone(&folder);
        self.folders.borrow_mut().insert(path.to_path_buf(), known);
        Ok(Some(folder))
    }

    fn listed(&self, path: &Path, tree: Oid) -> io::Result<BTreeMap<OsString, Node>> {
        let mut folder = BTreeMap::new();
        let entries = self.objects.tree(tree).map_err(io::Error::other)?;
        self.names.set(self.names.get() + entries.len());
        if self.names.get() > MOST_NAMES {
            return Err(io::Error::other(format!(
                "there are more than {MOST_NAMES} names"
            )));
        }
        for (name, mode, object) in entries {
            let name = OsStr::from_bytes(&name);
            match kept_for_git(name.as_bytes()) {
                Kept::No => {}
                Kept::Name => {
                    self.forbidden.borrow_mut().insert(path.join(name));
                    continue;
                }
                Kept::Trick => {
                    let why = format!("{name:?} is no name of a file: the tree was made by hand");
                    return Err(io::Error::other(why));
                }
            }
            // The type is in the upper bits, as in `st_mode`.
            let node = match mode & 0o170_000 {
                0o040_000 => Node::Folder(object),
                0o120_000 => Node::Link(object),
                0o160_000 => {
                    self.submodules.borrow_mut().insert(path.join(name));
                    Node::Submodule
                }
                _ => Node::File(object),
            };
            folder.insert(name.to_owned(), node);
        }
        Ok(folder)
    }

    fn node(&self, path: &Path) -> io::Result<Option<Node>> {
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
            return Ok(None);
        };
        if !parent.starts_with(self.top) {
            return Ok(None);
        }
        let folder = self.folder(parent)?;
        Ok(folder.and_then(|folder| folder.get(name).copied()))
    }

    fn entry(&self, path: &Path, node: Node) -> Entry {
        match node {
            Node::Folder(_) => Entry::Folder,
            Node::File(_) => Entry::File,
            Node::Link(_) => Entry::Link {
                to_folder: self.may_lead_to_folder(path),
            },
            Node::Submodule => Entry::Other,
        }
    }

    /// Whether a link leads to a folder. One that leads out of the repository, or nowhere, may: what would be behind it
    /// must not count as given up.
    fn may_lead_to_folder(&self, link: &Path) -> bool {
        match self.resolved(link) {
            Some(at) if at.starts_with(self.top) => {
                at == self.top || matches!(self.node(&at), Ok(Some(Node::Folder(_))))
            }
            _ => true,
        }
    }

    fn content(&self, path: &Path) -> io::Result<Vec<u8>> {
        let Some(Node::File(object)) = self.node(path)? else {
            return Err(io::ErrorKind::NotFound.into());
        };
        let size = self.size_of(object)?;
        self.taken.set(with_size(self.taken.get(), size)?);
        let most = usize::try_from(MOST).unwrap_or(usize::MAX);
        let content = self.objects.content(object, ObjectType::Blob, most);
        let content = content.map_err(io::Error::other)?;
        if content.starts_with(LFS) {
            return Err(io::Error::other(
                "it is a pointer of Git LFS, whose content is kept elsewhere: keel does not fetch it",
            ));
        }
        Ok(content)
    }

    fn size_of(&self, object: Oid) -> io::Result<u64> {
        match self.objects.header(object) {
            Ok((size, _)) => Ok(size as u64),
            Err(error) if error.code() == ErrorCode::NotFound => Err(io::Error::other(format!(
                "its content is not here: it is more than is read ({} MiB), or the repository lacks it",
                MOST >> 20
            ))),
            Err(error) => Err(io::Error::other(error)),
        }
    }
}

impl Files for CommitTree<'_> {
    fn look(&self, path: &Path) -> Result<Option<Entry>, PathError> {
        if path == self.top {
            return Ok(Some(Entry::Folder));
        }
        let node = self.node(path).at("look at", path)?;
        Ok(node.map(|node| self.entry(path, node)))
    }

    fn list(&self, folder: &Path) -> Result<Vec<(PathBuf, Entry)>, PathError> {
        let names = self.folder(folder).at("list", folder)?;
        let names = names.ok_or(io::ErrorKind::NotFound).at("list", folder)?;
        let entry = |(name, node): (&OsString, &Node)| {
            let path = folder.join(name);
            let entry = self.entry(&path, *node);
            (path, entry)
        };
        Ok(names.iter().map(entry).collect())
    }

    fn size(&self, file: &Path) -> Result<u64, PathError> {
        match self.node(file).at("look at", file)? {
            Some(Node::File(object)) => self.size_of(object).at("look at", file),
            _ => Err(io::ErrorKind::NotFound).at("look at", file),
        }
    }

    fn read_all(&self, files: &[PathBuf]) -> Vec<Result<Vec<u8>, PathError>> {
        files
            .iter()
            .map(|path| self.content(path).at("read", path))
            .collect()
    }

    fn top(&self, folder: &Path) -> Option<PathBuf> {
        folder.starts_with(self.top).then(|| self.top.to_path_buf())
    }
}

enum Kept {
    No,
    /// `.git` in some spelling that a file system may take for it.
    Name,
    /// What no honest git writes.
    Trick,
}

/// Whether a name is one that git keeps for itself (CVE-2014-9390, CVE-2019-1352): with other letters, as the short name of
/// NTFS, with what HFS+ passes over.
fn kept_for_git(name: &[u8]) -> Kept {
    if name.is_empty() || name.contains(&b'/') || name == b"." || name == b".." {
        return Kept::Trick;
    }
    let text = String::from_utf8_lossy(name);
    let seen: String = text
        .chars()
        .filter(|c| !matches!(c, '\u{200c}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{206a}'..='\u{206f}' | '\u{feff}'))
        .collect();
    let seen = seen
        .split(':')
        .next()
        .unwrap_or_default()
        .trim_end_matches([' ', '.'])
        .to_ascii_lowercase();
    match seen == ".git" || seen == "git~1" {
        true => Kept::Name,
        false => Kept::No,
    }
}
