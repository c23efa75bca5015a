//! What is answered, in the form in which it travels. Fields are added in later versions and never change their meaning.

use std::collections::BTreeMap;

use jiff::Timestamp;
use manifests::controller::Role;
use manifests::diagnostic::Origin;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::diff::suspension::{Pin, Scope, Suspension};
use crate::plan::Because;
use crate::source::followed::Ahead;

/// A line of a manifest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PlaceDocument {
    /// The file, from the root of its source.
    pub path: String,
    /// The line, from 1.
    pub line: u32,
    /// The column, from 1.
    pub column: u32,
}

impl From<&Origin> for PlaceDocument {
    fn from(origin: &Origin) -> Self {
        Self {
            path: origin.file.to_string(),
            line: origin.line,
            column: origin.column,
        }
    }
}

/// Something that went wrong and is tried again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TroubleDocument {
    /// Why.
    pub why: String,
    /// How often in a row.
    pub times: u32,
    /// When it began.
    pub since: String,
    /// When it is tried again, where that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<String>,
    /// The object, where it is about one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub object: Option<String>,
}

/// What somebody suspended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SuspensionDocument {
    /// `everything`, `source/NAME` or `KIND/NAME`.
    pub what: String,
    /// Why.
    pub reason: String,
    /// Who says so, where that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
    /// Since when.
    pub since: String,
    /// Until when; absent: until somebody resumes it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<String>,
}

impl SuspensionDocument {
    /// Of a scope.
    pub(super) fn new(what: &Scope, suspension: &Suspension) -> Self {
        Self {
            what: what.to_string(),
            reason: suspension.reason.clone(),
            by: suspension.by.clone(),
            since: suspension.since.to_string(),
            until: suspension.until.map(|until| until.to_string()),
        }
    }
}

/// A guard and why it holds something.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct BecauseDocument {
    /// The guard.
    pub code: String,
    /// Why.
    pub message: String,
    /// When it may be done by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<String>,
}

impl From<&Because> for BecauseDocument {
    fn from(because: &Because) -> Self {
        Self {
            code: because.code.to_string(),
            message: because.message.clone(),
            until: because.until.map(|until| until.to_string()),
        }
    }
}

/// A newer revision that means nothing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct InvalidDocument {
    /// Which one.
    pub revision: String,
    /// What is wrong with it.
    pub why: String,
}

/// A revision that a person wants to stay in force.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PinDocument {
    /// Which one.
    pub revision: String,
    /// Why.
    pub reason: String,
    /// Who says so, where that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
    /// Since when.
    pub since: String,
    /// The commit that the source says by now, where that is another one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub newest: Option<String>,
    /// How many commits it is behind that; absent: not known, or that does not come after it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub behind: Option<usize>,
}

impl PinDocument {
    /// Of a pin, and what the source says by now.
    pub(super) fn new(pin: &Pin, ahead: Option<&Ahead>) -> Self {
        let ahead = ahead.filter(|ahead| ahead.commits != Some(0));
        Self {
            revision: pin.revision.clone(),
            reason: pin.reason.clone(),
            by: pin.by.clone(),
            since: time(pin.since),
            newest: ahead.map(|ahead| ahead.commit.clone()),
            behind: ahead.and_then(|ahead| ahead.commits),
        }
    }
}

/// What a source said, and what became of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RevisionDocument {
    /// The source.
    pub source: String,
    /// When it became so.
    pub at: String,
    /// What became of it: `inForce`, `invalid`, `refused`, `pinned`, `unpinned`, `waits`, `approved`.
    pub fate: String,
    /// What people call it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<String>,
    /// The commit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub commit: Option<String>,
    /// Who wrote it, as its commit says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub author: Option<String>,
    /// The first line of its commit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    /// When it was committed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub committed_at: Option<String>,
    /// Who signed it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signed_by: Option<String>,
    /// Why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
}

/// A field that somebody else changes back each time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct FightDocument {
    /// The object.
    pub object: String,
    /// The field, as people write it.
    pub field: String,
}

/// A plan that waits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct WaitingDocument {
    /// By which it is approved.
    pub digest: String,
    /// How many steps would be done.
    pub steps: usize,
    /// How many are held.
    pub held: usize,
    /// The guards that stop all of it.
    pub stopping: Vec<BecauseDocument>,
    /// Somebody answers for it until then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub approved_until: Option<String>,
}

/// How a source stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SourceDocument {
    /// What it is called in the settings of the controller.
    pub name: String,
    /// What it is called in its `keel.yaml`: whose its objects are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<String>,
    /// The sources that must be settled before.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub depends_on: Vec<String>,
    /// What is in force, as people see it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<String>,
    /// The commit of that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub commit: Option<String>,
    /// Who signed it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signed_by: Option<String>,
    /// Who wrote it, as its commit says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub author: Option<String>,
    /// The first line of its commit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    /// When it was committed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub committed_at: Option<String>,
    /// A person wants it to stay in force, whatever the source says by now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pinned: Option<PinDocument>,
    /// Whether all that is in force was done.
    pub settled: bool,
    /// How the last reconcile ended, in a word; absent before the first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcome: Option<String>,
    /// The same for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub words: Option<String>,
    /// When that was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reconciled_at: Option<String>,
    /// When the source was last looked at with success.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fetched_at: Option<String>,
    /// A newer revision that is refused: what is in force is the last good one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub invalid: Option<InvalidDocument>,
    /// Why the source cannot be looked at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unreachable: Option<TroubleDocument>,
    /// Why nothing could be done as a whole.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failed: Option<TroubleDocument>,
    /// Objects that failed and are left alone for a while.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub resting: Vec<TroubleDocument>,
    /// Fields that somebody fights over.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub fights: Vec<FightDocument>,
    /// When the first of what is held may be done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub held_until: Option<String>,
    /// The plan that waits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waits: Option<WaitingDocument>,
    /// What suspends it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub suspended: Option<SuspensionDocument>,
    /// How many objects stand how.
    pub objects: BTreeMap<String, usize>,
}

/// How the controller stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct StatusDocument {
    /// Of keel.
    pub version: String,
    /// The host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// When this was answered.
    pub now: String,
    /// Whether what should run after a start of the host was started.
    pub booted: bool,
    /// Whether something is under way.
    pub at_work: bool,
    /// When the host was last looked at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub looked_at: Option<String>,
    /// Its sources.
    pub sources: Vec<SourceDocument>,
    /// All that is suspended.
    pub suspended: Vec<SuspensionDocument>,
    /// What it could not tell whether it is there, and why.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unclear: Vec<String>,
    /// Who asks.
    pub you: CallerDocument,
}

/// Who asks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CallerDocument {
    /// Their name.
    pub name: String,
    /// What they may do.
    pub role: Role,
    /// The projects that they see; empty: all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub projects: Vec<String>,
}

/// One object in a list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ObjectRow {
    /// `KIND/NAME`, with project and pool where it has them.
    pub id: String,
    /// Its kind, as in `id`.
    pub kind: String,
    /// Its project; absent for what belongs to the host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub project: Option<String>,
    /// Its name.
    pub name: String,
    /// Its source, as the settings call it.
    pub source: String,
    /// How it stands to its manifest: `synced`, `changed`, `new`, `drifted`, `missing`, `incomplete`, `orphaned`, `foreign`, `unclear`.
    pub sync: String,
    /// How it is: `healthy`, `progressing`, `degraded`, `stopped`, `missing`, `unknown`.
    pub health: String,
    /// What a runtime calls its state, of instances.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<String>,
    /// Its labels.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// How many of its fields differ.
    pub differing: usize,
    /// Whether somebody suspended it, its source or everything.
    pub suspended: bool,
    /// Whether a guard holds what would be done with it.
    pub held: bool,
    /// Where it is declared.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub declared: Option<PlaceDocument>,
    /// Why it stands so, where the words do not say it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
}

/// A field that is not as its manifest says.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct FieldDocument {
    /// A JSON pointer: `/spec/limits/memory`.
    pub path: String,
    /// What its manifest says.
    pub desired: Value,
    /// What is there.
    pub live: Value,
    /// Who is behind it: `edited`, `drifted`, `image`, …
    pub cause: Value,
    /// Whether it is told and not touched.
    pub only_told: bool,
    /// The line that declares it.
    pub declared: PlaceDocument,
}

/// One object, with what is wanted beside what is there.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ObjectDocument {
    /// As in a list.
    #[serde(flatten)]
    pub row: ObjectRow,
    /// What is wanted, as a manifest with all that layers, profiles and defaults add; absent: nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub desired: Option<Value>,
    /// What is there, with its status; absent: nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub live: Option<Value>,
    /// What is not as wanted.
    pub fields: Vec<FieldDocument>,
    /// How many fields are left as they live by a rule.
    pub kept: usize,
    /// What holds what would be done with it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub held_by: Vec<BecauseDocument>,
    /// Where each written value stands, by JSON pointer; what is missing here is a default.
    pub lines: BTreeMap<String, PlaceDocument>,
    /// It failed and is left alone for a while.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resting: Option<TroubleDocument>,
    /// When it was looked at.
    pub looked_at: String,
}

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct EventDocument {
    /// Its place in the order.
    pub number: u64,
    /// When.
    pub at: String,
    /// What kind of news it is.
    pub topic: String,
    /// The source, where it is about one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// The object, where it is about one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub object: Option<String>,
    /// What happened.
    pub message: String,
}

/// What is waiting, of one source.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PlanDocument {
    /// The source.
    pub source: String,
    /// By which it is approved.
    pub digest: String,
    /// Whether it waits for somebody's answer.
    pub stopped: bool,
    /// Somebody answers for it until then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub approved_until: Option<String>,
    /// The plan, as `keel plan -o json` writes it.
    pub plan: Value,
}

/// What was asked for is done, or will be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Accepted {
    /// In words.
    pub message: String,
}

/// A time as it travels.
pub(super) fn time(at: Timestamp) -> String {
    at.to_string()
}
