//! `keel history`.

use manifests::id::Address;
use serde_json::json;

use super::HumanOrJson;
use super::engine;
use super::global::address;
use super::invocation::Invocation;
use crate::error::{CliError, Exit};
use crate::journal::{Journal as _, JournalError};
use crate::view::history;

/// List what was done: the applies, or the events of one object.
#[derive(Debug, clap::Args)]
pub(super) struct History {
    /// Only this object.
    #[arg(value_name = "KIND/NAME", value_parser = address)]
    object: Option<Address>,
    /// How many, the newest first.
    #[arg(short = 'n', long, value_name = "COUNT", default_value_t = 20)]
    limit: usize,
    /// How it is written.
    #[arg(short, long, value_name = "FORMAT", default_value = "human")]
    output: HumanOrJson,
}

impl History {
    pub(super) fn run(&self, invocation: &Invocation) -> Result<Exit, CliError> {
        let store = engine::store(&engine::folder(invocation)?)?;
        let unreadable = |error: JournalError| CliError::new(Exit::Unexpected, error);
        let (text, json) = match &self.object {
            Some(object) => {
                let events = store.events_of(object, self.limit).map_err(unreadable)?;
                (history::events(&events), json!(events))
            }
            None => {
                let applies = store.applies(self.limit).map_err(unreadable)?;
                (history::applies(&applies), json!(applies))
            }
        };
        let json = format!("{json:#}\n");
        invocation.json_into(|| json.clone())?;
        match self.output {
            HumanOrJson::Human if text.lines().count() == 1 => invocation.note("nothing\n"),
            HumanOrJson::Human => invocation.print(&text)?,
            HumanOrJson::Json => invocation.print_plain(&json)?,
        }
        Ok(Exit::Done)
    }
}
