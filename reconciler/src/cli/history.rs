//! `keel history`.

use manifests::id::Address;
use serde_json::{Value, json};

use super::HumanOrJson;
use super::elsewhere;
use super::engine;
use super::global::address;
use super::invocation::Invocation;
use crate::api::client::Controller;
use crate::error::{CliError, Exit};
use crate::journal::{ApplyStatus, Journal as _, JournalError, ObjectEvent};
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
        let (text, json) = match elsewhere::controller(invocation)? {
            Some(controller) => self.elsewhere(&controller)?,
            None => self.here(invocation)?,
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

    fn here(&self, invocation: &Invocation) -> Result<(String, Value), CliError> {
        let store = engine::store(&engine::folder(invocation)?)?;
        let unreadable = |error: JournalError| CliError::new(Exit::Unexpected, error);
        Ok(match &self.object {
            Some(object) => {
                let events = store.events_of(object, self.limit).map_err(unreadable)?;
                (history::events(&events), json!(events))
            }
            None => {
                let applies = store.applies(self.limit).map_err(unreadable)?;
                (history::applies(&applies), json!(applies))
            }
        })
    }

    fn elsewhere(&self, controller: &Controller) -> Result<(String, Value), CliError> {
        let path = format!("/v1/history?limit={}", self.limit);
        Ok(match &self.object {
            Some(object) => {
                let object = elsewhere::encoded(&object.to_string());
                let events: Vec<ObjectEvent> =
                    controller.get(&format!("{path}&object={object}"))?;
                (history::events(&events), json!(events))
            }
            None => {
                let applies: Vec<ApplyStatus> = controller.get(&path)?;
                (history::applies(&applies), json!(applies))
            }
        })
    }
}
