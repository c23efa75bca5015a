//! Ignore rules that leave nothing alone: they are over, no object has such a field, or nothing differs there.

use std::collections::{BTreeMap, BTreeSet};

use jiff::civil::Date;
use manifests::desired::DesiredSet;
use manifests::diagnostic::Origin;
use manifests::id::Address;
use manifests::kind::Spec;
use manifests::lifecycle::IgnoreRule;
use manifests::pointer::Pointer;
use serde_json::Value;

use super::{Diff, Difference, Verdict};

/// Why a rule leaves nothing alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub enum WhyStale {
    /// Its last day is over.
    Expired,
    /// No object that it is for has such a field.
    NoField,
    /// What lives there is what git says.
    NothingDiffers,
}

/// A rule that leaves nothing alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StaleRule {
    /// What is written.
    pub rule: IgnoreRule,
    /// Why.
    pub why: WhyStale,
    /// The objects that it is for: all of a tree, where it is the tree's.
    pub objects: Vec<Address>,
}

/// What a rule comes to in one object.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum In {
    NoField,
    NothingDiffers,
    /// It leaves something alone, or that could not be seen.
    Needed,
}

/// Finds them, by where they are written. A rule of many objects is stale where it leaves nothing alone in any of them;
/// of an object that was not looked at, it is not known.
pub fn stale_rules(desired: &DesiredSet, diff: &Diff<'_>, today: Date) -> Vec<StaleRule> {
    type At<'a> = (Option<&'a Origin>, &'a Pointer);
    let differences: BTreeMap<&Address, &Difference<'_>> = diff
        .objects
        .iter()
        .map(|difference| (&difference.address, difference))
        .collect();
    let mut rules: BTreeMap<At<'_>, (&IgnoreRule, In, BTreeSet<&Address>)> = BTreeMap::new();
    for resource in desired.declared() {
        let address = &resource.address;
        let difference = differences
            .get(address)
            .filter(|_| desired.resources.contains_key(address));
        for rule in &resource.lifecycle.ignore {
            let found = difference.map_or(In::Needed, |one| found(rule, &resource.spec, one));
            let entry = rules.entry((rule.origin.as_ref(), &rule.path)).or_insert((
                rule,
                found,
                BTreeSet::new(),
            ));
            entry.1 = entry.1.max(found);
            entry.2.insert(address);
        }
    }
    let stale = rules.into_values().filter_map(|(rule, found, objects)| {
        let why = match found {
            _ if !rule.counts_on(today) => WhyStale::Expired,
            In::NoField => WhyStale::NoField,
            In::NothingDiffers => WhyStale::NothingDiffers,
            In::Needed => return None,
        };
        Some(StaleRule {
            rule: rule.clone(),
            why,
            objects: objects.into_iter().cloned().collect(),
        })
    });
    stale.collect()
}

fn found(rule: &IgnoreRule, wanted: &Spec, difference: &Difference<'_>) -> In {
    let has = |spec: &Spec| has(&rule.path, &spec.to_value());
    let hidden = |path: &Pointer| rule.path.matches(path) || is_within(&rule.path, path);
    match (&difference.verdict, difference.live) {
        (Verdict::Same | Verdict::Different, Some(live)) => {
            let is_hidden = difference.unseen.iter().any(|one| hidden(&one.path));
            let mut kept = difference.kept.iter();
            if is_hidden || kept.any(|kept| rule.path.matches(&kept.path)) {
                In::Needed
            } else if has(wanted) || has(&live.spec) {
                In::NothingDiffers
            } else {
                In::NoField
            }
        }
        _ => In::Needed,
    }
}

/// Whether a rule is about something below a field.
fn is_within(rule: &Pointer, field: &Pointer) -> bool {
    let mut steps = rule.steps();
    field.steps().all(|outer| {
        steps
            .next()
            .is_some_and(|step| step == "*" || step == outer)
    })
}

/// Whether a spec has something that a rule is about.
fn has(rule: &Pointer, spec: &Value) -> bool {
    fn below(steps: &[String], value: &Value) -> bool {
        let Some((step, rest)) = steps.split_first() else {
            return !value.is_null();
        };
        match value {
            Value::Object(fields) if step == "*" => fields.values().any(|one| below(rest, one)),
            Value::Object(fields) => fields.get(step).is_some_and(|one| below(rest, one)),
            Value::Array(items) if step == "*" => items.iter().any(|one| below(rest, one)),
            Value::Array(items) => step
                .parse()
                .ok()
                .and_then(|at: usize| items.get(at))
                .is_some_and(|one| below(rest, one)),
            _ => false,
        }
    }
    let steps: Vec<String> = rule.steps().collect();
    match steps.split_first() {
        Some((step, rest)) => (step == "spec" || step == "*") && below(rest, spec),
        None => true,
    }
}
