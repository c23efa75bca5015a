//! `keel drift`.

use std::path::PathBuf;

use manifests::change::{Cause, FieldChange};
use manifests::diagnostic::Origin;
use manifests::id::{Address, Uid};
use manifests::lifecycle::DriftMode;
use manifests::pointer::Pointer;
use serde_json::Value;

use super::HumanOrJson;
use super::engine;
use super::invocation::Invocation;
use super::manifests::desired;
use crate::error::{CliError, Exit};
use crate::plan::{Purpose, Step};
use crate::session::{PlanOptions, Session};
use crate::view::drift::{DriftReport, DriftedField};

/// Show what the world changed behind git's back.
#[derive(Debug, clap::Args)]
pub(super) struct Drift {
    /// A folder or file; the working folder where none is given.
    #[arg(value_name = "PATH")]
    path: Option<PathBuf>,
    /// Exit with 2 where anything drifted.
    #[arg(long)]
    detailed_exitcode: bool,
    /// How it is written.
    #[arg(short, long, value_name = "FORMAT", default_value = "human")]
    output: HumanOrJson,
}

impl Drift {
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
        let options = PlanOptions {
            allow: crate::plan::Allow::ALL.into_iter().collect(),
            purpose: Purpose::Apply,
            ..PlanOptions::default()
        };
        let plan = session.plan(&desired, &options)?;
        let seen = session.drift_seen()?;
        let times = |uid: Option<Uid>, path: &Pointer| {
            uid.and_then(|uid| seen.get(&uid))
                .and_then(|fields| fields.iter().find(|field| field.path == *path))
                .map_or((None, 1), |field| (Some(field.first), field.times + 1))
        };
        let origin = |address: &Address, path: &Pointer| -> Option<Origin> {
            desired
                .resources
                .get(address)
                .map(|resource| resource.origin_of(path).clone())
        };
        let field = |address: &Address, uid, change: &FieldChange, mode| {
            let (first_seen, times) = times(uid, &change.path);
            DriftedField {
                id: address.clone(),
                path: change.path.clone(),
                desired: change.after.clone(),
                live: change.before.clone(),
                mode,
                first_seen,
                times,
                cause: "changed outside git",
                source: origin(address, &change.path),
            }
        };
        let mut drift: Vec<DriftedField> = Vec::new();
        let steps = plan
            .steps
            .iter()
            .chain(plan.held.iter().map(|held| &held.step));
        for step in steps {
            let address = &step.action.address;
            let uid = Some(step.action.uid);
            let before = drift.len();
            drift.extend(
                step.changes
                    .iter()
                    .filter(|planned| planned.change.cause == Cause::Drifted)
                    .map(|planned| field(address, uid, &planned.change, DriftMode::Correct)),
            );
            if drift.len() == before && gone(step) {
                drift.push(DriftedField {
                    id: address.clone(),
                    path: Pointer::root(),
                    desired: Value::String("there".to_owned()),
                    live: Value::Null,
                    mode: DriftMode::Correct,
                    first_seen: None,
                    times: 1,
                    cause: "gone",
                    source: step.origin.clone(),
                });
            }
        }
        for told in &plan.told {
            let changes = told
                .changes
                .iter()
                .filter(|change| change.cause == Cause::Drifted);
            drift.extend(changes.map(|change| field(&told.address, None, change, DriftMode::Warn)));
        }
        drift.dedup_by(|a, b| a.id == b.id && a.path == b.path);
        let report = DriftReport {
            format_version: "1.0",
            source: plan.source.name.to_string(),
            revision: plan.source.revision.clone(),
            host: plan.host.clone(),
            engine: plan.engine.clone(),
            at: plan.made_at,
            objects: desired.resources.len(),
            drift,
            unseen: plan.unseen.clone(),
        };
        invocation.json_into(|| report.json())?;
        let path = self
            .path
            .as_ref()
            .map(|path| format!(" {}", path.display()));
        let again = format!("keel apply{}", path.unwrap_or_default());
        match self.output {
            HumanOrJson::Json => invocation.print(&report.json())?,
            HumanOrJson::Human => {
                let took = invocation.milliseconds_since(began);
                invocation.print(&report.page(took, invocation.columns(), &again))?;
            }
        }
        let differs = self.detailed_exitcode && !report.drift.is_empty();
        Ok(if differs {
            Exit::Differences
        } else {
            Exit::Done
        })
    }
}

/// Whether an object that was there is made again.
fn gone(step: &Step) -> bool {
    step.cause == Cause::Drifted
}
