//! What is in force of each source: the newest of its revisions that means something. It is kept on disk, so that it is in
//! force after a restart too, also where the source is out of reach by then or says something invalid.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use manifests::attached::AttachedFiles;
use manifests::desired::DesiredSet;
use manifests::id::SourceName;
use manifests::path_io::{self, PathError};
use manifests::read::Texts;
use manifests::repository::Repository;
use serde::{Deserialize, Serialize};

use super::revisions::{Fate, Revision, Revisions};
use crate::meaning::{meaning, strict};
use crate::source::followed::{About, Last, Tree};

/// A revision that means something.
#[derive(Debug)]
pub struct InForce {
    /// The revision as people see it; none outside git.
    pub revision: Option<String>,
    /// The commit.
    pub commit: Option<String>,
    /// Tells it from every other: of what was read.
    pub digest: String,
    /// Who signed it.
    pub signed_by: Option<String>,
    /// What its commit says of itself.
    pub about: About,
    /// Its files.
    pub texts: Texts,
    /// What it means; secrets are not looked up yet.
    pub desired: DesiredSet,
    /// Until all of it is done.
    pub rollout: Rollout,
}

/// The span of a revision: from when it came into force until all of it is done, or a newer one comes.
#[derive(Debug, Default)]
pub struct Rollout(Mutex<Option<tracing::Span>>);

impl Rollout {
    fn begin(source: &SourceName, revision: &str) -> Self {
        let source = source.as_str();
        Self(Mutex::new(Some(tracing::info_span!(
            "revision", source, revision
        ))))
    }

    /// The span; none where it is over.
    pub(super) fn span(&self) -> Option<tracing::Span> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// All of it is done.
    pub(super) fn is_done(&self) {
        drop(self.0.lock().unwrap_or_else(PoisonError::into_inner).take());
    }
}

impl InForce {
    /// What people call it: the commit, else the first characters of its digest.
    pub fn label(&self) -> String {
        let digest = || self.digest.chars().take(7).collect();
        self.revision.clone().unwrap_or_else(digest)
    }

    /// What became of it later.
    pub(crate) fn became(&self, fate: Fate, why: String, at: jiff::Timestamp) -> Revision {
        Revision {
            revision: Some(self.label()),
            digest: Some(self.digest.clone()),
            why: Some(why),
            ..Revision::new(at, fate)
        }
    }

    /// By which the source tells whether there is something new.
    pub fn last(&self) -> Last {
        Last {
            commit: self.commit.clone(),
            digest: self.digest.clone(),
            approved_rewind: None,
        }
    }
}

/// Why something is not in force, or not for longer than this controller runs.
#[derive(Debug, thiserror::Error)]
pub enum NotPut {
    /// Another source has the same name in its `keel.yaml`.
    #[error(
        "it is called {called} in its keel.yaml, and so is the source {other}: each would delete what the other one wants"
    )]
    Twice {
        /// The name.
        called: SourceName,
        /// The other source.
        other: SourceName,
    },
    /// What was kept of an older revision is gone, or this keel understands it no more.
    #[error("what was kept of the revision {0} cannot be put in force any more")]
    Gone(String),
    /// It cannot be written.
    #[error("it cannot be kept for the next controller")]
    NotKept(#[from] PathError),
}

/// As it is kept on disk.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Kept {
    revision: Option<String>,
    commit: Option<String>,
    digest: String,
    signed_by: Option<String>,
    #[serde(default)]
    about: About,
    repository: Option<Repository>,
    root: PathBuf,
    files: Vec<(String, String)>,
    #[serde(default)]
    attached: AttachedFiles,
    #[serde(default)]
    bases: BTreeSet<String>,
    #[serde(default)]
    refused: BTreeMap<String, String>,
}

impl Kept {
    /// What was kept as text. None where this keel understands it no more.
    fn read(text: &str) -> Option<InForce> {
        let kept: Self = serde_json::from_str(text).ok()?;
        let texts = Texts {
            root: kept.root,
            files: kept.files,
            attached: kept.attached,
            bases: kept.bases,
            refused: kept.refused,
            ..Texts::default()
        };
        let resolved = meaning(&texts, kept.revision.clone(), kept.repository);
        let desired = strict(resolved).desired?;
        Some(InForce {
            revision: kept.revision,
            commit: kept.commit,
            digest: kept.digest,
            signed_by: kept.signed_by,
            about: kept.about,
            texts,
            desired,
            rollout: Rollout::default(),
        })
    }
}

/// What is in force of all sources.
#[derive(Debug)]
pub struct InForces {
    folder: PathBuf,
    revisions: Revisions,
    all: Mutex<BTreeMap<SourceName, Arc<InForce>>>,
}

impl InForces {
    /// In the state folder.
    pub fn in_folder(state: &Path) -> Self {
        Self {
            folder: state.join("controller"),
            revisions: Revisions::in_folder(state),
            all: Mutex::default(),
        }
    }

    /// What is in force of a source.
    pub fn of(&self, source: &SourceName) -> Option<Arc<InForce>> {
        self.all().get(source).cloned()
    }

    /// From now on this is in force, and on disk for the next controller.
    ///
    /// # Errors
    /// [`NotPut::Twice`]: it is not in force. [`NotPut::NotKept`]: it is, until this controller ends.
    pub fn put(&self, source: &SourceName, tree: Tree, desired: DesiredSet) -> Result<(), NotPut> {
        let kept = Kept {
            revision: tree.revision.clone(),
            commit: tree.commit.clone(),
            digest: tree.digest.clone(),
            signed_by: tree.signed_by.clone(),
            about: tree.about.clone(),
            repository: tree.repository,
            root: tree.texts.root.clone(),
            files: tree.texts.files.clone(),
            attached: tree.texts.attached.clone(),
            bases: tree.texts.bases.clone(),
            refused: tree.texts.refused.clone(),
        };
        let mut one = InForce {
            revision: tree.revision,
            commit: tree.commit,
            digest: tree.digest,
            signed_by: tree.signed_by,
            about: tree.about,
            texts: tree.texts,
            desired,
            rollout: Rollout::default(),
        };
        one.rollout = Rollout::begin(source, &one.label());
        self.insert(source, Arc::new(one))?;
        path_io::create_dir_all(&self.folder)?;
        // Maps of texts always have a form in JSON.
        let text = serde_json::to_string(&kept).unwrap_or_default();
        path_io::write_durably(self.file(source), &text)?;
        Ok(self.revisions.keep(source, &kept.digest, &text)?)
    }

    /// An older revision is in force again.
    ///
    /// # Errors
    /// Nothing is kept of it, or [`NotPut::NotKept`]: it is in force, until this controller ends.
    pub fn put_back(&self, source: &SourceName, digest: &str) -> Result<(), NotPut> {
        let gone = || NotPut::Gone(digest.chars().take(7).collect());
        let text = self.revisions.kept(source, digest).ok_or_else(gone)?;
        let one = Kept::read(&text).ok_or_else(gone)?;
        self.insert(source, Arc::new(one))?;
        path_io::create_dir_all(&self.folder)?;
        Ok(path_io::write_durably(self.file(source), text)?)
    }

    /// What became of revisions.
    pub(super) const fn revisions(&self) -> &Revisions {
        &self.revisions
    }

    /// Two sources may come at the same time: looking for another one and taking its place are one.
    fn insert(&self, source: &SourceName, one: Arc<InForce>) -> Result<(), NotPut> {
        let mut all = self.all();
        let called = &one.desired.source.name;
        let mut others = all.iter().filter(|(name, _)| *name != source);
        if let Some((other, _)) = others.find(|(_, other)| other.desired.source.name == *called) {
            return Err(NotPut::Twice {
                called: called.clone(),
                other: other.clone(),
            });
        }
        all.insert(source.clone(), one);
        Ok(())
    }

    /// Brings back what was in force when the last controller ended. None where nothing was, or where this keel
    /// understands it no more.
    pub fn bring_back(&self, source: &SourceName) -> Option<Arc<InForce>> {
        let text = path_io::read_if_exists(self.file(source)).ok()??;
        let one = Arc::new(Kept::read(&text)?);
        self.insert(source, Arc::clone(&one)).ok()?;
        Some(one)
    }

    fn all(&self) -> MutexGuard<'_, BTreeMap<SourceName, Arc<InForce>>> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn file(&self, source: &SourceName) -> PathBuf {
        self.folder.join(format!("{source}.json"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(called: &str, digest: &str) -> (Tree, DesiredSet) {
        let head = format!("apiVersion: evenkeel/v1\nkind: Source\nname: {called}\n");
        let texts = Texts {
            root: "/nowhere".into(),
            files: vec![("keel.yaml".to_owned(), head)],
            ..Texts::default()
        };
        let desired = strict(meaning(&texts, None, None)).desired;
        let tree = Tree {
            texts,
            revision: None,
            commit: None,
            repository: None,
            signed_by: None,
            about: About::default(),
            digest: digest.to_owned(),
            passed_over: Vec::new(),
        };
        (tree, desired.expect("it means something"))
    }

    #[test]
    fn what_is_in_force_is_so_for_the_next_controller_and_no_name_is_two_sources() {
        let folder = tempfile::tempdir().expect("a folder");
        let (edge, other) = (SourceName::new("edge"), SourceName::new("other"));
        let first = InForces::in_folder(folder.path());
        assert!(first.bring_back(&edge).is_none());
        let (one, desired) = tree("host", "abcdefghi");
        first.put(&edge, one, desired).expect("in force");
        let (two, desired) = tree("host", "xyz");
        let refused = first.put(&other, two, desired).expect_err("the same name");
        assert!(matches!(refused, NotPut::Twice { .. }), "{refused}");
        assert!(first.of(&other).is_none());
        let next = InForces::in_folder(folder.path());
        let back = next.bring_back(&edge).expect("it was kept");
        assert_eq!(
            (back.label(), back.desired.source.name.as_str()),
            ("abcdefg".to_owned(), "host")
        );
        assert!(next.bring_back(&other).is_none());

        // An older one can be put back, which counts for the next controller too.
        let known = Revision {
            digest: Some("abcdefghi".to_owned()),
            ..Revision::new(jiff::Timestamp::UNIX_EPOCH, Fate::InForce)
        };
        next.revisions().add(&edge, known);
        let (newer, desired) = tree("host", "newer0000");
        next.put(&edge, newer, desired).expect("in force");
        next.put_back(&edge, "abcdefghi").expect("it is kept");
        assert_eq!(next.of(&edge).expect("in force").digest, "abcdefghi");
        let third = InForces::in_folder(folder.path());
        assert_eq!(third.bring_back(&edge).expect("kept").digest, "abcdefghi");
        let gone = next.put_back(&edge, "nowhere").expect_err("never seen");
        assert!(matches!(gone, NotPut::Gone(_)), "{gone}");
    }
}
