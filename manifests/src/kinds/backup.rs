//! [`Backup`]: exports of many, by schedule.

use crate::desired::Reference;
use crate::kind::ResourceKind;
use crate::kinds::snapshot_schedule::{Retention, Selector};
use crate::scalar::path::AbsolutePath;
use crate::scalar::schedule::Schedule;
use crate::scalar::time_zone::TimeZoneName;

crate::fields! {
    /// Where exports go.
    pub struct Destination {
        /// A folder of the host, which is there: a disk that is away is not replaced by a folder.
        path: Option<AbsolutePath> = None,
    }
}

crate::words! {
    /// How exports are packed.
    pub enum Compression {
        /// zstd.
        Zstd "zstd",
        /// gzip.
        Gzip "gzip",
        /// xz.
        Xz "xz",
        /// Not.
        None "none",
    }
}

crate::fields! {
    /// Exports of many, by schedule.
    pub struct Backup {
        /// Free text.
        description: String = String::new(),
        /// When they are made: five cron fields or `@hourly` to `@yearly`; absent: when somebody asks.
        schedule: Option<Schedule> = None,
        /// The IANA name of the time zone of `schedule`; absent: UTC.
        time_zone: Option<TimeZoneName> = None,
        /// Of which objects.
        selector: Selector = Selector::default(),
        /// Whether the volumes that an instance uses are in its backup.
        volumes: bool = false,
        /// Where they go.
        destination: Destination = Destination::default(),
        /// How they are packed.
        compression: Compression = Compression::Zstd,
        /// Whether they are in the pool driver's own form, which is faster and fits only that driver: that of `btrfs`. Objects on
        /// pools of other drivers get none then.
        optimized: bool = false,
        /// age recipients that can read them; none: they are not encrypted.
        encrypt_to: Vec<String> = Vec::new(),
        /// How many of each object are kept; absent: all. Only what this Backup made goes, and never the newest that is whole.
        retention: Option<Retention> = None,
    }
}

impl ResourceKind for Backup {
    fn references(&self, _out: &mut Vec<Reference>) {}
}
