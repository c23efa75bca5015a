//! `keel diff`.

use std::path::{Path, PathBuf};

use manifests::feature::Capabilities;
use manifests::support::settle;

use super::format::Format;
use super::invocation::{Invocation, environment, say};
use super::narrow::narrow;
use super::plan::{Make, Shown};
use super::read::{Source, Wanted};
use crate::error::{CliError, Exit};
use crate::plan::{PlanId, PlanOptions, Purpose, World};
use crate::policy::Policies;
use crate::source::revision::{self, RevisionError};
use crate::view::plan::Detail;
use crate::view::plan_document::document;
use crate::view::text;

/// Show what a commit means: what changes from one revision to another, with no host at all.
///
/// With one revision: from that to the files as they are. With none: the plan of this host, with all fields.
#[derive(Debug, clap::Args)]
pub(super) struct Diff {
    /// The older revision: `main`, `v1.2`, `3f1c9ad`, `HEAD~1`.
    from: Option<String>,
    /// The newer revision; absent: the files as they are.
    to: Option<String>,
    /// The source; absent: this folder.
    #[arg(long, value_name = "PATH")]
    path: Option<PathBuf>,
    /// Without revisions: plan for this live state, saved by `keel observe --save live.json`.
    #[arg(long, value_name = "FILE", conflicts_with = "from")]
    against: Option<PathBuf>,
    /// End with the exit code 2 where there are differences.
    #[arg(long)]
    detailed_exitcode: bool,
    /// How it is written.
    #[arg(short, long, value_name = "FORMAT", default_value = "human", value_parser = Format::parser(Format::ALL))]
    output: Format,
}

impl Diff {
    pub(super) fn run(&self, invocation: &Invocation) -> Result<Exit, CliError> {
        let Some(from) = &self.from else {
            let make = Make::with_all_fields(
                self.path.clone(),
                self.against.clone(),
                self.detailed_exitcode,
                self.output,
            );
            return make.run(invocation);
        };
        let began = invocation.now();
        let path = self.path.clone().unwrap_or_else(|| PathBuf::from("."));
        let mut older = at(invocation, &path, from)?;
        let mut newer = match &self.to {
            Some(to) => at(invocation, &path, to)?,
            None => Source::read(Some(&path))?.meaning(invocation)?,
        };
        for set in [&mut older.desired, &mut newer.desired] {
            settle(set);
            narrow(set, &invocation.global)?;
        }
        // Another name is another source, and all of it would be new: what is asked for is the difference.
        older.desired.source.name = newer.desired.source.name.clone();
        let revision = |of: &Wanted| of.desired.source.revision.clone();
        let both = format!(
            "{}..{}",
            revision(&older).unwrap_or_else(|| from.clone()),
            revision(&newer).unwrap_or_else(|| "the files as they are".to_owned()),
        );
        let world = World::just_applied(&older.desired, any_host(), began);
        let options = PlanOptions {
            purpose: Purpose::Compare,
            // When it is done is not what is asked for.
            approve: ["G105".to_owned()].into(),
            ..PlanOptions::default()
        };
        let id = PlanId(uuid::Uuid::now_v7());
        let rules = Policies::of(&newer.desired.policies);
        let mut plan = world.plan(id, &newer.desired, &options, &rules, began);
        plan.source.revision = Some(both);
        let json = || format!("{:#}\n", document(&plan, &newer.found, None));
        invocation.json_into(json)?;
        let shown = Shown {
            plan: &plan,
            wanted: &newer,
            json: &json,
            next: None,
            detail: Detail::Full,
            began,
        };
        shown.print(invocation, self.output)?;
        Ok(if self.detailed_exitcode && !plan.is_empty() {
            Exit::Differences
        } else {
            Exit::Done
        })
    }
}

/// What a source wants at a revision.
fn at(invocation: &Invocation, path: &Path, revision: &str) -> Result<Wanted, CliError> {
    if revision.is_empty() || revision.starts_with('-') {
        return Err(CliError::usage(format!("`{revision}` is no revision")));
    }
    let sudo = environment("SUDO_UID");
    let read = revision::read(path, revision, sudo.as_deref()).map_err(|error| match error {
        RevisionError::NoRevision { .. } => {
            CliError::new(Exit::Invalid, error).hint("what there is: git log --oneline")
        }
        other => CliError::new(Exit::Invalid, other),
    })?;
    for what in &read.passed_over {
        invocation.note(&format!(
            "warning: {} at {}\n",
            text::visible(what),
            read.revision
        ));
    }
    let short = read.revision.clone();
    let source = Source::of(read.texts, Some(read.revision), read.repository);
    source.meaning(invocation).inspect_err(|_| {
        say(&format!("this is how it is at {short}\n"));
    })
}

/// The host of which nothing is known: it can do all that its engine can.
fn any_host() -> Capabilities {
    Capabilities {
        engine: "native".to_owned(),
        host: String::new(),
        machine_id: None,
        state_id: String::new(),
        architecture: String::new(),
        memory: 0,
        processors: 0,
        ceilings: std::collections::BTreeMap::new(),
        missing: Vec::new(),
        machines: None,
        config_keys: std::collections::BTreeMap::new(),
    }
}
