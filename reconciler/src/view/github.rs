//! Findings as annotations of a GitHub workflow. Of each level it shows ten a step and drops the rest in silence, so the
//! rest is counted.

use std::fmt::Write as _;

use super::escape::{workflow_message, workflow_property};
use super::findings::{Finding, Findings, Level};
use super::text::visible;

/// As many of a level are shown.
const MOST: usize = 10;

/// The annotations; `summary` says whether there is a job summary that has all of them.
pub fn annotations(findings: &Findings, summary: bool) -> String {
    let mut out = String::new();
    let mut left_off = 0;
    for level in [Level::Error, Level::Warning] {
        let all = findings.found.iter().filter(|one| one.level == level);
        let all: Vec<&Finding> = all.collect();
        for finding in all.iter().take(MOST) {
            annotation(&mut out, findings, finding);
        }
        left_off += all.len().saturating_sub(MOST);
    }
    let title = workflow_property(&format!("keel {}", findings.command));
    let mut words = findings.about.clone();
    if left_off > 0 {
        let place = if summary {
            "in the summary"
        } else {
            "that are not shown here"
        };
        let _ = write!(words, " · and {left_off} more {place}");
    }
    let _ = writeln!(out, "::notice title={title}::{}", workflow_message(&words));
    out
}

fn annotation(out: &mut String, findings: &Findings, finding: &Finding) {
    let word = match finding.level {
        Level::Error => "error",
        Level::Warning => "warning",
        Level::Note => "notice",
    };
    let mut properties = Vec::new();
    if let Some(origin) = findings.place(finding) {
        // A name that would drive a terminal belongs to no file that anybody can be shown.
        let path = visible(&findings.places.path(origin));
        properties.push(format!("file={}", workflow_property(&path)));
        if origin.line > 0 {
            properties.push(format!("line={}", origin.line));
        }
        if origin.line > 0 && origin.column > 0 {
            properties.push(format!("col={}", origin.column));
        }
    }
    properties.push(format!("title={}", workflow_property(finding.rule)));
    let message = workflow_message(&finding.text());
    let _ = writeln!(out, "::{word} {}::{message}", properties.join(","));
}
