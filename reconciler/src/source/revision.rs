//! A source as a commit has it: its files are read out of git's object store. Nothing is checked out, so that neither
//! hooks nor filters nor anything else that a repository brings along is run.

use std::path::{Path, PathBuf};

use manifests::files::Files as _;
use manifests::folder;
use manifests::path_io::PathError;
use manifests::read::{Texts, read_from};
use manifests::repository::Repository;
use runtime::sys::command::CommandError;

use super::commit::Commit;
use super::git;

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
    /// A file is too large, or is not here, or is a link.
    #[error("read {file} of {revision}")]
    File {
        /// The commit.
        revision: String,
        /// The file within the repository.
        file: String,
        /// Why it cannot be read.
        source: std::io::Error,
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
    let asked = below(path, &top).unwrap_or_else(|| folder.join(rest));
    let commit = commit_of(&top, revision, sudo_uid)?;
    let short = git::short(&commit).to_owned();
    let ask = |question: &[&str], input: Option<&[u8]>| git::ask(&top, sudo_uid, question, input);
    let commit = Commit::read(&top, &commit, &ask).map_err(|source| RevisionError::Git {
        revision: short.clone(),
        source,
    })?;
    let named = |path: &Path| folder::shown(&folder::name(&top, path)).to_owned();
    let wrong = |error: PathError| RevisionError::File {
        revision: short.clone(),
        file: named(&error.path),
        source: error.source,
    };
    let not_there = || RevisionError::NotThere {
        path: named(&asked),
        revision: short.clone(),
    };
    let path = commit.resolved(&asked).ok_or_else(not_there)?;
    if commit.look(&path).map_err(wrong)?.is_none() {
        return Err(not_there());
    }
    let texts = read_from(&commit, &path).map_err(wrong)?;
    Ok(AtRevision {
        repository: git::repository(&texts.root, sudo_uid),
        passed_over: commit.passed_over(&texts),
        revision: short.clone(),
        texts,
    })
}

/// A path below the top of a work tree as it was said: what links in it lead to is for the commit to say, which may have
/// other ones than the work tree. None where it comes in from elsewhere.
fn below(path: &Path, top: &Path) -> Option<PathBuf> {
    let path = std::path::absolute(path).ok()?;
    let is_top = |folder: &&Path| folder.canonicalize().is_ok_and(|folder| folder == top);
    let outside = path.ancestors().find(is_top)?;
    Some(top.join(path.strip_prefix(outside).ok()?))
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
