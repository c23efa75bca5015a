//! What was done: applies and the events of one object, as tables.

use jiff::Timestamp;

use super::text;
use crate::api::documents::RevisionDocument;
use crate::journal::{ApplyStatus, ObjectEvent, Outcome, What};
use crate::plan::{PlanId, Purpose};

/// The applies, one a line.
pub fn applies(all: &[ApplyStatus]) -> String {
    let rows: Vec<Vec<String>> = all.iter().map(apply).collect();
    text::table(
        &[
            "WHEN", "SOURCE", "REVISION", "COMMAND", "BY", "STEPS", "RESULT", "TOOK", "PLAN",
        ],
        &rows,
    )
}

fn apply(status: &ApplyStatus) -> Vec<String> {
    let done = status.count(|outcome| matches!(outcome, Outcome::Succeeded { .. }));
    let failed = status.count(|outcome| matches!(outcome, Outcome::Failed { .. }));
    let skipped = status.count(|outcome| matches!(outcome, Outcome::Skipped { .. }));
    let mut words = Vec::new();
    let counts = [
        (failed, "failed"),
        (status.held as usize, "held"),
        (skipped, "skipped"),
    ];
    for (count, word) in counts {
        if count > 0 {
            words.push(format!("{count} {word}"));
        }
    }
    if status.cancelled {
        words.push("stopped by a person".to_owned());
    }
    if status.interrupted || status.finished.is_none() {
        words.push("interrupted".to_owned());
    }
    if words.is_empty() {
        words.push("ok".to_owned());
    }
    let took = status
        .micros
        .map_or_else(|| "-".to_owned(), |micros| text::span(micros / 1000));
    let purpose = match status.purpose {
        Purpose::Destroy => "destroy: ",
        Purpose::Apply | Purpose::Asked | Purpose::Compare => "",
    };
    vec![
        when(status.begun),
        text::visible(status.source.as_str()),
        text::visible(status.revision.as_deref().unwrap_or("-")),
        text::cut(&text::visible(&status.command), 40),
        person(status.by.as_deref()),
        format!("{done}/{}", status.planned),
        format!("{purpose}{}", words.join(", ")),
        took,
        short(&status.plan),
    ]
}

/// What sources said and what became of it, one a line.
pub fn revisions(all: &[&RevisionDocument]) -> String {
    let rows: Vec<Vec<String>> = all
        .iter()
        .map(|one| {
            let word = match one.fate.as_str() {
                "inForce" => "in force",
                "unpinned" => "followed again",
                other => other,
            };
            let at = one.at.parse().map_or_else(|_| one.at.clone(), when);
            let or = |text: &Option<String>| text::visible(text.as_deref().unwrap_or("-"));
            let note = one.why.as_ref().or(one.subject.as_ref());
            vec![
                text::visible(&at),
                text::visible(&one.source),
                or(&one.revision),
                text::visible(word),
                text::cut(&or(&one.author), 24),
                note.map_or_else(String::new, |note| text::cut(&text::visible(note), 80)),
            ]
        })
        .collect();
    text::table(
        &["WHEN", "SOURCE", "REVISION", "BECAME", "AUTHOR", "NOTE"],
        &rows,
    )
}

/// The events of one object, one a line.
pub fn events(all: &[ObjectEvent]) -> String {
    let rows: Vec<Vec<String>> = all
        .iter()
        .filter_map(|one| {
            let event = &one.event;
            let (word, note, took) = match &event.what {
                What::Started { word, .. } => (format!("{word} began"), String::new(), None),
                What::Ended {
                    outcome, micros, ..
                } => {
                    let (word, note) = outcome_words(outcome);
                    (word, note, *micros)
                }
                What::Begun { .. } | What::Finished { .. } => return None,
            };
            Some(vec![
                when(event.at),
                word,
                took.map_or_else(|| "-".to_owned(), microseconds),
                person(one.by.as_deref()),
                short(&event.plan),
                text::visible(&note),
            ])
        })
        .collect();
    text::table(&["WHEN", "WHAT", "TOOK", "BY", "PLAN", "NOTE"], &rows)
}

fn person(by: Option<&str>) -> String {
    text::visible(by.unwrap_or("-"))
}

fn outcome_words(outcome: &Outcome) -> (String, String) {
    let (word, note) = match outcome {
        Outcome::Succeeded { effected } => {
            use runtime::runtime::Effected;
            let note = match effected {
                Effected::Done => "",
                Effected::NotNeeded => "it was so already",
                Effected::NextStart => "in force after a restart",
            };
            ("done", note.to_owned())
        }
        Outcome::Failed { message, .. } => ("failed", message.clone()),
        Outcome::Skipped { code, message } => {
            let code = code.as_ref().map(|code| format!("{code}: "));
            ("skipped", format!("{}{message}", code.unwrap_or_default()))
        }
        Outcome::Interrupted { done: true } => ("interrupted", "found done".to_owned()),
        Outcome::Interrupted { done: false } => ("interrupted", "found not done".to_owned()),
    };
    (word.to_owned(), note)
}

/// A time to the second, in UTC: `2026-11-23 12:00:00Z`.
pub fn when(at: Timestamp) -> String {
    at.strftime("%Y-%m-%d %H:%M:%SZ").to_string()
}

/// The end of a plan's id: its beginning is the time, which neighbours share.
fn short(plan: &PlanId) -> String {
    let text = plan.to_string();
    text.get(text.len().saturating_sub(8)..)
        .unwrap_or(&text)
        .to_owned()
}

fn microseconds(micros: u64) -> String {
    if micros < 100_000 {
        format!("{}.{} ms", micros / 1000, micros % 1000 / 100)
    } else {
        text::span(micros / 1000)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use manifests::id::SourceName;
    use runtime::error::Class;
    use uuid::Uuid;

    use super::*;
    use crate::journal::{Event, StepStatus};
    use crate::plan::{PlanId, StepId};

    fn at(text: &str) -> Timestamp {
        text.parse().expect("a time")
    }

    #[test]
    fn applies_tell_how_they_ended() {
        let failed = StepStatus {
            address: "instance/a".parse().expect("an address"),
            uid: None,
            word: Some("create".to_owned()),
            started: Some(at("2026-11-23T12:00:00Z")),
            outcome: Some(Outcome::Failed {
                class: Class::Retry,
                message: "no".to_owned(),
            }),
            micros: Some(5),
        };
        let one = ApplyStatus {
            plan: PlanId(Uuid::nil()),
            source: SourceName::new("edge"),
            revision: Some("3f1c9ad".to_owned()),
            purpose: Purpose::Apply,
            command: "keel apply".to_owned(),
            by: Some("alice".to_owned()),
            begun: at("2026-11-23T12:00:00Z"),
            planned: 3,
            held: 1,
            finished: Some(at("2026-11-23T12:00:02Z")),
            cancelled: false,
            interrupted: false,
            micros: Some(2_000_000),
            steps: BTreeMap::from([(StepId(1), failed)]),
        };
        let mut cut = one.clone();
        cut.by = None;
        cut.finished = None;
        cut.steps.clear();
        cut.held = 0;
        cut.micros = None;
        insta::assert_snapshot!(applies(&[one, cut]));
    }

    #[test]
    fn events_tell_what_happened_to_an_object() {
        let event = |what| ObjectEvent {
            event: Event {
                plan: PlanId(Uuid::nil()),
                at: at("2026-11-23T12:00:00Z"),
                what,
            },
            command: Some("keel apply".to_owned()),
            by: Some("alice\u{1b}".to_owned()),
        };
        let address = || "instance/a".parse().expect("an address");
        let uid = Uuid::nil().to_string().parse().expect("a UUID");
        let all = [
            event(What::Ended {
                step: StepId(1),
                address: address(),
                outcome: Outcome::Skipped {
                    code: Some("G109".to_owned()),
                    message: "waits\u{1b}".to_owned(),
                },
                micros: Some(8123),
            }),
            event(What::Started {
                step: StepId(1),
                address: address(),
                uid,
                word: "create".to_owned(),
            }),
        ];
        insta::assert_snapshot!(events(&all));
    }
}
