//! What is started after a start of the host: networks first, then instances by priority, in batches.
//!
//! No manifest is read: what each object should be is what the engine was last told.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use manifests::action::{Power, Verb};
use manifests::desired::{Provenance, Readiness, Resource};
use manifests::diagnostic::Origin;
use manifests::effect::Effect;
use manifests::id::{Address, Mark, SourceName, Uid};
use manifests::instance::boot::Autostart;
use manifests::kind::{Kind, Spec};
use manifests::kinds::instance::{Instance, PowerState};
use manifests::lifecycle::Lifecycle;
use manifests::observed::{Item, ObservedSet};

use super::{Expectation, PlannedChange, Step, StepId, order, state_of};
use crate::diff::known::Known;

/// What is done together; the next batch begins when all of it ended and the pause is over.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Batch {
    /// Numbered from 1, in an order that respects what each needs.
    pub steps: Vec<Step>,
    /// What the networks among them should be.
    pub resources: Vec<Resource>,
    /// The pause afterwards.
    pub pause: Duration,
}

/// What a start of the host asks for.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Boot {
    /// In this order.
    pub batches: Vec<Batch>,
    /// Instances that should run and do.
    pub runs: Vec<Address>,
    /// Instances that should run and are not started, with the reason.
    pub left: Vec<(Address, String)>,
}

/// An instance that is to be started.
struct Start<'a> {
    item: &'a Item,
    mark: Mark,
    meant: &'a Instance,
    needs: BTreeSet<Uid>,
    priority: i32,
}

/// Decides. Total, and the same answer to the same question; on a host where all is as it should be there is no batch.
pub fn boot(observed: &ObservedSet, known: &Known, now: jiff::Timestamp) -> Boot {
    let mut boot = Boot::default();
    let mut starts = starts(observed, known, now, &mut boot);
    lift(&mut starts);
    starts.sort_by(|a, b| {
        let order = |start: &Start<'_>| (-i64::from(start.priority), start.item.address.clone());
        order(a).cmp(&order(b))
    });
    let mut batch = networks(observed);
    let mut priority = None;
    for start in needs_first(starts) {
        let next = priority.is_some_and(|before| before != start.priority);
        if next || !batch.pause.is_zero() {
            boot.batches.push(std::mem::take(&mut batch));
        }
        priority = Some(start.priority);
        batch.pause = Duration::from_secs(start.meant.boot.delay.seconds());
        add(&mut batch, &start);
    }
    if !batch.steps.is_empty() {
        boot.batches.push(batch);
    }
    boot
}

/// The instances that should run and do not.
fn starts<'a>(
    observed: &'a ObservedSet,
    known: &Known,
    now: jiff::Timestamp,
    boot: &mut Boot,
) -> Vec<Start<'a>> {
    let mut starts = Vec::new();
    for item in &observed.items {
        let (Some(Spec::Instance(meant)), Some(uid)) = (&item.last_told, item.uid()) else {
            continue;
        };
        let address = item.address.clone();
        let should = match (meant.boot.autostart, meant.state.0) {
            (Autostart::Never, _) => false,
            (Autostart::Always, state) => state != Some(PowerState::Stopped),
            (Autostart::LastState, _) => item.status["lastState"] == "Running",
        };
        if !should {
            continue;
        }
        if state_of(item).is_none_or(|state| state != "Stopped") {
            boot.runs.push(address);
        } else if !item.complete {
            let why = "its making was cut short: the next apply ends it".to_owned();
            boot.left.push((address, why));
        } else if let Some(hold) = known.hold(&uid, now) {
            let why = format!("stopped by hand until {}: {}", hold.until, hold.reason);
            boot.left.push((address, why));
        } else {
            let mark = item.mark.clone().unwrap_or_else(|| Mark {
                source: SourceName::unnamed(),
                uid,
            });
            starts.push(Start {
                item,
                mark,
                meant,
                needs: needs(observed, known, &uid),
                priority: meant.boot.priority,
            });
        }
    }
    starts
}

/// The instances that one was last applied with as what it needs.
pub(super) fn needs(observed: &ObservedSet, known: &Known, uid: &Uid) -> BTreeSet<Uid> {
    let Some(owned) = known.owned.get(uid) else {
        return BTreeSet::new();
    };
    let needed = observed
        .items
        .iter()
        .filter(|item| item.address.kind == Kind::Instance && owned.needs.contains(&item.address));
    needed
        .filter_map(Item::uid)
        .filter(|need| need != uid)
        .collect()
}

/// What an instance needs starts no later than it, whatever its own priority.
fn lift(starts: &mut [Start<'_>]) {
    // A chain of needs is at most as long as there are instances.
    for _ in 0..starts.len() {
        let mut least: BTreeMap<Uid, i32> = BTreeMap::new();
        for start in starts.iter() {
            for need in &start.needs {
                let priority = least.entry(*need).or_insert(start.priority);
                *priority = start.priority.max(*priority);
            }
        }
        let mut lifted = false;
        for start in starts.iter_mut() {
            let least = least.get(&start.mark.uid).copied();
            if let Some(least) = least.filter(|least| *least > start.priority) {
                start.priority = least;
                lifted = true;
            }
        }
        if !lifted {
            return;
        }
    }
}

/// The same order, but what an instance needs comes before it. A circle is broken at its first instance.
fn needs_first(mut starts: Vec<Start<'_>>) -> Vec<Start<'_>> {
    let mut open: BTreeSet<Uid> = starts.iter().map(|start| start.mark.uid).collect();
    let mut sorted = Vec::with_capacity(starts.len());
    while !starts.is_empty() {
        let free = |start: &Start<'_>| start.needs.is_disjoint(&open);
        let next = starts.iter().position(free).unwrap_or(0);
        let start = starts.remove(next);
        open.remove(&start.mark.uid);
        sorted.push(start);
    }
    sorted
}

/// The networks that are not as the engine was told: bridges, rules and servers are gone after a start of the host.
fn networks(observed: &ObservedSet) -> Batch {
    let mut batch = Batch::default();
    for item in &observed.items {
        let (Kind::Network, Some(meant), Some(mark)) =
            (item.address.kind, &item.last_told, &item.mark)
        else {
            continue;
        };
        let changes = meant.compare(&item.spec);
        let verb = if !item.complete {
            Verb::Create
        } else if changes.is_empty() {
            continue;
        } else {
            Verb::Update {
                changes: changes.clone(),
            }
        };
        let mut step = Step::asked(verb, &item.address, mark, Expectation::Anything);
        "not as it was before the host started".clone_into(&mut step.reason);
        if matches!(step.action.verb, Verb::Update { .. }) {
            step.effect = Some(Effect::Live);
            step.changes = changes
                .into_iter()
                .map(|change| PlannedChange {
                    change,
                    effect: Effect::Live,
                    origin: None,
                })
                .collect();
        }
        number(&mut step, batch.steps.len());
        batch.steps.push(step);
        batch.resources.push(resource(item, meant));
    }
    batch
}

/// An object as the engine was told, in the words of a plan.
fn resource(item: &Item, meant: &Spec) -> Resource {
    let mut lifecycle = Lifecycle::default_of(item.address.kind);
    if let Some(remembered) = item.remembered {
        lifecycle.prune = remembered.prune;
        lifecycle.protect = remembered.protect;
    }
    Resource {
        address: item.address.clone(),
        spec: meant.clone(),
        labels: BTreeMap::new(),
        annotations: BTreeMap::new(),
        lifecycle,
        previous: Vec::new(),
        needs: Vec::new(),
        origin: Origin::default(),
        provenance: Provenance::default(),
    }
}

/// Adds the start of an instance, after the networks that it joins and the instances that it needs.
fn add(batch: &mut Batch, start: &Start<'_>) {
    let powers: &[Power] = match start.meant.state.0 {
        Some(PowerState::Frozen) => &[Power::Start, Power::Freeze],
        _ => &[Power::Start],
    };
    let joined: Vec<Address> = start
        .item
        .spec
        .references()
        .iter()
        .flat_map(|reference| order::places(&start.item.address, reference))
        .collect();
    let first =
        |step: &&Step| joined.contains(step.address()) || start.needs.contains(&step.action.uid);
    let mut after: Vec<StepId> = batch.steps.iter().filter(first).map(|s| s.id).collect();
    let waits: Vec<_> = batch
        .steps
        .iter()
        .filter(|step| start.needs.contains(&step.action.uid))
        .map(|step| (step.address().clone(), Readiness::Running))
        .collect();
    for power in powers {
        let verb = Verb::Power { power: *power };
        let address = &start.item.address;
        let mut step = Step::asked(verb, address, &start.mark, Expectation::Anything);
        "starts with the host".clone_into(&mut step.reason);
        step.after = after;
        step.waits.clone_from(&waits);
        number(&mut step, batch.steps.len());
        after = vec![step.id];
        batch.steps.push(step);
    }
}

pub(super) fn number(step: &mut Step, before: usize) {
    step.id = StepId(u32::try_from(before + 1).unwrap_or(u32::MAX));
}

#[cfg(test)]
pub(super) mod tests {
    use manifests::observed::Holds;
    use serde_json::{Value, json};

    use super::*;
    use crate::diff::known::{Hold, Owned};

    fn item(kind: Kind, name: &str, told: Value, seen: Value, status: Value) -> Item {
        let address = Address::new(kind, name);
        let spec = |value| Spec::deserialize(kind, value).expect("a spec");
        Item {
            mark: Some(Mark {
                source: SourceName::new("edge"),
                uid: Uid::derive(&uuid::Uuid::nil(), &address),
            }),
            address,
            complete: true,
            spec: spec(seen),
            last_told: Some(spec(told)),
            unseen: Vec::new(),
            remembered: None,
            holds: Holds::default(),
            status,
        }
    }

    pub(in crate::plan) fn instance(name: &str, spec: Value, last: &str, now: &str) -> Item {
        let status = json!({"lastState": last, "state": now});
        item(Kind::Instance, name, spec.clone(), spec, status)
    }

    /// An object that was applied with the need of an instance.
    pub(in crate::plan) fn owned(uid: Uid, address: &Address, need: &str) -> Owned {
        Owned {
            uid,
            source: SourceName::new("edge"),
            address: address.clone(),
            spec: None,
            origin: None,
            labels: None,
            needs: vec![Address::new(Kind::Instance, need)],
            remembered: None,
            restart_pending: Vec::new(),
            drift: Vec::new(),
        }
    }

    fn decided(items: Vec<Item>, known: &Known) -> Boot {
        let observed = ObservedSet {
            items,
            ..ObservedSet::default()
        };
        boot(&observed, known, jiff::Timestamp::UNIX_EPOCH)
    }

    /// `START a < network/lan, FREEZE a` of each batch.
    fn told(boot: &Boot) -> Vec<String> {
        let step = |batch: &Batch, step: &Step| {
            let word = match &step.action.verb {
                Verb::Power { power } => format!("{power:?}"),
                verb => verb.word().to_owned(),
            };
            let after: Vec<&str> = batch
                .steps
                .iter()
                .filter(|other| step.after.contains(&other.id))
                .map(|other| other.address().name.as_str())
                .collect();
            format!("{word} {}<{}", step.address().name, after.join("+"))
        };
        boot.batches
            .iter()
            .map(|batch| {
                let steps: Vec<String> = batch.steps.iter().map(|one| step(batch, one)).collect();
                format!("{} {}s", steps.join(" "), batch.pause.as_secs())
            })
            .collect()
    }

    #[test]
    fn who_starts_with_the_host() {
        let of = |autostart: Value, state: Value| json!({"boot": {"autostart": autostart}, "state": state});
        for (spec, last, starts) in [
            (of(json!("lastState"), Value::Null), "Running", true),
            (of(json!("lastState"), Value::Null), "Stopped", false),
            (of(json!("lastState"), json!("Running")), "Stopped", false),
            (of(json!(true), Value::Null), "Stopped", true),
            (of(json!(true), json!("Running")), "Stopped", true),
            (of(json!(true), json!("Stopped")), "Running", false),
            (of(json!(false), json!("Running")), "Running", false),
        ] {
            let boot = decided(
                vec![instance("a", spec.clone(), last, "Stopped")],
                &Known::default(),
            );
            assert_eq!(boot.batches.len(), usize::from(starts), "{spec} {last}");
            let boot = decided(
                vec![instance("a", spec, last, "Running")],
                &Known::default(),
            );
            assert!(boot.batches.is_empty(), "what runs is left alone");
            assert_eq!(boot.runs.len(), usize::from(starts));
        }
    }

    #[test]
    fn networks_come_first_then_priorities_with_their_pauses() {
        let boot = |priority: i32, delay: &str| {
            json!({"boot": {"priority": priority, "delay": delay},
                   "devices": {"eth0": {"type": "nic", "network": "lan"}}})
        };
        let network = json!({"ipv4": {"address": "10.0.0.1/24"}});
        let flushed = json!({"ipv4": {"address": "10.0.0.1/24", "nat": false}});
        let mut gone = item(
            Kind::Network,
            "gone",
            network.clone(),
            network.clone(),
            json!({}),
        );
        gone.complete = false;
        let found = decided(
            vec![
                gone,
                item(
                    Kind::Network,
                    "fine",
                    network.clone(),
                    network.clone(),
                    json!({}),
                ),
                item(Kind::Network, "lan", network, flushed, json!({})),
                instance("a", boot(0, "0s"), "Running", "Stopped"),
                instance("b", boot(10, "5s"), "Running", "Stopped"),
                instance("c", boot(10, "0s"), "Running", "Stopped"),
                instance("d", json!({"state": "Frozen"}), "Running", "Stopped"),
            ],
            &Known::default(),
        );
        assert_eq!(
            told(&found),
            [
                "create gone< update lan< Start b<lan 5s",
                "Start c< 0s",
                "Start a< Start d< Freeze d<d 0s",
            ]
        );
    }

    #[test]
    fn what_is_needed_starts_before_what_needs_it() {
        let plain = |priority: i32| json!({"boot": {"priority": priority}});
        let web = instance("a-web", plain(5), "Running", "Stopped");
        let uid = web.uid().expect("marked");
        let mut known = Known::default();
        known.owned.insert(uid, owned(uid, &web.address, "db"));
        let items = vec![web, instance("db", plain(0), "Running", "Stopped")];
        assert_eq!(
            told(&decided(items, &known)),
            ["Start db< Start a-web<db 0s"]
        );
    }

    #[test]
    fn a_hold_outlives_the_host() {
        let web = instance(
            "web",
            json!({"boot": {"autostart": true}}),
            "Stopped",
            "Stopped",
        );
        let at = |seconds| jiff::Timestamp::from_second(seconds).expect("a time");
        let mut known = Known::default();
        let hold = |until| Hold {
            until,
            reason: "disk".to_owned(),
            since: at(-100),
        };
        let uid = web.uid().expect("marked");
        known.holds.insert(uid, hold(at(100)));
        let boot = decided(vec![web.clone()], &known);
        assert!(boot.batches.is_empty());
        assert!(boot.left[0].1.contains("disk"), "{:?}", boot.left);
        known.holds.insert(uid, hold(at(0)));
        assert_eq!(decided(vec![web], &known).batches.len(), 1);
    }
}
