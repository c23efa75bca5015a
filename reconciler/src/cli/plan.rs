//! `keel plan`.

use std::path::PathBuf;

use super::HumanOrJson;
use super::decide::{Decisions, apply_command, on_this_host, session, wanted};
use super::engine;
use super::invocation::{Invocation, absolute};
use super::read::Wanted;
use crate::error::{CliError, Exit};
use crate::plan::{Plan as Planned, Purpose};
use crate::view::plan::{Around, page};
use crate::view::plan_document::{MadeFrom, document};
use crate::view::text::shell_word;

/// Show what apply would do, in order, with reason, effect and source line of each step.
#[derive(Debug, clap::Args)]
pub(super) struct Plan {
    /// The source; absent: this folder.
    path: Option<PathBuf>,
    /// Save the plan, so that apply does exactly this.
    #[arg(long, value_name = "FILE")]
    save: Option<PathBuf>,
    /// End with the exit code 2 where there are differences.
    #[arg(long)]
    detailed_exitcode: bool,
    /// Show the fields of new objects too.
    #[arg(long)]
    all_fields: bool,
    /// How it is written.
    #[arg(short, long, value_name = "FORMAT", default_value = "human")]
    output: HumanOrJson,
    #[command(flatten)]
    decisions: Decisions,
}

impl Plan {
    pub(super) fn run(&self, invocation: &Invocation) -> Result<Exit, CliError> {
        let began = invocation.now();
        let mut wanted = wanted(invocation, self.path.as_deref())?;
        let opened = engine::open(invocation)?;
        on_this_host(&mut wanted.desired, &wanted.texts, &opened)?;
        let options = self.decisions.options(Purpose::Apply);
        let plan = session(invocation, &opened).plan(&wanted.desired, &options)?;
        let from = made_from(invocation, &wanted, &self.decisions);
        let json = || format!("{:#}\n", document(&plan, &wanted.found, Some(&from)));
        if let Some(file) = &self.save {
            manifests::path_io::write_durably(absolute(file)?, json())?;
        }
        invocation.json_into(json)?;
        match self.output {
            HumanOrJson::Json => invocation.print(&json())?,
            HumanOrJson::Human => {
                let next = match &self.save {
                    Some(file) if plan.stopping.is_empty() => {
                        Some(format!("keel apply {}", shell_word(file)))
                    }
                    _ => apply_command(&plan, self.path.as_deref(), &self.decisions),
                };
                invocation.print(&page(
                    &plan,
                    &Around {
                        milliseconds: invocation.milliseconds_since(began),
                        columns: invocation.columns(),
                        next: next.as_deref(),
                        all_fields: self.all_fields,
                    },
                ))?;
            }
        }
        Ok(exit(&plan, self.detailed_exitcode))
    }
}

/// 4 where a guard stops it or a policy denies something, 2 where somebody wants to know of differences and there are some.
fn exit(plan: &Planned, detailed: bool) -> Exit {
    if !plan.stopping.is_empty() || plan.is_denied() {
        Exit::Refused
    } else if detailed && !plan.is_empty() {
        Exit::Differences
    } else {
        Exit::Done
    }
}

/// What is saved with a plan so that it can be made again.
pub(super) fn made_from(
    invocation: &Invocation,
    wanted: &Wanted,
    decisions: &Decisions,
) -> MadeFrom {
    MadeFrom {
        root: wanted.texts.root.clone(),
        revision: wanted.desired.source.revision.clone(),
        partial: wanted.texts.partial.clone(),
        part: wanted.texts.only.clone(),
        files: wanted.texts.files.clone(),
        attached: wanted.texts.attached.clone(),
        only: invocation.global.only.clone(),
        exclude: invocation.global.exclude.clone(),
        selector: invocation.global.selector.clone(),
        approve: decisions.approve.clone(),
        allow: decisions
            .allow
            .iter()
            .map(|class| class.word().to_owned())
            .collect(),
        no_trash: decisions.no_trash,
    }
}
