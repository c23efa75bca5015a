//! `keel observe`.

use std::path::{Path, PathBuf};

use super::decide::session;
use super::engine;
use super::invocation::{Invocation, absolute};
use crate::error::{CliError, Exit};
use crate::plan::World;
use crate::view::history::when;
use crate::view::live_document::LiveDocument;
use crate::view::text;

/// Write what lives on this host as a document, from which plans are made elsewhere: keel plan --against live.json.
#[derive(Debug, clap::Args)]
pub(super) struct Observe {
    /// Write it into this file; absent: to standard output.
    #[arg(long, value_name = "FILE")]
    save: Option<PathBuf>,
}

impl Observe {
    pub(super) fn run(&self, invocation: &Invocation) -> Result<Exit, CliError> {
        let opened = engine::open(invocation)?;
        let now = invocation.now();
        let mut world = session(invocation, &opened).world()?;
        // Whoever plans from it may want machines.
        let host = opened.runtime.capabilities_for(None)?;
        (world.host.missing, world.host.machines) = (host.missing, host.machines);
        let (objects, host) = (world.observed.items.len(), world.host.host.clone());
        let text = LiveDocument::new(world, now).text().map_err(|error| {
            CliError::new(Exit::Unexpected, format!("write the live state: {error}"))
        })?;
        invocation.json_into(|| text.clone())?;
        match &self.save {
            None => invocation.print_plain(&text)?,
            Some(file) => {
                manifests::path_io::write_durably(absolute(file)?, text)?;
                invocation.note(&format!(
                    "{} of host {} as they were at {} in {}\n",
                    text::counted(objects, "object"),
                    text::visible(&host),
                    when(now),
                    text::visible(&file.display().to_string()),
                ));
            }
        }
        Ok(Exit::Done)
    }
}

/// The live state that was saved in a file.
///
/// # Errors
/// It cannot be read, or is none.
pub(super) fn read(file: &Path) -> Result<World, CliError> {
    let text = manifests::path_io::read_to_string(absolute(file)?)?;
    let live = LiveDocument::read(&text).map_err(|error| {
        CliError::new(Exit::Invalid, format!("{}: {error}", file.display()))
            .hint("make it again on the host: keel observe --save FILE")
    })?;
    Ok(live.into_world())
}
