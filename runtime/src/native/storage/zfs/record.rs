//! Which datasets belong to a volume. They are named before they are made and until they are gone, so that none is ever
//! forgotten; folders move as those of all pools do, and ZFS knows nothing of it.

use std::path::{Path, PathBuf};

use manifests::path_io;
use serde::{Deserialize, Serialize};

use crate::native::storage::driver::VolumeId;
use crate::native::storage::error::StorageError;
use crate::native::storage::marker;

/// In the folder of a volume.
const RECORD: &str = "datasets.json";
/// In the folder of a snapshot: the dataset and its snapshot.
const KEPT: &str = "snapshot.zfs";

/// The datasets of a volume, by their last words.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Datasets {
    format_version: u32,
    /// The one with its files.
    pub(super) tree: String,
    /// One that is to take its place.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) next: Option<String>,
    /// Those that only have snapshots still.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) past: Vec<String>,
}

impl Datasets {
    pub(super) const fn of(tree: String) -> Self {
        Self {
            format_version: 1,
            tree,
            next: None,
            past: Vec::new(),
        }
    }

    /// All of them.
    pub(super) fn all(&self) -> impl Iterator<Item = &String> {
        [&self.tree].into_iter().chain(&self.next).chain(&self.past)
    }

    /// Those of the volume in a folder; `None`: it has none.
    pub(super) fn read(volume: &Path) -> Result<Option<Self>, StorageError> {
        let path = volume.join(RECORD);
        let Some(found) = marker::read::<Self>(&path)? else {
            return Ok(None);
        };
        let lawful = found.all().all(|name| is_name(name));
        match lawful {
            true => Ok(Some(found)),
            false => Err(no_name(path)),
        }
    }

    /// The same of a volume that must have some.
    pub(super) fn of_volume(volume: &Path, id: &VolumeId) -> Result<Self, StorageError> {
        Self::read(volume)?.ok_or_else(|| StorageError::NoVolume(id.clone()))
    }

    pub(super) fn write(&self, volume: &Path) -> Result<(), StorageError> {
        let path = volume.join(RECORD);
        Ok(path_io::write_durably(&path, marker::text(&path, self)?)?)
    }
}

/// A snapshot that a folder names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Named {
    /// The dataset.
    pub(super) dataset: String,
    snapshot: String,
}

impl Named {
    pub(super) const fn new(dataset: String, snapshot: String) -> Self {
        Self { dataset, snapshot }
    }

    /// As ZFS calls it in the pool.
    pub(super) fn leaf(&self) -> String {
        format!("{}@{}", self.dataset, self.snapshot)
    }

    pub(super) fn read(folder: &Path) -> Result<Option<Self>, StorageError> {
        let path = folder.join(KEPT);
        let Some(text) = path_io::read_if_exists(&path)? else {
            return Ok(None);
        };
        match text.trim_end().split_once('@') {
            Some((dataset, snapshot)) if is_name(dataset) && is_name(snapshot) => {
                Ok(Some(Self::new(dataset.to_owned(), snapshot.to_owned())))
            }
            _ => Err(no_name(path)),
        }
    }

    pub(super) fn write(&self, folder: &Path) -> Result<(), StorageError> {
        let text = format!("{}\n", self.leaf());
        Ok(path_io::write_durably(folder.join(KEPT), text)?)
    }
}

fn is_name(name: &str) -> bool {
    let digits = name.strip_prefix("keel_").unwrap_or_default();
    !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_hexdigit())
}

fn no_name(path: PathBuf) -> StorageError {
    StorageError::Broken {
        path,
        problem: "it names no dataset of a pool".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_ours_are_taken_from_records() {
        let folder = tempfile::tempdir().unwrap();
        let mut datasets = Datasets::of("keel_0a".to_owned());
        datasets.write(folder.path()).unwrap();
        assert_eq!(
            Datasets::read(folder.path()).unwrap(),
            Some(datasets.clone())
        );
        for evil in ["", "keel_", "../x", "keel_0/x", "keel_0@x", "-r", "tank"] {
            datasets.past = vec![evil.to_owned()];
            datasets.write(folder.path()).unwrap();
            Datasets::read(folder.path()).unwrap_err();
            Named::new("keel_0a".to_owned(), evil.to_owned())
                .write(folder.path())
                .unwrap();
            Named::read(folder.path()).unwrap_err();
        }
        let named = Named::new("keel_0a".to_owned(), "keel_1b".to_owned());
        named.write(folder.path()).unwrap();
        assert_eq!(Named::read(folder.path()).unwrap(), Some(named));
        assert_eq!(Datasets::read(&folder.path().join("none")).unwrap(), None);
    }
}
