//! [`Revisions`]: what each source said and what became of it, and the texts of those revisions that were in force last, by
//! which one can be put in force again without its source.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use jiff::Timestamp;
use manifests::id::SourceName;
use manifests::path_io::{self, PathError};
use serde::{Deserialize, Serialize};

use crate::error::chain;
use crate::source::followed::About;

/// So many of a source are remembered.
const REMEMBERED: usize = 200;
/// Of so many the texts are kept.
const KEPT: usize = 20;
/// With fewer characters no revision is named.
const SHORTEST: usize = 4;

/// What became of a revision.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Fate {
    /// It came into force.
    InForce,
    /// It means nothing: what was in force stayed so.
    Invalid,
    /// It must not be followed: it is not signed, or its history was written anew.
    Refused,
    /// A person wants it to stay in force.
    Pinned,
    /// That is over: the source is followed again.
    Unpinned,
    /// What it wants is not done before somebody answers for it.
    Waits,
    /// Somebody answered for it.
    Approved,
}

impl Fate {
    /// The word.
    pub const fn word(self) -> &'static str {
        match self {
            Self::InForce => "inForce",
            Self::Invalid => "invalid",
            Self::Refused => "refused",
            Self::Pinned => "pinned",
            Self::Unpinned => "unpinned",
            Self::Waits => "waits",
            Self::Approved => "approved",
        }
    }
}

/// A revision and what became of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Revision {
    /// When.
    pub at: Timestamp,
    /// What became of it.
    pub fate: Fate,
    /// What people call it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<String>,
    /// The commit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub commit: Option<String>,
    /// Tells it from every other; none of what was not read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
    /// What its commit says of itself.
    #[serde(flatten)]
    pub about: About,
    /// Who signed it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signed_by: Option<String>,
    /// Why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
}

impl Revision {
    /// One of which nothing else is known.
    pub(crate) fn new(at: Timestamp, fate: Fate) -> Self {
        Self {
            at,
            fate,
            revision: None,
            commit: None,
            digest: None,
            about: About::default(),
            signed_by: None,
            why: None,
        }
    }

    fn is_called(&self, name: &str) -> bool {
        let names = [&self.revision, &self.commit, &self.digest];
        let mut names = names.into_iter().flatten();
        names.any(|one| one == name || (name.len() >= SHORTEST && one.starts_with(name)))
    }

    /// Whether it tells the same as another one, at another time.
    fn is_like(&self, other: &Self) -> bool {
        Self {
            at: other.at,
            ..self.clone()
        } == *other
    }
}

/// No revision is put in force again.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoRevision {
    /// None of this name was in force, or not lately.
    #[error("no revision of {source_name} that was in force lately is called `{name}`")]
    Unknown {
        /// The source.
        source_name: SourceName,
        /// The name.
        name: String,
        /// Those that there are, the newest first.
        known: Vec<String>,
    },
    /// Several begin like this.
    #[error("`{name}` may be any of {}", .all.join(", "))]
    Several {
        /// The name.
        name: String,
        /// Those that are meant.
        all: Vec<String>,
    },
}

/// What is remembered on disk of the revisions of all sources.
#[derive(Debug, Clone)]
pub struct Revisions {
    folder: PathBuf,
}

impl Revisions {
    /// Those of a state folder.
    pub fn in_folder(state: &Path) -> Self {
        Self {
            folder: state.join("controller").join("revisions"),
        }
    }

    /// What became of the revisions of a source, the oldest first.
    pub fn all(&self, source: &SourceName) -> Vec<Revision> {
        let text = match path_io::read_if_exists(self.file(source)) {
            Ok(text) => text.unwrap_or_default(),
            Err(error) => {
                tracing::warn!("{}", chain(&error));
                return Vec::new();
            }
        };
        // What another version wrote, or what was cut short, is no reason to stop.
        serde_json::from_str(&text).unwrap_or_default()
    }

    /// Something became of a revision. The same as before is no news.
    pub(crate) fn add(&self, source: &SourceName, revision: Revision) {
        // Who looks at a source, who does what it says and who answers for that tell at the same time.
        static ADDING: Mutex<()> = Mutex::new(());
        let _alone = ADDING.lock().unwrap_or_else(PoisonError::into_inner);
        let mut all = self.all(source);
        if all.last().is_some_and(|last| last.is_like(&revision)) {
            return;
        }
        all.push(revision);
        all.drain(..all.len().saturating_sub(REMEMBERED));
        if let Err(error) = self.write(source, &all) {
            tracing::error!(%source, "what became of a revision is not remembered: {}", chain(&error));
        }
    }

    /// The one that is meant, among those that can be put in force again.
    ///
    /// # Errors
    /// There is none, or several are meant.
    pub fn find(&self, source: &SourceName, name: &str) -> Result<Revision, NoRevision> {
        let mut able: Vec<Revision> = Vec::new();
        for one in self.all(source).into_iter().rev() {
            let Some(digest) = &one.digest else { continue };
            let is_new = able.iter().all(|other| other.digest != one.digest);
            if one.fate == Fate::InForce && is_new && self.text_file(source, digest).exists() {
                able.push(one);
            }
        }
        let called = |one: &Revision| one.revision.clone().or_else(|| one.digest.clone());
        let meant: Vec<&Revision> = able.iter().filter(|one| one.is_called(name)).collect();
        match meant.as_slice() {
            [one] => Ok((*one).clone()),
            [] => Err(NoRevision::Unknown {
                source_name: source.clone(),
                name: name.to_owned(),
                known: able.iter().filter_map(called).collect(),
            }),
            several => Err(NoRevision::Several {
                name: name.to_owned(),
                all: several.iter().copied().filter_map(called).collect(),
            }),
        }
    }

    /// Keeps the texts of a revision that comes into force. Of older ones some are forgotten.
    pub(super) fn keep(
        &self,
        source: &SourceName,
        digest: &str,
        text: &str,
    ) -> Result<(), PathError> {
        let file = self.text_file(source, digest);
        path_io::create_dir_all(self.texts(source))?;
        path_io::write_atomically(&file, text)?;
        let mut newest: Vec<PathBuf> = vec![file];
        for one in self.all(source).iter().rev() {
            let file = one.digest.as_ref().map(|one| self.text_file(source, one));
            newest.extend(file.filter(|file| !newest.contains(file)));
        }
        newest.truncate(KEPT);
        for old in path_io::list(self.texts(source))? {
            if !newest.contains(&old) {
                path_io::remove_file(&old)?;
            }
        }
        Ok(())
    }

    /// The texts of a revision, as they were kept.
    pub(super) fn kept(&self, source: &SourceName, digest: &str) -> Option<String> {
        path_io::read_if_exists(self.text_file(source, digest)).ok()?
    }

    fn write(&self, source: &SourceName, all: &[Revision]) -> Result<(), PathError> {
        path_io::create_dir_all(&self.folder)?;
        // Texts and times always have a form in JSON.
        let text = serde_json::to_string(all).unwrap_or_default();
        path_io::write_atomically(self.file(source), text)
    }

    fn file(&self, source: &SourceName) -> PathBuf {
        self.folder.join(format!("{source}.json"))
    }

    fn texts(&self, source: &SourceName) -> PathBuf {
        self.folder.join(format!("{source}.texts"))
    }

    fn text_file(&self, source: &SourceName, digest: &str) -> PathBuf {
        let digest: String = digest.chars().filter(char::is_ascii_alphanumeric).collect();
        self.texts(source).join(format!("{digest}.json"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn revision(digest: &str, fate: Fate) -> Revision {
        Revision {
            revision: Some(digest.chars().take(7).collect()),
            digest: Some(digest.to_owned()),
            ..Revision::new("2026-11-27T12:00:00Z".parse().expect("a time"), fate)
        }
    }

    #[test]
    fn what_became_of_revisions_is_remembered_and_those_in_force_lately_are_found() {
        let folder = tempfile::tempdir().expect("a folder");
        let revisions = Revisions::in_folder(folder.path());
        let edge = SourceName::new("edge");
        assert!(revisions.all(&edge).is_empty());
        let come = |digest: &str| {
            revisions.keep(&edge, digest, digest).expect("kept");
            revisions.add(&edge, revision(digest, Fate::InForce));
        };
        come("abcdef0123");
        come("abcd998877");
        revisions.add(&edge, revision("bad0000000", Fate::Invalid));
        revisions.add(&edge, revision("bad0000000", Fate::Invalid));
        assert_eq!(revisions.all(&edge).len(), 3, "the same is no news");
        let found = revisions.find(&edge, "abcde").expect("one is meant");
        assert_eq!(found.digest.as_deref(), Some("abcdef0123"));
        assert_eq!(
            revisions.kept(&edge, "abcdef0123").as_deref(),
            Some("abcdef0123")
        );
        let several = revisions.find(&edge, "abcd").expect_err("two are meant");
        assert_eq!(several.to_string(), "`abcd` may be any of abcd998, abcdef0");
        for name in ["bad0000000", "abc", ""] {
            let none = revisions.find(&edge, name).expect_err("none was in force");
            assert!(
                matches!(none, NoRevision::Unknown { known, .. } if known == ["abcd998", "abcdef0"])
            );
        }
        for number in 0..KEPT {
            come(&format!("{number:02}xxxxxxxx"));
        }
        assert!(
            revisions.kept(&edge, "abcdef0123").is_none(),
            "older ones go"
        );
        assert!(revisions.find(&edge, "abcde").is_err());
        assert!(revisions.find(&edge, "00xx").is_ok());
    }
}
