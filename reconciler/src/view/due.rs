//! What is due by a schedule, and what is in its way, in cells of a table.

use jiff::Timestamp;

use crate::diff::known::Tick;
use crate::snapshots::due::Turn;
use crate::view::history::when;

/// When it is due. `next`: as the session says.
pub fn due(turn: &Turn, next: Option<Timestamp>) -> String {
    match (turn, next) {
        (Turn::Make(since), _) => format!("due since {}", when(*since)),
        (_, Some(next)) => when(next),
        (_, None) => "never".to_owned(),
    }
}

/// How often it failed; empty: it did not.
pub fn trouble(tick: Option<&Tick>) -> String {
    let failed = tick.and_then(|tick| tick.failed);
    failed.map_or_else(String::new, |(at, times)| {
        format!("failed {times} times, last at {}", when(at))
    })
}
