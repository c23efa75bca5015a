//! [`Told`]: what was said of each pull request, kept so that it is not said again by the next controller.

use std::collections::BTreeMap;
use std::path::Path;

use manifests::path_io::{self, PathError};
use serde::{Deserialize, Serialize};

/// What was said of one.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct One {
    /// The commit that it was about.
    pub(super) commit: String,
    /// What was in force then.
    pub(super) in_force: Option<String>,
    /// The digest of what was said; none: nothing, since it is closed or nobody's business.
    pub(super) said: Option<String>,
    /// The comment that has it.
    pub(super) comment: Option<u64>,
}

/// What was said of all.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Told(pub(super) BTreeMap<u64, One>);

impl Told {
    /// As it is kept; where that cannot be read it is said again.
    pub(super) fn read(file: &Path) -> Self {
        let text = path_io::read_if_exists(file).ok().flatten();
        let told = text.and_then(|text| serde_json::from_str(&text).ok());
        told.unwrap_or_default()
    }

    /// Keeps it, and forgets all but the newest.
    pub(super) fn keep(&mut self, file: &Path, most: usize) -> Result<(), PathError> {
        while self.0.len() > most {
            self.0.pop_first();
        }
        if let Some(folder) = file.parent() {
            path_io::create_dir_all(folder)?;
        }
        // Maps of texts always have a form in JSON.
        path_io::write_durably(file, serde_json::to_string(self).unwrap_or_default())
    }
}
