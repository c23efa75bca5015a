//! Findings about what the world changed.

use manifests::diagnostic::{Diagnostics, Origin};
use manifests::lifecycle::DriftMode;
use manifests::pointer::Pointer;

use super::rules::{
    DRIFT_ADDED, DRIFT_CHANGED, DRIFT_GONE, DRIFT_REMOVED, DRIFT_STALE_RULE, DRIFT_UNSEEN,
};
use super::{Finding, Findings, Level, Looked, Verdict, diagnostics};
use crate::diff::is_entry;
use crate::view::drift::{DriftReport, DriftedField, StaleRule};
use crate::view::history::when;
use crate::view::places::Places;
use crate::view::text::{counted, visible};
use crate::view::values::reported;

/// Values are cut to so many columns.
const VALUE: usize = 200;

/// What `keel drift` found; `warnings` are those about the manifests.
pub fn of_drift(
    report: &DriftReport,
    warnings: &Diagnostics,
    places: &Places,
    anchor: Option<Origin>,
) -> Findings {
    let mut found: Vec<Finding> = report.drift.iter().map(finding).collect();
    for not_seen in &report.unseen {
        for unseen in &not_seen.unseen {
            let name = unseen.path.dotted();
            let message = format!("{name} could not be read: {}", unseen.why);
            let mut one = Finding::new(DRIFT_UNSEEN, Level::Note, Verdict::Remarks, &message);
            one.origin = report.declared(&not_seen.address).cloned();
            one.object = Some(not_seen.address.to_string());
            one.field = Some(unseen.path.as_str().to_owned());
            found.push(one);
        }
    }
    found.extend(report.stale_rules.iter().map(stale));
    found.extend(warnings.sorted().into_iter().map(diagnostics::finding));
    Findings {
        command: "drift",
        sources: vec![report.source.clone()],
        about: visible(&format!(
            "{}: {} of {} differ",
            report.about(),
            report.differing(),
            counted(report.objects, "object")
        )),
        places: places.clone(),
        found,
        objects: report
            .compared
            .iter()
            .map(|compared| Looked {
                name: compared.address.to_string(),
                source: None,
                origin: Some(compared.origin.clone()),
                left_alone: left_alone(&compared.ignored),
            })
            .collect(),
        anchor,
    }
}

/// What the rules of an object leave alone.
fn left_alone(ignored: &[Pointer]) -> Option<String> {
    let paths: Vec<String> = ignored.iter().map(|path| visible(&path.dotted())).collect();
    let count = counted(paths.len(), "field");
    (!paths.is_empty()).then(|| format!("{count} left alone by rule: {}", paths.join(", ")))
}

fn stale(rule: &StaleRule) -> Finding {
    let message = format!("ignore rule {} of {}", rule.path_words(), rule.words());
    let mut one = Finding::new(DRIFT_STALE_RULE, Level::Note, Verdict::Remarks, &message);
    one.origin.clone_from(&rule.source);
    if let [object] = &rule.objects[..] {
        one.object = Some(object.to_string());
    }
    one.field = Some(rule.path.as_str().to_owned());
    one
}

fn finding(field: &DriftedField) -> Finding {
    let name = field.path.dotted();
    let shown = |value| reported(&field.path, value, VALUE);
    let (rule, message) = if field.is_object() {
        (DRIFT_GONE, format!("{} is {}", field.id, field.cause))
    } else if field.desired.is_null() && is_entry(&field.path) {
        let live = shown(&field.live);
        (
            DRIFT_ADDED,
            format!("{}: {name} is {live}, git does not have it", field.id),
        )
    } else if field.live.is_null() {
        let desired = shown(&field.desired);
        (
            DRIFT_REMOVED,
            format!("{}: {name} is not set, git says {desired}", field.id),
        )
    } else {
        let (desired, live) = (shown(&field.desired), shown(&field.live));
        (
            DRIFT_CHANGED,
            format!("{}: {name} is {live}, git says {desired}", field.id),
        )
    };
    let level = match field.mode {
        DriftMode::Correct => Level::Warning,
        DriftMode::Warn | DriftMode::Ignore => Level::Note,
    };
    let mut finding = Finding::new(rule, level, Verdict::Fails, &message);
    finding.more.push(visible(&field.cause));
    finding.more.extend(field.author_words());
    if let Some(first) = field.first_seen {
        finding.more.push(format!("first seen {}", when(first)));
    }
    finding.more.push(field.mode_words().to_owned());
    finding.origin.clone_from(&field.source);
    finding.object = Some(field.id.to_string());
    let path = field.path.as_str();
    finding.field = (!path.is_empty()).then(|| path.to_owned());
    finding
}
