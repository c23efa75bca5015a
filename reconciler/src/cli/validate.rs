//! `keel validate`.

use std::collections::HashMap;
use std::path::PathBuf;

use manifests::diagnostic::Diagnostics;

use super::format::{Format, print_report};
use super::invocation::{Invocation, say};
use super::read::Source;
use crate::error::{CliError, Exit};
use crate::view::findings::{Validated, of_manifests};
use crate::view::{diagnostics, text};

/// Read, check and resolve manifests: no host, no root, no network.
#[derive(Debug, clap::Args)]
pub(super) struct Validate {
    /// Sources: folders or files; absent: this folder.
    paths: Vec<PathBuf>,
    /// How it is written.
    #[arg(short, long, value_name = "FORMAT", default_value = "human", value_parser = Format::parser(Format::MANIFESTS))]
    output: Format,
}

impl Validate {
    pub(super) fn run(&self, invocation: &Invocation) -> Result<Exit, CliError> {
        let began = invocation.now();
        let mut found = Diagnostics::default();
        let (mut objects, mut files) = (0, 0);
        let mut findings = String::new();
        let default = [PathBuf::from(".")];
        let paths = if self.paths.is_empty() {
            &default[..]
        } else {
            &self.paths
        };
        let mut all: Vec<Validated> = Vec::new();
        for path in paths {
            let mut source = Source::read(Some(path))?;
            let name = source.name();
            if self.output != Format::Human || paths.len() > 1 {
                source = source.named_in_repository();
            }
            findings.push_str(&source.findings());
            objects += source.resolved.documents;
            files += source.texts.files.len();
            let source = source.validated(name);
            found.extend(source.found.clone());
            all.push(source);
        }
        // Those that have no name of their own are told by their folders.
        let mut named: HashMap<String, usize> = HashMap::new();
        for one in &all {
            *named.entry(one.source.clone()).or_default() += 1;
        }
        for (one, path) in all.iter_mut().zip(paths) {
            if named.get(&one.source).is_some_and(|times| *times > 1) {
                one.source = path.display().to_string();
            }
        }
        let json = || format!("{:#}\n", diagnostics::document(&found, objects));
        invocation.json_into(json)?;
        let objects = text::counted(objects, "document");
        let about = format!("{objects} in {}", text::counted(files, "file"));
        let report = of_manifests(all, about);
        if !print_report(invocation, self.output, &report, &found)? {
            if self.output == Format::Json {
                invocation.print_plain(&json())?;
            } else {
                say(&findings);
                let took = text::span(invocation.milliseconds_since(began));
                let summary = diagnostics::summary(&found);
                let summary = summary.as_deref().unwrap_or("nothing wrong");
                invocation.print(&format!("{}: {summary} · {took}\n", report.about))?;
            }
        }
        Ok(if found.has_errors() {
            Exit::Invalid
        } else {
            Exit::Done
        })
    }
}
