//! Folders to texts: the only reading of manifests from disk.

use std::path::{Path, PathBuf};

use crate::attached::{self, AttachedFiles};
use crate::path_io::{self, AtPath as _, PathError};

/// The files of a source.
#[derive(Debug, Clone, Default)]
pub struct Texts {
    /// The nearest folder with a `keel.yaml`, else the path that was given. Absolute.
    pub root: PathBuf,
    /// Name relative to the root, and content, by name.
    pub files: Vec<(String, String)>,
    /// Why this is only a part of the source. The whole tree is read all the same: profiles and references of a part
    /// stand anywhere in it.
    pub partial: Option<String>,
    /// The file or folder that is meant, relative to the root; none: all.
    pub only: Option<String>,
    /// The files that manifests take in as texts.
    pub attached: AttachedFiles,
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
        self.only.as_deref().is_none_or(|only| {
            file == only
                || file
                    .strip_prefix(only)
                    .is_some_and(|rest| rest.starts_with('/'))
        })
    }
}

/// The name of the file that makes a folder a source.
pub const SOURCE_FILE: &str = "keel.yaml";

/// Reads a folder or a file of manifests. Hidden folders and what `.keelignore` names are passed over. Symbolic links are
/// not followed, and not passed over either: objects that were declared behind one would count as given up.
///
/// # Errors
/// Something cannot be read, or is a symbolic link to a folder or to a manifest.
pub fn read(path: &Path) -> Result<Texts, PathError> {
    let (path, mut texts) = place(path)?;
    let walk = ignore::WalkBuilder::new(&texts.root)
        .standard_filters(false)
        .hidden(true)
        .parents(true)
        .add_custom_ignore_filename(".keelignore")
        .build();
    for entry in walk {
        let entry = entry
            .map_err(std::io::Error::other)
            .at("walk through", &texts.root)?;
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
    texts.files.sort();
    texts.attached = attached::read(&texts.root, &texts.files);
    Ok(texts)
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
        files: Vec::new(),
        partial,
        only,
        attached: AttachedFiles::new(),
    };
    Ok((path, texts))
}

fn parent(path: &Path) -> PathBuf {
    path.parent()
        .map_or_else(|| PathBuf::from("/"), Path::to_path_buf)
}

/// The name of a file in its source. Places are told by it, so it must be a text.
fn name_in(root: &Path, path: &Path) -> Result<String, PathError> {
    let name = path.strip_prefix(root).unwrap_or(path).to_str();
    name.map(str::to_owned)
        .ok_or_else(|| std::io::Error::other("its name is not UTF-8"))
        .at("read", path)
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
