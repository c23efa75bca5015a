//! Suspensions and pins: somebody wants nothing to be changed for a while, or an older revision to stay in force, and says why.

use std::fmt;
use std::str::FromStr;

use manifests::id::{Address, SourceName};
use serde::{Deserialize, Serialize};

/// What is suspended.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Scope {
    /// Whatever the controller does.
    Everything,
    /// What the controller does for one source.
    Source(SourceName),
    /// Whatever is done to one object because its manifest says so, by whom ever.
    Object(Address),
}

/// The word for [`Scope::Everything`].
const EVERYTHING: &str = "everything";
/// Before the name of a source.
const SOURCE: &str = "source/";

impl fmt::Display for Scope {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Everything => formatter.write_str(EVERYTHING),
            Self::Source(name) => write!(formatter, "{SOURCE}{name}"),
            Self::Object(address) => address.fmt(formatter),
        }
    }
}

impl FromStr for Scope {
    type Err = manifests::id::NotAnAddress;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text == EVERYTHING {
            return Ok(Self::Everything);
        }
        match text.strip_prefix(SOURCE) {
            Some(name) => Ok(Self::Source(SourceName::new(name))),
            None => text.parse().map(Self::Object),
        }
    }
}

/// Somebody wants nothing to be changed for a while.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Suspension {
    /// Why.
    pub reason: String,
    /// Who says so, where that is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
    /// Since when.
    pub since: jiff::Timestamp,
    /// Until when; none: until somebody resumes it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub until: Option<jiff::Timestamp>,
}

/// Who says so where it is no person.
pub const CONTROLLER: &str = "the controller";

impl Suspension {
    /// Whether it is the controller that leaves something alone.
    pub fn is_by_controller(&self) -> bool {
        self.by.as_deref() == Some(CONTROLLER)
    }

    /// Whether it is over.
    pub fn is_over(&self, now: jiff::Timestamp) -> bool {
        self.until.is_some_and(|until| until <= now)
    }

    /// Why and by whom, in one line.
    pub fn words(&self) -> String {
        match &self.by {
            Some(by) => format!("suspended by {by}: {}", self.reason),
            None => format!("suspended: {}", self.reason),
        }
    }
}

/// Somebody wants a revision to stay in force, whatever its source says by now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pin {
    /// Tells the revision from every other.
    pub digest: String,
    /// What people call it.
    pub revision: String,
    /// Why.
    pub reason: String,
    /// Who says so, where that is known.
    pub by: Option<String>,
    /// Since when.
    pub since: jiff::Timestamp,
}

impl Pin {
    /// What, by whom and why, in one line.
    pub fn words(&self) -> String {
        let by = self
            .by
            .as_ref()
            .map_or_else(String::new, |by| format!(" by {by}"));
        format!("pinned at {}{by}: {}", self.revision, self.reason)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scope_is_read_as_it_is_written() {
        for text in [
            "everything",
            "source/edge",
            "instance/web-1",
            "instance/shop/web-1",
        ] {
            let scope: Scope = text.parse().expect("a scope");
            assert_eq!(scope.to_string(), text);
        }
        assert!("nothing".parse::<Scope>().is_err());
    }
}
