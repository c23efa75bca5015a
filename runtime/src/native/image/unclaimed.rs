//! Images that were brought for somebody who has not written down yet that they are theirs.
//!
//! An image gets its name before its document is recorded. Whoever is killed in between would leave it behind, and
//! nothing would tell it from one that a person imported.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use manifests::path_io;

use super::error::ImageError;
use super::store::ImageStore;

/// The empty file beside an image that nobody has claimed.
const UNCLAIMED: &str = "unclaimed";

/// Marks what is about to get its name as unclaimed.
pub(super) fn mark(folder: &Path) -> Result<(), ImageError> {
    Ok(path_io::write(folder.join(UNCLAIMED), "")?)
}

impl ImageStore {
    fn mark_of(&self, fingerprint: &str) -> PathBuf {
        self.folder().join(fingerprint).join(UNCLAIMED)
    }

    /// Says that somebody has recorded an image as theirs.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn claim(&self, fingerprint: &str) -> Result<(), ImageError> {
        Ok(path_io::remove_file(self.mark_of(fingerprint))?)
    }

    /// Removes images that nobody has claimed, nobody uses and no person brought in. The caller knows that nobody is importing.
    ///
    /// # Errors
    /// The store cannot be read, or an image not removed.
    pub fn sweep_unclaimed(&self, used: &BTreeSet<String>) -> Result<(), ImageError> {
        for image in self.list()?.images {
            let fingerprint = &image.fingerprint;
            let unclaimed = self.mark_of(fingerprint).exists() && !self.is_kept(fingerprint);
            if unclaimed && !used.contains(fingerprint) {
                self.delete(fingerprint, used)?;
            }
        }
        Ok(())
    }
}
