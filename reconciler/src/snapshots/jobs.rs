//! [`jobs`]: all that is due at one moment, in the order in which it is done.

use std::collections::BTreeMap;

use jiff::Timestamp;
use manifests::id::{Address, Uid};

use super::due::{Made, Turns, expired};
use super::leaps::Leaps;
use super::lull::earlier;
use super::watch::Watch;
use crate::diff::known::Tick;

/// One thing to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Job {
    /// Which object.
    pub object: Address,
    /// What to do.
    pub deed: Deed,
}

/// What is done to an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Deed {
    /// Make a snapshot.
    Make {
        /// For which schedule.
        by: (Address, Uid),
        /// The identity of the object.
        uid: Uid,
        /// For when it was due.
        due: Timestamp,
        /// Its name.
        name: String,
        /// Whether memory is in it.
        memory: bool,
        /// When it may go.
        expires: Option<Timestamp>,
    },
    /// Delete one.
    Drop {
        /// Its name.
        name: String,
        /// Only where this one was made before: a schedule that makes none any more thins nothing.
        after: Option<String>,
    },
}

/// All that is due.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Jobs {
    /// Schedules, objects, and what is to be remembered of them without a deed.
    pub notes: Vec<((Uid, Uid), Tick)>,
    /// What is done, one after another.
    pub jobs: Vec<Job>,
    /// When something else is due; none: never, as things are.
    pub next: Option<Timestamp>,
}

impl Jobs {
    /// Whether nothing is to be done or remembered.
    pub fn is_empty(&self) -> bool {
        self.notes.is_empty() && self.jobs.is_empty()
    }
}

/// What is due now. `made` holds the snapshots that there are; an object that is not in it has none.
pub fn jobs(
    watches: &[Watch],
    ticks: &BTreeMap<(Uid, Uid), Tick>,
    made: &BTreeMap<Address, Vec<Made>>,
    now: Timestamp,
) -> Jobs {
    let mut made = made.clone();
    let snapshots = watches.iter().filter(|one| one.rule.files.is_none());
    let turns = Turns::of(snapshots, ticks, now);
    let mut out = Jobs {
        notes: turns.notes,
        jobs: Vec::new(),
        next: turns.next,
    };
    for (watch, due) in turns.due {
        let rule = &watch.rule;
        let all = made.entry(watch.object.0.clone()).or_default();
        let taken = all.iter().map(|made| made.name.as_str());
        let name = rule.pattern.name(&taken, &now.to_zoned(rule.zone.clone()));
        let expires = rule.expiry(now);
        all.push(Made {
            name: name.clone(),
            at: now,
            by: Some(watch.by.1),
            expires,
        });
        let mut job = |deed| {
            out.jobs.push(Job {
                object: watch.object.0.clone(),
                deed,
            });
        };
        job(Deed::Make {
            by: watch.by.clone(),
            uid: watch.object.1,
            due,
            name: name.clone(),
            memory: rule.memory && watch.remembers,
            expires,
        });
        let gone = watch.thinned(all, now).into_iter();
        let gone: Vec<String> = gone.map(str::to_owned).collect();
        all.retain(|made| !gone.contains(&made.name));
        for old in gone {
            let after = Some(name.clone());
            job(Deed::Drop { name: old, after });
        }
    }
    let expires = |made: &Made| made.expires.is_some();
    if !made.values().flatten().any(expires) {
        return out;
    }
    // One that stays beyond its time is judged anew with each look.
    let times = made.values().flatten().filter_map(|made| made.expires);
    out.next = earlier(out.next, times.filter(|at| *at > now).min());
    let leaps = Leaps::at(ticks, now);
    out.notes.extend(leaps.notes(now, !out.jobs.is_empty()));
    for (object, all) in &made {
        // What is made now counts only once it is there: the newest of before stays for the next time.
        let before: Vec<Made> = all.iter().filter(|made| made.at < now).cloned().collect();
        out.jobs
            .extend(expired(&before, &leaps, now).into_iter().map(|name| Job {
                object: object.clone(),
                deed: Deed::Drop {
                    name: name.to_owned(),
                    after: None,
                },
            }));
    }
    out
}
