//! A plan as a comment.

use std::fmt::Write as _;

use manifests::observed::Holds;

use super::{Report, alert, code, row, sticky, words};
use crate::plan::{Plan, Step};
use crate::view::history::when;
use crate::view::places::Places;
use crate::view::plan::{
    Block, Documents, FanOut, blocks, effect_words, fate, held_together, held_words, kind_of,
    summary_counts, tells_reason,
};
use crate::view::text::{counted, cut, visible};
use crate::view::values::reported_both;

/// Values are cut to so many columns, and the comment says so.
const VALUE: usize = 2000;
/// Names of fields in the table are cut to so many columns; below the fold are all of them.
const PATHS: usize = 120;
/// As many objects that lose data are named above the table.
const LOSSES: usize = 10;
/// As many guards that stop are told.
const GUARDS: usize = 20;

/// The comment, within a limit in bytes.
pub fn of_plan(plan: &Plan, places: &Places, documents: &Documents<'_>, limit: usize) -> String {
    let blocks = blocks(plan);
    let mut report = Report {
        mark: sticky("plan", &[plan.source.name.as_str(), &plan.host]),
        head: head(plan),
        columns: "| | object | effect | fields | declared |\n|---|---|---|---|---|\n".to_owned(),
        cut: "It does not show all of the plan, so **it may not be approved**: read all of it in the log of the job, or \
              in the saved plan.",
        ..Report::default()
    };
    for block in &blocks {
        report.rows.push(block_row(block, places, documents));
        let detail = match block {
            Block::One(step) => {
                let name = visible(&step.address().to_string());
                object(step, &name, plan, places, &mut report.values_cut)
            }
            Block::Many(edit) => many(edit, plan, places, documents, &mut report.values_cut),
        };
        report.details.push(detail);
    }
    report.fold = format!("All fields ({})", counted(blocks.len(), "change"));
    for together in held_together(&plan.held) {
        report.more.push(held(&together, &mut |step| {
            format!("{} {}", step.deed(), step.address())
        }));
    }
    for note in &plan.notes {
        let line = format!(
            "- {}: {}\n",
            code(&note.address.to_string()),
            words(&note.text)
        );
        report.more.push(line);
    }
    let _ = write!(
        report.foot,
        "\n<sub>plan {}</sub>\n",
        code(&plan.id.to_string())
    );
    report.within(limit)
}

fn head(plan: &Plan) -> String {
    let mut out = String::from("### keel plan");
    let _ = write!(out, " · {}", code(plan.source.name.as_str()));
    if let Some(revision) = &plan.source.revision {
        let _ = write!(out, " at {}", code(revision));
    }
    let _ = writeln!(out, " → {}\n", code(&plan.host));
    let mut counts = summary_counts(plan);
    let unchanged = counts.pop().map_or(0, |(_, count)| count);
    let bad = ["delete", "replace", "rebuild", "data loss", "interrupting"];
    let mut told: Vec<String> = counts
        .into_iter()
        .map(|(word, count)| match bad.contains(&word.as_str()) {
            true => format!("**{count} {word}**"),
            false => format!("{count} {word}"),
        })
        .collect();
    if told.is_empty() {
        told.push("Nothing to do".to_owned());
    }
    let _ = writeln!(out, "{} — {unchanged} unchanged", told.join(" · "));
    if let Some(partial) = &plan.source.partial {
        let _ = writeln!(
            out,
            "\nPartial: {}; nothing is deleted",
            words(&cut(partial, 500))
        );
    }
    if !plan.stopping.is_empty() {
        let lines: Vec<String> = plan
            .stopping
            .iter()
            .take(GUARDS)
            .map(|because| {
                let message = words(&cut(&because.message, 500));
                format!("**{} stops this plan**: {message}", because.code)
            })
            .collect();
        out.push_str(&alert("CAUTION", &lines));
    }
    let losses: Vec<&Step> = plan
        .steps
        .iter()
        .filter(|step| step.loss.is_some_and(|holds| holds != Holds::default()))
        .collect();
    if !losses.is_empty() {
        let mut lines: Vec<String> = losses
            .iter()
            .take(LOSSES)
            .filter_map(|step| {
                let holds = held_words(step.loss?);
                let name = code(&step.address().to_string());
                let fate = fate(step, plan.made_at);
                Some(format!("{} {name}: {holds}, {fate}", step.deed()))
            })
            .collect();
        if let Some(more) = losses.len().checked_sub(LOSSES).filter(|more| *more > 0) {
            lines.push(format!("and {} with data", counted(more, "more object")));
        }
        out.push_str(&alert("WARNING", &lines));
    }
    out
}

fn block_row(block: &Block<'_>, places: &Places, documents: &Documents<'_>) -> String {
    let (step, name, origin) = match block {
        Block::One(step) => (
            *step,
            code(&step.address().to_string()),
            step.origin.as_ref(),
        ),
        Block::Many(edit) => {
            let name = edit
                .name(documents)
                .unwrap_or_else(|| "one edit".to_owned());
            let name = format!("{} → **{}**", code(&name), edit.reach());
            (edit.worst(), name, Some(edit.origin))
        }
    };
    let paths = step
        .changes
        .iter()
        .map(|planned| planned.change.path.dotted());
    let paths: Vec<String> = paths.collect();
    let effect = match block {
        Block::Many(edit) if edit.effects().len() > 1 || edit.held > 0 => edit.effect_counts(),
        _ => effect_words(step, false).to_lowercase(),
    };
    row(&[
        code(kind_of(step).mark),
        name,
        words(&effect),
        code(&cut(&visible(&paths.join(", ")), PATHS)),
        code(&origin.map_or_else(String::new, |origin| places.line(origin))),
    ])
}

/// An object in the fence: the mark stands in the first column, by which lines are coloured.
fn object(step: &Step, name: &str, plan: &Plan, places: &Places, cut: &mut usize) -> String {
    let kind = kind_of(step);
    let mark = match kind.rank {
        0 => "-",
        1 | 2 => "!",
        6..=8 => "+",
        _ => "#",
    };
    let effect = effect_words(step, false);
    let place = step.origin.as_ref().map(|origin| places.line(origin));
    let place = place.map_or_else(String::new, |place| format!("   ({})", visible(&place)));
    let mut out = format!("{mark} {name}   {effect}{place}\n");
    if tells_reason(step) {
        let _ = writeln!(out, "    {}", visible(&step.reason));
    }
    if let Some(holds) = step.loss.filter(|holds| *holds != Holds::default()) {
        let _ = writeln!(
            out,
            "    {}: {}",
            held_words(holds),
            fate(step, plan.made_at)
        );
    }
    out.push_str(&fields(step, places, cut));
    out
}

fn many(
    edit: &FanOut<'_>,
    plan: &Plan,
    places: &Places,
    documents: &Documents<'_>,
    cut: &mut usize,
) -> String {
    let place = visible(&places.line(edit.origin));
    let name = edit.name(documents).unwrap_or_else(|| place.clone());
    let name = format!("{name} → {}", edit.reach());
    let step = Step {
        origin: Some(edit.origin.clone()),
        ..edit.worst().clone()
    };
    let mut out = object(&step, &name, plan, places, cut);
    let names: Vec<String> = edit
        .steps
        .iter()
        .map(|step| visible(&step.address().to_string()))
        .collect();
    let _ = writeln!(
        out,
        "    reaches {}: {}",
        edit.effect_counts(),
        names.join(", ")
    );
    out
}

fn fields(step: &Step, places: &Places, cut: &mut usize) -> String {
    let mut out = String::new();
    for planned in &step.changes {
        let change = &planned.change;
        let path = visible(&change.path.dotted());
        let place = planned.origin.as_ref().filter(|origin| origin.line > 0);
        let place = place.map_or_else(String::new, |origin| {
            format!("   # {}", visible(&places.line(origin)))
        });
        let values = [&change.before, &change.after];
        let ([before, after], is_cut) = reported_both(&change.path, values, VALUE);
        *cut += usize::from(is_cut);
        let marked = [("-", before, ""), ("+", after, &*place)];
        for ((mark, value, place), given) in marked.into_iter().zip(values) {
            if !given.is_null() {
                let _ = writeln!(out, "{mark}     {path}: {value}{place}");
            }
        }
    }
    out
}

/// What is held, and why.
fn held(together: &[&crate::plan::Held], name: &mut dyn FnMut(&Step) -> String) -> String {
    let names: Vec<String> = together
        .iter()
        .take(10)
        .map(|held| code(&name(&held.step)))
        .collect();
    let mut out = format!("- held: {}", names.join(", "));
    if together.len() > names.len() {
        let _ = write!(out, " and {} more", together.len() - names.len());
    }
    for because in together.first().iter().flat_map(|held| &held.because) {
        let message = words(&cut(&because.message, 500));
        let _ = write!(out, "<br>{}: {message}", because.code);
        if let Some(until) = because.until {
            let _ = write!(out, ", until {}", when(until));
        }
    }
    out.push('\n');
    out
}
