//! One source: a git repository or a directory, who may speak for it, and what it may have.

use super::pull_requests::PullRequestSettings;
use super::repository_url::RepositoryUrl;
use super::wanted::{CommitName, RefName, VersionRange, Wanted};
use super::webhook::WebhookSettings;
use crate::scalar::duration::Duration;
use crate::scalar::path::AbsolutePath;

crate::fields! {
    /// One source that is followed.
    pub struct SourceSettings {
        /// What it is called here: in messages, in `dependsOn` and in the state folder.
        name: String = String::new(),
        /// A git repository. A source has either this or `directory`.
        git: Option<GitSource> = None,
        /// A directory of this host.
        directory: Option<DirectorySource> = None,
        /// The projects that it may have objects in. Absent: all, and what belongs to the host.
        projects: Vec<String> = Vec::new(),
        /// The sources that are in force before this one.
        depends_on: Vec<String> = Vec::new(),
        /// Who may say that there is something new, by `POST /v1/webhooks/NAME`.
        webhook: Option<WebhookSettings> = None,
        /// What its pull requests would do is told where they are read.
        pull_requests: Option<PullRequestSettings> = None,
        /// It is looked at, and nothing is done.
        suspend: Option<Suspension> = None,
    }
}

crate::fields! {
    /// Why nothing is done for a source.
    pub struct Suspension {
        /// Why, for whoever wonders.
        reason: String = String::new(),
    }
}

crate::fields! {
    /// A directory.
    pub struct DirectorySource {
        /// The folder of the manifests.
        path: Option<AbsolutePath> = None,
        /// How often it is read, though nothing was heard of it.
        interval: Duration = Duration::from_seconds(300),
    }
}

crate::fields! {
    /// A git repository and what of it. Of `branch`, `tag`, `semver` and `commit` one is written; absent: what its `HEAD` names.
    pub struct GitSource {
        /// `https://…`, `ssh://…`, `git@host:path`, or the path of a repository of this host. Without a password: see `https.token`.
        url: Option<RepositoryUrl> = None,
        /// The newest commit of this branch.
        branch: Option<RefName> = None,
        /// The commit of this tag.
        tag: Option<RefName> = None,
        /// The tag with the highest version in this range: `>=1.2, <2`. A `v` before the version is passed over.
        semver: Option<VersionRange> = None,
        /// This commit, by its whole name.
        commit: Option<CommitName> = None,
        /// The folder of the manifests within the repository.
        path: String = String::new(),
        /// How often the repository is asked, though nothing was heard of it.
        interval: Duration = Duration::from_seconds(60),
        /// How long one question may take, with the answer.
        timeout: Duration = Duration::from_seconds(60),
        /// How it is reached by ssh.
        ssh: Option<SshAccess> = None,
        /// How it is reached by https.
        https: Option<HttpsAccess> = None,
        /// Who must have signed it.
        verify: Option<Verify> = None,
    }
}

impl GitSource {
    /// What is followed. Of several that were written, which is an error, the first.
    pub fn wanted(&self) -> Wanted {
        let branch = || self.branch.clone().map(Wanted::Branch);
        let tag = || self.tag.clone().map(Wanted::Tag);
        let versions = || self.semver.clone().map(Wanted::Versions);
        let commit = || self.commit.clone().map(Wanted::Commit);
        branch()
            .or_else(tag)
            .or_else(versions)
            .or_else(commit)
            .unwrap_or(Wanted::Head)
    }
}

crate::fields! {
    /// How a server is reached by ssh. What is not written is as for root's own `ssh`, but that it never asks anything.
    pub struct SshAccess {
        /// The file of the private key, which has no passphrase.
        key: Option<AbsolutePath> = None,
        /// The file with the keys of the server. A server with another key is refused.
        known_hosts: Option<AbsolutePath> = None,
    }
}

crate::fields! {
    /// How a server is reached by https.
    pub struct HttpsAccess {
        /// The user for the token: `x-access-token` at GitHub, `oauth2` at GitLab. Absent: the token is sent as `Bearer`.
        user: Option<String> = None,
        /// Where the token or password is.
        token: Option<Token> = None,
        /// A file with certificates (PEM) that are trusted besides those of the host.
        authority: Option<AbsolutePath> = None,
        /// The proxy on the way: `http://proxy.example.org:3128`. None is taken from the environment.
        proxy: Option<String> = None,
    }
}

crate::fields! {
    /// Where a token is; one of these.
    pub struct Token {
        /// A file of the host.
        file: Option<AbsolutePath> = None,
        /// An environment variable of the controller.
        environment: Option<String> = None,
        /// A credential that systemd gives the controller.
        credential: Option<String> = None,
    }
}

crate::words! {
    /// What must be signed.
    pub enum VerifyMode {
        /// The commit that is taken over.
        Head "head",
        /// The annotated tag that names it.
        Tag "tag",
        /// Every commit since the one that is in force; the first time the commit that is taken over.
        Range "range",
    }
}

crate::fields! {
    /// Who must have signed what is taken over.
    pub struct Verify {
        /// What must be signed.
        mode: VerifyMode = VerifyMode::Head,
        /// A file of allowed signers, as `git` and `ssh-keygen` have it: for signatures by SSH keys.
        allowed_signers: Option<AbsolutePath> = None,
        /// A keyring of GnuPG with the keys that are trusted: for its signatures; needs `gpgv`.
        keyring: Option<AbsolutePath> = None,
    }
}
