//! [`Repository`]: where in which git repository a source lies, told without the path of one checkout of it.

/// The place of a source that git keeps. Another checkout of the same repository, on another machine, is the same place.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Repository {
    /// The first commit of its history; none where the history was cut off (a shallow clone).
    pub first_commit: Option<String>,
    /// Where it is fetched from, `git.example.org/team/edge`: without scheme, user and password.
    pub remote: Option<String>,
    /// The folder of the source below the root of the repository; empty: the root itself.
    pub folder: String,
}

impl Repository {
    /// Whether two are the same place; none where nothing that both know tells.
    pub fn is(&self, other: &Self) -> Option<bool> {
        if self.folder != other.folder {
            return Some(false);
        }
        let both = |a: &Option<String>, b: &Option<String>| Some(a.as_ref()? == b.as_ref()?);
        let history = both(&self.first_commit, &other.first_commit);
        let remote = both(&self.remote, &other.remote);
        match (history, remote) {
            // The same history under another address is a repository that moved to another server.
            (Some(true), _) | (None, Some(true)) => Some(true),
            // A cut history has another first commit: the address counts more, where both know it.
            (Some(false), remote) => remote.or(Some(false)),
            (None, remote) => remote,
        }
    }

    /// The address of a remote as it is compared: the forms of ssh, https and scp of one repository are equal. None for
    /// what names no place of its own, such as a relative path.
    pub fn address_of(url: &str) -> Option<String> {
        let url = url.trim();
        if let Some(path) = url
            .strip_prefix("file://")
            .or(Some(url))
            .filter(|path| path.starts_with('/'))
        {
            return Some(bare(path).to_owned());
        }
        let (host, path) = match url.split_once("://") {
            Some((_, rest)) => rest.split_once('/')?,
            None => url.split_once(':')?,
        };
        let host = host.rsplit('@').next()?.to_ascii_lowercase();
        let host = host
            .strip_suffix(":443")
            .or(host.strip_suffix(":22"))
            .unwrap_or(&host);
        let path = path.split(['?', '#']).next()?;
        (!host.is_empty()).then(|| format!("{host}/{}", bare(path.trim_start_matches('/'))))
    }
}

impl std::fmt::Display for Repository {
    /// `git.example.org/team/edge//hosts/edge-1`.
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match (&self.remote, &self.first_commit) {
            (Some(remote), _) => formatter.write_str(remote)?,
            (None, Some(commit)) => write!(
                formatter,
                "the repository of {}",
                commit.get(..12).unwrap_or(commit)
            )?,
            (None, None) => formatter.write_str("a repository")?,
        }
        if !self.folder.is_empty() {
            write!(formatter, "//{}", self.folder)?;
        }
        Ok(())
    }
}

fn bare(path: &str) -> &str {
    let path = path.trim_end_matches('/');
    path.strip_suffix(".git").unwrap_or(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_forms_of_an_address_are_one() {
        for (url, address) in [
            (
                "https://git.example.org/team/edge.git",
                Some("git.example.org/team/edge"),
            ),
            (
                "https://bot:s3cret@Git.Example.org:443/team/edge/",
                Some("git.example.org/team/edge"),
            ),
            (
                "ssh://git@git.example.org/team/edge.git",
                Some("git.example.org/team/edge"),
            ),
            (
                "git@git.example.org:team/edge.git",
                Some("git.example.org/team/edge"),
            ),
            (
                "https://git.example.org/team/edge?token=s3cret",
                Some("git.example.org/team/edge"),
            ),
            (
                "ssh://git.example.org:2222/team/edge",
                Some("git.example.org:2222/team/edge"),
            ),
            ("/srv/git/edge.git", Some("/srv/git/edge")),
            ("file:///srv/git/edge", Some("/srv/git/edge")),
            ("../edge", None),
            ("", None),
        ] {
            assert_eq!(Repository::address_of(url).as_deref(), address, "{url}");
        }
    }

    #[test]
    fn a_repository_is_known_by_its_history_or_its_address() {
        let at = |first: &str, remote: &str, folder: &str| Repository {
            first_commit: Some(first.to_owned()).filter(|text| !text.is_empty()),
            remote: Some(remote.to_owned()).filter(|text| !text.is_empty()),
            folder: folder.to_owned(),
        };
        let one = at("a1", "x/edge", "");
        for (other, same) in [
            (at("a1", "x/edge", ""), Some(true)),
            (at("a1", "y/edge", ""), Some(true)),
            (at("", "x/edge", ""), Some(true)),
            (at("b2", "x/edge", ""), Some(true)),
            (at("b2", "y/edge", ""), Some(false)),
            (at("b2", "", ""), Some(false)),
            (at("", "y/edge", ""), Some(false)),
            (at("", "", ""), None),
            (at("a1", "x/edge", "hosts"), Some(false)),
        ] {
            assert_eq!(one.is(&other), same, "{other:?}");
            assert_eq!(other.is(&one), same, "{other:?}");
        }
    }
}
