//! Findings about a plan: what stops it, what is held, and warnings about the manifests.

use std::collections::BTreeMap;

use manifests::diagnostic::{Diagnostics, Origin};

use super::{Finding, Findings, Level, Looked, Verdict, diagnostics};
use crate::plan::{Because, Plan};
use crate::view::history::when;
use crate::view::places::Places;
use crate::view::plan::{source_words, summary};

/// What `keel plan` found.
pub fn of_plan(
    plan: &Plan,
    warnings: &Diagnostics,
    places: &Places,
    anchor: Option<Origin>,
) -> Findings {
    let mut found = Vec::new();
    for because in &plan.stopping {
        found.push(guard(because, Level::Error, Verdict::Fails, None));
    }
    for held in &plan.held {
        let object = held.step.address().to_string();
        for because in &held.because {
            let words = format!("{} {object} is held: {}", held.step.deed(), because.message);
            let mut one = guard(because, Level::Warning, Verdict::Skips, Some(&words));
            one.origin.clone_from(&held.step.origin);
            one.object = Some(object.clone());
            held.step.word().clone_into(&mut one.key);
            found.push(one);
        }
    }
    found.extend(warnings.sorted().into_iter().map(diagnostics::finding));
    let steps = plan.steps.iter();
    let held = plan.held.iter().map(|held| &held.step);
    let changed = steps
        .chain(held)
        .map(|step| (step.address().to_string(), step.origin.clone()));
    let settled = plan
        .settled
        .iter()
        .map(|unchanged| (unchanged.address.to_string(), None));
    let objects: BTreeMap<String, Option<Origin>> = settled.chain(changed).collect();
    Findings {
        command: "plan",
        sources: vec![plan.source.name.as_str().to_owned()],
        about: format!("{}: {}", source_words(plan), summary(plan)),
        places: places.clone(),
        found,
        objects: objects
            .into_iter()
            .map(|(name, origin)| Looked {
                name,
                source: None,
                origin,
                left_alone: None,
            })
            .collect(),
        anchor,
    }
}

fn guard(because: &Because, level: Level, verdict: Verdict, words: Option<&str>) -> Finding {
    let message = words.unwrap_or(&because.message);
    let mut finding = Finding::new(because.code.0, level, verdict, message);
    if let Some(until) = because.until {
        finding.more.push(format!("until {}", when(until)));
    }
    finding
}
