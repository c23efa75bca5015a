//! [`SnapshotSchedule`]: snapshots of many, by a schedule of ours; [`Selector`] and [`Retention`].

use std::collections::BTreeMap;

use crate::desired::Reference;
use crate::kind::{Kind, ResourceKind};
use crate::scalar::expiry::Expiry;
use crate::scalar::schedule::Schedule;
use crate::scalar::snapshot_pattern::SnapshotPattern;
use crate::scalar::time_zone::TimeZoneName;

crate::fields! {
    /// Which objects are meant: those to which all that is written applies.
    pub struct Selector {
        /// They have these labels.
        match_labels: BTreeMap<String, String> = BTreeMap::new(),
        /// They have one of these names; `*` stands for any characters. None: any name.
        names: Vec<String> = Vec::new(),
        /// They are of one of these kinds: `Instance`, `Volume`.
        kinds: Vec<Kind> = vec![Kind::Instance],
    }
}

crate::fields! {
    /// How many are kept. What none of these keeps goes.
    pub struct Retention {
        /// So many of the newest.
        keep_last: Option<u32> = None,
        /// The newest of each of so many hours.
        keep_hourly: Option<u32> = None,
        /// The newest of each of so many days.
        keep_daily: Option<u32> = None,
        /// The newest of each of so many weeks.
        keep_weekly: Option<u32> = None,
        /// The newest of each of so many months.
        keep_monthly: Option<u32> = None,
        /// The newest of each of so many years.
        keep_yearly: Option<u32> = None,
    }
}

crate::fields! {
    /// Snapshots of many, by a schedule of ours. It thins only what it made.
    pub struct SnapshotSchedule {
        /// Free text.
        description: String = String::new(),
        /// When they are made: five cron fields or `@hourly` to `@yearly`.
        schedule: Option<Schedule> = None,
        /// The IANA name of the time zone of `schedule`; absent: UTC.
        time_zone: Option<TimeZoneName> = None,
        /// Of which objects.
        selector: Selector = Selector::default(),
        /// Their names: `%d` counts, `{{ creation_date }}` is the time.
        pattern: SnapshotPattern = SnapshotPattern::counting("keel-"),
        /// Whether memory is in them.
        stateful: bool = false,
        /// Whether they are made of stopped instances as well.
        stopped: bool = false,
        /// How many are kept; absent: all, or as `expiry` says.
        retention: Option<Retention> = None,
        /// How long each is kept, instead of `retention`.
        expiry: Option<Expiry> = None,
    }
}

crate::compare_as_one!(Kind);

impl ResourceKind for SnapshotSchedule {
    fn references(&self, _out: &mut Vec<Reference>) {}
}
