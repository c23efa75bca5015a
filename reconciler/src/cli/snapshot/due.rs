//! `keel snapshot run-due` and `keel snapshot list --due`.

use serde_json::json;

use super::super::HumanOrJson;
use super::super::apply::how;
use super::super::asked::{carry_out, catch_signals};
use super::super::decide::session;
use super::super::engine::Opened;
use super::super::invocation::Invocation;
use crate::error::{CliError, Exit, chain};
use crate::snapshots::due::Turn;
use crate::snapshots::jobs::{Deed, Job};
use crate::snapshots::lull::Found;
use crate::snapshots::watch::Trouble;
use crate::view::due::{due, trouble};
use crate::view::history::when;
use crate::view::text::{table, visible};

/// Does what is due, and answers what was found.
pub(in crate::cli) fn run(
    invocation: &Invocation,
    opened: &Opened,
) -> Result<(Exit, Found), CliError> {
    catch_signals(invocation)?;
    let told = |job: &Job| {
        let object = &job.object;
        invocation.note(&match &job.deed {
            Deed::Make { by, name, .. } if by.0 == *object => {
                format!("{object} has the snapshot {name}, by its own schedule\n")
            }
            Deed::Make { by, name, .. } => {
                format!("{object} has the snapshot {name}, by {}\n", by.0)
            }
            Deed::Drop { name, .. } => format!("{object} has the snapshot {name} no more\n"),
        });
    };
    let session = session(invocation, opened);
    let report = session.run_due(opened.runtime.as_ref(), &how(invocation), &told)?;
    let expired = session.expire_trash()?;
    let (emptied, gone) = match expired.plan.plan.steps.is_empty() {
        true => (Exit::Done, Found::Nothing { next: expired.next }),
        false => {
            let exit = carry_out(invocation, opened, expired.plan, HumanOrJson::Human)?;
            (exit, Found::Something)
        }
    };
    warn(invocation, &report.troubles);
    for (job, error) in &report.failed {
        let what = match &job.deed {
            Deed::Make { name, .. } => format!("the snapshot {} was not made", visible(name)),
            Deed::Drop { name, .. } => format!("the snapshot {} was not deleted", visible(name)),
        };
        invocation.warn(&format!(
            "{}: {what}: {}",
            job.object,
            visible(&chain(error))
        ));
    }
    let well = report.failed.is_empty() && report.troubles.is_empty() && !report.cancelled;
    Ok(match well {
        true => (emptied, report.found.and(gone)),
        false => (Exit::Partly, Found::Something),
    })
}

fn warn(invocation: &Invocation, troubles: &[Trouble]) {
    for trouble in troubles {
        invocation.warn(&visible(&trouble.to_string()));
    }
}

/// Lists schedules and what they look after.
pub(super) fn list(
    invocation: &Invocation,
    opened: &Opened,
    output: HumanOrJson,
) -> Result<Exit, CliError> {
    let (mut all, troubles) = session(invocation, opened).scheduled()?;
    // `keel backup list` tells of the others.
    all.retain(|one| one.watch.rule.files.is_none());
    let json = || {
        let all = all.iter().map(|one| {
            json!({
                "object": one.watch.object.0,
                "schedule": one.watch.by.0,
                "last": one.tick.map(|tick| tick.at),
                "next": one.next(),
                "due": matches!(one.turn, Turn::Make(_)),
                "failed": one.tick.and_then(|tick| tick.failed).map(|(at, times)| json!({ "at": at, "times": times })),
            })
        });
        format!("{:#}\n", json!(all.collect::<Vec<_>>()))
    };
    invocation.json_into(json)?;
    match output {
        HumanOrJson::Json => invocation.print(&json())?,
        HumanOrJson::Human if all.is_empty() => invocation.note("nothing\n"),
        HumanOrJson::Human => {
            let rows = all.iter().map(|one| {
                let own = one.watch.by.0 == one.watch.object.0;
                vec![
                    visible(&one.watch.object.0.to_string()),
                    match own {
                        true => "its own".to_owned(),
                        false => visible(&one.watch.by.0.to_string()),
                    },
                    one.tick
                        .map_or_else(|| "never".to_owned(), |tick| when(tick.at)),
                    due(&one.turn, one.next()),
                    trouble(one.tick.as_ref()),
                ]
            });
            let rows: Vec<Vec<String>> = rows.collect();
            let heads = ["OBJECT", "SCHEDULE", "LAST", "NEXT", "TROUBLE"];
            invocation.print(&table(&heads, &rows))?;
        }
    }
    warn(invocation, &troubles);
    Ok(Exit::Done)
}
