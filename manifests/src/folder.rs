//! Names of the files and folders of a source: relative to its root, which is the empty name, with `..` in front for what
//! lies above it.
//!
//! A place has one name: `../base`, and never `../prod/../base`. Names say nothing of what is on the disk.

use std::path::{Component, Path, PathBuf};

/// The name of what `path` means where it is written in the folder; none where it is absolute or leads above `/`.
pub fn join(root: &Path, folder: &str, path: &str) -> Option<String> {
    let mut at = root.to_path_buf();
    for part in Path::new(folder)
        .components()
        .chain(Path::new(path).components())
    {
        match part {
            Component::Normal(step) => at.push(step),
            Component::CurDir => {}
            Component::ParentDir if at.pop() => {}
            Component::ParentDir | Component::RootDir | Component::Prefix(_) => return None,
        }
    }
    Some(name(root, &at))
}

/// The path of a name.
pub fn path(root: &Path, name: &str) -> PathBuf {
    let mut at = root.to_path_buf();
    for part in Path::new(name).components() {
        match part {
            Component::ParentDir => {
                at.pop();
            }
            part => at.push(part),
        }
    }
    at
}

/// The name of an absolute path without `..` in it.
pub fn name(root: &Path, path: &Path) -> String {
    let common = root
        .components()
        .zip(path.components())
        .take_while(|(ours, theirs)| ours == theirs)
        .count();
    let up = root.components().skip(common).map(|_| "..".to_owned());
    let down = path.components().skip(common);
    let down = down.map(|step| step.as_os_str().to_string_lossy().into_owned());
    up.chain(down).collect::<Vec<_>>().join("/")
}

/// The folder that a file is in.
pub fn of(file: &str) -> &str {
    file.rsplit_once('/').map_or("", |(folder, _)| folder)
}

/// Whether a file or folder is this folder or lies in it.
pub fn holds(folder: &str, name: &str) -> bool {
    let ((up, below), (up_to, rest)) = (steps_up(folder), steps_up(name));
    if below.is_empty() {
        return up_to <= up;
    }
    up == up_to
        && rest
            .strip_prefix(below)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// How many `..` a name begins with, and what comes then.
fn steps_up(name: &str) -> (usize, &str) {
    let (mut up, mut rest) = (0, name);
    while let Some(next) = rest.strip_prefix("..") {
        match next.strip_prefix('/') {
            Some(below) => rest = below,
            None if next.is_empty() => rest = next,
            None => break,
        }
        up += 1;
    }
    (up, rest)
}

/// A folder as messages name it.
pub fn shown(folder: &str) -> &str {
    if folder.is_empty() { "." } else { folder }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_has_one_name() {
        let root = Path::new("/r/overlays/prod");
        for (folder, path, name) in [
            ("", "../base", Some("../base")),
            ("", "./apps/", Some("apps")),
            ("", ".", Some("")),
            ("../base", "../prod", Some("")),
            ("../base", "../prod/apps", Some("apps")),
            ("../../base", "../overlays/base", Some("../base")),
            ("", "../..", Some("../..")),
            ("", "../../..", Some("../../..")),
            ("", "../../../..", None),
            ("", "/r/base", None),
        ] {
            assert_eq!(join(root, folder, path).as_deref(), name, "{folder} {path}");
        }
        assert_eq!(
            path(root, "../base/web.yaml"),
            Path::new("/r/overlays/base/web.yaml")
        );
        assert_eq!((of("../base/web.yaml"), of("web.yaml")), ("../base", ""));
    }

    #[test]
    fn folders_hold_what_lies_in_them() {
        for (folder, name, holds_it) in [
            ("", "web.yaml", true),
            ("", "../base/web.yaml", false),
            ("../base", "../base/web.yaml", true),
            ("../base", "../base2/web.yaml", false),
            ("../base", "../../base/web.yaml", false),
            ("..", "../base/web.yaml", true),
            ("..", "web.yaml", true),
            ("..", "../../web.yaml", false),
            ("apps", "apps", true),
            ("apps", "web.yaml", false),
            ("", "..data/web.yaml", true),
        ] {
            assert_eq!(holds(folder, name), holds_it, "{folder} {name}");
        }
    }
}
