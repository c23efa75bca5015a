//! A plan as a page.

use std::fmt::Write as _;

use manifests::id::Address;
use manifests::observed::Holds;

use super::{Page, Pick, Tone, card_head, values};
use crate::plan::{Allow, Because, Held, Plan, Step};
use crate::view::escape::xml;
use crate::view::history::when;
use crate::view::places::Places;
use crate::view::plan::{
    Block, Documents, FanOut, blocks, effect_words, fate, held_together, held_words, kind_of,
    summary_counts, tells_reason,
};

/// The page; `next` is the command that goes on.
pub fn of_plan(
    plan: &Plan,
    places: &Places,
    documents: &Documents<'_>,
    next: Option<&str>,
) -> String {
    let about = [
        ("at", plan.source.revision.clone().unwrap_or_default()),
        ("on host", plan.host.clone()),
        ("engine", plan.engine.clone()),
        ("made", when(plan.made_at)),
    ];
    let mut page = Page::new("plan", plan.source.name.as_str(), &about);
    let tiles: Vec<(Tone, usize, String)> = summary_counts(plan)
        .into_iter()
        .map(|(word, count)| (tone_of_word(&word), count, word))
        .collect();
    page.tiles(&tiles);
    for because in &plan.stopping {
        let _ = writeln!(
            page.body,
            "<p class=\"alert\"><strong>{} stops this plan.</strong> {}</p>",
            because.code,
            xml(&because.message)
        );
    }
    if let Some(partial) = &plan.source.partial {
        let _ = writeln!(
            page.body,
            "<p class=\"alert care\"><strong>Partial.</strong> {}; nothing is deleted</p>",
            xml(partial)
        );
    }
    let blocks = blocks(plan);
    if blocks.is_empty() && plan.held.is_empty() {
        page.body
            .push_str("<div class=\"calmly\"><b>Nothing to do</b>All is as git says.</div>\n");
    }
    let classed = |class| {
        blocks
            .iter()
            .filter(|block| class_of(block) == class)
            .count()
    };
    page.picks(&[
        Pick {
            class: "all",
            word: "All",
            count: blocks.len() + usize::from(!plan.held.is_empty()),
        },
        Pick {
            class: Allow::Destructive.word(),
            word: "Destructive",
            count: classed(Allow::Destructive),
        },
        Pick {
            class: Allow::Interrupting.word(),
            word: "Interrupting",
            count: classed(Allow::Interrupting),
        },
        Pick {
            class: Allow::Live.word(),
            word: "Live",
            count: classed(Allow::Live),
        },
        Pick {
            class: Allow::Create.word(),
            word: "New",
            count: classed(Allow::Create),
        },
        Pick {
            class: "held",
            word: "Held",
            count: held_together(&plan.held).len(),
        },
    ]);
    for block in &blocks {
        let class = class_of(block).word();
        match block {
            Block::One(step) => object(&mut page.body, step, class, plan, places, &[]),
            Block::Many(edit) => many(&mut page.body, edit, class, places, documents),
        }
    }
    for together in held_together(&plan.held) {
        held(&mut page.body, &together, plan, places);
    }
    remarks(&mut page.body, plan);
    if let Some(next) = next {
        let _ = writeln!(
            page.body,
            "<p class=\"next\">Next: <code>{}</code></p>",
            xml(next)
        );
    }
    page.finish(&format!("plan {}", plan.id))
}

fn class_of(block: &Block<'_>) -> Allow {
    match block {
        Block::One(step) => step.class(),
        Block::Many(edit) => edit.worst().class(),
    }
}

fn tone_of_word(word: &str) -> Tone {
    match word {
        "delete" | "replace" | "rebuild" | "data loss" => Tone::Bad,
        "interrupting" | "held" => Tone::Care,
        "create" | "fetch" | "restore" => Tone::Good,
        "unchanged" | "forget" => Tone::Mute,
        _ => Tone::Calm,
    }
}

fn tone(step: &Step) -> Tone {
    tone_of_word(kind_of(step).word)
}

fn object(
    out: &mut String,
    step: &Step,
    class: &str,
    plan: &Plan,
    places: &Places,
    because: &[Because],
) {
    let tone = tone(step);
    let place = step.origin.as_ref().map(|origin| places.line(origin));
    let _ = writeln!(out, "<section class=\"card {} is-{class}\">", tone.class());
    out.push_str(&card_head(
        tone,
        &effect_words(step, !because.is_empty()),
        &step.address().to_string(),
        "",
        &place.unwrap_or_default(),
    ));
    guards(out, because);
    if tells_reason(step) {
        let _ = writeln!(out, "<p class=\"said\">{}</p>", xml(&step.reason));
    }
    if let Some(holds) = step.loss.filter(|holds| *holds != Holds::default()) {
        let words = format!("{}: {}", held_words(holds), fate(step, plan.made_at));
        let _ = writeln!(out, "<p class=\"said\">{}</p>", xml(&words));
    }
    fields(out, step, places);
    out.push_str("</section>\n");
}

fn many(
    out: &mut String,
    edit: &FanOut<'_>,
    class: &str,
    places: &Places,
    documents: &Documents<'_>,
) {
    let step = edit.worst();
    let tone = tone(step);
    let place = places.line(edit.origin);
    let name = edit.name(documents).unwrap_or_else(|| place.clone());
    let _ = writeln!(out, "<section class=\"card {} is-{class}\">", tone.class());
    let reach = format!("→ {}", edit.reach());
    out.push_str(&card_head(
        tone,
        &effect_words(step, false),
        &name,
        &reach,
        &place,
    ));
    fields(out, step, places);
    members(
        out,
        &edit.effect_counts(),
        edit.steps.iter().map(|step| step.address()),
    );
    out.push_str("</section>\n");
}

fn members<'a>(out: &mut String, counts: &str, all: impl Iterator<Item = &'a Address>) {
    let _ = write!(
        out,
        "<details><summary>Reaches {}</summary><ul>",
        xml(counts)
    );
    for address in all {
        let _ = write!(out, "<li class=\"mono\">{}</li>", xml(&address.to_string()));
    }
    out.push_str("</ul></details>\n");
}

fn guards(out: &mut String, because: &[Because]) {
    for because in because {
        let until = because.until.map(when);
        let until = until.map_or_else(String::new, |until| format!(", until {until}"));
        let _ = writeln!(
            out,
            "<p class=\"said\"><strong>{}</strong> {}{until}</p>",
            because.code,
            xml(&because.message)
        );
    }
}

fn held(out: &mut String, together: &[&Held], plan: &Plan, places: &Places) {
    let [first, rest @ ..] = together else { return };
    object(out, &first.step, "held", plan, places, &first.because);
    if !rest.is_empty() {
        // The card goes on with whom else the same guards hold.
        out.truncate(out.len() - "</section>\n".len());
        let counts = format!(
            "{} objects that are held for the same reason",
            together.len()
        );
        let names = together.iter().map(|held| held.step.address());
        members(out, &counts, names);
        out.push_str("</section>\n");
    }
}

fn fields(out: &mut String, step: &Step, places: &Places) {
    if step.changes.is_empty() {
        return;
    }
    out.push_str(
        "<table><thead><tr><th scope=\"col\">field</th><th scope=\"col\">now</th>\
         <th scope=\"col\">then</th><th scope=\"col\">where and how</th></tr></thead><tbody>\n",
    );
    for planned in &step.changes {
        let change = &planned.change;
        let mut how = Vec::new();
        if let Some(origin) = planned.origin.as_ref().filter(|origin| origin.line > 0) {
            how.push(places.line(origin));
        }
        if step.effect.is_some_and(|effect| effect != planned.effect) {
            how.push(planned.effect.word().to_owned());
        }
        if change.cause == manifests::change::Cause::Drifted {
            how.push("changed outside git".to_owned());
        }
        let [now, then] = values(
            &change.path,
            [(&change.before, "old"), (&change.after, "new")],
        );
        let _ = writeln!(
            out,
            "<tr><td><code>{}</code></td><td data-is=\"now\">{now}</td><td data-is=\"then\">{then}</td>\
             <td class=\"how\" data-is=\"where\">{}</td></tr>",
            xml(&change.path.dotted()),
            xml(&how.join(" · ")),
        );
    }
    out.push_str("</tbody></table>\n");
}

fn remarks(out: &mut String, plan: &Plan) {
    let mut lines: Vec<(String, String)> = Vec::new();
    for waiting in &plan.waiting {
        let paths: Vec<String> = waiting
            .changes
            .iter()
            .map(|one| one.change.path.dotted())
            .collect();
        let words = format!("waits until it is started anew: {}", paths.join(", "));
        lines.push((waiting.address.to_string(), words));
    }
    for told in &plan.told {
        let paths: Vec<String> = told.changes.iter().map(|one| one.path.dotted()).collect();
        let words = format!("differs and is left alone: {}", paths.join(", "));
        lines.push((told.address.to_string(), words));
    }
    for note in &plan.notes {
        lines.push((note.address.to_string(), note.text.clone()));
    }
    for not_seen in &plan.unseen {
        for unseen in &not_seen.unseen {
            let words = format!(
                "could not be seen: {}: {}",
                unseen.path.dotted(),
                unseen.why
            );
            lines.push((not_seen.address.to_string(), words));
        }
    }
    if lines.is_empty() {
        return;
    }
    out.push_str("<h2>Worth knowing</h2>\n<ul class=\"plain\">\n");
    for (name, words) in lines {
        let _ = writeln!(
            out,
            "<li><code>{}</code> — {}</li>",
            xml(&name),
            xml(&words)
        );
    }
    out.push_str("</ul>\n");
}
