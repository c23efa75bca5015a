//! [`Pointer`]: where in a document a value stands, as a JSON pointer (RFC 6901).

use std::fmt;

/// A JSON pointer: `/spec/limits/memory`. The empty pointer is the whole document.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Pointer(String);

impl Pointer {
    /// The whole document.
    pub const fn root() -> Self {
        Self(String::new())
    }

    /// Takes a pointer in its written form; anything that does not begin with `/` becomes one step below the root.
    pub fn new(text: &str) -> Self {
        if text.is_empty() || text.starts_with('/') {
            Self(text.to_owned())
        } else {
            Self::root().field(text)
        }
    }

    /// The pointer of a field or key below this one; `~` and `/` in the key are escaped.
    #[must_use]
    pub fn field(&self, key: &str) -> Self {
        let mut text = String::with_capacity(self.0.len() + key.len() + 1);
        text.push_str(&self.0);
        text.push('/');
        for character in key.chars() {
            match character {
                '~' => text.push_str("~0"),
                '/' => text.push_str("~1"),
                other => text.push(other),
            }
        }
        Self(text)
    }

    /// The pointer of an element of a list.
    #[must_use]
    pub fn index(&self, index: usize) -> Self {
        Self(format!("{}/{index}", self.0))
    }

    /// The unescaped steps from the root.
    pub fn steps(&self) -> impl Iterator<Item = String> + '_ {
        self.0
            .split('/')
            .skip(1)
            .map(|step| step.replace("~1", "/").replace("~0", "~"))
    }

    /// The pointer one step up; the root has none.
    pub fn parent(&self) -> Option<Self> {
        self.0.rfind('/').map(|at| Self(self.0[..at].to_owned()))
    }

    /// Whether `other` is this place or lies below it.
    pub fn covers(&self, other: &Self) -> bool {
        other.0 == self.0
            || (other.0.starts_with(&self.0) && other.0[self.0.len()..].starts_with('/'))
    }

    /// As [`Pointer::covers`], where a step `*` of this pointer stands for any one step.
    pub fn matches(&self, other: &Self) -> bool {
        let mut theirs = other.steps();
        self.steps().all(|step| {
            theirs
                .next()
                .is_some_and(|their| step == "*" || step == their)
        })
    }

    /// The written form: `/spec/limits/memory`.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The form that people see: `limits.memory`, without the leading `spec`.
    pub fn dotted(&self) -> String {
        let steps: Vec<String> = self.steps().collect();
        match steps.split_first() {
            Some((first, rest)) if first == "spec" && !rest.is_empty() => rest.join("."),
            _ => steps.join("."),
        }
    }
}

impl fmt::Display for Pointer {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl serde::Serialize for Pointer {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> serde::Deserialize<'de> for Pointer {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        <String as serde::Deserialize>::deserialize(deserializer).map(|text| Self::new(&text))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_escaped_and_read_back() {
        let pointer = Pointer::root().field("files").field("/etc/motd~");
        assert_eq!(pointer.as_str(), "/files/~1etc~1motd~0");
        assert_eq!(pointer.steps().collect::<Vec<_>>(), ["files", "/etc/motd~"]);
    }

    #[test]
    fn covering_respects_whole_steps() {
        let limits = Pointer::new("/spec/limits");
        assert!(limits.covers(&Pointer::new("/spec/limits/memory")));
        assert!(limits.covers(&limits));
        assert!(!limits.covers(&Pointer::new("/spec/limitsX")));
        assert!(
            Pointer::new("/spec/devices/*/size").matches(&Pointer::new("/spec/devices/root/size"))
        );
    }

    #[test]
    fn people_see_dots_without_spec() {
        assert_eq!(
            Pointer::new("/spec/limits/memory").dotted(),
            "limits.memory"
        );
        assert_eq!(Pointer::new("/spec").dotted(), "spec");
    }
}
