//! A git repository as a source: one reference of it is followed, one folder of it read. There is never a work tree.
//!
//! Map: [`choosing`] picks a reference, [`local`] asks a repository of this host, [`objects`] and [`tree`] read commits,
//! [`lineage`] says what comes after what.

mod choosing;
mod lineage;
mod local;
mod objects;
mod tree;

use std::path::{Path, PathBuf};
use std::time::Duration;

use git2::Oid;
use manifests::controller::{GitSource, RepositoryUrl, Wanted};
use manifests::files::{Entry, Files as _};
use manifests::folder;
use manifests::path_io::PathError;
use manifests::read::read_from;
use manifests::repository::Repository;

use super::digest::digest;
use super::failure::SourceError;
use super::followed::{Followed, Last, Latest, Tree, Watched};
use super::git;
use choosing::{Choosing, Chosen, object};
use lineage::lineage;
use local::Local;
use objects::Objects;
use tree::CommitTree;

/// A repository that is followed.
#[derive(Debug)]
pub struct Git {
    name: String,
    url: RepositoryUrl,
    wanted: Wanted,
    path: PathBuf,
    interval: Duration,
    place: Local,
    /// What it said when it was last looked at: the object, the commit, the digest.
    seen: Option<(Oid, String, String)>,
    first_commit: Option<String>,
}

/// Where a long history begins is not looked for.
const MOST_GENERATIONS: usize = 100_000;

impl Git {
    /// Follows a repository.
    ///
    /// # Errors
    /// The settings name something that cannot be used.
    pub fn new(name: impl Into<String>, settings: &GitSource) -> Result<Self, SourceError> {
        let unusable = |what: &str| SourceError::Settings {
            what: what.to_owned(),
            source: "this version of keel follows repositories of this host, unsigned".into(),
        };
        let url = settings.url.clone();
        let url = url.ok_or_else(|| unusable("a repository without url"))?;
        let RepositoryUrl::Local(path) = &url else {
            return Err(unusable("a repository of another host"));
        };
        if settings.verify.is_some() {
            return Err(unusable("a repository with `verify`"));
        }
        Ok(Self {
            name: name.into(),
            place: Local::at(path),
            wanted: settings.wanted(),
            path: Path::new(&settings.path).components().collect(),
            interval: settings.interval.as_std(),
            url,
            seen: None,
            first_commit: None,
        })
    }

    /// Refuses a commit that does not come after the one in force.
    fn not_rewound(
        &self,
        objects: &Objects,
        chosen: &Chosen,
        commit: Oid,
        last: &Last,
    ) -> Result<(), SourceError> {
        let name = commit.to_string();
        let Some(before) = last.commit.as_deref().and_then(object) else {
            return Ok(());
        };
        let is_meant = matches!(self.wanted, Wanted::Commit(_))
            || chosen.is_later_version
            || last.approved_rewind.as_deref() == Some(&name);
        if is_meant || commit == before || lineage(objects, commit, before)?.descends {
            return Ok(());
        }
        Err(SourceError::Rewound {
            last: git::short(&before.to_string()).to_owned(),
            commit: name,
        })
    }

    /// Reads the folder out of a commit.
    fn read(&mut self, objects: &Objects, commit: Oid) -> Result<Tree, SourceError> {
        let name = commit.to_string();
        let short = git::short(&name).to_owned();
        let found = objects.commit(commit)?;
        let top = self.place.top.clone();
        let files = CommitTree::new(objects, &top, found.tree_id());
        let wrong = |error: PathError| SourceError::File {
            commit: short.clone(),
            file: folder::shown(&folder::name(&top, &error.path)).to_owned(),
            source: error.source,
        };
        let asked = top.join(&self.path);
        let path = files.resolved(&asked).filter(|path| path.starts_with(&top));
        let is_folder = match &path {
            Some(path) => files.look(path).map_err(wrong)? == Some(Entry::Folder),
            None => false,
        };
        let (Some(path), true) = (path, is_folder) else {
            return Err(SourceError::NoSuchPath {
                path: format!("the folder {}", self.path.display()),
                commit: short,
            });
        };
        let texts = read_from(&files, &path).map_err(wrong)?;
        let place = folder::name(&top, &texts.root);
        if texts.files.is_empty() {
            return Err(SourceError::Empty {
                place: format!("{} of {short}", folder::shown(&place)),
            });
        }
        let passed_over = files.passed_over(&texts);
        drop(files);
        self.first_commit = self.first_commit.take().or_else(|| first(objects, commit));
        Ok(Tree {
            digest: digest(&texts),
            revision: Some(short),
            commit: Some(name),
            repository: Some(Repository {
                first_commit: self.first_commit.clone(),
                remote: Repository::address_of(&self.url.to_string()),
                folder: place,
            }),
            signed_by: None,
            committed_at: jiff::Timestamp::from_second(found.time().seconds()).ok(),
            passed_over,
            texts,
        })
    }
}

impl Followed for Git {
    fn name(&self) -> &str {
        &self.name
    }

    fn describe(&self) -> String {
        let folder = match self.path.as_os_str().is_empty() {
            true => String::new(),
            false => format!("//{}", self.path.display()),
        };
        format!("{}{folder} ({})", self.url, self.wanted)
    }

    fn latest(&mut self, last: Option<&Last>) -> Result<Latest, SourceError> {
        let before = last.and_then(|last| object(last.commit.as_deref()?));
        let choosing = Choosing::new(&self.wanted, before);
        let chosen = self.place.choose(choosing, &self.wanted.to_string())?;
        if let (Some((object, commit, digest)), Some(last)) = (&self.seen, last)
            && *object == chosen.object
            && last.commit.as_ref() == Some(commit)
            && last.digest == *digest
        {
            return Ok(Latest::Unchanged {
                commit: Some(commit.clone()),
            });
        }
        let objects = self.place.objects()?;
        let (_, commit) = objects.peeled(chosen.object)?;
        if let Some(last) = last {
            self.not_rewound(&objects, &chosen, commit, last)?;
        }
        let tree = self.read(&objects, commit)?;
        let name = commit.to_string();
        self.seen = Some((chosen.object, name.clone(), tree.digest.clone()));
        match last {
            Some(last) if last.digest == tree.digest => {
                Ok(Latest::Unchanged { commit: Some(name) })
            }
            _ => Ok(Latest::Moved(Box::new(tree))),
        }
    }

    fn interval(&self) -> Duration {
        self.interval
    }

    fn watched(&self) -> Vec<Watched> {
        self.place.watched()
    }
}

/// The first commit of a history, by the line of first parents: it ends in one commit, also where histories were joined.
/// None where it was cut off, or is very long.
fn first(objects: &Objects, commit: Oid) -> Option<String> {
    let mut at = commit;
    for _ in 0..MOST_GENERATIONS {
        match objects.commit(at).ok()?.parent_ids().next() {
            Some(parent) => at = parent,
            None => return Some(at.to_string()),
        }
    }
    None
}

#[cfg(test)]
mod tests;
