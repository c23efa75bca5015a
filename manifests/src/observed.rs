//! What was seen: [`ObservedSet`], read from the world by a runtime.

use serde::de::{Error as _, MapAccess, Visitor};

use crate::id::{Address, Mark, Uid};
use crate::kind::{Kind, Spec, SpecOf};
use crate::lifecycle::Prune;
use crate::pointer::Pointer;

/// A field that could not be read, and why.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
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
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Item {
    /// Which one, by the name under which it lives.
    pub address: Address,
    /// Who owns it; none: foreign.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mark: Option<Mark>,
    /// Whether it was made to its end. An object of which making was cut short is made again or finished.
    pub complete: bool,
    /// What it is, in the words of the manifest language: the engine's own definition of it, overlaid with what the
    /// kernel says.
    pub spec: Spec,
    /// What the engine was last told that it is, where the engine keeps that; none for what it did not make.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_told: Option<Spec>,
    /// Fields of `spec` that could not be read.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub unseen: Vec<Unseen>,
    /// What is remembered on it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remembered: Option<Remembered>,
    /// What would be lost with it.
    pub holds: Holds,
    /// The `status` of `keel get`: facts that nobody asked for.
    pub status: serde_json::Value,
}

/// The names of the fields of an [`Item`].
#[derive(serde::Deserialize)]
#[serde(field_identifier, rename_all = "camelCase")]
enum ItemField {
    Address,
    Mark,
    Complete,
    Spec,
    LastTold,
    Unseen,
    Remembered,
    Holds,
    Status,
    #[serde(other)]
    Other,
}

struct ItemVisitor;

impl<'de> serde::Deserialize<'de> for Item {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(ItemVisitor)
    }
}

impl<'de> Visitor<'de> for ItemVisitor {
    type Value = Item;

    fn expecting(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("a live object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Item, A::Error> {
        let mut address: Option<Address> = None;
        let (mut mark, mut complete, mut unseen) = (None, None, Vec::new());
        let (mut remembered, mut holds, mut status) = (None, Holds::default(), None);
        // The kind stands in the address. Where that comes first, as it is written, nothing is kept in between.
        let (mut spec, mut last_told) = (Late::Absent, Late::Absent);
        while let Some(field) = map.next_key()? {
            match field {
                ItemField::Address => address = Some(map.next_value()?),
                ItemField::Mark => mark = map.next_value()?,
                ItemField::Complete => complete = Some(map.next_value()?),
                ItemField::Spec => spec = Late::read(&mut map, address.as_ref())?,
                ItemField::LastTold => last_told = Late::read(&mut map, address.as_ref())?,
                ItemField::Unseen => unseen = map.next_value()?,
                ItemField::Remembered => remembered = map.next_value()?,
                ItemField::Holds => holds = map.next_value()?,
                ItemField::Status => status = Some(map.next_value()?),
                ItemField::Other => {
                    map.next_value::<serde::de::IgnoredAny>()?;
                }
            }
        }
        let address = address.ok_or_else(|| A::Error::missing_field("address"))?;
        let spec = spec.spec(address.kind)?;
        Ok(Item {
            spec: spec.ok_or_else(|| A::Error::missing_field("spec"))?,
            last_told: last_told.spec(address.kind)?,
            address,
            mark,
            complete: complete.ok_or_else(|| A::Error::missing_field("complete"))?,
            unseen,
            remembered,
            holds,
            status: status.unwrap_or_default(),
        })
    }
}

/// A spec of which the kind may not be known yet.
enum Late {
    Absent,
    Read(Spec),
    Kept(serde_json::Value),
}

impl Late {
    fn read<'de, A: MapAccess<'de>>(
        map: &mut A,
        address: Option<&Address>,
    ) -> Result<Self, A::Error> {
        Ok(match address {
            Some(address) => Self::Read(map.next_value_seed(SpecOf(address.kind))?),
            None => Self::Kept(map.next_value()?),
        })
    }

    fn spec<E: serde::de::Error>(self, kind: Kind) -> Result<Option<Spec>, E> {
        match self {
            Self::Absent => Ok(None),
            Self::Read(spec) => Ok(Some(spec)),
            Self::Kept(value) => Spec::deserialize(kind, value).map(Some).map_err(E::custom),
        }
    }
}

impl Item {
    /// Its identity: from its mark, else as the engine keeps it for what nobody owns any more.
    pub fn uid(&self) -> Option<Uid> {
        match &self.mark {
            Some(mark) => Some(mark.uid),
            None => self.status.get("uid")?.as_str()?.parse().ok(),
        }
    }

    /// Whether a server keeps it, and not keel. A server makes the snapshots that the object asks for in its own spec, lets
    /// go of those whose time is over, and does not tell with the object how many there are. And what it was told it
    /// tells again, whether or not that is in force.
    pub fn is_kept_by_server(&self) -> bool {
        self.status["keptBy"] == "server"
    }

    /// Whether it may have snapshots: only a list of them tells for sure.
    pub fn may_have_snapshots(&self) -> bool {
        self.holds.snapshots > 0 || self.is_kept_by_server()
    }

    /// When it was started last, where it runs and the engine tells.
    pub fn started_at(&self) -> Option<jiff::Timestamp> {
        self.status["startedAt"].as_str()?.parse().ok()
    }
}

/// Something of which could not be told whether it is there: never created again, never deleted.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Unclear {
    /// The object.
    pub address: Address,
    /// Its identity where its name could not be read; `address` has the identity in the place of the name then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nameless: Option<Uid>,
    /// Why.
    pub why: String,
}

/// All that a runtime saw.
#[derive(Debug, Clone, Default, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct ObservedSet {
    /// Live objects: ours, other sources', nobody's.
    pub items: Vec<Item>,
    /// Objects in doubt.
    pub unclear: Vec<Unclear>,
    /// Objects in the trash.
    pub trash: Vec<Trashed>,
}

/// How something came into the trash.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum TrashedBy {
    /// It was deleted.
    #[default]
    Delete,
    /// It was made anew from its image: this is what it was before.
    Rebuild,
    /// It was replaced: this is what it was before.
    Replace,
}

impl TrashedBy {
    /// The word that people see.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Delete => "delete",
            Self::Rebuild => "rebuild",
            Self::Replace => "replace",
        }
    }
}

/// One object in the trash.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
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
    /// How it came there.
    #[serde(default)]
    pub by: TrashedBy,
    /// The name of the pool in which it lies; none where the engine has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pool: Option<String>,
    /// How it would be seen if it were back and stopped; none where that cannot be told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub was: Option<Box<Item>>,
}
