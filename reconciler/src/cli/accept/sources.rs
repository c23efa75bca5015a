//! Other sources of the repository that have a file that is written: the same base may be under several.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use manifests::files::{Disk, Entry, Files as _};
use manifests::folder;
use manifests::read::{self, SOURCE_FILE, Texts};

use super::meaning;
use crate::cli::read::Source;
use crate::source::git;
use crate::view::accept::OtherSource;

/// In so many folders of a repository sources are looked for.
const MOST_FOLDERS: usize = 10_000;

/// The other sources that change, by their folders, and what changes in each.
pub(super) fn that_change(before: &Texts, after: &Texts) -> Vec<OtherSource> {
    let pairs = before.files.iter().zip(&after.files);
    let changed: BTreeMap<PathBuf, &String> = pairs
        .filter(|(old, new)| old != new)
        .map(|((name, _), (_, text))| (folder::path(&before.root, name), text))
        .collect();
    let Some(first) = changed.keys().next() else {
        return Vec::new();
    };
    // Outside of git, what lies beside the source and its bases.
    let holds_all = |top: &&Path| {
        let mut all = before.bases.iter();
        all.all(|base| folder::path(&before.root, base).starts_with(top)) && first.starts_with(top)
    };
    let around = || before.root.ancestors().find(holds_all);
    let top = git::top(&before.root).or_else(around);
    let mut found = Vec::new();
    for root in top.map(sources_below).unwrap_or_default() {
        let path = folder::name(&before.root, &root);
        if root != before.root
            && let Some(source) = look(&root, &changed)
        {
            found.push(OtherSource {
                base: before.bases.contains(&path),
                path,
                ..source
            });
        }
    }
    found
}

/// The folders with a `keel.yaml`, by path; hidden ones and links are passed over.
fn sources_below(top: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut open = vec![top.to_path_buf()];
    let mut count = 0;
    while let Some(folder) = open.pop() {
        count += 1;
        if count > MOST_FOLDERS {
            tracing::warn!(top = %top.display(), "not all folders were searched for other sources");
            break;
        }
        let Ok(entries) = Disk.list(&folder) else {
            continue;
        };
        for (path, entry) in entries {
            let name = path.file_name().unwrap_or_default();
            match entry {
                Entry::File if name == SOURCE_FILE => found.push(folder.clone()),
                Entry::Folder if !name.as_encoded_bytes().starts_with(b".") => open.push(path),
                _ => {}
            }
        }
    }
    found.sort();
    found
}

/// What the changed files make of a source; none where it has none of them, or nothing changes.
fn look(root: &Path, changed: &BTreeMap<PathBuf, &String>) -> Option<OtherSource> {
    let told = |changes, problem: Option<&str>| {
        Some(OtherSource {
            path: String::new(),
            base: false,
            changes,
            problem: problem.map(str::to_owned),
        })
    };
    // What cannot be read is not applied either.
    let texts = read::read(root).ok()?;
    let mut after = texts.clone();
    let mut has_one = false;
    for (name, text) in &mut after.files {
        if let Some(new) = changed.get(&folder::path(root, name)) {
            (*new).clone_into(text);
            has_one = true;
        }
    }
    if !has_one {
        return None;
    }
    let meaning = |texts| Source::of(texts, None, None).resolved.desired;
    let Some(before) = meaning(texts) else {
        let problem = "its manifests are wrong already: what changes in it is not known";
        return told(Vec::new(), Some(problem));
    };
    let Some(after) = meaning(after) else {
        return told(Vec::new(), Some("its manifests would be wrong then"));
    };
    let changes = meaning::others(&before, &after, None);
    (!changes.is_empty()).then(|| told(changes, None))?
}
