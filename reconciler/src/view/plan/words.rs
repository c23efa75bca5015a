//! The words of a plan: marks, effects, counts.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use anstyle::Style;
use manifests::action::{Power, Verb};
use manifests::change::Cause;
use manifests::effect::Effect;
use manifests::observed::Holds;

use crate::plan::{Plan, Step};
use crate::view::style::{BAD, CALM, CAREFUL, FAINT, GOOD};
use crate::view::text;

/// What a step is on the page: how bad it is (0 is worst), its mark, its word in the summary, its colour.
pub(in crate::view) struct Kind {
    pub(in crate::view) rank: u8,
    pub(in crate::view) mark: &'static str,
    pub(in crate::view) word: &'static str,
    pub(in crate::view) style: Style,
}

const fn kind(rank: u8, mark: &'static str, word: &'static str, style: Style) -> Kind {
    Kind {
        rank,
        mark,
        word,
        style,
    }
}

/// What a step is.
pub(in crate::view) fn kind_of(step: &Step) -> Kind {
    match &step.action.verb {
        Verb::Trash { .. } | Verb::Delete => kind(0, "-", "delete", BAD),
        Verb::Replace => kind(1, "-/+", "replace", BAD),
        Verb::Rebuild => kind(1, "-/+", "rebuild", BAD),
        Verb::Update { .. } | Verb::Rename { .. }
            if step.effect.is_some_and(manifests::effect::Effect::destroys) =>
        {
            kind(1, "-/+", "data loss", BAD)
        }
        Verb::Update { .. } | Verb::Rename { .. }
            if step
                .effect
                .is_some_and(manifests::effect::Effect::interrupts) =>
        {
            kind(2, "^", "interrupting", CAREFUL)
        }
        Verb::Power {
            power: Power::Start | Power::Unfreeze,
        } => kind(3, "~", "start", CALM),
        Verb::Power { .. } => kind(2, "^", "interrupting", CAREFUL),
        Verb::Update { .. } => kind(4, "~", "live", CALM),
        Verb::Rename { .. } if step.changes_pool() => kind(5, ">", "move", CALM),
        Verb::Rename { .. } => kind(5, ">", "rename", CALM),
        Verb::Create if step.word() == "fetch" => kind(6, "+", "fetch", GOOD),
        Verb::Create => kind(7, "+", "create", GOOD),
        Verb::Restore => kind(8, "↩", "restore", GOOD),
        Verb::Adopt => kind(9, "=", "adopt", CALM),
        Verb::Forget => kind(10, ".", "forget", FAINT),
    }
}

/// The word at the end of an object's line: `DELETE`, `REPLUG eth0`, `LIVE (drift, held)`.
pub(in crate::view) fn effect_words(step: &Step, held: bool) -> String {
    let word = match (&step.action.verb, step.effect) {
        (Verb::Update { .. } | Verb::Rename { .. }, Some(effect)) if effect != Effect::Live => {
            let mut words = effect.word().to_uppercase();
            if effect == Effect::Replug {
                for device in replugged(step) {
                    let _ = write!(words, " {device}");
                }
            }
            words
        }
        (Verb::Update { .. }, _) => "LIVE".to_owned(),
        (Verb::Rename { .. }, _) if step.changes_pool() => "MOVE".to_owned(),
        _ => step.deed().to_uppercase(),
    };
    let cause = match step.cause {
        Cause::Drifted => Some("drift"),
        Cause::Image => Some("image"),
        Cause::Dependency => Some("dependency"),
        Cause::Edited | Cause::Orphaned | Cause::Asked => None,
    };
    let remarks: Vec<&str> = cause.into_iter().chain(held.then_some("held")).collect();
    if remarks.is_empty() {
        word
    } else {
        format!("{word} ({})", remarks.join(", "))
    }
}

/// The devices that blink.
fn replugged(step: &Step) -> Vec<String> {
    let mut devices: Vec<String> = step
        .changes
        .iter()
        .filter(|planned| planned.effect == Effect::Replug)
        .filter_map(|planned| {
            let mut steps = planned.change.path.steps();
            (steps.next()? == "spec" && steps.next()? == "devices").then(|| steps.next())?
        })
        .map(|device| text::visible(&device))
        .collect();
    devices.dedup();
    devices
}

/// How many objects have each word, the worst first.
pub fn summary_counts(plan: &Plan) -> Vec<(String, usize)> {
    let mut counts: BTreeMap<(u8, &str), usize> = BTreeMap::new();
    for step in &plan.steps {
        let kind = kind_of(step);
        *counts.entry((kind.rank, kind.word)).or_default() += 1;
    }
    let mut all: Vec<(String, usize)> = counts
        .into_iter()
        .map(|((_, word), count)| (word.to_owned(), count))
        .collect();
    if !plan.held.is_empty() {
        all.push(("held".to_owned(), plan.held.len()));
    }
    all.push(("unchanged".to_owned(), plan.unchanged));
    all
}

/// The counts: `1 delete, 2 live, 1 held · 118 unchanged`.
pub fn summary(plan: &Plan) -> String {
    let mut words: Vec<String> = summary_counts(plan)
        .into_iter()
        .map(|(word, count)| format!("{count} {word}"))
        .collect();
    let unchanged = words.pop().unwrap_or_default();
    if words.is_empty() {
        words.push("nothing to do".to_owned());
    }
    format!("{} · {unchanged}", words.join(", "))
}

/// Where a plan comes from: `source edge at 3f1c9ad`.
pub fn source_words(plan: &Plan) -> String {
    let mut words = format!("source {}", text::visible(plan.source.name.as_str()));
    if let Some(revision) = &plan.source.revision {
        let _ = write!(words, " at {}", text::visible(revision));
    }
    words
}

/// What an object holds. One byte stands for data of a size that nobody measured.
pub(in crate::view) fn held_words(holds: Holds) -> String {
    let mut words = Vec::new();
    match holds.bytes {
        0 => {}
        1 => words.push("data of its own".to_owned()),
        bytes => words.push(text::bytes(bytes)),
    }
    if holds.snapshots > 0 {
        words.push(text::counted(holds.snapshots as usize, "snapshot"));
    }
    words.join(", ")
}

/// Whether the reason says more than the word of the effect and the fields below it.
pub(in crate::view) fn tells_reason(step: &Step) -> bool {
    match &step.action.verb {
        Verb::Create => step.cause == Cause::Drifted,
        Verb::Restore => true,
        _ => step.changes.is_empty() && !step.reason.is_empty(),
    }
}
