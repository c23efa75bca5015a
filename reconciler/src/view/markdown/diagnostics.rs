//! Findings about manifests as a comment.

use std::fmt::Write as _;

use super::{Report, code, row, sticky, words};
use crate::view::findings::{Findings, Level};
use crate::view::text::{counted, cut};

/// Messages are cut to so many columns.
const MESSAGE: usize = 500;

/// The comment, within a limit in bytes. `summary` are the counts: `2 errors, 1 warning`.
pub fn of_manifests(findings: &Findings, summary: Option<&str>, limit: usize) -> String {
    let mut head = String::from("### keel validate\n\n");
    let _ = match summary {
        Some(summary) => writeln!(head, "**{}** — {}", words(summary), words(&findings.about)),
        None => writeln!(head, "Nothing wrong — {}", words(&findings.about)),
    };
    let sources: Vec<&str> = findings.sources.iter().map(String::as_str).collect();
    let mut report = Report {
        mark: sticky("validate", &sources),
        head,
        columns: "| | place | finding |\n|---|---|---|\n".to_owned(),
        cut: "All of them are in the log of the job.",
        ..Report::default()
    };
    for finding in &findings.found {
        let word = match finding.level {
            Level::Error => "**error**",
            Level::Warning => "warning",
            Level::Note => "note",
        };
        let place = findings
            .place(finding)
            .map(|origin| findings.places.line(origin));
        let of = match &finding.source {
            Some(source) => format!("{}: ", words(source)),
            None => String::new(),
        };
        let mut message = format!(
            "{of}{}: {}",
            finding.rule,
            words(&cut(&finding.message, MESSAGE))
        );
        for line in &finding.more {
            let _ = write!(message, "<br>{}", words(&cut(line, MESSAGE)));
        }
        report.rows.push(row(&[
            word.to_owned(),
            code(&place.unwrap_or_default()),
            message,
        ]));
    }
    if report.rows.len() > super::ROWS {
        let _ = write!(report.foot, "\n{}\n", counted(report.rows.len(), "finding"));
    }
    report.within(limit)
}
