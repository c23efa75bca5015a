//! [`Snapshots`]: the engine's own snapshots of one instance or volume.

use crate::scalar::expiry::Expiry;
use crate::scalar::schedule::Schedule;
use crate::scalar::snapshot_pattern::SnapshotPattern;

crate::fields! {
    /// The engine's own snapshots of one instance or volume.
    pub struct Snapshots {
        /// When they are made: five cron fields or `@daily`; absent: never.
        schedule: Option<Schedule> = None,
        /// Whether they are made of a stopped instance as well.
        schedule_stopped: bool = false,
        /// How long each is kept; absent: until somebody deletes it.
        expiry: Option<Expiry> = None,
        /// Their names: `%d` counts, `{{ creation_date }}` is the time.
        pattern: SnapshotPattern = SnapshotPattern::counting("snap"),
        /// Whether memory is in them.
        stateful: bool = false,
    }
}
