//! A repository on the disk with somebody who works in it.

use manifests::path_io;
use runtime::sys::command::run;

use super::super::*;

/// A repository and a work tree of it.
pub(super) struct Team {
    pub(super) folder: tempfile::TempDir,
    /// Each commit has a time of its own.
    time: std::cell::Cell<u64>,
}

impl Team {
    pub(super) fn new() -> Self {
        let this = Self {
            folder: tempfile::tempdir().expect("a folder"),
            time: std::cell::Cell::new(1_700_000_000),
        };
        path_io::create_dir_all(this.work("")).expect("a folder");
        this.git(&["init", "-q", "-b", "main"]);
        let bare = this.bare();
        let bare = bare.to_str().expect("a path");
        run("git", ["init", "-q", "--bare", "-b", "main", bare], None).expect("a repository");
        this.git(&["remote", "add", "origin", bare]);
        this
    }

    pub(super) fn bare(&self) -> PathBuf {
        self.folder.path().join("edge.git")
    }

    pub(super) fn work(&self, name: &str) -> PathBuf {
        self.folder.path().join("work").join(name)
    }

    pub(super) fn git(&self, arguments: &[&str]) -> String {
        self.time.set(self.time.get() + 60);
        let date = format!("{} +0000", self.time.get());
        let mut all: Vec<String> = vec![
            format!("GIT_AUTHOR_DATE={date}"),
            format!("GIT_COMMITTER_DATE={date}"),
            "GIT_CONFIG_GLOBAL=/dev/null".to_owned(),
            "GIT_CONFIG_NOSYSTEM=1".to_owned(),
        ];
        all.extend(["git", "-C"].map(str::to_owned));
        all.push(self.work("").display().to_string());
        let settings = [
            "-c",
            "user.name=t",
            "-c",
            "user.email=t@example.org",
            "-c",
            "protocol.file.allow=always",
            "-c",
            "core.fsync=none",
            "-c",
            "core.compression=0",
        ];
        all.extend(
            settings
                .iter()
                .chain(arguments)
                .map(|word| (*word).to_owned()),
        );
        let said = run("env", all, None).unwrap_or_else(|error| panic!("{error}"));
        String::from_utf8_lossy(&said).trim().to_owned()
    }

    pub(super) fn write(&self, name: &str, text: &str) {
        let path = self.work(name);
        path_io::create_dir_all(path.parent().expect("a folder")).expect("a folder");
        path_io::write(path, text).expect("written");
    }

    /// Commits all there is and pushes it; answers the commit.
    pub(super) fn push(&self, message: &str) -> String {
        self.git(&["add", "-A"]);
        self.git(&["commit", "-q", "--allow-empty", "-m", message]);
        self.git(&["push", "-q", "--force", "--tags", "origin", "HEAD"]);
        self.git(&["rev-parse", "HEAD"])
    }

    /// The repository is followed, where a change of the settings says no other one.
    pub(super) fn follow(&self, change: impl FnOnce(&mut GitSource)) -> Git {
        self.follow_by("false", change)
    }

    /// As [`Self::follow`], by this client of ssh.
    pub(super) fn follow_by(&self, ssh: &str, change: impl FnOnce(&mut GitSource)) -> Git {
        let mut settings = GitSource {
            url: Some(RepositoryUrl::Local(self.bare())),
            ..GitSource::default()
        };
        change(&mut settings);
        let around = Around {
            sources: &self.stores(),
            variable: &|name| (name == "TOKEN").then(|| "s3cret".to_owned()),
            ssh,
        };
        Git::new("edge", &settings, &around).expect("settings")
    }

    pub(super) fn stores(&self) -> PathBuf {
        self.folder.path().join("sources")
    }
}

pub(super) fn moved(source: &mut Git, last: Option<&Last>) -> Tree {
    match source.latest(last) {
        Ok(Latest::Moved(tree)) => *tree,
        other => panic!("{other:?}"),
    }
}

pub(super) fn last(tree: &Tree) -> Last {
    Last {
        commit: tree.commit.clone(),
        digest: tree.digest.clone(),
        approved_rewind: None,
    }
}

pub(super) fn names(tree: &Tree) -> Vec<&str> {
    tree.texts
        .files
        .iter()
        .map(|(name, _)| name.as_str())
        .collect()
}
