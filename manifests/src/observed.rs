//! What was seen: [`ObservedSet`], read from the world by a runtime.

use crate::id::{Address, Mark, Uid};
use crate::kind::Spec;
use crate::lifecycle::Prune;
use crate::pointer::Pointer;

/// A field that could not be read, and why.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Unseen {
    /// Which field; all below it are unseen as well.
    pub path: Pointer,
    /// Why: "permission denied on /sys/fs/cgroup/…".
    pub why: String,
}

/// What is remembered on an object for the time when its manifest is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Remembered {
    /// What happens to it then.
    pub prune: Prune,
    /// Whether it is protected.
    pub protect: bool,
}

/// What an object holds that would be lost with it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Holds {
    /// Bytes of data of its own.
    pub bytes: u64,
    /// Snapshots.
    pub snapshots: u32,
}

/// One live object.
#[derive(Debug, Clone, PartialEq)]
pub struct Item {
    /// Which one, by the name under which it lives.
    pub address: Address,
    /// Who owns it; none: foreign.
    pub mark: Option<Mark>,
    /// Whether it was made to its end. An object of which making was cut short is made again or finished.
    pub complete: bool,
    /// What it is, in the words of the manifest language: the engine's own definition of it, overlaid with what the
    /// kernel says.
    pub spec: Spec,
    /// What the engine was last told that it is, where the engine keeps that; none for what it did not make.
    pub last_told: Option<Spec>,
    /// Fields of `spec` that could not be read.
    pub unseen: Vec<Unseen>,
    /// What is remembered on it.
    pub remembered: Option<Remembered>,
    /// What would be lost with it.
    pub holds: Holds,
    /// The `status` of `keel get`: facts that nobody asked for.
    pub status: serde_json::Value,
}

impl Item {
    /// Its identity: from its mark, else as the engine keeps it for what nobody owns any more.
    pub fn uid(&self) -> Option<Uid> {
        match &self.mark {
            Some(mark) => Some(mark.uid),
            None => self.status.get("uid")?.as_str()?.parse().ok(),
        }
    }
}

/// Something of which could not be told whether it is there: never created again, never deleted.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Unclear {
    /// The object.
    pub address: Address,
    /// Its identity where its name could not be read; `address` has the identity in the place of the name then.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nameless: Option<Uid>,
    /// Why.
    pub why: String,
}

/// All that a runtime saw.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ObservedSet {
    /// Live objects: ours, other sources', nobody's.
    pub items: Vec<Item>,
    /// Objects in doubt.
    pub unclear: Vec<Unclear>,
    /// Objects in the trash.
    pub trash: Vec<Trashed>,
}

/// One object in the trash.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Trashed {
    /// The name under which it lived.
    pub address: Address,
    /// Whose it was.
    pub mark: Mark,
    /// When it was deleted.
    pub deleted_at: jiff::Timestamp,
    /// When it goes for good.
    pub expires_at: jiff::Timestamp,
    /// What it holds.
    pub holds: Holds,
}
