//! Which of the references of a repository is followed. They are offered one by one and only the best is kept: a server
//! may have millions.

use git2::Oid;
use manifests::controller::Wanted;

/// What is followed, as the repository has it now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Chosen {
    /// The whole name of the reference; of a commit its own name.
    pub(super) reference: String,
    /// What it names: a commit, or an annotated tag.
    pub(super) object: Oid,
    /// It bears a higher version than the commit in force: its history may be another branch of releases.
    pub(super) is_later_version: bool,
}

/// Who is offered the references of a repository, one by one.
pub(super) trait Offered {
    /// Whether nothing needs to be offered.
    fn is_known(&self) -> bool;

    /// How the names begin that are looked for.
    fn prefix(&self) -> String;

    /// Offers a reference. What an annotated tag leads to is offered under its name with `^{}` behind it.
    fn offer(&mut self, name: &str, id: &str);
}

/// A choice among what is offered.
pub(super) struct Choosing<'a> {
    wanted: &'a Wanted,
    /// The commit in force.
    last: Option<Oid>,
    best: Option<(Option<semver::Version>, Chosen)>,
    /// The highest version of which a tag names the commit in force.
    last_version: Option<semver::Version>,
}

const TAGS: &str = "refs/tags/";
const PEELED: &str = "^{}";

impl<'a> Choosing<'a> {
    /// A choice of what is wanted, after a commit that is in force.
    pub(super) fn new(wanted: &'a Wanted, last: Option<Oid>) -> Self {
        let best = match wanted {
            Wanted::Commit(name) => object(name.as_str()).map(|object| {
                let chosen = Chosen {
                    reference: name.as_str().to_owned(),
                    object,
                    is_later_version: false,
                };
                (None, chosen)
            }),
            _ => None,
        };
        Self {
            wanted,
            last,
            best,
            last_version: None,
        }
    }

    /// What was chosen.
    pub(super) fn chosen(self) -> Option<Chosen> {
        let (version, mut chosen) = self.best?;
        chosen.is_later_version = self.last_version.is_some() && version > self.last_version;
        Some(chosen)
    }
}

impl Offered for Choosing<'_> {
    fn is_known(&self) -> bool {
        matches!(self.wanted, Wanted::Commit(_))
    }

    fn prefix(&self) -> String {
        match self.wanted {
            Wanted::Head | Wanted::Commit(_) => "HEAD".to_owned(),
            Wanted::Branch(name) => format!("refs/heads/{name}"),
            Wanted::Tag(name) => format!("{TAGS}{name}"),
            Wanted::Versions(_) => TAGS.to_owned(),
        }
    }

    fn offer(&mut self, name: &str, id: &str) {
        let (Some(object), (bare, is_peeled)) = (object(id), bare(name)) else {
            return;
        };
        let version = match self.wanted {
            Wanted::Versions(range) => {
                let tag = bare.strip_prefix(TAGS);
                let Some(version) = tag.and_then(|tag| range.version_of(tag)) else {
                    return;
                };
                if Some(object) == self.last && self.last_version.as_ref() < Some(&version) {
                    self.last_version = Some(version.clone());
                }
                Some(version)
            }
            Wanted::Commit(_) => return,
            _ if bare == self.prefix() => None,
            _ => return,
        };
        if is_peeled {
            return;
        }
        let is_better = match &self.best {
            None => true,
            // Of two spellings of one version always the same one.
            Some((known, chosen)) => (&version, bare) > (known, chosen.reference.as_str()),
        };
        if is_better {
            let chosen = Chosen {
                reference: bare.to_owned(),
                object,
                is_later_version: false,
            };
            self.best = Some((version, chosen));
        }
    }
}

fn bare(name: &str) -> (&str, bool) {
    match name.strip_suffix(PEELED) {
        Some(bare) => (bare, true),
        None => (name, false),
    }
}

/// An object by its whole name: git2 would take the beginning of one.
pub(super) fn object(name: &str) -> Option<Oid> {
    let is_whole = name.len() == 40 && name.bytes().all(|byte| byte.is_ascii_hexdigit());
    is_whole.then(|| Oid::from_str(name).ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(digit: char) -> String {
        digit.to_string().repeat(40)
    }

    fn choose(wanted: &Wanted, last: char) -> Option<(String, bool)> {
        let mut choosing = Choosing::new(wanted, object(&id(last)));
        for (name, digit) in [
            ("HEAD", '1'),
            ("refs/heads/main", '1'),
            ("refs/heads/main2", '2'),
            ("refs/heads/../../config", '2'),
            ("refs/tags/v1.2.0", '3'),
            ("refs/tags/v1.2.0^{}", '4'),
            ("refs/tags/1.10.0", '5'),
            ("refs/tags/v1.9.0", '6'),
            ("refs/tags/v2.0.0", '7'),
            ("refs/tags/v1.10.1-rc.1", '8'),
            ("refs/tags/nightly", '9'),
        ] {
            choosing.offer(name, &id(digit));
        }
        choosing.offer("refs/heads/main", "abc");
        let chosen = choosing.chosen()?;
        Some((chosen.reference, chosen.is_later_version))
    }

    #[test]
    fn exactly_what_is_wanted_is_chosen() {
        let branch = |name: &str| Wanted::Branch(name.parse().expect("a name"));
        let tag = |name: &str| Wanted::Tag(name.parse().expect("a name"));
        let versions = |range: &str| Wanted::Versions(range.parse().expect("a range"));
        for (wanted, expected) in [
            (Wanted::Head, Some("HEAD")),
            (branch("main"), Some("refs/heads/main")),
            (branch("mai"), None),
            (tag("nightly"), Some("refs/tags/nightly")),
            (tag("main"), None),
            (versions("^1"), Some("refs/tags/1.10.0")),
            (versions(">=3"), None),
            (
                Wanted::Commit(id('a').parse().expect("a name")),
                Some(id('a').as_str()),
            ),
        ] {
            let chosen = choose(&wanted, '0').map(|(name, _)| name);
            assert_eq!(chosen.as_deref(), expected, "{wanted}");
        }
        // The commit in force is what the tag leads to.
        let range = versions("^1");
        assert_eq!(choose(&range, '4').map(|(_, later)| later), Some(true));
        assert_eq!(choose(&range, '3').map(|(_, later)| later), Some(true));
        assert_eq!(choose(&range, '5').map(|(_, later)| later), Some(false));
        assert_eq!(choose(&range, '0').map(|(_, later)| later), Some(false));
    }
}
