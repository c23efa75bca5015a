//! What to do: [`plan`] turns a [`Diff`](crate::diff::Diff) into ordered steps, and says what is held and why.
//!
//! It is total: it never fails, never waits, knows no clock (`now` is given) and gives the same answer to the same
//! question. `steps` makes candidates, `gates` hold some of them, `order` sorts the rest, `explain` words the reasons,
//! `boot` says what is started after a start of the host, `shutdown` what is stopped before its end.

pub mod boot;
mod digest;
pub mod effects;
mod explain;
pub mod gates;
mod order;
pub mod rules;
pub mod shutdown;
mod steps;
mod trash;
mod world;

pub use self::digest::digest;
pub(crate) use self::steps::{health_of, state_of};
pub use self::world::{PlanOptions, World};

use std::collections::BTreeSet;
use std::path::PathBuf;

use manifests::action::{Action, Verb};
use manifests::change::{Cause, FieldChange};
use manifests::desired::{DesiredSet, Readiness};
use manifests::diagnostic::{Code, Origin};
use manifests::effect::Effect;
use manifests::feature::Capabilities;
use manifests::id::{Address, Mark, SourceName, Uid};
use manifests::kind::Kind;
use manifests::observed::{Holds, ObservedSet, Unseen};
use manifests::repository::Repository;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

use crate::diff::known::Known;
use crate::diff::{Diff, Kept};
use effects::Effects;
use rules::Rules;

/// The name of a plan; also the seed of the identities that it gives to new objects.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct PlanId(pub Uuid);

impl std::fmt::Display for PlanId {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(formatter)
    }
}

/// A step within its plan: its place in the order, from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct StepId(pub u32);

/// What a plan is for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Purpose {
    /// To bring the world to what a source wants.
    #[default]
    Apply,
    /// To take down all that a source owns.
    Destroy,
    /// To do one thing that a person asked for.
    Asked,
    /// To tell what changes from one revision to another. Nothing is done.
    Compare,
}

/// A class of steps, for `--allow`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Allow {
    /// Something new, taken out of the trash, or taken over.
    Create,
    /// Nobody notices.
    Live,
    /// Somebody may notice.
    Interrupting,
    /// Something is gone afterwards.
    Destructive,
}

impl Allow {
    /// All classes, mildest first.
    pub const ALL: [Self; 4] = [
        Self::Create,
        Self::Live,
        Self::Interrupting,
        Self::Destructive,
    ];

    /// The word on the command line.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Live => "live",
            Self::Interrupting => "interrupting",
            Self::Destructive => "destructive",
        }
    }
}

impl std::str::FromStr for Allow {
    type Err = NotAClass;

    fn from_str(text: &str) -> Result<Self, NotAClass> {
        Self::ALL
            .into_iter()
            .find(|class| class.word() == text)
            .ok_or_else(|| NotAClass(text.to_owned()))
    }
}

/// A word that names no class of steps.
#[derive(Debug, thiserror::Error)]
#[error("`{0}` is none of create, live, interrupting, destructive")]
pub struct NotAClass(String);

/// What an object must look like when its step begins, or the step fails with a conflict.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", tag = "expect", content = "digest")]
pub enum Expectation {
    /// Nothing lives under its name.
    Absent,
    /// Its managed fields are as they were: [`fingerprint`](crate::diff::fingerprint).
    Managed(String),
    /// All of it is as it was: [`fingerprint_of_orphan`](crate::diff::fingerprint_of_orphan).
    Whole(String),
    /// An earlier step of the plan makes it what it will be, or it lies in the trash.
    Anything,
}

impl Expectation {
    /// The digest, where there is one.
    pub fn digest(&self) -> Option<&str> {
        match self {
            Self::Managed(digest) | Self::Whole(digest) => Some(digest),
            Self::Absent | Self::Anything => None,
        }
    }
}

/// A change of one field and what it costs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PlannedChange {
    /// The change.
    #[serde(flatten)]
    pub change: FieldChange,
    /// What it costs.
    pub effect: Effect,
    /// Where the wanted value was written; what a manifest no longer says is told by the block in which it stood.
    pub origin: Option<Origin>,
}

/// One deed with its reason and its prerequisites.
#[derive(Debug, Clone, PartialEq)]
pub struct Step {
    /// Its place in the order.
    pub id: StepId,
    /// What is done, to which object.
    pub action: Action,
    /// Steps that must have succeeded before, ascending.
    pub after: Vec<StepId>,
    /// How far the objects of earlier steps must be before it begins.
    pub waits: Vec<(Address, Readiness)>,
    /// The fields that it changes, or that are the reason for it.
    pub changes: Vec<PlannedChange>,
    /// What it costs: the worst of its fields; none for what costs nothing to anybody (create, adopt, forget).
    pub effect: Option<Effect>,
    /// Why, in words without a full stop: `declared and not there`.
    pub reason: String,
    /// Where the object is declared; none for what is no longer declared.
    pub origin: Option<Origin>,
    /// Why, in one word.
    pub cause: Cause,
    /// What is lost with it for good; for a step that puts what was there into the trash what is kept there.
    pub loss: Option<Holds>,
    /// What the object must look like when it begins.
    pub expects: Expectation,
    /// Fields that it leaves as they live.
    pub kept: Vec<Kept>,
    /// Of an object that is to go: its spec as it was seen, but whether it runs. Null for all others, of which `changes`
    /// tells what was seen.
    pub seen: Value,
}

impl Step {
    /// What a person asked for, as the first step of a plan.
    pub(crate) fn asked(verb: Verb, address: &Address, mark: &Mark, expects: Expectation) -> Self {
        let reason = "asked for".to_owned();
        Self {
            id: StepId(1),
            expects,
            ..steps::bare(verb, address, mark.clone(), reason, Cause::Asked)
        }
    }

    /// The object.
    pub const fn address(&self) -> &Address {
        &self.action.address
    }

    /// The word that people read and journals keep: as [`Self::word`], and `start`, `stop` and the rest for power.
    pub const fn deed(&self) -> &'static str {
        match &self.action.verb {
            Verb::Power { power } => power.word(),
            _ => self.word(),
        }
    }

    /// Whether it brings a volume into another pool.
    pub fn changes_pool(&self) -> bool {
        matches!(&self.action.verb, Verb::Rename { from } if from.pool != self.action.address.pool)
    }

    /// The word in plans as JSON: `create`, `fetch` for an image.
    pub const fn word(&self) -> &'static str {
        match (&self.action.verb, self.action.address.kind) {
            (Verb::Create, Kind::Image) => "fetch",
            (verb, _) => verb.word(),
        }
    }

    /// Its class.
    pub fn class(&self) -> Allow {
        use manifests::action::Power;
        match &self.action.verb {
            Verb::Create | Verb::Restore | Verb::Adopt => Allow::Create,
            Verb::Forget => Allow::Live,
            Verb::Power {
                power: Power::Start | Power::StartAnew | Power::Unfreeze,
            } => Allow::Live,
            Verb::Power { .. } => Allow::Interrupting,
            Verb::Rebuild | Verb::Replace | Verb::Trash { .. } | Verb::Delete => Allow::Destructive,
            Verb::Update { .. } | Verb::Rename { .. } => match self.effect {
                Some(effect) if effect.destroys() => Allow::Destructive,
                Some(effect) if effect.interrupts() => Allow::Interrupting,
                _ => Allow::Live,
            },
        }
    }

    /// Whether the object is gone afterwards, for good or into the trash.
    pub const fn removes(&self) -> bool {
        matches!(self.action.verb, Verb::Trash { .. } | Verb::Delete)
    }
}

/// Why a step is held or a plan stopped.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Because {
    /// The guard.
    pub code: Code,
    /// Why, in words without a full stop, with the way out where there is one.
    pub message: String,
    /// When it may be done by itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub until: Option<jiff::Timestamp>,
}

/// A step that is not done; the others go on.
#[derive(Debug, Clone, PartialEq)]
pub struct Held {
    /// What would be done. Its `id` and `after` mean nothing.
    pub step: Step,
    /// Every guard that holds it.
    pub because: Vec<Because>,
}

/// Changes that are accepted, or that wait for the object to be stopped, and need nobody's permission: they come into
/// force when it is restarted.
#[derive(Debug, Clone, PartialEq)]
pub struct Waiting {
    /// The object.
    pub address: Address,
    /// What waits.
    pub changes: Vec<PlannedChange>,
    /// Since when; none if it is not recorded yet.
    pub since: Option<jiff::Timestamp>,
}

/// A difference that is told and not touched.
#[derive(Debug, Clone, PartialEq)]
pub struct Told {
    /// The object.
    pub address: Address,
    /// Where it is declared.
    pub origin: Option<Origin>,
    /// What differs.
    pub changes: Vec<FieldChange>,
}

/// Something about an object that a person should know.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Note {
    /// The object.
    pub address: Address,
    /// In words without a full stop.
    pub text: String,
}

/// Fields of an object that could not be read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct NotSeen {
    /// The object.
    pub address: Address,
    /// What could not be read, and why.
    pub unseen: Vec<Unseen>,
}

/// An object that is as wanted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Unchanged {
    /// Its name.
    pub address: Address,
    /// Its identity.
    pub uid: Uid,
}

/// What was applied of a source before.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LastApplied {
    /// The commit.
    pub revision: Option<String>,
    /// When.
    pub at: jiff::Timestamp,
}

/// Where the manifests of a plan came from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PlanSource {
    /// The source.
    pub name: SourceName,
    /// Its folder.
    pub root: PathBuf,
    /// The commit, `+dirty` where files differ from it.
    pub revision: Option<String>,
    /// Where in which repository that folder is; none outside git.
    pub repository: Option<Repository>,
    /// Why this is only a part of the source: then nothing is deleted.
    pub partial: Option<String>,
    /// What was applied of it before.
    pub last_applied: Option<LastApplied>,
}

/// What to do.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// Its name.
    pub id: PlanId,
    /// What identities and digests in it were made from: the name of the plan that it repeats, else its own.
    pub seed: PlanId,
    /// What it is for.
    pub purpose: Purpose,
    /// Where its manifests came from.
    pub source: PlanSource,
    /// The engine: `native`.
    pub engine: String,
    /// The host's name.
    pub host: String,
    /// The state folder for which it was made.
    pub state_id: String,
    /// The generation of the store for which it was made.
    pub generation: u64,
    /// When it was made.
    pub made_at: jiff::Timestamp,
    /// What is done, in an order that respects all prerequisites.
    pub steps: Vec<Step>,
    /// What is not done, and why.
    pub held: Vec<Held>,
    /// What waits for a restart.
    pub waiting: Vec<Waiting>,
    /// Guards that stop the whole plan: nothing is done while one stands.
    pub stopping: Vec<Because>,
    /// Differences that are told and not touched.
    pub told: Vec<Told>,
    /// What else is worth knowing.
    pub notes: Vec<Note>,
    /// What could not be read.
    pub unseen: Vec<NotSeen>,
    /// Objects that are as wanted.
    pub unchanged: usize,
    /// Which ones.
    pub settled: Vec<Unchanged>,
    /// The keyed digests of the secrets that it shows as `(secret #1)` and so on, in the order of their numbers.
    pub secrets: Vec<String>,
    /// Objects that are remembered as ours and neither live nor are wanted: they are forgotten.
    pub gone: Vec<Uid>,
}

impl Plan {
    /// Whether nothing differs: nothing to do and nothing held.
    pub const fn is_empty(&self) -> bool {
        self.steps.is_empty() && self.held.is_empty()
    }

    /// Whether a policy denies a part of it.
    pub fn is_denied(&self) -> bool {
        let mut because = self.held.iter().flat_map(|held| &held.because);
        because.any(|because| because.code == gates::POLICY)
    }

    /// Takes out what is about these objects. Nothing that stays may need it.
    pub fn leave_out(&mut self, objects: &BTreeSet<Address>) {
        let stays = |step: &Step| !objects.contains(step.address());
        self.held.retain(|held| stays(&held.step));
        self.steps.retain(stays);
        let left: BTreeSet<StepId> = self.steps.iter().map(|step| step.id).collect();
        for step in &mut self.steps {
            step.after.retain(|first| left.contains(first));
        }
    }
}

/// What planning needs to know.
pub struct PlanInput<'a> {
    /// The name of the plan.
    pub id: PlanId,
    /// What it is for.
    pub purpose: Purpose,
    /// How all objects stand.
    pub diff: &'a Diff<'a>,
    /// What is wanted.
    pub desired: &'a DesiredSet,
    /// What was seen.
    pub observed: &'a ObservedSet,
    /// What is remembered.
    pub known: &'a Known,
    /// The host.
    pub host: &'a Capabilities,
    /// What a change of a field costs.
    pub effects: &'a dyn Effects,
    /// Weighs the expressions of the policies of `desired`.
    pub rules: &'a dyn Rules,
    /// Guards that a person answers for, for this plan only.
    pub approve: &'a BTreeSet<String>,
    /// The classes of steps that may be done.
    pub allow: &'a BTreeSet<Allow>,
    /// What is deleted is not kept in the trash.
    pub no_trash: bool,
    /// What lies in the trash stays there, also where it is declared again.
    pub no_restore: bool,
    /// Objects that are left alone after failures.
    pub resting: &'a [gates::Resting],
    /// The time.
    pub now: jiff::Timestamp,
}

/// Decides what to do. See the module.
pub fn plan(input: &PlanInput<'_>) -> Plan {
    let found = steps::candidates(input);
    let edges = order::edges(input, &found.steps);
    let verdict = gates::hold(input, &found.steps, &edges);
    let (mut steps, held) = order::arrange(found.steps, &edges, verdict.held);
    let mut notes = found.notes;
    notes.extend(verdict.notes);
    trash::take_down(input, &mut steps);
    let source = &input.desired.source;
    Plan {
        id: input.id,
        seed: input.id,
        purpose: input.purpose,
        source: PlanSource {
            name: source.name.clone(),
            root: source.root.clone(),
            revision: source.revision.clone(),
            repository: source.repository.clone(),
            partial: source.partial.clone(),
            last_applied: input
                .known
                .sources
                .get(&source.name)
                .map(|before| LastApplied {
                    revision: before.revision.clone(),
                    at: before.applied_at,
                }),
        },
        engine: input.host.engine.to_owned(),
        host: input.host.host.clone(),
        state_id: input.host.state_id.clone(),
        generation: input.known.generation,
        made_at: input.now,
        steps,
        held,
        waiting: found.waiting,
        stopping: verdict.stopping,
        told: found.told,
        notes,
        unseen: found.unseen,
        unchanged: found.unchanged.len(),
        settled: found.unchanged,
        secrets: Vec::new(),
        gone: steps::gone(input),
    }
}
