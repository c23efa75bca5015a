//! What is noted beside a backup that a schedule made: by this it is known what it is without reading it, also where it is
//! encrypted, and that it is ours to delete.
//!
//! ```text
//! FOLDER/instance_web_20261127T080000Z.keel        the backup
//!       /instance_web_20261127T080000Z.keel.json   the note
//! ```
//! The note is on disk before the file has its name, so that no file of ours is without one. A note whose file is not there,
//! or is another by now, says nothing of any file.

use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use manifests::id::{Address, Uid};
use manifests::path_io::{self, AtPath as _, PathError};
use serde::{Deserialize, Serialize};

/// What files of backups end with.
const FILE: &str = ".keel";
/// What their notes end with.
const NOTE: &str = ".keel.json";
/// The longest note, in bytes.
const LONGEST: u64 = 64 << 10;
/// The version that is written; a reader takes it and those before.
const VERSION: u32 = 1;

/// What is known of a backup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Noted {
    /// Of which form this is.
    pub format_version: u32,
    /// Of what it is.
    pub object: Address,
    /// The identity of that.
    pub uid: Uid,
    /// The Backup that made it.
    pub made_by: Uid,
    /// When.
    pub created_at: jiff::Timestamp,
    /// Whether it is encrypted.
    pub encrypted: bool,
    /// Bytes of the file.
    pub size: u64,
    /// SHA-256 of all sums in it.
    pub sums: String,
}

/// A file in a folder of backups.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    /// Its name.
    pub name: String,
    /// Its bytes.
    pub size: u64,
    /// What is noted of it; none: no schedule made it.
    pub noted: Option<Noted>,
}

impl Kept {
    /// Whether it is as long as when it was made; one that is not is none of which anything is known.
    pub fn is_whole(&self) -> bool {
        self.noted
            .as_ref()
            .is_some_and(|noted| noted.size == self.size)
    }
}

impl Noted {
    /// What is noted by now, before the file is written.
    pub(super) const fn new(
        object: Address,
        (uid, made_by): (Uid, Uid),
        created_at: jiff::Timestamp,
        encrypted: bool,
    ) -> Self {
        Self {
            format_version: VERSION,
            object,
            uid,
            made_by,
            created_at,
            encrypted,
            size: 0,
            sums: String::new(),
        }
    }

    /// Writes it beside a file.
    pub(super) fn write(&self, file: &Path) -> Result<(), PathError> {
        let path = note_of(file);
        let text = serde_json::to_vec_pretty(self);
        let text = text.map_err(io::Error::from).at("write", &path)?;
        path_io::write_durably(path, text)
    }
}

fn note_of(file: &Path) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(".json");
    PathBuf::from(name)
}

fn note(path: &Path) -> Option<Noted> {
    let facts = path.symlink_metadata().ok()?;
    if !facts.is_file() || facts.size() > LONGEST {
        return None;
    }
    let text = path_io::read(path).ok()?;
    let noted: Noted = serde_json::from_slice(&text).ok()?;
    (noted.format_version <= VERSION).then_some(noted)
}

/// The backups in a folder, by their names. Links are none.
///
/// # Errors
/// It cannot be read.
pub fn kept_in(folder: &Path) -> Result<Vec<Kept>, PathError> {
    let mut all = Vec::new();
    for path in path_io::list(folder)? {
        let Some(name) = path.file_name().and_then(|name| name.to_str()) else {
            continue;
        };
        let facts = match path.symlink_metadata() {
            Ok(facts) if facts.is_file() && name.ends_with(FILE) && !name.starts_with('.') => facts,
            _ => continue,
        };
        all.push(Kept {
            name: name.to_owned(),
            size: facts.size(),
            noted: note(&note_of(&path)),
        });
    }
    all.sort_by(|one, other| one.name.cmp(&other.name));
    Ok(all)
}

/// Deletes a backup that this one made, and is as it was; false: it is not, or not any more.
///
/// # Errors
/// It cannot be deleted.
pub fn delete(folder: &Path, name: &str, made_by: &Uid) -> Result<bool, PathError> {
    let ours = |kept: &Kept| {
        let noted = kept.noted.as_ref();
        kept.name == name && kept.is_whole() && noted.is_some_and(|noted| noted.made_by == *made_by)
    };
    if !kept_in(folder)?.iter().any(ours) {
        return Ok(false);
    }
    let path = folder.join(name);
    path_io::remove_file(&path)?;
    path_io::remove_file(note_of(&path))?;
    Ok(true)
}

/// Removes the notes of this Backup that have no file: those of files that were not written to their end.
///
/// # Errors
/// One cannot be removed.
pub fn sweep(folder: &Path, made_by: &Uid) -> Result<(), PathError> {
    for path in path_io::list(folder)? {
        let name = path.file_name().and_then(|name| name.to_str());
        let Some(of) = name.and_then(|name| name.strip_suffix(NOTE)) else {
            continue;
        };
        let ours = note(&path).is_some_and(|noted| noted.made_by == *made_by);
        if ours && !folder.join(format!("{of}{FILE}")).exists() {
            path_io::remove_file(&path)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn uid(number: u128) -> Uid {
        let text = uuid::Uuid::from_u128(number).to_string();
        text.parse().unwrap()
    }

    fn noted(folder: &Path, name: &str, made_by: u128, content: &str, size: u64) {
        let file = folder.join(name);
        let made = Noted {
            size,
            ..Noted::new(
                "instance/web".parse().unwrap(),
                (uid(9), uid(made_by)),
                jiff::Timestamp::UNIX_EPOCH,
                false,
            )
        };
        made.write(&file).unwrap();
        path_io::write(&file, content).unwrap();
    }

    fn names(folder: &Path) -> Vec<String> {
        let mut all: Vec<String> = path_io::list(folder)
            .unwrap()
            .iter()
            .map(|path| path.file_name().unwrap().to_string_lossy().into_owned())
            .collect();
        all.sort();
        all
    }

    #[test]
    fn only_what_one_made_and_is_as_it_was_is_deleted() {
        let temporary = tempfile::tempdir().unwrap();
        let folder = temporary.path();
        noted(folder, "a.keel", 1, "whole", 5);
        noted(folder, "other.keel", 2, "whole", 5);
        noted(folder, "short.keel", 1, "who", 5);
        path_io::write(folder.join("foreign.keel"), "whole").unwrap();
        path_io::write(folder.join("treasure"), "whole").unwrap();
        std::os::unix::fs::symlink(folder.join("treasure"), folder.join("link.keel")).unwrap();
        noted(folder, "link", 1, "x", 5);
        path_io::rename(folder.join("link.json"), folder.join("link.keel.json")).unwrap();
        let all = kept_in(folder).unwrap();
        let told: Vec<_> = all
            .iter()
            .map(|kept| (kept.name.as_str(), kept.noted.is_some(), kept.is_whole()))
            .collect();
        assert_eq!(
            told,
            [
                ("a.keel", true, true),
                ("foreign.keel", false, false),
                ("other.keel", true, true),
                ("short.keel", true, false),
            ]
        );
        let before = names(folder);
        for name in [
            "foreign.keel",
            "other.keel",
            "short.keel",
            "link.keel",
            "treasure",
            "../x",
        ] {
            assert!(!delete(folder, name, &uid(1)).unwrap(), "{name}");
        }
        assert_eq!(names(folder), before);
        assert!(delete(folder, "a.keel", &uid(1)).unwrap());
        assert_eq!(before.len() - names(folder).len(), 2);
    }

    #[test]
    fn notes_of_files_that_never_came_go() {
        let temporary = tempfile::tempdir().unwrap();
        let folder = temporary.path();
        for (name, made_by) in [("a.keel", 1), ("b.keel", 1), ("c.keel", 2)] {
            noted(folder, name, made_by, "x", 1);
        }
        for name in ["b.keel", "c.keel"] {
            path_io::remove_file(folder.join(name)).unwrap();
        }
        path_io::write(folder.join("mine.keel.json"), "{}").unwrap();
        sweep(folder, &uid(1)).unwrap();
        assert_eq!(
            names(folder),
            ["a.keel", "a.keel.json", "c.keel.json", "mine.keel.json"]
        );
    }
}
