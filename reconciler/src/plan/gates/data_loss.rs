//! G108: data is lost only when a person says so.

use manifests::action::Verb;
use manifests::change::Cause;
use manifests::diagnostic::Code;
use manifests::effect::Effect;

use super::{Check, Gate, Subject};
use crate::plan::{Because, PlanInput};

pub(super) const GATE: Gate = Gate {
    code: Code("G108"),
    title: "data would be lost",
    explanation: "A change of a field wipes, replaces or shrinks an object that holds data. Its other changes go on; \
                  `--approve G108` does this one as well. What an instance was before a rebuild or replace is kept in \
                  the trash with its snapshots, unless `--no-trash` is said: `keel trash restore --instead` takes it \
                  back. A volume that is gone from its pool is made anew, empty, only when this is approved. (What happens when a manifest goes away is said by \
                  `lifecycle.prune`, and to instances whose image moved by `lifecycle.onImageChange`.)",
    approvable: true,
    check: Check::Holds(check),
};

fn check(subject: &Subject<'_>, _: &PlanInput<'_>) -> Option<Because> {
    let step = subject.step;
    let effect = step.effect.filter(|effect| effect.destroys())?;
    let asked_in_manifest = !step.changes.is_empty()
        && step
            .changes
            .iter()
            .all(|planned| planned.change.cause == Cause::Image);
    let changes = !matches!(step.action.verb, Verb::Delete | Verb::Trash { .. });
    let loses = effect == Effect::DataLoss || subject.holds_data();
    (changes && loses && !asked_in_manifest).then(|| Because {
        code: GATE.code,
        message: match effect {
            Effect::Rebuild if step.action.keep.is_some() => {
                "its root file system would be made anew, what is there goes to the trash; `--approve G108` does it"
            }
            Effect::Replace if step.action.keep.is_some() => {
                "it would be made anew, what is there goes to the trash; `--approve G108` does it"
            }
            _ if matches!(step.action.verb, Verb::Create) => {
                "what it held is gone from its pool: put it back there, or `--approve G108` makes it anew, empty"
            }
            Effect::Rebuild => "its root file system would be wiped; `--approve G108` does it",
            Effect::Replace => "it would be deleted and made again; `--approve G108` does it",
            _ => "data would be lost; `--approve G108` does it",
        }
        .to_owned(),
        until: None,
    })
}
