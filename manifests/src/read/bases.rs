//! The folders that a source stands on, by the `keel.yaml` of each layer.

use std::path::{Component, Path, PathBuf};

use super::{MOST_BASES, SOURCE_FILE, Texts, source_bytes};
use crate::files::{Entry, Files};
use crate::folder;
use crate::parse::parse;
use crate::path_io::PathError;
use crate::substitute;
use crate::tree::Value;

/// Finds the folders of all bases.
pub(super) fn find<F: Files>(files: &F, texts: &mut Texts) -> Result<(), PathError> {
    let mut border = None;
    let mut open = vec![String::new()];
    while let Some(layer) = open.pop() {
        let file = folder::path(&texts.root, &layer).join(SOURCE_FILE);
        // What is no text is told when all files are read.
        let Some(text) = source_bytes(files, &file)?.and_then(|it| String::from_utf8(it).ok())
        else {
            continue;
        };
        let names: Vec<String> = bases_of(&text)
            .iter()
            .filter_map(|path| folder::join(&texts.root, &layer, path))
            .collect();
        let border = border.get_or_insert_with(|| Border::around(files, &texts.root, &names));
        for name in names {
            if name.is_empty() || texts.bases.contains(&name) {
                continue;
            }
            match border.reach(files, &texts.root, &name) {
                Ok(()) if texts.bases.len() < MOST_BASES => {
                    texts.bases.insert(name.clone());
                    open.push(name);
                }
                Ok(()) => {
                    let why =
                        format!("is one too many: a source stands on at most {MOST_BASES} bases");
                    texts.refused.insert(name, why);
                }
                Err(why) => {
                    texts.refused.insert(name, why);
                }
            }
        }
    }
    Ok(())
}

/// The bases that a `keel.yaml` names, as they are written; what is wrong with them is told elsewhere.
fn bases_of(text: &str) -> Vec<String> {
    if !text.contains("bases") {
        return Vec::new();
    }
    let (documents, _) = parse(SOURCE_FILE, text);
    match documents
        .first()
        .and_then(|node| node.get("bases"))
        .map(|bases| &bases.value)
    {
        Some(Value::List(items)) => items
            .iter()
            .filter_map(|item| substitute::text(&item.value))
            .map(str::to_owned)
            .collect(),
        _ => Vec::new(),
    }
}

/// What bases may not lead out of.
enum Border {
    Repository(PathBuf),
    Folder(PathBuf),
}

impl Border {
    fn around<F: Files>(files: &F, root: &Path, names: &[String]) -> Self {
        if let Some(top) = files.top(root) {
            return Self::Repository(top);
        }
        let holds_all = |folder: &&Path| {
            names
                .iter()
                .all(|name| folder::path(root, name).starts_with(folder))
        };
        // What has nothing but `/` in common was not meant to be one tree.
        let top = root.ancestors().find(holds_all);
        let top = top.filter(|top| top.parent().is_some()).unwrap_or(root);
        Self::Folder(top.to_path_buf())
    }

    /// Whether a base may be read and is a folder. No step of its path may be a link: it could lead anywhere on this host.
    fn reach<F: Files>(&self, files: &F, root: &Path, name: &str) -> Result<(), String> {
        let path = folder::path(root, name);
        let (Self::Repository(top) | Self::Folder(top)) = self;
        if !path.starts_with(top) {
            return Err(match self {
                Self::Repository(_) => "lies outside of the repository".to_owned(),
                Self::Folder(_) => {
                    "lies outside of the folder that the source and its own bases are in".to_owned()
                }
            });
        }
        let mut at = root.to_path_buf();
        for step in Path::new(name).components() {
            if step == Component::ParentDir {
                at.pop();
                continue;
            }
            at.push(step);
            match files.look(&at) {
                Ok(Some(Entry::Folder)) => {}
                Ok(Some(Entry::Link { .. })) => {
                    return Err(
                        "lies behind a symbolic link, which keel does not follow".to_owned()
                    );
                }
                Ok(Some(_)) => {
                    return Err("is no folder: a base is a folder of manifests".to_owned());
                }
                Ok(None) => return Err("is not there".to_owned()),
                Err(error) => return Err(format!("cannot be read: {}", error.source)),
            }
        }
        Ok(())
    }
}
