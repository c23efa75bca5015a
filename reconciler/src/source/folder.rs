//! A folder of manifests on this host: where its root is, and whether a path is all of it.

use std::path::{Path, PathBuf};

use manifests::path_io::{AtPath as _, PathError};

/// The file that makes a folder the root of a source.
pub const ROOT_FILE: &str = "keel.yaml";

/// A source as a path names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Located {
    /// The folder of the nearest `keel.yaml` at or above the path, else the path, else the folder of the file. Absolute,
    /// without symbolic links: the same source has the same root from wherever it is named.
    pub root: PathBuf,
    /// What the path names, if that is not the root: relative to it.
    pub below: Option<PathBuf>,
}

impl Located {
    /// Why a run on this path is only a part of the source; none where it is all of it.
    pub fn partial(&self) -> Option<String> {
        let below = self.below.as_ref()?;
        Some(format!("only {} of the source", below.display()))
    }
}

/// Finds the root of what a path names.
///
/// # Errors
/// There is no such path, or it cannot be reached.
pub fn locate(path: &Path) -> Result<Located, PathError> {
    let path = path.canonicalize().at("open", path)?;
    let folder = if path.is_dir() {
        path.as_path()
    } else {
        path.parent().unwrap_or(&path)
    };
    let root = folder
        .ancestors()
        .find(|at| at.join(ROOT_FILE).is_file())
        .unwrap_or(folder)
        .to_path_buf();
    // Naming `keel.yaml` itself names the whole source.
    let below = path
        .strip_prefix(&root)
        .ok()
        .filter(|below| !below.as_os_str().is_empty() && *below != Path::new(ROOT_FILE))
        .map(Path::to_path_buf);
    Ok(Located { root, below })
}

#[cfg(test)]
mod tests {
    use manifests::path_io;

    use super::*;

    #[test]
    fn the_root_is_the_nearest_folder_with_a_keel_yaml() {
        let folder = tempfile::tempdir().expect("a folder");
        let top = folder.path().canonicalize().expect("a path");
        path_io::create_dir_all(top.join("source/apps")).expect("folders");
        path_io::create_dir_all(top.join("bare")).expect("folders");
        for file in ["source/keel.yaml", "source/apps/web.yaml", "bare/a.yaml"] {
            path_io::write(top.join(file), "").expect(file);
        }
        for (path, root, below) in [
            ("source", "source", None),
            ("source/keel.yaml", "source", None),
            ("source/apps", "source", Some("apps")),
            ("source/apps/web.yaml", "source", Some("apps/web.yaml")),
            ("source/apps/..", "source", None),
            ("bare", "bare", None),
            ("bare/a.yaml", "bare", Some("a.yaml")),
        ] {
            let located = locate(&top.join(path)).expect(path);
            assert_eq!(located.root, top.join(root), "{path}");
            assert_eq!(located.below.as_deref(), below.map(Path::new), "{path}");
        }
        let error = locate(&top.join("nowhere")).expect_err("no such path");
        assert!(error.to_string().ends_with("nowhere"), "{error}");
    }
}
