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

use crate::meaning::{meaning, strict};
use crate::source::followed::{Last, Tree};

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
    /// Its files.
    pub texts: Texts,
    /// What it means; secrets are not looked up yet.
    pub desired: DesiredSet,
}

impl InForce {
    /// What people call it: the commit, else the first characters of its digest.
    pub fn label(&self) -> String {
        let digest = || self.digest.chars().take(7).collect();
        self.revision.clone().unwrap_or_else(digest)
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

/// As it is kept on disk.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Kept {
    revision: Option<String>,
    commit: Option<String>,
    digest: String,
    signed_by: Option<String>,
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

/// What is in force of all sources.
#[derive(Debug)]
pub struct InForces {
    folder: PathBuf,
    all: Mutex<BTreeMap<SourceName, Arc<InForce>>>,
}

impl InForces {
    /// In the state folder.
    pub fn in_folder(state: &Path) -> Self {
        Self {
            folder: state.join("controller"),
            all: Mutex::default(),
        }
    }

    /// What is in force of a source.
    pub fn of(&self, source: &SourceName) -> Option<Arc<InForce>> {
        self.all().get(source).cloned()
    }

    /// Makes sure that no other source has the same name in its `keel.yaml`: each would delete what the other one wants.
    ///
    /// # Errors
    /// One has, in words.
    pub fn is_only(&self, source: &SourceName, called: &SourceName) -> Result<(), String> {
        let all = self.all();
        let mut others = all.iter().filter(|(name, _)| *name != source);
        match others.find(|(_, one)| one.desired.source.name == *called) {
            None => Ok(()),
            Some((other, _)) => Err(format!(
                "it is called {called} in its keel.yaml, and so is the source {other}: each would delete what the other one wants"
            )),
        }
    }

    /// From now on this is in force. It is on disk before.
    ///
    /// # Errors
    /// It cannot be written: it is in force all the same, until the controller ends.
    pub fn put(
        &self,
        source: &SourceName,
        tree: Tree,
        desired: DesiredSet,
    ) -> Result<(), PathError> {
        let kept = Kept {
            revision: tree.revision.clone(),
            commit: tree.commit.clone(),
            digest: tree.digest.clone(),
            signed_by: tree.signed_by.clone(),
            repository: tree.repository,
            root: tree.texts.root.clone(),
            files: tree.texts.files.clone(),
            attached: tree.texts.attached.clone(),
            bases: tree.texts.bases.clone(),
            refused: tree.texts.refused.clone(),
        };
        let one = InForce {
            revision: tree.revision,
            commit: tree.commit,
            digest: tree.digest,
            signed_by: tree.signed_by,
            texts: tree.texts,
            desired,
        };
        self.all().insert(source.clone(), Arc::new(one));
        path_io::create_dir_all(&self.folder)?;
        // Maps of texts always have a form in JSON.
        let text = serde_json::to_string(&kept).unwrap_or_default();
        path_io::write_durably(self.file(source), text)
    }

    /// Brings back what was in force when the last controller ended. None where nothing was, or where this keel
    /// understands it no more.
    pub fn bring_back(&self, source: &SourceName) -> Option<Arc<InForce>> {
        let text = path_io::read_if_exists(self.file(source)).ok()??;
        let kept: Kept = serde_json::from_str(&text).ok()?;
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
        let one = Arc::new(InForce {
            revision: kept.revision,
            commit: kept.commit,
            digest: kept.digest,
            signed_by: kept.signed_by,
            texts,
            desired,
        });
        self.all().insert(source.clone(), Arc::clone(&one));
        Some(one)
    }

    fn all(&self) -> MutexGuard<'_, BTreeMap<SourceName, Arc<InForce>>> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn file(&self, source: &SourceName) -> PathBuf {
        self.folder.join(format!("{source}.json"))
    }
}
