//! `keel man`.

use std::path::PathBuf;

use manifests::path_io;

use super::invocation::{Invocation, absolute};
use crate::error::{CliError, Exit};

/// Write the manual pages.
///
/// Without a folder the page of `keel` itself is printed: `keel man | man -l -`.
#[derive(Debug, clap::Args)]
pub(super) struct Man {
    /// Write a page for each command into this folder.
    folder: Option<PathBuf>,
}

impl Man {
    pub(super) fn run(&self, invocation: &Invocation) -> Result<Exit, CliError> {
        let mut command = super::command();
        command.build();
        let Some(folder) = &self.folder else {
            invocation.print_bytes(&page(&command)?)?;
            return Ok(Exit::Done);
        };
        let folder = absolute(folder)?;
        path_io::create_dir_all(&folder)?;
        let mut written = 0;
        for (name, page) in pages("keel", &command)? {
            path_io::write(folder.join(format!("{name}.1")), page)?;
            written += 1;
        }
        invocation.note(&format!("{written} pages in {}\n", folder.display()));
        Ok(Exit::Done)
    }
}

/// The page of each command of the tree, by its name: `keel-image-import`.
fn pages(name: &str, command: &clap::Command) -> Result<Vec<(String, Vec<u8>)>, CliError> {
    // The name of a page must live as long as the command does: one leak for each page, once.
    let full: &'static str = name.to_owned().leak();
    let named = command.clone().name(full).display_name(full);
    let mut all = vec![(name.to_owned(), page(&named)?)];
    for below in command.get_subcommands() {
        if below.is_hide_set() || below.get_name() == "help" {
            continue;
        }
        all.extend(pages(&format!("{name}-{}", below.get_name()), below)?);
    }
    Ok(all)
}

fn page(command: &clap::Command) -> Result<Vec<u8>, CliError> {
    let mut text = Vec::new();
    clap_mangen::Man::new(command.clone())
        .render(&mut text)
        .map_err(|error| CliError::new(Exit::Unexpected, error))?;
    Ok(text)
}
