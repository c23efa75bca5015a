//! `keel schema`.

use std::path::PathBuf;

use manifests::path_io;
use manifests::schema;

use super::invocation::Invocation;
use crate::error::{CliError, Exit};
use crate::view::text;

/// Work with the JSON schemas of the language, which editors read.
#[derive(Debug, clap::Args)]
pub(super) struct Schema {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    Write(Write),
}

/// Write the JSON schemas of this version: one for each kind, one for all.
#[derive(Debug, clap::Args)]
struct Write {
    /// The folder that they are written into.
    #[arg(default_value = ".keel/schemas")]
    folder: PathBuf,
}

impl Schema {
    pub(super) fn run(&self, invocation: &Invocation) -> Result<Exit, CliError> {
        let Command::Write(Write { folder }) = &self.command;
        let files = schema::files();
        for (name, content) in &files {
            let path = folder.join(name);
            if let Some(parent) = path.parent() {
                path_io::create_dir_all(parent)?;
            }
            path_io::write_atomically(&path, content)?;
        }
        let all = folder.join(format!("v1/{}.json", schema::ALL));
        let count = text::counted(files.len(), "schema");
        let all = all.display().to_string();
        invocation.print(&format!(
            "{count} in {}; the one of all kinds is {}\n\
             Editors with yaml-language-server take it from the first line of a manifest:\n  \
             # yaml-language-server: $schema={}\n",
            text::visible(&folder.display().to_string()),
            text::visible(&all),
            text::visible(&all),
        ))?;
        Ok(Exit::Done)
    }
}
