//! `keel drift`.

use std::collections::BTreeMap;
use std::path::PathBuf;

use manifests::action::Verb;
use manifests::change::{Cause, FieldChange};
use manifests::desired::DesiredSet;
use manifests::id::{Address, Uid};
use manifests::lifecycle::DriftMode;
use manifests::pointer::Pointer;
use serde_json::{Value, json};

use super::HumanOrJson;
use super::decide::{Decisions, apply_command, right_host, session, wanted};
use super::engine;
use super::invocation::Invocation;
use crate::diff::known::DriftSeen;
use crate::error::{CliError, Exit};
use crate::plan::{Expectation, Plan, Purpose, Step};
use crate::view::drift::{DriftReport, DriftedField};

/// Tell what the world changed behind git's back, field by field, with the line that declares it.
#[derive(Debug, clap::Args)]
pub(super) struct Drift {
    /// The source; absent: this folder.
    path: Option<PathBuf>,
    /// End with the exit code 2 where something drifted.
    #[arg(long)]
    detailed_exitcode: bool,
    /// How it is written.
    #[arg(short, long, value_name = "FORMAT", default_value = "human")]
    output: HumanOrJson,
}

impl Drift {
    pub(super) fn run(&self, invocation: &Invocation) -> Result<Exit, CliError> {
        let began = invocation.now();
        let wanted = wanted(invocation, self.path.as_deref())?;
        let opened = engine::open(invocation)?;
        right_host(&wanted.desired, &opened)?;
        let session = session(invocation, &opened);
        let decisions = Decisions::default();
        let plan = session.plan(&wanted.desired, &decisions.options(Purpose::Apply))?;
        let report = report(&plan, &wanted.desired, &session.drift_seen()?);
        invocation.json_into(|| report.json())?;
        match self.output {
            HumanOrJson::Json => invocation.print(&report.json())?,
            HumanOrJson::Human => {
                let again = apply_command(&plan, self.path.as_deref(), &decisions);
                let took = invocation.milliseconds_since(began);
                invocation.print(&report.page(took, invocation.columns(), &again))?;
            }
        }
        Ok(if self.detailed_exitcode && !report.drift.is_empty() {
            Exit::Differences
        } else {
            Exit::Done
        })
    }
}

/// What of a plan is the world's doing.
fn report(plan: &Plan, desired: &DesiredSet, seen: &BTreeMap<Uid, Vec<DriftSeen>>) -> DriftReport {
    let mut drift = Vec::new();
    let row = |address: &Address, uid: Option<&Uid>, change: &FieldChange, mode, cause| {
        let resource = desired.resources.get(address);
        let before = uid
            .and_then(|uid| seen.get(uid))
            .and_then(|all| all.iter().find(|one| one.path == change.path));
        DriftedField {
            id: address.clone(),
            path: change.path.clone(),
            desired: change.after.clone(),
            live: change.before.clone(),
            mode,
            first_seen: before.map(|one| one.first),
            times: before.map_or(1, |one| one.times.saturating_add(1)),
            cause,
            source: resource.map(|resource| resource.origin_of(&change.path)),
        }
    };
    let steps = plan
        .steps
        .iter()
        .chain(plan.held.iter().map(|held| &held.step));
    for step in steps {
        let uid = Some(&step.action.uid);
        if is_gone(step) {
            let change = FieldChange {
                path: Pointer::root(),
                before: Value::Null,
                after: json!("declared"),
                cause: Cause::Drifted,
            };
            drift.push(row(
                step.address(),
                uid,
                &change,
                DriftMode::Correct,
                "gone",
            ));
            continue;
        }
        let before = drift.len();
        for planned in &step.changes {
            if planned.change.cause == Cause::Drifted {
                let cause = if planned.change.before.is_null() {
                    "taken away outside git"
                } else {
                    "changed outside git"
                };
                drift.push(row(
                    step.address(),
                    uid,
                    &planned.change,
                    DriftMode::Correct,
                    cause,
                ));
            }
        }
        if drift.len() == before && step.cause == Cause::Drifted {
            // No field tells it: an object that was made only in part.
            let change = FieldChange {
                path: Pointer::root(),
                before: json!(step.reason),
                after: json!("declared"),
                cause: Cause::Drifted,
            };
            let cause = "changed outside git";
            drift.push(row(step.address(), uid, &change, DriftMode::Correct, cause));
        }
    }
    for told in &plan.told {
        for change in &told.changes {
            let cause = if change.after.is_null() {
                "added by hand"
            } else {
                "changed outside git"
            };
            drift.push(row(&told.address, None, change, DriftMode::Warn, cause));
        }
    }
    drift.sort_by(|a, b| (&a.id, &a.path).cmp(&(&b.id, &b.path)));
    DriftReport {
        format_version: "1.0",
        source: plan.source.name.to_string(),
        revision: plan.source.revision.clone(),
        host: plan.host.clone(),
        engine: plan.engine.clone(),
        at: plan.made_at,
        objects: desired.resources.len(),
        drift,
        unseen: plan.unseen.clone(),
    }
}

/// Whether a step makes again what was there.
fn is_gone(step: &Step) -> bool {
    matches!(step.action.verb, Verb::Create | Verb::Restore)
        && step.cause == Cause::Drifted
        && step.expects == Expectation::Absent
}
