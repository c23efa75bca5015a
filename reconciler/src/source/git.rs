//! The revision of a folder that git keeps, without running anything that the repository brings along.

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::time::Duration;

use manifests::path_io;
use manifests::repository::Repository;
use runtime::sys::command::{CommandError, run_within};

/// How long git may take to answer.
const PATIENCE: Duration = Duration::from_secs(20);

/// How many characters of a commit people see.
const SHORT: usize = 7;

/// The commit of the work tree around `folder`: its first seven characters, then `+dirty` where files below the
/// folder or one of its bases differ from it or are new, `+unchecked` where git would not tell. None outside git or before
/// the first commit.
///
/// `sudo_uid` is the person behind sudo, whose work trees git trusts as its own.
pub fn revision(folder: &Path, bases: &BTreeSet<String>, sudo_uid: Option<&str>) -> Option<String> {
    let repository = repository_around(folder)?;
    let mut question: Vec<String> = [
        "status",
        "--porcelain=v2",
        "--branch",
        "--ignore-submodules=all",
        "--",
        ".",
    ]
    .map(str::to_owned)
    .to_vec();
    // A name is a name and no pattern.
    question.extend(bases.iter().map(|base| format!(":(literal){base}")));
    let question: Vec<&str> = question.iter().map(String::as_str).collect();
    let off = filters_off(folder, &shared_folder(&repository), sudo_uid);
    if let Ok(seen) = ask_with(folder, sudo_uid, &off, &question, None) {
        return parse_status(&String::from_utf8_lossy(&seen));
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

/// Where in which repository a folder lies, told without its path. None outside git.
pub fn repository(folder: &Path, sudo_uid: Option<&str>) -> Option<Repository> {
    let git = repository_around(folder)?;
    let top = top(folder)?;
    let shared = shared_folder(&git);
    let cut = shared.join("shallow").exists();
    // The line of first parents is enough: it ends in one commit, also where histories were joined.
    let history = ["rev-list", "--max-parents=0", "--first-parent", "HEAD"];
    let first_commit = (!cut)
        .then(|| told(folder, sudo_uid, &history))
        .flatten()
        .and_then(|text| text.lines().next_back().map(str::to_owned))
        .filter(|commit| is_commit(commit));
    let config = shared.join("config");
    // The one file and nothing that it includes.
    let question = ["config", "--file", config.to_str()?, "--no-includes"];
    let question = question.into_iter().chain(["--get", "remote.origin.url"]);
    let remote = told(folder, sudo_uid, &question.collect::<Vec<_>>())
        .and_then(|text| Repository::address_of(&text));
    Some(Repository {
        first_commit,
        remote,
        folder: folder.strip_prefix(top).ok()?.to_str()?.to_owned(),
    })
}

/// Makes a folder a work tree of git. Its path is absolute: git is not started where keel is.
///
/// # Errors
/// git is not there, or refuses.
pub fn init(folder: &Path) -> Result<(), CommandError> {
    let settings = ["-c", "init.defaultBranch=main", "init", "--quiet", "--"].map(OsStr::new);
    let arguments = settings.into_iter().chain([folder.as_os_str()]);
    runtime::sys::command::run("git", arguments, None).map(drop)
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

/// Variables that turn off the filters of a repository. Whoever asks for changes has files read that may have changed,
/// and a filter is a program through which that is done.
fn filters_off(folder: &Path, shared: &Path, sudo_uid: Option<&str>) -> Vec<String> {
    let may_have = |name: &str| {
        let text = path_io::read(shared.join(name)).unwrap_or_default();
        let text = String::from_utf8_lossy(&text).to_ascii_lowercase();
        text.contains("filter") || text.contains("include")
    };
    if !may_have("config") && !may_have("config.worktree") {
        return Vec::new();
    }
    let question = ["config", "-z", "--name-only", "--get-regexp", r"^filter\."];
    let said = told(folder, sudo_uid, &question).unwrap_or_default();
    let drivers: BTreeSet<&str> = said
        .split('\0')
        .filter_map(|key| Some(key.rsplit_once('.')?.0))
        .collect();
    // An empty `process` counts more than `clean` and is none itself.
    let settings = drivers
        .iter()
        .flat_map(|driver| [(driver, "process", ""), (driver, "required", "false")]);
    let mut all = Vec::new();
    for (number, (driver, key, value)) in settings.enumerate() {
        all.push(format!("GIT_CONFIG_KEY_{number}={driver}.{key}"));
        all.push(format!("GIT_CONFIG_VALUE_{number}={value}"));
    }
    all.push(format!("GIT_CONFIG_COUNT={}", drivers.len() * 2));
    all
}

/// Asks git something. Settings of the machine are not read, hooks and the file system monitor are off
/// (both are programs that a repository's configuration names), and the index is not rewritten.
///
/// # Errors
/// git is not there, does not trust the folder, or says no.
pub(super) fn ask(
    folder: &Path,
    sudo_uid: Option<&str>,
    question: &[&str],
    input: Option<&[u8]>,
) -> Result<Vec<u8>, CommandError> {
    ask_with(folder, sudo_uid, &[], question, input)
}

/// As [`ask`], with more variables.
fn ask_with(
    folder: &Path,
    sudo_uid: Option<&str>,
    variables: &[String],
    question: &[&str],
    input: Option<&[u8]>,
) -> Result<Vec<u8>, CommandError> {
    let mut arguments: Vec<OsString> = [
        "GIT_CONFIG_NOSYSTEM=1",
        "GIT_CONFIG_GLOBAL=/dev/null",
        "GIT_OPTIONAL_LOCKS=0",
        // What a partial clone left out is not fetched: an older git that does not know the first heeds the second.
        "GIT_NO_LAZY_FETCH=1",
        "GIT_ALLOW_PROTOCOL=none",
    ]
    .map(OsString::from)
    .to_vec();
    if let Some(uid) = sudo_uid.filter(|uid| uid.bytes().all(|b| b.is_ascii_digit())) {
        arguments.push(format!("SUDO_UID={uid}").into());
    }
    arguments.extend(variables.iter().map(OsString::from));
    arguments.extend(["git", "-C"].map(OsString::from));
    arguments.push(folder.as_os_str().to_owned());
    let settings = [
        "-c",
        "core.fsmonitor=false",
        "-c",
        "core.hooksPath=/dev/null",
        "-c",
        "submodule.recurse=false",
    ];
    arguments.extend(settings.iter().chain(question).map(OsString::from));
    run_within("env", arguments, input, PATIENCE).map_err(|error| in_short(error, question))
}

/// The failure of a question, without all that stands around it on each command line.
fn in_short(error: CommandError, question: &[&str]) -> CommandError {
    match error {
        CommandError::Failed { status, stderr, .. } => CommandError::Failed {
            command: format!("git {}", question.join(" ")),
            status,
            stderr,
        },
        other => other,
    }
}

/// What git answers, where it does.
fn told(folder: &Path, sudo_uid: Option<&str>, question: &[&str]) -> Option<String> {
    let output = ask(folder, sudo_uid, question, None).ok()?;
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

/// The folder that all work trees of a repository share: this one, but for an added work tree.
fn shared_folder(repository: &Path) -> PathBuf {
    let at = path_io::read_if_exists(repository.join("commondir")).ok();
    at.flatten()
        .map_or_else(|| repository.to_path_buf(), |at| repository.join(at.trim()))
}

/// The commit that `HEAD` names, read by hand: loose and packed references, and work trees that share a repository.
fn head_commit(repository: &Path) -> Option<String> {
    let read = |path: PathBuf| path_io::read_if_exists(path).ok().flatten();
    let head = read(repository.join("HEAD"))?;
    let Some(name) = head.trim().strip_prefix("ref: ") else {
        return is_commit(head.trim()).then(|| head.trim().to_owned());
    };
    let shared = shared_folder(repository);
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

/// A commit as people see it.
pub(super) fn short(commit: &str) -> &str {
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

    /// Runs git in a folder.
    fn git_in(folder: &Path, arguments: &[&str]) {
        let identity = ["-c", "user.name=a", "-c", "user.email=a@example.org"];
        let all = ["-C", folder.to_str().expect("UTF-8")]
            .into_iter()
            .chain(identity)
            .chain(arguments.iter().copied());
        runtime::sys::command::run("git", all, None).expect("git");
    }

    #[test]
    fn checkouts_of_one_repository_are_one_place() {
        let folder = tempfile::tempdir().expect("a folder");
        let at = |name: &str| folder.path().join(name);
        path_io::create_dir_all(at("one/hosts/edge")).expect("a folder");
        assert_eq!(repository(&at("one"), None), None, "outside git");
        git_in(&at("one"), &["init", "-q"]);
        for name in ["a", "b"] {
            path_io::write(at("one/hosts/edge").join(name), name).expect("a file");
            git_in(&at("one"), &["add", "."]);
            git_in(&at("one"), &["commit", "-qm", name]);
        }
        let url = format!("file://{}", at("one").display());
        for (name, how) in [
            ("whole", &["clone", "-q"][..]),
            ("cut", &["clone", "-q", "--depth=1"]),
        ] {
            let to = at(name);
            let words: Vec<&str> = how
                .iter()
                .copied()
                .chain([&*url, to.to_str().expect("UTF-8")])
                .collect();
            git_in(folder.path(), &words);
        }
        git_in(
            &at("one"),
            &["worktree", "add", "-q", at("tree").to_str().expect("UTF-8")],
        );
        let seen = |name: &str| repository(&at(name), None).expect("in git");
        let one = seen("one/hosts/edge");
        assert_eq!((one.folder.as_str(), &one.remote), ("hosts/edge", &None));
        assert_eq!(one.is(&seen("whole/hosts/edge")), Some(true));
        assert_eq!(one.is(&seen("tree/hosts/edge")), Some(true));
        assert_eq!(one.is(&seen("whole")), Some(false));
        assert_eq!(seen("cut").first_commit, None);
        assert_eq!(seen("cut").is(&seen("whole")), Some(true), "by its remote");
    }

    #[test]
    fn a_real_repository_is_clean_then_dirty() {
        let folder = tempfile::tempdir().expect("a folder");
        let git = |arguments: &[&str]| git_in(folder.path(), arguments);
        git(&["init", "-q"]);
        let none = BTreeSet::new();
        assert_eq!(revision(folder.path(), &none, None), None, "no commit yet");
        let below = folder.path().join("not/made yet/ü");
        assert_eq!(top(&below), Some(folder.path()));
        path_io::write(folder.path().join("a.yaml"), "a").expect("file");
        git(&["add", "."]);
        git(&["commit", "-qm", "one"]);
        let clean = revision(folder.path(), &none, None).expect("a commit");
        assert_eq!(clean.len(), SHORT);
        path_io::write(folder.path().join("b.yaml"), "b").expect("file");
        assert_eq!(
            revision(folder.path(), &none, None),
            Some(format!("{clean}+dirty"))
        );
        // A folder beside the source counts where it is a base of it.
        let prod = folder.path().join("prod");
        path_io::create_dir_all(&prod).expect("a folder");
        path_io::create_dir_all(folder.path().join("[base]")).expect("a folder");
        path_io::rename(
            folder.path().join("b.yaml"),
            folder.path().join("[base]/b.yaml"),
        )
        .expect("moved");
        assert_eq!(revision(&prod, &none, None), Some(clean.clone()));
        let bases = BTreeSet::from(["../[base]".to_owned()]);
        assert_eq!(
            revision(&prod, &bases, None),
            Some(format!("{clean}+dirty"))
        );
    }
}
