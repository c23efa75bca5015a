//! `keel plan check`.

use std::path::PathBuf;

use serde_json::json;

use super::HumanOrJson;
use super::decide::{on_this_host, right_host, session, wanted};
use super::engine;
use super::invocation::Invocation;
use super::observe;
use super::saved::{Saved, stale};
use crate::error::{CliError, Exit};
use crate::policy::Policies;
use crate::secrets::{masks, seen};
use crate::view::plan_check::{Moved, edited};
use crate::view::plan_document::{FORMAT, document};
use crate::view::text;

/// Is a saved plan still true? Says what moved since, of the host and of the manifests.
#[derive(Debug, clap::Args)]
pub(super) struct Check {
    /// The plan, saved by `keel plan --save plan.json`.
    file: PathBuf,
    /// Manifests that it must still be the plan of; absent: only the host is looked at.
    path: Option<PathBuf>,
    /// Look at this live state, saved by `keel observe --save live.json`, and not at the host.
    #[arg(long, value_name = "FILE")]
    against: Option<PathBuf>,
    /// How it is written.
    #[arg(short, long, value_name = "FORMAT", default_value = "human")]
    output: HumanOrJson,
}

impl Check {
    pub(super) fn run(&self, invocation: &Invocation) -> Result<Exit, CliError> {
        let mut saved = Saved::read(invocation, &self.file, &[])?;
        let mut moved: Vec<Moved> = Vec::new();
        if self.path.is_some() {
            let wanted = wanted(invocation, self.path.as_deref())?;
            moved.extend(edited(&saved.desired, &wanted.desired));
        }
        let texts = saved.plan.from.texts();
        let world = match &self.against {
            Some(file) => {
                let world = observe::read(file)?;
                seen(&mut saved.desired, &world.observed);
                world
            }
            None => {
                let opened = engine::open(invocation)?;
                on_this_host(&mut saved.desired, &texts, &opened)?;
                session(invocation, &opened).world()?
            }
        };
        saved.belongs_to(&world.host)?;
        right_host(&saved.desired, &texts, &world.host)?;
        let rules = Policies::of(&saved.desired.policies);
        let mut now = world.plan(
            saved.plan.id,
            &saved.desired,
            &saved.options(),
            &rules,
            invocation.now(),
        );
        masks::plan(&mut now);
        let found = saved.compared(&document(&now, &saved.found, None));
        moved.extend(found.moved);
        let json = || {
            let answer = json!({
                "formatVersion": FORMAT,
                "plan": saved.plan.id,
                "holds": moved.is_empty(),
                "moved": moved,
                "beyond": found.beyond,
                "guards": now.stopping,
            });
            format!("{answer:#}\n")
        };
        invocation.json_into(json)?;
        match self.output {
            HumanOrJson::Json => invocation.print_plain(&json())?,
            HumanOrJson::Human if moved.is_empty() => {
                invocation.print(&format!(
                    "The plan is still true: {} as it was seen at {}\n",
                    text::counted(now.steps.len() + now.held.len(), "step"),
                    crate::view::history::when(now.made_at),
                ))?;
                for because in &now.stopping {
                    invocation.print(&format!(
                        "! {} stops it: {}\n",
                        because.code,
                        text::visible(&because.message)
                    ))?;
                }
            }
            HumanOrJson::Human => return Err(stale(&moved)),
        }
        Ok(match (moved.is_empty(), now.stopping.is_empty()) {
            (false, _) => Exit::Stale,
            (true, false) => Exit::Refused,
            (true, true) => Exit::Done,
        })
    }
}
