//! `keel drift accept`.

mod write;

use std::collections::BTreeMap;
use std::path::PathBuf;

use manifests::desired::{DesiredSet, Resource};
use manifests::edit::{self, EditError};
use manifests::id::Address;
use manifests::pointer::Pointer;
use manifests::read::Texts;
use manifests::resolve::resolve;
use manifests::support::settle;

use super::decide::{on_this_host, session, wanted};
use super::engine;
use super::global::address;
use super::invocation::Invocation;
use crate::error::{CliError, Exit};
use crate::session::DriftedField;
use crate::view::diagnostics;
use crate::view::text::{shown, visible};

/// Write what lives into the manifests: the very line that declares it, in whichever layer that is.
///
/// Texts, numbers and truth values are changed where they are written; comments and order stay. What comes from a
/// variable, a loop, a secret or an anchor is refused, and so is what no manifest says yet.
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
}

/// A line that changes.
struct Edited {
    origin: String,
    path: Pointer,
    was: serde_json::Value,
    is: serde_json::Value,
}

impl Accept {
    pub(super) fn run(&self, invocation: &Invocation) -> Result<Exit, CliError> {
        let mut wanted = wanted(invocation, self.path.as_deref())?;
        let opened = engine::open(invocation)?;
        let before = wanted.desired.clone();
        on_this_host(&mut wanted.desired, &wanted.texts, &opened)?;
        let drift = session(invocation, &opened).drift(&wanted.desired)?;
        let resource = before.resources.get(&self.object).ok_or_else(|| {
            CliError::usage(format!("{} is not declared here", self.object))
                .hint("keel render lists what is")
        })?;
        let fields: Vec<DriftedField> = drift
            .fields
            .into_iter()
            .filter(|field| field.address == self.object && self.means(&field.path))
            .collect();
        if fields.is_empty() {
            let message = match &self.field {
                Some(field) => format!("{field} of {} has not drifted", self.object),
                None => format!("nothing of {} has drifted", self.object),
            };
            return Err(CliError::new(Exit::Unexpected, message).hint("keel drift says what did"));
        }
        let (texts, edited) = edit_all(&wanted.texts, resource, &fields)?;
        let reached = reached(&before, &texts, resource, &edited)?;
        for one in &edited {
            invocation.print(&format!(
                "{}   {}   {} → {}\n",
                visible(&one.origin),
                one.path.dotted(),
                shown(&one.was),
                shown(&one.is)
            ))?;
        }
        if !reached.is_empty() {
            let names: Vec<String> = reached.iter().map(ToString::to_string).collect();
            let names = visible(&names.join(", "));
            invocation.confirm(
                self.yes,
                &format!("This changes {names} as well. Write it?"),
            )?;
        }
        write::write(&wanted.texts, &texts)?;
        invocation.note("Written. Look at it:  git diff   then:  keel plan\n");
        Ok(Exit::Done)
    }

    fn means(&self, path: &Pointer) -> bool {
        self.field.as_ref().is_none_or(|field| {
            path.dotted() == *field
                || path.as_str() == field
                || format!("spec.{}", path.dotted()) == *field
        })
    }
}

/// The texts with all live values in them, the last place of a file first.
fn edit_all(
    texts: &Texts,
    resource: &Resource,
    fields: &[DriftedField],
) -> Result<(Texts, Vec<Edited>), CliError> {
    let refuse = |field: &DriftedField, why: String| {
        let message = format!("{} {}: {why}", field.address, field.path.dotted());
        CliError::new(Exit::Refused, message).hint(format!("write it by hand: {}", field.origin))
    };
    let mut places = Vec::new();
    for field in fields {
        let Some(origin) = resource.provenance.at(&field.path).filter(|at| at.line > 0) else {
            let why = "no manifest says it, or not as one value".to_owned();
            return Err(refuse(field, why));
        };
        places.push((origin, field));
    }
    places.sort_by_key(|(origin, _)| std::cmp::Reverse(origin.bytes));
    let mut changed = texts.clone();
    let mut edited = Vec::new();
    for (origin, field) in places {
        let file = changed
            .files
            .iter_mut()
            .find(|(name, _)| **name == *origin.file);
        let (_, text) = file.ok_or_else(|| refuse(field, EditError::Changed.to_string()))?;
        *text = edit::scalar(text, origin.bytes, &field.desired, &field.live)
            .map_err(|why| refuse(field, why.to_string()))?;
        edited.push(Edited {
            origin: origin.to_string(),
            path: field.path.clone(),
            was: field.desired.clone(),
            is: field.live.clone(),
        });
    }
    edited.reverse();
    Ok((changed, edited))
}

/// Sees that the texts mean what lives and change nothing else of the object; answers the other objects that they change.
fn reached(
    before: &DesiredSet,
    texts: &Texts,
    resource: &Resource,
    edited: &[Edited],
) -> Result<Vec<Address>, CliError> {
    let resolved = resolve(texts, before.source.revision.clone());
    let Some(mut after) = resolved.desired else {
        let page = diagnostics::page(&resolved.found, &texts.files);
        return Err(CliError::new(
            Exit::Refused,
            format!("the manifests would be wrong then:\n{page}"),
        ));
    };
    settle(&mut after);
    let address = &resource.address;
    let mut expected = resource.spec.to_value();
    for one in edited {
        let below = one.path.as_str().strip_prefix("/spec").unwrap_or_default();
        if let Some(value) = expected.pointer_mut(below) {
            *value = one.is.clone();
        }
    }
    let found = after.resources.get(address).map(|now| now.spec.to_value());
    if found.as_ref() != Some(&expected) {
        let message =
            format!("other fields of {address} would change as well: the line counts for several");
        return Err(CliError::new(Exit::Refused, message).hint("write it by hand"));
    }
    let old = before.declared().map(|one| (&one.address, one));
    let old: BTreeMap<&Address, &Resource> = old.collect();
    let differs = |now: &&Resource| {
        now.address != *address && old.get(&now.address).is_none_or(|old| old.spec != now.spec)
    };
    Ok(after
        .declared()
        .filter(differs)
        .map(|now| now.address.clone())
        .collect())
}
