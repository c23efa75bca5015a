//! Pages as people see them.

use manifests::change::Cause;
use manifests::diagnostic::Code;
use manifests::observed::Unseen;
use serde_json::{Value, json};

use super::*;
use crate::plan::{NotSeen, Note, Told};
use crate::view::samples::{change, fan_out, files, mixed, plan, planned, step, update};

fn plain(plan: &Plan, next: Option<&str>) -> String {
    told(plan, next, Detail::Changes, 100, &[])
}

fn told(
    plan: &Plan,
    next: Option<&str>,
    detail: Detail,
    columns: usize,
    files: &[(String, String)],
) -> String {
    let around = Around {
        milliseconds: 15,
        columns,
        next,
        detail,
        documents: &Documents::of(files),
        desired: None,
    };
    anstream::adapter::strip_str(&page(plan, &around)).to_string()
}

#[test]
fn the_worst_comes_first_and_the_summary_twice() {
    insta::assert_snapshot!(plain(&mixed(), Some("keel apply plan.json")));
}

#[test]
fn nothing_to_do_is_one_line() {
    assert_eq!(
        plain(&plan(Vec::new()), Some("keel apply")),
        "Nothing to do: 118 objects are as source edge at 3f1c9ad says · 0.02 s\n"
    );
    let mut gone = plan(Vec::new());
    gone.purpose = Purpose::Destroy;
    gone.unchanged = 0;
    assert_eq!(
        plain(&gone, None),
        "Nothing to do: source edge at 3f1c9ad owns nothing on host edge-1 · 0.02 s\n"
    );
}

#[test]
fn what_is_held_stops_or_waits_is_told_with_its_guard() {
    let mut plan = mixed();
    let delete = step(0, "instance/db-1", Verb::Delete, None);
    plan.steps.truncate(1);
    plan.held = vec![Held {
        step: delete,
        because: vec![
            Because {
                code: Code("G103"),
                message: "protected: apply `lifecycle.protect: false` first".to_owned(),
                until: None,
            },
            Because {
                code: Code("G105"),
                message: "outside its window".to_owned(),
                until: Some("2026-11-25T16:00:00Z".parse().expect("a time")),
            },
        ],
    }];
    plan.stopping = vec![Because {
        code: Code("G102"),
        message: "19 of 24 objects would be deleted (79 %), the limit is 10 %".to_owned(),
        until: None,
    }];
    plan.source.partial = Some("only apps/ of source edge".to_owned());
    plan.waiting = vec![Waiting {
        address: "instance/vm".parse().expect("an address"),
        changes: vec![planned(
            "/spec/limits/hugepages",
            json!({}),
            json!({"2MiB": "64MiB"}),
            Effect::NextStart,
        )],
        since: Some("2026-11-23T09:00:00Z".parse().expect("a time")),
    }];
    plan.told = vec![Told {
        address: "instance/web-1".parse().expect("an address"),
        origin: None,
        changes: vec![change(
            "/spec/devices/usb9",
            json!({"type": "usb"}),
            Value::Null,
            Cause::Drifted,
        )],
    }];
    plan.notes = vec![Note {
        address: "storage-pool/fast".parse().expect("an address"),
        text: "its folder is 95 % full".to_owned(),
    }];
    plan.unseen = vec![NotSeen {
        address: "instance/web-1".parse().expect("an address"),
        unseen: vec![Unseen {
            path: Pointer::new("/spec/limits/cpu"),
            why: "permission denied".to_owned(),
        }],
    }];
    insta::assert_snapshot!(plain(&plan, Some("keel apply --approve G102")));
}

#[test]
fn values_cannot_drive_the_terminal_and_are_cut() {
    let evil = planned(
        "/spec/user/note\u{1b}[2J",
        json!("a\u{1b}]0;x\u{7}"),
        json!("b\r\u{202e}"),
        Effect::Live,
    );
    let long = planned(
        "/spec/user/long",
        json!("x".repeat(300)),
        json!("y"),
        Effect::Live,
    );
    let plan = plan(vec![update(
        1,
        "instance/web-1",
        vec![evil, long],
        ("a\u{1b}.yaml", 3),
    )]);
    let text = plain(&plan, None);
    assert!(
        !text.chars().any(|c| c.is_control() && c != '\n'),
        "{text:?}"
    );
    assert!(text.lines().all(|line| text::width(line) <= 100), "{text}");
    insta::assert_snapshot!(text);
}

#[test]
fn what_differs_at_the_end_of_a_long_value_shows_and_in_full_detail_all_of_it() {
    let command = |end: &str| json!(["/bin/sh", "-c", format!("{}{end}", "sleep 1; ".repeat(20))]);
    let file = |end: &str| json!(format!("{}{end}", "line ".repeat(40)));
    let long = planned(
        "/spec/command",
        command("exit 0"),
        command("exit 1"),
        Effect::NextStart,
    );
    let motd = planned(
        "/spec/files/~1etc~1motd/content",
        file("old"),
        file("new"),
        Effect::Live,
    );
    let plan = plan(vec![update(
        1,
        "instance/web-1",
        vec![long, motd],
        ("a.yaml", 3),
    )]);
    let short = plain(&plan, None);
    assert!(
        short.contains("exit 0]") && short.contains("exit 1]"),
        "{short}"
    );
    let full = told(&plan, None, Detail::Full, 100, &[]);
    assert!(full.lines().all(|line| text::width(line) <= 100), "{full}");
    assert_eq!(full.matches("sleep").count(), 40, "{full}");
    assert!(full.matches("line ").count() < 40, "texts stay cut: {full}");
    insta::assert_snapshot!(format!("{short}---\n{full}"));
}

#[test]
fn every_deed_has_a_mark_and_a_word() {
    let power = |power| Verb::Power { power };
    let deeds = [
        Verb::Create,
        Verb::Update {
            changes: Vec::new(),
        },
        Verb::Rename {
            from: "instance/old".parse().expect("an address"),
        },
        Verb::Rebuild,
        Verb::Replace,
        power(Power::Start),
        power(Power::Stop),
        power(Power::Kill),
        power(Power::Save),
        power(Power::StartAnew),
        power(Power::Restart),
        power(Power::Freeze),
        power(Power::Unfreeze),
        Verb::Adopt,
        Verb::Forget,
        Verb::Restore,
        Verb::Delete,
    ];
    let steps = deeds
        .into_iter()
        .zip(1..)
        .map(|(verb, id)| step(id, "instance/a", verb, Some(("a.yaml", 1))))
        .collect();
    insta::assert_snapshot!(plain(&plan(steps), None));
}

#[test]
fn an_edit_of_a_profile_is_told_once_at_every_width() {
    for columns in [80, 140] {
        let page = told(
            &fan_out(),
            Some("keel apply"),
            Detail::Changes,
            columns,
            &files(),
        );
        assert!(
            page.lines().all(|line| text::width(line) <= columns),
            "{page}"
        );
        insta::assert_snapshot!(format!("an_edit_of_a_profile_at_{columns}"), page);
    }
}

#[test]
fn detail_is_a_line_an_object_or_every_line_of_every_field() {
    for (name, detail) in [("summary", Detail::Summary), ("full", Detail::Full)] {
        let page = told(&fan_out(), Some("keel apply"), detail, 100, &files());
        insta::assert_snapshot!(format!("detail_{name}"), page);
    }
}

#[test]
fn what_is_held_by_one_guard_for_one_edit_is_told_once() {
    let mut plan = fan_out();
    let because = plan.held[0].because.clone();
    let steps = plan.steps.drain(..13);
    plan.held = steps
        .map(|step| Held {
            step,
            because: because.clone(),
        })
        .collect();
    let page = told(&plan, None, Detail::Changes, 100, &files());
    assert_eq!(page.matches("G105").count(), 1, "{page}");
    assert!(page.contains("profile/web → 13 instances"), "{page}");
}

#[test]
fn long_names_and_places_stay_within_the_page() {
    let long = "a-name-that-is-as-long-as-a-name-may-be-and-that-nobody-can-remember";
    let mut fields = vec![
        planned(
            "/spec/limits/memory",
            json!("東京".repeat(40)),
            json!("b".repeat(90)),
            Effect::Live,
        ),
        planned(
            &format!("/spec/environment/{long}"),
            json!("old"),
            json!("new"),
            Effect::Replug,
        ),
    ];
    fields[1].origin = Some(manifests::diagnostic::Origin {
        file: format!("sites/{long}/profiles.yaml").into(),
        line: 12,
        ..Default::default()
    });
    let file = format!("sites/of the/b\u{fc}ro/{long}.yaml");
    let named = update(
        1,
        &format!("instance/{long}"),
        fields.clone(),
        ("a.yaml", 3),
    );
    let placed = update(2, "instance/web-1", fields, (file.as_str(), 3));
    let mut plan = plan(vec![named, placed]);
    plan.stopping = vec![Because {
        code: Code("G102"),
        message: "19 of 24 objects would be deleted, which is more than the budget of this source allows at once".to_owned(),
        until: None,
    }];
    for columns in [80, 140] {
        let page = told(&plan, None, Detail::Changes, columns, &[]);
        for line in page.lines() {
            // A place is never broken: it is copied and clicked.
            let fits = text::width(line) <= columns || line.contains(".yaml:");
            assert!(
                fits,
                "{columns}: {line}
{page}"
            );
        }
        insta::assert_snapshot!(format!("long_names_at_{columns}"), page);
    }
}
