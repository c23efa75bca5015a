//! A saved plan on the command line: reading it, and whether it is still true.

use std::collections::BTreeSet;
use std::path::Path;

use manifests::desired::DesiredSet;
use manifests::diagnostic::Diagnostics;
use manifests::feature::Capabilities;
use serde_json::Value;

use super::decide::Decisions;
use super::invocation::{Invocation, absolute};
use super::narrow::narrow;
use super::read::{Source, Wanted};
use crate::error::{CliError, Exit};
use crate::plan::{Plan, PlanOptions, Purpose};
use crate::view::plan_check::{Moved, check};
use crate::view::plan_document::document;
use crate::view::saved_plan::{NotAPlan, SavedPlan};
use crate::view::text::visible;

/// How many moved things are told one by one.
const TOLD: usize = 12;
/// What helps against a plan that cannot be applied.
const AGAIN: &str = "make it again: keel plan --save FILE";

/// A saved plan and what it means to this keel.
pub(super) struct Saved {
    pub(super) plan: SavedPlan,
    pub(super) decisions: Decisions,
    pub(super) desired: DesiredSet,
    pub(super) found: Diagnostics,
    /// Guards that are answered for now, and were not when it was saved.
    approved: BTreeSet<String>,
}

/// Whether a path is meant as a saved plan: a file that is none of manifests, or would be one if it were there.
pub(super) fn is_one(path: &Path) -> bool {
    let ends = |word: &str| path.extension().is_some_and(|end| end == word);
    ends("json") && !path.is_dir() || path.is_file() && !ends("yaml") && !ends("yml")
}

impl Saved {
    /// Reads a saved plan.
    ///
    /// # Errors
    /// It is none, it was edited, or it says nothing that this keel understands.
    pub(super) fn read(
        invocation: &Invocation,
        file: &Path,
        approve: &[String],
    ) -> Result<Self, CliError> {
        let global = &invocation.global;
        if !global.only.is_empty() || !global.exclude.is_empty() || global.selector.is_some() {
            return Err(CliError::usage(
                "a saved plan is taken as it is: it cannot be narrowed",
            ));
        }
        let text = manifests::path_io::read_to_string(absolute(file)?)?;
        let plan = SavedPlan::read(&text).map_err(|error| {
            let exit = match error {
                NotAPlan::Edited => Exit::Refused,
                _ => Exit::Invalid,
            };
            CliError::new(exit, format!("{}: {error}", file.display())).hint(AGAIN)
        })?;
        let from = &plan.from;
        let mut allow = Vec::new();
        for word in &from.allow {
            allow.push(word.parse().map_err(|error| {
                CliError::new(Exit::Invalid, format!("{}: {error}", file.display())).hint(AGAIN)
            })?);
        }
        let approved: BTreeSet<String> = approve
            .iter()
            .filter(|code| !from.approve.contains(code))
            .cloned()
            .collect();
        let decisions = Decisions {
            approve: from.approve.iter().chain(&approved).cloned().collect(),
            allow,
            no_trash: from.no_trash,
            no_restore: from.no_restore,
        };
        let source = Source::of(from.texts(), from.revision.clone(), from.repository.clone());
        let Wanted {
            mut desired, found, ..
        } = source.desired(invocation)?;
        let mut selection = global.clone();
        selection.only.clone_from(&from.only);
        selection.exclude.clone_from(&from.exclude);
        selection.selector.clone_from(&from.selector);
        narrow(&mut desired, &selection)?;
        Ok(Self {
            decisions,
            desired,
            found,
            approved,
            plan,
        })
    }

    /// The choices with which it is made again.
    pub(super) fn options(&self) -> PlanOptions {
        PlanOptions {
            repeats: Some(self.plan.id),
            ..self.decisions.options(Purpose::Apply)
        }
    }

    /// Refuses a plan that was made for another host or state folder.
    ///
    /// # Errors
    /// It was.
    pub(super) fn belongs_to(&self, host: &Capabilities) -> Result<(), CliError> {
        let said = |key: &str| self.plan.document[key].as_str().unwrap_or_default();
        if said("stateId") == host.state_id {
            return Ok(());
        }
        let message = format!(
            "the plan was made for host {} (state folder {}), and this is {} (state folder {})",
            visible(said("host")),
            visible(said("stateId")),
            visible(&host.host),
            host.state_id,
        );
        Err(CliError::new(Exit::Refused, message)
            .hint("make it for this host: keel plan --save FILE"))
    }

    /// Compares it with what the same manifests lead to now, and leaves in that what it was about.
    ///
    /// # Errors
    /// Something that it is bound to moved.
    pub(super) fn still_true(
        &self,
        invocation: &Invocation,
        plan: &mut Plan,
        found: &Diagnostics,
    ) -> Result<(), CliError> {
        let found = self.compared(&document(plan, found, None));
        if !found.moved.is_empty() {
            return Err(stale(&found.moved));
        }
        if !found.beyond.is_empty() {
            let names: Vec<String> = found.beyond.iter().map(ToString::to_string).collect();
            invocation.note(&format!(
                "left alone, since the plan is not about it: {}\n",
                visible(&names.join(", "))
            ));
            plan.leave_out(&found.beyond);
        }
        Ok(())
    }

    /// What became of it.
    pub(super) fn compared(&self, now: &Value) -> crate::view::plan_check::PlanCheck {
        check(&self.plan, now, &self.approved)
    }
}

/// A plan of which something moved.
pub(super) fn stale(moved: &[Moved]) -> CliError {
    let mut all = moved.iter().map(ToString::to_string);
    let first = all.next().unwrap_or_default();
    let mut error = CliError::new(Exit::Stale, format!("the plan is stale: {first}"));
    for more in all.by_ref().take(TOLD) {
        error = error.hint(format!("also: {more}"));
    }
    let rest = all.count();
    if rest > 0 {
        error = error.hint(format!("and {rest} more"));
    }
    error.hint(AGAIN)
}
