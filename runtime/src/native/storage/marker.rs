//! The small files that tell what a folder of ours is: `pool.json`, `volume.json`, `trash.json`.

use std::path::Path;

use manifests::path_io;
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::driver::{ContentType, Initial, OwnFiles, VolumeContent, VolumeId, VolumePlan};
use super::error::StorageError;

/// In the pool's folder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct PoolMarker {
    pub(super) format_version: u32,
    pub(super) driver: String,
    pub(super) mark: String,
}

/// In a volume's folder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct VolumeMarker {
    pub(super) format_version: u32,
    pub(super) volume: VolumeId,
    pub(super) mark: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) image: Option<String>,
    #[serde(default)]
    pub(super) content: ContentType,
    /// As it was asked for; the file system may be up to a block bigger, a disk up to a sector.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) size: Option<u64>,
    #[serde(default)]
    pub(super) own: OwnFiles,
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) mode: u32,
}

impl VolumeMarker {
    pub(super) fn of(plan: &VolumePlan) -> Self {
        Self {
            format_version: 1,
            volume: plan.id.clone(),
            mark: plan.mark.clone(),
            image: plan.image.clone(),
            content: match plan.content {
                VolumeContent::Filesystem => ContentType::Filesystem,
                VolumeContent::Block { .. } => ContentType::Block,
                VolumeContent::Iso { .. } => ContentType::Iso,
            },
            size: plan.size,
            own: plan.own.clone(),
            uid: plan.initial.uid,
            gid: plan.initial.gid,
            mode: plan.initial.mode,
        }
    }

    pub(super) fn initial(&self) -> Initial {
        Initial {
            uid: self.uid,
            gid: self.gid,
            mode: self.mode,
        }
    }
}

/// Reads such a file; `None` if it is not there.
pub(super) fn read<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, StorageError> {
    let Some(text) = path_io::read_if_exists(path)? else {
        return Ok(None);
    };
    serde_json::from_str(&text)
        .map(Some)
        .map_err(|error| broken(path, &error))
}

/// Its text.
pub(super) fn text<T: Serialize>(path: &Path, value: &T) -> Result<String, StorageError> {
    serde_json::to_string_pretty(value).map_err(|error| broken(path, &error))
}

fn broken(path: &Path, error: &serde_json::Error) -> StorageError {
    StorageError::Broken {
        path: path.to_path_buf(),
        problem: error.to_string(),
    }
}
