//! Nothing waits for itself.

use std::collections::{BTreeMap, BTreeSet};

use super::Rule;
use crate::desired::DesiredSet;
use crate::diagnostic::{Code, Diagnostic, Diagnostics};
use crate::id::Address;

/// Objects that wait for each other.
pub(crate) const CYCLE: Code = Code("R0202");

/// References and `dependsOn` make no circle.
pub(super) struct CycleFree;

impl Rule for CycleFree {
    fn check(&self, desired: &DesiredSet, found: &mut Diagnostics) {
        // What needs nothing that is left is taken away, until nothing or only circles are left.
        let mut left: BTreeMap<&Address, BTreeSet<&Address>> = desired
            .resources
            .values()
            .map(|resource| {
                let needs = resource.needs.iter().map(|(address, _)| address);
                let needs = needs
                    .filter(|need| desired.resources.contains_key(*need))
                    .collect();
                (&resource.address, needs)
            })
            .collect();
        loop {
            trim(&mut left);
            let Some(circle) = circle(&left) else { return };
            for address in &circle {
                left.remove(address);
            }
            found.push(told(desired, &circle));
        }
    }
}

type Waiting<'a> = BTreeMap<&'a Address, BTreeSet<&'a Address>>;

/// Takes away what waits for nothing that is left, and what only that waited for.
fn trim(left: &mut Waiting<'_>) {
    let mut waiters: BTreeMap<&Address, Vec<&Address>> = BTreeMap::new();
    let mut count: BTreeMap<&Address, usize> = BTreeMap::new();
    for (address, needs) in left.iter() {
        let needs = needs.iter().filter(|need| left.contains_key(**need));
        for need in needs.clone() {
            waiters.entry(need).or_default().push(address);
        }
        count.insert(address, needs.count());
    }
    let mut free: Vec<&Address> = count
        .iter()
        .filter(|(_, count)| **count == 0)
        .map(|(address, _)| *address)
        .collect();
    while let Some(address) = free.pop() {
        left.remove(address);
        for waiter in waiters.get(address).into_iter().flatten() {
            if let Some(count) = count.get_mut(waiter) {
                *count -= 1;
                if *count == 0 {
                    free.push(waiter);
                }
            }
        }
    }
}

/// A circle of what is left, each waiting for the next; none where nothing is left.
fn circle<'a>(left: &Waiting<'a>) -> Option<Vec<&'a Address>> {
    let mut path = vec![*left.keys().next()?];
    loop {
        let needs = left.get(path.last()?)?;
        let next = *needs.iter().find(|need| left.contains_key(**need))?;
        if let Some(at) = path.iter().position(|seen| *seen == next) {
            path.drain(..at);
            return Some(path);
        }
        path.push(next);
    }
}

fn told(desired: &DesiredSet, circle: &[&Address]) -> Diagnostic {
    let mut words: Vec<String> = circle.iter().map(ToString::to_string).collect();
    words.extend(words.first().cloned());
    let origin = circle
        .first()
        .and_then(|address| desired.resources.get(*address))
        .map(|resource| resource.origin.clone())
        .unwrap_or_default();
    let found = match circle {
        [alone] => Diagnostic::error(CYCLE, origin, format!("{alone} waits for itself")),
        _ => Diagnostic::error(
            CYCLE,
            origin,
            format!("these wait for each other: {}", words.join(" → ")),
        ),
    };
    match circle {
        [first, ..] => found.of(first),
        [] => found,
    }
}
