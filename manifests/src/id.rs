//! Who is who: [`Uid`], [`Address`] (`instance/web-1`) and [`Mark`] (who owns a live object).

use std::fmt;
use std::str::FromStr;

use uuid::Uuid;

use crate::kind::Kind;

/// The identity of an object, kept through rename, rebuild, trash and restore. A UUID.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize,
)]
#[serde(transparent)]
pub struct Uid(Uuid);

impl Uid {
    /// The identity that a plan made with `seed` gives to a new object; the same seed and address give the same one.
    pub fn derive(seed: &Uuid, address: &Address) -> Self {
        Self(Uuid::new_v5(seed, address.to_string().as_bytes()))
    }

    /// An identity that no object has, for what is remembered of none.
    pub const fn nobody(number: u8) -> Self {
        Self(Uuid::from_u128(number as u128))
    }

    /// The first eight hexadecimal digits, for names of limited length. Not unique by itself.
    pub fn short(&self) -> String {
        let mut text = self.0.simple().to_string();
        text.truncate(8);
        text
    }

    /// The sixteen bytes.
    pub fn as_bytes(&self) -> &[u8; 16] {
        self.0.as_bytes()
    }
}

impl fmt::Display for Uid {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

/// A text that is no UUID.
#[derive(Debug, thiserror::Error)]
#[error("`{0}` is not a UUID")]
pub struct NotAUid(String);

impl FromStr for Uid {
    type Err = NotAUid;

    fn from_str(text: &str) -> Result<Self, NotAUid> {
        Uuid::parse_str(text)
            .map(Self)
            .map_err(|_| NotAUid(text.to_owned()))
    }
}

/// Names one object within a host: kind, project where it is not the default one, pool of a volume, name.
///
/// Displayed and parsed as `instance/web-1`, `instance/shop/web-1`, `volume/fast/pg-data`, `storage-pool/fast`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Address {
    /// What it is.
    pub kind: Kind,
    /// Its project; `None` for project `default` and for what belongs to the host.
    pub project: Option<String>,
    /// The pool of a volume.
    pub pool: Option<String>,
    /// Its name.
    pub name: String,
}

impl Address {
    /// An object of the default project or of the host.
    pub fn new(kind: Kind, name: impl Into<String>) -> Self {
        Self {
            kind,
            project: None,
            pool: None,
            name: name.into(),
        }
    }

    /// An object of a project; `default` is the default project.
    pub fn in_project(kind: Kind, project: &str, name: impl Into<String>) -> Self {
        let project = (project != "default").then(|| project.to_owned());
        Self {
            kind,
            project,
            pool: None,
            name: name.into(),
        }
    }

    /// The project's name, `default` where none is said.
    pub fn project_name(&self) -> &str {
        self.project.as_deref().unwrap_or("default")
    }
}

impl fmt::Display for Address {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.kind.word())?;
        for part in [&self.project, &self.pool].into_iter().flatten() {
            write!(formatter, "/{part}")?;
        }
        write!(formatter, "/{}", self.name)
    }
}

/// A text that names no object.
#[derive(Debug, thiserror::Error)]
#[error("`{text}` names no object: write KIND/NAME, such as instance/web-1")]
pub struct NotAnAddress {
    /// What was written.
    pub text: String,
    /// The kinds nearest to what was written, best first.
    pub nearest: Vec<&'static str>,
}

impl FromStr for Address {
    type Err = NotAnAddress;

    /// Takes `Instance/web-1` and `instance/web-1` alike.
    fn from_str(text: &str) -> Result<Self, NotAnAddress> {
        let wrong = |nearest| NotAnAddress {
            text: text.to_owned(),
            nearest,
        };
        let (kind, rest) = text.split_once('/').ok_or_else(|| wrong(Vec::new()))?;
        let kind = Kind::from_word(kind).ok_or_else(|| wrong(Kind::nearest(kind)))?;
        let parts: Vec<&str> = rest.split('/').collect();
        if parts.iter().any(|part| part.is_empty()) {
            return Err(wrong(Vec::new()));
        }
        let mut address = Self::new(kind, "");
        let (name, before) = parts.split_last().ok_or_else(|| wrong(Vec::new()))?;
        address.name = (*name).to_owned();
        let project = match (kind == Kind::Volume, before) {
            (false, []) => None,
            (false, [project]) => Some(*project),
            (true, [pool]) => {
                address.pool = Some((*pool).to_owned());
                None
            }
            (true, [project, pool]) => {
                address.pool = Some((*pool).to_owned());
                Some(*project)
            }
            _ => return Err(wrong(Vec::new())),
        };
        address.project = project.filter(|p| *p != "default").map(str::to_owned);
        Ok(address)
    }
}

impl serde::Serialize for Address {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> serde::Deserialize<'de> for Address {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <String as serde::Deserialize>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// The name of a source of manifests, as `keel.yaml` gives it.
#[derive(
    Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize,
)]
#[serde(transparent)]
pub struct SourceName(String);

impl SourceName {
    /// The name of a tree without a `keel.yaml`.
    pub fn unnamed() -> Self {
        Self("default".to_owned())
    }

    /// A name; the caller has checked it (letters, digits, `-`, `.`, at most 63).
    pub fn new(name: impl Into<String>) -> Self {
        Self(name.into())
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for SourceName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// Written onto a live object by the call that creates it: whose it is and which one.
#[derive(
    Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize,
)]
pub struct Mark {
    /// The source that owns the object.
    pub source: SourceName,
    /// The object's identity.
    pub uid: Uid,
}

impl fmt::Display for Mark {
    /// `keel:SOURCE:UID`: at most 105 characters, which fits an interface alias (255) and an nftables comment (128).
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "keel:{}:{}", self.source, self.uid)
    }
}

impl FromStr for Mark {
    type Err = NotAUid;

    fn from_str(text: &str) -> Result<Self, NotAUid> {
        let wrong = || NotAUid(text.to_owned());
        let (source, uid) = text
            .strip_prefix("keel:")
            .and_then(|rest| rest.rsplit_once(':'))
            .ok_or_else(wrong)?;
        Ok(Self {
            source: SourceName::new(source),
            uid: uid.parse()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_as_they_are_shown() {
        for text in [
            "instance/web-1",
            "instance/shop/web-1",
            "volume/fast/pg",
            "volume/shop/fast/pg",
        ] {
            assert_eq!(text.parse::<Address>().expect(text).to_string(), text);
        }
        assert_eq!(
            "StoragePool/fast"
                .parse::<Address>()
                .expect("kind name")
                .to_string(),
            "storage-pool/fast"
        );
        assert_eq!(
            "instance/default/a"
                .parse::<Address>()
                .expect("default")
                .to_string(),
            "instance/a"
        );
        for text in [
            "web-1",
            "instance/",
            "instance//a",
            "a/b",
            "instance/a/b/c",
            "volume/x",
        ] {
            assert!(text.parse::<Address>().is_err(), "{text}");
        }
    }

    #[test]
    fn marks_are_read_as_they_are_written() {
        let mark = Mark {
            source: SourceName::new("edge"),
            uid: Uid::derive(&Uuid::nil(), &Address::new(Kind::Instance, "a")),
        };
        assert_eq!(mark.to_string().parse::<Mark>().expect("own form"), mark);
        assert!("lxd:edge:1".parse::<Mark>().is_err());
    }
}
