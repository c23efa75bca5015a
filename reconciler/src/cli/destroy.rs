//! `keel destroy`.

use std::path::{Path, PathBuf};

use manifests::desired::SourceInfo;
use manifests::diagnostic::Diagnostics;
use manifests::id::SourceName;
use manifests::read::{self, SOURCE_FILE};
use manifests::resolve::source_of;

use super::HumanOrJson;
use super::apply::Run;
use super::decide::{Decisions, session};
use super::engine::{self, Opened};
use super::invocation::{Invocation, environment};
use crate::error::{CliError, Exit};
use crate::plan::Purpose;
use crate::session::Session;
use crate::source::git;

/// Take down everything that a source owns, in reverse order: by its marks, not by its files.
#[derive(Debug, clap::Args)]
pub(super) struct Destroy {
    /// The source; absent: this folder.
    path: Option<PathBuf>,
    /// The source by its name.
    #[arg(long, value_name = "NAME", conflicts_with = "path")]
    source: Option<String>,
    /// Do not ask.
    #[arg(short, long)]
    yes: bool,
    /// How it is written.
    #[arg(short, long, value_name = "FORMAT", default_value = "human")]
    output: HumanOrJson,
    #[command(flatten)]
    decisions: Decisions,
}

impl Destroy {
    pub(super) fn run(&self, invocation: &Invocation) -> Result<Exit, CliError> {
        let global = &invocation.global;
        if !global.only.is_empty() || !global.exclude.is_empty() || global.selector.is_some() {
            return Err(CliError::usage("destroy takes down all of a source")
                .hint("for a part: take it out of the manifests, then keel apply"));
        }
        let from_path = match &self.source {
            Some(_) => None,
            None => Some(source_of_path(self.path.as_deref())?),
        };
        let opened = engine::open(invocation)?;
        let source = match from_path {
            Some(source) => source,
            None => self.source_by_name(invocation, &opened)?,
        };
        let desired = Session::nothing_of(source);
        let run = Run {
            path: self.path.as_deref(),
            yes: self.yes,
            output: self.output,
            decisions: &self.decisions,
            desired: &desired,
            found: &Diagnostics::default(),
            files: &[],
            options: self.decisions.options(Purpose::Destroy),
            saved: None,
        };
        run.carry_out(invocation, &opened)
    }

    fn source_by_name(
        &self,
        invocation: &Invocation,
        opened: &Opened,
    ) -> Result<SourceInfo, CliError> {
        let name = SourceName::new(self.source.clone().unwrap_or_default());
        session(invocation, opened)
            .source_named(&name)?
            .ok_or_else(|| {
                let message = format!("nothing of a source {name} lives here");
                CliError::new(Exit::Unexpected, message).hint("what does: keel status")
            })
    }
}

/// The source of a path: only its `keel.yaml` is read, so that broken manifests are in nobody's way.
pub(super) fn source_of_path(path: Option<&Path>) -> Result<SourceInfo, CliError> {
    let path = path.map_or_else(|| PathBuf::from("."), Path::to_path_buf);
    let texts = read::read_source(&path)?;
    if let Some(partial) = &texts.partial {
        return Err(CliError::usage(format!(
            "{partial} is named: destroy takes down all of a source"
        ))
        .hint(format!(
            "name its folder: {}",
            crate::view::text::shell_word(&texts.root)
        )));
    }
    let sudo = environment("SUDO_UID");
    let source = source_of(&texts).map(|source| SourceInfo {
        repository: git::repository(&source.root, sudo.as_deref()),
        ..source
    });
    source.ok_or_else(|| {
        CliError::new(
            Exit::Invalid,
            format!("something is wrong with {SOURCE_FILE}"),
        )
        .hint("keel validate says what; or name the source: keel destroy --source NAME")
    })
}
