//! The seam between where manifests come from and whoever follows them: what a source holds now, and whether that is
//! something else than before.
//!
//! To add one: write `source/<name>.rs` with a type that is [`Followed`].

use std::path::PathBuf;
use std::time::Duration;

use manifests::read::Texts;
use manifests::repository::Repository;

use super::failure::SourceError;

/// What was last taken over of a source.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Last {
    /// The whole name of the commit; none where git does not keep it. What comes after it must descend from it.
    pub commit: Option<String>,
    /// [`Tree::digest`].
    pub digest: String,
    /// A commit that a person allowed although it does not descend from the last one.
    pub approved_rewind: Option<String>,
}

/// What a source holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tree {
    /// Its files.
    pub texts: Texts,
    /// The revision as people see it.
    pub revision: Option<String>,
    /// The whole name of the commit.
    pub commit: Option<String>,
    /// Where in which repository it lies.
    pub repository: Option<Repository>,
    /// Who signed it, where that is asked for: a principal of the allowed signers, or a key of the keyring.
    pub signed_by: Option<String>,
    /// What its commit says of itself; nothing outside git.
    pub about: About,
    /// What all that was read hashes to: where it is equal, nothing changed.
    pub digest: String,
    /// What is there and cannot be read: `sub is a submodule, which is not read`.
    pub passed_over: Vec<String>,
}

/// What a commit says of itself. Nobody vouches for it where it is not signed.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct About {
    /// Who wrote it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub author: Option<String>,
    /// Its first line.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    /// When it was committed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub committed_at: Option<jiff::Timestamp>,
}

/// What a look at a source came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Latest {
    /// It says what it said before.
    Unchanged {
        /// The commit that says so, which may be a newer one.
        commit: Option<String>,
    },
    /// It says something else.
    Moved(Box<Tree>),
}

/// What a source says by now, beside a commit that a person keeps in force.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ahead {
    /// The whole name of the commit that would be in force.
    pub commit: String,
    /// How many commits are between; none: that is not known, or it does not come after the one in force.
    pub commits: Option<usize>,
}

/// A place in the file system where something happens when a source moves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Watched {
    /// A folder. It need not be there yet, and may be a symbolic link that comes to lead elsewhere.
    pub path: PathBuf,
    /// Whether what lies in folders below it counts as well.
    pub deep: bool,
    /// Only these names in it count; none: all.
    pub only: Vec<String>,
    /// For how long nothing more must happen until it is looked at.
    pub quiet: Duration,
}

/// Where manifests come from, again and again. Looking blocks: it waits for disks and servers, within limits. It is done by
/// a thread that belongs to no asynchronous runtime, which would not be let wait.
pub trait Followed: Send {
    /// What it is called in the settings of the controller.
    fn name(&self) -> &str;

    /// Where it is, for people: without secrets.
    fn describe(&self) -> String;

    /// Looks at it. What it answers was checked: an unsigned or rewound commit is an error where it is not wanted.
    ///
    /// # Errors
    /// It cannot be read now, or must not be taken over: [`SourceError::class`] tells which.
    fn latest(&mut self, last: Option<&Last>) -> Result<Latest, SourceError>;

    /// How far it is ahead of a commit that a person keeps in force; none: it keeps no commits.
    ///
    /// # Errors
    /// It cannot be read now.
    fn ahead(&mut self, commit: &str) -> Result<Option<Ahead>, SourceError> {
        let _ = commit;
        Ok(None)
    }

    /// How often it is looked at, though nothing was heard of it.
    fn interval(&self) -> Duration;

    /// What is watched; empty: it is only looked at.
    fn watched(&self) -> Vec<Watched> {
        Vec::new()
    }
}
