//! A source as a commit has it: its files are read out of git's object store. Nothing is checked out, so that neither
//! hooks nor filters nor anything else that a repository brings along is run.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use manifests::attached::{self, Attached};
use manifests::listing::{Listing, below};
use manifests::path_io::PathError;
use manifests::read::Texts;
use manifests::repository::Repository;
use runtime::sys::command::CommandError;

use super::git;

/// The most bytes that one file may have.
const MOST: u64 = 16 << 20;
/// The most bytes that all files together may have.
const MOST_OF_ALL: u64 = 256 << 20;

/// A revision cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum RevisionError {
    /// There is no such path.
    #[error(transparent)]
    Path(#[from] PathError),
    /// It lies in no repository.
    #[error("{} is in no git repository", path.display())]
    NoRepository {
        /// The path.
        path: PathBuf,
    },
    /// There is no such commit.
    #[error("there is no revision `{revision}`")]
    NoRevision {
        /// What was asked for.
        revision: String,
        /// What git says.
        source: CommandError,
    },
    /// The commit does not have the path.
    #[error("{path} is not in {revision}")]
    NotThere {
        /// The path within the repository.
        path: String,
        /// The commit.
        revision: String,
    },
    /// git failed.
    #[error("ask git about {revision}")]
    Git {
        /// The commit.
        revision: String,
        /// How.
        source: CommandError,
    },
    /// A file is too large, or is not here.
    #[error("{file} of {revision} {why}")]
    File {
        /// The commit.
        revision: String,
        /// The file within the repository.
        file: String,
        /// Why it cannot be read: `has more than 16 MiB`.
        why: String,
    },
}

/// A source at a revision.
#[derive(Debug)]
pub struct AtRevision {
    /// Its files.
    pub texts: Texts,
    /// The commit, as people see it.
    pub revision: String,
    /// Where in which repository it lies.
    pub repository: Option<Repository>,
    /// What was not followed: `apps.yaml is a symbolic link`.
    pub passed_over: Vec<String>,
}

/// One entry of a tree.
struct Entry {
    object: String,
    size: u64,
}

/// Reads the source to which a path belongs, as a revision has it.
///
/// # Errors
/// There is no such revision, or it does not have the path, or git will not tell.
pub fn read(
    path: &Path,
    revision: &str,
    sudo_uid: Option<&str>,
) -> Result<AtRevision, RevisionError> {
    let no_repository = || RevisionError::NoRepository {
        path: path.to_path_buf(),
    };
    // What is asked for need not be in the folder of today, but the folder that it is in must be.
    let (folder, rest) = nearest(path)?;
    let top = git::top(&folder).ok_or_else(no_repository)?.to_path_buf();
    let mut within = folder
        .strip_prefix(&top)
        .map_err(|_| no_repository())?
        .to_path_buf();
    within.extend(&rest);
    let within = within.to_str().ok_or_else(no_repository)?.to_owned();
    let commit = commit_of(&top, revision, sudo_uid)?;
    let short = git::short(&commit).to_owned();
    let ask = |question: &[&str], input: Option<&[u8]>| {
        git::ask(&top, sudo_uid, question, input).map_err(|source| RevisionError::Git {
            revision: short.clone(),
            source,
        })
    };
    let listed = ask(&["ls-tree", "-r", "-l", "-z", "--full-tree", &commit], None)?;
    let tree = Tree::of(&listed);
    let names: Vec<String> = tree.files.keys().cloned().collect();
    let mut listing = Listing::new(&names, &within).ok_or_else(|| RevisionError::NotThere {
        path: within.clone(),
        revision: short.clone(),
    })?;
    let blobs = Blobs {
        tree: &tree,
        revision: &short,
        ask: &ask,
    };
    for (name, text) in blobs.read(listing.ignore_files())? {
        listing.ignore(&name, &text);
    }
    let manifests: BTreeSet<String> = listing.manifests().map(str::to_owned).collect();
    let root = listing.root();
    let relative = |name: &str| below(name, root).unwrap_or(name).to_owned();
    let mut files: Vec<(String, String)> = blobs
        .read(manifests)?
        .into_iter()
        .map(|(name, text)| (relative(&name), text))
        .collect();
    files.sort();
    let partial = listing
        .part()
        .map(|part| match tree.files.contains_key(&within) {
            true => format!("only the file {part}"),
            false => format!("only the folder {part}"),
        });
    let passed_over = tree
        .others
        .iter()
        .filter(|(name, what)| {
            listing.is_manifest(name) || *what == SUBMODULE && below(name, root).is_some()
        })
        .map(|(name, what)| format!("{} is a {what}", relative(name)))
        .collect();
    Ok(AtRevision {
        texts: Texts {
            attached: blobs.attached(&top, root, &files)?,
            root: top.join(root),
            only: listing.part().map(str::to_owned),
            partial,
            files,
            ..Texts::default()
        },
        repository: git::repository(&top.join(root), sudo_uid),
        revision: short.clone(),
        passed_over,
    })
}

/// The nearest folder that is there, and the rest of the path.
fn nearest(path: &Path) -> Result<(PathBuf, PathBuf), RevisionError> {
    let path = std::path::absolute(path).map_err(|source| PathError {
        path: path.to_path_buf(),
        doing: "find",
        source,
    })?;
    for folder in path.ancestors() {
        if let Ok(found) = folder.canonicalize() {
            let rest = path.strip_prefix(folder).unwrap_or(Path::new(""));
            return match (found.is_dir(), found.parent(), found.file_name()) {
                (false, Some(parent), Some(name)) => Ok((parent.to_path_buf(), name.into())),
                _ => Ok((found, rest.to_path_buf())),
            };
        }
    }
    Ok((PathBuf::from("/"), PathBuf::new()))
}

/// The whole name of a commit.
fn commit_of(top: &Path, revision: &str, sudo_uid: Option<&str>) -> Result<String, RevisionError> {
    let wanted = format!("{revision}^{{commit}}");
    let question = ["rev-parse", "--verify", "--end-of-options", &wanted];
    let no_revision = |source| RevisionError::NoRevision {
        revision: revision.to_owned(),
        source,
    };
    let said = git::ask(top, sudo_uid, &question, None).map_err(no_revision)?;
    Ok(String::from_utf8_lossy(&said).trim().to_owned())
}

const LINK: &str = "symbolic link, which is not followed";
const SUBMODULE: &str = "submodule, which is not read";

/// The files of a commit, and what else is among them.
#[derive(Default)]
struct Tree {
    files: BTreeMap<String, Entry>,
    others: Vec<(String, &'static str)>,
}

impl Tree {
    /// Reads `git ls-tree -r -l -z`. A name that is not UTF-8 is that of no manifest.
    fn of(listed: &[u8]) -> Self {
        let mut tree = Self::default();
        for line in listed.split(|byte| *byte == 0) {
            let Some((facts, name)) = std::str::from_utf8(line)
                .ok()
                .and_then(|line| line.split_once('\t'))
            else {
                continue;
            };
            let facts: Vec<&str> = facts.split_ascii_whitespace().collect();
            match facts.as_slice() {
                ["120000", ..] => tree.others.push((name.to_owned(), LINK)),
                ["160000", ..] => tree.others.push((name.to_owned(), SUBMODULE)),
                [_, "blob", object, size] => {
                    let entry = Entry {
                        object: (*object).to_owned(),
                        size: size.parse().unwrap_or(u64::MAX),
                    };
                    tree.files.insert(name.to_owned(), entry);
                }
                _ => {}
            }
        }
        tree
    }
}

/// Asks git, with an input.
type Ask<'a> = dyn Fn(&[&str], Option<&[u8]>) -> Result<Vec<u8>, RevisionError> + 'a;

/// The contents of files.
struct Blobs<'a> {
    tree: &'a Tree,
    revision: &'a str,
    ask: &'a Ask<'a>,
}

impl Blobs<'_> {
    fn wrong(&self, file: &str, why: impl Into<String>) -> RevisionError {
        RevisionError::File {
            revision: self.revision.to_owned(),
            file: file.to_owned(),
            why: why.into(),
        }
    }

    /// The bytes of files, by one child.
    fn bytes(
        &self,
        names: impl IntoIterator<Item = String>,
    ) -> Result<Vec<(String, Vec<u8>)>, RevisionError> {
        let mut input = String::new();
        let mut wanted = Vec::new();
        let mut all: u64 = 0;
        for name in names {
            let Some(entry) = self.tree.files.get(&name) else {
                continue;
            };
            all = all.saturating_add(entry.size);
            if entry.size > MOST || all > MOST_OF_ALL {
                let most = if entry.size > MOST { MOST } else { MOST_OF_ALL };
                return Err(self.wrong(&name, format!("is more than is read: {} MiB", most >> 20)));
            }
            input.push_str(&entry.object);
            input.push('\n');
            wanted.push((name, entry));
        }
        if wanted.is_empty() {
            return Ok(Vec::new());
        }
        let said = (self.ask)(&["cat-file", "--batch"], Some(input.as_bytes()))?;
        let mut rest = said.as_slice();
        let mut found = Vec::new();
        for (name, entry) in wanted {
            let content = next_blob(&mut rest, entry);
            let content = content.ok_or_else(|| self.wrong(&name, "is not in the object store"))?;
            found.push((name, content.to_vec()));
        }
        Ok(found)
    }

    /// The texts of files.
    fn read(
        &self,
        names: impl IntoIterator<Item = String>,
    ) -> Result<Vec<(String, String)>, RevisionError> {
        self.bytes(names)?
            .into_iter()
            .map(|(name, bytes)| match String::from_utf8(bytes) {
                Ok(text) => Ok((name, text)),
                Err(_) => Err(self.wrong(&name, "is not UTF-8")),
            })
            .collect()
    }

    /// The files that manifests take in as texts.
    fn attached(
        &self,
        top: &Path,
        root: &str,
        files: &[(String, String)],
    ) -> Result<attached::AttachedFiles, RevisionError> {
        let whole = |name: &str| match root {
            "" => name.to_owned(),
            root => format!("{root}/{name}"),
        };
        let mut found = attached::AttachedFiles::new();
        let mut wanted = Vec::new();
        for name in attached::names(&top.join(root), files) {
            let refused = match self.tree.files.get(&whole(&name)) {
                Some(entry) if entry.size > attached::MOST => {
                    format!("has more than {} KiB", attached::MOST >> 10)
                }
                Some(_) => {
                    wanted.push(whole(&name));
                    continue;
                }
                None => "is not there".to_owned(),
            };
            found.insert(name, Attached::Refused(refused));
        }
        for (name, bytes) in self.bytes(wanted)? {
            let name = below(&name, root).unwrap_or(&name).to_owned();
            let text = String::from_utf8(bytes).map_err(|_| "is not UTF-8".to_owned());
            found.insert(name, text.map_or_else(Attached::Refused, Attached::Text));
        }
        Ok(found)
    }
}

/// The next answer of `git cat-file --batch`: `OBJECT blob SIZE`, the bytes, an end of line.
fn next_blob<'a>(rest: &mut &'a [u8], entry: &Entry) -> Option<&'a [u8]> {
    let end = rest.iter().position(|byte| *byte == b'\n')?;
    let head = std::str::from_utf8(&rest[..end]).ok()?;
    if head != format!("{} blob {}", entry.object, entry.size) {
        return None;
    }
    let begin = end + 1;
    let size = usize::try_from(entry.size).ok()?;
    let content = rest.get(begin..begin.checked_add(size)?)?;
    *rest = rest.get(begin + size + 1..)?;
    Some(content)
}
