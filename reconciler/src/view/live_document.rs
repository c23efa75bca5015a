//! The live state of a host as a JSON document, `formatVersion` 1.0: what `keel observe` writes, and what a plan is made
//! from where the host is out of reach. `schemas/live/v1.json` is its schema.

use std::collections::BTreeMap;

use jiff::Timestamp;
use manifests::feature::Capabilities;
use manifests::id::Uid;
use manifests::observed::{Item, ObservedSet, Trashed, Unclear};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::versioned::{self, Unreadable};
use crate::diff::known::{Hold, Known, KnownSource, Owned};
use crate::diff::suspension::Suspension;
use crate::plan::World;

/// The version of the document; a reader takes every 1.x.
pub const FORMAT: &str = "1.0";

/// The facts of an object that are more than planning asks for stay on the host.
const STATUS: [&str; 4] = ["state", "uid", "inUse", "attachedTo"];

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Tool {
    name: String,
    version: String,
}

/// A hold and whose it is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct SuspensionOf {
    scope: String,
    #[serde(flatten)]
    suspension: Suspension,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct HoldOf {
    uid: Uid,
    #[serde(flatten)]
    hold: Hold,
}

/// What a host looked like at some time.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LiveDocument {
    format_version: String,
    tool: Tool,
    /// When it was looked at.
    pub taken_at: Timestamp,
    host: Capabilities,
    generation: u64,
    sources: Vec<KnownSource>,
    owned: Vec<Owned>,
    holds: Vec<HoldOf>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    suspensions: Vec<SuspensionOf>,
    items: Vec<Item>,
    unclear: Vec<Unclear>,
    trash: Vec<Trashed>,
}

impl LiveDocument {
    /// The document of what was looked at.
    pub fn new(world: World, taken_at: Timestamp) -> Self {
        let World {
            known,
            observed,
            host,
        } = world;
        let (mut items, mut trash) = (observed.items, observed.trash);
        let trashed = trash.iter_mut().filter_map(|one| one.was.as_deref_mut());
        for item in items.iter_mut().chain(trashed) {
            // The store has it, for those who have one.
            item.last_told = None;
            let facts: Map<String, Value> = STATUS
                .iter()
                .filter_map(|key| Some(((*key).to_owned(), item.status.get(key)?.clone())))
                .collect();
            item.status = Value::Object(facts);
        }
        Self {
            format_version: FORMAT.to_owned(),
            tool: Tool {
                name: "keel".to_owned(),
                version: env!("CARGO_PKG_VERSION").to_owned(),
            },
            taken_at,
            host,
            generation: known.generation,
            sources: known.sources.into_values().collect(),
            owned: known.owned.into_values().collect(),
            holds: known
                .holds
                .into_iter()
                .map(|(uid, hold)| HoldOf { uid, hold })
                .collect(),
            suspensions: known
                .suspensions
                .into_iter()
                .map(|(scope, suspension)| SuspensionOf {
                    scope: scope.to_string(),
                    suspension,
                })
                .collect(),
            items,
            unclear: observed.unclear,
            trash,
        }
    }

    /// As text, with its last line ended.
    ///
    /// # Errors
    /// A value cannot be written as JSON.
    pub fn text(&self) -> Result<String, serde_json::Error> {
        let mut text = serde_json::to_string(self)?;
        text.push('\n');
        Ok(text)
    }

    /// Reads a document of any format 1.x: what a newer one has beyond this one is passed over.
    ///
    /// # Errors
    /// It is none, cut short, or of a newer format.
    pub fn read(text: &str) -> Result<Self, Unreadable> {
        versioned::read(text)
    }

    /// What a plan is made from.
    pub fn into_world(self) -> World {
        let by_name = |source: KnownSource| (source.name.clone(), source);
        World {
            known: Known {
                generation: self.generation,
                owned: self.owned.into_iter().map(|one| (one.uid, one)).collect(),
                sources: self.sources.into_iter().map(by_name).collect(),
                holds: self
                    .holds
                    .into_iter()
                    .map(|one| (one.uid, one.hold))
                    .collect::<BTreeMap<_, _>>(),
                suspensions: self
                    .suspensions
                    .into_iter()
                    .filter_map(|one| Some((one.scope.parse().ok()?, one.suspension)))
                    .collect(),
                pins: BTreeMap::new(),
                ticks: BTreeMap::new(),
            },
            observed: ObservedSet {
                items: self.items,
                unclear: self.unclear,
                trash: self.trash,
            },
            host: self.host,
        }
    }
}
