//! A git repository as a source: one reference of it is followed, one folder of it read. There is never a work tree.
//!
//! Map: [`choosing`] picks a reference; [`local`] asks a repository of this host, [`remote`] one of a server, by [`protocol`]
//! over [`ssh`] or [`https`] into a [`store`], where packs are [`examined`]; [`objects`] and [`tree`] read commits; [`lineage`] says what comes after what, [`ahead`] how far;
//! [`verify`] who signed it; [`proposals`] are pull requests.

mod ahead;
mod choosing;
mod examined;
mod https;
mod lineage;
mod local;
mod objects;
mod packet;
mod proposals;
mod protocol;
mod regular;
mod remote;
mod ssh;
mod store;
mod tree;
mod verify;
mod wire;

use std::path::{Path, PathBuf};
use std::time::Duration;

use git2::Oid;
use manifests::controller::{GitSource, ProposalRefs, RepositoryUrl, Wanted};
use manifests::files::{Entry, Files as _};
use manifests::folder;
use manifests::path_io::PathError;
use manifests::read::read_from;
use manifests::repository::Repository;

use super::digest::digest;
use super::failure::SourceError;
use super::followed::{About, Ahead, Followed, Last, Latest, Tree, Watched};
use super::git;
use crate::web::access::TokenPlace;
use choosing::{Choosing, Chosen, object};
use lineage::{Lineage, lineage};
use local::Local;
use objects::Objects;
use proposals::Proposals;
use remote::{Remote, Way};
use ssh::Server;
use tree::CommitTree;
use verify::Verifier;

pub use proposals::Proposal;

/// What is around the sources of a controller.
pub struct Around<'a> {
    /// The folder of their object stores: `sources` in the state folder.
    pub sources: &'a Path,
    /// A variable of the environment.
    pub variable: &'a dyn Fn(&str) -> Option<String>,
    /// The client of ssh.
    pub ssh: &'a str,
}

/// A repository that is followed.
#[derive(Debug)]
pub struct Git {
    name: String,
    url: RepositoryUrl,
    wanted: Wanted,
    path: PathBuf,
    interval: Duration,
    place: Place,
    verifier: Option<Verifier>,
    seen: Option<Seen>,
    first_commit: Option<String>,
    ahead: Option<ahead::Answered>,
}

/// Where a repository is.
#[derive(Debug)]
enum Place {
    Local(Local),
    Remote(Box<Remote>),
}

impl Place {
    fn of(
        name: &str,
        url: &RepositoryUrl,
        settings: &GitSource,
        around: &Around<'_>,
    ) -> Result<Self, SourceError> {
        let way = match url {
            RepositoryUrl::Local(path) => return Ok(Self::Local(Local::at(path))),
            RepositoryUrl::Ssh {
                user,
                host,
                port,
                path,
            } => Way::Ssh {
                client: around.ssh.to_owned(),
                server: Server {
                    user: user.clone(),
                    host: host.clone(),
                    port: *port,
                    path: path.clone(),
                },
                access: settings.ssh.clone().unwrap_or_default(),
            },
            RepositoryUrl::Https { .. } => {
                let access = settings.https.clone().unwrap_or_default();
                let token = access.token.as_ref();
                let token = token
                    .map(|token| TokenPlace::of(token, around.variable))
                    .transpose()?;
                Way::Https { access, token }
            }
        };
        let store = around.sources.join(format!("{name}.git"));
        let limit = settings.timeout.as_std();
        let remote = Remote::new(url.to_string(), way, limit, store);
        Ok(Self::Remote(Box::new(remote)))
    }
}

/// What it said when it was last looked at.
#[derive(Debug)]
struct Seen {
    object: Oid,
    commit: String,
    digest: String,
    /// The commit that was in force then, after which this one was found to come.
    after: Option<String>,
}

/// So many characters of what a commit says of itself are kept.
const LONGEST_WORDS: usize = 200;
/// Where a long history begins is not looked for.
const MOST_GENERATIONS: usize = 100_000;

impl Git {
    /// Follows a repository.
    ///
    /// # Errors
    /// The settings name something that cannot be used.
    pub fn new(
        name: impl Into<String>,
        settings: &GitSource,
        around: &Around<'_>,
    ) -> Result<Self, SourceError> {
        let name = name.into();
        let url = settings.url.clone().ok_or_else(|| SourceError::Settings {
            what: format!("follow {name}"),
            source: "it has no url".into(),
        })?;
        let place = Place::of(&name, &url, settings, around)?;
        let folder = around.sources.to_path_buf();
        let verify = settings.verify.as_ref();
        Ok(Self {
            verifier: verify.map(|verify| Verifier::new(verify, folder, &name)),
            wanted: settings.wanted(),
            path: Path::new(&settings.path).components().collect(),
            interval: settings.interval.as_std(),
            name,
            url,
            place,
            seen: None,
            first_commit: None,
            ahead: None,
        })
    }

    /// The newest pull requests.
    ///
    /// # Errors
    /// It cannot be reached.
    pub fn proposals(
        &mut self,
        refs: &ProposalRefs,
        most: usize,
    ) -> Result<Vec<Proposal>, SourceError> {
        let mut found = Proposals::new(refs, most);
        match &mut self.place {
            Place::Local(local) => local.offer(&mut found)?,
            Place::Remote(remote) => {
                let offered = remote.offer(&mut found);
                remote.close();
                offered?;
            }
        }
        Ok(found.found())
    }

    /// What a commit that is proposed holds. Nobody checked who made it.
    ///
    /// # Errors
    /// It cannot be fetched or read.
    pub fn proposed(&mut self, commit: &str) -> Result<Tree, SourceError> {
        let tree = match object(commit) {
            Some(commit) => self.read_proposed(commit),
            None => Err(SourceError::NoSuchReference {
                url: self.url.to_string(),
                wanted: format!("commit {}", commit.escape_debug()),
            }),
        };
        if let Place::Remote(remote) = &mut self.place {
            remote.close();
            if tree.as_ref().is_err_and(SourceError::is_of_store) {
                remote.forget();
            }
        }
        tree
    }

    fn read_proposed(&mut self, commit: Oid) -> Result<Tree, SourceError> {
        let objects = match &mut self.place {
            Place::Local(local) => local.objects()?,
            Place::Remote(remote) => remote.objects(commit)?,
        };
        let (_, commit) = objects.peeled(commit)?;
        self.read(&objects, commit)
    }

    fn look(&mut self, last: Option<&Last>) -> Result<Latest, SourceError> {
        let before = last.and_then(|last| object(last.commit.as_deref()?));
        let choosing = Choosing::new(&self.wanted, before);
        let wanted = self.wanted.to_string();
        let chosen = match &mut self.place {
            Place::Local(local) => local.choose(choosing, &wanted)?,
            Place::Remote(remote) => remote.choose(choosing, &wanted)?,
        };
        if let (Some(seen), Some(last)) = (&self.seen, last)
            && seen.object == chosen.object
            && (last.commit.as_ref() == Some(&seen.commit) || last.commit == seen.after)
            && last.digest == seen.digest
        {
            return Ok(Latest::Unchanged {
                commit: Some(seen.commit.clone()),
            });
        }
        let objects = match &mut self.place {
            Place::Local(local) => local.objects()?,
            Place::Remote(remote) => remote.objects(chosen.object)?,
        };
        let (tag, commit) = objects.peeled(chosen.object)?;
        let history = self.history(&objects, &chosen, commit, last)?;
        let since = history.as_ref().map(|(history, found)| {
            let history = history.as_ref().unwrap_or(&objects);
            (history, found.since.as_slice())
        });
        let verifier = self.verifier.as_ref();
        let signed_by = verifier.map(|verifier| {
            verifier.check(&chosen.reference, tag.as_deref(), commit, &objects, since)
        });
        let signed_by = signed_by.transpose()?;
        let mut tree = self.read(&objects, commit)?;
        tree.signed_by = signed_by;
        self.seen = Some(Seen {
            object: chosen.object,
            commit: commit.to_string(),
            digest: tree.digest.clone(),
            after: last.and_then(|last| last.commit.clone()),
        });
        match last {
            Some(last) if last.digest == tree.digest => Ok(Latest::Unchanged {
                commit: tree.commit,
            }),
            _ => Ok(Latest::Moved(Box::new(tree))),
        }
    }

    /// What came since the commit in force, with the objects that say so, where that is asked for.
    ///
    /// # Errors
    /// The commit does not come after the one in force.
    fn history(
        &mut self,
        objects: &Objects,
        chosen: &Chosen,
        commit: Oid,
        last: Option<&Last>,
    ) -> Result<Option<(Option<Objects>, Lineage)>, SourceError> {
        let name = commit.to_string();
        let before = last.and_then(|last| object(last.commit.as_deref()?));
        let (Some(before), Some(last)) = (before, last) else {
            return Ok(None);
        };
        let is_whole = self.verifier.as_ref().is_some_and(Verifier::wants_history);
        let is_meant = matches!(self.wanted, Wanted::Commit(_))
            || chosen.is_later_version
            || last.approved_rewind.as_deref() == Some(&name);
        if commit == before || is_meant && !is_whole {
            return Ok(None);
        }
        let (history, found) = match &mut self.place {
            Place::Local(_) => (None, lineage(objects, commit, before)?),
            Place::Remote(remote) => remote.lineage(objects, commit, before, is_whole)?,
        };
        if found.is_cut && (is_whole || !found.descends) {
            return Err(SourceError::NoRepository {
                url: self.url.to_string(),
                why: "its history is cut off, so that nobody can tell what came since".to_owned(),
            });
        }
        if !is_meant && !found.descends {
            return Err(SourceError::Rewound {
                last: git::short(&before.to_string()).to_owned(),
                commit: name,
            });
        }
        Ok(Some((history, found)))
    }

    /// Reads the folder out of a commit.
    fn read(&mut self, objects: &Objects, commit: Oid) -> Result<Tree, SourceError> {
        let name = commit.to_string();
        let short = git::short(&name).to_owned();
        let found = objects.commit(commit)?;
        let top = match &self.place {
            Place::Local(local) => local.top.clone(),
            Place::Remote(remote) => remote.folder().to_path_buf(),
        };
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
        if self.first_commit.is_none() && matches!(self.place, Place::Local(_)) {
            self.first_commit = first(objects, commit);
        }
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
            about: about(&found),
            passed_over,
            texts,
        })
    }
}

/// What a commit says of itself, as far as somebody wants to read it.
fn about(commit: &git2::Commit<'_>) -> About {
    let text = |bytes: &[u8]| {
        let text: String = String::from_utf8_lossy(bytes)
            .trim()
            .chars()
            .take(LONGEST_WORDS)
            .collect();
        Some(text).filter(|text| !text.is_empty())
    };
    About {
        author: text(commit.author().name_bytes()),
        subject: commit.summary_bytes().and_then(text),
        committed_at: jiff::Timestamp::from_second(commit.time().seconds()).ok(),
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
        let looked = self.look(last);
        if let Place::Remote(remote) = &mut self.place {
            remote.close();
            remote.tidy();
            if looked.as_ref().is_err_and(SourceError::is_of_store) {
                remote.forget();
            }
        }
        looked
    }

    fn ahead(&mut self, commit: &str) -> Result<Option<Ahead>, SourceError> {
        let counted = self.count(commit);
        if let Place::Remote(remote) = &mut self.place {
            remote.close();
            remote.tidy();
        }
        counted
    }

    fn interval(&self) -> Duration {
        self.interval
    }

    fn watched(&self) -> Vec<Watched> {
        match &self.place {
            Place::Local(local) => local.watched(),
            Place::Remote(_) => Vec::new(),
        }
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
