//! Which files of a tree are manifests, where the tree is a list of names and no folder: the rules of [`crate::read`].

use ignore::gitignore::{Gitignore, GitignoreBuilder};

use crate::read::SOURCE_FILE;

/// The name of the files that say what is passed over.
pub const IGNORE_FILE: &str = ".keelignore";

/// The files of a source, by their names from the root of the tree.
#[derive(Debug)]
pub struct Listing<'a> {
    /// All names.
    names: &'a [String],
    /// The folder of the source; empty: the root of the tree.
    root: String,
    /// What is meant.
    path: String,
    /// Folders and what is passed over in them, the deepest first.
    ignores: Vec<(String, Gitignore)>,
}

impl<'a> Listing<'a> {
    /// The source to which a path belongs: the nearest folder with a `keel.yaml`, else the path. None where nothing of
    /// that name is in the tree. `names` are sorted.
    pub fn new(names: &'a [String], path: &str) -> Option<Self> {
        let is_file = |name: &str| names.binary_search_by(|one| one.as_str().cmp(name)).is_ok();
        let start = if path.is_empty() {
            path
        } else if is_file(path) {
            parent(path)
        } else {
            names
                .iter()
                .any(|name| below(name, path).is_some())
                .then_some(path)?
        };
        let root = above(start)
            .find(|folder| is_file(&join(folder, SOURCE_FILE)))
            .unwrap_or(start);
        Some(Self {
            names,
            root: root.to_owned(),
            path: path.to_owned(),
            ignores: Vec::new(),
        })
    }

    /// The folder of the source; empty: the root of the tree.
    pub fn root(&self) -> &str {
        &self.root
    }

    /// What is meant, relative to the folder of the source; none: all.
    pub fn part(&self) -> Option<&str> {
        below(&self.path, &self.root)
    }

    /// The ignore files that count here: those of the source and of the folders above it.
    pub fn ignore_files(&self) -> Vec<String> {
        let counts = |folder: &str| {
            folder == self.root
                || below(folder, &self.root).is_some()
                || above(&self.root).any(|above| above == folder)
        };
        self.names
            .iter()
            .filter(|name| file_name(name) == IGNORE_FILE && counts(parent(name)))
            .cloned()
            .collect()
    }

    /// Takes in what an ignore file says. A line that cannot be understood counts as none.
    pub fn ignore(&mut self, file: &str, text: &str) {
        let mut builder = GitignoreBuilder::new("");
        for line in text.lines() {
            let _ = builder.add_line(None, line);
        }
        if let Ok(rules) = builder.build() {
            self.ignores.push((parent(file).to_owned(), rules));
            self.ignores
                .sort_by_key(|(folder, _)| std::cmp::Reverse(folder.len()));
        }
    }

    /// The manifests of the source.
    pub fn manifests(&self) -> impl Iterator<Item = &'a str> {
        self.names
            .iter()
            .map(String::as_str)
            .filter(|name| self.is_manifest(name))
    }

    /// Whether a name is one of a manifest of this source that is not passed over.
    pub fn is_manifest(&self, name: &str) -> bool {
        let Some(within) = below(name, &self.root) else {
            return false;
        };
        let named = name == self.path || name.ends_with(".yaml") || name.ends_with(".yml");
        let hidden = within.split('/').any(|step| step.starts_with('.'));
        named && !hidden && !self.passed_over(name)
    }

    /// Whether an ignore file names it or a folder that it is in.
    fn passed_over(&self, name: &str) -> bool {
        let mut ends: Vec<usize> = name.match_indices('/').map(|(at, _)| at).collect();
        ends.push(name.len());
        ends.into_iter()
            .map(|end| &name[..end])
            .filter(|step| below(step, &self.root).is_some())
            .any(|step| {
                let said = self.ignores.iter().find_map(|(folder, rules)| {
                    let said = rules.matched(below(step, folder)?, step.len() < name.len());
                    (!said.is_none()).then_some(said)
                });
                said.is_some_and(|said| said.is_ignore())
            })
    }
}

/// The rest of a name below a folder; none where it is not below it.
pub fn below<'n>(name: &'n str, folder: &str) -> Option<&'n str> {
    if folder.is_empty() {
        return Some(name).filter(|name| !name.is_empty());
    }
    name.strip_prefix(folder)?.strip_prefix('/')
}

fn join(folder: &str, name: &str) -> String {
    if folder.is_empty() {
        name.to_owned()
    } else {
        format!("{folder}/{name}")
    }
}

fn parent(name: &str) -> &str {
    name.rsplit_once('/').map_or("", |(folder, _)| folder)
}

fn file_name(name: &str) -> &str {
    name.rsplit('/').next().unwrap_or(name)
}

/// A folder and those above it, up to the root of the tree.
fn above(folder: &str) -> impl Iterator<Item = &str> {
    std::iter::successors(Some(folder), |folder| {
        (!folder.is_empty()).then(|| parent(folder))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::path_io;
    use crate::read;

    const IGNORES: &[(&str, &str)] = &[
        (".keelignore", "*.draft.yaml\n/hosts/old\n"),
        ("hosts/edge/.keelignore", "skipped/\n!kept.draft.yaml\n"),
    ];

    const FILES: &[&str] = &[
        "all.yaml",
        "hosts/edge/apps/web.yaml",
        "hosts/edge/apps/web.draft.yaml",
        "hosts/edge/kept.draft.yaml",
        "hosts/edge/keel.yaml",
        "hosts/edge/.hidden/x.yaml",
        "hosts/edge/.x.yaml",
        "hosts/edge/skipped/deep/x.yaml",
        "hosts/edge/notes.txt",
        "hosts/old/x.yml",
        "hosts/other/x.yml",
    ];

    /// The same tree as a list and as a folder.
    #[test]
    fn a_list_is_read_as_a_folder_is() {
        let folder = tempfile::tempdir().expect("a folder");
        let top = folder.path().canonicalize().expect("it is there");
        let write = |name: &str, text: &str| {
            let path = top.join(name);
            path_io::create_dir_all(path.parent().expect("above")).expect("a folder");
            path_io::write(path, text).expect("written");
        };
        FILES.iter().for_each(|name| write(name, "a: 1\n"));
        IGNORES.iter().for_each(|(name, text)| write(name, text));
        let all = FILES
            .iter()
            .copied()
            .chain(IGNORES.iter().map(|(name, _)| *name));
        let mut names: Vec<String> = all.map(str::to_owned).collect();
        names.sort();
        for path in [
            "",
            "hosts",
            "hosts/edge",
            "hosts/edge/apps",
            "hosts/edge/apps/web.yaml",
            "hosts/edge/notes.txt",
            "hosts/other",
        ] {
            let texts = read::read(&top.join(path)).expect(path);
            let mut listing = Listing::new(&names, path).expect(path);
            for name in listing.ignore_files() {
                let said = IGNORES
                    .iter()
                    .find(|(file, _)| *file == name)
                    .expect("one of them");
                listing.ignore(said.0, said.1);
            }
            assert_eq!(
                top.join(listing.root()),
                if listing.root().is_empty() {
                    top.join("")
                } else {
                    texts.root.clone()
                },
                "{path}"
            );
            assert_eq!(listing.part(), texts.only.as_deref(), "{path}");
            let found: Vec<&str> = listing
                .manifests()
                .filter_map(|name| below(name, listing.root()))
                .collect();
            let read: Vec<&str> = texts.files.iter().map(|(name, _)| name.as_str()).collect();
            assert_eq!(found, read, "{path}");
        }
        assert!(Listing::new(&names, "nowhere").is_none());
        assert!(Listing::new(&names, "hosts/ed").is_none());
    }
}
