//! Nothing waits for itself.

use std::collections::{BTreeMap, BTreeSet};

use super::Rule;
use crate::desired::DesiredSet;
use crate::diagnostic::{Code, Diagnostic, Diagnostics};
use crate::id::Address;

/// Objects that wait for each other.
pub(super) const CYCLE: Code = Code("R0202");

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
            let free: Vec<&Address> = left
                .iter()
                .filter(|(_, needs)| needs.iter().all(|need| !left.contains_key(*need)))
                .map(|(address, _)| *address)
                .collect();
            if free.is_empty() {
                break;
            }
            for address in free {
                left.remove(address);
            }
        }
        let Some(start) = left.keys().next().copied() else {
            return;
        };
        let mut path = vec![start];
        loop {
            let next = path
                .last()
                .and_then(|last| left.get(*last))
                .and_then(|needs| needs.iter().find(|need| left.contains_key(**need)));
            let Some(next) = next.copied() else { return };
            if let Some(at) = path.iter().position(|seen| *seen == next) {
                path.drain(..at);
                path.push(next);
                break;
            }
            path.push(next);
        }
        let words: Vec<String> = path.iter().map(ToString::to_string).collect();
        let origin = desired
            .resources
            .get(path[0])
            .map(|r| r.origin.clone())
            .unwrap_or_default();
        found.push(
            Diagnostic::error(
                CYCLE,
                origin,
                format!("these wait for each other: {}", words.join(" → ")),
            )
            .of(path[0]),
        );
    }
}
