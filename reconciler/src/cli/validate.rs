//! `keel validate`.

use std::path::PathBuf;

use super::HumanOrJson;
use super::invocation::Invocation;
use super::manifests::load;
use crate::error::{CliError, Exit};
use crate::view::diagnostics;

/// Read, check and resolve manifests; needs no host, no root and no network.
#[derive(Debug, clap::Args)]
pub(super) struct Validate {
    /// Folders or files; the working folder where none is given.
    #[arg(value_name = "PATH")]
    paths: Vec<PathBuf>,
    /// How it is written.
    #[arg(short, long, value_name = "FORMAT", default_value = "human")]
    output: HumanOrJson,
}

impl Validate {
    pub(super) fn run(&self, invocation: &Invocation) -> Result<Exit, CliError> {
        let here = vec![PathBuf::from(".")];
        let paths = if self.paths.is_empty() {
            &here
        } else {
            &self.paths
        };
        let mut exit = Exit::Done;
        for path in paths {
            let mut loaded = load(Some(path))?;
            if let Some(desired) = &loaded.desired {
                loaded
                    .found
                    .extend(manifests::support::unsupported(desired));
            }
            let json = format!(
                "{:#}\n",
                diagnostics::document(&loaded.found, loaded.documents)
            );
            invocation.json_into(|| json.clone())?;
            match self.output {
                HumanOrJson::Json => invocation.print(&json)?,
                HumanOrJson::Human => {
                    let files = &loaded.texts.files;
                    let page = diagnostics::page(&loaded.found, files);
                    invocation.print(&page)?;
                    let summary = diagnostics::summary(&loaded.found);
                    let words = summary.unwrap_or_else(|| "nothing to complain about".to_owned());
                    let documents = loaded.documents;
                    invocation.note(&format!(
                        "{}: {documents} documents, {words}\n",
                        path.display()
                    ));
                }
            }
            if loaded.found.has_errors() {
                exit = Exit::Invalid;
            }
        }
        Ok(exit)
    }
}
