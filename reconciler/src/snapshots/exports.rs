//! [`exports`]: the backups that are due at one moment, and which of those before go then.

use std::collections::BTreeMap;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use manifests::id::{Address, Uid};

use super::due::{Made, Turns};
use super::watch::{Files, Watch};
use crate::diff::known::Tick;

/// A backup that is due.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Export {
    /// For which Backup.
    pub by: (Address, Uid),
    /// Of what.
    pub object: (Address, Uid),
    /// For when it was due.
    pub due: Timestamp,
    /// The name of its file.
    pub file: String,
    /// Where it goes, and how.
    pub files: Files,
    /// The files that go when it is there.
    pub gone: Vec<String>,
}

/// All that is due.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Exports {
    /// Backups, objects, and what is to be remembered of them without a deed.
    pub notes: Vec<((Uid, Uid), Tick)>,
    /// What is made, one after another.
    pub due: Vec<Export>,
    /// When the next one is due; none: never, as things are.
    pub next: Option<Timestamp>,
}

/// What is due now. `made` holds the files that are there and whole, by the Backup that made them and the object that they
/// are of: what is not whole is no backup, and neither counts nor goes.
pub fn exports(
    watches: &[Watch],
    ticks: &BTreeMap<(Uid, Uid), Tick>,
    made: &BTreeMap<(Uid, Uid), Vec<Made>>,
    now: Timestamp,
) -> Exports {
    let files = watches.iter().filter(|watch| watch.rule.files.is_some());
    let turns = Turns::of(files, ticks, now);
    let mut out = Exports {
        notes: turns.notes,
        due: Vec::new(),
        next: turns.next,
    };
    for (watch, due) in turns.due {
        let Some(files) = &watch.rule.files else {
            continue;
        };
        let key = (watch.by.1, watch.object.1);
        let file = name_of(&watch.object.0, now);
        let mut all = made.get(&key).cloned().unwrap_or_default();
        all.push(Made {
            name: file.clone(),
            at: now,
            by: Some(watch.by.1),
            expires: None,
        });
        out.due.push(Export {
            by: watch.by.clone(),
            object: watch.object.clone(),
            due,
            gone: watch
                .thinned(&all, now)
                .into_iter()
                .map(str::to_owned)
                .collect(),
            file,
            files: files.clone(),
        });
    }
    out
}

/// The name of the file of an object at a moment: `instance_web_20261127T083000Z.keel`.
fn name_of(object: &Address, now: Timestamp) -> String {
    let at = now.to_zoned(TimeZone::UTC).strftime("%Y%m%dT%H%M%SZ");
    format!("{}_{at}.keel", object.to_string().replace('/', "_"))
}

#[cfg(test)]
mod tests {
    use manifests::kind::Kind;
    use manifests::kinds::snapshot_schedule::Retention;
    use manifests::scalar::snapshot_pattern::SnapshotPattern;

    use super::*;
    use crate::snapshots::watch::{Keep, Rule};

    fn at(text: &str) -> Timestamp {
        text.parse()
            .unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    fn uid(number: u128) -> Uid {
        let text = uuid::Uuid::from_u128(number).to_string();
        text.parse().expect("a uid")
    }

    fn nightly(keep: Keep) -> Watch {
        Watch {
            by: (Address::new(Kind::Backup, "nightly"), uid(1)),
            object: ("volume/fast/data".parse().expect("one"), uid(2)),
            runs: false,
            remembers: false,
            rule: Rule {
                schedule: "@daily".parse().expect("a schedule"),
                zone: TimeZone::UTC,
                pattern: SnapshotPattern::counting(""),
                memory: false,
                stopped: true,
                keep,
                files: Some(Files {
                    folder: "/srv/backups".into(),
                    recipients: Vec::new(),
                    volumes: false,
                    optimized: false,
                }),
            },
        }
    }

    fn made(name: &str, when: &str, by: u128) -> Made {
        Made {
            name: name.to_owned(),
            at: at(when),
            by: Some(uid(by)),
            expires: None,
        }
    }

    #[test]
    fn what_is_due_is_made_once_and_only_its_own_go() {
        let rules = Retention {
            keep_last: Some(2),
            ..Retention::default()
        };
        let watch = nightly(Keep::Best(rules));
        let key = (uid(1), uid(2));
        let there = BTreeMap::from([(
            key,
            vec![
                made("a", "2026-11-20T00:00:00Z", 1),
                made("b", "2026-11-21T00:00:00Z", 1),
                made("others", "2026-01-01T00:00:00Z", 3),
            ],
        )]);
        let first = exports(
            std::slice::from_ref(&watch),
            &BTreeMap::new(),
            &there,
            at("2026-11-24T10:00:00Z"),
        );
        assert_eq!(first.due, []);
        assert_eq!(first.notes, [(key, Tick::at(at("2026-11-24T10:00:00Z")))]);
        // Three nights later it is one.
        let ticks = first.notes.into_iter().collect();
        let now = at("2026-11-27T08:30:00Z");
        let found = exports(std::slice::from_ref(&watch), &ticks, &there, now);
        assert_eq!(found.notes, []);
        let [one] = found.due.as_slice() else {
            panic!("{found:?}");
        };
        assert_eq!(one.file, "volume_fast_data_20261127T083000Z.keel");
        assert_eq!(one.due, at("2026-11-27T00:00:00Z"));
        assert_eq!(one.gone, ["a"]);
        let ticks = BTreeMap::from([(key, Tick::at(one.due))]);
        let nothing = Exports {
            next: Some(at("2026-11-28T00:00:00Z")),
            ..Exports::default()
        };
        assert_eq!(exports(&[watch], &ticks, &there, now), nothing);
    }

    #[test]
    fn without_rules_nothing_goes() {
        let key = (uid(1), uid(2));
        let ticks = BTreeMap::from([(key, Tick::at(at("2026-11-26T00:00:00Z")))]);
        let there = BTreeMap::from([(key, vec![made("a", "2020-11-20T00:00:00Z", 1)])]);
        let found = exports(
            &[nightly(Keep::All)],
            &ticks,
            &there,
            at("2026-11-27T08:30:00Z"),
        );
        assert_eq!(found.due[0].gone, [""; 0]);
    }
}
