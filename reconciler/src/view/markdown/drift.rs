//! A drift report as a comment or an issue.

use std::fmt::Write as _;

use super::{Report, code, row, sticky, words};
use crate::view::drift::DriftReport;
use crate::view::history::when;
use crate::view::places::Places;
use crate::view::text::{counted, visible};
use crate::view::values::reported_both;

/// Values are cut to so many columns.
const VALUE: usize = 120;

/// The comment, within a limit in bytes.
pub fn of_drift(drift: &DriftReport, places: &Places, limit: usize) -> String {
    let mut head = format!("### keel drift · {}", code(&drift.source));
    if let Some(revision) = &drift.revision {
        let _ = write!(head, " at {}", code(revision));
    }
    let _ = writeln!(head, " on {}\n", code(&drift.host));
    let objects = counted(drift.objects, "object");
    if drift.drift.is_empty() {
        let _ = writeln!(head, "No drift: {objects} compared");
    } else {
        let differing = drift.differing();
        let _ = writeln!(head, "**{differing} of {objects} differ**");
    }
    if let Some(edited) = drift.edited_words() {
        let _ = writeln!(head, "\n{edited}");
    }
    let mut report = Report {
        mark: sticky("drift", &[&drift.source, &drift.host]),
        head,
        columns: "| object | field | git | live | declared |\n|---|---|---|---|---|\n".to_owned(),
        fold: "How it came about".to_owned(),
        cut: "All of it is in the log of the job.",
        ..Report::default()
    };
    for field in drift.worst_first() {
        let name = field.id.to_string();
        let path = field.path_words();
        let values = [&field.desired, &field.live];
        let ([desired, live], _) = reported_both(&field.path, values, VALUE);
        let place = field.source.as_ref().map(|origin| places.line(origin));
        report.rows.push(row(&[
            code(&name),
            code(&path),
            code(&desired),
            code(&live),
            code(&place.unwrap_or_default()),
        ]));
        let mut how = vec![visible(&field.cause)];
        how.extend(field.author_words());
        if let Some(first) = field.first_seen {
            how.push(format!("first seen {}", when(first)));
        }
        if field.times > 1 {
            how.push(format!("found {} times", field.times));
        }
        how.push(field.mode_words().to_owned());
        report.details.push(format!(
            "! {}   {}   {}\n- {desired}\n+ {live}\n",
            visible(&name),
            visible(&path),
            how.join(", "),
        ));
    }
    for not_seen in &drift.unseen {
        for unseen in &not_seen.unseen {
            report.more.push(format!(
                "- could not be seen: {} {}: {}\n",
                code(&not_seen.address.to_string()),
                code(&unseen.path.dotted()),
                words(&unseen.why)
            ));
        }
    }
    for rule in &drift.stale_rules {
        let place = rule.source.as_ref().map(|origin| places.line(origin));
        report.more.push(format!(
            "- ignore rule that leaves nothing alone: {} {} {}\n",
            code(&rule.path_words()),
            code(&place.unwrap_or_default()),
            words(&rule.words())
        ));
    }
    report.within(limit)
}
