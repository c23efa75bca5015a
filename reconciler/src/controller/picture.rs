//! [`Picture`]: what was seen when the controller last looked, for those who want to know. Whoever asks causes no look.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use jiff::Timestamp;
use manifests::change::{Cause, FieldChange};
use manifests::desired::{DesiredSet, Resource};
use manifests::diagnostic::Origin;
use manifests::id::{Address, SourceName};
use manifests::pointer::Pointer;
use serde_json::Value;

use super::in_force::InForce;
use crate::diff::{Difference, Verdict, diff};
use crate::plan::{Plan, World, digest};
use crate::secrets::masks::Masks;

/// How an object stands to its manifest, in one word.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, schemars::JsonSchema,
)]
#[serde(rename_all = "camelCase")]
pub enum Accord {
    /// It is as its manifest says.
    Synced,
    /// Its manifest says something else by now, and that was not done yet.
    Changed,
    /// It is wanted and was never there.
    New,
    /// The world changed it.
    Drifted,
    /// It was there and is gone.
    Missing,
    /// Its making was cut short.
    Incomplete,
    /// It is ours and no longer wanted.
    Orphaned,
    /// What lives under its name is another source's or nobody's.
    Foreign,
    /// It could not be told whether it is there.
    Unclear,
}

impl Accord {
    /// The word.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Synced => "synced",
            Self::Changed => "changed",
            Self::New => "new",
            Self::Drifted => "drifted",
            Self::Missing => "missing",
            Self::Incomplete => "incomplete",
            Self::Orphaned => "orphaned",
            Self::Foreign => "foreign",
            Self::Unclear => "unclear",
        }
    }

    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::Synced,
        Self::Changed,
        Self::New,
        Self::Drifted,
        Self::Missing,
        Self::Incomplete,
        Self::Orphaned,
        Self::Foreign,
        Self::Unclear,
    ];
}

/// A field that is not as its manifest says. Sealed texts are masked.
#[derive(Debug, Clone, PartialEq)]
pub struct Differing {
    /// Which one.
    pub path: Pointer,
    /// What its manifest says.
    pub desired: Value,
    /// What is there; null: nothing.
    pub live: Value,
    /// Who is behind it.
    pub cause: Cause,
    /// It is told and not touched.
    pub only_told: bool,
    /// The line that declares it.
    pub origin: Origin,
}

/// How one object stands.
#[derive(Debug, Clone, PartialEq)]
pub struct Stands {
    /// In a word.
    pub accord: Accord,
    /// Why, where the word does not say it.
    pub why: Option<String>,
    /// Under which name it lives; none: nothing lives there.
    pub live: Option<Address>,
    /// What is not as wanted.
    pub fields: Vec<Differing>,
    /// How many fields are left as they live by a rule.
    pub kept: usize,
}

/// What was seen when one source was looked at.
#[derive(Debug)]
pub struct Looked {
    /// When.
    pub at: Timestamp,
    /// What was in force.
    pub in_force: Arc<InForce>,
    /// What was left to do.
    pub plan: Plan,
    /// By which that is approved.
    pub digest: String,
    /// How its objects stand.
    pub objects: BTreeMap<Address, Stands>,
}

/// All that was seen when the controller last looked.
#[derive(Debug, Clone, Default)]
pub struct Picture {
    /// The host; none before the first look.
    pub world: Option<Arc<World>>,
    /// When that was.
    pub at: Option<Timestamp>,
    /// Sources, by their names in the settings.
    pub sources: BTreeMap<SourceName, Arc<Looked>>,
}

impl Looked {
    /// Compares what was seen with what is wanted.
    pub fn new(
        world: &World,
        in_force: Arc<InForce>,
        desired: &DesiredSet,
        plan: Plan,
        at: Timestamp,
    ) -> Self {
        let compared = diff(desired, &world.observed, &world.known, at);
        let mut masks = Masks::default();
        let mut was_there = std::collections::BTreeSet::new();
        for owned in world.known.owned.values() {
            if owned.spec.is_some() && owned.source == desired.source.name {
                was_there.insert(&owned.address);
            }
        }
        let objects = compared.objects.iter().map(|difference| {
            let resource = desired.resources.get(&difference.address);
            let was_there = was_there.contains(&difference.address);
            let stands = stands(difference, resource, was_there, &mut masks);
            (difference.address.clone(), stands)
        });
        Self {
            at,
            objects: objects.collect(),
            digest: digest(&plan),
            in_force,
            plan,
        }
    }
}

fn stands(
    difference: &Difference<'_>,
    resource: Option<&Resource>,
    was_there: bool,
    masks: &mut Masks,
) -> Stands {
    let mut why = None;
    let drifted = |all: &[FieldChange]| all.iter().any(|change| change.cause == Cause::Drifted);
    let accord = match &difference.verdict {
        Verdict::Missing { .. } if was_there => Accord::Missing,
        Verdict::Missing { .. } => Accord::New,
        Verdict::Incomplete => Accord::Incomplete,
        Verdict::Orphaned => Accord::Orphaned,
        Verdict::Foreign => Accord::Foreign,
        Verdict::OtherSource(owner) => {
            why = Some(format!("it belongs to the source {owner}"));
            Accord::Foreign
        }
        Verdict::Unclear(because) => {
            why = Some(because.clone());
            Accord::Unclear
        }
        Verdict::Same | Verdict::Different
            if drifted(&difference.changes) || drifted(&difference.told) =>
        {
            Accord::Drifted
        }
        Verdict::Same => Accord::Synced,
        Verdict::Different => Accord::Changed,
    };
    let field = |change: &FieldChange, only_told: bool, masks: &mut Masks| {
        let mut field = Differing {
            path: change.path.clone(),
            desired: change.after.clone(),
            live: change.before.clone(),
            cause: change.cause,
            only_told,
            origin: resource.map_or_else(Origin::default, |one| one.origin_of(&change.path)),
        };
        masks.mask(&mut field.desired);
        masks.mask(&mut field.live);
        field
    };
    let mut fields = Vec::new();
    for change in &difference.changes {
        fields.push(field(change, false, masks));
    }
    for change in &difference.told {
        fields.push(field(change, true, masks));
    }
    Stands {
        accord,
        why,
        live: difference.live.map(|item| item.address.clone()),
        fields,
        kept: difference.kept.len(),
    }
}

/// The newest picture, for the one who makes it and those who look.
#[derive(Debug, Default)]
pub struct Pictures(Mutex<Arc<Picture>>);

impl Pictures {
    /// The newest one.
    pub fn newest(&self) -> Arc<Picture> {
        Arc::clone(&self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// A source was looked at. Both looks are told, the one before and the one that is the newest by then.
    pub fn put(
        &self,
        source: &SourceName,
        world: World,
        looked: Looked,
        told: impl FnOnce(Option<&Looked>, &Looked),
    ) {
        let looked = Arc::new(looked);
        let before = self.replace(source, world, Arc::clone(&looked));
        told(before.as_deref(), &looked);
    }

    fn replace(
        &self,
        source: &SourceName,
        world: World,
        looked: Arc<Looked>,
    ) -> Option<Arc<Looked>> {
        let mut newest = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut next = Picture::clone(&newest);
        next.at = Some(looked.at);
        next.world = Some(Arc::new(world.as_seen()));
        let before = next.sources.insert(source.clone(), looked);
        *newest = Arc::new(next);
        before
    }
}
