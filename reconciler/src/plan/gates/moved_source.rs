//! G107: the source came from somewhere else than last time.

use manifests::diagnostic::Code;
use manifests::id::Mark;

use super::{Check, Gate, Subject};
use crate::plan::{Because, PlanInput, Purpose};

pub(super) const GATE: Gate = Gate {
    code: Code("G107"),
    title: "the source came from somewhere else than last time",
    explanation: "A source of this name was applied here from another folder. Two trees of one name would take turns \
                  in deleting each other's objects. Give one of them another `name` in keel.yaml, or say with \
                  `--approve G107` that the source moved.",
    approvable: true,
    check: Check::Stops(check),
};

fn check(_: &[Subject<'_>], input: &PlanInput<'_>) -> Option<Because> {
    let source = &input.desired.source;
    let before = input.known.sources.get(&source.name)?;
    // A folder without a name in keel.yaml is source `default`, as every other one: taking down the wrong one is worse
    // than applying it.
    let moved = input.purpose != Purpose::Asked && before.root != source.root;
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
    (moved && owns).then(|| Because {
        code: GATE.code,
        message: format!(
            "source {} was applied from {} and now comes from {}; `--approve G107` says that it moved",
            source.name,
            before.root.display(),
            source.root.display()
        ),
        until: None,
    })
}
