//! The revision of a folder that git keeps, without running anything that the repository brings along.

use std::path::{Path, PathBuf};

use manifests::path_io;

/// How many characters of a commit people see.
const SHORT: usize = 7;

/// The commit of the work tree around `folder`: its first seven characters, then `+dirty` where files below the
/// folder differ from it or are new, `+unchecked` where git would not tell. None outside git or before the first commit.
///
/// `sudo_uid` is the person behind sudo, whose work trees git trusts as its own.
pub fn revision(folder: &Path, sudo_uid: Option<&str>) -> Option<String> {
    let repository = repository_around(folder)?;
    if let Some(seen) = ask_git(folder, sudo_uid) {
        return parse_status(&seen);
    }
    let commit = head_commit(&repository)?;
    Some(format!("{}+unchecked", short(&commit)))
}

/// The top of the work tree around a folder: the nearest folder at or above it that has a `.git`.
pub fn top(folder: &Path) -> Option<&Path> {
    folder
        .ancestors()
        .find(|at| at.join(".git").symlink_metadata().is_ok())
}

/// The repository folder (`.git`, or where a `.git` file leads) of the nearest work tree at or above a folder.
fn repository_around(folder: &Path) -> Option<PathBuf> {
    folder.ancestors().find_map(|at| {
        let git = at.join(".git");
        if git.is_dir() {
            return Some(git);
        }
        let text = path_io::read_if_exists(&git).ok()??;
        Some(at.join(text.strip_prefix("gitdir:")?.trim()))
    })
}

/// Asks git for commit and changes. Settings of the machine are not read, hooks and the file system monitor are off
/// (both are programs that a repository's configuration names), and the index is not rewritten.
fn ask_git(folder: &Path, sudo_uid: Option<&str>) -> Option<String> {
    let mut arguments: Vec<String> = ["GIT_CONFIG_NOSYSTEM=1", "GIT_CONFIG_GLOBAL=/dev/null"]
        .map(str::to_owned)
        .to_vec();
    arguments.push("GIT_OPTIONAL_LOCKS=0".to_owned());
    if let Some(uid) = sudo_uid.filter(|uid| uid.bytes().all(|b| b.is_ascii_digit())) {
        arguments.push(format!("SUDO_UID={uid}"));
    }
    arguments.extend(["git", "-C"].map(str::to_owned));
    arguments.push(folder.to_str()?.to_owned());
    let settings = [
        "-c",
        "core.fsmonitor=false",
        "-c",
        "core.hooksPath=/dev/null",
        "-c",
        "submodule.recurse=false",
    ];
    let question = [
        "status",
        "--porcelain=v2",
        "--branch",
        "--ignore-submodules=all",
        "--",
        ".",
    ];
    arguments.extend(settings.iter().chain(&question).map(|&a| a.to_owned()));
    let output = runtime::sys::command::run("env", arguments, None).ok()?;
    Some(String::from_utf8_lossy(&output).into_owned())
}

/// Reads `git status --porcelain=v2 --branch`.
fn parse_status(text: &str) -> Option<String> {
    let commit = text
        .lines()
        .find_map(|line| line.strip_prefix("# branch.oid "))?;
    if commit == "(initial)" {
        return None;
    }
    let dirty = text.lines().any(|line| !line.starts_with('#'));
    Some(format!(
        "{}{}",
        short(commit),
        if dirty { "+dirty" } else { "" }
    ))
}

/// The commit that `HEAD` names, read by hand: loose and packed references, and work trees that share a repository.
fn head_commit(repository: &Path) -> Option<String> {
    let read = |path: PathBuf| path_io::read_if_exists(path).ok().flatten();
    let head = read(repository.join("HEAD"))?;
    let Some(name) = head.trim().strip_prefix("ref: ") else {
        return is_commit(head.trim()).then(|| head.trim().to_owned());
    };
    let shared = read(repository.join("commondir"))
        .map_or_else(|| repository.to_path_buf(), |at| repository.join(at.trim()));
    let loose = [repository, &shared]
        .into_iter()
        .find_map(|at| read(at.join(name)));
    let packed = || {
        let text = read(shared.join("packed-refs"))?;
        text.lines()
            .filter_map(|line| line.split_once(' '))
            .find(|(_, packed)| *packed == name)
            .map(|(commit, _)| commit.to_owned())
    };
    loose
        .map(|text| text.trim().to_owned())
        .or_else(packed)
        .filter(|commit| is_commit(commit))
}

/// Whether a text is a whole object id (SHA-1 or SHA-256).
fn is_commit(text: &str) -> bool {
    matches!(text.len(), 40 | 64) && text.bytes().all(|b| b.is_ascii_hexdigit())
}

fn short(commit: &str) -> &str {
    commit.get(..SHORT).unwrap_or(commit)
}

#[cfg(test)]
mod tests {
    use super::*;

    const COMMIT: &str = "3f1c9ad0000000000000000000000000000000aa";

    #[test]
    fn status_tells_commit_and_changes() {
        for (text, revision) in [
            ("# branch.oid (initial)\n# branch.head main\n", None),
            (
                "# branch.oid 3f1c9ad00\n# branch.head main\n",
                Some("3f1c9ad"),
            ),
            (
                "# branch.oid 3f1c9ad00\n# branch.head main\n? new.yaml\n",
                Some("3f1c9ad+dirty"),
            ),
            ("", None),
        ] {
            assert_eq!(parse_status(text).as_deref(), revision, "{text}");
        }
    }

    #[test]
    fn head_is_read_by_hand() {
        let folder = tempfile::tempdir().expect("a folder");
        let git = folder.path().join(".git");
        path_io::create_dir_all(git.join("refs/heads")).expect("folders");
        path_io::write(git.join("HEAD"), "ref: refs/heads/main\n").expect("HEAD");
        assert_eq!(head_commit(&git), None);
        path_io::write(
            git.join("packed-refs"),
            format!("# pack-refs\n{COMMIT} refs/heads/main\n"),
        )
        .expect("packed");
        assert_eq!(head_commit(&git).as_deref(), Some(COMMIT));
        path_io::write(git.join("refs/heads/main"), "b".repeat(40)).expect("loose");
        assert_eq!(head_commit(&git), Some("b".repeat(40)), "loose wins");
        assert_eq!(
            repository_around(&git.join("refs")).as_deref(),
            Some(git.as_path())
        );
    }

    #[test]
    fn a_real_repository_is_clean_then_dirty() {
        let folder = tempfile::tempdir().expect("a folder");
        let at = folder.path().to_str().expect("UTF-8");
        let git = |arguments: &[&str]| {
            let identity = ["-c", "user.name=a", "-c", "user.email=a@example.org"];
            let all = ["-C", at]
                .into_iter()
                .chain(identity)
                .chain(arguments.iter().copied());
            runtime::sys::command::run("git", all, None).expect("git");
        };
        git(&["init", "-q"]);
        assert_eq!(revision(folder.path(), None), None, "no commit yet");
        let below = folder.path().join("not/made yet/ü");
        assert_eq!(top(&below), Some(folder.path()));
        path_io::write(folder.path().join("a.yaml"), "a").expect("file");
        git(&["add", "."]);
        git(&["commit", "-qm", "one"]);
        let clean = revision(folder.path(), None).expect("a commit");
        assert_eq!(clean.len(), SHORT);
        path_io::write(folder.path().join("b.yaml"), "b").expect("file");
        assert_eq!(
            revision(folder.path(), None),
            Some(format!("{clean}+dirty"))
        );
    }
}
