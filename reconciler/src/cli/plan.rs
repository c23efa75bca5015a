//! `keel plan`.

use std::path::PathBuf;

use super::decide::{Decisions, apply_command, on_this_host, right_host, session};
use super::elsewhere::{self, only_here};
use super::engine;
use super::format::{Format, print_github, print_junit, print_sarif, wanted_in};
use super::invocation::{Invocation, absolute};
use super::observe;
use super::plan_check::Check;
use super::progress::patiently;
use super::read::Wanted;
use crate::api::client::Controller;
use crate::api::documents::PlanDocument;
use crate::error::{CliError, Exit};
use crate::plan::{Plan as Planned, PlanId, Purpose};
use crate::policy::Policies;
use crate::secrets::{masks, seen};
use crate::view::findings::{anchor, of_plan};
use crate::view::plan::{Around, Detail, Documents, page};
use crate::view::plan_document::document;
use crate::view::saved_plan::MadeFrom;
use crate::view::text::shell_word;
use crate::view::{self, gitlab, html, markdown};

/// Show what apply would do, in order, with reason, effect and source line of each step.
#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub(super) struct Plan {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    make: Make,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    Check(Check),
}

impl Plan {
    pub(super) fn run(&self, invocation: &Invocation) -> Result<Exit, CliError> {
        match &self.command {
            Some(Command::Check(check)) => check.run(invocation),
            None => self.make.run(invocation),
        }
    }
}

/// How a plan is made.
#[derive(Debug, clap::Args)]
pub(super) struct Make {
    /// The source; absent: this folder.
    path: Option<PathBuf>,
    /// Plan for this live state, saved by `keel observe --save live.json`: needs no root and no host.
    #[arg(long, value_name = "FILE")]
    against: Option<PathBuf>,
    /// Save the plan, so that apply does exactly this.
    #[arg(long, value_name = "FILE")]
    save: Option<PathBuf>,
    /// End with the exit code 2 where there are differences.
    #[arg(long)]
    detailed_exitcode: bool,
    /// How much is told.
    #[arg(long, value_name = "LEVEL", default_value = "changes")]
    detail: Level,
    /// How it is written.
    #[arg(short, long, value_name = "FORMAT", default_value = "human", value_parser = Format::parser(Format::ALL))]
    output: Format,
    #[command(flatten)]
    decisions: Decisions,
}

impl Make {
    /// A plan of which all fields are shown.
    pub(super) fn with_all_fields(
        path: Option<PathBuf>,
        against: Option<PathBuf>,
        detailed_exitcode: bool,
        output: Format,
    ) -> Self {
        Self {
            path,
            against,
            save: None,
            detailed_exitcode,
            detail: Level::Full,
            output,
            decisions: Decisions::default(),
        }
    }
    /// What is wanted, and the plan for it.
    fn made(&self, invocation: &Invocation) -> Result<(Wanted, Planned), CliError> {
        let mut wanted = wanted_in(invocation, self.path.as_deref(), self.output)?;
        let options = self.decisions.options(Purpose::Apply);
        let plan = match &self.against {
            Some(file) => {
                let world = observe::read(file)?;
                right_host(&wanted.desired, &wanted.texts, &world.host)?;
                // Who has no secrets takes those of the host for right.
                seen(&mut wanted.desired, &world.observed);
                let id = PlanId(uuid::Uuid::now_v7());
                let rules = Policies::of(&wanted.desired.policies);
                let mut plan = world.plan(id, &wanted.desired, &options, &rules, invocation.now());
                masks::plan(&mut plan);
                plan
            }
            None => {
                let opened = engine::open(invocation)?;
                on_this_host(&mut wanted.desired, &wanted.texts, &opened)?;
                session(invocation, &opened).plan(&wanted.desired, &options)?
            }
        };
        Ok((wanted, plan))
    }

    pub(super) fn run(&self, invocation: &Invocation) -> Result<Exit, CliError> {
        if let Some(controller) = elsewhere::controller(invocation)? {
            return self.elsewhere(invocation, &controller);
        }
        let began = invocation.now();
        let (wanted, plan) = patiently(invocation, "planning", || self.made(invocation))?;
        let from = made_from(invocation, &wanted, &self.decisions);
        let json = || format!("{:#}\n", document(&plan, &wanted.found, Some(&from)));
        if let Some(file) = &self.save {
            manifests::path_io::write_durably(absolute(file)?, json())?;
        }
        invocation.json_into(json)?;
        let next = match &self.save {
            Some(file) if plan.stopping.is_empty() => Some(format!(
                "{} apply {}",
                invocation.global.keel(),
                shell_word(file)
            )),
            _ => apply_command(
                &invocation.global,
                &plan,
                self.path.as_deref(),
                &self.decisions,
            ),
        };
        let shown = Shown {
            plan: &plan,
            wanted: &wanted,
            json: &json,
            next: next.as_deref(),
            detail: self.detail.into(),
            began,
        };
        shown.print(invocation, self.output)?;
        Ok(exit(&plan, self.detailed_exitcode))
    }
}

impl Make {
    /// The plans that wait at a controller elsewhere.
    fn elsewhere(
        &self,
        invocation: &Invocation,
        controller: &Controller,
    ) -> Result<Exit, CliError> {
        let decisions = &self.decisions;
        let decides = decisions.no_trash || decisions.no_restore;
        only_here("PATH", self.path.is_some())?;
        only_here("--against", self.against.is_some())?;
        only_here("--save", self.save.is_some())?;
        only_here("--approve", !decisions.approve.is_empty())?;
        only_here("--allow", !decisions.allow.is_empty())?;
        only_here("--no-trash and --no-restore", decides)?;
        let is_text = matches!(self.output, Format::Human | Format::Json);
        only_here("that format", !is_text)?;
        let waiting: Vec<PlanDocument> = controller.get("/v1/plan")?;
        let json = || {
            let text = serde_json::to_string_pretty(&waiting).unwrap_or_default();
            format!("{text}\n")
        };
        invocation.json_into(json)?;
        match self.output {
            Format::Json => invocation.print_plain(&json())?,
            _ if waiting.is_empty() => invocation.print("nothing to do\n")?,
            _ => invocation.print(&view::elsewhere::plans(&waiting))?,
        }
        Ok(
            match (waiting.iter().any(|plan| plan.stopped), waiting.is_empty()) {
                (true, _) => Exit::Refused,
                (false, false) if self.detailed_exitcode => Exit::Differences,
                (false, _) => Exit::Done,
            },
        )
    }
}

/// A plan that is printed.
pub(super) struct Shown<'a> {
    pub(super) plan: &'a Planned,
    /// The manifests that it is about.
    pub(super) wanted: &'a Wanted,
    /// The plan as JSON.
    pub(super) json: &'a dyn Fn() -> String,
    /// The command that goes on.
    pub(super) next: Option<&'a str>,
    pub(super) detail: Detail,
    pub(super) began: jiff::Timestamp,
}

impl Shown<'_> {
    /// Prints it in a format.
    pub(super) fn print(&self, invocation: &Invocation, format: Format) -> Result<(), CliError> {
        let Self { plan, wanted, .. } = self;
        let files = &wanted.texts.files;
        let documents = Documents::of(files);
        let findings = || of_plan(plan, &wanted.found, &wanted.places, anchor(files));
        let comment = |limit| markdown::of_plan(plan, &wanted.places, &documents, limit);
        match format {
            Format::Json => invocation.print_plain(&(self.json)()),
            Format::Markdown => invocation.print_plain(&comment(markdown::COMMENT)),
            Format::Sarif => print_sarif(invocation, &findings()),
            Format::Junit => print_junit(invocation, &findings()),
            Format::Github => print_github(invocation, &findings(), comment),
            Format::GitlabPlan => invocation.print_plain(&format!("{:#}\n", gitlab::of_plan(plan))),
            Format::Html => {
                let page = html::of_plan(plan, &wanted.places, &documents, self.next);
                invocation.print_plain(&page)
            }
            Format::Human => invocation.print(&page(
                plan,
                &Around {
                    milliseconds: invocation.milliseconds_since(self.began),
                    columns: invocation.columns(),
                    next: self.next,
                    detail: self.detail,
                    documents: &documents,
                    desired: Some(&wanted.desired),
                },
            )),
        }
    }
}

/// How much of a plan is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Level {
    /// One line an object.
    Summary,
    /// The fields that change.
    Changes,
    /// Also the fields of what is new, each object that one edit reaches, and the line of every field.
    Full,
}

impl From<Level> for Detail {
    fn from(level: Level) -> Self {
        match level {
            Level::Summary => Self::Summary,
            Level::Changes => Self::Changes,
            Level::Full => Self::Full,
        }
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
        repository: wanted.desired.source.repository.clone(),
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
        no_restore: decisions.no_restore,
    }
}
