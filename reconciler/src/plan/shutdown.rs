//! What is stopped before the host goes down: instances by priority, in batches, each as its `boot.hostShutdownAction` says.
//!
//! As with the start of the host no manifest is read. What was stopped so is still meant to run: the next start of the
//! host starts it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use manifests::action::{Power, Verb};
use manifests::id::{Mark, SourceName, Uid};
use manifests::kind::Spec;
use manifests::kinds::instance::Instance;
use manifests::observed::{Item, ObservedSet};

use super::boot::{Batch, needs, number};
use super::{Expectation, Step, StepId, state_of};
use crate::diff::known::Known;

/// What the end of the host asks for.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Shutdown {
    /// In this order.
    pub batches: Vec<Batch>,
    /// How long the slowest of them may take.
    pub patience: Duration,
}

/// An instance that is to be stopped.
struct Stop<'a> {
    item: &'a Item,
    mark: Mark,
    meant: &'a Instance,
    needs: BTreeSet<Uid>,
    priority: i32,
}

/// Decides. Total, and the same answer to the same question; where nothing runs there is no batch.
pub fn shutdown(observed: &ObservedSet, known: &Known) -> Shutdown {
    let mut stops = stops(observed, known);
    lower(&mut stops);
    stops.sort_by(|a, b| {
        let order = |stop: &Stop<'_>| (-i64::from(stop.priority), stop.item.address.clone());
        order(a).cmp(&order(b))
    });
    let patience = stops
        .iter()
        .map(|stop| stop.meant.boot.host_shutdown_timeout.as_std())
        .max();
    let mut shutdown = Shutdown {
        batches: Vec::new(),
        patience: patience.unwrap_or_default(),
    };
    let mut batch = Batch::default();
    let mut users = Vec::new();
    let mut priority = None;
    for stop in needed_last(stops) {
        if priority.is_some_and(|before| before != stop.priority) {
            shutdown.batches.push(std::mem::take(&mut batch));
        }
        priority = Some(stop.priority);
        add(&mut batch, &mut users, &stop);
    }
    if !batch.steps.is_empty() {
        shutdown.batches.push(batch);
    }
    shutdown
}

/// The instances that run, also those that stand still.
fn stops<'a>(observed: &'a ObservedSet, known: &Known) -> Vec<Stop<'a>> {
    let mut stops = Vec::new();
    for item in &observed.items {
        let (Some(Spec::Instance(meant)), Some(uid)) = (&item.last_told, item.uid()) else {
            continue;
        };
        if state_of(item).is_none_or(|state| state == "Stopped") {
            continue;
        }
        stops.push(Stop {
            item,
            mark: item.mark.clone().unwrap_or_else(|| Mark {
                source: SourceName::unnamed(),
                uid,
            }),
            meant,
            needs: needs(observed, known, &uid),
            priority: meant.boot.stop_priority,
        });
    }
    stops
}

/// What an instance needs stops no sooner than it, whatever its own priority.
fn lower(stops: &mut [Stop<'_>]) {
    // A chain of needs is at most as long as there are instances.
    for _ in 0..stops.len() {
        let mut most: BTreeMap<Uid, i32> = BTreeMap::new();
        for stop in stops.iter() {
            for need in &stop.needs {
                let priority = most.entry(*need).or_insert(stop.priority);
                *priority = stop.priority.min(*priority);
            }
        }
        let mut lowered = false;
        for stop in stops.iter_mut() {
            let most = most.get(&stop.mark.uid).copied();
            if let Some(most) = most.filter(|most| *most < stop.priority) {
                stop.priority = most;
                lowered = true;
            }
        }
        if !lowered {
            return;
        }
    }
}

/// The same order, but what an instance needs comes after it. A circle is broken at its first instance.
fn needed_last(mut stops: Vec<Stop<'_>>) -> Vec<Stop<'_>> {
    let mut sorted = Vec::with_capacity(stops.len());
    while !stops.is_empty() {
        let is_free = |one: &Stop<'_>| {
            let mut others = stops.iter();
            !others
                .any(|other| other.mark.uid != one.mark.uid && other.needs.contains(&one.mark.uid))
        };
        let next = stops.iter().position(is_free).unwrap_or(0);
        sorted.push(stops.remove(next));
    }
    sorted
}

/// Adds the stop of an instance, after those of what needs it. `users`: the steps of the batch, and what their instances
/// need.
fn add(batch: &mut Batch, users: &mut Vec<(StepId, BTreeSet<Uid>)>, stop: &Stop<'_>) {
    let verb = Verb::Power {
        power: Power::HostDown,
    };
    let mut step = Step::asked(verb, &stop.item.address, &stop.mark, Expectation::Anything);
    "stops with the host".clone_into(&mut step.reason);
    let uid = stop.mark.uid;
    if batch.steps.is_empty() {
        users.clear();
    }
    let first = users.iter().filter(|(_, needs)| needs.contains(&uid));
    step.after = first.map(|(id, _)| *id).collect();
    number(&mut step, batch.steps.len());
    users.push((step.id, stop.needs.clone()));
    batch.steps.push(step);
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::boot::tests::{instance, owned};
    use super::*;

    /// `web<, db<web` of each batch.
    fn told(items: Vec<Item>, known: &Known) -> Vec<String> {
        let observed = ObservedSet {
            items,
            ..ObservedSet::default()
        };
        let one = |batch: &Batch, step: &Step| {
            let first: Vec<&str> = batch
                .steps
                .iter()
                .filter(|other| step.after.contains(&other.id))
                .map(|other| other.address().name.as_str())
                .collect();
            format!("{}<{}", step.address().name, first.join("+"))
        };
        shutdown(&observed, known)
            .batches
            .iter()
            .map(|batch| {
                let steps: Vec<String> = batch.steps.iter().map(|step| one(batch, step)).collect();
                steps.join(" ")
            })
            .collect()
    }

    fn boot(priority: i32) -> Value {
        json!({"boot": {"stopPriority": priority}})
    }

    #[test]
    fn what_runs_stops_by_its_priority() {
        let items = vec![
            instance("a", boot(0), "Running", "Running"),
            instance("b", boot(5), "Running", "Frozen"),
            instance("c", boot(5), "Running", "Running"),
            instance("d", boot(9), "Running", "Stopped"),
        ];
        assert_eq!(told(items, &Known::default()), ["b< c<", "a<"]);
        assert!(told(Vec::new(), &Known::default()).is_empty());
    }

    #[test]
    fn what_is_needed_stops_after_what_needs_it() {
        let web = instance("web", boot(-3), "Running", "Running");
        let uid = web.uid().expect("marked");
        let mut known = Known::default();
        known.owned.insert(uid, owned(uid, &web.address, "db"));
        // Its own priority would stop it first.
        let database = instance("db", boot(7), "Running", "Running");
        let other = instance("other", boot(0), "Running", "Running");
        assert_eq!(
            told(vec![database, other, web], &known),
            ["other<", "web< db<web"]
        );
    }
}
