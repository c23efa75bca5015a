//! Folders to texts: the only reading of manifests from disk.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Component, Path, PathBuf};

use crate::attached::{self, AttachedFiles};
use crate::folder;
use crate::parse::parse;
use crate::path_io::{self, AtPath as _, PathError};
use crate::substitute;
use crate::tree::Value;

/// The files of a source.
#[derive(Debug, Clone, Default)]
pub struct Texts {
    /// The nearest folder with a `keel.yaml`, else the path that was given. Absolute.
    pub root: PathBuf,
    /// Name relative to the root, and content, by name; `../base/web.yaml` for what a base has.
    pub files: Vec<(String, String)>,
    /// Why this is only a part of the source. The whole tree is read all the same: profiles and references of a part
    /// stand anywhere in it.
    pub partial: Option<String>,
    /// The file or folder that is meant, relative to the root; none: all.
    pub only: Option<String>,
    /// The files that manifests take in as texts.
    pub attached: AttachedFiles,
    /// The folders of the bases, by name.
    pub bases: BTreeSet<String>,
    /// Bases that could not be read, by name, and why: in words that go on after what was written.
    pub refused: BTreeMap<String, String>,
}

impl Texts {
    fn add(&mut self, path: &Path) -> Result<(), PathError> {
        let text = String::from_utf8(path_io::read(path)?)
            .map_err(|_| std::io::Error::other("it is not UTF-8"))
            .at("read", path)?;
        self.files.push((name_in(&self.root, path)?, text));
        Ok(())
    }

    /// Whether a file belongs to what is meant.
    pub fn means(&self, file: &str) -> bool {
        self.only
            .as_deref()
            .is_none_or(|only| folder::holds(only, file))
    }
}

/// The name of the file that makes a folder a source.
pub const SOURCE_FILE: &str = "keel.yaml";

/// A source stands on at most so many bases.
pub const MOST_BASES: usize = 100;

/// Reads a folder or a file of manifests, and the folders that `bases` name. Hidden folders and what `.keelignore` names
/// are passed over, in bases as well. Symbolic links are not followed, and not passed over either: objects that were
/// declared behind one would count as given up.
///
/// A base lies in the git repository of the source; outside of git, in the folder that holds the source and what its own
/// `keel.yaml` names. It is read as a part of no other layer, also where it lies in one.
///
/// # Errors
/// Something cannot be read, or is a symbolic link to a folder or to a manifest.
pub fn read(path: &Path) -> Result<Texts, PathError> {
    let (path, mut texts) = place(path)?;
    read_bases(&mut texts)?;
    let folders: Vec<String> = std::iter::once(String::new())
        .chain(texts.bases.iter().cloned())
        .collect();
    for folder in &folders {
        walk(folder, &path, &folders, &mut texts)?;
    }
    texts.files.sort();
    texts.files.dedup_by(|a, b| a.0 == b.0);
    texts.attached = attached::read(&texts.root, &folders, &texts.files);
    Ok(texts)
}

/// Reads the files of a layer; folders that are layers of their own are left out.
fn walk(folder: &str, path: &Path, folders: &[String], texts: &mut Texts) -> Result<(), PathError> {
    let top = folder::path(&texts.root, folder);
    let others: BTreeSet<PathBuf> = folders
        .iter()
        .map(|other| folder::path(&texts.root, other))
        .collect();
    let walk = ignore::WalkBuilder::new(&top)
        .standard_filters(false)
        .hidden(true)
        .parents(true)
        .add_custom_ignore_filename(".keelignore")
        .filter_entry(move |entry| entry.depth() == 0 || !others.contains(entry.path()))
        .build();
    for entry in walk {
        let entry = entry
            .map_err(std::io::Error::other)
            .at("walk through", &top)?;
        let is_manifest = entry.path() == path
            || entry
                .path()
                .extension()
                .is_some_and(|end| end == "yaml" || end == "yml");
        if entry.path_is_symlink() && (is_manifest || entry.path().is_dir()) {
            return Err(link()).at("read", entry.path());
        }
        if entry.file_type().is_some_and(|kind| kind.is_file()) && is_manifest {
            texts.add(entry.path())?;
        }
    }
    Ok(())
}

/// Finds the folders of all bases, by the `keel.yaml` of each layer.
fn read_bases(texts: &mut Texts) -> Result<(), PathError> {
    let mut border = None;
    let mut open = vec![String::new()];
    while let Some(layer) = open.pop() {
        let Some(text) = source_text(&folder::path(&texts.root, &layer))? else {
            continue;
        };
        let names: Vec<String> = bases_of(&text)
            .iter()
            .filter_map(|path| folder::join(&texts.root, &layer, path))
            .collect();
        let border = border.get_or_insert_with(|| Border::around(&texts.root, &names));
        for name in names {
            if name.is_empty() || texts.bases.contains(&name) {
                continue;
            }
            match border.reach(&texts.root, &name) {
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

/// The text of the `keel.yaml` of a folder, if it has one.
fn source_text(folder: &Path) -> Result<Option<String>, PathError> {
    let file = folder.join(SOURCE_FILE);
    match file.symlink_metadata() {
        Ok(kind) if kind.is_symlink() => Err(link()).at("read", &file),
        // What is no text is told when all files are read.
        Ok(kind) if kind.is_file() => Ok(String::from_utf8(path_io::read(&file)?).ok()),
        _ => Ok(None),
    }
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
    fn around(root: &Path, names: &[String]) -> Self {
        let is_repository = |folder: &&Path| folder.join(".git").symlink_metadata().is_ok();
        if let Some(top) = root.ancestors().find(is_repository) {
            return Self::Repository(top.to_path_buf());
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
    fn reach(&self, root: &Path, name: &str) -> Result<(), String> {
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
            let kind = at.symlink_metadata().map_err(|error| match error.kind() {
                std::io::ErrorKind::NotFound => "is not there".to_owned(),
                _ => format!("cannot be read: {error}"),
            })?;
            if kind.is_symlink() {
                return Err("lies behind a symbolic link, which keel does not follow".to_owned());
            }
            if !kind.is_dir() {
                return Err("is no folder: a base is a folder of manifests".to_owned());
            }
        }
        Ok(())
    }
}

/// As [`read`], and of the files only the `keel.yaml`, if there is one: what the manifests say is in nobody's way.
///
/// # Errors
/// It cannot be read, or is a symbolic link.
pub fn read_source(path: &Path) -> Result<Texts, PathError> {
    let (_, mut texts) = place(path)?;
    let file = texts.root.join(SOURCE_FILE);
    match file.symlink_metadata() {
        Ok(kind) if kind.is_symlink() => return Err(link()).at("read", &file),
        Ok(kind) if kind.is_file() => texts.add(&file)?,
        _ => {}
    }
    Ok(texts)
}

fn link() -> std::io::Error {
    std::io::Error::other(
        "it is a symbolic link, which keel does not follow: name it in .keelignore, or put what it leads to in its place",
    )
}

/// The source that a path belongs to, without its files yet, and the path itself, absolute.
fn place(path: &Path) -> Result<(PathBuf, Texts), PathError> {
    let path = path.canonicalize().at("find", path)?;
    let start = if path.is_dir() {
        path.clone()
    } else {
        parent(&path)
    };
    let root = start.ancestors().find(|folder| {
        let kind = folder.join(SOURCE_FILE).symlink_metadata();
        kind.is_ok_and(|kind| !kind.is_dir())
    });
    let root = root.unwrap_or(&start).to_path_buf();
    let only = if path == root {
        None
    } else {
        Some(name_in(&root, &path)?)
    };
    let kind = if path.is_dir() { "folder" } else { "file" };
    let partial = only.as_ref().map(|name| format!("only the {kind} {name}"));
    let texts = Texts {
        root,
        partial,
        only,
        ..Texts::default()
    };
    Ok((path, texts))
}

fn parent(path: &Path) -> PathBuf {
    path.parent()
        .map_or_else(|| PathBuf::from("/"), Path::to_path_buf)
}

/// The name of a file in its source. Places are told by it, so it must be a text.
fn name_in(root: &Path, path: &Path) -> Result<String, PathError> {
    if path.to_str().is_none() {
        return Err(std::io::Error::other("its name is not UTF-8")).at("read", path);
    }
    Ok(folder::name(root, path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_lies_behind_a_link_is_not_passed_over() {
        for (link, to, refused) in [
            ("web.yaml", "elsewhere/web.txt", true),
            ("gone.yml", "nowhere", true),
            ("keel.yaml", "elsewhere/web.txt", true),
            ("apps", "elsewhere", true),
            ("notes.txt", "elsewhere/web.txt", false),
            ("drafts.yaml", "elsewhere/web.txt", false),
        ] {
            let folder = tempfile::tempdir().expect("a folder");
            let at = |name: &str| folder.path().join(name);
            path_io::create_dir_all(at("elsewhere")).expect("a folder");
            path_io::write(at("elsewhere/web.txt"), "a: 1\n").expect("written");
            path_io::write(at(".keelignore"), "drafts.yaml\n").expect("written");
            std::os::unix::fs::symlink(to, at(link)).expect("a link");
            let texts = read(folder.path());
            assert_eq!(texts.is_err(), refused, "{link}: {texts:?}");
            if let Err(error) = texts {
                assert!(error.to_string().contains(link), "{error}");
            }
        }
    }

    fn write(folder: &Path, name: &str, text: &str) {
        let path = folder.join(name);
        path_io::create_dir_all(parent(&path)).expect("a folder");
        path_io::write(path, text).expect("written");
    }

    /// The names of what is read, and why bases are not.
    fn seen(root: &Path) -> (Vec<String>, Vec<(String, String)>) {
        let texts = read(root).expect("read");
        (
            texts.files.into_iter().map(|(name, _)| name).collect(),
            texts.refused.into_iter().collect(),
        )
    }

    #[test]
    fn bases_are_read_wherever_they_lie_in_the_repository() {
        let folder = tempfile::tempdir().expect("a folder");
        let at = folder.path();
        path_io::create_dir_all(at.join("repository/.git")).expect("a folder");
        write(
            at,
            "repository/overlays/prod/keel.yaml",
            "bases: [../../base, parts]\n",
        );
        write(at, "repository/overlays/prod/parts/a.yaml", "a: 1\n");
        write(
            at,
            "repository/overlays/prod/b.yaml",
            "{file: ../../base/motd}\n",
        );
        write(
            at,
            "repository/base/keel.yaml",
            "bases: [../../outside, ../common, ../common, ../overlays/prod]\n",
        );
        write(at, "repository/base/motd", "hello");
        write(at, "repository/base/c.yaml", "{file: ./motd}\n");
        write(at, "repository/base/.keelignore", "drafts/\n");
        write(at, "repository/base/drafts/d.yaml", "d: 1\n");
        write(
            at,
            "repository/common/e.yaml",
            "{file: ../../outside/f.yaml}\n",
        );
        write(at, "outside/f.yaml", "f: 1\n");
        let root = at.join("repository/overlays/prod");
        let (files, refused) = seen(&root);
        assert_eq!(
            files,
            [
                "../../base/c.yaml",
                "../../base/keel.yaml",
                "../../common/e.yaml",
                "b.yaml",
                "keel.yaml",
                "parts/a.yaml"
            ]
        );
        let outside = "lies outside of the repository".to_owned();
        assert_eq!(refused, [("../../../outside".to_owned(), outside)]);
        let attached = read(&root).expect("read").attached;
        let motd = attached::Attached::Text("hello".to_owned());
        assert_eq!(attached["../../base/motd"], motd);
        let refused = attached::Attached::Refused(attached::OUTSIDE.to_owned());
        assert_eq!(attached["../../../outside/f.yaml"], refused);
    }

    #[test]
    fn outside_of_git_a_source_says_how_far_its_bases_may_lie() {
        let folder = tempfile::tempdir().expect("a folder");
        let at = folder.path();
        write(at, "trees/prod/keel.yaml", "bases: [../base]\n");
        write(
            at,
            "trees/base/keel.yaml",
            "bases: [../common, ../../far]\n",
        );
        write(at, "trees/common/a.yaml", "a: 1\n");
        write(at, "far/b.yaml", "b: 1\n");
        let (files, refused) = seen(&at.join("trees/prod"));
        assert_eq!(
            files,
            ["../base/keel.yaml", "../common/a.yaml", "keel.yaml"]
        );
        assert_eq!(refused[0].0, "../../far");
        // What has only `/` in common is no tree.
        write(
            at,
            "trees/prod/keel.yaml",
            &format!("bases: [{}etc]\n", "../".repeat(32)),
        );
        write(at, "trees/base/keel.yaml", "a: 1\n");
        assert_eq!(seen(&at.join("trees/prod")).0, ["keel.yaml"]);
        let depth = at.canonicalize().expect("there").components().count() + 1;
        let up = "../".repeat(depth);
        write(at, "trees/prod/keel.yaml", &format!("bases: [{up}etc]\n"));
        let (files, refused) = seen(&at.join("trees/prod"));
        assert_eq!((files.len(), refused.len()), (1, 1), "{refused:?}");
    }

    #[test]
    fn a_layer_is_read_once_and_as_a_part_of_no_other() {
        let folder = tempfile::tempdir().expect("a folder");
        let at = folder.path();
        path_io::create_dir_all(at.join(".git")).expect("a folder");
        write(at, "keel.yaml", "name: base\n");
        write(at, "a.yaml", "a: 1\n");
        write(at, "prod/keel.yaml", "bases: [..]\n");
        write(at, "prod/b.yaml", "b: 1\n");
        let (files, _) = seen(&at.join("prod"));
        assert_eq!(files, ["../a.yaml", "../keel.yaml", "b.yaml", "keel.yaml"]);
        // A link leads anywhere.
        write(at, "linked/keel.yaml", "bases: [../link]\n");
        std::os::unix::fs::symlink("prod", at.join("link")).expect("a link");
        let (_, refused) = seen(&at.join("linked"));
        assert!(refused[0].1.contains("symbolic link"), "{refused:?}");
    }

    #[test]
    fn names_are_texts_of_any_language() {
        use std::os::unix::ffi::OsStrExt as _;
        let folder = tempfile::tempdir().expect("a folder");
        let below = folder.path().join("my sites");
        path_io::create_dir_all(&below).expect("a folder");
        path_io::write(below.join("büro 東京.yaml"), "a: 1\n").expect("written");
        let texts = read(folder.path()).expect("read");
        assert_eq!(texts.files[0].0, "my sites/büro 東京.yaml");
        let part = read(&below).expect("read");
        assert_eq!(part.files[0].0, "büro 東京.yaml");
        let latin = below.join(std::ffi::OsStr::from_bytes(b"b\xfcro.yaml"));
        path_io::write(&latin, "a: 1\n").expect("written");
        let error = read(folder.path()).expect_err("not a text");
        assert!(
            error.to_string().contains("is not UTF-8")
                || std::error::Error::source(&error)
                    .is_some_and(|cause| cause.to_string().contains("is not UTF-8")),
            "{error}"
        );
    }

    #[test]
    fn a_part_of_a_source_is_told_as_such() {
        let folder = tempfile::tempdir().expect("a folder");
        let write = |name: &str, text: &str| {
            let path = folder.path().join(name);
            path_io::create_dir_all(parent(&path)).expect("a folder");
            path_io::write(path, text).expect("written");
        };
        write("keel.yaml", "kind: Source\n");
        write("apps/web.yaml", "a: 1\n");
        write("apps/notes.txt", "no");
        write("drafts/x.yaml", "b: 1\n");
        write(".hidden/y.yaml", "c: 1\n");
        write(".keelignore", "drafts/\n");
        let all = read(folder.path()).expect("read");
        let names: Vec<&str> = all.files.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(
            (names, all.partial),
            (vec!["apps/web.yaml", "keel.yaml"], None)
        );
        let part = read(&folder.path().join("apps")).expect("read");
        assert_eq!(part.root, folder.path().canonicalize().expect("there"));
        assert_eq!(part.partial.as_deref(), Some("only the folder apps"));
        assert_eq!(
            part.files.len(),
            2,
            "profiles may stand anywhere in the tree"
        );
        assert!(part.means("apps/web.yaml") && !part.means("keel.yaml") && !part.means("apps2"));
    }
}
