//! Candidates: every step that would bring the world to what is wanted, before guards and order.
//!
//! The candidates of one object stand next to each other, in the order in which they must be done.

use std::collections::HashSet;

use manifests::action::{Action, Power, Verb};
use manifests::change::{Cause, FieldChange};
use manifests::desired::{Readiness, Resource};
use manifests::effect::Effect;
use manifests::effect_table;
use manifests::id::{Address, Mark, Uid};
use manifests::kind::Kind;
use manifests::lifecycle::{OnImageChange, OnRestartNeeded, Prune};
use manifests::observed::Item;
use manifests::pointer::Pointer;
use serde_json::Value;

use super::{
    Expectation, NotSeen, Note, PlanInput, PlannedChange, Purpose, Step, StepId, Told, Unchanged,
    Waiting, explain, trash,
};
use crate::diff::known::Owned;
use crate::diff::{Difference, Verdict, fingerprint, fingerprint_of_orphan, whole};

/// A step that may be done, and the difference from which it comes.
#[derive(Debug, Clone)]
pub(super) struct Candidate {
    pub(super) step: Step,
    /// Its index in the diff.
    pub(super) difference: usize,
}

/// All candidates and what else was found.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub(super) steps: Vec<Candidate>,
    pub(super) waiting: Vec<Waiting>,
    pub(super) told: Vec<Told>,
    pub(super) notes: Vec<Note>,
    pub(super) unseen: Vec<NotSeen>,
    pub(super) unchanged: Vec<Unchanged>,
    /// Names under which this source was applied before.
    known: HashSet<Address>,
}

/// Makes the candidates of all objects.
pub(super) fn candidates(input: &PlanInput<'_>) -> Found {
    let mut found = Found {
        known: input
            .known
            .owned
            .values()
            .filter(|owned| owned.source == input.desired.source.name)
            .map(|owned| owned.address.clone())
            .collect(),
        ..Found::default()
    };
    let keeps_trash = !input.no_trash && trash_remains(input);
    for (index, difference) in input.diff.objects.iter().enumerate() {
        let resource = input
            .desired
            .resources
            .get(&difference.address)
            .filter(|_| difference.verdict != Verdict::Orphaned);
        if !difference.unseen.is_empty() {
            found.unseen.push(NotSeen {
                address: difference.address.clone(),
                unseen: difference.unseen.clone(),
            });
        }
        if !difference.told.is_empty() {
            found.told.push(Told {
                address: difference.address.clone(),
                origin: resource.map(|resource| resource.origin.clone()),
                changes: difference.told.clone(),
            });
        }
        let steps = match resource {
            Some(resource) => {
                let mut steps = wanted(input, resource, difference, &mut found);
                for step in &mut steps {
                    step.waits = waits(resource);
                }
                steps
            }
            None => unwanted(input, difference, keeps_trash, &mut found),
        };
        if let (Verdict::Same, Some(mark)) = (&difference.verdict, difference.mark()) {
            found.unchanged.push(Unchanged {
                address: difference.address.clone(),
                uid: mark.uid,
            });
        }
        found.steps.extend(steps.into_iter().map(|step| Candidate {
            step,
            difference: index,
        }));
    }
    found
}

/// The instances that must be as far as `dependsOn` says before a step of this object begins.
fn waits(resource: &Resource) -> Vec<(Address, Readiness)> {
    resource
        .needs
        .iter()
        .filter(|(address, _)| address.kind == Kind::Instance)
        .cloned()
        .collect()
}

/// Whether something of this source lies in the trash once the plan is done.
fn trash_remains(input: &PlanInput<'_>) -> bool {
    let source = &input.desired.source.name;
    input
        .observed
        .trash
        .iter()
        .any(|trashed| trashed.mark.source == *source)
        || input.diff.objects.iter().any(|difference| {
            difference.verdict == Verdict::Orphaned
                && difference.live.is_some_and(|item| item.complete)
                && matches!(difference.address.kind, Kind::Instance | Kind::Volume)
                && prune_of(input, difference) == Prune::Trash
        })
}

/// Objects that are remembered, that live nowhere and that nobody wants. Nothing is concluded from a partial run, nor
/// where it could not be told whether an object is there.
pub(super) fn gone(input: &PlanInput<'_>) -> Vec<Uid> {
    let source = &input.desired.source;
    if source.partial.is_some() || input.purpose == Purpose::Asked {
        return Vec::new();
    }
    let alive: HashSet<Uid> = input
        .observed
        .items
        .iter()
        .filter_map(|item| item.mark.as_ref())
        .map(|mark| mark.uid)
        .collect();
    input
        .known
        .owned
        .values()
        .filter(|owned| {
            owned.source == source.name
                && !alive.contains(&owned.uid)
                && !input.desired.resources.contains_key(&owned.address)
                && !input.observed.unclear.iter().any(|unclear| {
                    unclear.address == owned.address || unclear.nameless == Some(owned.uid)
                })
        })
        .map(|owned| owned.uid)
        .collect()
}

/// What was remembered for the time when the manifest is gone: on the object, else in the store.
fn prune_of(input: &PlanInput<'_>, difference: &Difference<'_>) -> Prune {
    difference
        .live
        .and_then(|item| item.remembered)
        .or_else(|| owned(input, difference).and_then(|owned| owned.remembered))
        .map_or_else(
            || Prune::default_of(difference.address.kind),
            |remembered| remembered.prune,
        )
}

fn owned<'a>(input: &PlanInput<'a>, difference: &Difference<'_>) -> Option<&'a Owned> {
    difference
        .mark()
        .and_then(|mark| input.known.owned.get(&mark.uid))
}

/// Whether an object was applied to its end before.
fn was_whole(input: &PlanInput<'_>, difference: &Difference<'_>) -> bool {
    owned(input, difference).is_some_and(|owned| owned.spec.is_some())
}

/// A step without particulars.
pub(super) fn bare(
    verb: Verb,
    address: &Address,
    mark: Mark,
    reason: String,
    cause: Cause,
) -> Step {
    Step {
        id: StepId(0),
        action: Action {
            verb,
            address: address.clone(),
            uid: mark.uid,
            mark,
            keep: None,
        },
        after: Vec::new(),
        waits: Vec::new(),
        changes: Vec::new(),
        effect: None,
        reason,
        origin: None,
        cause,
        loss: None,
        expects: Expectation::Anything,
        kept: Vec::new(),
        seen: Value::Null,
    }
}

/// The steps of an object that is wanted.
fn wanted(
    input: &PlanInput<'_>,
    resource: &Resource,
    difference: &Difference<'_>,
    found: &mut Found,
) -> Vec<Step> {
    let address = &resource.address;
    let ours = |uid: Uid| Mark {
        source: input.desired.source.name.clone(),
        uid,
    };
    let new = || ours(Uid::derive(&input.id.0, address));
    let declared = |mut step: Step| {
        step.origin = Some(resource.origin.clone());
        step
    };
    let seen =
        |item: &Item| Expectation::Managed(fingerprint(input.id.0, item, &difference.changes));
    match &difference.verdict {
        Verdict::Same | Verdict::Orphaned => Vec::new(),
        Verdict::Missing { trashed } => {
            if let trash::Found::One(one, changes) = trash::look_for(input, resource, trashed) {
                let mut step = declared(bare(
                    Verb::Restore,
                    address,
                    ours(one.trashed.mark.uid),
                    explain::restored(&one.trashed, input.now),
                    Cause::Edited,
                ));
                step.expects = Expectation::Absent;
                step.changes = changes;
                step.kept = one
                    .judged
                    .as_ref()
                    .map(|judged| judged.kept.clone())
                    .unwrap_or_default();
                return vec![step];
            }
            let was_there = found.known.contains(address);
            let cause = if was_there {
                Cause::Drifted
            } else {
                Cause::Edited
            };
            let mut step = declared(bare(
                Verb::Create,
                address,
                new(),
                explain::missing(was_there),
                cause,
            ));
            step.expects = Expectation::Absent;
            vec![step]
        }
        Verdict::Incomplete => {
            // What was whole once was not cut short: somebody took a part of it away.
            let (reason, cause) = if was_whole(input, difference) {
                ("it is no longer whole", Cause::Drifted)
            } else {
                ("declared; its making was cut short", Cause::Edited)
            };
            let mut step = declared(bare(
                Verb::Create,
                address,
                difference.mark().cloned().unwrap_or_else(new),
                reason.to_owned(),
                cause,
            ));
            // Nothing brings back what a volume held, and whoever has put it elsewhere for a while wants no empty one.
            if cause == Cause::Drifted && address.kind == Kind::Volume {
                step.effect = Some(Effect::DataLoss);
            }
            if let Some(item) = difference.live {
                step.expects = seen(item);
            }
            vec![step]
        }
        Verdict::Unclear(_) => vec![declared(bare(
            Verb::Create,
            address,
            new(),
            "declared".to_owned(),
            Cause::Edited,
        ))],
        Verdict::Foreign | Verdict::OtherSource(_) => {
            // An identity that the engine keeps for it is the one under which the engine finds it again.
            let mark = difference.live.and_then(Item::uid).map_or_else(new, ours);
            let mut step = declared(bare(
                Verb::Adopt,
                address,
                mark.clone(),
                "declared and already there".to_owned(),
                Cause::Edited,
            ));
            let mut steps = Vec::new();
            if let Some(item) = difference.live {
                step.expects = seen(item);
                steps.push(step);
                steps.extend(changes(input, resource, difference, item, &mark, found));
            }
            steps
        }
        Verdict::Different => match (difference.live, difference.mark()) {
            (Some(item), Some(mark)) => changes(input, resource, difference, item, mark, found),
            _ => Vec::new(),
        },
    }
}

/// What its health checks say, in small letters; none where it has none.
pub(crate) fn health_of(item: &Item) -> Option<String> {
    let word = match item.status.get("health")? {
        Value::Bool(true) => "healthy",
        Value::Bool(false) => "unhealthy",
        Value::String(word) => word,
        Value::Object(fields) => fields.get("status").and_then(Value::as_str)?,
        _ => return None,
    };
    Some(word.to_ascii_lowercase())
}

/// The state of a live instance; none for what cannot run.
pub(crate) fn state_of(item: &Item) -> Option<String> {
    if item.address.kind != Kind::Instance {
        return None;
    }
    let said = item.status.get("state").and_then(Value::as_str);
    match said {
        Some(state) => Some(state.to_owned()),
        None => item
            .spec
            .to_value()
            .get("state")
            .and_then(Value::as_str)
            .map(str::to_owned),
    }
}

/// The steps that bring a live object to what is wanted, in the order in which they must be done.
fn changes(
    input: &PlanInput<'_>,
    resource: &Resource,
    difference: &Difference<'_>,
    item: &Item,
    mark: &Mark,
    found: &mut Found,
) -> Vec<Step> {
    let address = &resource.address;
    let state_path = Pointer::new("/spec/state");
    let (power, fields): (Vec<&FieldChange>, Vec<&FieldChange>) = difference
        .changes
        .iter()
        .partition(|change| address.kind == Kind::Instance && change.path == state_path);
    let power = power.first().copied();
    let wanted_state = power.and_then(|change| change.after.as_str());
    let state = state_of(item);
    // What interrupts a running instance is live on one that is stopped, or is stopped first.
    let at_rest = state.as_deref().is_some_and(|state| state == "Stopped")
        || wanted_state == Some("Stopped")
        || item.status.get("inUse") == Some(&Value::Bool(false));
    let priced = |change: &FieldChange| {
        let effect = if change.path.as_str().starts_with("/lifecycle") {
            Effect::Live
        } else if change.cause == Cause::Image {
            match resource.lifecycle.on_image_change {
                OnImageChange::Recreate => Effect::Replace,
                OnImageChange::Ignore | OnImageChange::Rebuild => Effect::Rebuild,
            }
        } else {
            input.effects.effect(input.host, resource, item, change)
        };
        let mut planned = PlannedChange {
            change: change.clone(),
            effect,
            origin: Some(resource.origin_of(&change.path)),
        };
        if at_rest && effect.interrupts() {
            planned.effect = Effect::Live;
        } else if pending_since(owned(input, difference), &planned).is_some() {
            // Whatever the table says: the engine accepted it for the next start.
            planned.effect = Effect::NextStart;
        }
        planned
    };
    let make = |verb: Verb, planned: Vec<PlannedChange>| {
        let cause = planned
            .iter()
            .map(|planned| planned.change.cause)
            .min()
            .unwrap_or(Cause::Edited);
        let reasons: Vec<FieldChange> = planned.iter().map(|p| p.change.clone()).collect();
        let mut step = bare(
            verb,
            address,
            mark.clone(),
            explain::changed(&reasons),
            cause,
        );
        step.effect = planned.iter().map(|planned| planned.effect).max();
        if step.effect.is_some_and(Effect::destroys) {
            step.loss = Some(item.holds);
        }
        step.changes = planned;
        step.origin = Some(resource.origin.clone());
        step.expects = Expectation::Managed(fingerprint(input.id.0, item, &difference.changes));
        step.kept = difference.kept.clone();
        step
    };
    let update = |planned: Vec<PlannedChange>| {
        let changes = planned.iter().map(|p| p.change.clone()).collect();
        make(Verb::Update { changes }, planned)
    };

    let mut steps = Vec::new();
    let mut fields = fields;
    if let Some(from) = difference.renamed_from() {
        // The pool of a volume is a part of what it is called.
        let pool = Pointer::new("/spec/pool");
        let is_pool = |change: &FieldChange| address.kind == Kind::Volume && change.path == pool;
        let (moves, others) = fields.into_iter().partition(|change| is_pool(change));
        fields = others;
        let moves: Vec<&FieldChange> = moves;
        let mut planned: Vec<_> = moves.into_iter().map(&priced).collect();
        if from.name != address.name || planned.is_empty() {
            let asked = resource
                .previous
                .iter()
                .any(|previous| previous.name == from.name);
            planned.insert(
                0,
                priced(&FieldChange {
                    path: Pointer::new("/metadata/name"),
                    before: Value::String(from.name.clone()),
                    after: Value::String(address.name.clone()),
                    cause: if asked { Cause::Edited } else { Cause::Drifted },
                }),
            );
        }
        steps.push(make(Verb::Rename { from: from.clone() }, planned));
    }
    if wanted_state == Some("Stopped") {
        steps.extend(
            power.map(|change| make(power_verb(Power::Stop), vec![live(resource, change)])),
        );
    }

    let mut by_effect: Vec<(Effect, Vec<PlannedChange>)> = Vec::new();
    for planned in fields.iter().map(|change| priced(change)) {
        let why = effect_table::because(&resource.spec, &planned.change, input.host);
        if let Some(why) = why.filter(|_| planned.effect == Effect::NextStart) {
            found.notes.push(Note {
                address: address.clone(),
                text: format!("{}: {why}", planned.change.path.dotted()),
            });
        }
        match by_effect.iter_mut().find(|(e, _)| *e == planned.effect) {
            Some((_, list)) => list.push(planned),
            None => by_effect.push((planned.effect, vec![planned])),
        }
    }
    by_effect.sort_by_key(|(effect, _)| *effect);
    let restart = resource.lifecycle.on_restart_needed;
    let mut restart_for: Vec<PlannedChange> = Vec::new();
    for (effect, planned) in by_effect {
        match effect {
            Effect::Live | Effect::Replug | Effect::DataLoss | Effect::Forbidden => {
                steps.push(update(planned));
            }
            Effect::NextStart => {
                let owned = owned(input, difference);
                let (recorded, fresh): (Vec<_>, Vec<_>) = planned
                    .into_iter()
                    .partition(|planned| pending_since(owned, planned).is_some());
                if restart == OnRestartNeeded::Wait {
                    wait(found, address, owned, &recorded);
                } else {
                    restart_for.extend(recorded);
                    restart_for.extend(fresh.iter().cloned());
                }
                if !fresh.is_empty() {
                    steps.push(update(fresh));
                }
            }
            Effect::StopNeeded => {
                // Nobody stops those who use a volume for the sake of the volume.
                if restart == OnRestartNeeded::Wait || address.kind != Kind::Instance {
                    wait(found, address, None, &planned);
                } else {
                    steps.push(update(planned));
                }
            }
            Effect::Rebuild | Effect::Replace => {
                let verb = match effect {
                    Effect::Rebuild => Verb::Rebuild,
                    _ => Verb::Replace,
                };
                let mut step = make(verb, planned);
                step.action.keep = trash::keep(input, address);
                steps.push(step);
            }
        }
    }
    if !restart_for.is_empty() && wanted_state.is_none() {
        steps.push(make(power_verb(Power::Restart), restart_for));
    }
    if let (Some(change), Some(wanted)) = (power, wanted_state) {
        let verbs: &[Power] = match (state.as_deref(), wanted) {
            (Some("Frozen"), "Running") => &[Power::Unfreeze],
            (_, "Running") => &[Power::Start],
            (Some("Stopped"), "Frozen") => &[Power::Start, Power::Freeze],
            (_, "Frozen") => &[Power::Freeze],
            _ => &[],
        };
        steps.extend(
            verbs
                .iter()
                .map(|power| make(power_verb(*power), vec![live(resource, change)])),
        );
    }
    steps
}

const fn power_verb(power: Power) -> Verb {
    Verb::Power { power }
}

fn live(resource: &Resource, change: &FieldChange) -> PlannedChange {
    PlannedChange {
        change: change.clone(),
        effect: Effect::Live,
        origin: Some(resource.origin_of(&change.path)),
    }
}

fn pending_since(owned: Option<&Owned>, planned: &PlannedChange) -> Option<jiff::Timestamp> {
    owned?
        .restart_pending
        .iter()
        .find(|pending| {
            pending.path == planned.change.path && pending.wanted == planned.change.after
        })
        .map(|pending| pending.since)
}

fn wait(found: &mut Found, address: &Address, owned: Option<&Owned>, changes: &[PlannedChange]) {
    if changes.is_empty() {
        return;
    }
    found.waiting.push(Waiting {
        address: address.clone(),
        since: changes
            .iter()
            .filter_map(|planned| pending_since(owned, planned))
            .min(),
        changes: changes.to_vec(),
    });
}

/// The steps of an object that is no longer wanted.
fn unwanted(
    input: &PlanInput<'_>,
    difference: &Difference<'_>,
    keeps_trash: bool,
    found: &mut Found,
) -> Vec<Step> {
    let (Some(item), Some(mark)) = (difference.live, difference.mark()) else {
        return Vec::new();
    };
    let address = &item.address;
    if let Verdict::Unclear(why) = &difference.verdict {
        found.notes.push(Note {
            address: address.clone(),
            text: format!("left alone: {why}"),
        });
        return Vec::new();
    }
    let destroy = input.purpose == Purpose::Destroy;
    let (reason, cause) = if destroy {
        ("asked for".to_owned(), Cause::Asked)
    } else {
        let origin = owned(input, difference).and_then(|owned| owned.origin.as_ref());
        (explain::orphaned(origin), Cause::Orphaned)
    };
    let make = |verb: Verb| {
        let mut step = bare(verb, address, mark.clone(), reason.clone(), cause);
        step.expects = Expectation::Whole(fingerprint_of_orphan(input.id.0, item));
        step.seen = whole(item);
        if step.removes() {
            step.loss = Some(item.holds);
        }
        if matches!(step.action.verb, Verb::Delete) && gates_data(item) {
            step.effect = Some(Effect::DataLoss);
        }
        step
    };
    let trashable = matches!(address.kind, Kind::Instance | Kind::Volume);
    let prune = if item.complete || was_whole(input, difference) {
        prune_of(input, difference)
    } else {
        Prune::Delete
    };
    let kept_for_trash = destroy && keeps_trash && address.kind == Kind::StoragePool;
    match prune {
        Prune::Trash | Prune::Delete if kept_for_trash => {
            found.notes.push(kept_for_the_trash(address));
            Vec::new()
        }
        Prune::Trash if trashable && !input.no_trash => vec![make(Verb::Trash {
            at: input.now,
            expires_at: trash::expiry(input),
        })],
        Prune::Trash | Prune::Delete => vec![make(Verb::Delete)],
        // Asked to take down all that it owns, a source lets go of nothing but what its trash still needs.
        _ if destroy && keeps_trash && !trashable => {
            found.notes.push(kept_for_the_trash(address));
            Vec::new()
        }
        _ if destroy && trashable && !input.no_trash => vec![make(Verb::Trash {
            at: input.now,
            expires_at: trash::expiry(input),
        })],
        _ if destroy => vec![make(Verb::Delete)],
        Prune::Stop => {
            let stop = state_of(item)
                .filter(|state| state != "Stopped")
                .map(|_| make(power_verb(Power::Stop)));
            stop.into_iter().chain([make(Verb::Forget)]).collect()
        }
        Prune::Orphan => vec![make(Verb::Forget)],
    }
}

fn kept_for_the_trash(address: &Address) -> Note {
    Note {
        address: address.clone(),
        text: "kept: the trash may need it; `keel trash empty` first".to_owned(),
    }
}

/// Whether data of its own is lost with it.
pub(super) fn gates_data(item: &Item) -> bool {
    matches!(
        item.address.kind,
        Kind::Instance | Kind::Volume | Kind::StoragePool
    ) || item.holds.snapshots > 0
}
