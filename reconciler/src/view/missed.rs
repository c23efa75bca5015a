//! What schedules missed, in words.

use std::collections::BTreeMap;

use manifests::id::Uid;
use manifests::kind::Kind;

use super::history::when;
use super::text::{counted, visible};
use crate::snapshots::stand::{Missed, Stand};

/// All that was missed.
pub fn all(stands: &BTreeMap<Uid, Stand>) -> Vec<&Missed> {
    stands.values().flat_map(|stand| &stand.missed).collect()
}

/// One of them: `instance/web: snapshot-schedule/nightly is due since …, and nobody looked: is keel-snapshots.timer on?`
pub fn line(missed: &Missed) -> String {
    let object = visible(&missed.object.to_string());
    let schedule = match missed.schedule == missed.object {
        true => "its own schedule".to_owned(),
        false => visible(&missed.schedule.to_string()),
    };
    let (what, timer) = match missed.schedule.kind {
        Kind::Backup => ("backup", "keel-backups.timer"),
        _ => ("snapshot", "keel-snapshots.timer"),
    };
    let why = match missed.tries {
        0 => format!("nobody looked: is {timer} on?"),
        tries => format!(
            "{} to make it failed: keel history",
            counted(tries as usize, "try")
        ),
    };
    format!(
        "{object}: a {what} by {schedule} is due since {}, {why}",
        when(missed.due)
    )
}
