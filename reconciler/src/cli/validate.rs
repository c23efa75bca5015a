//! `keel validate`.

use std::path::PathBuf;

use manifests::diagnostic::Diagnostics;

use super::HumanOrJson;
use super::invocation::{Invocation, say};
use super::read::Source;
use crate::error::{CliError, Exit};
use crate::view::{diagnostics, text};

/// Read, check and resolve manifests: no host, no root, no network.
#[derive(Debug, clap::Args)]
pub(super) struct Validate {
    /// Sources: folders or files; absent: this folder.
    paths: Vec<PathBuf>,
    /// How it is written.
    #[arg(short, long, value_name = "FORMAT", default_value = "human")]
    output: HumanOrJson,
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
        for path in paths {
            let source = Source::read(Some(path))?;
            findings.push_str(&source.findings());
            objects += source.resolved.documents;
            files += source.texts.files.len();
            found.extend(source.resolved.found);
        }
        let json = || format!("{:#}\n", diagnostics::document(&found, objects));
        invocation.json_into(json)?;
        match self.output {
            HumanOrJson::Json => invocation.print(&json())?,
            HumanOrJson::Human => {
                say(&findings);
                let took = text::span(invocation.milliseconds_since(began));
                let objects = text::counted(objects, "document");
                let files = text::counted(files, "file");
                let summary =
                    diagnostics::summary(&found).unwrap_or_else(|| "nothing wrong".to_owned());
                invocation.print(&format!("{objects} in {files}: {summary} · {took}\n"))?;
            }
        }
        Ok(if found.has_errors() {
            Exit::Invalid
        } else {
            Exit::Done
        })
    }
}
