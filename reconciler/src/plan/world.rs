//! [`World`]: all that a plan is made from besides what is wanted. Whether it was just looked at or comes from a file
//! makes no difference to what is decided.

use std::collections::BTreeSet;

use manifests::change::FieldChange;
use manifests::desired::{DesiredSet, Resource};
use manifests::effect::Effect;
use manifests::feature::Capabilities;
use manifests::id::{Mark, Uid};
use manifests::observed::{Holds, Item, ObservedSet, Remembered};
use serde_json::Value;

use super::gates::Resting;
use super::rules::Rules;
use super::{Allow, Plan, PlanId, PlanInput, Purpose, plan};
use crate::diff::diff;
use crate::diff::known::{Known, KnownSource, Owned};

/// What a person said about a plan.
#[derive(Debug, Clone)]
pub struct PlanOptions {
    /// Guards that they answer for.
    pub approve: BTreeSet<String>,
    /// The classes of steps that may be done.
    pub allow: BTreeSet<Allow>,
    /// What is deleted is not kept.
    pub no_trash: bool,
    /// What lies in the trash stays there.
    pub no_restore: bool,
    /// What it is for.
    pub purpose: Purpose,
    /// Objects that are left alone after failures.
    pub resting: Vec<Resting>,
    /// The saved plan that is made again: identities and digests come out as they are there.
    pub repeats: Option<PlanId>,
}

impl Default for PlanOptions {
    fn default() -> Self {
        Self {
            approve: BTreeSet::new(),
            allow: Allow::ALL.into_iter().collect(),
            no_trash: false,
            no_restore: false,
            purpose: Purpose::Apply,
            resting: Vec::new(),
            repeats: None,
        }
    }
}

/// What is remembered, what was seen, and what the host can do.
#[derive(Debug, Clone, PartialEq)]
pub struct World {
    /// What is remembered; what a database lost is filled up from the marks on what lives.
    pub known: Known,
    /// What was seen.
    pub observed: ObservedSet,
    /// What the host can do.
    pub host: Capabilities,
}

impl World {
    /// For those who only look: what objects were told to be is left out, of which there is a manifest for each.
    #[must_use]
    pub fn as_seen(mut self) -> Self {
        for item in &mut self.observed.items {
            item.last_told = None;
        }
        for owned in self.known.owned.values_mut() {
            owned.spec = None;
        }
        self
    }

    /// The world in which all that a set wants was applied and nobody touched it since.
    pub fn just_applied(desired: &DesiredSet, host: Capabilities, now: jiff::Timestamp) -> Self {
        let source = &desired.source;
        let mut world = Self {
            known: Known::default(),
            observed: ObservedSet::default(),
            host,
        };
        let applied = KnownSource {
            name: source.name.clone(),
            root: source.root.clone(),
            revision: source.revision.clone(),
            repository: source.repository.clone(),
            applied_at: now,
        };
        world.known.sources.insert(source.name.clone(), applied);
        for resource in desired.resources.values() {
            let uid = Uid::derive(&uuid::Uuid::nil(), &resource.address);
            let mark = Mark {
                source: source.name.clone(),
                uid,
            };
            let remembered = Some(Remembered {
                prune: resource.lifecycle.prune,
                protect: resource.lifecycle.protect,
            });
            let owned = Owned {
                uid,
                source: source.name.clone(),
                address: resource.address.clone(),
                spec: Some(resource.spec.to_value().to_string()),
                origin: Some(resource.origin.clone()),
                labels: Some(resource.labels.clone()),
                needs: resource
                    .needs
                    .iter()
                    .map(|(need, _)| need.clone())
                    .collect(),
                remembered,
                restart_pending: Vec::new(),
                drift: Vec::new(),
            };
            world.known.owned.insert(uid, owned);
            world.observed.items.push(Item {
                address: resource.address.clone(),
                mark: Some(mark),
                complete: true,
                spec: resource.spec.clone(),
                last_told: None,
                unseen: Vec::new(),
                remembered,
                holds: Holds::default(),
                status: Value::Null,
            });
        }
        world
    }

    /// Decides what to do. The identities of new objects and the digests of what was seen are made from the name of the
    /// plan, or of the one that it repeats: the same question with the same one has the same answer. `rules` weighs the
    /// policies of `desired`.
    pub fn plan(
        &self,
        id: PlanId,
        desired: &DesiredSet,
        options: &PlanOptions,
        rules: &dyn Rules,
        now: jiff::Timestamp,
    ) -> Plan {
        let diff = diff(desired, &self.observed, &self.known, now);
        let plan = plan(&PlanInput {
            id: options.repeats.unwrap_or(id),
            purpose: options.purpose,
            diff: &diff,
            desired,
            observed: &self.observed,
            known: &self.known,
            host: &self.host,
            effects: &cost,
            rules,
            approve: &options.approve,
            allow: &options.allow,
            no_trash: options.no_trash,
            no_restore: options.no_restore,
            resting: &options.resting,
            now,
        });
        Plan { id, ..plan }
    }
}

/// What a change costs on this engine.
fn cost(host: &Capabilities, resource: &Resource, _: &Item, change: &FieldChange) -> Effect {
    manifests::effect_table::effect_of(&resource.spec, change, host)
}
