//! What a controller elsewhere answers, as text: objects, one of them, and the plans that wait.

use jiff::Timestamp;
use manifests::kind::Kind;
use serde_json::Value;

use super::objects::section;
use super::style::{CAREFUL, STRONG, paint};
use super::text::{counted, pad, shown, table, visible};
use crate::api::documents::{ObjectDocument, ObjectRow, PlanDocument};

/// A table for each kind that occurs, in the order in which things are made.
pub fn tables(rows: &[ObjectRow], show_wide: bool) -> String {
    let mut out = String::new();
    for kind in Kind::ALL {
        let of_kind: Vec<Vec<String>> = rows
            .iter()
            .filter(|row| row.kind == kind.word())
            .map(|row| cells(row, show_wide))
            .collect();
        if of_kind.is_empty() {
            continue;
        }
        if !out.is_empty() {
            out.push('\n');
        }
        let mut header = vec!["NAME", "STATE", "HEALTH", "SYNC", "SOURCE"];
        if show_wide {
            header.extend(["DECLARED", "WHY"]);
        }
        out.push_str(&table(&header, &of_kind));
    }
    out
}

fn cells(row: &ObjectRow, show_wide: bool) -> Vec<String> {
    let name = row.id.split_once('/').map_or("", |(_, name)| name);
    let state = row.state.as_deref().unwrap_or("-");
    let mut sync = row.sync.clone();
    if row.suspended {
        sync.push_str(", suspended");
    }
    if row.held {
        sync.push_str(", held");
    }
    let mut cells: Vec<String> = [name, state, &row.health, &sync, &row.source]
        .map(visible)
        .to_vec();
    if show_wide {
        let declared = row.declared.as_ref();
        let declared = declared.map_or("-".to_owned(), |at| format!("{}:{}", at.path, at.line));
        cells.push(visible(&declared));
        cells.push(visible(row.why.as_deref().unwrap_or("-")));
    }
    cells
}

/// One object, with what is wanted beside what is there where that differs.
pub fn describe(object: &ObjectDocument, now: Timestamp) -> String {
    let row = &object.row;
    let mut out = format!("{}\n", paint(STRONG, &visible(&row.id)));
    let mut line = |key: &str, value: &str| {
        out.push_str(&format!("  {}{}\n", pad(key, 12), visible(value)));
    };
    line("source", &row.source);
    line("sync", &row.sync);
    line("health", &row.health);
    if let Some(at) = &row.declared {
        line(
            "declared",
            &format!("{}:{}:{}", at.path, at.line, at.column),
        );
    }
    if let Some(why) = &row.why {
        line("why", why);
    }
    for because in &object.held_by {
        line("held", &format!("{}: {}", because.code, because.message));
    }
    if let Some(resting) = &object.resting {
        line("failed", &resting.why);
    }
    line("looked at", &object.looked_at);
    if !object.fields.is_empty() {
        out.push_str(&format!("\n{}\n", paint(CAREFUL, "differs")));
    }
    for field in &object.fields {
        let path = field.path.trim_start_matches("/spec/").replace('/', ".");
        let (live, wanted) = (shown(&field.live), shown(&field.desired));
        out.push_str(&format!(
            "  {} is {}, and {}:{} says {}\n",
            visible(&path),
            visible(&live),
            visible(&field.declared.path),
            field.declared.line,
            visible(&wanted)
        ));
    }
    match &object.live {
        Some(live) => {
            section(&mut out, "spec", &live["spec"], now);
            section(&mut out, "status", &live["status"], now);
        }
        None => out.push_str("\nit is not there\n"),
    }
    out
}

/// The plans that wait.
pub fn plans(all: &[PlanDocument]) -> String {
    let mut out = String::new();
    for one in all {
        if !out.is_empty() {
            out.push('\n');
        }
        let steps = list(&one.plan["changes"]);
        let held = list(&one.plan["held"]);
        let heading = format!(
            "Plan of source {}: {}, {} held",
            visible(&one.source),
            counted(steps.len(), "step"),
            held.len()
        );
        out.push_str(&format!("{}\n", paint(STRONG, &heading)));
        for guard in list(&one.plan["guards"]) {
            let (code, message) = (word(&guard["code"]), word(&guard["message"]));
            let words = format!("  {code}: {message}");
            out.push_str(&format!("{}\n", paint(CAREFUL, &words)));
        }
        for step in steps {
            out.push_str(&of_step(step, ""));
        }
        for step in held {
            let because = list(&step["because"]).first();
            let why = because.map_or_else(String::new, |one| {
                format!(
                    ": held by {}, {}",
                    word(&one["code"]),
                    word(&one["message"])
                )
            });
            out.push_str(&of_step(step, &why));
        }
        if one.stopped {
            out.push_str(&match &one.approved_until {
                Some(until) => format!("  approved until {}\n", visible(until)),
                None => format!(
                    "  it waits for an answer: keel approve {}\n",
                    visible(&one.digest)
                ),
            });
        }
    }
    out
}

fn of_step(step: &Value, why: &str) -> String {
    let place = match step["source"]["path"].as_str() {
        Some(path) => format!("  {}:{}", visible(path), step["source"]["line"]),
        None => String::new(),
    };
    format!(
        "  {}{}{place}{why}\n",
        pad(&word(&step["action"]), 10),
        word(&step["id"])
    )
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn word(value: &Value) -> String {
    visible(value.as_str().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn plain(text: &str) -> String {
        anstream::adapter::strip_str(text).to_string()
    }

    fn row(id: &str, kind: &str) -> Value {
        json!({
            "id": id, "kind": kind, "name": "x", "source": "edge\u{1b}", "sync": "drifted", "health": "healthy",
            "state": "Running", "differing": 1, "suspended": true, "held": false,
            "declared": {"path": "web.yaml", "line": 3, "column": 1},
        })
    }

    #[test]
    fn objects_are_told_in_tables_and_drive_no_terminal() {
        let rows: Vec<ObjectRow> = [
            row("instance/shop/web", "instance"),
            row("network/lan", "network"),
        ]
        .into_iter()
        .map(|row| serde_json::from_value(row).expect("a row"))
        .collect();
        let text = plain(&tables(&rows, true));
        assert!(
            text.contains("shop/web") && text.contains("web.yaml:3"),
            "{text}"
        );
        assert!(
            text.contains("drifted, suspended") && !text.contains('\u{1b}'),
            "{text}"
        );
        assert!(
            text.find("lan").expect("it") < text.find("shop/web").expect("it"),
            "{text}"
        );
    }

    #[test]
    fn one_object_is_told_with_what_differs() {
        let mut document = row("instance/web", "instance");
        document["fields"] = json!([{
            "path": "/spec/limits/memory", "desired": "64MiB", "live": "32MiB", "cause": "drifted", "onlyTold": false,
            "declared": {"path": "web.yaml", "line": 7, "column": 3},
        }]);
        document["kept"] = json!(0);
        document["lines"] = json!({});
        document["lookedAt"] = json!("2026-11-27T12:00:00Z");
        document["live"] = json!({"spec": {"state": "Running"}, "status": {"pid": 7}});
        let object: ObjectDocument = serde_json::from_value(document).expect("an object");
        let text = plain(&describe(&object, Timestamp::UNIX_EPOCH));
        for part in [
            "instance/web\n",
            "limits.memory is 32MiB, and web.yaml:7 says 64MiB",
            "pid",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
    }

    #[test]
    fn plans_that_wait_say_why_and_what_would_answer() {
        let change = json!({"id": "instance/web", "action": "delete", "source": null});
        let plan: PlanDocument = serde_json::from_value(json!({
            "source": "edge", "digest": "abc", "stopped": true,
            "plan": {"changes": [change], "held": [], "guards": [{"code": "G102", "message": "2 of 4 would go"}]},
        }))
        .expect("a plan");
        assert_eq!(
            plain(&plans(&[plan])),
            "Plan of source edge: 1 step, 0 held\n  G102: 2 of 4 would go\n  delete    instance/web\n  \
             it waits for an answer: keel approve abc\n"
        );
    }
}
