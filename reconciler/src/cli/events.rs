//! `keel events`: what happens at the controller.

use super::HumanOrJson;
use super::controller::running;
use super::invocation::Invocation;
use crate::api::documents::EventDocument;
use crate::error::{CliError, Exit};
use crate::view::text::visible;

/// Tell what happened lately at the controller.
#[derive(Debug, clap::Args)]
pub(super) struct Events {
    /// Go on telling what happens, until Ctrl-C or until the controller leaves.
    #[arg(short, long)]
    follow: bool,
    /// How it is written; JSON: one document a line.
    #[arg(short, long, value_name = "FORMAT", default_value = "human")]
    output: HumanOrJson,
}

impl Events {
    pub(super) fn run(&self, invocation: &Invocation) -> Result<Exit, CliError> {
        let controller = running(invocation)?;
        let all: Vec<EventDocument> = controller.get("/v1/events")?;
        for event in &all {
            self.print(invocation, event)?;
        }
        let mut failed = None;
        if self.follow {
            let last = all.last().map_or(0, |event| event.number);
            controller.follow(
                Some(last),
                &mut |event| match self.print(invocation, &event) {
                    Ok(()) => !invocation.cancelled(),
                    Err(error) => {
                        failed = Some(error);
                        false
                    }
                },
            )?;
        }
        failed.map_or(Ok(Exit::Done), Err)
    }

    fn print(&self, invocation: &Invocation, event: &EventDocument) -> Result<(), CliError> {
        match self.output {
            HumanOrJson::Human => invocation.print(&format!("{}\n", line(event))),
            HumanOrJson::Json => {
                let text = serde_json::to_string(event);
                let text = text.map_err(|error| CliError::new(Exit::Unexpected, error))?;
                invocation.print_plain(&format!("{text}\n"))
            }
        }
    }
}

/// `2026-11-27T16:00:00Z  done  edge  instance/web: create`.
fn line(event: &EventDocument) -> String {
    let second = event
        .at
        .split('.')
        .next()
        .unwrap_or(&event.at)
        .trim_end_matches('Z');
    let about = event.object.as_ref().or(event.source.as_ref());
    let about = about.map_or_else(String::new, |about| format!("{about}: "));
    let (topic, message) = (&event.topic, &event.message);
    visible(&format!("{second}Z  {topic:<11} {about}{message}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_one_line_that_drives_no_terminal() {
        let event = EventDocument {
            number: 1,
            at: "2026-11-27T16:00:00.123Z".to_owned(),
            topic: "failed".to_owned(),
            source: Some("edge".to_owned()),
            object: Some("instance/web".to_owned()),
            message: "create: no\u{1b}[2J\nroom".to_owned(),
        };
        let line = line(&event);
        assert!(
            line.starts_with("2026-11-27T16:00:00Z  failed      instance/web: create: no"),
            "{line}"
        );
        assert!(!line.contains(['\u{1b}', '\n']), "{line}");
    }
}
