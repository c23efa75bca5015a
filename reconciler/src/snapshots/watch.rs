//! [`Watch`]: one object that a schedule makes snapshots of.

use std::collections::BTreeMap;
use std::path::PathBuf;

use jiff::tz::TimeZone;
use manifests::id::{Address, Uid};
use manifests::kind::{Kind, Spec};
use manifests::kinds::backup::Backup;
use manifests::kinds::instance::PowerState;
use manifests::kinds::snapshot_schedule::{Retention, Selector, SnapshotSchedule};
use manifests::name_pattern;
use manifests::observed::{Item, ObservedSet};
use manifests::scalar::expiry::Expiry;
use manifests::scalar::schedule::Schedule;
use manifests::scalar::snapshot_pattern::SnapshotPattern;
use manifests::scalar::time_zone::TimeZoneName;

/// How long what a schedule makes is kept.
#[derive(Debug, Clone, PartialEq)]
pub enum Keep {
    /// Until somebody deletes it.
    All,
    /// So long.
    For(Expiry),
    /// As many as these rules keep.
    Best(Retention),
}

/// What a schedule asks for.
#[derive(Debug, Clone, PartialEq)]
pub struct Rule {
    /// When.
    pub schedule: Schedule,
    /// By whose clocks.
    pub zone: TimeZone,
    /// Under which names.
    pub pattern: SnapshotPattern,
    /// Whether memory is in them.
    pub memory: bool,
    /// Whether they are made of what is stopped.
    pub stopped: bool,
    /// How long they are kept.
    pub keep: Keep,
    /// Where they go as files; none: they are snapshots.
    pub files: Option<Files>,
}

/// Backups instead of snapshots.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Files {
    /// The folder of the host.
    pub folder: PathBuf,
    /// To whom they are encrypted; nobody: they are not.
    pub recipients: Vec<String>,
    /// Whether the volumes that an instance uses are in them.
    pub volumes: bool,
    /// Whether they are in the form of their pool's driver.
    pub optimized: bool,
}

/// One object that a schedule makes snapshots of.
#[derive(Debug, Clone, PartialEq)]
pub struct Watch {
    /// The schedule: a SnapshotSchedule, a Backup, or the object itself where the schedule stands in its own spec.
    pub by: (Address, Uid),
    /// Of what.
    pub object: (Address, Uid),
    /// Whether it runs.
    pub runs: bool,
    /// Whether it has a memory that can be kept: a container has none.
    pub remembers: bool,
    /// What the schedule asks for.
    pub rule: Rule,
}

/// Why a schedule cannot do its work.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Trouble {
    /// It selects by labels, and those of an object are not known: they were lost with the database.
    #[error(
        "{schedule} selects by labels, and those of {object} are not known until the next apply"
    )]
    NoLabels {
        /// The schedule.
        schedule: Address,
        /// The object.
        object: Address,
    },
    /// This host does not know its time zone.
    #[error("{schedule} has the time zone {zone}, which this host does not know: install tzdata")]
    NoZone {
        /// The schedule.
        schedule: Address,
        /// The name of the time zone.
        zone: TimeZoneName,
    },
    /// The snapshots of an object cannot be told.
    #[error("the snapshots of {object} cannot be told: {why}")]
    Unseen {
        /// The object.
        object: Address,
        /// Why.
        why: String,
    },
}

/// All that is to be watched, and what stands in the way of a schedule.
///
/// `labels` tells those of an object; none where they are not known.
pub fn watches<'a>(
    observed: &ObservedSet,
    labels: &dyn Fn(&Uid) -> Option<&'a BTreeMap<String, String>>,
) -> (Vec<Watch>, Vec<Trouble>) {
    let (mut found, mut troubles) = (Vec::new(), Vec::new());
    for item in &observed.items {
        let Some(uid) = item.uid().filter(|_| item.complete) else {
            continue;
        };
        match &item.spec {
            Spec::Instance(_) | Spec::Volume(_) if item.is_kept_by_server() => {}
            Spec::Instance(_) | Spec::Volume(_) => found.extend(own(item, uid)),
            Spec::SnapshotSchedule(_) | Spec::Backup(_) => {
                let (rule, selector) = match &item.spec {
                    Spec::SnapshotSchedule(schedule) => (rule_of(schedule), &schedule.selector),
                    Spec::Backup(backup) => (rule_of_backup(backup), &backup.selector),
                    _ => continue,
                };
                let rule = match rule {
                    Ok(Some(rule)) => rule,
                    Ok(None) => continue,
                    Err(zone) => {
                        let schedule = item.address.clone();
                        troubles.push(Trouble::NoZone { schedule, zone });
                        continue;
                    }
                };
                for object in &observed.items {
                    let Some(of) = object.uid().filter(|_| object.complete) else {
                        continue;
                    };
                    if object.address.project != item.address.project {
                        continue;
                    }
                    match selects(selector, &object.address, labels(&of)) {
                        Some(true) => found.push(Watch {
                            by: (item.address.clone(), uid),
                            object: (object.address.clone(), of),
                            runs: runs(object),
                            remembers: remembers(object),
                            rule: rule.clone(),
                        }),
                        Some(false) => {}
                        None => troubles.push(Trouble::NoLabels {
                            schedule: item.address.clone(),
                            object: object.address.clone(),
                        }),
                    }
                }
            }
            _ => {}
        }
    }
    (found, troubles)
}

/// Whether a selector means an object; none where that depends on labels that are not known.
fn selects(
    selector: &Selector,
    object: &Address,
    labels: Option<&BTreeMap<String, String>>,
) -> Option<bool> {
    let named =
        selector.names.is_empty() || name_pattern::any_matches(&selector.names, &object.name);
    if !named || !selector.kinds.contains(&object.kind) {
        return Some(false);
    }
    if selector.match_labels.is_empty() {
        return Some(true);
    }
    let labels = labels?;
    let mut wanted = selector.match_labels.iter();
    Some(wanted.all(|(key, value)| labels.get(key) == Some(value)))
}

fn runs(item: &Item) -> bool {
    match &item.spec {
        // What is frozen has files that change no more, and snapshots as others have.
        Spec::Instance(instance) => instance.state.0 != Some(PowerState::Stopped),
        _ => item.address.kind == Kind::Volume,
    }
}

fn remembers(item: &Item) -> bool {
    runs(item) && matches!(&item.spec, Spec::Instance(instance) if !instance.is_container())
}

/// What a schedule asks for; none: it does not say when.
fn rule_of(schedule: &SnapshotSchedule) -> Result<Option<Rule>, TimeZoneName> {
    let Some(when) = &schedule.schedule else {
        return Ok(None);
    };
    let zone = zone_of(schedule.time_zone.as_ref())?;
    let keep = match (&schedule.retention, &schedule.expiry) {
        (Some(retention), _) => Keep::Best(retention.clone()),
        (None, Some(expiry)) => Keep::For(expiry.clone()),
        (None, None) => Keep::All,
    };
    Ok(Some(Rule {
        schedule: when.clone(),
        zone,
        pattern: schedule.pattern.clone(),
        memory: schedule.stateful,
        stopped: schedule.stopped,
        keep,
        files: None,
    }))
}

fn zone_of(name: Option<&TimeZoneName>) -> Result<TimeZone, TimeZoneName> {
    match name {
        None => Ok(TimeZone::UTC),
        Some(name) if name.as_str() == "UTC" => Ok(TimeZone::UTC),
        Some(name) => TimeZone::get(name.as_str()).map_err(|_| name.clone()),
    }
}

/// What a Backup asks for; none: it does not say when, or where to.
fn rule_of_backup(backup: &Backup) -> Result<Option<Rule>, TimeZoneName> {
    let (Some(when), Some(folder)) = (&backup.schedule, &backup.destination.path) else {
        return Ok(None);
    };
    Ok(Some(Rule {
        schedule: when.clone(),
        zone: zone_of(backup.time_zone.as_ref())?,
        // Its files have names of their own.
        pattern: SnapshotPattern::counting(""),
        memory: false,
        // What is stopped may be lost as well.
        stopped: true,
        keep: backup.retention.clone().map_or(Keep::All, Keep::Best),
        files: Some(Files {
            folder: folder.as_path().to_path_buf(),
            recipients: backup.encrypt_to.clone(),
            volumes: backup.volumes,
            optimized: backup.optimized,
        }),
    }))
}

fn own(item: &Item, uid: Uid) -> Option<Watch> {
    let snapshots = match &item.spec {
        Spec::Instance(instance) => &instance.snapshots,
        Spec::Volume(volume) => &volume.snapshots,
        _ => return None,
    };
    let who = (item.address.clone(), uid);
    Some(Watch {
        by: who.clone(),
        object: who,
        runs: runs(item),
        remembers: remembers(item),
        rule: Rule {
            schedule: snapshots.schedule.clone()?,
            zone: TimeZone::UTC,
            pattern: snapshots.pattern.clone(),
            memory: snapshots.stateful,
            stopped: snapshots.schedule_stopped,
            keep: snapshots.expiry.clone().map_or(Keep::All, Keep::For),
            files: None,
        },
    })
}
