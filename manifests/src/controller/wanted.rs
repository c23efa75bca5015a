//! What of a repository is followed: names that are safe to ask any server for.

use std::fmt;
use std::str::FromStr;

use crate::scalar::BadScalar;

/// What of a repository is followed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wanted {
    /// What its `HEAD` names.
    Head,
    /// A branch.
    Branch(RefName),
    /// A tag.
    Tag(RefName),
    /// The tag with the highest version.
    Versions(VersionRange),
    /// A commit.
    Commit(CommitName),
}

impl fmt::Display for Wanted {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Head => formatter.write_str("HEAD"),
            Self::Branch(name) => write!(formatter, "branch {name}"),
            Self::Tag(name) => write!(formatter, "tag {name}"),
            Self::Versions(range) => write!(formatter, "a tag in the range {range}"),
            Self::Commit(name) => write!(formatter, "commit {name}"),
        }
    }
}

/// The name of a branch or tag, by the rules of `git check-ref-format`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RefName(Box<str>);

impl RefName {
    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Whether git would take it as a name behind `refs/heads/`.
fn is_ref_name(text: &str) -> bool {
    let bad = |c: char| c.is_control() || " ~^:?*[\\".contains(c);
    let step = |step: &str| !step.is_empty() && !step.starts_with('.') && !step.ends_with(".lock");
    !text.starts_with('-')
        && !text.ends_with('.')
        && !text.contains("..")
        && !text.contains("@{")
        && text != "@"
        && text.len() <= 255
        && !text.contains(bad)
        && text.split('/').all(step)
}

impl FromStr for RefName {
    type Err = BadScalar;

    fn from_str(text: &str) -> Result<Self, BadScalar> {
        if let Some(short) = text
            .strip_prefix("refs/heads/")
            .or_else(|| text.strip_prefix("refs/tags/"))
        {
            return Err(BadScalar::meant(
                "a branch or tag is written without `refs/…/`",
                short,
            ));
        }
        if !is_ref_name(text) {
            return Err(BadScalar::new(format!(
                "`{}` is no name of a branch or tag in git",
                text.escape_debug()
            )));
        }
        Ok(Self(text.into()))
    }
}

impl fmt::Display for RefName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

crate::text_scalar!(RefName, "a name of a branch or tag", { "type": "string", "minLength": 1, "maxLength": 255 });

/// The whole name of a commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommitName(Box<str>);

impl CommitName {
    /// Forty hexadecimal digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for CommitName {
    type Err = BadScalar;

    fn from_str(text: &str) -> Result<Self, BadScalar> {
        let is_hex = text.bytes().all(|byte| byte.is_ascii_hexdigit());
        if text.len() != 40 || !is_hex {
            return Err(BadScalar::new(
                "a commit has its whole name here: 40 hexadecimal digits, as `git rev-parse` tells",
            ));
        }
        Ok(Self(text.to_ascii_lowercase().into()))
    }
}

impl fmt::Display for CommitName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

crate::text_scalar!(CommitName, "the whole name of a commit", { "type": "string", "pattern": "^[0-9a-fA-F]{40}$" });

/// A range of versions: `>=1.2, <2`, `~1.4`, `^2`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VersionRange {
    range: semver::VersionReq,
    spelling: Box<str>,
}

impl VersionRange {
    /// The version that a tag names, where it is in the range. Versions before a release (`-rc.1`) only where the range
    /// names one.
    pub fn version_of(&self, tag: &str) -> Option<semver::Version> {
        let version = tag.strip_prefix('v').unwrap_or(tag);
        let version = semver::Version::parse(version).ok()?;
        self.range.matches(&version).then_some(version)
    }
}

impl FromStr for VersionRange {
    type Err = BadScalar;

    fn from_str(text: &str) -> Result<Self, BadScalar> {
        match semver::VersionReq::parse(text) {
            Ok(range) => Ok(Self {
                range,
                spelling: text.into(),
            }),
            Err(error) => Err(BadScalar::new(format!(
                "`{}` is no range of versions: {error}; write one such as `>=1.2, <2` or `~1.4`",
                text.escape_debug()
            ))),
        }
    }
}

impl fmt::Display for VersionRange {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.spelling)
    }
}

crate::text_scalar!(VersionRange, "a range of versions such as `>=1.2, <2`", { "type": "string", "minLength": 1 });

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_branches_are_those_of_git() {
        for name in ["main", "release/1.2", "büro", "a.b", "@x", "feature/a-b_c"] {
            assert!(name.parse::<RefName>().is_ok(), "{name}");
        }
        for name in [
            "",
            "-x",
            "--upload-pack=x",
            "a..b",
            "../../config",
            "a b",
            "a~1",
            "a^",
            "a:b",
            "a?",
            "a*",
            "a[",
            "a\\b",
            "/a",
            "a/",
            "a//b",
            ".a",
            "a/.b",
            "a.lock",
            "a.lock/b",
            "a.",
            "@",
            "a@{1}",
            "a\n",
            "a\0",
            "refs/heads/main",
        ] {
            assert!(name.parse::<RefName>().is_err(), "{name:?}");
        }
        assert!("a".repeat(256).parse::<RefName>().is_err());
    }

    #[test]
    fn a_range_takes_tags_with_and_without_a_letter() {
        let range: VersionRange = ">=1.2, <2".parse().expect("a range");
        for (tag, is_in) in [
            ("v1.2.0", true),
            ("1.9.9", true),
            ("v2.0.0", false),
            ("v1.3.0-rc.1", false),
            ("v1.2", false),
            ("release-1.2.0", false),
            ("v1.2.0/../x", false),
        ] {
            assert_eq!(range.version_of(tag).is_some(), is_in, "{tag}");
        }
        assert!("main".parse::<VersionRange>().is_err());
    }
}
