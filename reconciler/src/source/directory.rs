//! A directory of this host as a source: read whole each time, compared by what it says.

use std::path::{Path, PathBuf};
use std::time::Duration;

use manifests::read;

use super::digest::digest;
use super::failure::SourceError;
use super::followed::{About, Followed, Last, Latest, Tree, Watched};
use super::git;

/// For how long nothing more must happen in it until it is read: whoever saves several files, or whose editor moves one
/// into its place, is done by then.
const QUIET: Duration = Duration::from_millis(75);

/// A directory that is followed.
#[derive(Debug)]
pub struct Directory {
    name: String,
    path: PathBuf,
    interval: Duration,
}

impl Directory {
    /// Follows a directory.
    pub fn new(name: impl Into<String>, path: &Path, interval: Duration) -> Self {
        Self {
            name: name.into(),
            path: path.to_path_buf(),
            interval,
        }
    }
}

impl Followed for Directory {
    fn name(&self) -> &str {
        &self.name
    }

    fn describe(&self) -> String {
        self.path.display().to_string()
    }

    fn latest(&mut self, last: Option<&Last>) -> Result<Latest, SourceError> {
        let texts = read::read(&self.path)?;
        if texts.files.is_empty() {
            return Err(SourceError::Empty {
                place: self.describe(),
            });
        }
        let digest = digest(&texts);
        if last.is_some_and(|last| last.digest == digest) {
            return Ok(Latest::Unchanged { commit: None });
        }
        let revision = git::revision(&texts.root, &texts.bases, None);
        let repository = git::repository(&texts.root, None);
        Ok(Latest::Moved(Box::new(Tree {
            revision,
            // People change a work tree between commits: none says what it holds.
            commit: None,
            repository,
            signed_by: None,
            about: About::default(),
            digest,
            passed_over: Vec::new(),
            texts,
        })))
    }

    fn interval(&self) -> Duration {
        self.interval
    }

    /// The directory alone: what lies in bases and above it is seen at the next interval.
    fn watched(&self) -> Vec<Watched> {
        vec![Watched {
            path: self.path.clone(),
            deep: true,
            only: Vec::new(),
            quiet: QUIET,
        }]
    }
}

#[cfg(test)]
mod tests {
    use manifests::path_io;

    use super::*;
    use crate::source::failure::SourceClass;

    #[test]
    fn a_directory_moves_when_it_says_something_else() {
        let folder = tempfile::tempdir().expect("a folder");
        let at = folder.path().join("edge");
        let mut source = Directory::new("edge", &at, Duration::from_secs(60));
        let gone = source.latest(None).expect_err("it is not there yet");
        assert_eq!(gone.class(), SourceClass::Retry, "{gone}");
        path_io::create_dir_all(&at).expect("a folder");
        let empty = source.latest(None).expect_err("nothing is in it");
        assert_eq!(empty.class(), SourceClass::Refused, "{empty}");
        path_io::write(at.join("a.yaml"), "a: 1\n").expect("written");
        let mut moved = |last: Option<&Last>| match source.latest(last) {
            Ok(Latest::Moved(tree)) => Some(tree),
            Ok(Latest::Unchanged { .. }) => None,
            Err(error) => panic!("{error}"),
        };
        let first = moved(None).expect("it was never seen");
        let last = Last {
            digest: first.digest,
            ..Last::default()
        };
        assert_eq!(moved(Some(&last)), None);
        // The same again, as another file.
        path_io::write(at.join("b"), "a: 1\n").expect("written");
        path_io::rename(at.join("b"), at.join("a.yaml")).expect("moved");
        assert_eq!(moved(Some(&last)), None);
        path_io::write(at.join("a.yaml"), "a: 2\n").expect("written");
        let tree = moved(Some(&last)).expect("it says something else");
        assert_eq!(tree.texts.files[0].1, "a: 2\n");
        std::os::unix::fs::symlink("/etc", at.join("apps")).expect("a link");
        let refused = source
            .latest(Some(&last))
            .expect_err("links are not followed");
        assert_eq!(refused.class(), SourceClass::Refused, "{refused}");
    }
}
