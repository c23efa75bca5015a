//! G107: the source came from somewhere else than last time.

use std::path::Path;

use manifests::desired::SourceInfo;
use manifests::diagnostic::Code;
use manifests::id::Mark;
use manifests::repository::Repository;

use super::{Check, Gate, Subject};
use crate::diff::known::KnownSource;
use crate::plan::{Because, PlanInput, Purpose};

pub(super) const GATE: Gate = Gate {
    code: Code("G107"),
    title: "the source came from somewhere else than last time",
    explanation: "A source of this name was applied here from another repository, another folder of it, or, outside \
                  git, from another folder. Two trees of one name would take turns in deleting each other's objects. \
                  Another checkout of the same repository is the same source: its first commit or the address of its \
                  remote `origin` tells. Give one of them another `name` in keel.yaml, or say with `--approve G107` \
                  that the source moved.",
    approvable: true,
    check: Check::Stops(check),
};

fn check(_: &[Subject<'_>], input: &PlanInput<'_>) -> Option<Because> {
    let source = &input.desired.source;
    let before = input.known.sources.get(&source.name)?;
    // A repository counts more than the folder of one checkout of it.
    let same = same_repository(source, before);
    // A folder without a name in keel.yaml is source `default`, as every other one: taking down the wrong one is worse
    // than applying it.
    let moved = input.purpose != Purpose::Asked && !same.unwrap_or(before.root == source.root);
    // Where nothing of it is left, there is nothing that the two could take from each other.
    let is_of_it = |mark: &Mark| mark.source == source.name;
    let owns = input
        .known
        .owned
        .values()
        .any(|owned| owned.source == source.name)
        || input
            .observed
            .items
            .iter()
            .filter_map(|item| item.mark.as_ref())
            .any(is_of_it)
        || input
            .observed
            .trash
            .iter()
            .any(|trashed| is_of_it(&trashed.mark));
    let told = same.is_some();
    (moved && owns).then(|| Because {
        code: GATE.code,
        message: format!(
            "source {} was applied from {} and now comes from {}; `--approve G107` says that it moved",
            source.name,
            place(&before.root, before.repository.as_ref(), told),
            place(&source.root, source.repository.as_ref(), told),
        ),
        until: None,
    })
}

/// Whether both lie in the same place of a repository, where that can be told.
fn same_repository(now: &SourceInfo, before: &KnownSource) -> Option<bool> {
    now.repository.as_ref()?.is(before.repository.as_ref()?)
}

fn place(root: &Path, repository: Option<&Repository>, told: bool) -> String {
    match repository.filter(|_| told) {
        Some(repository) => repository.to_string(),
        None => root.display().to_string(),
    }
}
