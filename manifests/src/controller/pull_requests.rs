//! Pull requests: what they would do is told to who reads them.

use std::fmt;
use std::str::FromStr;

use super::source::Token;
use super::web_url::WebUrl;
use super::webhook::Forge;
use crate::scalar::BadScalar;
use crate::scalar::path::AbsolutePath;

crate::fields! {
    /// Of each open pull request a plan is made, which is told as a status of its commit and as a comment. Nothing of it is
    /// ever done, and it is given no secrets.
    pub struct PullRequestSettings {
        /// What the forge is: `gitea`, `forgejo`, `github` or `gitlab`.
        forge: Forge = Forge::Generic,
        /// The address of its REST API: `https://git.example.org/api/v1`, `https://api.github.com`,
        /// `https://gitlab.example.org/api/v4`.
        api: Option<WebUrl> = None,
        /// The repository there: `team/edge`.
        repository: String = String::new(),
        /// Where the token is that may write statuses and comments.
        token: Option<Token> = None,
        /// The references of pull requests, with `*` for the number. Absent: as the forge has them, such as `refs/pull/*/head`.
        refs: Option<ProposalRefs> = None,
        /// Also those from other repositories, whose authors may not push here: they learn from the plan how this host stands.
        forks: bool = false,
        /// So many of the newest are looked at.
        most: u32 = 20,
        /// A file with certificates (PEM) that are trusted besides those of the host.
        authority: Option<AbsolutePath> = None,
        /// The proxy on the way: `http://proxy.example.org:3128`. None is taken from the environment.
        proxy: Option<String> = None,
    }
}

/// References of pull requests: `refs/pull/*/head`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProposalRefs {
    prefix: String,
    suffix: String,
}

impl ProposalRefs {
    /// As a forge has them.
    pub fn of(forge: Forge) -> Self {
        let prefix = match forge {
            Forge::Gitlab => "refs/merge-requests/",
            Forge::Gitea | Forge::Forgejo | Forge::Github | Forge::Generic => "refs/pull/",
        };
        Self {
            prefix: prefix.to_owned(),
            suffix: "/head".to_owned(),
        }
    }

    /// How all of them begin.
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    /// The number of the pull request of a reference; none: it is another one.
    pub fn number(&self, reference: &str) -> Option<u64> {
        let rest = reference.strip_prefix(&self.prefix)?;
        let number = rest.strip_suffix(&self.suffix)?;
        let plain = number.bytes().all(|byte| byte.is_ascii_digit());
        plain.then(|| number.parse().ok()).flatten()
    }
}

impl FromStr for ProposalRefs {
    type Err = BadScalar;

    fn from_str(text: &str) -> Result<Self, BadScalar> {
        let wrong = || {
            BadScalar::new(format!(
                "`{text}` names no pull requests: write `refs/pull/*/head`, with one `*` between two `/`"
            ))
        };
        let (prefix, suffix) = text.split_once('*').ok_or_else(wrong)?;
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_./".contains(c);
        let is_good = prefix.starts_with("refs/")
            && prefix.ends_with('/')
            && (suffix.is_empty() || suffix.starts_with('/'))
            && text.len() < 200
            && !text.contains("..")
            && prefix.chars().chain(suffix.chars()).all(plain);
        match is_good {
            true => Ok(Self {
                prefix: prefix.to_owned(),
                suffix: suffix.to_owned(),
            }),
            false => Err(wrong()),
        }
    }
}

impl fmt::Display for ProposalRefs {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}*{}", self.prefix, self.suffix)
    }
}

crate::text_scalar!(ProposalRefs, "references of pull requests such as `refs/pull/*/head`", { "type": "string", "minLength": 6 });

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_has_one_number() {
        let refs: ProposalRefs = "refs/merge-requests/*/head".parse().expect("a pattern");
        assert_eq!(refs, ProposalRefs::of(Forge::Gitlab));
        assert_eq!(refs.to_string(), "refs/merge-requests/*/head");
        assert_eq!(refs.number("refs/merge-requests/12/head"), Some(12));
        assert_eq!(refs.number("refs/merge-requests/12/merge"), None);
        for text in [
            "refs/pull/1/head",
            "pull/*/head",
            "refs/pull*/head",
            "refs/*/*/head",
            "refs/../*/x",
            "refs/pull/*x",
        ] {
            assert!(text.parse::<ProposalRefs>().is_err(), "{text}");
        }
    }
}
