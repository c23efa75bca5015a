//! The rules by their stable names: codes of manifests, guards, and what drift can be.

use crate::codes;
use crate::plan::gates::GATES;

/// A rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rule {
    /// Its stable name.
    pub id: &'static str,
    /// What it is called.
    pub title: &'static str,
    /// What it means and what helps.
    pub explanation: &'static str,
}

/// A field is not as git says.
pub(super) const DRIFT_CHANGED: &str = "drift-changed";
/// A field that git has is not there.
pub(super) const DRIFT_REMOVED: &str = "drift-removed";
/// A field is there that git does not have.
pub(super) const DRIFT_ADDED: &str = "drift-added";
/// An object is gone, wholly or in part.
pub(super) const DRIFT_GONE: &str = "drift-gone";
/// A field could not be read.
pub(super) const DRIFT_UNSEEN: &str = "drift-unseen";
/// An ignore rule leaves nothing alone.
pub(super) const DRIFT_STALE_RULE: &str = "drift-stale-rule";

/// What drift can be. The names are kept by those who read reports: they never change.
pub const DRIFT: &[Rule] = &[
    Rule {
        id: DRIFT_CHANGED,
        title: "a field was changed outside git",
        explanation: "The live value is another one than git says, and git did not change. `keel apply` puts it back; where \
                      the live value is right, write it into the manifest.",
    },
    Rule {
        id: DRIFT_REMOVED,
        title: "a field was taken away outside git",
        explanation: "Git declares a value that is no longer there. `keel apply` puts it back; where it should be gone, take it \
                      out of the manifest.",
    },
    Rule {
        id: DRIFT_ADDED,
        title: "a field was added outside git",
        explanation: "Something is there that git does not declare. `lifecycle.extras` says what is done about it: it is told, \
                      removed or ignored.",
    },
    Rule {
        id: DRIFT_GONE,
        title: "an object is gone",
        explanation: "Git declares an object that was there and is no longer, or no longer whole. `keel apply` makes it again; \
                      where it should be gone, take it out of the manifests.",
    },
    Rule {
        id: DRIFT_UNSEEN,
        title: "a field could not be read",
        explanation: "Whether the field is as git says is not known: reading it failed. The reason stands beside it.",
    },
    Rule {
        id: DRIFT_STALE_RULE,
        title: "an ignore rule leaves nothing alone",
        explanation: "A rule of `lifecycle.ignore` is over, or no object that it is for has such a field, or nothing differs \
                      there. Nothing is wrong; take out what is no longer needed, so that the rules that are left say \
                      something.",
    },
];

/// A rule by its name.
pub fn rule(id: &str) -> Option<Rule> {
    let drift = DRIFT.iter().find(|rule| rule.id == id).copied();
    let code = || {
        let entry = codes::find(id)?;
        Some(Rule {
            id: entry.code.0,
            title: entry.title,
            explanation: entry.explanation,
        })
    };
    let guard = || {
        let gate = GATES.iter().find(|gate| gate.code.0 == id)?;
        Some(Rule {
            id: gate.code.0,
            title: gate.title,
            explanation: gate.explanation,
        })
    };
    drift.or_else(code).or_else(guard)
}
