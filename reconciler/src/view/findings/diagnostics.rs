//! Findings about manifests.

use manifests::diagnostic::{Diagnostic, Diagnostics, Severity};

use super::{Finding, Findings, Level, Looked, Verdict};
use crate::view::places::Places;
use crate::view::text::visible;

/// What `keel validate` found in manifests whose places are those of the repository already. `files` are the names of
/// those that were read, `objects` what they declare as far as it is known.
pub fn of_manifests(found: &Diagnostics, objects: Vec<Looked>, about: String) -> Findings {
    Findings {
        command: "validate",
        about,
        places: Places::default(),
        found: found.sorted().into_iter().map(finding).collect(),
        objects,
        anchor: None,
    }
}

/// One finding about manifests.
pub(super) fn finding(diagnostic: &Diagnostic) -> Finding {
    let (level, verdict) = match diagnostic.severity {
        Severity::Error => (Level::Error, Verdict::Fails),
        Severity::Warning => (Level::Warning, Verdict::Remarks),
    };
    let mut finding = Finding::new(diagnostic.code.0, level, verdict, &diagnostic.message);
    let hint = diagnostic.hint.iter();
    finding.more = hint
        .chain(&diagnostic.notes)
        .map(|line| visible(line))
        .collect();
    finding.origin = Some(diagnostic.origin.clone());
    finding.related = diagnostic
        .related
        .iter()
        .map(|(origin, words)| (origin.clone(), visible(words)))
        .collect();
    finding.object.clone_from(&diagnostic.object);
    let path = diagnostic.path.as_str();
    finding.field = (!path.is_empty()).then(|| path.to_owned());
    finding.key.clone_from(&diagnostic.message);
    finding
}
