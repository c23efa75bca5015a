//! `keel drift accept`.

mod chosen;
mod edits;
mod meaning;
mod sources;
mod write;

use std::path::PathBuf;

use manifests::desired::{DesiredSet, Resource};
use manifests::id::Address;
use manifests::read::Texts;

use super::HumanOrJson;
use super::decide::{seen_on_this_host, session, wanted};
use super::engine;
use super::global::address;
use super::invocation::{Invocation, say};
use super::narrow::narrow;
use super::read::Source;
use crate::error::{CliError, Exit};
use crate::session::DriftedField;
use crate::view::accept::{AcceptReport, Also, Change, Refused};

/// Write what lives into the manifests: the very line that declares it, in whichever layer that is.
///
/// Comments, order and quotes stay; what no manifest says yet is written behind the last key of its map, and what is gone
/// goes with its line. What comes from a variable, a loop, a file, a secret or an anchor is refused; with one refusal nothing
/// is written.
#[derive(Debug, clap::Args)]
pub(super) struct Accept {
    /// The object.
    #[arg(value_name = "KIND/NAME", value_parser = address)]
    object: Address,
    /// The source; absent: this folder.
    path: Option<PathBuf>,
    /// Only this field: `limits.memory`; absent: all that drifted.
    #[arg(long, value_name = "FIELD")]
    field: Option<String>,
    /// Do not ask, also where the line counts for other objects.
    #[arg(short, long)]
    yes: bool,
    /// How it is written.
    #[arg(short, long, value_name = "FORMAT", default_value = "human")]
    output: HumanOrJson,
}

impl Accept {
    pub(super) fn run(&self, invocation: &Invocation) -> Result<Exit, CliError> {
        let mut wanted = wanted(invocation, self.path.as_deref())?;
        let opened = engine::open(invocation)?;
        let before = wanted.desired.clone();
        seen_on_this_host(&mut wanted.desired, &wanted.texts, &opened)?;
        let drift = session(invocation, &opened).drift(&wanted.desired)?;
        let resource = chosen::resource(&before, &drift, &self.object)?;
        let mut refused = Vec::new();
        let field = self.field.as_deref();
        let fields = chosen::fields(drift, resource, field, &wanted.texts, &mut refused)?;
        let select = |set: &mut DesiredSet| narrow(set, &invocation.global);
        let edited = edited(&before, &wanted.texts, resource, &fields, &select)?;
        refused.extend(edited.refused);
        refused.sort_by(|a, b| (&a.source, &a.path).cmp(&(&b.source, &b.path)));
        let mut report = AcceptReport {
            format_version: "1.0",
            object: self.object.clone(),
            written: false,
            changes: edited.changes,
            refused,
            also_changes: edited.also_changes,
            sources: Vec::new(),
        };
        if report.refused.is_empty() {
            report.sources = sources::that_change(&wanted.texts, &edited.texts);
        }
        let done = match report.refused.is_empty() {
            true => self.write(invocation, &mut report, &wanted.texts, &edited.texts),
            false => {
                if self.output == HumanOrJson::Human {
                    say(&report.refusals());
                }
                Err(CliError::said(Exit::Refused))
            }
        };
        // Also where nobody agreed: who is to say --yes must know to what.
        invocation.json_into(|| report.json())?;
        if self.output == HumanOrJson::Json {
            invocation.print_plain(&report.json())?;
        }
        done.map(|()| Exit::Done)
    }

    /// Shows what is to be written, asks where others change as well, and writes it.
    fn write(
        &self,
        invocation: &Invocation,
        report: &mut AcceptReport,
        before: &Texts,
        after: &Texts,
    ) -> Result<(), CliError> {
        if self.output == HumanOrJson::Human {
            invocation.print(&report.page())?;
        }
        if report.changes_others() {
            if self.output == HumanOrJson::Json && !self.yes {
                say(&report.page());
            }
            let question = "Others change as well. Write it?";
            invocation.confirm(self.yes, question)?;
        }
        write::write(before, after)?;
        report.written = true;
        invocation.note("Written. Look at it:  git diff   then:  keel plan\n");
        Ok(())
    }
}

/// What accepting comes to, before anything is written.
struct Edited {
    texts: Texts,
    changes: Vec<Change>,
    refused: Vec<Refused>,
    also_changes: Vec<Also>,
}

/// Puts live values into the texts and reads these again: they must mean what lives and nothing else. `select` leaves of
/// them what is meant.
fn edited(
    before: &DesiredSet,
    texts: &Texts,
    resource: &Resource,
    fields: &[DriftedField],
    select: &dyn Fn(&mut DesiredSet) -> Result<(), CliError>,
) -> Result<Edited, CliError> {
    let mut refused = Vec::new();
    let mut also_changes = Vec::new();
    let (texts, changes) = edits::edit_all(texts, resource, fields, &mut refused);
    if !changes.is_empty() {
        let revision = before.source.revision.clone();
        let source = Source::of(texts.clone(), revision, None).strict();
        match source.resolved.desired {
            None => meaning::wrong(&source.resolved.found, &mut refused),
            Some(mut after) => {
                select(&mut after)?;
                meaning::of_the_object(before, &after, resource, &changes, &mut refused);
                also_changes = meaning::others(before, &after, Some(&resource.address));
            }
        }
    }
    Ok(Edited {
        texts,
        changes,
        refused,
        also_changes,
    })
}

#[cfg(test)]
mod tests;
