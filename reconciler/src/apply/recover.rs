//! What a dead process began is ended in the journal by looking at the world; the next plan does the rest.

use runtime::error::RuntimeError;
use runtime::runtime::Runtime;

use crate::journal::{ApplyStatus, Event, Outcome, What};
use crate::store::Write;

/// The ends of unfinished applies. The caller holds the lock, so that nobody is at them any more.
///
/// # Errors
/// The engine cannot say whether an object is there.
pub fn recover(
    unfinished: &[ApplyStatus],
    runtime: &dyn Runtime,
    now: jiff::Timestamp,
) -> Result<Vec<Write>, RuntimeError> {
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
            let there = runtime.look(&step.address)?.is_some_and(|item| {
                item.complete && item.mark.as_ref().map(|mark| mark.uid) == step.uid
            });
            let done = match step.word.as_deref() {
                Some("delete" | "forget") => !there,
                // Of a change only its end tells, and that is missing: the next plan sees what is left of it.
                Some("create" | "fetch" | "restore" | "adopt" | "rename") => there,
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
    Ok(writes)
}
