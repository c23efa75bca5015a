//! A plan as people read it: the summary first and last, the worst first, one line an object and below it only what
//! changes.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use anstyle::Style;
use jiff::Timestamp;
use manifests::action::{Power, Verb};
use manifests::change::{Cause, FieldChange};
use manifests::effect::Effect;
use manifests::observed::Holds;

use super::history::when;
use super::style::{BAD, CALM, CAREFUL, FAINT, GOOD, STRONG, paint};
use super::text;
use crate::plan::{Because, Held, Plan, PlannedChange, Purpose, Step, Waiting};
use crate::secrets::masks;

/// The column in which an object's source begins.
const SOURCE_AT: usize = 30;
/// The columns that are left for its effect.
const EFFECT: usize = 30;

/// What belongs to the page besides the plan.
#[derive(Debug, Clone, Copy)]
pub struct Around<'a> {
    /// How long planning took.
    pub milliseconds: u64,
    /// The columns of the terminal.
    pub columns: usize,
    /// The command that goes on; none where there is nothing to go on with.
    pub next: Option<&'a str>,
    /// All fields, also of what is new.
    pub all_fields: bool,
}

/// What a step is on the page: how bad it is (0 is worst), its mark, its word in the summary, its colour.
struct Kind {
    rank: u8,
    mark: &'static str,
    word: &'static str,
    style: Style,
}

const fn kind(rank: u8, mark: &'static str, word: &'static str, style: Style) -> Kind {
    Kind {
        rank,
        mark,
        word,
        style,
    }
}

fn kind_of(step: &Step) -> Kind {
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
        Verb::Rename { .. } => kind(5, ">", "rename", CALM),
        Verb::Create if step.word() == "fetch" => kind(6, "+", "fetch", GOOD),
        Verb::Create => kind(7, "+", "create", GOOD),
        Verb::Restore => kind(8, "↩", "restore", GOOD),
        Verb::Adopt => kind(9, "=", "adopt", CALM),
        Verb::Forget => kind(10, ".", "forget", FAINT),
    }
}

/// The word at the end of an object's line: `DELETE`, `REPLUG eth0`, `LIVE (drift, held)`.
fn effect_words(step: &Step, held: bool) -> String {
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
fn source_words(plan: &Plan) -> String {
    let mut words = format!("source {}", text::visible(plan.source.name.as_str()));
    if let Some(revision) = &plan.source.revision {
        let _ = write!(words, " at {}", text::visible(revision));
    }
    words
}

/// The whole page.
pub fn page(plan: &Plan, around: &Around<'_>) -> String {
    let mut out = String::new();
    let took = text::span(around.milliseconds);
    if let Some(partial) = &plan.source.partial {
        let words = text::visible(partial);
        let _ = writeln!(out, "Partial: {words}; nothing is deleted");
    }
    if plan.is_empty() && plan.stopping.is_empty() {
        let objects = text::counted(plan.unchanged, "object");
        let verb = if plan.unchanged == 1 { "is" } else { "are" };
        let _ = match plan.purpose {
            Purpose::Destroy => writeln!(
                out,
                "Nothing to do: {} owns nothing on host {} · {took}",
                source_words(plan),
                text::visible(&plan.host),
            ),
            Purpose::Apply | Purpose::Asked => writeln!(
                out,
                "Nothing to do: {objects} {verb} as {} says · {took}",
                source_words(plan),
            ),
        };
        remarks(&mut out, plan, around);
        return out;
    }
    let title = match plan.purpose {
        Purpose::Destroy => "Plan to destroy",
        Purpose::Apply | Purpose::Asked => "Plan for",
    };
    let heading = format!(
        "{title} {} on host {} ({})",
        source_words(plan),
        text::visible(&plan.host),
        plan.engine
    );
    let _ = writeln!(out, "{}", paint(STRONG, &heading));
    let summary = summary(plan);
    let _ = writeln!(out, "  {summary} · {took}");
    if !plan.stopping.is_empty() {
        out.push('\n');
        for because in &plan.stopping {
            let words = paint(BAD, &format!("{} stops this plan", because.code));
            let message = text::visible(&because.message);
            let _ = writeln!(out, "! {words}: {message}");
        }
    }
    let mut steps: Vec<(Kind, &Step)> = plan.steps.iter().map(|s| (kind_of(s), s)).collect();
    steps.sort_by_key(|(kind, step)| (kind.rank, step.id));
    let mut bare_before = false;
    for (kind, step) in &steps {
        let block = object(kind, step, false, plan.made_at, around);
        // Objects of one line stand together; those with fields are set apart.
        let bare = block.lines().count() == 1;
        if !(bare && bare_before) {
            out.push('\n');
        }
        bare_before = bare;
        out.push_str(&block);
    }
    if !plan.held.is_empty() {
        let _ = write!(out, "\n{}\n", paint(CAREFUL, "Held, the rest goes on:"));
        for held in &plan.held {
            out.push_str(&held_object(held, plan.made_at, around));
        }
    }
    remarks(&mut out, plan, around);
    let _ = writeln!(out, "\n{summary}");
    if let Some(next) = around.next {
        let _ = writeln!(out, "Next:  {next}");
    }
    out
}

/// One object: its line, then what changes.
fn object(kind: &Kind, step: &Step, held: bool, now: Timestamp, around: &Around<'_>) -> String {
    let mut out = String::new();
    let name = text::visible(&step.address().to_string());
    let mut line = text::pad(&format!("{} {name}", kind.mark), SOURCE_AT);
    let origin = step.origin.as_ref().map(ToString::to_string);
    line.push_str(&text::visible(&origin.unwrap_or_default()));
    line = text::pad(&line, around.columns.saturating_sub(EFFECT));
    let _ = writeln!(
        out,
        "{}",
        paint(kind.style, &format!("{line}{}", effect_words(step, held)))
    );
    let detail = |key: &str, value: &str| {
        let value = text::cut(&text::visible(value), around.columns.saturating_sub(13));
        format!("    {}{value}\n", text::pad(key, 9))
    };
    if tells_reason(step) {
        out.push_str(&detail("reason", &step.reason));
    }
    if let Some(holds) = step.loss.filter(|holds| *holds != Holds::default()) {
        let fate = match &step.action.verb {
            Verb::Trash { expires_at, .. } => format!(
                "kept in the trash for {}",
                text::span(milliseconds_between(now, *expires_at))
            ),
            _ => "lost for good".to_owned(),
        };
        let words = format!("{}: {fate}", held_words(holds));
        out.push_str(&detail("data", &words));
    } else if matches!(step.action.verb, Verb::Trash { .. }) {
        out.push_str(&detail("trash", "kept, see keel trash list"));
    }
    match &step.action.verb {
        Verb::Create if !around.all_fields => {}
        // The step before it changes them.
        Verb::Power {
            power: Power::Restart,
        } if !step.changes.is_empty() => {
            let paths = step.changes.iter().map(|p| p.change.path.dotted());
            let paths: Vec<String> = paths.collect();
            out.push_str(&detail("reason", &format!("for {}", paths.join(", "))));
        }
        _ => out.push_str(&planned_fields(step, around.columns)),
    }
    out
}

/// What an object holds. One byte stands for data of a size that nobody measured.
fn held_words(holds: Holds) -> String {
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
fn tells_reason(step: &Step) -> bool {
    match &step.action.verb {
        Verb::Create => step.cause == Cause::Drifted,
        _ => step.changes.is_empty() && !step.reason.is_empty(),
    }
}

fn planned_fields(step: &Step, columns: usize) -> String {
    let rows: Vec<(&FieldChange, Option<String>)> = step
        .changes
        .iter()
        .map(|planned| (&planned.change, remark(planned, step)))
        .collect();
    fields(&rows, 4, columns)
}

/// What is said behind a field where it is not what its object's line says already.
fn remark(planned: &PlannedChange, step: &Step) -> Option<String> {
    let mut words = Vec::new();
    if step.effect.is_some_and(|effect| effect != planned.effect) {
        words.push(planned.effect.word().to_owned());
    }
    match planned.change.cause {
        Cause::Drifted => words.push("changed outside git".to_owned()),
        Cause::Edited if step.cause == Cause::Drifted => words.push("edited".to_owned()),
        _ => {}
    }
    (!words.is_empty()).then(|| words.join(", "))
}

/// Lines `path   old → new   # remark`, the paths in one column.
pub fn fields(rows: &[(&FieldChange, Option<String>)], indent: usize, columns: usize) -> String {
    let widest = rows
        .iter()
        .map(|(change, _)| text::width(&change.path.dotted()))
        .max();
    let column = widest.unwrap_or(0).min(40) + 3;
    let room = columns.saturating_sub(indent + column + 3).max(24);
    let mut out = String::new();
    for (change, remark) in rows {
        let path = text::pad(&text::visible(&change.path.dotted()), column);
        let before = text::shown(&change.before);
        let after = text::shown(&change.after);
        if let Some(masks) = masks::together(&change.before, &change.after) {
            let _ = write!(out, "{}{path}{masks}", " ".repeat(indent));
        } else {
            let (before, after) = if text::width(&before) + text::width(&after) > room {
                (text::cut(&before, room / 2), text::cut(&after, room / 2))
            } else {
                (before, after)
            };
            let _ = write!(out, "{}{path}{before} → {after}", " ".repeat(indent));
        }
        if let Some(remark) = remark {
            let _ = write!(out, "   {}", paint(FAINT, &format!("# {remark}")));
        }
        out.push('\n');
    }
    out
}

fn held_object(held: &Held, now: Timestamp, around: &Around<'_>) -> String {
    let mut out = object(&kind_of(&held.step), &held.step, true, now, around);
    for Because {
        code,
        message,
        until,
    } in &held.because
    {
        let code = text::pad(&code.to_string(), 9);
        let _ = writeln!(out, "    {code}{}", text::visible(message));
        if let Some(until) = until {
            let wait = text::span(milliseconds_between(now, *until));
            let until = when(*until);
            let _ = writeln!(out, "    {}{until} (in {wait})", text::pad("until", 9));
        }
    }
    out
}

/// What a person should know and nothing is done about.
fn remarks(out: &mut String, plan: &Plan, around: &Around<'_>) {
    let plain = |changes: &[FieldChange]| {
        let rows: Vec<_> = changes.iter().map(|change| (change, None)).collect();
        fields(&rows, 4, around.columns)
    };
    let stops = |waiting: &Waiting| {
        let mut changes = waiting.changes.iter();
        changes.any(|planned| planned.effect == Effect::StopNeeded)
    };
    for (title, stop_needed) in [
        ("In force after a restart:", false),
        ("Waits until it is stopped:", true),
    ] {
        let mut title = Some(title);
        let waiting = plan.waiting.iter();
        for waiting in waiting.filter(|waiting| stops(waiting) == stop_needed) {
            if let Some(title) = title.take() {
                let _ = write!(out, "\n{}\n", paint(STRONG, title));
            }
            let name = text::visible(&waiting.address.to_string());
            let since = waiting.since.map_or_else(String::new, |since| {
                format!(
                    "   # waits for {}",
                    text::span(milliseconds_between(since, plan.made_at))
                )
            });
            let _ = writeln!(out, "  {name}{since}");
            let changes: Vec<FieldChange> =
                waiting.changes.iter().map(|p| p.change.clone()).collect();
            out.push_str(&plain(&changes));
        }
    }
    if !plan.told.is_empty() {
        let _ = write!(out, "\n{}\n", paint(STRONG, "Differs and is left alone:"));
        for told in &plan.told {
            let name = text::visible(&told.address.to_string());
            let origin = told.origin.as_ref().map(ToString::to_string);
            let line = format!(
                "{}{}",
                text::pad(&format!("  {name}"), SOURCE_AT),
                text::visible(&origin.unwrap_or_default())
            );
            let _ = writeln!(out, "{}", line.trim_end());
            out.push_str(&plain(&told.changes));
        }
    }
    if !plan.notes.is_empty() {
        let _ = write!(out, "\n{}\n", paint(STRONG, "Worth knowing:"));
        for note in &plan.notes {
            let name = text::visible(&note.address.to_string());
            let name = text::pad(&format!("  {name}"), SOURCE_AT);
            let _ = writeln!(out, "{name}{}", text::visible(&note.text));
        }
    }
    if !plan.unseen.is_empty() {
        let _ = write!(out, "\n{}\n", paint(CAREFUL, "Could not be seen:"));
        for not_seen in &plan.unseen {
            let name = text::visible(&not_seen.address.to_string());
            let _ = writeln!(out, "  {name}");
            for unseen in &not_seen.unseen {
                let path = text::pad(&text::visible(&unseen.path.dotted()), 24);
                let _ = writeln!(out, "    {path}{}", text::visible(&unseen.why));
            }
        }
    }
}

/// Milliseconds from one time to a later one; 0 where it is not later.
pub fn milliseconds_between(from: Timestamp, to: Timestamp) -> u64 {
    u64::try_from(to.as_millisecond() - from.as_millisecond()).unwrap_or(0)
}

#[cfg(test)]
mod tests;
