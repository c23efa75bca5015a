//! [`MadeHere`]: which snapshots were made by a schedule and what for. A snapshot of the server has no place for either, so it
//! is kept in the state folder, one file an object. Where it is lost, every snapshot counts as made by a person: nothing
//! deletes it.

use std::path::{Path, PathBuf};

use jiff::{SignedDuration, Timestamp};
use manifests::id::{Address, Uid};
use manifests::observed::Item;
use manifests::path_io::{self, PathError};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::error::{Class, RuntimeError};
use crate::runtime::{NewSnapshot, Snapshot};

/// So long after it was asked for one is made at most, and so far apart are the clocks of a server and of this host.
const MAKING: SignedDuration = SignedDuration::from_mins(10);

/// One snapshot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Note {
    name: String,
    /// When it was asked for, by the clock of this host.
    asked_at: Timestamp,
    /// As the server has it; none: it is being made, or that was cut short, and the name alone tells.
    created_at: Option<Timestamp>,
    made_by: Option<Uid>,
    description: String,
    /// When its schedule lets go of it. The server is not told: it would do so too though it is the last good one.
    expires_at: Option<Timestamp>,
}

impl Note {
    fn is_of(&self, snapshot: &Snapshot) -> bool {
        let is_its_time = match self.created_at {
            Some(at) => at == snapshot.created_at,
            // Somebody else may have taken the name since.
            None => self.asked_at.duration_until(snapshot.created_at).abs() < MAKING,
        };
        self.name == snapshot.name && is_its_time
    }
}

/// What is known of snapshots that were made here.
pub(super) struct MadeHere {
    folder: PathBuf,
}

impl MadeHere {
    /// In a state folder.
    pub(super) fn new(state: &Path) -> Self {
        Self {
            folder: state.join("snapshots-made"),
        }
    }

    /// Adds to the snapshots of an object what is known of them.
    pub(super) fn tell(&self, object: &Address, all: &mut [Snapshot]) -> Result<(), RuntimeError> {
        let notes = self.notes(object)?;
        for snapshot in all {
            let Some(note) = notes.iter().find(|note| note.is_of(snapshot)) else {
                continue;
            };
            snapshot.made_by = note.made_by;
            snapshot.description.clone_from(&note.description);
            snapshot.expires_at = note.expires_at.or(snapshot.expires_at);
        }
        Ok(())
    }

    /// Adds to what an object is seen to be which snapshots schedules made of it, also those that are gone again: so it is
    /// known when a schedule last did its work.
    pub(super) fn tell_of_last(&self, item: &mut Item) {
        if !item.is_kept_by_server() {
            return;
        }
        // Not to know it is no reason to see nothing.
        let notes = self.notes(&item.address).unwrap_or_default();
        let made: Vec<Value> = notes
            .iter()
            .filter(|note| note.created_at.is_some() && note.made_by.is_some())
            .map(|note| json!({"name": note.name, "createdAt": note.created_at, "madeBy": note.made_by}))
            .collect();
        if !made.is_empty() {
            item.status["snapshots"] = Value::Array(made);
        }
    }

    /// Notes one that is about to be made. `there` are those that are there; what is known of others is forgotten.
    pub(super) fn begin(
        &self,
        object: &Address,
        name: &str,
        new: &NewSnapshot,
        there: &[Snapshot],
        now: Timestamp,
    ) -> Result<(), RuntimeError> {
        let mut notes = self.notes(object)?;
        notes.retain(|note| there.iter().any(|one| note.is_of(one)));
        notes.push(Note {
            name: name.to_owned(),
            asked_at: now,
            created_at: None,
            made_by: new.made_by,
            description: new.description.clone(),
            expires_at: new.expires_at,
        });
        self.write(object, &notes)
    }

    /// It is there since then; none: it was not made.
    pub(super) fn end(
        &self,
        object: &Address,
        name: &str,
        created_at: Option<Timestamp>,
    ) -> Result<(), RuntimeError> {
        let mut notes = self.notes(object)?;
        match created_at {
            None => notes.retain(|note| note.name != name || note.created_at.is_some()),
            Some(_) => notes
                .iter_mut()
                .filter(|note| note.name == name)
                .for_each(|note| note.created_at = created_at),
        }
        self.write(object, &notes)
    }

    /// One has another name.
    pub(super) fn renamed(
        &self,
        object: &Address,
        from: &str,
        to: &str,
    ) -> Result<(), RuntimeError> {
        let mut notes = self.notes(object)?;
        for note in &mut notes {
            if note.name == from {
                to.clone_into(&mut note.name);
            }
        }
        self.write(object, &notes)
    }

    /// An object has another name, or lies in another pool.
    pub(super) fn moved(&self, from: &Address, to: &Address) -> Result<(), RuntimeError> {
        let notes = self.notes(from)?;
        self.write(to, &notes)?;
        self.write(from, &[])
    }

    fn file(&self, object: &Address) -> PathBuf {
        self.folder.join(format!("{object}.json"))
    }

    fn notes(&self, object: &Address) -> Result<Vec<Note>, RuntimeError> {
        let path = self.file(object);
        match path_io::read(&path) {
            // What is damaged tells nothing: all of them are a person's then.
            Ok(text) => Ok(serde_json::from_slice(&text).unwrap_or_default()),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
            Err(error) => Err(failed(object, error)),
        }
    }

    fn write(&self, object: &Address, notes: &[Note]) -> Result<(), RuntimeError> {
        let path = self.file(object);
        let written = match notes {
            [] => match path_io::remove_file(&path) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
                _ => Ok(()),
            },
            notes => path
                .parent()
                .map_or(Ok(()), path_io::create_dir_all)
                .and_then(|()| {
                    let text = serde_json::to_string(notes).unwrap_or_default();
                    path_io::write_durably(&path, text)
                }),
        };
        written.map_err(|error| failed(object, error))
    }
}

fn failed(object: &Address, error: PathError) -> RuntimeError {
    RuntimeError::new("note the snapshots of", Class::NeedsOperator, error).of(object)
}

#[cfg(test)]
mod tests {
    use manifests::kind::Kind;

    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).expect("a time")
    }

    fn snapshot(name: &str, second: i64) -> Snapshot {
        Snapshot {
            name: name.to_owned(),
            created_at: at(second),
            description: String::new(),
            memory: false,
            made_by: None,
            expires_at: None,
        }
    }

    #[test]
    fn only_what_was_made_here_is_known_and_never_another_of_the_same_name() {
        let folder = tempfile::tempdir().expect("a folder");
        let made = MadeHere::new(folder.path());
        let web = Address::in_project(Kind::Instance, "shop", "web");
        let schedule: Uid = "0198f2d7-0000-7000-8000-000000000001"
            .parse()
            .expect("a uid");
        let new = NewSnapshot {
            made_by: Some(schedule),
            description: "nightly".to_owned(),
            ..NewSnapshot::default()
        };
        let by = |object: &Address, mut one: Snapshot| {
            made.tell(object, std::slice::from_mut(&mut one))
                .expect("told");
            (one.made_by, one.description)
        };
        let ours = (Some(schedule), "nightly".to_owned());
        let theirs = (None, String::new());
        made.begin(&web, "night-1", &new, &[], at(5))
            .expect("noted");
        assert_eq!(
            by(&web, snapshot("night-1", 5)),
            ours,
            "a crash came after it"
        );
        assert_eq!(
            by(&web, snapshot("night-1", 5000)),
            theirs,
            "somebody took the name since"
        );
        made.end(&web, "night-1", Some(at(5))).expect("noted");
        assert_eq!(by(&web, snapshot("night-1", 5)), ours);
        assert_eq!(
            by(&web, snapshot("night-1", 6)),
            theirs,
            "a later one of that name"
        );
        assert_eq!(by(&web, snapshot("before", 5)), theirs);
        made.begin(&web, "night-2", &new, &[snapshot("night-1", 5)], at(9))
            .expect("noted");
        made.end(&web, "night-2", None).expect("noted");
        assert_eq!(
            by(&web, snapshot("night-2", 9)),
            theirs,
            "it was never made"
        );
        made.renamed(&web, "night-1", "kept").expect("noted");
        let shop = Address::in_project(Kind::Instance, "shop", "store");
        made.moved(&web, &shop).expect("noted");
        assert_eq!(by(&shop, snapshot("kept", 5)), ours);
        assert_eq!(by(&web, snapshot("kept", 5)), theirs);
    }
}
