//! A drift report as a page.

use std::fmt::Write as _;

use super::{Page, Pick, Tone, card_head, values};
use crate::view::drift::{DriftReport, DriftedField};
use crate::view::escape::xml;
use crate::view::history::when;
use crate::view::places::Places;
use crate::view::text::{ago, counted, visible};

/// The page; `again` is the command that puts things back.
pub fn of_drift(report: &DriftReport, places: &Places, again: &str) -> String {
    let about = [
        ("at", report.revision.clone().unwrap_or_default()),
        ("on host", report.host.clone()),
        ("engine", report.engine.clone()),
        ("looked", when(report.at)),
    ];
    let mut page = Page::new("drift", &report.source, &about);
    let fields = report.worst_first();
    let objects: Vec<&[&DriftedField]> = fields.chunk_by(|a, b| a.id == b.id).collect();
    let ranked = |rank| objects.iter().filter(|one| rank_of(one) == rank).count();
    let differing = report.differing();
    page.tiles(&[
        (Tone::Bad, ranked(0), "gone".to_owned()),
        (Tone::Care, ranked(1), "to be put back".to_owned()),
        (Tone::Calm, ranked(2), "told and left alone".to_owned()),
        (Tone::Good, report.same(), "as git says".to_owned()),
    ]);
    if objects.is_empty() {
        let _ = writeln!(
            page.body,
            "<div class=\"calmly\"><b>No drift</b>{} compared, and nothing was changed outside git.</div>",
            counted(report.objects, "object")
        );
    }
    if let Some(words) = report.edited_words() {
        let _ = writeln!(page.body, "<p class=\"said\">{}</p>", xml(&words));
    }
    page.picks(&[
        Pick {
            class: "all",
            word: "All that differ",
            count: differing,
        },
        Pick {
            class: "gone",
            word: "Gone",
            count: ranked(0),
        },
        Pick {
            class: "back",
            word: "To be put back",
            count: ranked(1),
        },
        Pick {
            class: "told",
            word: "Told and left alone",
            count: ranked(2),
        },
    ]);
    for fields in &objects {
        object(&mut page.body, report, fields, places);
    }
    unseen(&mut page.body, report);
    stale_rules(&mut page.body, report, places);
    if fields.iter().any(|field| field.is_put_back()) {
        let _ = writeln!(
            page.body,
            "<p class=\"next\">Put it back: <code>{}</code></p>",
            xml(again)
        );
    }
    page.finish(&format!("{} compared", counted(report.objects, "object")))
}

fn rank_of(fields: &[&DriftedField]) -> u8 {
    fields.iter().map(|field| field.rank()).min().unwrap_or(2)
}

fn object(out: &mut String, report: &DriftReport, fields: &[&DriftedField], places: &Places) {
    let [first, ..] = fields else { return };
    let (tone, class, badge) = match rank_of(fields) {
        0 => (Tone::Bad, "gone", first.cause.to_uppercase()),
        1 => (Tone::Care, "back", "PUT BACK".to_owned()),
        _ => (Tone::Calm, "told", "LEFT ALONE".to_owned()),
    };
    let declared = report.declared(&first.id).or(first.source.as_ref());
    let place = declared.map_or_else(String::new, |origin| places.line(origin));
    let name = first.id.to_string();
    let _ = writeln!(out, "<section class=\"card {} is-{class}\">", tone.class());
    out.push_str(&card_head(tone, &badge, &name, "", &place));
    if fields.iter().all(|field| field.is_object()) {
        for field in fields {
            // Badge and place are said above.
            let words = how(report, field, None);
            let _ = writeln!(out, "<p class=\"said\">{}</p>", xml(&words));
        }
        out.push_str("</section>\n");
        return;
    }
    out.push_str(
        "<table><thead><tr><th scope=\"col\">field</th><th scope=\"col\">git says</th>\
         <th scope=\"col\">live</th><th scope=\"col\">how</th></tr></thead><tbody>\n",
    );
    for field in fields {
        let [git, live] = values(&field.path, [(&field.desired, "new"), (&field.live, "old")]);
        let _ = writeln!(
            out,
            "<tr><td><code>{}</code></td><td data-is=\"git says\">{git}</td><td data-is=\"live\">{live}</td>\
             <td class=\"how\" data-is=\"how\">{}</td></tr>",
            xml(&field.path_words()),
            xml(&how(report, field, Some(places))),
        );
    }
    out.push_str("</tbody></table></section>\n");
}

/// How a field came to differ, since when, what is done about it, and where it is declared.
fn how(report: &DriftReport, field: &DriftedField, places: Option<&Places>) -> String {
    let mut words = Vec::new();
    if places.is_some() {
        words.push(field.cause.clone());
    }
    words.extend(field.author_words());
    if let Some(first) = field.first_seen {
        words.push(format!("first seen {} ago", ago(first, report.at)));
    }
    if field.times > 1 {
        words.push(format!("found {} times", field.times));
    }
    words.push(field.mode_words().to_owned());
    let origin = field.source.as_ref().filter(|origin| origin.line > 0);
    words.extend(
        places
            .zip(origin)
            .map(|(places, origin)| places.line(origin)),
    );
    visible(&words.join(" · "))
}

fn unseen(out: &mut String, report: &DriftReport) {
    if report.unseen.is_empty() {
        return;
    }
    out.push_str("<h2>Could not be seen</h2>\n<ul class=\"plain\">\n");
    for not_seen in &report.unseen {
        for unseen in &not_seen.unseen {
            let _ = writeln!(
                out,
                "<li><code>{}</code> <code>{}</code> — {}</li>",
                xml(&not_seen.address.to_string()),
                xml(&unseen.path.dotted()),
                xml(&unseen.why)
            );
        }
    }
    out.push_str("</ul>\n");
}

fn stale_rules(out: &mut String, report: &DriftReport, places: &Places) {
    if report.stale_rules.is_empty() {
        return;
    }
    out.push_str("<h2>Ignore rules that leave nothing alone</h2>\n<ul class=\"plain\">\n");
    for rule in &report.stale_rules {
        let place = rule.source.as_ref().map(|origin| places.line(origin));
        let _ = writeln!(
            out,
            "<li><code>{}</code> <code>{}</code> — {}</li>",
            xml(&rule.path_words()),
            xml(&place.unwrap_or_default()),
            xml(&rule.words())
        );
    }
    out.push_str("</ul>\n");
}
