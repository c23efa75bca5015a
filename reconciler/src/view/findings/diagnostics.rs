//! Findings about manifests.

use manifests::diagnostic::{Diagnostic, Diagnostics, Severity};

use super::{Finding, Findings, Level, Looked, Verdict};
use crate::view::places::Places;
use crate::view::text::visible;

/// A source that was validated. Its places are those of the repository already.
#[derive(Debug, Default)]
pub struct Validated {
    /// Its name.
    pub source: String,
    /// What was found in it.
    pub found: Diagnostics,
    /// What it declares, as far as it is known.
    pub objects: Vec<Looked>,
}

/// What `keel validate` found in each source.
pub fn of_manifests(all: Vec<Validated>, about: String) -> Findings {
    let is_alone = all.len() < 2;
    let mut findings = Findings {
        command: "validate",
        sources: all.iter().map(|one| one.source.clone()).collect(),
        about,
        places: Places::default(),
        found: Vec::new(),
        objects: Vec::new(),
        anchor: None,
    };
    for one in all {
        let source = (!is_alone).then(|| visible(&one.source));
        let found = one.found.sorted().into_iter().map(finding);
        findings.found.extend(found.map(|finding| Finding {
            source: source.clone(),
            ..finding
        }));
        let objects = one.objects.into_iter();
        findings.objects.extend(objects.map(|looked| Looked {
            source: source.clone(),
            ..looked
        }));
    }
    findings
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
