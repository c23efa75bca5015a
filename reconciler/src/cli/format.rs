//! [`Format`]: how a command writes what it found. Each command offers those that make sense for it.

use std::path::{Path, PathBuf};

use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};
use manifests::diagnostic::Diagnostics;
use manifests::path_io;

use super::invocation::{Invocation, absolute, environment, say};
use super::narrow::narrow;
use super::read::{Source, Wanted};
use crate::error::{CliError, Exit};
use crate::view::findings::{Findings, Validated, of_manifests};
use crate::view::{diagnostics, github, junit, markdown, sarif};

/// How it is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    Human,
    Json,
    Markdown,
    Sarif,
    Junit,
    Github,
    GitlabPlan,
    Html,
}

impl Format {
    /// What tells about manifests.
    pub(super) const MANIFESTS: &[Self] = &[
        Self::Human,
        Self::Json,
        Self::Markdown,
        Self::Sarif,
        Self::Junit,
        Self::Github,
    ];
    /// What tells about a host.
    pub(super) const ALL: &[Self] = &[
        Self::Human,
        Self::Json,
        Self::Markdown,
        Self::Sarif,
        Self::Junit,
        Self::Github,
        Self::GitlabPlan,
        Self::Html,
    ];

    const fn word(self) -> &'static str {
        match self {
            Self::Human => "human",
            Self::Json => "json",
            Self::Markdown => "markdown",
            Self::Sarif => "sarif",
            Self::Junit => "junit",
            Self::Github => "github",
            Self::GitlabPlan => "gitlab-plan",
            Self::Html => "html",
        }
    }

    const fn help(self) -> &'static str {
        match self {
            Self::Human => "Text for people",
            Self::Json => "One JSON document",
            Self::Markdown => "A comment for a pull request, within 65 536 characters",
            Self::Sarif => "SARIF 2.1.0, for code scanning",
            Self::Junit => "JUnit XML, a case for each object",
            Self::Github => "Annotations of a GitHub workflow, and the summary of its step",
            Self::GitlabPlan => "The counts for the widget of a GitLab merge request",
            Self::Html => "One page without anything from elsewhere",
        }
    }

    /// Reads one of those that a command offers; any other is refused with the list.
    pub(super) fn parser(offered: &'static [Self]) -> impl TypedValueParser<Value = Self> {
        let values = offered
            .iter()
            .map(|format| PossibleValue::new(format.word()).help(format.help()));
        PossibleValuesParser::new(values).map(move |word| {
            let named = offered.iter().find(|format| format.word() == word);
            named.copied().unwrap_or(Self::Human)
        })
    }
}

/// SARIF on stdout.
///
/// # Errors
/// It cannot be written.
pub(super) fn print_sarif(invocation: &Invocation, findings: &Findings) -> Result<(), CliError> {
    invocation.print_plain(&format!("{:#}\n", sarif::document(findings)))
}

/// JUnit on stdout.
///
/// # Errors
/// It cannot be written.
pub(super) fn print_junit(invocation: &Invocation, findings: &Findings) -> Result<(), CliError> {
    invocation.print_plain(&junit::document(findings))
}

/// Annotations on stdout, and where the step of a workflow has a summary, the whole report there. `report` writes it
/// within a limit in bytes.
///
/// # Errors
/// One of them cannot be written.
pub(super) fn print_github(
    invocation: &Invocation,
    findings: &Findings,
    report: impl FnOnce(usize) -> String,
) -> Result<(), CliError> {
    let summary = environment("GITHUB_STEP_SUMMARY").map(PathBuf::from);
    if let Some(file) = &summary {
        let file = absolute(file)?;
        // Others of the step write there too, and the limit is for all of them.
        let mut text = path_io::read_if_exists(&file)?.unwrap_or_default();
        let room = markdown::SUMMARY.saturating_sub(text.len() + 1);
        if !(text.is_empty() || text.ends_with('\n')) {
            text.push('\n');
        }
        let report = report(room);
        if report.len() <= room {
            text.push_str(&report);
            path_io::write(&file, text)?;
        }
    }
    invocation.print_plain(&github::annotations(findings, summary.is_some()))
}

/// A report about manifests on stdout; the answer is whether the format has one.
///
/// # Errors
/// It cannot be written.
pub(super) fn print_report(
    invocation: &Invocation,
    format: Format,
    findings: &Findings,
    found: &Diagnostics,
) -> Result<bool, CliError> {
    let comment = |limit| {
        let summary = diagnostics::summary(found);
        markdown::of_manifests(findings, summary.as_deref(), limit)
    };
    match format {
        Format::Markdown => invocation.print_plain(&comment(markdown::COMMENT))?,
        Format::Sarif => print_sarif(invocation, findings)?,
        Format::Junit => print_junit(invocation, findings)?,
        Format::Github => print_github(invocation, findings, comment)?,
        Format::Human | Format::Json | Format::GitlabPlan | Format::Html => return Ok(false),
    }
    Ok(true)
}

/// What a source wants, as [`decide::wanted`](super::decide::wanted); what is wrong with it is told in the format as well.
///
/// # Errors
/// It cannot be read, or something is wrong with it.
pub(super) fn wanted_in(
    invocation: &Invocation,
    path: Option<&Path>,
    format: Format,
) -> Result<Wanted, CliError> {
    let source = Source::read(path)?.strict();
    if source.resolved.desired.is_some() {
        let mut wanted = source.meaning(invocation)?;
        narrow(&mut wanted.desired, &invocation.global)?;
        return Ok(wanted);
    }
    say(&source.findings());
    let name = source.name();
    let source = source.named_in_repository();
    let found = source.resolved.found;
    let summary = diagnostics::summary(&found).unwrap_or_default();
    let about = format!("{summary}: nothing is done");
    say(&format!("{about}\n"));
    let one = Validated {
        source: name,
        found: found.clone(),
        objects: Vec::new(),
    };
    let report = of_manifests(vec![one], about);
    print_report(invocation, format, &report, &found)?;
    Err(CliError::said(Exit::Invalid))
}
