//! Writing the files that changed: all, or none, or the word which ones.

use std::path::Path;

use manifests::folder;
use manifests::read::Texts;
use runtime::sys::beneath;
use runtime::sys::replace::{self, ReplaceError, Replacement};

use crate::error::{CliError, Exit};
use crate::source::git;

/// Writes the files that changed, if they are on disk as they were read. Nothing outside of the repository is written, and
/// nothing behind a symbolic link.
pub(super) fn write(before: &Texts, after: &Texts) -> Result<(), CliError> {
    let pairs = before.files.iter().zip(&after.files);
    let mut all: Vec<Replacement<'_>> = pairs
        .filter(|(old, new)| old != new)
        .map(|((name, was), (_, is))| Replacement {
            path: folder::path(&before.root, name),
            was: was.as_bytes(),
            is: is.as_bytes(),
        })
        .collect();
    let holds_all = |top: &&Path| all.iter().all(|one| one.path.starts_with(top));
    let around = || before.root.ancestors().find(holds_all);
    let Some(top) = git::top(&before.root).filter(holds_all).or_else(around) else {
        return Ok(());
    };
    for one in &mut all {
        if let Ok(below) = one.path.strip_prefix(top) {
            one.path = below.to_path_buf();
        }
    }
    let root = beneath::open_root(top)?;
    replace::files(root, &all).map_err(|error| match error {
        ReplaceError::Nothing(_) | ReplaceError::NoFile(_) => {
            CliError::new(Exit::Unexpected, error).hint("nothing is written")
        }
        ReplaceError::Changed(_) => CliError::new(Exit::Stale, error).hint("nothing is written"),
        ReplaceError::Partly { .. } => {
            CliError::new(Exit::Partly, error).hint("look at it: git diff")
        }
    })
}

#[cfg(test)]
mod tests {
    use manifests::{path_io, read};

    use super::*;

    /// A source over a base, and both with `one` become `two`.
    fn scene() -> (tempfile::TempDir, Texts, Texts) {
        let folder = tempfile::tempdir().expect("a folder");
        let files = [
            ("over/keel.yaml", "bases: [../base]\n# one\n"),
            ("base/a.yaml", "# one\n"),
        ];
        for (name, text) in files {
            let path = folder.path().join(name);
            path_io::create_dir_all(path.parent().expect("a folder")).expect("a folder");
            path_io::write(path, text).expect("a file");
        }
        let before = read::read(&folder.path().join("over")).expect("texts");
        let mut after = before.clone();
        for (_, text) in &mut after.files {
            *text = text.replace("one", "two");
        }
        (folder, before, after)
    }

    #[test]
    fn a_source_and_its_base_are_written() {
        let (folder, before, after) = scene();
        write(&before, &after).expect("written");
        let text = path_io::read_to_string(folder.path().join("base/a.yaml"));
        assert_eq!(text.expect("read"), "# two\n");
        let again = read::read(&folder.path().join("over")).expect("texts");
        assert_eq!(again, after);
        write(&again, &again).expect("nothing to do");
    }

    #[test]
    fn what_changed_meanwhile_is_left_and_so_is_the_rest() {
        let (folder, before, after) = scene();
        path_io::write(folder.path().join("base/a.yaml"), "# three\n").expect("a file");
        let error = write(&before, &after).expect_err("refused");
        assert_eq!(error.exit, Exit::Stale);
        assert_eq!(
            error.report(),
            "error: base/a.yaml was changed meanwhile\n  = nothing is written\n"
        );
        let text = path_io::read_to_string(folder.path().join("over/keel.yaml"));
        assert_eq!(text.expect("read"), before.files[1].1);
    }
}
