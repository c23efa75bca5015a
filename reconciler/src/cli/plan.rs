//! `keel plan`.

use std::collections::BTreeSet;
use std::path::PathBuf;

use super::engine;
use super::invocation::Invocation;
use super::manifests::desired;
use crate::error::{CliError, Exit};
use crate::plan::{Allow, Plan as Decided, Purpose};
use crate::session::{PlanOptions, Session};
use crate::view::plan::{Around, page};

/// What a person says about guards and classes of changes; the same for plan, apply and destroy.
#[derive(Debug, Clone, clap::Args)]
pub(super) struct Answers {
    /// Answer for a guard, for this plan only: `G102`.
    #[arg(long, value_name = "CODE", value_delimiter = ',')]
    approve: Vec<String>,
    /// Only changes of these classes: create, live, interrupting, destructive.
    #[arg(long, value_name = "CLASSES", value_delimiter = ',')]
    allow: Vec<Allow>,
    /// Delete for good instead of keeping for some days.
    #[arg(long)]
    no_trash: bool,
}

impl Answers {
    pub(super) fn options(&self, purpose: Purpose) -> PlanOptions {
        let allow: BTreeSet<Allow> = if self.allow.is_empty() {
            Allow::ALL.into_iter().collect()
        } else {
            self.allow.iter().copied().collect()
        };
        PlanOptions {
            approve: self
                .approve
                .iter()
                .map(|code| code.to_uppercase())
                .collect(),
            allow,
            no_trash: self.no_trash,
            purpose,
        }
    }
}

/// Show what apply would do, in order, with reason, effect and source line of each step.
#[derive(Debug, clap::Args)]
pub(super) struct Plan {
    /// A folder or file; the working folder where none is given.
    #[arg(value_name = "PATH")]
    path: Option<PathBuf>,
    /// Exit with 2 where anything differs.
    #[arg(long)]
    detailed_exitcode: bool,
    /// All fields, also of what is new.
    #[arg(long)]
    detail: bool,
    #[command(flatten)]
    answers: Answers,
}

/// The page of a plan.
pub(super) fn show(
    invocation: &Invocation,
    plan: &Decided,
    next: Option<&str>,
    all_fields: bool,
    milliseconds: u64,
) -> String {
    page(
        plan,
        &Around {
            milliseconds,
            columns: invocation.columns(),
            next,
            all_fields,
        },
    )
}

impl Plan {
    pub(super) fn run(&self, invocation: &Invocation) -> Result<Exit, CliError> {
        let began = invocation.now();
        let desired = desired(invocation, self.path.as_ref())?;
        let opened = engine::open(invocation)?;
        let session = Session {
            folder: &opened.folder,
            runtime: &opened.runtime,
            clock: invocation.clock(),
            cancel: invocation.cancel,
        };
        let plan = session.plan(&desired, &self.answers.options(Purpose::Apply))?;
        let path = self
            .path
            .as_ref()
            .map(|path| format!(" {}", path.display()));
        let next = format!("keel apply{}", path.unwrap_or_default());
        let next = (!plan.is_empty()).then_some(next.as_str());
        let took = invocation.milliseconds_since(began);
        invocation.print(&show(invocation, &plan, next, self.detail, took))?;
        if !plan.stopping.is_empty() {
            return Ok(Exit::Refused);
        }
        Ok(if self.detailed_exitcode && !plan.is_empty() {
            Exit::Differences
        } else {
            Exit::Done
        })
    }
}
