//! Which files of a layer are manifests: those with the ending of one, but for hidden ones and what `.keelignore` names.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use ignore::Match;
use ignore::gitignore::{Gitignore, GitignoreBuilder};

use super::link;
use crate::files::{Entry, Files};
use crate::path_io::{AtPath as _, PathError};

/// The name of the files that say what is passed over.
const IGNORE_FILE: &str = ".keelignore";

/// A walk through one layer.
pub(super) struct Walk<'a, F> {
    pub(super) files: &'a F,
    /// What is meant: it counts as a manifest, however its name ends.
    pub(super) path: &'a Path,
    /// Layers of their own, which are left out.
    pub(super) others: &'a BTreeSet<PathBuf>,
    pub(super) found: &'a mut BTreeSet<PathBuf>,
}

/// What is passed over in a folder, and the folder.
type Rules = (PathBuf, Gitignore);

impl<F: Files> Walk<'_, F> {
    /// Finds the manifests of a layer. What is passed over is told by the folders above it as well, as far as they are in
    /// its repository.
    ///
    /// # Errors
    /// A folder cannot be listed, or a manifest or a folder is a symbolic link.
    pub(super) fn layer(&mut self, top: &Path) -> Result<(), PathError> {
        let mut rules = Vec::new();
        let border = self.files.top(top);
        let is_inside = |folder: &&Path| border.as_ref().is_none_or(|top| folder.starts_with(top));
        let above: Vec<&Path> = top.ancestors().skip(1).take_while(is_inside).collect();
        for folder in above.into_iter().rev() {
            let file = folder.join(IGNORE_FILE);
            // What may not be looked at tells nothing.
            if let Ok(Some(entry)) = self.files.look(&file) {
                rules.extend(self.rules(folder, &file, entry)?);
            }
        }
        self.folder(top, &mut rules)
    }

    fn folder(&mut self, folder: &Path, rules: &mut Vec<Rules>) -> Result<(), PathError> {
        let entries = self.files.list(folder)?;
        let outer = rules.len();
        let file = folder.join(IGNORE_FILE);
        if let Some((_, entry)) = entries.iter().find(|(path, _)| *path == file) {
            rules.extend(self.rules(folder, &file, *entry)?);
        }
        for (path, entry) in entries {
            let is_folder = entry == Entry::Folder;
            if is_passed_over(&path, is_folder, rules) || self.others.contains(&path) {
                continue;
            }
            let ends = |ending| path.extension().is_some_and(|end| end == ending);
            let is_manifest = path == self.path || ends("yaml") || ends("yml");
            match entry {
                Entry::Folder => self.folder(&path, rules)?,
                Entry::File if is_manifest => {
                    self.found.insert(path);
                }
                Entry::Link { to_folder } if is_manifest || to_folder => {
                    return Err(link()).at("read", path);
                }
                _ => {}
            }
        }
        rules.truncate(outer);
        Ok(())
    }

    /// What an ignore file says. A line that cannot be understood counts as none.
    fn rules(&self, folder: &Path, file: &Path, entry: Entry) -> Result<Option<Rules>, PathError> {
        match entry {
            Entry::File => {}
            Entry::Link { .. } => return Err(link()).at("read", file),
            _ => return Ok(None),
        }
        let bytes = self.files.read(file)?;
        let text = String::from_utf8_lossy(&bytes);
        let mut builder = GitignoreBuilder::new(folder);
        for line in text.trim_start_matches('\u{feff}').lines() {
            let _ = builder.add_line(None, line);
        }
        Ok(builder
            .build()
            .ok()
            .map(|rules| (folder.to_path_buf(), rules)))
    }
}

/// Whether it is hidden or an ignore file names it: of those that name it, the one of the deepest folder counts.
fn is_passed_over(path: &Path, is_folder: bool, rules: &[Rules]) -> bool {
    let said = rules.iter().rev().find_map(|(folder, rules)| {
        match rules.matched(path.strip_prefix(folder).ok()?, is_folder) {
            Match::None => None,
            said => Some(said.is_ignore()),
        }
    });
    said.unwrap_or_else(|| {
        path.file_name()
            .is_some_and(|name| name.as_encoded_bytes().starts_with(b"."))
    })
}
