//! The tree of a commit as folders with files, read out of git's object store.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use manifests::files::{Entry, Files};
use manifests::path_io::{AtPath as _, PathError};
use manifests::read::Texts;
use runtime::sys::command::CommandError;

use super::reading::{LONGEST_LINK, Step, in_layers, resolved, submodule, with_size};

/// The names of files of which one tells which others are read: they are fetched at once, and not by a child each.
const READ_FIRST: [&str; 2] = ["keel.yaml", ".keelignore"];
/// The most bytes that such a file may have to be fetched before it is asked for.
const MOST_FIRST: u64 = 64 << 10;

/// Asks git, with an input.
pub(super) type Ask<'a> = dyn Fn(&[&str], Option<&[u8]>) -> Result<Vec<u8>, CommandError> + 'a;

/// The folders and files of a commit. Nothing is checked out.
pub(super) struct Commit<'a> {
    /// Where the work tree is: paths begin with it, as if the commit were checked out.
    top: &'a Path,
    /// What is in each folder, by path.
    folders: BTreeMap<PathBuf, BTreeMap<PathBuf, Node>>,
    /// Contents that were fetched before they were asked for, by object.
    fetched: BTreeMap<String, Vec<u8>>,
    /// How many bytes were read.
    taken: Cell<u64>,
    ask: &'a Ask<'a>,
}

/// An entry of a tree.
enum Node {
    Folder,
    File(Blob),
    Link(Blob),
    Submodule,
}

/// The content of a file.
#[derive(Clone)]
struct Blob {
    object: String,
    size: u64,
}

impl<'a> Commit<'a> {
    /// Lists a commit.
    pub(super) fn read(
        top: &'a Path,
        commit: &str,
        ask: &'a Ask<'a>,
    ) -> Result<Self, CommandError> {
        let listed = ask(&["ls-tree", "-r", "-l", "-z", "--full-tree", commit], None)?;
        let mut this = Self {
            top,
            folders: BTreeMap::from([(top.to_path_buf(), BTreeMap::new())]),
            fetched: BTreeMap::new(),
            taken: Cell::new(0),
            ask,
        };
        let mut first = Vec::new();
        for line in listed.split(|byte| *byte == 0) {
            let Some((path, node)) = node(top, line) else {
                continue;
            };
            match &node {
                Node::Link(blob) if blob.size <= LONGEST_LINK => first.push(blob.clone()),
                Node::File(blob)
                    if blob.size <= MOST_FIRST
                        && READ_FIRST
                            .iter()
                            .any(|name| path.file_name() == Some(OsStr::new(name))) =>
                {
                    first.push(blob.clone());
                }
                _ => {}
            }
            this.add(path, node);
        }
        for (blob, content) in first.iter().zip(this.contents(&first)?) {
            if let Some(content) = content {
                this.fetched.insert(blob.object.clone(), content);
            }
        }
        Ok(this)
    }

    /// Adds an entry, and the folders that it is in.
    fn add(&mut self, path: PathBuf, node: Node) {
        let Some(folder) = path.parent().map(Path::to_path_buf) else {
            return;
        };
        if !self.folders.contains_key(&folder) {
            self.add(folder.clone(), Node::Folder);
            self.folders.insert(folder.clone(), BTreeMap::new());
        }
        if let Some(entries) = self.folders.get_mut(&folder) {
            entries.insert(path, node);
        }
    }

    fn node(&self, path: &Path) -> Option<&Node> {
        self.folders.get(path.parent()?)?.get(path)
    }

    fn entry(&self, path: &Path, node: &Node) -> Entry {
        match node {
            Node::Folder => Entry::Folder,
            Node::File(_) => Entry::File,
            Node::Link(_) => Entry::Link {
                to_folder: self.leads_to_folder(path),
            },
            Node::Submodule => Entry::Other,
        }
    }

    /// Where a path leads, as it would in a checkout: links of the commit are followed. It may lead out of it. None where
    /// that has no end.
    pub(super) fn resolved(&self, path: &Path) -> Option<PathBuf> {
        resolved(path, |at| match self.node(at) {
            Some(Node::Link(blob)) => match self.fetched.get(&blob.object) {
                Some(target) => Step::Link(target.clone()),
                None => Step::Lost,
            },
            _ => Step::Plain,
        })
    }

    /// Whether a link leads to a folder. What is not in the commit is where it would lead in a checkout.
    fn leads_to_folder(&self, link: &Path) -> bool {
        match self.resolved(link) {
            Some(at) if at.starts_with(self.top) => self.folders.contains_key(&at),
            Some(elsewhere) => elsewhere.is_dir(),
            None => false,
        }
    }

    /// The contents of objects, by one child; none for one that is not in the store.
    fn contents(&self, blobs: &[Blob]) -> Result<Vec<Option<Vec<u8>>>, CommandError> {
        if blobs.is_empty() {
            return Ok(Vec::new());
        }
        let input: String = blobs.iter().flat_map(|blob| [&blob.object, "\n"]).collect();
        let said = (self.ask)(&["cat-file", "--batch"], Some(input.as_bytes()))?;
        let mut rest = said.as_slice();
        let next = |blob| next_blob(&mut rest, blob).map(<[u8]>::to_vec);
        Ok(blobs.iter().map(next).collect())
    }

    /// The content of a file, or what has to be fetched for it.
    fn known(&self, path: &Path) -> Result<Result<Vec<u8>, Blob>, std::io::Error> {
        let Some(Node::File(blob)) = self.node(path) else {
            return Err(std::io::ErrorKind::NotFound.into());
        };
        self.taken.set(with_size(self.taken.get(), blob.size)?);
        let fetched = self.fetched.get(&blob.object);
        Ok(fetched.cloned().ok_or_else(|| blob.clone()))
    }

    /// What is in the layers of a source and cannot be read: `sub is a submodule`.
    pub(super) fn passed_over(&self, texts: &Texts) -> Vec<String> {
        let nodes = self.folders.values().flatten();
        let submodules = nodes
            .filter(|(_, node)| matches!(node, Node::Submodule))
            .map(|(path, _)| path.as_path());
        in_layers(texts, submodules)
            .map(|name| submodule(&name))
            .collect()
    }
}

impl Files for Commit<'_> {
    fn look(&self, path: &Path) -> Result<Option<Entry>, PathError> {
        if self.folders.contains_key(path) {
            return Ok(Some(Entry::Folder));
        }
        Ok(self.node(path).map(|node| self.entry(path, node)))
    }

    fn list(&self, folder: &Path) -> Result<Vec<(PathBuf, Entry)>, PathError> {
        let entries = self
            .folders
            .get(folder)
            .ok_or(std::io::ErrorKind::NotFound)
            .at("list", folder)?;
        let entry = |(path, node): (&PathBuf, &Node)| (path.clone(), self.entry(path, node));
        Ok(entries.iter().map(entry).collect())
    }

    fn size(&self, file: &Path) -> Result<u64, PathError> {
        match self.node(file) {
            Some(Node::File(blob)) => Ok(blob.size),
            _ => Err(std::io::ErrorKind::NotFound).at("look at", file),
        }
    }

    fn read_all(&self, files: &[PathBuf]) -> Vec<Result<Vec<u8>, PathError>> {
        let known: Vec<_> = files.iter().map(|path| self.known(path)).collect();
        let missing = known
            .iter()
            .filter_map(|one| one.as_ref().ok()?.as_ref().err());
        let missing: Vec<Blob> = missing.cloned().collect();
        let mut fetched = self.contents(&missing).map(Vec::into_iter);
        let mut next = || match &mut fetched {
            Ok(contents) => contents
                .next()
                .flatten()
                .ok_or_else(|| std::io::Error::other("it is not in the object store")),
            // Only one can have it; the others did not come either.
            failed => match std::mem::replace(failed, Ok(Vec::new().into_iter())) {
                Err(error) => Err(std::io::Error::other(error)),
                Ok(_) => Err(std::io::Error::other("it did not come")),
            },
        };
        let content = |one: Result<Result<Vec<u8>, Blob>, _>| match one {
            Ok(Ok(content)) => Ok(content),
            Ok(Err(_)) => next(),
            Err(error) => Err(error),
        };
        let all = known.into_iter().map(content);
        all.zip(files)
            .map(|(one, path)| one.at("read", path))
            .collect()
    }

    fn top(&self, folder: &Path) -> Option<PathBuf> {
        folder.starts_with(self.top).then(|| self.top.to_path_buf())
    }
}

/// One line of `git ls-tree -r -l -z`: `MODE TYPE OBJECT SIZE`, a tab, the name.
fn node(top: &Path, line: &[u8]) -> Option<(PathBuf, Node)> {
    let tab = line.iter().position(|byte| *byte == b'\t')?;
    let name = OsStr::from_bytes(line.get(tab + 1..)?);
    let facts: Vec<&str> = std::str::from_utf8(&line[..tab])
        .ok()?
        .split_ascii_whitespace()
        .collect();
    let blob = |object: &str, size: &str| Blob {
        object: object.to_owned(),
        size: size.parse().unwrap_or(u64::MAX),
    };
    let node = match facts.as_slice() {
        ["160000", ..] => Node::Submodule,
        ["120000", "blob", object, size] => Node::Link(blob(object, size)),
        [_, "blob", object, size] => Node::File(blob(object, size)),
        _ => return None,
    };
    Some((top.join(name), node))
}

/// The next answer of `git cat-file --batch`: `OBJECT blob SIZE`, the bytes, an end of line; or `OBJECT missing`.
fn next_blob<'a>(rest: &mut &'a [u8], blob: &Blob) -> Option<&'a [u8]> {
    let end = rest.iter().position(|byte| *byte == b'\n')?;
    let head = std::str::from_utf8(&rest[..end]).ok()?;
    let begin = end + 1;
    if head != format!("{} blob {}", blob.object, blob.size) {
        *rest = rest.get(begin..)?;
        return None;
    }
    let size = usize::try_from(blob.size).ok()?;
    let content = rest.get(begin..begin.checked_add(size)?)?;
    *rest = rest.get(begin + size + 1..)?;
    Some(content)
}
