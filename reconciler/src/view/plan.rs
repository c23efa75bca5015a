//! A plan as people read it: the summary first and last, the worst first, one line an object and below it only what
//! changes.

mod fan_out;
mod fields;
mod words;

use std::fmt::Write as _;

use jiff::Timestamp;
use manifests::action::{Power, Verb};
use manifests::change::FieldChange;
use manifests::desired::DesiredSet;
use manifests::effect::Effect;
use manifests::id::Address;
use manifests::observed::Holds;
use manifests::pointer::Pointer;
use manifests::secret::as_written;
use serde_json::Value;

pub use self::fan_out::Documents;
pub(in crate::view) use self::fan_out::{Block, FanOut, blocks, held_together};
use self::fields::{fields, planned_fields};
pub(in crate::view) use self::words::{effect_words, held_words, kind_of, tells_reason};
pub use self::words::{source_words, summary, summary_counts};
use super::history::when;
use super::style::{BAD, CAREFUL, STRONG, paint};
use super::text;
use crate::plan::{Because, Held, Plan, Purpose, Step, Waiting};

/// The column in which an object's source begins.
const SOURCE_AT: usize = 30;
/// Where its effect begins, in tenths of the page.
const EFFECT_AT: usize = 7;
/// The column in which what is said about an object begins.
const SAID_AT: usize = 13;

/// How much of a plan is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Detail {
    /// One line an object.
    Summary,
    /// The fields that change.
    Changes,
    /// Also the fields of what is new, each object that one edit reaches, and the line of every field.
    Full,
}

/// What belongs to the page besides the plan.
#[derive(Clone, Copy)]
pub struct Around<'a> {
    /// How long planning took.
    pub milliseconds: u64,
    /// The columns of the terminal.
    pub columns: usize,
    /// The command that goes on; none where there is nothing to go on with.
    pub next: Option<&'a str>,
    /// How much of it.
    pub detail: Detail,
    /// The names of documents, for edits that reach many objects.
    pub documents: &'a Documents<'a>,
    /// What is wanted, for the fields of what is new.
    pub desired: Option<&'a DesiredSet>,
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
            Purpose::Compare => writeln!(
                out,
                "Nothing changes: {objects} of {} · {took}",
                source_words(plan),
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
        Purpose::Compare => "What changes in",
        Purpose::Apply | Purpose::Asked => "Plan for",
    };
    let host = match plan.purpose {
        Purpose::Compare => String::new(),
        _ => format!(" on host {}", text::visible(&plan.host)),
    };
    let heading = format!("{title} {}{host} ({})", source_words(plan), plan.engine);
    let _ = writeln!(out, "{}", paint(STRONG, &heading));
    let summary = summary(plan);
    let counts = counts_in_lines(&format!("{summary} · {took}"), around.columns - 2);
    let _ = writeln!(out, "  {}", counts.join("\n  "));
    if !plan.stopping.is_empty() {
        out.push('\n');
        for because in &plan.stopping {
            let words = paint(BAD, &format!("{} stops this plan", because.code));
            let head = format!("! {} stops this plan: ", because.code);
            let message = format!("{head}{}", text::visible(&because.message));
            let message = text::wrapped(&message, around.columns - 2).join("\n  ");
            let message = message.strip_prefix(&head).unwrap_or_default();
            let _ = writeln!(out, "! {words}: {message}");
        }
    }
    let mut bare_before = false;
    for block in blocks(plan) {
        let block = match block {
            Block::One(step) => object(step, false, plan.made_at, around),
            Block::Many(edit) => fan_out(&edit, false, around),
        };
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
        for together in held_together(&plan.held) {
            out.push_str(&held_objects(&together, plan.made_at, around));
        }
    }
    remarks(&mut out, plan, around);
    let counts = counts_in_lines(&summary, around.columns);
    let _ = writeln!(out, "\n{}", counts.join("\n"));
    if let Some(next) = around.next {
        let _ = writeln!(out, "Next:  {next}");
    }
    out
}

/// Counts in lines: a number stays with its word.
fn counts_in_lines(counts: &str, columns: usize) -> Vec<String> {
    let glued = counts
        .replace(' ', "\u{a0}")
        .replace(",\u{a0}", ", ")
        .replacen("\u{a0}·\u{a0}", " ·\u{a0}", 1);
    let lines = text::wrapped(&glued, columns);
    lines
        .iter()
        .map(|line| line.replace('\u{a0}', " "))
        .collect()
}

/// The line of an object or an edit: mark and name, where it is declared, what it costs. What finds no room on it
/// stands on a line of its own.
fn line(name: &str, origin: &str, effect: &str, columns: usize) -> String {
    let effect_at = columns * EFFECT_AT / 10;
    let whole = format!("{}{origin}", text::pad(name, SOURCE_AT));
    let fits = text::width(&whole) + 2 <= effect_at;
    let mut line = if fits { whole } else { name.to_owned() };
    if text::width(&line) + 2 <= effect_at || effect.is_empty() {
        line = text::pad(&line, effect_at);
    } else {
        line.push_str(&format!("\n{}", " ".repeat(effect_at)));
    }
    line.push_str(effect);
    line.truncate(line.trim_end().len());
    if !fits && !origin.is_empty() {
        line.push_str(&format!("\n    {}{origin}", text::pad("declared", 9)));
    }
    line
}

/// What is said about an object, with its word before it.
fn said(key: &str, value: &str, columns: usize) -> String {
    let room = columns.saturating_sub(SAID_AT);
    let lines = text::wrapped(&text::visible(value), room);
    let below = format!("\n{}", " ".repeat(SAID_AT));
    format!(
        "    {}{}\n",
        text::pad(key, SAID_AT - 4),
        lines.join(&below)
    )
}

/// One object: its line, then what changes.
fn object(step: &Step, held: bool, now: Timestamp, around: &Around<'_>) -> String {
    let mut out = String::new();
    let kind = kind_of(step);
    let name = text::visible(&step.address().to_string());
    let origin = step.origin.as_ref().map(ToString::to_string);
    let line = line(
        &format!("{} {name}", kind.mark),
        &text::visible(&origin.unwrap_or_default()),
        &effect_words(step, held),
        around.columns,
    );
    let _ = writeln!(out, "{}", paint(kind.style, &line));
    if around.detail == Detail::Summary {
        return out;
    }
    let detail = |key: &str, value: &str| said(key, value, around.columns);
    if tells_reason(step) {
        out.push_str(&detail("reason", &step.reason));
    }
    if let Some(holds) = step.loss.filter(|holds| *holds != Holds::default()) {
        let words = format!("{}: {}", held_words(holds), fate(step, now));
        out.push_str(&detail("data", &words));
    } else if matches!(step.action.verb, Verb::Trash { .. }) {
        out.push_str(&detail("trash", "kept, see keel trash list"));
    } else if step.action.keep.is_some() {
        let words = format!("what is there is {}", fate(step, now));
        out.push_str(&detail("trash", &words));
    }
    match &step.action.verb {
        Verb::Create if around.detail == Detail::Full => {
            out.push_str(&new_fields(step.address(), around));
        }
        Verb::Create => {}
        // The step before it changes them.
        Verb::Power {
            power: Power::Restart,
        } if !step.changes.is_empty() => {
            out.push_str(&detail("reason", &format!("for {}", paths_of(step))));
        }
        _ => out.push_str(&planned_fields(step, around.detail, around.columns)),
    }
    out
}

fn paths_of(step: &Step) -> String {
    let paths = step.changes.iter().map(|p| p.change.path.dotted());
    paths.collect::<Vec<_>>().join(", ")
}

/// Until when the trash keeps what a step takes away; none where it keeps nothing.
pub(in crate::view) fn kept_until(step: &Step) -> Option<Timestamp> {
    match &step.action.verb {
        Verb::Trash { expires_at, .. } => Some(*expires_at),
        _ => step.action.keep.map(|keep| keep.expires_at),
    }
}

/// What becomes of the data of a step.
pub(in crate::view) fn fate(step: &Step, now: Timestamp) -> String {
    match kept_until(step) {
        Some(expires_at) => format!(
            "kept in the trash for {}",
            text::span(milliseconds_between(now, expires_at))
        ),
        None => "lost for good".to_owned(),
    }
}

/// An edit that reaches many objects: its line, its fields once, then whom it reaches.
fn fan_out(edit: &FanOut<'_>, held: bool, around: &Around<'_>) -> String {
    let step = edit.worst();
    let kind = kind_of(step);
    let name = edit.name(around.documents);
    let mut place = text::visible(&edit.origin.to_string());
    let reach = edit.reach();
    let name = match name {
        Some(name) => format!("{} {name} → {reach}", kind.mark),
        None => format!("{} {} → {reach}", kind.mark, std::mem::take(&mut place)),
    };
    let line = line(&name, &place, &effect_words(step, held), around.columns);
    let mut out = format!("{}\n", paint(kind.style, &line));
    if around.detail == Detail::Summary {
        return out;
    }
    if matches!(step.action.verb, Verb::Power { .. }) {
        let words = format!("for {}", paths_of(step));
        out.push_str(&said("reason", &words, around.columns));
    } else {
        let rows: Vec<_> = step
            .changes
            .iter()
            .map(|planned| {
                let own = planned
                    .origin
                    .as_ref()
                    .filter(|origin| *origin != edit.origin);
                let own = own.map(|origin| text::visible(&origin.to_string()));
                (&planned.change, own)
            })
            .collect();
        out.push_str(&fields(&rows, 4, around.detail, around.columns));
    }
    let effects = edit.effects();
    let alike = effects.len() == 1 && edit.held == 0;
    let mut key = "reaches";
    for (word, steps) in effects {
        let count = if alike {
            String::new()
        } else {
            format!("{} {word}: ", steps.len())
        };
        let room = match around.detail {
            Detail::Full => usize::MAX,
            Detail::Summary | Detail::Changes => {
                let more = SAID_AT + text::width(&count) + " and 10000 more".len();
                around.columns.saturating_sub(more)
            }
        };
        let names = members(steps.iter().map(|step| step.address()), room);
        out.push_str(&said(key, &format!("{count}{names}"), around.columns));
        key = "";
    }
    if edit.held > 0 {
        out.push_str(&said(
            key,
            &format!("{} held, see below", edit.held),
            around.columns,
        ));
    }
    out
}

/// The names of objects as far as one line takes them, and how many more there are.
fn members<'a>(all: impl ExactSizeIterator<Item = &'a Address>, room: usize) -> String {
    let count = all.len();
    let mut out = String::new();
    for (told, address) in all.enumerate() {
        let name = text::visible(&address.to_string());
        if told > 0 && text::width(&out) + 2 + text::width(&name) > room {
            let _ = write!(out, " and {} more", count - told);
            break;
        }
        if told > 0 {
            out.push_str(", ");
        }
        out.push_str(&name);
    }
    out
}

/// What is written of a new object.
fn new_fields(address: &Address, around: &Around<'_>) -> String {
    let resource = around
        .desired
        .and_then(|desired| desired.resources.get(address));
    let Some(resource) = resource else {
        return String::new();
    };
    let mut value = resource.spec.to_value();
    as_written(&mut value);
    let mut leaves: Vec<(FieldChange, Option<String>)> = Vec::new();
    resource.provenance.each(&mut |path, origin| {
        let below = path.as_str().strip_prefix("/spec").unwrap_or_default();
        match value.pointer(below) {
            None => {}
            Some(after @ Value::Object(_)) if text::from_secret(after).is_none() => {}
            Some(after) => leaves.push((
                FieldChange {
                    path: path.clone(),
                    before: Value::Null,
                    after: after.clone(),
                    cause: manifests::change::Cause::Edited,
                },
                Some(text::visible(&origin.to_string())),
            )),
        }
    });
    // Of a list the whole is shown, and not each entry again; so of a text that comes from a secret.
    let lists: Vec<Pointer> = leaves
        .iter()
        .filter(|(change, _)| change.after.is_array() || change.after.is_object())
        .map(|(change, _)| change.path.clone())
        .collect();
    let rows: Vec<(&FieldChange, Option<String>)> = leaves
        .iter()
        .filter(|(change, _)| {
            let mut lists = lists.iter();
            !lists.any(|list| list != &change.path && list.covers(&change.path))
        })
        .map(|(change, origin)| (change, origin.clone()))
        .collect();
    fields(&rows, 4, around.detail, around.columns)
}

/// Objects that are held by the same guards; where there are several, one edit would reach all of them.
fn held_objects(together: &[&Held], now: Timestamp, around: &Around<'_>) -> String {
    let [first, rest @ ..] = together else {
        return String::new();
    };
    let origin = first
        .step
        .changes
        .iter()
        .find_map(|planned| planned.origin.as_ref());
    let mut out = match origin {
        Some(origin) if !rest.is_empty() => {
            let edit = FanOut {
                steps: together.iter().map(|held| &held.step).collect(),
                held: 0,
                origin,
            };
            fan_out(&edit, true, around)
        }
        _ => object(&first.step, true, now, around),
    };
    for Because {
        code,
        message,
        until,
    } in &first.because
    {
        out.push_str(&said(&code.to_string(), message, around.columns));
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
        fields(&rows, 4, around.detail, around.columns)
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
