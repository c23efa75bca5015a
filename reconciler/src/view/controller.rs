//! How a controller stands, for a person: a part of `keel status`.

use std::fmt::Write as _;

use super::style::{CAREFUL, STRONG, paint};
use super::text::{counted, visible};
use crate::api::documents::{PinDocument, SourceDocument, StatusDocument};

/// The part of the page.
pub fn page(status: &StatusDocument) -> String {
    let mut out = String::new();
    let does = match (status.booted, status.at_work) {
        (false, _) => "begins",
        (true, true) => "is at work",
        (true, false) => "waits for something to happen",
    };
    let _ = writeln!(out, "{} {does}", paint(STRONG, "The controller"));
    for suspended in &status.suspended {
        let until = suspended.until.as_ref();
        let until = until.map_or_else(String::new, |until| format!(" until {until}"));
        let (what, reason) = (visible(&suspended.what), visible(&suspended.reason));
        let _ = writeln!(
            out,
            "  {}",
            paint(CAREFUL, &format!("{what} is suspended{until}: {reason}"))
        );
    }
    for source in &status.sources {
        out.push_str(&of_source(source));
    }
    out
}

fn of_source(source: &SourceDocument) -> String {
    let mut out = String::new();
    let revision = source.revision.as_deref().unwrap_or("nothing yet");
    let words = source.words.as_deref().unwrap_or("not done yet");
    let _ = writeln!(
        out,
        "  {} at {}: {}",
        visible(&source.name),
        visible(revision),
        visible(words)
    );
    let counts: Vec<String> = source
        .objects
        .iter()
        .map(|(word, count)| format!("{count} {word}"))
        .collect();
    if !counts.is_empty() {
        let _ = writeln!(out, "    {}", counts.join(", "));
    }
    let mut careful = |words: String| {
        let _ = writeln!(out, "    {}", paint(CAREFUL, &visible(&words)));
    };
    if let Some(pin) = &source.pinned {
        let by = pin.by.as_deref().unwrap_or("somebody");
        let behind = behind(pin);
        careful(format!(
            "pinned at {} by {by}{behind}: {} (keel unpin {})",
            pin.revision, pin.reason, source.name
        ));
    }
    if let Some(invalid) = &source.invalid {
        careful(format!(
            "{} is refused, what was in force stays so: {}",
            invalid.revision, invalid.why
        ));
    }
    if let Some(trouble) = &source.unreachable {
        careful(format!(
            "cannot be looked at since {}: {}",
            trouble.since, trouble.why
        ));
    }
    if let Some(waits) = source
        .waits
        .as_ref()
        .filter(|waits| !waits.stopping.is_empty())
    {
        for because in &waits.stopping {
            careful(format!("{}: {}", because.code, because.message));
        }
        careful(format!(
            "the plan waits for your answer: keel approve {}",
            waits.digest
        ));
    }
    for resting in &source.resting {
        let object = resting.object.as_deref().unwrap_or_default();
        let until = resting.until.as_deref().unwrap_or_default();
        careful(format!(
            "{object} failed ({}), again at {until}: {}",
            resting.times, resting.why
        ));
    }
    for fight in &source.fights {
        careful(format!(
            "{} of {} is changed back by somebody else each time: it is left alone for an hour, or until keel resume {}",
            fight.field, fight.object, fight.object
        ));
    }
    out
}

/// How far a pinned revision is behind what its source says by now; empty: not at all, or that is not known.
fn behind(pin: &PinDocument) -> String {
    let short = |commit: &str| commit.get(..7).unwrap_or(commit).to_owned();
    match (&pin.newest, pin.behind) {
        (None, _) => String::new(),
        (Some(newest), Some(count)) => {
            format!(", {} behind {}", counted(count, "commit"), short(newest))
        }
        (Some(newest), None) => format!(", behind {}", short(newest)),
    }
}

#[cfg(test)]
mod tests {
    use manifests::controller::Role;

    use super::*;
    use crate::api::documents::{
        BecauseDocument, CallerDocument, InvalidDocument, WaitingDocument,
    };

    #[test]
    fn what_waits_and_why_is_seen_at_a_glance() {
        let source: SourceDocument = serde_json::from_value(serde_json::json!({
            "name": "edge", "settled": false, "revision": "3f1c9ad", "words": "stopped\u{1b}",
            "objects": {"synced": 3, "drifted": 1},
            "pinned": {"revision": "3f1c9ad", "reason": "until it is mended", "by": "alice", "since": "2026-11-27T12:00:00Z",
                "newest": "9b02e11aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", "behind": 3},
        }))
        .expect("a source");
        let status = StatusDocument {
            version: "1".to_owned(),
            host: None,
            now: String::new(),
            booted: true,
            at_work: false,
            looked_at: None,
            sources: vec![SourceDocument {
                invalid: Some(InvalidDocument {
                    revision: "9b02e11".to_owned(),
                    why: "web.yaml:3: no".to_owned(),
                }),
                waits: Some(WaitingDocument {
                    digest: "0123456789abcdef".to_owned(),
                    steps: 2,
                    held: 0,
                    stopping: vec![BecauseDocument {
                        code: "G102".to_owned(),
                        message: "2 of 4 would go".to_owned(),
                        until: None,
                    }],
                    approved_until: None,
                }),
                ..source
            }],
            suspended: Vec::new(),
            unclear: Vec::new(),
            you: CallerDocument {
                name: "root".to_owned(),
                role: Role::Admin,
                projects: Vec::new(),
            },
        };
        let page = anstream::adapter::strip_str(&page(&status)).to_string();
        assert_eq!(
            page,
            "The controller waits for something to happen\n  edge at 3f1c9ad: stopped␛\n    1 drifted, 3 synced\n    \
             pinned at 3f1c9ad by alice, 3 commits behind 9b02e11: until it is mended (keel unpin edge)\n    \
             9b02e11 is refused, what was in force stays so: web.yaml:3: no\n    G102: 2 of 4 would go\n    \
             the plan waits for your answer: keel approve 0123456789abcdef\n"
        );
    }
}
