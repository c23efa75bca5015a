//! What a dead process began is ended in the journal by looking at the world; the next plan does the rest.

use runtime::runtime::Runtime;

use crate::journal::{ApplyStatus, Event, Outcome, What};
use crate::store::Write;

/// The ends of unfinished applies. The caller holds the lock, so that nobody is at them any more. A step on an object of
/// which it cannot be told whether it is there was not seen done: it must not be in the way of all others.
pub fn recover(
    unfinished: &[ApplyStatus],
    runtime: &dyn Runtime,
    now: jiff::Timestamp,
) -> Vec<Write> {
    let mut writes = Vec::new();
    for apply in unfinished {
        let mut event = |what| {
            writes.push(Write::Event(Event {
                plan: apply.plan,
                at: now,
                what,
            }));
        };
        for (id, step) in apply.open_steps() {
            let there = runtime.look(&step.address).map(|item| {
                item.is_some_and(|item| {
                    item.complete && item.mark.as_ref().map(|mark| mark.uid) == step.uid
                })
            });
            let done = match (step.word.as_deref(), there) {
                (Some("delete" | "forget"), Ok(there)) => !there,
                // Of a change only its end tells, and that is missing: the next plan sees what is left of it.
                (Some("create" | "fetch" | "restore" | "adopt" | "rename"), Ok(there)) => there,
                _ => false,
            };
            event(What::Ended {
                step: id,
                address: step.address.clone(),
                outcome: Outcome::Interrupted { done },
                micros: None,
            });
        }
        event(What::Finished {
            cancelled: false,
            interrupted: true,
            micros: 0,
        });
    }
    writes
}
