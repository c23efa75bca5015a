//! Fields that change, one line each: `path   old → new   # remark`.

use manifests::change::{Cause, FieldChange};
use manifests::diagnostic::Origin;

use super::Detail;
use crate::plan::{PlannedChange, Step};
use crate::secrets::masks;
use crate::view::style::{FAINT, paint};
use crate::view::text;
use crate::view::values::has_bodies;

/// The widest column of paths.
const PATHS: usize = 40;
/// Remarks up to this width have their room beside the values.
const REMARK: usize = 32;
/// Values are never cut to less.
const VALUES: usize = 24;

/// The fields of a step.
pub(super) fn planned_fields(step: &Step, detail: Detail, columns: usize) -> String {
    let rows: Vec<(&FieldChange, Option<String>)> = step
        .changes
        .iter()
        .map(|planned| (&planned.change, remark(planned, step, detail)))
        .collect();
    fields(&rows, 4, detail, columns)
}

/// What is said behind a field where it is not what its object's line says already.
fn remark(planned: &PlannedChange, step: &Step, detail: Detail) -> Option<String> {
    let mut words = Vec::new();
    if step.effect.is_some_and(|effect| effect != planned.effect) {
        words.push(planned.effect.word().to_owned());
    }
    match planned.change.cause {
        Cause::Drifted => words.push("changed outside git".to_owned()),
        Cause::Edited if step.cause == Cause::Drifted => words.push("edited".to_owned()),
        _ => {}
    }
    let origin = planned.origin.as_ref().filter(|origin| origin.line > 0);
    if let Some(origin) = origin
        && (detail == Detail::Full || is_elsewhere(origin, step.origin.as_ref()))
    {
        words.push(text::visible(&origin.to_string()));
    }
    (!words.is_empty()).then(|| words.join(", "))
}

/// Whether a value was written where nobody looks who looks at its object: in another file, or above it.
pub(in crate::view) fn is_elsewhere(origin: &Origin, object: Option<&Origin>) -> bool {
    object.is_none_or(|object| origin.file != object.file || origin.line < object.line)
}

/// The lines, the paths in one column. What does not fit behind a path stands below it: in full detail all of it.
pub(super) fn fields(
    rows: &[(&FieldChange, Option<String>)],
    indent: usize,
    detail: Detail,
    columns: usize,
) -> String {
    let widest = rows
        .iter()
        .map(|(change, _)| text::width(&text::visible(&change.path.dotted())))
        .max();
    let column = widest.unwrap_or(0).min(PATHS) + 3;
    let mut out = String::new();
    for (change, remark) in rows {
        let path = text::cut(
            &text::visible(&change.path.dotted()),
            columns.saturating_sub(indent),
        );
        let mut line = format!("{}{}", " ".repeat(indent), text::pad(&path, column));
        let mut begin = text::width(&line);
        if begin + VALUES > columns {
            out.push_str(line.trim_end());
            out.push('\n');
            begin = 2 * indent;
            line = " ".repeat(begin);
        }
        let remark = remark.as_ref().map(|remark| format!("# {remark}"));
        // A short remark has its room beside the values, a long one stands below.
        let beside = remark
            .as_deref()
            .map_or(0, |remark| text::width(remark) + 3);
        let beside = if beside <= REMARK { beside } else { 0 };
        let room = columns.saturating_sub(begin + 3 + beside).max(VALUES);
        match whole(change, room).filter(|_| detail == Detail::Full) {
            None => line.push_str(&values(change, room)),
            Some(all) => {
                if begin > 2 * indent {
                    out.push_str(line.trim_end());
                    out.push('\n');
                }
                let margin = " ".repeat(2 * indent);
                let room = columns.saturating_sub(2 * indent);
                let lines: Vec<String> = all
                    .iter()
                    .flat_map(|value| text::wrapped(value, room))
                    .collect();
                line = format!("{margin}{}", lines.join(&format!("\n{margin}")));
                begin = 2 * indent;
            }
        }
        if let Some(remark) = &remark {
            let wide = text::width(remark);
            let last = line.lines().last().unwrap_or_default();
            if text::width(last) + 3 + wide <= columns {
                line.push_str("   ");
            } else {
                let below = if begin + wide <= columns {
                    begin
                } else {
                    2 * indent
                };
                line.push_str(&format!("\n{}", " ".repeat(below)));
            }
            line.push_str(&paint(FAINT, remark));
        }
        line.push('\n');
        out.push_str(&line);
    }
    out
}

/// All of `old → new` where that is more than finds room. Texts of files stay cut: they are read where they are written.
fn whole(change: &FieldChange, room: usize) -> Option<[String; 2]> {
    let [before, after] = [&change.before, &change.after];
    if [before, after].map(|value| has_bodies(&change.path, value)) != [false; 2] {
        return None;
    }
    let (before, after) = (text::shown(before), text::shown(after));
    let fits = text::width(&before) + text::width(&after) <= room;
    (!fits).then(|| [before, format!("→ {after}")])
}

/// `old → new`. Of two values the shorter one leaves its room to the other.
fn values(change: &FieldChange, room: usize) -> String {
    if let Some(masks) = masks::together(&change.before, &change.after) {
        return masks;
    }
    let (before, after) = (text::shown(&change.before), text::shown(&change.after));
    if text::width(&before) + text::width(&after) <= room {
        return format!("{before} → {after}");
    }
    let half = room / 2;
    let (before, after) = text::differing(&before, &after, half);
    let (first, second) = (text::width(&before), text::width(&after));
    let first = first.min(half.max(room.saturating_sub(second)));
    let before = text::cut(&before, first);
    let after = text::cut(&after, room - text::width(&before));
    format!("{before} → {after}")
}
